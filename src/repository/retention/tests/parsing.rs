//! How spans, tags and zones are written.

use super::super::*;
use super::written::rules;

#[test]
fn spans_are_numbers_with_units() {
    for (text, written) in [
        ("30d", "30d"),
        ("2w", "2w"),
        ("6m", "6m"),
        ("1y", "1y"),
        ("12h", "12h"),
        ("1y6m", "1y6m"),
        ("6m1y", "1y6m"),
        ("1y2m3w4d5h", "1y2m3w4d5h"),
        (" 007d ", "7d"),
        ("0y1d", "1d"),
    ] {
        let period: Period = text.parse().expect(text);
        assert_eq!(period.to_string(), written);
        assert_eq!(written.parse::<Period>().expect(written), period);
    }
}

#[test]
fn what_is_no_span_is_refused_with_what_is_wrong() {
    for (text, expected) in [
        ("", "invalid span \"\": it is empty"),
        ("  ", "invalid span \"  \": it is empty"),
        ("30", "invalid span \"30\": the last number has no unit"),
        ("1y30", "invalid span \"1y30\": the last number has no unit"),
        ("d", "invalid span \"d\": no number before \"d\""),
        ("-3d", "invalid span \"-3d\": \"-\" is no unit"),
        ("3 d", "invalid span \"3 d\": \" \" is no unit"),
        ("3M", "invalid span \"3M\": \"M\" is no unit"),
        ("30s", "invalid span \"30s\": \"s\" is no unit"),
        ("1.5d", "invalid span \"1.5d\": \".\" is no unit"),
        ("٣d", "invalid span \"٣d\": \"٣\" is no unit"),
        (
            "1d2d",
            "invalid span \"1d2d\": the unit \"d\" is there twice",
        ),
        ("0d", "invalid span \"0d\": it is no time at all"),
        ("99999y", "invalid span \"99999y\": 99999y is too long"),
        (
            "99999999999999999999d",
            "invalid span \"99999999999999999999d\": 99999999999999999999d is too long",
        ),
    ] {
        let error = text.parse::<Period>().expect_err(text);
        assert_eq!(error.to_string(), expected);
        assert!(error.hint_text().is_some_and(|hint| hint.contains("1y6m")));
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn a_tag_has_a_name_and_perhaps_a_value() {
    let tags = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    for (text, matches) in [
        ("env", true),
        ("env=prod", true),
        ("env=", false),
        ("env=pro", false),
        ("prod", false),
        ("en", false),
    ] {
        let rule: TagRule = text.parse().expect(text);
        assert_eq!(rule.to_string(), text);
        assert_eq!(rule.matches(&tags), matches, "{text}");
    }
    assert!("=prod".parse::<TagRule>().is_err());
    assert!("".parse::<TagRule>().is_err());
    let rule: TagRule = "a=b=c".parse().expect("a tag");
    assert_eq!(
        (rule.key.as_str(), rule.value.as_deref()),
        ("a", Some("b=c"))
    );
}

#[test]
fn a_zone_is_known_by_its_name() {
    assert_eq!(
        time_zone("Europe/Berlin").unwrap().iana_name(),
        Some("Europe/Berlin")
    );
    assert!(time_zone("Europe/Rdump").is_err());
    assert!(time_zone("").is_err());
}

#[test]
fn rules_that_ask_for_nothing_are_empty() {
    assert!(Rules::default().is_empty());
    assert!(rules("daily 0, zone Europe/Berlin, shrink 1 2 3").is_empty());
    for rule in [
        "last 1",
        "within 1h",
        "hourly 1",
        "daily 1",
        "weekly 1",
        "monthly 1",
        "yearly 1",
        "tag k",
    ] {
        assert!(!rules(rule).is_empty(), "{rule}");
    }
}
