//! Each rule by itself, on dated archives.

use super::super::*;
use super::written::{assert_text, check, history, planned, rules, written};

#[test]
fn last_keeps_the_newest() {
    check(
        "last 2",
        "2026-01-01T02:00Z
         2026-01-02T02:00Z
         2026-01-03T02:00Z
         2026-01-04T02:00Z",
        "- 2026-01-01T02:00Z no rule keeps it
         - 2026-01-02T02:00Z no rule keeps it
         + 2026-01-03T02:00Z last (2 of 2)
         + 2026-01-04T02:00Z the newest, the last good, last (1 of 2)",
    );
}

#[test]
fn rules_count_for_each_source_apart() {
    check(
        "last 1",
        "2026-01-01T02:00Z source:shop
         2026-01-01T03:00Z source:bank
         2026-01-02T02:00Z source:shop
         2026-01-02T03:00Z source:bank
         2026-01-03T02:00Z source:shop",
        "- 2026-01-01T02:00Z no rule keeps it
         - 2026-01-01T03:00Z no rule keeps it
         - 2026-01-02T02:00Z no rule keeps it
         + 2026-01-02T03:00Z the newest, the last good, last (1 of 1)
         + 2026-01-03T02:00Z the newest, the last good, last (1 of 1)",
    );
}

#[test]
fn daily_keeps_the_newest_of_each_day_that_has_one() {
    // there is none of 3 January, which takes no place
    check(
        "daily 3",
        "2026-01-01T22:00Z
         2026-01-02T00:00Z
         2026-01-02T23:59Z
         2026-01-04T02:00Z
         2026-01-04T14:00Z
         2026-01-05T02:00Z",
        "- 2026-01-01T22:00Z no rule keeps it
         - 2026-01-02T00:00Z no rule keeps it
         + 2026-01-02T23:59Z daily 2026-01-02 (3 of 3)
         - 2026-01-04T02:00Z no rule keeps it
         + 2026-01-04T14:00Z daily 2026-01-04 (2 of 3)
         + 2026-01-05T02:00Z the newest, the last good, daily 2026-01-05 (1 of 3)",
    );
}

#[test]
fn days_are_those_of_the_zone() {
    // in Tokyo (UTC+9) the third one is of 3 January
    let archives = "2026-01-01T12:00Z
                    2026-01-02T12:00Z
                    2026-01-02T18:00Z";
    check(
        "daily 2",
        archives,
        "+ 2026-01-01T12:00Z daily 2026-01-01 (2 of 2)
         - 2026-01-02T12:00Z no rule keeps it
         + 2026-01-02T18:00Z the newest, the last good, daily 2026-01-02 (1 of 2)",
    );
    check(
        "daily 2, zone Asia/Tokyo",
        archives,
        "- 2026-01-01T12:00Z no rule keeps it
         + 2026-01-02T12:00Z daily 2026-01-02 (2 of 2)
         + 2026-01-02T18:00Z the newest, the last good, daily 2026-01-03 (1 of 2)",
    );
}

#[test]
fn a_day_of_23_or_25_hours_is_one_day() {
    // Berlin went to summer time on 29 March at 01:00Z, back on 25 October at 01:00Z
    check(
        "daily 3, zone Europe/Berlin",
        "2026-03-28T22:30Z
         2026-03-28T23:30Z
         2026-03-29T21:30Z
         2026-03-29T22:30Z",
        "+ 2026-03-28T22:30Z daily 2026-03-28 (3 of 3)
         - 2026-03-28T23:30Z no rule keeps it
         + 2026-03-29T21:30Z daily 2026-03-29 (2 of 3)
         + 2026-03-29T22:30Z the newest, the last good, daily 2026-03-30 (1 of 3)",
    );
    check(
        "daily 3, zone Europe/Berlin",
        "2026-10-24T21:30Z
         2026-10-24T22:30Z
         2026-10-25T22:30Z
         2026-10-25T23:30Z",
        "+ 2026-10-24T21:30Z daily 2026-10-24 (3 of 3)
         - 2026-10-24T22:30Z no rule keeps it
         + 2026-10-25T22:30Z daily 2026-10-25 (2 of 3)
         + 2026-10-25T23:30Z the newest, the last good, daily 2026-10-26 (1 of 3)",
    );
}

