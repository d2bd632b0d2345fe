//! Restoring from a stream that is read once: rows go to the connections as they come.

use std::collections::HashMap;
use std::io::{BufReader, Stdin};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc};

use super::connections::run_parallel;
use super::create::{Shared, lock};
use super::input::{Contents, Opened, blocking};
use super::parallel::Parallel;
use super::schedule::is_data;
use super::selection::label;
use super::source::{Piece, Rows};
use crate::archive::{
    self, DataBlock, EndRecord, Entry, EntryId, Keys, RowsSegment, Segment, SetStreamReader,
    StreamReader, open_stream_with,
};
use crate::error::{Error, Result};
use crate::postgres::{Connector, Session};

/// Blocks that wait for a connection, beyond those in use.
const WAITING: usize = 4;

type Input = BufReader<Stdin>;
type Reader = StreamReader<archive::Shared<Input>>;

/// The reader, after the entries. Whoever reads takes it out, and puts it back when it has stopped
/// between two blocks: then what is left can be passed over.
#[derive(Clone, Default)]
pub struct Arriving(Arc<Place>);

#[derive(Default)]
struct Place {
    reader: Mutex<Where>,
    changed: Condvar,
}

#[derive(Default)]
enum Where {
    Here(Box<Reader>),
    Taken,
    /// Reading ended within a block.
    #[default]
    Lost,
}

impl Arriving {
    fn new(reader: Reader) -> Arriving {
        let arriving = Arriving::default();
        arriving.put(Where::Here(Box::new(reader)));
        arriving
    }

    fn put(&self, place: Where) {
        *lock(&self.0.reader) = place;
        self.0.changed.notify_all();
    }

    /// None: somebody reads, or it is lost.
    fn take(&self) -> Option<Taken> {
        let mut place = lock(&self.0.reader);
        match std::mem::replace(&mut *place, Where::Taken) {
            Where::Here(reader) => Some(Taken {
                reader: Some(reader),
                of: self.clone(),
            }),
            other => {
                *place = other;
                None
            }
        }
    }

    /// Waits until nobody reads. None: the reader is lost.
    fn wait(&self) -> Option<Reader> {
        let mut place = lock(&self.0.reader);
        while matches!(*place, Where::Taken) {
            let waiting = self.0.changed.wait(place);
            place = waiting.unwrap_or_else(PoisonError::into_inner);
        }
        match std::mem::take(&mut *place) {
            Where::Here(reader) => Some(*reader),
            Where::Taken | Where::Lost => None,
        }
    }
}

/// The reader in the hands of who reads; lost, unless it is put back.
struct Taken {
    reader: Option<Box<Reader>>,
    of: Arriving,
}

impl Taken {
    fn put_back(mut self) {
        if let Some(reader) = self.reader.take() {
            self.of.put(Where::Here(reader));
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.of.put(Where::Lost);
        }
    }
}

/// What comes in on standard input.
// a run has one
#[allow(clippy::large_enum_variant)]
pub enum Opening {
    Archive(Opened),
    Set(ArrivingSet),
}

fn broke_off(error: impl std::fmt::Display) -> Error {
    Error::new(format!("reading standard input broke off: {error}"))
}

pub async fn open_stdin(keys: Arc<Keys>) -> Result<Opening> {
    blocking(move || {
        let stdin = BufReader::with_capacity(1 << 20, std::io::stdin());
        Ok(match open_stream_with(stdin, keys)? {
            archive::Incoming::Archive(reader) => Opening::Archive(opened(*reader)?.0),
            archive::Incoming::Set(set) => Opening::Set(ArrivingSet {
                set: Some(set),
                open: None,
            }),
        })
    })
    .await
}

fn opened(mut reader: Reader) -> Result<(Opened, Arriving)> {
    let entries = reader.entries()?;
    let header = reader.header().clone();
    let arriving = Arriving::new(reader);
    let opened = Opened {
        header,
        entries,
        rows: Contents::Stream(arriving.clone()),
    };
    Ok((opened, arriving))
}

/// The members of a set as they come.
pub struct ArrivingSet {
    /// None once reading has failed.
    set: Option<SetStreamReader<Input>>,
    open: Option<Arriving>,
}

impl ArrivingSet {
    /// The next member; what was not read of the one before is read and checked first, once nobody else
    /// reads it. None once the whole set was found consistent.
    pub async fn next(&mut self) -> Result<Option<Opened>> {
        let lost = || {
            Error::new("the stream cannot be read on behind a member whose restore broke off")
                .hint("restore the set from a file")
        };
        let mut set = self.set.take().ok_or_else(lost)?;
        let before = self.open.take();
        let (set, next) = blocking(move || {
            if let Some(arriving) = before {
                set.end_member(arriving.wait().ok_or_else(lost)?)?;
            }
            let next = set.next_member()?.map(opened).transpose()?;
            Ok((set, next))
        })
        .await?;
        self.set = Some(set);
        Ok(next.map(|(opened, arriving)| {
            self.open = Some(arriving);
            opened
        }))
    }
}

