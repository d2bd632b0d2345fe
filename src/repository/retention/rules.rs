//! The rules that a user gives.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use super::buckets::Unit;
use super::period::Period;
use super::shrink::ShrinkLimits;
use crate::error::{Error, Result};

/// What is kept of each source; an archive stays if any of them keeps it. 0 is no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub last: u32,
    pub within: Option<Period>,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    pub tags: Vec<TagRule>,
    /// Whose hours, days, weeks, months and years they are.
    pub zone: TimeZone,
    pub shrink: ShrinkLimits,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            last: 0,
            within: None,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            tags: Vec::new(),
            zone: TimeZone::UTC,
            shrink: ShrinkLimits::default(),
        }
    }
}

impl Rules {
    /// Nothing is asked for, so nothing may be removed.
    pub fn is_empty(&self) -> bool {
        self.last == 0
            && self.within.is_none()
            && self.tags.is_empty()
            && Unit::ALL.iter().all(|unit| self.count(*unit) == 0)
    }

    /// How many of these buckets are to keep an archive.
    pub fn count(&self, unit: Unit) -> u32 {
        match unit {
            Unit::Hourly => self.hourly,
            Unit::Daily => self.daily,
            Unit::Weekly => self.weekly,
            Unit::Monthly => self.monthly,
            Unit::Yearly => self.yearly,
        }
    }
}

/// Archives with this tag are kept, with whatever value if none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRule {
    pub key: String,
    pub value: Option<String>,
}

impl TagRule {
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        match (&self.value, tags.get(&self.key)) {
            (Some(wanted), Some(value)) => wanted == value,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }
}

impl FromStr for TagRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<TagRule> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        if key.is_empty() {
            return Err(
                Error::usage(format!("invalid tag \"{text}\": it has no name"))
                    .hint("write NAME or NAME=VALUE"),
            );
        }
        Ok(TagRule {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        })
    }
}

impl fmt::Display for TagRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

impl Serialize for TagRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time zone by its IANA name.
pub fn time_zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        Error::usage(format!("unknown time zone \"{name}\""))
            .hint("write a name such as UTC or Europe/Berlin")
    })
}
