//! Browser settings of a run with resolved names, and the commands that apply them.

use serde_json::{Value as Json, json};
use url::Url;

use super::bidi::{Bidi, BidiError};
use super::event_tracker::{Additions, EventTracker};
use super::session::{BRISK, Session, UserContext, VIEWPORT};
use super::trust::Roots;
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::scenario::device::Device;
use crate::scenario::{Engine, FINALLY_TIMEOUT, Geolocation, Headless, Scenario, Viewport};
use crate::values::Values;

/// Maximum time that a run takes for its evidence.
const AFTERWARDS: std::time::Duration = std::time::Duration::from_secs(30);

/// Browser settings of a run.
#[derive(Debug, Clone, Default)]
pub struct ContextOptions {
    /// Browser. `None` leaves the choice to the agent.
    pub engine: Option<Engine>,
    /// Program that Chromium runs as. `None` if the agent configuration decides.
    pub headless: Option<Headless>,
    /// Size of the page. `None` means that of the device (default: 1280x800).
    pub viewport: Option<Viewport>,
    /// Emulated device.
    pub device: Option<&'static Device>,
    /// Language.
    pub locale: Option<String>,
    /// Time zone, by its IANA name.
    pub timezone: Option<&'static str>,
    /// Emulated geolocation.
    pub geolocation: Option<Geolocation>,
    /// Emulated user agent.
    pub user_agent: Option<String>,
    /// Headers: origin, name, value.
    pub headers: Vec<(String, String, String)>,
    /// Initial cookies.
    pub cookies: Vec<Cookie>,
    /// User and password for HTTP authentication.
    pub basic_auth: Option<(String, String)>,
    /// Whether untrusted certificates are accepted.
    pub insecure: bool,
    /// Trusted roots in addition to those of the browser.
    pub roots: Option<Spanned<Roots>>,
    /// Origins whose requests get a `traceparent` header.
    pub traceparent: Vec<String>,
    /// Run whose id is the trace id.
    pub run: RunId,
    /// Whether the session must be a fresh one.
    pub fresh: bool,
    /// Whether a filmstrip is recorded.
    pub filmstrip: bool,
    /// Maximum duration of the run after the session is open. `None` means one hour.
    pub lasts: Option<std::time::Duration>,
}

/// An initial cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Name of the cookie.
    pub name: String,
    /// Value of the cookie.
    pub value: String,
    /// Host of the cookie.
    pub domain: String,
    /// Path of the cookie.
    pub path: String,
}

fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    url.has_host().then(|| url.origin().ascii_serialization())
}

impl ContextOptions {
    /// Returns the browser settings of a scenario.
    pub fn of(scenario: &Scenario, values: &Values, run: RunId) -> Result<Self, Failure> {
        let settings = &scenario.browser;
        let fill =
            |text: &Spanned<crate::scenario::Template>| values.fill(text).map_err(|failure| failure.at(text.span));
        let base = || -> Result<Url, Failure> {
            let wrong = |text: &str| Failure::new(Reason::Configuration, text.to_owned());
            let base = scenario
                .base_url
                .as_ref()
                .ok_or_else(|| wrong("headers and cookies of a browser need a `base_url`"))?;
            Url::parse(&fill(base)?).map_err(|error| wrong(&format!("`base_url` is not a URL: {error}")))
        };
        let mut spec = Self {
            engine: settings.engine,
            headless: settings.headless,
            viewport: settings.viewport,
            device: settings.device,
            locale: settings.locale.as_ref().map(|locale| locale.value.clone()),
            timezone: settings.timezone.map(chrono_tz::Tz::name),
            geolocation: settings.geolocation,
            user_agent: settings.user_agent.as_ref().map(&fill).transpose()?,
            insecure: settings.trust.insecure,
            roots: Roots::of(&settings.trust, values)?,
            run,
            filmstrip: scenario.evidence.filmstrip,
            lasts: Some(scenario.timeout + FINALLY_TIMEOUT + AFTERWARDS),
            ..Self::default()
        };
        for (name, value) in &settings.headers {
            spec.headers.push((base()?.origin().ascii_serialization(), name.clone(), fill(value)?));
        }
        for cookie in &settings.cookies {
            let domain = match &cookie.domain {
                Some(domain) => fill(domain)?,
                None => base()?.host_str().unwrap_or_default().to_owned(),
            };
            let path = cookie.path.as_ref().map(&fill).transpose()?.unwrap_or_else(|| "/".into());
            spec.cookies.push(Cookie { name: cookie.name.value.clone(), value: fill(&cookie.value)?, domain, path });
        }
        if let Some(auth) = &settings.basic_auth {
            spec.basic_auth = Some((fill(&auth.user)?, fill(&auth.password)?));
        }
        for text in &settings.traceparent {
            let filled = fill(text)?;
            let of = if filled == "*" { Some(filled.clone()) } else { origin(&filled) };
            spec.traceparent.push(of.ok_or_else(|| {
                Failure::new(
                    Reason::Configuration,
                    format!("`{filled}` is not an origin: write it like https://shop.example.com"),
                )
                .at(text.span)
            })?);
        }
        Ok(spec)
    }

