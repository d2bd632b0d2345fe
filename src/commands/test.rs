//! `rdump test`

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::archive::{ArchiveArguments, Chosen};
use super::connection::ConnectionArguments;
use super::interrupt::signalled;
use super::keys::KeyArguments;
use super::member::MemberArguments;
use super::output::{OutputArguments, ProgressGuard, print, print_json};
use super::test_report::{ReportFile, in_words, json};
use crate::error::{Error, Outcome, Result};
use crate::proof::restore_test::{
    self, AssertionFile, Options, Phase, Report, Server, ServerChoice, Subject,
};
use crate::report::{Progress, counted};
use crate::repository::{Archive, Label, Mark, Repository, Run, RunId};
use crate::restore::Choice;

/// Where the server of a test comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    /// PostgreSQL's programs on this machine
    Local,
    /// A container
    Docker,
}

/// Restore an archive into a disposable server, prove it equal, ask assertions, and record the result
///
/// The server is of the archive's major version, reaches no other server, and is gone afterwards. Exit
/// code 0: the test passed; 3: it failed; 1: it could not be run, which says nothing of the archive.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    archive: ArchiveArguments,
    /// Where the server comes from [default: programs on this machine, else Docker]
    #[arg(
        long,
        value_name = "SOURCE",
        conflicts_with = "on",
        help_heading = "Server"
    )]
    server: Option<Source>,
    /// Docker image of the server, such as one with extensions [default: postgres:MAJOR]
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "on",
        help_heading = "Server"
    )]
    image: Option<String>,
    /// Test on this server, in a database with a drawn name that is dropped afterwards. What the
    /// archive holds then reaches whatever this server reaches
    #[arg(long, value_name = "CONNINFO", help_heading = "Server")]
    on: Option<String>,
    /// With --on: do not drop the database
    #[arg(long, requires = "on", help_heading = "Server")]
    keep: bool,
    /// Do not ask whether the disk has room
    #[arg(long, help_heading = "Server")]
    no_space_check: bool,
    /// Connections that restore, and that read for the proof
    #[arg(short = 'j', long = "parallel", visible_alias = "jobs", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    parallel: u16,
    /// Test without this extension and all that depends on it (may be repeated)
    #[arg(long, value_name = "NAME")]
    skip_extension: Vec<String>,
    /// Restore and compare without owners
    #[arg(short = 'O', long)]
    no_owner: bool,
    /// Restore and compare without privileges
    #[arg(short = 'x', long, visible_alias = "no-acl")]
    no_privileges: bool,
    /// SQL file with assertions (may be repeated): statements that return rows must return a single
    /// column of truth values, all of them true; any other must not fail
    #[arg(long = "assert", value_name = "FILE")]
    assertions: Vec<PathBuf>,
    /// Fail if the restore takes longer, such as 30min
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_time: Option<Duration>,
    /// Write the report to this file as well, by its ending: .html, .json or .txt (may be repeated)
    #[arg(long, value_name = "FILE", value_parser = ReportFile::parse)]
    report: Vec<ReportFile>,
    /// SQL between restore and proof: rdump's own tests make differences with it
    #[arg(long, value_name = "SQL", hide = true)]
    hook_after_restore: Option<String>,

    #[command(flatten)]
    keys: KeyArguments,
    #[command(flatten)]
    member: MemberArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// "30min", "1h 30min", "90s".
fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>();
    let positive = parsed
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero());
    positive.ok_or_else(|| "for example 30min, 1h30min or 90s".to_owned())
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        self.archive.refuse_stream("test")?;
        let assertions = self.assertions.iter().cloned().map(AssertionFile::read);
        let options = Options {
            jobs: usize::from(self.parallel),
            skip_extensions: self
                .skip_extension
                .iter()
                .map(|n| n.as_str().into())
                .collect(),
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            assertions: assertions.collect::<Result<_>>()?,
            max_time: self.max_time,
            after_restore: self.hook_after_restore.clone(),
        };
        let server = self.server_choice()?;
        let chosen = self.archive.choose().await?;
        chosen.refuse_another().await?;
        if let Some(told) = &chosen.told {
            self.output.say(&format!("testing {told}"));
        }
        let run = Run::begun("test", RunId::random());
        let tested = self.test(&chosen, &server, &options).await;
        if let Some((repository, archive)) = &chosen.stored {
            self.record(repository, archive, run, &tested).await;
        }
        let report = tested?;
        self.tell(&report);
        for file in &self.report {
            file.write(&report)?;
        }
        report.into_result().map(drop)
    }

    fn server_choice(&self) -> Result<ServerChoice> {
        let docker = || ServerChoice::Docker {
            image: self.image.clone(),
        };
        Ok(match (&self.on, self.server) {
            (Some(conninfo), _) => {
                let connection = ConnectionArguments {
                    dbname: Some(conninfo.clone()),
                    ..ConnectionArguments::default()
                };
                ServerChoice::Given(Box::new(connection.connector()?))
            }
            (None, Some(Source::Local)) if self.image.is_some() => {
                return Err(Error::usage(
                    "--image is of Docker: leave out --server local",
                ));
            }
            (None, Some(Source::Local)) => ServerChoice::Local,
            (None, Some(Source::Docker)) => docker(),
            (None, None) if self.image.is_some() => docker(),
            (None, None) => ServerChoice::Any,
        })
    }

    /// The server is gone when this ends, however it does.
    async fn test(
        &self,
        chosen: &Chosen,
        choice: &ServerChoice,
        options: &Options,
    ) -> Result<Report> {
        let signal = signalled()?;
        let mut signal = pin!(signal);
        let starting = self.start(chosen, choice);
        let (subject, server, unchecked) = tokio::select! {
            started = starting => started?,
            number = &mut signal => return Err(cancelled(number)),
        };
        let watching: Mutex<Option<ProgressGuard>> = Mutex::default();
        let begin = |phase: Phase| -> Arc<Progress> {
            let progress = self.output.progress();
            let doing = match phase {
                Phase::Restore => Some("restoring"),
                Phase::Proof => Some("comparing"),
                Phase::Assertions => None,
            };
            let mut watching = watching.lock().unwrap_or_else(PoisonError::into_inner);
            // the one before ends first
            drop(watching.take());
            *watching = doing.map(|doing| self.output.watch(Arc::clone(&progress), doing));
            progress
        };
        let tested = {
            let running = restore_test::run(&server, &subject, &chosen.name, options, &begin);
            tokio::select! {
                tested = running => tested,
                number = &mut signal => Err(cancelled(number)),
            }
        };
        drop(watching);
        if tested.is_err() {
            server.cancel().await;
        }
        if let Some(name) = server.scratch().filter(|_| self.keep) {
            self.output
                .say(&format!("the database of the test stays: {name}"));
        }
        let ended = server.end(self.keep).await;
        let mut report = match (tested, ended) {
            (Ok(report), Ok(())) => report,
            (Ok(mut report), Err(error)) => {
                // what the test found stays true
                report.warnings.push(error.to_string());
                report
            }
            (Err(error), Ok(())) => return Err(error),
            (Err(error), Err(left)) => {
                self.output.warn(&left.to_string());
                return Err(error);
            }
        };
        report.warnings.extend(unchecked);
        Ok(report)
    }

    async fn start(
        &self,
        chosen: &Chosen,
        choice: &ServerChoice,
    ) -> Result<(Subject, Server, Option<String>)> {
        let subject = restore_test::inspect(
            chosen.input.clone(),
            self.member.choice(),
            self.keys.keys()?,
        )
        .await?;
        let major = subject.version().major();
        let unchecked = match self.no_space_check {
            true => None,
            false => restore_test::check_space(choice, major, subject.raw_bytes).await?,
        };
        let mut told = |line: &str| self.output.say(line);
        let server = restore_test::start(choice, major, &mut told).await?;
        self.output.say(&format!("server: {}", server.origin()));
        Ok((subject, server, unchecked))
    }

    /// Notes with the archive what the test says of it, and the run. A credential that may only read
    /// does not make a test fail.
    async fn record(
        &self,
        repository: &Repository,
        archive: &Archive,
        run: Run,
        tested: &Result<Report>,
    ) {
        // who may list an encrypted repository is not to learn what its archives hold
        let encrypted = archive.manifest.encrypted;
        let details = |report: &Report| match encrypted {
            true => serde_json::json!({
                "outcome": if report.is_passed() { "passed" } else { "failed" },
                "problems": report.problems.len(),
                "seconds": report.seconds,
                "rdump_version": report.rdump_version,
            }),
            false => json(report),
        };
        if let Ok(report) = tested
            && self.member.choice() == Choice::All
            && let Some(good) = report.verdict()
            && let Err(error) = repository
                .mark(archive, &Mark::Tested { good }, &details(report))
                .await
        {
            self.output.warn(&format!(
                "the result could not be noted with the archive: {error}"
            ));
        }
        let mut run = run.of_archive(archive.name()).ended(tested);
        run.label = Some(text_of(&archive.name().label()));
        if let Ok(report) = tested {
            if !report.is_passed() {
                run.outcome = "failed".to_owned();
                let problems: Vec<String> = report
                    .problems
                    .iter()
                    .take(20)
                    .map(ToString::to_string)
                    .collect();
                run.error = Some(match encrypted {
                    true => counted(report.problems.len() as u64, "problem", "problems"),
                    false => problems.join("; "),
                });
            }
            run.rows = report.restored.as_ref().map(|restored| restored.rows);
            run.raw_size = report.restored.as_ref().map(|restored| restored.bytes);
            run.tables = Some(report.compared.iter().map(|c| c.compared.tables).sum());
        }
        if let Err(error) = repository.record(&run).await {
            self.output
                .warn(&format!("the run could not be recorded: {error}"));
        }
    }

    fn tell(&self, report: &Report) {
        if self.output.json {
            print_json(&json(report));
        } else if self.output.quiet {
            report.problems.iter().for_each(print);
        } else {
            print(in_words(report).trim_end());
        }
    }
}

fn text_of(label: &Label) -> String {
    label.as_str().to_owned()
}

fn cancelled(number: u8) -> Error {
    Error::new("cancelled by a signal").outcome(Outcome::Signal(number))
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn times_for_people() {
        for (text, seconds) in [("30min", 1_800), ("1h30min", 5_400), ("90s", 90)] {
            assert_eq!(parse_duration(text).expect(text).as_secs(), seconds);
        }
        for text in ["", "30", "-5min", "0s", "soon"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
