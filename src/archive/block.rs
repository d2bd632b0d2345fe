//! A block: a framed, checksummed piece of the file.

use super::codec::{self, BlockCodec, Codec};
use super::header::ArchiveId;
use super::limits::*;
use super::refusal::{damaged, matches, needs_newer};
use super::segment::{self, Segment};
use super::wire::Cursor;
use crate::error::{Error, Result};

/// BLAKE3 of a block's stored bytes.
pub type BlockHash = [u8; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BlockKind {
    Entries = 1,
    Data = 2,
    IndexPage = 3,
    IndexRoot = 4,
}

impl BlockKind {
    pub(super) fn from_number(number: u8) -> Option<BlockKind> {
        Some(match number {
            1 => BlockKind::Entries,
            2 => BlockKind::Data,
            3 => BlockKind::IndexPage,
            4 => BlockKind::IndexRoot,
            _ => return None,
        })
    }
}

/// What stands before a block's stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    pub kind: BlockKind,
    pub codec: BlockCodec,
    pub flags: u16,
    /// Position among all blocks of the archive, from 0.
    pub sequence: u64,
    pub raw_length: u32,
    pub stored_length: u32,
    /// CRC32 of the stored bytes.
    pub stored_crc: u32,
}

impl BlockHeader {
    /// The header's own checksum covers the archive id, so that a block of another archive fails.
    pub fn serialise(&self, id: ArchiveId) -> [u8; BLOCK_HEADER_LENGTH] {
        let mut out = [0; BLOCK_HEADER_LENGTH];
        out[0..4].copy_from_slice(&BLOCK_SYNC);
        out[4] = self.kind as u8;
        out[5] = self.codec as u8;
        out[6..8].copy_from_slice(&self.flags.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..20].copy_from_slice(&self.raw_length.to_le_bytes());
        out[20..24].copy_from_slice(&self.stored_length.to_le_bytes());
        out[24..28].copy_from_slice(&self.stored_crc.to_le_bytes());
        let crc = header_crc(id, &out);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Checks the checksum before it believes anything.
    pub fn parse(bytes: &[u8; BLOCK_HEADER_LENGTH], id: ArchiveId) -> Result<BlockHeader> {
        let mut cursor = Cursor::new(bytes, "block header");
        if cursor.array::<4>()? != BLOCK_SYNC {
            return Err(damaged("no block where one must begin"));
        }
        let kind = cursor.u8()?;
        let codec = cursor.u8()?;
        let flags = cursor.u16()?;
        let sequence = cursor.u64()?;
        let raw_length = cursor.u32()?;
        let stored_length = cursor.u32()?;
        let stored_crc = cursor.u32()?;
        if !matches(cursor.u32()?, header_crc(id, bytes)) {
            return Err(damaged("block header: checksum does not match"));
        }
        let Some(kind) = BlockKind::from_number(kind) else {
            return Err(needs_newer(
                format_args!("block {sequence} has kind {kind}"),
                None,
            ));
        };
        let Some(codec) = BlockCodec::from_number(codec) else {
            return Err(needs_newer(
                format_args!("block {sequence} has codec {codec}"),
                None,
            ));
        };
        let known = match kind {
            BlockKind::Entries => BLOCK_FLAG_CONTINUED | BLOCK_FLAG_SEALED,
            BlockKind::Data | BlockKind::IndexPage => BLOCK_FLAG_SEALED,
            BlockKind::IndexRoot => 0,
        };
        if flags & CRITICAL_BLOCK_FLAGS & !known != 0 {
            return Err(needs_newer(
                format_args!("block {sequence} has flags {flags:#x}"),
                None,
            ));
        }
        let header = BlockHeader {
            kind,
            codec,
            flags,
            sequence,
            raw_length,
            stored_length,
            stored_crc,
        };
        check_lengths(codec, flags, raw_length, stored_length)
            .map_err(|problem| damaged(format_args!("block header: {problem}")))?;
        Ok(header)
    }

    pub fn is_continued(&self) -> bool {
        self.flags & BLOCK_FLAG_CONTINUED != 0
    }

    pub fn is_sealed(&self) -> bool {
        self.flags & BLOCK_FLAG_SEALED != 0
    }

    /// Of the stored bytes and this header together.
    pub fn framed_length(&self) -> u64 {
        BLOCK_HEADER_LENGTH as u64 + u64::from(self.stored_length)
    }

    /// Checks the stored bytes against the checksum.
    pub fn check_stored(&self, stored: &[u8]) -> Result<()> {
        if stored.len() != self.stored_length as usize
            || !matches(crc32fast::hash(stored), self.stored_crc)
        {
            return Err(damaged(format_args!(
                "block {}: checksum does not match",
                self.sequence
            )));
        }
        Ok(())
    }
}

/// A writer stores what compression did not shrink as it is, so stored bytes are never more, but for
/// the tag of what is sealed.
pub(super) fn check_lengths(
    codec: BlockCodec,
    flags: u16,
    raw: u32,
    stored: u32,
) -> Result<(), String> {
    if raw == 0 || raw > MAX_BLOCK_LENGTH {
        return Err(format!("raw length {raw} is out of range"));
    }
    let before_sealing = match flags & BLOCK_FLAG_SEALED {
        0 => Some(stored),
        _ => stored.checked_sub(TAG_LENGTH as u32),
    };
    let possible = before_sealing.is_some_and(|length| match codec {
        BlockCodec::None => length == raw,
        BlockCodec::Lz4 | BlockCodec::Zstd => length > 0 && length < raw,
    });
    if !possible {
        return Err(format!("stored length {stored} is out of range"));
    }
    Ok(())
}

fn header_crc(id: ArchiveId, header: &[u8; BLOCK_HEADER_LENGTH]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&id.0);
    crc.update(&header[..BLOCK_HEADER_LENGTH - 4]);
    crc.finalize()
}

