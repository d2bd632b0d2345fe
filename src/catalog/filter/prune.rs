//! Leaving out entries of what is not wanted, when all have been read.

use std::collections::{BTreeSet, HashMap};

use super::Parts;
use crate::archive::{Contents, Entry, EntryId};

/// Takes out what `parts` does not take, and numbers the rest anew; returns the new numbers by the old
/// ones. What needed something that is gone needs what that needed.
pub(in crate::catalog) fn prune(
    entries: &mut Vec<Entry>,
    parts: &Parts,
    warnings: &mut Vec<String>,
) -> HashMap<EntryId, EntryId> {
    let rows_alone = parts.no_schema && parts.takes_rows();
    if rows_alone {
        wait_for_referred_rows(entries, warnings);
    }
    let mut numbers: HashMap<EntryId, EntryId> = HashMap::new();
    // of what is gone: what is left of all that it needed
    let mut stand_ins: HashMap<EntryId, BTreeSet<EntryId>> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for mut entry in order(std::mem::take(entries), rows_alone) {
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
    numbers
}

/// Rows alone go into tables whose foreign keys stand already: they come after those that they
/// refer to.
fn wait_for_referred_rows(entries: &mut [Entry], warnings: &mut Vec<String>) {
    let positions: HashMap<EntryId, usize> = entries
        .iter()
        .enumerate()
        .map(|(position, entry)| (entry.id, position))
        .collect();
    let mut rows_of: HashMap<EntryId, usize> = HashMap::new();
    for (position, entry) in entries.iter().enumerate() {
        if matches!(entry.contents, Contents::Rows { .. }) {
            let tables = entry.dependencies.iter().filter(|id| {
                positions.get(id).is_some_and(|table| {
                    let table = &entries[*table];
                    table.kind == "TABLE"
                        && table.schema == entry.schema
                        && Some(&table.name) == entry.relation.as_ref()
                })
            });
            for table in tables {
                rows_of.insert(*table, position);
            }
        }
    }
    for key in 0..entries.len() {
        if entries[key].kind != "FK CONSTRAINT" {
            continue;
        }
        let tables: Vec<(EntryId, usize)> = entries[key]
            .dependencies
            .iter()
            .filter_map(|id| Some((*id, *rows_of.get(id)?)))
            .collect();
        let is_own = |table: &EntryId| {
            let table = &entries[positions[table]];
            table.schema == entries[key].schema
                && Some(&table.name) == entries[key].relation.as_ref()
        };
        let Some((_, referring)) = tables.iter().copied().find(|(id, _)| is_own(id)) else {
            continue;
        };
        for (_, referred) in tables {
            if referred == referring {
                continue;
            }
            if reaches(entries, &positions, referred, referring) {
                warnings.push(format!(
                    "rows of {} and {} refer to each other: restore them with --disable-triggers, or drop the foreign keys meanwhile",
                    label(&entries[referring]),
                    label(&entries[referred])
                ));
                continue;
            }
            let id = entries[referred].id;
            let dependencies = &mut entries[referring].dependencies;
            if !dependencies.contains(&id) {
                dependencies.push(id);
            }
        }
    }
}

/// The table whose rows an entry has, as SQL.
fn label(entry: &Entry) -> String {
    match &entry.contents {
        Contents::Rows { relation, .. } => relation.to_string(),
        _ => entry.name.to_string(),
    }
}

/// Whether rows wait for others, by way of rows.
fn reaches(entries: &[Entry], positions: &HashMap<EntryId, usize>, from: usize, to: usize) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(position) = open.pop() {
        if position == to {
            return true;
        }
        if seen.insert(position) {
            let needed = entries[position].dependencies.iter();
            open.extend(needed.filter_map(|id| {
                let position = *positions.get(id)?;
                matches!(entries[position].contents, Contents::Rows { .. }).then_some(position)
            }));
        }
    }
    false
}

/// Moves what is needed before what needs it, and nothing else.
fn order(entries: Vec<Entry>, is_needed: bool) -> Vec<Entry> {
    if !is_needed {
        return entries;
    }
    let positions: HashMap<EntryId, usize> = entries
        .iter()
        .enumerate()
        .map(|(position, entry)| (entry.id, position))
        .collect();
    let mut order = Vec::with_capacity(entries.len());
    let mut seen = vec![false; entries.len()];
    for start in 0..entries.len() {
        // an entry comes up twice: before what it needs is looked at, and after
        let mut open = vec![(start, false)];
        while let Some((position, is_ready)) = open.pop() {
            if is_ready {
                order.push(position);
            } else if !std::mem::replace(&mut seen[position], true) {
                open.push((position, true));
                let needed = entries[position].dependencies.iter().rev();
                open.extend(needed.filter_map(|id| Some((*positions.get(id)?, false))));
            }
        }
    }
    let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|position| entries[position].take())
        .collect()
}
