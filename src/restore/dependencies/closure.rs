//! What an object needs, and what belongs to it.
//!
//! What belongs to a table comes along always: rows, indexes, constraints, triggers, rules, policies,
//! sequences that it owns, partitions. What it needs (types, functions, other sequences, tables that it
//! inherits from) comes along where the target has nothing of its name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bstr::{BString, ByteSlice};

use super::present::{Presence, Present};
use crate::archive::{Entry, EntryId};
use crate::restore::schedule::is_data;
use crate::restore::selection::label;
use crate::sql;

pub struct Closure<'a> {
    by_id: HashMap<EntryId, &'a Entry>,
    /// Entries that depend on each.
    dependents: HashMap<EntryId, Vec<&'a Entry>>,
    present: &'a Present,
    pub included: BTreeSet<EntryId>,
    /// There already, and as in the archive.
    pub used: BTreeSet<EntryId>,
    /// There already, and different.
    pub differing: BTreeSet<EntryId>,
    /// Chosen, or belonging to what is chosen: these are to be made, whatever the target has.
    own: BTreeSet<EntryId>,
    /// What is left out, and why.
    pub left_out: Vec<(EntryId, String)>,
}

/// What goes with the object that it is about.
fn is_attached(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), "COMMENT" | "SECURITY LABEL" | "ACL")
}

/// What ties objects together that are there without it: restored where all of them are.
fn is_tie(entry: &Entry) -> bool {
    matches!(
        entry.kind.as_str(),
        "TABLE ATTACH" | "INDEX ATTACH" | "SEQUENCE OWNED BY" | "FK CONSTRAINT"
    )
}

/// What has no place but in its relation (or domain).
fn is_part(entry: &Entry) -> bool {
    matches!(
        entry.kind.as_str(),
        "INDEX"
            | "CONSTRAINT"
            | "CHECK CONSTRAINT"
            | "DEFAULT"
            | "TRIGGER"
            | "RULE"
            | "POLICY"
            | "ROW SECURITY"
            | "STATISTICS"
    )
}

/// An identity column's: it is said with its table.
fn is_of_identity(entry: &Entry) -> bool {
    entry.kind == "SEQUENCE" && entry.create.starts_with(b"ALTER TABLE ")
}

fn is_table(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), "TABLE" | "FOREIGN TABLE")
}

/// Whether an entry names this object as the one that it is in.
fn is_in(entry: &Entry, object: &Entry) -> bool {
    entry.schema == object.schema && entry.relation.as_ref() == Some(&object.name)
}

/// What rows a partition is for, as SQL.
fn bound(attach: &Entry) -> Option<BString> {
    let (schema, name) = attach.schema.as_ref().zip(attach.relation.as_ref())?;
    let partition = sql!(" ATTACH PARTITION {} ", sql::qualified(schema, name));
    let at = sql::find_unquoted(&attach.create, &partition)?;
    let bound = attach.create[at + partition.len()..].strip_suffix(b";\n")?;
    Some(bound.into())
}

