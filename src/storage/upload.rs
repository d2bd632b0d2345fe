//! A stream of bytes cut into objects, and these into parts.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc as waiting;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::object::{Key, Storage, Upload};
use super::runtime;
use crate::error::{Error, Result};

/// How long a dropped writer cleans up.
const CLEANUP: Duration = match cfg!(test) {
    false => Duration::from_secs(10),
    true => Duration::from_secs(3),
};

/// One of the objects that make up an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub key: Key,
    /// Bytes.
    pub size: u64,
}

/// Writes to objects of `volume_size` bytes, the last of which may be shorter. What is written is held
/// in at most `Limits::concurrency` + 1 buffers of a part each, so that a slow store holds up `write`.
///
/// Synchronous, for any thread: the work is done on those of storage. Dropped without `finish`, it leaves
/// nothing, as far as the store lets it within some seconds.
pub struct UploadWriter {
    part_size: usize,
    filling: BytesMut,
    /// How many parts may still be handed over, and buffers to use for them.
    free: usize,
    spare: Vec<BytesMut>,
    written: u64,
    to_pump: Option<mpsc::UnboundedSender<Message>>,
    from_pump: waiting::Receiver<Reply>,
    failed: Option<String>,
}

enum Message {
    Part(Bytes),
    Finish,
}

enum Reply {
    /// A part is stored; its buffer, if nobody else has it.
    Stored(Option<BytesMut>),
    /// The first of the failures. What there is is being cleaned up.
    Failed(Error),
    /// All is done.
    Finished(Vec<Volume>),
    /// Nothing is left, or this is.
    CleanedUp(Result<()>),
}

impl UploadWriter {
    /// `key` names the volumes, which are numbered from 0. `volume_size` is a multiple of the store's
    /// part size.
    pub fn new(
        storage: Arc<dyn Storage>,
        volume_size: u64,
        key: impl FnMut(u32) -> Result<Key> + Send + 'static,
    ) -> Result<UploadWriter> {
        let limits = storage.limits();
        let part_size = limits.part_size as u64;
        let parts = volume_size.checked_div(part_size).unwrap_or(0);
        if parts == 0 || parts > u64::from(limits.parts) || !volume_size.is_multiple_of(part_size) {
            return Err(Error::new(format!(
                "volumes of {volume_size} bytes are not possible in {storage}: it takes up to {} parts \
                 of {part_size} bytes",
                limits.parts
            )));
        }
        let concurrency = limits.concurrency.max(1);
        let (to_pump, messages) = mpsc::unbounded_channel();
        let (replies, from_pump) = waiting::channel();
        let pump = Pump {
            storage,
            key: Box::new(key),
            volume_size,
            at_once: Arc::new(Semaphore::new(concurrency)),
            replies,
            open: None,
            number: 0,
            completing: JoinSet::new(),
            completed: BTreeMap::new(),
            given_up: watch::Sender::new(false),
        };
        runtime::handle()?.spawn(pump.run(messages));
        Ok(UploadWriter {
            part_size: limits.part_size,
            filling: BytesMut::new(),
            free: concurrency + 1,
            spare: Vec::new(),
            written: 0,
            to_pump: Some(to_pump),
            from_pump,
            failed: None,
        })
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The same as `write_all`, without a copy where `bytes` is a whole part.
    pub fn write_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        if self.filling.is_empty() && bytes.len() == self.part_size {
            self.take_replies(true)?;
            self.written += bytes.len() as u64;
            return self.hand_over(bytes);
        }
        self.write_all(&bytes)
    }

    /// Stores the rest and completes all volumes.
    pub fn finish(mut self) -> Result<Vec<Volume>> {
        let result = self.finish_or_fail();
        let Err(error) = result else {
            self.to_pump = None;
            return result;
        };
        Err(match self.clean_up(None) {
            Ok(()) => error,
            Err(also) => with_leftovers(error, &also),
        })
    }

    fn finish_or_fail(&mut self) -> Result<Vec<Volume>> {
        if !self.filling.is_empty() {
            self.take_replies(true).map_err(super::write_error)?;
            let last = std::mem::take(&mut self.filling).freeze();
            self.hand_over(last).map_err(super::write_error)?;
        }
        self.take_replies(false).map_err(super::write_error)?;
        if let Some(to_pump) = &self.to_pump {
            // where nobody takes it, the reply says why
            let _ = to_pump.send(Message::Finish);
        }
        loop {
            match runtime::blocking(|| self.from_pump.recv()) {
                Ok(Reply::Finished(volumes)) => return Ok(volumes),
                Ok(Reply::Failed(error)) => return Err(error),
                Ok(Reply::Stored(_) | Reply::CleanedUp(_)) => {}
                Err(_) => return Err(ended()),
            }
        }
    }

