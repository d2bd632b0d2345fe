//! Rows alone (`-a`) go into tables whose foreign keys are there already: what they refer to must
//! be there before them.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::schedule::{Family, is_data};
use super::selection::label;
use crate::archive::{Entry, EntryId};

/// What the foreign keys of an archive ask of those who load its rows.
#[derive(Debug, Default)]
pub struct Order {
    /// Refer to themselves: one COPY each, which is checked at its end.
    pub whole: HashSet<EntryId>,
    pub warnings: Vec<String>,
}

/// Makes rows wait for those that they refer to. `all` is the archive, of which the foreign keys
/// are; `chosen` is what is restored.
pub fn order(all: &[Entry], chosen: &mut [Entry]) -> Order {
    let family = Family::of(all);
    let tables: HashMap<EntryId, &Entry> = all
        .iter()
        .filter(|entry| entry.kind == "TABLE")
        .map(|entry| (entry.id, entry))
        .collect();
    let positions: HashMap<EntryId, usize> = (0..)
        .zip(chosen.iter())
        .filter(|(_, entry)| is_data(entry))
        .map(|(position, entry)| (entry.id, position))
        .collect();
    let mut order = Order::default();
    for key in all.iter().filter(|entry| entry.kind == "FK CONSTRAINT") {
        let needed = key.dependencies.iter().filter(|id| tables.contains_key(id));
        let (own, others): (Vec<EntryId>, Vec<EntryId>) = needed.partition(|id| {
            let table = tables[id];
            table.schema == key.schema && Some(&table.name) == key.relation.as_ref()
        });
        let rows = |tables: &[EntryId]| -> BTreeSet<EntryId> {
            let rows = tables.iter().flat_map(|table| family.rows_of(*table));
            rows.filter(|id| positions.contains_key(id)).collect()
        };
        let referring = rows(&own);
        if others.is_empty() {
            order.whole.extend(&referring);
        }
        let referred = rows(&others);
        for from in &referring {
            for to in &referred {
                if from == to {
                    order.whole.insert(*from);
                } else if reaches(chosen, &positions, *to, *from) {
                    order.warnings.push(format!(
                        "{} and {} refer to each other: unless the target's foreign keys are deferred or dropped, their rows cannot be loaded",
                        label(&chosen[positions[from]]),
                        label(&chosen[positions[to]])
                    ));
                } else {
                    let waiting = &mut chosen[positions[from]].dependencies;
                    if !waiting.contains(to) {
                        waiting.push(*to);
                    }
                }
            }
        }
    }
    order
}

/// Whether the rows of `from` wait for those of `to`.
fn reaches(
    entries: &[Entry],
    positions: &HashMap<EntryId, usize>,
    from: EntryId,
    to: EntryId,
) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        if id == to {
            return true;
        }
        if let Some(&position) = positions.get(&id)
            && seen.insert(id)
        {
            open.extend(&entries[position].dependencies);
        }
    }
    false
}
