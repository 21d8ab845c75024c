//! Keys of the scenario language, with one table per kind of map. The reader, the lists in "allowed here", the JSON
//! Schema and the documentation are derived from them.

use super::{check, usual};

/// Key of a map.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name of the key.
    pub name: &'static str,
    /// Form of the value, or `None` if the key is reserved and not supported yet.
    pub shape: Option<Shape>,
    /// Description in one line.
    pub doc: &'static str,
}

/// Form of a value, in the detail needed for the JSON Schema.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Text; a plain number is accepted as text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A positive integer.
    Count,
    /// A non-negative integer.
    Whole,
    /// Any number.
    Number,
    /// A number with a byte unit: `10KB`, `2MB`, `500B`.
    Size,
    /// A number of CSS pixels: `800px`, `-300px`.
    Pixels,
    /// A number with a time unit: `90s`, `1m30s`, `250ms`.
    Duration,
    /// Any value.
    Any,
    /// One word of a list.
    Words(&'static [&'static str]),
    /// A named definition, such as `target`, `matcher` or `steps`.
    Ref(&'static str),
    /// A list.
    List(&'static Shape),
    /// A single value or a list.
    OneOrMany(&'static Shape),
    /// A map with arbitrary keys.
    Map(&'static Shape),
    /// Any one of these forms.
    Either(&'static [Shape]),
    /// A map with the keys of these tables.
    Keys(&'static [&'static [Key]]),
}

/// Action of a step, or kind of a check.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Key of the action and form of its value.
    pub key: Key,
    /// Sibling keys of the action.
    pub beside: &'static [Key],
}

pub(super) const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape: Some(shape), doc }
}

const fn later(name: &'static str, doc: &'static str) -> Key {
    Key { name, shape: None, doc }
}

const TARGET: Shape = Shape::Ref("target");
pub(super) const MATCHER: Shape = Shape::Ref("matcher");
const PAGE_EXPECT: Shape = Shape::OneOrMany(&Shape::Ref("page_facts"));
const TEXTS: Shape = Shape::Map(&Shape::Text);
const CONSTANTS: Shape = Shape::Map(&Shape::Either(&[Shape::Text, Shape::Bool]));

/// Top-level keys of a file with one scenario.
pub const SCENARIO: &[Key] = &[
    key("scenario", Shape::Text, "its name"),
    key("id", Shape::Text, "its stable id, [a-z0-9-], 1 to 64 characters; default: made from the name"),
    key("tags", TEXTS, "key: value pairs that routes and dashboards go by"),
    key("every", Shape::Duration, "how often it runs; default 5m with a browser, else 1m"),
    key("cron", Shape::Text, "when it runs, as on Unix, in quotes"),
    key("timezone", Shape::Text, "the zone of cron, such as Europe/Warsaw; default UTC"),
    key("enabled", Shape::Bool, "false: it is paused and does not run"),
    key("timeout", Shape::Duration, "how long all steps may take; default 120s with a browser, else 60s"),
    key("base_url", Shape::Text, "what relative URLs are relative to"),
    key("browser", Shape::Keys(&[BROWSER]), "how the browser is set up"),
    key("overlays", Shape::List(&Shape::Keys(&[OVERLAY])), "what may get in the way at any time, and what to do then"),
    key("defaults", Shape::Keys(&[SCENARIO_DEFAULTS]), "what holds for every step that says nothing else"),
    key("secrets", Shape::Map(&Shape::Keys(&[SECRET])), "where secrets come from"),
    key("vars", CONSTANTS, "constants of the file, used as ${vars.name}"),
    key("alert", Shape::Keys(&[ALERT]), "when an incident opens and how loud it is"),
    key("steps", Shape::Ref("steps"), "what is done, in order"),
    key("finally", Shape::Ref("steps"), "what is done afterwards, whatever the steps did"),
    key("totp", Shape::Map(&Shape::Keys(&[TOTP])), "one-time passwords, used as ${totp.name}"),
    key("budget", Shape::Keys(&[BUDGET]), "soft limits: missing one makes the run degraded"),
    key("evidence", Shape::Keys(&[EVIDENCE]), "what is kept of a run"),
    key("slo", Shape::Keys(&[SLO]), "the objective for its availability"),
    later("matrix", "one scenario for each combination of values"),
    later("locations", "the agents that run it"),
];

