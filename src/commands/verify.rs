//! `rdump verify`

use std::sync::Arc;

use clap::Args;

use super::archive::{ArchiveArguments, Chosen};
use super::connection::ConnectionArguments;
use super::interrupt::or_cancelled;
use super::keys::KeyArguments;
use super::member::MemberArguments;
use super::output::{OutputArguments, bytes, print, print_json};
use super::roles::RoleArguments;
use crate::archive::{Content, Keys, Member, RandomReader, SetReader, is_set};
use crate::error::{Error, Outcome, Result, SqlState};
use crate::postgres::Connector;
use crate::proof::{
    CompareOptions, Comparison, IntegrityReport, compare, compare_globals, verify_file_with,
    verify_set,
};
use crate::report::counted;
use crate::repository::{Archive, Mark, Repository};
use crate::restore::{ArchiveFile, Choice, Holding, Input, Stored, blocking};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    archive: ArchiveArguments,
    /// Prove this database equal to the archive: definitions, rows, sequences, large objects,
    /// privileges, and that indexes are valid and constraints enforced; if it has the archive's name, as
    /// restore -C gives it, also what is set for it. Definitions that read differently are created
    /// in a transaction that is rolled back, and compared as the server prints them. Nothing else of
    /// the archive is run; but event triggers of the database fire, and the planner may call its own
    /// immutable functions with constants of the archive. --read-only runs nothing
    #[arg(long, value_name = "CONNINFO")]
    against: Option<String>,
    /// With --against: connections that read rows
    #[arg(short = 'j', long, value_name = "N", default_value_t = 2, requires = "against",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    jobs: u16,
    /// With --against: the archive was restored with -O
    #[arg(short = 'O', long, requires = "against")]
    no_owner: bool,
    /// With --against: the archive was restored with -x
    #[arg(short = 'x', long, requires = "against")]
    no_privileges: bool,
    /// With --against: the archive was restored with --no-tablespaces
    #[arg(long, requires = "against")]
    no_tablespaces: bool,
    /// With --against: compare definitions only: the archive was restored with -s
    #[arg(short = 's', long, requires = "against")]
    schema_only: bool,
    /// With --against: leave out large objects
    #[arg(short = 'B', long = "no-large-objects", requires = "against")]
    no_large_objects: bool,
    /// With --against: never write to the database, not even in a transaction that is rolled back;
    /// whether definitions that read differently mean the same then remains undecided
    #[arg(long, requires = "against")]
    read_only: bool,
    /// Decode every block too, count its rows and compare their fingerprints
    #[arg(long)]
    deep: bool,

    #[command(flatten)]
    member: MemberArguments,
    #[command(flatten)]
    keys: KeyArguments,
    #[command(flatten)]
    roles: RoleArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        self.archive.refuse_stream("verify")?;
        let keys = self.keys.keys()?;
        let chosen = self.archive.choose().await?;
        if let Some(told) = &chosen.told {
            self.output.say(told);
        }
        let checked = match &chosen.stored {
            Some((repository, archive)) => {
                match repository.check_volumes(&archive.manifest).await {
                    Ok(()) => chosen.refuse_another().await,
                    missing => missing,
                }
            }
            None => Ok(()),
        };
        let checked = match checked {
            Ok(()) => self.check_file(&chosen, &keys).await,
            missing => missing,
        };
        // a check of some members says nothing of all
        if let Some((repository, archive)) = &chosen.stored
            && self.member.choice() == Choice::All
        {
            self.mark(repository, archive, &checked).await;
        }
        checked?;
        match &self.against {
            Some(conninfo) => self.compare(chosen.input, conninfo, &keys).await,
            None => Ok(()),
        }
    }

    /// Notes with the archive what came of the check, if it came to a result. A credential that may
    /// only read does not make a check fail.
    async fn mark(&self, repository: &Repository, archive: &Archive, checked: &Result<()>) {
        let good = match checked {
            Ok(()) => true,
            Err(error) if error.exit_code() == Outcome::Partial.exit_code() => false,
            Err(_) => return,
        };
        let details = serde_json::json!({
            "deep": self.deep,
            "error": checked.as_ref().err().map(ToString::to_string),
            "rdump_version": env!("CARGO_PKG_VERSION"),
        });
        let mark = Mark::Verified { good };
        if let Err(error) = repository.mark(archive, &mark, &details).await {
            self.output.warn(&format!(
                "the result could not be noted with the archive: {error}"
            ));
        }
    }

    async fn compare(&self, input: Input, conninfo: &str, keys: &Arc<Keys>) -> Result<()> {
        let connector = ConnectionArguments {
            dbname: Some(conninfo.to_owned()),
            ..ConnectionArguments::default()
        }
        .connector()?;
        let options = CompareOptions {
            jobs: usize::from(self.jobs),
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            no_tablespaces: self.no_tablespaces,
            no_data: self.schema_only,
            no_large_objects: self.no_large_objects,
            read_only: self.read_only,
            roles: self.roles.map()?,
            ..CompareOptions::default()
        };
        let (choice, keys) = (self.member.choice(), Arc::clone(keys));
        match blocking(move || Holding::open(input, &keys)?.choose(&choice)).await? {
            Holding::Archive(reader) => {
                let comparison = self.compare_one(&reader, &connector, &options).await?;
                self.tell(&comparison);
                ending(&comparison)
            }
            Holding::Set(set) => self.compare_set(&set, &connector, &options).await,
        }
    }

    async fn compare_one(
        &self,
        reader: &RandomReader<ArchiveFile>,
        connector: &Connector,
        options: &CompareOptions,
    ) -> Result<Comparison> {
        let progress = self.output.progress();
        let watching = self.output.watch(Arc::clone(&progress), "comparing");
        let comparing = async {
            match reader.header().content {
                Content::Globals => compare_globals(reader, connector.clone(), options).await,
                Content::Database => compare(reader, connector.clone(), options, progress).await,
            }
        };
        let comparison = or_cancelled(connector, comparing).await;
        drop(watching);
        comparison
    }

    /// Each member against the server's globals, or its database of that name.
    async fn compare_set(
        &self,
        set: &SetReader<Stored>,
        connector: &Connector,
        options: &CompareOptions,
    ) -> Result<()> {
        set.require_names()?;
        let mut different = Vec::new();
        for member in set.members() {
            let reader = set.open_member(member)?;
            let own = match member.content {
                Content::Globals => connector.clone(),
                Content::Database => connector.with_database(member.name.clone()),
            };
            let label = member.label();
            if self.output.json {
                print_json(&serde_json::json!({"type": "member", "member": label}));
            } else {
                print(format_args!("{label}:"));
            }
            match self.compare_one(&reader, &own, options).await {
                Ok(comparison) => {
                    self.tell(&comparison);
                    if !comparison.is_equal() {
                        different.push(label);
                    }
                }
                Err(error) if error.sqlstate() == Some(&SqlState::INVALID_CATALOG_NAME) => {
                    let problem = "the server has no database of that name";
                    if self.output.json {
                        print_json(&serde_json::json!({
                            "type": "finding", "member": label, "problem": problem,
                        }));
                    } else {
                        print(problem);
                    }
                    different.push(label);
                }
                Err(error) => return Err(error.context(label)),
            }
        }
        if different.is_empty() {
            self.output.say("the server equals the set in all of this");
            return Ok(());
        }
        Err(Error::new(format!(
            "the server was not proved equal to the set: {} of {} members differ: {}",
            different.len(),
            set.members().len(),
            different.join(", ")
        ))
        .outcome(Outcome::Partial))
    }

    fn tell(&self, comparison: &Comparison) {
        for warning in &comparison.warnings {
            self.output.warn(warning);
        }
        if self.output.json {
            for finding in &comparison.findings {
                print_json(&serde_json::json!({"type": "finding", "finding": finding}));
            }
            let outcome = match (comparison.differences(), comparison.undecided()) {
                (0, 0) => "equal",
                (0, _) => "undecided",
                _ => "different",
            };
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": outcome,
                "findings": comparison.findings.len(),
                "differences": comparison.differences(),
                "undecided": comparison.undecided(),
                "compared": comparison.compared,
                "not_compared": comparison.not_compared,
            }));
        } else if self.output.quiet {
            for finding in &comparison.findings {
                print(finding.in_words(false));
            }
        } else {
            print(comparison.in_words(self.output.verbose));
        }
    }

    async fn check_file(&self, chosen: &Chosen, keys: &Arc<Keys>) -> Result<()> {
        let (deep, choice, input) = (self.deep, self.member.choice(), chosen.input.clone());
        let keys = Arc::clone(keys);
        let reports = tokio::task::spawn_blocking(move || check(input, &choice, &keys, deep))
            .await
            .map_err(|error| Error::new(format!("the check broke off: {error}")))??;
        let mut damaged = Vec::new();
        for (member, report) in reports {
            let name = match member {
                Some(member) => format!("{}: {member}", chosen.name),
                None => chosen.name.clone(),
            };
            if let Err(error) = self.tell_report(&name, &report) {
                damaged.push(error);
            }
        }
        if let Some(unread) = damaged.iter().position(|error| error.exit_code() == 1) {
            return Err(damaged.remove(unread));
        }
        match damaged.len() {
            0 => Ok(()),
            1 => Err(damaged.remove(0)),
            members => Err(Error::new(format!(
                "{} is damaged: {members} of its members",
                chosen.name
            ))
            .hint("restore from another copy; members that are not named can still be restored from this one")
            .outcome(Outcome::Partial)),
        }
    }

    fn tell_report(&self, file: &str, report: &IntegrityReport) -> Result<()> {
        if self.output.json {
            for finding in &report.findings {
                print_json(&serde_json::json!({
                    "type": "finding",
                    "block": finding.block,
                    "problem": finding.problem,
                    "objects": finding.objects.names(),
                }));
            }
            print_json(&serde_json::json!({
                "type": "summary",
                "file": file,
                "outcome": match (&report.unread, report.is_sound()) {
                    (Some(_), _) => "unread",
                    (None, true) => "sound",
                    (None, false) => "damaged",
                },
                "findings": report.findings.len(),
                "unread": report.unread,
                "blocks": report.blocks_checked,
                "bytes": report.bytes_checked,
                "rows": report.rows_checked,
                "contents_unread": report.contents_unread,
            }));
        } else {
            for finding in &report.findings {
                print(finding.in_words(self.output.verbose));
            }
            self.output.say(&format!(
                "{file}: {}, {} checked",
                counted(report.blocks_checked, "block", "blocks"),
                bytes(report.bytes_checked)
            ));
        }
        if let Some(why) = &report.unread {
            return Err(
                Error::new(format!("{file} could not be read in full: {why}"))
                    .hint("what was found may be due to that; check it again when it can be read"),
            );
        }
        if report.is_sound() {
            self.output.say(&match report.contents_unread {
                false => format!("{file}: every checksum holds"),
                true => format!("{file}: checksums verified; contents not read: no key was given"),
            });
            return Ok(());
        }
        let findings = counted(report.findings.len() as u64, "finding", "findings");
        let hint = if report.contents_unread {
            "restore from another copy; with the key (--identity, --passphrase-file) verify names the tables that are damaged"
        } else if !report.is_of_named_objects() {
            "restore from another copy: what this one says of its contents is damaged"
        } else if !self.output.verbose && report.findings.iter().any(|f| f.objects.is_long()) {
            "restore from another copy; tables that are not named with -v can still be restored from this one"
        } else {
            "restore from another copy; tables that are not named can still be restored from this one"
        };
        Err(Error::new(format!("{file} is damaged: {findings}"))
            .hint(hint)
            .outcome(Outcome::Partial))
    }
}

