//! Client of the JSON-RPC API of a Zabbix frontend, 6.0 and later
//! (<https://www.zabbix.com/documentation/current/en/manual/api>).
//!
//! [`Api::connect`] queries the version first, because it determines how a token is sent: in the body before 6.4, in
//! the header `Authorization` since then. A web server in front of PHP may drop that header; a version that still
//! accepts the token in the body then receives the request once more in that form. Responses are limited in time and
//! size. Most numbers are encoded as strings, but not all: see [`text`]. Typed objects are deliberately not used,
//! because they differ between versions; callers build and read JSON.

mod config;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use url::Url;

pub use config::{Config, Login, url_of};

use crate::bounded::answer::{self, End};
use crate::secret::Secret;

/// Timeout of a call; the import of a large template takes some seconds.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of a response, in bytes. An item has about 1 kB.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Maximum number of characters shown of a response that is not one of the API.
const MAX_SHOWN_CHARS: usize = 120;

/// Version of Zabbix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major version, such as 7 in 7.0.22.
    pub major: u32,
    /// Minor version, such as 0 in 7.0.22.
    pub minor: u32,
    /// Patch version, such as 22 in 7.0.22.
    pub patch: u32,
}

impl Version {
    /// Oldest supported version.
    pub const OLDEST: Self = Self::new(6, 0);
    /// First version that accepts tokens in the header.
    const WITH_HEADER: Self = Self::new(6, 4);
    /// First version that accepts tokens only in the header.
    const WITHOUT_BODY: Self = Self::new(7, 2);

    /// Returns the first release of a series.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Parses a version such as `7.0.22` or `7.4.0rc1`. Returns `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '.');
        let (major, minor, patch) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let digits = patch.find(|c: char| !c.is_ascii_digit()).unwrap_or(patch.len());
        Some(Self { major, minor, patch: patch[..digits].parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Error of a call. None of the variants contains a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A credential cannot be read.
    Credential(String),
    /// No connection could be established, or it was lost.
    Connection(String),
    /// The response did not arrive in time.
    Timeout,
    /// The web server responded with a status other than 200, which all responses of the API have.
    Status(StatusCode),
    /// The response is not one of the API.
    NotApi(String),
    /// The API is older than [`Version::OLDEST`].
    TooOld(Version),
    /// The API rejected the call.
    Refused(Refusal),
}

/// Error returned by the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Method that was called.
    pub method: String,
    /// Error code: -32602 for invalid parameters and for missing authorization, -32500 for a rejection by the
    /// application, -32601 for a method that this version does not have.
    pub code: i64,
    /// Kind of error.
    pub message: String,
    /// Description of the error.
    pub data: String,
}

impl Error {
    /// Returns whether the credentials are wrong, revoked, or expired.
    pub fn is_unauthorized(&self) -> bool {
        let Self::Refused(Refusal { data, .. }) = self else { return false };
        let known = [
            "Not authori",
            "Session terminated",
            "token expired",
            "user name or password",
            "permissions to system access",
        ];
        known.iter().any(|part| data.contains(part))
    }

    /// Returns whether the user lacks permission to call the method or to perform this action.
    pub fn is_forbidden(&self) -> bool {
        let Self::Refused(Refusal { data, .. }) = self else { return false };
        let known = ["No permissions to call", "Permission denied", "You do not have permission"];
        known.iter().any(|part| data.contains(part))
    }