/// Keys of `slo`.
pub const SLO: &[Key] = &[
    key("objective", Shape::Text, "the share of runs that do not fail, such as 99.9%"),
    key("window", Shape::Duration, "over how long, from 3d to 30d; default 30d"),
];

/// Top-level keys of a file with checks.
pub const CHECKS: &[Key] = &[
    key("checks", Shape::Map(&Shape::Ref("check")), "one check a line, by name"),
    key("defaults", Shape::Keys(&[CHECK_DEFAULTS]), "what is the same for all"),
    key("secrets", Shape::Map(&Shape::Keys(&[SECRET])), "where secrets come from"),
    key("vars", CONSTANTS, "constants of the file, used as ${vars.name}"),
    key("totp", Shape::Map(&Shape::Keys(&[TOTP])), "one-time passwords, used as ${totp.name}"),
];

/// Top-level keys of a fragment.
pub const FRAGMENT: &[Key] = &[
    key("steps", Shape::Ref("steps"), "what is done, in order"),
    key("parameters", Shape::List(&Shape::Text), "names that `with` gives values to, used as ${name}"),
];

/// Keys of `defaults` of a scenario.
pub const SCENARIO_DEFAULTS: &[Key] = &[
    key("timeout", Shape::Duration, "how long one attempt of a step may take"),
    key("traceparent", Shape::Bool, "whether requests carry a trace header; default: where the agent exports traces"),
];

/// Keys of `defaults` of checks.
pub const CHECK_DEFAULTS: &[Key] = &[
    key("every", Shape::Duration, "how often each runs; default 1m"),
    key("cron", Shape::Text, "when each runs, as on Unix, in quotes"),
    key("timezone", Shape::Text, "the zone of cron; default UTC"),
    key("enabled", Shape::Bool, "false: all are paused and do not run"),
    key("timeout", Shape::Duration, "how long each may take; default 10s"),
    key("tags", TEXTS, "key: value pairs that routes and dashboards go by"),
    key("alert", Shape::Keys(&[ALERT]), "when an incident opens and how loud it is"),
    key("traceparent", Shape::Bool, "whether requests carry a trace header; default: where the agent exports traces"),
    later("locations", "the agents that run them"),
];

/// Keys of every check.
pub const CHECK: &[Key] = &[
    key("id", Shape::Text, "its stable id, [a-z0-9-], 1 to 64 characters; default: made from the name"),
    key("every", Shape::Duration, "how often it runs"),
    key("cron", Shape::Text, "when it runs, as on Unix, in quotes"),
    key("timezone", Shape::Text, "the zone of cron; default UTC"),
    key("enabled", Shape::Bool, "false: it is paused and does not run"),
    key("timeout", Shape::Duration, "how long all of it may take; default 10s"),
    key("tags", TEXTS, "key: value pairs that routes and dashboards go by"),
    key("alert", Shape::Keys(&[ALERT]), "when an incident opens and how loud it is"),
    later("locations", "the agents that run it"),
];

/// Keys of `browser`.
pub const BROWSER: &[Key] = &[
    key("engine", Shape::Words(&["chromium", "firefox"]), "which browser; default chromium"),
    key(
        "headless",
        Shape::Words(super::model::Headless::WORDS),
        "full: the whole Chromium, for what its headless shell lacks; default shell, where it is installed",
    ),
    key("viewport", Shape::Text, "the size of the page, such as 1280x800"),
    key("device", Shape::Text, "a device to emulate, such as iPhone 15 or Pixel 8"),
    key("locale", Shape::Text, "the browser's language, such as pl-PL"),
    key("timezone", Shape::Text, "the browser's time zone, such as Europe/Warsaw"),
    key("geolocation", Shape::Keys(&[GEOLOCATION]), "where the browser says it is"),
    key("user_agent", Shape::Text, "what the browser says it is"),
    key("headers", TEXTS, "headers of every request to the origin of base_url"),
    key(
        "cookies",
        Shape::Map(&Shape::Either(&[Shape::Text, Shape::Keys(&[PRESET_COOKIE])])),
        "cookies to begin with, by name: a value, or {value, domain, path}",
    ),
    key("basic_auth", Shape::Keys(&[BASIC_AUTH]), "a user and a password for the server"),
    key("trust", Shape::Keys(&[BROWSER_TRUST]), "which certificates to trust"),
    key("traceparent", Shape::List(&Shape::Text), "origins whose requests get a trace header"),
];

