//! What a run wants of its browser, with its names filled in, and how the browser is told.

use serde_json::{Value as Json, json};
use url::Url;

use super::bidi::{Bidi, BidiError};
use super::session::{BRISK, Context, Session, VIEWPORT};
use super::trust::Roots;
use super::watch::{Additions, Watch};
use crate::diagnostic::At;
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::scenario::device::Device;
use crate::scenario::{Engine, FINALLY_TIMEOUT, Geolocation, Headless, Scenario, Viewport};
use crate::values::Values;

/// How long a run may take for its evidence.
const AFTERWARDS: std::time::Duration = std::time::Duration::from_secs(30);

/// What a run wants of its browser.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Which; none: the agent's choice.
    pub engine: Option<Engine>,
    /// Which program Chromium runs as; `None` when the agent configuration decides.
    pub headless: Option<Headless>,
    /// The size of the page; none: the device's, else 1280x800.
    pub viewport: Option<Viewport>,
    /// A device to emulate.
    pub device: Option<&'static Device>,
    /// The language.
    pub locale: Option<String>,
    /// The time zone, by its IANA name.
    pub timezone: Option<&'static str>,
    /// Where the browser says it is.
    pub geolocation: Option<Geolocation>,
    /// What the browser says it is.
    pub user_agent: Option<String>,
    /// Headers: origin, name, value.
    pub headers: Vec<(String, String, String)>,
    /// Cookies to begin with.
    pub cookies: Vec<Cookie>,
    /// A user and a password for whoever asks.
    pub basic_auth: Option<(String, String)>,
    /// Whether certificates that nobody vouches for are taken.
    pub insecure: bool,
    /// Roots to trust besides those of the browser.
    pub roots: Option<At<Roots>>,
    /// Origins whose requests get a `traceparent`.
    pub traceparent: Vec<String>,
    /// The run, whose id is the trace.
    pub run: RunId,
    /// Whether the session must be a fresh one.
    pub fresh: bool,
    /// Whether small pictures are taken all along.
    pub filmstrip: bool,
    /// How long the run may use it once it is open; none: an hour.
    pub lasts: Option<std::time::Duration>,
}

/// A cookie to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Its host.
    pub domain: String,
    /// Its path.
    pub path: String,
}

fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    url.has_host().then(|| url.origin().ascii_serialization())
}

impl Spec {
    /// What a scenario says of its browser.
    pub fn of(scenario: &Scenario, values: &Values, run: RunId) -> Result<Self, Failure> {
        let settings = &scenario.browser;
        let fill = |text: &At<crate::scenario::Template>| values.fill(text).map_err(|failure| failure.at(text.span));
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

    /// What needs `BiDi`, by its key in the scenario.
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

    /// Tells the browser; `context` was made for this run.
    pub(super) async fn apply(&self, session: &Session, context: &mut Context, watch: &Watch) -> Result<(), Failure> {
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
                    format!("{} does not take `browser.{key}`: {error}", session.engine),
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
                // What only one browser knows of a device is left out on the other; the docs say what that is.
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

    /// Commands, each with the key that asked for it; none for what a device has beside.
    fn overrides(&self, context: &Context) -> Vec<(&'static str, &'static str, Json)> {
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

    /// Lets requests wait for us, where something is said to them. By interception and not by extra headers, which
    /// make Chromium ask other origins for permission first.
    async fn intercept(&self, bidi: &Bidi, watch: &Watch) -> Result<Option<String>, BidiError> {
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
        // A run has its session to itself, so the interception is the session's: it covers new windows as well.
        let made = bidi.call("network.addIntercept", json!({"phases": ["beforeRequestSent"]}), BRISK).await?;
        Ok(made["intercept"].as_str().map(ToOwned::to_owned))
    }
}
