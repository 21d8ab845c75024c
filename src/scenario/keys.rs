//! Keys of the scenario language, with one table per kind of map. The reader, the lists in "allowed here", the JSON
//! Schema and the documentation are derived from them.

use super::key::{MATCHER, key};
use super::{check, usual};

pub use super::expect::MATCHERS;
pub use super::key::{ActionSpec, Key, METHODS, Shape, TRUST};

const fn later(name: &'static str, doc: &'static str) -> Key {
    Key { name, shape: None, doc }
}

const TARGET: Shape = Shape::Ref("target");
const PAGE_EXPECT: Shape = Shape::OneOrMany(&Shape::Ref("page_facts"));
const TEXTS: Shape = Shape::Map(&Shape::Text);
const FIELDS: Shape = Shape::Map(&Shape::OneOrMany(&Shape::Text));
const CONSTANTS: Shape = Shape::Map(&Shape::Either(&[Shape::Text, Shape::Bool]));

/// Top-level keys of a file with one scenario.
pub const SCENARIO: &[Key] = &[
    key("scenario", Shape::Text, "name of the scenario"),
    key("id", Shape::Text, "stable id, [a-z0-9-], 1 to 64 characters (default: derived from the name)"),
    key("tags", TEXTS, "key: value pairs for routes and dashboards"),
    key("every", Shape::Duration, "interval between runs (default: 5m with a browser, otherwise 1m)"),
    key("cron", Shape::Text, "cron expression of the runs, in quotes"),
    key("timezone", Shape::Text, "time zone of `cron`, such as Europe/Warsaw (default: UTC)"),
    key("enabled", Shape::Bool, "false: paused, does not run"),
    key("timeout", Shape::Duration, "timeout of all steps together (default: 120s with a browser, otherwise 60s)"),
    key("base_url", Shape::Text, "base of relative URLs"),
    key("browser", Shape::Keys(&[BROWSER]), "browser settings"),
    key(
        "overlays",
        Shape::List(&Shape::Keys(&[OVERLAY])),
        "elements that may cover the page at any time, and how to dismiss them",
    ),
    key("defaults", Shape::Keys(&[SCENARIO_DEFAULTS]), "defaults for all steps"),
    key("secrets", Shape::Map(&Shape::Keys(&[SECRET])), "sources of secrets"),
    key("vars", CONSTANTS, "constants of the file, used as ${vars.name}"),
    key("alert", Shape::Keys(&[ALERT]), "when an incident opens, and its severity"),
    key("steps", Shape::Ref("steps"), "steps, in order"),
    key("finally", Shape::Ref("steps"), "steps that always run at the end"),
    key("totp", Shape::Map(&Shape::Keys(&[TOTP])), "one-time passwords, used as ${totp.name}"),
    key("budget", Shape::Keys(&[BUDGET]), "soft limits: exceeding one makes the run degraded"),
    key("evidence", Shape::Keys(&[EVIDENCE]), "evidence stored for a run"),
    key("slo", Shape::Keys(&[SLO]), "availability objective"),
    later("matrix", "one scenario for each combination of values"),
    later("locations", "agents that run the scenario"),
];

/// Keys of `slo`.
pub const SLO: &[Key] = &[
    key("objective", Shape::Text, "required share of runs that do not fail, such as 99.9%"),
    key("window", Shape::Duration, "time window, from 3d to 30d (default: 30d)"),
];

/// Top-level keys of a file with checks.
pub const CHECKS: &[Key] = &[
    key("checks", Shape::Map(&Shape::Ref("check")), "checks by name, one per line"),
    key("defaults", Shape::Keys(&[CHECK_DEFAULTS]), "defaults for all checks"),
    key("secrets", Shape::Map(&Shape::Keys(&[SECRET])), "sources of secrets"),
    key("vars", CONSTANTS, "constants of the file, used as ${vars.name}"),
    key("totp", Shape::Map(&Shape::Keys(&[TOTP])), "one-time passwords, used as ${totp.name}"),
];

/// Top-level keys of a fragment.
pub const FRAGMENT: &[Key] = &[
    key("steps", Shape::Ref("steps"), "steps, in order"),
    key("parameters", Shape::List(&Shape::Text), "names of parameters, set by `with`, used as ${name}"),
];

