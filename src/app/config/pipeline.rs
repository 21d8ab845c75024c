//! The agent's file: what the pipeline makes of outcomes before anyone is told.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::receivers;
use crate::notify::{Alive, Begins, Window};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::load::timezone;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::timing::Cron;
use crate::scenario::tree::Node;

/// The longest that a group may gather: a notice that comes later helps nobody.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// One window of `maintenance`.
pub(super) const MAINTENANCE: &[Key] = &[
    super::key("cron", Shape::Text, "when it begins, over and over: five fields, or six with seconds first"),
    super::key("for", Shape::Duration, "how long it lasts"),
    super::key(
        "from",
        Shape::Text,
        "or when it begins, once: 2026-12-24T20:00:00+01:00, or 2026-12-24T20:00 in `timezone`",
    ),
    super::key("until", Shape::Text, "when that ends"),
    super::key("timezone", Shape::Text, "the zone of its times, like Europe/Warsaw; default UTC"),
    super::key(
        "match",
        Shape::Map(&Shape::Text),
        "tags, or severity, scenario, location, kind, and their values; left out: everything",
    ),
];

/// The keys of `alive`.
pub(super) const ALIVE: &[Key] = &[
    super::key("url", receivers::SECRET, "what is called with GET; text, {file: …} or {env: …}"),
    super::key("every", Shape::Duration, "how often; default 1m"),
];
/// How often somebody may be called: more is a burden, less is no sign of life.
const ALIVE_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_hours(24)];

/// `alive`.
pub(super) fn alive(r: &mut Reader, node: &Node) -> Option<Alive> {
    let fields = r.fields(node, "`alive`", &[ALIVE])?;
    let Some(url) = fields.get("url") else {
        r.fail_with(fields.span, "`alive` needs `url:`", "what a heartbeat service gave you");
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
    Some(Alive { url: url?, every })
}

/// The longest window: beyond, a scenario had better be taken out.
const LONGEST_WINDOW: Duration = Duration::from_hours(31 * 24);

/// One window of `maintenance`.
pub(super) fn maintenance(r: &mut Reader, node: &Node) -> Option<Window> {
    let fields = r.fields(node, "a window of `maintenance`", &[MAINTENANCE])?;
    let errors = r.errors();
    let matches = super::matches(r, &fields);
    let timezone = fields.get("timezone").map_or(Some(Tz::UTC), |node| timezone(r, node))?;
    let window = match [fields.get("cron"), fields.get("for"), fields.get("from"), fields.get("until")] {
        [Some(cron), Some(length), None, None] => {
            let expression = r.text(cron, "`cron`")?;
            if let Err(bad) = Cron::parse(&expression) {
                r.fail(cron.span, format!("`cron` is not one: {}", bad.message));
            }
            let length = r.duration(length, "`for`")?;
            Window { begins: Begins::Cron { expression: expression.value, timezone }, length, matches }
        }
        [None, None, Some(from), Some(until)] => {
            let (begins, ends) = (instant(r, from, "`from`", timezone)?, instant(r, until, "`until`", timezone)?);
            let Ok(length) = (ends - begins).to_std() else {
                r.fail(until.span, "`until` is before `from`");
                return None;
            };
            Window { begins: Begins::At(begins), length, matches }
        }
        _ => {
            r.fail_with(
                node.span,
                "a window needs `cron` and `for`, or `from` and `until`",
                "write {cron: \"0 2 * * SUN\", for: 2h}",
            );
            return None;
        }
    };
    if window.length > LONGEST_WINDOW {
        r.fail_with(node.span, "a window must be at most 31d long", "what nobody wants to hear of can be taken out");
    }
    (r.errors() == errors).then_some(window)
}

/// A point in time, with an offset or in a zone.
fn instant(r: &mut Reader, node: &Node, what: &str, timezone: Tz) -> Option<DateTime<Utc>> {
    let text = r.text(node, what)?;
    if let Ok(at) = DateTime::parse_from_rfc3339(&text) {
        return Some(at.to_utc());
    }
    let local = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(&text, form).ok())
        .and_then(|local| timezone.from_local_datetime(&local).earliest());
    if local.is_none() {
        r.fail_with(node.span, format!("{what} is not a time"), "write it like 2026-12-24T20:00");
    }
    local.map(|local| local.to_utc())
}

/// `group_by` and `group_wait` of a route.
pub(super) fn grouping(r: &mut Reader, fields: &Fields) -> (Vec<String>, Option<Duration>) {
    let by = fields.get("group_by").and_then(|node| super::texts(r, node, "`group_by`")).unwrap_or_default();
    let mut wait = None;
    let at_once = |node: &Node| node.scalar().is_some_and(|scalar| scalar.text == "0s");
    if fields.get("group_wait").is_some_and(at_once) {
        wait = Some(Duration::ZERO);
    } else if let Some(node) = fields.get("group_wait")
        && let Some(read) = r.duration(node, "`group_wait`")
    {
        if read > LONGEST_WAIT {
            r.fail_with(node.span, "`group_wait` must be at most 15m", "people wait for the notice");
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
    fn a_sign_of_life_is_read() {
        let check = |written: &str, expected: Result<u64, &[&str]>| {
            let text = format!("location: a\nscenarios: []\nalerting: {{alive: {written}}}\n");
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
        check("{every: 1m}", Err(&["wachta.yaml:3:19: `alive` needs `url:`"]));
        check("{url: hc.example.com}", Err(&["wachta.yaml:3:25: `url` is not a URL"]));
        check("{url: \"https://a/b\", every: 1s}", Err(&["wachta.yaml:3:47: `every` must be from 10s to 24h"]));
        check("{url: {file: a, env: b}}", Err(&["wachta.yaml:3:25: `url` needs one source"]));
        check("{url: \"https://a/b\", evry: 1m}", Err(&["wachta.yaml:3:40: unknown key `evry`"]));
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
        let form = "wachta.yaml:5:7: a window needs `cron` and `for`, or `from` and `until`";
        check("{cron: \"0 2 * * SUN\"}", Err(&[form]));
        check("{for: 2h}", Err(&[form]));
        check("{cron: \"0 2 * * SUN\", for: 2h, from: \"2026-12-24T20:00\"}", Err(&[form]));
        check("{from: soon, until: \"2026-12-24T20:00\"}", Err(&["wachta.yaml:5:14: `from` is not a time"]));
        check("{cron: \"0 2 * * SUN\", for: 40d}", Err(&["wachta.yaml:5:7: a window must be at most 31d long"]));
        check("{cron: \"0 2 * * *\", for: 1h, mach: {a: b}}", Err(&["wachta.yaml:5:36: unknown key `mach`"]));
    }
}
