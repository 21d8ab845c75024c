//! Loader of scenario files: converts the text of a file to scenarios and diagnostics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::keys::{
    ALERT, CHECK, CHECK_DEFAULTS, CHECK_KINDS, CHECKS, HTTP, Key, REQUEST, SCENARIO, SCENARIO_DEFAULTS, SECRET,
};
use super::model::{
    self, Action, AlertPolicy, BrowserSettings, EvidencePolicy, Lookup, Scenario, ScenarioId, ScenarioKind, Schedule,
    SecretSource, Step,
};
use super::naming;
use super::reader::{Fields, Reader, Used, cut, plain_name};
use super::step::{self, Scope};
use super::template::{Reference, Template, Value};
use super::timing::{Cron, reference};
use super::tree::{self, Entry, Node, Resolved};
use super::url::{self, Use};
use super::verdict::Verdict;
use super::{check, fragment, lint, settings, slo, usual};
use crate::diagnostic::{Diagnostic, Severity, Source, Span, Spanned, nearest};

pub use super::timezone::timezone;

/// Default interval of a scenario with a browser.
const DEFAULT_BROWSER_EVERY: Duration = Duration::from_secs(300);
/// Default interval of a scenario without a browser.
const DEFAULT_EVERY: Duration = Duration::from_secs(60);

/// Result of loading a file.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Scenarios of the file; empty if the file has an error.
    pub scenarios: Vec<Arc<Scenario>>,
    /// Problems of the file, in the order of its lines.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Returns whether the file is rejected because of an error.
    pub fn is_refused(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Error)
    }
}

/// Loads a file. Never fails: problems are returned as diagnostics, and an error rejects all scenarios of the file.
pub fn load(path: &str, text: &str, lookup: &dyn Lookup) -> Loaded {
    let source = Source::new(path, text);
    let root = match tree::parse(&source) {
        Ok(root) => root,
        Err(diagnostic) => return Loaded { scenarios: Vec::new(), diagnostics: vec![diagnostic] },
    };
    let mut r = Reader::new(&source);
    let mut scenarios = match (root.get("scenario").is_some(), root.get("checks").is_some()) {
        (true, true) => {
            r.fail(root.span, "a file is one `scenario:` or one table of `checks:`, not both");
            Vec::new()
        }
        (true, false) => scenario(&mut r, &root, lookup),
        (false, true) => checks(&mut r, &root, lookup),
        // A fragment is read, and its problems are reported, together with the files that use it.
        (false, false) if fragment::is_one(&root) => Vec::new(),
        (false, false) => {
            neither(&mut r, &root);
            Vec::new()
        }
    };
    let omitted = r.omitted();
    let mut diagnostics = r.diagnostics;
    let place =
        |found: &Diagnostic| (found.source.path != path, found.source.path.clone(), found.span.line, found.span.column);
    diagnostics.sort_by_cached_key(place);
    // Problems of a fragment that is used twice are reported once.
    diagnostics.dedup_by(|one, before| {
        one.source.path != path
            && (&one.source.path, one.span, &one.message) == (&before.source.path, before.span, &before.message)
    });
    diagnostics.extend(omitted);
    if diagnostics.iter().any(|found| found.severity == Severity::Error) {
        scenarios.clear();
    }
    Loaded { scenarios: scenarios.into_iter().map(Arc::new).collect(), diagnostics }
}

fn neither(r: &mut Reader, root: &Node) {
    let found =
        Diagnostic::error(&r.source, first_line(root.span), "not a scenario file: expected `scenario:` or `checks:`");
    let near = root
        .entries()
        .unwrap_or_default()
        .iter()
        .find_map(|entry| Some((entry, nearest(&entry.key, ["scenario", "checks"])?)));
    let found = match near {
        Some((entry, near)) => Diagnostic { span: entry.key_span, ..found }.label(format!("did you mean `{near}`?")),
        None => found,
    };
    let found = found.note("a file starts with `scenario: NAME` or `checks:`");
    r.report(found.note("a fragment has `steps:` and optionally `parameters:`, and nothing else"));
}