/// Keys of `defaults` of a scenario.
pub const SCENARIO_DEFAULTS: &[Key] = &[
    key("timeout", Shape::Duration, "timeout of one attempt of a step"),
    key("traceparent", Shape::Bool, "whether requests carry a trace header (default: if the agent exports traces)"),
];

/// Keys of `defaults` of checks.
pub const CHECK_DEFAULTS: &[Key] = &[
    key("every", Shape::Duration, "interval between runs of each check (default: 1m)"),
    key("cron", Shape::Text, "cron expression of the runs of each check, in quotes"),
    key("timezone", Shape::Text, "time zone of `cron` (default: UTC)"),
    key("enabled", Shape::Bool, "false: all checks are paused"),
    key("timeout", Shape::Duration, "timeout of each check (default: 10s)"),
    key("tags", TEXTS, "key: value pairs for routes and dashboards"),
    key("alert", Shape::Keys(&[ALERT]), "when an incident opens, and its severity"),
    key("traceparent", Shape::Bool, "whether requests carry a trace header (default: if the agent exports traces)"),
    later("locations", "the agents that run them"),
];

/// Keys of every check.
pub const CHECK: &[Key] = &[
    key("id", Shape::Text, "stable id, [a-z0-9-], 1 to 64 characters (default: derived from the name)"),
    key("every", Shape::Duration, "interval between runs"),
    key("cron", Shape::Text, "cron expression of the runs, in quotes"),
    key("timezone", Shape::Text, "time zone of `cron` (default: UTC)"),
    key("enabled", Shape::Bool, "false: paused, does not run"),
    key("timeout", Shape::Duration, "timeout of the check (default: 10s)"),
    key("tags", TEXTS, "key: value pairs for routes and dashboards"),
    key("alert", Shape::Keys(&[ALERT]), "when an incident opens, and its severity"),
    later("locations", "agents that run the scenario"),
];

/// Keys of `browser`.
pub const BROWSER: &[Key] = &[
    key("engine", Shape::Words(&["chromium", "firefox"]), "browser engine (default: chromium)"),
    key(
        "headless",
        Shape::Words(super::model::Headless::WORDS),
        "full: complete Chromium, for features that its headless shell lacks (default: shell, if installed)",
    ),
    key("viewport", Shape::Text, "viewport size, such as 1280x800"),
    key("device", Shape::Text, "device to emulate, such as iPhone 15 or Pixel 8"),
    key("locale", Shape::Text, "language of the browser, such as pl-PL"),
    key("timezone", Shape::Text, "time zone of the browser, such as Europe/Warsaw"),
    key("geolocation", Shape::Keys(&[GEOLOCATION]), "geolocation reported by the browser"),
    key("user_agent", Shape::Text, "User-Agent of the browser"),
    key("headers", TEXTS, "headers of every request to the origin of base_url"),
    key(
        "cookies",
        Shape::Map(&Shape::Either(&[Shape::Text, Shape::Keys(&[PRESET_COOKIE])])),
        "initial cookies, by name: a value, or {value, domain, path}",
    ),
    key("basic_auth", Shape::Keys(&[BASIC_AUTH]), "user and password for HTTP authentication"),
    key("trust", Shape::Keys(&[BROWSER_TRUST]), "trusted certificates"),
    key("traceparent", Shape::List(&Shape::Text), "origins whose requests carry a trace header"),
];

/// Keys of `browser: {geolocation: …}`.
pub const GEOLOCATION: &[Key] = &[
    key("latitude", Shape::Number, "latitude in degrees, north is positive"),
    key("longitude", Shape::Number, "longitude in degrees, east is positive"),
    key("accuracy", Shape::Number, "accuracy in metres (default: 10)"),
];

/// Keys of a cookie under `browser` that is written as a map.
pub const PRESET_COOKIE: &[Key] = &[
    key("value", Shape::Text, "value of the cookie"),
    key("domain", Shape::Text, "host of the cookie (default: host of base_url)"),
    key("path", Shape::Text, "path of the cookie (default: /)"),
];

