//! From full blocks to the file: compression on rayon's threads, one writer behind a short queue.
//!
//! A worker keeps a few blocks in compression and hands them on in the order in which it filled
//! them. The queues are short, so that a slow file holds the workers back, and they their servers:
//! memory stays bounded by workers times blocks.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};

use crate::archive::{ArchiveSummary, ArchiveWriter, BlockBuilder, Codec, SealedBlock};
use crate::error::{Error, Result};
use crate::report::Progress;
use crate::storage::{LocalTarget, StdoutTarget};

/// Blocks of one worker in compression at once.
const IN_COMPRESSION: usize = 2;
/// Blocks waiting for the writer.
const IN_QUEUE: usize = 2;

/// What is being written, and where to.
pub enum Sink {
    File(Box<LocalTarget>),
    Stdout(StdoutTarget),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File(target) => target.write(bytes),
            Sink::Stdout(target) => target.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::File(target) => target.flush(),
            Sink::Stdout(target) => target.flush(),
        }
    }
}

/// The writer's thread, and what workers need to reach it. Dropped before it has finished, it
/// waits for the thread to let go of the file, which removes it. It does not wait for standard
/// output: whoever reads that may have stopped reading, and nothing is to be removed.
pub struct Writer {
    to_file: bool,
    handle: Option<JoinHandle<Result<ArchiveWriter<Sink>>>>,
    queue: Option<mpsc::Sender<Message>>,
    shared: Arc<Shared>,
}

enum Message {
    Block(SealedBlock),
    /// Only wakes the thread up.
    Abandon,
}

struct Shared {
    codec: Codec,
    /// Buffers that were written and can be filled again.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Held by whoever hands over blocks that must stay together.
    turn: Arc<tokio::sync::Mutex<()>>,
    abandoned: AtomicBool,
}

impl Writer {
    pub fn start(
        archive: ArchiveWriter<Sink>,
        codec: Codec,
        progress: Arc<Progress>,
    ) -> Result<Writer> {
        let (queue, messages) = mpsc::channel(IN_QUEUE);
        let shared = Arc::new(Shared {
            codec,
            buffers: Mutex::default(),
            turn: Arc::default(),
            abandoned: AtomicBool::new(false),
        });
        let in_thread = Arc::clone(&shared);
        let to_file = matches!(archive.sink(), Sink::File(_));
        let handle = std::thread::Builder::new()
            .name("archive writer".to_owned())
            .spawn(move || write_all(archive, messages, &in_thread, &progress))
            .map_err(|error| Error::new(format!("could not start a thread: {error}")))?;
        Ok(Writer {
            to_file,
            handle: Some(handle),
            queue: Some(queue),
            shared,
        })
    }

    /// A way in for one worker.
    pub fn sealer(&self) -> Sealer {
        Sealer {
            queue: self.queue.clone(),
            shared: Arc::clone(&self.shared),
            pending: VecDeque::new(),
            held: None,
        }
    }

    /// Waits for all blocks to be written, then writes index and trailer. All sealers must be
    /// gone.
    pub async fn finish(mut self) -> Result<(Sink, ArchiveSummary)> {
        self.queue = None;
        self.join().await?.finish()
    }

    /// What the thread failed with, if it did; otherwise `error`, which then came first.
    pub async fn failure(mut self, error: Error) -> Error {
        self.abandon();
        if !self.to_file && error.message() != WRITER_GONE {
            self.handle = None;
            return error;
        }
        match self.join().await {
            Err(cause) if error.message() == WRITER_GONE => cause,
            _ => error,
        }
    }

    fn abandon(&mut self) {
        self.shared.abandoned.store(true, Ordering::SeqCst);
        if let Some(queue) = self.queue.take() {
            // a full queue will wake it as well
            let _ = queue.try_send(Message::Abandon);
        }
    }

    async fn join(&mut self) -> Result<ArchiveWriter<Sink>> {
        let dead = || Error::new("the thread that writes the archive has died");
        let handle = self.handle.take().ok_or_else(dead)?;
        tokio::task::spawn_blocking(move || handle.join())
            .await
            .map_err(|_| dead())?
            .map_err(|_| dead())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.abandon();
            if self.to_file {
                // the outcome no longer matters, only that the file is gone
                let _ = handle.join();
            }
        }
    }
}

fn write_all(
    mut archive: ArchiveWriter<Sink>,
    mut messages: mpsc::Receiver<Message>,
    shared: &Shared,
    progress: &Progress,
) -> Result<ArchiveWriter<Sink>> {
    while let Some(message) = messages.blocking_recv() {
        if shared.abandoned.load(Ordering::SeqCst) {
            return Err(Error::new("the archive was given up"));
        }
        if let Message::Block(block) = message {
            shared.give(archive.append(block)?);
            progress.written(archive.bytes_written());
        }
    }
    Ok(archive)
}

impl Shared {
    fn give(&self, buffer: Vec<u8>) {
        self.buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
    }

    fn take(&self) -> Vec<u8> {
        self.buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }
}

type Pending = oneshot::Receiver<Result<(SealedBlock, BlockBuilder)>>;

pub struct Sealer {
    queue: Option<mpsc::Sender<Message>>,
    shared: Arc<Shared>,
    /// Blocks in compression, oldest first; whether the next must follow directly.
    pending: VecDeque<(Pending, bool)>,
    held: Option<OwnedMutexGuard<()>>,
}

/// The queue to the writer is closed; the writer knows why.
const WRITER_GONE: &str = "the archive can no longer be written";

impl Sealer {
    pub fn builder(&self) -> BlockBuilder {
        BlockBuilder::with_buffers(self.shared.take(), self.shared.take())
    }

    /// Starts sealing; returns an empty builder. `continued`: the next block must follow directly.
    pub async fn seal(&mut self, builder: BlockBuilder, continued: bool) -> Result<BlockBuilder> {
        let (done, pending) = oneshot::channel();
        let codec = self.shared.codec;
        rayon::spawn(move || {
            // the receiver is gone only if the run has failed
            let _ = done.send(builder.seal(codec));
        });
        self.pending.push_back((pending, continued));
        while self.pending.len() > IN_COMPRESSION {
            self.hand_over().await?;
        }
        Ok(self.builder())
    }

    /// Hands over all that is still in compression.
    pub async fn flush(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.hand_over().await?;
        }
        Ok(())
    }

    async fn hand_over(&mut self) -> Result<()> {
        let Some((pending, continued)) = self.pending.pop_front() else {
            return Ok(());
        };
        let (block, mut rest) = pending
            .await
            .map_err(|_| Error::new("a thread that compresses has died"))??;
        self.shared.give(std::mem::take(rest.buffer()));
        if self.held.is_none() {
            self.held = Some(Arc::clone(&self.shared.turn).lock_owned().await);
        }
        let gone = || Error::new(WRITER_GONE);
        self.queue
            .as_ref()
            .ok_or_else(gone)?
            .send(Message::Block(block))
            .await
            .map_err(|_| gone())?;
        if !continued {
            self.held = None;
        }
        Ok(())
    }
}
