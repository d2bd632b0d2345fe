//! Checking without an index: from front to back, looking for the next block where one is damaged.

use std::collections::BTreeSet;

use super::rows::RowCheck;
use super::{Finding, IntegrityReport, object_names};
use crate::archive::limits::*;
use crate::archive::{
    Access, ArchiveId, BlockHeader, BlockKind, Contents, DataBlock, EntriesCollector, Entry,
    EntryId, problem, read_range, read_trailer,
};
use crate::error::Result;
use crate::storage::ReadAt;

/// Bytes looked through at once for the next block.
const SEARCH_LENGTH: u64 = 1 << 20;

/// `id` is None where the header cannot be read; the trailer has it too. `access` is None where it
/// cannot be known: then no payload is looked at.
pub(super) fn verify<R: ReadAt>(
    source: &R,
    id: Option<ArchiveId>,
    access: Option<Access>,
    findings: Vec<Finding>,
    deep: bool,
) -> Result<IntegrityReport> {
    let size = source.size()?;
    let mut report = IntegrityReport {
        findings,
        scanned: true,
        bytes_checked: size,
        ..IntegrityReport::default()
    };
    let id = match id {
        Some(id) => id,
        None => match read_trailer(source, size) {
            Ok(trailer) => trailer.id,
            Err(error) => {
                report.findings.push(Finding::new(problem(&error)));
                report.findings.push(Finding::new(
                    "neither header nor trailer can be read, so that no block could be checked",
                ));
                return Ok(report);
            }
        },
    };
    report.id = Some(id);
    report.contents_unread = access.as_ref().is_some_and(Access::is_locked);
    let mut scan = Scan {
        source,
        id,
        access,
        size,
        deep,
        report,
        next_number: 0,
        rows: RowCheck::default(),
        entries: Vec::new(),
        entries_open: Some(EntriesCollector::default()),
    };
    scan.run()?;
    Ok(scan.finish())
}

struct Scan<'a, R> {
    source: &'a R,
    id: ArchiveId,
    access: Option<Access>,
    size: u64,
    deep: bool,
    report: IntegrityReport,
    next_number: u64,
    rows: RowCheck,
    entries: Vec<Entry>,
    /// None once an entries block is missing or damaged: what follows cannot be numbered.
    entries_open: Option<EntriesCollector>,
}

