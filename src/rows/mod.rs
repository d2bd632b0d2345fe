//! What the bytes of rows mean, and how they are read.

mod copy;
mod fingerprint;
pub mod large_objects;
pub mod sequences;

pub use copy::{Slice, copy_statement, slices};
pub use fingerprint::{Fingerprint, FingerprintStream};