/// Reports of the archive, or of each member chosen.
fn check(
    input: Input,
    choice: &Choice,
    keys: &Arc<Keys>,
    deep: bool,
) -> Result<Vec<(Option<String>, IntegrityReport)>> {
    let file = Stored::open(input.clone())?;
    if is_set(&file)? {
        let wanted = |member: &Member| choice.is(member.content, &member.name);
        let reports = verify_set(file, Arc::clone(keys), deep, wanted)?;
        if reports.is_empty() {
            // says that the key is missing, where it is
            Holding::open(input, keys)?.choose(choice)?;
            return Err(choice.missing());
        }
        return Ok(reports);
    }
    if *choice != Choice::All {
        // refused where it has no members
        Holding::open(input, keys)?.choose(choice)?;
    }
    Ok(vec![(None, verify_file_with(file, keys, deep)?)])
}

/// Success for a proof; else differences, and what could not be compared, each by their number.
fn ending(comparison: &Comparison) -> Result<()> {
    if comparison.is_equal() {
        return Ok(());
    }
    let what = match comparison.differences() {
        0 => "the database could not be proved equal to the archive",
        _ => "the database differs from the archive",
    };
    let error = Error::new(format!("{what}: {}", comparison.findings_in_words()));
    let error = match comparison.hints() {
        hints if hints.is_empty() => error,
        hints => error.hint(hints.join("; ")),
    };
    Err(error.outcome(Outcome::Partial))
}
