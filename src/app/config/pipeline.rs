//! Agent configuration: settings of the alert pipeline.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;

use super::receivers;
use super::shape::key;
use super::value::{receiver_names, texts};
use crate::incident::during::{WEEKDAYS, every_day, first_instant, time_of_day, weekday};
use crate::incident::{During, FORMS, Matcher, Matchers};
use crate::notify::{Begins, Causes, Escalation, OutboundHeartbeat, Window};
use crate::scenario::Severity;
use crate::scenario::keys::{Key, Shape};
use crate::scenario::load::timezone;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::timing::Cron;
use crate::scenario::tree::{Node, NodeKind};

/// Maximum group wait, because a later notification would be useless.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// Keys of a maintenance window.
pub(super) const MAINTENANCE: &[Key] = &[
    key(
        "cron",
        Shape::Text,
        "cron expression of the start of a repeated window: five fields, or six with seconds first",
    ),
    key("for", Shape::Duration, "with `cron`: duration of the window, at most 31d"),
    key(
        "from",
        Shape::Text,
        "start of a one-time window: `2026-12-24T20:00:00+01:00`, or `2026-12-24T20:00` in `timezone`",
    ),
    key("until", Shape::Text, "with `from`: end of the one-time window, at most 31d after its start"),
    key("timezone", Shape::Text, "time zone of `cron`, `from` and `until`, such as Europe/Warsaw (default: UTC)"),
    key(
        "during",
        Shape::Keys(&[DURING]),
        "weekdays and times of day of the window, alone or as a limit of the other keys",
    ),
    key(
        "match",
        MATCH,
        "conditions that must all hold, on tags, severity, scenario, name, location, kind or host (default: none)",
    ),
];

/// Shape of `match`: a value that must be equal, or one of the other forms.
pub(super) const MATCH: Shape = Shape::Map(&Shape::Either(&[Shape::Text, Shape::Keys(&[MATCHER])]));
/// Forms of a matcher other than a plain value.
const MATCHER: &[Key] = &[
    key("not", Shape::Text, "does not exist, or is not equal to this value"),
    key("matches", Shape::Text, "matches a regular expression"),
    key("not_matches", Shape::Text, "does not match a regular expression"),
];
/// Keys of `during` in a route or maintenance window.
pub(super) const DURING: &[Key] = &[
    key(
        "weekdays",
        Shape::List(&Shape::Text),
        "days on which the time starts: mon, tue, wed, thu, fri, sat, sun (default: every day)",
    ),
    key("from", Shape::Text, "start time, such as `08:00` (default: `00:00`)"),
    key(
        "until",
        Shape::Text,
        "end time, such as `18:00`; on the following day if it is not after `from` (default: end of the day)",
    ),
    key("timezone", Shape::Text, "time zone of the times, such as Europe/Warsaw (default: UTC)"),
];
/// Shape of `escalate`.
pub(super) const ESCALATE: Shape = Shape::List(&Shape::Keys(&[ESCALATION]));
const ESCALATION: &[Key] = &[
    key(
        "after",
        Shape::Duration,
        "delay after the first notification, at most 7d; longer than that of the step before; required",
    ),
    key("to", Shape::List(&Shape::Text), "names of further receivers; required"),
];
/// Maximum delay of an escalation step.
const LONGEST_ESCALATION: Duration = Duration::from_hours(7 * 24);

/// Parses `match`.
pub(super) fn matches(r: &mut Reader, fields: &Fields) -> Matchers {
    let mut matches = Matchers::default();
    let Some(node) = fields.get("match") else { return matches };
    let entries = r.entries(node, "`match`").unwrap_or_default();
    if entries.is_empty() {
        r.fail_with(node.span, "`match` is empty", "omit it to match everything");
    }
    for entry in entries {
        let (key, value) = (format!("`{}`", entry.key), &entry.value);
        let matcher = if matches!(value.kind, NodeKind::Map(_)) {
            form(r, value, &key)
        } else {
            r.text(value, &key).map(|text| Matcher::Equals(text.value))
        };
        let Some(matcher) = matcher else { continue };
        if matcher.value().is_empty() {
            r.fail_with(value.span, format!("{key} has no value"), "add a value");
        }
        if entry.key == "severity" && matches!(matcher, Matcher::Equals(_)) {
            r.word(value, "severity", &Severity::ALL.map(Severity::as_str));
        }
        matches.0.insert(entry.key.clone(), matcher);
    }
    matches
}

