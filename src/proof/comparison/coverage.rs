//! What is compared: what was asked for, of what the archive was made to hold.

use std::collections::HashMap;

use super::CompareOptions;
use super::large_objects;
use super::matching::{Matched, Pair, is_privileges};
use crate::archive::{Contents, Entry, EntryId, Header};
use crate::catalog::{Scope, shown};
use crate::error::Result;
use crate::proof::Listed;
use crate::sql;

#[derive(Debug)]
pub struct Coverage<'a> {
    options: &'a CompareOptions,
    header: &'a Header,
    database: &'a [u8],
    has_statistics: bool,
    /// What the archive was made without: its header says so, and it is true.
    lacks_data: bool,
    lacks_large_objects: bool,
    /// What it was made to hold.
    scope: Scope,
}

impl<'a> Coverage<'a> {
    pub fn new(
        options: &'a CompareOptions,
        header: &'a Header,
        expected: &[Entry],
        database: &'a [u8],
    ) -> Result<Coverage<'a>> {
        let mut entries = expected.iter();
        let has_data = entries.any(|entry| entry.contents != Contents::None);
        let has_large_objects = expected.iter().any(large_objects::is_metadata);
        Ok(Coverage {
            options,
            header,
            database,
            has_statistics: expected.iter().any(is_statistics),
            lacks_data: header.is_without_data() && !has_data,
            lacks_large_objects: header.is_without_large_objects() && !has_large_objects,
            scope: Scope::from_flags(&header.filters)?.of_archive(expected),
        })
    }

    /// What is read of the database: what the archive was made to hold of another.
    pub fn scope(&self) -> Scope {
        let mut scope = self.scope.clone();
        // what the header claims, if it is true
        scope.parts.no_data = self.lacks_data;
        scope.no_large_objects = !self.large_objects();
        scope.with_large_objects &= self.large_objects();
        scope
    }

    pub fn privileges(&self) -> bool {
        let parts = &self.scope.parts;
        let has_definitions = !parts.no_schema && !parts.is_of_some_sections();
        !(self.options.no_privileges || parts.no_privileges) && has_definitions
    }

    /// Rows, values of sequences, and whether materialised views are filled.
    pub fn data(&self) -> bool {
        !(self.options.no_data || self.lacks_data)
    }

    pub fn large_objects(&self) -> bool {
        self.data() && !(self.options.no_large_objects || self.lacks_large_objects)
    }

    /// The database may be the archive's own, as `restore -C` makes it: then what is set for it and
    /// granted on it is compared as well.
    pub fn database(&self) -> bool {
        self.database == self.header.database
    }

    /// Whether an entry is matched by name. Privileges and large objects have comparisons of their own.
    pub fn has(&self, entry: &Entry) -> bool {
        let is_data = entry.contents != Contents::None || entry.kind == "MATERIALIZED VIEW DATA";
        let is_of_large_objects = entry.contents == Contents::LargeObjects
            || (matches!(entry.kind.as_str(), "COMMENT" | "SECURITY LABEL")
                && entry.name.starts_with(b"LARGE OBJECT "));
        !(is_privileges(entry)
            || large_objects::is_metadata(entry)
            || is_statistics(entry)
            || (entry.is_of_database() && !self.database())
            || (is_data && !self.data())
            || (is_of_large_objects && !self.large_objects()))
    }

    /// What is left out, and why.
    pub fn left_out(&self) -> Vec<Listed> {
        let mut list = Vec::new();
        if !self.database() {
            list.push(Listed::from(format!(
                "locale, owner, settings, comment and privileges of the database itself: it is called {}, in the archive {}",
                sql::identifier(self.database),
                sql::identifier(&self.header.database)
            )));
        }
        if self.has_statistics {
            list.push(Listed::from("statistics of the planner".to_owned()));
        }
        let options = self.options;
        const DATA: &str = "rows, values of sequences, large objects, and whether materialized \
                            views are filled";
        if !self.header.filters.is_empty() {
            list.push(Listed::from(format!(
                "what the archive was made without: its snapshot was taken with {}",
                shown(&self.header.filters)
            )));
        }
        for (asked, by_archive, what) in [
            (options.no_owner, false, "owners"),
            (options.no_privileges, false, "privileges"),
            (options.no_tablespaces, false, "tablespaces"),
            (options.no_data, self.lacks_data, DATA),
            (
                options.no_large_objects && self.data(),
                self.lacks_large_objects && self.data(),
                "large objects",
            ),
        ] {
            if by_archive {
                list.push(Listed::from(format!(
                    "{what}: the archive was made without"
                )));
            } else if asked {
                list.push(Listed::from(format!("{what}, as asked")));
            }
        }
        list
    }
}

