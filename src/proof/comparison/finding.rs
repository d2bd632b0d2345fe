//! What a comparison found, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::difference::{self, LEGEND, Line};
use crate::error::{Error, SqlState};
use crate::proof::Listed;
use crate::report::counted;

/// In which way database and archive differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FindingKind {
    /// In the archive, not in the database.
    Missing,
    /// In the database, not in the archive.
    Unexpected,
    /// Its definition, privileges, comment or contents are others.
    Different,
    Owner {
        expected: String,
        found: String,
    },
    Rows {
        expected: u64,
        found: u64,
    },
    /// As many rows, but not the same.
    Fingerprint,
    SequenceValue {
        expected: String,
        found: String,
    },
    /// Bytes of a large object: how many, or which.
    Contents {
        expected_bytes: u64,
        found_bytes: u64,
    },
    /// An index or constraint that the server does not hold to be valid.
    Invalid,
    /// A constraint whose own triggers are disabled.
    NotEnforced,
    /// Could not be decided; the detail says why. Never counted as equal.
    NotComparable,
}

impl FindingKind {
    /// Whether rows were read, and are others.
    pub(super) fn is_of_rows(&self) -> bool {
        matches!(self, FindingKind::Rows { .. } | FindingKind::Fingerprint)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    #[serde(flatten)]
    pub kind: FindingKind,
    /// As users know it: "TABLE public.orders".
    pub object: Listed,
    /// In which way they differ, or why it could not be compared. May be empty.
    pub detail: Listed,
    /// Lines of two texts that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub difference: Vec<Line>,
    /// What to do, so that it can be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    pub(super) fn new(
        kind: FindingKind,
        object: impl Into<Listed>,
        detail: impl Into<Listed>,
    ) -> Finding {
        Finding {
            kind,
            object: object.into(),
            detail: detail.into(),
            difference: Vec::new(),
            hint: None,
        }
    }

    pub(super) fn different(object: impl Into<Listed>, lines: Vec<Line>) -> Finding {
        Finding {
            difference: lines,
            ..Finding::new(FindingKind::Different, object, "")
        }
    }

    pub(super) fn not_comparable(object: impl Into<Listed>, reason: Reason) -> Finding {
        Finding {
            hint: reason.hint,
            ..Finding::new(FindingKind::NotComparable, object, reason.text)
        }
    }

    pub(super) fn with_difference(self, difference: Vec<Line>) -> Finding {
        Finding { difference, ..self }
    }

    /// Whether database and archive are known to differ.
    pub fn is_difference(&self) -> bool {
        self.kind != FindingKind::NotComparable
    }

    /// For people; all of it, or what is enough for most.
    pub fn in_words(&self, all: bool) -> String {
        let mut words = format!("{}: {}", self.object.in_words(all), self.kind);
        if !self.detail.is_empty() {
            words.push_str(&format!(": {}", self.detail.in_words(all)));
        }
        if !self.difference.is_empty() {
            words.push_str(&format!(" {LEGEND}:"));
            words.push_str(&difference::in_words(&self.difference, all));
        }
        words
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(false))
    }
}

/// Why something could not be compared, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub text: String,
    pub hint: Option<String>,
}

const HINT_LOCK: &str = "run again when the session that holds the lock has ended";

impl Reason {
    pub fn new(text: impl Into<String>, hint: &str) -> Reason {
        Reason {
            text: text.into(),
            hint: Some(hint.to_owned()),
        }
    }

    /// Of what the server refused; `permission` is the hint where that is for want of privileges.
    pub fn of(error: &Error, permission: &str) -> Reason {
        let hint = match error.sqlstate() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Some(permission),
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Some(HINT_LOCK),
            _ => error.hint_text(),
        };
        Reason {
            text: error.to_string(),
            hint: hint.map(str::to_owned),
        }
    }
}

