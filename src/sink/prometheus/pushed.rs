//! Pushed samples of scenarios: the values after each run, and the values repeated between runs.
//!
//! The samples are a function of what the receiver has: [`Pushed::advance`] computes the samples of a batch from the
//! states after the last accepted batch without changing them, [`Pushed::commit`] makes the new states the present
//! ones. A batch that is sent again therefore has the same samples, and each run is counted once. The series of a
//! scenario are not stored: they follow from its state, so that the series that have ended are the difference of two
//! states.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::names::metric::{self, Detail};
use crate::names::{self, MetricKind};
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{Scenario, ScenarioId};

use super::encoder::{Encoder, Pairs, Series, Value};
use super::families::{FAMILIES, Subject, head, write_own};
use super::state::{Full, Rules, State};
use super::{Prometheus, seconds};

/// Maximum number of series whose end is waiting to be sent; above it, the oldest ones expire at the receiver.
const MAX_ENDED: usize = 100_000;

const NO_LABELS: Pairs = &[];
/// Maximum shift of a run to a later time, in milliseconds, so that two runs of a scenario never have the same time.
const MAX_SHIFT: i64 = 10;

type Labels = [(String, String)];

/// Sample with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Series and its value.
    pub series: Series,
    /// Time in milliseconds since 1970.
    pub at: i64,
    /// Time at which a counter was 0, in milliseconds since 1970.
    pub start: Option<i64>,
    /// Whether the sample is the initial 0 of a counter.
    pub is_origin: bool,
}

impl Sample {
    fn new(series: Series, at: i64) -> Self {
        Self { series, at, start: None, is_origin: false }
    }

    /// Creates the sample that ends a series.
    fn end(series: Series, at: i64) -> Self {
        Self::new(Series { value: stale(), exemplar: None, ..series }, at)
    }
}

/// Series of all scenarios.
pub struct Pushed {
    view: Arc<Prometheus>,
    /// Configured detail (default: that of `/metrics`).
    detail: Option<Detail>,
    form: Form,
    scenarios: BTreeMap<ScenarioId, Known>,
    /// Series that ended because their scenarios were removed.
    ended: Vec<Series>,
    /// Time of the last transmission of the agent's own metrics, in milliseconds since 1970.
    own_at: Option<i64>,
}

struct Known {
    scenario: Arc<Scenario>,
    progress: Progress,
    /// Time of the last transmission of the remaining error budget, in milliseconds since 1970.
    budget_at: Option<i64>,
}

/// State of a scenario at the receiver.
#[derive(Clone, Default)]
struct Progress {
    state: State,
    /// Time of the last samples, in milliseconds since 1970.
    sent_at: Option<i64>,
    /// Time at which the counters were 0, in milliseconds since 1970. Absent if none of them was sent.
    started_at: Option<i64>,
}

/// Settings that determine the series.
struct Form {
    location: Arc<str>,
    /// Labels of every series, unless it has a label of the same name.
    labels: Vec<(String, String)>,
    rules: Rules,
    /// Labels of `wachta_scenario_info` that come from tags, with the keys of the tags.
    tags: Vec<(String, String)>,
}

/// Samples of a batch, and the states after it is accepted.
#[derive(Default)]
pub struct Advance {
    /// Samples to send.
    pub samples: Vec<Sample>,
    progress: BTreeMap<ScenarioId, Progress>,
}

/// Times of a repetition.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Present time in milliseconds since 1970.
    pub now: i64,
    /// Time of the scenario samples. No run that ended before it is still waiting.
    pub at: i64,
    /// Time before which values must have been sent to be due again.
    pub since: i64,
}

/// Samples to send between runs.
#[derive(Default)]
pub struct Repeat {
    /// Samples by subject, because a receiver may reject some parts and accept the others.
    pub parts: Vec<Part>,
    /// Whether nothing else is due.
    pub is_whole: bool,
    moment: Option<Moment>,
    ended: usize,
}

/// Samples of one subject.
pub struct Part {
    /// Samples to send.
    pub samples: Vec<Sample>,
    subject: PartSubject,
}

enum PartSubject {
    Scenario(ScenarioId, Box<Progress>),
    Budget(ScenarioId),
    Own,
    Ended,
}

impl Pushed {
    /// Creates the series without scenarios. They have these labels in addition to their own.
    pub fn new(view: Arc<Prometheus>, detail: Option<Detail>, labels: Vec<(String, String)>) -> Self {
        let rules = Rules { detail: detail.unwrap_or(Detail::Full), max_step_series: 0 };
        let form = Form { location: Arc::clone(&view.location), labels, rules, tags: Vec::new() };
        Self { view, detail, form, scenarios: BTreeMap::new(), ended: Vec::new(), own_at: None }
    }

