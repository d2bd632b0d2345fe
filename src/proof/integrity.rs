//! Whether an archive is as it was written: every checksum, offline.
//!
//! Where header, trailer and index stand, blocks are checked in parallel against the index. Where
//! they do not, blocks are looked for from front to back, so that the report still says what is
//! damaged and what is not.

mod indexed;
mod rows;
mod scan;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::Listed;
use crate::archive::{
    Access, ArchiveId, Contents, Entry, EntryId, Header, Keys, Member, RandomReader, SetReader,
    is_damage, problem, read_header,
};
use crate::error::{Error, Result};
use crate::report::counted;
use crate::storage::ReadAt;

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Sequence number of the block, where it is one block.
    pub block: Option<u64>,
    /// Where in the file, and how many bytes, where that is known.
    pub place: Option<(u64, u64)>,
    pub problem: String,
    /// Entries whose rows it touches, as users know them: "public.orders".
    pub objects: Listed,
}

impl Finding {
    fn new(problem: impl Into<String>) -> Finding {
        Finding {
            block: None,
            place: None,
            problem: problem.into(),
            objects: Listed::default(),
        }
    }

    fn at(mut self, offset: u64, length: u64) -> Finding {
        self.place = Some((offset, length));
        self
    }

    fn block(mut self, number: u64) -> Finding {
        self.block = Some(number);
        self
    }

    fn of(mut self, objects: Vec<String>) -> Finding {
        self.objects = Listed::new("", objects);
        self
    }

