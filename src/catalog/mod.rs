//! What PostgreSQL's catalogs hold, read in a bounded number of queries and turned into entries.
//!
//! A kind of object is one file under `kinds/`, listed on one line of its registry. Reading yields
//! objects; `dependency` orders them and mends loops; `entries` renders them with their comments
//! and privileges.

pub mod dependency;
mod entries;

pub mod kinds;
mod object;
mod reader;
mod unsupported;

pub use entries::{Catalog, read};
pub use kinds::Object;
pub use object::{
    Address, CatalogObject, Defining, Definition, Drop, Identity, Part, Placement, PrivilegeTarget,
    class,
};
pub use reader::{Reader, Scope, USER_SCHEMAS};
