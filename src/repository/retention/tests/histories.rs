//! Random histories: what is kept is what the oracle keeps, and what must survive does.
//!
//! `RDUMP_SOAK=1` runs a million; otherwise a sample. A history that fails is named by its seed, which
//! `RDUMP_SEED` runs alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::super::*;
use super::oracle;

/// Ends of years and weeks, days on which clocks change, a leap day, a day that Samoa never had.
const STARTS: [&str; 8] = [
    "2026-01-05T12:00Z",
    "2026-12-27T22:00Z",
    "2024-12-29T20:00Z",
    "2028-02-27T20:00Z",
    "2026-03-28T20:00Z",
    "2026-10-24T20:00Z",
    "2011-12-28T20:00Z",
    "2010-11-06T20:00Z",
];
const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
];
const SPANS: [&str; 7] = ["1h", "12h", "3d", "1w", "1m", "1m2d3h", "1y"];
/// Seconds from one archive to the next.
const PACES: [i64; 6] = [900, 3600, 20_000, 86_400, 600_000, 3_000_000];

#[derive(Debug)]
struct History {
    candidates: Vec<Candidate>,
    rules: Rules,
    complete: bool,
    force: bool,
    now: Option<Timestamp>,
}

impl History {
    fn input(&self) -> Input<'_> {
        Input {
            candidates: &self.candidates,
            rules: &self.rules,
            complete: self.complete,
            force: self.force,
            now: self.now,
        }
    }
}

struct Setting {
    starts: Vec<Timestamp>,
    zones: Vec<jiff::tz::TimeZone>,
    spans: Vec<Period>,
}

impl Setting {
    fn new() -> Setting {
        Setting {
            starts: STARTS
                .iter()
                .map(|time| time.parse().expect(time))
                .collect(),
            zones: ZONES
                .iter()
                .map(|name| time_zone(name).expect(name))
                .collect(),
            spans: SPANS.iter().map(|span| span.parse().expect(span)).collect(),
        }
    }

    fn history(&self, random: &mut StdRng) -> History {
        // most are short, where more is told by each archive
        let most = if random.random_ratio(1, 8) { 30 } else { 12 };
        let length = random.random_range(0..=most);
        let sources = random.random_range(1..=2);
        let pace = PACES[random.random_range(0..PACES.len())];
        let clocks_jump = random.random_ratio(1, 2);
        let bad_ones = random.random_range(0..4);
        let mut clock = self.starts[random.random_range(0..self.starts.len())];
        let mut order = 0;
        let mut candidates = Vec::new();
        for number in 0..length {
            let bits: u32 = random.random();
            let one_in_8 = |shift: u32| (bits >> shift) & 7 == 0;
            // some at the very ends of spans
            let step = match bits & 7 {
                0 => 0,
                1 | 2 => pace,
                _ => random.random_range(0..=2 * pace),
            };
            clock = moved(clock, step);
            let mut snapshot = clock;
            if clocks_jump && one_in_8(3) {
                snapshot = moved(clock, random.random_range(-10 * pace..=10 * pace));
                if one_in_8(6) {
                    clock = snapshot;
                }
            }
            order += u64::from(!one_in_8(9));
            let verdict = |is_bad: bool, is_good: bool| match (is_bad, is_good) {
                (true, _) => Verdict::Bad,
                (false, true) => Verdict::Good,
                (false, false) => Verdict::Unknown,
            };
            // at the limits and below them
            let share = |shift: u32, of: u64| match (bits >> shift) & 15 {
                0 => of / 2,
                1 => of / 2 - 1,
                _ => of,
            };
            let mut tags = BTreeMap::new();
            if one_in_8(24) {
                tags.insert("k".to_owned(), ["v", "w"][number % 2].to_owned());
            }
            candidates.push(Candidate {
                name: format!("{number:02}"),
                source: ["one", "two"][random.random_range(0..sources)].to_owned(),
                scope: if one_in_8(27) { "part" } else { "" }.to_owned(),
                order,
                snapshot,
                rows: share(12, 100),
                bytes: share(11, 1000 + u64::from(bits >> 31)),
                tables: 10 - u64::from(bits >> 13 & 15).saturating_sub(12),
                verified: verdict(random.random_ratio(bad_ones, 8), one_in_8(15)),
                tested: verdict(bad_ones > 0 && one_in_8(18), one_in_8(20)),
                pinned: one_in_8(22) && one_in_8(17),
                tags,
            });
        }
        candidates.shuffle(random);
        let now = match random.random_range(0..4) {
            0 => Some(moved(clock, random.random_range(-5 * pace..=5 * pace))),
            _ => None,
        };
        History {
            candidates,
            rules: self.rules(random),
            complete: random.random_ratio(15, 16),
            force: random.random_ratio(1, 2),
            now,
        }
    }