/// Shortens a span to its first character.
fn first_line(span: Span) -> Span {
    Span { end: span.start + 1, ..span }
}

fn scenario(r: &mut Reader, root: &Node, lookup: &dyn Lookup) -> Vec<Scenario> {
    let Some(fields) = r.fields(root, "a scenario", &[SCENARIO]) else { return Vec::new() };
    let (secrets, totp, vars) = declared(r, &fields);
    let Some(name_node) = fields.get("scenario") else { return Vec::new() };
    let name = r.text(name_node, "`scenario`");
    let id = id(r, fields.get("id"), name.as_ref());
    let tags = tags(r, fields.get("tags"));
    let timeout = fields.get("timeout").and_then(|node| r.duration(node, "`timeout`"));
    let mut scope = Scope::new(lookup, &r.source);
    scope.base_url = fields.get("base_url").and_then(|node| url::read(r, node, "`base_url`", None, Use::Base));
    // An invalid base URL has been reported; relative paths are accepted nevertheless.
    if let (None, Some(node)) = (&scope.base_url, fields.get("base_url")) {
        scope.base_url = Some(Spanned::new(Template::default(), node.span));
    }
    let has_base = scope.base_url.is_some();
    let browser = fields.get("browser").map(|node| settings::browser(r, node, has_base)).unwrap_or_default();
    let overlays = fields.get("overlays").map(|node| settings::overlays(r, node)).unwrap_or_default();
    let evidence = fields.get("evidence").map(|node| settings::evidence(r, node)).unwrap_or_default();
    let budget = fields.get("budget").map(|node| settings::budget(r, node)).unwrap_or_default();
    let slo = fields.get("slo").and_then(|node| slo::read(r, node));
    if let Some(defaults) = fields.get("defaults").and_then(|node| r.fields(node, "`defaults`", &[SCENARIO_DEFAULTS])) {
        scope.timeout = defaults.get("timeout").and_then(|node| r.duration(node, "`timeout`"));
        scope.traceparent = defaults.get("traceparent").and_then(|node| r.boolean(node, "`traceparent`"));
    }
    let steps = if let Some(node) = fields.get("steps") {
        step::steps(r, node, &mut scope, "step ")
    } else {
        if root.get("steps").is_none() {
            r.fail(fields.entry("scenario").map_or(root.span, |entry| entry.key_span), "a scenario needs `steps:`");
        }
        Vec::new()
    };
    let finally = match fields.get("finally") {
        Some(node) => step::steps(r, node, &mut scope, "finally step "),
        None => Vec::new(),
    };
    let schedule = schedule(r, &fields, None);
    let enabled = enabled(r, &fields, true);
    let alert = alert(r, fields.get("alert"), AlertParts::default());
    let (Some(name), Some(id)) = (name, id) else { return Vec::new() };
    let mut scenario = Scenario {
        id,
        name: cut(&name),
        source: Arc::clone(&r.source),
        kind: ScenarioKind::Api,
        tags,
        enabled,
        schedule: Schedule::Every(DEFAULT_EVERY),
        grace: Duration::ZERO,
        timeout: model::DEFAULT_SCENARIO_TIMEOUT,
        base_url: scope.base_url,
        browser,
        overlays,
        evidence,
        budget,
        secrets,
        totp,
        vars,
        alert: AlertPolicy::default(),
        slo,
        steps,
        finally,
    };
    let mut every = DEFAULT_EVERY;
    if scenario.needs_browser() {
        scenario.kind = ScenarioKind::Browser;
        scenario.timeout = model::DEFAULT_BROWSER_SCENARIO_TIMEOUT;
        every = DEFAULT_BROWSER_EVERY;
    }
    scenario.timeout = timeout.unwrap_or(scenario.timeout);
    scenario.schedule = schedule.unwrap_or(Schedule::Every(every));
    scenario.alert = alert.policy(&scenario.schedule, false);
    lint::unused(r, &fields);
    lint::timeouts(r, &scenario);
    usual::lint(r, &scenario);
    lint::pages(r, &fields, &scenario);
    if scenario.enabled {
        missing(r, &scenario, lookup);
    }
    vec![scenario]
}

