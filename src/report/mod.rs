//! What runs tell: progress, outcomes.

mod progress;
mod words;

pub use progress::{Counts, Progress};
pub use words::counted;