    fn rules(&self, random: &mut StdRng) -> Rules {
        let mut count = || match random.random_range(0..3) {
            0 => random.random_range(1..=5),
            _ => 0,
        };
        let [last, hourly, daily, weekly, monthly, yearly] = [(); 6].map(|()| count());
        let mut tags = Vec::new();
        if random.random_ratio(1, 6) {
            tags.push(
                ["k", "k=v", "other"][random.random_range(0..3)]
                    .parse()
                    .expect("a tag"),
            );
        }
        Rules {
            last,
            within: random
                .random_ratio(1, 4)
                .then(|| self.spans[random.random_range(0..self.spans.len())]),
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            tags,
            zone: self.zones[random.random_range(0..self.zones.len())].clone(),
            shrink: match random.random_range(0..3) {
                0 => ShrinkLimits {
                    rows: 0,
                    bytes: 0,
                    tables: 0,
                },
                1 => ShrinkLimits {
                    rows: 0,
                    bytes: 0,
                    tables: 71,
                },
                _ => ShrinkLimits::default(),
            },
        }
    }

    /// The same rules, some of them keeping more.
    fn more(&self, rules: &Rules, random: &mut StdRng) -> Rules {
        let mut rules = rules.clone();
        for count in [
            &mut rules.last,
            &mut rules.hourly,
            &mut rules.daily,
            &mut rules.weekly,
            &mut rules.monthly,
            &mut rules.yearly,
        ] {
            if random.random_ratio(1, 3) {
                *count += random.random_range(1..=2);
            }
        }
        if rules.within.is_none() {
            rules.within = Some(self.spans[random.random_range(0..self.spans.len())]);
        }
        if random.random_ratio(1, 4) {
            rules.tags.push("k".parse().expect("a tag"));
        }
        rules
    }
}

fn moved(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds))
        .expect("in range")
}

fn kept(plan: &Plan) -> BTreeSet<&str> {
    let kept = plan.decisions.iter().filter(|decision| decision.keep);
    kept.map(|decision| decision.name.as_str()).collect()
}

/// What is wrong with the plan of a history, if anything.
fn objection(setting: &Setting, seed: u64) -> Option<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let history = setting.history(&mut random);
    let input = history.input();
    let plan = decide(&input);
    let objected = |what: &str| {
        let archives: String = history
            .candidates
            .iter()
            .map(|x| format!("{x:?}\n"))
            .collect();
        let written = super::written::written(&plan);
        let rules = &history.rules;
        let History {
            complete,
            force,
            now,
            ..
        } = history;
        Some(format!(
            "RDUMP_SEED={seed}: {what}\n{archives}{rules:?}\ncomplete {complete}, force {force}, now {now:?}\n{written}"
        ))
    };
    for ((decision, candidate), wanted) in plan
        .decisions
        .iter()
        .zip(&history.candidates)
        .zip(oracle::kept(&input))
    {
        if decision.name != candidate.name || decision.keep != wanted {
            return objected(&format!("{} should be kept: {wanted}", candidate.name));
        }
        if decision.reasons.is_empty()
            || decision
                .reasons
                .iter()
                .any(|reason| reason.keeps() != decision.keep)
        {
            return objected(&format!("reasons of {}", candidate.name));
        }
    }
    let kept_names = kept(&plan);
    if let Some(lost) = lost(&history.candidates, &kept_names) {
        return objected(&format!("{lost} must survive"));
    }
    if !history.rules.is_empty() && random.random_ratio(1, 4) {
        let rules = setting.more(&history.rules, &mut random);
        let more = decide(&Input {
            rules: &rules,
            ..input.clone()
        });
        if !kept(&more).is_superset(&kept_names) {
            return objected(&format!("less is kept by {rules:?}"));
        }
    }
    if random.random_ratio(1, 4) && !clocks_jumped(&history.candidates) {
        let mut left = history.candidates.clone();
        left.retain(|candidate| kept_names.contains(candidate.name.as_str()));
        let again = decide(&Input {
            candidates: &left,
            ..input.clone()
        });
        if kept(&again) != kept_names {
            return objected("the next run removes more, though nothing happened");
        }
    }
    None
}

