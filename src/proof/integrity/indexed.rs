//! Checking by the index: in parallel, in any order.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use super::rows::RowCheck;
use super::{Finding, IntegrityReport, object_name, object_names};
use crate::archive::{
    BlockKind, ChunkRecord, Contents, DataBlock, EndPosition, Entry, EntryId, PageKind, ParsedPage,
    RandomReader, check_chunks, problem,
};
use crate::error::Result;
use crate::storage::ReadAt;

pub(super) enum Outcome {
    Done(IntegrityReport),
    /// Blocks cannot be found by the index.
    IndexDamaged(Vec<Finding>),
}

/// Blocks handed to the threads at once.
const WINDOW: u64 = 512;

pub(super) fn verify<R: ReadAt>(reader: &RandomReader<R>, deep: bool) -> Result<Outcome> {
    let mut findings = Vec::new();
    let mut index = check_pages(reader, &mut findings);
    if !index.blocks_readable {
        return Ok(Outcome::IndexDamaged(findings));
    }
    let entries = match reader.entries() {
        _ if reader.is_locked() => Vec::new(),
        Ok(entries) => entries,
        // Damaged entries blocks are found below, with their places.
        Err(error) => {
            index.entries_problem = Some(problem(&error));
            Vec::new()
        }
    };
    if index.records_readable && index.entries_problem.is_none() && !reader.is_locked() {
        check_records(reader, &entries, &mut findings)?;
    }

    let blocks = check_blocks(reader, deep, &index.parted)?;
    let bad: BTreeSet<u64> = blocks
        .bad
        .iter()
        .filter_map(|finding| finding.block)
        .collect();
    let entries_block_bad = bad
        .first()
        .is_some_and(|first| *first < reader.data_blocks().start);
    if let Some(problem) = index.entries_problem.filter(|_| !entries_block_bad) {
        findings.push(Finding::new(format!("entries: {problem}")));
    }
    let touched = entries_of_blocks(reader, &bad);
    for mut finding in blocks.bad {
        if let Some(ids) = finding.block.and_then(|number| touched.get(&number)) {
            finding = finding.of(object_names(&entries, ids));
        }
        findings.push(finding);
    }
    if deep && index.records_readable {
        let broken: BTreeSet<EntryId> = touched.into_values().flatten().collect();
        compare_rows(reader, &entries, &blocks.rows, &broken, &mut findings);
        let complete = bad.is_empty();
        if complete && (blocks.rows.chunks, blocks.rows.ends) != (index.chunks, index.ends) {
            findings.push(Finding::new("index does not say what the blocks hold"));
        }
    }
    Ok(Outcome::Done(IntegrityReport {
        id: Some(reader.header().id),
        findings,
        scanned: false,
        contents_unread: reader.is_locked(),
        entries: reader.totals().entries,
        blocks_checked: blocks.checked,
        bytes_checked: reader.trailer().file_length,
        rows_checked: blocks.rows.rows,
        unread: None,
    }))
}

#[derive(Default)]
struct Index {
    blocks_readable: bool,
    records_readable: bool,
    entries_problem: Option<String>,
    /// First blocks of each chunk in parts, with how many blocks it spans.
    parted: HashMap<u64, u32>,
    /// Sums over the records, as `RowCheck` makes them.
    chunks: u128,
    ends: u128,
}

