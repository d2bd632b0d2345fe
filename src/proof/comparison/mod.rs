//! Whether a database equals an archive, object by object and row by row.
//!
//! The database's catalogs are read as those of a source are, under one snapshot, and rendered as
//! entries; these are matched with the archive's by name. Rows are read with the same COPY under
//! the same settings, and hashed as they pass. Nothing of the database is changed, whoever wrote the
//! archive: of what it holds only definitions are run (`shape`), in transactions that are rolled back.

mod contents;
mod finding;
mod large_objects;
mod matching;
mod meaning;
mod privileges;
mod rows;
mod sequences;
mod shape;
mod target;
mod validity;

use std::sync::Arc;
use std::time::Duration;

use crate::archive::{Contents, EndRecord, Entry, EntryId, RandomReader};
use crate::catalog::{self, Scope};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{Connector, Session};
use crate::report::{LOCK_PATIENCE, Progress, telling_lock_waits};
use crate::rows::large_objects::copy_statement as large_objects_copy;
use crate::sql;
use crate::storage::ReadAt;

pub use finding::{Compared, Comparison, Finding, FindingKind};
use large_objects::Metadata;
use matching::{Matched, Pair, by_id, is_implied, is_privileges, label, match_entries, shown};
use meaning::Verdict;
use target::Target;

#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Connections that read rows, the first among them.
    pub jobs: usize,
    /// How long to wait for a lock that another session holds.
    pub lock_wait: Duration,
    /// After so long a wait it is said who holds it.
    pub lock_patience: Duration,
    /// Do not compare owners: the archive was restored without.
    pub no_owner: bool,
    /// Do not compare privileges.
    pub no_privileges: bool,
    /// Do not compare tablespaces: the archive was restored without.
    pub no_tablespaces: bool,
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
            lock_patience: LOCK_PATIENCE,
            no_owner: false,
            no_privileges: false,
            no_tablespaces: false,
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
    let (watched, patience) = (connector.clone(), options.lock_patience);
    let comparing = compare_watched(reader, connector, options, Arc::clone(&progress));
    telling_lock_waits(&watched, patience, &progress, comparing).await
}

