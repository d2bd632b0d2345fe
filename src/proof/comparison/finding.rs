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
    /// Bytes of a large object: how many, or which.
    Contents {
        expected_bytes: u64,
        found_bytes: u64,
    },
    /// An index or constraint that the server does not hold to be valid.
    Invalid,
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
            FindingKind::Contents {
                expected_bytes,
                found_bytes,
            } if expected_bytes != found_bytes => {
                write!(f, "{found_bytes} bytes, in the archive {expected_bytes}")?;
            }
            FindingKind::Contents { .. } => {
                f.write_str("as many bytes as in the archive, but not the same")?;
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
    /// What the archive holds and was not compared, and why.
    pub not_compared: Vec<String>,
    /// What the user should know of the database's catalogs.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// Whether the database was proved equal to the archive.
    pub fn is_equal(&self) -> bool {
        self.findings.is_empty()
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
        let outcome = match self.findings.len() {
            0 if self.not_compared.is_empty() => "the database equals the archive".to_owned(),
            0 => "the database equals the archive in all of this".to_owned(),
            1 => "1 difference".to_owned(),
            count => format!("{count} differences"),
        };
        format!(
            "compared {entries} entries, {rows} rows of {tables} tables, {sequences} sequences, \
             {large_objects} large objects: {outcome}"
        )
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for what in &self.not_compared {
            writeln!(f, "not compared: {what}")?;
        }
        f.write_str(&self.summary())
    }
}
