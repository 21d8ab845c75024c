//! Settings of a scenario besides its steps.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Spanned;
use crate::scenario::device::Device;
use crate::scenario::headless::Headless;
use crate::scenario::template::Template;
use crate::scenario::trust::Trust;
use crate::scenario::usual::SlowerThanUsual;
use crate::scenario::viewport::Viewport;

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
    pub device: Option<&'static Device>,
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