/// Parses one of the forms other than a plain value.
fn form(r: &mut Reader, node: &Node, what: &str) -> Option<Matcher> {
    let fields = r.fields(node, what, &[MATCHER])?;
    let given: Vec<&str> = FORMS.into_iter().filter(|form| fields.get(form).is_some()).collect();
    let [form] = given[..] else {
        r.fail_with(node.span, format!("{what} needs one comparison"), "write {matches: \"^shop-\"}");
        return None;
    };
    let node = fields.get(form)?;
    let text = r.text(node, &format!("`{form}`"))?;
    match Matcher::of_form(form, &text) {
        Ok(matcher) => Some(matcher),
        Err(problem) => {
            r.fail(node.span, problem);
            None
        }
    }
}

/// Parses `causes` of a route.
pub(super) fn causes(r: &mut Reader, fields: &Fields) -> Causes {
    let Some(node) = fields.get("causes") else { return Causes::Widening };
    match r.word(node, "causes", &["apart", "together"]) {
        Some("apart") => Causes::Apart,
        Some("together") => Causes::Together,
        _ => Causes::Widening,
    }
}

/// Parses `during` of a route or maintenance window.
pub(super) fn during(r: &mut Reader, node: &Node) -> Option<During> {
    let fields = r.fields(node, "`during`", &[DURING])?;
    let errors = r.errors();
    let mut weekdays = Vec::new();
    match fields.get("weekdays") {
        None => weekdays = every_day(),
        Some(node) => {
            let items = r.list(node, "`weekdays`").unwrap_or_default();
            let is_empty = items.is_empty();
            for item in items {
                weekdays.extend(r.word(item, "weekday", &WEEKDAYS).and_then(|day| weekday(day).ok()));
            }
            if is_empty {
                r.fail_with(node.span, "`weekdays` is empty", "omit it for every day");
            }
        }
    }
    let mut time = |name: &str| {
        let node = fields.get(name)?;
        let text = r.text(node, &format!("`{name}`"))?;
        let time = time_of_day(&text).ok();
        if time.is_none() {
            r.fail_with(node.span, format!("`{name}` is not a time of the day"), "write it like 08:00");
        }
        time
    };
    let (from, until) = (time("from").unwrap_or_default(), time("until"));
    let timezone = fields.get("timezone").map_or(Some(Tz::UTC), |node| timezone(r, node))?;
    (r.errors() == errors).then_some(During { weekdays, from, until, timezone })
}

/// Parses `escalate` of all routes or of one.
pub(super) fn escalate(r: &mut Reader, node: &Node, receivers: &[&str]) -> Option<Vec<Escalation>> {
    let mut steps: Vec<Escalation> = Vec::new();
    for item in r.list(node, "`escalate`")? {
        let fields = r.fields(item, "a step of `escalate`", &[ESCALATION])?;
        let (Some(after), Some(to)) = (fields.get("after"), fields.get("to")) else {
            r.fail_with(item.span, "a step of `escalate` needs `after` and `to`", "write {after: 15m, to: [lead]}");
            continue;
        };
        let (Some(wait), Some(to)) = (r.duration(after, "`after`"), receiver_names(r, to, receivers)) else {
            continue;
        };
        if wait > LONGEST_ESCALATION {
            r.fail(after.span, "`after` must be at most 7d");
        }
        if steps.last().is_some_and(|before| before.after >= wait) {
            r.fail_with(
                after.span,
                "each step of `escalate` must be later than the one before",
                "sort them by `after`",
            );
        }
        steps.push(Escalation { after: wait, to });
    }
    Some(steps)
}

/// Keys of `dead_mans_switch`.
pub(super) const ALIVE: &[Key] = &[
    key("url", receivers::SECRET, "URL of the external service, called with GET; required"),
    key("every", Shape::Duration, "interval of the calls, 10s to 24h (default: 1m)"),
];
/// Minimum and maximum interval of the outbound heartbeat: a shorter one is a burden for the service, a longer one is
/// no sign of life.
const ALIVE_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_hours(24)];

/// Parses `dead_mans_switch`.
pub(super) fn alive(r: &mut Reader, node: &Node) -> Option<OutboundHeartbeat> {
    let fields = r.fields(node, "`dead_mans_switch`", &[ALIVE])?;
    let Some(url) = fields.get("url") else {
        r.fail_with(fields.span, "`dead_mans_switch` needs `url:`", "the URL of a heartbeat service");
        return None;
    };
    let url = receivers::secret_url(r, url, "`url`");
    let mut every = Duration::from_mins(1);
    if let Some(node) = fields.get("every") {
        every = r.duration(node, "`every`")?;
        if every < ALIVE_EVERY[0] || every > ALIVE_EVERY[1] {
            r.fail(node.span, "`every` must be from 10s to 24h");
        }
    }
    Some(OutboundHeartbeat { url: url?, every })
}

