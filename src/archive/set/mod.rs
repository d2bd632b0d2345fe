//! Sets: several archives in one file, the globals of a server and its databases
//! (`format-spec/set.md`).

mod frames;
mod random;
mod stream;
mod writer;

use std::fmt;

use bstr::BString;

use super::header::{ArchiveId, Content};

pub use random::{SetReader, is_set};
pub use stream::{Incoming, SetStreamReader, Shared, open_stream, open_stream_with};
pub use writer::{SetSummary, SetWriter};

pub(super) use frames::SET_HEADER_MAGIC;
#[cfg(test)]
pub(super) use frames::specified;

/// Drawn at random for each set; in the header of each member.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetId(pub [u8; 16]);

impl SetId {
    pub fn random() -> SetId {
        SetId(rand::random())
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetId({self})")
    }
}

/// One archive of a set, as the set's index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub content: Content,
    /// Its key is needed to read it, and its name too.
    pub encrypted: bool,
    /// Of the database; empty for globals, and where the key is missing.
    pub name: BString,
    /// Where in the file it begins, and its bytes.
    pub offset: u64,
    pub length: u64,
    pub id: ArchiveId,
    pub root_hash: [u8; 32],
}

impl Member {
    /// Whether its name is not known for want of the key.
    pub fn is_locked(&self) -> bool {
        self.encrypted && self.content == Content::Database && self.name.is_empty()
    }

    /// What messages call it: "globals", "database shop".
    pub fn label(&self) -> String {
        match self.content {
            Content::Globals => "globals".to_owned(),
            Content::Database if self.is_locked() => {
                format!("encrypted database of archive {}", self.id)
            }
            Content::Database => format!("database {}", crate::sql::identifier(&self.name)),
        }
    }
}
