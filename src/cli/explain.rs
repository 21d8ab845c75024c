//! `wachta explain`: shows the steps and due times of a scenario.

use std::io;
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::scenario_paths::named_files;
use crate::alert::{RULES, runs_within};
use crate::bounded;
use crate::diagnostic::Severity;
use crate::names::exit;
use crate::scenario::model::HumanDuration;
use crate::scenario::tree::MAX_BYTES;
use crate::scenario::{
    Action, Group, Locator, LocatorStrategy, Lookup, Matcher, PageAction, PageFact, PageSource, PlacedStep, Scenario,
    Schedule, Scroll, Slo, Step, Value, load,
};

/// Arguments of `wachta explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// Scenario files, or folders of them
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
}

/// Writes every step with its name, timeout and locator, and the next ten due times after `now`.
pub fn explain(
    args: &ExplainArgs,
    lookup: &dyn Lookup,
    now: DateTime<Utc>,
    color: bool,
    out: &mut dyn io::Write,
) -> io::Result<u8> {
    let paths = match named_files(&args.paths) {
        Ok(paths) => paths,
        Err(error) => {
            writeln!(out, "error: {error}")?;
            return Ok(exit::USAGE);
        }
    };
    let mut code = exit::PASSED;
    for path in paths {
        let text = match bounded::read_text(&path, MAX_BYTES as u64) {
            Ok(text) => text,
            Err(error) => {
                writeln!(out, "error: cannot read {}: {error}", path.display())?;
                code = exit::USAGE;
                continue;
            }
        };
        let loaded = load(&path.display().to_string(), &text, lookup);
        if loaded.is_refused() {
            code = exit::USAGE;
        }
        for found in &loaded.diagnostics {
            let word = if found.severity == Severity::Error { "error" } else { "warning" };
            writeln!(out, "{}", found.render_as(word, color))?;
        }
        for one in &loaded.scenarios {
            scenario(one, now, out)?;
        }
    }
    Ok(code)
}

fn scenario(scenario: &Scenario, now: DateTime<Utc>, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{}   {} ({})", scenario.id.value, scenario.name, scenario.kind.as_str())?;
    writeln!(out, "  file      {}", scenario.source.place(scenario.id.span))?;
    writeln!(out, "  schedule  {}", scenario.schedule)?;
    writeln!(out, "  timeout   {}", HumanDuration(scenario.timeout))?;
    let alert = &scenario.alert;
    writeln!(
        out,
        "  alert     {} after {} of {} bad runs, resolved by {} good in a row",
        alert.severity, alert.after, alert.of, alert.recover_after
    )?;
    if let Some(slo) = &scenario.slo {
        objective(scenario, slo, now, out)?;
    }
    writeln!(out, "  steps")?;
    steps(scenario.steps_deep().filter(|at| !at.is_finally), out)?;
    if !scenario.finally.is_empty() {
        writeln!(out, "  finally")?;
        steps(scenario.steps_deep().filter(|at| at.is_finally), out)?;
    }
    writeln!(out, "  next due")?;
    let mut at = now;
    for _ in 0..10 {
        let Some(due) = scenario.next_after(at) else { break };
        at = due;
        let zone = match &scenario.schedule {
            Schedule::Cron { timezone, .. } => *timezone,
            Schedule::Every(_) => chrono_tz::UTC,
        };
        let local = due.with_timezone(&zone);
        writeln!(out, "    {} {}", local.to_rfc3339_opts(SecondsFormat::AutoSi, true), local.format("%a %Z"))?;
    }
    writeln!(out)
}

/// Writes the objective, the failures that it allows, and the number of failures that triggers each burn rate rule.
fn objective(scenario: &Scenario, slo: &Slo, now: DateTime<Utc>, out: &mut dyn io::Write) -> io::Result<()> {
    let runs = runs_within(scenario, TimeDelta::from_std(slo.window).unwrap_or(TimeDelta::MAX), now);
    // For a schedule with gaps, the windows are counted from the next run.
    let first = scenario.next_after(now).map_or(now, |first| first - TimeDelta::milliseconds(1));
    let within = |span| runs_within(scenario, span, first);
    let failures = (slo.allowed() * runs as f64 + 1e-6).floor();
    writeln!(out, "  slo       {slo}: {failures} failures of {runs} runs")?;
    for rule in &RULES {
        let (long, short) = (rule.long(), rule.short());
        // The run being evaluated is always in the window.
        let (many, few) = (within(long), within(short).max(1));
        let [long, short] = [long, short].map(|span| HumanDuration(span.to_std().unwrap_or_default()));
        let needed = rule.needed(slo.allowed(), many).zip(rule.needed_in_short_window(slo.allowed(), few));
        match needed {
            Some((needed, of_late)) => writeln!(
                out,
                "            {} by {needed} failures of {many} runs within {long}, {of_late} of {few} within {short}",
                rule.severity
            )?,
            None => {
                writeln!(out, "            {} never within {long}; runs in it: {many}", rule.severity)?;
            }
        }
    }
    Ok(())
}

