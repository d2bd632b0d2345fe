//! Topological sort that moves as little as possible, and finding the loops that prevent it.

use std::collections::{BinaryHeap, HashSet};

use super::graph::Graph;

/// Node numbers in order, or those that loops keep from being sorted.
///
/// Works from the end: of all nodes that nothing unplaced needs, the last in natural order goes
/// last. A node thus moves forward only past those that need it.
pub(super) fn topological(graph: &Graph) -> Result<Vec<usize>, Vec<usize>> {
    let count = graph.dependencies.len();
    let mut needed_by = vec![0usize; count];
    for dependencies in &graph.dependencies {
        for &other in dependencies {
            needed_by[other] += 1;
        }
    }
    // boundaries have no place in the natural order: earliest possible from the end
    let mut ready: BinaryHeap<usize> = (0..count).filter(|&node| needed_by[node] == 0).collect();
    let mut reversed = Vec::with_capacity(count);
    while let Some(node) = ready.pop() {
        reversed.push(node);
        for &other in &graph.dependencies[node] {
            needed_by[other] -= 1;
            if needed_by[other] == 0 {
                ready.push(other);
            }
        }
    }
    if reversed.len() == count {
        reversed.reverse();
        return Ok(reversed);
    }
    let placed: HashSet<usize> = reversed.into_iter().collect();
    Err((0..count).filter(|node| !placed.contains(node)).collect())
}

/// Loops among the unsorted nodes that share no node with one another, at least one.
pub(super) fn cycles(graph: &Graph, unsorted: &[usize]) -> Vec<Vec<usize>> {
    let members: HashSet<usize> = unsorted.iter().copied().collect();
    let mut done: HashSet<usize> = HashSet::new();
    let mut found = Vec::new();
    for &start in unsorted {
        if done.contains(&start) {
            continue;
        }
        // depth first; `path` is the current walk, each with what is left to follow
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut on_path: HashSet<usize> = HashSet::new();
        let follow = |node: usize| -> Vec<usize> {
            graph.dependencies[node]
                .iter()
                .rev()
                .copied()
                .filter(|other| members.contains(other))
                .collect()
        };
        path.push((start, follow(start)));
        on_path.insert(start);
        while let Some((node, rest)) = path.last_mut() {
            let node = *node;
            match rest.pop() {
                None => {
                    done.insert(node);
                    on_path.remove(&node);
                    path.pop();
                }
                Some(next) if on_path.contains(&next) => {
                    let from = path
                        .iter()
                        .position(|(member, _)| *member == next)
                        .unwrap_or(0);
                    found.push(path[from..].iter().map(|(member, _)| *member).collect());
                    // the walk stands on a loop that will be mended: leave all of it alone now
                    done.extend(path.iter().map(|(member, _)| *member));
                    break;
                }
                Some(next) if done.contains(&next) => {}
                Some(next) => {
                    path.push((next, follow(next)));
                    on_path.insert(next);
                }
            }
        }
    }
    found
}