impl<T: Into<String>> From<T> for Reason {
    fn from(text: T) -> Reason {
        Reason {
            text: text.into(),
            hint: None,
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let against = |found: u64, one: &str, many: &str, expected: u64| {
            let found = counted(found, one, many);
            format!("{found}, in the archive {expected}")
        };
        match self {
            FindingKind::Missing => f.write_str("missing in the database"),
            FindingKind::Unexpected => f.write_str("not in the archive"),
            FindingKind::Different => f.write_str("different"),
            FindingKind::Owner { expected, found } => {
                write!(f, "owner is {found}, in the archive {expected}")
            }
            FindingKind::Rows { expected, found } => {
                f.write_str(&against(*found, "row", "rows", *expected))
            }
            FindingKind::Fingerprint => {
                f.write_str("as many rows as in the archive, but not the same")
            }
            FindingKind::SequenceValue { expected, found } => {
                write!(f, "value is {found}, in the archive {expected}")
            }
            FindingKind::Contents {
                expected_bytes,
                found_bytes,
            } if expected_bytes != found_bytes => {
                f.write_str(&against(*found_bytes, "byte", "bytes", *expected_bytes))
            }
            FindingKind::Contents { .. } => {
                f.write_str("as many bytes as in the archive, but not the same")
            }
            FindingKind::Invalid => f.write_str("not valid"),
            FindingKind::NotEnforced => f.write_str("not enforced"),
            FindingKind::NotComparable => f.write_str("could not be compared"),
        }
    }
}

/// What was compared, so that a silent proof can be told from an empty one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Entries of the archive whose definitions were held against the database.
    pub entries: u64,
    pub tables: u64,
    pub rows: u64,
    pub sequences: u64,
    pub large_objects: u64,
    /// Definitions that read differently, about which the server was asked.
    pub asked: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// In the archive's order; then what only the database has.
    pub findings: Vec<Finding>,
    pub compared: Compared,
    /// What the archive or the database holds and was not compared, and why.
    pub not_compared: Vec<Listed>,
    /// What the user should know of the database's catalogs.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// Whether the database was proved equal to the archive.
    pub fn is_equal(&self) -> bool {
        self.findings.is_empty()
    }

    pub fn differences(&self) -> u64 {
        let differences = self
            .findings
            .iter()
            .filter(|finding| finding.is_difference());
        differences.count() as u64
    }

    /// Findings that say no more than that something could not be compared.
    pub fn undecided(&self) -> u64 {
        self.findings.len() as u64 - self.differences()
    }

    /// "2 differences, 1 object could not be compared"; empty if there is neither.
    pub fn findings_in_words(&self) -> String {
        let mut words = Vec::new();
        match self.differences() {
            0 => {}
            number => words.push(counted(number, "difference", "differences")),
        }
        match self.undecided() {
            0 => {}
            number => words.push(format!(
                "{} could not be compared",
                counted(number, "object", "objects")
            )),
        }
        words.join(", ")
    }

    /// What to do about what could not be compared, each once.
    pub fn hints(&self) -> Vec<&str> {
        let mut hints = Vec::new();
        for hint in self
            .findings
            .iter()
            .filter_map(|finding| finding.hint.as_deref())
        {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints
    }

    /// What was compared, and what came of it, in one line.
    pub fn summary(&self) -> String {
        let Compared {
            entries,
            tables,
            rows,
            sequences,
            large_objects,
            ..
        } = self.compared;
        let outcome = match self.findings_in_words() {
            words if !words.is_empty() => words,
            _ if self.not_compared.is_empty() => "the database equals the archive".to_owned(),
            _ => "the database equals the archive in all of this".to_owned(),
        };
        format!(
            "compared {}, {} of {}, {}, {}: {outcome}",
            counted(entries, "entry", "entries"),
            counted(rows, "row", "rows"),
            counted(tables, "table", "tables"),
            counted(sequences, "sequence", "sequences"),
            counted(large_objects, "large object", "large objects"),
        )
    }

    /// For people: findings, what was not compared, the summary.
    pub fn in_words(&self, all: bool) -> String {
        let mut words = String::new();
        for finding in &self.findings {
            words.push_str(&format!("{}\n", finding.in_words(all)));
        }
        for what in &self.not_compared {
            words.push_str(&format!("not compared: {}\n", what.in_words(all)));
        }
        words + &self.summary()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(false))
    }
}