    /// Returns the scenario key of a setting that requires `BiDi`, if there is one.
    fn needs(&self) -> Option<&'static str> {
        [
            ("device", self.device.is_some()),
            ("locale", self.locale.is_some()),
            ("timezone", self.timezone.is_some()),
            ("geolocation", self.geolocation.is_some()),
            ("user_agent", self.user_agent.is_some()),
            ("headers", !self.headers.is_empty()),
            ("cookies", !self.cookies.is_empty()),
            ("basic_auth", self.basic_auth.is_some()),
            ("traceparent", !self.traceparent.is_empty()),
            ("trust", self.insecure),
        ]
        .into_iter()
        .find_map(|(key, wanted)| wanted.then_some(key))
    }

    /// Applies the settings to the browser; `context` was created for this run.
    pub(super) async fn apply(
        &self,
        session: &Session,
        context: &mut UserContext,
        watch: &EventTracker,
    ) -> Result<(), Failure> {
        let Some(bidi) = &session.bidi else {
            return match self.needs() {
                None => Ok(()),
                Some(key) => Err(Failure::new(
                    Reason::Configuration,
                    format!("`browser.{key}` needs WebDriver BiDi, which this endpoint does not have"),
                )),
            };
        };
        let told = |key: &'static str| {
            move |error: BidiError| match error {
                BidiError::Refused(..) => Failure::new(
                    Reason::Configuration,
                    format!("{} does not support `browser.{key}`: {error}", session.engine),
                ),
                error => Failure::new(Reason::Browser, error.to_string()),
            }
        };
        let size = self.viewport.or(self.device.map(|device| device.viewport));
        let ratio = self.device.map(|device| device.pixel_ratio);
        if (size.is_some() && size != Some(VIEWPORT)) || ratio.is_some() {
            session.resize(context, size.unwrap_or(VIEWPORT), ratio).await.map_err(told("viewport"))?;
        }
        for (key, method, params) in self.overrides(context) {
            match bidi.call(method, params, BRISK).await {
                // Properties of a device that only one browser supports are omitted in the other; the documentation
                // lists them.
                Err(BidiError::Refused(..)) if key.is_empty() => {}
                other => drop(other.map_err(told(key))?),
            }
        }
        for cookie in &self.cookies {
            let params = json!({
                "cookie": {"name": cookie.name, "value": {"type": "string", "value": cookie.value},
                           "domain": cookie.domain, "path": cookie.path},
                "partition": {"type": "storageKey", "userContext": context.user},
            });
            bidi.call("storage.setCookie", params, BRISK).await.map_err(told("cookies"))?;
        }
        context.intercept = self.intercept(bidi, watch).await.map_err(told("headers"))?;
        Ok(())
    }

    /// Returns the commands with the scenario key of each. The key is empty for additional properties of a device.
    fn overrides(&self, context: &UserContext) -> Vec<(&'static str, &'static str, Json)> {
        let users = json!([context.user]);
        let mut wanted = Vec::new();
        if let Some(locale) = &self.locale {
            let params = json!({"locale": locale, "userContexts": users});
            wanted.push(("locale", "emulation.setLocaleOverride", params));
        }
        if let Some(timezone) = self.timezone {
            let params = json!({"timezone": timezone, "userContexts": users});
            wanted.push(("timezone", "emulation.setTimezoneOverride", params));
        }
        if let Some(Geolocation { latitude, longitude, accuracy }) = self.geolocation {
            let coordinates = json!({"latitude": latitude, "longitude": longitude, "accuracy": accuracy});
            let params = json!({"coordinates": coordinates, "userContexts": users});
            wanted.push(("geolocation", "emulation.setGeolocationOverride", params));
        }
        let user_agent = self.user_agent.as_deref().or(self.device.map(|device| device.user_agent));
        if let Some(user_agent) = user_agent {
            let params = json!({"userAgent": user_agent, "userContexts": users});
            wanted.push(("user_agent", "emulation.setUserAgentOverride", params));
        }
        if self.device.is_some_and(|device| device.mobile) {
            let params = json!({"maxTouchPoints": 5, "userContexts": users});
            wanted.push(("", "emulation.setTouchOverride", params));
            let params = json!({"override": true, "userContexts": users});
            wanted.push(("", "emulation.setViewportMetaOverride", params));
        }
        wanted
    }

    /// Intercepts requests if headers have to be added. Interception is used instead of extra headers, because those
    /// make Chromium send preflight requests to other origins.
    async fn intercept(&self, bidi: &Bidi, watch: &EventTracker) -> Result<Option<String>, BidiError> {
        let additions = Additions {
            headers: self.headers.clone(),
            traceparent: self.traceparent.clone(),
            trace: self.run.0.simple().to_string(),
            credentials: self.basic_auth.clone(),
        };
        let of_requests = additions.of_requests();
        watch.add(additions);
        if !of_requests {
            return Ok(None);
        }
        // A run has its session to itself, so the interception can cover the whole session, including new windows.
        let made = bidi.call("network.addIntercept", json!({"phases": ["beforeRequestSent"]}), BRISK).await?;
        Ok(made["intercept"].as_str().map(ToOwned::to_owned))
    }
}
