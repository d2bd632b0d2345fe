//! COPY streams, without a cost for each row beyond looking at its frame.

use super::message::{self, Cursor, Diagnostic};
use super::session::Session;
use super::stream::HEADER;
use crate::error::{Error, Result};

/// Takes rows as COPY TO sends them. The backend sends exactly one CopyData message a row
/// (PostgreSQL manual, "COPY Operations").
pub trait RowConsumer {
    /// A row, whole.
    fn row(&mut self, row: &[u8]);
    /// A piece of a row that is too large to be held whole.
    fn piece(&mut self, piece: &[u8], last: bool);
    /// Whether to stop after this row or piece and come back later.
    fn full(&self) -> bool;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyProgress {
    /// The consumer is full; more is to come.
    Paused,
    /// The COPY has ended; so many rows by the server's own count.
    Done { rows: u64 },
}

/// Rows beyond this size are handed over in pieces.
const WHOLE_ROW: usize = 128 * 1024;

pub struct CopyOut<'a> {
    session: &'a mut Session,
    /// Bytes of the current row that have not been handed over yet.
    rest_of_row: usize,
}

impl<'a> CopyOut<'a> {
    pub(super) fn new(session: &'a mut Session) -> CopyOut<'a> {
        CopyOut {
            session,
            rest_of_row: 0,
        }
    }

    /// Hands rows to the consumer until it is full or the COPY ends.
    pub async fn read<C: RowConsumer>(&mut self, consumer: &mut C) -> Result<CopyProgress> {
        loop {
            if self.drain(consumer)? {
                return Ok(CopyProgress::Paused);
            }
            let frames = &mut self.session.frames;
            if let Some(header) = frames.header()?
                && self.rest_of_row == 0
                && header.tag != message::COPY_DATA
            {
                match header.tag {
                    message::COPY_DONE => {
                        frames.consume(HEADER + header.length);
                        return self.end().await;
                    }
                    message::ERROR => {
                        let header = frames.message().await?;
                        let error = Diagnostic::parse(frames.body(header))?.into_error();
                        frames.consume(HEADER + header.length);
                        return Err(self.session.after_error(error).await);
                    }
                    _ => {
                        let header = frames.message().await?;
                        self.session.aside(header)?;
                        self.session.frames.consume(HEADER + header.length);
                        continue;
                    }
                }
            }
            self.session.frames.fill().await?;
        }
    }

    /// Hands over what is buffered; true if the consumer is full.
    fn drain<C: RowConsumer>(&mut self, consumer: &mut C) -> Result<bool> {
        loop {
            let frames = &mut self.session.frames;
            if self.rest_of_row > 0 {
                let buffered = frames.buffered();
                if buffered.is_empty() {
                    return Ok(false);
                }
                let count = buffered.len().min(self.rest_of_row);
                self.rest_of_row -= count;
                consumer.piece(&buffered[..count], self.rest_of_row == 0);
                frames.consume(count);
            } else {
                let Some(header) = frames.header()? else {
                    return Ok(false);
                };
                if header.tag != message::COPY_DATA {
                    return Ok(false);
                }
                if header.length > WHOLE_ROW {
                    frames.consume(HEADER);
                    self.rest_of_row = header.length;
                    continue;
                }
                match frames.buffered().get(HEADER..HEADER + header.length) {
                    Some(row) => consumer.row(row),
                    None => return Ok(false),
                }
                frames.consume(HEADER + header.length);
            }
            if consumer.full() {
                return Ok(true);
            }
        }
    }

    /// After CopyDone: the command's tag, then ReadyForQuery.
    async fn end(&mut self) -> Result<CopyProgress> {
        let session = &mut *self.session;
        let mut rows = None;
        let mut failure = None;
        loop {
            let header = match session.frames.message().await {
                Ok(header) => header,
                Err(lost) => return Err(failure.unwrap_or(lost)),
            };
            match header.tag {
                message::COMMAND_COMPLETE => rows = copied(session.frames.body(header))?,
                message::ERROR => {
                    failure = Some(Diagnostic::parse(session.frames.body(header))?.into_error());
                }
                message::READY => {
                    session.finish(header)?;
                    if let Some(error) = failure {
                        return Err(error);
                    }
                    return rows
                        .map(|rows| CopyProgress::Done { rows })
                        .ok_or_else(no_count);
                }
                _ => session.aside(header)?,
            }
            session.frames.consume(HEADER + header.length);
        }
    }
}

/// Largest CopyData frame that is sent.
const SEND_FRAME: usize = 512 * 1024;

pub struct CopyIn<'a> {
    session: &'a mut Session,
}

