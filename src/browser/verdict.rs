//! Our fault or theirs: what an error of WebDriver means. The one place that decides it.

use fantoccini::error::{CmdError, ErrorStatus, NewSessionError};

use super::engine;
use crate::bounded::answer::root;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::values::expect::cut;

/// What went wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The page changed under it: look again.
    Again(String),
    /// What the command is about is not there yet; why, in case it never is.
    Absent(Box<Failure>),
    /// The page was not ready in time.
    Timeout(String),
    /// The navigation failed with one of Chromium's network errors, such as `ERR_NAME_NOT_RESOLVED`.
    Net(String),
    /// The page's renderer is gone.
    Crash(String),
    /// The window that it was said to has closed; the browser goes on.
    Closed,
    /// Ours: our own script failed in the page.
    Inspection(String),
    /// Ours: the browser or the driver is gone.
    Gone(Reason, String),
    /// Anything else the driver says of the command.
    Other(String),
}

impl Trouble {
    /// As the failure of a step.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Again(text) => Failure::new(Reason::Timeout, format!("the page kept changing: {text}")),
            Self::Absent(failure) => *failure,
            Self::Timeout(text) => Failure::new(Reason::Timeout, text),
            Self::Net(code) => net(&code),
            Self::Crash(text) => Failure::new(Reason::Crash, format!("the page's process crashed: {text}")),
            Self::Closed => Failure::new(Reason::NotFound, "the page closed its window"),
            Self::Inspection(text) => Failure::new(Reason::Inspection, text),
            Self::Gone(reason, text) => Failure::new(reason, text),
            Self::Other(text) => Failure::new(Reason::Protocol, text),
        }
    }

    /// Whether the session is of no use any more.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Crash(_) | Self::Gone(..))
    }
}

impl From<CmdError> for Trouble {
    fn from(error: CmdError) -> Self {
        match error {
            CmdError::Standard(error) => standard(&error.error, &error.message),
            CmdError::NotJson(text) => {
                Self::Gone(Reason::Driver, format!("the WebDriver endpoint did not answer as one: {}", cut(&text, 200)))
            }
            // ChromeDriver's own word, which is none of W3C's.
            CmdError::NotW3C(value) if value.to_string().contains("tab crashed") => {
                Self::Crash("the driver says \"tab crashed\"".into())
            }
            CmdError::NotW3C(value) => Self::Gone(
                Reason::Driver,
                format!("the WebDriver endpoint did not answer as one: {}", cut(&value.to_string(), 200)),
            ),
            error => Self::Gone(Reason::Driver, format!("the WebDriver endpoint went away: {}", root(&error))),
        }
    }
}

/// What the browser says of a `BiDi` command it did not do. That it is closed or silent is for the page to look into.
pub(super) fn refused(code: &str, message: &str) -> Trouble {
    let text = short(message);
    if let Some(found) = engine::network_error(message) {
        return Trouble::Net(found);
    }
    if message.contains("tab crashed") || message.contains("Target crashed") {
        return Trouble::Crash(text);
    }
    match code {
        "no such frame" | "no such node" | "stale element reference" | "no such alert" => Trouble::Again(text),
        // A document that was replaced while it was asked, or a frame that moved to another process.
        _ if REPLACED.iter().any(|words| message.contains(words)) => Trouble::Again(text),
        "invalid session id" => Trouble::Gone(Reason::Browser, format!("the browser went away: {text}")),
        "timeout" => Trouble::Timeout(text),
        _ => Trouble::Other(text),
    }
}

/// A machine whose processes wait for a processor for so many percent of the time may itself be why a page does not answer.
const SHORT: f64 = 80.0;

/// A page does not answer. `pressure`: how many percent of the last ten seconds processes of this machine waited for a
/// processor.
pub(super) fn no_answer(pressure: Option<f64>) -> Trouble {
    Trouble::Timeout(match pressure {
        Some(pressure) if pressure >= SHORT => format!(
            "the page does not answer, and this machine is short of processors: processes wait for one {pressure:.0} % of \
             the time"
        ),
        _ => "the page does not answer: its scripts keep it busy".into(),
    })
}

/// How Chromium says that the document of a command is gone.
const REPLACED: [&str; 7] = [
    "Cannot find context",
    "navigated or closed",
    "context was destroyed",
    "Promise was collected",
    "No frame for given id",
    "Frame with the given",
    "Session with given id not found",
];