fn steps<'a>(all: impl Iterator<Item = PlacedStep<'a>>, out: &mut dyn io::Write) -> io::Result<()> {
    // Positions of the groups around a step and of the step itself.
    let mut places = Vec::new();
    for PlacedStep { step, depth, index, .. } in all {
        places.truncate(depth);
        places.push((index + 1).to_string());
        let number = places.join(".");
        let timeout = match (&step.action, step.timeout) {
            (Action::Group(_), None) => String::new(),
            _ => format!("   timeout {}", HumanDuration(step.timeout())),
        };
        let retry = match &step.action {
            Action::Group(Group { retry: more @ 1.., .. }) => format!("   retry {more}"),
            _ => String::new(),
        };
        let optional = if step.optional { "   optional" } else { "" };
        let go_on = if step.go_on { "   continue" } else { "" };
        let when = if step.when.is_empty() { "" } else { "   when" };
        writeln!(out, "    {number}. {}{timeout}{retry}{optional}{go_on}{when}", step.name)?;
        for frame in &step.within_frame {
            writeln!(out, "       frame  {}", show(frame))?;
        }
        for (word, target) in targets(step) {
            writeln!(out, "       {word:<6} {}", show(target))?;
        }
    }
    Ok(())
}

/// Returns the locators of a step with their roles.
fn targets(step: &Step) -> Vec<(&'static str, &Locator)> {
    let Action::Page(action) = &step.action else { return Vec::new() };
    match action {
        PageAction::Click { target, .. }
        | PageAction::DoubleClick(target)
        | PageAction::Hover(target)
        | PageAction::Clear(target)
        | PageAction::Check { target, .. }
        | PageAction::Fill { target, .. }
        | PageAction::Select { target, .. }
        | PageAction::Upload { target, .. }
        | PageAction::Scroll(Scroll::To(target) | Scroll::Until(target)) => vec![("target", target)],
        PageAction::Press { into, .. } => into.iter().map(|into| ("target", into)).collect(),
        PageAction::Drag { target, to } => vec![("target", target), ("to", to)],
        PageAction::Screenshot { of, .. } => of.iter().map(|of| ("of", of)).collect(),
        PageAction::Expect(facts) => facts
            .iter()
            .filter_map(|fact| match &fact.what {
                PageFact::Visible(target) => Some(("sees", target)),
                PageFact::Hidden(target) => Some(("misses", target)),
                PageFact::Element { target, .. } => Some(("target", target)),
                _ => None,
            })
            .collect(),
        PageAction::Save(saves) => saves
            .iter()
            .filter_map(|save| match &save.source {
                PageSource::Text(target) | PageSource::Value(target) | PageSource::Attribute(target, _) => {
                    Some(("target", target))
                }
                PageSource::Url | PageSource::Cookie(_) | PageSource::Script(_) => None,
            })
            .collect(),
        PageAction::Goto { .. }
        | PageAction::Travel(_)
        | PageAction::Scroll(Scroll::By(_))
        | PageAction::Dialog { .. }
        | PageAction::Window(_)
        | PageAction::Script { .. } => Vec::new(),
    }
}

fn show(target: &Locator) -> String {
    let mut shown = match &target.how {
        LocatorStrategy::Role { role, name: None } => format!("role {role}"),
        LocatorStrategy::Role { role, name: Some(name) } => format!("role {role}, name {}", matcher(name)),
        LocatorStrategy::Label(m) => format!("label {}", matcher(m)),
        LocatorStrategy::Placeholder(m) => format!("placeholder {}", matcher(m)),
        LocatorStrategy::Text(m) => format!("text {}", matcher(m)),
        LocatorStrategy::Alt(m) => format!("alt {}", matcher(m)),
        LocatorStrategy::Title(m) => format!("title {}", matcher(m)),
        LocatorStrategy::TestId(m) => format!("testid {}", matcher(m)),
        LocatorStrategy::Id(t) => format!("id \"{}\"", t.raw()),
        LocatorStrategy::Css(t) => format!("css {}", t.raw()),
        LocatorStrategy::Xpath(t) => format!("xpath {}", t.raw()),
        LocatorStrategy::AnyOf(targets) | LocatorStrategy::OneOf(targets) => {
            targets.iter().map(show).collect::<Vec<_>>().join("; else ")
        }
    };
    if let Some(nth) = target.nth {
        shown.push_str(&format!(", number {nth}"));
    }
    if let Some(within) = &target.within {
        shown.push_str(&format!(", within ({})", show(within)));
    }
    shown
}

