//! Whether a database equals an archive, object by object and row by row.
//!
//! The database's catalogs are read as those of a source are, under one snapshot, and rendered as
//! entries; these are matched with the archive's by name. Rows are read with the same COPY under
//! the same settings, and hashed as they pass. Nothing of the database is changed, whoever wrote the
//! archive: of what it holds only definitions are run (`shape`), in transactions that are rolled back.

mod contents;
mod coverage;
mod difference;
mod finding;
mod globals;
mod large_objects;
mod matching;
mod meaning;
mod privileges;
mod rows;
mod sequences;
mod shape;
mod target;
mod validity;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;

use crate::archive::{Contents, EndRecord, Entry, EntryId, RandomReader};
use crate::catalog::roles::{RoleMap, map_roles};
use crate::catalog::{self, Catalog};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{Connector, ServerVersion, Session};
use crate::proof::Listed;
use crate::report::{LOCK_PATIENCE, Progress, telling_lock_waits};
use crate::rows::large_objects::copy_statement as large_objects_copy;
use crate::sql;
use crate::storage::ReadAt;

use coverage::{Coverage, insides_of_extensions, rows_of_materialized_views, take_left_out};
pub use difference::{Line, Side};
use finding::Reason;
pub use finding::{Compared, Comparison, Finding, FindingKind};
pub use globals::compare as compare_globals;
use large_objects::Metadata;
use matching::{Matched, Pair, by_id, first_line, is_implied, label, match_entries};
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
    /// Compare definitions only: no rows, no values of sequences, no large objects.
    pub no_data: bool,
    pub no_large_objects: bool,
    /// Say nothing of what only the database has: the archive is of a part.
    pub ignore_unexpected: bool,
    /// Never write to the database, not even in a transaction that is rolled back. Definitions
    /// that read differently and may mean the same then remain undecided.
    pub read_only: bool,
    /// The archive was restored with these roles in the place of others.
    pub roles: RoleMap,
    /// Entries that were not restored.
    pub left_out: BTreeSet<EntryId>,
    /// The archive was restored as `restore -C` does it, under this name: what is set for the database
    /// itself is compared too.
    pub database_name: Option<BString>,
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
            no_large_objects: false,
            ignore_unexpected: false,
            read_only: false,
            roles: RoleMap::new(),
            left_out: BTreeSet::new(),
            database_name: None,
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
    let comparing = sql::quoting_all(reader.header().quotes_all(), comparing);
    telling_lock_waits(&watched, patience, &progress, comparing).await
}

async fn compare_watched<R: ReadAt>(
    reader: &RandomReader<R>,
    connector: Connector,
    options: &CompareOptions,
    progress: Arc<Progress>,
) -> Result<Comparison> {
    let mut entries = reader.entries()?;
    if !entries.is_empty() && entries.iter().all(coverage::is_statistics) {
        return Err(Error::new(
            "there is nothing to compare: the archive holds statistics of the planner alone, which the server changes on its own",
        )
        .hint("compare an archive with definitions or rows"));
    }
    entries.retain(|entry| !options.left_out.contains(&entry.id));
    let (mut leader, target) = Target::open(connector, reader.header(), options.lock_wait).await?;
    let from = ServerVersion(reader.header().server_version_num);
    let to = leader.version()?;
    let mut mapped = BTreeSet::new();
    for entry in &mut entries {
        catalog::adapt(entry, from, to);
        map_roles(entry, &options.roles, &mut mapped);
    }
    let mut header = reader.header().clone();
    if let Some(name) = &options.database_name {
        catalog::rename_database(&mut header, &mut entries, name);
    }
    let run = Run {
        reader,
        target: &target,
        options,
        coverage: Coverage::new(options, &header, &entries, &target.database)?,
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
    coverage: Coverage<'a>,
    progress: Arc<Progress>,
}

/// Findings with the entry that they are about, by which they are ordered.
type Found = Vec<(EntryId, Finding)>;

/// What data is read for.
struct Data<'a> {
    pairs: &'a [Pair<'a>],
    /// Large objects of the archive, and of the database.
    archived: &'a Metadata<'a>,
    present: &'a Metadata<'a>,
}

/// Behind all entries of the archive.
const LAST: EntryId = EntryId(u32::MAX);

