//! What may run when: the parallel part of a restore as a pure state machine.
//!
//! Nodes are the entries with rows and those of the section post-data. A node is ready when all it depends on is done;
//! of the ready ones the largest goes first, held back while a running node has a conflicting
//! lock. Post-data entries that need a table wait for its rows too, and for those of its
//! partitions.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::archive::{Contents, Entry, EntryId, Pass, Section};

/// How a node locks a tree of tables while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Index builds may share a table.
    Share,
    /// ALTER TABLE and CREATE TRIGGER may not.
    Exclusive,
}

#[derive(Debug)]
struct Node {
    entry: usize,
    unmet: usize,
    dependents: Vec<usize>,
    /// Trees of tables it locks.
    trees: Vec<usize>,
    mode: Mode,
    size: u64,
}

#[derive(Debug)]
pub struct Schedule {
    nodes: Vec<Node>,
    /// By size, largest first, then in the archive's order.
    ready: BTreeSet<(Reverse<u64>, usize)>,
    running: HashSet<usize>,
    left: usize,
    data_left: usize,
    /// Wait for all data: a domain's constraint concerns any table.
    behind_data: Vec<usize>,
    is_data: Vec<bool>,
}

/// Where a node's entry stands, and the node, to be handed back when done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub node: usize,
    /// Position in the entries that the schedule was made of.
    pub entry: usize,
}

impl Schedule {
    /// Of all entries, those of the parallel part. `size` gives the bytes of a data entry's rows.
    pub fn new(entries: &[Entry], size: impl Fn(EntryId) -> u64) -> Schedule {
        let family = Family::of(entries);
        let by_id: HashMap<EntryId, usize> = entries
            .iter()
            .enumerate()
            .map(|(position, entry)| (entry.id, position))
            .collect();
        let parallel = |entry: &Entry| {
            entry.pass == Pass::Main && (is_data(entry) || entry.section == Section::PostData)
        };
        let node_of: HashMap<EntryId, usize> = entries
            .iter()
            .filter(|entry| parallel(entry))
            .enumerate()
            .map(|(node, entry)| (entry.id, node))
            .collect();
        let mut nodes: Vec<Node> = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| parallel(entry))
            .map(|(position, entry)| Node {
                entry: position,
                unmet: 0,
                dependents: Vec::new(),
                trees: if is_data(entry) {
                    Vec::new()
                } else {
                    family.trees_of(entry, entries, &by_id)
                },
                mode: if entry.kind == "INDEX" {
                    Mode::Share
                } else {
                    Mode::Exclusive
                },
                size: if is_data(entry) { size(entry.id) } else { 0 },
            })
            .collect();
        let data: Vec<bool> = nodes
            .iter()
            .map(|node| is_data(&entries[node.entry]))
            .collect();
        let data_left = data.iter().filter(|is_data| **is_data).count();
        let mut behind_data = Vec::new();
        for node in 0..nodes.len() {
            let entry = &entries[nodes[node].entry];
            let mut needed: BTreeSet<usize> = BTreeSet::new();
            let mut rows = 0;
            for dependency in &entry.dependencies {
                needed.extend(node_of.get(dependency));
                if !is_data(entry) {
                    for data in family.rows_of(*dependency) {
                        needed.extend(node_of.get(&data));
                        rows += size(data);
                    }
                }
            }
            needed.remove(&node);
            if !is_data(entry) {
                nodes[node].size = rows;
            }
            if !is_data(entry) && nodes[node].trees.is_empty() && entry.section == Section::PostData
            {
                behind_data.push(node);
            }
            nodes[node].unmet = needed.len();
            for other in needed {
                nodes[other].dependents.push(node);
            }
        }
        if data_left > 0 {
            for &node in &behind_data {
                nodes[node].unmet += 1;
            }
        } else {
            behind_data.clear();
        }
        let left = nodes.len();
        let ready = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.unmet == 0)
            .map(|(index, node)| (Reverse(node.size), index))
            .collect();
        Schedule {
            nodes,
            ready,
            running: HashSet::new(),
            left,
            data_left,
            behind_data,
            is_data: data,
        }
    }

    /// Takes the largest step that may run now.
    pub fn take(&mut self) -> Option<Step> {
        let chosen = self
            .ready
            .iter()
            .copied()
            .find(|&(_, node)| !self.conflicts(node))?;
        self.ready.remove(&chosen);
        self.running.insert(chosen.1);
        Some(Step {
            node: chosen.1,
            entry: self.nodes[chosen.1].entry,
        })
    }

    /// Takes all data entries that are ready.
    pub fn take_ready_data(&mut self, entries: &[Entry]) -> Vec<Step> {
        let data: Vec<_> = self
            .ready
            .iter()
            .copied()
            .filter(|&(_, node)| is_data(&entries[self.nodes[node].entry]))
            .collect();
        data.into_iter()
            .map(|key| {
                self.ready.remove(&key);
                self.running.insert(key.1);
                Step {
                    node: key.1,
                    entry: self.nodes[key.1].entry,
                }
            })
            .collect()
    }

    /// Marks a step as over, whether it succeeded or not: what depends on it will say so itself.
    pub fn done(&mut self, step: Step) {
        if !self.running.remove(&step.node) {
            return;
        }
        self.left -= 1;
        let mut released = std::mem::take(&mut self.nodes[step.node].dependents);
        if self.is_data[step.node] {
            self.data_left -= 1;
            if self.data_left == 0 {
                released.append(&mut self.behind_data);
            }
        }
        for dependent in released {
            let node = &mut self.nodes[dependent];
            node.unmet -= 1;
            if node.unmet == 0 {
                self.ready.insert((Reverse(node.size), dependent));
            }
        }
    }

    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Nothing runs, nothing can: the entries depend on each other in a circle.
    pub fn is_stuck(&self) -> bool {
        self.left > 0 && self.running.is_empty() && self.ready.is_empty()
    }

    /// Entries that never ran.
    pub fn unreached(&self) -> Vec<usize> {
        self.nodes
            .iter()
            .filter(|node| node.unmet > 0)
            .map(|node| node.entry)
            .collect()
    }

    fn conflicts(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        self.running.iter().any(|&other| {
            let other = &self.nodes[other];
            (node.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
                && node.trees.iter().any(|tree| other.trees.contains(tree))
        })
    }
}