/// Keys of `browser: {geolocation: …}`.
pub const GEOLOCATION: &[Key] = &[
    key("latitude", Shape::Number, "degrees, north is positive"),
    key("longitude", Shape::Number, "degrees, east is positive"),
    key("accuracy", Shape::Number, "metres; default 10"),
];

/// Keys of a cookie under `browser` that is written as a map.
pub const PRESET_COOKIE: &[Key] = &[
    key("value", Shape::Text, "its value"),
    key("domain", Shape::Text, "the host it is for; default that of base_url"),
    key("path", Shape::Text, "the path it is for; default /"),
];

/// Keys of `basic_auth`.
pub const BASIC_AUTH: &[Key] = &[key("user", Shape::Text, "the user"), key("password", Shape::Text, "the password")];

/// Keys of `browser: {trust: …}`.
pub const BROWSER_TRUST: &[Key] = &[
    key("ca", Shape::Text, "a PEM file with further roots, relative to this file"),
    key("insecure", Shape::Bool, "true: certificates that nobody vouches for are taken"),
    later("cert", "a PEM file with the client's own certificate"),
    later("key", "a PEM file with its key"),
];

/// Keys of an entry of `overlays`.
pub const OVERLAY: &[Key] = &[
    key("when", TARGET, "an element that is visible when it is in the way"),
    key("click", TARGET, "what is clicked then; left out: the same element"),
    key("within_frame", Shape::OneOrMany(&TARGET), "the frame in which both are, or a list of them, outermost first"),
];

/// Keys of `evidence`.
pub const EVIDENCE: &[Key] = &[
    key(
        "screenshots",
        Shape::Words(&["failure", "steps"]),
        "failure: of a step that failed (the default); steps: after every step on a page",
    ),
    key("har", Shape::Bool, "true: the requests of every run; false: of none; default: of those that did not pass"),
    key("filmstrip", Shape::Bool, "true: a small picture twice a second"),
];

/// Keys of `budget`.
pub const BUDGET: &[Key] = &[
    key("duration", Shape::Duration, "how long the run takes"),
    key("ttfb", Shape::Duration, "time to first byte of every page"),
    key("fcp", Shape::Duration, "first contentful paint of every page"),
    key("lcp", Shape::Duration, "largest contentful paint of every page"),
    key("inp", Shape::Duration, "interaction to next paint of every page"),
    key("cls", Shape::Number, "cumulative layout shift of every page"),
    key("requests", Shape::Whole, "how many requests the pages send"),
    key("failed_requests", Shape::Whole, "how many of them fail"),
    key("bytes", Shape::Size, "how much comes over the wire, such as 2MB"),
    key("console_errors", Shape::Whole, "how many errors stand on the console"),
    key(
        "slower_than_usual",
        Shape::Keys(&[usual::USUAL]),
        "how long the run takes, against the scenario's own history",
    ),
];

/// Keys of a one-time password.
pub const TOTP: &[Key] = &[key("secret", Shape::Text, "the name of the secret that is its seed, in base32")];

/// Keys of a secret.
pub const SECRET: &[Key] =
    &[key("env", Shape::Text, "a variable of the agent's environment"), key("file", Shape::Text, "a file")];

/// Keys of `alert`.
pub const ALERT: &[Key] = &[
    key("after", Shape::Either(&[Shape::Count, Shape::Text]), "bad runs that open an incident: 3, or \"2 of 3\""),
    key("recover_after", Shape::Count, "good runs in a row that resolve it; default 2"),
    key("severity", Shape::Words(&["info", "warning", "critical"]), "how loud it is; default warning"),
    key("verdicts", Shape::List(&Shape::Words(&["failed", "degraded"])), "which verdicts count; default [failed]"),
    key(
        "depends_on",
        Shape::List(&Shape::Text),
        "ids of scenarios whose failure explains this one's: while one of them fails this one is not told; an id without the brackets of its matrix means all of them",
    ),
    key("remind", Shape::Duration, "how often an open incident is told again while nothing changes; left out: never"),
    key("runbook", Shape::Text, "a URL, where to read on"),
];

