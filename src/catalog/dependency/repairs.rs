//! How loops are mended: each rule says what it recognises and what it changes.

use super::graph::Graph;
use crate::archive::Section;
use crate::catalog::object::Placement;

/// A rule mends a loop it recognises and says so.
type Rule = fn(&mut Graph, &[usize], &mut Placement) -> bool;

/// Tried in order; the first that applies is enough, since the sort runs again.
const RULES: &[Rule] = &[separate_inline_object, dummy_view, postpone_behind_the_data];

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
/// on it), which comes after the data: then so does the function or view.
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
