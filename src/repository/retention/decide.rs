//! The decision: what the rules keep of each source, and what nothing may remove.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, Zoned};

use super::buckets::{Unit, newest_of_each};
use super::rules::Rules;
use super::shrink::shrink;
use super::{Candidate, Decision, Input, Plan, Reason, Verdict};

/// Decides for every candidate. Reads no clock and no repository.
pub fn decide(input: &Input<'_>) -> Plan {
    let mut sources: BTreeMap<&str, Vec<(usize, &Candidate)>> = BTreeMap::new();
    for (at, candidate) in input.candidates.iter().enumerate() {
        let archives = sources.entry(&candidate.source).or_default();
        archives.push((at, candidate));
    }
    let mut decisions = Vec::with_capacity(input.candidates.len());
    let mut held = BTreeMap::new();
    for (source, mut archives) in sources {
        archives.sort_by_key(|(_, archive)| archive.position());
        let (places, archives): (Vec<usize>, Vec<&Candidate>) = archives.into_iter().unzip();
        let holds = holds(input, &archives);
        let reasons = History::new(&archives).reasons(input);
        for ((at, archive), mut reasons) in places.into_iter().zip(&archives).zip(reasons) {
            if reasons.is_empty() {
                reasons = match (holds.is_empty(), archive.is_bad()) {
                    (false, _) => holds.clone(),
                    (true, true) => vec![Reason::Bad],
                    (true, false) => vec![Reason::NoRule],
                };
            }
            let decision = Decision {
                name: archive.name.clone(),
                keep: reasons.iter().any(Reason::keeps),
                reasons,
            };
            decisions.push((at, decision));
        }
        if !holds.is_empty() {
            held.insert(source.to_owned(), holds);
        }
    }
    decisions.sort_by_key(|(at, _)| *at);
    Plan {
        decisions: decisions
            .into_iter()
            .map(|(_, decision)| decision)
            .collect(),
        held,
    }
}

/// Why nothing of a source may be removed, if so.
fn holds(input: &Input<'_>, archives: &[&Candidate]) -> Vec<Reason> {
    let mut holds = Vec::new();
    if input.rules.is_empty() {
        holds.push(Reason::NoRules);
    }
    if !input.complete {
        holds.push(Reason::Incomplete);
    }
    if !input.force {
        holds.extend(shrink(archives, input.rules.shrink).map(Reason::Shrunk));
    }
    holds
}

/// The archives of one source, in the order in which they were made, with what keeps them.
struct History<'a> {
    archives: Vec<Archive<'a>>,
}

struct Archive<'a> {
    candidate: &'a Candidate,
    bad: bool,
    /// Its time is later than that of one made after it: one of their clocks was wrong, and nobody
    /// knows whose.
    ahead: bool,
    reasons: Vec<Reason>,
}

