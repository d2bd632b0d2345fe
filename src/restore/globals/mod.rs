//! Roles and tablespaces: brought to what an archive says, whether they are there already or not.
//!
//! Nothing is ever dropped here, -c or not: what else on the server needs a role or a tablespace, no
//! archive knows. Of a role that is there its attributes, password, settings, comment and its
//! memberships in other archived roles come to be the archive's. The role that restores keeps what it
//! needs to go on: it is altered last, and stays superuser and able to log in.
//!
//! What is taken away from a chosen role is what the whole archive does not have: what a list leaves
//! out is left as it is on the server.

mod memberships;
mod present;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};

use super::input::Opened;
use super::preflight;
use super::{Doing, Failure, Options, Report, label, prepare, selection};
use crate::archive::{Entry, EntryId, Header};
use crate::catalog;
use crate::catalog::globals::{is_password, password_statement};
use crate::error::{Error, Result, SqlState};
use crate::postgres::{Connector, ServerVersion, Session, refuse_transaction_mode};
use crate::report::Progress;
use crate::sql;
use present::{Present, location};

/// Restores an archive of globals to its end.
pub async fn run(
    connector: &Connector,
    opened: &Opened,
    options: &Options,
    progress: Arc<Progress>,
) -> Result<Report> {
    selection::choose(&opened.entries, &options.selection, true)?;
    let (mut report, last) = begin(connector, opened, options, progress).await?;
    end(connector, &last, options, &mut report).await;
    Ok(report)
}

/// Statements about the role that restores, with the entry that each belongs to. To be run when
/// nothing else is left to do.
#[derive(Default)]
pub struct Last {
    /// Of the archive that they are from.
    header: Option<Header>,
    statements: Vec<(Entry, BString)>,
}

/// Restores all but what concerns the role that restores.
pub async fn begin(
    connector: &Connector,
    opened: &Opened,
    options: &Options,
    progress: Arc<Progress>,
) -> Result<(Report, Last)> {
    // statements made here are compared with the archive's
    let beginning = begin_quoted(connector, opened, options, progress);
    sql::quoting_all(opened.header.quotes_all(), beginning).await
}

async fn begin_quoted(
    connector: &Connector,
    opened: &Opened,
    options: &Options,
    progress: Arc<Progress>,
) -> Result<(Report, Last)> {
    if options.single_transaction {
        return Err(Error::usage(
            "globals cannot be restored in one transaction: CREATE TABLESPACE runs in none",
        )
        .hint("leave out -1"));
    }
    options.selection.refuse_unknown(&opened.entries)?;
    let (mut session, connector) = connector.clone().first().await?;
    preflight::refuse_unsupported(&session)?;
    refuse_transaction_mode(&mut session, &connector, "restore").await?;
    prepare(&mut session, &opened.header).await?;
    let from = ServerVersion(opened.header.server_version_num);
    let to = session.version()?;
    let mut all = opened.entries.clone();
    for entry in &mut all {
        catalog::adapt(entry, from, to);
    }
    let mut entries = selection::select(&all, &options.selection);
    entries.retain(|entry| !options.no_tablespaces || !is_of_tablespace(entry));
    let present = Present::read(&mut session).await?;
    let mut warnings = present.check(&session, &entries, options)?;
    warnings.extend(session.take_warnings());

    let mut run = Run {
        session: &mut session,
        present: &present,
        all: &all,
        archived: all
            .iter()
            .map(|entry| ((entry.kind.as_str(), entry.name.as_bstr()), entry))
            .collect(),
        chosen: entries.iter().map(|entry| entry.id).collect(),
        header: &opened.header,
        options,
        progress,
        grantors_count: from.at_least(16) && to.at_least(16),
        role: connector.role(),
        existing: BTreeSet::new(),
        narrowed: Vec::new(),
        failures: Vec::new(),
        warnings,
        last: Last {
            header: Some(opened.header.clone()),
            statements: Vec::new(),
        },
    };
    for entry in &entries {
        run.entry(entry).await?;
    }
    run.tell_existing();
    run.revoke_others().await?;
    run.narrow().await?;
    let report = Report {
        database: "globals".to_owned(),
        entries: entries.len(),
        rows: 0,
        connections: 1,
        failures: run.failures,
        warnings: run.warnings,
    };
    let last = run.last;
    session.close().await;
    Ok((report, last))
}