/// Sibling keys of any action.
pub const MODIFIERS: &[Key] = &[
    key("name", Shape::Text, "the step's name, instead of the automatic one"),
    key("timeout", Shape::Duration, "how long one attempt may take"),
    key("optional", Shape::Bool, "true: a failure is recorded and does not change the verdict"),
    key(
        "when",
        PAGE_EXPECT,
        "takes what expect takes on a page, looked at once: the step is passed over when it does not hold",
    ),
    key("continue", Shape::Bool, "true: the run fails, but the next steps still run"),
];

/// Sibling keys of any page action.
pub const PAGE_MODIFIERS: &[Key] =
    &[key("within_frame", Shape::OneOrMany(&TARGET), "the frame in which it acts, or a list of them, outermost first")];

const fn page(name: &'static str, value: Shape, doc: &'static str, beside: &'static [Key]) -> Kind {
    Kind { key: key(name, value, doc), beside }
}

/// Page actions.
pub const PAGE_ACTIONS: &[Kind] = &[
    page(
        "goto",
        Shape::Text,
        "opens a path or URL",
        &[key("status", MATCHER, "what the document's status must be; default: below 400")],
    ),
    page("back", Shape::Bool, "true: goes back to the page before, as the browser's button does", &[]),
    page("forward", Shape::Bool, "true: goes forward again", &[]),
    page("reload", Shape::Bool, "true: loads the page again", &[]),
    page(
        "click",
        TARGET,
        "clicks an element",
        &[
            key("button", Shape::Words(MOUSE_BUTTONS), "which mouse button; default left"),
            key("position", Shape::Keys(&[POSITION]), "where on it, in CSS pixels from its top left corner"),
            key("force", Shape::Bool, "true: also where it moves or something covers it; the result says so"),
        ],
    ),
    page("double_click", TARGET, "clicks an element twice", &[]),
    page("hover", TARGET, "moves the pointer over an element", &[]),
    page(
        "fill",
        TARGET,
        "replaces the content of a field",
        &[
            key("with", Shape::Text, "by what"),
            key("append", Shape::Bool, "true: adds instead of replacing"),
            key("becomes", MATCHER, "what the field makes of it, where that is something else, as a mask does"),
        ],
    ),
    page("clear", TARGET, "empties a field", &[]),
    page("check", TARGET, "sees to it that a box is checked", &[]),
    page("uncheck", TARGET, "sees to it that a box is not checked", &[]),
    page(
        "select",
        TARGET,
        "chooses options of a list",
        &[key("option", Shape::OneOrMany(&Shape::Ref("option")), "which: a text, {value: …}, or a list of them")],
    ),
    page(
        "press",
        Shape::Text,
        "presses a key or chord: Enter, Control+A",
        &[key("into", TARGET, "the element that has the focus")],
    ),
    page(
        "upload",
        TARGET,
        "gives files to a field",
        &[key("file", Shape::OneOrMany(&Shape::Text), "which: a path beside the scenario's file, or a list of them")],
    ),
    page("drag", TARGET, "drags an element to another", &[key("to", TARGET, "the other one")]),
    page(
        "scroll",
        Shape::Either(&[TARGET, Shape::Keys(&[SCROLL])]),
        "scrolls to an element, {by: 800px}, or {until: …} an element has come",
        &[],
    ),
    page(
        "dialog",
        Shape::Either(&[Shape::Words(DIALOG_ANSWERS), Shape::Keys(&[DIALOG])]),
        "answers a dialog: accept, dismiss, or {accept: text}",
        &[key("expect", MATCHER, "what its message must be")],
    ),
    page(
        "window",
        Shape::Either(&[Shape::Words(&["close"]), Shape::Keys(&[WINDOW])]),
        "changes to another window: {new: true}, {title: …} or {url: …}; or close",
        &[],
    ),
    page(
        "script",
        Shape::Text,
        "runs JavaScript, the body of a function; ${…} is not filled in",
        &[
            key("args", Shape::List(&Shape::Any), "what it is called with: arguments[0] and so on"),
            key("save", Shape::Text, "the name under which its result is kept"),
        ],
    ),
    page("expect", PAGE_EXPECT, "waits until all of these hold", &[]),
    page("save", Shape::Map(&Shape::Keys(&[PAGE_SOURCES])), "keeps values for later steps", &[]),
    page(
        "screenshot",
        Shape::Text,
        "takes a picture of this name",
        &[key("of", TARGET, "of one element"), key("full_page", Shape::Bool, "true: also what is out of sight")],
    ),
];

