//! The model: what a scenario file means. Plain data, with spans kept to run time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::check::certificate::CertificateFact;
use super::check::heartbeat::HeartbeatCheck;
use super::template::{Template, Value};
use super::usual::SlowerThanUsual;
use super::verdict::Verdict;
use super::xpath::XPath;
use crate::diagnostic::{At, Source, Span};

/// The stable id of a scenario: `[a-z0-9-]`, 1 to 64 characters. Phase, history, incidents and Zabbix keys hang on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScenarioId(pub Arc<str>);

impl ScenarioId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ScenarioId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScenarioId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ScenarioId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

/// What to check: a browser flow, an API flow, or a single check.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its id, with the place of `id:` or of the name it was made from.
    pub id: At<ScenarioId>,
    /// The name people gave it.
    pub name: String,
    /// The file it comes from.
    pub source: Arc<Source>,
    /// What it mainly is.
    pub kind: Kind,
    /// `key: value` pairs that routes and dashboards go by.
    pub tags: BTreeMap<String, String>,
    /// Whether it runs; `enabled: false` pauses it.
    pub enabled: bool,
    /// When it is due.
    pub schedule: Schedule,
    /// So much later it is judged: the grace of a heartbeat, nothing for all else.
    pub grace: Duration,
    /// How long all of `steps` may take.
    pub timeout: Duration,
    /// What relative URLs are relative to.
    pub base_url: Option<At<Template>>,
    /// What its browser is like.
    pub browser: BrowserSettings,
    /// What may get in the way of its steps on pages.
    pub overlays: Vec<Overlay>,
    /// What is kept of a run.
    pub evidence: EvidencePolicy,
    /// Soft limits: missing one makes the run degraded.
    pub budget: Vec<At<Budget>>,
    /// Where its secrets come from.
    pub secrets: BTreeMap<String, SecretSource>,
    /// One-time passwords (RFC 6238), by name; each from the secret of that name, base32.
    pub totp: BTreeMap<String, At<String>>,
    /// Constants of the file.
    pub vars: BTreeMap<String, Value>,
    /// When and how loudly to alert.
    pub alert: AlertPolicy,
    /// How often it has to work, over how long.
    pub slo: Option<super::slo::Slo>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What is done afterwards, whatever the steps did.
    pub finally: Vec<Step>,
}

impl Scenario {
    /// Whether any step needs a browser.
    pub fn needs_browser(&self) -> bool {
        fn any(steps: &[Step]) -> bool {
            steps.iter().any(|step| {
                !step.when.is_empty()
                    || match &step.action {
                        Action::Page(_) => true,
                        Action::Group(group) => any(&group.steps),
                        Action::Request(_) | Action::Check(_) => false,
                    }
            })
        }
        any(&self.steps) || any(&self.finally)
    }
}

impl Scenario {
    /// The file that a place (`file.yaml:LINE:COLUMN`) is in: one that it uses, or its own.
    pub fn source_of(&self, place: &str) -> &Arc<Source> {
        fn find<'a>(steps: &'a [Step], path: &str) -> Option<&'a Arc<Source>> {
            steps.iter().find_map(|step| {
                step.source.as_ref().filter(|source| source.path == path).or_else(|| match &step.action {
                    Action::Group(group) => find(&group.steps, path),
                    _ => None,
                })
            })
        }
        let path = place.rsplitn(3, ':').nth(2).unwrap_or_default();
        if path == self.source.path {
            return &self.source;
        }
        find(&self.steps, path).or_else(|| find(&self.finally, path)).unwrap_or(&self.source)
    }

    /// The first time strictly after `after` at which it is run: its due time, and the grace of a heartbeat.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let grace = TimeDelta::from_std(self.grace).ok()?;
        self.schedule.next_after(&self.id, after.checked_sub_signed(grace)?)?.checked_add_signed(grace)
    }

    /// The heartbeat that it is, if it is one.
    pub fn heartbeat(&self) -> Option<&HeartbeatCheck> {
        match self.steps.first().map(|step| &step.action) {
            Some(Action::Check(check)) => match &**check {
                Check::Heartbeat(heartbeat) => Some(heartbeat),
                _ => None,
            },
            _ => None,
        }
    }

    /// The names of all steps, those in groups and under `finally` included.
    pub fn step_names(&self) -> Vec<&str> {
        fn walk<'a>(steps: &'a [Step], names: &mut Vec<&'a str>) {
            for step in steps {
                names.push(&step.name);
                if let Action::Group(Group { steps, .. }) = &step.action {
                    walk(steps, names);
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.steps, &mut names);
        walk(&self.finally, &mut names);
        names
    }
}

