//! Which entries of an archive are replayed: pg_restore's filters, with its meanings.

use std::collections::{HashMap, HashSet};

use bstr::{BString, ByteSlice};

use crate::archive::{Content, Entry, EntryId, Header, needed_first};
use crate::catalog::Scope;
use crate::catalog::filter::Parts;
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
    /// A name of these that the archive does not have is an error.
    pub strict_names: bool,
    pub parts: Parts,
    /// -L: entries, each with its place in the list
    pub listed: Option<HashMap<EntryId, usize>>,
}

/// The entries that pass, in the archive's order, or in that of a list.
pub fn select(entries: &[Entry], selection: &Selection) -> Vec<Entry> {
    let mut chosen: HashSet<EntryId> = HashSet::new();
    for entry in entries {
        if selection.takes(entry, &chosen) {
            chosen.insert(entry.id);
        }
    }
    let mut selected: Vec<Entry> = entries
        .iter()
        .filter(|entry| chosen.contains(&entry.id))
        .cloned()
        .collect();
    if let Some(listed) = &selection.listed {
        selected.sort_by_key(|entry| listed.get(&entry.id));
        selected = needed_first(selected);
    }
    selected
}

/// The entries to replay, and what the user should know about the choice. Those about the database
/// itself only where it is to be created.
pub(super) fn choose(
    entries: &[Entry],
    selection: &Selection,
    with_database: bool,
) -> Result<(Vec<Entry>, Vec<String>)> {
    selection.refuse_unknown(entries)?;
    let mut chosen = select(entries, selection);
    chosen.retain(|entry| with_database || !entry.is_of_database());
    let unmatched = selection.unmatched(entries);
    if selection.strict_names
        && let Some((what, hint)) = unmatched.first()
    {
        return Err(Error::new(what).hint(hint));
    }
    if chosen.is_empty() {
        let hint = unmatched.into_iter().map(|(_, hint)| hint).next();
        return Err(Error::new("nothing in the archive matches the filters")
            .hint(hint.unwrap_or_else(|| "rdump show lists what it holds".to_owned())));
    }
    let warnings = unmatched
        .iter()
        .map(|(what, hint)| format!("{what} ({hint})"));
    Ok((chosen, warnings.collect()))
}

impl Selection {
    /// An archive of rows alone is restored as -a says; whether it is one.
    pub(super) fn heed(&mut self, header: &Header) -> Result<bool> {
        let has_rows_alone = header.content == Content::Database
            && Scope::from_flags(&header.filters)?.parts.no_schema;
        self.parts.no_schema |= has_rows_alone;
        Ok(has_rows_alone)
    }

    /// A list may have been made of another archive.
    pub fn refuse_unknown(&self, entries: &[Entry]) -> Result<()> {
        let known: HashSet<EntryId> = entries.iter().map(|entry| entry.id).collect();
        let listed = self.listed.iter().flatten();
        match listed
            .map(|(id, _)| id)
            .filter(|id| !known.contains(id))
            .min()
        {
            None => Ok(()),
            Some(id) => Err(Error::usage(format!(
                "the list names entry {}, which the archive does not have",
                id.0
            ))
            .hint("make the list of this very archive with \"rdump show\"")),
        }
    }

    /// Whether it chooses among objects, so that it may be meant to add to others.
    pub fn is_of_a_part(&self) -> bool {
        self.names_objects()
            || self.listed.is_some()
            || self.parts.is_of_some_sections()
            || !(self.schemas.is_empty() && self.excluded_schemas.is_empty())
    }

