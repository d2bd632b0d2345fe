//! The trailer: fixed size, at the very end. An archive is complete when it stands.

use super::header::ArchiveId;
use super::limits::*;
use super::refusal::{damaged, matches, needs_newer, truncated};
use super::wire::Cursor;
use crate::error::Result;

/// Context of the hash over a whole archive, so that it is never mistaken for another hash.
pub(super) const ROOT_CONTEXT: &str = "rdump archive root hash, format version 0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    pub header_length: u32,
    /// Where the index's root page is, its block header included.
    pub root_volume: u32,
    pub root_offset: u64,
    pub root_length: u64,
    /// Blocks of all kinds.
    pub blocks: u64,
    /// Bytes of this volume, the trailer included.
    pub file_length: u64,
    pub id: ArchiveId,
    /// Vouches for every byte of the archive: it covers the header, the index's root page (which
    /// holds the pages' hashes, which hold the blocks') and this trailer.
    pub root_hash: [u8; 32],
}

impl Trailer {
    pub fn serialise(&self) -> [u8; TRAILER_LENGTH] {
        let mut out = [0; TRAILER_LENGTH];
        out[..64].copy_from_slice(&self.start());
        out[64..96].copy_from_slice(&self.root_hash);
        // 96..100: reserved.
        let crc = crc32fast::hash(&out[..100]);
        out[100..104].copy_from_slice(&crc.to_le_bytes());
        out[104..].copy_from_slice(&TRAILER_END_MAGIC);
        out
    }

    /// What stands before the root hash, and is covered by it.
    fn start(&self) -> [u8; 64] {
        let mut out = [0; 64];
        out[0..8].copy_from_slice(&TRAILER_MAGIC);
        out[8..12].copy_from_slice(&self.header_length.to_le_bytes());
        out[12..16].copy_from_slice(&self.root_volume.to_le_bytes());
        out[16..24].copy_from_slice(&self.root_offset.to_le_bytes());
        out[24..32].copy_from_slice(&self.root_length.to_le_bytes());
        out[32..40].copy_from_slice(&self.blocks.to_le_bytes());
        out[40..48].copy_from_slice(&self.file_length.to_le_bytes());
        out[48..64].copy_from_slice(&self.id.0);
        out
    }

    /// The hash that this trailer must bear, given the bytes of the header and of the index's root
    /// page (block header and stored bytes).
    pub fn hash(&self, header: &[u8], root_page: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(ROOT_CONTEXT);
        hasher.update(header);
        for piece in root_page {
            hasher.update(piece);
        }
        hasher.update(&self.start());
        *hasher.finalize().as_bytes()
    }

    pub fn parse(bytes: &[u8; TRAILER_LENGTH]) -> Result<Trailer> {
        let mut cursor = Cursor::new(bytes, "trailer");
        let magic = cursor.array::<8>()?;
        let header_length = cursor.u32()?;
        let root_volume = cursor.u32()?;
        let root_offset = cursor.u64()?;
        let root_length = cursor.u64()?;
        let blocks = cursor.u64()?;
        let file_length = cursor.u64()?;
        let id = ArchiveId(cursor.array()?);
        let root_hash = cursor.array()?;
        let reserved = cursor.u32()?;
        let crc = cursor.u32()?;
        let end_magic = cursor.array::<8>()?;
        if magic != TRAILER_MAGIC && end_magic != TRAILER_END_MAGIC {
            return Err(truncated("it does not end with a trailer"));
        }
        if magic != TRAILER_MAGIC || end_magic != TRAILER_END_MAGIC {
            return Err(damaged("trailer: it does not begin and end as it must"));
        }
        if !matches(crc, crc32fast::hash(&bytes[..100])) {
            return Err(damaged("trailer: checksum does not match"));
        }
        if reserved != 0 {
            return Err(damaged("trailer: reserved bytes are not zero"));
        }
        if root_volume != 0 {
            return Err(needs_newer("it has several volumes", None));
        }
        let trailer = Trailer {
            header_length,
            root_volume,
            root_offset,
            root_length,
            blocks,
            file_length,
            id,
            root_hash,
        };
        if !trailer.is_consistent() {
            return Err(damaged("trailer: lengths do not fit each other"));
        }
        Ok(trailer)
    }

    /// Header, blocks, root page and trailer in this order, and the last two adjacent.
    fn is_consistent(&self) -> bool {
        let root_length = (BLOCK_HEADER_LENGTH as u64 + 1)
            ..=BLOCK_HEADER_LENGTH as u64 + u64::from(MAX_BLOCK_LENGTH);
        let end = self
            .root_offset
            .checked_add(self.root_length)
            .and_then(|end| end.checked_add(TRAILER_LENGTH as u64));
        root_length.contains(&self.root_length)
            && self.root_offset >= u64::from(self.header_length)
            && self.header_length <= MAX_HEADER_LENGTH
            && self.blocks > 0
            && end == Some(self.file_length)
    }
}
