//! Names of what moves: which are meant by a name in a statement, and which are still free.

use std::collections::BTreeSet;

use bstr::{BStr, BString};

use super::{Name, Request, made};
use crate::archive::Entry;
use crate::restore::dependencies::present::Present;
use crate::sql;
use crate::sql::renaming::REGCLASS;
use crate::sql::{LONGEST_NAME, after_character, before_character};

/// What moves, by sort: a type may be named like an index, and statistics like a table.
#[derive(Debug, Default)]
pub struct Moving {
    tables: BTreeSet<Name>,
    sequences: BTreeSet<Name>,
    indexes: BTreeSet<Name>,
    statistics: BTreeSet<Name>,
}

impl Moving {
    pub fn of(entries: &[Entry], request: &Request<'_>) -> Moving {
        let mut moving = Moving::default();
        for entry in entries {
            if let Some((kind, name)) = made(entry).filter(|_| request.moved.contains(&entry.id)) {
                match kind {
                    "TABLE" => &mut moving.tables,
                    "SEQUENCE" => &mut moving.sequences,
                    "STATISTICS" => &mut moving.statistics,
                    _ => &mut moving.indexes,
                }
                .insert(name);
            }
        }
        moving
    }

    /// Whether a name in a definition is that of something that moves; `before` is what stands
    /// before it. Keywords of definitions are in capitals, and names in capitals are quoted.
    pub fn has(&self, before: &[u8], schema: &BStr, name: &BStr) -> bool {
        let name = (schema.to_owned(), name.to_owned());
        let has = |sets: &[&BTreeSet<Name>]| sets.iter().any(|set| set.contains(&name));
        match before {
            REGCLASS | b"PARTITION" => has(&[&self.tables, &self.sequences, &self.indexes]),
            b"INDEX" => has(&[&self.indexes]),
            b"STATISTICS" => has(&[&self.statistics]),
            b"SEQUENCE" | b"NAME" => has(&[&self.sequences]),
            b"COLLATE" | b"COLLATION" | b"CONVERSION" | b"CONFIGURATION" | b"DICTIONARY"
            | b"PARSER" | b"TEMPLATE" | b"CLASS" | b"FAMILY" | b"FUNCTION" | b"PROCEDURE" => false,
            // a table or its row type
            _ => has(&[&self.tables, &self.sequences]),
        }
    }

    /// A function of such a name cannot be told from a table of it.
    pub fn has_namesake(&self, entry: &Entry) -> bool {
        let end = entry.name.iter().position(|byte| *byte == b'(');
        let name = end.map(|end| BString::from(&entry.name[..end]));
        matches!(entry.kind.as_str(), "FUNCTION" | "PROCEDURE" | "AGGREGATE")
            && entry
                .schema
                .clone()
                .zip(name)
                .is_some_and(|name| self.tables.contains(&name) || self.sequences.contains(&name))
    }
}

/// Names that are taken in the target, and those that this run is going to take.
pub struct Taken<'a> {
    present: &'a Present,
    /// Tables, sequences and indexes share theirs.
    relations: BTreeSet<Name>,
    /// Each table has a type of its name.
    types: BTreeSet<Name>,
    statistics: BTreeSet<Name>,
}

impl<'a> Taken<'a> {
    /// By the target, and by what is made there without moving.
    pub fn new(entries: &[Entry], request: &'a Request<'_>) -> Taken<'a> {
        let mut taken = Taken {
            present: request.present,
            relations: BTreeSet::new(),
            types: BTreeSet::new(),
            statistics: BTreeSet::new(),
        };
        for entry in entries {
            if request.moved.contains(&entry.id) {
                continue;
            }
            if let Some((kind, name)) = made(entry) {
                taken.take(kind, name);
            } else if let (Some(schema), "TYPE" | "DOMAIN") = (&entry.schema, entry.kind.as_str()) {
                let name = (schema.clone(), entry.name.clone());
                // one of attributes is a relation as well
                if sql::find_unquoted(&entry.create, b" AS (").is_some() {
                    taken.relations.insert(name.clone());
                }
                taken.types.insert(name);
            }
        }
        taken
    }

    pub fn is_free(&self, kind: &str, name: &Name) -> bool {
        let is_taken_here = match kind {
            "STATISTICS" => self.statistics.contains(name),
            "TABLE" => self.relations.contains(name) || self.types.contains(name),
            _ => self.relations.contains(name),
        };
        !is_taken_here && !self.present.is_taken(kind, name)
    }

    pub fn take(&mut self, kind: &str, name: Name) {
        match kind {
            "STATISTICS" => self.statistics.insert(name),
            "TABLE" => self.types.insert(name.clone()) && self.relations.insert(name),
            _ => self.relations.insert(name),
        };
    }
}

/// `orders_pkey` of a table that becomes `old` is `old_pkey`; where that is taken as well, with a number.
pub fn derived(
    name: &BString,
    old: &BString,
    new: &BString,
    is_free: impl Fn(&BString) -> bool,
) -> BString {
    let rest = match name.strip_prefix(old.as_slice()) {
        Some(rest) if rest.starts_with(b"_") => BString::from(rest),
        _ => sql!("_{}", name),
    };
    let mut number = 0u32;
    loop {
        let mut ending = rest.clone();
        if number > 0 {
            ending.extend_from_slice(number.to_string().as_bytes());
        }
        // the ending tells it from others: the table's name gives way, then the ending's beginning
        let excess = ending.len().saturating_sub(LONGEST_NAME - 1);
        let ending = after_character(&ending, excess);
        let room = (LONGEST_NAME - ending.len()).min(new.len());
        let mut name = BString::from(before_character(new, room));
        name.extend_from_slice(ending);
        if is_free(&name) {
            return name;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_derived_from_the_table() {
        let derive = |name: &str, taken: &[&str]| {
            let is_free = |name: &BString| !taken.iter().any(|taken| name == taken);
            derived(&name.into(), &"orders".into(), &"old".into(), is_free).to_string()
        };
        assert_eq!(derive("orders_pkey", &[]), "old_pkey");
        assert_eq!(derive("orders_pkey", &["old_pkey"]), "old_pkey1");
        assert_eq!(derive("by_day", &[]), "old_by_day");
        let long = "orders_".to_owned() + &"é".repeat(28);
        let name = derive(&long, &[]);
        assert!(name.len() <= LONGEST_NAME && name.starts_with("old_é"));
        let longest = "x".repeat(63);
        assert_eq!(derive(&longest, &[]).len(), LONGEST_NAME);
    }
}
