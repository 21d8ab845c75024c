//! The stage of the quorum: how many of the locations that look at a scenario see it bad, and whether they are enough.
//! Pure.
//!
//! Each location has a vote, its last conclusive run, for as long as that is recent: until three of the scenario's due
//! times have come since, five minutes at least. So one that is gone or was renamed does not vote for ever, a run that is
//! missed or unknown takes nobody's vote, and a schedule that rests at night or over a weekend forgets nobody.
//!
//! What n of m counts are not runs but rounds: a round is bad as soon as enough locations have voted so since the round
//! before, and good as soon as so many have that the others are too few. So `alert.after: 2` asks each of them twice, and
//! one bad run of one location is never counted again with the next of another that stays bad. While one location
//! reports, each of its runs is a round.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::machine::Mark;
use super::timers::{Timer, Timers};
use crate::incident::{Decision, Why};
use crate::outcome::Outcome;
use crate::scenario::{AlertPolicy, Scenario};

/// So many due times without a conclusive run, and a location no longer votes.
const ROUNDS: u32 = 3;
/// It votes for so long whatever the schedule is: an agent that restarts is still there.
const LEAST: TimeDelta = TimeDelta::minutes(5);
/// So many locations are remembered; one more, and the one that has been silent for longest is forgotten.
const MOST: usize = 64;

/// What each location saw last, the one that has been silent for longest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Locations(Vec<Seen>);

/// The last conclusive run of a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    location: Box<str>,
    mark: Mark,
    /// When it ended.
    at: DateTime<Utc>,
    /// Whether no round has counted it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fresh: bool,
}

impl Seen {
    /// Whether it is too long ago to count by now.
    fn is_old(&self, scenario: &Scenario, now: DateTime<Utc>) -> bool {
        if now - self.at < LEAST {
            return false;
        }
        let due = |after| scenario.schedule.next_after(&scenario.id.value, after);
        let due = (1..ROUNDS).fold(due(self.at), |last, _| last.and_then(due));
        due.is_none_or(|due| due <= now)
    }
}

impl Timers for Locations {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.0.iter_mut().for_each(|seen| visit(Timer::Since(&mut seen.at)));
    }
}

impl Locations {
    /// A location saw this. Those that have been silent for too long are forgotten.
    pub fn report(&mut self, scenario: &Scenario, outcome: &Outcome, mark: Mark) {
        let now = outcome.ended_at;
        match self.0.iter().position(|seen| *seen.location == *outcome.location) {
            Some(at) => {
                self.0[at..].rotate_left(1);
                if let Some(seen) = self.0.last_mut() {
                    (seen.mark, seen.at, seen.fresh) = (mark, now, true);
                }
            }
            None => self.0.push(Seen { location: outcome.location.as_str().into(), mark, at: now, fresh: true }),
        }
        let old = self.0.iter().take_while(|seen| seen.is_old(scenario, now)).count();
        self.0.drain(..old.max(self.0.len().saturating_sub(MOST)));
    }

    /// A location is gone: it has no vote any longer.
    pub fn forget(&mut self, location: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|seen| *seen.location != *location);
        self.0.len() < before
    }

    /// How they vote, after a run that was bad or not. None: no more than one reports, and its word counts.
    pub fn vote(&mut self, policy: &AlertPolicy, quorum: Option<u32>, is_bad: bool) -> Option<Vote> {
        let reported = self.0.len();
        if reported < 2 {
            self.count();
            return None;
        }
        let mut bad: Vec<&str> =
            self.0.iter().filter(|seen| seen.mark.is_bad(policy)).map(|seen| &*seen.location).collect();
        bad.sort_unstable();
        // A location that is silent must not make the others blind.
        let needed = quorum.map_or(reported / 2 + 1, |quorum| reported.min(quorum as usize));
        let enough = if is_bad { needed } else { reported + 1 - needed };
        let votes = || self.0.iter().filter(|seen| seen.fresh && seen.mark.is_bad(policy) == is_bad);
        let round = votes().map(|seen| seen.mark).max().filter(|_| votes().count() >= enough);
        let vote = Vote { bad: bad.len(), places: bad.join(", "), reported, needed, round };
        if vote.round.is_some() {
            self.count();
        }
        Some(vote)
    }

    /// A round is over.
    fn count(&mut self) {
        for seen in &mut self.0 {
            seen.fresh = false;
        }
    }
}

/// How several locations vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// So many see it bad.
    pub bad: usize,
    /// Which: sorted, with `, ` between them.
    pub places: String,
    reported: usize,
    needed: usize,
    /// The worst that those saw who ended a round with this; none: it goes on.
    pub round: Option<Mark>,
}

impl Vote {
    /// Whether it is bad by this vote.
    pub fn is_bad(&self) -> bool {
        self.bad >= self.needed
    }

    /// Adds to a decision who sees it bad. What is good but for too few of them is not told for this reason.
    pub fn explain(&self, decision: &mut Decision) {
        if self.bad == 0 {
            return;
        }
        if decision.why == Why::Good {
            (decision.why, decision.detail) = (Why::Quorum, self.to_string());
        } else {
            decision.detail = format!("{}; {self}", decision.detail);
        }
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bad, places, reported, needed, .. } = self;
        let only = if self.is_bad() { "" } else { " only" };
        write!(f, "bad from {places}{only}: {bad} of {reported} locations, {needed} needed")
    }
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