async fn compare_watched<R: ReadAt>(
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
            self.target
                .workers(leader, self.options.jobs, &mut comparison.warnings)
                .await?
        };
        let catalog = catalog::read(leader, &Scope::default())
            .await
            .context("reading the catalogs of the database")?;
        comparison.warnings.extend(catalog.warnings.iter().cloned());
        comparison.not_compared = self.not_compared();
        let left_out = catalog.left_out.iter();
        comparison.not_compared.extend(
            left_out.map(|what| format!("{what}: this version of rdump does not keep them")),
        );

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
        if !self.options.no_data {
            comparison
                .not_compared
                .extend(rows_of_materialized_views(&matched.pairs));
        }
        self.lone_entries(&matched, &invalid_indexes, &mut found);
        comparison.compared.asked = self.definitions(&matched.pairs, &mut found).await?;
        if !self.options.no_privileges {
            let wanted = privileges::Wanted {
                owners: !self.options.no_owner,
                of_database: self.is_same_name(),
                unexpected: !self.options.ignore_unexpected,
            };
            let (findings, compared) = privileges::compare(expected, &catalog, &matched, wanted);
            found.extend(findings);
            comparison.compared.entries += compared;
        }

        let archived = Metadata::of(expected, &[])?;
        let present = Metadata::of(&catalog.entries, &catalog.privileges)?;
        let wanted = large_objects::Wanted {
            owners: !self.options.no_owner,
            privileges: !self.options.no_privileges,
            unexpected: !self.options.ignore_unexpected,
            major: catalog.version.major(),
        };
        comparison.compared.large_objects = archived.count();
        let position = expected
            .iter()
            .find(|entry| large_objects::is_metadata(entry))
            .map_or(LAST, |entry| entry.id);
        let findings = archived.compare(&present, wanted);
        found.extend(findings.into_iter().map(|finding| (position, finding)));

        if !self.options.no_data {
            let large_objects = (&archived, &present);
            let pairs = &matched.pairs;
            self.data(
                leader,
                workers,
                pairs,
                large_objects,
                &mut comparison,
                &mut found,
            )
            .await?;
        }
        found.sort_by_key(|(entry, _)| *entry);
        comparison.findings = found.into_iter().map(|(_, finding)| finding).collect();
        Ok(comparison)
    }

    /// Whether the database may be the archive's own, as `restore -C` makes it: then what is set for
    /// it and granted on it is compared as well.
    fn is_same_name(&self) -> bool {
        self.target.database == self.reader.header().database
    }

    fn not_compared(&self) -> Vec<String> {
        let options = self.options;
        let mut list = Vec::new();
        if !self.is_same_name() {
            list.push(format!(
                "locale, owner, settings, comment and privileges of the database itself: it is called {}, in the archive {}",
                sql::identifier(&self.target.database),
                sql::identifier(&self.reader.header().database)
            ));
        }
        for (left_out, what) in [
            (options.no_owner, "owners"),
            (options.no_privileges, "privileges"),
            (options.no_tablespaces, "tablespaces"),
            (
                options.no_data,
                "rows, values of sequences and contents of large objects",
            ),
        ] {
            if left_out {
                list.push(format!("{what}, as asked"));
            }
        }
        list
    }

    /// Privileges and large objects have comparisons of their own.
    fn is_compared(&self, entry: &Entry) -> bool {
        !(is_privileges(entry)
            || large_objects::is_metadata(entry)
            || (entry.is_of_database() && !self.is_same_name())
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
            if !is_invalid && !is_of_objects(entry) && !is_implied(entry, &missing) {
                let finding = Finding::new(FindingKind::Missing, label(entry), first_line(entry));
                found.push((entry.id, finding));
            }
        }
        if self.options.ignore_unexpected {
            return;
        }
        let unexpected = by_id(&matched.unexpected);
        for entry in &matched.unexpected {
            if !is_of_objects(entry) && !is_implied(entry, &unexpected) {
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
            if let Some(detail) = pair.storage_difference(!self.options.no_tablespaces) {
                let finding = Finding::new(FindingKind::Different, label(pair.expected), detail);
                found.push((id, finding));
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
        large_objects: (&Metadata<'_>, &Metadata<'_>),
        comparison: &mut Comparison,
        found: &mut Found,
    ) -> Result<()> {
        let jobs = workers.len() + 1;
        let sizes = rows::read_sizes(leader).await?;
        let mut plan = rows::Plan::default();
        let mut sequences = Vec::new();
        let mut pages = None;
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
                    pages = Some((pair.expected.id, copy));
                }
            }
        }
        comparison.compared.sequences = sequences.len() as u64;
        found.extend(sequences::compare(leader, self.reader, &sequences).await?);
        let (mut findings, rows) = plan
            .run(leader, workers, Arc::clone(&self.progress))
            .await?;
        comparison.compared.rows = rows;
        if let Some((entry, copy)) = pages {
            let before = findings.len();
            findings.retain(|(id, finding)| *id != entry || !finding.kind.is_of_rows());
            // other pages, which may hold the same bytes
            if findings.len() < before {
                let differing =
                    contents::compare(leader, self.reader, entry, copy, large_objects).await?;
                findings.extend(differing.into_iter().map(|finding| (entry, finding)));
            }
        }
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

/// That they are filled is compared, by their REFRESH; with what cannot be.
fn rows_of_materialized_views(pairs: &[Pair<'_>]) -> Option<String> {
    let names: Vec<String> = pairs
        .iter()
        .filter(|pair| pair.found.kind == "MATERIALIZED VIEW DATA")
        .map(|pair| {
            let schema = pair.found.schema.clone().unwrap_or_default();
            sql::qualified(schema, &pair.found.name).to_string()
        })
        .collect();
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(5) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty()).then(|| {
        format!(
            "rows of materialized views, of which the archive holds the query alone: {shown}{more}"
        )
    })
}

/// Contents of large objects, all in one entry: what is missing is named object by object.
fn is_of_objects(entry: &Entry) -> bool {
    entry.contents == Contents::LargeObjects
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
