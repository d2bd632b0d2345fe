//! Buffered frames over one connection.
//!
//! Every backend message is a tag byte, a big-endian length that counts itself, and a body. The
//! reader hands out bodies in place; only a message larger than the buffer makes it grow, and
//! CopyData never does (`copy.rs` takes it in pieces).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::connect::Transport;
use crate::error::{Error, Result};

/// Room for several socket reads; COPY rows are parsed in place from it.
const READ_BUFFER: usize = 256 * 1024;

/// Largest message other than CopyData that is believed: PostgreSQL's own limit on an allocation.
const MAX_MESSAGE: usize = 1 << 30;

pub(super) struct FrameStream {
    transport: Box<dyn Transport>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    lost: bool,
}

/// A message's tag and the length of its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    pub tag: u8,
    pub length: usize,
}

pub(super) const HEADER: usize = 5;

impl FrameStream {
    pub fn new(transport: Box<dyn Transport>) -> FrameStream {
        FrameStream {
            transport,
            buffer: vec![0; READ_BUFFER],
            start: 0,
            end: 0,
            lost: false,
        }
    }

    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Remembers a failed exchange: nothing more can be said on this connection.
    fn noted<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.lost |= outcome.is_err();
        outcome
    }

    /// What has been read and not consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// The header at the front of the buffer, if it is all there.
    pub fn header(&self) -> Result<Option<FrameHeader>> {
        parse_header(self.buffered())
    }

    /// Makes room for `wanted` more bytes behind what is buffered.
    fn make_room(&mut self, wanted: usize) {
        if self.buffer.len() - self.end >= wanted {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() - self.end < wanted {
            self.buffer.resize(self.end + wanted, 0);
        }
    }

    /// Reads more from the server.
    pub async fn fill(&mut self) -> Result<()> {
        let least = READ_BUFFER / 4;
        self.make_room(least);
        let outcome = match self.transport.read(&mut self.buffer[self.end..]).await {
            Ok(0) => Err(lost("the server closed the connection")),
            Ok(count) => Ok(count),
            Err(error) => Err(lost(&error.to_string())),
        };
        self.end += self.noted(outcome)?;
        Ok(())
    }

    /// Waits until one whole message is buffered; returns its header.
    pub async fn message(&mut self) -> Result<FrameHeader> {
        loop {
            if let Some(header) = self.header()? {
                if header.length > MAX_MESSAGE {
                    return Err(Error::new(format!(
                        "the server sent a message of {} bytes, which is more than PostgreSQL can",
                        header.length
                    )));
                }
                let whole = HEADER + header.length;
                if self.buffered().len() >= whole {
                    return Ok(header);
                }
                self.make_room(whole - self.buffered().len());
            }
            self.fill().await?;
        }
    }

    /// The body of the message at the front, which `message` has found to be whole.
    pub fn body(&self, header: FrameHeader) -> &[u8] {
        &self.buffered()[HEADER..HEADER + header.length]
    }

    /// Gives memory back after an unusually large message.
    pub fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > 4 * READ_BUFFER {
            self.buffer = vec![0; READ_BUFFER];
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let outcome = self.transport.write_all(bytes).await;
        self.noted(outcome.map_err(|error| lost(&error.to_string())))
    }

    pub async fn flush(&mut self) -> Result<()> {
        let outcome = self.transport.flush().await;
        self.noted(outcome.map_err(|error| lost(&error.to_string())))
    }

    /// Sends while taking in whatever the server says meanwhile: a server that blocks on its own
    /// notices would never read on otherwise. Stops early when a message has arrived; returns how
    /// much was sent.
    pub async fn send_watching(&mut self, bytes: &[u8]) -> Result<usize> {
        self.make_room(READ_BUFFER / 4);
        let transport = &mut self.transport;
        let buffer = &mut self.buffer;
        let end = &mut self.end;
        let start = self.start;
        let mut sent = 0;
        let outcome = poll_fn(move |context| {
            // until it is pending, so that somebody wakes us
            while *end < buffer.len() {
                let mut space = ReadBuf::new(&mut buffer[*end..]);
                match Pin::new(&mut *transport).poll_read(context, &mut space) {
                    Poll::Ready(Ok(())) => {
                        let count = space.filled().len();
                        if count == 0 {
                            return Poll::Ready(Err(lost("the server closed the connection")));
                        }
                        *end += count;
                        if parse_header(&buffer[start..*end])?.is_some() {
                            return Poll::Ready(Ok(sent));
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(&error.to_string()))),
                    Poll::Pending => break,
                }
            }
            while sent < bytes.len() {
                match Pin::new(&mut *transport).poll_write(context, &bytes[sent..]) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(lost("the server closed the connection")));
                    }
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(&error.to_string()))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(sent))
        })
        .await;
        self.noted(outcome)
    }
}

fn parse_header(bytes: &[u8]) -> Result<Option<FrameHeader>> {
    let [tag, a, b, c, d, ..] = *bytes else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match length.checked_sub(4) {
        Some(length) => Ok(Some(FrameHeader { tag, length })),
        None => Err(Error::new(
            "the server sent a message whose length is shorter than its own header",
        )
        .hint("is this a PostgreSQL server, and is nothing in between changing the bytes?")),
    }
}

fn lost(reason: &str) -> Error {
    Error::new(format!("connection to the server was lost: {reason}"))
        .hint("the server's log says why; a new run starts from the beginning")
}
