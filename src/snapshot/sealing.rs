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
use crate::archive::{
    ArchiveSummary, ArchiveWriter, BlockBuilder, Codec, Header, SealedBlock, SetId, SetSummary,
    SetWriter,
};
use crate::error::{Error, Result};
use crate::report::{Cancellation, Progress};
use crate::repository::Fan;
use crate::storage::{LocalTarget, ReadAt, Replace, StdoutTarget};

/// Blocks of one worker in compression at once.
const IN_COMPRESSION: usize = 2;
/// Blocks waiting for the writer.
const IN_QUEUE: usize = 2;

/// What is being written, and where to.
pub enum Sink {
    File(Box<LocalTarget>),
    Repositories(Fan),
    Stdout(StdoutTarget, Arc<Cancellation>),
}

impl Sink {
    pub fn open(output: &Output, cancellation: &Arc<Cancellation>) -> Result<Sink> {
        Ok(match output {
            Output::File(path) => Sink::File(Box::new(LocalTarget::create(path)?)),
            Output::Repositories(targets) => Sink::Repositories(targets.open()?),
            Output::Stdout => Sink::Stdout(StdoutTarget::new()?, Arc::clone(cancellation)),
        })
    }

    /// Lets `check` reread what was written, then gives it its name.
    fn commit(
        self,
        sync: bool,
        run: &Cancellation,
        check: impl Fn(&dyn ReadAt) -> Result<()>,
    ) -> Result<()> {
        match self {
            Sink::Stdout(..) => run.commit(),
            Sink::Repositories(fan) => {
                fan.finish(check)?;
                run.commit()
            }
            Sink::File(target) => target.commit(Replace::Yes, sync, |file| {
                check(file)?;
                run.commit()
            }),
        }
    }

    /// Whether something is to be removed if the run fails.
    fn is_stored(&self) -> bool {
        !matches!(self, Sink::Stdout(..))
    }
}

/// Where an archive goes: it is the whole output, or one member of a set.
pub enum Destination {
    Alone(Option<Sink>),
    /// The sink is taken while a member is written to it. What fails before that has harmed nothing;
    /// after it, the set is lost with the sink.
    Member(SetId, Option<Sink>),
}

impl Destination {
    /// The file first: a folder that cannot be written to must not cost a lock.
    pub fn alone(output: &Output, cancellation: &Arc<Cancellation>) -> Result<Destination> {
        Ok(Destination::Alone(Some(Sink::open(output, cancellation)?)))
    }

    pub fn set(&self) -> Option<SetId> {
        match self {
            Destination::Alone(_) => None,
            Destination::Member(id, _) => Some(*id),
        }
    }

    pub fn take(&mut self) -> Result<Sink> {
        let (Destination::Alone(sink) | Destination::Member(_, sink)) = self;
        sink.take()
            .ok_or_else(|| Error::new("the output was given up"))
    }

    /// Whether a member can still be written.
    pub fn is_open(&self) -> bool {
        let (Destination::Alone(sink) | Destination::Member(_, sink)) = self;
        sink.is_some()
    }

    /// Takes back what a member was written to.
    fn give_back(&mut self, written: Option<Sink>) {
        if let Destination::Member(_, sink) = self {
            *sink = written;
        }
    }
}

/// A thread that has the output. Dropped, it waits until the thread has let go of a file, which
/// removes it. It does not wait for standard output: whoever reads that may have stopped reading, and
/// nothing is to be removed.
struct Thread {
    to_file: bool,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    fn spawn(name: &str, to_file: bool, run: impl FnOnce() + Send + 'static) -> Result<Thread> {
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|error| Error::new(format!("could not start a thread: {error}")))?;
        Ok(Thread {
            to_file,
            handle: Some(handle),
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && self.to_file
        {
            // the outcome is known or does not matter, only that the file has been let go of
            let _ = handle.join();
        }
    }
}

/// Writes what ends a set, and gives the file its name.
pub async fn end_set(
    set: SetWriter,
    mut sink: Sink,
    sync: bool,
    cancellation: &Arc<Cancellation>,
) -> Result<SetSummary> {
    let run = Arc::clone(cancellation);
    let (done, outcome) = oneshot::channel();
    let _thread = Thread::spawn("set writer", sink.is_stored(), move || {
        let ended = set.finish(&mut sink).and_then(|summary| {
            sink.commit(sync, &run, |file| summary.check(file))?;
            Ok(summary)
        });
        // the receiver is gone only if the run has been dropped
        let _ = done.send(ended);
    })?;
    outcome
        .await
        .map_err(|_| Error::new("the thread that writes the set has died"))?
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File(target) => target.write(bytes),
            Sink::Repositories(fan) => fan.write(bytes),
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
            Sink::Repositories(fan) => fan.flush(),
            Sink::Stdout(target, _) => target.flush(),
        }
    }
}