/// Whether an entry brings rows of any sort.
pub fn is_data(entry: &Entry) -> bool {
    entry.contents != Contents::None
}

/// Which tables belong together: partitions and heirs with their parents.
struct Family {
    /// Table entry to its tree.
    tree: HashMap<EntryId, usize>,
    /// Table entry to the data entries of it and its partitions.
    rows: HashMap<EntryId, Vec<EntryId>>,
}

impl Family {
    fn of(entries: &[Entry]) -> Family {
        let tables: HashMap<EntryId, usize> = entries
            .iter()
            .filter(|entry| matches!(entry.kind.as_str(), "TABLE" | "MATERIALIZED VIEW"))
            .enumerate()
            .map(|(position, entry)| (entry.id, position))
            .collect();
        let by_id: HashMap<EntryId, &Entry> =
            entries.iter().map(|entry| (entry.id, entry)).collect();
        let mut parent_of: HashMap<EntryId, EntryId> = HashMap::new();
        let mut sets = Sets::new(tables.len());
        for entry in entries {
            let related: Vec<EntryId> = match entry.kind.as_str() {
                "TABLE" => std::iter::once(entry.id)
                    .chain(entry.dependencies.iter().copied())
                    .filter(|id| tables.contains_key(id))
                    .collect(),
                "TABLE ATTACH" => entry
                    .dependencies
                    .iter()
                    .copied()
                    .filter(|id| tables.contains_key(id))
                    .collect(),
                _ => continue,
            };
            for pair in related.windows(2) {
                sets.join(tables[&pair[0]], tables[&pair[1]]);
            }
            if entry.kind == "TABLE ATTACH" {
                let is_child = |id: &EntryId| {
                    by_id.get(id).is_some_and(|other| {
                        other.schema == entry.schema && Some(&other.name) == entry.relation.as_ref()
                    })
                };
                let child = related.iter().find(|id| is_child(id));
                let parent = related.iter().find(|id| !is_child(id));
                if let (Some(child), Some(parent)) = (child, parent) {
                    parent_of.insert(*child, *parent);
                }
            }
        }
        let mut rows: HashMap<EntryId, Vec<EntryId>> = HashMap::new();
        for entry in entries.iter().filter(|entry| is_data(entry)) {
            for table in &entry.dependencies {
                // up to the root; a damaged archive may have a circle
                let mut table = Some(*table).filter(|id| tables.contains_key(id));
                let mut seen = HashSet::new();
                while let Some(id) = table.filter(|id| seen.insert(*id)) {
                    rows.entry(id).or_default().push(entry.id);
                    table = parent_of.get(&id).copied();
                }
            }
        }
        // rows that may land anywhere in their tree are waited for by all of it
        let anywhere: Vec<(EntryId, usize)> = entries
            .iter()
            .filter(|entry| entry.load_into.is_some())
            .flat_map(|entry| entry.dependencies.iter().map(|table| (entry.id, *table)))
            .filter_map(|(data, table)| Some((data, sets.find(*tables.get(&table)?))))
            .collect();
        for (table, position) in &tables {
            let tree = sets.find(*position);
            for (data, _) in anywhere.iter().filter(|(_, other)| *other == tree) {
                let waited = rows.entry(*table).or_default();
                if !waited.contains(data) {
                    waited.push(*data);
                }
            }
        }
        let tree = tables
            .iter()
            .map(|(id, position)| (*id, sets.find(*position)))
            .collect();
        Family { tree, rows }
    }

    fn rows_of(&self, table: EntryId) -> impl Iterator<Item = EntryId> + '_ {
        self.rows.get(&table).into_iter().flatten().copied()
    }

    /// Trees of all tables that an entry reaches through its dependencies.
    fn trees_of(
        &self,
        entry: &Entry,
        entries: &[Entry],
        by_id: &HashMap<EntryId, usize>,
    ) -> Vec<usize> {
        let mut trees = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<EntryId> = entry.dependencies.clone();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(tree) = self.tree.get(&id) {
                trees.insert(*tree);
            } else if let Some(other) = by_id.get(&id).map(|&position| &entries[position])
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

#[cfg(test)]
pub(super) mod tests;
