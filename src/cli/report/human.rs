//! Text report: one line per scenario, and for each one that did not pass the position, the expected and the actual
//! value.

use std::fmt::Write as _;
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::outcome::{Outcome, StepResult, StepStatus, Verdict};
use crate::scenario::{HumanDuration, Scenario};

/// Colors text if the terminal supports it.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Returns the symbol and color of a verdict, which are always shown next to the word.
fn mark(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Passed => ("✓", "32"),
        Verdict::Degraded => ("~", "33"),
        Verdict::Failed => ("✗", "31"),
        Verdict::Unknown => ("?", "35"),
    }
}

/// Formats one outcome with all details.
pub fn outcome(scenario: &Scenario, outcome: &Outcome, evidence: &Path, paint: Paint) -> String {
    let (sign, hue) = mark(outcome.verdict);
    let mut out = format!(
        "{} {} {} {}\n",
        paint.with(hue, sign),
        paint.with("1", &outcome.name),
        paint.with(hue, outcome.verdict.as_str()),
        paint.with("2", &format!("in {}", HumanDuration(outcome.duration)))
    );
    if outcome.verdict != Verdict::Passed {
        out.push_str(&waterfall(outcome, paint));
    }
    out.push_str(&pages(outcome, paint));
    if let Some((index, step)) = outcome.failed_step.and_then(|index| Some((index, outcome.steps.get(index)?))) {
        out.push_str(&failure(scenario, outcome, index, step, evidence, paint));
    } else if let Some(message) = &outcome.message {
        let _ = writeln!(out, "  {message}");
    }
    if !outcome.differences.is_empty() {
        let _ = writeln!(out, "  since the last good run:");
        for difference in &outcome.differences {
            let _ = writeln!(out, "    {}", difference.text);
        }
    }
    out
}

/// Formats the time range of each step as a bar proportional to its share of the run.
fn waterfall(outcome: &Outcome, paint: Paint) -> String {
    const WIDTH: f64 = 30.0;
    let total = outcome.duration.as_secs_f64().max(0.001);
    let widest = outcome.steps.iter().map(|step| shown_name(step).chars().count()).max().unwrap_or(0).min(60);
    let mut out = String::new();
    for step in &outcome.steps {
        let (sign, hue) = match step.status {
            StepStatus::Passed => ("✓", "32"),
            StepStatus::Failed if step.optional => ("✗", "2"),
            StepStatus::Failed => ("✗", "31"),
            StepStatus::Unknown => ("?", "35"),
            StepStatus::Skipped => ("-", "2"),
        };
        let columns = |seconds: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 30 columns")]
            let columns = (seconds / total * WIDTH).round() as usize;
            columns.min(30)
        };
        let start = columns(step.offset.as_secs_f64());
        let length = columns(step.duration.as_secs_f64()).clamp(1, 31 - start.min(30));
        let name = crate::values::expect::cut(&shown_name(step), 60);
        let _ = writeln!(
            out,
            "  {} {name:<widest$}  {}{} {}",
            paint.with(hue, sign),
            " ".repeat(start),
            paint.with(hue, &"▬".repeat(length)),
            paint.with("2", &HumanDuration(step.duration).to_string()),
        );
        for note in &step.notes {
            let _ = writeln!(out, "    {}{}", "  ".repeat(step.depth.into()), paint.with("2", &format!("({note})")));
        }
    }
    out
}

/// Formats one line per page opened, with the measurements of the browser.
fn pages(outcome: &Outcome, paint: Paint) -> String {
    let mut out = String::new();
    for page in outcome.steps.iter().filter_map(|step| step.page.as_ref()) {
        let t = &page.timing;
        let times = [("ttfb", t.ttfb), ("lcp", t.lcp)].into_iter().filter_map(|(name, time)| {
            let time = std::time::Duration::try_from_secs_f64((time? * 1000.0).round() / 1000.0).ok()?;
            Some(format!("{name} {}", HumanDuration(time)))
        });
        let shift = t.cls.map(|score| format!("cls {score:.3}"));
        let measured: Vec<String> = times.chain(shift).collect();
        if !measured.is_empty() {
            let url = crate::values::expect::cut(&page.url, 80);
            let _ = writeln!(out, "  {url}  {}", paint.with("2", &measured.join(", ")));
        }
    }
    out
}

fn shown_name(step: &StepResult) -> String {
    let note = match (step.retried, step.optional, step.finally) {
        (true, ..) => " (done again)",
        (_, true, _) => " (optional)",
        (.., true) => " (finally)",
        _ => "",
    };
    format!("{}{}{note}", "  ".repeat(step.depth.into()), step.name)
}

fn failure(
    scenario: &Scenario,
    outcome: &Outcome,
    index: usize,
    step: &StepResult,
    evidence: &Path,
    paint: Paint,
) -> String {
    let Some(failure) = &step.failure else { return String::new() };
    let span = failure.span.unwrap_or_default();
    let mut diagnostic =
        Diagnostic::error(scenario.source_of(&step.place), span, format!("{} ({})", failure.message, failure.reason))
            .context(format!("{}, {}", scenario.step_number(&step.name, index), step.name));
    for (word, value) in [("expected", &failure.expected), ("actual", &failure.seen)] {
        if let Some(value) = value {
            diagnostic = diagnostic.note(format!("{word}: {value}"));
        }
    }
    if let Some(waited) = failure.waited {
        diagnostic = diagnostic.note(format!("waited: {}", HumanDuration(waited)));
    }
    if outcome.verdict == Verdict::Degraded
        && let Some(more) =
            outcome.message.as_ref().and_then(|message| message.strip_prefix(&*failure.message)?.strip_prefix("; "))
    {
        diagnostic = diagnostic.note(format!("also: {more}"));
    }
    for piece in outcome.evidence.iter().filter(|piece| piece.step == Some(index)) {
        diagnostic = diagnostic.note(format!("{}: {}", piece.kind.as_str(), evidence.join(&piece.path).display()));
    }
    diagnostic.render_as(outcome.verdict.as_str(), paint.0)
}

/// Formats the last line of the report.
pub fn summary(outcomes: &[Outcome], paint: Paint) -> String {
    let count = |verdict| outcomes.iter().filter(|outcome| outcome.verdict == verdict).count();
    let parts: Vec<String> = Verdict::ALL
        .into_iter()
        .filter(|verdict| count(*verdict) > 0)
        .map(|verdict| paint.with(mark(verdict).1, &format!("{} {verdict}", count(verdict))))
        .collect();
    format!("{} {}: {}\n", outcomes.len(), if outcomes.len() == 1 { "run" } else { "runs" }, parts.join(", "))
}