    /// Updates the loaded scenarios and the rules of `/metrics`. Series of removed or changed scenarios end with the
    /// next [`Pushed::due`].
    pub fn load(&mut self, scenarios: &BTreeMap<ScenarioId, Arc<Scenario>>, now: DateTime<Utc>) {
        let catalog = self.view.catalog();
        let rules = Rules { detail: self.detail.unwrap_or(catalog.rules.detail), ..catalog.rules };
        let form = Form {
            location: Arc::clone(&self.form.location),
            labels: self.form.labels.clone(),
            rules,
            tags: catalog.tags.clone(),
        };
        let before = std::mem::replace(&mut self.form, form);
        let is_same = before.rules.detail == rules.detail && before.tags == self.form.tags;
        let (form, ended) = (&self.form, &mut self.ended);
        self.scenarios.retain(|id, known| {
            let stays = scenarios.contains_key(id);
            if !stays {
                ended.extend(known.series(&before));
            }
            stays
        });
        for (id, scenario) in scenarios {
            let known = self.scenarios.entry(id.clone()).or_insert_with(|| {
                // The scenario was removed so briefly that the end of its series was not sent.
                ended.retain(|series| !series.labels.iter().any(|(name, of)| name == "scenario" && of == id.as_str()));
                Known { scenario: Arc::clone(scenario), progress: Progress::default(), budget_at: None }
            });
            let is_full = rules.detail == Detail::Full;
            if is_same && Arc::ptr_eq(&known.scenario, scenario) && is_full == known.progress.state.full.is_some() {
                continue;
            }
            let earlier = known.series(&before);
            let scenario_before = std::mem::replace(&mut known.scenario, Arc::clone(scenario));
            let state = &mut known.progress.state;
            state.adapt(&scenario_before, scenario);
            if is_full != state.full.is_some() {
                state.full = is_full.then(|| Box::new(Full::new(seconds(now))));
            }
            let later = known.series(form);
            let stays: HashSet<&Labels> = later.iter().map(|series| series.labels.as_slice()).collect();
            ended.extend(earlier);
            ended.retain(|series| !stays.contains(series.labels.as_slice()));
        }
        let excess = ended.len().saturating_sub(MAX_ENDED);
        ended.drain(..excess);
    }