/// What a scenario mainly is; the label `kind` of `wachta_scenario_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A flow with at least one page step.
    Browser,
    /// A flow of requests.
    Api,
    /// One `http` check.
    Http,
    /// One `tcp` check.
    Tcp,
    /// One `tls` check.
    Tls,
    /// One `dns` check.
    Dns,
    /// One `ping` check.
    Ping,
    /// One `postgres` check.
    Postgres,
    /// One `redis` check.
    Redis,
    /// One `grpc` check.
    Grpc,
    /// One `websocket` check.
    Websocket,
    /// One `ntp` check.
    Ntp,
    /// One `s3` check.
    S3,
    /// One heartbeat.
    Heartbeat,
    /// One command.
    Exec,
}

impl Kind {
    /// The name others see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Api => "api",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Ping => "ping",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Grpc => "grpc",
            Self::Websocket => "websocket",
            Self::Ntp => "ntp",
            Self::S3 => "s3",
            Self::Heartbeat => "heartbeat",
            Self::Exec => "exec",
        }
    }
}

/// When a scenario is due. Next due times are computed in `timing`.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// Every so often, with a phase that comes from a hash of the id.
    Every(Duration),
    /// At the times of a cron expression (Unix rules) in a time zone.
    Cron {
        /// The expression as it was written.
        expression: String,
        /// The zone its times are in.
        timezone: chrono_tz::Tz,
    },
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {}", Pretty(*every)),
            Self::Cron { expression, timezone } => write!(f, "cron {expression} {timezone}"),
        }
    }
}

/// A duration as people write it: `90s`, `1m30s`, `250ms`.
pub struct Pretty(pub Duration);

impl fmt::Display for Pretty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str(if self.0.is_zero() { "0s" } else { "under 1ms" });
        }
        let mut rest = millis;
        let mut shown = 0;
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            let n = rest / size;
            if n > 0 && shown < 2 {
                write!(f, "{n}{unit}")?;
                shown += 1;
            }
            rest %= size;
        }
        Ok(())
    }
}

/// `browser:`: what the browser of a scenario is like. Everything that is left out is the browser's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BrowserSettings {
    /// Which browser; none: the agent's own choice, Chromium.
    pub engine: Option<Engine>,
    /// Which program Chromium runs as; `None` when the agent configuration decides.
    pub headless: Option<Headless>,
    /// How large the page is shown.
    pub viewport: Option<Viewport>,
    /// A device to emulate; `viewport` and `user_agent` beside it go first.
    pub device: Option<&'static super::device::Device>,
    /// The language, as BCP 47 names it: `pl-PL`.
    pub locale: Option<At<String>>,
    /// The time zone.
    pub timezone: Option<chrono_tz::Tz>,
    /// Where the browser says it is.
    pub geolocation: Option<Geolocation>,
    /// What the browser says it is.
    pub user_agent: Option<At<Template>>,
    /// Headers of every request to the origin of `base_url`.
    pub headers: Vec<(String, At<Template>)>,
    /// Cookies to begin with.
    pub cookies: Vec<PresetCookie>,
    /// What is answered when the server asks for a user and a password.
    pub basic_auth: Option<BasicAuth>,
    /// Which certificates to trust; there is no client certificate among them.
    pub trust: Trust,
    /// Origins whose requests get a `traceparent`.
    pub traceparent: Vec<At<Template>>,
}

/// A browser engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Chromium and its kin, driven by chromedriver.
    #[default]
    Chromium,
    /// Firefox, driven by geckodriver.
    Firefox,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 2] = [Self::Chromium, Self::Firefox];

    /// The name others see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which program of Chromium runs without a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Headless {
    /// The headless shell, which needs less memory, where it is installed; else the whole browser.
    #[default]
    Shell,
    /// The whole browser.
    Full,
}

impl Headless {
    /// Every program, by its word in files.
    pub const WORDS: &'static [&'static str] = &["shell", "full"];

    /// The program of that word.
    pub fn of(word: &str) -> Self {
        if word == "full" { Self::Full } else { Self::Shell }
    }
}

