//! Prometheus: the text of `/metrics`.
//!
//! Series of scenarios are built afresh for each scrape from the last outcomes, so that nothing stays after its
//! scenario is gone. The agent's own metrics are the parts' own, in one registry. No push, no timestamps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use crate::names::{self, MetricKind, Reason, ReasonClass, metric};
use crate::outcome::{HttpResult, Outcome, PageTiming, Phases, StepStatus, Verdict};
use crate::scenario::{Scenario, ScenarioId, Vital};

/// The view of outcomes that Prometheus scrapes.
pub struct Prometheus {
    registry: Registry,
    location: String,
    scenarios: Mutex<BTreeMap<ScenarioId, Series>>,
}

/// What is exported of one scenario.
struct Series {
    scenario: Arc<Scenario>,
    last: Option<Last>,
    success: Option<bool>,
    last_success_at: Option<DateTime<Utc>>,
    buckets: [u64; metric::DURATION_BUCKETS.len()],
    sum: f64,
    count: u64,
    runs: BTreeMap<Verdict, u64>,
    reasons: BTreeMap<Reason, u64>,
    steps: BTreeMap<String, Step>,
    /// The share of its error budget that remains.
    budget: Option<f64>,
}

struct Last {
    verdict: Verdict,
    duration: f64,
    ended_at: DateTime<Utc>,
}

#[derive(Default)]
struct Step {
    success: bool,
    duration: f64,
    status_code: Option<u16>,
    phases: Option<Phases>,
    certificate_expires_at: Option<DateTime<Utc>>,
    /// Of the page that it opened.
    timing: PageTiming,
}

impl Series {
    fn new(scenario: Arc<Scenario>) -> Self {
        Self {
            scenario,
            last: None,
            success: None,
            last_success_at: None,
            buckets: Default::default(),
            sum: 0.0,
            count: 0,
            runs: BTreeMap::new(),
            reasons: BTreeMap::new(),
            steps: BTreeMap::new(),
            budget: None,
        }
    }

    /// Gauges begin with what the store remembers; counters begin at 0.
    fn show(&mut self, outcome: &Outcome) {
        self.last = Some(Last {
            verdict: outcome.verdict,
            duration: outcome.duration.as_secs_f64(),
            ended_at: outcome.ended_at,
        });
        self.show_conclusion(outcome);
        for step in outcome.steps_of_file() {
            if !matches!(step.status, StepStatus::Passed | StepStatus::Failed) {
                continue;
            }
            let series = self.steps.entry(step.name.clone()).or_default();
            series.success = step.status == StepStatus::Passed;
            series.duration = step.duration.as_secs_f64();
            series.status_code = step.http.as_ref().map(|http| http.status);
            series.phases = step.http.as_ref().filter(|http| !http.hops.is_empty()).map(HttpResult::phases);
            series.timing = step.page.as_ref().map(|page| page.timing).unwrap_or_default();
            series.certificate_expires_at = step.certificate_expires_at.or(series.certificate_expires_at);
        }
    }

