//! What a comparison found, for people and for programs.

use std::fmt;

use serde::Serialize;

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
    /// An index or constraint that the server does not hold to be valid.
    Invalid,
    /// Could not be decided; the detail says why. Never counted as equal.
    NotComparable,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    #[serde(flatten)]
    pub kind: FindingKind,
    /// As users know it: "TABLE public.orders".
    pub object: String,
    /// The first line in which both differ, or why it could not be compared. May be empty.
    pub detail: String,
}

impl Finding {
    pub(super) fn new(
        kind: FindingKind,
        object: impl Into<String>,
        detail: impl Into<String>,
    ) -> Finding {
        Finding {
            kind,
            object: object.into(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        match &self.kind {
            FindingKind::Missing => f.write_str("missing in the database")?,
            FindingKind::Unexpected => f.write_str("not in the archive")?,
            FindingKind::Different => f.write_str("different")?,
            FindingKind::Owner { expected, found } => {
                write!(f, "owner is {found}, in the archive {expected}")?;
            }
            FindingKind::Rows { expected, found } => {
                write!(f, "{found} rows, in the archive {expected}")?;
            }
            FindingKind::Fingerprint => {
                f.write_str("as many rows as in the archive, but not the same")?;
            }
            FindingKind::SequenceValue { expected, found } => {
                write!(f, "value is {found}, in the archive {expected}")?;
            }
            FindingKind::Invalid => f.write_str("not valid")?,
            FindingKind::NotComparable => f.write_str("could not be compared")?,
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
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
    /// What the user should know of the database's catalogs.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// Whether the database was proved equal to the archive.
    pub fn is_equal(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let Compared {
            entries,
            tables,
            rows,
            sequences,
            large_objects,
            ..
        } = self.compared;
        write!(
            f,
            "compared {entries} entries, {rows} rows of {tables} tables, {sequences} sequences, \
             {large_objects} large objects: "
        )?;
        match self.findings.len() {
            0 => f.write_str("the database equals the archive"),
            1 => f.write_str("1 difference"),
            count => write!(f, "{count} differences"),
        }
    }
}
