//! Scenario model: the plain data that a scenario file is parsed into. Source spans are kept until run time.

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
use crate::diagnostic::{Source, Span, Spanned};

pub use super::headless::Headless;
pub use super::id::ScenarioId;
pub use super::kind::ScenarioKind;
pub use super::matcher::{InlineSchema, Matcher, Pattern, Schema};
pub use super::pretty::HumanDuration;
pub use super::schedule::Schedule;
pub use super::trust::Trust;
pub use super::viewport::Viewport;

/// Specification of a test: a browser flow, an API flow, or a single check.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Id, with the span of `id:` or of the name that it is derived from.
    pub id: Spanned<ScenarioId>,
    /// Display name.
    pub name: String,
    /// Source file.
    pub source: Arc<Source>,
    /// Kind of the scenario as a whole.
    pub kind: ScenarioKind,
    /// `key: value` pairs for alert routes and dashboards.
    pub tags: BTreeMap<String, String>,
    /// Whether the scenario runs; `enabled: false` pauses it.
    pub enabled: bool,
    /// Schedule of the due times.
    pub schedule: Schedule,
    /// Time between the due time and the evaluation: the grace of a heartbeat, zero for all other kinds.
    pub grace: Duration,
    /// Maximum duration of all `steps` together.
    pub timeout: Duration,
    /// Base of relative URLs.
    pub base_url: Option<Spanned<Template>>,
    /// Settings of the browser.
    pub browser: BrowserSettings,
    /// Elements such as cookie banners that may cover a page, and how to dismiss them.
    pub overlays: Vec<Overlay>,
    /// Evidence to store for a run.
    pub evidence: EvidencePolicy,
    /// Soft limits whose violation makes the run degraded.
    pub budget: Vec<Spanned<Budget>>,
    /// Sources of the secrets, by name.
    pub secrets: BTreeMap<String, SecretSource>,
    /// One-time passwords (RFC 6238) by name, each with the name of the secret that holds its base32 key.
    pub totp: BTreeMap<String, Spanned<String>>,
    /// Constants defined in the file.
    pub vars: BTreeMap<String, Value>,
    /// Alert threshold and severity.
    pub alert: AlertPolicy,
    /// Service level objective.
    pub slo: Option<super::slo::Slo>,
    /// Steps, in order of execution.
    pub steps: Vec<Step>,
    /// Steps that run afterwards, regardless of the result of `steps`.
    pub finally: Vec<Step>,
}

impl Scenario {
    /// Returns whether any step needs a browser.
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
    /// Returns the source file of a position (`file.yaml:LINE:COLUMN`): one of the fragments, or the scenario's own
    /// file.
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

