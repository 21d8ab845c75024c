//! State of one scenario, as plain data: updated by outcomes, read by scrapes.
//!
//! A counter that appears between two scrapes is first exported with its initial value, so that `rate` and `increase`
//! include its first increase. For this purpose each counter stores the number of the scrape after which it appeared.

use chrono::{DateTime, Utc};

use crate::names::Reason;
use crate::names::metric::Detail;
use crate::outcome::{HttpResult, Outcome, PageTiming, Phases, RunId, StepResult, StepStatus, Verdict};
use crate::scenario::{Scenario, Vital};

use super::histogram::Histogram;

/// Number of series that every scenario has after its first run: its info, success, verdict and duration, and the times
/// of its last run and last success.
const BASIC_GAUGES: usize = 6;
/// Same number at `full`, where each of the four verdicts is a series.
const FULL_GAUGES: usize = BASIC_GAUGES + 3;
/// Number of series of the histogram: its buckets (including the one without a bound), sum and count.
const HISTOGRAM_SERIES: usize = crate::names::metric::DURATION_BUCKETS.len() + 3;

/// State of one scenario.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Last run, including one from before this process.
    pub last: Option<Last>,
    /// Whether the last conclusive run did not fail.
    pub success: Option<bool>,
    /// Time of the last success, in seconds since 1970.
    pub last_success_at: Option<f64>,
    /// Number of runs by the code of the verdict.
    pub runs: [Count; Verdict::ALL.len()],
    /// Number of runs by reason, most recent reason first.
    pub reasons: Vec<ReasonCount>,
    /// Last run of each verdict that has a reason.
    examples: Vec<(Verdict, Example)>,
    /// Remaining share of the error budget.
    pub budget: Option<f64>,
    /// Certificate that expires first: the position of its step in the scenario, and the expiry time in seconds since
    /// 1970.
    pub certificate: Option<(usize, f64)>,
    /// Part exported only at `full`.
    pub full: Option<Box<Full>>,
    /// Whether the excess of series has been logged already.
    pub is_over_budget: bool,
}

/// Last run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub verdict: Verdict,
    /// Whether the run was counted by this process.
    is_counted: bool,
    pub example: Example,
}

/// Exemplar: a run that represents the value of a counter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Example {
    /// Id of the run, which is also its trace id.
    pub run: RunId,
    /// Duration in seconds.
    pub seconds: f64,
    /// End of the run, in seconds since 1970.
    pub at: f64,
}

/// Counter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub total: u32,
    /// Number of the scrape after which the counter appeared.
    pub since: u32,
}

/// Number of runs with one reason.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReasonCount {
    pub reason: Reason,
    pub count: Count,
    /// Value of the counter before it appeared as a series.
    pub before: u32,
}

/// Part of the state exported only at `full`.
#[derive(Debug, Clone)]
pub(super) struct Full {
    pub histogram: Histogram,
    /// Number of the scrape after which it began.
    pub since: u32,
    /// Start time in seconds since 1970.
    pub created_at: f64,
    pub steps: Vec<Step>,
}

/// Step in the last run that reached it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub name: Box<str>,
    pub success: bool,
    /// Duration in seconds.
    pub duration: f64,
    pub status_code: Option<u16>,
    pub phases: Option<Phases>,
    /// Expiry time of the certificate presented to the step, in seconds since 1970.
    pub certificate_expires_at: Option<f64>,
    /// Timing of the page that the step opened.
    pub timing: Option<Box<PageTiming>>,
}

/// Rules that determine the series of a scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub detail: Detail,
    /// Maximum number of series for all steps together.
    pub max_step_series: usize,
}

impl State {
    /// Updates the gauges with an outcome, which may be from before this process. Returns the number of step series
    /// that were left out.
    pub fn show(&mut self, outcome: &Outcome, scenario: &Scenario, rules: Rules) -> usize {
        let example =
            Example { run: outcome.run, seconds: outcome.duration.as_secs_f64(), at: seconds(outcome.ended_at) };
        self.last = Some(Last { verdict: outcome.verdict, is_counted: false, example });
        self.show_conclusion(outcome);
        let names = scenario.step_names();
        self.show_certificate(outcome, &names);
        match &mut self.full {
            Some(full) => full.show(outcome, &names, rules.max_step_series),
            None => 0,
        }
    }