#[test]
fn hourly_keeps_the_newest_of_each_hour_that_has_one() {
    check(
        "hourly 2",
        "2026-01-05T01:59Z
         2026-01-05T02:00Z
         2026-01-05T02:59Z
         2026-01-05T07:00Z",
        "- 2026-01-05T01:59Z no rule keeps it
         - 2026-01-05T02:00Z no rule keeps it
         + 2026-01-05T02:59Z hourly 2026-01-05 02:00+00:00 (2 of 2)
         + 2026-01-05T07:00Z the newest, the last good, hourly 2026-01-05 07:00+00:00 (1 of 2)",
    );
}

#[test]
fn an_hour_that_the_clock_shows_twice_is_two_hours() {
    check(
        "hourly 3, zone Europe/Berlin",
        "2026-10-25T00:10Z
         2026-10-25T00:50Z
         2026-10-25T01:10Z
         2026-10-25T02:10Z",
        "- 2026-10-25T00:10Z no rule keeps it
         + 2026-10-25T00:50Z hourly 2026-10-25 02:00+02:00 (3 of 3)
         + 2026-10-25T01:10Z hourly 2026-10-25 02:00+01:00 (2 of 3)
         + 2026-10-25T02:10Z the newest, the last good, hourly 2026-10-25 03:00+01:00 (1 of 3)",
    );
}

#[test]
fn weeks_go_from_monday_to_sunday() {
    check(
        "weekly 2",
        "2026-01-04T23:59Z
         2026-01-05T00:00Z
         2026-01-11T23:59Z
         2026-01-12T00:00Z",
        "- 2026-01-04T23:59Z no rule keeps it
         - 2026-01-05T00:00Z no rule keeps it
         + 2026-01-11T23:59Z weekly 2026-W02 (2 of 2)
         + 2026-01-12T00:00Z the newest, the last good, weekly 2026-W03 (1 of 2)",
    );
}

#[test]
fn the_week_at_the_turn_of_a_year_is_one_week() {
    // 31 December 2026 and 1 January 2027 are of week 53 of 2026; 30 December 2024 of week 1 of 2025
    check(
        "weekly 5",
        "2024-12-29T02:00Z
         2024-12-30T02:00Z
         2025-01-01T02:00Z
         2026-12-27T02:00Z
         2026-12-31T02:00Z
         2027-01-01T02:00Z
         2027-01-04T02:00Z",
        "+ 2024-12-29T02:00Z weekly 2024-W52 (5 of 5)
         - 2024-12-30T02:00Z no rule keeps it
         + 2025-01-01T02:00Z weekly 2025-W01 (4 of 5)
         + 2026-12-27T02:00Z weekly 2026-W52 (3 of 5)
         - 2026-12-31T02:00Z no rule keeps it
         + 2027-01-01T02:00Z weekly 2026-W53 (2 of 5)
         + 2027-01-04T02:00Z the newest, the last good, weekly 2027-W01 (1 of 5)",
    );
}

#[test]
fn monthly_keeps_the_newest_of_each_month_that_has_one() {
    check(
        "monthly 3",
        "2028-01-30T02:00Z
         2028-01-31T02:00Z
         2028-02-28T02:00Z
         2028-02-29T02:00Z
         2028-04-30T02:00Z",
        "- 2028-01-30T02:00Z no rule keeps it
         + 2028-01-31T02:00Z monthly 2028-01 (3 of 3)
         - 2028-02-28T02:00Z no rule keeps it
         + 2028-02-29T02:00Z monthly 2028-02 (2 of 3)
         + 2028-04-30T02:00Z the newest, the last good, monthly 2028-04 (1 of 3)",
    );
}

#[test]
fn yearly_keeps_the_newest_of_each_year_that_has_one() {
    check(
        "yearly 2",
        "2022-06-01T02:00Z
         2023-01-01T00:00Z
         2023-12-31T23:59Z
         2026-01-01T00:00Z",
        "- 2022-06-01T02:00Z no rule keeps it
         - 2023-01-01T00:00Z no rule keeps it
         + 2023-12-31T23:59Z yearly 2023 (2 of 2)
         + 2026-01-01T00:00Z the newest, the last good, yearly 2026 (1 of 2)",
    );
}

