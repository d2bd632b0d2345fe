//! Leaving out entries of what is not wanted, when all have been read.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Parts;
use crate::archive::{Entry, EntryId, needed_first};
use crate::catalog::rows_alone;

/// What became of the entries.
pub(in crate::catalog) struct Pruned {
    /// Of those that are left, by the numbers that they had.
    pub numbers: HashMap<EntryId, EntryId>,
    /// Rows that refer to others of the same table, which their one COPY must hold.
    pub whole: HashSet<EntryId>,
}

/// Takes out what `parts` does not take, and numbers the rest anew. What needed something that is gone needs what that needed.
pub(in crate::catalog) fn prune(
    entries: &mut Vec<Entry>,
    parts: &Parts,
    warnings: &mut Vec<String>,
) -> Pruned {
    let mut all = std::mem::take(entries);
    let mut whole = HashSet::new();
    if parts.no_schema && parts.takes_rows() {
        let order = rows_alone::order_all(&mut all);
        warnings.extend(order.warnings);
        whole = order.whole;
        all = needed_first(all);
    }
    let mut numbers: HashMap<EntryId, EntryId> = HashMap::new();
    // of what is gone: what is left of all that it needed
    let mut stand_ins: HashMap<EntryId, BTreeSet<EntryId>> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(all.len());
    for mut entry in all {
        let mut needed = BTreeSet::new();
        for id in &entry.dependencies {
            match numbers.get(id) {
                Some(number) => {
                    needed.insert(*number);
                }
                None => needed.extend(stand_ins.get(id).into_iter().flatten()),
            }
        }
        if parts.takes(&entry) {
            let number = EntryId(kept.len() as u32 + 1);
            numbers.insert(entry.id, number);
            entry.id = number;
            entry.dependencies = needed.into_iter().collect();
            kept.push(entry);
        } else {
            stand_ins.insert(entry.id, needed);
        }
    }
    *entries = kept;
    let whole = whole.iter().filter_map(|id| numbers.get(id).copied());
    Pruned {
        whole: whole.collect(),
        numbers,
    }
}
