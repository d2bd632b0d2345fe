//! What came of runs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use bytes::Bytes;

use super::Repository;
use super::name::{ArchiveName, RUNS, RunId, compact};
use crate::error::{Error, Result};
use crate::storage::{Created, Key, list_all};

const MAX_RUN: u64 = 1 << 20;

/// A run of any command that works on a repository, failed ones too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub version: u32,
    pub run: RunId,
    /// `snapshot`, `prune`, `verify`, `test`.
    pub command: String,
    pub label: Option<String>,
    /// By the client's clock.
    pub started: Timestamp,
    pub finished: Timestamp,
    /// `done`, `failed` or `partial`.
    pub outcome: String,
    /// The archive that was made or looked at.
    pub archive: Option<String>,
    /// Bytes stored, bytes of rows, and numbers.
    pub size: Option<u64>,
    pub raw_size: Option<u64>,
    pub rows: Option<u64>,
    pub tables: Option<u64>,
    pub removed: Vec<String>,
    pub error: Option<String>,
    pub rdump_version: String,
}

impl Run {
    pub fn begun(command: &str, run: RunId) -> Run {
        let now = Timestamp::now();
        Run {
            version: super::manifest::VERSION,
            run,
            command: command.to_owned(),
            label: None,
            started: now,
            finished: now,
            outcome: "failed".to_owned(),
            archive: None,
            size: None,
            raw_size: None,
            rows: None,
            tables: None,
            removed: Vec::new(),
            error: None,
            rdump_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub fn of_archive(mut self, name: &ArchiveName) -> Run {
        self.archive = Some(name.to_string());
        self
    }

    /// Ended now, with this.
    pub fn ended<T>(mut self, outcome: &Result<T>) -> Run {
        self.finished = Timestamp::now();
        match outcome {
            Ok(_) => self.outcome = "done".to_owned(),
            Err(error) => {
                let is_partial = error.exit_code() == 3;
                self.outcome = if is_partial { "partial" } else { "failed" }.to_owned();
                self.error = Some(error.to_string());
            }
        }
        self
    }
}

impl Repository {
    pub async fn record(&self, run: &Run) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(run)
            .map_err(|error| Error::new(format!("could not write a run: {error}")))?;
        let key = Key::new(format!("{RUNS}{}-{}.json", compact(run.started), run.run))?;
        match self.storage().create(&key, Bytes::from(bytes)).await? {
            Created::New => Ok(()),
            Created::Exists => Err(Error::new(format!("run {} is recorded already", run.run))),
        }
    }

    /// The newest runs, newest first; what a later rdump wrote otherwise is skipped.
    pub async fn runs(&self, most: usize) -> Result<Vec<Run>> {
        let storage = self.storage();
        let objects = list_all(&**storage, RUNS).await?;
        let mut runs = Vec::new();
        for object in objects.iter().rev().take(most) {
            if let Some(bytes) = storage.get(&object.key, MAX_RUN).await?
                && let Ok(run) = serde_json::from_slice(&bytes)
            {
                runs.push(run);
            }
        }
        Ok(runs)
    }
}
