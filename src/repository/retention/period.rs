//! Spans of the calendar as users write them: `30d`, `1y6m`.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, SpanFieldwise, Timestamp};
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// A span of years, months, weeks, days and hours; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(SpanFieldwise);

/// The letters of the units, with how a span is given so many of them.
type Setter = fn(Span, i64) -> Result<Span, jiff::Error>;
const UNITS: [(char, Setter); 5] = [
    ('y', Span::try_years),
    ('m', Span::try_months),
    ('w', Span::try_weeks),
    ('d', Span::try_days),
    ('h', Span::try_hours),
];

impl Period {
    /// So long before a moment, by the calendar of a zone: a day is as long as it was there, and a
    /// month before 31 March is the last of February. Nothing if that is before all calendars.
    pub fn before(self, moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = moment.to_zoned(zone.clone()).checked_sub(self.0.0).ok()?;
        Some(start.timestamp())
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Period> {
        let refused = |problem: &str| {
            Error::usage(format!(
                "invalid span \"{text}\": {problem}"
            ))
            .hint("write numbers with units, such as 30d, 2w, 6m, 12h or 1y6m: y years, m months, w weeks, d days, h hours")
        };
        let mut span = Span::new();
        let mut given = String::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or_else(|| refused("the last number has no unit"))?;
            let (number, behind) = rest.split_at(digits);
            let mut behind = behind.chars();
            let Some(letter) = behind.next() else { break };
            let Some((_, set)) = UNITS.iter().find(|(unit, _)| *unit == letter) else {
                return Err(refused(&format!("\"{letter}\" is no unit")));
            };
            if number.is_empty() {
                return Err(refused(&format!("no number before \"{letter}\"")));
            }
            if given.contains(letter) {
                return Err(refused(&format!("the unit \"{letter}\" is there twice")));
            }
            given.push(letter);
            let too_long = || refused(&format!("{number}{letter} is too long"));
            let number: i64 = number.parse().map_err(|_| too_long())?;
            span = set(span, number).map_err(|_| too_long())?;
            rest = behind.as_str();
        }
        if given.is_empty() {
            return Err(refused("it is empty"));
        }
        if span.is_zero() {
            return Err(refused("it is no time at all"));
        }
        Ok(Period(span.fieldwise()))
    }
}

/// As it is read: the longest unit first.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.0.0;
        let numbers = [
            i64::from(span.get_years()),
            i64::from(span.get_months()),
            i64::from(span.get_weeks()),
            i64::from(span.get_days()),
            i64::from(span.get_hours()),
        ];
        for ((unit, _), number) in UNITS.iter().zip(numbers) {
            if number != 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