fn checks(r: &mut Reader, root: &Node, lookup: &dyn Lookup) -> Vec<Scenario> {
    let Some(fields) = r.fields(root, "a file of checks", &[CHECKS]) else { return Vec::new() };
    let (secrets, totp, vars) = declared(r, &fields);
    let vars_use = std::mem::take(&mut r.names.used);
    let defaults = fields.get("defaults").and_then(|node| r.fields(node, "`defaults`", &[CHECK_DEFAULTS]));
    let mut common = Defaults::default();
    if let Some(fields) = &defaults {
        common = Defaults {
            schedule: schedule(r, fields, None),
            timeout: fields.get("timeout").and_then(|node| r.duration(node, "`timeout`")),
            tags: tags(r, fields.get("tags")),
            alert: alert(r, fields.get("alert"), AlertParts::default()),
            timezone: fields.get("timezone").and_then(|node| timezone(r, node)),
            paused: !enabled(r, fields, true),
            traceparent: fields.get("traceparent").and_then(|node| r.boolean(node, "`traceparent`")),
        };
    }
    let Some(node) = fields.get("checks") else { return Vec::new() };
    let Some(entries) = r.entries(node, "`checks`") else { return Vec::new() };
    if entries.is_empty() {
        r.fail(node.span, "no checks");
    }
    let mut out: Vec<Scenario> = Vec::new();
    let mut used = vars_use.clone();
    for entry in entries {
        r.context = Some(format!("check {}", cut(&entry.key)));
        r.names.used.clone_from(&vars_use);
        if let Some(mut scenario) = check(r, entry, &common) {
            scenario.secrets.clone_from(&secrets);
            scenario.totp.clone_from(&totp);
            scenario.vars.clone_from(&vars);
            if scenario.enabled {
                missing(r, &scenario, lookup);
            }
            if let Some(first) = out.iter().find(|first| first.id.value == scenario.id.value) {
                let message = format!("duplicate check id `{}`", scenario.id.value);
                let label = format!("the first one is at {}", r.source.place(first.id.span));
                let found = Diagnostic::error(&r.source, scenario.id.span, message).label(label);
                r.report(found.note("give one of them an `id:` of its own"));
            }
            out.push(scenario);
        }
        used.append(&mut r.names.used);
    }
    r.context = None;
    r.names.used = used;
    lint::unused(r, &fields);
    out
}

#[derive(Default)]
struct Defaults {
    schedule: Option<Schedule>,
    timezone: Option<chrono_tz::Tz>,
    timeout: Option<Duration>,
    tags: BTreeMap<String, String>,
    alert: AlertParts,
    paused: bool,
    traceparent: Option<bool>,
}

/// Reads whether a scenario is enabled.
fn enabled(r: &mut Reader, fields: &Fields<'_>, default: bool) -> bool {
    fields.get("enabled").and_then(|node| r.boolean(node, "`enabled`")).unwrap_or(default)
}