    /// Returns the first time strictly after `after` at which the scenario runs: its due time plus the grace of a
    /// heartbeat.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let grace = TimeDelta::from_std(self.grace).ok()?;
        self.schedule.next_after(&self.id, after.checked_sub_signed(grace)?)?.checked_add_signed(grace)
    }

    /// Returns the heartbeat check if the scenario is one.
    pub fn heartbeat(&self) -> Option<&HeartbeatCheck> {
        match self.steps.first().map(|step| &step.action) {
            Some(Action::Check(check)) => match &**check {
                Check::Heartbeat(heartbeat) => Some(heartbeat),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the names of all steps, including those in groups and under `finally`.
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

/// `browser:`: settings of the scenario's browser. An omitted setting keeps the default of the browser.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BrowserSettings {
    /// Browser engine (default: Chromium).
    pub engine: Option<Engine>,
    /// Chromium binary for headless mode. The agent configuration decides if it is `None`.
    pub headless: Option<Headless>,
    /// Size of the visible page.
    pub viewport: Option<Viewport>,
    /// Device to emulate; `viewport` and `user_agent` override it.
    pub device: Option<&'static super::device::Device>,
    /// Language as a BCP 47 tag, such as `pl-PL`.
    pub locale: Option<Spanned<String>>,
    /// Time zone.
    pub timezone: Option<chrono_tz::Tz>,
    /// Position that the browser reports.
    pub geolocation: Option<Geolocation>,
    /// Value of the `User-Agent` header.
    pub user_agent: Option<Spanned<Template>>,
    /// Headers of every request to the origin of `base_url`.
    pub headers: Vec<(String, Spanned<Template>)>,
    /// Cookies set before the first page is opened.
    pub cookies: Vec<PresetCookie>,
    /// Credentials for HTTP authentication requested by the server.
    pub basic_auth: Option<BasicAuth>,
    /// Trusted certificates; browsers do not support a client certificate.
    pub trust: Trust,
    /// Origins whose requests carry a `traceparent` header.
    pub traceparent: Vec<Spanned<Template>>,
}

/// Browser engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Chromium and browsers based on it, driven by chromedriver.
    #[default]
    Chromium,
    /// Firefox, driven by geckodriver.
    Firefox,
}

impl Engine {
    /// All engines.
    pub const ALL: [Self; 2] = [Self::Chromium, Self::Firefox];

    /// Returns the external name.
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

/// Geographic position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geolocation {
    /// Latitude in degrees; north is positive.
    pub latitude: f64,
    /// Longitude in degrees; east is positive.
    pub longitude: f64,
    /// Accuracy in metres.
    pub accuracy: f64,
}

/// Cookie that is set before the first page is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct PresetCookie {
    /// Name of the cookie.
    pub name: Spanned<String>,
    /// Value of the cookie.
    pub value: Spanned<Template>,
    /// Host of the cookie (default: the host of `base_url`).
    pub domain: Option<Spanned<Template>>,
    /// Path of the cookie.
    pub path: Option<Spanned<Template>>,
}

/// User name and password.
#[derive(Debug, Clone, PartialEq)]
pub struct BasicAuth {
    /// User name.
    pub user: Spanned<Template>,
    /// Password.
    pub password: Spanned<Template>,
}

/// `evidence:`: evidence to store for a run in addition to that of every failure (screenshot, source, console, HAR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EvidencePolicy {
    /// Whether to take a screenshot after every page step, not only on failure.
    pub screenshots_of_steps: bool,
    /// Whether to store a HAR file of every run (`true`) or of no run (`false`). If it is `None`, one is stored for
    /// every run that did not pass.
    pub har: Option<bool>,
    /// Whether to take two small screenshots per second while the page is driven.
    pub filmstrip: bool,
}

/// Soft limit of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Maximum duration of the run.
    Duration(Duration),
    /// Maximum of a duration web vital, for every page opened.
    Vital(Vital, Duration),
    /// Maximum cumulative layout shift of every page.
    LayoutShift(f64),
    /// Maximum number of requests sent by the pages in a run.
    Requests(u64),
    /// Maximum number of failed requests.
    FailedRequests(u64),
    /// Maximum number of bytes transferred in a run.
    Bytes(u64),
    /// Maximum number of console errors, including uncaught exceptions.
    ConsoleErrors(u64),
    /// Limit of the duration relative to earlier runs.
    SlowerThanUsual(SlowerThanUsual),
}

/// Web vital that is a duration.
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
    /// All vitals that are durations.
    pub const ALL: [Self; 4] = [Self::Ttfb, Self::Fcp, Self::Lcp, Self::Inp];

    /// Returns the external name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ttfb => "ttfb",
            Self::Fcp => "fcp",
            Self::Lcp => "lcp",
            Self::Inp => "inp",
        }
    }
}

/// Source of a secret. The agent's `allow` list decides whether it is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Environment variable.
    Env(Spanned<String>),
    /// File; a line break at the end of the file is not part of the secret.
    File(Spanned<PathBuf>),
}