/// Alters the role that restores. What of it fails is in the report, beside what was restored before.
pub async fn end(connector: &Connector, last: &Last, options: &Options, report: &mut Report) {
    let Some(header) = last.header.as_ref().filter(|_| !last.statements.is_empty()) else {
        return;
    };
    let opened = async {
        let mut session = connector.open().await?;
        prepare(&mut session, header).await?;
        Ok(session)
    };
    let mut session = match opened.await {
        Ok(session) => session,
        Err(error) => {
            let mut failed: Option<EntryId> = None;
            for (entry, _) in &last.statements {
                if failed.replace(entry.id) != Some(entry.id) {
                    report.failures.push(failure(entry, &error));
                }
            }
            return;
        }
    };
    for (entry, statement) in &last.statements {
        match session.execute(statement).await {
            Ok(()) if is_password(&entry.name, statement) => report.warnings.push(format!(
                "role {}, as which this restore was connected, has the password of the archive from now on",
                sql::identifier(&entry.name)
            )),
            Ok(()) => {}
            Err(error) => {
                report.failures.push(failure(entry, &error));
                if options.exit_on_error {
                    break;
                }
            }
        }
    }
    report.warnings.extend(session.take_warnings());
    session.close().await;
}

fn is_of_tablespace(entry: &Entry) -> bool {
    match entry.kind.as_str() {
        "TABLESPACE" => true,
        "ACL" | "COMMENT" | "SECURITY LABEL" => entry.name.starts_with(b"TABLESPACE "),
        _ => false,
    }
}

fn failure(entry: &Entry, error: &Error) -> Failure {
    Failure {
        entry: entry.id,
        object: label(entry),
        doing: Doing::CreatingOrAltering,
        message: error.to_string(),
        hint: error.hint_text().map(str::to_owned),
    }
}

struct Run<'a> {
    session: &'a mut Session,
    present: &'a Present,
    /// All of the archive.
    all: &'a [Entry],
    /// The same, by kind and name.
    archived: HashMap<(&'a str, &'a BStr), &'a Entry>,
    /// Those of them that are restored.
    chosen: HashSet<EntryId>,
    header: &'a Header,
    options: &'a Options,
    progress: Arc<Progress>,
    /// Whether source and target know a membership by its grantor too, as servers do since 16.
    grantors_count: bool,
    /// Taken on by --role.
    role: Option<&'a str>,
    /// Roles and tablespaces that were there already.
    existing: BTreeSet<BString>,
    /// Memberships that lose their ADMIN option.
    narrowed: Vec<Entry>,
    failures: Vec<Failure>,
    warnings: Vec<String>,
    last: Last,
}

/// What a tablespace can have set (src/backend/access/common/reloptions.c).
const TABLESPACE_OPTIONS: &str =
    "seq_page_cost, random_page_cost, effective_io_concurrency, maintenance_io_concurrency";