fn check(r: &mut Reader, entry: &Entry, common: &Defaults) -> Option<Scenario> {
    let mut all = r.entries(&entry.value, "a check")?;
    let is_kind = |entry: &&&Entry| CHECK_KINDS.iter().any(|kind| kind.key.name == entry.key);
    let Some(kind_entry) = all.iter().find(is_kind).copied() else {
        let names: Vec<_> =
            CHECK_KINDS.iter().filter(|kind| kind.key.shape.is_some()).map(|kind| kind.key.name).collect();
        let first = all.first();
        let near = first.and_then(|first| nearest(&first.key, CHECK_KINDS.iter().map(|kind| kind.key.name)));
        let span = first.map_or(entry.key_span, |first| first.key_span);
        let found = Diagnostic::error(&r.source, span, "a check starts with its kind");
        let found = match near {
            Some(near) => found.label(format!("did you mean `{near}`?")),
            None => found,
        };
        r.report(found.note(format!("allowed here: {}", names.join(", "))));
        return None;
    };
    let kind = CHECK_KINDS.iter().find(|kind| kind.key.name == kind_entry.key)?;
    if kind.key.shape.is_none() {
        r.fail(kind_entry.key_span, format!("`{}` is not supported yet", kind.key.name));
        return None;
    }
    let request: &[Key] = if kind.key.name == HTTP.key.name { REQUEST } else { &[] };
    let itself = [kind.key];
    all.retain(|entry| r.known(entry, &[&itself, kind.sibling_keys, request, CHECK], ""));
    let fields = Fields::of(all, entry.value.span);

    let name = Spanned::new(entry.key.clone(), entry.key_span);
    let id = id(r, fields.get("id"), Some(&name));
    let timeout = fields.get("timeout").and_then(|node| r.duration(node, "`timeout`")).or(common.timeout);
    let timeout = timeout.unwrap_or(model::DEFAULT_STEP_TIMEOUT);
    let schedule = schedule(r, &fields, common.timezone).or_else(|| common.schedule.clone());
    let schedule = schedule.unwrap_or(Schedule::Every(DEFAULT_EVERY));
    let mut all_tags = common.tags.clone();
    all_tags.extend(tags(r, fields.get("tags")));
    let enabled = enabled(r, &fields, !common.paused);
    let alert = alert(r, fields.get("alert"), common.alert.clone());
    let (kind, mut action) = check::check(r, kind_entry, &fields)?;
    let grace = match &mut action {
        Action::Check(check) => check.grace(),
        Action::Request(request) => {
            request.traceparent = request.traceparent.or(common.traceparent);
            Duration::ZERO
        }
        _ => Duration::ZERO,
    };
    let step = Step {
        name: check::step_name(kind_entry, &fields),
        span: kind_entry.span(),
        source: None,
        timeout: Some(timeout),
        optional: false,
        go_on: false,
        when: Vec::new(),
        within_frame: Vec::new(),
        action,
    };
    let scenario = Scenario {
        id: id?,
        name: cut(&name),
        source: Arc::clone(&r.source),
        kind,
        tags: all_tags,
        enabled,
        alert: alert.policy(&schedule, kind == ScenarioKind::Heartbeat),
        schedule,
        grace,
        timeout,
        base_url: None,
        browser: BrowserSettings::default(),
        overlays: Vec::new(),
        evidence: EvidencePolicy::default(),
        budget: Vec::new(),
        secrets: BTreeMap::new(),
        totp: BTreeMap::new(),
        vars: BTreeMap::new(),
        slo: None,
        steps: vec![step],
        finally: Vec::new(),
    };
    lint::timeouts(r, &scenario);
    usual::lint(r, &scenario);
    Some(scenario)
}

fn id(r: &mut Reader, node: Option<&Node>, name: Option<&Spanned<String>>) -> Option<Spanned<ScenarioId>> {
    if let Some(node) = node {
        let text = r.text(node, "`id`")?;
        if let Some(why) = naming::bad_id(&text) {
            let mut found = Diagnostic::error(&r.source, node.span, format!("`{}` is not an id: {why}", cut(&text)));
            let slug = naming::slug(&text);
            if naming::bad_id(&slug).is_none() {
                found = found.label(format!("write `{slug}`"));
            }
            r.report(found);
            return None;
        }
        return Some(Spanned::new(ScenarioId::from(text.as_str()), node.span));
    }
    let name = name?;
    let slug = naming::slug(name);
    if let Some(why) = naming::bad_id(&slug) {
        r.fail_with(name.span, format!("no id can be made from this name: {why}"), "write an `id:`");
        return None;
    }
    Some(Spanned::new(ScenarioId::from(slug.as_str()), name.span))
}

fn tags(r: &mut Reader, node: Option<&Node>) -> BTreeMap<String, String> {
    let entries = node.and_then(|node| r.entries(node, "`tags`")).unwrap_or_default();
    let mut tags = BTreeMap::new();
    for entry in entries {
        if let Some(text) = r.text(&entry.value, &format!("tag `{}`", cut(&entry.key))) {
            if text.contains("${") {
                r.fail(entry.value.span, "`${…}` in a tag is not supported yet");
            }
            tags.insert(entry.key.clone(), text.value);
        }
    }
    tags
}

