//! Reading an archive at any place: from a file, or later by ranged requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::block::{BlockHeader, BlockKind, DataBlock};
use super::encryption::{Access, Keys};
use super::entry::{Entry, EntryId};
use super::header::{Header, header_length};
use super::index::{
    BlockRecord, ChunkRecord, IndexRoot, PageKey, PageKind, PageReference, ParsedPage, Totals,
};
use super::limits::*;
use super::refusal::{damaged, matches, truncated, within};
use super::segment::EndRecord;
use super::toc;
use super::trailer::Trailer;
use crate::error::Result;
use crate::storage::ReadAt;

/// Index pages kept: some 170 KB each at most.
const CACHED_PAGES: usize = 64;

/// An archive whose header, trailer and index root have been checked against the root hash. All
/// else is checked as it is read: every block against its checksums and against the hash that the
/// index has for it. Usable by many threads at once.
#[derive(Debug)]
pub struct RandomReader<R> {
    source: R,
    header: Header,
    access: Access,
    trailer: Trailer,
    root: IndexRoot,
    pages: Mutex<VecDeque<(usize, Arc<ParsedPage>)>>,
}

impl<R: ReadAt> RandomReader<R> {
    /// Without a key: an encrypted archive is then locked.
    pub fn open(source: R) -> Result<RandomReader<R>> {
        RandomReader::open_with(source, &Keys::none())
    }

    /// An encrypted archive for which no key is given at all is locked: its stored bytes can be
    /// verified, and whatever needs its contents fails. Keys of which none opens it are an error.
    pub fn open_with(source: R, keys: &Keys) -> Result<RandomReader<R>> {
        let size = source.size()?;
        let (mut header, header_bytes) = read_header(&source, size)?;
        let access = header.unlock(keys)?;
        let trailer = read_trailer(&source, size)?;
        if trailer.id != header.id || trailer.header_length as usize != header_bytes.len() {
            return Err(damaged("header and trailer are not of the same archive"));
        }
        let root_bytes = read_range(&source, trailer.root_offset, trailer.root_length)?;
        if !matches(
            trailer.hash(&header_bytes, &[&root_bytes]),
            trailer.root_hash,
        ) {
            return Err(damaged("root hash does not match"));
        }
        let (root_header, stored) = split_block(&root_bytes, &header)?;
        if root_header.kind != BlockKind::IndexRoot
            || root_header.sequence.checked_add(1) != Some(trailer.blocks)
        {
            return Err(damaged("index root: it is not where it must be"));
        }
        root_header.check_stored(stored)?;
        let payload = access.payload(&root_header, stored.to_vec())?;
        let root = IndexRoot::parse(&payload, Some(&header.minimum_reader))?;
        access.check_root(&header_bytes, &payload, &root)?;
        let reader = RandomReader {
            source,
            header,
            access,
            trailer,
            root,
            pages: Mutex::default(),
        };
        reader.check_layout()?;
        Ok(reader)
    }

    /// Index pages lie just before the root, and number as many blocks as the trailer says.
    fn check_layout(&self) -> Result<()> {
        let pages = &self.root.pages;
        let numbered = self.root.page_sequence(pages.len()) == self.root_sequence();
        let adjacent = match pages.last() {
            Some(last) => {
                last.offset.checked_add(last.framed_length()) == Some(self.trailer.root_offset)
            }
            None => self.trailer.root_offset == u64::from(self.trailer.header_length),
        };
        if !numbered || !adjacent {
            return Err(damaged("index root: it does not fit the archive"));
        }
        Ok(())
    }