/// A place on Earth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geolocation {
    /// Degrees, north is positive.
    pub latitude: f64,
    /// Degrees, east is positive.
    pub longitude: f64,
    /// Metres.
    pub accuracy: f64,
}

/// A cookie that is there before the first page.
#[derive(Debug, Clone, PartialEq)]
pub struct PresetCookie {
    /// Its name.
    pub name: At<String>,
    /// Its value.
    pub value: At<Template>,
    /// The host it is for; none: that of `base_url`.
    pub domain: Option<At<Template>>,
    /// The path it is for.
    pub path: Option<At<Template>>,
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq)]
pub struct BasicAuth {
    /// The user.
    pub user: At<Template>,
    /// The password.
    pub password: At<Template>,
}

/// `evidence:`: what is kept of a run beside what every failure leaves (screenshot, source, console, HAR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EvidencePolicy {
    /// A screenshot after every page step, not only at a failure.
    pub screenshots_of_steps: bool,
    /// A HAR file: `true` of every run, `false` of none, none: of those that did not pass.
    pub har: Option<bool>,
    /// A small picture twice a second, while the page is driven.
    pub filmstrip: bool,
}

/// A soft limit of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// How long the run takes.
    Duration(Duration),
    /// A web vital of every page that was opened that is a time.
    Vital(Vital, Duration),
    /// The cumulative layout shift of every page.
    LayoutShift(f64),
    /// How many requests the pages send in a run.
    Requests(u64),
    /// How many of them fail.
    FailedRequests(u64),
    /// How many bytes come over the wire in a run.
    Bytes(u64),
    /// How many errors stand on the console, uncaught exceptions included.
    ConsoleErrors(u64),
    /// How long the run takes, against earlier ones.
    SlowerThanUsual(SlowerThanUsual),
}

/// A web vital that is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vital {
    /// Time to first byte.
    Ttfb,
    /// First contentful paint.
    Fcp,
    /// Largest contentful paint.
    Lcp,
    /// Interaction to next paint.
    Inp,
}

impl Vital {
    /// Every vital that is a time.
    pub const ALL: [Self; 4] = [Self::Ttfb, Self::Fcp, Self::Lcp, Self::Inp];

    /// The name others see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ttfb => "ttfb",
            Self::Fcp => "fcp",
            Self::Lcp => "lcp",
            Self::Inp => "inp",
        }
    }
}

/// The size of the page, in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewport {
    /// Across.
    pub width: u32,
    /// Down.
    pub height: u32,
}

/// Where a secret comes from. The agent's `allow` decides whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of the environment.
    Env(At<String>),
    /// A file; a line end at its end is not part of the secret.
    File(At<PathBuf>),
}

/// When an incident opens and resolves, and how loud it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertPolicy {
    /// How many bad runs open an incident …
    pub after: u32,
    /// … among how many of the last conclusive ones; the same number means in a row.
    pub of: u32,
    /// How many good runs in a row resolve it.
    pub recover_after: u32,
    /// How loud it is.
    pub severity: Severity,
    /// Which verdicts are bad: a subset of failed and degraded.
    pub verdicts: Vec<Verdict>,
    /// Ids of scenarios whose failure explains this one's.
    pub depends_on: Vec<At<String>>,
    /// How often an open incident is told again while nothing changes; none: never.
    pub remind: Option<Duration>,
    /// Where to read on, a URL.
    pub runbook: Option<String>,
}

impl Default for AlertPolicy {
    fn default() -> Self {
        Self {
            after: 2,
            of: 2,
            recover_after: 2,
            severity: Severity::Warning,
            verdicts: vec![Verdict::Failed],
            depends_on: Vec::new(),
            remind: None,
            runbook: None,
        }
    }
}

/// How loud an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it in working hours.
    #[default]
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// Every severity, quiet to loud.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The name others see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step: an action and its modifiers.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name: automatic, from the template text, or `name:`. Unique within the scenario.
    pub name: String,
    /// Where it stands: the action key up to the end of its value.
    pub span: Span,
    /// The file it stands in, when that is not the scenario's own: one that it uses.
    pub source: Option<Arc<Source>>,
    /// How long one attempt may take. For a group: all of it, where given.
    pub timeout: Option<Duration>,
    /// Whether its failure leaves the verdict alone.
    pub optional: bool,
    /// Whether the next steps still run after its failure; the run fails all the same.
    pub go_on: bool,
    /// What must hold for it to be done; looked at once. Empty: it is always done.
    pub when: Vec<PageExpectation>,
    /// The frame in which it acts, outermost first; empty: the page itself.
    pub within_frame: Vec<Target>,
    /// What is done.
    pub action: Action,
}