impl<'a> History<'a> {
    fn new(candidates: &[&'a Candidate]) -> History<'a> {
        let mut earliest_since = Timestamp::MAX;
        let mut archives: Vec<Archive<'a>> = candidates
            .iter()
            .rev()
            .map(|candidate| {
                let ahead = candidate.snapshot > earliest_since;
                earliest_since = earliest_since.min(candidate.snapshot);
                Archive {
                    candidate,
                    bad: candidate.is_bad(),
                    ahead,
                    reasons: Vec::new(),
                }
            })
            .collect();
        archives.reverse();
        History { archives }
    }

    /// What keeps each, besides a hold.
    fn reasons(mut self, input: &Input<'_>) -> impl Iterator<Item = Vec<Reason>> {
        let rules = input.rules;
        self.protect();
        self.keep_last(rules.last);
        self.keep_within(rules, input.now);
        self.keep_buckets(rules);
        self.keep_tags(rules);
        self.archives.into_iter().map(|archive| archive.reasons)
    }

    /// What nothing removes.
    fn protect(&mut self) {
        for archive in &mut self.archives {
            if archive.candidate.pinned {
                archive.reasons.push(Reason::Pinned);
            }
        }
        let verified = |archive: &Archive| archive.candidate.verified == Verdict::Good;
        let tested = |archive: &Archive| archive.candidate.tested == Verdict::Good;
        self.protect_newest(Reason::Newest, |_| true);
        self.protect_newest(Reason::LastGood, |archive| !archive.bad);
        // one that a check found good and a restore test bad, or the other way round, is worth
        // keeping, but does not stand in for one with nothing against it
        self.protect_newest(Reason::LastVerified, verified);
        self.protect_newest(Reason::LastVerified, |archive| {
            verified(archive) && !archive.bad
        });
        self.protect_newest(Reason::LastTested, tested);
        self.protect_newest(Reason::LastTested, |archive| {
            tested(archive) && !archive.bad
        });

        let mut good_since = BTreeSet::new();
        for archive in self.archives.iter_mut().rev() {
            if !archive.bad {
                good_since.insert(archive.candidate.scope.as_str());
            } else if !good_since.contains(archive.candidate.scope.as_str()) {
                archive.reasons.push(Reason::NoneGoodSince);
            }
        }
    }

    /// Gives the reason to the newest such archive of each scope.
    fn protect_newest(&mut self, reason: Reason, is_such: impl Fn(&Archive) -> bool) {
        let mut seen = BTreeSet::new();
        for archive in self.archives.iter_mut().rev() {
            if is_such(archive)
                && seen.insert(archive.candidate.scope.as_str())
                && !archive.reasons.contains(&reason)
            {
                archive.reasons.push(reason.clone());
            }
        }
    }

    fn good(&mut self) -> impl DoubleEndedIterator<Item = &mut Archive<'a>> {
        self.archives.iter_mut().filter(|archive| !archive.bad)
    }

    fn keep_last(&mut self, of: u32) {
        for (number, archive) in (1..=of).zip(self.good().rev()) {
            archive.reasons.push(Reason::Last { number, of });
        }
    }

    /// Bad ones too: nothing is counted here, so they take nobody's place.
    fn keep_within(&mut self, rules: &Rules, now: Option<Timestamp>) {
        let Some(span) = rules.within else { return };
        let Some(newest) = self
            .good()
            .next_back()
            .map(|newest| newest.candidate.snapshot)
        else {
            return;
        };
        // a newest archive from the future must not make all others look old
        let counted_from = now.map_or(newest, |now| now.min(newest));
        let limit = span.before(counted_from, &rules.zone);
        let mut began = false;
        for archive in &mut self.archives {
            let snapshot = archive.candidate.snapshot;
            let is_inside = limit.is_none_or(|limit| snapshot >= limit);
            // What was made after one in the window is in it as well, whatever its own clock says.
            // A time later than the newest one's shows nothing: it is that clock which was wrong.
            began |= is_inside && snapshot <= newest;
            if is_inside || began {
                archive.reasons.push(Reason::Within { span });
            }
        }
    }

    /// Those whose time is ahead are counted apart, so that neither they take the places of others
    /// nor the others theirs.
    fn keep_buckets(&mut self, rules: &Rules) {
        if Unit::ALL.iter().all(|unit| rules.count(*unit) == 0) {
            return;
        }
        for is_ahead in [false, true] {
            let moments: Vec<(&mut Archive, Zoned)> = self
                .good()
                .filter(|archive| archive.ahead == is_ahead)
                .map(|archive| {
                    let moment = archive.candidate.snapshot.to_zoned(rules.zone.clone());
                    (archive, moment)
                })
                .collect();
            let (mut archives, moments): (Vec<_>, Vec<_>) = moments.into_iter().unzip();
            for unit in Unit::ALL {
                let of = rules.count(unit);
                if of == 0 {
                    continue;
                }
                let all = archives.iter_mut().zip(&moments);
                let all = all.map(|(archive, moment)| ((archive, moment), moment));
                let kept = newest_of_each(unit, all);
                for (number, (archive, moment)) in (1..=of).zip(kept) {
                    archive.reasons.push(Reason::Bucket {
                        unit,
                        bucket: unit.label(moment),
                        number,
                        of,
                        ahead: is_ahead,
                    });
                }
            }
        }
    }

    fn keep_tags(&mut self, rules: &Rules) {
        for archive in &mut self.archives {
            let matching = rules
                .tags
                .iter()
                .filter(|tag| tag.matches(&archive.candidate.tags));
            let reasons = matching.map(|tag| Reason::Tag { tag: tag.clone() });
            archive.reasons.extend(reasons);
        }
    }
}