/// Reads the schedule if there is one. `inherited` is the time zone of a cron expression without its own.
fn schedule(r: &mut Reader, fields: &Fields<'_>, inherited: Option<chrono_tz::Tz>) -> Option<Schedule> {
    let zone = fields.get("timezone").and_then(|node| timezone(r, node)).or(inherited);
    if let (Some(_), Some(cron)) = (fields.get("every"), fields.entry("cron")) {
        r.fail_with(cron.key_span, "`every` and `cron` exclude each other", "keep one of them");
    }
    if let Some(node) = fields.get("every") {
        let every = r.duration(node, "`every`")?;
        if every < Duration::from_secs(1) {
            r.fail(node.span, "`every` must be at least 1s");
            return None;
        }
        return Some(Schedule::Every(every));
    }
    let node = fields.get("cron")?;
    let text = r.text(node, "`cron`")?;
    match Cron::parse(&text) {
        Ok(_) => Some(Schedule::Cron { expression: text.value, timezone: zone.unwrap_or(chrono_tz::UTC) }),
        Err(bad) => {
            let span = r.within(node, bad.range);
            r.fail(span, format!("this is not a cron expression: {}", bad.message));
            None
        }
    }
}

/// Alert settings of a file before the defaults are applied.
#[derive(Debug, Clone, Default)]
struct AlertParts {
    after: Option<(u32, u32)>,
    recover_after: Option<u32>,
    severity: Option<model::Severity>,
    verdicts: Option<Vec<Verdict>>,
    depends_on: Vec<Spanned<String>>,
    remind: Option<Duration>,
    runbook: Option<String>,
}

impl AlertParts {
    /// Applies the defaults. An incident of an infrequent scenario opens after the first bad run, and so does that of a
    /// heartbeat, for which a missing check-in is certain.
    fn policy(self, schedule: &Schedule, heartbeat: bool) -> AlertPolicy {
        let seldom = heartbeat || schedule.shortest_gap(reference()).is_none_or(|gap| gap >= Duration::from_secs(3600));
        let (after, of) = self.after.unwrap_or(if seldom { (1, 1) } else { (2, 2) });
        let default = AlertPolicy::default();
        AlertPolicy {
            after,
            of,
            recover_after: self.recover_after.unwrap_or(default.recover_after),
            severity: self.severity.unwrap_or(default.severity),
            verdicts: self.verdicts.unwrap_or(default.verdicts),
            depends_on: self.depends_on,
            remind: self.remind,
            runbook: self.runbook,
        }
    }
}

fn alert(r: &mut Reader, node: Option<&Node>, mut parts: AlertParts) -> AlertParts {
    let Some(fields) = node.and_then(|node| r.fields(node, "`alert`", &[ALERT])) else { return parts };
    if let Some(node) = fields.get("after") {
        parts.after = after(r, node).or(parts.after);
    }
    if let Some(node) = fields.get("recover_after") {
        parts.recover_after = r.count(node, "`recover_after`").or(parts.recover_after);
    }
    if let Some(node) = fields.get("severity") {
        let words = model::Severity::ALL.map(model::Severity::as_str);
        let word = r.word(node, "severity", &words);
        parts.severity = model::Severity::ALL.into_iter().find(|severity| Some(severity.as_str()) == word);
    }
    if let Some(node) = fields.get("verdicts") {
        let mut verdicts = Vec::new();
        let items = r.list(node, "`verdicts`");
        for item in items.unwrap_or_default() {
            let verdict = match r.word(item, "verdict to alert on", &["failed", "degraded"]) {
                Some("failed") => Verdict::Failed,
                Some(_) => Verdict::Degraded,
                None => continue,
            };
            if !verdicts.contains(&verdict) {
                verdicts.push(verdict);
            }
        }
        if items.is_some_and(<[Node]>::is_empty) {
            r.fail(node.span, "without a verdict nothing would ever alert");
        }
        parts.verdicts = Some(verdicts);
    }
    if let Some(items) = fields.get("depends_on").and_then(|node| r.list(node, "`depends_on`")) {
        parts.depends_on = items.iter().filter_map(|item| r.text(item, "`depends_on`")).collect();
    }
    if let Some(node) = fields.get("remind")
        && let Some(remind) = r.duration(node, "`remind`")
    {
        if remind < Duration::from_secs(60) {
            r.fail_with(node.span, "`remind` must be at least 1m", "updates are sent regardless of `remind`");
        }
        parts.remind = Some(remind);
    }
    if let Some(node) = fields.get("runbook")
        && let Some(text) = r.text(node, "`runbook`")
    {
        match ::url::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => parts.runbook = Some(text.value),
            _ => r.fail_with(node.span, "`runbook` is not a URL", "write it like https://wiki.example.com/shop"),
        }
    }
    parts
}