/// Keys of `basic_auth`.
pub const BASIC_AUTH: &[Key] = &[key("user", Shape::Text, "user name"), key("password", Shape::Text, "password")];

/// Keys of `browser: {trust: …}`.
pub const BROWSER_TRUST: &[Key] = &[
    key("ca", Shape::Text, "PEM file with additional root certificates, relative to this file"),
    key("insecure", Shape::Bool, "true: accepts untrusted certificates"),
    later("cert", "PEM file with the client certificate"),
    later("key", "PEM file with the private key"),
];

/// Keys of an entry of `overlays`.
pub const OVERLAY: &[Key] = &[
    key("when", TARGET, "element whose visibility indicates the overlay"),
    key("click", TARGET, "element to click (default: the same element)"),
    key(
        "within_frame",
        Shape::OneOrMany(&TARGET),
        "frame that contains both elements, or a list of nested frames, outermost first",
    ),
];

/// Keys of `evidence`.
pub const EVIDENCE: &[Key] = &[
    key(
        "screenshots",
        Shape::Words(&["failure", "steps"]),
        "failure: after a failed step (default); steps: after every step on a page",
    ),
    key("har", Shape::Bool, "true: for every run; false: never (default: for runs that did not pass)"),
    key("filmstrip", Shape::Bool, "true: a small screenshot twice per second"),
];

/// Keys of `budget`.
pub const BUDGET: &[Key] = &[
    key("duration", Shape::Duration, "duration of the run"),
    key("ttfb", Shape::Duration, "time to first byte of every page"),
    key("fcp", Shape::Duration, "first contentful paint of every page"),
    key("lcp", Shape::Duration, "largest contentful paint of every page"),
    key("inp", Shape::Duration, "interaction to next paint of every page"),
    key("cls", Shape::Number, "cumulative layout shift of every page"),
    key("requests", Shape::Whole, "number of requests of the pages"),
    key("failed_requests", Shape::Whole, "number of failed requests of the pages"),
    key("bytes", Shape::Size, "bytes received over the network, such as 2MB"),
    key("console_errors", Shape::Whole, "number of console errors"),
    key(
        "slower_than_usual",
        Shape::Keys(&[usual::USUAL]),
        "duration of the run, compared with the history of the scenario",
    ),
];

/// Keys of a one-time password.
pub const TOTP: &[Key] = &[key("secret", Shape::Text, "name of the secret that contains the seed, in base32")];

/// Keys of a secret.
pub const SECRET: &[Key] =
    &[key("env", Shape::Text, "environment variable of the agent"), key("file", Shape::Text, "path of a file")];

/// Keys of `alert`.
pub const ALERT: &[Key] = &[
    key("after", Shape::Either(&[Shape::Count, Shape::Text]), "bad runs that open an incident: 3, or \"2 of 3\""),
    key("recover_after", Shape::Count, "consecutive good runs that resolve the incident (default: 2)"),
    key("severity", Shape::Words(&["info", "warning", "critical"]), "severity of the incident (default: warning)"),
    key(
        "verdicts",
        Shape::List(&Shape::Words(&["failed", "degraded"])),
        "verdicts that count as bad (default: [failed])",
    ),
    key(
        "depends_on",
        Shape::List(&Shape::Text),
        "ids of parent scenarios: while one of them fails, no notifications are sent for this one; an id without the brackets of its matrix means all of its scenarios",
    ),
    key("remind", Shape::Duration, "interval of reminders of an open incident (default: no reminders)"),
    key("runbook", Shape::Text, "runbook URL"),
];

/// Sibling keys of any action.
pub const MODIFIERS: &[Key] = &[
    key("name", Shape::Text, "name of the step (default: generated)"),
    key("timeout", Shape::Duration, "timeout of one attempt"),
    key("optional", Shape::Bool, "true: a failure is recorded and does not change the verdict"),
    key(
        "when",
        PAGE_EXPECT,
        "condition, with the keys of `expect` of a page, checked once; the step is skipped if it does not hold",
    ),
    key("continue", Shape::Bool, "true: on failure the run fails, but the next steps still run"),
];

