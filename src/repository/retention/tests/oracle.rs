//! What is kept, by definition: for each archive a question to all others. Written apart from the
//! code that it judges, and with a calendar of its own.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::*;

/// The hour (by its first second), day, week, month and year of a moment, each as one number.
fn calendar(moment: Timestamp, zone: &TimeZone) -> [i64; 5] {
    let offset = i64::from(zone.to_offset(moment).seconds());
    let seconds = moment.as_nanosecond().div_euclid(1_000_000_000) as i64 + offset;
    let day = seconds.div_euclid(86_400);
    // the first day of the epoch was a Thursday
    let week = (day + 3).div_euclid(7);
    let (mut year, mut first) = (1970, 0);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while day < first {
        year -= 1;
        first -= 365 + i64::from(leap(year));
    }
    while day >= first + 365 + i64::from(leap(year)) {
        first += 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < first + length {
            break;
        }
        first += length;
        month += 1;
    }
    let hour = seconds.div_euclid(3600) * 3600 - offset;
    [hour, day, week, year * 12 + month, year]
}

/// For each candidate, whether it is to be kept.
pub fn kept(input: &Input<'_>) -> Vec<bool> {
    let calendars: Vec<[i64; 5]> = input
        .candidates
        .iter()
        .map(|x| calendar(x.snapshot, &input.rules.zone))
        .collect();
    let all: Vec<Known> = input.candidates.iter().zip(calendars).collect();
    all.iter().map(|x| keeps(input, &all, x)).collect()
}

type Known<'a> = (&'a Candidate, [i64; 5]);

fn after(x: &Candidate, y: &Candidate) -> bool {
    if x.order != y.order {
        return x.order > y.order;
    }
    if x.snapshot != y.snapshot {
        return x.snapshot > y.snapshot;
    }
    x.name > y.name
}

fn good(x: &Candidate) -> bool {
    x.verified != Verdict::Bad && x.tested != Verdict::Bad
}

fn keeps(input: &Input<'_>, all: &[Known], (x, its_calendar): &Known) -> bool {
    let rules = input.rules;
    let counts = [
        rules.hourly,
        rules.daily,
        rules.weekly,
        rules.monthly,
        rules.yearly,
    ];
    let no_rules =
        rules.last == 0 && rules.within.is_none() && counts == [0; 5] && rules.tags.is_empty();
    let is_peer = |y: &&Known| y.0.source == x.source;
    let peers = || all.iter().filter(is_peer).map(|known| known.0);
    if no_rules || !input.complete || x.pinned || (!input.force && shrank(input, peers)) {
        return true;
    }

    let none_after = |such: &dyn Fn(&Candidate) -> bool| {
        such(x) && !peers().any(|y| y.scope == x.scope && after(y, x) && such(y))
    };
    let verified = |y: &Candidate| y.verified == Verdict::Good;
    let tested = |y: &Candidate| y.tested == Verdict::Good;
    if none_after(&|_| true)
        || none_after(&good)
        || none_after(&verified)
        || none_after(&tested)
        || none_after(&|y| verified(y) && good(y))
        || none_after(&|y| tested(y) && good(y))
        || !good(x) && !peers().any(|y| y.scope == x.scope && after(y, x) && good(y))
    {
        return true;
    }

    for rule in &rules.tags {
        let has = |(key, value): (&String, &String)| {
            *key == rule.key && rule.value.as_ref().is_none_or(|wanted| wanted == value)
        };
        if x.tags.iter().any(has) {
            return true;
        }
    }
    if within(input, peers, x) {
        return true;
    }
    if !good(x) {
        return false;
    }
    if (peers().filter(|y| good(y) && after(y, x)).count() as u64) < u64::from(rules.last) {
        return true;
    }

    let ahead = |y: &Candidate| peers().any(|z| after(z, y) && z.snapshot < y.snapshot);
    let x_is_ahead = ahead(x);
    let rivals: Vec<&Known> = all
        .iter()
        .filter(is_peer)
        .filter(|(y, _)| good(y) && ahead(y) == x_is_ahead)
        .collect();
    (0..5).any(|unit| {
        let mine = its_calendar[unit];
        let mut later: Vec<i64> = rivals
            .iter()
            .map(|(_, theirs)| theirs[unit])
            .filter(|theirs| *theirs > mine)
            .collect();
        later.sort_unstable();
        later.dedup();
        (later.len() as u64) < u64::from(counts[unit])
            && !rivals
                .iter()
                .any(|(y, theirs)| theirs[unit] == mine && after(y, x))
    })
}

/// The newest has too little beside the next good one of its scope.
fn shrank<'a, I: Iterator<Item = &'a Candidate>>(input: &Input<'_>, peers: impl Fn() -> I) -> bool {
    let newest = peers().find(|y| !peers().any(|z| after(z, y)));
    let Some(newest) = newest else { return false };
    let comparable = || peers().filter(|y| y.scope == newest.scope && good(y) && after(newest, y));
    let before = comparable().find(|y| !comparable().any(|z| after(z, y)));
    let Some(before) = before else { return false };
    let limits = input.rules.shrink;
    let less = |now: u64, then: u64, limit: u8| {
        limit > 0 && then > 0 && (now as f64) / (then as f64) < f64::from(limit) / 100.0
    };
    less(newest.rows, before.rows, limits.rows)
        || less(newest.bytes, before.bytes, limits.bytes)
        || less(newest.tables, before.tables, limits.tables)
}

fn within<'a, I: Iterator<Item = &'a Candidate>>(
    input: &Input<'_>,
    peers: impl Fn() -> I,
    x: &Candidate,
) -> bool {
    let Some(period) = input.rules.within else {
        return false;
    };
    let newest = peers().find(|y| good(y) && !peers().any(|z| good(z) && after(z, y)));
    let Some(newest) = newest else { return false };
    let from = match input.now {
        Some(now) if now < newest.snapshot => now,
        _ => newest.snapshot,
    };
    let Some(limit) = period.before(from, &input.rules.zone) else {
        return true;
    };
    x.snapshot >= limit
        || peers().any(|y| after(x, y) && y.snapshot >= limit && y.snapshot <= newest.snapshot)
}
