//! Histories, rules and plans as text, so that a test shows all that it is about.

use std::collections::BTreeMap;

use super::super::*;

/// An archive a line, in the order in which they were made: its time, which is its name too, then what is
/// special about it (`name:x`, `source:x`, `scope:x`, `order:7`, `rows:5`, `bytes:5`, `tables:5`, `tag:k=v`, `pinned`,
/// `verified`, `damaged`, `tested`, `failed`). Else it has 100 rows, 100 bytes and 10 tables.
pub fn history(text: &str) -> Vec<Candidate> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .zip(1..)
        .map(|(line, order)| candidate(line, order))
        .collect()
}

fn candidate(line: &str, order: u64) -> Candidate {
    let mut words = line.split_whitespace();
    let time = words.next().expect("a time");
    let mut candidate = Candidate {
        name: time.to_owned(),
        source: "shop".to_owned(),
        scope: String::new(),
        order,
        snapshot: time.parse().expect(time),
        rows: 100,
        bytes: 100,
        tables: 10,
        verified: Verdict::Unknown,
        tested: Verdict::Unknown,
        pinned: false,
        tags: BTreeMap::new(),
    };
    for word in words {
        let (what, value) = word.split_once(':').unwrap_or((word, ""));
        let number = || value.parse().expect(word);
        match what {
            "name" => candidate.name = value.to_owned(),
            "source" => candidate.source = value.to_owned(),
            "scope" => candidate.scope = value.to_owned(),
            "order" => candidate.order = number(),
            "rows" => candidate.rows = number(),
            "bytes" => candidate.bytes = number(),
            "tables" => candidate.tables = number(),
            "tag" => {
                let (key, value) = value.split_once('=').expect(word);
                candidate.tags.insert(key.to_owned(), value.to_owned());
            }
            "pinned" => candidate.pinned = true,
            "verified" => candidate.verified = Verdict::Good,
            "damaged" => candidate.verified = Verdict::Bad,
            "tested" => candidate.tested = Verdict::Good,
            "failed" => candidate.tested = Verdict::Bad,
            _ => panic!("{word}"),
        }
    }
    candidate
}

/// Rules with commas between them: `daily 7, within 30d, zone Europe/Berlin, shrink 50 50 80`.
pub fn rules(text: &str) -> Rules {
    let mut rules = Rules::default();
    for rule in text
        .split(',')
        .map(str::trim)
        .filter(|rule| !rule.is_empty())
    {
        let (what, value) = rule.split_once(' ').expect(rule);
        let number = || value.parse().expect(rule);
        match what {
            "last" => rules.last = number(),
            "within" => rules.within = Some(value.parse().expect(rule)),
            "hourly" => rules.hourly = number(),
            "daily" => rules.daily = number(),
            "weekly" => rules.weekly = number(),
            "monthly" => rules.monthly = number(),
            "yearly" => rules.yearly = number(),
            "tag" => rules.tags.push(value.parse().expect(rule)),
            "zone" => rules.zone = time_zone(value).expect(rule),
            "shrink" => {
                let limits: Vec<u8> = value
                    .split(' ')
                    .map(|limit| limit.parse().expect(rule))
                    .collect();
                rules.shrink = ShrinkLimits {
                    rows: limits[0],
                    bytes: limits[1],
                    tables: limits[2],
                };
            }
            _ => panic!("{rule}"),
        }
    }
    rules
}

/// The plan, where the list is complete and nothing is forced.
pub fn planned(rules: &Rules, candidates: &[Candidate]) -> Plan {
    decide(&Input {
        candidates,
        rules,
        complete: true,
        force: false,
        now: None,
    })
}

/// What becomes of a history: `+` is kept, `-` goes.
#[track_caller]
pub fn check(rules_text: &str, history_text: &str, expected: &str) {
    let plan = planned(&rules(rules_text), &history(history_text));
    assert_text(&written(&plan), expected);
}

pub fn written(plan: &Plan) -> String {
    let mut text = String::new();
    for decision in &plan.decisions {
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        let sign = if decision.keep { '+' } else { '-' };
        text.push_str(&format!(
            "{sign} {} {}\n",
            decision.name,
            reasons.join(", ")
        ));
    }
    for (source, reasons) in &plan.held {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        text.push_str(&format!("{source}: {}\n", reasons.join(", ")));
    }
    text
}

/// Without regard to how the expected text is indented.
#[track_caller]
pub fn assert_text(actual: &str, expected: &str) {
    let lines = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let expected: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(actual == expected, "is\n{actual}\nshould be\n{expected}");
}