    /// Of the names that choose something, those that nothing in the archive has; with what to do
    /// about it.
    pub fn unmatched(&self, entries: &[Entry]) -> Vec<(String, String)> {
        let any = |holds: &dyn Fn(&Entry) -> bool| entries.iter().any(holds);
        let has = |kind: &'static str, name: &BString| {
            any(&|entry| entry.kind == kind && entry.name == *name)
        };
        let mut unmatched = Vec::new();
        let mut note = |flag: &str, name: &BString, hint: String| {
            unmatched.push((
                format!("{flag} {name} matches nothing in the archive"),
                hint,
            ));
        };
        let show = || "rdump show lists what it holds".to_owned();
        for name in &self.schemas {
            if !any(&|entry| entry.schema.as_ref() == Some(name)) && !has("SCHEMA", name) {
                note("-n", name, show());
            }
        }
        for name in &self.tables {
            if !any(&|entry| entry.is_of_relation() && entry.name == *name) {
                note("-t", name, schema_apart("-t", name).unwrap_or_else(show));
            }
        }
        for name in &self.indexes {
            if !has("INDEX", name) {
                note("-I", name, schema_apart("-I", name).unwrap_or_else(show));
            }
        }
        for name in &self.functions {
            if any(&|entry| is_routine(&entry.kind) && is_signature(name, &entry.name)) {
                continue;
            }
            let of_that_name: Vec<&str> = entries
                .iter()
                .filter(|entry| is_routine(&entry.kind))
                .filter(|entry| before_arguments(&entry.name) == before_arguments(name))
                .filter_map(|entry| entry.name.to_str().ok())
                .collect();
            let hint = match of_that_name.as_slice() {
                [] => schema_apart("-P", name).unwrap_or_else(show),
                signatures => format!(
                    "give its argument types as well; the archive has {}",
                    signatures.join(", ")
                ),
            };
            note("-P", name, hint);
        }
        for name in &self.triggers {
            if !any(&|entry| entry.kind == "TRIGGER" && is_trigger(name, &entry.name)) {
                note("-T", name, show());
            }
        }
        unmatched
    }

    fn names_objects(&self) -> bool {
        !(self.tables.is_empty()
            && self.indexes.is_empty()
            && self.functions.is_empty()
            && self.triggers.is_empty())
    }

    /// They go with their table or index, and are neither definitions nor data.
    fn takes_statistics(&self, entry: &Entry) -> bool {
        let is_chosen = named(&self.tables, Some(&entry.name))
            || named(&self.indexes, Some(&entry.name))
            || !self.names_objects();
        is_chosen
            && (self.schemas.is_empty() || named(&self.schemas, entry.schema.as_ref()))
            && !named(&self.excluded_schemas, entry.schema.as_ref())
    }

    fn takes(&self, entry: &Entry, chosen: &HashSet<EntryId>) -> bool {
        if let Some(listed) = &self.listed
            && !listed.contains_key(&entry.id)
        {
            return false;
        }
        if !self.parts.takes(entry) {
            return false;
        }
        if entry.kind == "STATISTICS DATA" {
            return self.takes_statistics(entry);
        }
        match entry.kind.as_str() {
            // they go with the object that they are about, unless nothing in particular is chosen
            "ACL" | "COMMENT" | "SECURITY LABEL"
                if self.names_objects()
                    || !self.schemas.is_empty()
                    || !self.excluded_schemas.is_empty() =>
            {
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
            _ if entry.is_of_relation() => return named(&self.tables, Some(&entry.name)),
            "INDEX" => &self.indexes,
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => {
                let names = &self.functions;
                return names.iter().any(|name| is_signature(name, &entry.name));
            }
            "TRIGGER" => {
                let names = &self.triggers;
                return names.iter().any(|name| is_trigger(name, &entry.name));
            }
            _ => return false,
        };
        named(wanted, Some(&entry.name))
    }
}

fn is_routine(kind: &str) -> bool {
    matches!(kind, "FUNCTION" | "PROCEDURE" | "AGGREGATE")
}

/// Triggers are tagged "table trigger".
fn is_trigger(name: &BString, tag: &BString) -> bool {
    let table = tag.strip_suffix(name.as_slice());
    tag == name || table.is_some_and(|table| table.ends_with(b" "))
}

/// Names have no schema in them.
fn schema_apart(flag: &str, name: &BString) -> Option<String> {
    let (schema, _) = before_arguments(name).split_once_str(".")?;
    let name = &name[schema.len() + 1..];
    let plain = |name: &[u8]| name.trim_with(|c| c == '"').as_bstr().to_string();
    let quote = if name.contains(&b'(') { "'" } else { "" };
    Some(format!(
        "name the schema apart: -n {} {flag} {quote}{}{quote}",
        plain(schema),
        plain(name)
    ))
}

fn before_arguments(signature: &BString) -> &[u8] {
    let end = signature.find_byte(b'(').unwrap_or(signature.len());
    signature[..end].trim_ascii()
}

/// Whether a signature means that of a tag, which has the types as format_type writes them.
fn is_signature(name: &BString, tag: &BString) -> bool {
    name == tag || signature(name).is_some_and(|name| Some(name) == signature(tag))
}