/// Sibling keys of any page action.
pub const PAGE_MODIFIERS: &[Key] = &[key(
    "within_frame",
    Shape::OneOrMany(&TARGET),
    "frame of the action, or a list of nested frames, outermost first",
)];

const fn page(name: &'static str, value: Shape, doc: &'static str, sibling_keys: &'static [Key]) -> ActionSpec {
    ActionSpec { key: key(name, value, doc), sibling_keys }
}

/// Page actions.
pub const PAGE_ACTIONS: &[ActionSpec] = &[
    page(
        "goto",
        Shape::Text,
        "opens a path or URL",
        &[key("status", MATCHER, "expected status of the document (default: below 400)")],
    ),
    page("back", Shape::Bool, "true: goes back in the browser history", &[]),
    page("forward", Shape::Bool, "true: goes forward in the browser history", &[]),
    page("reload", Shape::Bool, "true: reloads the page", &[]),
    page(
        "click",
        TARGET,
        "clicks an element",
        &[
            key("button", Shape::Words(MOUSE_BUTTONS), "mouse button (default: left)"),
            key(
                "position",
                Shape::Keys(&[POSITION]),
                "position within the element, in CSS pixels from its top left corner",
            ),
            key("force", Shape::Bool, "true: clicks even if the element moves or is covered; noted in the result"),
        ],
    ),
    page("double_click", TARGET, "clicks an element twice", &[]),
    page("hover", TARGET, "moves the pointer over an element", &[]),
    page(
        "fill",
        TARGET,
        "replaces the content of a field",
        &[
            key("with", Shape::Text, "text to enter"),
            key("append", Shape::Bool, "true: appends instead of replacing"),
            key("becomes", MATCHER, "expected content of the field, if the page reformats the input"),
        ],
    ),
    page("clear", TARGET, "clears a field", &[]),
    page("check", TARGET, "checks a checkbox, unless it is checked", &[]),
    page("uncheck", TARGET, "unchecks a checkbox, if it is checked", &[]),
    page(
        "select",
        TARGET,
        "selects options of a list",
        &[key("option", Shape::OneOrMany(&Shape::Ref("option")), "options: a text, {value: …}, or a list of them")],
    ),
    page(
        "press",
        Shape::Text,
        "presses a key or chord: Enter, Control+A",
        &[key("into", TARGET, "target element (default: the focused element)")],
    ),
    page(
        "upload",
        TARGET,
        "uploads files with a file input",
        &[key("file", Shape::OneOrMany(&Shape::Text), "files: a path relative to this file, or a list of them")],
    ),
    page("drag", TARGET, "drags an element onto another one", &[key("to", TARGET, "target element")]),
    page(
        "scroll",
        Shape::Either(&[TARGET, Shape::Keys(&[SCROLL])]),
        "scrolls to an element, {by: 800px}, or {until: …} an element appears",
        &[],
    ),
    page(
        "dialog",
        Shape::Either(&[Shape::Words(DIALOG_ANSWERS), Shape::Keys(&[DIALOG])]),
        "handles a dialog: accept, dismiss, or {accept: text}",
        &[key("expect", MATCHER, "expected message of the dialog")],
    ),
    page(
        "window",
        Shape::Either(&[Shape::Words(&["close"]), Shape::Keys(&[WINDOW])]),
        "switches to another window: {new: true}, {title: …} or {url: …}; or close",
        &[],
    ),
    page(
        "script",
        Shape::Text,
        "runs JavaScript, the body of a function; ${…} is not substituted",
        &[
            key("args", Shape::List(&Shape::Any), "arguments of the function: arguments[0] and so on"),
            key("save", Shape::Text, "name to save the result under"),
        ],
    ),
    page("expect", PAGE_EXPECT, "waits until all conditions hold", &[]),
    page("save", Shape::Map(&Shape::Keys(&[PAGE_SOURCES])), "saves values for later steps", &[]),
    page(
        "screenshot",
        Shape::Text,
        "takes a screenshot with this name",
        &[key("of", TARGET, "element to capture"), key("full_page", Shape::Bool, "true: captures the full page")],
    ),
];

/// Mouse buttons.
pub const MOUSE_BUTTONS: &[&str] = &["left", "middle", "right"];

