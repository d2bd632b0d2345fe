//! Rows on their way from COPY into blocks: counted, hashed, and cut into chunks.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::archive::{BlockBuilder, EndRecord, EntryId};
use crate::error::Result;
use crate::postgres::RowConsumer;
use crate::rows::Fingerprint;

/// A chunk does not end by a row's hash before this size.
const LEAST_CHUNK: usize = 1 << 20;
/// From LEAST_CHUNK on, chunks end after this many more bytes on average.
const MEAN_REST: u64 = 512 << 10;
/// A chunk ends here whatever the hash says.
const GREATEST_CHUNK: usize = 3 << 20;
/// A row that passes this is cut into parts.
const PART: usize = 4 << 20;

/// What the tasks of one entry have read together.
#[derive(Debug)]
pub struct Tally {
    next_chunk: AtomicU32,
    sum: Mutex<Sum>,
}

#[derive(Debug)]
struct Sum {
    tasks_left: u32,
    fingerprint: Fingerprint,
    raw_length: u64,
}

impl Tally {
    pub fn new(tasks: u32) -> Tally {
        Tally {
            next_chunk: AtomicU32::new(0),
            sum: Mutex::new(Sum {
                tasks_left: tasks,
                fingerprint: Fingerprint::default(),
                raw_length: 0,
            }),
        }
    }

    /// Adds what one task read; the last task of an entry gets its end record.
    pub fn add(
        &self,
        entry: EntryId,
        fingerprint: Fingerprint,
        raw_length: u64,
    ) -> Option<EndRecord> {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.tasks_left = sum.tasks_left.saturating_sub(1);
        sum.fingerprint.merge(fingerprint);
        sum.raw_length += raw_length;
        (sum.tasks_left == 0).then(|| EndRecord {
            entry,
            rows: sum.fingerprint.rows,
            fingerprint: sum.fingerprint.sum,
            chunks: self.next_chunk.load(Ordering::SeqCst),
            raw_length: sum.raw_length,
        })
    }

    fn chunk(&self) -> u32 {
        self.next_chunk.fetch_add(1, Ordering::SeqCst)
    }
}

/// Collects the rows of one task into the worker's current block.
pub struct Collector<'a> {
    pub builder: BlockBuilder,
    entry: EntryId,
    tally: &'a Tally,
    pub fingerprint: Fingerprint,
    pub raw_length: u64,
    /// Rows of the open chunk that have ended, since the last segment.
    rows: u64,
    /// The open chunk ends here.
    boundary: bool,
    /// Hash and length so far of the row that comes in pieces.
    long_row: Option<(Box<Xxh3>, usize)>,
    /// Number of the chunk that has been written in part.
    cut: Option<u32>,
}

/// What the worker must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// Nothing: the block has room.
    No,
    /// The block is full and complete.
    Whole,
    /// The block ends within a chunk: the next block must follow directly.
    Part,
}

impl<'a> Collector<'a> {
    pub fn new(builder: BlockBuilder, entry: EntryId, tally: &'a Tally) -> Collector<'a> {
        Collector {
            builder,
            entry,
            tally,
            fingerprint: Fingerprint::default(),
            raw_length: 0,
            rows: 0,
            boundary: false,
            long_row: None,
            cut: None,
        }
    }

    /// Closes what the consumer found full; the caller seals accordingly.
    pub fn close_full(&mut self) -> Result<Seal> {
        let was_cut = self.cut.is_some();
        if self.long_row.is_some() {
            let first = self.cut.is_none();
            let chunk = *self.cut.get_or_insert_with(|| self.tally.chunk());
            let rows = std::mem::take(&mut self.rows);
            self.builder
                .end_part(self.entry, chunk, rows, first, false)?;
            return Ok(Seal::Part);
        }
        self.end_chunk()?;
        Ok(if was_cut || self.builder.is_full() {
            Seal::Whole
        } else {
            Seal::No
        })
    }

    /// Closes the last chunk of the task.
    pub fn end_chunk(&mut self) -> Result<()> {
        self.boundary = false;
        if self.builder.open_length() == 0 {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let first = self.cut.is_none();
        let chunk = self.cut.take().unwrap_or_else(|| self.tally.chunk());
        self.builder.end_part(self.entry, chunk, rows, first, true)
    }

    fn append(&mut self, bytes: &[u8]) {
        self.builder.buffer().extend_from_slice(bytes);
        self.raw_length += bytes.len() as u64;
    }

    fn row_ended(&mut self, hash: u128, length: usize) {
        self.fingerprint.merge(Fingerprint { rows: 1, sum: hash });
        self.rows += 1;
        let open = self.builder.open_length();
        // a row ends a chunk with a chance in proportion to its length, by its own hash alone:
        // equal rows give equal chunks wherever they stand
        let by_hash = u64::from(hash as u32) < ((length as u64) << 32) / MEAN_REST;
        self.boundary =
            self.cut.is_some() || open >= GREATEST_CHUNK || (open >= LEAST_CHUNK && by_hash);
    }
}

impl RowConsumer for Collector<'_> {
    fn row(&mut self, row: &[u8]) {
        self.append(row);
        self.row_ended(xxh3_128(row), row.len());
    }

    fn piece(&mut self, piece: &[u8], last: bool) {
        let (hash, length) = self
            .long_row
            .get_or_insert_with(|| (Box::new(Xxh3::new()), 0));
        hash.update(piece);
        *length += piece.len();
        self.append(piece);
        if last && let Some((hash, length)) = self.long_row.take() {
            self.row_ended(hash.digest128(), length);
        }
    }

    fn full(&self) -> bool {
        self.boundary || (self.long_row.is_some() && self.builder.open_length() >= PART)
    }
}
