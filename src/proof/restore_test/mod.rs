//! Restore tests: an archive is restored into a server of its own, the database proved equal to the
//! archive, and the user's own assertions are asked.
//!
//! What is found is a report; an error means that the test could not be run, which says nothing of the
//! archive.

mod assertions;
mod databases;
mod report;
mod server;
mod space;
mod subject;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BString;
use jiff::Timestamp;

pub use assertions::{Assertion, AssertionFile};
pub use report::{Compared, Problem, ProblemKind, Report, Restored, Seconds, ServerUsed};
pub use server::{Server, ServerChoice, start};
pub use space::check as check_space;
use subject::Member;
pub use subject::{Subject, inspect};

use crate::archive::Content;
use crate::error::{Error, Outcome, Result, ResultExt};
use crate::postgres::Connector;
use crate::proof::{CompareOptions, Comparison, compare, compare_globals};
use crate::report::Progress;
use crate::restore::{self, Failure, Holding, blocking};
use databases::Made;

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub jobs: usize,
    /// Extensions to do without, and with them all that depends on them.
    pub skip_extensions: Vec<BString>,
    pub no_owner: bool,
    pub no_privileges: bool,
    pub assertions: Vec<AssertionFile>,
    /// A restore that takes longer has failed.
    pub max_time: Option<Duration>,
    /// SQL between restore and proof, so that tests of the test can make a difference.
    pub after_restore: Option<String>,
}

/// What is being done, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Restore,
    Proof,
    Assertions,
}

/// Told of each phase as it begins; gives what counts its progress.
pub type Begin<'a> = &'a (dyn Fn(Phase) -> Arc<Progress> + Sync);

/// Runs the test on a server that has been started.
pub async fn run(
    server: &Server,
    subject: &Subject,
    archive: &str,
    options: &Options,
    begin: Begin<'_>,
) -> Result<Report> {
    let skipped = subject.skipped(&options.skip_extensions)?;
    let mut report = Report::new(archive, subject, server, options);
    report.skipped = skipped.names();
    let missing = server
        .missing_extensions(subject.extensions(&skipped))
        .await?;
    if !missing.is_empty() {
        report.problems = missing.iter().map(Problem::missing_extension).collect();
        return Ok(report);
    }
    if server.is_disposable() {
        server.create_roles(subject.roles(options)).await?;
        let names = subject.members.iter().filter_map(Member::database);
        server.make_room(names.collect()).await?;
    }

    let progress = begin(Phase::Restore);
    let made = databases::restore(
        server,
        subject,
        &skipped,
        options,
        &mut report,
        Arc::clone(&progress),
    )
    .await?;
    report.restored = Some(made.restored.clone());
    report.seconds.restore = Some(made.took.as_secs_f64());
    let databases = made.databases.iter().flatten();
    report.databases = databases.map(ToString::to_string).collect();
    if let Some(most) = options.max_time.filter(|most| made.took > *most) {
        report.problems.push(Problem::too_slow(made.took, most));
    }
    let databases = connectors(server, &made);
    if let Some(sql) = &options.after_restore {
        for connector in databases.iter().flatten() {
            let mut session = connector.open().await?;
            let outcome = session.execute(sql).await;
            outcome.context("running what was to be run after the restore")?;
            session.close().await;
        }
    }

    let started = Instant::now();
    let progress = begin(Phase::Proof);
    prove(
        server,
        subject,
        &databases,
        &skipped,
        options,
        &mut report,
        &progress,
    )
    .await?;
    report.seconds.proof = Some(started.elapsed().as_secs_f64());

    if !options.assertions.is_empty() {
        begin(Phase::Assertions);
        let started = Instant::now();
        let connector = databases.iter().flatten().next();
        let connector = connector.unwrap_or(server.connector());
        for file in &options.assertions {
            report
                .assertions
                .extend(assertions::ask(connector, file).await?);
        }
        let failed = report.assertions.iter().filter_map(Problem::of_assertion);
        let failed: Vec<Problem> = failed.collect();
        report.problems.extend(failed);
        report.seconds.assertions = Some(started.elapsed().as_secs_f64());
    }
    Ok(report)
}

/// Of each member the database that it was restored into.
fn connectors(server: &Server, made: &Made) -> Vec<Option<Connector>> {
    let names = made.databases.iter();
    let connect = |name: &BString| server.connector().with_database(name.clone());
    names.map(|name| name.as_ref().map(connect)).collect()
}

async fn prove(
    server: &Server,
    subject: &Subject,
    databases: &[Option<Connector>],
    skipped: &subject::Skipped,
    options: &Options,
    report: &mut Report,
    progress: &Arc<Progress>,
) -> Result<()> {
    let compare_options = CompareOptions {
        jobs: options.jobs,
        no_owner: options.no_owner,
        no_privileges: options.no_privileges,
        no_tablespaces: true,
        left_out: skipped.entries(),
        ..CompareOptions::default()
    };
    let (input, choice) = (subject.input.clone(), subject.choice.clone());
    let holding = blocking(move || Holding::open(input)?.choose(&choice)).await?;
    let set;
    let mut readers = Vec::new();
    match holding {
        Holding::Archive(reader) => readers.push(*reader),
        Holding::Set(opened) => {
            set = opened;
            for member in set.members() {
                readers.push(set.open_member(member)?);
            }
        }
    }
    for ((reader, database), member) in readers.iter().zip(databases).zip(&subject.members) {
        let label = subject.is_set().then(|| member.label.clone());
        let comparison = match database {
            Some(connector) => {
                let connector = connector.clone();
                compare(reader, connector, &compare_options, Arc::clone(progress)).await
            }
            None if member.header.content == Content::Globals => {
                // the server's own superuser is not of the archive
                let options = CompareOptions {
                    ignore_unexpected: true,
                    ..compare_options.clone()
                };
                compare_globals(reader, server.connector().clone(), &options).await
            }
            // it was not restored at all, which is a problem already
            None => continue,
        };
        let comparison = comparison.map_err(|error| error.context(member.label.clone()))?;
        take(comparison, label, report);
    }
    Ok(())
}

fn take(comparison: Comparison, member: Option<String>, report: &mut Report) {
    let findings = comparison.findings.iter();
    let problems: Vec<Problem> = findings
        .map(|finding| Problem::of_finding(finding, member.as_deref()))
        .collect();
    report.problems.extend(problems);
    report.warnings.extend(comparison.warnings.iter().cloned());
    report.compared.push(Compared {
        member,
        summary: comparison.summary(),
        compared: comparison.compared,
        not_compared: comparison.not_compared,
    });
}

impl Report {
    fn take_failures(&mut self, failures: &[Failure], member: Option<&str>) {
        let failures = failures
            .iter()
            .map(|failure| Problem::of_failure(failure, member));
        self.problems.extend(failures);
    }

    /// Exit code 3 where the test failed.
    pub fn into_result(self) -> Result<Report> {
        if self.is_passed() {
            return Ok(self);
        }
        let first = self.problems.first().map(ToString::to_string);
        let more = match self.problems.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        Err(Error::new(format!(
            "the restore test of {} failed: {}{more}",
            self.archive,
            first.unwrap_or_default()
        ))
        .outcome(Outcome::Partial))
    }
}

/// By the clock of the server that the snapshot was taken of.
fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Settings of a restore for a test: nothing of the target but what the archive brings.
fn restore_options(options: &Options) -> restore::Options {
    restore::Options {
        jobs: options.jobs,
        no_owner: options.no_owner,
        no_tablespaces: true,
        ..restore::Options::default()
    }
}