impl Step {
    /// The step's own timeout, or what its kind has by default.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(match self.action {
            Action::Page(PageAction::Goto { .. } | PageAction::Travel(_)) => DEFAULT_GOTO_TIMEOUT,
            _ => DEFAULT_STEP_TIMEOUT,
        })
    }

    /// The files that the step itself names, without those of steps within it.
    pub fn files(&self) -> Vec<&At<Template>> {
        match &self.action {
            Action::Request(request) => request.files(),
            Action::Check(check) => check.files(),
            Action::Page(PageAction::Upload { files, .. }) => files.iter().collect(),
            Action::Page(_) | Action::Group(_) => Vec::new(),
        }
    }
}

/// How long a step may take when nothing else is said.
pub const DEFAULT_STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long is waited between two tries of a polled request when nothing else is said.
pub const DEFAULT_POLL_EVERY: Duration = Duration::from_secs(1);
/// How long a `goto` may take when nothing else is said.
pub const DEFAULT_GOTO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a scenario without a browser may take when nothing else is said.
pub const DEFAULT_SCENARIO_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a scenario with a browser may take when nothing else is said.
pub const DEFAULT_BROWSER_SCENARIO_TIMEOUT: Duration = Duration::from_secs(120);
/// How long all of `finally` may take.
pub const FINALLY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // Steps on a page are most of all steps: a box would save nothing.
pub enum Action {
    /// Something on the page.
    Page(PageAction),
    /// A request.
    Request(Box<Request>),
    /// Steps that belong together.
    Group(Group),
    /// A check of any kind but `http`.
    Check(Box<Check>),
}

impl Action {
    /// Whether it only looks at the page, or keeps something of it.
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Page(PageAction::Expect(_) | PageAction::Save(_) | PageAction::Screenshot { .. }))
    }
}

/// Steps that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The steps.
    pub steps: Vec<Step>,
    /// How often they are done again when one of them fails.
    pub retry: u32,
}

/// What may get in the way at any time, and what is done then.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay {
    /// Visible when it is in the way.
    pub when: Target,
    /// What is clicked then.
    pub click: Target,
    /// The frames in which both are, outermost first.
    pub within_frame: Vec<Target>,
}

/// What is done on a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageAction {
    /// Opens a URL.
    Goto {
        /// Absolute, or relative to `base_url`.
        url: At<Template>,
        /// What the document's status must be; none: below 400.
        status: Option<Matcher>,
    },
    /// Goes back, forward, or loads the page again.
    Travel(Travel),
    /// Clicks an element.
    Click {
        /// Which.
        target: Target,
        /// With which button.
        button: MouseButton,
        /// Where, in CSS pixels from its top left corner; none: in its middle.
        position: Option<(f64, f64)>,
        /// Whether it is clicked without regard to what covers or moves it.
        force: bool,
    },
    /// Clicks an element twice.
    DoubleClick(Target),
    /// Moves the pointer over an element.
    Hover(Target),
    /// Empties a field.
    Clear(Target),
    /// Sees to it that a box is checked, or is not.
    Check {
        /// Which.
        target: Target,
        /// Whether it is to be checked.
        on: bool,
    },
    /// Fills a field.
    Fill {
        /// Which.
        target: Target,
        /// By what.
        with: At<Template>,
        /// Whether it is added to what is there.
        append: bool,
        /// What stands in the field then; none: what was typed.
        becomes: Option<Matcher>,
    },
    /// Chooses an option of a list.
    Select {
        /// Which list.
        target: Target,
        /// Which options.
        options: Vec<SelectOption>,
    },
    /// Presses a key or chord.
    Press {
        /// `Enter`, `Control+A`: the modifiers, then the key.
        keys: At<Vec<String>>,
        /// The element that has the focus meanwhile.
        into: Option<Target>,
    },
    /// Gives files to a field.
    Upload {
        /// Which.
        target: Target,
        /// Paths, relative to the scenario's file.
        files: Vec<At<Template>>,
    },
    /// Drags an element to another.
    Drag {
        /// Which.
        target: Target,
        /// Where to.
        to: Target,
    },
    /// Scrolls.
    Scroll(Scroll),
    /// Answers the dialog that is open, or opens soon.
    Dialog {
        /// How.
        answer: DialogAnswer,
        /// What its message must be.
        expect: Option<Matcher>,
    },
    /// Changes to another window.
    Window(WindowChange),
    /// Runs a function body in the page.
    Script {
        /// JavaScript. `${…}` is not filled in; `args` are its `arguments`.
        script: At<String>,
        /// What it is called with.
        args: Vec<Value>,
        /// The name under which its result is kept.
        save: Option<At<String>>,
    },
    /// Waits until all of these hold.
    Expect(Vec<PageExpectation>),
    /// Keeps values for later steps.
    Save(Vec<PageSave>),
    /// Takes a picture.
    Screenshot {
        /// Its name.
        name: At<Template>,
        /// Of what; none: the page.
        of: Option<Target>,
        /// Also what is out of sight.
        full_page: bool,
    },
}

