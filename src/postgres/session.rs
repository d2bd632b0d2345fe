//! One connection after authentication, over the simple query protocol.
//!
//! Queries and results travel as bytes in the database's own encoding, so that a SQL_ASCII
//! database is as good as any other; and every statement is one round trip that also works through
//! a pooler in transaction mode.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bstr::BString;

use super::connect::{CancelHandle, Established};
use super::copy::{CopyIn, CopyOut};
use super::message::{self, Cursor, Diagnostic, Notice};
use super::rows::{Column, Row, Rows};
use super::stream::{FrameHeader, FrameStream, HEADER};
use crate::error::{Error, Result};

/// `server_version_num`: 150018 is 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// Whether the server is of this major version or a later one.
    pub fn at_least(self, major: u32) -> bool {
        self.major() >= major
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.0 % 10_000)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    Idle,
    Open,
    Failed,
}

pub struct Session {
    pub(super) frames: FrameStream,
    parameters: BTreeMap<String, String>,
    pub(super) state: TransactionState,
    notices: Vec<Notice>,
    backend_pid: i32,
    cancel: CancelHandle,
    database: String,
    /// What was sent is not answered to its end, by ReadyForQuery: nothing else may be sent. It stays
    /// so where an answer could not be understood.
    pub(super) is_busy: bool,
    unanswered: Arc<Unanswered>,
}

/// Since when a session waits for the server, and for which of its processes.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    since: Mutex<Option<Instant>>,
    process: AtomicI32,
}

impl Unanswered {
    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    pub fn since(&self) -> Option<Instant> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn process(&self) -> i32 {
        self.process.load(Ordering::Relaxed)
    }
}

/// Notices beyond this many are dropped: a hostile server may not fill our memory.
const MAX_NOTICES: usize = 1000;

impl Session {
    /// Takes over a connection that has just been authenticated and is idle.
    pub fn new(established: Established) -> Session {
        let unanswered = Unanswered::default();
        unanswered
            .process
            .store(established.backend_pid, Ordering::Relaxed);
        Session {
            frames: FrameStream::new(established.transport),
            parameters: established.parameters,
            state: TransactionState::Idle,
            notices: established.notices,
            backend_pid: established.backend_pid,
            cancel: established.cancel,
            database: established.database,
            is_busy: false,
            unanswered: Arc::new(unanswered),
        }
    }

    /// Runs SQL, and keeps which process of the server ran it: a pooler announces another one. Takes
    /// the transaction's snapshot.
    pub async fn execute_by_known_process(&mut self, mut sql: BString) -> Result<()> {
        sql.extend_from_slice(b"SELECT pg_catalog.pg_backend_pid() AS pid");
        let process = self.query(sql).await?.only()?.number("pid")?;
        self.unanswered.process.store(process, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn unanswered(&self) -> &Arc<Unanswered> {
        &self.unanswered
    }

    /// The server has been sent something, and will take it or answer unless it waits for a lock.
    pub(super) fn begin_waiting(&self) {
        self.unanswered.set(Some(Instant::now()));
    }

    pub(super) fn end_waiting(&self) {
        self.unanswered.set(None);
    }

    /// For cancelling what this session runs, from elsewhere.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// The database that the session is connected to.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A parameter as the server last reported it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Whether the connection is gone, or in a state from which it cannot go on.
    pub fn is_lost(&self) -> bool {
        self.frames.is_lost() || self.is_busy
    }

    pub fn state(&self) -> TransactionState {
        self.state
    }

    /// Parsed from the `server_version` that every server reports at startup: "15.18 (Debian ...)",
    /// "19beta1".
    pub fn version(&self) -> Result<ServerVersion> {
        let text = self.parameter("server_version").unwrap_or_default();
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|digits| digits.parse::<u32>().unwrap_or(0));
        let major = numbers.next().unwrap_or(0);
        let minor = match text.as_bytes().iter().find(|b| !b.is_ascii_digit()) {
            Some(b'.') => numbers.next().unwrap_or(0),
            _ => 0,
        };
        if major == 0 {
            return Err(Error::new(format!(
                "the server reports no version (\"{text}\")"
            )));
        }
        Ok(ServerVersion(
            major
                .saturating_mul(10_000)
                .saturating_add(minor.min(9_999)),
        ))
    }

    /// Notices since the session began, or since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// As `take_notices`, the warnings only.
    pub fn take_warnings(&mut self) -> impl Iterator<Item = String> {
        self.take_notices()
            .into_iter()
            .filter(Notice::is_warning)
            .map(|notice| notice.message)
    }

    /// Runs SQL; returns the result of its last statement.
    pub async fn query(&mut self, sql: impl AsRef<[u8]>) -> Result<Rows> {
        let mut results = self.query_all(sql).await?;
        Ok(results.pop().unwrap_or_default())
    }

    /// Runs SQL of several statements; returns one result each.
    pub async fn query_all(&mut self, sql: impl AsRef<[u8]>) -> Result<Vec<Rows>> {
        self.send_query(sql.as_ref()).await?;
        let mut results = Vec::new();
        let mut current = Rows::default();
        let mut failure: Option<Error> = None;
        loop {
            let header = match self.frames.message().await {
                Ok(header) => header,
                // a server that ends the session says why, then hangs up
                Err(lost) => return Err(failure.unwrap_or(lost)),
            };
            let body = self.frames.body(header);
            match header.tag {
                message::ROW_DESCRIPTION => current.columns = Arc::new(Column::parse_all(body)?),
                message::DATA_ROW => {
                    let row = Row::parse(&current.columns, body)?;
                    current.rows.push(row);
                }
                message::COMMAND_COMPLETE => results.push(std::mem::take(&mut current)),
                message::EMPTY_QUERY => results.push(std::mem::take(&mut current)),
                message::COPY_IN | message::COPY_OUT => {
                    return Err(Error::new("COPY was used where a query was expected"));
                }
                message::ERROR => {
                    let error = Diagnostic::parse(body)?.into_error();
                    failure.get_or_insert(error);
                }
                message::READY => {
                    self.finish(header)?;
                    self.frames.shrink();
                    return match failure {
                        None => Ok(results),
                        Some(error) => Err(error),
                    };
                }
                _ => self.aside(header)?,
            }
            self.frames.consume(HEADER + header.length);
        }
    }

    /// Runs SQL whose result does not matter.
    pub async fn execute(&mut self, sql: impl AsRef<[u8]>) -> Result<()> {
        self.query_all(sql).await.map(drop)
    }

    /// Starts `COPY ... TO STDOUT`.
    pub async fn copy_out(&mut self, sql: impl AsRef<[u8]>) -> Result<CopyOut<'_>> {
        self.start_copy(sql.as_ref(), message::COPY_OUT).await?;
        Ok(CopyOut::new(self))
    }