impl<'a> Closure<'a> {
    pub fn new(entries: &'a [Entry], present: &'a Present) -> Closure<'a> {
        let mut dependents: HashMap<EntryId, Vec<&Entry>> = HashMap::new();
        for entry in entries {
            for needed in &entry.dependencies {
                dependents.entry(*needed).or_default().push(entry);
            }
        }
        Closure {
            by_id: entries.iter().map(|entry| (entry.id, entry)).collect(),
            dependents,
            present,
            included: BTreeSet::new(),
            used: BTreeSet::new(),
            differing: BTreeSet::new(),
            own: BTreeSet::new(),
            left_out: Vec::new(),
        }
    }

    pub fn entry(&self, id: EntryId) -> Option<&'a Entry> {
        self.by_id.get(&id).copied()
    }

    /// Takes these, with all that they need and that belongs to them.
    pub fn add(&mut self, roots: impl IntoIterator<Item = EntryId>) {
        let mut open: Vec<EntryId> = roots.into_iter().collect();
        self.own.extend(&open);
        while let Some(id) = open.pop() {
            let Some(entry) = self.entry(id) else {
                continue;
            };
            let is_known = self.included.contains(&id)
                || self.used.contains(&id)
                || self.differing.contains(&id);
            if is_known {
                continue;
            }
            if !self.own.contains(&id) {
                match self.present.of(entry) {
                    Presence::Absent => {}
                    Presence::Same => {
                        self.used.insert(id);
                        continue;
                    }
                    Presence::Different => {
                        self.differing.insert(id);
                        continue;
                    }
                }
            }
            self.included.insert(id);
            let needed = entry.dependencies.iter();
            open.extend(needed.filter(|needed| self.follows(entry, **needed)));
            let belonging = self.belonging(entry);
            self.own.extend(&belonging);
            open.extend(belonging);
        }
    }

    /// Whether a dependency is a need. Partitions and their indexes depend on those of their parents,
    /// and can do without.
    fn follows(&self, entry: &Entry, needed: EntryId) -> bool {
        let Some(needed) = self.entry(needed) else {
            return false;
        };
        // a sequence that a column owns is made without it
        if entry.kind == "SEQUENCE" && !is_of_identity(entry) && is_table(needed) {
            return false;
        }
        if is_part(entry) {
            return !is_part(needed) || needed.relation == entry.relation;
        }
        let is_attachment = |attach: &&&Entry| {
            attach.kind == "TABLE ATTACH"
                && is_in(attach, entry)
                && attach.dependencies.contains(&needed.id)
        };
        let about = self.dependents.get(&entry.id);
        !is_data(entry) && about.into_iter().flatten().find(is_attachment).is_none()
    }

    fn belonging(&self, owner: &Entry) -> Vec<EntryId> {
        let mut found = Vec::new();
        for entry in self.dependents.get(&owner.id).into_iter().flatten() {
            let kind =
                |id: &EntryId, kind: &str| self.entry(*id).is_some_and(|entry| entry.kind == kind);
            match entry.kind.as_str() {
                // rows that an extension is configured by are nobody else's
                _ if is_data(entry) && (is_in(entry, owner) || owner.kind == "EXTENSION") => {
                    found.push(entry.id);
                }
                _ if is_part(entry) && is_in(entry, owner) => found.push(entry.id),
                // its schema is no owner of it
                "SEQUENCE" if is_of_identity(entry) && is_table(owner) => found.push(entry.id),
                "SEQUENCE OWNED BY" if is_in(entry, owner) => {
                    let sequences = entry.dependencies.iter();
                    found.extend(sequences.filter(|id| kind(id, "SEQUENCE")));
                }
                // said of the partition: from its parent's side
                "TABLE ATTACH" if !is_in(entry, owner) && is_table(owner) => {
                    let partitions = entry.dependencies.iter().filter(|id| {
                        self.entry(**id)
                            .is_some_and(|table| is_in(entry, table) && table.id != owner.id)
                    });
                    found.extend(partitions);
                }
                _ => {}
            }
        }
        found
    }

    /// Adds what ties included objects to each other, and what is said about them. `copied` is what
    /// gets another name or schema, if anything does: the tables beside it are not altered then.
    pub fn tie(&mut self, copied: Option<&BTreeSet<EntryId>>) {
        let mut ties: Vec<&Entry> = Vec::new();
        let dependents: BTreeMap<EntryId, &Entry> = self
            .included
            .iter()
            .filter_map(|id| self.dependents.get(id))
            .flatten()
            .map(|entry| (entry.id, *entry))
            .collect();
        for entry in dependents.into_values() {
            match entry.kind.as_str() {
                "FK CONSTRAINT" => self.tie_foreign_key(entry, copied),
                "PUBLICATION TABLE" => self
                    .left_out
                    .push((entry.id, "publications are left as they are".to_owned())),
                // it names its table in a text, which no other name can be put into
                "STATISTICS DATA" => self
                    .left_out
                    .push((entry.id, "ANALYZE makes statistics anew".to_owned())),
                _ if is_tie(entry) => ties.push(entry),
                _ => {}
            }
        }
        for entry in ties {
            if let Some(lacking) = entry.dependencies.iter().find(|id| self.lacks(**id)) {
                if entry.kind == "TABLE ATTACH" {
                    let parent = self.entry(*lacking).map(label).unwrap_or_default();
                    let mut reason = format!("it stands alone, since {parent} is not restored");
                    if let Some(bound) = bound(entry) {
                        reason.push_str(&format!("; its place was {bound}"));
                    }
                    self.left_out.push((entry.id, reason));
                }
            } else {
                self.included.insert(entry.id);
            }
        }
        let attached: Vec<EntryId> = self
            .included
            .iter()
            .filter_map(|id| self.dependents.get(id))
            .flatten()
            .filter(|entry| is_attached(entry))
            .filter(|entry| !entry.dependencies.iter().any(|id| self.lacks(*id)))
            .map(|entry| entry.id)
            .collect();
        self.included.extend(attached);
    }

    fn lacks(&self, id: EntryId) -> bool {
        !self.included.contains(&id)
    }

    fn tie_foreign_key(&mut self, key: &'a Entry, copied: Option<&BTreeSet<EntryId>>) {
        let tables = key.dependencies.iter().filter_map(|id| self.entry(*id));
        let tables: Vec<&Entry> = tables.filter(|needed| is_table(needed)).collect();
        let is_copied = |table: &&&Entry| copied.is_some_and(|copied| copied.contains(&table.id));
        let referring = tables.iter().find(|table| is_in(key, table));
        let is_lacking =
            |table: &&&Entry| self.lacks(table.id) && !self.present.has_relation(table);
        let reason = if let Some(table) = referring.filter(|table| {
            copied.is_some() && !is_copied(table) && tables.iter().any(|other| is_copied(&other))
        }) {
            let own = label(table);
            Some(format!("it would refer to the copy; {own} stays as it is"))
        } else if let Some(table) =
            referring.filter(|table| copied.is_some() && self.lacks(table.id))
        {
            Some(format!("{} stays as it is", label(table)))
        } else {
            let lacking = tables.iter().find(is_lacking);
            lacking.map(|table| format!("{} is not there", label(table)))
        };
        match reason {
            None => {
                self.included.insert(key.id);
            }
            Some(reason) => self.left_out.push((key.id, reason)),
        }
    }

    /// Partitions that are made without their parent, each with that.
    pub fn partitions_alone(&self) -> Vec<(&'a Entry, &'a Entry)> {
        let included = self.included.iter().filter_map(|id| self.entry(*id));
        included
            .filter(|entry| is_table(entry))
            .filter_map(|table| Some((table, self.parent(table)?)))
            .filter(|(_, parent)| self.lacks(parent.id))
            .collect()
    }

    /// What it is a partition of.
    pub fn parent(&self, partition: &Entry) -> Option<&'a Entry> {
        let about = self.dependents.get(&partition.id).into_iter().flatten();
        let mut attached =
            about.filter(|entry| entry.kind == "TABLE ATTACH" && is_in(entry, partition));
        let tables = attached.next()?.dependencies.iter();
        let mut tables = tables.filter_map(|id| self.entry(*id));
        tables.find(|table| is_table(table) && table.id != partition.id)
    }

    /// What a table has of its own, and its place in publications.
    pub fn parts(&self, table: &'a Entry) -> impl Iterator<Item = &'a Entry> {
        let about = self.dependents.get(&table.id).into_iter().flatten();
        about.copied().filter(move |entry| {
            is_in(entry, table) || is_of_identity(entry) || entry.kind == "PUBLICATION TABLE"
        })
    }

    /// Takes these back.
    pub fn leave(&mut self, ids: &BTreeSet<EntryId>) {
        self.included.retain(|id| !ids.contains(id));
    }

    /// What depends on these in the archive and does not come back itself. Of what does not come
    /// back, its own parts are not told apart. `may_be_there` is whether what the target has
    /// depends on what comes back.
    pub fn dependents_left(
        &self,
        restored: &BTreeSet<EntryId>,
        may_be_there: bool,
    ) -> Vec<&'a Entry> {
        let is_container = |id: &EntryId| {
            let entry = self.entry(*id);
            entry.is_none_or(|entry| matches!(entry.kind.as_str(), "SCHEMA" | "EXTENSION"))
        };
        let mut found: BTreeMap<EntryId, &Entry> = BTreeMap::new();
        let mut open: Vec<EntryId> = restored.iter().copied().collect();
        open.retain(|id| !is_container(id));
        while let Some(id) = open.pop() {
            for entry in self.dependents.get(&id).into_iter().flatten() {
                let is_known = self.included.contains(&entry.id)
                    || self.used.contains(&entry.id)
                    || self.differing.contains(&entry.id)
                    || restored.contains(&entry.id);
                let goes_with_another = is_attached(entry)
                    || is_tie(entry)
                    || is_data(entry)
                    || matches!(
                        entry.kind.as_str(),
                        "PUBLICATION TABLE" | "STATISTICS DATA" | "MATERIALIZED VIEW DATA"
                    );
                let is_there = || self.present.of(entry) != Presence::Absent;
                if is_known || goes_with_another || (may_be_there && is_there()) {
                    continue;
                }
                if found.insert(entry.id, *entry).is_none() {
                    open.push(entry.id);
                }
            }
        }
        let of_found =
            |entry: &Entry| is_part(entry) && found.values().any(|own| is_in(entry, own));
        let told = found.values().filter(|entry| !of_found(entry));
        told.copied().collect()
    }

    /// Takes back schemas that nothing would be made in.
    pub fn drop_schemas(&mut self, is_wanted: impl Fn(&Entry) -> bool) {
        let by_id = &self.by_id;
        self.included.retain(|id| {
            by_id
                .get(id)
                .is_none_or(|entry| entry.kind != "SCHEMA" || is_wanted(entry))
        });
    }

    /// Tables, partitions, sequences, indexes and the like that were chosen or belong to those, and
    /// not to what they need: what moves with them to another name or schema.
    pub fn of(&self, roots: &BTreeSet<EntryId>) -> BTreeSet<EntryId> {
        let mut found: BTreeSet<EntryId> = BTreeSet::new();
        let mut open: Vec<EntryId> = roots.iter().copied().collect();
        while let Some(id) = open.pop() {
            if !self.included.contains(&id) || !found.insert(id) {
                continue;
            }
            let Some(entry) = self.entry(id) else {
                continue;
            };
            open.extend(self.belonging(entry));
            for other in self.dependents.get(&id).into_iter().flatten() {
                let is_own_tie = is_tie(other) && is_in(other, entry);
                if is_attached(other) || is_own_tie {
                    open.push(other.id);
                }
            }
        }
        found
    }
}

/// The name of an index or of one that a constraint has: without that of its table before it.
pub fn index_name(entry: &Entry) -> Option<BString> {
    let relation = entry.relation.as_ref()?;
    match entry.kind.as_str() {
        "INDEX" => Some(entry.name.clone()),
        "CONSTRAINT" => {
            let own = entry.name.strip_prefix(relation.as_slice())?;
            Some(own.strip_prefix(b" ")?.as_bstr().to_owned())
        }
        _ => None,
    }
}
