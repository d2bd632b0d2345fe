//! Reading an archive once, from front to back: from standard input.
//!
//! Each block is checked as it comes. Whether the archive is whole, and whether its index says the
//! same as its blocks, is known only at the end: what was read before is to be believed only once
//! `next_block` has returned None.

use std::collections::HashMap;
use std::io::{self, Read};

use super::block::{BlockHeader, BlockKind, DataBlock};
use super::encryption::{Access, Keys, SetKey};
use super::entry::{Contents, Entry, EntryId};
use super::header::Header;
use super::index::{
    BlockRecord, ChunkRecord, EndPosition, IndexRoot, PageReference, ParsedPage, Totals,
};
use super::limits::*;
use super::random::EntriesCollector;
use super::refusal::{damaged, matches, truncated, within};
use super::segment::{EndRecord, RowsSegment, Segment};
use super::trailer::Trailer;
use crate::error::{Error, Result};

/// What was seen of one entry with contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    chunks: u64,
    rows: u64,
    raw_length: u64,
    end: Option<EndRecord>,
}

/// Sums over blocks or over the index, which must be equal in the end. They take the same memory
/// however large the archive is.
#[derive(Debug, Default)]
struct Account {
    blocks: blake3::Hasher,
    /// Sums of the records' digests, so that their order does not matter.
    chunks: u128,
    ends: u128,
    totals: Totals,
}

impl Account {
    fn add_block(&mut self, record: &BlockRecord) {
        record.digest(&mut self.blocks);
        match record.kind {
            BlockKind::Entries => self.totals.entries_blocks += 1,
            _ => self.totals.data_blocks += 1,
        }
    }

    fn add_chunk(&mut self, chunk: &ChunkRecord) {
        self.chunks = self.chunks.wrapping_add(chunk.digest());
        self.totals.chunks += 1;
        self.totals.rows = self.totals.rows.saturating_add(chunk.rows);
        self.totals.raw_length = self.totals.raw_length.saturating_add(chunk.raw_length);
    }

    fn add_end(&mut self, end: &EndPosition) {
        self.ends = self.ends.wrapping_add(end.digest());
        self.totals.ends += 1;
    }

    fn agrees_with(&self, other: &Account) -> bool {
        self.blocks.finalize() == other.blocks.finalize()
            && self.chunks == other.chunks
            && self.ends == other.ends
            && self.totals == other.totals
    }
}

/// Reads header, entries, data blocks, then index and trailer. Memory: one block, and some 80
/// bytes for each entry with contents.
#[derive(Debug)]
pub struct StreamReader<R> {
    source: R,
    header: Header,
    /// Never locked: what cannot be read again cannot be verified and then read.
    access: Access,
    header_bytes: Vec<u8>,
    offset: u64,
    next_number: u64,
    /// A block header read ahead, at the end of the entries.
    pending: Option<BlockHeader>,
    entries_read: bool,
    progress: HashMap<EntryId, Progress>,
    open_chunk: Option<ChunkRecord>,
    seen: Account,
    indexed: Account,
    /// The last chunk that the index had, to see that chunks ascend.
    last_chunk: Option<(EntryId, u32)>,
    last_end: Option<EntryId>,
    pages: Vec<PageReference>,
    /// It is a member of a set: something follows its trailer.
    in_set: bool,
    /// Read at the end.
    trailer: Option<Trailer>,
}

impl<R: Read> StreamReader<R> {
    /// Reads the header.
    pub fn open(source: R) -> Result<StreamReader<R>> {
        StreamReader::open_with(source, &Keys::none())
    }

    /// The same; an encrypted archive needs a key that opens it.
    pub fn open_with(source: R, keys: &Keys) -> Result<StreamReader<R>> {
        StreamReader::begin(source, keys, false)
    }

    /// The same, of a member of a set, behind whose trailer the stream goes on.
    pub(super) fn open_member(source: R, keys: &Keys) -> Result<StreamReader<R>> {
        StreamReader::begin(source, keys, true)
    }