    /// Returns the samples of runs, each at the end of its run. A counter that appears is 0 one millisecond earlier, so
    /// that its first increase is visible; a series without a value after a run ends there.
    pub fn advance<'a>(&self, outcomes: impl Iterator<Item = &'a Outcome>) -> Advance {
        let mut advance = Advance::default();
        for outcome in outcomes {
            let Some(known) = self.scenarios.get(&outcome.scenario) else {
                advance.samples.extend(self.form.last_samples(outcome));
                continue;
            };
            let progress = advance.progress.entry(outcome.scenario.clone()).or_insert_with(|| known.progress.clone());
            progress.advance(outcome, &known.scenario, &self.form, &mut advance.samples);
        }
        advance
    }

    /// Records that the receiver has accepted the samples.
    pub fn commit(&mut self, advance: Advance) {
        for (id, progress) in advance.progress {
            if let Some(known) = self.scenarios.get_mut(&id) {
                known.progress = progress;
            }
        }
    }

    /// Skips a run whose samples the receiver does not accept. It is reflected in later samples, and is counted if
    /// `counts` is set.
    pub fn pass_over(&mut self, outcome: &Outcome, counts: bool) {
        let Some(known) = self.scenarios.get_mut(&outcome.scenario) else { return };
        let (state, rules) = (&mut known.progress.state, self.form.rules);
        state.show(outcome, &known.scenario, rules);
        if counts {
            state.count(outcome, &known.scenario, rules, 0);
        }
        let at = outcome.ended_at.timestamp_millis();
        known.progress.sent_at = known.progress.sent_at.max(Some(at));
    }

    /// Returns the data to send between runs, up to about `max_samples`: the ends of series, the agent's own metrics,
    /// and the values of scenarios last sent before `since`. Must be called only if no run that ended before `at` is
    /// waiting.
    pub fn due(&mut self, moment: Moment, max_samples: usize) -> Repeat {
        let Moment { now, at, since } = moment;
        for id in self.view.take_gone() {
            if !self.scenarios.contains_key(&id) {
                self.ended.extend(self.form.ends(&id));
            }
        }
        let is_due = |sent: Option<i64>| sent.is_none_or(|sent| sent < since);
        let mut repeat =
            Repeat { is_whole: self.ended.len() <= max_samples, moment: Some(moment), ..Repeat::default() };
        let mut count = 0;
        for series in self.ended.iter().take(max_samples) {
            let samples = vec![Sample::end(series.clone(), now)];
            repeat.parts.push(Part { samples, subject: PartSubject::Ended });
            count += 1;
        }
        repeat.ended = count;
        if is_due(self.own_at) {
            let samples: Vec<_> = self.own().into_iter().map(|series| Sample::new(series, now)).collect();
            count += samples.len();
            repeat.parts.push(Part { samples, subject: PartSubject::Own });
        }
        for (id, known) in &self.scenarios {
            let is_old = is_due(known.progress.sent_at) && known.progress.sent_at.is_none_or(|sent| sent < at);
            let has_budget = known.scenario.slo.is_some() && is_due(known.budget_at);
            if !is_old && !has_budget {
                continue;
            }
            if count >= max_samples {
                repeat.is_whole = false;
                break;
            }
            let budget = self.view.budget_of(id);
            let part = if is_old {
                let mut progress = known.progress.clone();
                if progress.state.last.is_none() {
                    // The last run was before this process, and the receiver has its samples.
                    let seconds = at as f64 / 1e3;
                    progress.state = self.view.shown(id, self.form.rules.detail, seconds).unwrap_or(progress.state);
                }
                let start = *progress.started_at.get_or_insert(at);
                progress.sent_at = Some(at);
                let all = self.form.series(&known.scenario, &with_budget(&progress.state, budget));
                let samples = all.into_iter().map(|series| {
                    let start = (series.kind != MetricKind::Gauge && start < at).then_some(start);
                    Sample { start, ..Sample::new(Series { exemplar: None, ..series }, at) }
                });
                Part { samples: samples.collect(), subject: PartSubject::Scenario(id.clone(), Box::new(progress)) }
            } else {
                let gauge = budget.map(|share| (&metric::SLO_BUDGET_REMAINING, NO_LABELS, share));
                let all = self.form.gauges(id, gauge.as_slice());
                let samples = all.into_iter().map(|series| Sample::new(series, at)).collect();
                Part { samples, subject: PartSubject::Budget(id.clone()) }
            };
            count += part.samples.len();
            repeat.parts.push(part);
        }
        repeat
    }

    /// Records that the receiver has accepted the repeated data, or never will.
    pub fn repeated(&mut self, repeat: Repeat) {
        let Some(Moment { now, at, .. }) = repeat.moment else { return };
        self.ended.drain(..repeat.ended);
        for part in repeat.parts {
            match part.subject {
                PartSubject::Scenario(id, progress) => {
                    if let Some(known) = self.scenarios.get_mut(&id) {
                        known.progress = *progress;
                        known.budget_at = Some(at);
                    }
                }
                PartSubject::Budget(id) => {
                    if let Some(known) = self.scenarios.get_mut(&id) {
                        known.budget_at = Some(at);
                    }
                }
                PartSubject::Own => self.own_at = Some(now),
                PartSubject::Ended => {}
            }
        }
    }

    /// Returns the series of the agent's own metrics.
    fn own(&self) -> Vec<Series> {
        let mut encoder = Encoder::series(&self.form.labels);
        for family in self.view.own() {
            write_own(&family, &mut encoder);
        }
        encoder.take_series()
    }
}

impl Known {
    /// Returns the series of the scenario at the receiver.
    fn series(&self, form: &Form) -> Vec<Series> {
        if self.progress.started_at.is_none() {
            return Vec::new();
        }
        form.series(&self.scenario, &with_budget(&self.progress.state, self.budget_at.map(|_| 0.0)))
    }
}

