//! Which tables belong together: partitions and heirs with their parents, rows with their tables.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::archive::{Contents, Entry, EntryId, Section};

pub struct Family<'a> {
    by_id: HashMap<EntryId, &'a Entry>,
    /// Table entry to its tree.
    tree: HashMap<EntryId, usize>,
    /// Table entry to the data entries of it and its partitions.
    rows: HashMap<EntryId, Vec<EntryId>>,
}

impl Family<'_> {
    pub fn of(entries: &[Entry]) -> Family<'_> {
        let mut family = Family {
            by_id: entries.iter().map(|entry| (entry.id, entry)).collect(),
            tree: HashMap::new(),
            rows: HashMap::new(),
        };
        family.find_trees(entries);
        family.find_rows(entries);
        family.find_rows_that_may_land_anywhere(entries);
        family
    }

    fn is_table(&self, id: EntryId) -> bool {
        self.by_id
            .get(&id)
            .is_some_and(|entry| matches!(entry.kind.as_str(), "TABLE" | "MATERIALIZED VIEW"))
    }

    fn tables_needed_by<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = EntryId> + 'a {
        let needed = entry.dependencies.iter().copied();
        needed.filter(|id| self.is_table(*id))
    }

    fn find_trees(&mut self, entries: &[Entry]) {
        let tables: Vec<EntryId> = entries
            .iter()
            .map(|entry| entry.id)
            .filter(|id| self.is_table(*id))
            .collect();
        let positions: HashMap<EntryId, usize> = tables.iter().copied().zip(0..).collect();
        let mut sets = Sets::new(tables.len());
        for entry in entries {
            if !matches!(entry.kind.as_str(), "TABLE" | "TABLE ATTACH") {
                continue;
            }
            let related = std::iter::once(entry.id)
                .filter(|id| positions.contains_key(id))
                .chain(self.tables_needed_by(entry));
            let related: Vec<usize> = related.map(|id| positions[&id]).collect();
            for pair in related.windows(2) {
                sets.join(pair[0], pair[1]);
            }
        }
        self.tree = tables
            .into_iter()
            .zip((0..).map(|n| sets.find(n)))
            .collect();
    }

    /// Partition to the table that it is attached to.
    fn parents(&self, entries: &[Entry]) -> HashMap<EntryId, EntryId> {
        let attachments = entries.iter().filter(|entry| entry.kind == "TABLE ATTACH");
        let parent = attachments.filter_map(|entry| {
            let (children, parents): (Vec<EntryId>, Vec<EntryId>) =
                self.tables_needed_by(entry).partition(|id| {
                    let table = self.by_id[id];
                    table.schema == entry.schema && Some(&table.name) == entry.relation.as_ref()
                });
            Some((*children.first()?, *parents.first()?))
        });
        parent.collect()
    }

    fn find_rows(&mut self, entries: &[Entry]) {
        let parents = self.parents(entries);
        for entry in entries
            .iter()
            .filter(|entry| entry.contents != Contents::None)
        {
            for table in &entry.dependencies {
                // up to the root; a damaged archive may have a circle
                let mut table = Some(*table).filter(|id| self.is_table(*id));
                let mut seen = HashSet::new();
                while let Some(id) = table.filter(|id| seen.insert(*id)) {
                    self.rows.entry(id).or_default().push(entry.id);
                    table = parents.get(&id).copied();
                }
            }
        }
    }

    /// They are waited for by all tables of their tree.
    fn find_rows_that_may_land_anywhere(&mut self, entries: &[Entry]) {
        let mut anywhere: HashMap<usize, Vec<EntryId>> = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.load_into.is_some()) {
            for tree in entry.dependencies.iter().filter_map(|id| self.tree.get(id)) {
                anywhere.entry(*tree).or_default().push(entry.id);
            }
        }
        for (table, tree) in &self.tree {
            for data in anywhere.get(tree).into_iter().flatten() {
                let waited = self.rows.entry(*table).or_default();
                if !waited.contains(data) {
                    waited.push(*data);
                }
            }
        }
    }

    pub fn rows_of(&self, table: EntryId) -> impl Iterator<Item = EntryId> + '_ {
        self.rows.get(&table).into_iter().flatten().copied()
    }

    /// Trees of all tables that an entry reaches through its dependencies.
    pub fn trees_of(&self, entry: &Entry) -> Vec<usize> {
        let mut trees = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<EntryId> = entry.dependencies.clone();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(tree) = self.tree.get(&id) {
                trees.insert(*tree);
            } else if let Some(other) = self.by_id.get(&id)
                && other.section == Section::PostData
            {
                open.extend(other.dependencies.iter().copied());
            }
        }
        trees.into_iter().collect()
    }
}

/// Disjoint sets.
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Sets {
        Sets((0..count).collect())
    }

    fn find(&mut self, mut member: usize) -> usize {
        while self.0[member] != member {
            self.0[member] = self.0[self.0[member]];
            member = self.0[member];
        }
        member
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        self.0[one.max(other)] = one.min(other);
    }
}
