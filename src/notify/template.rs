//! Message templates: minijinja templates for the title and text of notifications, with defaults.
//!
//! Templates produce plain text. Each receiver truncates it first and then escapes it for its own markup, so that no
//! markup is ever truncated. Links, the screenshot and the mark of a repeat are added by the receiver, not by
//! templates.

use std::ops::Range;

use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value};
use serde_json::{Value as Json, json};

use super::{Links, headline, truncate};
use crate::incident::{Ending, Event, Incident, Notification, RelatedIncident, Subject};
use crate::names::Reason;
use crate::outcome::{RunId, Verdict};
use crate::scenario::{HumanDuration, Severity};
use crate::secret::Masked;

/// Limit of a template's execution, in minijinja's fuel: one unit per instruction, and one per 64 bytes of output.
const FUEL: u64 = 200_000;
/// Maximum length of a text passed to templates, in bytes.
const LONGEST: usize = 4096;
/// Maximum length of the output of a template, in bytes; receivers truncate further.
const LARGEST: usize = 64 << 10;

/// Default templates.
pub(super) const TITLE: &str = "{{ headline }}";
pub(super) const TEXT: &str = "\
{% if note %}
{{ note }}
{% endif %}
{% if unwatched %}
not monitored: no runs since {{ unwatched }}
{% endif %}
{% if acknowledged and event != 'resolved' and ('acknowledged by ' ~ acknowledged) not in (note or '') %}
acknowledged by: {{ acknowledged }}
{% endif %}
{% if ending %}
{{ ending }}{% if ending_reason %} by {{ ending_reason }}{% endif %}

{% endif %}
{% if step %}
step: {{ step }}
{% endif %}
{% if message %}
{{ 'was' if event == 'resolved' or event == 'digest' and resolved_at else 'error' }}: {{ message }}
{% endif %}
{% if difference and event != 'resolved' %}
since the last good run: {{ difference }}
{% endif %}
{% if target and event != 'resolved' %}
target: {{ target }}
{% endif %}
{% if place and event != 'resolved' %}
source: {{ place }}
{% endif %}
location: {{ location }}
since: {{ began_at }}{% if resolved_at %}, until {{ resolved_at }} ({{ lasted }}){% endif %}

{% if others %}
also affected ({{ others|length + omitted }}):
{% for other in others %}
- {{ other.name }}{% if other.resolved_at %} ({{ other.ending or 'resolved' }}){% elif other.step %}: {{ other.step }}{% endif %}

{% endfor %}
{% if omitted %}
- and {{ omitted }} more
{% endif %}
{% endif %}";

/// Names available to templates.
pub const NAMES: [&str; 34] = [
    "headline",
    "event",
    "severity",
    "name",
    "subject",
    "kind",
    "tags",
    "location",
    "verdict",
    "reason",
    "message",
    "difference",
    "step",
    "place",
    "run",
    "began_at",
    "opened_at",
    "resolved_at",
    "lasted",
    "bad_runs",
    "note",
    "others",
    "omitted",
    "runbook",
    "links",
    "receiver",
    "dedup_key",
    "repeat",
    "open",
    "target",
    "ending",
    "ending_reason",
    "unwatched",
    "acknowledged",
];

/// Configured templates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Templates {
    /// Template of the title, which is one line.
    pub title: Option<String>,
    /// Template of the text below the title.
    pub text: Option<String>,
}

/// Error in a template, with its position.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error message.
    pub message: String,
    /// Most similar known name, if there is one.
    pub near: Option<&'static str>,
    /// Position in the template, in bytes.
    pub range: Option<Range<usize>>,
}

/// Compiled templates.
pub(super) struct CompiledTemplates {
    env: Environment<'static>,
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("the delimiters are the default ones"));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_debug(true);
    env.set_fuel(Some(FUEL));
    env
}

impl CompiledTemplates {
    /// Compiles the templates, which were already checked. If one does not compile, it is logged and the default is
    /// used.
    pub(super) fn new(templates: &Templates) -> Self {
        let mut env = environment();
        let own = [("title", &templates.title), ("text", &templates.text)];
        for (name, source) in own.into_iter().filter_map(|(name, source)| Some((name, source.clone()?))) {
            if let Err(error) = env.add_template_owned(name, source) {
                tracing::error!(template = name, %error, "cannot compile the template: default used");
            }
        }
        for (name, source) in [("default title", TITLE), ("default text", TEXT)] {
            env.add_template(name, source)
                .expect("the default templates are part of the program, and a test renders them");
        }
        Self { env }
    }

    /// Renders the title, as one line, and the text.
    pub(super) fn render(&self, notification: &Notification, links: &Links) -> (String, String) {
        let names = names(notification, links);
        let [title, text] = ["title", "text"].map(|part| {
            let render = |name: &str| self.env.get_template(name).and_then(|template| template.render(&names));
            let own = self.env.get_template(part).is_ok().then(|| render(part));
            let made = match own {
                Some(Ok(made)) => made,
                Some(Err(error)) => {
                    let receiver = &notification.receiver;
                    tracing::error!(receiver, template = part, %error, "cannot render the template: default used");
                    render(&format!("default {part}")).unwrap_or_default()
                }
                None => render(&format!("default {part}")).unwrap_or_default(),
            };
            truncate::bytes(made.trim(), LARGEST)
        });
        (truncate::line(&title), text)
    }
}

