//! What follows a run, however it ended: a webhook, a file of metrics, a row in a table of runs.
//!
//! None of it changes what the run has come to; what fails of it is a warning.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tokio::sync::watch;

use super::interrupt::signalled;
use super::output::{OutputArguments, print_json, tell};
use super::secret::{self, Concealed};
use crate::error::{Error, Outcome, Result};
use crate::postgres::Connector;
use crate::postgres::conninfo::{ConnectionFlags, Environment, PasswordPrompt, resolve};
use crate::report::{Account, Ended, HistoryTable, Kept, MetricsFile, Place, Webhook};
use crate::repository::{Described, Label, Repository, RunId};

/// How long each of it may take: longer than three tries of a webhook.
const LIMIT: Duration = Duration::from_secs(60);
/// As above, after a signal: whoever sent it may soon send SIGKILL.
const LIMIT_AFTER_SIGNAL: Duration = Duration::from_secs(5);
/// Runs of a repository that are searched for the last success.
const RECENT_RUNS: usize = 100;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Telling others")]
pub struct AftermathArguments {
    /// Post what came of the run to this URL. It may hold a secret: better give it by the environment, or in a
    /// file that RDUMP_WEBHOOK_URL_FILE names
    #[arg(
        long,
        value_name = "URL",
        env = "RDUMP_WEBHOOK_URL",
        hide_env_values = true
    )]
    webhook_url: Option<Concealed>,
    /// After which runs; one that was done in part has failed
    #[arg(
        long,
        value_name = "WHEN",
        env = "RDUMP_WEBHOOK_ON",
        default_value = "failure"
    )]
    webhook_on: WebhookOn,
    /// Write metrics of the run to this file, for the textfile collector of node_exporter
    #[arg(long, value_name = "FILE", env = "RDUMP_METRICS_FILE")]
    metrics_file: Option<PathBuf>,
    /// Add the run to the table backup_history of this database. Passwords: as for --webhook-url, with
    /// RDUMP_HISTORY_DB_FILE
    #[arg(
        long,
        value_name = "CONNINFO",
        env = "RDUMP_HISTORY_DB",
        hide_env_values = true
    )]
    history_db: Option<Concealed>,
    /// Schema of that table
    #[arg(
        long,
        value_name = "SCHEMA",
        env = "RDUMP_HISTORY_SCHEMA",
        default_value = "public"
    )]
    history_schema: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WebhookOn {
    Failure,
    Success,
    Always,
}

impl AftermathArguments {
    /// Finds out before the run what is not understood.
    pub fn prepare(&self) -> Result<Aftermath> {
        let url = secret::given(self.webhook_url.as_ref(), "RDUMP_WEBHOOK_URL")?;
        let webhook = url.map(|url| Webhook::new(&url)).transpose()?;
        let conninfo = secret::given(self.history_db.as_ref(), "RDUMP_HISTORY_DB")?;
        let history = conninfo
            .map(|conninfo| self.history(conninfo))
            .transpose()?;
        Ok(Aftermath {
            webhook,
            webhook_on: self.webhook_on,
            metrics: self.metrics_file.clone().map(MetricsFile::new),
            history,
        })
    }

    fn history(&self, conninfo: String) -> Result<HistoryTable> {
        let flags = ConnectionFlags {
            dbname: Some(conninfo),
            // nobody is there to be asked, and the run has ended
            password_prompt: PasswordPrompt::Never,
            ..ConnectionFlags::default()
        };
        let target = resolve(&flags, &Environment::of_process())
            .map_err(|error| error.context("--history-db"))?;
        for warning in target.warnings() {
            tell(format_args!("warning: {warning}"));
        }
        Ok(HistoryTable::new(
            Connector::new(target),
            &*self.history_schema,
        ))
    }
}

/// Who is told of a run.
#[derive(Debug)]
pub struct Aftermath {
    webhook: Option<Webhook>,
    webhook_on: WebhookOn,
    metrics: Option<MetricsFile>,
    history: Option<HistoryTable>,
}