/// Writes the header; of an encrypted archive, makes its key.
pub fn begin_archive(
    sink: Sink,
    header: &Header,
    options: &Options,
) -> Result<ArchiveWriter<Sink>> {
    ArchiveWriter::begin_with(sink, header, options.codec, options.encryption.as_deref())
}

/// The writer's thread, and what workers need to reach it.
pub struct Writer {
    /// Sent when the file has been let go of, or is handed back as that of a set.
    outcome: oneshot::Receiver<Result<(ArchiveSummary, Option<Sink>)>>,
    queue: Option<mpsc::Sender<Message>>,
    shared: Arc<Shared>,
    thread: Thread,
}

enum Message {
    Block(SealedBlock),
    /// Only wakes the thread up.
    Abandon,
}

struct Shared {
    codec: Codec,
    /// The writer's thread then encrypts: it alone hands out nonces.
    encrypted: bool,
    /// Buffers that were written and can be filled again.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Held by whoever hands over blocks that must stay together.
    turn: Arc<tokio::sync::Mutex<()>>,
    abandoned: AtomicBool,
}

impl Writer {
    pub fn start(
        archive: ArchiveWriter<Sink>,
        destination: &Destination,
        options: &Options,
        progress: Arc<Progress>,
        cancellation: &Arc<Cancellation>,
    ) -> Result<Writer> {
        let (queue, messages) = mpsc::channel(IN_QUEUE);
        let shared = Arc::new(Shared {
            codec: options.codec,
            encrypted: options.encryption.is_some(),
            buffers: Mutex::default(),
            turn: Arc::default(),
            abandoned: AtomicBool::new(false),
        });
        let in_thread = Arc::clone(&shared);
        let to_file = archive.sink().is_stored();
        let is_member = destination.set().is_some();
        let (run, sync) = (Arc::clone(cancellation), options.sync);
        let (done, outcome) = oneshot::channel();
        let thread = Thread::spawn("archive writer", to_file, move || {
            let written = write_all(archive, messages, &in_thread, &progress);
            let outcome = written.and_then(|archive| {
                let (sink, summary) = archive.finish()?;
                if is_member {
                    return Ok((summary, Some(sink)));
                }
                sink.commit(sync, &run, |file| summary.check(file))?;
                Ok((summary, None))
            });
            // the receiver is gone only if the run has been dropped
            let _ = done.send(outcome);
        })?;
        Ok(Writer {
            outcome,
            queue: Some(queue),
            shared,
            thread,
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
    /// its name; or, as a member of a set, for the set to have its output back. All sealers must be
    /// gone.
    pub async fn finish(mut self, destination: &mut Destination) -> Result<ArchiveSummary> {
        self.queue = None;
        let (summary, sink) = self.outcome().await?;
        destination.give_back(sink);
        Ok(summary)
    }

    /// What the thread failed with, if it did; otherwise `error`, which then came first.
    pub async fn failure(mut self, error: Error) -> Error {
        self.abandon();
        if !self.thread.to_file && error.message() != WRITER_GONE {
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
    async fn outcome(&mut self) -> Result<(ArchiveSummary, Option<Sink>)> {
        (&mut self.outcome)
            .await
            .map_err(|_| Error::new("the thread that writes the archive has died"))?
    }
}

impl Drop for Writer {
    /// Then the thread is waited for.
    fn drop(&mut self) {
        self.abandon();
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
        let (codec, encrypted) = (self.shared.codec, self.shared.encrypted);
        rayon::spawn(move || {
            let sealed = match encrypted {
                false => builder.seal(codec),
                true => builder.compress(codec),
            };
            // the receiver is gone only if the run has failed
            let _ = done.send(sealed);
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
