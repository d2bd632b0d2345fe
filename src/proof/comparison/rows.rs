//! Rows of the database, read in the archive's form, counted and hashed as they pass.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::BString;
use tokio::task::JoinSet;

use super::finding::{Finding, FindingKind, Reason};
use super::matching::{Pair, label};
use super::target::{recover, set_savepoint};
use crate::archive::{Contents, EndRecord, EntryId};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{CopyProgress, RowConsumer, Session};
use crate::report::Progress;
use crate::rows::{Cutting, Fingerprint, FingerprintStream, LEAST_SLICE, copy_statement, run_all};

const HINT_ROW_SECURITY: &str = "a proof must see every row: connect as a superuser, as a role \
     with BYPASSRLS, or as the owner of these tables where it is not forced on the owner";
pub const HINT_PERMISSION: &str =
    "grant the role pg_read_all_data, or SELECT on these and USAGE on their schemas";
const HINT_LARGE_OBJECTS: &str =
    "grant the role SELECT on all large objects, or connect as a superuser; -B leaves them out";

/// What is known of a table before it is read.
#[derive(Debug, Clone)]
pub struct Size {
    unlogged: bool,
    splittable: bool,
    blocks: u64,
    bytes: u64,
    /// Policies would hide rows from this role.
    secured: bool,
    /// The partitioned table within which its rows may move: one that is hashed by an enum, whose
    /// hash is that of OIDs, which are others in every database.
    moves_within: Option<BString>,
}

impl Size {
    /// Why no COPY would show all rows.
    fn hidden(&self, standby: bool) -> Option<Reason> {
        if standby && self.unlogged {
            let text = "rows of unlogged tables cannot be read on a standby";
            Some(Reason::new(text, "compare the primary"))
        } else if self.secured {
            let text = "row-level security would hide rows from this role";
            Some(Reason::new(text, HINT_ROW_SECURITY))
        } else {
            None
        }
    }
}

/// By schema and name.
pub type Sizes = HashMap<(BString, BString), Size>;

pub async fn read_sizes(session: &mut Session) -> Result<Sizes> {
    let rows = session
        .query(
            "SELECT n.nspname AS schema, c.relname AS name, c.relpersistence = 'u' AS unlogged,
                    coalesce(a.amname = 'heap', false) AS splittable,
                    row_security_active(c.oid) AS secured,
                    coalesce(pg_relation_size(c.oid), 0)
                        / current_setting('block_size')::bigint AS blocks,
                    coalesce(pg_relation_size(c.oid), 0) + CASE WHEN c.reltoastrelid <> 0
                        THEN coalesce(pg_relation_size(c.reltoastrelid), 0) ELSE 0 END AS bytes,
                    CASE WHEN c.relispartition THEN
                        (SELECT quote_ident(rn.nspname) || '.' || quote_ident(r.relname)
                         FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (relid, level)
                         JOIN pg_partitioned_table p ON p.partrelid = a.relid
                         JOIN pg_class r ON r.oid = a.relid
                         JOIN pg_namespace rn ON rn.oid = r.relnamespace
                         WHERE p.partstrat = 'h' AND p.partclass::oid[] && ARRAY(
                             SELECT o.oid FROM pg_opclass o WHERE o.opcintype = 'anyenum'::regtype)
                         ORDER BY a.level DESC LIMIT 1)
                    END AS moves_within
             FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_am a ON a.oid = c.relam
             WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384",
        )
        .await
        .context("reading the sizes of tables")?;
    rows.iter()
        .map(|row| {
            let size = Size {
                unlogged: row.bool("unlogged")?,
                splittable: row.bool("splittable")?,
                blocks: row.number("blocks")?,
                bytes: row.number("bytes")?,
                secured: row.bool("secured")?,
                moves_within: row.optional_text("moves_within")?,
            };
            Ok(((row.text("schema")?, row.text("name")?), size))
        })
        .collect()
}

/// An entry whose rows are to be read, or several whose rows count together, and what has come
/// of it.
struct Source {
    entry: EntryId,
    label: String,
    expected: Fingerprint,
    /// What to do where it may not be read.
    permission: &'static str,
    sum: Mutex<Sum>,
}

#[derive(Default)]
struct Sum {
    tasks_left: u32,
    fingerprint: Fingerprint,
    /// Why it could not be read.
    failure: Option<Reason>,
}

/// One COPY.
struct Task {
    source: usize,
    copy: BString,
    bytes: u64,
}

