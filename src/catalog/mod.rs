//! What PostgreSQL's catalogs hold, read in a bounded number of queries and turned into entries.
//!
//! A kind of object is one file under `kinds/`, listed on one line of its registry. Reading yields
//! objects; `dependency` orders them and mends loops; `entries` renders them with their comments
//! and privileges.

mod ahead;
pub mod dependency;
mod entries;
mod family;
pub mod filter;
pub mod globals;

pub mod kinds;
mod labels;
mod object;
mod reader;
mod renamed;
pub mod roles;
pub mod rows_alone;
mod scope;
mod secrets;
mod version;

pub use entries::{Catalog, read, read_with};
pub use family::Family;
pub use kinds::Object;
pub use object::{
    Address, CatalogObject, Defining, Definition, Drop, Identity, Part, Placement, PrivilegeTarget,
    Privileges, class,
};
pub use reader::{Reader, USER_SCHEMAS};
pub use renamed::rename_database;
pub use scope::{Scope, shown};
pub use secrets::{is_secret, shown_definition};
pub use version::{adapt, adaptations};

use crate::error::{Error, Result};
use crate::postgres::ServerVersion;

/// Oldest and newest major version whose catalogs are known.
const SUPPORTED: std::ops::RangeInclusive<u32> = 14..=18;

/// Refuses servers whose catalogs are not known: what cannot be read must not be passed over.
pub fn refuse_unsupported(version: ServerVersion) -> Result<()> {
    if SUPPORTED.contains(&version.major()) {
        return Ok(());
    }
    Err(Error::new(format!(
        "server version {version} is not supported: this rdump knows PostgreSQL {} to {}",
        SUPPORTED.start(),
        SUPPORTED.end()
    ))
    .hint(if version.major() > *SUPPORTED.end() {
        "a newer rdump is needed: this one might leave out objects that it does not know"
    } else {
        "use the pg_dump of that version, or upgrade the server"
    }))
}