/// Mouse buttons.
pub const MOUSE_BUTTONS: &[&str] = &["left", "middle", "right"];

/// Keys of `position` of `click`.
pub const POSITION: &[Key] = &[key("x", Shape::Number, "from the left"), key("y", Shape::Number, "from the top")];

/// Keys of `scroll` without a locator.
pub const SCROLL: &[Key] = &[
    key("by", Shape::Pixels, "how far down, such as 800px; up when it is negative"),
    key("until", TARGET, "the element that comes when there was enough scrolling, as in lists that grow"),
];

/// Responses to a dialog that consist of one word.
pub const DIALOG_ANSWERS: &[&str] = &["accept", "dismiss"];

/// Keys of `dialog` with a text.
pub const DIALOG: &[Key] = &[key("accept", Shape::Text, "the text that the dialog asks for")];

/// Keys of `window`.
pub const WINDOW: &[Key] = &[
    key("new", Shape::Bool, "true: the one that the step before has opened, or that opens soon"),
    key("title", MATCHER, "the one with this title"),
    key("url", MATCHER, "the one with this URL"),
];

/// Keys of an option that is not selected by its text.
pub const OPTION: &[Key] = &[key("value", Shape::Text, "the option's value")];

/// HTTP methods.
pub const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// Sibling keys of a request, in a step and in an `http` check.
pub const REQUEST: &[Key] = &[
    key("headers", TEXTS, "headers of the request"),
    key("query", TEXTS, "query parameters, added to those of the URL"),
    key("json", Shape::Any, "a body, sent as JSON"),
    key("form", TEXTS, "a body, sent as a form"),
    key("body", Shape::Text, "a body of any text"),
    key("trust", Shape::Keys(&[TRUST]), "which certificates to trust"),
    key("expect", Shape::Keys(&[RESPONSE_FACTS]), "what must hold of the answer"),
    key("save", Shape::Map(&Shape::Keys(&[RESPONSE_SOURCES])), "values of the answer to keep"),
    key(
        "multipart",
        Shape::Map(&Shape::Either(&[Shape::Text, Shape::Keys(&[PART])])),
        "a body of several parts, by name: a text, or {file, filename, type}",
    ),
    key("graphql", Shape::Keys(&[GRAPHQL]), "a GraphQL query, sent with POST; `errors` in the answer fail"),
    key("basic_auth", Shape::Keys(&[REQUEST_BASIC_AUTH]), "a user and a password"),
    key("bearer", Shape::Text, "a token, sent as Authorization: Bearer"),
    key("oauth2", Shape::Keys(&[OAUTH2]), "client credentials for which a token is fetched and kept"),
    key("proxy", Shape::Text, "the proxy it goes through: http://[user:password@]host:port"),
    key(
        "http_version",
        Shape::Words(HTTP_VERSIONS),
        "the version of HTTP; default: the best one that the server takes",
    ),
    key("redirect", Shape::Bool, "false: redirects are not followed; default: up to 10 are"),
    key("resolve", Shape::Text, "the address to connect to, whatever the name: 10.0.0.1 or 10.0.0.1:8443"),
    key("traceparent", Shape::Bool, "whether it carries a trace header; default: where the agent exports traces"),
    key("eventually", Shape::Keys(&[EVENTUALLY]), "asks again until what is expected holds"),
    key("give_up_if", Shape::Keys(&[RESPONSE_FACTS]), "what ends the asking: takes what expect takes"),
];

/// HTTP versions.
pub const HTTP_VERSIONS: &[&str] = &["1.1", "2"];

/// Keys of a part of `multipart` that is a file.
pub const PART: &[Key] = &[
    key("file", Shape::Text, "a path, relative to this file"),
    key("filename", Shape::Text, "the name it is sent under; default its own"),
    key("type", Shape::Text, "its media type; default application/octet-stream"),
];

