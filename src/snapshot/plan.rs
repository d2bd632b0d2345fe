//! What is to be copied, in which order, and cut how.

use std::collections::{HashMap, HashSet};

use bstr::BString;

use super::lock::Snapshot;
use crate::archive::{Contents, Entry, EntryId};
use crate::rows::{Cutting, copy_statement};
use crate::sql;

/// One COPY.
#[derive(Debug, Clone)]
pub struct Task {
    pub entry: EntryId,
    /// Position among `Plan::sources`.
    pub source: usize,
    pub copy: BString,
    /// Locked once more before reading. None where a lock is not taken.
    pub lock: Option<BString>,
    /// Locks what the planner will lock beside the table. None where nothing is planned.
    pub locks_indexes: Option<BString>,
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
    /// Before all others and one after the other, by the leader alone: rows that refer to each
    /// other while they are loaded, since the foreign keys come with their extension.
    pub in_order: Vec<Task>,
    /// The entry of the large objects.
    pub large_objects: Option<EntryId>,
    pub bytes: u64,
    /// Entries that cannot be read here, with the reason: they end with no rows.
    pub skipped: Vec<(EntryId, String)>,
}

/// Sequences, whose values are read together: entry, and the sequence as SQL.
pub fn sequences(entries: &[Entry]) -> Vec<(EntryId, BString)> {
    entries
        .iter()
        .filter_map(|entry| match &entry.contents {
            Contents::SequenceValue { sequence } => Some((entry.id, sequence.clone())),
            _ => None,
        })
        .collect()
}

/// Entries with rows that need those of another, and these others.
fn in_order(entries: &[Entry]) -> HashSet<EntryId> {
    let with_rows: HashSet<EntryId> = entries
        .iter()
        .filter(|entry| matches!(entry.contents, Contents::Rows { .. }))
        .map(|entry| entry.id)
        .collect();
    let mut in_order = HashSet::new();
    for entry in entries.iter().filter(|entry| with_rows.contains(&entry.id)) {
        for needed in entry
            .dependencies
            .iter()
            .filter(|id| with_rows.contains(id))
        {
            in_order.extend([entry.id, *needed]);
        }
    }
    in_order
}

/// Plans for so many connections. `standby`: unlogged tables cannot be read.
pub fn plan(
    entries: &[Entry],
    snapshot: &Snapshot,
    jobs: usize,
    least_slice: u64,
    standby: bool,
) -> Plan {
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
    let in_order = in_order(entries);
    let cutting = Cutting::new(total, jobs, least_slice);

    let mut plan = Plan::default();
    for entry in entries {
        match &entry.contents {
            // sequences are read together, before
            Contents::None | Contents::SequenceValue { .. } => {}
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
                    Some(relation)
                        if relation.splittable
                            && filter.is_empty()
                            && !in_order.contains(&entry.id) =>
                    {
                        let blocks = relation.heap_bytes / snapshot.block_size.max(1);
                        cutting.pieces(blocks, bytes)
                    }
                    _ => vec![None],
                };
                let source = plan.sources.len();
                plan.sources.push(Source {
                    label: target.to_string(),
                    tasks: slices.len() as u32,
                });
                let share = bytes / slices.len() as u64;
                let planned = slices.len() > 1 || !filter.is_empty();
                let tasks = if in_order.contains(&entry.id) {
                    &mut plan.in_order
                } else {
                    &mut plan.tasks
                };
                for slice in slices {
                    tasks.push(Task {
                        entry: entry.id,
                        source,
                        copy: copy_statement(target, columns, filter, slice),
                        lock: relation.map(|relation| {
                            super::lock::lock_statement(std::slice::from_ref(relation), true)
                        }),
                        locks_indexes: planned.then(|| sql!("SELECT FROM ONLY {} LIMIT 0", target)),
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
