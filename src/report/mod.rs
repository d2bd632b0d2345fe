//! What runs tell: progress, outcomes.

mod lock_waits;
mod progress;

pub use lock_waits::{LOCK_PATIENCE, telling_lock_waits};
pub use progress::{Counts, Progress};