/// Keys of `graphql`.
pub const GRAPHQL: &[Key] = &[
    key("query", Shape::Text, "the query or mutation"),
    key("variables", Shape::Map(&Shape::Any), "the values of its variables"),
    key("operation", Shape::Text, "which of its operations, where there are several"),
];

/// Keys of `basic_auth` of a request.
pub const REQUEST_BASIC_AUTH: &[Key] = &[
    key("user", Shape::Text, "the user"),
    key("password", Shape::Text, "the password"),
    key("digest", Shape::Bool, "true: answers the server's challenge (RFC 7616) and does not send the password"),
];

/// Keys of `oauth2`.
pub const OAUTH2: &[Key] = &[
    key("token_url", Shape::Text, "where tokens are given out"),
    key("client_id", Shape::Text, "the client"),
    key("client_secret", Shape::Text, "its secret"),
    key("scope", Shape::Text, "what the token is for"),
    key("audience", Shape::Text, "whom the token is for"),
    key("auth", Shape::Words(&["header", "body"]), "how the client shows its secret; default header"),
];

/// Keys of `eventually`.
pub const EVENTUALLY: &[Key] = &[
    key("every", Shape::Duration, "how long it waits between two tries; default 1s"),
    key("within", Shape::Duration, "how long all tries may take"),
];

/// Keys of `group`.
pub const GROUP: Kind = Kind {
    key: key("group", Shape::Text, "steps that belong together, under this name"),
    beside: &[
        key("steps", Shape::Ref("steps"), "the steps"),
        key("retry", Shape::Count, "how often they are done again from the first one when one fails"),
    ],
};

/// Keys of `use`.
pub const USE: Kind = Kind {
    key: key("use", Shape::Text, "the steps of another file, relative to this one"),
    beside: &[key("with", Shape::Map(&Shape::Any), "values for its parameters")],
};

/// Keys of `trust`.
pub const TRUST: &[Key] = &[
    key("ca", Shape::Text, "a PEM file with further roots, relative to this file"),
    key("cert", Shape::Text, "a PEM file with the client's own certificate, and those that vouch for it"),
    key("key", Shape::Text, "a PEM file with its key"),
    key("insecure", Shape::Bool, "true: any certificate is taken"),
];

/// Role names that can be used as keys of a locator.
pub const ROLES: &[&str] = &[
    "button",
    "link",
    "heading",
    "textbox",
    "searchbox",
    "checkbox",
    "radio",
    "switch",
    "combobox",
    "listbox",
    "option",
    "slider",
    "tab",
    "menuitem",
    "dialog",
    "alert",
    "row",
    "cell",
    "img",
];

/// Locator strategies other than roles.
pub const HOW: &[Key] = &[
    key("label", MATCHER, "by the text of its label"),
    key("placeholder", MATCHER, "by its placeholder"),
    key("text", MATCHER, "by its visible text"),
    key("alt", MATCHER, "by its alternative text"),
    key("title", MATCHER, "by its title"),
    key("testid", MATCHER, "by its data-testid"),
    key("id", Shape::Text, "by its id"),
    key("css", Shape::Text, "by a CSS selector"),
    key("xpath", Shape::Text, "by an XPath"),
    key("role", Shape::Text, "by any ARIA role"),
    key("any_of", Shape::List(&TARGET), "the first of several targets that is there; stands alone"),
    key("one_of", Shape::List(&TARGET), "as any_of, where all are as good: another than the first is no drift"),
];

/// Locator options.
pub const TARGET_BESIDE: &[Key] = &[
    key("name", MATCHER, "the accessible name, beside `role`"),
    key("nth", Shape::Count, "which of several, from 1, in the order of the page"),
    key("within", TARGET, "the element around it"),
];

