//! Index pages as bytes: a kind, a count, then records, each coded against the one before.

use super::super::block::{BlockKind, check_lengths};
use super::super::codec::BlockCodec;
use super::super::entry::EntryId;
use super::super::limits::*;
use super::super::refusal::needs_newer;
use super::super::segment::{EndRecord, RowEncoding};
use super::super::wire::{Cursor, put_varint, unzigzag, zigzag};
use super::{BlockRecord, ChunkRecord, EndPosition, PageKey, PageKind};
use crate::error::Result;

/// A page's payload, and what the root says of it.
#[derive(Debug)]
pub(in super::super) struct BuiltPage {
    pub kind: PageKind,
    pub first: PageKey,
    pub count: u32,
    pub payload: Vec<u8>,
}

/// Blocks of one page lie one after the other in one volume, so only the first has its place said.
pub(in super::super) fn build_block_pages(
    records: &[BlockRecord],
) -> impl Iterator<Item = BuiltPage> + '_ {
    records
        .chunk_by(|before, after| before.volume == after.volume)
        .flat_map(|run| run.chunks(INDEX_PAGE_RECORDS as usize))
        .filter_map(|run| {
            let first = run.first()?;
            let mut page = start(PageKind::Blocks, run.len(), first.number, 0);
            let out = &mut page.payload;
            put_varint(out, first.number);
            put_varint(out, u64::from(first.volume));
            put_varint(out, first.offset);
            for record in run {
                out.push(record.kind as u8);
                out.push(record.codec as u8);
                out.extend_from_slice(&record.flags.to_le_bytes());
                put_varint(out, u64::from(record.raw_length));
                put_varint(out, u64::from(record.stored_length));
                out.extend_from_slice(&record.hash);
            }
            Some(page)
        })
}

/// `records` sorted by entry and chunk.
pub(in super::super) fn build_chunk_pages(
    records: &[ChunkRecord],
) -> impl Iterator<Item = BuiltPage> + '_ {
    records
        .chunks(INDEX_PAGE_RECORDS as usize)
        .filter_map(|run| {
            let first = run.first()?;
            let major = u64::from(first.entry.0);
            let mut page = start(PageKind::Chunks, run.len(), major, first.chunk);
            let out = &mut page.payload;
            put_varint(out, u64::from(first.entry.0));
            put_varint(out, u64::from(first.chunk));
            let (mut entry, mut block) = (first.entry.0, 0u64);
            for record in run {
                put_varint(out, u64::from(record.entry.0 - entry));
                put_varint(out, zigzag(record.block.wrapping_sub(block) as i64));
                put_varint(out, u64::from(record.segment));
                put_varint(out, u64::from(record.parts));
                out.push(record.encoding as u8);
                put_varint(out, record.rows);
                put_varint(out, record.raw_length);
                (entry, block) = (record.entry.0, record.block);
            }
            Some(page)
        })
}

/// `records` sorted by entry.
pub(in super::super) fn build_end_pages(
    records: &[EndPosition],
) -> impl Iterator<Item = BuiltPage> + '_ {
    records
        .chunks(INDEX_PAGE_RECORDS as usize)
        .filter_map(|run| {
            let first = run.first()?;
            let mut page = start(PageKind::Ends, run.len(), u64::from(first.end.entry.0), 0);
            let out = &mut page.payload;
            let (mut entry, mut block) = (0u32, 0u64);
            for EndPosition {
                end,
                block: at,
                segment,
            } in run
            {
                put_varint(out, u64::from(end.entry.0 - entry));
                put_varint(out, zigzag(at.wrapping_sub(block) as i64));
                put_varint(out, u64::from(*segment));
                put_varint(out, end.rows);
                out.extend_from_slice(&end.fingerprint.to_le_bytes());
                put_varint(out, u64::from(end.chunks));
                put_varint(out, end.raw_length);
                (entry, block) = (end.entry.0, *at);
            }
            Some(page)
        })
}

