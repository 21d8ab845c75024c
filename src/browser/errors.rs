//! Classifies WebDriver errors as failures of the target or agent faults. All such decisions are made here.

use fantoccini::error::{CmdError, ErrorStatus, NewSessionError};

use super::engine;
use crate::bounded::answer::root;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::values::expect::cut;

/// Error of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandError {
    /// The page changed during the command, which should be retried.
    Again(String),
    /// The object of the command does not exist yet. Contains the failure in case it never does.
    Absent(Box<Failure>),
    /// The page was not ready in time.
    Timeout(String),
    /// The navigation failed with one of Chromium's network errors, such as `ERR_NAME_NOT_RESOLVED`.
    Net(String),
    /// The page's renderer is gone.
    Crash(String),
    /// The window of the command has closed; the browser continues.
    Closed,
    /// Agent fault: an agent script failed in the page.
    Inspection(String),
    /// Agent fault: the browser or the driver is gone.
    Gone(Reason, String),
    /// Any other error of the driver.
    Other(String),
}

impl CommandError {
    /// Converts the error into the failure of a step.
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

    /// Returns whether the session can no longer be used.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Crash(_) | Self::Gone(..))
    }
}

impl From<CmdError> for CommandError {
    fn from(error: CmdError) -> Self {
        match error {
            CmdError::Standard(error) => standard(&error.error, &error.message),
            CmdError::NotJson(text) => Self::Gone(
                Reason::Driver,
                format!("unexpected response of the WebDriver endpoint: {}", cut(&text, 200)),
            ),
            // An error of ChromeDriver that is not defined by W3C.
            CmdError::NotW3C(value) if value.to_string().contains("tab crashed") => {
                Self::Crash("the driver reported \"tab crashed\"".into())
            }
            CmdError::NotW3C(value) => Self::Gone(
                Reason::Driver,
                format!("unexpected response of the WebDriver endpoint: {}", cut(&value.to_string(), 200)),
            ),
            error => {
                Self::Gone(Reason::Driver, format!("lost the connection to the WebDriver endpoint: {}", root(&error)))
            }
        }
    }
}

/// Classifies the error of a rejected `BiDi` command. A closed or unresponsive connection is handled by the page.
pub(super) fn refused(code: &str, message: &str) -> CommandError {
    let text = short(message);
    if let Some(found) = engine::network_error(message) {
        return CommandError::Net(found);
    }
    if message.contains("tab crashed") || message.contains("Locator crashed") {
        return CommandError::Crash(text);
    }
    match code {
        "no such frame" | "no such node" | "stale element reference" | "no such alert" => CommandError::Again(text),
        // The document was replaced during the command, or the frame moved to another process.
        _ if REPLACED.iter().any(|words| message.contains(words)) => CommandError::Again(text),
        "invalid session id" => {
            CommandError::Gone(Reason::Browser, format!("lost the connection to the browser: {text}"))
        }
        "timeout" => CommandError::Timeout(text),
        _ => CommandError::Other(text),
    }
}

/// Processor pressure, in percent, above which the machine itself may be the cause of an unresponsive page.
const SHORT: f64 = 80.0;

/// Returns the error for a page that does not respond. `pressure` is the percentage of the last ten seconds during
/// which processes of this machine waited for a processor.
pub(super) fn no_answer(pressure: Option<f64>) -> CommandError {
    CommandError::Timeout(match pressure {
        Some(pressure) if pressure >= SHORT => format!(
            "the page does not respond, and this machine is short of CPU: processes wait for CPU {pressure:.0} % of \
             the time"
        ),
        _ => "the page does not respond: its scripts keep it busy".into(),
    })
}

/// Messages of Chromium for a command whose document is gone.
const REPLACED: [&str; 7] = [
    "Cannot find context",
    "navigated or closed",
    "context was destroyed",
    "Promise was collected",
    "No frame for given id",
    "Frame with the given",
    "Session with given id not found",
];

