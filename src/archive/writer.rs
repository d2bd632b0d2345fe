//! Writes an archive from front to back. Sealing happened elsewhere; this is cheap.

use std::collections::HashMap;
use std::io::Write;

use super::block::{BlockHeader, BlockKind, Checks, Next, SealedBlock, seal};
use super::codec::Codec;
use super::encryption::{BlockSealer, Encryption, SetKey};
use super::entry::{Contents, Entry, EntryId};
use super::header::{ArchiveId, Header};
use super::index::{
    BlockRecord, ChunkRecord, EndPosition, IndexRoot, PageKind, PageReference, Totals,
    build_block_pages, build_chunk_pages, build_end_pages,
};
use super::limits::*;
use super::random::RandomReader;
use super::segment::Segment;
use super::toc;
use super::trailer::Trailer;
use crate::error::{Error, Result};
use crate::storage::{ReadAt, write_error};

/// The index is small next to the data, and read more often.
const INDEX_CODEC: Codec = Codec::Zstd { level: 1 };

/// Writes header, entries, data blocks, index and trailer, in this order, and holds the writer's
/// side of the format's rules: what it finishes, the readers accept.
///
/// Memory: about 90 bytes a block and 40 a chunk.
#[derive(Debug)]
pub struct ArchiveWriter<W: Write> {
    sink: W,
    id: ArchiveId,
    header_bytes: Vec<u8>,
    codec: Codec,
    /// Of an encrypted archive.
    sealer: Option<BlockSealer>,
    /// Bytes written.
    offset: u64,
    entries: u32,
    entries_blocks: u64,
    data_begun: bool,
    blocks: Vec<BlockRecord>,
    chunks: Vec<ChunkRecord>,
    ends: Vec<EndPosition>,
    /// The chunk whose next part the next block must begin with.
    open_chunk: Option<ChunkRecord>,
    /// Entries with contents, and how often their end record was seen.
    contents: HashMap<EntryId, bool>,
}

/// What `finish` wrote.
#[derive(Debug, Clone)]
pub struct ArchiveSummary {
    pub id: ArchiveId,
    pub totals: Totals,
    pub file_length: u64,
    pub root_hash: [u8; 32],
    /// Of an encrypted archive.
    pub(super) set_key: Option<SetKey>,
}

impl ArchiveSummary {
    pub fn is_encrypted(&self) -> bool {
        self.set_key.is_some()
    }

    /// Opens what was written and sees that it is this archive: for `LocalTarget::commit`. Needs no
    /// key, which whoever writes an encrypted archive may not have.
    pub fn check(&self, source: impl ReadAt) -> Result<()> {
        let reader = RandomReader::open(source)?;
        if reader.trailer().root_hash != self.root_hash {
            return Err(Error::new("the file does not hold what was written"));
        }
        Ok(())
    }
}

impl<W: Write> ArchiveWriter<W> {
    /// Writes the header. `codec` compresses the entries; data blocks come sealed.
    pub fn begin(sink: W, header: &Header, codec: Codec) -> Result<ArchiveWriter<W>> {
        ArchiveWriter::begin_with(sink, header, codec, None)
    }

    /// The same, of an archive that only those named can open.
    pub fn begin_with(
        mut sink: W,
        header: &Header,
        codec: Codec,
        encryption: Option<&Encryption>,
    ) -> Result<ArchiveWriter<W>> {
        let (header_bytes, sealer) = match encryption {
            None => (header.serialise()?, None),
            Some(encryption) => {
                let (bytes, keys) = header.serialise_sealed(encryption)?;
                (bytes, Some(BlockSealer::new(keys)))
            }
        };
        sink.write_all(&header_bytes).map_err(write_error)?;
        Ok(ArchiveWriter {
            sink,
            id: header.id,
            offset: header_bytes.len() as u64,
            header_bytes,
            codec,
            sealer,
            entries: 0,
            entries_blocks: 0,
            data_begun: false,
            blocks: Vec::new(),
            chunks: Vec::new(),
            ends: Vec::new(),
            open_chunk: None,
            contents: HashMap::new(),
        })
    }

