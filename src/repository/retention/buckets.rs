//! Hours, days, weeks, months and years that archives fall into.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::Date;
use jiff::{Timestamp, Zoned};
use serde::Serialize;

/// What a bucket rule keeps one archive of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Hourly,
    Daily,
    /// ISO weeks: from Monday, the first of a year the one with its first Thursday.
    Weekly,
    Monthly,
    Yearly,
}

impl Unit {
    pub const ALL: [Unit; 5] = [
        Unit::Hourly,
        Unit::Daily,
        Unit::Weekly,
        Unit::Monthly,
        Unit::Yearly,
    ];

    /// As people write the bucket of a moment.
    pub(super) fn label(self, moment: &Zoned) -> String {
        let format = match self {
            // the offset tells apart the hours that a clock shows twice
            Unit::Hourly => "%Y-%m-%d %H:00%:z",
            Unit::Daily => "%Y-%m-%d",
            Unit::Weekly => "%G-W%V",
            Unit::Monthly => "%Y-%m",
            Unit::Yearly => "%Y",
        };
        moment.strftime(format).to_string()
    }

    /// The bucket that a moment falls into; of one unit, later ones are larger.
    fn bucket(self, moment: &Zoned) -> Bucket {
        let (year, month) = (moment.year(), moment.month());
        match self {
            Unit::Hourly => {
                let start = moment.date().at(moment.hour(), 0, 0, 0);
                // by its instant, since a clock that is set back shows an hour twice
                let start = moment.offset().to_timestamp(start);
                Bucket::Hour(start.unwrap_or(moment.timestamp()))
            }
            Unit::Daily => Bucket::Day(moment.date()),
            Unit::Weekly => {
                let week = moment.date().iso_week_date();
                Bucket::Week(week.year(), week.week())
            }
            Unit::Monthly => Bucket::Month(year, month),
            Unit::Yearly => Bucket::Year(year),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Hourly => "hourly",
            Unit::Daily => "daily",
            Unit::Weekly => "weekly",
            Unit::Monthly => "monthly",
            Unit::Yearly => "yearly",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bucket {
    Hour(Timestamp),
    Day(Date),
    Week(i16, i8),
    Month(i16, i8),
    Year(i16),
}

/// The last archive of each bucket that has one, the latest bucket first.
/// `archives` come in the order in which they were made.
pub(super) fn newest_of_each<'a, T>(
    unit: Unit,
    archives: impl Iterator<Item = (T, &'a Zoned)>,
) -> impl Iterator<Item = T> {
    let mut newest = BTreeMap::new();
    for (archive, moment) in archives {
        newest.insert(unit.bucket(moment), archive);
    }
    newest.into_values().rev()
}
