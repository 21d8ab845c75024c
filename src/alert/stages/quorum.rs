//! The quorum stage: counts how many locations of a scenario vote bad, and whether they are enough. Pure.
//!
//! Each location has one vote, its last conclusive run. The vote is valid until three due times of the scenario have
//! passed since, and for five minutes at least. So a removed or renamed location does not vote forever, a missed or
//! unknown run does not remove a vote, and a schedule that pauses at night or over a weekend does not remove any
//! either.
//!
//! The threshold n of m counts rounds instead of runs. A round is bad as soon as enough locations have voted bad since
//! the previous round, and good as soon as so many have voted good that the others are too few. So `alert.after: 2`
//! requires two votes of each location, and one bad run of a location is never counted again together with the next run
//! of another location that stays bad. While only one location reports, each of its runs is a round.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::alert::conclusive_verdict::ConclusiveVerdict;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{Decision, DecisionReason};
use crate::outcome::Outcome;
use crate::scenario::{AlertPolicy, Scenario};

/// Number of due times without a conclusive run after which a location no longer votes.
const ROUNDS: u32 = 3;
/// Minimum lifetime of a vote, whatever the schedule is, so that an agent may restart.
const LEAST: TimeDelta = TimeDelta::minutes(5);
/// Maximum number of stored locations. Beyond it, the location that has been silent for longest is dropped.
const MOST: usize = 64;

/// Last conclusive verdict of each location, the one that has been silent for longest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocationVotes(Vec<LocationVote>);

/// Last conclusive run of a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LocationVote {
    location: Box<str>,
    mark: ConclusiveVerdict,
    /// End of the run.
    at: DateTime<Utc>,
    /// Whether no round has counted the vote yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fresh: bool,
}

impl LocationVote {
    /// Returns whether the vote is too old to count.
    fn is_old(&self, scenario: &Scenario, now: DateTime<Utc>) -> bool {
        if now - self.at < LEAST {
            return false;
        }
        let due = |after| scenario.schedule.next_after(&scenario.id.value, after);
        let due = (1..ROUNDS).fold(due(self.at), |last, _| last.and_then(due));
        due.is_none_or(|due| due <= now)
    }
}

impl Timers for LocationVotes {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.0.iter_mut().for_each(|seen| visit(Timer::Since(&mut seen.at)));
    }
}

impl LocationVotes {
    /// Stores the vote of a location and drops votes that are too old.
    pub fn report(&mut self, scenario: &Scenario, outcome: &Outcome, mark: ConclusiveVerdict) {
        let now = outcome.ended_at;
        match self.0.iter().position(|seen| *seen.location == *outcome.location) {
            Some(at) => {
                self.0[at..].rotate_left(1);
                if let Some(seen) = self.0.last_mut() {
                    (seen.mark, seen.at, seen.fresh) = (mark, now, true);
                }
            }
            None => {
                self.0.push(LocationVote { location: outcome.location.as_str().into(), mark, at: now, fresh: true });
            }
        }
        let old = self.0.iter().take_while(|seen| seen.is_old(scenario, now)).count();
        self.0.drain(..old.max(self.0.len().saturating_sub(MOST)));
    }

    /// Removes the vote of a location that no longer exists. Returns whether it had one.
    pub fn forget(&mut self, location: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|seen| *seen.location != *location);
        self.0.len() < before
    }

    /// Counts the votes after a run. Returns `None` if at most one location reports, whose verdict then counts alone.
    pub fn vote(&mut self, policy: &AlertPolicy, quorum: Option<u32>, is_bad: bool) -> Option<QuorumResult> {
        let reported = self.0.len();
        if reported < 2 {
            self.count();
            return None;
        }
        let mut bad: Vec<&str> =
            self.0.iter().filter(|seen| seen.mark.is_bad(policy)).map(|seen| &*seen.location).collect();
        bad.sort_unstable();
        // A location that is silent must not prevent a decision of the others.
        let needed = quorum.map_or(reported / 2 + 1, |quorum| reported.min(quorum as usize));
        let enough = if is_bad { needed } else { reported + 1 - needed };
        let votes = || self.0.iter().filter(|seen| seen.fresh && seen.mark.is_bad(policy) == is_bad);
        let round = votes().map(|seen| seen.mark).max().filter(|_| votes().count() >= enough);
        let vote = QuorumResult { bad: bad.len(), places: bad.join(", "), reported, needed, round };
        if vote.round.is_some() {
            self.count();
        }
        Some(vote)
    }

    /// Marks all votes as counted at the end of a round.
    fn count(&mut self) {
        for seen in &mut self.0 {
            seen.fresh = false;
        }
    }
}

/// Result of a vote of several locations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumResult {
    /// Number of locations that vote bad.
    pub bad: usize,
    /// Names of these locations, sorted and joined with `, `.
    pub places: String,
    reported: usize,
    needed: usize,
    /// Worst verdict of the votes that completed a round, or `None` if the round continues.
    pub round: Option<ConclusiveVerdict>,
}

impl QuorumResult {
    /// Returns whether the quorum of bad votes is reached.
    pub fn is_bad(&self) -> bool {
        self.bad >= self.needed
    }

    /// Adds the bad votes to a decision. A good result because of too few bad votes gets the reason `quorum`.
    pub fn explain(&self, decision: &mut Decision) {
        if self.bad == 0 {
            return;
        }
        if decision.reason == DecisionReason::Good {
            (decision.reason, decision.detail) = (DecisionReason::Quorum, self.to_string());
        } else {
            decision.detail = format!("{}; {self}", decision.detail);
        }
    }
}

impl fmt::Display for QuorumResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bad, places, reported, needed, .. } = self;
        let only = if self.is_bad() { "" } else { " only" };
        write!(f, "bad at {places}{only}: {bad} of {reported} locations, {needed} needed")
    }
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