/// Keys of `position` of `click`.
pub const POSITION: &[Key] =
    &[key("x", Shape::Number, "distance from the left"), key("y", Shape::Number, "distance from the top")];

/// Keys of `scroll` without a locator.
pub const SCROLL: &[Key] = &[
    key("by", Shape::Pixels, "distance downwards, such as 800px; negative: upwards"),
    key("until", TARGET, "element that appears after enough scrolling, as in lists that load more items"),
];

/// Responses to a dialog that consist of one word.
pub const DIALOG_ANSWERS: &[&str] = &["accept", "dismiss"];

/// Keys of `dialog` with a text.
pub const DIALOG: &[Key] = &[key("accept", Shape::Text, "text to enter in the dialog")];

/// Keys of `window`.
pub const WINDOW: &[Key] = &[
    key("new", Shape::Bool, "true: the window that the previous step opened, or that opens soon"),
    key("title", MATCHER, "title of the window"),
    key("url", MATCHER, "URL of the window"),
];

/// Keys of an option that is not selected by its text.
pub const OPTION: &[Key] = &[key("value", Shape::Text, "value of the option")];

/// Sibling keys of a request, in a step and in an `http` check.
pub const REQUEST: &[Key] = &[
    key("headers", TEXTS, "headers of the request"),
    key("query", FIELDS, "query parameters, added to those of the URL; a list repeats the parameter"),
    key("json", Shape::Any, "body, sent as JSON"),
    key("form", FIELDS, "body, sent as a form; a list repeats the field"),
    key("body", Shape::Text, "body, sent as text"),
    key("trust", Shape::Keys(&[TRUST]), "trusted certificates"),
    key("expect", Shape::Keys(&[RESPONSE_FACTS]), "expectations on the response"),
    key("save", Shape::Map(&Shape::Keys(&[RESPONSE_SOURCES])), "values of the response to save"),
    key(
        "multipart",
        Shape::Map(&Shape::Either(&[Shape::Text, Shape::Keys(&[PART])])),
        "multipart body, by name: a text, or {file, filename, type}",
    ),
    key("graphql", Shape::Keys(&[GRAPHQL]), "GraphQL query, sent with POST; `errors` in the response fail the step"),
    key("basic_auth", Shape::Keys(&[REQUEST_BASIC_AUTH]), "user and password"),
    key("bearer", Shape::Text, "token, sent as Authorization: Bearer"),
    key("oauth2", Shape::Keys(&[OAUTH2]), "client credentials with which a token is fetched and cached"),
    key("proxy", Shape::Text, "proxy: http://[user:password@]host:port"),
    key("http_version", Shape::Words(HTTP_VERSIONS), "HTTP version (default: the highest that the server supports)"),
    key("redirect", Shape::Bool, "false: redirects are not followed (default: up to 10 are followed)"),
    key("resolve", Shape::Text, "address to connect to, regardless of the host name: 10.0.0.1 or 10.0.0.1:8443"),
    key(
        "traceparent",
        Shape::Bool,
        "whether the request carries a trace header (default: if the agent exports traces)",
    ),
    key("eventually", Shape::Keys(&[EVENTUALLY]), "repeats the request until the expectations hold"),
    key("give_up_if", Shape::Keys(&[RESPONSE_FACTS]), "condition that ends the repetition, with the keys of `expect`"),
];

/// HTTP versions.
pub const HTTP_VERSIONS: &[&str] = &["1.1", "2"];

/// Keys of a part of `multipart` that is a file.
pub const PART: &[Key] = &[
    key("file", Shape::Text, "path of the file, relative to this file"),
    key("filename", Shape::Text, "file name to send (default: name of the file)"),
    key("type", Shape::Text, "media type (default: application/octet-stream)"),
];

/// Keys of `graphql`.
pub const GRAPHQL: &[Key] = &[
    key("query", Shape::Text, "query or mutation"),
    key("variables", Shape::Map(&Shape::Any), "values of the variables"),
    key("operation", Shape::Text, "operation to run, if there are several"),
];

