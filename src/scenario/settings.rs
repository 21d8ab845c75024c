//! Reader of scenario settings for the browser and the runs: `browser`, `evidence`, `budget`, `totp`.

use std::collections::BTreeMap;

use super::device::{DEVICES, Device};
use super::keys::{BASIC_AUTH, BROWSER, BROWSER_TRUST, BUDGET, EVIDENCE, GEOLOCATION, OVERLAY, PRESET_COOKIE, TOTP};
use super::locator::target;
use super::model::{
    BasicAuth, BrowserSettings, Budget, Engine, EvidencePolicy, Geolocation, Headless, Overlay, PresetCookie, Trust,
    Viewport, Vital,
};
use super::reader::{Fields, Reader, cut, plain_name};
use super::template::Template;
use super::timezone::timezone;
use super::tree::{Entry, Node};
use super::{headers, http, step, usual};
use crate::diagnostic::{Diagnostic, Spanned, nearest};

/// Default accuracy of a position, in metres.
const DEFAULT_ACCURACY: f64 = 10.0;

/// Reads `browser`. `base_url` is whether the scenario has a base URL, which cookies and headers require.
pub fn browser(r: &mut Reader, node: &Node, base_url: bool) -> BrowserSettings {
    let Some(fields) = r.fields(node, "`browser`", &[BROWSER]) else { return BrowserSettings::default() };
    let mut template = |key: &str| fields.get(key).and_then(|node| r.template(node, &format!("`{key}`")));
    let user_agent = template("user_agent");
    BrowserSettings {
        engine: fields.get("engine").and_then(|node| engine(r, node)),
        headless: fields.get("headless").and_then(|node| headless(r, node)),
        viewport: fields.get("viewport").and_then(|node| viewport(r, node)),
        device: fields.get("device").and_then(|node| device(r, node)),
        locale: fields.get("locale").and_then(|node| locale(r, node)),
        timezone: fields.get("timezone").and_then(|node| timezone(r, node)),
        geolocation: fields.get("geolocation").and_then(|node| geolocation(r, node)),
        user_agent,
        headers: fields.entry("headers").and_then(|entry| headers(r, entry, base_url)).unwrap_or_default(),
        cookies: fields.get("cookies").map(|node| cookies(r, node, base_url)).unwrap_or_default(),
        basic_auth: fields.get("basic_auth").and_then(|node| basic_auth(r, node)),
        trust: fields.get("trust").and_then(|node| trust(r, node)).unwrap_or_default(),
        traceparent: fields.get("traceparent").map(|node| origins(r, node)).unwrap_or_default(),
    }
}

/// Reads `overlays`.
pub fn overlays(r: &mut Reader, node: &Node) -> Vec<Overlay> {
    let items = r.list(node, "`overlays`").unwrap_or_default();
    items.iter().filter_map(|item| overlay(r, item)).collect()
}

fn overlay(r: &mut Reader, node: &Node) -> Option<Overlay> {
    let fields = r.fields(node, "an overlay", &[OVERLAY])?;
    let Some(when) = fields.get("when") else {
        r.fail_with(fields.span, "an overlay needs `when`", "a locator of what is visible when it is in the way");
        return None;
    };
    let within_frame = fields.entry("within_frame").map(|entry| step::frames(r, "click", entry));
    let when = target(r, when, "when");
    let click = match fields.get("click") {
        Some(node) => target(r, node, "click"),
        None => when.clone(),
    };
    Some(Overlay { when: when?, click: click?, within_frame: within_frame.unwrap_or_else(|| Some(Vec::new()))? })
}

fn engine(r: &mut Reader, node: &Node) -> Option<Engine> {
    if let Some(engine @ ("webkit" | "safari")) = node.scalar().map(|scalar| scalar.text.as_str()) {
        r.fail(node.span, format!("`engine: {engine}` is not supported yet"));
        return None;
    }
    let word = r.word(node, "engine", &Engine::ALL.map(Engine::as_str))?;
    Engine::ALL.into_iter().find(|engine| engine.as_str() == word)
}

/// Reads `headless`, which is also a key of the agent configuration.
pub fn headless(r: &mut Reader, node: &Node) -> Option<Headless> {
    r.word(node, "`headless`", Headless::WORDS).map(Headless::of)
}

fn viewport(r: &mut Reader, node: &Node) -> Option<Viewport> {
    let text = r.text(node, "`viewport`")?;
    let size = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    if let Some((width @ 1..=10_000, height @ 1..=10_000)) = size {
        return Some(Viewport { width, height });
    }
    r.fail_with(node.span, format!("`{}` is not a viewport", cut(&text)), "write it like 1280x800");
    None
}

