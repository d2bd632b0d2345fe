//! What of a database an archive was made to hold, and how its header says so.

use bstr::BString;

use super::filter::{Parts, Patterns};
use crate::archive::{Entry, Section};
use crate::error::{Error, Result};

/// Which objects of the database are wanted, and what of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub patterns: Patterns,
    pub parts: Parts,
    /// Do not read large objects.
    pub no_large_objects: bool,
    /// Read them although something in particular is included.
    pub with_large_objects: bool,
    pub no_unlogged_table_data: bool,
    /// Rows of partitions go in through the root of their tree.
    pub load_via_partition_root: bool,
    pub no_toast_compression: bool,
    /// Rows that policies hide from the role are left out, and that is no error.
    pub enable_row_security: bool,
}

/// Everything but statistics, as pg_dump has it.
impl Default for Scope {
    fn default() -> Scope {
        Scope {
            patterns: Patterns::default(),
            parts: Parts {
                no_statistics: true,
                ..Parts::default()
            },
            no_large_objects: false,
            with_large_objects: false,
            no_unlogged_table_data: false,
            load_via_partition_root: false,
            no_toast_compression: false,
            enable_row_security: false,
        }
    }
}

/// Names of the flags that take a pattern.
type PatternFlag = (&'static str, fn(&mut Patterns) -> &mut Vec<BString>);

const PATTERN_FLAGS: [PatternFlag; 11] = [
    ("schema", |patterns| &mut patterns.schemas),
    ("exclude-schema", |patterns| &mut patterns.excluded_schemas),
    ("table", |patterns| &mut patterns.tables),
    ("table-and-children", |patterns| {
        &mut patterns.tables_and_children
    }),
    ("exclude-table", |patterns| &mut patterns.excluded_tables),
    ("exclude-table-and-children", |patterns| {
        &mut patterns.excluded_tables_and_children
    }),
    ("exclude-table-data", |patterns| &mut patterns.excluded_data),
    ("exclude-table-data-and-children", |patterns| {
        &mut patterns.excluded_data_and_children
    }),
    ("extension", |patterns| &mut patterns.extensions),
    ("exclude-extension", |patterns| {
        &mut patterns.excluded_extensions
    }),
    ("include-foreign-data", |patterns| {
        &mut patterns.foreign_data
    }),
];

type Switch = (&'static str, fn(&mut Scope) -> &mut bool);

/// Flags that are given or not, and change what is in an archive. That there is no data, or no large
/// objects, is said by bits of the header.
const SWITCHES: [Switch; 12] = [
    ("no-schema", |scope| &mut scope.parts.no_schema),
    ("sequence-data", |scope| &mut scope.parts.sequence_data),
    ("no-privileges", |scope| &mut scope.parts.no_privileges),
    ("no-comments", |scope| &mut scope.parts.no_comments),
    ("no-policies", |scope| &mut scope.parts.no_policies),
    ("no-publications", |scope| &mut scope.parts.no_publications),
    ("no-subscriptions", |scope| {
        &mut scope.parts.no_subscriptions
    }),
    ("no-security-labels", |scope| {
        &mut scope.parts.no_security_labels
    }),
    ("large-objects", |scope| &mut scope.with_large_objects),
    ("no-unlogged-table-data", |scope| {
        &mut scope.no_unlogged_table_data
    }),
    ("no-toast-compression", |scope| {
        &mut scope.no_toast_compression
    }),
    ("enable-row-security", |scope| {
        &mut scope.enable_row_security
    }),
];

const SECTIONS: [(&str, Section); 3] = [
    ("pre-data", Section::PreData),
    ("data", Section::Data),
    ("post-data", Section::PostData),
];

impl Scope {
    /// Large objects are data, and come with everything or when asked for.
    pub fn takes_large_objects(&self) -> bool {
        let all = self.patterns.include_everything() && !self.no_large_objects;
        !self.parts.no_data && (all || self.with_large_objects)
    }

    /// The flags that make this scope, with their values: what the header of an archive says.
    pub fn flags(&self) -> Vec<(String, BString)> {
        let mut scope = self.clone();
        let mut flags = Vec::new();
        for (name, list) in PATTERN_FLAGS {
            for pattern in list(&mut scope.patterns).drain(..) {
                flags.push((name.to_owned(), pattern));
            }
        }
        for (name, section) in SECTIONS {
            if self.parts.sections.contains(&section) {
                flags.push(("section".to_owned(), name.into()));
            }
        }
        for (name, switch) in SWITCHES {
            if *switch(&mut scope) {
                flags.push((name.to_owned(), BString::default()));
            }
        }
        flags
    }

    /// The scope that flags make.
    pub fn from_flags(flags: &[(String, BString)]) -> Result<Scope> {
        let mut scope = Scope::default();
        for (name, value) in flags {
            let pattern = PATTERN_FLAGS.iter().find(|(known, _)| known == name);
            let switch = SWITCHES.iter().find(|(known, _)| known == name);
            let section = SECTIONS
                .iter()
                .find(|(known, _)| name == "section" && *value == known.as_bytes());
            match (pattern, switch, section) {
                (Some((_, list)), ..) => list(&mut scope.patterns).push(value.clone()),
                (_, Some((_, switch)), _) => *switch(&mut scope) = true,
                (.., Some((_, section))) => scope.parts.sections.push(*section),
                _ => {
                    return Err(Error::new(format!(
                        "the archive was made with a filter that this version does not know: --{} {}",
                        name.escape_debug(),
                        value.escape_ascii()
                    ))
                    .hint(
                        "use the version of rdump that wrote the archive, or a newer one",
                    ));
                }
            }
        }
        Ok(scope)
    }

    /// What another database has of an archive that was made with this scope: of relations that were
    /// chosen by name just those that the archive has, wherever that database's search path leads.
    pub fn of_archive(mut self, entries: &[Entry]) -> Scope {
        let patterns = &mut self.patterns;
        if !(patterns.tables.is_empty() && patterns.tables_and_children.is_empty()) {
            let relations = entries
                .iter()
                .filter(|entry| entry.is_of_relation())
                .filter_map(|entry| Some((entry.schema.clone()?, entry.name.clone())));
            patterns.relations = Some(relations.collect());
        }
        patterns.may_find_nothing = true;
        self
    }
}

/// As a command line has them, for messages: `--schema sales --no-comments`.
pub fn shown(flags: &[(String, BString)]) -> String {
    let shown = flags.iter().map(|(name, value)| {
        let value = value.escape_ascii().to_string();
        match value.is_empty() {
            true => format!("--{name}"),
            false => format!("--{name} {value}"),
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_make_the_scope_that_they_were_made_of() {
        let mut scope = Scope::default();
        assert_eq!(scope.flags(), []);
        for (number, (_, list)) in PATTERN_FLAGS.iter().enumerate() {
            list(&mut scope.patterns).push(format!("a{number}*").into());
            list(&mut scope.patterns).push("\"\u{00e4}\"".into());
        }
        for (_, switch) in SWITCHES {
            *switch(&mut scope) = true;
        }
        scope.parts.sections = vec![Section::PreData, Section::PostData];
        let flags = scope.flags();
        assert_eq!(Scope::from_flags(&flags).expect("known flags"), scope);
        assert_eq!(flags.len(), 2 * PATTERN_FLAGS.len() + 2 + SWITCHES.len());
        for unknown in ["odd", "section"] {
            let flags = [(unknown.to_owned(), BString::from("x"))];
            assert!(Scope::from_flags(&flags).is_err());
        }
    }

    #[test]
    fn large_objects_come_with_everything_or_when_asked_for() {
        let takes = |change: fn(&mut Scope)| {
            let mut scope = Scope::default();
            change(&mut scope);
            scope.takes_large_objects()
        };
        assert!(takes(|_| {}));
        assert!(!takes(|scope| scope.no_large_objects = true));
        assert!(!takes(|scope| scope.patterns.schemas.push("a".into())));
        assert!(takes(|scope| {
            scope.patterns.schemas.push("a".into());
            scope.with_large_objects = true;
        }));
        assert!(!takes(|scope| {
            scope.parts.no_data = true;
            scope.with_large_objects = true;
        }));
        assert!(takes(|scope| scope
            .patterns
            .excluded_schemas
            .push("a".into())));
    }
}