/// Checks a template: compiles it, checks its names, and renders a sample.
pub fn check(source: &str) -> Result<(), Problem> {
    let env = environment();
    let problem = |error: &minijinja::Error| {
        let what =
            error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
        Problem { message: what, near: None, range: error.range().or_else(|| line_range(source, error.line()?)) }
    };
    let template = env.template_from_str(source).map_err(|error| problem(&error))?;
    let globals: Vec<&str> = env.globals().map(|(name, _)| name).collect();
    let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    unknown.retain(|name| !NAMES.contains(&name.as_str()) && !globals.contains(&name.as_str()));
    unknown.sort_by_key(|name| source.find(name.as_str()));
    if let Some(name) = unknown.first() {
        let at = source.find(name.as_str());
        return Err(Problem {
            message: format!("unknown name `{name}`"),
            near: crate::diagnostic::nearest(name, NAMES),
            range: at.map(|at| at..at + name.len()),
        });
    }
    template.render(names(&sample(), &Links::default())).map_err(|error| problem(&error))?;
    Ok(())
}

/// Returns the byte range of a line, counted from 1.
fn line_range(source: &str, line: usize) -> Option<Range<usize>> {
    let start: usize = source.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let text = source.get(start..)?.lines().next()?;
    Some(start..start + text.len())
}

/// Formats a time for people.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn names(notification: &Notification, links: &Links) -> Value {
    let incident = &notification.incident;
    let lasted = incident.resolved_at.map(|end| (end - incident.began()).to_std().unwrap_or_default());
    // Limited, so that rendering is limited as well.
    let text = |text: &str| truncate::bytes(text, LONGEST);
    let some = |value: &Option<String>| value.as_deref().map(text);
    let other = |other: &RelatedIncident| {
        json!({
            "subject": other.subject, "name": text(&other.name), "severity": other.severity.as_str(),
            "location": other.location, "step": some(&other.step), "message": other.message.as_deref().map(text),
            "opened_at": moment(other.opened_at), "resolved_at": other.resolved_at.map(moment),
            "run": links.run_of(other.last_run), "ending": other.ending.map(Ending::meaning),
        })
    };
    let names = json!({
        "headline": text(&headline(notification)), "event": notification.event.as_str(), "open": notification.event != Event::Resolved,
        "severity": incident.severity.as_str(), "name": text(&incident.name), "subject": incident.subject,
        "kind": incident.kind, "tags": incident.tags, "location": incident.location,
        "verdict": incident.verdict.as_str(), "reason": incident.reason.map(Reason::as_str),
        "message": incident.message.as_deref().map(text), "step": some(&incident.step), "place": some(&incident.place),
        "difference": incident.difference.as_deref().map(text),
        "run": incident.last_run.to_string(), "began_at": moment(incident.began()), "opened_at": moment(incident.opened_at),
        "resolved_at": incident.resolved_at.map(moment), "lasted": lasted.map(|lasted| HumanDuration(lasted).to_string()),
        "bad_runs": incident.bad_runs, "note": some(&notification.note),
        "others": notification.others.iter().map(other).collect::<Vec<_>>(), "omitted": notification.uncounted,
        "runbook": some(&incident.runbook), "receiver": notification.receiver, "dedup_key": notification.dedup_key(), "repeat": notification.repeat,
        "target": some(&incident.target), "ending": incident.ending.map(Ending::meaning),
        "ending_reason": some(&incident.ending_reason),
        "unwatched": incident.unwatched.as_ref().map(|it| format!("{}: {}", moment(it.since), text(&it.reason))),
        "acknowledged": incident.acknowledged.as_ref().map(|it| text(&it.author)),
        "links": {"incident": links.incident(notification), "run": links.run(notification), "silence": links.silence(notification)},
    });
    value_of(&names)
}

/// Converts a JSON value for templates. Numbers are converted explicitly, because serialization would turn them into
/// maps.
fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.to_string()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value_of).collect(),
        Json::Object(entries) => {
            let named = entries.iter().map(|(name, value)| (name.clone(), value_of(value)));
            Value::from(named.collect::<std::collections::BTreeMap<String, Value>>())
        }
    }
}