fn matcher(matcher_of: &Matcher) -> String {
    match matcher_of {
        Matcher::Equals(Value::Text(text)) => format!("\"{}\"", text.raw()),
        Matcher::Contains(text) => format!("contains \"{}\"", text.raw()),
        Matcher::StartsWith(text) => format!("starts with \"{}\"", text.raw()),
        Matcher::EndsWith(text) => format!("ends with \"{}\"", text.raw()),
        Matcher::Matches(pattern) => format!("matches /{}/", pattern.text().raw()),
        Matcher::Not(inner) => format!("not {}", matcher(inner)),
        Matcher::Schema(_) => "a JSON Schema".into(),
        Matcher::OneOf(all) => {
            let all: Vec<_> = all
                .iter()
                .map(|one| match one {
                    Value::Text(text) => format!("\"{}\"", text.raw()),
                    other => format!("{other:?}"),
                })
                .collect();
            format!("one of {}", all.join(", "))
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::lookup::Environment;

    #[test]
    fn what_an_objective_allows_is_told() {
        let check = |schedule: &str, slo: &str, expected: &[&str]| {
            let text = format!("scenario: Shop\n{schedule}\nslo: {{{slo}}}\nsteps:\n  - GET: https://a.example/\n");
            let loaded = load("shop.yaml", &text, &Environment::everything());
            assert_eq!(loaded.diagnostics, [], "{text}");
            let mut out = Vec::new();
            // A Monday.
            let now = "2026-03-02T00:00:00Z".parse().unwrap();
            scenario(&loaded.scenarios[0], now, &mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            let lines =
                out.lines().skip_while(|line| !line.starts_with("  slo ")).take_while(|line| *line != "  steps");
            assert_eq!(lines.map(str::trim).collect::<Vec<_>>(), expected, "{out}");
        };
        check(
            "every: 1m",
            "objective: 99.9%",
            &[
                "slo       99.9% over 30d: 43 failures of 43200 runs",
                "critical by 3 failures of 60 runs within 1h, 1 of 5 within 5m",
                "critical by 5 failures of 360 runs within 6h, 1 of 30 within 30m",
                "warning by 8 failures of 4320 runs within 3d, 1 of 360 within 6h",
            ],
        );
        check(
            "cron: \"0 8-19 * * MON-FRI\"",
            "objective: 95%, window: 7d",
            &[
                "slo       95% over 7d: 3 failures of 60 runs",
                "critical never within 1h; runs in it: 1",
                "critical by 5 failures of 6 runs within 6h, 1 of 1 within 30m",
                "warning by 8 failures of 36 runs within 3d, 1 of 6 within 6h",
            ],
        );
    }

    #[test]
    fn steps_and_due_times_are_told() {
        let file = std::env::temp_dir().join(format!("wachta-explain-{}.yaml", std::process::id()));
        let text = "scenario: Shop\ncron: \"30 2 * * *\"\ntimezone: Europe/Warsaw\nsteps:\n  - goto: https://a.example\n  - click: {button: {contains: Pay}}\n    optional: true\n  - group: Rest\n    steps:\n      - GET: https://a.example/x\n  - drag: {text: Card, nth: 2}\n    to: {any_of: [{text: Bin, within: {row: Last}}, {css: \".bin\"}]}\n    within_frame: {title: Board}\n    continue: true\n";
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let args = ExplainArgs { paths: vec![file.clone()] };
        let now = "2026-03-27T12:00:00Z".parse().unwrap();
        let code = explain(&args, &Environment::everything(), now, false, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(code, exit::PASSED, "{out}");
        for line in [
            "shop   Shop (browser)",
            "    1. goto https://a.example   timeout 30s",
            "    2. click button contains \"Pay\"   timeout 10s   optional",
            "       target role button, name contains \"Pay\"",
            "    3. Rest",
            "    3.1. GET https://a.example/x   timeout 10s",
            "    4. drag text \"Card\" 2   timeout 10s   continue",
            "       frame  title \"Board\"",
            "       target text \"Card\", number 2",
            "       to     text \"Bin\", within (role row, name \"Last\"); else css .bin",
            "    2026-03-28T02:30:00+01:00 Sat CET",
            "    2026-03-29T03:00:00+02:00 Sun CEST",
        ] {
            assert!(out.lines().any(|seen| seen == line), "{line}\n{out}");
        }
        assert_eq!(out.lines().filter(|line| line.contains("T02:30:00")).count(), 9);
    }
}
