//! Where archives are kept: files, standard output, and stores of objects.

mod local;
mod object;
mod read_at;
mod target;

pub use local::LocalFile;
pub use object::{
    Created, Key, Limits, MAX_KEY, Object, Page, Storage, Unfinished, Upload, list_all,
};
pub use read_at::{ReadAt, Window};
pub use target::{LocalTarget, Replace, StdoutTarget, write_error};

#[cfg(test)]
mod tests;
