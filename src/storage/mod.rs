//! Where archives are kept: files, standard output, and stores of objects.

mod folder;
mod local;
mod location;
mod memory;
mod object;
mod probe;
mod read_at;
mod runtime;
mod s3;
mod target;
mod upload;
mod volumes;

pub use folder::Folder;
pub use local::LocalFile;
pub use location::{folder_of, open};
pub use memory::{Memory, Moment, Operation, Span};
pub use object::{
    Created, Key, Limits, MAX_KEY, Object, Page, Storage, Unfinished, Upload, list_all,
};
pub use probe::{Conditional, probe_conditional};
pub use read_at::{ReadAt, Window};
pub use s3::S3;
pub use target::{LocalTarget, Replace, StdoutTarget, write_error};
pub use upload::{UploadWriter, Volume};
pub use volumes::Volumes;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
