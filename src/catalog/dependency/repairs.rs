//! How loops are mended: each rule says what it recognises and what it changes.

use super::graph::Graph;
use crate::archive::Section;
use crate::catalog::object::Placement;

/// A rule mends a loop it recognises and says so.
type Rule = fn(&mut Graph, &[usize], &mut Placement) -> bool;

/// Tried in order; the first that applies is enough, since the sort runs again.
const RULES: &[Rule] = &[
    shell_type,
    separate_inline_object,
    dummy_view,
    separate_from_bystander,
    postpone_behind_the_data,
];

/// Mends one loop: `cycle[i]` needs `cycle[i + 1]`, and the last needs the first.
pub(super) fn mend(
    graph: &mut Graph,
    cycle: &[usize],
    placement: &mut Placement,
    warnings: &mut Vec<String>,
) {
    if RULES.iter().any(|rule| rule(graph, cycle, placement)) {
        return;
    }
    let labels: Vec<&str> = cycle
        .iter()
        .filter_map(|&node| graph.nodes.get(node))
        .map(|node| node.label.as_str())
        .collect();
    warnings.push(format!(
        "objects need each other and no rule says which to restore first: {}",
        labels.join(", ")
    ));
    // between two real objects if there are any: a boundary must hold
    for (position, &node) in cycle.iter().enumerate() {
        let next = cycle[(position + 1) % cycle.len()];
        if !graph.is_boundary(node) && !graph.is_boundary(next) {
            graph.dependencies[node].remove(&next);
            return;
        }
    }
    if let (Some(&first), Some(&second)) = (cycle.first(), cycle.get(1).or(cycle.first())) {
        graph.dependencies[first].remove(&second);
    }
}

/// A range type's canonical function takes and returns the range: it is made for the shell of the
/// type, then the type with it.
fn shell_type(graph: &mut Graph, cycle: &[usize], placement: &mut Placement) -> bool {
    for (position, &node) in cycle.iter().enumerate() {
        let user = cycle[(position + cycle.len() - 1) % cycle.len()];
        let shell = graph
            .nodes
            .get(node)
            .and_then(|node| node.shell)
            .and_then(|address| graph.find(address));
        if let Some(shell) = shell
            && !graph.is_boundary(user)
        {
            placement.shells.insert(graph.nodes[shell].address);
            graph.dependencies[user].remove(&node);
            graph.dependencies[user].insert(shell);
            return true;
        }
    }
    false
}

/// A CHECK constraint or column default whose own needs lead back to its table (or domain) is
/// added by ALTER afterwards: a serial column's default needs the sequence, which is owned by the
/// column; a CHECK may call a function that takes the table's row type.
fn separate_inline_object(graph: &mut Graph, cycle: &[usize], placement: &mut Placement) -> bool {
    separate_where(graph, cycle, placement, |leaves_dummy| !leaves_dummy)
}

/// A view whose query leads back to the view is first created with the right columns and no
/// query, and replaced when all it reads is there.
fn dummy_view(graph: &mut Graph, cycle: &[usize], placement: &mut Placement) -> bool {
    let view = cycle
        .iter()
        .filter(|&&node| !graph.is_boundary(node))
        .filter(|&&node| graph.nodes[node].leaves_dummy)
        .find_map(|&node| graph.owner(node).filter(|owner| cycle.contains(owner)));
    let Some(view) = view else { return false };
    placement.dummy_views.insert(graph.nodes[view].address);
    separate_where(graph, cycle, placement, |leaves_dummy| leaves_dummy)
}

/// The same where the loop is one through the boundaries and passes the owner by: what needs
/// something behind the data cannot stand in a statement before it.
fn separate_from_bystander(graph: &mut Graph, cycle: &[usize], placement: &mut Placement) -> bool {
    if !cycle.iter().any(|&node| graph.is_boundary(node)) {
        return false;
    }
    let found = cycle
        .iter()
        .find_map(|&node| graph.owner(node).map(|owner| (node, owner)));
    let Some((node, owner)) = found else {
        return false;
    };
    if graph.nodes[node].leaves_dummy {
        placement.dummy_views.insert(graph.nodes[owner].address);
    }
    placement.separate.insert(graph.nodes[node].address);
    graph.separate(node);
    true
}

fn separate_where(
    graph: &mut Graph,
    cycle: &[usize],
    placement: &mut Placement,
    wanted: fn(bool) -> bool,
) -> bool {
    let inline = cycle.iter().copied().find(|&node| {
        !graph.is_boundary(node)
            && wanted(graph.nodes[node].leaves_dummy)
            && graph
                .owner(node)
                .is_some_and(|owner| cycle.contains(&owner))
    });
    let Some(node) = inline else { return false };
    placement.separate.insert(graph.nodes[node].address);
    graph.separate(node);
    true
}

/// A function with an SQL-standard body, or a materialised view, may need a primary key (GROUP BY
/// on it), which comes after the data: then so does the function or view, and the default of a
/// column that calls it.
fn postpone_behind_the_data(graph: &mut Graph, cycle: &[usize], placement: &mut Placement) -> bool {
    if !cycle.iter().any(|&node| graph.is_boundary(node)) {
        return false;
    }
    // the one that needs the boundary's far side directly: nearest before a post-data object
    let movable = cycle.iter().copied().find(|&node| {
        !graph.is_boundary(node)
            && graph.nodes[node].may_be_postponed
            && graph.nodes[node].section == Section::PreData
    });
    let Some(node) = movable else { return false };
    placement.postponed.insert(graph.nodes[node].address);
    graph.place(node, Section::PostData);
    true
}