/// Conditions for opening and resolving an incident, and its severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertPolicy {
    /// Number of bad runs that open an incident.
    pub after: u32,
    /// Number of most recent conclusive runs in which the bad ones are counted; if equal to `after`, the bad runs must
    /// be consecutive.
    pub of: u32,
    /// Number of consecutive good runs that resolve the incident.
    pub recover_after: u32,
    /// Severity of the incident.
    pub severity: Severity,
    /// Verdicts that count as bad: a subset of failed and degraded.
    pub verdicts: Vec<Verdict>,
    /// Ids of scenarios whose failure explains a failure of this one.
    pub depends_on: Vec<Spanned<String>>,
    /// Interval of reminders of an open incident that does not change. `None` disables reminders.
    pub remind: Option<Duration>,
    /// URL of the runbook.
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

/// Severity of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information only.
    Info,
    /// Needs attention during working hours.
    #[default]
    Warning,
    /// Needs immediate attention.
    Critical,
}

impl Severity {
    /// All severities in ascending order.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Returns the external name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Returns the severity with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Step of a scenario: an action and its options.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Name, unique within the scenario: generated from the text of the template, or given by `name:`.
    pub name: String,
    /// Span from the action key to the end of its value.
    pub span: Span,
    /// Fragment that contains the step, or `None` if the step is in the scenario's own file.
    pub source: Option<Arc<Source>>,
    /// Timeout of one attempt; for a group, the optional timeout of the group as a whole.
    pub timeout: Option<Duration>,
    /// Whether the verdict ignores a failure of the step.
    pub optional: bool,
    /// Whether the following steps still run after a failure of the step; the run fails nevertheless.
    pub go_on: bool,
    /// Conditions for running the step, checked once. A step without conditions always runs.
    pub when: Vec<PageExpectation>,
    /// Frame in which the step acts, from the outermost frame inward; empty for the page itself.
    pub within_frame: Vec<Locator>,
    /// Action of the step.
    pub action: Action,
}

impl Step {
    /// Returns the timeout of the step, or the default of its action.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(match self.action {
            Action::Page(PageAction::Goto { .. } | PageAction::Travel(_)) => DEFAULT_GOTO_TIMEOUT,
            _ => DEFAULT_STEP_TIMEOUT,
        })
    }

    /// Returns the files referenced by the step itself, without those of nested steps.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
        match &self.action {
            Action::Request(request) => request.files(),
            Action::Check(check) => check.files(),
            Action::Page(PageAction::Upload { files, .. }) => files.iter().collect(),
            Action::Page(_) | Action::Group(_) => Vec::new(),
        }
    }
}

/// Default timeout of a step.
pub const DEFAULT_STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Default interval between two attempts of a polled request.
pub const DEFAULT_POLL_EVERY: Duration = Duration::from_secs(1);
/// Default timeout of a `goto` step.
pub const DEFAULT_GOTO_TIMEOUT: Duration = Duration::from_secs(30);
/// Default timeout of a scenario without a browser.
pub const DEFAULT_SCENARIO_TIMEOUT: Duration = Duration::from_secs(60);
/// Default timeout of a scenario with a browser.
pub const DEFAULT_BROWSER_SCENARIO_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of all `finally` steps together.
pub const FINALLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Action of a step.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // Most steps are page actions, so a box would save nothing.
pub enum Action {
    /// Action on the page.
    Page(PageAction),
    /// HTTP request.
    Request(Box<Request>),
    /// Group of steps.
    Group(Group),
    /// Check of any kind except `http`.
    Check(Box<Check>),
}

impl Action {
    /// Returns whether the action only reads the page and does not change it.
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Page(PageAction::Expect(_) | PageAction::Save(_) | PageAction::Screenshot { .. }))
    }
}

/// Steps under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Steps of the group.
    pub steps: Vec<Step>,
    /// Number of repetitions of the group after a failure of one of its steps.
    pub retry: u32,
}

/// Element that may cover the page at any time, and the element that dismisses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay {
    /// Element that is visible while the page is covered.
    pub when: Locator,
    /// Element to click to dismiss it.
    pub click: Locator,
    /// Frame that contains both elements, from the outermost frame inward.
    pub within_frame: Vec<Locator>,
}