    fn root_sequence(&self) -> u64 {
        self.trailer.blocks.saturating_sub(1)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    /// Whether the archive is encrypted and was opened without a key.
    pub fn is_locked(&self) -> bool {
        self.access.is_locked()
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub fn totals(&self) -> &Totals {
        &self.root.totals
    }

    pub fn source(&self) -> &R {
        &self.source
    }

    /// All entries, in restore order.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.access.require()?;
        let mut entries = Vec::new();
        let mut collector = EntriesCollector::default();
        for number in 0..self.root.totals.entries_blocks {
            let record = self.block_record(number)?;
            if record.kind != BlockKind::Entries {
                return Err(damaged(format_args!("block {number} holds no entries")));
            }
            let (header, payload) = self.read_payload(&record)?;
            collector.add(&header, payload, &mut entries)?;
        }
        collector.finish(&entries)?;
        if entries.len() as u64 != self.root.totals.entries {
            return Err(damaged(format_args!(
                "it has {} entries, and its index {}",
                entries.len(),
                self.root.totals.entries
            )));
        }
        Ok(entries)
    }

    /// What an entry's rows are together. None for an entry without contents.
    pub fn end_record(&self, entry: EntryId) -> Result<Option<EndRecord>> {
        self.access.require()?;
        let key = PageKey {
            major: u64::from(entry.0),
            minor: 0,
        };
        let Some(position) = self.root.page_before(PageKind::Ends, key) else {
            return Ok(None);
        };
        let page = self.page(position)?;
        let ParsedPage::Ends(records) = &*page else {
            return Err(damaged("index page: it has the wrong kind"));
        };
        Ok(records
            .binary_search_by_key(&entry, |record| record.end.entry)
            .ok()
            .and_then(|found| records.get(found))
            .map(|record| record.end))
    }

    /// An entry's chunks, by number. Checked to be as many, of as many rows, as its end record
    /// says.
    pub fn chunks(&self, entry: EntryId) -> Result<Vec<ChunkRecord>> {
        self.access.require()?;
        let mut chunks: Vec<ChunkRecord> = Vec::new();
        let key = PageKey {
            major: u64::from(entry.0),
            minor: 0,
        };
        let first = self.root.page_before(PageKind::Chunks, key);
        let first = first.or_else(|| {
            self.root
                .pages_of(PageKind::Chunks)
                .next()
                .map(|(at, _)| at)
        });
        for position in first
            .into_iter()
            .flat_map(|first| first..self.root.pages.len())
        {
            let begins =
                self.root.pages.get(position).is_some_and(|page| {
                    page.kind == PageKind::Chunks && page.first.major <= key.major
                });
            if !begins {
                break;
            }
            let page = self.page(position)?;
            let ParsedPage::Chunks(records) = &*page else {
                return Err(damaged("index page: it has the wrong kind"));
            };
            let start = records.partition_point(|record| record.entry < entry);
            let own = records
                .get(start..)
                .unwrap_or_default()
                .iter()
                .take_while(|record| record.entry == entry);
            chunks.extend(own);
        }
        check_chunks(entry, &chunks, self.end_record(entry)?.as_ref())?;
        self.check_blocks(entry, &chunks)?;
        Ok(chunks)
    }

    /// Chunks lie in the data blocks. A block continues one of them at most, so that a forged index
    /// cannot claim more parts than the file has room for.
    fn check_blocks(&self, entry: EntryId, chunks: &[ChunkRecord]) -> Result<()> {
        let data = self.data_blocks();
        let inside = |chunk: &ChunkRecord| {
            let blocks = chunk.blocks();
            data.start <= blocks.start && blocks.end <= data.end && chunk.parts > 0
        };
        let continued: u64 = chunks
            .iter()
            .map(|chunk| u64::from(chunk.parts.saturating_sub(1)))
            .sum();
        if chunks.iter().all(inside) && continued <= data.end - data.start {
            return Ok(());
        }
        Err(damaged(format_args!(
            "entry {}: the index has its chunks where no data blocks are",
            entry.0
        )))
    }

    /// Numbers of the data blocks.
    pub fn data_blocks(&self) -> std::ops::Range<u64> {
        self.root.totals.entries_blocks..self.root.totals.blocks().unwrap_or(0)
    }

    /// A data block, checked and decompressed.
    pub fn read_block(&self, number: u64) -> Result<DataBlock> {
        let record = self.block_record(number)?;
        if record.kind != BlockKind::Data {
            return Err(damaged(format_args!("block {number} holds no data")));
        }
        let (_, payload) = self.read_payload(&record)?;
        DataBlock::parse(number, payload)
    }

    /// Where a block is.
    pub fn block_record(&self, number: u64) -> Result<BlockRecord> {
        let key = PageKey {
            major: number,
            minor: 0,
        };
        let missing = || damaged(format_args!("block {number} is not in the index"));
        let position = self
            .root
            .page_before(PageKind::Blocks, key)
            .ok_or_else(missing)?;
        let page = self.page(position)?;
        let ParsedPage::Blocks(records) = &*page else {
            return Err(damaged("index page: it has the wrong kind"));
        };
        let first = records.first().ok_or_else(missing)?.number;
        usize::try_from(number.saturating_sub(first))
            .ok()
            .and_then(|at| records.get(at))
            .copied()
            .ok_or_else(missing)
    }

    /// Reads a block's stored bytes and checks them in every way.
    pub(crate) fn read_stored(&self, record: &BlockRecord) -> Result<(BlockHeader, Vec<u8>)> {
        let (header, stored) = read_block_at(
            &self.source,
            &self.header,
            record.offset,
            record.framed_length(),
        )
        .map_err(|error| within(error, format_args!("block {}", record.number)))?;
        if !record.agrees_with(&header) {
            return Err(damaged(format_args!(
                "block {} is not the one that the index has",
                record.number
            )));
        }
        header.check_stored(&stored)?;
        if !matches(*blake3::hash(&stored).as_bytes(), record.hash) {
            return Err(damaged(format_args!(
                "block {}: hash does not match",
                record.number
            )));
        }
        Ok((header, stored))
    }

    pub(crate) fn read_payload(&self, record: &BlockRecord) -> Result<(BlockHeader, Vec<u8>)> {
        let (header, stored) = self.read_stored(record)?;
        let payload = self
            .access
            .payload(&header, stored)
            .map_err(|error| within(error, format_args!("block {}", record.number)))?;
        Ok((header, payload))
    }

    /// Every index page, in order, each checked. Pages are read as the iterator is drawn.
    pub(crate) fn index_pages(
        &self,
    ) -> impl Iterator<Item = (PageReference, Result<Arc<ParsedPage>>)> + '_ {
        self.root
            .pages
            .iter()
            .enumerate()
            .map(|(position, reference)| (*reference, self.page(position)))
    }