/// Returns a notification with values in as many fields as possible, to check templates with.
pub(super) fn sample() -> Notification {
    let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap_or_default();
    let incident = Incident {
        subject: Subject::from("shop-checkout"),
        sequence: 1,
        name: "Shop checkout".into(),
        tags: [("service".to_owned(), "shop".to_owned())].into(),
        kind: "browser".into(),
        severity: Severity::Critical,
        location: "waw-1".into(),
        opened_at: at(0),
        began_at: None,
        opened_by: RunId(uuid::Uuid::nil()),
        resolved_at: Some(at(750)),
        resolved_by: None,
        verdict: Verdict::Failed,
        last_run: RunId(uuid::Uuid::nil()),
        reason: Some(Reason::NotFound),
        message: Some(Masked::constant("no such element")),
        step: Some("click button \"Pay now\"".into()),
        place: Some("scenarios/shop-checkout.yaml:31:9".into()),
        difference: None,
        screenshot: None,
        runbook: Some("https://wiki.example.com/checkout".into()),
        bad_runs: 3,
        events: 1,
        receivers: Vec::new(),
        target: None,
        ending: None,
        ending_reason: None,
        unwatched: None,
        acknowledged: None,
    };
    let other = RelatedIncident {
        subject: Subject::from("shop-search"),
        name: "Shop search".into(),
        severity: Severity::Warning,
        location: "waw-1".into(),
        step: Some("open /search".into()),
        message: Some(Masked::constant("timeout")),
        opened_at: at(5),
        resolved_at: None,
        last_run: RunId(uuid::Uuid::nil()),
        ending: None,
    };
    Notification {
        others: vec![other],
        uncounted: 2,
        note: Some("was timeout".into()),
        ..Notification::new(&incident, Event::Opened, "team", at(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(notification: &Notification) -> String {
        let (title, text) = CompiledTemplates::new(&Templates::default()).render(notification, &Links::default());
        format!("{title}\n{text}")
    }

    #[test]
    fn the_default_says_what_on_call_asks() {
        let mut notification = sample();
        assert_eq!(
            text(&notification),
            "[CRITICAL] Shop checkout and 3 more failed at waw-1: click button \"Pay now\": no such element
was timeout
step: click button \"Pay now\"
error: no such element
source: scenarios/shop-checkout.yaml:31:9
location: waw-1
since: 2027-01-15 08:00:00 UTC, until 2027-01-15 08:12:30 UTC (12m30s)
also affected (3):
- Shop search: open /search
- and 2 more"
        );
        notification.event = Event::Resolved;
        (notification.note, notification.uncounted) = (None, 0);
        notification.others[0].resolved_at = notification.incident.resolved_at;
        assert_eq!(
            text(&notification),
            "[RESOLVED] Shop checkout and 1 more recovered at waw-1 after 12m30s; was: click button \"Pay now\": no such element
step: click button \"Pay now\"
was: no such element
location: waw-1
since: 2027-01-15 08:00:00 UTC, until 2027-01-15 08:12:30 UTC (12m30s)
also affected (1):
- Shop search (resolved)"
        );
    }

    #[test]
    fn every_name_is_there_and_no_other() {
        let (notification, links) = (sample(), Links::default());
        let values = names(&notification, &links);
        let mut there: Vec<String> = values.try_iter().unwrap().map(|name| name.to_string()).collect();
        let mut known = NAMES.map(ToOwned::to_owned);
        there.sort();
        known.sort();
        assert_eq!(there, known);
        let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/receivers.md")).unwrap();
        for name in NAMES {
            assert!(docs.contains(&format!("`{name}`")), "`{name}` is not documented");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (source, message, at, near) in [
            ("{{ headline", "syntax error: ", Some("headline"), None),
            ("a\n{% if step %}", "syntax error: ", None, None),
            ("{{ headline }} {{ mesage }}", "unknown name `mesage`", Some("mesage"), Some("message")),
            ("{{ message|loud }}", "unknown filter: ", Some("loud"), None),
            ("{{ 1 / 'a' }}", "", None, None),
            ("{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}", "", None, None),
        ] {
            let problem = check(source).expect_err(source);
            assert!(problem.message.starts_with(message) && !problem.message.is_empty(), "{source}: {problem:?}");
            assert_eq!(problem.near, near, "{source}");
            if let Some(at) = at {
                let range = problem.range.clone().unwrap();
                assert!(source[range].contains(at), "{source}: {problem:?}");
            }
        }
        for good in
            [TITLE, TEXT, "{{ tags.service|upper }} {{ links.incident or '' }} {{ reason }} {{ range(2)|length }}"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_template_that_fails_gives_way_to_the_default() {
        let templates = Templates {
            title: Some("{{ others[0].name|upper }}: {{ name }}\nsecond line".into()),
            text: Some("{{ message.split(':')[0] }}".into()),
        };
        let words = CompiledTemplates::new(&templates);
        let mut notification = sample();
        let (title, text) = words.render(&notification, &Links::default());
        assert_eq!(title, "SHOP SEARCH: Shop checkout second line");
        assert!(text == "no such element" || text.starts_with("was timeout\nstep: "), "{text}");
        notification.incident.message = None;
        let (_, text) = words.render(&notification, &Links::default());
        assert!(text.starts_with("was timeout\nstep: "), "{text}");
    }

    #[test]
    fn what_is_made_is_bounded() {
        let templates =
            Templates { text: Some("{% for i in range(5000) %}{{ name }}{{ name }}{% endfor %}".into()), title: None };
        let (_, text) = CompiledTemplates::new(&templates).render(&sample(), &Links::default());
        assert!(text.len() <= LARGEST && text.len() > LARGEST - 8, "{}", text.len());
    }
}