impl<R: ReadAt> Run<'_, R> {
    async fn compare(&self, leader: &mut Session, expected: &[Entry]) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        // connections first: what cannot be had must not cost an hour of reading
        let workers = self.workers(leader, &mut comparison).await?;
        let catalog = catalog::read(leader, &self.coverage.scope())
            .await
            .context("reading the catalogs of the database")?;
        comparison.warnings.extend(catalog.warnings.iter().cloned());

        let mut found: Found = Vec::new();
        let (invalid, invalid_indexes) = validity::compare(leader, expected).await?;
        found.extend(invalid.into_iter().map(|finding| (LAST, finding)));

        let matched = self.matched(expected, &catalog, &mut comparison.not_compared);
        comparison.compared.entries = matched.pairs.len() as u64;
        self.lone_entries(&matched, &invalid_indexes, &mut found);
        comparison.compared.asked = self.definitions(&matched.pairs, &mut found).await?;
        if self.coverage.privileges() {
            let wanted = privileges::Wanted {
                owners: !self.options.no_owner,
                of_database: self.coverage.database(),
                unexpected: !self.options.ignore_unexpected,
            };
            let (findings, compared) = privileges::compare(expected, &catalog, &matched, wanted);
            found.extend(findings);
            comparison.compared.entries += compared;
        }
        let archived = match self.coverage.large_objects() {
            true => Metadata::of(expected, &[])?,
            false => Metadata::default(),
        };
        let present = Metadata::of(&catalog.entries, &catalog.privileges)?;
        comparison.compared.large_objects = archived.count();
        let findings = archived.compare(&present, self.of_large_objects(&catalog));
        let position = expected
            .iter()
            .find(|entry| large_objects::is_metadata(entry))
            .map_or(LAST, |entry| entry.id);
        found.extend(findings.into_iter().map(|finding| (position, finding)));

        if self.coverage.data() {
            let data = Data {
                pairs: &matched.pairs,
                archived: &archived,
                present: &present,
            };
            let findings = self
                .data(leader, workers, data, &mut comparison.compared)
                .await?;
            found.extend(findings);
        }
        found.sort_by_key(|(entry, _)| *entry);
        comparison.findings = found.into_iter().map(|(_, finding)| finding).collect();
        Ok(comparison)
    }

    /// Entries that stand against each other; lists what is not compared.
    fn matched<'e>(
        &self,
        expected: &'e [Entry],
        catalog: &'e Catalog,
        not_compared: &mut Vec<Listed>,
    ) -> Matched<'e> {
        let is_compared = |entry: &&Entry| self.coverage.has(entry);
        let mut matched = match_entries(
            expected.iter().filter(is_compared),
            catalog.entries.iter().filter(is_compared),
        );
        not_compared.extend(self.coverage.left_out());
        not_compared.extend(take_left_out(&mut matched));
        not_compared.extend(insides_of_extensions(&matched.pairs));
        if self.coverage.data() {
            not_compared.extend(rows_of_materialized_views(&matched.pairs));
        }
        matched
    }

    async fn workers(
        &self,
        leader: &mut Session,
        comparison: &mut Comparison,
    ) -> Result<Vec<Session>> {
        if !self.coverage.data() {
            return Ok(Vec::new());
        }
        let warnings = &mut comparison.warnings;
        let jobs = self.options.jobs;
        self.target.workers(leader, jobs, warnings).await
    }

    fn of_large_objects(&self, catalog: &Catalog) -> large_objects::Wanted {
        large_objects::Wanted {
            owners: !self.options.no_owner,
            privileges: self.coverage.privileges(),
            unexpected: !self.options.ignore_unexpected,
            major: catalog.version.major(),
        }
    }

    fn lone_entries(
        &self,
        matched: &Matched<'_>,
        invalid_indexes: &[(BString, BString)],
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
            let tablespaces = !self.options.no_tablespaces;
            let differing = [
                pair.storage_difference(tablespaces),
                pair.contents_difference(),
            ];
            found.extend(differing.into_iter().flatten().map(|finding| (id, finding)));
            if pair.same_text() {
                continue;
            }
            if meaning::can_be_asked(pair) {
                open.push(*pair);
            } else {
                found.push((id, pair.definition_difference()));
            }
        }
        let (verdicts, asked) = if self.options.read_only {
            let reason = Reason::new(
                "nothing may be written to the database",
                "without --read-only the server is asked, in a transaction that is rolled back",
            );
            (vec![Verdict::Unknown(reason); open.len()], 0)
        } else {
            (meaning::ask(self.target, &open).await?, open.len() as u64)
        };
        for (pair, verdict) in open.iter().zip(verdicts) {
            let finding = verdict.finding(pair);
            found.extend(finding.map(|finding| (pair.expected.id, finding)));
        }
        Ok(asked)
    }

    async fn data(
        &self,
        leader: &mut Session,
        workers: Vec<Session>,
        data: Data<'_>,
        compared: &mut Compared,
    ) -> Result<Found> {
        let jobs = workers.len() + 1;
        let mut plan = rows::Plan::new(rows::read_sizes(leader).await?, jobs);
        let mut sequences = Vec::new();
        let mut pages = None;
        for pair in data.pairs {
            match &pair.expected.contents {
                Contents::None => {}
                // reported with the definitions
                _ if pair.contents_difference().is_some() => {}
                Contents::Rows { .. } => {
                    plan.add_table(pair, self.end_record(pair.expected)?, self.target.standby);
                    compared.tables += 1;
                }
                Contents::SequenceValue { .. } => {
                    sequences.push((*pair, self.end_record(pair.expected)?));
                }
                Contents::LargeObjects => {
                    let end = self.end_record(pair.expected)?;
                    let copy = large_objects_copy(leader).await?;
                    plan.add_large_objects(pair, end, copy);
                    pages = Some((pair.expected.id, copy));
                }
            }
        }
        compared.sequences = sequences.len() as u64;
        let mut found = sequences::compare(leader, self.reader, &sequences).await?;
        let (mut findings, rows) = plan
            .run(leader, workers, Arc::clone(&self.progress))
            .await?;
        compared.rows = rows;
        if let Some((entry, copy)) = pages {
            let before = findings.len();
            findings.retain(|(id, finding)| *id != entry || !finding.kind.is_of_rows());
            // other pages, which may hold the same bytes
            if findings.len() < before {
                let metadata = (data.archived, data.present);
                let differing =
                    contents::compare(leader, self.reader, entry, copy, metadata).await?;
                findings.extend(differing.into_iter().map(|finding| (entry, finding)));
            }
        }
        found.extend(findings);
        Ok(found)
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
