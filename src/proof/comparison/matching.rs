//! Which entry of the database stands against which of the archive, and how their texts differ.

use std::collections::{BTreeMap, HashMap};

use bstr::{BStr, BString, ByteSlice};

use super::difference::{Line, of_sets, of_texts};
use super::finding::{Finding, FindingKind};
use crate::archive::{Contents, Entry, EntryId};
use crate::catalog::is_secret;
use crate::proof::Listed;
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
        "DATABASE PROPERTIES" => statement_difference(&expected.create, &found.create).is_empty(),
        "DATABASE" => without_provider(&expected.create) == without_provider(&found.create),
        _ => expected.create == found.create,
    }
}

/// Servers before 15 know no other provider, and do not say so.
fn without_provider(create: &[u8]) -> Vec<u8> {
    create.replace(" LOCALE_PROVIDER = 'libc'", "")
}

/// Statements that only one of the texts has, in whatever order.
pub(super) fn statement_difference(expected: &[u8], found: &[u8]) -> Vec<Line> {
    let mut counts: BTreeMap<&[u8], i64> = BTreeMap::new();
    for statement in sql::statements(expected) {
        *counts.entry(statement).or_default() += 1;
    }
    for statement in sql::statements(found) {
        *counts.entry(statement).or_default() -= 1;
    }
    let only = |wanted: fn(i64) -> bool| {
        counts
            .iter()
            .filter(move |(_, count)| wanted(**count))
            .map(|(statement, _)| *statement)
    };
    of_sets(only(|count| count > 0), only(|count| count < 0))
}

impl Pair<'_> {
    pub fn same_text(&self) -> bool {
        same_text(self.expected, self.found)
    }

    /// That the texts differ, and where.
    pub fn definition_difference(&self) -> Finding {
        let label = label(self.expected);
        if is_secret(self.expected) {
            let detail = "it may hold a password, and is not shown";
            return Finding::new(FindingKind::Different, label, detail);
        }
        Finding::different(label, self.text_difference())
    }

    /// Where the texts part.
    pub fn text_difference(&self) -> Vec<Line> {
        match self.expected.kind.as_str() {
            "DATABASE PROPERTIES" => {
                statement_difference(&self.expected.create, &self.found.create)
            }
            _ => of_texts(&self.expected.create, &self.found.create),
        }
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
    pub fn storage_difference(&self, tablespaces: bool) -> Option<Finding> {
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
        (!differing.is_empty()).then(|| {
            let label = label(self.expected);
            Finding::new(FindingKind::Different, label, differing.join("; "))
        })
    }

    /// Rows are those of the same columns and condition, whatever the order of columns.
    pub fn contents_difference(&self) -> Option<Finding> {
        let label = label(self.expected);
        let (
            Contents::Rows {
                columns, filter, ..
            },
            Contents::Rows {
                columns: found_columns,
                filter: found_filter,
                ..
            },
        ) = (&self.expected.contents, &self.found.contents)
        else {
            let kind = std::mem::discriminant::<Contents>;
            let is_same = kind(&self.expected.contents) == kind(&self.found.contents);
            let what = "the contents are of another kind";
            return (!is_same).then(|| Finding::new(FindingKind::Different, label, what));
        };
        let without = |columns: &[BString], others: &[BString]| -> Vec<String> {
            let lacking = columns.iter().filter(|name| !others.contains(name));
            lacking
                .map(|name| sql::identifier(name).to_string())
                .collect()
        };
        let lacking = |who: &str, names: Vec<String>| {
            let plural = if names.len() == 1 { "" } else { "s" };
            Listed::new(format!("the {who} does not have the column{plural}"), names)
        };
        let missing = without(columns, found_columns);
        let unexpected = without(found_columns, columns);
        let detail = match (missing, unexpected) {
            (missing, _) if !missing.is_empty() => lacking("database", missing),
            (_, unexpected) if !unexpected.is_empty() => lacking("archive", unexpected),
            _ if filter != found_filter => {
                return Some(Finding::different(label, of_texts(filter, found_filter)));
            }
            _ => return None,
        };
        Some(Finding::new(FindingKind::Different, label, detail))
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
        "COMMENT" | "SECURITY LABEL" => format!("{} ON {}", entry.kind, entry.name),
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

/// The first line of a definition, if it may be shown.
pub fn first_line(entry: &Entry) -> String {
    match entry.create.lines().next() {
        Some(line) if !is_secret(entry) => shown(line),
        _ => String::new(),
    }
}

/// Bytes of a line that are shown.
const SHOWN: usize = 160;

/// A line in quotes, short enough for a message.
fn shown(line: &[u8]) -> String {
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
        || matches!(entry.kind.as_str(), "COMMENT" | "SECURITY LABEL");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Section;

    fn entry(kind: &str, create: &str) -> Entry {
        Entry {
            name: "s".into(),
            create: create.into(),
            ..Entry::new(EntryId(1), kind, Section::PostData)
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let texts = ["one", "two"].map(|password| {
            format!("CREATE SUBSCRIPTION s CONNECTION 'password={password}' PUBLICATION p;\n")
        });
        for (kind, expected) in [
            (
                "SUBSCRIPTION",
                "SUBSCRIPTION s: different: it may hold a password, and is not shown",
            ),
            (
                "USER MAPPING",
                "USER MAPPING s: different: it may hold a password, and is not shown",
            ),
        ] {
            let [expected_entry, found] = texts.each_ref().map(|text| entry(kind, text));
            let pair = Pair {
                expected: &expected_entry,
                found: &found,
            };
            assert_eq!(pair.definition_difference().in_words(true), expected);
            assert_eq!(first_line(&found), "");
        }
        let view = entry("VIEW", "CREATE VIEW s AS\n SELECT 1;\n");
        assert_eq!(first_line(&view), "\"CREATE VIEW s AS\"");
    }
}
