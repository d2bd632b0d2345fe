//! What runs tell: progress, outcomes.

mod progress;

pub use progress::{Counts, Progress};
