//! Whether a database equals an archive, object by object and row by row.
//!
//! The database's catalogs are read as those of a source are, under one snapshot, and rendered as
//! entries; these are matched with the archive's by name. Rows are read with the same COPY under
//! the same settings, and hashed as they pass. Nothing of the database is changed.

mod finding;
mod large_objects;
mod matching;
mod meaning;
mod rows;
mod sequences;
mod target;
mod validity;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::archive::{Contents, EndRecord, Entry, EntryId, RandomReader};
use crate::catalog::{self, Scope};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{Connector, Session};
use crate::report::Progress;
use crate::rows::large_objects::copy_statement as large_objects_copy;
use crate::storage::ReadAt;

pub use finding::{Compared, Comparison, Finding, FindingKind};
use matching::{Matched, Pair, is_implied, label, match_entries, shown};
use meaning::Verdict;
use target::Target;

#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Connections that read rows, the first among them.
    pub jobs: usize,
    /// How long to wait for a lock that another session holds.
    pub lock_wait: Duration,
    /// Do not compare owners: the archive was restored without.
    pub no_owner: bool,
    /// Do not compare privileges.
    pub no_privileges: bool,
    /// Do not read rows, sequences and large objects.
    pub no_data: bool,
    /// Say nothing of what only the database has: the archive is of a part.
    pub ignore_unexpected: bool,
    /// Never write to the database, not even in a transaction that is rolled back. Definitions
    /// that read differently and may mean the same then remain undecided.
    pub read_only: bool,
}

impl Default for CompareOptions {
    fn default() -> CompareOptions {
        CompareOptions {
            jobs: 1,
            lock_wait: Duration::from_secs(60),
            no_owner: false,
            no_privileges: false,
            no_data: false,
            ignore_unexpected: false,
            read_only: false,
        }
    }
}

/// Compares a database with an archive. Differences are findings; an error means that the
/// comparison could not be brought to its end.
pub async fn compare<R: ReadAt>(
    reader: &RandomReader<R>,
    connector: Connector,
    options: &CompareOptions,
    progress: Arc<Progress>,
) -> Result<Comparison> {
    let entries = reader.entries()?;
    let (mut leader, target) = Target::open(connector, reader.header(), options.lock_wait).await?;
    let run = Run {
        reader,
        target: &target,
        options,
        progress,
    };
    let outcome = run.compare(&mut leader, &entries).await;
    match &outcome {
        Ok(_) => leader.close().await,
        Err(_) => target.connector.cancel_all().await,
    }
    outcome
}

struct Run<'a, R> {
    reader: &'a RandomReader<R>,
    target: &'a Target,
    options: &'a CompareOptions,
    progress: Arc<Progress>,
}

/// Findings with the entry that they are about, by which they are ordered.
type Found = Vec<(EntryId, Finding)>;

/// Behind all entries of the archive.
const LAST: EntryId = EntryId(u32::MAX);