    /// Where the archive goes.
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.offset
    }

    /// Writes all entries. To be called once, before any data. Ids are 1, 2, 3 and so on.
    pub fn write_entries(&mut self, entries: &[Entry]) -> Result<()> {
        if self.entries > 0 || self.data_begun {
            return Err(Error::new("entries are written once, before the data"));
        }
        toc::check_dependencies(entries).map_err(Error::new)?;
        let mut payload = Vec::new();
        for entry in entries {
            self.entries = self
                .entries
                .checked_add(1)
                .ok_or_else(|| Error::new("too many entries for an archive"))?;
            if entry.id != EntryId(self.entries) {
                return Err(Error::new(format!(
                    "entry {} has number {}",
                    self.entries, entry.id.0
                )));
            }
            if entry.contents != Contents::None {
                self.contents.insert(entry.id, false);
            }
            let before = payload.len();
            toc::put_entry(&mut payload, entry)?;
            if before > 0 && payload.len() > TARGET_ENTRIES_BLOCK_LENGTH as usize {
                let last = payload.split_off(before);
                self.append_entries(payload)?;
                payload = last;
            }
        }
        if !payload.is_empty() {
            self.append_entries(payload)?;
        }
        Ok(())
    }

    /// Whole entries in one block, or one long entry in several.
    fn append_entries(&mut self, payload: Vec<u8>) -> Result<()> {
        let mut pieces = payload.chunks(MAX_BLOCK_LENGTH as usize).peekable();
        while let Some(piece) = pieces.next() {
            let flags = match pieces.peek() {
                Some(_) => BLOCK_FLAG_CONTINUED,
                None => 0,
            };
            let (mut block, _) = seal(
                BlockKind::Entries,
                flags,
                self.codec,
                self.next(),
                piece.to_vec(),
                Vec::new(),
                Vec::new(),
            )?;
            self.entries_blocks += 1;
            let (record, _) = self.write_block(self.blocks.len() as u64, &mut block)?;
            self.blocks.push(record);
        }
        Ok(())
    }

    fn next(&self) -> Next {
        match self.sealer {
            None => Next::Write,
            Some(_) => Next::Encrypt,
        }
    }

    /// Writes a data block and returns its buffer for reuse. The blocks of a chunk that spans
    /// several must come one after the other, with nothing between.
    pub fn append(&mut self, mut block: SealedBlock) -> Result<Vec<u8>> {
        if block.kind != BlockKind::Data || block.segments.is_empty() {
            return Err(Error::new("only data blocks with segments can be appended"));
        }
        self.data_begun = true;
        let number = self.blocks.len() as u64;
        self.note_segments(number, &block.segments)?;
        let (record, _) = self.write_block(number, &mut block)?;
        self.blocks.push(record);
        Ok(block.stored)
    }

    fn note_segments(&mut self, number: u64, segments: &[Segment]) -> Result<()> {
        for (position, segment) in (0u32..).zip(segments) {
            let entry = segment.entry();
            let Some(ended) = self.contents.get_mut(&entry) else {
                return Err(Error::new(format!("entry {} has no contents", entry.0)));
            };
            match segment {
                Segment::End(end) => {
                    if self.open_chunk.is_some() || std::mem::replace(ended, true) {
                        return Err(Error::new(format!("entry {} cannot end here", entry.0)));
                    }
                    self.ends.push(EndPosition {
                        end: *end,
                        block: number,
                        segment: position,
                    });
                }
                Segment::Rows(rows) => {
                    let chunk = match self.open_chunk.take() {
                        Some(open) => open.extend(rows),
                        None if rows.first => Some(ChunkRecord::start(rows, number, position)),
                        None => None,
                    };
                    let Some(chunk) = chunk else {
                        return Err(Error::new(format!(
                            "the parts of a chunk are not adjacent (entry {}, chunk {})",
                            entry.0, rows.chunk
                        )));
                    };
                    if rows.last {
                        self.chunks.push(chunk);
                    } else {
                        self.open_chunk = Some(chunk);
                    }
                }
            }
        }
        Ok(())
    }

    /// Encrypts the block, in an encrypted archive, then writes it.
    fn write_block(
        &mut self,
        number: u64,
        block: &mut SealedBlock,
    ) -> Result<(BlockRecord, [u8; BLOCK_HEADER_LENGTH])> {
        if let Some(sealer) = &mut self.sealer {
            block.flags |= BLOCK_FLAG_SEALED;
            let header = BlockHeader {
                stored_length: (block.stored.len() + TAG_LENGTH) as u32,
                ..block.header(number, 0)
            };
            sealer.seal(&header, &mut block.stored)?;
            block.checks = None;
        }
        self.write_as_it_is(number, block)
    }

    /// Also returns the block's header, serialised.
    fn write_as_it_is(
        &mut self,
        number: u64,
        block: &SealedBlock,
    ) -> Result<(BlockRecord, [u8; BLOCK_HEADER_LENGTH])> {
        let checks = block.checks.unwrap_or_else(|| Checks::of(&block.stored));
        let header = block.header(number, checks.crc);
        let header_bytes = header.serialise(self.id);
        self.sink
            .write_all(&header_bytes)
            .and_then(|()| self.sink.write_all(&block.stored))
            .map_err(write_error)?;
        let record = BlockRecord {
            kind: block.kind,
            codec: block.codec,
            flags: block.flags,
            number,
            volume: 0,
            offset: self.offset,
            raw_length: block.raw_length,
            stored_length: header.stored_length,
            hash: checks.hash,
        };
        self.offset += record.framed_length();
        Ok((record, header_bytes))
    }

    /// Writes index and trailer and flushes. Fails unless every entry with contents has ended and
    /// all its chunks are there.
    pub fn finish(mut self) -> Result<(W, ArchiveSummary)> {
        let totals = self.check_complete()?;
        let mut pages = Vec::new();
        let mut number = self.blocks.len() as u64;
        let blocks = std::mem::take(&mut self.blocks);
        let chunks = std::mem::take(&mut self.chunks);
        let ends = std::mem::take(&mut self.ends);
        for page in build_block_pages(&blocks)
            .chain(build_chunk_pages(&chunks))
            .chain(build_end_pages(&ends))
        {
            // where blocks are, and what they hash to, stays in clear: for whoever verifies
            let in_clear = self.sealer.is_none() || page.kind == PageKind::Blocks;
            let next = match in_clear {
                true => Next::Write,
                false => Next::Encrypt,
            };
            let (mut block, _) = seal(
                BlockKind::IndexPage,
                0,
                INDEX_CODEC,
                next,
                page.payload,
                Vec::new(),
                Vec::new(),
            )?;
            let (record, _) = match in_clear {
                true => self.write_as_it_is(number, &block)?,
                false => self.write_block(number, &mut block)?,
            };
            pages.push(PageReference {
                kind: page.kind,
                first: page.first,
                count: page.count,
                volume: record.volume,
                offset: record.offset,
                stored_length: record.stored_length,
                hash: record.hash,
            });
            number += 1;
        }

        let root = IndexRoot {
            totals,
            pages,
            code: None,
        };
        let mut payload = root.serialise();
        if let Some(sealer) = &self.sealer {
            IndexRoot::put_code(&mut payload, |fields| {
                sealer.keys().authenticate_root(&self.header_bytes, fields)
            });
        }
        let (block, _) = seal(
            BlockKind::IndexRoot,
            0,
            INDEX_CODEC,
            Next::Write,
            payload,
            Vec::new(),
            Vec::new(),
        )?;
        let (record, root_header) = self.write_as_it_is(number, &block)?;

        let mut trailer = Trailer {
            header_length: self.header_bytes.len() as u32,
            root_volume: record.volume,
            root_offset: record.offset,
            root_length: record.framed_length(),
            blocks: number + 1,
            file_length: self.offset + TRAILER_LENGTH as u64,
            id: self.id,
            root_hash: [0; 32],
        };
        trailer.root_hash = trailer.hash(&self.header_bytes, &[&root_header, &block.stored]);
        self.sink
            .write_all(&trailer.serialise())
            .and_then(|()| self.sink.flush())
            .map_err(write_error)?;
        let summary = ArchiveSummary {
            id: self.id,
            totals,
            file_length: trailer.file_length,
            root_hash: trailer.root_hash,
            set_key: self.sealer.as_ref().map(|sealer| sealer.keys().set_key()),
        };
        Ok((self.sink, summary))
    }

    /// Sorts chunks and ends and holds them against each other.
    fn check_complete(&mut self) -> Result<Totals> {
        if self.open_chunk.is_some() {
            return Err(Error::new("the last chunk is not complete"));
        }
        if let Some((entry, _)) = self.contents.iter().find(|(_, ended)| !**ended) {
            return Err(Error::new(format!("entry {} has not ended", entry.0)));
        }
        self.chunks
            .sort_unstable_by_key(|chunk| (chunk.entry, chunk.chunk));
        self.ends.sort_unstable_by_key(|end| end.end.entry);
        let mut totals = Totals {
            entries: u64::from(self.entries),
            entries_blocks: self.entries_blocks,
            data_blocks: self.blocks.len() as u64 - self.entries_blocks,
            chunks: self.chunks.len() as u64,
            ends: self.ends.len() as u64,
            ..Totals::default()
        };
        let mut rest = self.chunks.as_slice();
        for EndPosition { end, .. } in &self.ends {
            let count = rest.partition_point(|chunk| chunk.entry <= end.entry);
            let (own, after) = rest.split_at(count);
            rest = after;
            let dense = (0u32..)
                .zip(own)
                .all(|(number, chunk)| chunk.chunk == number);
            let rows: u64 = own.iter().map(|chunk| chunk.rows).sum();
            let raw_length: u64 = own.iter().map(|chunk| chunk.raw_length).sum();
            if !dense
                || own.len() as u64 != u64::from(end.chunks)
                || rows != end.rows
                || raw_length != end.raw_length
            {
                return Err(Error::new(format!(
                    "entry {} has {} rows in {} chunks, but ended with {} in {}",
                    end.entry.0,
                    rows,
                    own.len(),
                    end.rows,
                    end.chunks
                )));
            }
            totals.rows += rows;
            totals.raw_length += raw_length;
        }
        Ok(totals)
    }
}
