//! What is never removed, whatever the rules say, and when nothing is.

use super::super::*;
use super::written::{assert_text, check, history, rules, written};

#[test]
fn without_rules_nothing_is_removed() {
    check(
        "",
        "2026-01-01T02:00Z
         2026-01-02T02:00Z",
        "+ 2026-01-01T02:00Z nothing is removed: there are no rules
         + 2026-01-02T02:00Z the newest, the last good
         shop: nothing is removed: there are no rules",
    );
}

#[test]
fn where_the_list_is_not_complete_nothing_is_removed_even_by_force() {
    let archives = history(
        "2026-01-01T02:00Z
         2026-01-02T02:00Z rows:1",
    );
    let rules = rules("last 1");
    let plan = decide(&Input {
        candidates: &archives,
        rules: &rules,
        complete: false,
        force: true,
        now: None,
    });
    assert_text(
        &written(&plan),
        "+ 2026-01-01T02:00Z nothing is removed: the list of archives is not complete
         + 2026-01-02T02:00Z the newest, the last good, last (1 of 1)
         shop: nothing is removed: the list of archives is not complete",
    );
}

#[test]
fn pins_and_the_last_good_verified_and_tested_stay() {
    check(
        "last 1",
        "2026-01-01T02:00Z pinned failed
         2026-01-02T02:00Z tested verified
         2026-01-03T02:00Z verified
         2026-01-04T02:00Z
         2026-01-05T02:00Z
         2026-01-06T02:00Z damaged",
        "+ 2026-01-01T02:00Z pinned
         + 2026-01-02T02:00Z the last restore-tested
         + 2026-01-03T02:00Z the last verified
         - 2026-01-04T02:00Z no rule keeps it
         + 2026-01-05T02:00Z the last good, last (1 of 1)
         + 2026-01-06T02:00Z the newest, bad, but none since is good",
    );
}

#[test]
fn what_one_check_found_good_and_the_other_bad_stands_in_for_no_other() {
    check(
        "last 1",
        "2026-01-01T02:00Z verified
         2026-01-02T02:00Z verified failed
         2026-01-03T02:00Z tested
         2026-01-04T02:00Z tested damaged
         2026-01-05T02:00Z",
        "+ 2026-01-01T02:00Z the last verified
         + 2026-01-02T02:00Z the last verified
         + 2026-01-03T02:00Z the last restore-tested
         + 2026-01-04T02:00Z the last restore-tested
         + 2026-01-05T02:00Z the newest, the last good, last (1 of 1)",
    );
}

#[test]
fn of_a_part_the_newest_does_not_stand_in_for_the_whole() {
    check(
        "last 1",
        "2026-01-01T02:00Z verified
         2026-01-02T02:00Z
         2026-01-03T02:00Z damaged
         2026-01-04T02:00Z scope:orders verified
         2026-01-05T02:00Z scope:orders",
        "+ 2026-01-01T02:00Z the last verified
         + 2026-01-02T02:00Z the last good
         + 2026-01-03T02:00Z the newest, bad, but none since is good
         + 2026-01-04T02:00Z the last verified
         + 2026-01-05T02:00Z the newest, the last good, last (1 of 1)",
    );
}

#[test]
fn bad_archives_take_no_place_and_go_once_a_newer_one_is_good() {
    // the good one of 4 January is kept in place of the newer bad one; 3 January has only a bad one
    check(
        "daily 3, last 2",
        "2026-01-01T02:00Z
         2026-01-02T02:00Z
         2026-01-03T02:00Z failed
         2026-01-04T02:00Z
         2026-01-04T14:00Z damaged
         2026-01-05T02:00Z
         2026-01-06T02:00Z damaged
         2026-01-07T02:00Z failed",
        "- 2026-01-01T02:00Z no rule keeps it
         + 2026-01-02T02:00Z daily 2026-01-02 (3 of 3)
         - 2026-01-03T02:00Z bad, and one since is good
         + 2026-01-04T02:00Z last (2 of 2), daily 2026-01-04 (2 of 3)
         - 2026-01-04T14:00Z bad, and one since is good
         + 2026-01-05T02:00Z the last good, last (1 of 2), daily 2026-01-05 (1 of 3)
         + 2026-01-06T02:00Z bad, but none since is good
         + 2026-01-07T02:00Z the newest, bad, but none since is good",
    );
}

#[test]
fn where_all_are_bad_all_stay() {
    check(
        "last 1, within 1d",
        "2026-01-01T02:00Z damaged
         2026-01-05T02:00Z failed",
        "+ 2026-01-01T02:00Z bad, but none since is good
         + 2026-01-05T02:00Z the newest, bad, but none since is good",
    );
}

#[test]
fn within_keeps_bad_ones_too_and_counts_from_a_good_one() {
    // from 5 January, not from the bad one of 20 January
    check(
        "within 3d",
        "2026-01-01T02:00Z
         2026-01-02T02:00Z
         2026-01-03T02:00Z damaged
         2026-01-05T02:00Z
         2026-01-20T02:00Z failed",
        "- 2026-01-01T02:00Z no rule keeps it
         + 2026-01-02T02:00Z within 3d of the newest
         + 2026-01-03T02:00Z within 3d of the newest
         + 2026-01-05T02:00Z the last good, within 3d of the newest
         + 2026-01-20T02:00Z the newest, bad, but none since is good, within 3d of the newest",
    );
}