/// Action on a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageAction {
    /// Opens a URL.
    Goto {
        /// URL, absolute or relative to `base_url`.
        url: Spanned<Template>,
        /// Condition on the status of the document (default: below 400).
        status: Option<Matcher>,
    },
    /// Goes back or forward in the history, or reloads the page.
    Travel(Travel),
    /// Clicks an element.
    Click {
        /// Element to click.
        target: Locator,
        /// Mouse button.
        button: MouseButton,
        /// Position in CSS pixels from the top left corner of the element (default: its center).
        position: Option<(f64, f64)>,
        /// Whether to click even if the element is covered or moving.
        force: bool,
    },
    /// Double-clicks an element.
    DoubleClick(Locator),
    /// Moves the pointer over an element.
    Hover(Locator),
    /// Clears a field.
    Clear(Locator),
    /// Checks or unchecks a checkbox.
    Check {
        /// Checkbox.
        target: Locator,
        /// Whether the box ends up checked.
        on: bool,
    },
    /// Fills a field.
    Fill {
        /// Field to fill.
        target: Locator,
        /// Text to type.
        with: Spanned<Template>,
        /// Whether to append to the present value.
        append: bool,
        /// Condition on the value of the field afterwards (default: equal to the text typed).
        becomes: Option<Matcher>,
    },
    /// Selects options of a list.
    Select {
        /// List to select from.
        target: Locator,
        /// Options to select.
        options: Vec<SelectOption>,
    },
    /// Presses a key or a chord.
    Press {
        /// Modifiers followed by the key, as in `Enter` or `Control+A`.
        keys: Spanned<Vec<String>>,
        /// Element that has the focus while the keys are pressed.
        into: Option<Locator>,
    },
    /// Sets the files of a file input.
    Upload {
        /// File input.
        target: Locator,
        /// Paths, relative to the scenario file.
        files: Vec<Spanned<Template>>,
    },
    /// Drags an element onto another.
    Drag {
        /// Element to drag.
        target: Locator,
        /// Element to drop onto.
        to: Locator,
    },
    /// Scrolls the page.
    Scroll(Scroll),
    /// Handles the dialog that is open or opens soon.
    Dialog {
        /// Response to the dialog.
        answer: DialogAnswer,
        /// Condition on the message of the dialog.
        expect: Option<Matcher>,
    },
    /// Switches to another window.
    Window(WindowChange),
    /// Runs a function body in the page.
    Script {
        /// JavaScript function body. `${…}` is not resolved; the values of `args` are its `arguments`.
        script: Spanned<String>,
        /// Arguments of the function.
        args: Vec<Value>,
        /// Name of the variable that stores the result.
        save: Option<Spanned<String>>,
    },
    /// Waits until all expectations hold.
    Expect(Vec<PageExpectation>),
    /// Saves values for later steps.
    Save(Vec<PageSave>),
    /// Takes a screenshot.
    Screenshot {
        /// Name of the screenshot.
        name: Spanned<Template>,
        /// Element to capture (default: the page).
        of: Option<Locator>,
        /// Whether to capture the full page, including the part outside the viewport.
        full_page: bool,
    },
}

/// Mouse button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseButton {
    /// Primary button.
    #[default]
    Left,
    /// Middle button (wheel).
    Middle,
    /// Secondary button, which opens context menus.
    Right,
}

/// Distance or destination of a scroll action.
#[derive(Debug, Clone, PartialEq)]
pub enum Scroll {
    /// Scrolls until the element is in view.
    To(Locator),
    /// Scrolls down by this number of CSS pixels, or up if it is negative.
    By(i32),
    /// Scrolls down until the element appears.
    Until(Locator),
}

/// Response to a dialog.
#[derive(Debug, Clone, PartialEq)]
pub enum DialogAnswer {
    /// Confirms the dialog, with this text if it prompts for one.
    Accept(Option<Spanned<Template>>),
    /// Cancels the dialog.
    Dismiss,
}