/// What a run has come to so far, and what is printed at its very end.
pub struct Course {
    pub account: Account,
    pub run: RunId,
    label: Option<Label>,
    /// The account's repositories, where they could be opened.
    opened: Vec<Option<Repository>>,
    summary: Option<serde_json::Value>,
    lines: Vec<String>,
}

impl Course {
    pub fn begun(command: &'static str) -> Course {
        let run = RunId::random();
        Course {
            account: Account::begun(command, run.to_string()),
            run,
            label: None,
            opened: Vec::new(),
            summary: None,
            lines: Vec::new(),
        }
    }

    pub fn set_label(&mut self, label: &Label) {
        self.account.label = Some(label.to_string());
        self.label = Some(label.clone());
    }

    pub fn label(&self) -> Result<&Label> {
        let label = self.label.as_ref();
        label.ok_or_else(|| Error::new("the run has no label"))
    }

    /// A repository that the run is to write to; which one of the account's it is.
    pub fn add_repository(&mut self, name: &str) -> usize {
        self.account.repositories.push(Place::new(name));
        self.opened.push(None);
        self.opened.len() - 1
    }

    pub fn opened(&mut self, position: usize, repository: &Repository) {
        if let Some(place) = self.opened.get_mut(position) {
            *place = Some(repository.clone());
        }
    }

    pub fn failed_at(&mut self, position: usize, error: &Error) {
        if let Some(place) = self.account.repositories.get_mut(position) {
            place.failed(error);
        }
    }

    pub fn stored_at(&mut self, position: usize, archive: impl ToString) {
        if let Some(place) = self.account.repositories.get_mut(position) {
            place.archive = Some(archive.to_string());
        }
    }

    pub fn describe(&mut self, described: &Described) {
        let account = &mut self.account;
        account.archive_bytes = Some(described.size);
        account.raw_bytes = Some(described.raw_size);
        account.rows = Some(described.rows);
        account.tables = Some(described.tables);
    }

    /// The last line, for programs.
    pub fn summarise(&mut self, summary: serde_json::Value) {
        self.summary = Some(summary);
    }

    /// One of the last lines, for people.
    pub fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    fn print(self, notified: serde_json::Value, output: &OutputArguments) {
        for line in &self.lines {
            output.say(line);
        }
        if let Some(mut summary) = self.summary {
            if let Some(members) = summary.as_object_mut() {
                members.insert("notified".to_owned(), notified);
            }
            print_json(&summary);
        }
    }
}

impl Aftermath {
    /// Every end of a run passes here. Gives back what it ended with.
    pub async fn follow(
        &self,
        mut course: Course,
        outcome: Result<()>,
        output: &OutputArguments,
    ) -> Result<()> {
        let is_usage = |error: &Error| error.exit_code() == Outcome::Usage.exit_code();
        // nothing was begun, and whoever made the mistake is at the keyboard
        if outcome.as_ref().is_err_and(is_usage) {
            return outcome;
        }
        course.account.end(&outcome);
        let notified = self.tell(&course, output).await;
        course.print(notified, output);
        outcome
    }

