//! rdump: native PostgreSQL logical backup.
//!
//! The crate is layered; each module may use those below it and never those above
//! (`tests/layering.rs` holds this):
//!
//! ```text
//! commands                                  what a user types
//! snapshot  restore  proof  report          the engines
//! repository                                archives that are kept
//! catalog   rows                            what PostgreSQL's catalogs and rows mean
//! archive   storage  postgres  sql          formats, files, the wire, SQL text
//! error                                     used by all
//! ```

pub mod archive;
pub mod catalog;
pub mod commands;
pub mod error;
pub mod postgres;
pub mod proof;
pub mod report;
pub mod repository;
pub mod restore;
pub mod rows;
pub mod snapshot;
pub mod sql;
pub mod storage;

pub use error::{Error, Result};