    /// Gives up what is on its way and removes what is complete.
    pub fn abort(mut self) -> Result<()> {
        self.clean_up(None)
    }

    /// Tells the pump that nothing more comes, and waits. None: as long as it takes.
    fn clean_up(&mut self, most: Option<Duration>) -> Result<()> {
        self.to_pump = None;
        let end = most.map(|most| Instant::now() + most);
        loop {
            let reply = match end {
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    runtime::blocking(|| self.from_pump.recv_timeout(left)).ok()
                }
                None => runtime::blocking(|| self.from_pump.recv()).ok(),
            };
            match reply {
                Some(Reply::CleanedUp(result)) => return result,
                // done, or too late
                Some(Reply::Finished(_)) | None => return Ok(()),
                Some(Reply::Stored(_) | Reply::Failed(_)) => {}
            }
        }
    }

    /// Takes what the pump says, and waits until a part may be handed over if `to_hand_over`.
    fn take_replies(&mut self, to_hand_over: bool) -> io::Result<()> {
        if let Some(message) = &self.failed {
            return Err(io::Error::other(message.clone()));
        }
        loop {
            let reply = match to_hand_over && self.free == 0 {
                true => runtime::blocking(|| self.from_pump.recv()).map_err(|_| ended()),
                false => match self.from_pump.try_recv() {
                    Ok(reply) => Ok(reply),
                    Err(waiting::TryRecvError::Empty) => return Ok(()),
                    Err(waiting::TryRecvError::Disconnected) => Err(ended()),
                },
            };
            match reply {
                Ok(Reply::Stored(buffer)) => {
                    self.free += 1;
                    let fits = |buffer: &BytesMut| buffer.capacity() >= self.part_size;
                    self.spare.extend(buffer.filter(fits));
                }
                Ok(Reply::Failed(error)) | Err(error) => {
                    self.failed = Some(error.to_string());
                    return Err(io::Error::other(error));
                }
                Ok(Reply::Finished(_) | Reply::CleanedUp(_)) => {}
            }
        }
    }

    fn hand_over(&mut self, bytes: Bytes) -> io::Result<()> {
        self.free = self.free.saturating_sub(1);
        if let Some(to_pump) = &self.to_pump {
            // where nobody takes it, the next reply says why
            let _ = to_pump.send(Message::Part(bytes));
        }
        Ok(())
    }
}

fn ended() -> Error {
    Error::new("the upload ended before it was done")
}

impl Write for UploadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let begins = self.filling.is_empty();
        self.take_replies(begins)?;
        if begins {
            self.filling = self
                .spare
                .pop()
                .unwrap_or_else(|| BytesMut::with_capacity(self.part_size));
        }
        let room = self.part_size - self.filling.len();
        let now = bytes.get(..room).unwrap_or(bytes);
        self.filling.extend_from_slice(now);
        self.written += now.len() as u64;
        if self.filling.len() == self.part_size {
            let part = std::mem::take(&mut self.filling).freeze();
            self.hand_over(part)?;
        }
        Ok(now.len())
    }

    /// A part that is not full stays where it is.
    fn flush(&mut self) -> io::Result<()> {
        self.take_replies(false)
    }
}

impl Drop for UploadWriter {
    fn drop(&mut self) {
        if self.to_pump.is_some() {
            // what is left is listed as unfinished, or has no manifest
            let _ = self.clean_up(Some(CLEANUP));
        }
    }
}

impl fmt::Debug for UploadWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadWriter")
            .field("part_size", &self.part_size)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// Does the transfers.
struct Pump {
    storage: Arc<dyn Storage>,
    key: Box<dyn FnMut(u32) -> Result<Key> + Send>,
    volume_size: u64,
    at_once: Arc<Semaphore>,
    replies: waiting::Sender<Reply>,
    open: Option<Open>,
    /// Of the next volume.
    number: u32,
    /// None: given up.
    completing: JoinSet<Result<Option<(u32, Volume)>>>,
    completed: BTreeMap<u32, Volume>,
    /// Whether what is on its way is given up.
    given_up: watch::Sender<bool>,
}

/// A volume that more parts may come for.
struct Open {
    number: u32,
    volume: Volume,
    upload: Arc<Box<dyn Upload>>,
    /// Number of the next one.
    part: u32,
    parts: JoinSet<Result<()>>,
}

