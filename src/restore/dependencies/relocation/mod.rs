//! Tables under another name or schema.
//!
//! They are made in a schema of their own, under their own names, so that nothing in the database is
//! in the way and expressions that name a table's columns (`orders.id`) stay right; only the schema in
//! qualified names is exchanged. When all is there, one transaction gives them their new names and
//! moves them, with the server's own ALTER: nobody sees a table that is half loaded, and locks are
//! taken only on what is new.

mod names;
mod placing;

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BStr, BString};

use super::closure::index_name;
use super::present::Present;
use super::{Dependencies, made_of_the_table, will_fail};
use crate::archive::{Contents, Entry, EntryId};
use crate::error::{Error, Result};
use crate::restore::preflight::Finding;
use crate::restore::schedule::is_data;
use crate::restore::selection::label;
use crate::sql;
use crate::sql::renaming::renamed;
use names::{Moving, Taken, derived};

/// Schema and name.
type Name = (BString, BString);

/// What is moved at the end, and where to.
#[derive(Debug)]
pub struct Relocation {
    scratch: String,
    /// Schemas to be made: nothing of the archive makes them.
    new_schemas: BTreeSet<BString>,
    /// Owners and grantors, who need the scratch schema.
    roles: BTreeSet<BString>,
    /// By name in the scratch schema.
    relations: BTreeMap<BString, Move>,
    statistics: BTreeMap<BString, Move>,
    /// Tables, rows and values of sequences, without any of which a table is not all there.
    contents: BTreeSet<EntryId>,
}

#[derive(Debug)]
struct Move {
    from: Name,
    to: Name,
}

pub struct Request<'a> {
    pub wanted: &'a Dependencies,
    pub roots: &'a BTreeSet<EntryId>,
    /// All that goes by the new schema: tables, and what belongs to them.
    pub moved: &'a BTreeSet<EntryId>,
    pub present: &'a Present,
    pub scratch: String,
}

/// What a relation is called, if an entry makes one.
fn made(entry: &Entry) -> Option<(&'static str, Name)> {
    let schema = entry.schema.clone()?;
    let (kind, name) = match entry.kind.as_str() {
        "TABLE" | "FOREIGN TABLE" => ("TABLE", entry.name.clone()),
        "SEQUENCE" => ("SEQUENCE", entry.name.clone()),
        "STATISTICS" => ("STATISTICS", entry.name.clone()),
        _ => ("INDEX", index_name(entry)?),
    };
    Some((kind, (schema, name)))
}

/// Decides on names, and rewrites the entries for the scratch schema.
pub fn plan(
    entries: &mut [Entry],
    request: &Request<'_>,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<String>,
) -> Result<Relocation> {
    let mut relocation = Relocation::allot(entries, request, findings, warnings)?;
    let moving = Moving::of(entries, request);
    if let Some(entry) = entries.iter().find(|entry| moving.has_namesake(entry)) {
        findings.push(will_fail(
            format!("{} has the name of a table that gets another", label(entry)),
            "restore the table under its own name",
        ));
    }
    relocation.note_what_is_needed(entries, request);
    for entry in entries {
        relocation.rewrite(entry, request, &moving, findings);
    }
    Ok(relocation)
}

impl Relocation {
    /// A name for each relation. Tables come first: others give way to them.
    fn allot(
        entries: &[Entry],
        request: &Request<'_>,
        findings: &mut Vec<Finding>,
        warnings: &mut Vec<String>,
    ) -> Result<Relocation> {
        let mut relocation = Relocation {
            scratch: request.scratch.clone(),
            new_schemas: BTreeSet::new(),
            roles: BTreeSet::new(),
            relations: BTreeMap::new(),
            statistics: BTreeMap::new(),
            contents: BTreeSet::new(),
        };
        let mut taken = Taken::new(entries, request);
        let moved = entries
            .iter()
            .filter(|entry| request.moved.contains(&entry.id));
        let (tables, others): (Vec<_>, Vec<_>) = moved
            .filter_map(|entry| Some((entry, made(entry)?)))
            .partition(|(_, (kind, _))| *kind == "TABLE");
        // where something stands until it is renamed, nothing else can
        let standing: BTreeSet<BString> =
            others.iter().map(|(_, (_, from))| from.1.clone()).collect();
        let root = root_name(entries, request.roots);
        let new = request.wanted.name.as_ref().unwrap_or(&root);
        for (entry, (kind, from)) in tables.into_iter().chain(others) {
            let is_root = request.roots.contains(&entry.id);
            let schema = request.wanted.into_schema.as_ref().unwrap_or(&from.0);
            let name = match &request.wanted.name {
                Some(name) if is_root => name,
                _ => &from.1,
            };
            let mut to = (schema.clone(), name.clone());
            if !taken.is_free(kind, &to) && is_root {
                findings.push(will_fail(
                    format!("{} is there already", sql::qualified(&to.0, &to.1)),
                    "give another name with --as or another schema with --into-schema",
                ));
            } else if !taken.is_free(kind, &to) {
                to.1 = derived(&from.1, &root, new, |name| {
                    !standing.contains(name) && taken.is_free(kind, &(to.0.clone(), name.clone()))
                });
                warnings.push(format!(
                    "{} becomes {}: its own name is taken",
                    label(entry),
                    sql::qualified(&to.0, &to.1)
                ));
            }
            taken.take(kind, to.clone());
            if !request.present.has_schema(&to.0) {
                relocation.new_schemas.insert(to.0.clone());
            }
            relocation.note(kind, Move { from, to })?;
        }
        Ok(relocation)
    }