/// An archive that no rule may remove and that is not kept.
fn lost<'a>(all: &'a [Candidate], kept: &BTreeSet<&str>) -> Option<&'a str> {
    let is_lost = |x: &&Candidate| !kept.contains(x.name.as_str());
    if let Some(pinned) = all.iter().filter(|x| x.pinned).find(is_lost) {
        return Some(&pinned.name);
    }
    let such: [fn(&Candidate) -> bool; 4] = [
        |_| true,
        |x| x.verified != Verdict::Bad && x.tested != Verdict::Bad,
        |x| x.verified == Verdict::Good,
        |x| x.tested == Verdict::Good,
    ];
    for is_such in such {
        for source in ["one", "two"] {
            let archives = all.iter().filter(|x| x.source == source && is_such(x));
            let newest = archives.max_by_key(|x| (x.order, x.snapshot, x.name.clone()));
            if let Some(newest) = newest.filter(is_lost) {
                return Some(&newest.name);
            }
        }
    }
    None
}

fn clocks_jumped(candidates: &[Candidate]) -> bool {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| candidate.order);
    !sorted.is_sorted_by_key(|candidate| candidate.snapshot)
}

#[test]
fn random_histories_keep_what_the_definition_keeps() {
    let setting = Setting::new();
    if let Ok(seed) = std::env::var("RDUMP_SEED") {
        let objection = objection(&setting, seed.parse().expect("a number"));
        assert!(objection.is_none(), "{}", objection.unwrap_or_default());
        return;
    }
    let count: u64 = match std::env::var_os("RDUMP_SOAK") {
        Some(_) => 1_000_000,
        None => 20_000,
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        let setting = &setting;
        let all: Vec<_> = (0..threads)
            .map(|first| {
                let mut seeds = (first..count).step_by(threads as usize);
                scope.spawn(move || seeds.find_map(|seed| objection(setting, seed)))
            })
            .collect();
        for thread in all {
            let objection = thread.join().expect("a thread");
            assert!(objection.is_none(), "{}", objection.unwrap_or_default());
        }
    });
}

/// Else the comparison would show little.
#[test]
fn random_histories_are_varied() {
    let setting = Setting::new();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..2_000 {
        let history = setting.history(&mut StdRng::seed_from_u64(seed));
        for decision in decide(&history.input()).decisions {
            for reason in decision.reasons {
                let name = match &reason {
                    Reason::Bucket { unit, ahead, .. } => format!("{unit}, ahead: {ahead}"),
                    Reason::Shrunk(_) => "shrunk".to_owned(),
                    other => format!("{other:?}")
                        .split(' ')
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                };
                *seen.entry(name).or_default() += 1;
            }
        }
    }
    // 14 reasons beside the buckets, and 5 units that are ahead or not
    assert_eq!(seen.len(), 24, "{seen:#?}");
    assert!(seen.values().all(|times| *times >= 50), "{seen:#?}");
}
