//! Nodes and edges, with the two boundaries that split the sections.

use std::collections::{BTreeSet, HashMap};

use crate::archive::Section;
use crate::catalog::object::Address;

/// What the sort knows of an object.
#[derive(Debug, Clone)]
pub struct Node {
    pub address: Address,
    pub section: Section,
    /// Section once it stands apart from `inline_in`.
    pub separate_section: Section,
    /// The object whose statement contains this one.
    pub inline_in: Option<Address>,
    /// May be moved behind the data: functions, materialised views, defaults.
    pub may_be_postponed: bool,
    /// Its loops are broken by a dummy first: the query of a view.
    pub leaves_dummy: bool,
    /// The shell of a type, for functions that the type needs to be complete.
    pub shell: Option<Address>,
    /// Named in warnings: "table public.orders".
    pub label: String,
}

/// Nodes in their natural order; `dependencies[n]` must all come before `n`.
#[derive(Debug)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) dependencies: Vec<BTreeSet<usize>>,
    by_address: HashMap<Address, usize>,
    pre_data_end: usize,
    post_data_start: usize,
}

impl Graph {
    /// `aliases` leads from other addresses to a node's own.
    pub fn new(nodes: Vec<Node>, aliases: &HashMap<Address, Address>) -> Graph {
        let mut by_address: HashMap<Address, usize> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.address, index))
            .collect();
        for (alias, address) in aliases {
            if let Some(&node) = by_address.get(address) {
                by_address.entry(*alias).or_insert(node);
            }
        }
        let count = nodes.len();
        let mut graph = Graph {
            dependencies: vec![BTreeSet::new(); count + 2],
            nodes,
            by_address,
            pre_data_end: count,
            post_data_start: count + 1,
        };
        graph.dependencies[graph.post_data_start].insert(graph.pre_data_end);
        for node in 0..count {
            graph.place(node, graph.nodes[node].section);
        }
        for node in 0..count {
            if let Some(owner) = graph.nodes[node]
                .inline_in
                .and_then(|address| graph.find(address))
            {
                graph.dependencies[owner].insert(node);
            }
        }
        graph
    }

    pub fn find(&self, address: Address) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    pub fn label(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("", |node| &node.label)
    }

    pub fn is_boundary(&self, node: usize) -> bool {
        node >= self.nodes.len()
    }

    /// Records that `from` needs `to`. Unknown objects and an object's own parts are passed over,
    /// and so is what an inline object says of the one that contains it.
    pub fn depend(&mut self, from: Address, to: Address) {
        if let (Some(from), Some(to)) = (self.find(from), self.find(to))
            && from != to
            && self.owner(from) != Some(to)
        {
            self.dependencies[from].insert(to);
        }
    }

    /// What a node needs, boundaries left out.
    pub fn needs(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.dependencies[node]
            .iter()
            .copied()
            .filter(|&other| !self.is_boundary(other))
    }

    pub(super) fn owner(&self, node: usize) -> Option<usize> {
        self.nodes
            .get(node)?
            .inline_in
            .and_then(|address| self.find(address))
    }

    /// Ties a node to the boundaries of its section.
    pub(super) fn place(&mut self, node: usize, section: Section) {
        self.dependencies[self.pre_data_end].remove(&node);
        self.dependencies[self.post_data_start].remove(&node);
        self.dependencies[node].remove(&self.pre_data_end);
        self.dependencies[node].remove(&self.post_data_start);
        match section {
            Section::PreData => {
                self.dependencies[self.pre_data_end].insert(node);
            }
            Section::Data => {
                self.dependencies[node].insert(self.pre_data_end);
                self.dependencies[self.post_data_start].insert(node);
            }
            Section::PostData => {
                self.dependencies[node].insert(self.post_data_start);
            }
        }
        self.nodes[node].section = section;
    }

    /// Takes an inline object out of its owner's statement.
    pub(super) fn separate(&mut self, node: usize) {
        if let Some(owner) = self.owner(node) {
            self.dependencies[owner].remove(&node);
            self.dependencies[node].insert(owner);
            self.nodes[node].inline_in = None;
            self.place(node, self.nodes[node].separate_section);
        }
    }
}