/// Maximum length of a maintenance window; for a longer time, the scenario should be removed or paused.
const LONGEST_WINDOW: Duration = Duration::from_hours(31 * 24);

/// Parses a maintenance window.
pub(super) fn maintenance(r: &mut Reader, node: &Node) -> Option<Window> {
    let fields = r.fields(node, "a maintenance window", &[MAINTENANCE])?;
    let errors = r.errors();
    let matches = matches(r, &fields);
    let timezone = fields.get("timezone").map_or(Some(Tz::UTC), |node| timezone(r, node))?;
    let during = match fields.get("during") {
        Some(node) => Some(during(r, node)?),
        None => None,
    };
    let window = match [fields.get("cron"), fields.get("for"), fields.get("from"), fields.get("until")] {
        [Some(cron), Some(length), None, None] => {
            let expression = r.text(cron, "`cron`")?;
            if let Err(bad) = Cron::parse(&expression) {
                r.fail(cron.span, format!("`cron` is not a cron expression: {}", bad.message));
            }
            let length = r.duration(length, "`for`")?;
            Window { begins: Begins::Cron { expression: expression.value, timezone }, length, during, matches }
        }
        [None, None, None, None] if during.is_some() => {
            if let Some(node) = fields.get("timezone") {
                r.fail(node.span, "write the `timezone` of `during` inside it");
            }
            Window { begins: Begins::Always, length: Duration::ZERO, during, matches }
        }
        [None, None, Some(from), Some(until)] => {
            let (begins, ends) = (instant(r, from, "`from`", timezone)?, instant(r, until, "`until`", timezone)?);
            let Ok(length) = (ends - begins).to_std() else {
                r.fail(until.span, "`until` is before `from`");
                return None;
            };
            Window { begins: Begins::Once(begins), length, during, matches }
        }
        _ => {
            r.fail_with(
                node.span,
                "a window needs `cron` and `for`, `from` and `until`, or `during`",
                "write {cron: \"0 2 * * SUN\", for: 2h}",
            );
            return None;
        }
    };
    if window.length > LONGEST_WINDOW {
        r.fail_with(node.span, "a window must be at most 31d long", "remove the scenario instead");
    }
    (r.errors() == errors).then_some(window)
}

/// Parses a time with an offset, or a local time in a timezone.
fn instant(r: &mut Reader, node: &Node, what: &str, timezone: Tz) -> Option<DateTime<Utc>> {
    let text = r.text(node, what)?;
    if let Ok(at) = DateTime::parse_from_rfc3339(&text) {
        return Some(at.to_utc());
    }
    let local = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(&text, form).ok())
        .and_then(|local| first_instant(timezone, local));
    if local.is_none() {
        r.fail_with(node.span, format!("{what} is not a time"), "write it like 2026-12-24T20:00");
    }
    local.map(|local| local.to_utc())
}

/// Parses `group_by` and `group_wait` of a route.
pub(super) fn grouping(r: &mut Reader, fields: &Fields) -> (Vec<String>, Option<Duration>) {
    let by = fields.get("group_by").and_then(|node| texts(r, node, "`group_by`")).unwrap_or_default();
    let mut wait = None;
    let at_once = |node: &Node| node.scalar().is_some_and(|scalar| scalar.text == "0s");
    if fields.get("group_wait").is_some_and(at_once) {
        wait = Some(Duration::ZERO);
    } else if let Some(node) = fields.get("group_wait")
        && let Some(read) = r.duration(node, "`group_wait`")
    {
        if read > LONGEST_WAIT {
            r.fail_with(node.span, "`group_wait` must be at most 15m", "longer waits delay the notification");
        }
        wait = Some(read);
    }
    (by, wait)
}

#[cfg(test)]
mod tests {
    use crate::app::config::read;