/// A button of the mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseButton {
    /// The first one.
    #[default]
    Left,
    /// The wheel.
    Middle,
    /// The one for menus.
    Right,
}

/// How far to scroll.
#[derive(Debug, Clone, PartialEq)]
pub enum Scroll {
    /// Until this is in sight.
    To(Target),
    /// Down so many CSS pixels; up when it is negative.
    By(i32),
    /// Down until this has come.
    Until(Target),
}

/// The answer to a dialog.
#[derive(Debug, Clone, PartialEq)]
pub enum DialogAnswer {
    /// OK; with this text, where the dialog asks for one.
    Accept(Option<At<Template>>),
    /// Cancel.
    Dismiss,
}

/// Which window the next steps are about.
#[derive(Debug, Clone, PartialEq)]
pub enum WindowChange {
    /// The one that the step before has opened, or that opens soon.
    New,
    /// The one with this title.
    Title(Matcher),
    /// The one with this URL.
    Url(Matcher),
    /// The current one is closed; the one before it is current then.
    Close,
}

/// An option of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum SelectOption {
    /// By what it shows.
    Text(At<Template>),
    /// By its `value`.
    Value(At<Template>),
}

/// Which element is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// How it is found.
    pub how: How,
    /// Which of several, counted from 1 in the order of the page; none: there may be one only.
    pub nth: Option<u32>,
    /// The element it is in.
    pub within: Option<Box<Target>>,
    /// Where the target is written.
    pub span: Span,
}

/// The "how" of a target.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// By ARIA role and accessible name.
    Role {
        /// Such as `button`.
        role: String,
        /// The whole name; none: any.
        name: Option<Matcher>,
    },
    /// By the text of its label.
    Label(Matcher),
    /// By its placeholder.
    Placeholder(Matcher),
    /// By its visible text; the innermost element that has it.
    Text(Matcher),
    /// By its alternative text.
    Alt(Matcher),
    /// By its `title`.
    Title(Matcher),
    /// By its `data-testid`.
    TestId(Matcher),
    /// By its `id`.
    Id(Template),
    /// By a CSS selector.
    Css(Template),
    /// By an `XPath`.
    Xpath(Template),
    /// The first of these that is there. Needing another than the first is drift.
    AnyOf(Vec<Target>),
    /// The first of these that is there, whichever it is.
    OneOf(Vec<Target>),
}

/// A one-key map that says what a value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// The same value; a scalar is short for it.
    Equals(Value),
    /// Has this in it.
    Contains(Template),
    /// Begins with it.
    StartsWith(Template),
    /// Ends with it.
    EndsWith(Template),
    /// A regular expression matches somewhere.
    Matches(Pattern),
    /// Is a number below this.
    LessThan(Value),
    /// Is a number above this.
    GreaterThan(Value),
    /// Is a number from … to …, both included.
    Between(Value, Value),
    /// Has so many elements.
    Count(Box<Matcher>),
    /// Is there, or is not.
    Exists(bool),
    /// Is one of these.
    OneOf(Vec<Value>),
    /// Does not match this.
    Not(Box<Matcher>),
    /// Fits a JSON Schema.
    Schema(Schema),
}

/// A regular expression: compiled once, unless it is different in each run.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Template,
    /// None where names stand in it.
    compiled: Option<Arc<regex::Regex>>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Compiles what is written out.
    pub fn new(text: Template) -> Result<Self, regex::Error> {
        let compiled = text.as_literal().map(regex::Regex::new).transpose()?.map(Arc::new);
        Ok(Self { text, compiled })
    }

    /// As it was written.
    pub fn text(&self) -> &Template {
        &self.text
    }

    /// Ready to be used; none where names stand in it.
    pub fn compiled(&self) -> Option<&Arc<regex::Regex>> {
        self.compiled.as_ref()
    }
}