impl Run<'_> {
    async fn entry(&mut self, entry: &Entry) -> Result<()> {
        let has_parts = matches!(entry.kind.as_str(), "ROLE" | "TABLESPACE");
        if !has_parts && self.present.has_same(entry) {
            return Ok(());
        }
        if self.loses_admin(entry) {
            self.narrowed.push(entry.clone());
            return Ok(());
        }
        self.progress.log(|| format!("restoring {}", label(entry)));
        let failures = self.failures.len();
        let statements = match entry.kind.as_str() {
            "ROLE" => self.role_statements(entry).await?,
            "ROLE SETTING" => {
                if self.is_own(entry) {
                    self.defer(entry, &entry.create);
                    return Ok(());
                }
                // one that the server does not take is no reason to lose the others
                let statements = sql::statements(&entry.create).into_iter();
                statements.map(BString::from).collect()
            }
            "TABLESPACE" => self.tablespace_statements(entry),
            _ => vec![entry.create.clone()],
        };
        for statement in statements {
            let outcome = self.session.execute(&statement).await;
            self.heed(entry);
            if let Err(error) = outcome {
                self.failed(entry, with_hint(entry, error))?;
                // what follows is about what was not made
                if statement.starts_with(b"CREATE ") {
                    break;
                }
            }
        }
        if self.failures.len() > failures {
            let kind = entry.kind.to_lowercase();
            let name = sql::identifier(&entry.name);
            self.existing.remove(&sql!("{} {}", kind, name));
        }
        // grants in the name of others end with RESET ROLE
        if entry.kind == "ACL"
            && let Some(role) = self.role
        {
            let take = sql!("SET ROLE {}", sql::identifier(role));
            self.session.execute(take).await?;
        }
        Ok(())
    }

    fn is_chosen(&self, entry: &Entry) -> bool {
        self.chosen.contains(&entry.id)
    }

    fn is_own(&self, entry: &Entry) -> bool {
        // settings are tagged with the name as SQL
        let mut own = self.present.own.keys();
        match entry.kind.as_str() {
            "ROLE" => self.present.own.contains_key(&entry.name),
            _ => own.any(|name| sql::identifier(name) == entry.name),
        }
    }

    fn defer(&mut self, entry: &Entry, text: &[u8]) {
        for statement in sql::statements(text) {
            self.last.statements.push((entry.clone(), statement.into()));
        }
    }

    fn heed(&mut self, entry: &Entry) {
        for notice in self.session.take_notices() {
            if notice.is_warning() {
                self.warnings
                    .push(format!("{}: {}", label(entry), notice.message));
            }
        }
    }

    fn failed(&mut self, entry: &Entry, error: Error) -> Result<()> {
        let lost = self.session.is_lost();
        if lost || self.options.exit_on_error {
            return Err(error.context(label(entry)));
        }
        self.failures.push(failure(entry, &error));
        Ok(())
    }

    /// One by one, so that a password that the server refuses does not take the role with it.
    async fn role_statements(&mut self, entry: &Entry) -> Result<Vec<BString>> {
        let name = sql::identifier(&entry.name);
        let mut statements: Vec<BString> = sql::statements(&entry.create)
            .into_iter()
            .map(BString::from)
            .collect();
        let there = self.present.entry("ROLE", &entry.name);
        let there = there
            .map(|there| sql::statements(&there.create))
            .unwrap_or_default();
        let attributes = statements.get(1).cloned().unwrap_or_default();
        let is_there = self.present.roles.contains(&entry.name);
        statements.retain(|statement| {
            !is_there || !(statement.starts_with(b"CREATE ") || there.contains(&&statement[..]))
        });
        if !self.present.acts_as_superuser {
            leave_to_superusers(entry, &mut statements, &there);
        }
        if !is_there {
            return Ok(statements);
        }
        let expires = there
            .iter()
            .any(|text| !is_password(&entry.name, text) && text.contains_str(" VALID UNTIL "));
        if expires && !attributes.contains_str(" VALID UNTIL ") {
            statements.push(sql!("ALTER ROLE {} VALID UNTIL 'infinity'", name));
        }
        let has_password = |text: &[u8]| is_password(&entry.name, text);
        let may_have_one =
            !self.present.passwords_are_known || there.iter().any(|text| has_password(text));
        let archived = sql::statements(&entry.create);
        let loses_password = may_have_one
            && !self.header.is_without_passwords()
            && !archived.iter().any(|text| has_password(text));
        if loses_password && self.is_own(entry) {
            self.warnings.push(format!(
                "role {name}, as which this restore is connected, keeps its password, and the archive has none of it"
            ));
        } else if loses_password {
            statements.push(password_statement(&entry.name, b"NULL"));
        }
        let archived = self.archived.get(&("ROLE SETTING", name.as_bstr()));
        let setting = self.present.entry("ROLE SETTING", &name);
        // set again by an entry of its own, if that is chosen
        let is_other =
            |own: &Entry, there: &Entry| self.is_chosen(own) && own.create != there.create;
        if setting.is_some_and(|there| archived.is_none_or(|own| is_other(own, there))) {
            statements.push(sql!("ALTER ROLE {} RESET ALL", name));
        }
        statements.extend(self.removed_comment(sql!("ROLE {}", name)));
        if self.is_own(entry) {
            self.defer_own_role(entry, &statements).await?;
            return Ok(Vec::new());
        }
        if !statements.is_empty() {
            self.existing.insert(sql!("role {}", name));
        }
        Ok(statements)
    }

    /// A comment of the server's that the archive does not have.
    fn removed_comment(&self, target: BString) -> Option<BString> {
        let is_there = self.present.entry("COMMENT", &target).is_some();
        let wanted = !self.options.selection.parts.no_comments
            && !self.archived.contains_key(&("COMMENT", target.as_bstr()));
        (is_there && wanted).then(|| sql!("COMMENT ON {} IS NULL", target))
    }

    /// It must be able to come back, and to do what it is doing.
    async fn defer_own_role(&mut self, entry: &Entry, statements: &[BString]) -> Result<()> {
        let head = sql!("ALTER ROLE {} WITH ", sql::identifier(&entry.name));
        for statement in statements {
            let Some(words) = statement.strip_prefix(head.as_slice()) else {
                self.defer(entry, statement);
                continue;
            };
            let (attributes, until) = match words.find(b" VALID UNTIL ") {
                Some(at) => words.split_at(at),
                None => (words.trim_end_with(|c| c == ';'), &b""[..]),
            };
            let mut attributes = BString::from(attributes);
            let mut kept = Vec::new();
            let mut keep = |from: &str, to: &str, attributes: &mut BString| {
                let mut words: Vec<&[u8]> = attributes.split_str(" ").collect();
                if let Some(word) = words.iter_mut().find(|word| **word == from.as_bytes()) {
                    *word = to.as_bytes();
                    kept.push(to.to_owned());
                    *attributes = bstr::join(" ", words).into();
                }
            };
            let superuser = self.present.own.get(&entry.name) == Some(&true);
            if superuser {
                keep("NOSUPERUSER", "SUPERUSER", &mut attributes);
            }
            keep("NOLOGIN", "LOGIN", &mut attributes);
            // superusers are not bound by it
            if !superuser && let Some(at) = attributes.find(" CONNECTION LIMIT ") {
                attributes.truncate(at);
            }
            let mut altered = sql!("{}{}", head, attributes);
            if !until.is_empty() && !self.is_past(until).await? {
                altered.extend_from_slice(until.trim_end_with(|c| c == ';'));
            } else if !until.is_empty() {
                kept.push("a password that has not expired".to_owned());
            }
            altered.push(b';');
            if !kept.is_empty() {
                self.warnings.push(format!(
                    "role {}, as which this restore is connected, keeps what it needs to connect: {}",
                    sql::identifier(&entry.name),
                    kept.join(", ")
                ));
            }
            self.defer(entry, &altered);
        }
        Ok(())
    }

    /// Whether ` VALID UNTIL 'time';` has passed.
    async fn is_past(&mut self, clause: &[u8]) -> Result<bool> {
        let literal = clause
            .strip_prefix(b" VALID UNTIL ")
            .unwrap_or_default()
            .trim_end_with(|c| c == ';');
        // as this program writes it; anything else of a forged archive is not evaluated
        let text: &[u8] = literal
            .strip_prefix(b"'")
            .and_then(|text| text.strip_suffix(b"'"))
            .unwrap_or(b"-infinity");
        let rows = self
            .session
            .query(sql!(
                "SELECT {}::timestamptz < now() AS past",
                sql::literal(text)
            ))
            .await;
        match rows {
            Ok(rows) => rows.only()?.bool("past"),
            Err(error) if self.session.is_lost() => Err(error),
            Err(_) => Ok(true),
        }
    }

    fn tablespace_statements(&mut self, entry: &Entry) -> Vec<BString> {
        let name = sql::identifier(&entry.name);
        let mut statements: Vec<BString> = Vec::new();
        let exists = self.present.tablespaces.contains_key(&entry.name);
        if self.present.has_same(entry) {
            let removed = self.removed_comment(sql!("TABLESPACE {}", name));
            return removed.into_iter().collect();
        }
        if exists {
            self.existing.insert(sql!("tablespace {}", name));
            let reset = sql!("ALTER TABLESPACE {} RESET ({})", name, TABLESPACE_OPTIONS);
            statements.push(reset);
            statements.extend(self.removed_comment(sql!("TABLESPACE {}", name)));
        } else if location(entry).is_empty() {
            statements.push("SET allow_in_place_tablespaces = on".into());
        }
        statements.extend(
            sql::statements(&entry.create)
                .into_iter()
                .filter(|statement| !exists || !statement.starts_with(b"CREATE "))
                .map(BString::from),
        );
        if let (false, Some(owner)) = (self.options.no_owner, &entry.owner) {
            statements.push(sql!(
                "ALTER TABLESPACE {} OWNER TO {}",
                name,
                sql::identifier(owner)
            ));
        }
        statements
    }

    fn tell_existing(&mut self) {
        if self.existing.is_empty() {
            return;
        }
        const SHOWN: usize = 10;
        let names: Vec<String> = self
            .existing
            .iter()
            .take(SHOWN)
            .map(ToString::to_string)
            .collect();
        let more = match self.existing.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        self.warnings.push(format!(
            "there already, and brought to what the archive says: {}{more}",
            names.join(", ")
        ));
    }
}