fn device(r: &mut Reader, node: &Node) -> Option<&'static Device> {
    let text = r.text(node, "`device`")?;
    let found = Device::named(&text);
    if found.is_none() {
        let names = || DEVICES.iter().map(|device| device.name);
        let lower = text.to_lowercase();
        let near = names().find(|name| nearest(&lower, [name.to_lowercase().as_str()]).is_some());
        let found = Diagnostic::error(&r.source, node.span, format!("unknown device `{}`", cut(&text)));
        let found = match nearest(&text, names()).or(near) {
            Some(near) => found.label(format!("did you mean `{near}`?")),
            None => found,
        };
        r.report(found.note(format!("known are {}", names().collect::<Vec<_>>().join(", "))));
    }
    found
}

/// Reads a language tag (BCP 47) and checks its syntax.
fn locale(r: &mut Reader, node: &Node) -> Option<Spanned<String>> {
    let text = r.text(node, "`locale`")?;
    let is_tag = |text: &str| {
        let mut parts = text.split('-');
        let language = parts.next().unwrap_or_default();
        (2..=3).contains(&language.len())
            && language.chars().all(|c| c.is_ascii_alphabetic())
            && parts.all(|part| (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    if is_tag(&text) {
        return Some(text);
    }
    let meant = text.split('.').next().unwrap_or_default().replace('_', "-");
    let label = if is_tag(&meant) { format!("write `{meant}`") } else { "write it like pl-PL".into() };
    r.fail_with(node.span, format!("`{}` is not a locale", cut(&text)), label);
    None
}

fn geolocation(r: &mut Reader, node: &Node) -> Option<Geolocation> {
    let fields = r.fields(node, "`geolocation`", &[GEOLOCATION])?;
    let mut degrees = |key: &str, most: f64| {
        let Some(node) = fields.get(key) else {
            let help = "write it like {latitude: 52.23, longitude: 21.01}";
            r.fail_with(fields.span, format!("`geolocation` needs `{key}`"), help);
            return None;
        };
        r.number(node, &format!("`{key}`"), -most, most)
    };
    let (latitude, longitude) = (degrees("latitude", 90.0), degrees("longitude", 180.0));
    let accuracy = match fields.get("accuracy") {
        Some(node) => r.number(node, "`accuracy`", 0.0, f64::INFINITY),
        None => Some(DEFAULT_ACCURACY),
    };
    Some(Geolocation { latitude: latitude?, longitude: longitude?, accuracy: accuracy? })
}

fn headers(r: &mut Reader, entry: &Entry, base_url: bool) -> Option<Vec<(String, Spanned<Template>)>> {
    if !base_url {
        let help = "they are sent to the origin of `base_url`: add one to the scenario";
        r.fail_with(entry.key_span, "`headers` of a browser need a `base_url`", help);
    }
    headers::headers(r, &entry.value)
}

fn cookies(r: &mut Reader, node: &Node, base_url: bool) -> Vec<PresetCookie> {
    let entries = r.entries(node, "`cookies`").unwrap_or_default();
    entries.into_iter().filter_map(|entry| cookie(r, entry, base_url)).collect()
}

fn cookie(r: &mut Reader, entry: &Entry, base_url: bool) -> Option<PresetCookie> {
    let named = http::token(&entry.key);
    if !named {
        r.fail(entry.key_span, format!("`{}` is not the name of a cookie", cut(&entry.key)));
    }
    let name = Spanned::new(entry.key.clone(), entry.key_span);
    let what = format!("cookie `{}`", cut(&entry.key));
    let (value, domain, path) = if entry.value.entries().is_none() {
        (r.template(&entry.value, &what), Some(None), Some(None))
    } else {
        let fields = r.fields(&entry.value, &what, &[PRESET_COOKIE])?;
        let value = required(r, &fields, &what, "value");
        let mut part = |key: &str| match fields.get(key) {
            Some(node) => r.template(node, &format!("`{key}`")).map(Some),
            None => Some(None),
        };
        (value, part("domain"), part("path"))
    };
    if let (Some(None), false) = (&domain, base_url) {
        let help = "write {value: …, domain: …}, or add a `base_url` to the scenario";
        r.fail_with(entry.key_span, format!("{what} has no host"), help);
    }
    Some(PresetCookie { name: named.then_some(name)?, value: value?, domain: domain?, path: path? })
}

fn required(r: &mut Reader, fields: &Fields<'_>, what: &str, key: &str) -> Option<Spanned<Template>> {
    let Some(node) = fields.get(key) else {
        r.fail(fields.span, format!("{what} needs `{key}`"));
        return None;
    };
    r.template(node, &format!("`{key}`"))
}

fn basic_auth(r: &mut Reader, node: &Node) -> Option<BasicAuth> {
    let fields = r.fields(node, "`basic_auth`", &[BASIC_AUTH])?;
    let user = required(r, &fields, "`basic_auth`", "user");
    let password = required(r, &fields, "`basic_auth`", "password");
    Some(BasicAuth { user: user?, password: password? })
}

/// Reads `trust` for a browser, which does not support a client certificate.
fn trust(r: &mut Reader, node: &Node) -> Option<Trust> {
    let mut entries = r.entries(node, "`trust`")?;
    entries.retain(|entry| {
        let later = BROWSER_TRUST.iter().any(|key| key.shape.is_none() && key.name == entry.key);
        if later {
            let message = format!("`{}` is not supported for a browser yet", entry.key);
            let help = "Chromium supports it only by a machine-wide policy; use a request instead";
            r.fail_with(entry.key_span, message, help);
        }
        !later && r.known(entry, &[BROWSER_TRUST], "")
    });
    http::trust_of(r, &Fields::of(entries, node.span))
}

fn origins(r: &mut Reader, node: &Node) -> Vec<Spanned<Template>> {
    let items = r.list(node, "`traceparent`").unwrap_or_default();
    items.iter().filter_map(|item| origin(r, item)).collect()
}

/// Reads an origin (RFC 6454): scheme, host and optional port. References are checked when they are resolved.
fn origin(r: &mut Reader, node: &Node) -> Option<Spanned<Template>> {
    let template = r.template(node, "an origin")?;
    let Some(text) = template.as_literal() else { return Some(template) };
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url else {
        r.fail_with(node.span, format!("`{}` is not an origin", cut(text)), "write it like https://api.example.com");
        return None;
    };
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        let label = format!("write `{}`", url.origin().ascii_serialization());
        r.fail_with(node.span, format!("`{}` is more than an origin", cut(text)), label);
        return None;
    }
    Some(template)
}

/// Reads `evidence`.
pub fn evidence(r: &mut Reader, node: &Node) -> EvidencePolicy {
    let Some(fields) = r.fields(node, "`evidence`", &[EVIDENCE]) else { return EvidencePolicy::default() };
    let screenshots =
        fields.get("screenshots").and_then(|node| r.word(node, "choice of screenshots", &["failure", "steps"]));
    EvidencePolicy {
        screenshots_of_steps: screenshots == Some("steps"),
        har: fields.get("har").and_then(|node| r.boolean(node, "`har`")),
        filmstrip: fields.get("filmstrip").and_then(|node| r.boolean(node, "`filmstrip`")).unwrap_or(false),
    }
}

/// Reads `budget`: limits in the order of the file.
pub fn budget(r: &mut Reader, node: &Node) -> Vec<Spanned<Budget>> {
    let Some(fields) = r.fields(node, "`budget`", &[BUDGET]) else { return Vec::new() };
    let mut limits = Vec::new();
    for entry in fields.iter() {
        let (key, node) = (entry.key.as_str(), &entry.value);
        let what = format!("`{key}`");
        let vital = Vital::ALL.into_iter().find(|vital| vital.as_str() == key);
        let limit = match (key, vital) {
            (_, Some(vital)) => r.duration(node, &what).map(|limit| Budget::Vital(vital, limit)),
            ("duration", _) => r.duration(node, &what).map(Budget::Duration),
            ("cls", _) => r.number(node, &what, 0.0, f64::INFINITY).map(Budget::LayoutShift),
            ("requests", _) => r.whole(node, &what).map(Budget::Requests),
            ("failed_requests", _) => r.whole(node, &what).map(Budget::FailedRequests),
            ("slower_than_usual", _) => usual::read(r, node).map(Budget::SlowerThanUsual),
            ("bytes", _) => r.size(node, &what).map(Budget::Bytes),
            _ => r.whole(node, &what).map(Budget::ConsoleErrors),
        };
        limits.extend(limit.map(|limit| Spanned::new(limit, entry.span())));
    }
    limits
}

/// Reads `totp` and makes its names available. The secrets must be declared before.
pub fn totp(r: &mut Reader, node: &Node) -> BTreeMap<String, Spanned<String>> {
    let mut all = BTreeMap::new();
    for entry in r.entries(node, "`totp`").unwrap_or_default() {
        r.names.totp.insert(entry.key.clone());
        let named = plain_name(r, entry);
        let what = format!("one-time password `{}`", cut(&entry.key));
        if entry.value.scalar().is_some_and(|scalar| !scalar.text.is_empty()) {
            r.fail_with(entry.value.span, format!("{what} must be a map"), "write {secret: NAME OF A SECRET}");
            continue;
        }
        let Some(fields) = r.fields(&entry.value, &what, &[TOTP]) else { continue };
        let Some(node) = fields.get("secret") else {
            if entry.value.entries().is_some_and(<[Entry]>::is_empty) {
                r.fail_with(fields.span, format!("{what} needs `secret`"), "write {secret: NAME OF A SECRET}");
            }
            continue;
        };
        let Some(secret) = r.text(node, "`secret`") else { continue };
        if r.names.secrets.contains(&secret.value) {
            if named {
                all.insert(entry.key.clone(), secret);
            }
            continue;
        }
        let bare = secret.trim_start_matches("${secret.").trim_end_matches('}');
        let message = format!("unknown secret `{}`", cut(&secret));
        let found = Diagnostic::error(&r.source, node.span, message);
        let found = match nearest(bare, r.names.secrets.iter().map(String::as_str)) {
            Some(near) => found.label(format!("did you mean `{near}`?")),
            None => found.note("help: declare it: `secrets: {NAME: {env: VARIABLE}}`"),
        };
        r.report(found);
    }
    all
}
