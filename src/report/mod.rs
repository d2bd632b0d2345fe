//! What runs tell: progress, outcomes.

mod cancellation;
mod lock_waits;
mod progress;
mod words;

pub use cancellation::Cancellation;
pub use lock_waits::{LOCK_PATIENCE, telling_lock_waits};
pub use progress::{Counts, Progress};
pub use words::counted;