/// Parses a threshold: `3` or `2 of 3`.
fn after(r: &mut Reader, node: &Node) -> Option<(u32, u32)> {
    let text = node.scalar().map(|scalar| scalar.text.as_str()).unwrap_or_default();
    let read = match text.split_once(" of ") {
        Some((n, m)) => n.trim().parse().ok().zip(m.trim().parse().ok()),
        None => text.parse().ok().map(|n| (n, n)),
    };
    match read {
        Some((n, m)) if n >= 1 && n <= m && m <= 100 => Some((n, m)),
        _ => {
            r.unexpected_value(node, "`after` must be a whole number above 0, or like `2 of 3`");
            None
        }
    }
}

/// Declarations of a file by name: secrets, one-time passwords and constants.
type Declared = (BTreeMap<String, SecretSource>, BTreeMap<String, Spanned<String>>, BTreeMap<String, Value>);

/// Reads the secrets, one-time passwords and constants of a file and makes their names available.
fn declared(r: &mut Reader, fields: &Fields<'_>) -> Declared {
    let mut secrets = BTreeMap::new();
    let entries = fields.get("secrets").and_then(|node| r.entries(node, "`secrets`")).unwrap_or_default();
    for entry in entries {
        r.names.secrets.insert(entry.key.clone());
        if plain_name(r, entry)
            && let Some(source) = secret(r, entry)
        {
            secrets.insert(entry.key.clone(), source);
        }
    }
    let totp = fields.get("totp").map(|node| settings::totp(r, node)).unwrap_or_default();
    let mut vars: BTreeMap<String, Value> = BTreeMap::new();
    let entries = fields.get("vars").and_then(|node| r.entries(node, "`vars`")).unwrap_or_default();
    r.names.vars = entries.iter().map(|entry| entry.key.clone()).collect();
    let mut places = BTreeMap::new();
    for entry in &entries {
        if plain_name(r, entry)
            && let Some(value) = constant(r, entry)
        {
            vars.insert(entry.key.clone(), value);
            places.insert(entry.key.clone(), entry.key_span);
        }
    }
    // References in a constant count only where the constant is used.
    r.names.used.clear();
    for (name, span) in places {
        if let Some(path) = cycle(&vars, &name) {
            r.fail_with(span, format!("`vars.{name}` is defined by itself"), path);
        }
    }
    (secrets, totp, vars)
}

/// Reads a constant with its JSON type. A number that JSON formats differently, such as `007`, is text.
fn constant(r: &mut Reader, entry: &Entry) -> Option<Value> {
    if let Some(scalar) = entry.value.scalar() {
        match (scalar.resolve(), scalar.number()) {
            (Resolved::Bool(value), _) => return Some(Value::Bool(value)),
            (Resolved::Number, Some(number)) if number.to_string() == scalar.text => {
                return Some(Value::Number(number));
            }
            _ => {}
        }
    }
    r.template(&entry.value, &format!("`{}`", entry.key)).map(|template| Value::Text(template.value))
}

