//! Which entry of the database stands against which of the archive, and how their texts differ.

use std::collections::{BTreeMap, HashMap};

use bstr::{BStr, BString, ByteSlice};

use super::finding::{Finding, FindingKind};
use crate::archive::{Contents, Entry, EntryId};
use crate::sql;

/// An archived entry and the database's own.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    pub expected: &'a Entry,
    pub found: &'a Entry,
}

#[derive(Debug, Default)]
pub struct Matched<'a> {
    pub pairs: Vec<Pair<'a>>,
    /// Only in the archive.
    pub missing: Vec<&'a Entry>,
    /// Only in the database.
    pub unexpected: Vec<&'a Entry>,
}

/// What an entry is by name; numbers differ from archive to archive.
type Key<'a> = (&'a str, Option<&'a BStr>, &'a BStr, Option<&'a BStr>);

fn key(entry: &Entry) -> Key<'_> {
    (
        &entry.kind,
        entry.schema.as_ref().map(|schema| schema.as_bstr()),
        entry.name.as_bstr(),
        entry.relation.as_ref().map(|relation| relation.as_bstr()),
    )
}

/// Matches by kind, schema, name and relation. Where several share all of these, equal texts are
/// matched first and the rest in order.
pub fn match_entries<'a>(
    expected: impl IntoIterator<Item = &'a Entry>,
    found: impl IntoIterator<Item = &'a Entry>,
) -> Matched<'a> {
    let mut open: HashMap<Key<'a>, Vec<&'a Entry>> = HashMap::new();
    for entry in found {
        open.entry(key(entry)).or_default().push(entry);
    }
    let mut matched = Matched::default();
    let mut rest = Vec::new();
    for entry in expected {
        let candidates = open.entry(key(entry)).or_default();
        match candidates
            .iter()
            .position(|candidate| same_text(entry, candidate))
        {
            Some(at) => matched.pairs.push(Pair {
                expected: entry,
                found: candidates.remove(at),
            }),
            None => rest.push(entry),
        }
    }
    for entry in rest {
        match open.get_mut(&key(entry)) {
            Some(candidates) if !candidates.is_empty() => matched.pairs.push(Pair {
                expected: entry,
                found: candidates.remove(0),
            }),
            _ => matched.missing.push(entry),
        }
    }
    matched.pairs.sort_by_key(|pair| pair.expected.id);
    matched.unexpected = open.into_values().flatten().collect();
    matched.unexpected.sort_by_key(|entry| entry.id);
    matched
}

pub fn by_id<'a>(entries: &[&'a Entry]) -> HashMap<EntryId, &'a Entry> {
    entries.iter().map(|entry| (entry.id, *entry)).collect()
}

pub fn is_privileges(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), "ACL" | "DEFAULT ACL")
}

/// Whether the texts need no closer look. Settings of a database may have been set in any order.
fn same_text(expected: &Entry, found: &Entry) -> bool {
    match expected.kind.as_str() {
        "DATABASE PROPERTIES" => {
            let (missing, unexpected) = statement_difference(&expected.create, &found.create);
            missing.is_none() && unexpected.is_none()
        }
        "DATABASE" => without_provider(&expected.create) == without_provider(&found.create),
        _ => expected.create == found.create,
    }
}

/// Servers before 15 know no other provider, and do not say so.
fn without_provider(create: &[u8]) -> Vec<u8> {
    create.replace(" LOCALE_PROVIDER = 'libc'", "")
}

/// The first statement that only the one text has, and the first that only the other has.
fn statement_difference<'a>(
    expected: &'a [u8],
    found: &'a [u8],
) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let mut counts: BTreeMap<&[u8], i64> = BTreeMap::new();
    for statement in sql::statements(expected) {
        *counts.entry(statement).or_default() += 1;
    }
    for statement in sql::statements(found) {
        *counts.entry(statement).or_default() -= 1;
    }
    let first = |wanted: fn(i64) -> bool| {
        counts
            .iter()
            .find(|(_, count)| wanted(**count))
            .map(|(statement, _)| *statement)
    };
    (first(|count| count > 0), first(|count| count < 0))
}