/// A JSON Schema that is written out, and its validator.
#[derive(Clone)]
pub struct InlineSchema {
    text: serde_json::Value,
    validator: Arc<jsonschema::Validator>,
}

impl PartialEq for InlineSchema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for InlineSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InlineSchema({})", self.text)
    }
}

impl InlineSchema {
    /// Compiles a schema; the error says what is wrong with it.
    pub fn new(text: serde_json::Value) -> Result<Self, String> {
        let validator = jsonschema::validator_for(&text).map_err(|error| error.to_string())?;
        Ok(Self { text, validator: Arc::new(validator) })
    }

    /// Ready to be used.
    pub fn validator(&self) -> &Arc<jsonschema::Validator> {
        &self.validator
    }
}

/// A JSON Schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// Written out; `${…}` is not filled in.
    Inline(InlineSchema),
    /// A JSON file, relative to the scenario's file.
    File(At<Template>),
}

impl Matcher {
    /// The whole text, or none when the matcher is another one.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Equals(Value::Text(Template::literal(text)))
    }

    /// Calls `visit` with every value and template in it.
    pub fn visit_references(&self, visit: &mut dyn FnMut(&super::template::Reference)) {
        match self {
            Self::Equals(value) | Self::LessThan(value) | Self::GreaterThan(value) => value.visit_references(visit),
            Self::Contains(t) | Self::StartsWith(t) | Self::EndsWith(t) => t.references().for_each(visit),
            Self::Matches(pattern) => pattern.text().references().for_each(visit),
            Self::Between(low, high) => {
                low.visit_references(visit);
                high.visit_references(visit);
            }
            Self::OneOf(values) => values.iter().for_each(|value| value.visit_references(visit)),
            Self::Count(inner) | Self::Not(inner) => inner.visit_references(visit),
            Self::Schema(Schema::File(file)) => file.references().for_each(visit),
            Self::Schema(Schema::Inline(_)) | Self::Exists(_) => {}
        }
    }

    /// The file that it names.
    pub fn file(&self) -> Option<&At<Template>> {
        match self {
            Self::Schema(Schema::File(file)) => Some(file),
            Self::Count(inner) | Self::Not(inner) => inner.file(),
            _ => None,
        }
    }
}

/// One thing that must hold on a page.
#[derive(Debug, Clone, PartialEq)]
pub struct PageExpectation {
    /// Where it is written.
    pub span: Span,
    /// What must hold.
    pub what: PageFact,
}

/// What `expect` knows on a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageFact {
    /// The page's URL.
    Url(Matcher),
    /// The page's title.
    Title(Matcher),
    /// An element is there and visible.
    Visible(Target),
    /// No visible element matches.
    Hidden(Target),
    /// Facts of an element.
    Element {
        /// Which.
        target: Target,
        /// What must hold of it.
        facts: Vec<ElementFact>,
    },
    /// No errors on the console and no uncaught exceptions since the run began.
    Console,
    /// No failed requests since the run began: no answer, or a status of 400 and more.
    Requests {
        /// Those that may fail.
        except: Vec<SentRequest>,
    },
    /// A page sent such a request since the run began, and it was answered.
    Request(SentRequest),
    /// A function body that must return true.
    Script(At<String>),
    /// A file was downloaded in this run that fits.
    Download {
        /// Its name.
        name: Option<Matcher>,
        /// Its size in bytes.
        size: Option<Matcher>,
        /// It has this in it, read as UTF-8.
        contains: Option<Template>,
    },
    /// A cookie of the page, by name.
    Cookie(String, Matcher),
}

/// What can be said of a request that a page sent. What is left out may be anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SentRequest {
    /// Its method, in capitals.
    pub method: Option<String>,
    /// Its URL.
    pub url: Option<Matcher>,
    /// The status of its answer.
    pub status: Option<Matcher>,
}

/// Where a browser goes in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// To the page before.
    Back,
    /// To the page after.
    Forward,
    /// To the same page again.
    Reload,
}