    #[test]
    fn a_wait_is_bounded() {
        let check = |route: &str, expected: &[&str]| {
            let text = format!("location: a\nscenarios: []\nalerting:\n  routes:\n    - {{to: [log], {route}}}\n");
            let found = read("wachta.yaml", &text).1;
            let shown: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            assert_eq!(shown, expected, "{route}");
        };
        check("group_wait: 0s", &[]);
        check("group_wait: 15m, group_by: []", &[]);
        check("group_wait: 16m", &["wachta.yaml:5:31: `group_wait` must be at most 15m"]);
        check("group_wait: 30", &["wachta.yaml:5:31: `group_wait`: `30` has no unit"]);
        check("group_by: team", &["wachta.yaml:5:29: `group_by` must be a list, not text"]);
    }

    #[test]
    fn a_window_is_by_cron_by_dates_or_by_times_of_the_day() {
        let check = |window: &str, expected: &[&str]| {
            let text = format!("location: a\nscenarios: []\nalerting:\n  maintenance:\n    - {{{window}}}\n");
            let found = read("wachta.yaml", &text).1;
            let shown: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            assert_eq!(shown, expected, "{window}");
        };
        check("during: {weekdays: [sat, sun]}", &[]);
        check("during: {from: \"22:00\", until: \"06:00\", timezone: Europe/Warsaw}, match: {team: shop}", &[]);
        check("cron: \"0 2 * * *\", for: 2h, during: {weekdays: [mon]}", &[]);
        check("from: \"2026-12-24T20:00\", until: \"2026-12-27T20:00\", during: {from: \"08:00\"}", &[]);
        check("during: {weekdays: []}", &["wachta.yaml:5:27: `weekdays` is empty"]);
        let zone = "wachta.yaml:5:45: write the `timezone` of `during` inside it";
        check("during: {weekdays: [sat]}, timezone: Europe/Warsaw", &[zone]);
        let needs = "wachta.yaml:5:7: a window needs `cron` and `for`, `from` and `until`, or `during`";
        check("match: {team: shop}", &[needs]);
    }

    #[test]
    fn a_route_says_when_how_and_to_whom_else() {
        let check = |route: &str, expected: &[&str]| {
            let text = format!(
                "location: a\nscenarios: []\nalerting:\n  receivers: {{lead: {{log: {{}}}}}}\n  routes:\n    - {{to: [log], {route}}}\n"
            );
            let found = read("wachta.yaml", &text).1;
            let shown: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            assert_eq!(shown, expected, "{route}");
        };
        check("during: {weekdays: [mon, fri], from: \"08:00\", until: \"18:00\", timezone: Europe/Warsaw}", &[]);
        check("during: {until: \"06:00\"}, causes: together, group_by: [host]", &[]);
        check("during: {weekdays: [monday]}", &["wachta.yaml:6:39: unknown weekday `monday`"]);
        check("during: {weekdays: []}", &["wachta.yaml:6:38: `weekdays` is empty"]);
        check("during: {from: \"8 am\"}", &["wachta.yaml:6:34: `from` is not a time of the day"]);
        check("causes: often", &["wachta.yaml:6:27: unknown causes `often`"]);
        check("escalate: [{after: 15m, to: [lead]}, {after: 1h, to: [log, lead]}]", &[]);
        check("escalate: [{after: 15m, to: [led]}]", &["wachta.yaml:6:48: unknown receiver `led`"]);
        check("escalate: [{after: 15m}]", &["wachta.yaml:6:30: a step of `escalate` needs `after` and `to`"]);
        check(
            "escalate: [{after: 1h, to: [lead]}, {after: 15m, to: [lead]}]",
            &["wachta.yaml:6:63: each step of `escalate` must be later than the one before"],
        );
        check("match: {team: {not: shop}, name: {matches: \"^a\"}, kind: {not_matches: b}}", &[]);
        check("match: {}", &["wachta.yaml:6:26: `match` is empty"]);
        check("match: {team: \"\"}", &["wachta.yaml:6:33: `team` has no value"]);
        check("match: {team: {matches: \"(\"}}", &["wachta.yaml:6:43: `(` is not a regular expression"]);
        check("match: {team: {not: a, matches: b}}", &["wachta.yaml:6:33: `team` needs one comparison"]);
        check(
            "match: {team: {nt: a}}",
            &["wachta.yaml:6:33: `team` needs one comparison", "wachta.yaml:6:34: unknown key `nt`"],
        );
    }

