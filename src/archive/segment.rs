//! What a data block holds: runs of rows of one or several entries, and ends of entries.
//!
//! The payload is the row bytes of all segments, then the segment table, then the table's length.
//! The table comes last so that rows can be collected before it is known what they are.

use super::block::{BlockKind, Next, SealedBlock, seal};
use super::codec::Codec;
use super::entry::EntryId;
use super::limits::*;
use super::refusal::{damaged, needs_newer};
use super::wire::{Cursor, put_varint};
use crate::error::{Error, Result};

/// How the rows of a segment are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RowEncoding {
    /// As COPY writes them in text format.
    Text = 0,
}

impl RowEncoding {
    fn from_number(number: u8) -> Option<RowEncoding> {
        // 1 (binary) and 2 (columnar) are reserved.
        (number == 0).then_some(RowEncoding::Text)
    }
}

/// A chunk, or a part of one that is larger than a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsSegment {
    pub entry: EntryId,
    /// Number of the chunk within its entry, from 0.
    pub chunk: u32,
    pub encoding: RowEncoding,
    /// Rows that end within this segment.
    pub rows: u64,
    /// Whether the chunk begins here. A part that does not is the first segment of its block.
    pub first: bool,
    /// Whether the chunk ends here. A part that does not is the last segment of its block, and the
    /// next block begins with the next part.
    pub last: bool,
    /// Where the rows begin in the block's bytes.
    pub offset: u32,
    pub length: u32,
}

impl RowsSegment {
    pub fn range(&self) -> std::ops::Range<usize> {
        let start = self.offset as usize;
        start..start.saturating_add(self.length as usize)
    }
}

/// All that an entry's rows are, said once they have been read. Chunks of the entry may still
/// follow in the file: the entry is complete when as many as stated here have been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRecord {
    pub entry: EntryId,
    pub rows: u64,
    /// Sum modulo 2^128 of XXH3-128 over each row as COPY text, its line break included.
    pub fingerprint: u128,
    pub chunks: u32,
    /// Bytes of all rows, before compression.
    pub raw_length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    Rows(RowsSegment),
    End(EndRecord),
}

impl Segment {
    pub fn entry(&self) -> EntryId {
        match self {
            Segment::Rows(rows) => rows.entry,
            Segment::End(end) => end.entry,
        }
    }
}

pub(super) const SEGMENT_KIND_ROWS: u8 = 1;
pub(super) const SEGMENT_KIND_END: u8 = 2;
pub(super) const SEGMENT_FLAG_FIRST: u8 = 1;
pub(super) const SEGMENT_FLAG_LAST: u8 = 2;
/// The sum of XXH3-128 over rows as text.
pub(super) const FINGERPRINT_TEXT_SUM: u8 = 1;
/// Of the table's length, at the end of the payload.
const FOOTER_LENGTH: usize = 4;
/// No segment is coded in less.
const LEAST_SEGMENT_LENGTH: usize = 7;
/// No segment is coded in more: an end record's integers in their longest forms.
const MOST_SEGMENT_LENGTH: usize = 64;

fn put_segment(out: &mut Vec<u8>, segment: &Segment) {
    match segment {
        Segment::Rows(rows) => {
            out.push(SEGMENT_KIND_ROWS);
            out.push(
                if rows.first { SEGMENT_FLAG_FIRST } else { 0 }
                    | if rows.last { SEGMENT_FLAG_LAST } else { 0 },
            );
            put_varint(out, u64::from(rows.entry.0));
            out.push(rows.encoding as u8);
            put_varint(out, u64::from(rows.chunk));
            put_varint(out, rows.rows);
            put_varint(out, u64::from(rows.length));
        }
        Segment::End(end) => {
            out.push(SEGMENT_KIND_END);
            out.push(0);
            put_varint(out, u64::from(end.entry.0));
            out.push(FINGERPRINT_TEXT_SUM);
            out.extend_from_slice(&end.fingerprint.to_le_bytes());
            put_varint(out, end.rows);
            put_varint(out, u64::from(end.chunks));
            put_varint(out, end.raw_length);
        }
    }
}