/// What can be said of an element.
#[derive(Debug, Clone, PartialEq)]
pub enum ElementFact {
    /// Its visible text, white space folded.
    Text(Matcher),
    /// A field's value.
    Value(Matcher),
    /// An attribute.
    Attribute(String, Matcher),
    /// How many visible elements match the target.
    Count(Matcher),
    /// Whether it is checked.
    Checked(bool),
    /// Whether it is enabled.
    Enabled(bool),
    /// Whether it has the focus.
    Focused(bool),
}

/// A value of a page to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct PageSave {
    /// Under which name.
    pub name: At<String>,
    /// Where it comes from.
    pub source: PageSource,
    /// The part to keep, or what it must be; `matches` keeps its first group.
    pub matcher: Option<Matcher>,
    /// Whether it is masked from then on.
    pub secret: bool,
}

/// Where a value of a page comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum PageSource {
    /// The text of an element.
    Text(Target),
    /// The value of a field.
    Value(Target),
    /// An attribute of an element.
    Attribute(Target, String),
    /// The page's URL.
    Url,
    /// A cookie, by name.
    Cookie(String),
    /// What a function body in the page returns.
    Script(At<String>),
}

/// An HTTP request and what is expected of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// Absolute, or relative to `base_url`.
    pub url: At<Template>,
    /// Headers, in the order they were written.
    pub headers: Vec<(String, At<Template>)>,
    /// Query parameters, added to those of the URL.
    pub query: Vec<(String, At<Template>)>,
    /// The body.
    pub body: Option<Body>,
    /// Who asks.
    pub login: Option<Login>,
    /// Which certificates to trust.
    pub trust: Trust,
    /// The proxy it goes through.
    pub proxy: Option<At<Template>>,
    /// The version of HTTP; none: what the server takes.
    pub http_version: Option<HttpVersion>,
    /// Whether redirects are followed.
    pub redirect: bool,
    /// The address to connect to, whatever the name: `10.0.0.1` or `10.0.0.1:8443`.
    pub resolve: Option<At<Template>>,
    /// Whether it carries a `traceparent`; left out, it does where the agent exports traces.
    pub traceparent: Option<bool>,
    /// What must hold.
    pub expect: Vec<ResponseExpectation>,
    /// What to keep.
    pub save: Vec<ResponseSave>,
    /// Asks again until what is expected holds.
    pub eventually: Option<Eventually>,
    /// What ends the asking: when all of these hold. Empty: nothing does.
    pub give_up_if: Vec<ResponseExpectation>,
}

impl Request {
    /// Every file that it names.
    pub fn files(&self) -> Vec<&At<Template>> {
        let mut files = self.trust.files();
        if let Some(Body::Multipart(parts)) = &self.body {
            files.extend(parts.iter().filter_map(|part| match &part.content {
                PartContent::File { file, .. } => Some(file),
                PartContent::Text(_) => None,
            }));
        }
        let expected = self.expect.iter().chain(&self.give_up_if);
        files.extend(expected.filter_map(|expectation| expectation.what.matcher().and_then(Matcher::file)));
        files
    }
}

/// How often, and how long, a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eventually {
    /// From the end of one try to the start of the next.
    pub every: Duration,
    /// All tries together.
    pub within: Duration,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    One,
    /// HTTP/2; without TLS with prior knowledge.
    Two,
}

/// Who asks, and how that is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Login {
    /// RFC 7617, or RFC 7616 where `digest` is true.
    Basic {
        /// The user.
        user: At<Template>,
        /// The password.
        password: At<Template>,
        /// Whether only a digest of the password is sent, for what the server asks.
        digest: bool,
    },
    /// A token (RFC 6750).
    Bearer(At<Template>),
    /// A token that is fetched for client credentials (RFC 6749, section 4.4).
    OAuth2(Box<OAuth2>),
}

/// Client credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// Where tokens are given out.
    pub token_url: At<Template>,
    /// The client.
    pub client_id: At<Template>,
    /// Its secret.
    pub client_secret: At<Template>,
    /// What the token is for.
    pub scope: Option<At<Template>>,
    /// Whom the token is for.
    pub audience: Option<At<Template>>,
    /// Whether the client shows its secret in the body instead of a header.
    pub in_body: bool,
}

/// A request's body.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// JSON, sent as `application/json`.
    Json(Value),
    /// A form, sent as `application/x-www-form-urlencoded`.
    Form(Vec<(String, At<Template>)>),
    /// Any text.
    Text(At<Template>),
    /// Several parts, sent as `multipart/form-data` (RFC 7578).
    Multipart(Vec<Part>),
    /// A query, sent as JSON.
    GraphQl(Box<GraphQl>),
}

