//! Flags that say which archives of a repository are kept.

use clap::Args;

use crate::error::{Result, ResultExt};
use crate::repository::retention::{Rules, ShrinkLimits, time_zone};

/// An archive stays if any rule keeps it. Without a rule, nothing is ever removed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArguments {
    /// Keep the newest N archives of each database
    #[arg(long, value_name = "N", env = "RDUMP_KEEP_LAST")]
    keep_last: Option<u32>,
    /// Keep archives not older than this before the newest one: 30d, 2w, 6m (months), 1y6m, 12h
    #[arg(long, value_name = "SPAN", env = "RDUMP_KEEP_WITHIN")]
    keep_within: Option<String>,
    /// Keep the newest archive of each of the last N hours that have one
    #[arg(long, value_name = "N", env = "RDUMP_KEEP_HOURLY")]
    keep_hourly: Option<u32>,
    /// Keep the newest archive of each of the last N days that have one
    #[arg(long, value_name = "N", env = "RDUMP_KEEP_DAILY")]
    keep_daily: Option<u32>,
    /// Keep the newest archive of each of the last N ISO weeks that have one
    #[arg(long, value_name = "N", env = "RDUMP_KEEP_WEEKLY")]
    keep_weekly: Option<u32>,
    /// Keep the newest archive of each of the last N months that have one
    #[arg(long, value_name = "N", env = "RDUMP_KEEP_MONTHLY")]
    keep_monthly: Option<u32>,
    /// Keep the newest archive of each of the last N years that have one
    #[arg(long, value_name = "N", env = "RDUMP_KEEP_YEARLY")]
    keep_yearly: Option<u32>,
    /// Keep archives with this tag, NAME=VALUE, or NAME for any value; several: repeated or with commas
    #[arg(
        long,
        value_name = "TAG",
        env = "RDUMP_KEEP_TAG",
        value_delimiter = ','
    )]
    keep_tag: Vec<String>,
    /// Time zone of hours, days, weeks, months and years; UTC if not given
    #[arg(long, value_name = "ZONE", env = "RDUMP_KEEP_TIME_ZONE")]
    keep_time_zone: Option<String>,
    /// Remove nothing of a database whose newest archive has less than this share of the rows of the one
    /// before; 0 for no limit
    #[arg(long, value_name = "PERCENT", env = "RDUMP_SHRINK_ROWS", default_value_t = ShrinkLimits::default().rows,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    shrink_rows: u8,
    /// As --shrink-rows, of the bytes of rows
    #[arg(long, value_name = "PERCENT", env = "RDUMP_SHRINK_BYTES", default_value_t = ShrinkLimits::default().bytes,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    shrink_bytes: u8,
    /// As --shrink-rows, of the tables
    #[arg(long, value_name = "PERCENT", env = "RDUMP_SHRINK_TABLES", default_value_t = ShrinkLimits::default().tables,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    shrink_tables: u8,
}

impl RetentionArguments {
    /// The rules, if any is given. An empty text, as a variable may have, gives none.
    pub fn rules(&self) -> Result<Option<Rules>> {
        let mut rules = Rules {
            last: self.keep_last.unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            shrink: ShrinkLimits {
                rows: self.shrink_rows,
                bytes: self.shrink_bytes,
                tables: self.shrink_tables,
            },
            ..Rules::default()
        };
        if let Some(span) = given(&self.keep_within) {
            rules.within = Some(span.parse().context("--keep-within")?);
        }
        for tag in self.keep_tag.iter().filter(|tag| !tag.is_empty()) {
            rules.tags.push(tag.parse().context("--keep-tag")?);
        }
        if let Some(zone) = given(&self.keep_time_zone) {
            rules.zone = time_zone(zone).context("--keep-time-zone")?;
        }
        Ok((!rules.is_empty()).then_some(rules))
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::repository::retention::Unit;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        retention: RetentionArguments,
    }

    fn rules(flags: &str) -> Result<Option<Rules>> {
        let flags = ["rdump"].into_iter().chain(flags.split_whitespace());
        let alone = Alone::try_parse_from(flags);
        alone.expect("flags that clap takes").retention.rules()
    }

    #[test]
    fn each_flag_sets_its_rule() {
        let rules = rules(
            "--keep-last 1 --keep-within 1y6m --keep-hourly 2 --keep-daily 3 --keep-weekly 4 --keep-monthly 5 \
             --keep-yearly 6 --keep-tag a=b --keep-tag c,d= --keep-time-zone Europe/Berlin --shrink-rows 7 \
             --shrink-bytes 0 --shrink-tables 100",
        );
        let rules = rules.unwrap().unwrap();
        assert_eq!(rules.last, 1);
        assert_eq!(rules.within.unwrap().to_string(), "1y6m");
        assert_eq!(Unit::ALL.map(|unit| rules.count(unit)), [2, 3, 4, 5, 6]);
        let tags: Vec<String> = rules.tags.iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["a=b", "c", "d="]);
        assert_eq!(rules.zone.iana_name(), Some("Europe/Berlin"));
        let limits = (rules.shrink.rows, rules.shrink.bytes, rules.shrink.tables);
        assert_eq!(limits, (7, 0, 100));
    }

    #[test]
    fn limits_and_zones_alone_are_no_rules() {
        assert_eq!(rules("").unwrap(), None);
        assert_eq!(
            rules("--keep-daily 0 --shrink-rows 0 --keep-time-zone UTC --keep-within=").unwrap(),
            None
        );
        let daily = rules("--keep-daily 7").unwrap().unwrap();
        assert_eq!(
            daily,
            Rules {
                daily: 7,
                ..Rules::default()
            }
        );
    }

    #[test]
    fn what_is_not_understood_names_its_flag() {
        for (flags, expected) in [
            (
                "--keep-within 30",
                "--keep-within: invalid span \"30\": the last number has no unit",
            ),
            (
                "--keep-tag =x",
                "--keep-tag: invalid tag \"=x\": it has no name",
            ),
            (
                "--keep-time-zone Europe/Rdump",
                "--keep-time-zone: unknown time zone \"Europe/Rdump\"",
            ),
        ] {
            let error = rules(flags).expect_err(flags);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.exit_code(), 2);
            assert!(error.hint_text().is_some());
        }
        for flags in ["--keep-last=-1", "--keep-daily=x", "--shrink-rows=101"] {
            assert!(Alone::try_parse_from(["rdump", flags]).is_err(), "{flags}");
        }
    }

    #[test]
    fn each_flag_can_be_given_by_the_environment() {
        let command = <Alone as clap::CommandFactory>::command();
        for argument in command.get_arguments() {
            let flag = argument.get_long().expect("a flag");
            if flag == "help" {
                continue;
            }
            let variable = format!("RDUMP_{}", flag.to_uppercase().replace('-', "_"));
            let given = argument.get_env().expect(flag);
            assert_eq!(given.to_str(), Some(variable.as_str()));
        }
    }
}