/// The parallel part, with rows as they come. The archive is known to be whole only at its end:
/// if it is not, the restore fails then.
pub async fn restore(
    leader: Session,
    workers: Vec<Session>,
    shared: &Arc<Shared>,
    connector: &Connector,
    arriving: Arriving,
) -> Result<Session> {
    let parallel = Arc::new(Parallel::streaming(shared)?);
    let permits = Arc::new(Semaphore::new(shared.options.jobs + WAITING));
    let feeding = tokio::task::spawn_blocking({
        let (shared, parallel) = (Arc::clone(shared), Arc::clone(&parallel));
        let runtime = tokio::runtime::Handle::current();
        let feeder = Feeder {
            permits: Arc::clone(&permits),
            open: None,
        };
        // taken before anybody could ask for the next member
        let taken = arriving.take();
        move || {
            let outcome = feed(taken, feeder, &shared, &parallel, &runtime);
            if outcome.is_err() {
                // workers wait for rows that will not come
                shared.stop();
                parallel.wake();
            }
            outcome
        }
    });
    // entries with rows begin as their rows come
    let nothing_at_hand = |entry: &Entry| {
        Err(Error::new(format!(
            "{} cannot begin by itself",
            label(entry)
        )))
    };
    let outcome = run_parallel(
        leader,
        workers,
        shared,
        connector,
        &parallel,
        nothing_at_hand,
    )
    .await;
    if outcome.is_err() {
        // the feeder stops at the next block; it is not awaited, as it may sit in a read that never ends
        permits.close();
        parallel.give_up();
    }
    let leader = outcome?;
    feeding.await.map_err(broke_off)??;
    Ok(leader)
}

/// Hands every chunk that is wanted to the queue; ends entries as their last chunk has come.
fn feed(
    taken: Option<Taken>,
    feeder: Feeder,
    shared: &Shared,
    parallel: &Parallel,
    runtime: &tokio::runtime::Handle,
) -> Result<()> {
    let gone = || Error::new("the stream was read already");
    let mut taken = taken.ok_or_else(gone)?;
    let reader = taken.reader.as_deref_mut().ok_or_else(gone)?;
    feed_from(reader, feeder, shared, parallel, runtime)?;
    taken.put_back();
    Ok(())
}

fn feed_from(
    reader: &mut Reader,
    mut feeder: Feeder,
    shared: &Shared,
    parallel: &Parallel,
    runtime: &tokio::runtime::Handle,
) -> Result<()> {
    let wanted = |id: EntryId| shared.entry(id).is_some_and(is_data);
    // segment by segment: a block may end one entry and go on with another that needs its rows
    let mut chunks: HashMap<EntryId, u32> = HashMap::new();
    let mut ends: HashMap<EntryId, EndRecord> = HashMap::new();
    while let Some(block) = reader.next_block()? {
        if shared.is_stopped() {
            return Ok(());
        }
        let block = Arc::new(block);
        for (position, segment) in block.segments.iter().enumerate() {
            let entry = segment.entry();
            if !wanted(entry) {
                continue;
            }
            match segment {
                Segment::Rows(rows) => {
                    runtime.block_on(feeder.rows(shared, parallel, &block, position, rows))?;
                    *chunks.entry(entry).or_default() += u32::from(rows.last);
                }
                Segment::End(end) => {
                    ends.insert(entry, *end);
                }
            }
            // the end may come before the last chunk
            let seen = chunks.get(&entry).copied().unwrap_or_default();
            if let Some(end) = ends.get(&entry).filter(|end| end.chunks == seen) {
                parallel.close(shared, entry, end.rows)?;
                ends.remove(&entry);
                chunks.remove(&entry);
            }
        }
    }
    Ok(())
}

struct Feeder {
    permits: Arc<Semaphore>,
    /// Where the parts of a chunk that spans blocks go.
    open: Option<mpsc::Sender<Piece>>,
}

impl Feeder {
    async fn rows(
        &mut self,
        shared: &Shared,
        parallel: &Parallel,
        block: &Arc<DataBlock>,
        position: usize,
        rows: &RowsSegment,
    ) -> Result<()> {
        let piece = Piece::new(Arc::clone(block), position)?;
        if rows.first {
            let (sender, receiver) = mpsc::channel(1);
            // bounds what waits; given back when the piece has been sent to the server
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            // room for one: does not wait
            let _ = sender.send(piece.holding(permit)).await;
            parallel
                .arrive(shared, rows.entry, Rows::arriving(receiver))
                .await?;
            self.open = (!rows.last).then_some(sender);
        } else if let Some(sender) = &self.open {
            // the receiver is gone if its table has failed; the rest is passed over
            let _ = sender.send(piece).await;
            if rows.last {
                self.open = None;
            }
        }
        Ok(())
    }
}