/// Returns the segments and the length of the row bytes before the table.
pub(super) fn parse_payload(number: u64, payload: &[u8]) -> Result<(Vec<Segment>, usize)> {
    let what = format!("block {number}");
    let what = what.as_str();
    let bad = |problem: &str| damaged(format_args!("{what}: {problem}"));
    let table_start = payload
        .split_last_chunk::<FOOTER_LENGTH>()
        .and_then(|(body, footer)| body.len().checked_sub(u32::from_le_bytes(*footer) as usize))
        .ok_or_else(|| bad("segment table does not fit"))?;
    let table = &payload[table_start..payload.len() - FOOTER_LENGTH];
    let mut cursor = Cursor::new(table, what);
    let count = cursor.count(LEAST_SEGMENT_LENGTH)?;
    if count == 0 {
        return Err(bad("it has no segments"));
    }
    let mut segments = Vec::with_capacity(count);
    let mut offset = 0u32;
    for position in 0..count {
        let segment = parse_segment(&mut cursor, number, offset)?;
        if let Segment::Rows(rows) = &segment {
            offset = offset
                .checked_add(rows.length)
                .filter(|end| *end as usize <= table_start)
                .ok_or_else(|| bad("rows do not fit"))?;
            if (!rows.first && position > 0) || (!rows.last && position + 1 < count) {
                return Err(bad("part of a chunk is not where it must be"));
            }
        }
        segments.push(segment);
    }
    cursor.finish()?;
    if offset as usize != table_start {
        return Err(bad("bytes belong to no segment"));
    }
    Ok((segments, table_start))
}

fn parse_segment(cursor: &mut Cursor<'_>, number: u64, offset: u32) -> Result<Segment> {
    let kind = cursor.u8()?;
    let flags = cursor.u8()?;
    let known = match kind {
        SEGMENT_KIND_ROWS => SEGMENT_FLAG_FIRST | SEGMENT_FLAG_LAST,
        SEGMENT_KIND_END => 0,
        _ => {
            return Err(needs_newer(
                format_args!("block {number} has a segment of kind {kind}"),
                None,
            ));
        }
    };
    if flags & !known != 0 {
        return Err(needs_newer(
            format_args!("block {number} has a segment with flags {flags:#x}"),
            None,
        ));
    }
    let entry = EntryId(cursor.varint_u32()?);
    if entry.0 == 0 {
        return Err(cursor.damaged("there is no entry 0"));
    }
    if kind == SEGMENT_KIND_END {
        let fingerprint_kind = cursor.u8()?;
        if fingerprint_kind != FINGERPRINT_TEXT_SUM {
            return Err(needs_newer(
                format_args!("block {number} has a fingerprint of kind {fingerprint_kind}"),
                None,
            ));
        }
        return Ok(Segment::End(EndRecord {
            entry,
            fingerprint: cursor.u128()?,
            rows: cursor.varint()?,
            chunks: cursor.varint_u32()?,
            raw_length: cursor.varint()?,
        }));
    }
    let encoding = cursor.u8()?;
    let Some(encoding) = RowEncoding::from_number(encoding) else {
        return Err(needs_newer(
            format_args!("block {number} has rows in encoding {encoding}"),
            None,
        ));
    };
    let rows = RowsSegment {
        entry,
        chunk: cursor.varint_u32()?,
        encoding,
        rows: cursor.varint()?,
        first: flags & SEGMENT_FLAG_FIRST != 0,
        last: flags & SEGMENT_FLAG_LAST != 0,
        offset,
        length: cursor.varint_u32()?,
    };
    if rows.length == 0 || rows.rows > u64::from(rows.length) {
        return Err(cursor.damaged("row count and length do not fit each other"));
    }
    Ok(Segment::Rows(rows))
}

/// Collects the payload of a data block. Append row bytes to `buffer()`, then say with
/// `end_rows` what they were; the bytes are never moved. `seal` hands back a buffer for reuse.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    buffer: Vec<u8>,
    segments: Vec<Segment>,
    /// Bytes of the buffer that belong to segments already.
    closed: usize,
    /// The other buffer, for compression.
    spare: Vec<u8>,
}

impl BlockBuilder {
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    /// With buffers that `SealedBlock`s or `ArchiveWriter::append` gave back.
    pub fn with_buffers(mut buffer: Vec<u8>, mut spare: Vec<u8>) -> BlockBuilder {
        buffer.clear();
        spare.clear();
        BlockBuilder {
            buffer,
            spare,
            ..BlockBuilder::default()
        }
    }