/// Window that the next steps act on.
#[derive(Debug, Clone, PartialEq)]
pub enum WindowChange {
    /// The window that the previous step has opened, or that opens soon.
    New,
    /// The window with this title.
    Title(Matcher),
    /// The window with this URL.
    Url(Matcher),
    /// Closes the current window and returns to the previous one.
    Close,
}

/// Option of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum SelectOption {
    /// Option with this visible text.
    Text(Spanned<Template>),
    /// Option with this `value`.
    Value(Spanned<Template>),
}

/// Locator: describes how to find an element on the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Locator {
    /// Locator strategy.
    pub how: LocatorStrategy,
    /// Position among several matches, starting at 1, in document order. If it is `None`, the match must be unique.
    pub nth: Option<u32>,
    /// Ancestor to search in.
    pub within: Option<Box<Locator>>,
    /// Span of the locator in the file.
    pub span: Span,
}

/// Locator strategy.
#[derive(Debug, Clone, PartialEq)]
pub enum LocatorStrategy {
    /// ARIA role and accessible name.
    Role {
        /// ARIA role, such as `button`.
        role: String,
        /// Condition on the entire accessible name; `None` accepts any name.
        name: Option<Matcher>,
    },
    /// Text of the label.
    Label(Matcher),
    /// Placeholder.
    Placeholder(Matcher),
    /// Visible text; selects the innermost element that contains it.
    Text(Matcher),
    /// Alternative text.
    Alt(Matcher),
    /// `title` attribute.
    Title(Matcher),
    /// `data-testid` attribute.
    TestId(Matcher),
    /// `id` attribute.
    Id(Template),
    /// CSS selector.
    Css(Template),
    /// `XPath` expression.
    Xpath(Template),
    /// The first of these locators that matches. A match of any but the first is locator drift.
    AnyOf(Vec<Locator>),
    /// The first of these locators that matches, without preference.
    OneOf(Vec<Locator>),
}

/// Expectation on a page.
#[derive(Debug, Clone, PartialEq)]
pub struct PageExpectation {
    /// Span of the expectation in the file.
    pub span: Span,
    /// Condition that must hold.
    pub what: PageFact,
}

/// Condition of an `expect` step on a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageFact {
    /// URL of the page.
    Url(Matcher),
    /// Title of the page.
    Title(Matcher),
    /// The element exists and is visible.
    Visible(Locator),
    /// No visible element matches.
    Hidden(Locator),
    /// Properties of an element.
    Element {
        /// Element to inspect.
        target: Locator,
        /// Conditions on the element.
        facts: Vec<ElementFact>,
    },
    /// No console errors and no uncaught exceptions since the start of the run.
    Console,
    /// No failed requests since the start of the run: no response, or a status of 400 or higher.
    Requests {
        /// Requests that may fail.
        except: Vec<SentRequest>,
    },
    /// A page has sent a matching request since the start of the run, and it received a response.
    Request(SentRequest),
    /// A function body that must return `true`.
    Script(Spanned<String>),
    /// A matching file was downloaded during the run.
    Download {
        /// Condition on the file name.
        name: Option<Matcher>,
        /// Condition on the size in bytes.
        size: Option<Matcher>,
        /// Text that the file must contain, read as UTF-8.
        contains: Option<Template>,
    },
    /// Cookie of the page, by name.
    Cookie(String, Matcher),
}

/// Conditions on a request sent by a page. An omitted condition accepts any value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SentRequest {
    /// Method in upper case.
    pub method: Option<String>,
    /// Condition on the URL.
    pub url: Option<Matcher>,
    /// Condition on the status of the response.
    pub status: Option<Matcher>,
}

/// Navigation in the history of the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// Goes to the previous page.
    Back,
    /// Goes to the next page.
    Forward,
    /// Reloads the page.
    Reload,
}

/// Condition on an element.
#[derive(Debug, Clone, PartialEq)]
pub enum ElementFact {
    /// Visible text with collapsed white space.
    Text(Matcher),
    /// Value of a field.
    Value(Matcher),
    /// Value of an attribute, by name.
    Attribute(String, Matcher),
    /// Number of visible elements that match the locator.
    Count(Matcher),
    /// Whether the element is checked.
    Checked(bool),
    /// Whether the element is enabled.
    Enabled(bool),
    /// Whether the element has the focus.
    Focused(bool),
}

