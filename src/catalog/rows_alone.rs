//! Rows alone (`-a`) go into tables whose foreign keys are there already: what they refer to must
//! be there before them.

use std::collections::{BTreeSet, HashMap, HashSet};

use bstr::BString;

use super::family::Family;
use crate::archive::{Contents, Entry, EntryId};
use crate::sql;

/// What the foreign keys of a database ask of those who load its rows.
#[derive(Debug, Default)]
pub struct Order {
    /// Refer to themselves: one COPY each, which is checked at its end.
    pub whole: HashSet<EntryId>,
    pub warnings: Vec<String>,
}

/// Makes rows wait for those that they refer to. `all` is the archive, of which the foreign keys
/// are; `chosen` is what is restored.
pub fn order(all: &[Entry], chosen: &mut [Entry]) -> Order {
    let (order, waits) = find(all, chosen);
    for entry in chosen {
        if let Some(needed) = waits.of(entry.id) {
            entry.dependencies.clone_from(needed);
        }
    }
    order
}

/// The same of all of an archive.
pub(super) fn order_all(entries: &mut [Entry]) -> Order {
    let (order, waits) = find(entries, entries);
    for entry in entries {
        if let Some(needed) = waits.of(entry.id) {
            entry.dependencies.clone_from(needed);
        }
    }
    order
}

const REFER_TO_EACH_OTHER: &str = "refer to each other: unless the target's foreign keys are deferred or dropped, their rows cannot be loaded without --disable-triggers";

fn find(all: &[Entry], chosen: &[Entry]) -> (Order, Waits) {
    let family = Family::of(all);
    let tables: HashMap<EntryId, &Entry> = all
        .iter()
        .filter(|entry| entry.kind == "TABLE")
        .map(|entry| (entry.id, entry))
        .collect();
    let data: HashMap<EntryId, &Entry> = chosen
        .iter()
        .filter(|entry| entry.contents != Contents::None)
        .map(|entry| (entry.id, entry))
        .collect();
    let mut waits = Waits::of_all(&data);
    let mut order = Order::default();
    for key in all.iter().filter(|entry| entry.kind == "FK CONSTRAINT") {
        let needed = key.dependencies.iter().filter(|id| tables.contains_key(id));
        let (own, others): (Vec<EntryId>, Vec<EntryId>) = needed.partition(|id| {
            let table = tables[id];
            table.schema == key.schema && Some(&table.name) == key.relation.as_ref()
        });
        let rows = |tables: &[EntryId]| -> BTreeSet<EntryId> {
            let rows = tables.iter().flat_map(|table| family.rows_of(*table));
            rows.filter(|id| data.contains_key(id)).collect()
        };
        let referring = rows(&own);
        if others.is_empty() {
            order.whole.extend(&referring);
            if referring.len() > 1
                && let (Some(schema), Some(name)) = (&key.schema, &key.relation)
            {
                let parts = sql!("partitions of {}", sql::qualified(schema, name));
                order
                    .warnings
                    .push(format!("{parts} {REFER_TO_EACH_OTHER}"));
            }
        }
        let referred = rows(&others);
        let waited_for = waits.reached(referred.iter().copied());
        // what would close a circle is looked at one by one, when the others wait
        let (entangled, free): (Vec<EntryId>, Vec<EntryId>) =
            referring.iter().partition(|id| waited_for.contains(id));
        for from in free {
            waits.add(from, referred.iter().copied());
        }
        for from in entangled {
            for to in &referred {
                if from == *to {
                    order.whole.insert(from);
                } else if waits.reached([*to]).contains(&from) {
                    order.warnings.push(format!(
                        "{} and {} {REFER_TO_EACH_OTHER}",
                        label(data[&from]),
                        label(data[to])
                    ));
                } else {
                    waits.add(from, [*to]);
                }
            }
        }
    }
    (order, waits)
}

/// The table whose rows an entry has, as SQL.
fn label(entry: &Entry) -> BString {
    match &entry.contents {
        Contents::Rows { relation, .. } => relation.clone(),
        _ => entry.name.clone(),
    }
}

/// What each entry with rows waits for.
struct Waits(HashMap<EntryId, Vec<EntryId>>);

impl Waits {
    fn of_all(data: &HashMap<EntryId, &Entry>) -> Waits {
        let waits = data.iter();
        Waits(
            waits
                .map(|(id, entry)| (*id, entry.dependencies.clone()))
                .collect(),
        )
    }

    fn of(&self, entry: EntryId) -> Option<&Vec<EntryId>> {
        self.0.get(&entry)
    }

    fn add(&mut self, from: EntryId, to: impl IntoIterator<Item = EntryId>) {
        let waits = self.0.entry(from).or_default();
        waits.extend(to);
        waits.sort_unstable();
        waits.dedup();
    }

    /// These, and all that they wait for by way of rows.
    fn reached(&self, from: impl IntoIterator<Item = EntryId>) -> HashSet<EntryId> {
        let mut reached = HashSet::new();
        let mut open: Vec<EntryId> = from.into_iter().collect();
        while let Some(id) = open.pop() {
            if let Some(needed) = self.0.get(&id)
                && reached.insert(id)
            {
                open.extend(needed);
            }
        }
        reached
    }
}
