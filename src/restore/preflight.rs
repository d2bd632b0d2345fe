//! What will fail on this target, found before anything is written.

mod locks;
mod present;
mod roles;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bstr::BString;

use super::schedule::is_data;
use super::selection::label;
use super::{Options, database};
use crate::archive::{Entry, Header};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::postgres::{ServerVersion, Session};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Some entry cannot be restored as it is.
    WillFail,
    /// Worth knowing.
    Notice,
}

/// One thing about the target.
#[derive(Debug, Clone)]
pub struct Finding {
    pub severity: Severity,
    pub message: String,
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.hint)
    }
}

fn will_fail(message: String, hint: &str) -> Finding {
    Finding {
        severity: Severity::WillFail,
        message,
        hint: hint.to_owned(),
    }
}

/// "1 relation", "2 relations".
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// All findings as one error, which --force would not have overridden.
pub fn final_refusal(findings: &[Finding]) -> Error {
    let list: Vec<String> = findings
        .iter()
        .map(|finding| format!("\n  - {}: {}", finding.message, finding.hint))
        .collect();
    Error::new(format!(
        "this target is not ready for the archive; nothing was written:{}",
        list.concat()
    ))
    .with_kind(Kind::TargetNotReady)
    .hint("mend these; --force does not help")
}

/// The same where it would.
pub fn refusal(findings: &[Finding]) -> Error {
    final_refusal(findings)
        .hint("mend these, or use --force to go on all the same and have the failures counted")
}

/// Looks at the target with the eyes of the archive; `entries` are those chosen of `all`.
pub async fn check(
    session: &mut Session,
    header: &Header,
    all: &[Entry],
    entries: &[Entry],
    options: &Options,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    findings.extend(older_version(session, header)?);
    check_writable(session).await?;
    // a database that is still to be created holds nothing
    if !options.clean && !options.selection.parts.no_schema && !options.create_database {
        if options.selection.is_of_a_part() || !header.filters.is_empty() {
            present::check_chosen(session, entries, &mut findings).await?;
        } else {
            present::check_empty(session, entries, &mut findings).await?;
        }
    }
    check_extensions(session, entries, &mut findings).await?;
    roles::check(session, entries, options, &mut findings).await?;
    if !options.no_tablespaces {
        check_tablespaces(session, entries, &mut findings).await?;
    }
    if options.single_transaction || options.transaction_size.is_some() {
        locks::check(session, entries, options, &mut findings).await?;
    }
    if options.create_database {
        check_locale_provider(session, header, entries, &mut findings)?;
    }
    if options.database_properties {
        database::check_locale(session, all, &mut findings).await?;
    }
    if options.selection.parts.no_schema && !options.create_database {
        check_tables_exist(session, entries, &mut findings).await?;
        if !options.disable_triggers {
            check_triggers(session, entries, &mut findings).await?;
        }
    }
    if !options.selection.parts.no_schema && !options.create_database {
        check_default_privileges(session, &mut findings).await?;
    }
    Ok(findings)
}

/// Before anything else is said to the server: an old one would not understand it.
pub fn refuse_unsupported(session: &Session) -> Result<()> {
    let target = session.version()?;
    if target.at_least(14) {
        return Ok(());
    }
    Err(
        Error::new(format!("server version {target} is not supported"))
            .hint("restore into PostgreSQL 14 or later"),
    )
}

fn older_version(session: &Session, header: &Header) -> Result<Option<Finding>> {
    let target = session.version()?;
    let source = ServerVersion(header.server_version_num);
    Ok((target.major() < source.major()).then(|| Finding {
        severity: Severity::Notice,
        message: format!("the archive is of PostgreSQL {source}, the target is older: {target}"),
        hint: "what the older version does not know will fail".to_owned(),
    }))
}

async fn check_writable(session: &mut Session) -> Result<()> {
    if session.parameter("in_hot_standby") == Some("on") {
        return Err(
            Error::new("the target is a standby, which cannot be written to")
                .hint("connect to the primary; target_session_attrs=read-write finds it"),
        );
    }
    Ok(())
}

async fn check_extensions(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let wanted: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.kind == "EXTENSION")
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = session
        .query("SELECT name FROM pg_available_extensions")
        .await
        .context("listing the extensions that the target offers")?;
    let available: BTreeSet<BString> = rows
        .iter()
        .map(|row| row.text("name"))
        .collect::<Result<_>>()?;
    for entry in wanted {
        if !available.contains(&entry.name) {
            findings.push(will_fail(
                format!("extension \"{}\" is not available", entry.name),
                "install its package on the target server",
            ));
        }
    }
    Ok(())
}