// ----- clocks

#[test]
fn an_archive_from_the_future_makes_no_other_look_old() {
    // the clock was four years ahead on 3 January
    check(
        "within 3d",
        "2026-01-01T02:00Z
         2026-01-02T02:00Z
         2030-01-03T02:00Z
         2026-01-04T02:00Z
         2026-01-05T02:00Z",
        "- 2026-01-01T02:00Z no rule keeps it
         + 2026-01-02T02:00Z within 3d of the newest
         + 2030-01-03T02:00Z within 3d of the newest
         + 2026-01-04T02:00Z within 3d of the newest
         + 2026-01-05T02:00Z the newest, the last good, within 3d of the newest",
    );
}

#[test]
fn an_archive_from_the_future_does_not_open_the_window_for_what_came_after_it() {
    // else nothing would be removed until 2030
    check(
        "within 1d",
        "2030-01-01T02:00Z
         2026-01-02T02:00Z
         2026-01-03T02:00Z
         2026-01-05T02:00Z",
        "+ 2030-01-01T02:00Z within 1d of the newest
         - 2026-01-02T02:00Z no rule keeps it
         - 2026-01-03T02:00Z no rule keeps it
         + 2026-01-05T02:00Z the newest, the last good, within 1d of the newest",
    );
}

#[test]
fn an_archive_from_the_past_is_in_the_window_if_an_earlier_one_is() {
    // a machine that lost its clock, on 4 January
    check(
        "within 3d",
        "2026-01-01T02:00Z
         2026-01-03T02:00Z
         1970-01-01T00:00Z
         2026-01-05T02:00Z",
        "- 2026-01-01T02:00Z no rule keeps it
         + 2026-01-03T02:00Z within 3d of the newest
         + 1970-01-01T00:00Z within 3d of the newest
         + 2026-01-05T02:00Z the newest, the last good, within 3d of the newest",
    );
}

#[test]
fn while_the_newest_is_from_the_past_within_keeps_all() {
    check(
        "within 3d",
        "2025-01-01T02:00Z
         2026-01-03T02:00Z
         1970-01-01T00:00Z",
        "+ 2025-01-01T02:00Z within 3d of the newest
         + 2026-01-03T02:00Z within 3d of the newest
         + 1970-01-01T00:00Z the newest, the last good, within 3d of the newest",
    );
}

#[test]
fn a_newest_archive_from_the_future_is_found_out_by_the_clock_of_whoever_prunes() {
    let archives = history(
        "2026-01-01T02:00Z
         2026-01-03T02:00Z
         2026-01-04T02:00Z
         2030-01-05T02:00Z",
    );
    let rules = rules("within 3d");
    let plan = decide(&Input {
        candidates: &archives,
        rules: &rules,
        complete: true,
        force: false,
        now: Some("2026-01-05T02:10Z".parse().unwrap()),
    });
    assert_text(
        &written(&plan),
        "- 2026-01-01T02:00Z no rule keeps it
         + 2026-01-03T02:00Z within 3d of the newest
         + 2026-01-04T02:00Z within 3d of the newest
         + 2030-01-05T02:00Z the newest, the last good, within 3d of the newest",
    );
}

#[test]
fn days_from_the_future_take_no_places() {
    check(
        "daily 2",
        "2026-01-01T02:00Z
         2030-01-02T02:00Z
         2030-01-03T02:00Z
         2030-01-04T02:00Z
         2026-01-05T02:00Z
         2026-01-06T02:00Z",
        "- 2026-01-01T02:00Z no rule keeps it
         - 2030-01-02T02:00Z no rule keeps it
         + 2030-01-03T02:00Z daily 2030-01-03 (2 of 2, clock ahead)
         + 2030-01-04T02:00Z daily 2030-01-04 (1 of 2, clock ahead)
         + 2026-01-05T02:00Z daily 2026-01-05 (2 of 2)
         + 2026-01-06T02:00Z the newest, the last good, daily 2026-01-06 (1 of 2)",
    );
}

#[test]
fn the_newest_is_the_last_in_order_not_in_time() {
    check(
        "last 2",
        "2026-01-06T02:00Z order:1
         2026-01-05T02:00Z order:2
         2026-01-04T02:00Z order:3",
        "- 2026-01-06T02:00Z no rule keeps it
         + 2026-01-05T02:00Z last (2 of 2)
         + 2026-01-04T02:00Z the newest, the last good, last (1 of 2)",
    );
}

// ----- an archive that shrank

/// Whether such a newest archive holds back all, beside one of 100 rows, 100 bytes and 10 tables.
fn is_held(rules_text: &str, newest: &str) -> bool {
    let text = format!("2026-01-01T02:00Z\n2026-01-02T02:00Z\n2026-01-03T02:00Z {newest}");
    let plan = super::written::planned(&rules(rules_text), &history(&text));
    assert_eq!(
        plan.decisions.iter().all(|decision| decision.keep),
        !plan.held.is_empty()
    );
    !plan.held.is_empty()
}