fn standard(status: &ErrorStatus, message: &str) -> CommandError {
    let text = short(message);
    let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if has(&["tab crashed", "page crash"]) {
        return CommandError::Crash(text);
    }
    // The renderer was replaced by a navigation during the command. ChromeDriver reports this in several ways, one of
    // them with the status "timeout".
    if has(&[
        "aborted by navigation",
        "Inspected target navigated",
        "document unloaded",
        "Cannot find context",
        "Execution context was destroyed",
        "loader has changed",
        "does not belong to the document",
        // The page has opened a `beforeunload` dialog in the meantime.
        "Unexpected dialog type",
    ]) {
        return CommandError::Again(text);
    }
    if let Some(code) = engine::network_error(message) {
        return CommandError::Net(code);
    }
    if *status == ErrorStatus::InsecureCertificate {
        return CommandError::Net("ERR_CERT_INVALID".into());
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
        // A dialog blocked the command; the driver has dismissed it.
        | ErrorStatus::UnexpectedAlertOpen => CommandError::Again(text),
        ErrorStatus::Timeout | ErrorStatus::ScriptTimeout => CommandError::Timeout(text),
        // The driver's own scripts run in the page's world, which may have overwritten functions that they use.
        ErrorStatus::JavascriptError => CommandError::Inspection(format!("the driver's own script failed in the page: {text}")),
        _ if has(&["Runtime.callFunctionOn", "deepSerializedValue"]) => {
            CommandError::Inspection(format!("the driver's own script failed in the page: {text}"))
        }
        ErrorStatus::InvalidSessionId | ErrorStatus::NoSuchWindow | ErrorStatus::SessionNotCreated => {
            CommandError::Gone(Reason::Browser, format!("lost the connection to the browser: {text}"))
        }
        _ if has(&["disconnected", "not reachable", "not connected to DevTools", "session deleted",
            "web view not found", "unable to send message to renderer", "closed the connection",
            "decode response from marionette", "without establishing a connection"]) => {
            CommandError::Gone(Reason::Browser, format!("lost the connection to the browser: {text}"))
        }
        _ => CommandError::Other(text),
    }
}

/// Returns the failure for a page that no longer responds, with the last result before that.
pub(super) fn hung(text: String, last: Option<Failure>) -> Failure {
    let Some(last) = last else { return Failure::new(Reason::Timeout, text) };
    Failure { reason: Reason::Timeout, message: format!("{text}; before that: {}", last.message), ..last }
}

/// Returns the failure for a session that could not be created.
pub(super) fn not_created(error: &NewSessionError, browser: &str, output: &str) -> Failure {
    let output = if output.is_empty() { String::new() } else { format!(" (last output of the driver: {output})") };
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
            // fantoccini does not return its causes as sources.
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

/// Converts a network error of Chromium into a failure (`net/base/net_error_list.h`).
pub(super) fn net(code: &str) -> Failure {
    let is = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
    let (reason, text) = if is(&["NAME_NOT_RESOLVED", "DNS_", "NAME_RESOLUTION", "ICANN"]) {
        (Reason::Dns, "the name does not resolve")
    } else if is(&["ERR_CERT_", "CERTIFICATE"]) && !is(&["CLIENT_AUTH"]) {
        (Reason::Certificate, "the certificate is not trusted")
    } else if is(&["TIMED_OUT"]) {
        (Reason::Timeout, "no response in time")
    } else if is(&["ERR_SSL_", "ECH_", "CLIENT_AUTH"]) {
        (Reason::Tls, "the TLS handshake failed")
    } else if is(&["INTERNET_DISCONNECTED", "NETWORK_CHANGED", "NETWORK_ACCESS"]) {
        (Reason::Network, "no network connection")
    } else if is(&["CONNECTION", "EMPTY_RESPONSE", "ADDRESS", "SOCKET", "PROXY", "TUNNEL", "UNSAFE_PORT", "NETWORK_IO"])
    {
        (Reason::Connect, "no connection")
    } else {
        (Reason::Protocol, "the page could not be loaded")
    };
    Failure::new(reason, format!("{text}: {code}"))
}

/// Removes the parts of a driver message that are only useful to its developers.
fn short(message: &str) -> String {
    let text = message.split("\n  (Session info").next().unwrap_or(message);
    cut(text.split_whitespace().collect::<Vec<_>>().join(" ").trim_start_matches("unknown error: "), 300)
}