/// Keys of matchers.
pub const MATCHERS: &[Key] = &[
    key("equals", Shape::Any, "is the same value; a scalar is short for it"),
    key("contains", Shape::Text, "has this in it"),
    key("starts_with", Shape::Text, "begins with it"),
    key("ends_with", Shape::Text, "ends with it"),
    key("matches", Shape::Text, "a regular expression matches somewhere"),
    key("less_than", Shape::Ref("number"), "is a number below this"),
    key("greater_than", Shape::Ref("number"), "is a number above this"),
    key("between", Shape::List(&Shape::Ref("number")), "is a number from the first to the second"),
    key("count", MATCHER, "has so many elements"),
    key("exists", Shape::Bool, "is there, or is not"),
    key("one_of", Shape::List(&Shape::Any), "is one of these"),
    key("not", MATCHER, "does not match this"),
    key(
        "schema",
        Shape::Either(&[Shape::Text, Shape::Map(&Shape::Any)]),
        "fits a JSON Schema: written out, or a JSON file",
    ),
];

/// Keys of `expect` on a page.
pub const PAGE_FACTS: &[Key] = &[
    key("url", MATCHER, "the page's URL"),
    key("title", MATCHER, "the page's title"),
    key("visible", TARGET, "an element is there and visible"),
    key("hidden", TARGET, "no visible element matches"),
    key("element", TARGET, "the element that the keys beside it are about"),
    key("console", Shape::Words(&["no_errors"]), "no errors on the console since the run began"),
    key(
        "requests",
        Shape::Either(&[Shape::Words(&["no_failures"]), Shape::Keys(&[REQUESTS])]),
        "no failed requests since the run began: no_failures, or {except: …}",
    ),
    key("request", Shape::Keys(&[SENT]), "a page sent a request like this since the run began"),
    key("script", Shape::Text, "a function body that must return true"),
    key("download", Shape::Keys(&[DOWNLOAD]), "a file was downloaded that fits"),
    key("cookie", Shape::Map(&MATCHER), "cookies of the page, by name"),
];

/// Keys of `requests`.
pub const REQUESTS: &[Key] =
    &[key("except", Shape::List(&Shape::Keys(&[SENT])), "requests that may fail, each by any of these")];

/// Keys that describe a request sent by a page.
pub const SENT: &[Key] = &[
    key("method", Shape::Text, "its method; left out: any"),
    key("url", MATCHER, "its URL; left out: any"),
    key("status", MATCHER, "what was answered; left out: below 400 for `request`, anything for `except`"),
];

/// Keys that describe a download.
pub const DOWNLOAD: &[Key] = &[
    key("name", MATCHER, "its name"),
    key("size", MATCHER, "its size, with a unit: {greater_than: 1KB}"),
    key("contains", Shape::Text, "it has this in it"),
];

/// Keys that describe an element, next to `element`.
pub const ELEMENT_FACTS: &[Key] = &[
    key("text", MATCHER, "its visible text"),
    key("value", MATCHER, "a field's value"),
    key("attribute", Shape::Map(&MATCHER), "attributes, by name"),
    key("count", MATCHER, "how many visible elements match"),
    key("checked", Shape::Bool, "whether it is checked"),
    key("enabled", Shape::Bool, "whether it is enabled"),
    key("focused", Shape::Bool, "whether it has the focus"),
];

/// Keys of `expect` on a response.
pub const RESPONSE_FACTS: &[Key] = &[
    key("status", MATCHER, "the status code; default 200 to 299"),
    key("headers", Shape::Map(&MATCHER), "headers, by name"),
    key("json", Shape::Map(&MATCHER), "what a JSONPath finds"),
    key("body", MATCHER, "the body as text"),
    key("contains", Shape::Text, "the body has this in it"),
    key("faster_than", Shape::Duration, "from sending to the last byte"),
    key("xpath", Shape::Map(&MATCHER), "what an XPath 1.0 expression finds in HTML or XML"),
    key("certificate", Shape::Keys(&[check::certificate::CERTIFICATE]), "the server's certificate and its session"),
    key(
        "slower_than_usual",
        Shape::Keys(&[usual::USUAL]),
        "how long the step takes, against the scenario's own history",
    ),
];

const MATCHER_OR_TRUE: Shape = Shape::Either(&[Shape::Bool, MATCHER]);