/// Reads every page, and sees that blocks lie end to end from the header to the index: no byte of
/// the file belongs to nothing.
fn check_pages<R: ReadAt>(reader: &RandomReader<R>, findings: &mut Vec<Finding>) -> Index {
    let mut index = Index {
        blocks_readable: true,
        records_readable: true,
        ..Index::default()
    };
    let mut next_offset = u64::from(reader.trailer().header_length);
    let mut first_page = None;
    for (position, (reference, page)) in reader.index_pages().enumerate() {
        first_page.get_or_insert(reference.offset);
        let locked = reader.is_locked() && reader.access().seals_page(reference.kind);
        let page = match page {
            _ if locked => match reader.check_page(position) {
                Ok(()) => continue,
                Err(error) => Err(error),
            },
            page => page,
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                let finding = Finding::new(problem(&error));
                findings.push(finding.at(reference.offset, reference.framed_length()));
                match reference.kind {
                    PageKind::Blocks => index.blocks_readable = false,
                    PageKind::Chunks | PageKind::Ends => index.records_readable = false,
                }
                continue;
            }
        };
        match &*page {
            ParsedPage::Blocks(records) => {
                for record in records {
                    let entries = record.number < reader.totals().entries_blocks;
                    let kind = if entries {
                        BlockKind::Entries
                    } else {
                        BlockKind::Data
                    };
                    if record.offset != next_offset || record.kind != kind || record.volume != 0 {
                        index.blocks_readable = false;
                    }
                    next_offset = record.offset.saturating_add(record.framed_length());
                }
            }
            ParsedPage::Chunks(records) => {
                for record in records {
                    index.chunks = index.chunks.wrapping_add(record.digest());
                    if record.parts > 1 {
                        index.parted.insert(record.block, record.parts);
                    }
                }
            }
            ParsedPage::Ends(records) => {
                for record in records {
                    index.ends = index.ends.wrapping_add(record.digest());
                }
            }
        }
    }
    let end = first_page.unwrap_or(reader.trailer().root_offset);
    let damaged_before = !findings.is_empty();
    if !damaged_before && (!index.blocks_readable || next_offset != end) {
        index.blocks_readable = false;
        findings.push(Finding::new("index does not account for every byte"));
    }
    index
}

/// Holds chunks, end records and entries against each other.
fn check_records<R: ReadAt>(
    reader: &RandomReader<R>,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let mut chunks = records(reader, |page| match page {
        ParsedPage::Chunks(records) => records,
        _ => &[],
    })
    .peekable();
    let mut ends = records(reader, |page| match page {
        ParsedPage::Ends(records) => records,
        _ => &[],
    })
    .peekable();
    let data_blocks = reader.data_blocks();
    let (mut rows, mut raw_length) = (0u64, 0u64);
    let mut own: Vec<ChunkRecord> = Vec::new();
    for entry in entries {
        let end = ends.next_if(|end| end.end.entry == entry.id);
        own.clear();
        while let Some(chunk) = chunks.next_if(|chunk| chunk.entry == entry.id) {
            own.push(chunk);
        }
        let placed = own.iter().all(|chunk| {
            data_blocks.contains(&chunk.block) && chunk.blocks().end <= data_blocks.end
        });
        let expected = (entry.contents != Contents::None) == end.is_some();
        let summed = check_chunks(entry.id, &own, end.as_ref().map(|end| &end.end)).is_ok();
        if !placed || !expected || !summed {
            let finding = Finding::new("index: chunks and end record do not fit each other");
            findings.push(finding.of(vec![object_name(entries, entry.id)]));
        }
        for chunk in &own {
            rows = rows.saturating_add(chunk.rows);
            raw_length = raw_length.saturating_add(chunk.raw_length);
        }
    }
    let totals = reader.totals();
    if chunks.peek().is_some() || ends.peek().is_some() {
        findings.push(Finding::new(
            "index: it has rows of entries that do not exist",
        ));
    } else if (rows, raw_length) != (totals.rows, totals.raw_length) {
        findings.push(Finding::new(
            "index: its totals are not the sums of its records",
        ));
    }
    Ok(())
}

/// All records of one kind, page after page.
fn records<'a, R: ReadAt, T: Copy + 'a>(
    reader: &'a RandomReader<R>,
    of: impl Fn(&ParsedPage) -> &[T] + 'a,
) -> impl Iterator<Item = T> + 'a {
    reader
        .index_pages()
        .filter_map(|(_, page)| page.ok())
        .flat_map(move |page| of(&page).to_vec())
}

struct BlocksChecked {
    bad: Vec<Finding>,
    rows: RowCheck,
    checked: u64,
}