/// Keys of `basic_auth` of a request.
pub const REQUEST_BASIC_AUTH: &[Key] = &[
    key("user", Shape::Text, "user name"),
    key("password", Shape::Text, "password"),
    key("digest", Shape::Bool, "true: HTTP Digest authentication (RFC 7616), which does not send the password"),
];

/// Keys of `oauth2`.
pub const OAUTH2: &[Key] = &[
    key("token_url", Shape::Text, "URL of the token endpoint"),
    key("client_id", Shape::Text, "client id"),
    key("client_secret", Shape::Text, "client secret"),
    key("scope", Shape::Text, "scope of the token"),
    key("audience", Shape::Text, "audience of the token"),
    key("auth", Shape::Words(&["header", "body"]), "where the client secret is sent (default: header)"),
];

/// Keys of `eventually`.
pub const EVENTUALLY: &[Key] = &[
    key("every", Shape::Duration, "pause between two attempts (default: 1s)"),
    key("within", Shape::Duration, "maximum time for all attempts"),
];

/// Keys of `group`.
pub const GROUP: ActionSpec = ActionSpec {
    key: key("group", Shape::Text, "group of steps with this name"),
    sibling_keys: &[
        key("steps", Shape::Ref("steps"), "steps of the group"),
        key("retry", Shape::Count, "number of repetitions of the group after a failure"),
    ],
};

/// Keys of `use`.
pub const USE: ActionSpec = ActionSpec {
    key: key("use", Shape::Text, "path of a fragment, relative to this file"),
    sibling_keys: &[key("with", Shape::Map(&Shape::Any), "values for the parameters of the fragment")],
};

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
    key("label", MATCHER, "by the text of the label"),
    key("placeholder", MATCHER, "by the placeholder"),
    key("text", MATCHER, "by the visible text"),
    key("alt", MATCHER, "by the alternative text"),
    key("title", MATCHER, "by the title"),
    key("testid", MATCHER, "by data-testid"),
    key("id", Shape::Text, "by the id"),
    key("css", Shape::Text, "by a CSS selector"),
    key("xpath", Shape::Text, "by an XPath"),
    key("role", Shape::Text, "by any ARIA role"),
    key("any_of", Shape::List(&TARGET), "first matching one of several locators; cannot be combined with other keys"),
    key("one_of", Shape::List(&TARGET), "like `any_of`, but without locator drift: all alternatives are equivalent"),
];

/// Locator options.
pub const TARGET_BESIDE: &[Key] = &[
    key("name", MATCHER, "accessible name, used with `role`"),
    key("nth", Shape::Count, "index of the match in page order, starting at 1"),
    key("within", TARGET, "locator of a containing element"),
];

/// Keys of `expect` on a page.
pub const PAGE_FACTS: &[Key] = &[
    key("url", MATCHER, "URL of the page"),
    key("title", MATCHER, "title of the page"),
    key("visible", TARGET, "an element is visible"),
    key("hidden", TARGET, "no visible element matches"),
    key("element", TARGET, "element that the other keys refer to"),
    key("console", Shape::Words(&["no_errors"]), "no console errors since the start of the run"),
    key(
        "requests",
        Shape::Either(&[Shape::Words(&["no_failures"]), Shape::Keys(&[REQUESTS])]),
        "no failed requests since the start of the run: no_failures, or {except: …}",
    ),
    key("request", Shape::Keys(&[SENT]), "a page sent a matching request since the start of the run"),
    key("script", Shape::Text, "function body that must return true"),
    key("download", Shape::Keys(&[DOWNLOAD]), "a matching file was downloaded"),
    key("cookie", Shape::Map(&MATCHER), "cookies of the page, by name"),
];

/// Keys of `requests`.
pub const REQUESTS: &[Key] = &[key("except", Shape::List(&Shape::Keys(&[SENT])), "requests that may fail")];

/// Keys that describe a request sent by a page.
pub const SENT: &[Key] = &[
    key("method", Shape::Text, "method (default: any)"),
    key("url", MATCHER, "URL (default: any)"),
    key("status", MATCHER, "status (default: below 400 for `request`, any for `except`)"),
];

/// Keys that describe a download.
pub const DOWNLOAD: &[Key] = &[
    key("name", MATCHER, "name of the file"),
    key("size", MATCHER, "size with a unit: {greater_than: 1KB}"),
    key("contains", Shape::Text, "text that the file contains"),
];

