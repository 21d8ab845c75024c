//! Metric families of scenarios and the samples that each scenario has in them.

use prometheus::proto;

use crate::names::metric::Detail;
use crate::names::{self, MetricKind, ReasonClass, metric};
use crate::outcome::{Phases, Verdict};
use crate::scenario::{Scenario, Vital};

use super::encoder::{Counter, Encoder, Head, Histogram, Pairs, Value};
use super::histogram;
use super::state::{Full, State};

/// Family of scenarios, with the function that writes the samples of one scenario.
type Family = (&'static names::Metric, fn(&Subject, &mut Encoder));

/// All families of scenarios, sorted by name.
pub(super) const FAMILIES: [Family; 20] = [
    (&metric::HTTP_PHASE_DURATION, http_phases),
    (&metric::HTTP_STATUS_CODE, http_status),
    (&metric::SCENARIO_DEGRADATIONS, |subject, out| reasons(subject, out, ReasonClass::Degraded)),
    (&metric::SCENARIO_DURATION, duration),
    (&metric::SCENARIO_FAILURES, |subject, out| reasons(subject, out, ReasonClass::Failed)),
    (&metric::SCENARIO_INFO, info),
    (&metric::SCENARIO_LAST_RUN, last_run),
    (&metric::SCENARIO_LAST_SUCCESS, last_success),
    (&metric::SCENARIO_RUN_DURATION, run_duration),
    (&metric::SCENARIO_RUNS, runs),
    (&metric::SCENARIO_SUCCESS, success),
    (&metric::SCENARIO_UNKNOWNS, |subject, out| reasons(subject, out, ReasonClass::Unknown)),
    (&metric::SCENARIO_VERDICT, verdict),
    (&metric::SLO_BUDGET_REMAINING, budget_remaining),
    (&metric::SLO_OBJECTIVE, objective),
    (&metric::STEP_DURATION, step_duration),
    (&metric::STEP_SUCCESS, step_success),
    (&metric::TLS_CERTIFICATE_EXPIRY, certificate_expiry),
    (&metric::WEB_VITAL_LAYOUT_SHIFT, layout_shift),
    (&metric::WEB_VITAL, web_vitals),
];

/// Scenario in a scrape.
pub(super) struct Subject<'a> {
    pub scenario: &'a Scenario,
    pub state: &'a State,
    pub location: &'a str,
    pub detail: Detail,
    /// Labels of `wachta_scenario_info` that come from tags, with the keys of the tags.
    pub tags: &'a [(String, String)],
    /// Number of the last scrape before the scenario appeared, and the time of its appearance in seconds since 1970.
    pub appeared: (u32, f64),
    /// Last complete scrape of this scraper.
    pub seen: Option<u32>,
}

impl Subject<'_> {
    /// Returns whether a series that appeared after the scrape `since` is new to the scraper.
    fn is_new(&self, since: u32) -> bool {
        self.seen.is_some_and(|seen| seen <= since)
    }

    fn write(&self, out: &mut Encoder, further: Pairs, value: Value) {
        out.sample(&[("scenario", self.scenario.id.value.as_str()), ("location", self.location)], further, value);
    }

    fn gauge(&self, out: &mut Encoder, further: Pairs, value: f64) {
        self.write(out, further, Value::Gauge(value));
    }

    fn flag(&self, out: &mut Encoder, further: Pairs, value: bool) {
        self.gauge(out, further, f64::from(u8::from(value)));
    }

    /// Returns the part of the state that is exported only at `full`.
    fn full(&self) -> Option<&Full> {
        self.state.full.as_deref().filter(|_| self.detail == Detail::Full)
    }

    fn steps(&self) -> &[super::state::Step] {
        self.full().map(|full| full.steps.as_slice()).unwrap_or_default()
    }
}

fn info(subject: &Subject, out: &mut Encoder) {
    let scenario = subject.scenario;
    let schedule = scenario.schedule.to_string();
    let mut labels = vec![
        ("name", scenario.name.as_str()),
        ("kind", scenario.kind.as_str()),
        ("schedule", &schedule),
        ("severity", scenario.alert.severity.as_str()),
    ];
    let tags = subject.tags.iter().filter_map(|(label, key)| Some((label.as_str(), scenario.tags.get(key)?.as_str())));
    labels.extend(tags);
    subject.gauge(out, &labels, 1.0);
}

fn success(subject: &Subject, out: &mut Encoder) {
    if let Some(success) = subject.state.success {
        subject.flag(out, &[], success);
    }
}

/// Writes the verdict. At `basic`, only the series of the present verdict is exported, from which the others follow.
fn verdict(subject: &Subject, out: &mut Encoder) {
    let Some(last) = &subject.state.last else { return };
    for verdict in Verdict::ALL {
        if subject.detail == Detail::Full || verdict == last.verdict {
            subject.flag(out, &[("verdict", verdict.as_str())], verdict == last.verdict);
        }
    }
}

fn duration(subject: &Subject, out: &mut Encoder) {
    if let Some(last) = &subject.state.last {
        subject.gauge(out, &[], last.example.seconds);
    }
}

fn last_run(subject: &Subject, out: &mut Encoder) {
    if let Some(last) = &subject.state.last {
        subject.gauge(out, &[], last.example.at);
    }
}

fn last_success(subject: &Subject, out: &mut Encoder) {
    if let Some(at) = subject.state.last_success_at {
        subject.gauge(out, &[], at);
    }
}

