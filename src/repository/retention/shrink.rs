//! Whether the newest archive has suspiciously less in it than the one before.

use std::fmt;

use serde::Serialize;

use super::Candidate;

/// The least share, in percent, that the newest archive must have of the one before; 0 sets no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShrinkLimits {
    pub rows: u8,
    pub bytes: u8,
    pub tables: u8,
}

impl Default for ShrinkLimits {
    fn default() -> ShrinkLimits {
        ShrinkLimits {
            rows: 50,
            bytes: 50,
            tables: 80,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Rows,
    Bytes,
    Tables,
}

/// The newest archive beside the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shrink {
    pub newest: String,
    pub before: String,
    /// What is below its limit; never empty.
    pub less: Vec<Shrunk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shrunk {
    pub measure: Measure,
    pub newest: u64,
    pub before: u64,
    /// The limit in percent.
    pub limit: u8,
}

/// Compares the newest of a source (`archives` come in their order) with the newest one of the same
/// scope before it that is not known to be bad.
pub(super) fn shrink(archives: &[&Candidate], limits: ShrinkLimits) -> Option<Shrink> {
    let (newest, earlier) = archives.split_last()?;
    let before = earlier
        .iter()
        .rfind(|archive| archive.scope == newest.scope && !archive.is_bad())?;
    let less: Vec<Shrunk> = [
        (Measure::Rows, newest.rows, before.rows, limits.rows),
        (Measure::Bytes, newest.bytes, before.bytes, limits.bytes),
        (Measure::Tables, newest.tables, before.tables, limits.tables),
    ]
    .into_iter()
    .filter(|(_, newest, before, limit)| {
        u128::from(*newest) * 100 < u128::from(*before) * u128::from(*limit)
    })
    .map(|(measure, newest, before, limit)| Shrunk {
        measure,
        newest,
        before,
        limit,
    })
    .collect();
    (!less.is_empty()).then(|| Shrink {
        newest: newest.name.clone(),
        before: before.name.clone(),
        less,
    })
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Measure::Rows => "rows",
            Measure::Bytes => "bytes of rows",
            Measure::Tables => "tables",
        })
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shrunk {
            measure,
            newest,
            before,
            limit,
        } = self;
        write!(f, "{newest} {measure} after {before} (below {limit} %)")
    }
}

impl fmt::Display for Shrink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shrink {
            newest,
            before,
            less,
        } = self;
        let less: Vec<String> = less.iter().map(ToString::to_string).collect();
        let less = less.join(", ");
        write!(f, "{newest} has suspiciously less than {before}: {less}")
    }
}
