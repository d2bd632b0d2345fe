//! Which entries of an archive are replayed: pg_restore's filters, with its meanings.

use std::collections::HashSet;

use bstr::{BString, ByteSlice};

use crate::archive::{Entry, EntryId, Section};
use crate::error::{Error, Result};

/// Empty lists choose nothing in particular: everything.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// -n
    pub schemas: Vec<BString>,
    /// -N
    pub excluded_schemas: Vec<BString>,
    /// -t: tables, views, materialised views and sequences
    pub tables: Vec<BString>,
    /// -I
    pub indexes: Vec<BString>,
    /// -P: with argument types, as `show` prints it
    pub functions: Vec<BString>,
    /// -T
    pub triggers: Vec<BString>,
    /// -a
    pub data_only: bool,
    /// -s
    pub schema_only: bool,
    /// -x
    pub no_privileges: bool,
    pub no_comments: bool,
    /// -L: numbers of entries
    pub listed: Option<HashSet<EntryId>>,
}

/// The entries that pass, in the archive's order.
pub fn select(entries: &[Entry], selection: &Selection) -> Vec<Entry> {
    let mut chosen: HashSet<EntryId> = HashSet::new();
    for entry in entries {
        if selection.takes(entry, &chosen) {
            chosen.insert(entry.id);
        }
    }
    entries
        .iter()
        .filter(|entry| chosen.contains(&entry.id))
        .cloned()
        .collect()
}

impl Selection {
    fn names_objects(&self) -> bool {
        !(self.tables.is_empty()
            && self.indexes.is_empty()
            && self.functions.is_empty()
            && self.triggers.is_empty())
    }

    fn takes(&self, entry: &Entry, chosen: &HashSet<EntryId>) -> bool {
        if let Some(listed) = &self.listed
            && !listed.contains(&entry.id)
        {
            return false;
        }
        let has_data = entry.section == Section::Data;
        if (self.data_only && !has_data) || (self.schema_only && has_data) {
            return false;
        }
        match entry.kind.as_str() {
            "ACL" | "DEFAULT ACL" if self.no_privileges => return false,
            "COMMENT" if self.no_comments => return false,
            // they go with the object that they are about, unless nothing in particular is chosen
            "ACL" | "COMMENT" if self.names_objects() || !self.schemas.is_empty() => {
                return entry
                    .dependencies
                    .iter()
                    .any(|dependency| chosen.contains(dependency));
            }
            _ => {}
        }
        if !self.schemas.is_empty() && !named(&self.schemas, entry.schema.as_ref()) {
            return false;
        }
        if named(&self.excluded_schemas, entry.schema.as_ref()) {
            return false;
        }
        if !self.names_objects() {
            return true;
        }
        let wanted = match entry.kind.as_str() {
            "TABLE"
            | "TABLE DATA"
            | "VIEW"
            | "FOREIGN TABLE"
            | "MATERIALIZED VIEW"
            | "MATERIALIZED VIEW DATA"
            | "SEQUENCE"
            | "SEQUENCE SET" => {
                return named(&self.tables, Some(&entry.name));
            }
            "INDEX" => &self.indexes,
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => &self.functions,
            // tagged "table trigger"
            "TRIGGER" => {
                return self.triggers.iter().any(|name| {
                    entry.name == *name
                        || entry
                            .name
                            .strip_suffix(name.as_slice())
                            .is_some_and(|rest| rest.ends_with(b" "))
                });
            }
            _ => return false,
        };
        named(wanted, Some(&entry.name))
    }
}

fn named(names: &[BString], name: Option<&BString>) -> bool {
    name.is_some_and(|name| names.contains(name))
}

/// Reads what `rdump show` (and pg_restore -l) prints: each line begins with a number and `;`,
/// lines that begin with `;` are comments.
pub fn parse_list(text: &str) -> Result<HashSet<EntryId>> {
    let mut listed = HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let id = line
            .split(';')
            .next()
            .and_then(|id| id.trim().parse().ok())
            .ok_or_else(|| {
                Error::usage(format!(
                    "line {} of the list does not begin with the number of an entry",
                    number + 1
                ))
                .hint("edit the output of \"rdump show\": remove lines, or put ; before them")
            })?;
        listed.insert(EntryId(id));
    }
    Ok(listed)
}

/// What messages call an entry: "INDEX public.orders_pkey".
pub fn label(entry: &Entry) -> String {
    match &entry.schema {
        Some(schema) if entry.kind != "COMMENT" && entry.kind != "ACL" => {
            format!(
                "{} {}.{}",
                entry.kind,
                schema.as_bstr(),
                entry.name.as_bstr()
            )
        }
        _ => format!("{} {}", entry.kind, entry.name.as_bstr()),
    }
}
