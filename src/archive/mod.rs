//! The archive file: header, entries, data blocks, index, trailer (`format-spec/archive.md`).
//!
//! Nothing here knows a server: listing and verifying work offline.

mod entry;

pub use entry::{Contents, Entry, EntryId, Pass, Section};
