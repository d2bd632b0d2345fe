//! The root page: totals, and the list of pages.

use super::super::block::BlockHash;
use super::super::limits::*;
use super::super::refusal::needs_newer;
use super::super::wire::{Cursor, Need, put_field, put_varint};
use super::{PageKey, PageKind};
use crate::error::Result;

pub(in super::super) const INDEX_TAG_TOTALS: u64 = 1;
pub(in super::super) const INDEX_TAG_PAGES: u64 = 2;
/// Above all others, as it is over what stands before it.
pub(in super::super) const INDEX_TAG_CODE: u64 = 127;

/// Counts over the whole archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub entries: u64,
    pub entries_blocks: u64,
    pub data_blocks: u64,
    pub chunks: u64,
    /// Entries with contents: each has one end record.
    pub ends: u64,
    pub rows: u64,
    /// Bytes of rows before compression.
    pub raw_length: u64,
}

impl Totals {
    /// Blocks before the index.
    pub fn blocks(&self) -> Option<u64> {
        self.entries_blocks.checked_add(self.data_blocks)
    }
}

/// Where an index page is and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageReference {
    pub kind: PageKind,
    pub first: PageKey,
    pub count: u32,
    pub volume: u32,
    /// Of the block's header.
    pub offset: u64,
    pub stored_length: u32,
    pub hash: BlockHash,
}

