//! What is to be copied, in which order, and cut how.

use std::collections::HashMap;

use bstr::BString;

use super::lock::Snapshot;
use crate::archive::{Contents, Entry, EntryId};
use crate::sql;

/// Smaller pieces of a table are not worth a statement of their own.
const LEAST_SLICE: u64 = 64 << 20;

/// Pieces a connection, so that the last ones end at about the same time.
const SLICES_PER_JOB: u64 = 4;

/// A range of heap blocks: from the first, up to but not with the second; to the end without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub start: u64,
    pub end: Option<u64>,
}

/// One COPY.
#[derive(Debug, Clone)]
pub struct Task {
    pub entry: EntryId,
    /// Position among `Plan::sources`.
    pub source: usize,
    pub copy: BString,
    /// Locked once more before reading. None where a lock is not taken.
    pub lock: Option<BString>,
    /// Estimate, for order and progress.
    pub bytes: u64,
}

/// An entry whose contents are copied.
#[derive(Debug, Clone)]
pub struct Source {
    /// "public.orders", for messages.
    pub label: String,
    /// How many tasks read it.
    pub tasks: u32,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub sources: Vec<Source>,
    /// Largest last: workers take from the end.
    pub tasks: Vec<Task>,
    /// Sequences, whose values are read together: entry, and the sequence as SQL.
    pub sequences: Vec<(EntryId, BString)>,
    /// The entry of the large objects.
    pub large_objects: Option<EntryId>,
    pub bytes: u64,
    /// Entries that cannot be read here, with the reason: they end with no rows.
    pub skipped: Vec<(EntryId, String)>,
}

/// Plans for so many connections. `standby`: unlogged tables cannot be read.
pub fn plan(entries: &[Entry], snapshot: &Snapshot, jobs: usize, standby: bool) -> Plan {
    let relations: HashMap<(&[u8], &[u8]), _> = snapshot
        .relations
        .iter()
        .map(|relation| {
            (
                (relation.schema.as_slice(), relation.name.as_slice()),
                relation,
            )
        })
        .collect();
    let total: u64 = snapshot
        .relations
        .iter()
        .map(|relation| relation.bytes())
        .sum();
    let largest_slice = (total / (jobs as u64 * SLICES_PER_JOB).max(1)).max(LEAST_SLICE);

    let mut plan = Plan::default();
    for entry in entries {
        match &entry.contents {
            Contents::None => {}
            Contents::SequenceValue { sequence } => {
                plan.sequences.push((entry.id, sequence.clone()));
            }
            Contents::LargeObjects => plan.large_objects = Some(entry.id),
            Contents::Rows {
                relation: target,
                columns,
                filter,
            } => {
                let key = (
                    entry.schema.as_ref().map_or(&b""[..], |schema| schema),
                    entry.relation.as_ref().map_or(&b""[..], |name| name),
                );
                let relation = relations.get(&key);
                if standby && relation.is_some_and(|relation| relation.unlogged) {
                    plan.skipped.push((
                        entry.id,
                        format!("{target}: rows of unlogged tables cannot be read on a standby"),
                    ));
                    continue;
                }
                let bytes = relation.map_or(0, |relation| relation.bytes());
                let slices = match relation {
                    Some(relation) if relation.splittable && filter.is_empty() && jobs > 1 => {
                        slices(
                            relation.heap_bytes / snapshot.block_size.max(1),
                            bytes.div_ceil(largest_slice),
                        )
                    }
                    _ => vec![None],
                };
                let source = plan.sources.len();
                plan.sources.push(Source {
                    label: target.to_string(),
                    tasks: slices.len() as u32,
                });
                let share = bytes / slices.len() as u64;
                for slice in slices {
                    plan.tasks.push(Task {
                        entry: entry.id,
                        source,
                        copy: copy_statement(target, columns, filter, slice),
                        lock: relation.map(|relation| {
                            super::lock::lock_statement(std::slice::from_ref(relation), true)
                        }),
                        bytes: share,
                    });
                }
                plan.bytes += bytes;
            }
        }
    }
    // stable, so that equal sizes keep their order
    plan.tasks.sort_by_key(|task| task.bytes);
    plan
}

/// Ranges of about equal size; the last is open, since a table may grow behind what was measured.
/// One element that is None: the table as a whole.
fn slices(blocks: u64, wanted: u64) -> Vec<Option<Slice>> {
    let count = wanted.min(blocks);
    if count < 2 {
        return vec![None];
    }
    (0..count)
        .map(|index| {
            Some(Slice {
                start: blocks * index / count,
                end: (index + 1 < count).then(|| blocks * (index + 1) / count),
            })
        })
        .collect()
}

/// A whole table is a plain COPY; a part of one is a COPY of a query.
fn copy_statement(
    relation: &BString,
    columns: &[BString],
    filter: &BString,
    slice: Option<Slice>,
) -> BString {
    let columns = sql::join(columns.iter().map(sql::identifier), ", ");
    let condition = match slice {
        None if filter.is_empty() => {
            let list = if columns.is_empty() {
                BString::default()
            } else {
                sql!(" ({})", columns)
            };
            return sql!("COPY {}{} TO STDOUT", relation, list);
        }
        None => filter.clone(),
        Some(Slice { start, end }) => {
            let mut condition = format!("WHERE ctid >= '({start},0)'::tid");
            if let Some(end) = end {
                condition.push_str(&format!(" AND ctid < '({end},0)'::tid"));
            }
            condition.into()
        }
    };
    sql!(
        "COPY (SELECT {} FROM ONLY {} {}) TO STDOUT",
        columns,
        relation,
        condition
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_all_blocks_once_and_stay_open_at_the_end() {
        for (blocks, wanted) in [(10, 3), (1_000_003, 7), (5, 5), (3, 10)] {
            let slices: Vec<Slice> = slices(blocks, wanted).into_iter().flatten().collect();
            assert_eq!(slices[0].start, 0);
            for pair in slices.windows(2) {
                assert_eq!(pair[0].end, Some(pair[1].start));
                assert!(pair[0].start < pair[1].start);
            }
            assert_eq!(slices.last().map(|slice| slice.end), Some(None));
        }
        assert_eq!(slices(1_000, 1), [None]);
        assert_eq!(slices(0, 9), [None]);
    }

    #[test]
    fn statements() {
        let relation = BString::from("public.t");
        let columns = [BString::from("id"), BString::from("Name")];
        let none = BString::default();
        assert_eq!(
            copy_statement(&relation, &columns, &none, None),
            "COPY public.t (id, \"Name\") TO STDOUT"
        );
        assert_eq!(
            copy_statement(&relation, &[], &none, None),
            "COPY public.t TO STDOUT"
        );
        assert_eq!(
            copy_statement(
                &relation,
                &columns,
                &none,
                Some(Slice {
                    start: 8,
                    end: Some(16)
                })
            ),
            "COPY (SELECT id, \"Name\" FROM ONLY public.t WHERE ctid >= '(8,0)'::tid AND ctid < '(16,0)'::tid) TO STDOUT"
        );
        assert_eq!(
            copy_statement(&relation, &columns, &"WHERE id > 1".into(), None),
            "COPY (SELECT id, \"Name\" FROM ONLY public.t WHERE id > 1) TO STDOUT"
        );
    }
}