impl<R: ReadAt> Scan<'_, R> {
    fn run(&mut self) -> Result<()> {
        let mut offset = match self.find(0)? {
            Some((found, _)) => found,
            None => {
                self.report.findings.push(Finding::new("it has no blocks"));
                return Ok(());
            }
        };
        while offset < self.size {
            if let Some(end) = self.trailer_end(offset)? {
                if end < self.size {
                    self.lost(end, self.size - end, "something follows its trailer");
                }
                break;
            }
            let Some((found, header)) = self.find(offset)? else {
                let length = self.size - offset;
                self.lost(offset, length, "no readable block");
                break;
            };
            if found > offset {
                self.lost(offset, found - offset, "no readable block");
            }
            if header.sequence != self.next_number {
                let problem = format!(
                    "block {} stands where block {} must",
                    header.sequence, self.next_number
                );
                self.lost(found, header.framed_length(), &problem);
            }
            if header.kind == BlockKind::Data {
                self.entries_open = self.close_entries();
            }
            if let Err(error) = self.check_block(found, &header) {
                let text = match error.starts_with("block ") {
                    true => error,
                    false => format!("block {}: {error}", header.sequence),
                };
                let finding = Finding::new(text)
                    .block(header.sequence)
                    .at(found, header.framed_length());
                self.report.findings.push(finding);
                self.rows.interrupt();
                if header.kind == BlockKind::Entries {
                    self.entries_open = None;
                }
            }
            self.report.blocks_checked += 1;
            self.next_number = header.sequence.saturating_add(1);
            offset = found.saturating_add(header.framed_length());
        }
        Ok(())
    }

    fn lost(&mut self, offset: u64, length: u64, problem: &str) {
        let finding = Finding::new(problem).at(offset, length);
        self.report.findings.push(finding);
        self.rows.interrupt();
        if self.entries.is_empty() || self.entries_open.is_some() {
            self.entries_open = None;
        }
    }

    fn close_entries(&mut self) -> Option<EntriesCollector> {
        let collector = self.entries_open.take()?;
        if let Err(error) = collector.finish(&self.entries) {
            self.report.findings.push(Finding::new(problem(&error)));
        }
        None
    }

    fn check_block(&mut self, offset: u64, header: &BlockHeader) -> Result<(), String> {
        let stored_offset = offset.saturating_add(BLOCK_HEADER_LENGTH as u64);
        if self.size - offset < header.framed_length() {
            return Err("the file ends within it".to_owned());
        }
        let stored = read_range(self.source, stored_offset, u64::from(header.stored_length))
            .map_err(|error| problem(&error))?;
        header
            .check_stored(&stored)
            .map_err(|error| problem(&error))?;
        if !matches!(header.kind, BlockKind::Entries | BlockKind::Data) {
            return Ok(());
        }
        let access = match &self.access {
            // without the header nothing that is sealed can be opened
            None if header.is_sealed() => return Ok(()),
            None => &Access::Plain,
            Some(access) if access.is_locked() => return Ok(()),
            Some(access) => access,
        };
        let payload = access
            .payload(header, stored)
            .map_err(|error| problem(&error))?;
        if header.kind == BlockKind::Data {
            let block =
                DataBlock::parse(header.sequence, payload).map_err(|error| problem(&error))?;
            return self.rows.add(&block);
        }
        match &mut self.entries_open {
            Some(collector) => collector
                .add(header, payload, &mut self.entries)
                .map_err(|error| problem(&error)),
            None => Ok(()),
        }
    }

    /// Where the trailer at this offset ends, if there is one or the start of one. Whether it is
    /// sound has been said already.
    fn trailer_end(&self, offset: u64) -> Result<Option<u64>> {
        let rest = self.size - offset;
        let length = rest.min(TRAILER_LENGTH as u64);
        let bytes = read_range(self.source, offset, length)?;
        let known = bytes.len().min(TRAILER_MAGIC.len());
        let begins = bytes[..known] == TRAILER_MAGIC[..known];
        let ends = bytes.len() == TRAILER_LENGTH && bytes.ends_with(&TRAILER_END_MAGIC);
        Ok((begins || ends).then_some(offset + length))
    }

    /// The next place from `offset` on where a block header of this archive stands.
    fn find(&self, mut offset: u64) -> Result<Option<(u64, BlockHeader)>> {
        while offset.saturating_add(BLOCK_HEADER_LENGTH as u64) <= self.size {
            let length = SEARCH_LENGTH.min(self.size - offset);
            // Nearly always the header stands right here.
            if let Some(header) = self.header_at(offset)? {
                return Ok(Some((offset, header)));
            }
            let window = read_range(self.source, offset, length)?;
            for (position, bytes) in window.windows(BLOCK_HEADER_LENGTH).enumerate() {
                if !bytes.starts_with(&BLOCK_SYNC) {
                    continue;
                }
                if let Some(bytes) = bytes.first_chunk()
                    && let Ok(header) = BlockHeader::parse(bytes, self.id)
                {
                    return Ok(Some((offset + position as u64, header)));
                }
            }
            // Windows overlap, so that a header across two of them is seen.
            offset = offset.saturating_add(length - (BLOCK_HEADER_LENGTH as u64 - 1));
        }
        Ok(None)
    }

    fn header_at(&self, offset: u64) -> Result<Option<BlockHeader>> {
        let bytes = read_range(self.source, offset, BLOCK_HEADER_LENGTH as u64)?;
        Ok(bytes
            .first_chunk()
            .and_then(|bytes| BlockHeader::parse(bytes, self.id).ok()))
    }

    /// Names the objects whose rows are not all there.
    fn finish(mut self) -> IntegrityReport {
        self.close_entries();
        let ended: BTreeSet<EntryId> = self.rows.end_records.iter().map(|end| end.entry).collect();
        let mut incomplete: BTreeSet<EntryId> = self
            .entries
            .iter()
            .filter(|entry| entry.contents != Contents::None && !ended.contains(&entry.id))
            .map(|entry| entry.id)
            .collect();
        incomplete.extend(self.rows.entries().difference(&ended));
        for end in &self.rows.end_records {
            if self.rows.compare(end).is_err() {
                incomplete.insert(end.entry);
            }
        }
        if !incomplete.is_empty() {
            let objects = object_names(&self.entries, &incomplete);
            let finding = Finding::new("rows are missing or damaged").of(objects);
            self.report.findings.push(finding);
        }
        self.report.entries = self.entries.len() as u64;
        if self.deep {
            self.report.rows_checked = self.rows.rows;
        }
        self.report
    }
}
