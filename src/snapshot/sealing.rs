//! From full blocks to the file: compression on rayon's threads, one writer behind a short queue.
//!
//! A worker keeps a few blocks in compression and hands them on in the order in which it filled
//! them. The queues are short, so that a slow file holds the workers back, and they their servers:
//! memory stays bounded by workers times blocks.
//!
//! The writer's thread has the file from its first block to its name: whoever waits for the thread
//! knows that the file is either complete or gone.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};

use super::{Options, Output};
use crate::archive::{ArchiveSummary, ArchiveWriter, BlockBuilder, Codec, SealedBlock};
use crate::error::{Error, Result};
use crate::report::{Cancellation, Progress};
use crate::storage::{LocalTarget, Replace, StdoutTarget};

/// Blocks of one worker in compression at once.
const IN_COMPRESSION: usize = 2;
/// Blocks waiting for the writer.
const IN_QUEUE: usize = 2;

/// What is being written, and where to.
pub enum Sink {
    File(Box<LocalTarget>),
    Stdout(StdoutTarget, Arc<Cancellation>),
}

impl Sink {
    pub fn open(output: &Output, cancellation: &Arc<Cancellation>) -> Result<Sink> {
        Ok(match output {
            Output::File(path) => Sink::File(Box::new(LocalTarget::create(path)?)),
            Output::Stdout => Sink::Stdout(StdoutTarget::new()?, Arc::clone(cancellation)),
        })
    }

    /// Rereads what was written, then gives it its name.
    fn commit(self, sync: bool, summary: &ArchiveSummary, run: &Cancellation) -> Result<()> {
        match self {
            Sink::Stdout(..) => run.commit(),
            Sink::File(target) => target.commit(Replace::Yes, sync, |file| {
                summary.check(file)?;
                run.commit()
            }),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File(target) => target.write(bytes),
            // nobody waits for this thread: the trailer must not slip out after the signal
            Sink::Stdout(target, run) => {
                run.check().map_err(io::Error::other)?;
                target.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::File(target) => target.flush(),
            Sink::Stdout(target, _) => target.flush(),
        }
    }
}

/// The writer's thread, and what workers need to reach it. Dropped before it has finished, it
/// waits for the thread to let go of the file, which removes it. It does not wait for standard
/// output: whoever reads that may have stopped reading, and nothing is to be removed.
pub struct Writer {
    to_file: bool,
    thread: Option<JoinHandle<()>>,
    /// Sent when the file has been let go of.
    outcome: oneshot::Receiver<Result<ArchiveSummary>>,
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
        options: &Options,
        progress: Arc<Progress>,
        cancellation: &Arc<Cancellation>,
    ) -> Result<Writer> {
        let (queue, messages) = mpsc::channel(IN_QUEUE);
        let shared = Arc::new(Shared {
            codec: options.codec,
            buffers: Mutex::default(),
            turn: Arc::default(),
            abandoned: AtomicBool::new(false),
        });
        let in_thread = Arc::clone(&shared);
        let to_file = matches!(archive.sink(), Sink::File(_));
        let (run, sync) = (Arc::clone(cancellation), options.sync);
        let (done, outcome) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("archive writer".to_owned())
            .spawn(move || {
                let written = write_all(archive, messages, &in_thread, &progress);
                let outcome = written.and_then(|archive| {
                    let (sink, summary) = archive.finish()?;
                    sink.commit(sync, &summary, &run).map(|()| summary)
                });
                // the receiver is gone only if the run has been dropped
                let _ = done.send(outcome);
            })
            .map_err(|error| Error::new(format!("could not start a thread: {error}")))?;
        Ok(Writer {
            to_file,
            thread: Some(thread),
            outcome,
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

    /// Waits for all blocks to be written, index and trailer after them, and for the file to have
    /// its name. All sealers must be gone.
    pub async fn finish(mut self) -> Result<ArchiveSummary> {
        self.queue = None;
        self.outcome().await
    }

    /// What the thread failed with, if it did; otherwise `error`, which then came first.
    pub async fn failure(mut self, error: Error) -> Error {
        self.abandon();
        if !self.to_file && error.message() != WRITER_GONE {
            return error;
        }
        match self.outcome().await {
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

    /// May be dropped while it waits: the thread is still this writer's.
    async fn outcome(&mut self) -> Result<ArchiveSummary> {
        (&mut self.outcome)
            .await
            .map_err(|_| Error::new("the thread that writes the archive has died"))?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abandon();
        if let Some(thread) = self.thread.take()
            && self.to_file
        {
            // the outcome is known or does not matter, only that the file has been let go of
            let _ = thread.join();
        }
    }
}

fn write_all(
    mut archive: ArchiveWriter<Sink>,
    mut messages: mpsc::Receiver<Message>,
    shared: &Shared,
    progress: &Progress,
) -> Result<ArchiveWriter<Sink>> {
    loop {
        let message = messages.blocking_recv();
        // the queue's end may be that of a run which was given up
        if shared.abandoned.load(Ordering::SeqCst) {
            return Err(Error::new("the archive was given up"));
        }
        match message {
            Some(Message::Block(block)) => {
                shared.give(archive.append(block)?);
                progress.written(archive.bytes_written());
            }
            Some(Message::Abandon) => {}
            None => return Ok(archive),
        }
    }
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