/// Value of a page to save.
#[derive(Debug, Clone, PartialEq)]
pub struct PageSave {
    /// Name of the saved value.
    pub name: Spanned<String>,
    /// Source of the value.
    pub source: PageSource,
    /// Condition on the value, or the part of it to save; `matches` saves the first group of its expression.
    pub matcher: Option<Matcher>,
    /// Whether the value is masked from then on.
    pub secret: bool,
}

/// Source of a value that is saved from a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageSource {
    /// Text of an element.
    Text(Locator),
    /// Value of a field.
    Value(Locator),
    /// Attribute of an element.
    Attribute(Locator, String),
    /// URL of the page.
    Url,
    /// Cookie, by name.
    Cookie(String),
    /// Return value of a function body in the page.
    Script(Spanned<String>),
}

/// HTTP request with the expectations on its response.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// HTTP method, such as `GET`.
    pub method: String,
    /// URL, absolute or relative to `base_url`.
    pub url: Spanned<Template>,
    /// Headers, in the order of the file.
    pub headers: Vec<(String, Spanned<Template>)>,
    /// Query parameters, added to those of the URL.
    pub query: Vec<(String, Spanned<Template>)>,
    /// Body of the request.
    pub body: Option<Body>,
    /// Credentials sent with the request.
    pub login: Option<Authentication>,
    /// Trusted certificates.
    pub trust: Trust,
    /// Proxy for the request.
    pub proxy: Option<Spanned<Template>>,
    /// HTTP version. If it is `None`, the version is negotiated with the server.
    pub http_version: Option<HttpVersion>,
    /// Whether redirects are followed.
    pub redirect: bool,
    /// Address to connect to instead of resolving the host name: `10.0.0.1` or `10.0.0.1:8443`.
    pub resolve: Option<Spanned<Template>>,
    /// Whether the request carries a `traceparent` header (default: only if the agent exports traces).
    pub traceparent: Option<bool>,
    /// Expectations on the response.
    pub expect: Vec<ResponseExpectation>,
    /// Values to save.
    pub save: Vec<ResponseSave>,
    /// Settings for repeating the request until the expectations hold.
    pub eventually: Option<Eventually>,
    /// Conditions that end the polling when all of them hold. Without conditions, polling ends only with success or the
    /// time limit.
    pub give_up_if: Vec<ResponseExpectation>,
}

impl Request {
    /// Returns every file that the request references.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
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

/// Interval and time limit of a polled request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eventually {
    /// Interval from the end of one attempt to the start of the next.
    pub every: Duration,
    /// Time limit of all attempts together.
    pub within: Duration,
}

/// HTTP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    One,
    /// HTTP/2; with prior knowledge if TLS is not used.
    Two,
}

/// Authentication of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Authentication {
    /// Basic authentication (RFC 7617), or digest authentication (RFC 7616) if `digest` is true.
    Basic {
        /// User name.
        user: Spanned<Template>,
        /// Password.
        password: Spanned<Template>,
        /// Whether to use digest authentication, which sends only a digest of the password.
        digest: bool,
    },
    /// Bearer token (RFC 6750).
    Bearer(Spanned<Template>),
    /// Token obtained with client credentials (RFC 6749, section 4.4).
    OAuth2(Box<OAuth2>),
}

/// OAuth 2.0 client credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// URL of the token endpoint.
    pub token_url: Spanned<Template>,
    /// Client id.
    pub client_id: Spanned<Template>,
    /// Client secret.
    pub client_secret: Spanned<Template>,
    /// Scope of the token.
    pub scope: Option<Spanned<Template>>,
    /// Audience of the token.
    pub audience: Option<Spanned<Template>>,
    /// Whether the client authenticates in the request body instead of a header.
    pub in_body: bool,
}

