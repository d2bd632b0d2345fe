//! Counting and fingerprinting the rows of data blocks.

use std::collections::{BTreeSet, HashMap};

use crate::archive::{ChunkRecord, DataBlock, EndPosition, EndRecord, EntryId, Segment};
use crate::rows::{Fingerprint, FingerprintStream};

/// What was seen of one entry.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    fingerprint: Fingerprint,
    raw_length: u64,
    chunks: u64,
}

/// Takes data blocks; those of a chunk in parts must come one after the other.
#[derive(Default)]
pub(super) struct RowCheck {
    seen: HashMap<EntryId, Seen>,
    /// The chunk whose parts are coming, and its rows so far.
    open: Option<(ChunkRecord, FingerprintStream)>,
    /// Whether a block was lost: further parts of a chunk that began there are passed over.
    interrupted: bool,
    /// Sums over the records that the index must have, whatever their order.
    pub chunks: u128,
    pub ends: u128,
    pub end_records: Vec<EndRecord>,
    pub rows: u64,
}

impl RowCheck {
    /// Returns what is wrong with the block.
    pub fn add(&mut self, block: &DataBlock) -> Result<(), String> {
        for (position, segment) in block.segments.iter().enumerate() {
            let rows = match segment {
                Segment::End(end) => {
                    let place = EndPosition {
                        end: *end,
                        block: block.number,
                        segment: position as u32,
                    };
                    self.ends = self.ends.wrapping_add(place.digest());
                    self.end_records.push(*end);
                    continue;
                }
                Segment::Rows(rows) => rows,
            };
            let orphan = self.interrupted && position == 0 && !rows.first;
            if orphan {
                self.interrupted = !rows.last;
                continue;
            }
            self.interrupted = false;
            let (chunk, mut stream) = match self.open.take() {
                Some((chunk, stream)) => (chunk.extend(rows), stream),
                None => {
                    let start = ChunkRecord::start(rows, block.number, position as u32);
                    (rows.first.then_some(start), FingerprintStream::new())
                }
            };
            let chunk = chunk.ok_or("a chunk in parts is not continued as it must be")?;
            let before = stream.rows();
            stream.update(block.segment_bytes(position));
            let counted = stream.rows() - before;
            if counted != rows.rows {
                return Err(format!(
                    "entry {}, chunk {}: {counted} rows where {} must be",
                    rows.entry.0, rows.chunk, rows.rows
                ));
            }
            self.rows += counted;
            if !rows.last {
                self.open = Some((chunk, stream));
                continue;
            }
            let fingerprint = stream.finish().map_err(|error| {
                format!("entry {}, chunk {}: {error}", rows.entry.0, rows.chunk)
            })?;
            let seen = self.seen.entry(rows.entry).or_default();
            seen.fingerprint.merge(fingerprint);
            seen.raw_length = seen.raw_length.wrapping_add(chunk.raw_length);
            seen.chunks += 1;
            self.chunks = self.chunks.wrapping_add(chunk.digest());
        }
        Ok(())
    }

    /// Says that a block could not be read.
    pub fn interrupt(&mut self) {
        self.open = None;
        self.interrupted = true;
    }

    /// Begins anew, at a block that no chunk leads into.
    pub fn begin_run(&mut self) {
        self.open = None;
        self.interrupted = false;
    }

    pub fn merge(mut self, other: RowCheck) -> RowCheck {
        for (entry, seen) in other.seen {
            let own = self.seen.entry(entry).or_default();
            own.fingerprint.merge(seen.fingerprint);
            own.raw_length = own.raw_length.wrapping_add(seen.raw_length);
            own.chunks += seen.chunks;
        }
        self.chunks = self.chunks.wrapping_add(other.chunks);
        self.ends = self.ends.wrapping_add(other.ends);
        self.end_records.extend(other.end_records);
        self.rows += other.rows;
        self
    }

    /// What is wrong with an entry's rows, all its blocks having been added.
    pub fn compare(&self, end: &EndRecord) -> Result<(), String> {
        let seen = self.seen.get(&end.entry).copied().unwrap_or_default();
        if seen.chunks != u64::from(end.chunks) {
            return Err(format!(
                "{} of {} chunks are there",
                seen.chunks, end.chunks
            ));
        }
        if seen.fingerprint.rows != end.rows || seen.raw_length != end.raw_length {
            return Err(format!(
                "{} rows in {} bytes, where {} rows in {} bytes were written",
                seen.fingerprint.rows, seen.raw_length, end.rows, end.raw_length
            ));
        }
        if seen.fingerprint != Fingerprint::of_end(end) {
            return Err("the fingerprint of the rows is not the one that was written".to_owned());
        }
        Ok(())
    }

    /// Entries of which anything was seen.
    pub fn entries(&self) -> BTreeSet<EntryId> {
        self.seen.keys().copied().collect()
    }
}