fn start(kind: PageKind, count: usize, major: u64, minor: u32) -> BuiltPage {
    let mut payload = vec![kind as u8];
    put_varint(&mut payload, count as u64);
    BuiltPage {
        kind,
        first: PageKey { major, minor },
        count: count as u32,
        payload,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParsedPage {
    Blocks(Vec<BlockRecord>),
    Chunks(Vec<ChunkRecord>),
    Ends(Vec<EndPosition>),
}

impl ParsedPage {
    /// A page is checked to hold at least one record, in ascending order without repeats.
    pub fn parse(payload: &[u8]) -> Result<ParsedPage> {
        let mut cursor = Cursor::new(payload, "index page");
        let kind = cursor.u8()?;
        let Some(kind) = PageKind::from_number(kind) else {
            return Err(needs_newer(
                format_args!("index page has kind {kind}"),
                None,
            ));
        };
        let count = cursor.count(1)?;
        if count == 0 || count > INDEX_PAGE_RECORDS as usize {
            return Err(cursor.damaged(format_args!("{count} records")));
        }
        let page = match kind {
            PageKind::Blocks => ParsedPage::Blocks(parse_blocks(&mut cursor, count)?),
            PageKind::Chunks => ParsedPage::Chunks(parse_chunks(&mut cursor, count)?),
            PageKind::Ends => ParsedPage::Ends(parse_ends(&mut cursor, count)?),
        };
        cursor.finish()?;
        Ok(page)
    }

    pub fn kind(&self) -> PageKind {
        match self {
            ParsedPage::Blocks(_) => PageKind::Blocks,
            ParsedPage::Chunks(_) => PageKind::Chunks,
            ParsedPage::Ends(_) => PageKind::Ends,
        }
    }

    pub fn count(&self) -> usize {
        match self {
            ParsedPage::Blocks(records) => records.len(),
            ParsedPage::Chunks(records) => records.len(),
            ParsedPage::Ends(records) => records.len(),
        }
    }

    pub fn first(&self) -> Option<PageKey> {
        let (major, minor) = match self {
            ParsedPage::Blocks(records) => (records.first()?.number, 0),
            ParsedPage::Chunks(records) => {
                let first = records.first()?;
                (u64::from(first.entry.0), first.chunk)
            }
            ParsedPage::Ends(records) => (u64::from(records.first()?.end.entry.0), 0),
        };
        Some(PageKey { major, minor })
    }
}

fn parse_blocks(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<BlockRecord>> {
    let mut number = cursor.varint()?;
    let volume = cursor.varint_u32()?;
    let mut offset = cursor.varint()?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = cursor.u8()?;
        let codec = cursor.u8()?;
        let flags = cursor.u16()?;
        let raw_length = cursor.varint_u32()?;
        let stored_length = cursor.varint_u32()?;
        let hash = cursor.array()?;
        let kind = match BlockKind::from_number(kind) {
            Some(kind @ (BlockKind::Entries | BlockKind::Data)) => kind,
            _ => return Err(cursor.damaged(format_args!("block {number} has kind {kind}"))),
        };
        let Some(codec) = BlockCodec::from_number(codec) else {
            return Err(needs_newer(
                format_args!("block {number} has codec {codec}"),
                None,
            ));
        };
        check_lengths(codec, flags, raw_length, stored_length)
            .map_err(|problem| cursor.damaged(format_args!("block {number}: {problem}")))?;
        let record = BlockRecord {
            kind,
            codec,
            flags,
            number,
            volume,
            offset,
            raw_length,
            stored_length,
            hash,
        };
        let next = (offset.checked_add(record.framed_length())).zip(number.checked_add(1));
        (offset, number) = next.ok_or_else(|| cursor.damaged("offset is out of range"))?;
        records.push(record);
    }
    Ok(records)
}

fn parse_chunks(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<ChunkRecord>> {
    let mut entry = cursor.varint_u32()?;
    let mut next_chunk = cursor.varint_u32()?;
    let mut block = 0u64;
    let mut records = Vec::with_capacity(count);
    for position in 0..count {
        let step = cursor.varint_u32()?;
        if step > 0 {
            entry = match entry.checked_add(step) {
                Some(entry) if position > 0 => entry,
                _ => return Err(cursor.damaged("entry is out of range")),
            };
            next_chunk = 0;
        }
        block = block.wrapping_add(unzigzag(cursor.varint()?) as u64);
        let segment = cursor.varint_u32()?;
        let parts = cursor.varint_u32()?;
        if parts == 0 || block.checked_add(u64::from(parts)).is_none() {
            return Err(cursor.damaged("chunk is out of range"));
        }
        let encoding = match cursor.u8()? {
            0 => RowEncoding::Text,
            encoding => {
                return Err(needs_newer(
                    format_args!("index page has rows in encoding {encoding}"),
                    None,
                ));
            }
        };
        records.push(ChunkRecord {
            entry: EntryId(entry),
            chunk: next_chunk,
            block,
            segment,
            parts,
            encoding,
            rows: cursor.varint()?,
            raw_length: cursor.varint()?,
        });
        next_chunk = next_chunk
            .checked_add(1)
            .ok_or_else(|| cursor.damaged("chunk is out of range"))?;
    }
    Ok(records)
}

fn parse_ends(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<EndPosition>> {
    let (mut entry, mut block) = (0u32, 0u64);
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let step = cursor.varint_u32()?;
        entry = match entry.checked_add(step) {
            Some(entry) if step > 0 => entry,
            _ => return Err(cursor.damaged("entry is out of range")),
        };
        block = block.wrapping_add(unzigzag(cursor.varint()?) as u64);
        let segment = cursor.varint_u32()?;
        let rows = cursor.varint()?;
        let fingerprint = cursor.u128()?;
        records.push(EndPosition {
            end: EndRecord {
                entry: EntryId(entry),
                rows,
                fingerprint,
                chunks: cursor.varint_u32()?,
                raw_length: cursor.varint()?,
            },
            block,
            segment,
        });
    }
    Ok(records)
}
