//! `rdump verify`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::connection::ConnectionArguments;
use super::interrupt::or_cancelled;
use super::output::{OutputArguments, bytes, print, print_json};
use crate::archive::RandomReader;
use crate::error::{Error, Outcome, Result};
use crate::proof::{CompareOptions, Comparison, compare, verify_file};
use crate::report::counted;
use crate::storage::LocalFile;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The archive
    #[arg(value_name = "FILE")]
    file: PathBuf,
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
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        self.check_file().await?;
        match &self.against {
            Some(conninfo) => self.compare(conninfo).await,
            None => Ok(()),
        }
    }

    async fn compare(&self, conninfo: &str) -> Result<()> {
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
            ..CompareOptions::default()
        };
        let reader = RandomReader::open(LocalFile::open(&self.file)?)?;
        let progress = self.output.progress();
        let watching = self.output.watch(Arc::clone(&progress), "comparing");
        let comparison = or_cancelled(
            &connector,
            compare(&reader, connector.clone(), &options, progress),
        )
        .await;
        drop(watching);
        let comparison = comparison?;
        self.tell(&comparison);
        ending(&comparison)
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

    async fn check_file(&self) -> Result<()> {
        let deep = self.deep;
        let file = self.file.clone();
        let report = tokio::task::spawn_blocking(move || verify_file(LocalFile::open(file)?, deep))
            .await
            .map_err(|error| Error::new(format!("the check broke off: {error}")))??;
        let file = self.file.display();
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
                "outcome": if report.is_sound() { "sound" } else { "damaged" },
                "findings": report.findings.len(),
                "blocks": report.blocks_checked,
                "bytes": report.bytes_checked,
                "rows": report.rows_checked,
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
        if report.is_sound() {
            self.output.say(&format!("{file}: every checksum holds"));
            return Ok(());
        }
        let findings = counted(report.findings.len() as u64, "finding", "findings");
        let hint = if !report.is_of_named_objects() {
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
