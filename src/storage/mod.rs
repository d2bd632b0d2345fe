//! Where archives are kept: files and standard output.

mod local;
mod read_at;
mod target;

pub use local::LocalFile;
pub use read_at::{ReadAt, Window};
pub use target::{LocalTarget, Replace, StdoutTarget, write_error};

#[cfg(test)]
mod tests;
