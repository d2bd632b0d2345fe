//! Partitions that come back without what they are a partition of.
//!
//! Such a table is what DETACH PARTITION would leave. Foreign keys of the parents become its own.
//! Triggers of the parents and the identity of their columns do not: both would have to be taken
//! away again before the table could be attached. They are told.

use std::collections::{BTreeSet, HashMap};

use bstr::{BString, ByteSlice};

use super::closure::Closure;
use crate::archive::{Entry, EntryId};
use crate::postgres::ServerVersion;
use crate::restore::schedule::is_data;
use crate::restore::selection::label;
use crate::sql;
use crate::sql::renaming::renamed;

/// Partitions alone, and what becomes of what their parents give them.
#[derive(Debug, Default)]
pub struct Alone {
    /// All of the archive, with the keys that the partitions have of their own now.
    pub entries: Vec<Entry>,
    /// What alters triggers that are not there.
    pub pointless: BTreeSet<EntryId>,
    /// The parents' keys, which the partitions have.
    pub handed_down: BTreeSet<EntryId>,
    pub warnings: Vec<String>,
}

/// None where each partition comes with its parent.
pub fn alone(closure: &Closure<'_>, entries: &[Entry], from: ServerVersion) -> Option<Alone> {
    let partitions = closure.partitions_alone();
    if partitions.is_empty() {
        return None;
    }
    let mut alone = Alone::default();
    let mut own_keys: HashMap<EntryId, Vec<Entry>> = HashMap::new();
    let mut next = entries.iter().map(|entry| entry.id.0).max().unwrap_or(0);
    for (partition, parent) in partitions {
        let mut lost = Vec::new();
        for ancestor in ancestors(closure, parent) {
            for part in closure.parts(ancestor) {
                match part.kind.as_str() {
                    // a foreign table has none
                    "FK CONSTRAINT" if partition.kind == "TABLE" => {
                        alone.handed_down.insert(part.id);
                        next = next.saturating_add(1);
                        if let Some(key) = own_key(part, ancestor, partition, EntryId(next)) {
                            own_keys.entry(part.id).or_default().push(key);
                        }
                    }
                    "TRIGGER" if is_of_each_row(part) => lost.push(label(part)),
                    "PUBLICATION TABLE" => lost.push(label(part)),
                    // before 17, only the parent had it
                    "SEQUENCE" if from.at_least(17) => {
                        lost.extend(identity(part, ancestor).map(|column| {
                            format!("the identity of column {column} of {}", label(ancestor))
                        }));
                    }
                    _ => {}
                }
            }
        }
        if !lost.is_empty() {
            alone.warnings.push(format!(
                "{} is without what it had from its parents: {}",
                label(partition),
                lost.join(", ")
            ));
        }
    }
    let included = entries
        .iter()
        .filter(|entry| closure.included.contains(&entry.id));
    let pointless = included.filter(|entry| alters_what_is_not_there(closure, entry));
    alone.pointless = pointless.map(|entry| entry.id).collect();
    let load_into = destinations(closure, entries);
    for entry in entries {
        let mut own = entry.clone();
        if let Some(destination) = load_into.get(&entry.id) {
            own.load_into.clone_from(destination);
        }
        alone.entries.push(own);
        alone
            .entries
            .extend(own_keys.remove(&entry.id).into_iter().flatten());
    }
    Some(alone)
}

/// A parent and its own, up to the first.
fn ancestors<'a>(closure: &Closure<'a>, parent: &'a Entry) -> Vec<&'a Entry> {
    let mut found = vec![parent];
    let mut seen = BTreeSet::from([parent.id]);
    let mut last = parent;
    // a damaged archive may have a circle
    while let Some(next) = closure.parent(last).filter(|next| seen.insert(next.id)) {
        found.push(next);
        last = next;
    }
    found
}

fn name(table: &Entry) -> BString {
    match &table.schema {
        Some(schema) => sql::qualified(schema, &table.name),
        None => sql::identifier(&table.name),
    }
}

/// A key of an ancestor as one of the partition.
fn own_key(key: &Entry, ancestor: &Entry, partition: &Entry, id: EntryId) -> Option<Entry> {
    let definition = key
        .create
        .strip_prefix(sql!("ALTER TABLE {}\n", name(ancestor)).as_slice())?;
    let constraint = key
        .name
        .strip_prefix(sql!("{} ", ancestor.name).as_slice())?;
    let mut own = key.clone();
    own.id = id;
    own.create = sql!("ALTER TABLE {}\n{}", name(partition), definition.as_bstr());
    own.drop.clear();
    own.drop_if_exists.clear();
    own.name = sql!("{} {}", partition.name, constraint.as_bstr());
    own.schema.clone_from(&partition.schema);
    own.relation = Some(partition.name.clone());
    // it may refer to the ancestor
    let is_named = renamed(definition, |_, schema, name| {
        let is_ancestor =
            ancestor.name == name && ancestor.schema.as_ref().is_some_and(|own| own == schema);
        is_ancestor.then(|| (BString::default(), BString::default()))
    }) != definition;
    own.dependencies.retain(|id| *id != ancestor.id || is_named);
    own.dependencies.push(partition.id);
    own.dependencies.sort_unstable();
    own.dependencies.dedup();
    Some(own)
}

/// Partitions have only these of their parents.
fn is_of_each_row(trigger: &Entry) -> bool {
    trigger.create.starts_with(b"CREATE ")
        && sql::find_unquoted(&trigger.create, b" FOR EACH ROW ").is_some()
}

/// A partition has a trigger of a parent that does not come, and has it switched on or off.
fn alters_what_is_not_there(closure: &Closure<'_>, entry: &Entry) -> bool {
    let mut needed = entry
        .dependencies
        .iter()
        .filter_map(|id| closure.entry(*id));
    entry.kind == "TRIGGER"
        && !entry.create.starts_with(b"CREATE ")
        && needed.any(|needed| needed.kind == "TRIGGER" && !closure.included.contains(&needed.id))
}

/// The column, as SQL, if this is the identity of one of this table.
fn identity(sequence: &Entry, table: &Entry) -> Option<BString> {
    let head = sql!("ALTER TABLE {} ALTER COLUMN ", name(table));
    let rest = sequence.create.strip_prefix(head.as_slice())?;
    let end = sql::find_unquoted(rest, b" ADD GENERATED ")?;
    Some(rest[..end].into())
}

/// Where rows go that the archive would put into the first of the ancestors: into the first that
/// comes back.
fn destinations(closure: &Closure<'_>, entries: &[Entry]) -> HashMap<EntryId, Option<BString>> {
    let rows = entries
        .iter()
        .filter(|entry| is_data(entry) && entry.load_into.is_some());
    let mut found = HashMap::new();
    for entry in rows.filter(|entry| closure.included.contains(&entry.id)) {
        let tables = entry
            .dependencies
            .iter()
            .filter_map(|id| closure.entry(*id));
        let own = |table: &&Entry| {
            table.schema == entry.schema && Some(&table.name) == entry.relation.as_ref()
        };
        let Some(table) = tables.into_iter().find(own) else {
            continue;
        };
        let all = closure
            .parent(table)
            .map(|parent| ancestors(closure, parent));
        let all = all.unwrap_or_default();
        let is_included = |one: &&&Entry| closure.included.contains(&one.id);
        if !all.iter().all(|one| is_included(&one)) {
            let first = all.iter().take_while(is_included).last();
            found.insert(entry.id, first.map(|table| name(table)));
        }
    }
    found
}