#[test]
fn an_archive_stays_if_any_rule_keeps_it() {
    check(
        "last 1, daily 2, monthly 2, tag release",
        "2025-12-30T02:00Z tag:release=7
         2025-12-31T02:00Z
         2026-01-01T02:00Z
         2026-01-02T02:00Z
         2026-01-03T02:00Z",
        "+ 2025-12-30T02:00Z tag release
         + 2025-12-31T02:00Z monthly 2025-12 (2 of 2)
         - 2026-01-01T02:00Z no rule keeps it
         + 2026-01-02T02:00Z daily 2026-01-02 (2 of 2)
         + 2026-01-03T02:00Z the newest, the last good, last (1 of 1), daily 2026-01-03 (1 of 2), monthly 2026-01 (1 of 2)",
    );
}

#[test]
fn within_counts_from_the_newest_archive() {
    check(
        "within 30d",
        "2026-01-01T01:59Z
         2026-01-01T02:00Z
         2026-01-30T02:00Z
         2026-01-31T02:00Z",
        "- 2026-01-01T01:59Z no rule keeps it
         + 2026-01-01T02:00Z within 30d of the newest
         + 2026-01-30T02:00Z within 30d of the newest
         + 2026-01-31T02:00Z the newest, the last good, within 30d of the newest",
    );
}

#[test]
fn a_machine_that_stood_still_loses_nothing() {
    let archives = history(
        "2026-01-29T02:00Z
         2026-01-30T02:00Z
         2026-01-31T02:00Z",
    );
    let rules = rules("within 3d");
    let plan = decide(&Input {
        candidates: &archives,
        rules: &rules,
        complete: true,
        force: false,
        now: Some("2027-06-01T02:00Z".parse().unwrap()),
    });
    assert_text(
        &written(&plan),
        "+ 2026-01-29T02:00Z within 3d of the newest
         + 2026-01-30T02:00Z within 3d of the newest
         + 2026-01-31T02:00Z the newest, the last good, within 3d of the newest",
    );
}

#[test]
fn a_month_before_the_31st_is_the_end_of_the_month_before() {
    check(
        "within 1m",
        "2026-02-28T01:59Z
         2026-02-28T02:00Z
         2026-03-31T02:00Z",
        "- 2026-02-28T01:59Z no rule keeps it
         + 2026-02-28T02:00Z within 1m of the newest
         + 2026-03-31T02:00Z the newest, the last good, within 1m of the newest",
    );
    // a year before a leap day
    check(
        "within 1y",
        "2027-02-28T01:59Z
         2027-02-28T02:00Z
         2028-02-29T02:00Z",
        "- 2027-02-28T01:59Z no rule keeps it
         + 2027-02-28T02:00Z within 1y of the newest
         + 2028-02-29T02:00Z the newest, the last good, within 1y of the newest",
    );
}

#[test]
fn a_day_of_a_span_is_as_long_as_it_was_in_the_zone_and_an_hour_is_an_hour() {
    // noon of 29 March in Berlin is 10:00Z, noon of the 28th was 11:00Z: 23 hours before
    let archives = "2026-03-28T10:00Z
                    2026-03-28T10:59Z
                    2026-03-28T11:00Z
                    2026-03-29T10:00Z";
    check(
        "within 1d, zone Europe/Berlin",
        archives,
        "- 2026-03-28T10:00Z no rule keeps it
         - 2026-03-28T10:59Z no rule keeps it
         + 2026-03-28T11:00Z within 1d of the newest
         + 2026-03-29T10:00Z the newest, the last good, within 1d of the newest",
    );
    check(
        "within 24h, zone Europe/Berlin",
        archives,
        "+ 2026-03-28T10:00Z within 24h of the newest
         + 2026-03-28T10:59Z within 24h of the newest
         + 2026-03-28T11:00Z within 24h of the newest
         + 2026-03-29T10:00Z the newest, the last good, within 24h of the newest",
    );
}