    /// Tells all at once; what came of each.
    async fn tell(&self, course: &Course, output: &OutputArguments) -> serde_json::Value {
        let account = &course.account;
        let by_signal = account.exit_code > Outcome::Signal(0).exit_code();
        let limit = match by_signal {
            true => LIMIT_AFTER_SIGNAL,
            false => LIMIT,
        };
        let (given_up, heard) = watch::channel(false);
        // a second signal is one too many
        let watching = signalled().map(|signal| {
            tokio::spawn(async move {
                signal.await;
                given_up.send_replace(true);
                std::future::pending::<()>().await;
            })
        });
        let webhook = async {
            let webhook = self
                .webhook
                .as_ref()
                .filter(|_| self.wants(account.outcome))?;
            let doing = format!("the webhook at {} was not told", webhook.host());
            let sent = bounded(limit, &heard, &doing, webhook.send(account)).await;
            Some(note(sent, "sent", output))
        };
        let metrics = async {
            let file = self.metrics.as_ref()?;
            let doing = format!("metrics file \"{}\"", file.path().display());
            let writing = write_metrics(file, course);
            let written = bounded(limit, &heard, &doing, writing).await;
            Some(note(written, "written", output))
        };
        let history = async {
            let table = self.history.as_ref()?;
            let recording = table.record(account);
            let recorded = bounded(limit, &heard, "the history database", recording).await;
            Some(note(recorded, "recorded", output))
        };
        let (webhook, metrics, history) = tokio::join!(webhook, metrics, history);
        match watching {
            Ok(watching) => watching.abort(),
            Err(error) => output.warn(&error.to_string()),
        }
        serde_json::json!({"webhook": webhook, "metrics": metrics, "history": history})
    }

    fn wants(&self, outcome: Ended) -> bool {
        match self.webhook_on {
            WebhookOn::Always => true,
            WebhookOn::Success => outcome == Ended::Done,
            WebhookOn::Failure => outcome != Ended::Done,
        }
    }
}

fn note(outcome: Result<()>, done: &'static str, output: &OutputArguments) -> &'static str {
    let Err(error) = outcome else { return done };
    match error.hint_text() {
        Some(hint) => output.warn(&format!("{error}; {hint}")),
        None => output.warn(&error.to_string()),
    }
    "failed"
}

async fn bounded<T>(
    limit: Duration,
    given_up: &watch::Receiver<bool>,
    doing: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut given_up = given_up.clone();
    let ending = async move {
        // where nobody can hear a signal, none comes
        if given_up.wait_for(|is_over| *is_over).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        outcome = tokio::time::timeout(limit, work) => outcome.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            Err(Error::new(format!("{doing}: given up after {seconds} s")))
        }),
        () = ending => Err(Error::new(format!("{doing}: given up at a signal"))),
    }
}

async fn write_metrics(file: &MetricsFile, course: &Course) -> Result<()> {
    let mut kept = Vec::new();
    for repository in &course.opened {
        kept.push(match (repository, &course.label) {
            (Some(repository), Some(label)) => kept_of(repository, label).await,
            _ => None,
        });
    }
    let known = file.last_success(course.account.label.as_deref());
    let last_success = match (course.account.outcome, known) {
        (Ended::Done, _) => None,
        (_, Some(known)) => Some(known),
        (_, None) => last_success(course).await,
    };
    let (file, account) = (file.clone(), course.account.clone());
    let writing = move || file.write(&account, &kept, last_success);
    match tokio::task::spawn_blocking(writing).await {
        Ok(written) => written,
        Err(error) => Err(Error::new(format!("writing metrics: {error}"))),
    }
}

/// None where it cannot be listed now: the run itself says why.
async fn kept_of(repository: &Repository, label: &Label) -> Option<Kept> {
    let catalogue = repository.catalogue(Some(label)).await.ok()?;
    let good = catalogue
        .archives
        .iter()
        .filter(|archive| !archive.is_bad());
    Some(Kept {
        archives: catalogue.archives.len() as u64,
        newest: good.map(|archive| archive.manifest.snapshot).max(),
    })
}

/// When this label last had an archive in every repository, as their histories say; None if one of them
/// does not.
async fn last_success(course: &Course) -> Option<Timestamp> {
    let mut earliest = None;
    for repository in &course.opened {
        let runs = repository.as_ref()?.runs(RECENT_RUNS).await.ok()?;
        let newest = runs
            .iter()
            .filter(|run| run.command == course.account.command && run.outcome == "done")
            .filter(|run| run.label == course.account.label)
            .map(|run| run.finished)
            .max()?;
        earliest = Some(earliest.map_or(newest, |earliest: Timestamp| earliest.min(newest)));
    }
    earliest
}