/// Checks all blocks before the index. Blocks that share a chunk in parts go to one thread.
fn check_blocks<R: ReadAt>(
    reader: &RandomReader<R>,
    deep: bool,
    parted: &HashMap<u64, u32>,
) -> Result<BlocksChecked> {
    let total = reader.data_blocks().end;
    let mut all = BlocksChecked {
        bad: Vec::new(),
        rows: RowCheck::default(),
        checked: total,
    };
    let mut next = 0;
    while next < total {
        let mut runs = Vec::new();
        let window_end = next.saturating_add(WINDOW).min(total);
        while next < window_end {
            let start = next;
            let mut end = start + 1;
            while next < end {
                if let Some(parts) = parted.get(&next) {
                    end = end.max(next.saturating_add(u64::from(*parts))).min(total);
                }
                next += 1;
            }
            runs.push(start..end);
        }
        let (bad, rows) = runs
            .into_par_iter()
            .fold(
                || (Vec::new(), RowCheck::default()),
                |(mut bad, mut rows), run| {
                    rows.begin_run();
                    for number in run {
                        if let Err(finding) = check_block(reader, number, deep, &mut rows) {
                            rows.interrupt();
                            bad.push(*finding);
                        }
                    }
                    (bad, rows)
                },
            )
            .reduce(
                || (Vec::new(), RowCheck::default()),
                |(mut bad, rows), (more, other)| {
                    bad.extend(more);
                    (bad, rows.merge(other))
                },
            );
        all.bad.extend(bad);
        all.rows = all.rows.merge(rows);
    }
    Ok(all)
}

fn check_block<R: ReadAt>(
    reader: &RandomReader<R>,
    number: u64,
    deep: bool,
    rows: &mut RowCheck,
) -> Result<(), Box<Finding>> {
    let record = reader
        .block_record(number)
        .map_err(|error| Box::new(Finding::new(problem(&error)).block(number)))?;
    let finding = |problem: String| {
        let finding = Finding::new(match problem.starts_with("block ") {
            true => problem,
            false => format!("block {number}: {problem}"),
        });
        Box::new(
            finding
                .block(number)
                .at(record.offset, record.framed_length()),
        )
    };
    if !deep {
        return match reader.read_stored(&record) {
            Ok(_) => Ok(()),
            Err(error) => Err(finding(problem(&error))),
        };
    }
    let (_, payload) = reader
        .read_payload(&record)
        .map_err(|error| finding(problem(&error)))?;
    if record.kind == BlockKind::Data {
        let block = DataBlock::parse(number, payload).map_err(|error| finding(problem(&error)))?;
        rows.add(&block).map_err(finding)?;
    }
    Ok(())
}

/// Which entries have rows or their end in these blocks, as far as the index can be read.
fn entries_of_blocks<R: ReadAt>(
    reader: &RandomReader<R>,
    blocks: &BTreeSet<u64>,
) -> HashMap<u64, BTreeSet<EntryId>> {
    let mut touched: HashMap<u64, BTreeSet<EntryId>> = HashMap::new();
    if blocks.is_empty() {
        return touched;
    }
    for (_, page) in reader.index_pages() {
        match page.as_deref() {
            Ok(ParsedPage::Chunks(records)) => {
                for record in records {
                    for block in blocks.range(record.blocks()) {
                        touched.entry(*block).or_default().insert(record.entry);
                    }
                }
            }
            Ok(ParsedPage::Ends(records)) => {
                for EndPosition { end, block, .. } in records {
                    if blocks.contains(block) {
                        touched.entry(*block).or_default().insert(end.entry);
                    }
                }
            }
            _ => {}
        }
    }
    touched
}

/// Compares counts and fingerprints of entries of which no block is damaged.
fn compare_rows<R: ReadAt>(
    reader: &RandomReader<R>,
    entries: &[Entry],
    rows: &RowCheck,
    broken: &BTreeSet<EntryId>,
    findings: &mut Vec<Finding>,
) {
    for EndPosition { end, .. } in records(reader, |page| match page {
        ParsedPage::Ends(records) => records,
        _ => &[],
    }) {
        if broken.contains(&end.entry) {
            continue;
        }
        if let Err(problem) = rows.compare(&end) {
            let objects = vec![object_name(entries, end.entry)];
            findings.push(Finding::new(problem).of(objects));
        }
    }
}