/// Keys of `save` on a page.
pub const PAGE_SOURCES: &[Key] = &[
    key("element", TARGET, "the element that the key beside it is about; alone: its text"),
    key("text", MATCHER_OR_TRUE, "its text: true for all of it, or a matcher whose first group is kept"),
    key("value", MATCHER_OR_TRUE, "a field's value"),
    key("attribute", Shape::Text, "an attribute, by name"),
    key("url", MATCHER_OR_TRUE, "the page's URL"),
    key("cookie", Shape::Text, "a cookie, by name"),
    key("script", Shape::Text, "what JavaScript returns, the body of a function"),
    key("secret", Shape::Bool, "true: masked from then on"),
];

/// Keys of `save` on a response.
pub const RESPONSE_SOURCES: &[Key] = &[
    key("json", Shape::Text, "what a JSONPath finds"),
    key("header", Shape::Text, "a header"),
    key("cookie", Shape::Text, "a cookie, by name"),
    key("body", Shape::Either(&[Shape::Bool, Shape::Keys(&[BODY_SOURCE])]), "the body, or its first group"),
    key("secret", Shape::Bool, "true: masked from then on"),
    key("xpath", Shape::Text, "what an XPath 1.0 expression finds in HTML or XML"),
];

/// Keys that select the part of a body to save.
pub const BODY_SOURCE: &[Key] = &[key("matches", Shape::Text, "a regular expression whose first group is kept")];

/// Key for the maximum duration of a check.
pub(super) const FASTER_THAN: Key = key("faster_than", Shape::Duration, "from the start to the end");

/// Keys of an `http` check in addition to those of a request.
pub const HTTP: Kind = Kind {
    key: key("http", Shape::Text, "a URL"),
    beside: &[
        key("method", Shape::Words(METHODS), "default GET"),
        key("status", MATCHER, "short for expect: {status: …}"),
        key("contains", Shape::Text, "short for expect: {contains: …}"),
        key("faster_than", Shape::Duration, "short for expect: {faster_than: …}"),
    ],
};

/// Kinds of checks, `http` first; the keys of its request are in [`REQUEST`].
pub const CHECK_KINDS: &[Kind] = &[
    HTTP,
    check::tls::KIND,
    check::tcp::KIND,
    check::dns::KIND,
    check::ping::KIND,
    check::postgres::KIND,
    check::redis::KIND,
    check::grpc::KIND,
    check::websocket::KIND,
    check::ntp::KIND,
    check::s3::KIND,
    check::heartbeat::KIND,
    check::exec::KIND,
];

/// Keys of `expect` by kind of check; those of `http` are in [`RESPONSE_FACTS`].
pub const CHECK_EXPECT: &[(&str, &[Key])] = &[
    ("`certificate`", check::certificate::CERTIFICATE),
    ("`expect` of `dns`", check::dns::EXPECT),
    ("`expect` of `postgres`", check::postgres::EXPECT),
    ("`expect` of `redis`", check::redis::EXPECT),
    ("`expect` of `ntp`", check::ntp::EXPECT),
    ("`expect` of `s3`", check::s3::EXPECT),
    ("`credentials` of `s3`", check::s3::CREDENTIALS),
];

/// All role names as keys, with the accessible name as value.
pub const ROLE_KEYS: [Key; ROLES.len()] = {
    let mut keys = [key("", MATCHER, "an element of this role, by its accessible name"); ROLES.len()];
    let mut at = 0;
    while at < ROLES.len() {
        keys[at].name = ROLES[at];
        at += 1;
    }
    keys
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_where_tables_meet() {
        let unique = |tables: &[&[Key]]| {
            let mut names: Vec<_> = tables.iter().flat_map(|table| table.iter().map(|key| key.name)).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{names:?}");
        };
        unique(&[SCENARIO]);
        unique(&[CHECKS]);
        unique(&[PAGE_FACTS, ELEMENT_FACTS]);
        unique(&[&ROLE_KEYS, HOW, TARGET_BESIDE]);
        unique(&[PAGE_SOURCES]);
        unique(&[RESPONSE_SOURCES]);
        for action in PAGE_ACTIONS {
            unique(&[&[action.key], action.beside, MODIFIERS, PAGE_MODIFIERS]);
        }
        for kind in CHECK_KINDS {
            unique(&[&[kind.key], kind.beside, CHECK]);
        }
        unique(&[&[HTTP.key], HTTP.beside, CHECK, REQUEST]);
    }
}