impl PageReference {
    pub fn framed_length(&self) -> u64 {
        BLOCK_HEADER_LENGTH as u64 + u64::from(self.stored_length)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct IndexRoot {
    pub totals: Totals,
    /// Pages of blocks, then of chunks, then of ends, each kind in key order. Their blocks bear
    /// the sequence numbers that follow the last data block's, in this order.
    pub pages: Vec<PageReference>,
    /// Of an encrypted archive: authenticates the header, and what stands before it in the root.
    pub code: Option<[u8; CODE_LENGTH]>,
}

impl IndexRoot {
    /// The fields before the code.
    pub fn serialise(&self) -> Vec<u8> {
        let mut totals = Vec::new();
        for total in [
            self.totals.entries,
            self.totals.entries_blocks,
            self.totals.data_blocks,
            self.totals.chunks,
            self.totals.ends,
            self.totals.rows,
            self.totals.raw_length,
        ] {
            put_varint(&mut totals, total);
        }
        let mut pages = Vec::new();
        put_varint(&mut pages, self.pages.len() as u64);
        for page in &self.pages {
            pages.push(page.kind as u8);
            put_varint(&mut pages, page.first.major);
            put_varint(&mut pages, u64::from(page.first.minor));
            put_varint(&mut pages, u64::from(page.count));
            put_varint(&mut pages, u64::from(page.volume));
            put_varint(&mut pages, page.offset);
            put_varint(&mut pages, u64::from(page.stored_length));
            pages.extend_from_slice(&page.hash);
        }
        let mut out = Vec::new();
        put_field(&mut out, INDEX_TAG_TOTALS, Need::Critical, &totals);
        put_field(&mut out, INDEX_TAG_PAGES, Need::Critical, &pages);
        out
    }

    /// Appends the code to the fields before it, which it is over together with the length of this
    /// field.
    pub fn put_code(fields: &mut Vec<u8>, code: impl FnOnce(&[u8]) -> [u8; CODE_LENGTH]) {
        put_field(fields, INDEX_TAG_CODE, Need::Critical, &[0; CODE_LENGTH]);
        fields.truncate(fields.len() - CODE_LENGTH);
        let code = code(fields);
        fields.extend_from_slice(&code);
    }

    pub fn parse(payload: &[u8], minimum: Option<&str>) -> Result<IndexRoot> {
        let mut totals = None;
        let mut pages = None;
        let mut code = None;
        let cursor = Cursor::new(payload, "index root");
        let incomplete = cursor.damaged("a field is missing");
        let inconsistent = cursor.damaged("counts do not fit each other");
        cursor.fields(minimum, |tag, field| {
            match tag {
                INDEX_TAG_TOTALS => totals = Some(parse_totals(field)?),
                INDEX_TAG_PAGES => pages = Some(parse_pages(field)?),
                INDEX_TAG_CODE => code = Some(field.array()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (Some(totals), Some(pages)) = (totals, pages) else {
            return Err(incomplete);
        };
        let root = IndexRoot {
            totals,
            pages,
            code,
        };
        if !root.is_consistent() {
            return Err(inconsistent);
        }
        Ok(root)
    }

    /// Pages are in order, begin where the page before ended, and hold as many records as the
    /// totals say.
    fn is_consistent(&self) -> bool {
        let ordered = self.pages.is_sorted_by(|before, after| {
            (before.kind, before.first) < (after.kind, after.first)
                && before
                    .offset
                    .checked_add(before.framed_length())
                    .is_some_and(|end| end == after.offset || before.volume != after.volume)
        });
        let counted = |kind| {
            self.pages
                .iter()
                .filter(|page| page.kind == kind)
                .map(|page| u64::from(page.count))
                .sum::<u64>()
        };
        let mut next_block = 0;
        let blocks_dense = self.pages_of(PageKind::Blocks).all(|(_, page)| {
            let dense = page.first.major == next_block;
            next_block += u64::from(page.count);
            dense
        });
        ordered
            && blocks_dense
            && Some(counted(PageKind::Blocks)) == self.totals.blocks()
            && counted(PageKind::Chunks) == self.totals.chunks
            && counted(PageKind::Ends) == self.totals.ends
    }

    /// Pages of one kind, with their positions.
    pub fn pages_of(&self, kind: PageKind) -> impl Iterator<Item = (usize, &PageReference)> {
        self.pages
            .iter()
            .enumerate()
            .filter(move |(_, page)| page.kind == kind)
    }

    /// The last page of this kind whose first key is not above `key`.
    pub fn page_before(&self, kind: PageKind, key: PageKey) -> Option<usize> {
        let after = self
            .pages
            .partition_point(|page| (page.kind, page.first) <= (kind, key));
        let position = after.checked_sub(1)?;
        (self.pages.get(position)?.kind == kind).then_some(position)
    }

    /// Sequence number of the block that holds the page at `position`.
    pub fn page_sequence(&self, position: usize) -> u64 {
        self.totals
            .blocks()
            .unwrap_or(u64::MAX)
            .saturating_add(position as u64)
    }
}

fn parse_totals(field: &mut Cursor<'_>) -> Result<Totals> {
    Ok(Totals {
        entries: field.varint()?,
        entries_blocks: field.varint()?,
        data_blocks: field.varint()?,
        chunks: field.varint()?,
        ends: field.varint()?,
        rows: field.varint()?,
        raw_length: field.varint()?,
    })
}

fn parse_pages(field: &mut Cursor<'_>) -> Result<Vec<PageReference>> {
    // 7 integers of at least one byte, and a hash.
    let count = field.count(39)?;
    let mut pages = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = field.u8()?;
        let Some(kind) = PageKind::from_number(kind) else {
            return Err(needs_newer(
                format_args!("index page has kind {kind}"),
                None,
            ));
        };
        let page = PageReference {
            kind,
            first: PageKey {
                major: field.varint()?,
                minor: field.varint_u32()?,
            },
            count: field.varint_u32()?,
            volume: field.varint_u32()?,
            offset: field.varint()?,
            stored_length: field.varint_u32()?,
            hash: field.array()?,
        };
        if page.count == 0
            || page.count > INDEX_PAGE_RECORDS
            || page.stored_length == 0
            || page.stored_length > MAX_BLOCK_LENGTH + TAG_LENGTH as u32
        {
            return Err(field.damaged("page is out of range"));
        }
        pages.push(page);
    }
    Ok(pages)
}