impl Progress {
    fn advance(&mut self, outcome: &Outcome, scenario: &Scenario, form: &Form, samples: &mut Vec<Sample>) {
        let mut at = outcome.ended_at.timestamp_millis();
        if let Some(sent) = self.sent_at.filter(|sent| (at..at + MAX_SHIFT).contains(sent)) {
            at = sent + 1;
        }
        let before = if self.started_at.is_some() { form.series(scenario, &self.state) } else { Vec::new() };
        self.state.show(outcome, scenario, form.rules);
        self.state.count(outcome, scenario, form.rules, 0);
        let after = form.series(scenario, &self.state);
        let start = *self.started_at.get_or_insert(at - 1);
        self.sent_at = self.sent_at.max(Some(at));
        let labels = |all: &[Series]| all.iter().map(|series| series.labels.clone()).collect::<HashSet<_>>();
        let (known, stays) = (labels(&before), labels(&after));
        for series in after {
            let is_counter = series.kind != MetricKind::Gauge;
            if is_counter && !known.contains(&series.labels) {
                let origin = Series { value: 0.0, exemplar: None, ..series.clone() };
                samples.push(Sample { is_origin: true, ..Sample::new(origin, at - 1) });
            }
            // An exemplar is sent once, with its run.
            let exemplar = series.exemplar.filter(|exemplar| exemplar.run == outcome.run);
            let start = (is_counter && start < at).then_some(start);
            samples.push(Sample { start, ..Sample::new(Series { exemplar, ..series }, at) });
        }
        let ended = before.into_iter().filter(|series| !stays.contains(&series.labels));
        samples.extend(ended.map(|series| Sample::end(series, at)));
    }
}

impl Form {
    /// Returns all series of a scenario.
    fn series(&self, scenario: &Scenario, state: &State) -> Vec<Series> {
        let mut encoder = Encoder::series(&self.labels);
        let subject = Subject {
            scenario,
            state,
            location: &self.location,
            detail: self.rules.detail,
            tags: &self.tags,
            appeared: (0, 0.0),
            seen: None,
        };
        for (metric, write) in FAMILIES {
            encoder.begin(head(metric));
            write(&subject, &mut encoder);
        }
        encoder.take_series()
    }

    /// Returns series of a scenario of which only the id is known.
    fn gauges(&self, id: &ScenarioId, values: &[(&'static names::Metric, Pairs, f64)]) -> Vec<Series> {
        let mut encoder = Encoder::series(&self.labels);
        let base = [("scenario", id.as_str()), ("location", &*self.location)];
        for (metric, further, value) in values {
            encoder.begin(head(metric));
            encoder.sample(&base, further, Value::Gauge(*value));
        }
        encoder.take_series()
    }

    /// Returns the samples of a run whose scenario was removed: the values available without it, and their end one
    /// millisecond later.
    fn last_samples(&self, outcome: &Outcome) -> Vec<Sample> {
        let (at, ended_at) = (outcome.ended_at.timestamp_millis(), seconds(outcome.ended_at));
        let verdict = [("verdict", outcome.verdict.as_str())];
        let mut values: Vec<(_, Pairs, _)> = vec![
            (&metric::SCENARIO_DURATION, NO_LABELS, outcome.duration.as_secs_f64()),
            (&metric::SCENARIO_LAST_RUN, NO_LABELS, ended_at),
            (&metric::SCENARIO_VERDICT, &verdict[..], 1.0),
        ];
        if outcome.verdict.is_conclusive() {
            let success = f64::from(u8::from(outcome.verdict != Verdict::Failed));
            values.push((&metric::SCENARIO_SUCCESS, NO_LABELS, success));
        }
        let all = self.gauges(&outcome.scenario, &values);
        let ends: Vec<_> = all.iter().map(|series| Sample::end(series.clone(), at + 1)).collect();
        all.into_iter().map(|series| Sample::new(series, at)).chain(ends).collect()
    }

    /// Returns the series of a removed scenario of which only the id is known.
    fn ends(&self, id: &ScenarioId) -> Vec<Series> {
        let verdicts = Verdict::ALL.map(|verdict| [("verdict", verdict.as_str())]);
        let plain = [
            &metric::SCENARIO_SUCCESS,
            &metric::SCENARIO_DURATION,
            &metric::SCENARIO_LAST_RUN,
            &metric::SCENARIO_LAST_SUCCESS,
        ];
        let mut values: Vec<(_, Pairs, _)> = plain.map(|metric| (metric, NO_LABELS, stale())).to_vec();
        for verdict in &verdicts {
            values
                .extend([&metric::SCENARIO_VERDICT, &metric::SCENARIO_RUNS].map(|of| (of, verdict as Pairs, stale())));
        }
        self.gauges(id, &values)
    }
}

/// Returns the state as shown between runs, with the error budget, which is not computed per run.
fn with_budget(state: &State, budget: Option<f64>) -> State {
    let mut state = state.clone();
    state.budget = budget;
    state
}

/// Returns the value that ends a series (Prometheus, `model/value`: the stale marker, a special NaN).
fn stale() -> f64 {
    f64::from_bits(0x7ff0_0000_0000_0002)
}
