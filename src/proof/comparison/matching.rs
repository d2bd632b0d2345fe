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

fn is_privileges(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), "ACL" | "DEFAULT ACL")
}

/// Statements of privileges may come in any order; everything else is compared as it stands.
fn same_text(expected: &Entry, found: &Entry) -> bool {
    if is_privileges(expected) {
        let (missing, unexpected) = line_difference(&expected.create, &found.create);
        return missing.is_none() && unexpected.is_none();
    }
    expected.create == found.create
}

/// The first line that only the one text has, and the first that only the other has.
fn line_difference<'a>(
    expected: &'a [u8],
    found: &'a [u8],
) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let mut counts: BTreeMap<&[u8], i64> = BTreeMap::new();
    for line in expected.lines() {
        *counts.entry(line).or_default() += 1;
    }
    for line in found.lines() {
        *counts.entry(line).or_default() -= 1;
    }
    let first = |wanted: fn(i64) -> bool| {
        counts
            .iter()
            .find(|(_, count)| wanted(**count))
            .map(|(line, _)| *line)
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
            is_privileges(self.expected),
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
        "ACL" => {
            let words = entry
                .name
                .split_str(" ")
                .take_while(|word| word.iter().all(u8::is_ascii_uppercase))
                .map(|word| word.len() + 1)
                .sum::<usize>();
            let (object_type, name) = entry.name.split_at(words.min(entry.name.len()));
            format!("ACL of {}{}", object_type.as_bstr(), within(&name.into()))
        }
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

/// Shows the first line in which two texts differ.
pub fn text_difference(expected: &[u8], found: &[u8], as_set: bool) -> String {
    if as_set {
        let (missing, unexpected) = line_difference(expected, found);
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