impl<'a> CopyIn<'a> {
    pub(super) fn new(session: &'a mut Session) -> CopyIn<'a> {
        CopyIn { session }
    }

    /// Sends rows; frames need not end where rows do. An error that the server raised meanwhile
    /// ends the COPY and is returned.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.session.begin_waiting();
        for piece in bytes.chunks(SEND_FRAME) {
            let mut header = [message::COPY_DATA, 0, 0, 0, 0];
            header[1..].copy_from_slice(&(piece.len() as u32 + 4).to_be_bytes());
            self.send_frame(&header, piece).await?;
        }
        self.session.end_waiting();
        Ok(())
    }

    /// Ends the COPY; returns the rows that the server counted.
    pub async fn finish(mut self) -> Result<u64> {
        self.session.begin_waiting();
        self.send_frame(&[message::COPY_DONE, 0, 0, 0, 4], &[])
            .await?;
        self.session.frames.flush().await?;
        let mut rows = None;
        loop {
            let header = self.session.frames.message().await?;
            match header.tag {
                message::COMMAND_COMPLETE => rows = copied(self.session.frames.body(header))?,
                message::ERROR => return Err(self.failed().await?),
                message::READY => {
                    self.session.finish(header)?;
                    return rows.ok_or_else(no_count);
                }
                _ => self.session.aside(header)?,
            }
            self.session.frames.consume(HEADER + header.length);
        }
    }

    /// Gives the COPY up: the server rolls its rows back.
    pub async fn abort(mut self, reason: &str) -> Result<()> {
        let reason: Vec<u8> = reason.bytes().filter(|&byte| byte != 0).collect();
        let mut frame = vec![b'f'];
        frame.extend_from_slice(&(reason.len() as u32 + 5).to_be_bytes());
        frame.extend_from_slice(&reason);
        frame.push(0);
        self.send_frame(&frame, &[]).await?;
        self.session.frames.flush().await?;
        self.session.wait_ready().await
    }

    async fn send_frame(&mut self, header: &[u8], body: &[u8]) -> Result<()> {
        for (part, rest) in [(header, body), (body, &[][..])] {
            let mut sent = 0;
            while sent < part.len() {
                sent += self.session.frames.send_watching(&part[sent..]).await?;
                while let Some(header) = self.session.frames.header()? {
                    if header.tag == message::ERROR {
                        // the server skips the rest of the COPY, but only in whole frames
                        self.session.frames.send(&part[sent..]).await?;
                        self.session.frames.send(rest).await?;
                        self.session.frames.flush().await?;
                        return Err(self.failed().await?);
                    }
                    let header = self.session.frames.message().await?;
                    self.session.aside(header)?;
                    self.session.frames.consume(HEADER + header.length);
                }
            }
        }
        Ok(())
    }

    /// Takes the ErrorResponse at the front and reads on to ReadyForQuery.
    async fn failed(&mut self) -> Result<Error> {
        let header = self.session.frames.message().await?;
        let error = Diagnostic::parse(self.session.frames.body(header))?.into_error();
        self.session.frames.consume(HEADER + header.length);
        Ok(self.session.after_error(error).await)
    }
}

fn copied(body: &[u8]) -> Result<Option<u64>> {
    let tag = Cursor(body).cstring()?.to_string();
    Ok(tag
        .strip_prefix("COPY ")
        .and_then(|count| count.parse().ok()))
}

fn no_count() -> Error {
    Error::new("the server ended the COPY without saying how many rows it held")
}