/// The rows to compare.
pub struct Plan {
    sizes: Sizes,
    cutting: Cutting,
    sources: Vec<Source>,
    tasks: Vec<Task>,
    findings: Vec<(EntryId, Finding)>,
    bytes: u64,
    /// Sources of partitions among which rows may move, by their root.
    together: HashMap<BString, usize>,
}

impl Plan {
    pub fn new(sizes: Sizes, jobs: usize) -> Plan {
        let add = |sum: u64, size: &Size| sum.saturating_add(size.bytes);
        let total = sizes.values().fold(0, add);
        Plan {
            sizes,
            cutting: Cutting::new(total, jobs, LEAST_SLICE),
            sources: Vec::new(),
            tasks: Vec::new(),
            findings: Vec::new(),
            bytes: 0,
            together: HashMap::new(),
        }
    }

    /// Adds an entry with rows. Nothing that the archive holds is run: the statement is made of
    /// the database's own names and the archive's order of columns, which are the same columns.
    pub fn add_table(&mut self, pair: &Pair<'_>, expected: EndRecord, standby: bool) {
        let (
            Contents::Rows { columns, .. },
            Contents::Rows {
                relation, filter, ..
            },
        ) = (&pair.expected.contents, &pair.found.contents)
        else {
            return;
        };
        let key = (
            pair.found.schema.clone().unwrap_or_default(),
            pair.found.relation.clone().unwrap_or_default(),
        );
        let size = self.sizes.get(&key);
        if let Some(reason) = size.and_then(|size| size.hidden(standby)) {
            let finding = Finding::not_comparable(label(pair.expected), reason);
            self.findings.push((pair.expected.id, finding));
            return;
        }
        let bytes = size.map_or(0, |size| size.bytes);
        let pieces = match size {
            Some(size) if size.splittable && filter.is_empty() => {
                self.cutting.pieces(size.blocks, bytes)
            }
            _ => vec![None],
        };
        let copies: Vec<BString> = pieces
            .into_iter()
            .map(|piece| copy_statement(relation, columns, filter, piece))
            .collect();
        let entry = pair.expected.id;
        let source = match size.and_then(|size| size.moves_within.clone()) {
            None => self.add_source(entry, label(pair.expected), HINT_PERMISSION),
            Some(root) => match self.together.get(&root) {
                Some(source) => *source,
                None => {
                    let name = format!("rows of {root}");
                    let source = self.add_source(entry, name, HINT_PERMISSION);
                    self.together.insert(root, source);
                    source
                }
            },
        };
        self.add_tasks(source, expected, copies, bytes);
    }

    /// Adds the contents of large objects.
    pub fn add_large_objects(&mut self, pair: &Pair<'_>, expected: EndRecord, copy: &str) {
        let label = label(pair.expected);
        let source = self.add_source(pair.expected.id, label, HINT_LARGE_OBJECTS);
        self.add_tasks(source, expected, vec![copy.into()], 0);
    }

    fn add_source(&mut self, entry: EntryId, label: String, permission: &'static str) -> usize {
        self.sources.push(Source {
            entry,
            label,
            expected: Fingerprint::default(),
            permission,
            sum: Mutex::default(),
        });
        self.sources.len() - 1
    }

