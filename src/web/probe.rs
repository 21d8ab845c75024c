//! `/probe`, `/config` and `/logs`, compatible with `blackbox_exporter` in text and status.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, Request as HttpRequest, State as With};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use url::form_urlencoded;

use super::State;
use super::headers::harden;
use super::probes::{ProbeResult, Probes};
use crate::blackbox::Request;

/// Module to use if the request names none.
const DEFAULT_MODULE: &str = "http_2xx";
/// Safety margin between the end of a probe and the scrape timeout of Prometheus, in seconds.
const OFFSET: f64 = 0.5;
/// Default timeout of a probe, in seconds.
const DEFAULT_TIMEOUT: f64 = 120.0;
/// Maximum length of a target, in bytes.
const LONGEST_TARGET: usize = 4096;

fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let mut text: String = text.into();
    text.push('\n');
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// Handles `/probe?target=&module=&hostname=&debug=`.
pub(super) async fn probe(With(state): With<Arc<State>>, asked: HttpRequest) -> Response {
    let (asked, _) = asked.into_parts();
    harden(answer(&state.probes, &asked).await)
}

async fn answer(probes: &Probes, asked: &Parts) -> Response {
    let headers = &asked.headers;
    // Another site must not be able to make a visitor's browser probe a target that only the visitor can reach.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return plain(StatusCode::FORBIDDEN, "cross-site request rejected");
    }
    let Some(loaded) = probes.loaded() else {
        return plain(StatusCode::NOT_FOUND, "no modules are configured; set `probe.modules` to a blackbox.yml");
    };
    let query = asked.uri.query().unwrap_or_default();
    let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let parameter = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
    };
    let name = parameter("module").unwrap_or(DEFAULT_MODULE);
    let Some(module) = loaded.modules.get(name) else {
        if let Some(metrics) = probes.metrics() {
            metrics.unknown.inc();
        }
        return plain(StatusCode::BAD_REQUEST, format!("Unknown module {name:?}"));
    };
    let patience = headers.get("x-prometheus-scrape-timeout-seconds").map(|value| value.to_str().unwrap_or("?"));
    let timeout = match timeout(patience, module.timeout) {
        Ok(timeout) => timeout,
        Err(why) => {
            let text = format!("Failed to parse timeout from Prometheus header: {why}");
            return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    };
    let Some(target) = parameter("target") else {
        return plain(StatusCode::BAD_REQUEST, "Locator parameter is missing");
    };
    if target.len() > LONGEST_TARGET {
        return plain(StatusCode::BAD_REQUEST, format!("the target is longer than {LONGEST_TARGET} bytes"));
    }
    if !module.has_prober() {
        return plain(StatusCode::BAD_REQUEST, format!("Unknown prober {:?}", module.prober));
    }
    if let Some(why) = &module.refused {
        return plain(StatusCode::BAD_REQUEST, format!("module {name:?} cannot be used: {why}"));
    }
    let hostname = parameter("hostname").filter(|_| module.prober == "http");
    if let (Some(hostname), Some(host)) = (hostname, module.host_header())
        && hostname != host
    {
        let text = format!(
            "host header defined both in module configuration ({host}) and with URL-parameter 'hostname' ({hostname})"
        );
        return plain(StatusCode::BAD_REQUEST, text);
    }
    let Ok(place) = loaded.places.try_acquire() else {
        let text = format!("the maximum number of probes is running already (`probe.max_probes`: {})", loaded.max);
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let request = Request { target, hostname, timeout, permit: &loaded.permit };
    let report = probes.prober.probe(module, request).await;
    drop(place);
    let debug = parameter("debug").is_some_and(|debug| debug == "true");
    let metrics = Bytes::from(report.metrics);
    let kept = probes.keep(ProbeResult {
        id: 0,
        name: name.to_owned(),
        target: without_password(target.to_owned()),
        success: report.success,
        took: report.took,
        at: report.log.began_at(),
        module: Arc::clone(module),
        log: report.log,
        metrics: metrics.clone(),
    });
    if debug {
        return plain(StatusCode::OK, kept.debug());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics).into_response()
}

/// Returns the timeout of a probe: the scrape timeout of Prometheus less a safety margin, limited by the timeout of the
/// module.
fn timeout(asked: Option<&str>, module: Option<Duration>) -> Result<Duration, String> {
    let asked = match asked.filter(|asked| !asked.is_empty()) {
        None => 0.0,
        Some(asked) => match asked.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => seconds,
            _ => return Err(format!("strconv.ParseFloat: parsing {asked:?}: invalid syntax")),
        },
    };
    let asked = if asked == 0.0 { DEFAULT_TIMEOUT } else { asked };
    let (most, module) = (asked - OFFSET, module.map_or(0.0, |module| module.as_secs_f64()));
    let seconds = if (module > 0.0 && module < most) || most < 0.0 { module } else { most };
    Ok(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)))
}

/// Returns a target with its password replaced.
fn without_password(target: String) -> String {
    // Most targets have no user either, and a search for `@` is faster than parsing a URL.
    if !target.contains('@') {
        return target;
    }
    let shown = url::Url::parse(&target).ok().filter(|url| url.password().is_some()).map(|mut url| {
        // The password of a URL that has one can always be replaced.
        let _ = url.set_password(Some("xxxxx"));
        url.to_string()
    });
    shown.unwrap_or(target)
}

/// Handles `/config`: shows the modules in effect without secrets.
pub(super) async fn config(With(state): With<Arc<State>>) -> Response {
    match state.probes.loaded() {
        Some(loaded) => {
            let text = loaded.modules.effective();
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        None => plain(StatusCode::NOT_FOUND, "no modules are configured; set `probe.modules` to a blackbox.yml"),
    }
}

/// Handles `/logs?id=`: shows one of the recent results.
pub(super) async fn logs(With(state): With<Arc<State>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let id = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "id");
    let Some(id) = id.and_then(|(_, id)| id.parse::<u64>().ok()) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "Invalid probe id");
    };
    match state.probes.recent().into_iter().find(|kept| kept.id == id) {
        Some(kept) => plain(StatusCode::OK, kept.debug()),
        None => plain(StatusCode::NOT_FOUND, "Probe id not found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_those_of_the_original() {
        let check = |asked: Option<&str>, module: Option<f64>, expected: Result<f64, &str>| {
            let found = timeout(asked, module.map(Duration::from_secs_f64));
            let found = found.as_ref().map(Duration::as_secs_f64).map_err(String::as_str);
            assert_eq!(found, expected, "{asked:?} {module:?}");
        };
        check(None, None, Ok(119.5));
        check(None, Some(5.0), Ok(5.0));
        check(Some("10"), None, Ok(9.5));
        check(Some("10"), Some(5.0), Ok(5.0));
        check(Some("10"), Some(30.0), Ok(9.5));
        check(Some("0"), Some(30.0), Ok(30.0));
        check(Some("0.25"), Some(30.0), Ok(30.0));
        check(Some("0.25"), None, Ok(0.0));
        check(Some(""), None, Ok(119.5));
        let bad = "strconv.ParseFloat: parsing \"abc\": invalid syntax";
        check(Some("abc"), None, Err(bad));
    }

    #[test]
    fn passwords_in_targets_are_not_shown() {
        assert_eq!(without_password("http://u:pw@a/".into()), "http://u:xxxxx@a/");
        assert_eq!(without_password("10.0.0.1:80".into()), "10.0.0.1:80");
    }
}