    /// Updates only the success state with an outcome.
    pub fn show_conclusion(&mut self, outcome: &Outcome) {
        if outcome.verdict.is_conclusive() {
            self.success = Some(outcome.verdict != Verdict::Failed);
        }
        if matches!(outcome.verdict, Verdict::Passed | Verdict::Degraded) {
            self.last_success_at = Some(seconds(outcome.ended_at));
        }
    }

    /// Counts the run shown last, after the scrape `epoch`.
    pub fn count(&mut self, outcome: &Outcome, scenario: &Scenario, rules: Rules, epoch: u32) {
        let places = self.places(scenario, rules.detail);
        let runs = &mut self.runs[usize::from(outcome.verdict.code())];
        if runs.total == 0 {
            runs.since = epoch;
        }
        runs.total += 1;
        if let Some(reason) = outcome.reason {
            self.count_reason(reason, epoch, places);
        }
        let Some(last) = &mut self.last else { return };
        last.is_counted = true;
        if outcome.verdict != Verdict::Passed {
            match self.examples.iter_mut().find(|(verdict, _)| *verdict == outcome.verdict) {
                Some((_, example)) => *example = last.example,
                None => self.examples.push((outcome.verdict, last.example)),
            }
        }
        if let Some(full) = &mut self.full {
            full.histogram.add(outcome.duration.as_secs_f64());
        }
    }

    fn count_reason(&mut self, reason: Reason, epoch: u32, places: usize) {
        let known = self.reasons.iter().position(|known| known.reason == reason);
        let mut counted = match known {
            Some(at) => self.reasons.remove(at),
            None => ReasonCount { reason, count: Count::default(), before: 0 },
        };
        if known.is_none_or(|at| at >= places) {
            counted.before = counted.count.total;
            counted.count.since = epoch;
        }
        counted.count.total += 1;
        self.reasons.insert(0, counted);
    }

    /// Returns the number of reasons that have a series: the limit of a scenario less its other series. The most recent
    /// reasons are preferred.
    pub fn places(&self, scenario: &Scenario, detail: Detail) -> usize {
        let taken = match detail {
            Detail::Basic => {
                let runs = Verdict::ALL.into_iter().filter(|verdict| self.has_runs_series(*verdict, detail)).count();
                let optional = usize::from(scenario.slo.is_some()) + usize::from(self.certificate.is_some());
                BASIC_GAUGES + runs + optional
            }
            Detail::Full => {
                let slo = if scenario.slo.is_some() { 2 } else { 0 };
                FULL_GAUGES + HISTOGRAM_SERIES + Verdict::ALL.len() + slo
            }
        };
        detail.max_series().saturating_sub(taken)
    }

    /// Returns whether the runs with a verdict are a series. A success ratio requires those of passed and failed runs
    /// even while they are 0.
    pub fn has_runs_series(&self, verdict: Verdict, detail: Detail) -> bool {
        detail == Detail::Full
            || matches!(verdict, Verdict::Passed | Verdict::Failed)
            || self.runs[usize::from(verdict.code())].total > 0
    }

    /// Returns the last run with this verdict counted by this process, if it is known.
    pub fn example(&self, verdict: Verdict) -> Option<&Example> {
        let last = self.last.as_ref().filter(|last| last.is_counted && last.verdict == verdict);
        let earlier = || self.examples.iter().find(|(of, _)| *of == verdict).map(|(_, example)| example);
        last.map(|last| &last.example).or_else(earlier)
    }

    /// Returns the last run if this process has counted it.
    pub fn last_example(&self) -> Option<&Example> {
        self.last.as_ref().filter(|last| last.is_counted).map(|last| &last.example)
    }