    fn page_reference(&self, position: usize) -> Result<&PageReference> {
        self.root
            .pages
            .get(position)
            .ok_or_else(|| damaged("index root: a page is missing"))
    }

    /// An index page, checked against the root.
    fn page(&self, position: usize) -> Result<Arc<ParsedPage>> {
        let cached = {
            let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            pages
                .iter()
                .find(|(at, _)| *at == position)
                .map(|(_, page)| page.clone())
        };
        if let Some(page) = cached {
            return Ok(page);
        }
        let page = Arc::new(self.read_page(position)?);
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= CACHED_PAGES {
            pages.pop_front();
        }
        pages.push_back((position, page.clone()));
        Ok(page)
    }

    /// Checks a page that cannot be read without the key.
    pub(crate) fn check_page(&self, position: usize) -> Result<()> {
        self.read_stored_page(position).map(drop)
    }

    fn read_stored_page(&self, position: usize) -> Result<(BlockHeader, Vec<u8>)> {
        let reference = self.page_reference(position)?;
        let (header, stored) = read_block_at(
            &self.source,
            &self.header,
            reference.offset,
            reference.framed_length(),
        )
        .map_err(|error| within(error, "index"))?;
        if header.kind != BlockKind::IndexPage
            || header.sequence != self.root.page_sequence(position)
            || header.stored_length != reference.stored_length
        {
            return Err(damaged("index page: it is not the one that the root has"));
        }
        header.check_stored(&stored)?;
        if !matches(*blake3::hash(&stored).as_bytes(), reference.hash) {
            return Err(damaged("index page: hash does not match"));
        }
        Ok((header, stored))
    }

    fn read_page(&self, position: usize) -> Result<ParsedPage> {
        let reference = self.page_reference(position)?;
        if self.access.seals_page(reference.kind) {
            self.access.require()?;
        }
        let (header, stored) = self.read_stored_page(position)?;
        let page = self.access.page(&header, stored)?;
        if page.kind() != reference.kind
            || page.count() != reference.count as usize
            || page.first() != Some(reference.first)
        {
            return Err(damaged("index page: it is not what the root says"));
        }
        Ok(page)
    }
}

/// Chunks are numbered from 0 without gaps, and sum up to what the end record says.
pub(crate) fn check_chunks(
    entry: EntryId,
    chunks: &[ChunkRecord],
    end: Option<&EndRecord>,
) -> Result<()> {
    let Some(end) = end else {
        if chunks.is_empty() {
            return Ok(());
        }
        return Err(damaged(format_args!("entry {} has no end", entry.0)));
    };
    let dense = (0u32..)
        .zip(chunks)
        .all(|(number, chunk)| chunk.chunk == number);
    let sum = |of: fn(&ChunkRecord) -> u64| {
        chunks
            .iter()
            .try_fold(0u64, |sum, chunk| sum.checked_add(of(chunk)))
    };
    if !dense
        || chunks.len() as u64 != u64::from(end.chunks)
        || sum(|chunk| chunk.rows) != Some(end.rows)
        || sum(|chunk| chunk.raw_length) != Some(end.raw_length)
    {
        return Err(damaged(format_args!(
            "entry {}: its chunks do not sum up to its end record",
            entry.0
        )));
    }
    Ok(())
}