    #[test]
    fn a_sign_of_life_is_read() {
        let check = |written: &str, expected: Result<u64, &[&str]>| {
            let text = format!("location: a\nscenarios: []\nalerting: {{dead_mans_switch: {written}}}\n");
            let (config, found) = read("wachta.yaml", &text);
            let shown: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            let seconds = config.and_then(|config| Some(config.alerting.alive?.every.as_secs()));
            assert_eq!(
                (shown, seconds),
                match expected {
                    Ok(seconds) => (Vec::new(), Some(seconds)),
                    Err(problems) => (problems.iter().map(|problem| (*problem).to_owned()).collect(), None),
                },
                "{written}"
            );
        };
        check("{url: \"https://hc.example.com/ping/abc\"}", Ok(60));
        check("{url: {file: alive.url}, every: 5m}", Ok(300));
        check("{url: {env: ALIVE}, every: 10s}", Ok(10));
        check("{every: 1m}", Err(&["wachta.yaml:3:30: `dead_mans_switch` needs `url:`"]));
        check("{url: hc.example.com}", Err(&["wachta.yaml:3:36: `url` is not a URL"]));
        check("{url: \"https://a/b\", every: 1s}", Err(&["wachta.yaml:3:58: `every` must be from 10s to 24h"]));
        check("{url: {file: a, env: b}}", Err(&["wachta.yaml:3:36: `url` needs one source"]));
        check("{url: \"https://a/b\", evry: 1m}", Err(&["wachta.yaml:3:51: unknown key `evry`"]));
    }

    #[test]
    fn windows_are_read() {
        let check = |window: &str, expected: Result<(&str, u64), &[&str]>| {
            let text = format!("location: a\nscenarios: []\nalerting:\n  maintenance:\n    - {window}\n");
            let (config, found) = read("wachta.yaml", &text);
            let shown: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            match expected {
                Err(problems) => assert_eq!(shown, problems, "{window}"),
                Ok((first, minutes)) => {
                    assert_eq!(shown, [""; 0], "{window}");
                    let window = &config.expect("reads").alerting.maintenance[0];
                    // A Monday.
                    let after = chrono::DateTime::from_timestamp(1_767_571_200, 0).expect("a time");
                    let first_is = window.next_after(after).map(|at| at.to_rfc3339()).unwrap_or_default();
                    assert_eq!((first_is.as_str(), window.length.as_secs() / 60), (first, minutes), "{window:?}");
                }
            }
        };
        check("{cron: \"0 2 * * SUN\", for: 2h, timezone: Europe/Warsaw}", Ok(("2026-01-11T01:00:00+00:00", 120)));
        check("{cron: \"0 2 * * SUN\", for: 2h, match: {team: shop}}", Ok(("2026-01-11T02:00:00+00:00", 120)));
        let dates = "{from: \"2026-12-24T20:00\", until: \"2026-12-25T08:00:00+01:00\", timezone: Europe/Warsaw}";
        check(dates, Ok(("2026-12-24T19:00:00+00:00", 720)));
        // The clocks there change from 02:00 to 03:00, and from 03:00 to 02:00.
        let skipped = "{from: \"2026-03-29T02:30\", until: \"2026-03-29T04:00\", timezone: Europe/Warsaw}";
        check(skipped, Ok(("2026-03-29T01:00:00+00:00", 60)));
        let twice = "{from: \"2026-10-25T02:30\", until: \"2026-10-25T04:00\", timezone: Europe/Warsaw}";
        check(twice, Ok(("2026-10-25T00:30:00+00:00", 150)));
        check("{cron: \"0 2 * * SUN\", for: 2h, match: {team: {not: shop}}}", Ok(("2026-01-11T02:00:00+00:00", 120)));
        let empty = "wachta.yaml:5:45: `match` is empty";
        check("{cron: \"0 2 * * SUN\", for: 2h, match: {}}", Err(&[empty]));
        let form = "wachta.yaml:5:7: a window needs `cron` and `for`, `from` and `until`, or `during`";
        check("{cron: \"0 2 * * SUN\"}", Err(&[form]));
        check("{for: 2h}", Err(&[form]));
        check("{cron: \"0 2 * * SUN\", for: 2h, from: \"2026-12-24T20:00\"}", Err(&[form]));
        check("{from: soon, until: \"2026-12-24T20:00\"}", Err(&["wachta.yaml:5:14: `from` is not a time"]));
        check("{cron: \"0 2 * * SUN\", for: 40d}", Err(&["wachta.yaml:5:7: a window must be at most 31d long"]));
        check("{cron: \"0 2 * * *\", for: 1h, mach: {a: b}}", Err(&["wachta.yaml:5:36: unknown key `mach`"]));
    }
}
