//! What the bytes of rows mean, and how they are read.

mod copy;
mod cutting;
mod fingerprint;
pub mod large_objects;
pub mod sequences;
pub mod text;

pub use copy::{Slice, copy_statement};
pub use cutting::{Cutting, LEAST_SLICE, run_all};
pub use fingerprint::{Fingerprint, FingerprintStream};