/// Puts continued entries blocks together.
#[derive(Debug, Default)]
pub(crate) struct EntriesCollector {
    open: Vec<u8>,
}

impl EntriesCollector {
    pub fn add(
        &mut self,
        header: &BlockHeader,
        payload: Vec<u8>,
        entries: &mut Vec<Entry>,
    ) -> Result<()> {
        let next = u32::try_from(entries.len() + 1).map_err(|_| damaged("too many entries"))?;
        if self.open.is_empty() && !header.is_continued() {
            return toc::parse_entries(&payload, next, entries);
        }
        self.open.extend_from_slice(&payload);
        // The record's own length and id stand before it.
        if self.open.len() > MAX_ENTRY_LENGTH as usize + 16 {
            return Err(damaged(format_args!("entry {next} is too long")));
        }
        if !header.is_continued() {
            toc::parse_entries(&self.open, next, entries)?;
            self.open = Vec::new();
        }
        Ok(())
    }

    pub fn finish(self, entries: &[Entry]) -> Result<()> {
        if !self.open.is_empty() {
            return Err(damaged("the last entry is not complete"));
        }
        toc::check_dependencies(entries).map_err(damaged)
    }
}

/// Reads and checks header, and returns its bytes too.
pub(crate) fn read_header(source: &impl ReadAt, size: u64) -> Result<(Header, Vec<u8>)> {
    let start = read_range(source, 0, size.min(HEADER_FIXED_LENGTH as u64))?;
    let length = header_length(&start)? as u64;
    let bytes = read_range(source, 0, size.min(length))?;
    Ok((Header::parse(&bytes)?, bytes))
}

/// Reads and checks the trailer, which the file must end with.
pub(crate) fn read_trailer(source: &impl ReadAt, size: u64) -> Result<Trailer> {
    let offset = size
        .checked_sub(TRAILER_LENGTH as u64)
        .ok_or_else(|| truncated("it does not end with a trailer"))?;
    let mut bytes = [0; TRAILER_LENGTH];
    source.read_exact_at(offset, &mut bytes)?;
    let trailer = Trailer::parse(&bytes)?;
    if trailer.file_length != size {
        return Err(damaged(format_args!(
            "it has {size} bytes, and its trailer says {}",
            trailer.file_length
        )));
    }
    Ok(trailer)
}

/// Reads a block of `length` bytes, its header included, and checks the header.
pub(crate) fn read_block_at(
    source: &impl ReadAt,
    archive: &Header,
    offset: u64,
    length: u64,
) -> Result<(BlockHeader, Vec<u8>)> {
    let mut bytes = read_range(source, offset, length)?;
    let (header, _) = split_block(&bytes, archive)?;
    // Cheaper than a second read: the header is small.
    bytes.drain(..BLOCK_HEADER_LENGTH);
    Ok((header, bytes))
}

fn split_block<'a>(bytes: &'a [u8], archive: &Header) -> Result<(BlockHeader, &'a [u8])> {
    let Some((header, stored)) = bytes.split_first_chunk::<BLOCK_HEADER_LENGTH>() else {
        return Err(damaged("block ends within its header"));
    };
    let header = BlockHeader::parse(header, archive.id)?;
    if header.stored_length as usize != stored.len() {
        return Err(damaged("block header: length does not match"));
    }
    Ok((header, stored))
}

/// At most one block; the range is held against the size before anything is allocated.
pub(crate) fn read_range(source: &impl ReadAt, offset: u64, length: u64) -> Result<Vec<u8>> {
    let size = source.size()?;
    let possible = length
        <= (BLOCK_HEADER_LENGTH + TAG_LENGTH) as u64 + u64::from(MAX_BLOCK_LENGTH)
        && offset.checked_add(length).is_some_and(|end| end <= size);
    if !possible {
        return Err(damaged(format_args!(
            "{length} bytes at offset {offset} are out of range"
        )));
    }
    let mut bytes = vec![0; length as usize];
    source.read_exact_at(offset, &mut bytes)?;
    Ok(bytes)
}