fn secret(r: &mut Reader, entry: &Entry) -> Option<SecretSource> {
    let fields = r.fields(&entry.value, "a secret", &[SECRET])?;
    let sources: Vec<_> = fields.iter().collect();
    let [source] = sources.as_slice() else {
        if !sources.is_empty() || entry.value.entries().is_some_and(<[Entry]>::is_empty) {
            let message = format!("secret `{}` needs one source", cut(&entry.key));
            r.fail_with(entry.value.span, message, "write {env: NAME} or {file: PATH}");
        }
        return None;
    };
    let text = r.text(&source.value, &format!("`{}`", source.key))?;
    if text.contains("${") {
        r.fail(source.value.span, "`${…}` is not supported here");
        return None;
    }
    Some(match source.key.as_str() {
        "env" => SecretSource::Env(text),
        _ => SecretSource::File(Spanned::new(PathBuf::from(text.value), source.value.span)),
    })
}

/// Returns the cycle of references from a constant back to itself, if there is one.
fn cycle(vars: &BTreeMap<String, Value>, name: &str) -> Option<String> {
    fn walk(vars: &BTreeMap<String, Value>, at: &str, goal: &str, seen: &mut BTreeSet<String>) -> Option<String> {
        let mut uses = Vec::new();
        vars.get(at)?.visit_references(&mut |reference| uses.push(reference.clone()));
        for reference in uses {
            let Reference::Var(next) = reference else { continue };
            if next == goal {
                return Some(format!("{at} → {goal}"));
            }
            if seen.insert(next.clone())
                && let Some(path) = walk(vars, &next, goal, seen)
            {
                return Some(format!("{at} → {path}"));
            }
        }
        None
    }
    walk(vars, name, name, &mut BTreeSet::new())
}

/// Looks up every variable and file that a scenario uses, and reports the missing ones.
fn missing(r: &mut Reader, scenario: &Scenario, lookup: &dyn Lookup) {
    let context = r.context.take();
    let mut asked = BTreeSet::new();
    let mut queue = r.names.used.clone();
    let own = Arc::clone(&r.source);
    while let Some(Used { reference, source, span }) = queue.pop() {
        if !asked.insert(reference.to_string()) {
            continue;
        }
        let problem = match &reference {
            Reference::Env(name) => lookup.env(name).err().map(|error| (&source, span, error.to_string())),
            Reference::Secret(name) => match scenario.secrets.get(name) {
                Some(SecretSource::Env(variable)) => {
                    lookup.env(variable).err().map(|error| (&own, variable.span, error.to_string()))
                }
                Some(SecretSource::File(path)) => {
                    let found = lookup.file(path, &scenario.source.path);
                    found.err().map(|error| (&own, path.span, error.to_string()))
                }
                None => None,
            },
            Reference::Var(name) => {
                if let Some(value) = scenario.vars.get(name) {
                    value.visit_references(&mut |inner| {
                        queue.push(Used { reference: inner.clone(), source: Arc::clone(&source), span });
                    });
                }
                None
            }
            Reference::Totp(name) => {
                if let Some(secret) = scenario.totp.get(name) {
                    let reference = Reference::Secret(secret.value.clone());
                    queue.push(Used { reference, source: Arc::clone(&source), span });
                }
                None
            }
            Reference::Run(_) | Reference::SavedValue(_) => None,
        };
        report_missing(r, scenario, problem);
    }
    for (file, source) in lint::files(scenario) {
        if let Some(path) = file.as_literal() {
            let problem = lookup.file(std::path::Path::new(path), &scenario.source.path).err();
            report_missing(r, scenario, problem.map(|error| (&source, file.span, error.to_string())));
        }
    }
    for (program, source) in lint::programs(scenario) {
        let problem = lookup.exec(&program).err();
        report_missing(r, scenario, problem.map(|error| (&source, program.span, error.to_string())));
    }
    r.context = context;
}

fn report_missing(r: &mut Reader, scenario: &Scenario, problem: Option<(&Arc<Source>, Span, String)>) {
    if let Some((source, span, message)) = problem {
        let mut found = Diagnostic::new(Severity::Missing, source, span, message);
        found.scenario = Some(scenario.id.to_string());
        r.report(found);
    }
}