/// A block with the costly work done (compression, checksum, hash), ready to be appended. Sealing
/// needs no archive, so it runs on any thread.
#[derive(Debug)]
pub struct SealedBlock {
    pub(super) kind: BlockKind,
    pub(super) codec: BlockCodec,
    pub(super) flags: u16,
    pub(super) raw_length: u32,
    pub(super) stored: Vec<u8>,
    /// None: the writer will encrypt the block, and only then make them.
    pub(super) checks: Option<Checks>,
    /// Of a data block.
    pub(super) segments: Vec<Segment>,
}

impl SealedBlock {
    /// The header that it has as it is now.
    pub(super) fn header(&self, sequence: u64, stored_crc: u32) -> BlockHeader {
        BlockHeader {
            kind: self.kind,
            codec: self.codec,
            flags: self.flags,
            sequence,
            raw_length: self.raw_length,
            stored_length: self.stored.len() as u32,
            stored_crc,
        }
    }
}

/// Over a block's stored bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checks {
    pub crc: u32,
    pub hash: BlockHash,
}

impl Checks {
    pub fn of(stored: &[u8]) -> Checks {
        Checks {
            crc: crc32fast::hash(stored),
            hash: *blake3::hash(stored).as_bytes(),
        }
    }
}

/// Whether a block is complete when it is handed to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Write,
    /// Checksums would be thrown away.
    Encrypt,
}

/// Seals `raw`. `spare` is a buffer to be used for the result; the one of the two that the sealed
/// block does not keep is returned, for reuse.
pub(super) fn seal(
    kind: BlockKind,
    flags: u16,
    codec: Codec,
    next: Next,
    raw: Vec<u8>,
    segments: Vec<Segment>,
    mut spare: Vec<u8>,
) -> Result<(SealedBlock, Vec<u8>)> {
    let raw_length = u32::try_from(raw.len())
        .ok()
        .filter(|length| (1..=MAX_BLOCK_LENGTH).contains(length))
        .ok_or_else(|| Error::new(format!("cannot write a block of {} bytes", raw.len())))?;
    let codec = codec::compress(codec, &raw, &mut spare)?;
    let (stored, spare) = match codec {
        BlockCodec::None => (raw, spare),
        BlockCodec::Lz4 | BlockCodec::Zstd => (spare, raw),
    };
    let block = SealedBlock {
        kind,
        codec,
        flags,
        raw_length,
        checks: (next == Next::Write).then(|| Checks::of(&stored)),
        stored,
        segments,
    };
    Ok((block, spare))
}

/// A data block, checked and decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataBlock {
    /// The block's sequence number, as the index's chunk records name it.
    pub number: u64,
    pub segments: Vec<Segment>,
    /// The rows of all segments; a segment's `range` lies within.
    pub bytes: Vec<u8>,
}

impl DataBlock {
    /// Takes a decompressed payload apart.
    pub(crate) fn parse(number: u64, mut payload: Vec<u8>) -> Result<DataBlock> {
        let (segments, rows_length) = segment::parse_payload(number, &payload)?;
        payload.truncate(rows_length);
        Ok(DataBlock {
            number,
            segments,
            bytes: payload,
        })
    }

    /// The bytes of the segment at `position`; empty for an end segment.
    pub fn segment_bytes(&self, position: usize) -> &[u8] {
        match self.segments.get(position) {
            Some(Segment::Rows(rows)) => self.bytes.get(rows.range()).unwrap_or_default(),
            _ => &[],
        }
    }
}
