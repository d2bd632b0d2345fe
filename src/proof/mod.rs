//! Showing that an archive is whole, and that a database equals it.

mod integrity;

pub use integrity::{Finding, IntegrityReport, verify_file};