    fn show_conclusion(&mut self, outcome: &Outcome) {
        if outcome.verdict.is_conclusive() {
            self.success = Some(outcome.verdict != Verdict::Failed);
        }
        if matches!(outcome.verdict, Verdict::Passed | Verdict::Degraded) {
            self.last_success_at = Some(outcome.ended_at);
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        let seconds = outcome.duration.as_secs_f64();
        self.sum += seconds;
        self.count += 1;
        for (bucket, bound) in self.buckets.iter_mut().zip(metric::DURATION_BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        *self.runs.entry(outcome.verdict).or_default() += 1;
        if let Some(reason) = outcome.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }
}

impl Prometheus {
    /// A view without scenarios, beside a registry of the agent's own metrics.
    pub fn new(registry: Registry, location: &str) -> Self {
        Self { registry, location: location.to_owned(), scenarios: Mutex::default() }
    }

    /// These scenarios are exported from now on; the series of others go.
    pub fn scenarios(&self, scenarios: &BTreeMap<ScenarioId, Arc<Scenario>>) {
        let mut known = self.scenarios.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| scenarios.contains_key(id));
        for (id, scenario) in scenarios {
            let series = known.entry(id.clone()).or_insert_with(|| Series::new(Arc::clone(scenario)));
            if !Arc::ptr_eq(&series.scenario, scenario) {
                series.scenario = Arc::clone(scenario);
                let names = scenario.step_names();
                series.steps.retain(|step, _| names.contains(&step.as_str()));
            }
        }
    }

    /// What was before this process: gauges begin with it. A conclusive outcome older than the last one says
    /// whether the scenario last succeeded.
    pub fn seed(&self, latest: &[Outcome], conclusive: &[Outcome]) {
        let mut known = self.scenarios.lock().unwrap_or_else(PoisonError::into_inner);
        for outcome in conclusive {
            if let Some(series) = known.get_mut(&outcome.scenario) {
                series.show_conclusion(outcome);
            }
        }
        for outcome in latest {
            if let Some(series) = known.get_mut(&outcome.scenario) {
                series.show(outcome);
            }
        }
    }

    /// A run ended.
    pub fn outcome(&self, outcome: &Outcome) {
        let mut known = self.scenarios.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get_mut(&outcome.scenario) {
            series.show(outcome);
            series.count(outcome);
        }
    }

    /// So much of a scenario's error budget remains.
    pub fn budget(&self, scenario: &ScenarioId, remaining: f64) {
        let mut known = self.scenarios.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get_mut(scenario) {
            series.budget = Some(remaining);
        }
    }

    /// The text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut families = self.families();
        families.extend(self.registry.gather());
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| format!("# not rendered: {error}\n"))
    }

    fn families(&self) -> Vec<MetricFamily> {
        let known = self.scenarios.lock().unwrap_or_else(PoisonError::into_inner);
        let mut families = Families::default();
        for (id, series) in known.iter() {
            let labels = [id.as_str(), self.location.as_str()];
            let scenario = &series.scenario;
            families.gauge(
                &metric::SCENARIO_INFO,
                labels,
                &[
                    &scenario.name,
                    scenario.kind.as_str(),
                    &scenario.schedule.to_string(),
                    scenario.alert.severity.as_str(),
                ],
                1.0,
            );
            for verdict in Verdict::ALL {
                let runs = series.runs.get(&verdict).copied().unwrap_or_default();
                families.counter(&metric::SCENARIO_RUNS, labels, &[verdict.as_str()], runs);
            }
            for reason in Reason::ALL {
                let metric = match reason.class() {
                    ReasonClass::Failed => &metric::SCENARIO_FAILURES,
                    ReasonClass::Unknown => &metric::SCENARIO_UNKNOWNS,
                    ReasonClass::Degraded => &metric::SCENARIO_DEGRADATIONS,
                };
                families.counter(
                    metric,
                    labels,
                    &[reason.as_str()],
                    series.reasons.get(reason).copied().unwrap_or_default(),
                );
            }
            families.histogram(&metric::SCENARIO_RUN_DURATION, labels, series);
            if let Some(last) = &series.last {
                families.gauge(&metric::SCENARIO_DURATION, labels, &[], last.duration);
                families.gauge(&metric::SCENARIO_LAST_RUN, labels, &[], seconds(last.ended_at));
                for verdict in Verdict::ALL {
                    let value = f64::from(u8::from(verdict == last.verdict));
                    families.gauge(&metric::SCENARIO_VERDICT, labels, &[verdict.as_str()], value);
                }
            }
            if let Some(success) = series.success {
                families.gauge(&metric::SCENARIO_SUCCESS, labels, &[], f64::from(u8::from(success)));
            }
            if let Some(at) = series.last_success_at {
                families.gauge(&metric::SCENARIO_LAST_SUCCESS, labels, &[], seconds(at));
            }
            if let Some(slo) = &scenario.slo {
                families.gauge(&metric::SLO_OBJECTIVE, labels, &[], slo.objective());
                if let Some(remaining) = series.budget {
                    families.gauge(&metric::SLO_BUDGET_REMAINING, labels, &[], remaining);
                }
            }
            for (name, step) in &series.steps {
                families.gauge(&metric::STEP_SUCCESS, labels, &[name], f64::from(u8::from(step.success)));
                families.gauge(&metric::STEP_DURATION, labels, &[name], step.duration);
                if let Some(status) = step.status_code {
                    families.gauge(&metric::HTTP_STATUS_CODE, labels, &[name], f64::from(status));
                }
                let phases = step.phases.iter().flat_map(Phases::named);
                for (phase, took) in phases.filter_map(|(phase, took)| Some((phase, took?))) {
                    families.gauge(&metric::HTTP_PHASE_DURATION, labels, &[name, phase], took.as_secs_f64());
                }
                if let Some(at) = step.certificate_expires_at {
                    families.gauge(&metric::TLS_CERTIFICATE_EXPIRY, labels, &[name], seconds(at));
                }
                for vital in Vital::ALL {
                    if let Some(value) = step.timing.vital(vital) {
                        families.gauge(&metric::WEB_VITAL, labels, &[name, vital.as_str()], value);
                    }
                }
                if let Some(score) = step.timing.cls {
                    families.gauge(&metric::WEB_VITAL_LAYOUT_SHIFT, labels, &[name], score);
                }
            }
        }
        families.0.into_values().collect()
    }
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}

/// Families under construction, by name.
#[derive(Default)]
struct Families(BTreeMap<&'static str, MetricFamily>);

impl Families {
    fn push(&mut self, metric: &'static names::Metric, labels: [&str; 2], values: &[&str], mut sample: Metric) {
        let names = metric::SCENARIO_LABELS.iter().chain(metric.labels);
        let pairs = names.zip(labels.iter().chain(values)).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        sample.set_label(pairs.collect());
        let family = self.0.entry(metric.name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                MetricKind::Gauge => MetricType::GAUGE,
                MetricKind::Counter => MetricType::COUNTER,
                MetricKind::Histogram => MetricType::HISTOGRAM,
            });
            family
        });
        family.mut_metric().push(sample);
    }

    fn gauge(&mut self, metric: &'static names::Metric, labels: [&str; 2], values: &[&str], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut sample = Metric::default();
        sample.set_gauge(gauge);
        self.push(metric, labels, values, sample);
    }

    fn counter(&mut self, metric: &'static names::Metric, labels: [&str; 2], values: &[&str], value: u64) {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut sample = Metric::default();
        sample.set_counter(counter);
        self.push(metric, labels, values, sample);
    }

    fn histogram(&mut self, metric: &'static names::Metric, labels: [&str; 2], series: &Series) {
        let buckets = series.buckets.iter().zip(metric::DURATION_BUCKETS).map(|(count, bound)| {
            let mut bucket = Bucket::default();
            bucket.set_cumulative_count(*count);
            bucket.set_upper_bound(bound);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_sum(series.sum);
        histogram.set_sample_count(series.count);
        let mut sample = Metric::default();
        sample.set_histogram(histogram);
        self.push(metric, labels, &[], sample);
    }
}

#[cfg(test)]
mod tests;