    fn note(&mut self, kind: &str, one: Move) -> Result<()> {
        let moves = match kind {
            "STATISTICS" => &mut self.statistics,
            _ => &mut self.relations,
        };
        match moves.insert(one.from.1.clone(), one) {
            None => Ok(()),
            Some(other) => Err(Error::usage(format!(
                "two of what is chosen are called {}, in {} and another schema",
                sql::identifier(&other.from.1),
                sql::identifier(&other.from.0)
            ))
            .hint("restore them one after the other")),
        }
    }

    /// Schemas, roles, and what must be there before anything gets its name.
    fn note_what_is_needed(&mut self, entries: &[Entry], request: &Request<'_>) {
        for entry in entries {
            // a schema of the archive's own
            if entry.kind == "SCHEMA" {
                self.new_schemas.remove(&entry.name);
            }
            if !request.moved.contains(&entry.id) {
                continue;
            }
            let owner = entry.owner.clone().filter(|owner| !owner.is_empty());
            self.roles.extend(owner);
            if is_data(entry) || entry.kind == "TABLE" {
                self.contents.insert(entry.id);
            }
        }
    }

    /// The statements are for the scratch schema; the entry itself is called what it will be.
    fn rewrite(
        &self,
        entry: &mut Entry,
        request: &Request<'_>,
        moving: &Moving,
        findings: &mut Vec<Finding>,
    ) {
        let scratch = BString::from(self.scratch.as_str());
        let to = |before: &[u8], schema: &BStr, name: &BStr| {
            let has = moving.has(before, schema, name);
            has.then(|| (scratch.clone(), name.to_owned()))
        };
        let create = renamed(&entry.create, to);
        if !request.moved.contains(&entry.id) {
            if create != entry.create {
                findings.push(made_of_the_table(entry));
            }
            return;
        }
        entry.create = create;
        // nothing is dropped in such a restore
        entry.drop.clear();
        entry.drop_if_exists.clear();
        let again = |text: &mut BString| *text = renamed(text, to);
        entry.owner_target.as_mut().map(again);
        entry.load_into.as_mut().map(again);
        match &mut entry.contents {
            Contents::Rows {
                relation, filter, ..
            } => {
                again(relation);
                again(filter);
            }
            // alone it stands behind no word that says what it is
            Contents::SequenceValue { sequence } => {
                *sequence = renamed(sequence, |_, schema, name| to(b"SEQUENCE", schema, name));
            }
            Contents::None | Contents::LargeObjects => {}
        }
        self.rename_entry(entry, request.wanted);
    }

    /// What messages call it.
    fn rename_entry(&self, entry: &mut Entry, wanted: &Dependencies) {
        let new_name = |name: &BString| Some(self.relations.get(name)?.to.1.clone());
        let old_relation = entry.relation.clone();
        let new_relation = old_relation.as_ref().and_then(new_name);
        let of_relation = old_relation.as_ref().and_then(|relation| {
            let rest = entry.name.strip_prefix(relation.as_slice())?;
            Some(BString::from(rest.strip_prefix(b" ")?))
        });
        let name = match (entry.kind.as_str(), of_relation) {
            ("COMMENT" | "SECURITY LABEL" | "ACL", _) => None,
            ("STATISTICS", _) => self.statistics.get(&entry.name).map(|one| one.to.1.clone()),
            ("INDEX", _) | (_, None) => new_name(&entry.name),
            (kind, Some(own)) => {
                // a constraint is called what its index is
                let own = match kind {
                    "CONSTRAINT" => new_name(&own).unwrap_or(own),
                    _ => own,
                };
                let relation = new_relation.as_ref().or(old_relation.as_ref());
                relation.map(|relation| sql!("{} {}", relation, own))
            }
        };
        entry.name = name.unwrap_or_else(|| std::mem::take(&mut entry.name));
        entry.relation = new_relation.or(old_relation);
        if let (Some(_), Some(schema)) = (&entry.schema, &wanted.into_schema) {
            entry.schema = Some(schema.clone());
        }
    }
}

fn root_name(entries: &[Entry], roots: &BTreeSet<EntryId>) -> BString {
    let root = entries.iter().find(|entry| roots.contains(&entry.id));
    root.map(|entry| entry.name.clone()).unwrap_or_default()
}