impl Pump {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let reply = match self.transfer(&mut messages).await {
            Ok(Some(volumes)) => Reply::Finished(volumes),
            Ok(None) => Reply::CleanedUp(self.clean_up().await),
            Err(error) => {
                // before the cleaning up, which may take long
                let _ = self.replies.send(Reply::Failed(error));
                Reply::CleanedUp(self.clean_up().await)
            }
        };
        // a dropped writer does not wait for ever
        let _ = self.replies.send(reply);
    }

    /// None: the writer has given up.
    async fn transfer(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Message>,
    ) -> Result<Option<Vec<Volume>>> {
        loop {
            tokio::select! {
                Some(result) = joined(self.open.as_mut().map(|open| &mut open.parts)) => result?,
                Some(volume) = joined(Some(&mut self.completing)) => self.completed.extend(volume?),
                message = messages.recv() => match message {
                    Some(Message::Part(bytes)) => self.part(bytes).await?,
                    Some(Message::Finish) => break,
                    None => return Ok(None),
                },
            }
        }
        self.close();
        while let Some(volume) = joined(Some(&mut self.completing)).await {
            self.completed.extend(volume?);
        }
        let volumes = std::mem::take(&mut self.completed);
        Ok(Some(volumes.into_values().collect()))
    }

    async fn part(&mut self, bytes: Bytes) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin().await?,
        };
        open.volume.size += bytes.len() as u64;
        let (upload, number) = (open.upload.clone(), open.part);
        open.part += 1;
        let (at_once, replies) = (self.at_once.clone(), self.replies.clone());
        open.parts.spawn(async move {
            let turn = at_once.acquire().await;
            upload.part(number, bytes.clone()).await?;
            drop((turn, upload));
            let buffer = bytes.try_into_mut().ok().map(|mut buffer| {
                buffer.clear();
                buffer
            });
            // a writer that is gone needs none
            let _ = replies.send(Reply::Stored(buffer));
            Ok(())
        });
        let is_full = open.volume.size >= self.volume_size;
        self.open = Some(open);
        if is_full {
            self.close();
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<Open> {
        let number = self.number;
        let key = (self.key)(number)?;
        let upload = self.storage.begin(&key).await?;
        self.number += 1;
        Ok(Open {
            number,
            volume: Volume { key, size: 0 },
            upload: Arc::new(upload),
            part: 0,
            parts: JoinSet::new(),
        })
    }

    /// No more parts come for the open volume: it is completed beside the next.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let given_up = self.given_up.subscribe();
            self.completing.spawn(complete(open, given_up));
        }
    }

    async fn clean_up(&mut self) -> Result<()> {
        self.given_up.send_replace(true);
        let mut outcome = Ok(());
        if let Some(open) = self.open.take() {
            outcome = outcome.and(open.give_up().await);
        }
        while let Some(result) = joined(Some(&mut self.completing)).await {
            match result {
                Ok(volume) => self.completed.extend(volume),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        for volume in std::mem::take(&mut self.completed).into_values() {
            outcome = outcome.and(self.storage.delete(&volume.key).await);
        }
        outcome
    }
}

impl Open {
    async fn give_up(mut self) -> Result<()> {
        self.parts.shutdown().await;
        match Arc::try_unwrap(self.upload) {
            Ok(upload) => upload.abort().await,
            // no task is left that could have it
            Err(_) => Err(Error::new(format!(
                "the upload of {} is still in use",
                self.volume.key
            ))),
        }
    }
}

/// None: it was given up.
async fn complete(
    mut open: Open,
    mut given_up: watch::Receiver<bool>,
) -> Result<Option<(u32, Volume)>> {
    loop {
        let result = tokio::select! {
            result = joined(Some(&mut open.parts)) => result,
            _ = async { given_up.wait_for(|given_up| *given_up).await.is_ok() } => {
                return open.give_up().await.map(|()| None);
            }
        };
        match result {
            Some(Ok(())) => {}
            None => break,
            Some(Err(error)) => {
                return Err(match open.give_up().await {
                    Ok(()) => error,
                    Err(also) => with_leftovers(error, &also),
                });
            }
        }
    }
    let upload = Arc::try_unwrap(open.upload)
        .map_err(|_| Error::new(format!("the upload of {} is still in use", open.volume.key)))?;
    upload.complete(open.volume.size).await?;
    Ok(Some((open.number, open.volume)))
}

/// The next of the tasks' results; None: there are none.
async fn joined<T: 'static>(tasks: Option<&mut JoinSet<Result<T>>>) -> Option<Result<T>> {
    Some(match tasks?.join_next().await? {
        Ok(result) => result,
        Err(error) => Err(Error::new(format!("a task of storage ended: {error}"))),
    })
}

fn with_leftovers(error: Error, also: &Error) -> Error {
    error.context(format!("what was uploaded could not be removed ({also})"))
}

#[cfg(test)]
mod tests;