/// Without theirs, each table that is kept in one would fail.
async fn check_tablespaces(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let mut wanted: BTreeMap<&BString, usize> = BTreeMap::new();
    for tablespace in entries.iter().filter_map(|entry| entry.tablespace.as_ref()) {
        *wanted.entry(tablespace).or_default() += 1;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = session
        .query("SELECT spcname FROM pg_tablespace")
        .await
        .context("listing the tablespaces of the target")?;
    let present: BTreeSet<BString> = rows
        .iter()
        .map(|row| row.text("spcname"))
        .collect::<Result<_>>()?;
    for (tablespace, objects) in wanted {
        if !present.contains(tablespace) {
            findings.push(will_fail(
                format!(
                    "tablespace \"{tablespace}\", for {}, does not exist",
                    count(objects, "object")
                ),
                "create it first, or use --no-tablespaces to keep all in the default one",
            ));
        }
    }
    Ok(())
}

/// A database of another provider's locale would sort and fold differently.
fn check_locale_provider(
    session: &Session,
    header: &Header,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let Some(database) = database::entry(entries) else {
        return Ok(());
    };
    let target = session.version()?;
    let (provider, since) = database::provider(header, database);
    if !target.at_least(since) {
        findings.push(will_fail(
            format!(
                "database \"{}\" has its locale from {provider}, which PostgreSQL has since {since} \
                 and the target, {target}, has not",
                database.name
            ),
            "create it with another locale and restore into it, without -C",
        ));
    }
    Ok(())
}

/// Rows go through the triggers that are there; a full restore makes them afterwards.
async fn check_triggers(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let rows = session
        .query(
            "SELECT n.nspname AS schema, c.relname AS name,
                    string_agg(t.tgname, ', ' ORDER BY t.tgname) AS triggers
             FROM pg_trigger t
             JOIN pg_class c ON c.oid = t.tgrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
               AND t.tgtype & 4 <> 0 -- on INSERT
             GROUP BY n.nspname, c.relname",
        )
        .await
        .context("looking for triggers of the target's tables")?;
    let mut found: BTreeMap<(BString, BString), BString> = BTreeMap::new();
    for row in &rows {
        let key = (row.text("schema")?, row.text("name")?);
        found.insert(key, row.text("triggers")?);
    }
    for entry in entries.iter().filter(|entry| is_data(entry)) {
        if let (Some(schema), Some(name)) = (&entry.schema, &entry.relation)
            && let Some(triggers) = found.get(&(schema.clone(), name.clone()))
        {
            findings.push(Finding {
                severity: Severity::Notice,
                message: format!(
                    "{} goes through triggers that may change it: {triggers}",
                    label(entry)
                ),
                hint: "ALTER TABLE ... DISABLE TRIGGER USER before, ENABLE after".to_owned(),
            });
        }
    }
    Ok(())
}

/// They apply to whatever is made, beside the archive's privileges.
async fn check_default_privileges(
    session: &mut Session,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let rows = session
        .query(
            "SELECT count(*) AS number FROM pg_default_acl d
             WHERE pg_has_role(d.defaclrole, 'MEMBER')
               AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee <> d.defaclrole)",
        )
        .await
        .context("looking for default privileges of the target")?;
    let number: usize = rows.only()?.number("number")?;
    if number > 0 {
        findings.push(Finding {
            severity: Severity::Notice,
            message: format!(
                "the target has default privileges ({number}), which what is restored has beside its own"
            ),
            hint: "rdump verify --against names what others can do that they could not; to prevent it, revoke them first"
                .to_owned(),
        });
    }
    Ok(())
}

async fn check_tables_exist(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let rows = session
        .query(
            "SELECT n.nspname AS schema, c.relname AS name
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'S', 'f')",
        )
        .await
        .context("listing the tables of the target")?;
    let found: BTreeSet<(BString, BString)> = rows
        .iter()
        .map(|row| Ok((row.text("schema")?, row.text("name")?)))
        .collect::<Result<_>>()?;
    for entry in entries.iter().filter(|entry| is_data(entry)) {
        if let (Some(schema), Some(name)) = (&entry.schema, &entry.relation)
            && !found.contains(&(schema.clone(), name.clone()))
        {
            findings.push(will_fail(
                format!("{} has no table to go into", label(entry)),
                "restore the schema first with -s",
            ));
        }
    }
    Ok(())
}
