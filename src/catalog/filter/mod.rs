//! Which objects of a database are wanted, said by patterns.

mod chosen;
pub mod file;
mod parts;
mod pattern;
mod prune;

pub use chosen::{Chosen, matches};
pub use parts::Parts;
pub use pattern::Pattern;
pub(super) use prune::prune;

use bstr::BString;

use crate::error::Result;
use crate::postgres::{Oid, Session};

/// OIDs below are initdb's (FirstNormalObjectId, src/include/access/transam.h).
pub(super) const FIRST_NORMAL_OID: Oid = 16384;

/// pg_dump's filters, each pattern as it was written. Several of one flag add to each other; what is
/// excluded is so whatever includes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns {
    /// -n
    pub schemas: Vec<BString>,
    /// -N
    pub excluded_schemas: Vec<BString>,
    /// -t: relations of any kind
    pub tables: Vec<BString>,
    pub tables_and_children: Vec<BString>,
    /// -T
    pub excluded_tables: Vec<BString>,
    pub excluded_tables_and_children: Vec<BString>,
    pub excluded_data: Vec<BString>,
    pub excluded_data_and_children: Vec<BString>,
    /// -e
    pub extensions: Vec<BString>,
    pub excluded_extensions: Vec<BString>,
    /// Servers whose foreign tables' rows are wanted.
    pub foreign_data: Vec<BString>,
    /// Each pattern that includes must find something.
    pub strict_names: bool,
    /// Nothing has to be found: the database is compared with an archive.
    pub may_find_nothing: bool,
    /// Schemas and names in place of `tables` and `tables_and_children`.
    pub relations: Option<Vec<(BString, BString)>>,
}

impl Patterns {
    /// Whether nothing in particular is included, and so everything: also what is in no schema.
    pub fn include_everything(&self) -> bool {
        self.schemas.is_empty()
            && self.tables.is_empty()
            && self.tables_and_children.is_empty()
            && self.relations.is_none()
            && self.extensions.is_empty()
    }

    /// Finds what the patterns mean in the database, as the session's transaction sees it.
    pub async fn choose(&self, session: &mut Session) -> Result<Chosen> {
        chosen::choose(self, session).await
    }
}