impl<R: ReadAt> Run<'_, R> {
    async fn compare(&self, leader: &mut Session, expected: &[Entry]) -> Result<Comparison> {
        // connections first: what cannot be had must not cost an hour of reading
        let mut comparison = Comparison::default();
        let workers = if self.options.no_data {
            Vec::new()
        } else {
            let wanted = self.options.jobs.saturating_sub(1);
            self.target
                .workers(wanted, &mut comparison.warnings)
                .await?
        };
        let catalog = catalog::read(leader, &Scope::default())
            .await
            .context("reading the catalogs of the database")?;
        comparison.warnings.extend(catalog.warnings.iter().cloned());

        let mut found: Found = Vec::new();
        let (invalid, invalid_indexes) = validity::compare(leader, expected).await?;
        found.extend(invalid.into_iter().map(|finding| (LAST, finding)));

        let matched = match_entries(
            expected.iter().filter(|entry| self.is_compared(entry)),
            catalog
                .entries
                .iter()
                .filter(|entry| self.is_compared(entry)),
        );
        comparison.compared.entries = matched.pairs.len() as u64;
        self.lone_entries(&matched, &invalid_indexes, &mut found);
        comparison.compared.asked = self.definitions(&matched.pairs, &mut found).await?;

        let archived = large_objects::Metadata::of(expected)?;
        let present = large_objects::Metadata::of(&catalog.entries)?;
        let wanted = large_objects::Wanted {
            owners: !self.options.no_owner,
            privileges: !self.options.no_privileges,
            unexpected: !self.options.ignore_unexpected,
        };
        comparison.compared.large_objects = archived.count();
        let position = expected
            .iter()
            .find(|entry| large_objects::is_metadata(entry))
            .map_or(LAST, |entry| entry.id);
        let findings = archived.compare(&present, wanted);
        found.extend(findings.into_iter().map(|finding| (position, finding)));

        if !self.options.no_data {
            self.data(leader, workers, &matched.pairs, &mut comparison, &mut found)
                .await?;
        }
        found.sort_by_key(|(entry, _)| *entry);
        comparison.findings = found.into_iter().map(|(_, finding)| finding).collect();
        Ok(comparison)
    }

    /// Large objects have a comparison of their own.
    fn is_compared(&self, entry: &Entry) -> bool {
        // a proof is of what is in a database, whatever that is called
        if entry.is_of_database() {
            return false;
        }
        !(large_objects::is_metadata(entry)
            || (self.options.no_privileges && matches!(entry.kind.as_str(), "ACL" | "DEFAULT ACL"))
            || (self.options.no_data && entry.contents != Contents::None))
    }

    fn lone_entries(
        &self,
        matched: &Matched<'_>,
        invalid_indexes: &[(bstr::BString, bstr::BString)],
        found: &mut Found,
    ) {
        let missing = by_id(&matched.missing);
        for entry in &matched.missing {
            // the server has it, and it is reported as invalid
            let is_invalid = matches!(entry.kind.as_str(), "INDEX" | "CONSTRAINT")
                && invalid_indexes
                    .iter()
                    .any(|(schema, name)| is_named(entry, schema, name));
            if !is_invalid && !is_implied(entry, &missing) {
                let finding = Finding::new(FindingKind::Missing, label(entry), first_line(entry));
                found.push((entry.id, finding));
            }
        }
        if self.options.ignore_unexpected {
            return;
        }
        let unexpected = by_id(&matched.unexpected);
        for entry in &matched.unexpected {
            if !is_implied(entry, &unexpected) {
                let finding =
                    Finding::new(FindingKind::Unexpected, label(entry), first_line(entry));
                found.push((LAST, finding));
            }
        }
    }

    /// Compares definitions and owners; returns about how many the server was asked.
    async fn definitions(&self, pairs: &[Pair<'_>], found: &mut Found) -> Result<u64> {
        let mut open = Vec::new();
        for pair in pairs {
            let id = pair.expected.id;
            if !self.options.no_owner {
                found.extend(pair.owner_difference().map(|finding| (id, finding)));
            }
            if let Some(detail) = pair.contents_difference() {
                let finding = Finding::new(FindingKind::Different, label(pair.expected), detail);
                found.push((id, finding));
            }
            if pair.same_text() {
                continue;
            }
            if meaning::can_be_asked(pair) {
                open.push(*pair);
            } else {
                let detail = pair.text_difference();
                let finding = Finding::new(FindingKind::Different, label(pair.expected), detail);
                found.push((id, finding));
            }
        }
        let (verdicts, asked) = if self.options.read_only {
            let verdict = Verdict::Unknown("nothing may be written to the database".to_owned());
            (vec![verdict; open.len()], 0)
        } else {
            (meaning::ask(self.target, &open).await?, open.len() as u64)
        };
        for (pair, verdict) in open.iter().zip(verdicts) {
            let (kind, detail) = match verdict {
                Verdict::Same => continue,
                Verdict::Different(detail) => (
                    FindingKind::Different,
                    detail.unwrap_or_else(|| pair.text_difference()),
                ),
                Verdict::Unknown(reason) => (
                    FindingKind::NotComparable,
                    format!(
                        "{}; whether they mean the same cannot be told: {reason}",
                        pair.text_difference()
                    ),
                ),
            };
            let finding = Finding::new(kind, label(pair.expected), detail);
            found.push((pair.expected.id, finding));
        }
        Ok(asked)
    }

    async fn data(
        &self,
        leader: &mut Session,
        workers: Vec<Session>,
        pairs: &[Pair<'_>],
        comparison: &mut Comparison,
        found: &mut Found,
    ) -> Result<()> {
        let jobs = workers.len() + 1;
        let sizes = rows::read_sizes(leader).await?;
        let mut plan = rows::Plan::default();
        let mut sequences = Vec::new();
        for pair in pairs {
            match &pair.expected.contents {
                Contents::None => {}
                // reported with the definitions
                _ if pair.contents_difference().is_some() => {}
                Contents::Rows { .. } => {
                    let end = self.end_record(pair.expected)?;
                    plan.add_table(pair, end, &sizes, self.target, jobs);
                    comparison.compared.tables += 1;
                }
                Contents::SequenceValue { .. } => {
                    sequences.push((*pair, self.end_record(pair.expected)?));
                }
                Contents::LargeObjects => {
                    let end = self.end_record(pair.expected)?;
                    let copy = large_objects_copy(leader).await?;
                    let name = label(pair.expected);
                    plan.add(pair.expected.id, name, end, vec![copy.into()], 0);
                }
            }
        }
        comparison.compared.sequences = sequences.len() as u64;
        found.extend(sequences::compare(leader, self.reader, &sequences).await?);
        let (findings, rows) = plan
            .run(leader, workers, Arc::clone(&self.progress))
            .await?;
        comparison.compared.rows = rows;
        found.extend(findings);
        Ok(())
    }

    fn end_record(&self, entry: &Entry) -> Result<EndRecord> {
        self.reader.end_record(entry.id)?.ok_or_else(|| {
            Error::new(format!(
                "the archive is damaged: {} has no end",
                label(entry)
            ))
        })
    }
}

fn by_id<'a>(entries: &[&'a Entry]) -> HashMap<EntryId, &'a Entry> {
    entries.iter().map(|entry| (entry.id, *entry)).collect()
}

/// Whether an index or constraint has this name: alone, or behind that of its table.
fn is_named(entry: &Entry, schema: &[u8], name: &[u8]) -> bool {
    let own = match &entry.relation {
        Some(relation) => entry
            .name
            .strip_prefix(relation.as_slice())
            .and_then(|rest| rest.strip_prefix(b" "))
            .unwrap_or(&entry.name),
        None => &entry.name,
    };
    own == name && entry.schema.as_ref().is_some_and(|own| own == schema)
}

fn first_line(entry: &Entry) -> String {
    match bstr::ByteSlice::lines(entry.create.as_slice()).next() {
        Some(line) => shown(line),
        None => String::new(),
    }
}
