//! What is to be tested, as far as it is known before anything is restored.

use std::collections::BTreeSet;
use std::sync::Arc;

use bstr::BString;
use jiff::Timestamp;

use super::{Options, time};
use crate::archive::{Content, Entry, EntryId, Header, Keys, RandomReader};
use crate::catalog::roles::named_by;
use crate::error::{Error, Result};
use crate::postgres::ServerVersion;
use crate::restore::{ArchiveFile, Choice, Holding, Input, blocking, label};

/// An archive, or the archives of a set.
pub struct Subject {
    pub input: Input,
    pub choice: Choice,
    pub keys: Arc<Keys>,
    pub members: Vec<Member>,
    is_set: bool,
    /// Bytes of all rows before compression.
    pub raw_bytes: u64,
}

pub struct Member {
    /// As messages call it.
    pub label: String,
    pub header: Header,
    pub entries: Vec<Entry>,
}

impl Member {
    pub fn database(&self) -> Option<BString> {
        let is_database = self.header.content == Content::Database;
        is_database.then(|| self.header.database.clone())
    }
}

/// Extensions that the test does without, and what goes with them.
#[derive(Default)]
pub struct Skipped {
    entries: Vec<(EntryId, String)>,
}

impl Skipped {
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().map(|(_, name)| name.clone()).collect()
    }

    pub fn entries(&self) -> BTreeSet<EntryId> {
        self.entries.iter().map(|(id, _)| *id).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Reads headers and entries.
pub async fn inspect(input: Input, choice: Choice, keys: Arc<Keys>) -> Result<Subject> {
    blocking(move || {
        let mut members = Vec::new();
        let mut raw_bytes = 0;
        let mut add = |reader: &RandomReader<ArchiveFile>| -> Result<()> {
            let header = reader.header().clone();
            let label = match header.content {
                Content::Globals => "globals".to_owned(),
                Content::Database => {
                    format!("database {}", crate::sql::identifier(&header.database))
                }
            };
            raw_bytes += reader.totals().raw_length;
            members.push(Member {
                label,
                header,
                entries: reader.entries()?,
            });
            Ok(())
        };
        let is_set = match Holding::open(input.clone(), &keys)?.choose(&choice)? {
            Holding::Archive(reader) => {
                add(&reader)?;
                false
            }
            Holding::Set(set) => {
                set.require_names()?;
                for member in set.members() {
                    add(&set.open_member(member)?)?;
                }
                true
            }
        };
        Ok(Subject {
            input,
            choice,
            keys,
            members,
            is_set,
            raw_bytes,
        })
    })
    .await
}

impl Subject {
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    pub fn has_globals(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.header.content == Content::Globals)
    }

    /// Of the server that it was made of: the newest of its members, which are all of one.
    pub fn version(&self) -> ServerVersion {
        let members = self.members.iter();
        let newest = members.map(|member| member.header.server_version_num).max();
        ServerVersion(newest.unwrap_or_default())
    }

    pub fn server_version(&self) -> &str {
        let member = self.members.first();
        member.map_or("", |member| member.header.server_version.as_str())
    }

    /// A set is as old as the oldest of its snapshots.
    pub fn snapshot(&self) -> Timestamp {
        let members = self.members.iter();
        time(members.map(|m| m.header.snapshot_time).min().unwrap_or(0))
    }

    /// The only archive, of a database.
    pub fn database(&self) -> Option<&Member> {
        match self.members.as_slice() {
            [member] if !self.is_set && member.header.content == Content::Database => Some(member),
            _ => None,
        }
    }

    /// What goes with these extensions: all that depends on them, over any number of steps.
    pub fn skipped(&self, extensions: &[BString]) -> Result<Skipped> {
        if extensions.is_empty() {
            return Ok(Skipped::default());
        }
        let Some(member) = self.database() else {
            return Err(
                Error::usage("--skip-extension is for the archive of one database")
                    .hint("choose a database of the set with --member"),
            );
        };
        let mut found: BTreeSet<EntryId> = BTreeSet::new();
        for name in extensions {
            let extension = member.entries.iter().find(|e| is_extension(e, name));
            match extension {
                Some(entry) => found.insert(entry.id),
                None => {
                    return Err(Error::usage(format!(
                        "the archive has no extension \"{name}\" to skip"
                    )));
                }
            };
        }
        loop {
            let before = found.len();
            for entry in &member.entries {
                if entry.dependencies.iter().any(|id| found.contains(id)) {
                    found.insert(entry.id);
                }
            }
            if found.len() == before {
                break;
            }
        }
        let entries = member.entries.iter().filter(|e| found.contains(&e.id));
        Ok(Skipped {
            entries: entries.map(|entry| (entry.id, label(entry))).collect(),
        })
    }

    /// Names of extensions that are needed, each once.
    pub fn extensions(&self, skipped: &Skipped) -> BTreeSet<BString> {
        let skipped = skipped.entries();
        let entries = self.members.iter().flat_map(|member| &member.entries);
        entries
            .filter(|entry| entry.kind == "EXTENSION" && !skipped.contains(&entry.id))
            .map(|entry| entry.name.clone())
            .collect()
    }

    /// Roles that databases name. Those of a set come with its globals.
    pub fn roles(&self, options: &Options) -> BTreeSet<BString> {
        let mut roles = BTreeSet::new();
        if self.has_globals() {
            return roles;
        }
        for entry in self.members.iter().flat_map(|member| &member.entries) {
            roles.extend(named_by(entry).into_iter().map(|named| named.role));
            if !options.no_owner {
                roles.extend(entry.owner.clone());
            }
        }
        // what is predefined cannot be created
        roles.retain(|role| !role.is_empty() && !role.starts_with(b"pg_"));
        roles
    }
}

fn is_extension(entry: &Entry, name: &BString) -> bool {
    entry.kind == "EXTENSION" && entry.name == *name
}
