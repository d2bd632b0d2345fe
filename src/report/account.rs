//! What came of a run, for those who watch from outside: a webhook, metrics, a table of runs.

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Error, Outcome, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    Done,
    /// Some of what was asked for was done.
    Partial,
    Failed,
}

impl Ended {
    pub fn as_str(self) -> &'static str {
        match self {
            Ended::Done => "done",
            Ended::Partial => "partial",
            Ended::Failed => "failed",
        }
    }
}

/// A run, as it may be told to anybody: it holds no secret, and no row.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    pub run: String,
    pub command: &'static str,
    pub label: Option<String>,
    /// By the client's clock.
    pub started: Timestamp,
    pub finished: Timestamp,
    pub outcome: Ended,
    pub exit_code: u8,
    pub error: Option<String>,
    pub hint: Option<String>,
    /// Of the archive that was made, wherever it then arrived.
    pub archive_bytes: Option<u64>,
    /// Bytes of rows before compression.
    pub raw_bytes: Option<u64>,
    pub rows: Option<u64>,
    pub tables: Option<u64>,
    pub repositories: Vec<Place>,
    pub host: String,
    pub rdump_version: &'static str,
}

/// A repository that the run was to write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub repository: String,
    /// The archive that the run stored there.
    pub archive: Option<String>,
    pub error: Option<String>,
}

impl Place {
    pub fn new(repository: impl Into<String>) -> Place {
        Place {
            repository: repository.into(),
            archive: None,
            error: None,
        }
    }

    /// Notes what failed; the first failure explains those that follow.
    pub fn failed(&mut self, error: &Error) {
        self.error.get_or_insert_with(|| error.to_string());
    }
}

impl Account {
    /// Begins now. Failed until the contrary is known.
    pub fn begun(command: &'static str, run: impl Into<String>) -> Account {
        let now = Timestamp::now();
        Account {
            run: run.into(),
            command,
            label: None,
            started: now,
            finished: now,
            outcome: Ended::Failed,
            exit_code: Outcome::Failed.exit_code(),
            error: None,
            hint: None,
            archive_bytes: None,
            raw_bytes: None,
            rows: None,
            tables: None,
            repositories: Vec::new(),
            host: host(),
            rdump_version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Ended now, with this.
    pub fn end<T>(&mut self, outcome: &Result<T>) {
        self.finished = Timestamp::now();
        let Err(error) = outcome else {
            (self.outcome, self.exit_code) = (Ended::Done, 0);
            return;
        };
        self.exit_code = error.exit_code();
        self.outcome = match self.exit_code == Outcome::Partial.exit_code() {
            true => Ended::Partial,
            false => Ended::Failed,
        };
        self.error = Some(error.to_string());
        self.hint = error.hint_text().map(str::to_owned);
    }

    /// Not less than nothing, though clocks are set back.
    pub fn seconds(&self) -> f64 {
        self.finished
            .duration_since(self.started)
            .as_secs_f64()
            .max(0.0)
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let of = self
            .label
            .as_ref()
            .map_or(String::new(), |label| format!(" of {label}"));
        let what = match self.outcome {
            Ended::Done => "done",
            Ended::Partial => "done in part",
            Ended::Failed => "failed",
        };
        let mut line = format!("rdump {}{of} on {} {what}", self.command, self.host);
        if let Some(error) = &self.error {
            line.push_str(": ");
            line.push_str(error);
        }
        line
    }
}

/// The name of this machine; in a container, that of the container.
fn host() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "an unnamed host".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_ends_as_its_run_did() {
        let mut account = Account::begun("snapshot", "r1");
        account.label = Some("shop".to_owned());
        account.host = "db1".to_owned();
        account.end(&Ok(()));
        assert_eq!((account.outcome, account.exit_code), (Ended::Done, 0));
        assert_eq!(account.line(), "rdump snapshot of shop on db1 done");
        assert!(account.seconds() >= 0.0);
        let partial = Error::new("one is full").outcome(Outcome::Partial);
        account.end(&Err::<(), _>(partial));
        assert_eq!((account.outcome, account.exit_code), (Ended::Partial, 3));
        let signal = Error::new("cancelled").outcome(Outcome::Signal(15));
        account.end(&Err::<(), _>(signal.hint("try again")));
        assert_eq!((account.outcome, account.exit_code), (Ended::Failed, 143));
        assert_eq!(account.hint.as_deref(), Some("try again"));
        assert_eq!(
            account.line(),
            "rdump snapshot of shop on db1 failed: cancelled"
        );
    }

    #[test]
    fn the_first_failure_of_a_place_is_told() {
        let mut place = Place::new("/srv/backups");
        place.failed(&Error::new("full").context("storing"));
        place.failed(&Error::new("nothing was uploaded"));
        assert_eq!(place.error.as_deref(), Some("storing: full"));
    }
}
