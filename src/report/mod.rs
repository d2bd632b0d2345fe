//! What runs tell: progress, outcomes; to people, and to what watches them (`webhook`, `metrics`, `history_table`).

mod account;
mod cancellation;
mod history_table;
mod lock_waits;
mod metrics;
mod progress;
mod webhook;
mod words;

pub use account::{Account, Ended, Place};
pub use cancellation::Cancellation;
pub use history_table::HistoryTable;
pub use lock_waits::{LOCK_PATIENCE, telling_lock_waits};
pub use metrics::{Kept, MetricsFile};
pub use progress::{Counts, Progress};
pub use webhook::{Patience, Webhook};
pub use words::counted;
