//! Which archives of a repository are kept, and why: a function of what is known of them, without
//! any I/O. `docs/retention.md` has the rules in words.
//!
//! Whatever is in doubt (a listing with gaps, a clock that jumped, an archive that shrank) is decided
//! in favour of keeping.

mod buckets;
mod decide;
mod period;
mod reason;
mod rules;
mod shrink;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use buckets::Unit;
pub use decide::decide;
pub use period::Period;
pub use reason::Reason;
pub use rules::{Rules, TagRule, time_zone};
pub use shrink::{Measure, Shrink, ShrinkLimits, Shrunk};

/// What a check or a restore test found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    #[default]
    Unknown,
    Good,
    Bad,
}

/// What is known of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    /// The database or set that it is of. Rules count for each source apart.
    pub source: String,
    /// What of its source it holds. An archive stands in only for others of the same scope.
    pub scope: String,
    /// A counter that survives jumps of clocks: what is larger was made later.
    pub order: u64,
    pub snapshot: Timestamp,
    pub rows: u64,
    /// Bytes of the rows before compression.
    pub bytes: u64,
    pub tables: u64,
    pub verified: Verdict,
    pub tested: Verdict,
    pub pinned: bool,
    pub tags: BTreeMap<String, String>,
}

impl Candidate {
    /// Known not to be what it should be. What nobody has looked at is taken for good.
    pub fn is_bad(&self) -> bool {
        self.verified == Verdict::Bad || self.tested == Verdict::Bad
    }

    /// Archives are made in this order, whatever their clocks say.
    fn position(&self) -> (u64, Timestamp, &str) {
        (self.order, self.snapshot, &self.name)
    }
}

/// What [`decide`] decides from.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    pub candidates: &'a [Candidate],
    pub rules: &'a Rules,
    /// Every archive there is has been listed and read.
    pub complete: bool,
    /// Remove even where the newest archive shrank. It overrides nothing else.
    pub force: bool,
    /// The time where the decision is made, if it is to be relied on. It can only make `within` keep
    /// more: where the newest archive claims a time that is yet to come.
    pub now: Option<Timestamp>,
}

/// What is to happen to one archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub name: String,
    pub keep: bool,
    /// All that keep it; if nothing does, why it goes.
    pub reasons: Vec<Reason>,
}

/// What is to happen to all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// One for each candidate, in the order in which they were given.
    pub decisions: Vec<Decision>,
    /// The sources of which nothing is removed, with the reasons, whether or not any archive would be.
    pub held: BTreeMap<String, Vec<Reason>>,
}
