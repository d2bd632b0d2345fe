//! Restoring from a stream that is read once: rows go to the connections as they come.

use std::collections::HashMap;
use std::io::{BufReader, Stdin};
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::create::Shared;
use super::parallel::Parallel;
use super::run_parallel;
use super::source::{Piece, Rows};
use crate::archive::{DataBlock, Entry, EntryId, Header, Segment, StreamReader};
use crate::error::{Error, Result};
use crate::postgres::Session;

/// Blocks that wait for a connection, beyond those in use.
const WAITING: usize = 4;

/// The reader, after the entries.
pub struct Incoming {
    reader: StreamReader<BufReader<Stdin>>,
}

fn broke_off(error: impl std::fmt::Display) -> Error {
    Error::new(format!("reading standard input broke off: {error}"))
}

pub async fn open_stdin() -> Result<(Header, Vec<Entry>, Incoming)> {
    tokio::task::spawn_blocking(|| {
        let mut reader = StreamReader::open(BufReader::with_capacity(1 << 20, std::io::stdin()))?;
        let entries = reader.entries()?;
        Ok((reader.header().clone(), entries, Incoming { reader }))
    })
    .await
    .map_err(broke_off)?
}

/// The parallel part, with rows as they come. The archive is known to be whole only at its end:
/// if it is not, the restore fails then.
pub async fn restore(
    leader: Session,
    workers: Vec<Session>,
    shared: &Arc<Shared>,
    incoming: Incoming,
) -> Result<Session> {
    let parallel = Arc::new(Parallel::streaming(shared));
    let feeding = tokio::task::spawn_blocking({
        let (shared, parallel) = (Arc::clone(shared), Arc::clone(&parallel));
        let runtime = tokio::runtime::Handle::current();
        move || {
            let outcome = feed(incoming.reader, &shared, &parallel, &runtime);
            if outcome.is_err() {
                // workers wait for rows that will not come
                shared.stop();
                parallel.wake();
            }
            outcome
        }
    });
    let nothing_at_hand = |_: &Entry| Ok(Vec::new());
    // if the error of a worker came first, the reader may sit in a read that never ends
    let leader = run_parallel(leader, workers, shared, &parallel, nothing_at_hand).await?;
    feeding.await.map_err(broke_off)??;
    Ok(leader)
}

/// Hands every chunk to the queue; ends entries as their last chunk has come.
fn feed(
    mut reader: StreamReader<BufReader<Stdin>>,
    shared: &Shared,
    parallel: &Parallel,
    runtime: &tokio::runtime::Handle,
) -> Result<()> {
    let mut feeder = Feeder {
        permits: Arc::new(Semaphore::new(shared.options.jobs + WAITING)),
        open: None,
        unfinished: HashMap::new(),
    };
    while let Some(block) = reader.next_block()? {
        if shared.is_stopped() {
            return Ok(());
        }
        let block = Arc::new(block);
        for (position, segment) in block.segments.iter().enumerate() {
            match segment {
                Segment::Rows(rows) if parallel.wants(rows.entry) => {
                    runtime.block_on(feeder.rows(
                        parallel, &block, position, rows.entry, rows.first, rows.last,
                    ));
                }
                Segment::Rows(_) => {}
                Segment::End(end) => {
                    feeder.unfinished.insert(end.entry, ());
                }
            }
        }
        feeder.unfinished.retain(|entry, ()| {
            let complete = reader.is_complete(*entry);
            if complete {
                parallel.close(shared, *entry);
            }
            !complete
        });
    }
    Ok(())
}

struct Feeder {
    permits: Arc<Semaphore>,
    /// Where the parts of a chunk that spans blocks go.
    open: Option<mpsc::Sender<Piece>>,
    /// Entries whose end has come, but not all their chunks.
    unfinished: HashMap<EntryId, ()>,
}

impl Feeder {
    async fn rows(
        &mut self,
        parallel: &Parallel,
        block: &Arc<DataBlock>,
        position: usize,
        entry: EntryId,
        first: bool,
        last: bool,
    ) {
        let piece = Piece::new(Arc::clone(block), position);
        if first {
            let (sender, receiver) = mpsc::channel(1);
            // bounds what waits; given back when the piece has been sent to the server
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            // room for one: does not wait
            let _ = sender.send(piece.holding(permit)).await;
            parallel.arrive(entry, Rows::Stream(receiver));
            self.open = (!last).then_some(sender);
        } else if let Some(sender) = &self.open {
            // the receiver is gone if its table has failed; the rest is passed over
            let _ = sender.send(piece).await;
            if last {
                self.open = None;
            }
        }
    }
}