#[test]
fn a_span_longer_than_all_calendars_keeps_all() {
    check(
        "within 19998y",
        "1970-01-01T00:00Z
         2026-01-01T00:00Z",
        "+ 1970-01-01T00:00Z within 19998y of the newest
         + 2026-01-01T00:00Z the newest, the last good, within 19998y of the newest",
    );
}

#[test]
fn tags_keep_what_has_them() {
    check(
        "tag env=prod, tag release",
        "2026-01-01T02:00Z tag:env=prod
         2026-01-02T02:00Z tag:env=test
         2026-01-03T02:00Z tag:env=prod tag:release=
         2026-01-04T02:00Z
         2026-01-05T02:00Z",
        "+ 2026-01-01T02:00Z tag env=prod
         - 2026-01-02T02:00Z no rule keeps it
         + 2026-01-03T02:00Z tag env=prod, tag release
         - 2026-01-04T02:00Z no rule keeps it
         + 2026-01-05T02:00Z the newest, the last good",
    );
}

#[test]
fn archives_of_one_moment_are_told_apart_by_order_then_time_then_name() {
    check(
        "daily 1, last 1",
        "2026-01-01T00:30Z name:d order:7
         2026-01-01T02:00Z name:c order:8
         2026-01-01T02:00Z name:a order:8
         2026-01-01T01:00Z name:e order:8",
        "- d no rule keeps it
         + c the newest, the last good, last (1 of 1), daily 2026-01-01 (1 of 1)
         - a no rule keeps it
         - e no rule keeps it",
    );
}

/// A snapshot and a prune each night for more than a year: what is removed one night is not missed by
/// what the rules are to keep later.
#[test]
fn a_year_of_nights_leaves_what_the_rules_say() {
    let rules = rules("daily 7, weekly 4, monthly 12");
    let first: Timestamp = "2025-01-01T02:00Z".parse().unwrap();
    let mut archives: Vec<Candidate> = Vec::new();
    for night in 0..400_i32 {
        let snapshot = first + jiff::SignedDuration::from_hours(i64::from(night) * 24);
        let mut archive = history("2025-01-01T02:00Z").remove(0);
        archive.name = snapshot.strftime("%Y-%m-%d").to_string();
        archive.order = night as u64;
        archive.snapshot = snapshot;
        archives.push(archive);
        let decisions = planned(&rules, &archives).decisions;
        let kept = archives.into_iter().zip(decisions);
        archives = kept
            .filter(|(_, decision)| decision.keep)
            .map(|(archive, _)| archive)
            .collect();
    }
    assert_text(
        &written(&planned(&rules, &archives)),
        "+ 2025-03-31 monthly 2025-03 (12 of 12)
         + 2025-04-30 monthly 2025-04 (11 of 12)
         + 2025-05-31 monthly 2025-05 (10 of 12)
         + 2025-06-30 monthly 2025-06 (9 of 12)
         + 2025-07-31 monthly 2025-07 (8 of 12)
         + 2025-08-31 monthly 2025-08 (7 of 12)
         + 2025-09-30 monthly 2025-09 (6 of 12)
         + 2025-10-31 monthly 2025-10 (5 of 12)
         + 2025-11-30 monthly 2025-11 (4 of 12)
         + 2025-12-31 monthly 2025-12 (3 of 12)
         + 2026-01-18 weekly 2026-W03 (4 of 4)
         + 2026-01-25 weekly 2026-W04 (3 of 4)
         + 2026-01-29 daily 2026-01-29 (7 of 7)
         + 2026-01-30 daily 2026-01-30 (6 of 7)
         + 2026-01-31 daily 2026-01-31 (5 of 7), monthly 2026-01 (2 of 12)
         + 2026-02-01 daily 2026-02-01 (4 of 7), weekly 2026-W05 (2 of 4)
         + 2026-02-02 daily 2026-02-02 (3 of 7)
         + 2026-02-03 daily 2026-02-03 (2 of 7)
         + 2026-02-04 the newest, the last good, daily 2026-02-04 (1 of 7), weekly 2026-W06 (1 of 4), monthly 2026-02 (1 of 12)",
    );
}