/// Names that SQL has for types beside those that format_type writes.
const ALIASES: [(&str, &str); 14] = [
    ("int", "integer"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("bool", "boolean"),
    ("decimal", "numeric"),
    ("varchar", "character varying"),
    ("char", "character"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("time", "time without time zone"),
    ("timetz", "time with time zone"),
];

/// `f(int , text)` as name and types, whatever the spaces; None for what has no arguments.
fn signature(text: &BString) -> Option<(&[u8], Vec<BString>)> {
    let name = before_arguments(text);
    let (_, arguments) = text.split_once_str("(")?;
    let arguments = arguments.trim_ascii().strip_suffix(b")")?.trim_ascii();
    if arguments.is_empty() {
        return Some((name, Vec::new()));
    }
    let normal = |argument: &[u8]| {
        let words = argument.split(u8::is_ascii_whitespace);
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        let words = BString::from(bstr::join(" ", words));
        if words.contains(&b'"') {
            return words;
        }
        let words = words.to_ascii_lowercase();
        let end = words.find_byte(b'[').unwrap_or(words.len());
        let (of, array) = words.split_at(end);
        let alias = ALIASES
            .iter()
            .find(|(alias, _)| alias.as_bytes() == of.trim_ascii());
        let of = alias.map_or(of.trim_ascii(), |(_, name)| name.as_bytes());
        BString::from([of, array].concat())
    };
    Some((
        name,
        arguments.split(|byte| *byte == b',').map(normal).collect(),
    ))
}

fn named(names: &[BString], name: Option<&BString>) -> bool {
    name.is_some_and(|name| names.contains(name))
}

/// Reads what `rdump show` (and pg_restore -l) prints: each line begins with a number and `;`,
/// lines that begin with `;` are comments.
pub fn parse_list(text: &str) -> Result<HashMap<EntryId, usize>> {
    let mut listed = HashMap::new();
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
        listed.insert(EntryId(id), number);
    }
    Ok(listed)
}

/// What messages call an entry: "INDEX public.orders_pkey".
pub fn label(entry: &Entry) -> String {
    match &entry.schema {
        // all large objects
        None if entry.name == entry.kind.as_str() => entry.kind.clone(),
        Some(schema) if !matches!(entry.kind.as_str(), "COMMENT" | "SECURITY LABEL" | "ACL") => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::schedule::tests::entry;

    #[test]
    fn signatures_are_what_they_mean() {
        let means = |name: &str, tag: &str| is_signature(&name.into(), &tag.into());
        for (name, tag) in [
            ("f(integer,text)", "f(integer, text)"),
            (" f ( int , TEXT ) ", "f(integer, text)"),
            ("f( )", "f()"),
            ("f(int4[])", "f(integer[])"),
            (
                "f(timestamp  with time zone)",
                "f(timestamp with time zone)",
            ),
            ("f(\"Odd, type\")", "f(\"Odd, type\")"),
            ("odd name(int)", "odd name(integer)"),
        ] {
            assert!(means(name, tag), "{name}");
        }
        for (name, tag) in [
            ("f", "f()"),
            ("f(text)", "f(integer)"),
            ("f(int)", "f(integer, integer)"),
            ("F(int)", "f(integer)"),
            ("f(\"INT\")", "f(integer)"),
            ("f(int", "f(integer)"),
            ("f(int[])", "f(integer)"),
        ] {
            assert!(!means(name, tag), "{name}");
        }
    }

    #[test]
    fn a_list_orders_as_far_as_dependencies_allow() {
        let entries = [
            entry(1, "DOMAIN", "d", &[]),
            entry(2, "TABLE", "a", &[1]),
            entry(3, "TABLE", "b", &[]),
            entry(4, "INDEX", "b_i", &[3]),
        ];
        let order = |list: &str| -> Vec<u32> {
            let selection = Selection {
                listed: Some(parse_list(list).expect("a list")),
                ..Selection::default()
            };
            let selected = select(&entries, &selection);
            selected.iter().map(|entry| entry.id.0).collect()
        };
        assert_eq!(order("4;\n3;\n2;\n1;\n"), [3, 4, 1, 2]);
        assert_eq!(order("; 1;\n3; TABLE b\n\n2; TABLE a\n"), [3, 2]);
    }
}