#[test]
fn where_the_newest_shrank_nothing_of_its_source_is_removed() {
    check(
        "last 1",
        "2026-01-01T02:00Z
         2026-01-01T03:00Z source:bank
         2026-01-02T02:00Z name:before
         2026-01-02T03:00Z source:bank
         2026-01-03T02:00Z name:newest rows:49 bytes:50 tables:7",
        "+ 2026-01-01T02:00Z nothing is removed: newest has suspiciously less than before: 49 rows after 100 (below 50 %), 7 tables after 10 (below 80 %)
         - 2026-01-01T03:00Z no rule keeps it
         + before nothing is removed: newest has suspiciously less than before: 49 rows after 100 (below 50 %), 7 tables after 10 (below 80 %)
         + 2026-01-02T03:00Z the newest, the last good, last (1 of 1)
         + newest the newest, the last good, last (1 of 1)
         shop: nothing is removed: newest has suspiciously less than before: 49 rows after 100 (below 50 %), 7 tables after 10 (below 80 %)",
    );
}

#[test]
fn each_measure_has_its_limit() {
    for (rules, newest, held) in [
        ("last 1", "rows:50 bytes:50 tables:8", false),
        ("last 1", "rows:49", true),
        ("last 1", "bytes:49", true),
        ("last 1", "tables:7", true),
        ("last 1", "rows:0", true),
        ("last 1, shrink 0 50 80", "rows:0", false),
        ("last 1, shrink 50 0 80", "bytes:0", false),
        ("last 1, shrink 50 50 0", "tables:0", false),
        ("last 1, shrink 100 50 80", "rows:99", true),
        ("last 1, shrink 100 50 80", "rows:100", false),
        (
            "last 1",
            "rows:18446744073709551615 bytes:18446744073709551615",
            false,
        ),
    ] {
        assert_eq!(is_held(rules, newest), held, "{rules}: {newest}");
    }
}

#[test]
fn a_newest_archive_is_compared_with_the_last_good_one_of_its_scope() {
    // of 100 rows; those in between are of another scope, and bad
    let before = "2026-01-01T02:00Z
                  2026-01-02T02:00Z name:whole
                  2026-01-03T02:00Z scope:orders rows:10
                  2026-01-04T02:00Z damaged rows:10";
    for (newest, expected) in [
        ("rows:40", Some("whole")),
        ("rows:60", None),
        ("rows:4 scope:orders", Some("2026-01-03T02:00Z")),
        ("rows:5 scope:orders", None),
        ("rows:1 scope:customers", None),
    ] {
        let archives = history(&format!("{before}\n2026-01-05T02:00Z {newest}"));
        let plan = super::written::planned(&rules("last 1"), &archives);
        let found = match plan.held.get("shop").map(Vec::as_slice) {
            Some([Reason::Shrunk(shrink)]) => Some(shrink.before.as_str()),
            None => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{newest}");
    }
}

#[test]
fn force_removes_although_the_newest_shrank() {
    let archives = history(
        "2026-01-01T02:00Z
         2026-01-02T02:00Z rows:1",
    );
    let rules = rules("last 1");
    let plan = decide(&Input {
        candidates: &archives,
        rules: &rules,
        complete: true,
        force: true,
        now: None,
    });
    assert_text(
        &written(&plan),
        "- 2026-01-01T02:00Z no rule keeps it
         + 2026-01-02T02:00Z the newest, the last good, last (1 of 1)",
    );
}

#[test]
fn no_archives_need_no_decision() {
    let plan = super::written::planned(&rules("last 1"), &[]);
    assert_eq!((plan.decisions.len(), plan.held.len()), (0, 0));
}

#[test]
fn a_plan_is_read_by_programs_too() {
    let archives = history(
        "2026-01-01T02:00Z tag:k=v
         2026-01-02T02:00Z name:newest rows:1",
    );
    let plan = super::written::planned(&rules("daily 1, within 1d, tag k=v"), &archives);
    let shrunk = serde_json::json!({
        "reason": "shrunk",
        "newest": "newest",
        "before": "2026-01-01T02:00Z",
        "less": [{"measure": "rows", "newest": 1, "before": 100, "limit": 50}],
    });
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        serde_json::json!({
            "decisions": [
                {"name": "2026-01-01T02:00Z", "keep": true, "reasons": [
                    {"reason": "within", "span": "1d"},
                    {"reason": "tag", "tag": "k=v"},
                ]},
                {"name": "newest", "keep": true, "reasons": [
                    {"reason": "newest"},
                    {"reason": "last_good"},
                    {"reason": "within", "span": "1d"},
                    {"reason": "bucket", "unit": "daily", "bucket": "2026-01-02", "number": 1, "of": 1, "ahead": false},
                ]},
            ],
            "held": {"shop": [shrunk]},
        })
    );
}