fn standard(status: &ErrorStatus, message: &str) -> Trouble {
    let text = short(message);
    let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if has(&["tab crashed", "page crash"]) {
        return Trouble::Crash(text);
    }
    // A renderer that was replaced by a navigation while the command ran. ChromeDriver says it in several ways, one of
    // them with the status "timeout".
    if has(&[
        "aborted by navigation",
        "Inspected target navigated",
        "document unloaded",
        "Cannot find context",
        "Execution context was destroyed",
        "loader has changed",
        "does not belong to the document",
        // A page that asks before it is left, while it is being asked.
        "Unexpected dialog type",
    ]) {
        return Trouble::Again(text);
    }
    if let Some(code) = engine::network_error(message) {
        return Trouble::Net(code);
    }
    if *status == ErrorStatus::InsecureCertificate {
        return Trouble::Net("ERR_CERT_INVALID".into());
    }
    match status {
        ErrorStatus::StaleElementReference
        | ErrorStatus::ElementClickIntercepted
        | ErrorStatus::ElementNotInteractable
        | ErrorStatus::NoSuchElement
        | ErrorStatus::NoSuchFrame
        | ErrorStatus::DetachedShadowRoot
        | ErrorStatus::InvalidElementState
        | ErrorStatus::MoveTargetOutOfBounds
        // A dialog stood in the way; the driver has dismissed it.
        | ErrorStatus::UnexpectedAlertOpen => Trouble::Again(text),
        ErrorStatus::Timeout | ErrorStatus::ScriptTimeout => Trouble::Timeout(text),
        // The driver's own scripts run in the page's world, which may have overwritten what they stand on.
        ErrorStatus::JavascriptError => Trouble::Inspection(format!("the driver's own script failed in the page: {text}")),
        _ if has(&["Runtime.callFunctionOn", "deepSerializedValue"]) => {
            Trouble::Inspection(format!("the driver's own script failed in the page: {text}"))
        }
        ErrorStatus::InvalidSessionId | ErrorStatus::NoSuchWindow | ErrorStatus::SessionNotCreated => {
            Trouble::Gone(Reason::Browser, format!("the browser went away: {text}"))
        }
        _ if has(&["disconnected", "not reachable", "not connected to DevTools", "session deleted",
            "web view not found", "unable to send message to renderer", "closed the connection",
            "decode response from marionette", "without establishing a connection"]) => {
            Trouble::Gone(Reason::Browser, format!("the browser went away: {text}"))
        }
        _ => Trouble::Other(text),
    }
}

/// A page that did not answer any more, and what it had shown before.
pub(super) fn hung(text: String, last: Option<Failure>) -> Failure {
    let Some(last) = last else { return Failure::new(Reason::Timeout, text) };
    Failure { reason: Reason::Timeout, message: format!("{text}; before that: {}", last.message), ..last }
}

/// Why a session could not be had.
pub(super) fn not_created(error: &NewSessionError, browser: &str, output: &str) -> Failure {
    let output = if output.is_empty() { String::new() } else { format!(" (the driver's last words: {output})") };
    match error {
        NewSessionError::SessionNotCreated(error) => {
            let advice = if error.message.contains("cannot find Chrome") {
                "; install it (Debian, Ubuntu: `apt-get install chromium`)"
            } else {
                ""
            };
            Failure::new(Reason::Browser, format!("{browser} did not start: {}{advice}{output}", short(&error.message)))
        }
        NewSessionError::NotW3C(value) => {
            let text = value.get("message").and_then(|text| text.as_str()).map_or_else(|| value.to_string(), short);
            Failure::new(Reason::Browser, format!("{browser} did not start: {}{output}", cut(&text, 300)))
        }
        error => {
            // fantoccini does not give its causes as sources.
            let cause = match error {
                NewSessionError::Failed(cause) => root(cause),
                NewSessionError::FailedC(cause) => root(cause),
                NewSessionError::Lost(cause) => root(cause),
                other => root(other),
            };
            Failure::new(Reason::Driver, format!("no session from the WebDriver endpoint: {cause}{output}"))
        }
    }
}

/// A network error of Chromium as a failure (`net/base/net_error_list.h`).
pub(super) fn net(code: &str) -> Failure {
    let is = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
    let (reason, text) = if is(&["NAME_NOT_RESOLVED", "DNS_", "NAME_RESOLUTION", "ICANN"]) {
        (Reason::Dns, "the name does not resolve")
    } else if is(&["ERR_CERT_", "CERTIFICATE"]) && !is(&["CLIENT_AUTH"]) {
        (Reason::Certificate, "the certificate is not trusted")
    } else if is(&["TIMED_OUT"]) {
        (Reason::Timeout, "no answer in time")
    } else if is(&["ERR_SSL_", "ECH_", "CLIENT_AUTH"]) {
        (Reason::Tls, "the TLS handshake failed")
    } else if is(&["INTERNET_DISCONNECTED", "NETWORK_CHANGED", "NETWORK_ACCESS"]) {
        (Reason::Network, "our own network is down")
    } else if is(&["CONNECTION", "EMPTY_RESPONSE", "ADDRESS", "SOCKET", "PROXY", "TUNNEL", "UNSAFE_PORT", "NETWORK_IO"])
    {
        (Reason::Connect, "no connection")
    } else {
        (Reason::Protocol, "the page could not be loaded")
    };
    Failure::new(reason, format!("{text}: {code}"))
}

/// A message of the driver without what only its developers read.
fn short(message: &str) -> String {
    let text = message.split("\n  (Session info").next().unwrap_or(message);
    cut(text.split_whitespace().collect::<Vec<_>>().join(" ").trim_start_matches("unknown error: "), 300)
}