    fn begin(mut source: R, keys: &Keys, in_set: bool) -> Result<StreamReader<R>> {
        let (mut header, header_bytes) = Header::read(&mut source)?;
        let access = header.unlock(keys)?;
        access.require()?;
        Ok(StreamReader {
            source,
            header,
            access,
            offset: header_bytes.len() as u64,
            header_bytes,
            next_number: 0,
            pending: None,
            entries_read: false,
            progress: HashMap::new(),
            open_chunk: None,
            seen: Account::default(),
            indexed: Account::default(),
            last_chunk: None,
            last_end: None,
            pages: Vec::new(),
            in_set,
            trailer: None,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn set_key(&self) -> Option<SetKey> {
        self.access.set_key()
    }

    /// Reads the entries. To be called once, before `next_block`.
    pub fn entries(&mut self) -> Result<Vec<Entry>> {
        if self.entries_read {
            return Err(Error::new("the entries of a stream can be read only once"));
        }
        self.entries_read = true;
        let mut entries = Vec::new();
        let mut collector = EntriesCollector::default();
        loop {
            let header = self.read_block_header()?;
            if header.kind != BlockKind::Entries {
                self.pending = Some(header);
                break;
            }
            let payload = self.read_payload(&header)?;
            collector.add(&header, payload, &mut entries)?;
        }
        collector.finish(&entries)?;
        self.seen.totals.entries = entries.len() as u64;
        self.progress = entries
            .iter()
            .filter(|entry| entry.contents != Contents::None)
            .map(|entry| (entry.id, Progress::default()))
            .collect();
        Ok(entries)
    }

    /// The next data block; None once the index and the trailer have been read and the whole
    /// archive found consistent.
    pub fn next_block(&mut self) -> Result<Option<DataBlock>> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        if !self.entries_read {
            self.entries()?;
        }
        let header = match self.pending.take() {
            Some(header) => header,
            None => self.read_block_header()?,
        };
        if header.kind == BlockKind::Data {
            let number = header.sequence;
            let payload = self.read_payload(&header)?;
            let block = DataBlock::parse(number, payload)?;
            for (position, segment) in (0u32..).zip(&block.segments) {
                self.note_segment(number, position, segment)?;
            }
            return Ok(Some(block));
        }
        if self.open_chunk.is_some() {
            return Err(damaged("the last chunk is not complete"));
        }
        self.trailer = Some(self.read_index(header)?);
        Ok(None)
    }

    /// Known once `next_block` has returned None.
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// Whether the entry's end and all its chunks have come. True for entries without contents.
    pub fn is_complete(&self, entry: EntryId) -> bool {
        self.progress.get(&entry).is_none_or(|progress| {
            progress
                .end
                .is_some_and(|end| progress.chunks == u64::from(end.chunks))
        })
    }

    /// The entry's end record, if it has come.
    pub fn end_record(&self, entry: EntryId) -> Option<EndRecord> {
        self.progress.get(&entry)?.end
    }

    fn note_segment(&mut self, number: u64, position: u32, segment: &Segment) -> Result<()> {
        let entry = segment.entry();
        let Some(progress) = self.progress.get_mut(&entry) else {
            return Err(damaged(format_args!(
                "block {number} has rows of entry {}, which has none",
                entry.0
            )));
        };
        match segment {
            Segment::End(end) => {
                if self.open_chunk.is_some() || progress.end.replace(*end).is_some() {
                    return Err(damaged(format_args!(
                        "block {number}: entry {} cannot end here",
                        entry.0
                    )));
                }
                self.seen.add_end(&EndPosition {
                    end: *end,
                    block: number,
                    segment: position,
                });
            }
            Segment::Rows(rows) => {
                // else a reader would wait for what becomes of a chunk too many
                let complete = progress
                    .end
                    .is_some_and(|end| progress.chunks >= u64::from(end.chunks));
                if complete && self.open_chunk.is_none() {
                    return Err(damaged(format_args!(
                        "block {number} has rows of entry {}, which has ended",
                        entry.0
                    )));
                }
                let chunk = next_part(self.open_chunk.take(), rows, number, position)?;
                if !rows.last {
                    self.open_chunk = Some(chunk);
                    return Ok(());
                }
                progress.chunks += 1;
                progress.rows = progress.rows.saturating_add(chunk.rows);
                progress.raw_length = progress.raw_length.saturating_add(chunk.raw_length);
                self.seen.add_chunk(&chunk);
            }
        }
        let counted = progress.end.is_none_or(|end| {
            let short = progress.chunks < u64::from(end.chunks);
            let equal = progress.chunks == u64::from(end.chunks)
                && progress.rows == end.rows
                && progress.raw_length == end.raw_length;
            short || equal
        });
        if !counted {
            return Err(damaged(format_args!(
                "entry {}: its chunks do not sum up to its end record",
                entry.0
            )));
        }
        Ok(())
    }

    /// Reads the index, `header` being that of its first block, and the trailer.
    fn read_index(&mut self, mut header: BlockHeader) -> Result<Trailer> {
        while header.kind == BlockKind::IndexPage {
            self.read_index_page(&header)?;
            header = self.read_block_header()?;
        }
        if header.kind != BlockKind::IndexRoot {
            return Err(damaged(format_args!(
                "block {} is not where it must be",
                header.sequence
            )));
        }
        let root_offset = self.offset - BLOCK_HEADER_LENGTH as u64;
        let stored = self.read_stored(&header)?;
        let payload = self.access.payload(&header, stored.clone())?;
        let root = IndexRoot::parse(&payload, Some(&self.header.minimum_reader))?;
        self.access
            .check_root(&self.header_bytes, &payload, &root)?;

        let mut bytes = [0; TRAILER_LENGTH];
        self.read_exactly(&mut bytes, "its trailer")?;
        let trailer = Trailer::parse(&bytes)?;
        if !self.in_set && self.source.read(&mut [0; 1])? != 0 {
            return Err(damaged("something follows its trailer"));
        }
        let header_bytes = header.serialise(self.header.id);
        let root_hash = trailer.hash(&self.header_bytes, &[&header_bytes, &stored]);
        if !matches(trailer.root_hash, root_hash) {
            return Err(damaged("root hash does not match"));
        }
        let expected = Trailer {
            header_length: self.header_bytes.len() as u32,
            root_volume: 0,
            root_offset,
            root_length: header.framed_length(),
            blocks: self.next_number,
            file_length: self.offset,
            id: self.header.id,
            root_hash: trailer.root_hash,
        };
        if trailer != expected {
            return Err(damaged("trailer: it does not fit the archive"));
        }

        // The index has no block of the entries' count.
        self.indexed.totals.entries = self.seen.totals.entries;
        if self.pages != root.pages
            || self.indexed.totals != root.totals
            || !self.seen.agrees_with(&self.indexed)
        {
            return Err(damaged("its index does not say what its blocks hold"));
        }
        if let Some((entry, _)) = self
            .progress
            .iter()
            .find(|(entry, _)| !self.is_complete(**entry))
        {
            return Err(damaged(format_args!("entry {} is not complete", entry.0)));
        }
        Ok(trailer)
    }

    fn read_index_page(&mut self, header: &BlockHeader) -> Result<()> {
        let offset = self.offset - BLOCK_HEADER_LENGTH as u64;
        let stored = self.read_stored(header)?;
        let hash = *blake3::hash(&stored).as_bytes();
        let page = self.access.page(header, stored)?;
        let ascending = match &page {
            ParsedPage::Blocks(records) => {
                records
                    .iter()
                    .for_each(|record| self.indexed.add_block(record));
                true
            }
            ParsedPage::Chunks(records) => records.iter().all(|record| {
                self.indexed.add_chunk(record);
                let key = (record.entry, record.chunk);
                let follows = match self.last_chunk {
                    Some((entry, chunk)) if entry == record.entry => {
                        chunk.checked_add(1) == Some(record.chunk)
                    }
                    Some((entry, _)) => entry < record.entry && record.chunk == 0,
                    None => record.chunk == 0,
                };
                self.last_chunk = Some(key);
                follows
            }),
            ParsedPage::Ends(records) => records.iter().all(|record| {
                self.indexed.add_end(record);
                let entry = record.end.entry;
                self.last_end.replace(entry).is_none_or(|last| last < entry)
            }),
        };
        let Some(first) = page.first().filter(|_| ascending) else {
            return Err(damaged("index page: records are out of order"));
        };
        self.pages.push(PageReference {
            kind: page.kind(),
            first,
            count: page.count() as u32,
            volume: 0,
            offset,
            stored_length: header.stored_length,
            hash,
        });
        Ok(())
    }

    fn read_block_header(&mut self) -> Result<BlockHeader> {
        let mut bytes = [0; BLOCK_HEADER_LENGTH];
        self.read_exactly(&mut bytes, "a block header")?;
        let header = BlockHeader::parse(&bytes, self.header.id).map_err(|error| {
            let offset = self.offset - BLOCK_HEADER_LENGTH as u64;
            within(error, format_args!("at offset {offset}"))
        })?;
        if header.sequence != self.next_number {
            return Err(damaged(format_args!(
                "block {} stands where block {} must",
                header.sequence, self.next_number
            )));
        }
        self.next_number += 1;
        Ok(header)
    }

    /// Checksum only: index blocks are hashed by their readers.
    fn read_stored(&mut self, header: &BlockHeader) -> Result<Vec<u8>> {
        let mut stored = vec![0; header.stored_length as usize];
        self.read_exactly(&mut stored, "a block")?;
        header.check_stored(&stored)?;
        Ok(stored)
    }

    fn read_payload(&mut self, header: &BlockHeader) -> Result<Vec<u8>> {
        let offset = self.offset - BLOCK_HEADER_LENGTH as u64;
        let stored = self.read_stored(header)?;
        self.seen.add_block(&BlockRecord {
            kind: header.kind,
            codec: header.codec,
            flags: header.flags,
            number: header.sequence,
            volume: 0,
            offset,
            raw_length: header.raw_length,
            stored_length: header.stored_length,
            hash: *blake3::hash(&stored).as_bytes(),
        });
        self.access
            .payload(header, stored)
            .map_err(|error| within(error, format_args!("block {}", header.sequence)))
    }

    fn read_exactly(&mut self, buffer: &mut [u8], what: &str) -> Result<()> {
        match self.source.read_exact(buffer) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(truncated(
                format_args!("it ends after offset {}, within {what}", self.offset),
            )),
            Err(error) => Err(Error::new(format!(
                "could not read the archive after offset {}: {error}",
                self.offset
            ))),
        }
    }
}

fn next_part(
    open: Option<ChunkRecord>,
    rows: &RowsSegment,
    number: u64,
    position: u32,
) -> Result<ChunkRecord> {
    match open {
        Some(open) => open.extend(rows),
        None if rows.first => Some(ChunkRecord::start(rows, number, position)),
        None => None,
    }
    .ok_or_else(|| {
        damaged(format_args!(
            "block {number} does not continue the chunk before it"
        ))
    })
}
