//! Ordering objects so that each comes after what it needs.
//!
//! Objects arrive in their natural order (priority, schema, name). The sort moves as little of it
//! as dependencies demand; loops, which real schemas have, are mended by the rules in `repairs`.
//! No I/O here: the graph is built from what the reader brought.

mod graph;
mod repairs;
mod sort;

pub use graph::{Graph, Node};

use super::object::Placement;

/// The order found, and what it took.
#[derive(Debug)]
pub struct Sorted {
    /// Node numbers, what is needed first. Boundaries are left out.
    pub order: Vec<usize>,
    pub placement: Placement,
    /// Loops that no rule mends and that were broken somewhere.
    pub warnings: Vec<String>,
}

/// Sorts; mends loops until there are none.
pub fn sort(graph: &mut Graph) -> Sorted {
    let mut placement = Placement::default();
    let mut warnings = Vec::new();
    loop {
        match sort::topological(graph) {
            Ok(order) => {
                let order = order
                    .into_iter()
                    .filter(|&node| !graph.is_boundary(node))
                    .collect();
                return Sorted {
                    order,
                    placement,
                    warnings,
                };
            }
            Err(unsorted) => {
                for cycle in sort::cycles(graph, &unsorted) {
                    repairs::mend(graph, &cycle, &mut placement, &mut warnings);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