fn runs(subject: &Subject, out: &mut Encoder) {
    let (appeared, created_at) = subject.appeared;
    for (verdict, runs) in Verdict::ALL.into_iter().zip(&subject.state.runs) {
        if !subject.state.has_runs_series(verdict, subject.detail) {
            continue;
        }
        // A series that exists from the start is as new as its scenario; any other is as new as its first run.
        let is_late = subject.detail == Detail::Basic && !matches!(verdict, Verdict::Passed | Verdict::Failed);
        let is_new = subject.is_new(if is_late { runs.since } else { appeared });
        let example = subject.state.example(verdict).filter(|_| !is_new);
        let total = if is_new { 0.0 } else { f64::from(runs.total) };
        let counter = Counter { total, created_at: Some(created_at), example };
        subject.write(out, &[("verdict", verdict.as_str())], Value::Counter(counter));
    }
}

fn reasons(subject: &Subject, out: &mut Encoder, class: ReasonClass) {
    let places = subject.state.places(subject.scenario, subject.detail);
    for known in subject.state.reasons.iter().take(places).filter(|known| known.reason.class() == class) {
        let is_new = subject.is_new(known.count.since);
        let total = f64::from(if is_new { known.before } else { known.count.total });
        let counter = Counter { total, created_at: Some(subject.appeared.1), example: None };
        subject.write(out, &[("reason", known.reason.as_str())], Value::Counter(counter));
    }
}

fn run_duration(subject: &Subject, out: &mut Encoder) {
    let Some(full) = subject.full() else { return };
    let (empty, is_new) = (histogram::Histogram::default(), subject.is_new(full.since));
    let shown = if is_new { &empty } else { &full.histogram };
    let histogram = Histogram {
        bounds: &metric::DURATION_BUCKETS,
        cumulative: &shown.cumulative(),
        sum: shown.sum,
        native: Some(&shown.native),
        created_at: Some(full.created_at),
        example: subject.state.last_example().filter(|_| !is_new),
    };
    subject.write(out, &[], Value::Histogram(histogram));
}

fn objective(subject: &Subject, out: &mut Encoder) {
    if let Some(slo) = subject.scenario.slo.as_ref().filter(|_| subject.detail == Detail::Full) {
        subject.gauge(out, &[], slo.objective());
    }
}

fn budget_remaining(subject: &Subject, out: &mut Encoder) {
    if let Some(remaining) = subject.state.budget.filter(|_| subject.scenario.slo.is_some()) {
        subject.gauge(out, &[], remaining);
    }
}

fn step_success(subject: &Subject, out: &mut Encoder) {
    for step in subject.steps() {
        subject.flag(out, &[("step", &step.name)], step.success);
    }
}

fn step_duration(subject: &Subject, out: &mut Encoder) {
    for step in subject.steps() {
        subject.gauge(out, &[("step", &step.name)], step.duration);
    }
}

fn http_status(subject: &Subject, out: &mut Encoder) {
    for step in subject.steps() {
        if let Some(status) = step.status_code {
            subject.gauge(out, &[("step", &step.name)], f64::from(status));
        }
    }
}

fn http_phases(subject: &Subject, out: &mut Encoder) {
    for step in subject.steps() {
        for (phase, took) in step.phases.iter().flat_map(Phases::named) {
            if let Some(took) = took {
                subject.gauge(out, &[("step", &step.name), ("phase", phase)], took.as_secs_f64());
            }
        }
    }
}

/// Writes the expiry of certificates; at `basic`, only that of the one that expires first.
fn certificate_expiry(subject: &Subject, out: &mut Encoder) {
    if subject.detail == Detail::Full {
        for step in subject.steps() {
            if let Some(at) = step.certificate_expires_at {
                subject.gauge(out, &[("step", &step.name)], at);
            }
        }
    } else if let Some((place, at)) = subject.state.certificate
        && let Some(step) = subject.scenario.step_names().get(place)
    {
        subject.gauge(out, &[("step", step)], at);
    }
}

fn web_vitals(subject: &Subject, out: &mut Encoder) {
    for step in subject.steps() {
        for vital in Vital::ALL {
            if let Some(value) = step.timing.as_ref().and_then(|timing| timing.vital(vital)) {
                subject.gauge(out, &[("step", &step.name), ("vital", vital.as_str())], value);
            }
        }
    }
}

fn layout_shift(subject: &Subject, out: &mut Encoder) {
    for step in subject.steps() {
        if let Some(score) = step.timing.as_ref().and_then(|timing| timing.cls) {
            subject.gauge(out, &[("step", &step.name)], score);
        }
    }
}

/// Returns the head of a declared family.
pub(super) fn head(of: &'static names::Metric) -> Head<'static> {
    Head { name: of.name, help: of.help, kind: of.kind }
}

/// Writes a family of the agent's own metrics.
pub(super) fn write_own(family: &proto::MetricFamily, out: &mut Encoder) {
    let kind = match family.get_field_type() {
        proto::MetricType::COUNTER => MetricKind::Counter,
        proto::MetricType::HISTOGRAM => MetricKind::Histogram,
        _ => MetricKind::Gauge,
    };
    out.begin(Head { name: family.name(), help: family.help(), kind });
    for sample in family.get_metric() {
        let labels: Vec<_> = sample.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
        match kind {
            MetricKind::Gauge => out.sample(&labels, &[], Value::Gauge(sample.get_gauge().get_value())),
            MetricKind::Counter => {
                let total = sample.get_counter().get_value();
                out.sample(&labels, &[], Value::Counter(Counter { total, created_at: None, example: None }));
            }
            MetricKind::Histogram => {
                let of = sample.get_histogram();
                let buckets = of.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
                let (bounds, mut cumulative): (Vec<_>, Vec<_>) =
                    buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).unzip();
                cumulative.push(of.get_sample_count());
                let value = Histogram {
                    bounds: &bounds,
                    cumulative: &cumulative,
                    sum: of.get_sample_sum(),
                    native: None,
                    created_at: None,
                    example: None,
                };
                out.sample(&labels, &[], Value::Histogram(value));
            }
        }
    }
}