impl Pair<'_> {
    pub fn same_text(&self) -> bool {
        same_text(self.expected, self.found)
    }

    /// In short, where the texts part.
    pub fn text_difference(&self) -> String {
        text_difference(
            &self.expected.create,
            &self.found.create,
            self.expected.kind == "DATABASE PROPERTIES",
        )
    }

    /// A difference in owner, if there is one.
    pub fn owner_difference(&self) -> Option<Finding> {
        let owned = self.expected.owner_target.is_some() || self.found.owner_target.is_some();
        if !owned || self.expected.owner == self.found.owner {
            return None;
        }
        Some(Finding::new(
            FindingKind::Owner {
                expected: owner(self.expected),
                found: owner(self.found),
            },
            label(self.expected),
            "",
        ))
    }

    /// Where it is kept and by which access method: what is set before its statements run.
    pub fn storage_difference(&self, tablespaces: bool) -> Option<String> {
        let (expected, found) = (self.expected, self.found);
        let pairs = [
            (
                "tablespace",
                tablespaces,
                &expected.tablespace,
                &found.tablespace,
            ),
            (
                "access method",
                true,
                &expected.access_method,
                &found.access_method,
            ),
        ];
        let name = |name: &Option<BString>| match name {
            Some(name) => sql::identifier(name).to_string(),
            None => "the default".to_owned(),
        };
        let differing: Vec<String> = pairs
            .into_iter()
            .filter(|(_, wanted, left, right)| *wanted && left != right)
            .map(|(what, _, left, right)| {
                format!(
                    "its {what} is {}, in the archive {}",
                    name(right),
                    name(left)
                )
            })
            .collect();
        (!differing.is_empty()).then(|| differing.join("; "))
    }

    /// Rows are those of the same columns and condition, whatever the order of columns.
    pub fn contents_difference(&self) -> Option<String> {
        match (&self.expected.contents, &self.found.contents) {
            (
                Contents::Rows {
                    columns, filter, ..
                },
                Contents::Rows {
                    columns: found_columns,
                    filter: found_filter,
                    ..
                },
            ) => {
                if let Some(column) = columns.iter().find(|name| !found_columns.contains(name)) {
                    Some(format!(
                        "the database has no column {}",
                        sql::identifier(column)
                    ))
                } else if let Some(column) =
                    found_columns.iter().find(|name| !columns.contains(name))
                {
                    Some(format!(
                        "the archive has no column {}",
                        sql::identifier(column)
                    ))
                } else if filter != found_filter {
                    Some(both(filter, found_filter))
                } else {
                    None
                }
            }
            (expected, found)
                if std::mem::discriminant(expected) != std::mem::discriminant(found) =>
            {
                Some("the contents are of another kind".to_owned())
            }
            _ => None,
        }
    }
}

fn owner(entry: &Entry) -> String {
    entry.owner.as_ref().map_or_else(
        || "nobody".to_owned(),
        |owner| sql::identifier(owner).to_string(),
    )
}

/// How a user knows an entry.
pub fn label(entry: &Entry) -> String {
    match &entry.contents {
        Contents::Rows { relation, .. } => return format!("rows of {relation}"),
        Contents::SequenceValue { sequence } => return format!("value of {sequence}"),
        Contents::LargeObjects => return "contents of large objects".to_owned(),
        Contents::None => {}
    }
    let within = |name: &BString| match &entry.schema {
        Some(schema) => format!("{}.{name}", sql::identifier(schema)),
        None => name.to_string(),
    };
    match entry.kind.as_str() {
        // these names say it all, or begin with a type of object
        "COMMENT" => format!("COMMENT ON {}", entry.name),
        "ACL" | "DEFAULT ACL" => privileges_label(
            &entry.kind,
            entry.schema.as_ref(),
            &entry.name,
            entry.owner.as_ref(),
        ),
        _ => {
            let own = match &entry.relation {
                // alone, where the tag is the relation itself
                Some(relation) if *relation == entry.name => sql::identifier(relation),
                _ => entry.name.clone(),
            };
            format!("{} {}", entry.kind, within(&own))
        }
    }
}