    /// Where row bytes are appended. What stands there already must not be changed.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.segments.is_empty()
    }

    /// Row bytes collected so far, in all segments and the open one.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    /// Row bytes since the last `end_rows`.
    pub fn open_length(&self) -> usize {
        self.buffer.len() - self.closed.min(self.buffer.len())
    }

    /// Whether the block is to be sealed before more chunks or ends are added: its rows, or its
    /// segment table, are as long as writers aim at.
    pub fn is_full(&self) -> bool {
        let table = self.segments.len() * MOST_SEGMENT_LENGTH;
        self.closed.max(table) >= TARGET_DATA_BLOCK_LENGTH as usize
    }

    /// Closes a whole chunk: the bytes appended since the last call are `rows` whole rows.
    pub fn end_rows(&mut self, entry: EntryId, chunk: u32, rows: u64) -> Result<()> {
        self.end_part(entry, chunk, rows, true, true)
    }

    /// Closes a part of a chunk that spans blocks. `rows` counts the rows that end in this part. A
    /// part with `last` false must be followed by `seal`.
    pub fn end_part(
        &mut self,
        entry: EntryId,
        chunk: u32,
        rows: u64,
        first: bool,
        last: bool,
    ) -> Result<()> {
        let length = self.open_length();
        let fits = length > 0 && rows <= length as u64 && length <= MAX_BLOCK_LENGTH as usize;
        if !fits || (!first && !self.segments.is_empty()) || self.is_cut() {
            return Err(Error::new(format!(
                "cannot write a segment of {rows} rows in {length} bytes here (entry {}, chunk {chunk})",
                entry.0
            )));
        }
        self.segments.push(Segment::Rows(RowsSegment {
            entry,
            chunk,
            encoding: RowEncoding::Text,
            rows,
            first,
            last,
            offset: self.closed as u32,
            length: length as u32,
        }));
        self.closed = self.buffer.len();
        Ok(())
    }

    /// Says what the rows of an entry were, all together.
    pub fn end_entry(&mut self, end: EndRecord) -> Result<()> {
        if self.open_length() > 0 || self.is_cut() {
            return Err(Error::new(format!(
                "cannot end entry {} within a chunk",
                end.entry.0
            )));
        }
        self.segments.push(Segment::End(end));
        Ok(())
    }

    fn is_cut(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Rows(rows)) if !rows.last)
    }

    /// Compresses, checksums and hashes. Returns the builder too, empty, with buffers to reuse:
    /// all but the one that the sealed block took.
    pub fn seal(self, codec: Codec) -> Result<(SealedBlock, BlockBuilder)> {
        self.seal_for(codec, Next::Write)
    }

    /// As `seal`, for the writer of an encrypted archive, which makes the checksums itself.
    pub fn compress(self, codec: Codec) -> Result<(SealedBlock, BlockBuilder)> {
        self.seal_for(codec, Next::Encrypt)
    }

    fn seal_for(mut self, codec: Codec, next: Next) -> Result<(SealedBlock, BlockBuilder)> {
        if self.open_length() > 0 {
            return Err(Error::new("cannot seal a block within a chunk"));
        }
        let table_start = self.buffer.len();
        put_varint(&mut self.buffer, self.segments.len() as u64);
        for segment in &self.segments {
            put_segment(&mut self.buffer, segment);
        }
        let table = (self.buffer.len() - table_start) as u32;
        self.buffer.extend_from_slice(&table.to_le_bytes());
        let (block, spare) = seal(
            BlockKind::Data,
            0,
            codec,
            next,
            self.buffer,
            self.segments,
            self.spare,
        )?;
        Ok((block, BlockBuilder::with_buffers(spare, Vec::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(entry: u32) -> EndRecord {
        EndRecord {
            entry: EntryId(entry),
            rows: u64::MAX,
            fingerprint: u128::MAX,
            chunks: u32::MAX,
            raw_length: u64::MAX,
        }
    }

    /// Entries without rows fill a block as well: their end records are of the longest kind here.
    #[test]
    fn segments_fill_a_block() {
        let mut builder = BlockBuilder::new();
        let mut ends = 0;
        while !builder.is_full() {
            builder.end_entry(end(u32::MAX)).unwrap();
            ends += 1;
            assert!(ends < 1_000_000, "never full");
        }
        let (block, _) = builder.seal(Codec::None).unwrap();
        let target = TARGET_DATA_BLOCK_LENGTH;
        assert!(
            (target / 2..=target).contains(&block.raw_length),
            "{} bytes for {ends} ends",
            block.raw_length
        );
    }

    #[test]
    fn rows_fill_a_block() {
        let mut builder = BlockBuilder::new();
        builder
            .buffer()
            .resize(TARGET_DATA_BLOCK_LENGTH as usize, b'x');
        assert!(!builder.is_full(), "the chunk is open");
        builder.end_rows(EntryId(1), 0, 1).unwrap();
        assert!(builder.is_full());
    }
}
