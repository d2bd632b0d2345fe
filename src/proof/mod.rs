//! Showing that an archive is whole, and that a database equals it.

pub mod comparison;
mod integrity;
mod listed;
pub mod restore_test;

pub use comparison::{CompareOptions, Comparison, FindingKind, compare, compare_globals};
pub use integrity::{Finding, IntegrityReport, verify_file, verify_file_with, verify_set};
pub use listed::Listed;