/// What the tags of privileges begin with.
const OBJECT_TYPES: [&str; 12] = [
    "TABLE",
    "SEQUENCE",
    "FUNCTION",
    "PROCEDURE",
    "SCHEMA",
    "TYPE",
    "DOMAIN",
    "LANGUAGE",
    "DATABASE",
    "LARGE OBJECT",
    "FOREIGN DATA WRAPPER",
    "FOREIGN SERVER",
];

/// "ACL of TABLE public.orders", or which default privileges these are.
pub fn privileges_label(
    kind: &str,
    schema: Option<&BString>,
    tag: &BString,
    owner: Option<&BString>,
) -> String {
    if kind == "DEFAULT ACL" {
        let role = owner.map_or_else(BString::default, sql::identifier);
        let place = match schema {
            Some(schema) => format!(" IN SCHEMA {}", sql::identifier(schema)),
            None => String::new(),
        };
        return format!("{tag}{place} OF ROLE {role}");
    }
    // in capitals, as names may be
    let name = OBJECT_TYPES
        .iter()
        .find_map(|object_type| tag.strip_prefix(object_type.as_bytes())?.strip_prefix(b" "))
        .unwrap_or(tag);
    let object_type = &tag[..tag.len() - name.len()];
    let place = match schema {
        Some(schema) => format!("{}.", sql::identifier(schema)),
        None => String::new(),
    };
    format!("ACL of {}{place}{}", object_type.as_bstr(), name.as_bstr())
}

/// Shows the first line in which two texts differ.
pub fn text_difference(expected: &[u8], found: &[u8], as_set: bool) -> String {
    if as_set {
        let (missing, unexpected) = statement_difference(expected, found);
        return match (missing, unexpected) {
            (Some(line), None) => format!("the database lacks {}", shown(line)),
            (None, Some(line)) => format!("the archive lacks {}", shown(line)),
            (missing, unexpected) => {
                both(missing.unwrap_or_default(), unexpected.unwrap_or_default())
            }
        };
    }
    let mut left = expected.lines();
    let mut right = found.lines();
    loop {
        match (left.next(), right.next()) {
            (None, None) => return "the line breaks differ".to_owned(),
            (Some(left), Some(right)) if left == right => {}
            (left, right) => return both(left.unwrap_or_default(), right.unwrap_or_default()),
        }
    }
}

fn both(expected: &[u8], found: &[u8]) -> String {
    // long lines are shown from a little before where they part
    let common = expected
        .iter()
        .zip(found)
        .take_while(|(left, right)| left == right)
        .count();
    let start = if common + 20 < SHOWN { 0 } else { common - 20 };
    let part = |line: &[u8]| match line.get(start..).unwrap_or_default() {
        [] => "nothing".to_owned(),
        rest if start > 0 => format!("...{}", shown(rest)),
        rest => shown(rest),
    };
    format!(
        "in the archive {}, in the database {}",
        part(expected),
        part(found)
    )
}

/// Bytes of a line that are shown.
const SHOWN: usize = 160;

/// A line in quotes, short enough for a message.
pub fn shown(line: &[u8]) -> String {
    let line = line.trim_ascii();
    if line.len() <= SHOWN {
        return format!("\"{}\"", line.as_bstr());
    }
    // bytes cut apart at the end show as replacement characters
    format!("\"{}...\"", line[..SHOWN].as_bstr())
}

/// Whether an entry can be passed over since what it belongs to is reported as missing already:
/// the rows of a missing table, the privileges of a missing function.
pub fn is_implied(entry: &Entry, among: &HashMap<EntryId, &Entry>) -> bool {
    let belongs = entry.contents != Contents::None
        || is_privileges(entry)
        || matches!(entry.kind.as_str(), "COMMENT");
    belongs
        && entry.dependencies.iter().any(|id| {
            among.get(id).is_some_and(|other| {
                other.schema == entry.schema
                    && (entry.relation.is_none() || other.name == *relation_name(entry))
            })
        })
}

fn relation_name(entry: &Entry) -> &BString {
    entry.relation.as_ref().unwrap_or(&entry.name)
}
