//! The index: where blocks are, what they hash to, and which chunks they hold.
//!
//! Records stand in pages of bounded size; the root page lists the pages with the key that each
//! begins with and its hash. So one table of a large archive is found by reading three pages, and
//! the root hash in the trailer vouches for every byte on the way.

mod page;
mod root;

pub(crate) use page::ParsedPage;
pub(super) use page::{build_block_pages, build_chunk_pages, build_end_pages};
pub(super) use root::IndexRoot;
pub(crate) use root::PageReference;
pub use root::Totals;
#[cfg(test)]
pub(super) use root::{INDEX_TAG_CODE, INDEX_TAG_PAGES, INDEX_TAG_TOTALS};

use super::block::{BlockHash, BlockHeader, BlockKind};
use super::codec::BlockCodec;
use super::entry::EntryId;
use super::limits::BLOCK_HEADER_LENGTH;
use super::segment::{EndRecord, RowEncoding, RowsSegment};

/// Where one block is and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRecord {
    pub kind: BlockKind,
    pub codec: BlockCodec,
    pub flags: u16,
    pub number: u64,
    pub volume: u32,
    /// Of the block's header.
    pub offset: u64,
    pub raw_length: u32,
    pub stored_length: u32,
    pub hash: BlockHash,
}

impl BlockRecord {
    /// Of header and stored bytes.
    pub fn framed_length(&self) -> u64 {
        BLOCK_HEADER_LENGTH as u64 + u64::from(self.stored_length)
    }

    /// Whether a block's own header says the same as the index.
    pub(super) fn agrees_with(&self, header: &BlockHeader) -> bool {
        self.kind == header.kind
            && self.codec == header.codec
            && self.flags == header.flags
            && self.number == header.sequence
            && self.raw_length == header.raw_length
            && self.stored_length == header.stored_length
    }

    /// Feeds the record to a digest over all blocks in order.
    pub(super) fn digest(&self, hasher: &mut blake3::Hasher) {
        let mut bytes = [0; 64];
        bytes[0] = self.kind as u8;
        bytes[1] = self.codec as u8;
        bytes[2..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.volume.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.raw_length.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.stored_length.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.hash);
        hasher.update(&bytes);
    }
}

/// Where one chunk is: a run of whole rows of one entry, restorable alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRecord {
    pub entry: EntryId,
    pub chunk: u32,
    /// The block it begins in.
    pub block: u64,
    /// Position of its (first) segment in that block.
    pub segment: u32,
    /// Adjacent blocks it spans; 1 for most.
    pub parts: u32,
    pub encoding: RowEncoding,
    pub rows: u64,
    pub raw_length: u64,
}

impl ChunkRecord {
    pub(crate) fn start(segment: &RowsSegment, block: u64, position: u32) -> ChunkRecord {
        ChunkRecord {
            entry: segment.entry,
            chunk: segment.chunk,
            block,
            segment: position,
            parts: 1,
            encoding: segment.encoding,
            rows: segment.rows,
            raw_length: u64::from(segment.length),
        }
    }

    /// Adds the next part. None if it is not one, or if the sums overflow.
    pub(crate) fn extend(&self, segment: &RowsSegment) -> Option<ChunkRecord> {
        let follows = segment.entry == self.entry
            && segment.chunk == self.chunk
            && segment.encoding == self.encoding
            && !segment.first;
        follows.then_some(())?;
        Some(ChunkRecord {
            parts: self.parts.checked_add(1)?,
            rows: self.rows.checked_add(segment.rows)?,
            raw_length: self.raw_length.checked_add(u64::from(segment.length))?,
            ..*self
        })
    }

    /// Block numbers it spans.
    pub fn blocks(&self) -> std::ops::Range<u64> {
        self.block..self.block.saturating_add(u64::from(self.parts))
    }

    /// For a sum that is the same in whatever order chunks come.
    pub(crate) fn digest(&self) -> u128 {
        let mut bytes = [0; 41];
        bytes[0..4].copy_from_slice(&self.entry.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.block.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.segment.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.parts.to_le_bytes());
        bytes[24] = self.encoding as u8;
        bytes[25..33].copy_from_slice(&self.rows.to_le_bytes());
        bytes[33..41].copy_from_slice(&self.raw_length.to_le_bytes());
        xxhash_rust::xxh3::xxh3_128(&bytes)
    }
}

/// An end record, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndPosition {
    pub end: EndRecord,
    pub block: u64,
    pub segment: u32,
}

impl EndPosition {
    pub(crate) fn digest(&self) -> u128 {
        let mut bytes = [0; 53];
        bytes[0..4].copy_from_slice(&self.end.entry.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.end.chunks.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.end.rows.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.end.fingerprint.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.end.raw_length.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.block.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.segment.to_le_bytes());
        bytes[52] = b'E';
        xxhash_rust::xxh3::xxh3_128(&bytes)
    }
}

/// Which records a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum PageKind {
    Blocks = 1,
    Chunks = 2,
    Ends = 3,
}

impl PageKind {
    fn from_number(number: u8) -> Option<PageKind> {
        Some(match number {
            1 => PageKind::Blocks,
            2 => PageKind::Chunks,
            3 => PageKind::Ends,
            _ => return None,
        })
    }
}

/// The key that a page's first record has. Keys ascend through the pages of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageKey {
    /// Number of the block, or id of the entry.
    pub major: u64,
    /// Number of the chunk.
    pub minor: u32,
}