    fn show_certificate(&mut self, outcome: &Outcome, names: &[&str]) {
        let place = |step: &StepResult| names.iter().position(|name| *name == step.name);
        let known = self.certificate;
        let mut earliest = None::<(usize, f64)>;
        for step in outcome.steps_of_file() {
            if let (Some(expires_at), Some(place)) = (step.certificate_expires_at, place(step))
                && earliest.is_none_or(|(_, earlier)| seconds(expires_at) < earlier)
            {
                earliest = Some((place, seconds(expires_at)));
            }
        }
        // The certificate is unchanged if the run did not reach its step.
        let stands = known.filter(|(step, _)| {
            let of_step = |result: &StepResult| place(result) == Some(*step) && result.certificate_expires_at.is_some();
            !outcome.steps_of_file().any(of_step)
        });
        self.certificate = match (stands, earliest) {
            (Some(known), Some(found)) => Some(if found.1 < known.1 { found } else { known }),
            (known, found) => known.or(found),
        };
    }

    /// Returns the gauges with every counter at 0. The detail determines which ones exist.
    pub fn uncounted(&self, detail: Detail, now: f64) -> Self {
        let steps = self.full.as_ref().map(|full| full.steps.clone()).unwrap_or_default();
        Self {
            last: self.last.map(|last| Last { is_counted: false, ..last }),
            success: self.success,
            last_success_at: self.last_success_at,
            certificate: self.certificate,
            full: (detail == Detail::Full).then(|| Box::new(Full { steps, ..Full::new(now) })),
            ..Self::default()
        }
    }

    /// Adapts the state to a changed scenario: data of removed steps is removed.
    pub fn adapt(&mut self, before: &Scenario, now: &Scenario) {
        let names = now.step_names();
        let kept = self.certificate.and_then(|(place, at)| {
            let name = *before.step_names().get(place)?;
            Some((names.iter().position(|known| *known == name)?, at))
        });
        self.certificate = kept;
        if now.slo.is_none() {
            self.budget = None;
        }
        if let Some(full) = &mut self.full {
            full.steps.retain(|step| names.contains(&&*step.name));
        }
        self.is_over_budget = false;
    }
}

impl Full {
    /// Creates an empty state that begins at `created_at`, in seconds since 1970.
    pub fn new(created_at: f64) -> Self {
        Self { histogram: Histogram::default(), since: 0, created_at, steps: Vec::new() }
    }

    fn show(&mut self, outcome: &Outcome, names: &[&str], max_series: usize) -> usize {
        let (mut omitted, mut total) = (0, self.steps.iter().map(Step::series).sum::<usize>());
        for result in outcome.steps_of_file() {
            let is_reached = matches!(result.status, StepStatus::Passed | StepStatus::Failed);
            if !is_reached || !names.contains(&result.name.as_str()) {
                continue;
            }
            let known = self.steps.iter().position(|step| *step.name == *result.name);
            let before = known.map_or(0, |at| self.steps[at].series());
            let step = Step::new(result, known.map(|at| &self.steps[at]));
            let series = step.series();
            if total - before + series > max_series {
                omitted += series;
                if let Some(at) = known {
                    self.steps.remove(at);
                    total -= before;
                }
                continue;
            }
            total = total - before + series;
            match known {
                Some(at) => self.steps[at] = step,
                None => self.steps.push(step),
            }
        }
        omitted
    }
}

impl Step {
    fn new(result: &StepResult, before: Option<&Self>) -> Self {
        let timing = result.page.as_ref().map(|page| page.timing).filter(|timing| *timing != PageTiming::default());
        Self {
            name: result.name.as_str().into(),
            success: result.status == StepStatus::Passed,
            duration: result.duration.as_secs_f64(),
            status_code: result.http.as_ref().map(|http| http.status),
            phases: result.http.as_ref().filter(|http| !http.hops.is_empty()).map(HttpResult::phases),
            certificate_expires_at: result
                .certificate_expires_at
                .map(seconds)
                .or_else(|| before.and_then(|before| before.certificate_expires_at)),
            timing: timing.map(Box::new),
        }
    }

    /// Returns the number of series of the step.
    fn series(&self) -> usize {
        let phases = self.phases.iter().flat_map(Phases::named).filter(|(_, took)| took.is_some()).count();
        let vitals = self.timing.as_ref().map_or(0, |timing| {
            Vital::ALL.into_iter().filter(|vital| timing.vital(*vital).is_some()).count()
                + usize::from(timing.cls.is_some())
        });
        let optional = usize::from(self.status_code.is_some()) + usize::from(self.certificate_expires_at.is_some());
        2 + phases + vitals + optional
    }
}

/// Converts a time to seconds since 1970.
pub(super) fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}