    /// Statements that read what the archive has so many rows of.
    fn add_tasks(&mut self, source: usize, expected: EndRecord, copies: Vec<BString>, bytes: u64) {
        if let Some(source) = self.sources.get_mut(source) {
            source.expected.merge(Fingerprint::of_end(&expected));
            let sum = source.sum.get_mut().unwrap_or_else(PoisonError::into_inner);
            sum.tasks_left += copies.len() as u32;
        }
        let share = bytes / (copies.len() as u64).max(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.tasks.extend(copies.into_iter().map(|copy| Task {
            source,
            copy,
            bytes: share,
        }));
    }

    pub fn tables(&self) -> u64 {
        self.sources.len() as u64
    }

    /// Reads all of it over the leader and the workers. Returns what differs, and the rows read.
    pub async fn run(
        mut self,
        leader: &mut Session,
        workers: Vec<Session>,
        progress: Arc<Progress>,
    ) -> Result<(Vec<(EntryId, Finding)>, u64)> {
        progress.expect(self.tables(), self.bytes);
        let mut findings = std::mem::take(&mut self.findings);
        // workers take from the end: the largest first
        self.tasks.sort_by_key(|task| task.bytes);
        let work = Arc::new(Work {
            sources: self.sources,
            queue: Mutex::new(self.tasks),
            progress,
        });
        let mut running = JoinSet::new();
        for mut session in workers {
            let work = Arc::clone(&work);
            running.spawn(async move {
                work.read_all(&mut session).await?;
                session.close().await;
                Ok::<(), Error>(())
            });
        }
        run_all(work.read_all(leader), running).await?;
        let mut rows = 0u64;
        for source in &work.sources {
            let sum = source.sum.lock().unwrap_or_else(PoisonError::into_inner);
            rows = rows.saturating_add(sum.fingerprint.rows);
            findings.extend(source.judge(&sum).map(|finding| (source.entry, finding)));
        }
        Ok((findings, rows))
    }
}

impl Source {
    fn judge(&self, sum: &Sum) -> Option<Finding> {
        let (expected, found) = (self.expected, sum.fingerprint);
        let reason = match &sum.failure {
            None if sum.tasks_left > 0 => Some(Reason::from("it was not read to its end")),
            failure => failure.clone(),
        };
        if let Some(reason) = reason {
            return Some(Finding::not_comparable(self.label.clone(), reason));
        }
        let kind = if found.rows != expected.rows {
            FindingKind::Rows {
                expected: expected.rows,
                found: found.rows,
            }
        } else if found != expected {
            FindingKind::Fingerprint
        } else {
            return None;
        };
        Some(Finding::new(kind, self.label.clone(), ""))
    }
}

struct Work {
    sources: Vec<Source>,
    queue: Mutex<Vec<Task>>,
    progress: Arc<Progress>,
}

impl Work {
    async fn read_all(&self, session: &mut Session) -> Result<()> {
        set_savepoint(session).await?;
        loop {
            let task = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some(task) = task else { return Ok(()) };
            let Some(source) = self.sources.get(task.source) else {
                continue;
            };
            let read = match hash_rows(session, &task.copy, &self.progress).await {
                Ok(fingerprint) => Ok(fingerprint),
                Err(error) => Err(recover(session, error)
                    .await
                    .with_context(|| format!("reading {}", source.label))?),
            };
            let mut sum = source.sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.tasks_left = sum.tasks_left.saturating_sub(1);
            match read {
                Ok(fingerprint) => sum.fingerprint.merge(fingerprint),
                Err(error) => sum.failure = Some(Reason::of(&error, source.permission)),
            }
            if sum.tasks_left == 0 {
                self.progress.table_done();
            }
        }
    }
}

async fn hash_rows(session: &mut Session, copy: &[u8], progress: &Progress) -> Result<Fingerprint> {
    let mut hasher = Hasher::default();
    let mut seen = 0;
    let mut copy = session.copy_out(copy).await?;
    let counted = loop {
        let state = copy.read(&mut hasher).await?;
        let rows = hasher.rows();
        progress.add(rows - seen, std::mem::take(&mut hasher.unreported));
        seen = rows;
        if let CopyProgress::Done { rows } = state {
            break rows;
        }
    };
    let fingerprint = hasher.finish()?;
    if counted != fingerprint.rows {
        return Err(Error::new(format!(
            "the server counted {counted} rows, {} arrived",
            fingerprint.rows
        )));
    }
    Ok(fingerprint)
}

/// Bytes after which progress is told.
const REPORTED: u64 = 4 << 20;

/// Hashes rows and keeps nothing of them.
#[derive(Default)]
struct Hasher {
    whole: Fingerprint,
    /// Rows that come in pieces.
    long: FingerprintStream,
    unreported: u64,
}

impl Hasher {
    fn rows(&self) -> u64 {
        self.whole.rows.wrapping_add(self.long.rows())
    }

    fn finish(self) -> Result<Fingerprint> {
        let mut fingerprint = self.whole;
        fingerprint.merge(self.long.finish()?);
        Ok(fingerprint)
    }
}

impl RowConsumer for Hasher {
    fn row(&mut self, row: &[u8]) {
        self.whole.add_row(row);
        self.unreported += row.len() as u64;
    }

    fn piece(&mut self, piece: &[u8], _: bool) {
        self.long.update(piece);
        self.unreported += piece.len() as u64;
    }

    fn full(&self) -> bool {
        self.unreported >= REPORTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_pieces_count_as_whole_ones() {
        let mut whole = Hasher::default();
        whole.row(b"1\tone\n");
        whole.row(b"2\ttwo\n");
        let mut pieces = Hasher::default();
        pieces.row(b"2\ttwo\n");
        for (piece, last) in [(&b"1\t"[..], false), (b"on", false), (b"e\n", true)] {
            pieces.piece(piece, last);
        }
        assert_eq!(whole.rows(), 2);
        assert_eq!(whole.finish().unwrap(), pieces.finish().unwrap());
    }
}
