use std::collections::HashMap;

use super::*;
use crate::archive::Section;
use crate::catalog::object::{Address, class};

fn address(oid: u32) -> Address {
    Address::new(class::RELATION, oid)
}

fn node(oid: u32, section: Section) -> Node {
    Node {
        address: address(oid),
        section,
        separate_section: Section::PreData,
        inline_in: None,
        may_be_postponed: false,
        leaves_dummy: false,
        shell: None,
        label: format!("object {oid}"),
    }
}

fn graph(nodes: Vec<Node>, edges: &[(u32, u32)]) -> Graph {
    let mut graph = Graph::new(nodes, &HashMap::new());
    for &(from, to) in edges {
        graph.depend(address(from), address(to));
    }
    graph
}

#[test]
fn natural_order_is_kept_where_dependencies_allow() {
    let nodes = (0..5).map(|oid| node(oid, Section::PreData)).collect();
    let mut graph = graph(nodes, &[(1, 3)]);
    let sorted = sort(&mut graph);
    // 3 moves forward to just before 1, all else stays
    assert_eq!(sorted.order, [0, 3, 1, 2, 4]);
    assert!(sorted.warnings.is_empty());
}

#[test]
fn sections_are_kept_apart() {
    let mut graph = graph(
        vec![
            node(0, Section::PostData),
            node(1, Section::Data),
            node(2, Section::PreData),
        ],
        &[],
    );
    assert_eq!(sort(&mut graph).order, [2, 1, 0]);
}

#[test]
fn a_serial_default_is_separated() {
    // table 0 contains default 1, which needs sequence 2, which is owned by table 0
    let mut default = node(1, Section::PreData);
    default.inline_in = Some(address(0));
    let nodes = vec![
        node(0, Section::PreData),
        default,
        node(2, Section::PreData),
    ];
    let mut graph = graph(nodes, &[(1, 0), (1, 2), (2, 0)]);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.order, [0, 2, 1]);
    assert!(sorted.placement.separate.contains(&address(1)));
}

#[test]
fn a_plain_default_stays_inline_and_comes_first() {
    // its function must exist before the table does
    let mut default = node(1, Section::PreData);
    default.inline_in = Some(address(0));
    let nodes = vec![
        node(0, Section::PreData),
        default,
        node(2, Section::PreData),
    ];
    let mut graph = graph(nodes, &[(1, 0), (1, 2)]);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.order, [2, 1, 0]);
    assert!(sorted.placement.separate.is_empty());
}

#[test]
fn views_that_read_each_other_start_as_dummies() {
    let query = |oid, view| {
        let mut query = node(oid, Section::PreData);
        query.inline_in = Some(address(view));
        query.leaves_dummy = true;
        query.separate_section = Section::PostData;
        query
    };
    let nodes = vec![
        node(0, Section::PreData),
        node(1, Section::PreData),
        query(2, 0),
        query(3, 1),
    ];
    let mut graph = graph(nodes, &[(2, 1), (3, 0)]);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.placement.dummy_views.len(), 1);
    assert_eq!(sorted.placement.separate.len(), 1);
    assert!(sorted.warnings.is_empty());
}

#[test]
fn a_function_that_needs_a_primary_key_is_postponed() {
    let mut function = node(0, Section::PreData);
    function.may_be_postponed = true;
    let nodes = vec![
        function,
        node(1, Section::PreData),
        node(2, Section::PostData),
    ];
    let mut graph = graph(nodes, &[(0, 2), (2, 1)]);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.order, [1, 2, 0]);
    assert!(sorted.placement.postponed.contains(&address(0)));
}

#[test]
fn a_canonical_function_takes_the_shell() {
    // shell 0 of range 1, whose canonical function 2 takes it; 3 only uses the range
    let mut range = node(1, Section::PreData);
    range.shell = Some(address(0));
    let nodes = vec![
        node(0, Section::PreData),
        range,
        node(2, Section::PreData),
        node(3, Section::PreData),
    ];
    let mut graph = graph(nodes, &[(1, 0), (1, 2), (2, 1), (3, 1)]);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.order, [0, 2, 1, 3]);
    assert!(sorted.placement.shells.contains(&address(0)));
    assert!(sorted.warnings.is_empty());
}

#[test]
fn a_default_follows_its_function_behind_the_data() {
    // table 0 contains default 1, which calls function 2, whose body needs key 3 of another table 4
    let mut default = node(1, Section::PreData);
    default.inline_in = Some(address(0));
    default.may_be_postponed = true;
    let mut function = node(2, Section::PreData);
    function.may_be_postponed = true;
    let nodes = vec![
        node(0, Section::PreData),
        default,
        function,
        node(3, Section::PostData),
        node(4, Section::PreData),
    ];
    let mut graph = graph(nodes, &[(1, 2), (2, 3), (3, 4)]);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.order, [0, 4, 3, 2, 1]);
    assert!(sorted.placement.separate.contains(&address(1)));
    assert!(sorted.placement.postponed.contains(&address(1)));
    assert!(sorted.placement.postponed.contains(&address(2)));
    assert!(sorted.warnings.is_empty());
}

#[test]
fn other_loops_are_broken_and_reported() {
    let nodes = vec![node(0, Section::PreData), node(1, Section::PreData)];
    let mut graph = graph(nodes, &[(0, 1), (1, 0)]);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.order.len(), 2);
    assert_eq!(sorted.warnings.len(), 1);
}

#[test]
fn many_loops_take_few_rounds() {
    let count = 3_000;
    let mut nodes = Vec::new();
    let mut edges = Vec::new();
    for table in 0..count {
        let (table, default, sequence) = (table * 3, table * 3 + 1, table * 3 + 2);
        nodes.push(node(table, Section::PreData));
        let mut default_node = node(default, Section::PreData);
        default_node.inline_in = Some(address(table));
        nodes.push(default_node);
        nodes.push(node(sequence, Section::PreData));
        edges.extend([(default, sequence), (sequence, table)]);
    }
    let mut graph = graph(nodes, &edges);
    let sorted = sort(&mut graph);
    assert_eq!(sorted.placement.separate.len(), count as usize);
    assert!(sorted.warnings.is_empty());
}