    /// Returns whether this version does not have the method.
    pub fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused(Refusal { code: -32601, .. }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(problem) => write!(f, "{problem}"),
            Self::Connection(problem) => write!(f, "no connection to the Zabbix API: {problem}"),
            Self::Timeout => write!(f, "the Zabbix API did not respond within {} s", TIMEOUT.as_secs()),
            Self::Status(status) => write!(
                f,
                "the Zabbix API returned status {status}; check that `url` is that of the frontend, and that nothing in front of it requires credentials"
            ),
            Self::NotApi(shown) => {
                write!(f, "not a response of the Zabbix API; check that `url` is that of the frontend: {shown}")
            }
            Self::TooOld(version) => write!(f, "Zabbix {version} is too old: 6.0 is the oldest that is supported"),
            Self::Refused(Refusal { method, code, message, data }) => {
                let problem = if data.is_empty() { message } else { data };
                write!(f, "Zabbix rejected {method}: {problem} (code {code})")?;
                if self.is_unauthorized() {
                    write!(f, "; check the token, or the user and the password")?;
                } else if self.is_forbidden() {
                    write!(f, "; use a user whose role allows it")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {}

/// API of one frontend, with the credentials of one user.
pub struct Api {
    http: reqwest::Client,
    url: Url,
    version: Version,
    token: Secret<String>,
    /// Whether `token` is a session opened by this client.
    is_session: bool,
    /// Whether the token is sent in the body.
    in_body: AtomicBool,
}

/// Way of sending the token.
#[derive(Clone, Copy)]
enum Authorization<'a> {
    None,
    Header(&'a str),
    Body(&'a str),
}

impl Api {
    /// Queries the version and logs in. The credential is read here; connect again after it has changed.
    ///
    /// # Errors
    ///
    /// The credential cannot be read, no API of a supported version responds, or the login is rejected. A token is
    /// checked only by the first call.
    pub async fn connect(config: &Config, http: reqwest::Client) -> Result<Self, Error> {
        let url = config.url.clone();
        let version = version(&http, &url).await?;
        let mut api = Self {
            http,
            url,
            version,
            token: Secret::new(String::new()),
            is_session: false,
            in_body: AtomicBool::new(version < Version::WITH_HEADER),
        };
        match &config.login {
            Login::Token(token) => {
                let token = token.read().await.map_err(Error::Credential)?;
                if !token.chars().all(|c| c.is_ascii_graphic()) {
                    return Err(Error::Credential("the API token contains invalid characters".to_owned()));
                }
                api.token = Secret::new(token);
            }
            Login::User(user, password) => {
                let password = password.read().await.map_err(Error::Credential)?;
                let params = json!({"username": user, "password": password});
                let session = exchange(&api.http, &api.url, "user.login", &params, Authorization::None).await?;
                let session = session.as_str().ok_or_else(|| Error::NotApi("a login without a session".to_owned()))?;
                api.token = Secret::new(session.to_owned());
                api.is_session = true;
            }
        }
        Ok(api)
    }

    /// Returns the version of the frontend, which is that of its server.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Calls a method and returns its result.
    ///
    /// # Errors
    ///
    /// There is no response, it is not one of the API, or the call is rejected.
    pub async fn call(&self, method: &str, params: &Value) -> Result<Value, Error> {
        let token = self.token.expose().as_str();
        if self.in_body.load(Ordering::Relaxed) {
            return exchange(&self.http, &self.url, method, params, Authorization::Body(token)).await;
        }
        let answer = exchange(&self.http, &self.url, method, params, Authorization::Header(token)).await;
        match answer {
            Err(error) if error.is_unauthorized() && self.version < Version::WITHOUT_BODY => {
                match exchange(&self.http, &self.url, method, params, Authorization::Body(token)).await {
                    Err(again) if again.is_unauthorized() => Err(error),
                    other => {
                        self.in_body.store(true, Ordering::Relaxed);
                        other
                    }
                }
            }
            other => other,
        }
    }

    /// Calls a `get` method and returns the objects of its result.
    ///
    /// # Errors
    ///
    /// Those of [`Api::call`], or the result is not a list.
    pub async fn get(&self, method: &str, params: &Value) -> Result<Vec<Value>, Error> {
        match self.call(method, params).await? {
            Value::Array(objects) => Ok(objects),
            other => Err(Error::NotApi(format!("{method} returned {}", shown(&other.to_string())))),
        }
    }

    /// Closes the session if one was opened. A token stays valid.
    ///
    /// # Errors
    ///
    /// Those of [`Api::call`].
    pub async fn close(self) -> Result<(), Error> {
        if self.is_session {
            self.call("user.logout", &json!([])).await?;
        }
        Ok(())
    }
}

/// Queries the version, which requires no login.
async fn version(http: &reqwest::Client, url: &Url) -> Result<Version, Error> {
    let text = exchange(http, url, "apiinfo.version", &json!({}), Authorization::None).await?;
    let version = text.as_str().and_then(Version::parse);
    let version = version.ok_or_else(|| Error::NotApi(format!("{} as its version", shown(&text.to_string()))))?;
    if version < Version::OLDEST { Err(Error::TooOld(version)) } else { Ok(version) }
}

/// Performs one call: sends the request and reads the response.
async fn exchange(
    http: &reqwest::Client,
    url: &Url,
    method: &str,
    params: &Value,
    authorization: Authorization<'_>,
) -> Result<Value, Error> {
    let mut call = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
    let mut request = http.post(url.clone()).timeout(TIMEOUT).header(header::CONTENT_TYPE, "application/json");
    match authorization {
        Authorization::None => {}
        Authorization::Header(token) => request = request.bearer_auth(token),
        Authorization::Body(token) => call["auth"] = token.into(),
    }
    let mut response = request.body(call.to_string()).send().await.map_err(connection)?;
    if response.status() != StatusCode::OK {
        return Err(Error::Status(response.status()));
    }
    let body = answer::body(&mut response, MAX_ANSWER_BYTES).await;
    match body.end {
        End::Whole => result(method, &body.bytes),
        End::Cut => Err(Error::NotApi(format!("{method} returned more than {MAX_ANSWER_BYTES} bytes"))),
        End::Broken(error) => Err(connection(error)),
    }
}

fn connection(error: reqwest::Error) -> Error {
    if error.is_timeout() { Error::Timeout } else { Error::Connection(answer::root(&error.without_url())) }
}

/// Returns the result in a response, or the error.
fn result(method: &str, body: &[u8]) -> Result<Value, Error> {
    let not_api = || Error::NotApi(shown(&String::from_utf8_lossy(body)));
    let mut answer: Value = serde_json::from_slice(body).map_err(|_| not_api())?;
    if let Some(error) = answer.get("error") {
        return Err(Error::Refused(Refusal {
            method: method.to_owned(),
            code: error["code"].as_i64().unwrap_or_default(),
            message: text(&error["message"]).trim_end_matches('.').to_owned(),
            data: text(&error["data"]).trim_end_matches('.').to_owned(),
        }));
    }
    answer.get_mut("result").map(Value::take).ok_or_else(not_api)
}

/// Returns the beginning of a text on one line.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "it is empty".to_owned();
    }
    line.chars().take(MAX_SHOWN_CHARS).collect()
}

/// Converts a string or number to text: most responses encode ids and numbers as strings, a few as numbers.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
