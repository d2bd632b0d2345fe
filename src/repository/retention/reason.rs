//! Why an archive is kept or removed, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::buckets::Unit;
use super::period::Period;
use super::rules::TagRule;
use super::shrink::Shrink;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    // never removed, of each source and scope
    Pinned,
    Newest,
    /// The newest that is not known to be bad.
    LastGood,
    LastVerified,
    LastTested,
    /// Bad, but no good one was made since.
    NoneGoodSince,

    // rules
    Last {
        number: u32,
        of: u32,
    },
    Within {
        span: Period,
    },
    Bucket {
        unit: Unit,
        bucket: String,
        number: u32,
        of: u32,
        /// Counted apart: its time is later than that of an archive made after it.
        ahead: bool,
    },
    Tag {
        tag: TagRule,
    },

    // nothing is removed, whatever the rules say
    NoRules,
    Incomplete,
    Shrunk(Shrink),

    // removed
    NoRule,
    Bad,
}

impl Reason {
    /// Whether this keeps an archive.
    pub fn keeps(&self) -> bool {
        !matches!(self, Reason::NoRule | Reason::Bad)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Pinned => f.write_str("pinned"),
            Reason::Newest => f.write_str("the newest"),
            Reason::LastGood => f.write_str("the last good"),
            Reason::LastVerified => f.write_str("the last verified"),
            Reason::LastTested => f.write_str("the last restore-tested"),
            Reason::NoneGoodSince => f.write_str("bad, but none since is good"),
            Reason::Last { number, of } => write!(f, "last ({number} of {of})"),
            Reason::Within { span } => write!(f, "within {span} of the newest"),
            Reason::Bucket {
                unit,
                bucket,
                number,
                of,
                ahead,
            } => {
                let ahead = if *ahead { ", clock ahead" } else { "" };
                write!(f, "{unit} {bucket} ({number} of {of}{ahead})")
            }
            Reason::Tag { tag } => write!(f, "tag {tag}"),
            Reason::NoRules => f.write_str("nothing is removed: there are no rules"),
            Reason::Incomplete => {
                f.write_str("nothing is removed: the list of archives is not complete")
            }
            Reason::Shrunk(shrink) => write!(f, "nothing is removed: {shrink}"),
            Reason::NoRule => f.write_str("no rule keeps it"),
            Reason::Bad => f.write_str("bad, and one since is good"),
        }
    }
}