/// A part of a body of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// What is in it.
    pub content: PartContent,
}

/// What is in a part.
#[derive(Debug, Clone, PartialEq)]
pub enum PartContent {
    /// A text.
    Text(At<Template>),
    /// A file, relative to the scenario's file.
    File {
        /// Its path.
        file: At<Template>,
        /// The name it is sent under; none: its own.
        filename: Option<At<Template>>,
        /// Its media type; none: `application/octet-stream`.
        media_type: Option<At<Template>>,
    },
}

/// A GraphQL request.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphQl {
    /// The document.
    pub query: At<Template>,
    /// The values of its variables.
    pub variables: Option<Value>,
    /// Which of its operations.
    pub operation: Option<At<Template>>,
}

/// Which certificates to trust.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trust {
    /// A PEM file with further roots, relative to the scenario's file.
    pub ca: Option<At<Template>>,
    /// PEM files with the client's own certificate and with its key.
    pub identity: Option<(At<Template>, At<Template>)>,
    /// Any certificate is taken.
    pub insecure: bool,
}

impl Trust {
    /// Every file that it names.
    pub fn files(&self) -> Vec<&At<Template>> {
        let own = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(own).collect()
    }
}

/// One thing that must hold of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseExpectation {
    /// Where it is written.
    pub span: Span,
    /// What must hold.
    pub what: ResponseFact,
}

/// What `expect` knows on an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFact {
    /// The status code.
    Status(Matcher),
    /// A header, by its lower-case name.
    Header(String, Matcher),
    /// What a `JSONPath` (RFC 9535) finds: the value, or the list when it finds several.
    Json(String, Matcher),
    /// What an XPath finds in HTML or XML: the text of a node, or the list when it finds several.
    Xpath(XPath, Matcher),
    /// The server's certificate, or the session that it was shown in.
    Certificate(CertificateFact),
    /// The body as text.
    Body(Matcher),
    /// The body has this in it.
    Contains(Template),
    /// From sending to the last byte.
    FasterThan(Duration),
    /// How long the step takes, against earlier runs; judged when all else holds.
    SlowerThanUsual(SlowerThanUsual),
}

impl ResponseFact {
    /// The matcher, where there is one.
    pub fn matcher(&self) -> Option<&Matcher> {
        match self {
            Self::Status(matcher)
            | Self::Header(_, matcher)
            | Self::Json(_, matcher)
            | Self::Xpath(_, matcher)
            | Self::Body(matcher) => Some(matcher),
            Self::Certificate(fact) => fact.matcher(),
            Self::Contains(_) | Self::FasterThan(_) | Self::SlowerThanUsual(_) => None,
        }
    }
}

/// A value of an answer to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseSave {
    /// Under which name.
    pub name: At<String>,
    /// Where it comes from.
    pub source: ResponseSource,
    /// Whether it is masked from then on.
    pub secret: bool,
}

/// Where a value of an answer comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseSource {
    /// What a `JSONPath` finds.
    Json(String),
    /// What an XPath finds in HTML or XML.
    Xpath(XPath),
    /// A header, by its lower-case name.
    Header(String),
    /// A cookie that would be sent to the address that answered, by name.
    Cookie(String),
    /// The first group of a regular expression over the body, or the whole body.
    Body(Option<Pattern>),
}

/// What a scenario may know of its surroundings: the agent's environment and files, as far as it allows.
pub trait Lookup: Send + Sync {
    /// A variable of the environment.
    fn env(&self, name: &str) -> Result<String, LookupError>;

    /// A file. `beside` is the path of the scenario's file: relative paths are relative to its folder, and what is
    /// in its folder is always allowed.
    fn file(&self, path: &std::path::Path, beside: &str) -> Result<Vec<u8>, LookupError>;

    /// Whether a program may be run, and the environment that it gets then. Nothing may unless it is said.
    fn exec(&self, program: &str) -> Result<Vec<(String, String)>, LookupError> {
        Err(LookupError::NotAllowed(format!("the program `{program}` is not allowed here")))
    }
}

/// Why a lookup gave nothing. Never holds the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// It is not there.
    Missing(String),
    /// The agent does not allow it; the text says what to add to `allow`.
    NotAllowed(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) | Self::NotAllowed(text) => f.write_str(text),
        }
    }
}
