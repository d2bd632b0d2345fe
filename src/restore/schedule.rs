//! What may run when: the parallel part of a restore as a pure state machine.
//!
//! Nodes are the entries with rows and those of the section post-data. A node is ready when all it depends on is done;
//! of the ready ones the largest goes first, held back while a running node has a conflicting
//! lock. Post-data entries that need a table wait for its rows too, and for those of its
//! partitions.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use bstr::ByteSlice;

use crate::archive::{Contents, Entry, EntryId, Pass, Section};
use crate::catalog::Family;

/// How a node locks a tree of tables while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Index builds may share a table.
    Share,
    /// ALTER TABLE and CREATE TRIGGER may not.
    Exclusive,
}

/// Of tables whose definitions are not restored: any two may belong together.
const UNKNOWN_TREE: usize = usize::MAX;

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

impl Node {
    /// Without what it waits for.
    fn new(
        entries: &[Entry],
        position: usize,
        family: &Family,
        size: &impl Fn(EntryId) -> u64,
    ) -> Node {
        let entry = &entries[position];
        let (trees, size) = if is_data(entry) {
            (Vec::new(), size(entry.id))
        } else {
            let tables = entry.dependencies.iter();
            let rows = tables.flat_map(|table| family.rows_of(*table)).map(size);
            let mut trees = family.trees_of(entry);
            if trees.is_empty() && entry.relation.is_some() {
                trees.push(UNKNOWN_TREE);
            }
            (trees, rows.sum())
        };
        Node {
            entry: position,
            unmet: 0,
            dependents: Vec::new(),
            trees,
            // some indexes end with CLUSTER ON or REPLICA IDENTITY
            mode: if entry.kind == "INDEX" && !entry.create.contains_str("ALTER TABLE") {
                Mode::Share
            } else {
                Mode::Exclusive
            },
            size,
        }
    }
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
        let chosen: Vec<usize> = (0..entries.len())
            .filter(|&position| runs_in_parallel(&entries[position]))
            .collect();
        let node_of: HashMap<EntryId, usize> = chosen
            .iter()
            .enumerate()
            .map(|(node, &position)| (entries[position].id, node))
            .collect();
        let mut nodes: Vec<Node> = chosen
            .iter()
            .map(|&position| Node::new(entries, position, &family, &size))
            .collect();
        for node in 0..nodes.len() {
            let entry = &entries[nodes[node].entry];
            let mut needed: BTreeSet<usize> = BTreeSet::new();
            for dependency in &entry.dependencies {
                needed.extend(node_of.get(dependency));
                if !is_data(entry) {
                    let rows = family.rows_of(*dependency);
                    needed.extend(rows.filter_map(|data| node_of.get(&data)));
                }
            }
            needed.remove(&node);
            nodes[node].unmet = needed.len();
            for other in needed {
                nodes[other].dependents.push(node);
            }
        }
        let is_data: Vec<bool> = nodes
            .iter()
            .map(|node| is_data(&entries[node.entry]))
            .collect();
        let data_left = is_data.iter().filter(|is_data| **is_data).count();
        let mut behind_data: Vec<usize> = Vec::new();
        if data_left > 0 {
            behind_data.extend((0..nodes.len()).filter(|&node| {
                let trees = &nodes[node].trees;
                !is_data[node] && (trees.is_empty() || trees.contains(&UNKNOWN_TREE))
            }));
        }
        for &node in &behind_data {
            nodes[node].unmet += 1;
        }
        let ready = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.unmet == 0)
            .map(|(index, node)| (Reverse(node.size), index))
            .collect();
        Schedule {
            ready,
            running: HashSet::new(),
            left: nodes.len(),
            data_left,
            behind_data,
            is_data,
            nodes,
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

fn runs_in_parallel(entry: &Entry) -> bool {
    entry.pass == Pass::Main && (is_data(entry) || entry.section == Section::PostData)
}

#[cfg(test)]
pub(super) mod tests;
