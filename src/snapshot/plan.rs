//! What is to be copied, in which order, and cut how.

use std::collections::HashMap;

use bstr::BString;

use super::lock::Snapshot;
use crate::archive::{Contents, Entry, EntryId};
use crate::catalog::Catalog;
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
    /// By source: those whose rows the archive must have before.
    pub needs: HashMap<usize, Vec<usize>>,
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

/// Sources that come behind others in the archive, with those, by their positions. An archive that is
/// read once has rows only after those that they refer to, where foreign keys stand before the rows
/// come: those of an extension, and all under -a.
fn needs(entries: &[Entry], sources: &HashMap<EntryId, usize>) -> HashMap<usize, Vec<usize>> {
    let mut needs: HashMap<usize, Vec<usize>> = HashMap::new();
    for entry in entries {
        let Some(source) = sources.get(&entry.id) else {
            continue;
        };
        // entries are in order: whatever needs a later one is in a circle
        let earlier = entry.dependencies.iter().filter(|id| **id < entry.id);
        let needed: Vec<usize> = earlier.filter_map(|id| sources.get(id).copied()).collect();
        if !needed.is_empty() {
            needs.insert(*source, needed);
        }
    }
    needs
}

/// Plans for so many connections. `standby`: unlogged tables cannot be read.
pub fn plan(
    catalog: &Catalog,
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
    let cutting = Cutting::new(total, jobs, least_slice);

    let mut plan = Plan::default();
    let mut sources = HashMap::new();
    let entries = &catalog.entries;
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
                            && !catalog.whole.contains(&entry.id) =>
                    {
                        let blocks = relation.heap_bytes / snapshot.block_size.max(1);
                        cutting.pieces(blocks, bytes)
                    }
                    _ => vec![None],
                };
                let source = plan.sources.len();
                sources.insert(entry.id, source);
                plan.sources.push(Source {
                    label: target.to_string(),
                    tasks: slices.len() as u32,
                });
                let share = bytes / slices.len() as u64;
                let planned = slices.len() > 1 || !filter.is_empty();
                for slice in slices {
                    plan.tasks.push(Task {
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
    plan.needs = needs(entries, &sources);
    // stable, so that equal sizes keep their order
    plan.tasks.sort_by_key(|task| task.bytes);
    plan
}