    /// For people; with all objects, or the first of them.
    pub fn in_words(&self, all: bool) -> String {
        let mut words = self.problem.clone();
        if let Some((offset, length)) = self.place {
            let length = counted(length, "byte", "bytes");
            words.push_str(&format!(" (offset {offset}, {length})"));
        }
        if !self.objects.is_empty() {
            words.push_str(&format!("; affects {}", self.objects.in_words(all)));
        }
        words
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(false))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntegrityReport {
    pub id: Option<ArchiveId>,
    /// In order of offset as far as they have one. Empty for a sound archive.
    pub findings: Vec<Finding>,
    /// Whether the index could not be used, so that blocks were looked for by reading through.
    pub scanned: bool,
    pub entries: u64,
    pub blocks_checked: u64,
    pub bytes_checked: u64,
    /// The archive is encrypted and no key was given: checksums were verified, and contents not read.
    pub contents_unread: bool,
    /// Rows decoded, counted and fingerprinted (deep only).
    pub rows_checked: u64,
    /// Why some of it could not be read: then findings may be due to that, and say nothing of the archive.
    pub unread: Option<String>,
}

impl IntegrityReport {
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether the damage is in rows whose objects are known, so that all others can be restored.
    pub fn is_of_named_objects(&self) -> bool {
        !self.scanned
            && self
                .findings
                .iter()
                .all(|finding| !finding.objects.is_empty())
    }
}

/// Checks a set and those of its members that are wanted; `None` stands for the set itself, where its
/// header, index or trailer is damaged: then no member can be found.
pub fn verify_set<R: ReadAt>(
    source: R,
    keys: Arc<Keys>,
    deep: bool,
    wanted: impl Fn(&Member) -> bool,
) -> Result<Vec<(Option<String>, IntegrityReport)>> {
    let damaged = |error: &Error| IntegrityReport {
        findings: vec![Finding::new(problem(error))],
        ..IntegrityReport::default()
    };
    let set = match SetReader::open_with(source, keys) {
        Ok(set) => set,
        Err(error) if is_damage(&error) => return Ok(vec![(None, damaged(&error))]),
        Err(error) => return Err(error),
    };
    let mut reports = Vec::new();
    for member in set.members() {
        if !wanted(member) {
            continue;
        }
        let mut report = verify_file_with(set.window(member)?, set.keys(), deep)?;
        // it may be sound, and another archive than the set was made with
        if report.is_sound()
            && let Err(error) = set.open_member(member)
        {
            report = damaged(&error);
        }
        reports.push((Some(member.label()), report));
    }
    Ok(reports)
}

/// Checks all of an archive; `deep` also decodes every block, counts its rows and compares their
/// fingerprints with those that were written. Damage is reported, not returned as an error; an
/// error means that there is nothing to check: no archive, or one of a later version.
pub fn verify_file<R: ReadAt>(source: R, deep: bool) -> Result<IntegrityReport> {
    verify_file_with(source, &Keys::none(), deep)
}

/// The same of an archive that may be encrypted. Without a key its checksums are verified and its
/// contents not read; with one, that nobody who lacks it has changed anything.
pub fn verify_file_with<R: ReadAt>(source: R, keys: &Keys, deep: bool) -> Result<IntegrityReport> {
    let source = Watched {
        source,
        failed: Mutex::default(),
    };
    let mut report = check(&source, keys, deep)?;
    report.unread = source
        .failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(report)
}

/// Remembers the first read that failed: a store that was out of reach for a while damages no archive.
struct Watched<R> {
    source: R,
    failed: Mutex<Option<String>>,
}

impl<R: ReadAt> ReadAt for Watched<R> {
    fn size(&self) -> Result<u64> {
        self.source.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.source
            .read_exact_at(offset, buffer)
            .inspect_err(|error| {
                // a damaged pointer leads behind the end
                let end = offset.checked_add(buffer.len() as u64);
                if end.is_some_and(|end| self.size().is_ok_and(|size| end <= size)) {
                    let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert_with(|| error.to_string());
                }
            })
    }
}

fn check<R: ReadAt>(source: &R, keys: &Keys, deep: bool) -> Result<IntegrityReport> {
    let size = source.size()?;
    let header = match read_header(source, size) {
        Ok((header, _)) => Ok(header),
        Err(error) if is_damage(&error) => Err(error),
        Err(error) => return Err(error),
    };
    let mut report = match RandomReader::open_with(source, keys) {
        Ok(reader) => {
            if deep {
                // counts and fingerprints of rows are contents
                reader.access().require()?;
            }
            match indexed::verify(&reader, deep)? {
                indexed::Outcome::Done(report) => report,
                indexed::Outcome::IndexDamaged(findings) => {
                    let access = Some(reader.access().clone());
                    scan::verify(source, Some(reader.header().id), access, findings, deep)?
                }
            }
        }
        Err(error) if is_damage(&error) => {
            let mut findings = Vec::new();
            if let Err(header_error) = &header {
                findings.push(Finding::new(problem(header_error)));
            }
            if header.is_ok() {
                findings.push(Finding::new(problem(&error)));
            }
            let (id, access) = match header {
                Ok(header) => (Some(header.id), access(header, keys)?),
                Err(_) => (None, None),
            };
            scan::verify(source, id, access, findings, deep)?
        }
        Err(error) => return Err(error),
    };
    report
        .findings
        .sort_by_key(|finding| finding.place.map_or(u64::MAX, |(offset, _)| offset));
    Ok(report)
}

/// None: the sealed part of the header is damaged, which has been said.
fn access(mut header: Header, keys: &Keys) -> Result<Option<Access>> {
    match header.unlock(keys) {
        Ok(access) => Ok(Some(access)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How a user knows an entry's contents.
fn object_name(entries: &[Entry], id: EntryId) -> String {
    let entry = (id.0 as usize)
        .checked_sub(1)
        .and_then(|position| entries.get(position));
    match entry {
        None => format!("entry {}", id.0),
        Some(entry) => match &entry.contents {
            Contents::Rows { relation, .. } => relation.to_string(),
            Contents::SequenceValue { sequence } => sequence.to_string(),
            Contents::LargeObjects => "large objects".to_owned(),
            Contents::None => format!("{} {}", entry.kind, entry.name),
        },
    }
}

fn object_names(entries: &[Entry], ids: &BTreeSet<EntryId>) -> Vec<String> {
    ids.iter().map(|id| object_name(entries, *id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that is out of reach at one offset.
    struct Absent<'a>(&'a [u8], u64);

    impl ReadAt for Absent<'_> {
        fn size(&self) -> Result<u64> {
            self.0.size()
        }

        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            let end = offset + buffer.len() as u64;
            match (offset..end).contains(&self.1) {
                true => Err(Error::new("out of reach")),
                false => self.0.read_exact_at(offset, buffer),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_damage() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/archives/good-zstd.rdump"
        );
        let archive = std::fs::read(path).expect("an archive");
        let sound = verify_file(archive.as_slice(), true).expect("an archive");
        assert!(sound.is_sound() && sound.unread.is_none());
        let mut unread = 0;
        for offset in 0..archive.len() as u64 {
            match verify_file(Absent(&archive, offset), true) {
                Ok(report) => {
                    assert_eq!(report.unread.as_deref(), Some("out of reach"), "{offset}");
                    unread += 1;
                }
                Err(error) => assert!(error.to_string().contains("out of reach"), "{error}"),
            }
        }
        assert!(unread > 0);
        // a byte that is another one is damage
        let mut damaged = archive.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        let report = verify_file(damaged, true).expect("an archive");
        assert!(!report.is_sound() && report.unread.is_none());
    }
}