/// Keys that describe an element, next to `element`.
pub const ELEMENT_FACTS: &[Key] = &[
    key("text", MATCHER, "visible text"),
    key("value", MATCHER, "value of a field"),
    key("attribute", Shape::Map(&MATCHER), "attributes, by name"),
    key("count", MATCHER, "number of visible elements that match"),
    key("checked", Shape::Bool, "whether the element is checked"),
    key("enabled", Shape::Bool, "whether the element is enabled"),
    key("focused", Shape::Bool, "whether the element has the focus"),
];

/// Keys of `expect` on a response.
pub const RESPONSE_FACTS: &[Key] = &[
    key("status", MATCHER, "status code (default: 200 to 299)"),
    key("headers", Shape::Map(&MATCHER), "headers, by name"),
    key("json", Shape::Map(&MATCHER), "result of a JSONPath"),
    key("body", MATCHER, "body as text"),
    key("contains", Shape::Text, "text that the body contains"),
    key("faster_than", Shape::Duration, "maximum time from sending to the last byte"),
    key("xpath", Shape::Map(&MATCHER), "result of an XPath 1.0 expression on HTML or XML"),
    key("certificate", Shape::Keys(&[check::certificate::CERTIFICATE]), "certificate of the server and TLS session"),
    key(
        "slower_than_usual",
        Shape::Keys(&[usual::USUAL]),
        "duration of the step, compared with the history of the scenario",
    ),
];

const MATCHER_OR_TRUE: Shape = Shape::Either(&[Shape::Bool, MATCHER]);

/// Keys of `save` on a page.
pub const PAGE_SOURCES: &[Key] = &[
    key("element", TARGET, "element that the other key refers to; alone: its text"),
    key("text", MATCHER_OR_TRUE, "text of the element: true for all of it, or a matcher whose first group is saved"),
    key("value", MATCHER_OR_TRUE, "value of a field"),
    key("attribute", Shape::Text, "name of an attribute"),
    key("url", MATCHER_OR_TRUE, "URL of the page"),
    key("cookie", Shape::Text, "name of a cookie"),
    key("script", Shape::Text, "result of JavaScript, the body of a function"),
    key("secret", Shape::Bool, "true: masked from then on"),
];

/// Keys of `save` on a response.
pub const RESPONSE_SOURCES: &[Key] = &[
    key("json", Shape::Text, "result of a JSONPath"),
    key("header", Shape::Text, "name of a header"),
    key("cookie", Shape::Text, "name of a cookie"),
    key("body", Shape::Either(&[Shape::Bool, Shape::Keys(&[BODY_SOURCE])]), "body, or the first group of a match"),
    key("secret", Shape::Bool, "true: masked from then on"),
    key("xpath", Shape::Text, "result of an XPath 1.0 expression on HTML or XML"),
];

/// Keys that select the part of a body to save.
pub const BODY_SOURCE: &[Key] = &[key("matches", Shape::Text, "regular expression whose first group is saved")];

/// Keys of an `http` check in addition to those of a request.
pub const HTTP: ActionSpec = ActionSpec {
    key: key("http", Shape::Text, "URL"),
    sibling_keys: &[
        key("method", Shape::Words(METHODS), "method (default: GET)"),
        key("status", MATCHER, "short for expect: {status: …}"),
        key("contains", Shape::Text, "short for expect: {contains: …}"),
        key("faster_than", Shape::Duration, "short for expect: {faster_than: …}"),
    ],
};

/// Kinds of checks, `http` first; the keys of its request are in [`REQUEST`].
pub const CHECK_KINDS: &[ActionSpec] = &[
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
    let mut keys = [key("", MATCHER, "element with this role, by its accessible name"); ROLES.len()];
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
            unique(&[&[action.key], action.sibling_keys, MODIFIERS, PAGE_MODIFIERS]);
        }
        for kind in CHECK_KINDS {
            unique(&[&[kind.key], kind.sibling_keys, CHECK]);
        }
        unique(&[&[HTTP.key], HTTP.sibling_keys, CHECK, REQUEST]);
    }
}
