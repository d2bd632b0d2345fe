//! How far a run is: numbers that workers add to and a display reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::postgres::blockers::Blocker;

pub struct Progress {
    started: Instant,
    log: Option<Log>,
    warn: Option<Log>,
    rows: AtomicU64,
    bytes: AtomicU64,
    tables: AtomicU64,
    written: AtomicU64,
    tables_total: AtomicU64,
    bytes_expected: AtomicU64,
    members: Mutex<Vec<String>>,
}

/// Where lines go.
type Log = Box<dyn Fn(&str) + Send + Sync>;

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub rows: u64,
    /// Bytes of rows, as COPY text.
    pub bytes: u64,
    pub tables: u64,
    pub tables_total: u64,
    /// Bytes on disk in the source, by which the time left is estimated.
    pub bytes_expected: u64,
    /// Bytes of the archive.
    pub written: u64,
    pub milliseconds: u64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            started: Instant::now(),
            log: None,
            warn: None,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            tables: AtomicU64::new(0),
            written: AtomicU64::new(0),
            tables_total: AtomicU64::new(0),
            bytes_expected: AtomicU64::new(0),
            members: Mutex::default(),
        }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.counts().fmt(formatter)
    }
}

impl Progress {
    /// Hands a line about each step to `log`, from any thread.
    pub fn with_log(log: impl Fn(&str) + Send + Sync + 'static) -> Progress {
        Progress {
            log: Some(Box::new(log)),
            ..Progress::default()
        }
    }

    /// Hands what a user should know while the run goes on to `warn`, from any thread.
    pub fn on_warning(self, warn: impl Fn(&str) + Send + Sync + 'static) -> Progress {
        Progress {
            warn: Some(Box::new(warn)),
            ..self
        }
    }

    pub fn warn(&self, line: &str) {
        if let Some(warn) = &self.warn {
            warn(line);
        }
    }

    /// What somebody who holds a lock runs.
    pub fn log_query(&self, blocker: &Blocker) {
        let Some(process) = blocker.process.filter(|_| !blocker.query.is_empty()) else {
            return;
        };
        self.log(|| format!("process {process} runs, or ran last: {}", blocker.query));
    }

    /// One step; the line is made only where somebody wants it.
    pub fn log(&self, line: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            log(&line());
        }
    }

    /// Of a set: what is restored from now on.
    pub fn begin_member(&self, name: &str) {
        self.members().push(name.to_owned());
    }

    /// Those begun, in order.
    pub fn members(&self) -> MutexGuard<'_, Vec<String>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn expect(&self, tables: u64, bytes: u64) {
        self.tables_total.store(tables, Ordering::Relaxed);
        self.bytes_expected.store(bytes, Ordering::Relaxed);
    }

    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn table_done(&self) {
        self.tables.fetch_add(1, Ordering::Relaxed);
    }

    pub fn written(&self, bytes: u64) {
        self.written.store(bytes, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        Counts {
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            tables: self.tables.load(Ordering::Relaxed),
            tables_total: self.tables_total.load(Ordering::Relaxed),
            bytes_expected: self.bytes_expected.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            milliseconds: self.started.elapsed().as_millis() as u64,
        }
    }
}