/// The server changes them on its own.
pub fn is_statistics(entry: &Entry) -> bool {
    entry.kind == "STATISTICS DATA"
}

/// Takes out rows and values of what the archive itself holds without: a complete one has an entry
/// for the rows of each of its tables, if only to say that there are none.
pub fn take_left_out(matched: &mut Matched<'_>) -> Option<Listed> {
    let paired: HashMap<EntryId, &Entry> = matched
        .pairs
        .iter()
        .map(|pair| (pair.found.id, pair.expected))
        .collect();
    let mut names = Vec::new();
    matched.unexpected.retain(|entry| {
        let mut owners = entry.dependencies.iter().filter_map(|id| paired.get(id));
        let name = match &entry.contents {
            Contents::Rows { relation, .. } => owners
                .any(|owner| {
                    owner.schema == entry.schema && Some(&owner.name) == entry.relation.as_ref()
                })
                .then_some(relation),
            Contents::SequenceValue { sequence } => owners.next().map(|_| sequence),
            Contents::None | Contents::LargeObjects => None,
        };
        names.extend(name.map(ToString::to_string));
        name.is_none()
    });
    let text = "rows or values that the archive was made without:";
    (!names.is_empty()).then(|| Listed::new(text, names))
}

/// An archive has neither: the target's own versions are installed, with what is in them.
pub fn insides_of_extensions(pairs: &[Pair<'_>]) -> Option<Listed> {
    let names: Vec<String> = pairs
        .iter()
        .filter(|pair| pair.found.kind == "EXTENSION")
        .map(|pair| sql::identifier(&pair.found.name).to_string())
        .collect();
    let text = "versions of extensions, and what was changed of their members or attached to them, but for privileges:";
    (!names.is_empty()).then(|| Listed::new(text, names))
}

/// That they are filled is compared, by their REFRESH; with what cannot be.
pub fn rows_of_materialized_views(pairs: &[Pair<'_>]) -> Option<Listed> {
    let names: Vec<String> = pairs
        .iter()
        .filter(|pair| pair.found.kind == "MATERIALIZED VIEW DATA")
        .map(|pair| {
            let schema = pair.found.schema.clone().unwrap_or_default();
            sql::qualified(schema, &pair.found.name).to_string()
        })
        .collect();
    let text = "rows of materialized views, of which the archive holds the query alone:";
    (!names.is_empty()).then(|| Listed::new(text, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::limits::{HEADER_FLAG_WITHOUT_DATA, HEADER_FLAG_WITHOUT_LARGE_OBJECTS};
    use crate::archive::{ArchiveId, Section};

    fn entry(kind: &str, contents: Contents) -> Entry {
        Entry {
            name: "1".into(),
            contents,
            ..Entry::new(EntryId(1), kind, Section::Data)
        }
    }

    #[test]
    fn a_header_is_not_believed_against_what_the_archive_holds() {
        let sequence = || Contents::SequenceValue {
            sequence: "s".into(),
        };
        let options = CompareOptions::default();
        for (flag, entries, data, large_objects) in [
            (0, vec![], true, true),
            (HEADER_FLAG_WITHOUT_DATA, vec![], false, false),
            (HEADER_FLAG_WITHOUT_LARGE_OBJECTS, vec![], true, false),
            (
                HEADER_FLAG_WITHOUT_DATA,
                vec![entry("SEQUENCE SET", sequence())],
                true,
                false,
            ),
            (
                HEADER_FLAG_WITHOUT_LARGE_OBJECTS,
                vec![entry("BLOB METADATA", Contents::None)],
                true,
                true,
            ),
        ] {
            let mut header = Header::new(ArchiveId([0; 16]));
            header.optional_flags = flag;
            let coverage = Coverage::new(&options, &header, &entries, b"").expect("known filters");
            let found = (coverage.data(), coverage.large_objects());
            assert_eq!(found, (data, large_objects), "{flag}, {entries:?}");
        }
    }
}