/// Takes out attributes that a new role has not anyhow, or that the role has `there` already: only
/// superusers may say them.
fn leave_to_superusers(entry: &Entry, statements: &mut [BString], there: &[&[u8]]) {
    const THEIRS: [&[u8]; 3] = [b"SUPERUSER", b"REPLICATION", b"BYPASSRLS"];
    let head = sql!("ALTER ROLE {} WITH ", sql::identifier(&entry.name));
    fn words<'a>(statement: &'a [u8], head: &[u8]) -> Option<Vec<&'a [u8]>> {
        let words = statement.strip_prefix(head)?;
        Some(words.split_str(" ").collect())
    }
    let has = there.iter().find_map(|statement| words(statement, &head));
    for statement in statements {
        let Some(wanted) = words(statement, &head) else {
            continue;
        };
        let left = wanted.into_iter().filter(|word| {
            let is_theirs = THEIRS.contains(word)
                || word
                    .strip_prefix(b"NO")
                    .is_some_and(|word| THEIRS.contains(&word));
            let is_so = match &has {
                Some(has) => has.contains(word),
                None => word.starts_with(b"NO"),
            };
            !(is_theirs && is_so)
        });
        *statement = sql!("{}{}", head, BString::from(bstr::join(" ", left)));
    }
}

fn with_hint(entry: &Entry, error: Error) -> Error {
    let hint = match (entry.kind.as_str(), error.sqlstate()) {
        ("TABLESPACE", Some(&SqlState::UNDEFINED_FILE)) => {
            "make the folder on the server, empty and owned by the server's operating system user; or use --no-tablespaces"
        }
        (_, Some(&SqlState::INSUFFICIENT_PRIVILEGE)) => {
            "connect as a superuser, or as a role that may do this"
        }
        _ => return error,
    };
    error.hint(hint)
}