/// Body of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// JSON, sent as `application/json`.
    Json(Value),
    /// Form fields, sent as `application/x-www-form-urlencoded`.
    Form(Vec<(String, Spanned<Template>)>),
    /// Plain text.
    Text(Spanned<Template>),
    /// Several parts, sent as `multipart/form-data` (RFC 7578).
    Multipart(Vec<Part>),
    /// GraphQL request, sent as JSON.
    GraphQl(Box<GraphQl>),
}

/// Part of a multipart body.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Name of the field.
    pub name: String,
    /// Content of the part.
    pub content: PartContent,
}

/// Content of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum PartContent {
    /// Text.
    Text(Spanned<Template>),
    /// File, relative to the scenario file.
    File {
        /// Path of the file.
        file: Spanned<Template>,
        /// File name to send (default: the name of the file).
        filename: Option<Spanned<Template>>,
        /// Media type of the file (default: `application/octet-stream`).
        media_type: Option<Spanned<Template>>,
    },
}

/// GraphQL request.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphQl {
    /// Query document.
    pub query: Spanned<Template>,
    /// Values of the variables.
    pub variables: Option<Value>,
    /// Name of the operation to execute.
    pub operation: Option<Spanned<Template>>,
}

/// Expectation on a response.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseExpectation {
    /// Span of the expectation in the file.
    pub span: Span,
    /// Condition that must hold.
    pub what: ResponseFact,
}

/// Condition of `expect` on a response.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFact {
    /// Status code.
    Status(Matcher),
    /// Header, by its lower-case name.
    Header(String, Matcher),
    /// Result of a `JSONPath` (RFC 9535): the value, or a list if there are several.
    Json(String, Matcher),
    /// Result of an XPath on HTML or XML: the text of a node, or a list if there are several.
    Xpath(XPath, Matcher),
    /// Certificate of the server, or the TLS session in which it was presented.
    Certificate(CertificateFact),
    /// Body as text.
    Body(Matcher),
    /// Text that the body must contain.
    Contains(Template),
    /// Maximum time from sending the request to the last byte of the response.
    FasterThan(Duration),
    /// Limit of the step duration relative to earlier runs; evaluated after all other expectations hold.
    SlowerThanUsual(SlowerThanUsual),
}

impl ResponseFact {
    /// Returns the matcher of the condition if it has one.
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

/// Value of a response to save.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseSave {
    /// Name of the saved value.
    pub name: Spanned<String>,
    /// Source of the value.
    pub source: ResponseSource,
    /// Whether the value is masked from then on.
    pub secret: bool,
}

/// Source of a value that is saved from a response.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseSource {
    /// Result of a `JSONPath`.
    Json(String),
    /// Result of an XPath on HTML or XML.
    Xpath(XPath),
    /// A header, by its lower-case name.
    Header(String),
    /// Cookie, by name, that would be sent to the URL of the response.
    Cookie(String),
    /// First group of a regular expression applied to the body, or the entire body.
    Body(Option<Pattern>),
}

/// Access of a scenario to the environment and files of the agent, restricted by the agent's `allow` list.
pub trait Lookup: Send + Sync {
    /// Returns the value of an environment variable.
    fn env(&self, name: &str) -> Result<String, LookupError>;

    /// Returns the content of a file. `beside` is the path of the scenario file: relative paths start at its folder,
    /// and the files in that folder are always allowed.
    fn file(&self, path: &std::path::Path, beside: &str) -> Result<Vec<u8>, LookupError>;

    /// Checks whether a program may be run and returns the environment for it. No program is allowed by default.
    fn exec(&self, program: &str) -> Result<Vec<(String, String)>, LookupError> {
        Err(LookupError::NotAllowed(format!("the program `{program}` is not allowed here")))
    }
}

/// Reason for a failed lookup. Never contains the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// The variable or file does not exist.
    Missing(String),
    /// The agent does not allow the lookup; the text describes what to add to `allow`.
    NotAllowed(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) | Self::NotAllowed(text) => f.write_str(text),
        }
    }
}