    /// Starts `COPY ... FROM STDIN`.
    pub async fn copy_in(&mut self, sql: impl AsRef<[u8]>) -> Result<CopyIn<'_>> {
        self.start_copy(sql.as_ref(), message::COPY_IN).await?;
        Ok(CopyIn::new(self))
    }

    /// Says goodbye. A session that is merely dropped makes the server log a lost connection.
    pub async fn close(mut self) {
        // the server may be gone already; nothing is lost by that
        if self.frames.send(&[b'X', 0, 0, 0, 4]).await.is_ok() {
            let _ = self.frames.flush().await;
        }
    }

    async fn start_copy(&mut self, sql: &[u8], expected: u8) -> Result<()> {
        self.send_query(sql).await?;
        loop {
            let header = self.frames.message().await?;
            match header.tag {
                tag if tag == expected => {
                    // rows are on their way
                    self.end_waiting();
                    self.frames.consume(HEADER + header.length);
                    return Ok(());
                }
                message::ERROR => {
                    let error = Diagnostic::parse(self.frames.body(header))?.into_error();
                    self.frames.consume(HEADER + header.length);
                    return Err(self.after_error(error).await);
                }
                message::READY => {
                    self.finish(header)?;
                    return Err(Error::new("the server did not start the COPY"));
                }
                _ => self.aside(header)?,
            }
            self.frames.consume(HEADER + header.length);
        }
    }

    async fn send_query(&mut self, sql: &[u8]) -> Result<()> {
        if self.is_busy {
            return Err(Error::new(
                "the connection is still in a command that broke off",
            ));
        }
        if sql.contains(&0) {
            return Err(Error::new("a statement holds a zero byte"));
        }
        let length = u32::try_from(sql.len() + 5)
            .map_err(|_| Error::new("a statement is larger than the protocol allows"))?;
        let mut frame = Vec::with_capacity(sql.len() + 6);
        frame.push(b'Q');
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(sql);
        frame.push(0);
        self.is_busy = true;
        self.begin_waiting();
        self.frames.send(&frame).await?;
        self.frames.flush().await
    }

    /// Reads on to ReadyForQuery after an error of the server. A server that ends the session says
    /// why, then hangs up: its reason is the error, not the lost connection.
    pub(super) async fn after_error(&mut self, error: Error) -> Error {
        // if that fails the session stays busy, and nothing can follow
        let _ = self.wait_ready().await;
        error
    }

    /// Reads on to ReadyForQuery; whatever the server still says of the failed command is dropped.
    pub(super) async fn wait_ready(&mut self) -> Result<()> {
        loop {
            let header = self.frames.message().await?;
            if header.tag == message::READY {
                return self.finish(header);
            }
            if matches!(header.tag, message::NOTICE | message::PARAMETER_STATUS) {
                self.aside(header)?;
            }
            self.frames.consume(HEADER + header.length);
        }
    }

    /// Takes ReadyForQuery.
    pub(super) fn finish(&mut self, header: FrameHeader) -> Result<()> {
        self.state = match self.frames.body(header) {
            b"I" => TransactionState::Idle,
            b"T" => TransactionState::Open,
            b"E" => TransactionState::Failed,
            _ => {
                return Err(Error::new(
                    "the server reports an unknown transaction state",
                ));
            }
        };
        self.is_busy = false;
        self.end_waiting();
        self.frames.consume(HEADER + header.length);
        Ok(())
    }

    /// Messages that may come at any time. The caller consumes the frame.
    pub(super) fn aside(&mut self, header: FrameHeader) -> Result<()> {
        let body = self.frames.body(header);
        match header.tag {
            message::NOTICE => {
                let notice = Diagnostic::parse(body)?;
                if self.notices.len() < MAX_NOTICES {
                    self.notices.push(Notice {
                        severity: notice.severity,
                        message: notice.message,
                    });
                }
                Ok(())
            }
            message::PARAMETER_STATUS => {
                let mut cursor = Cursor(body);
                let name = cursor.cstring()?.to_string();
                let value = cursor.cstring()?.to_string();
                self.parameters.insert(name, value);
                Ok(())
            }
            message::NOTIFICATION => Ok(()),
            tag => Err(Error::new(format!(
                "the server sent an unexpected message ('{}')",
                (tag as char).escape_default()
            ))),
        }
    }
}
