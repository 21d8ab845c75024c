//! The http prober: one request and the redirects that follow from it, each on a connection of its own.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};
use url::Url;

use super::body::Body;
use super::client::HARMLESS;
use super::metric;
use super::module::{HeaderMatch, Http};
use super::permit::Target;
use super::probe::{Probe, ProbeAborted, Verdict};
use super::tls::Seen;
use crate::wire::cookies::Cookies;
use crate::wire::{self, AlpnOffer, Connection, DialOptions, Route, TlsOptions, Via, set_target};

/// Maximum number of redirects that are followed, the same as in `blackbox_exporter`.
const MOST_REDIRECTS: u32 = 10;
/// Default `User-Agent` header.
const USER_AGENT: &str = concat!("wachta/", env!("CARGO_PKG_VERSION"), " (Blackbox Exporter)");

/// State of a probe, which is also exported if its time runs out.
#[derive(Default)]
struct Known {
    redirects: u32,
    status: u16,
    version: f64,
    content_length: f64,
    body_length: u64,
    failed_due_to_regex: bool,
    last_modified: Option<f64>,
    seen: Option<Seen>,
    /// Start of reading the body.
    headed: Option<Instant>,
}

/// One request and its destination.
struct Hop {
    url: Url,
    method: Method,
    body: Bytes,
    /// Resolved address to connect to, for the first request and for redirects without a host.
    address: Option<IpAddr>,
    /// Whether the destination is the host that the module's headers and credentials are meant for.
    own: bool,
    /// Server name for TLS, if it differs from the host of the URL.
    server_name: Option<String>,
    referer: Option<String>,
}

/// Probes a target.
pub(super) async fn http(probe: &mut Probe<'_>, http: &Http, time: Duration) -> Verdict {
    let deadline = tokio::time::Instant::now() + time;
    let mut known = Known::default();
    for phase in [metric::RESOLVE, metric::CONNECT, metric::TLS, metric::PROCESSING, metric::TRANSFER] {
        probe.samples.add_phase(metric::HTTP_DURATION, phase, 0.0);
    }
    let done = tokio::time::timeout_at(deadline, rounds(probe, http, &mut known)).await;
    let mut success = match done {
        Ok(Ok(success)) => success,
        Ok(Err(ProbeAborted)) => false,
        Err(_) => {
            probe.log.error("Error for HTTP request", &[("err", &"context deadline exceeded")]);
            false
        }
    };
    if let Some(headed) = known.headed {
        probe.samples.add_phase(metric::HTTP_DURATION, metric::TRANSFER, headed.elapsed().as_secs_f64());
    }
    let samples = &mut probe.samples;
    if let Some(seen) = &known.seen {
        seen.write(samples);
        seen.write_chain(samples);
        seen.write_cipher(samples);
        if http.fail_if_ssl {
            probe.log.error("Final request was over SSL", &[]);
            success = false;
        }
    } else if http.fail_if_not_ssl && success {
        probe.log.error("Final request was not over SSL", &[]);
        success = false;
    }
    let samples = &mut probe.samples;
    samples.set(metric::HTTP_SSL, f64::from(u8::from(known.seen.is_some())));
    samples.set(metric::HTTP_STATUS_CODE, f64::from(known.status));
    samples.set(metric::HTTP_VERSION, known.version);
    samples.set(metric::HTTP_CONTENT_LENGTH, known.content_length);
    samples.set(metric::HTTP_UNCOMPRESSED_BODY_LENGTH, known.body_length as f64);
    samples.set(metric::HTTP_REDIRECTS, f64::from(known.redirects));
    samples.set(metric::FAILED_DUE_TO_REGEX, f64::from(u8::from(known.failed_due_to_regex)));
    if let Some(at) = known.last_modified {
        samples.set(metric::HTTP_LAST_MODIFIED, at);
    }
    Ok(success)
}

async fn rounds(probe: &mut Probe<'_>, http: &Http, known: &mut Known) -> Verdict {
    let mut hop = first(probe, http).await?;
    // Created when the first cookie is set.
    let mut cookies: Option<Cookies> = None;
    let mut was_refused = false;
    loop {
        (known.status, known.version, known.content_length, known.seen, known.headed) = (0, 0.0, 0.0, None, None);
        let proxy = http.client.proxy.for_url(&hop.url);
        let proxy = proxy.map_err(|failure| probe.stop("Error creating request", &[("err", &failure.message)]))?;
        let mut request = request(probe, http, &hop, cookies.as_ref()).await?;
        let mut connection = connect(probe, http, &hop, proxy.as_ref(), known).await?;
        let forward = proxy.as_ref().filter(|_| hop.url.scheme() == "http");
        address(probe, &hop, forward, &connection, &mut request)?;
        let sent = Instant::now();
        let mut answer = match connection.exchange(request).await {
            Ok(answer) => answer,
            Err(unanswered) if unanswered.refused && !was_refused => {
                was_refused = true;
                let why = &unanswered.failure.message;
                probe.log.info("Sending the request again on another connection", &[("err", why)]);
                continue;
            }
            Err(unanswered) => {
                let why = &unanswered.failure.message;
                return Err(probe.stop("Error for HTTP request", &[("err", why)]));
            }
        };
        probe.samples.add_phase(metric::HTTP_DURATION, metric::PROCESSING, sent.elapsed().as_secs_f64());
        let headed = Instant::now();
        let (status, version) = (answer.head.status, answer.head.version);
        let headers = std::mem::take(&mut answer.head.headers);
        if let Some(location) = redirect(status, &headers) {
            known.redirects += 1;
            probe.log.info("Received redirect", &[("location", &without_query(&location))]);
            if known.redirects > MOST_REDIRECTS || !http.client.follow_redirects {
                probe.log.info("Not following redirect", &[]);
                known.head(status, version, &headers, answer.length());
                known.headed = Some(headed);
                // The body is not read, as in blackbox_exporter.
                let success = judge_head(probe, http, known, status, &headers);
                return Ok(judge_version(probe, http, version) && success);
            }
            if headers.contains_key(header::SET_COOKIE) {
                cookies.get_or_insert_default().store(&headers, &hop.url);
            }
            hop = next(probe, hop, status, &location)?;
            continue;
        }
        known.head(status, version, &headers, answer.length());
        known.headed = Some(headed);
        let mut success = judge_head(probe, http, known, status, &headers);
        let keep = success && !(http.body_matches.is_empty() && http.body_not_matches.is_empty());
        let mut body = Body::new(http.compression, http.body_size_limit, keep);
        let read = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    if let Err(error) = body.push(&chunk) {
                        break Err(error.to_string());
                    }
                    known.body_length = body.sink().count;
                }
                Ok(None) => break body.end().map_err(|error| error.to_string()),
                Err(failure) => break Err(failure.message),
            }
        };
        known.body_length = body.sink().count;
        if let Err(why) = read {
            probe.log.info("Failed to read HTTP response body", &[("err", &why)]);
            success = false;
            known.failed_due_to_regex |= keep;
        } else if let Some(text) = &body.sink().kept {
            known.failed_due_to_regex = !judge_body(probe, http, text);
            success = !known.failed_due_to_regex;
        }
        return Ok(judge_version(probe, http, version) && success);
    }
}

impl Known {
    fn head(&mut self, status: StatusCode, version: Version, headers: &HeaderMap, length: Option<u64>) {
        self.status = status.as_u16();
        self.version = match version {
            Version::HTTP_2 => 2.0,
            Version::HTTP_10 => 1.0,
            _ => 1.1,
        };
        // The length stated by the server is used even if no body follows, as with HEAD.
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        self.content_length = said.or(length).map_or(-1.0, |length| length as f64);
        let modified = headers.get(header::LAST_MODIFIED).and_then(|value| value.to_str().ok());
        self.last_modified = modified.and_then(http_date);
    }
}

/// Parses an HTTP date (RFC 9110 section 5.6.7) in any of its three formats.
fn http_date(text: &str) -> Option<f64> {
    let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let read = forms.iter().find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok())?;
    Some(read.and_utc().timestamp() as f64)
}

/// Prepares the first request and resolves its host as configured in the module.
async fn first(probe: &mut Probe<'_>, http: &Http) -> Result<Hop, ProbeAborted> {
    let written = probe.target;
    let whole = if written.starts_with("http://") || written.starts_with("https://") {
        written.to_owned()
    } else {
        format!("http://{written}")
    };
    let url = Url::parse(&whole).map_err(|error| probe.stop("Could not parse target URL", &[("err", &error)]))?;
    let Some(host) = url.host_str().map(wire::host::bare) else {
        return Err(probe.stop("The target has no host", &[]));
    };
    let address = if http.skip_resolve_phase_with_proxy && http.client.proxy.applies_to(&url) {
        probe.check(&target(&url))?;
        None
    } else {
        let (address, took) = probe.choose(http.addresses, &target(&url)).await?;
        probe.samples.add_phase(metric::HTTP_DURATION, metric::RESOLVE, took.as_secs_f64());
        Some(address)
    };
    let named = http.client.tls.server_name.clone();
    let by_header = probe.hostname.map(str::to_owned).or_else(|| {
        http.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value.clone())
    });
    let server_name =
        named.or_else(|| by_header.as_deref().and_then(|value| Some(super::permit::split_port(value)?.0.to_owned())));
    let server_name = Some(server_name.unwrap_or_else(|| host.to_owned()));
    let method = http.method.as_deref().map_or(Ok(Method::GET), |name| Method::from_bytes(name.as_bytes()));
    let method = method.map_err(|error| probe.stop("Error creating request", &[("err", &error)]))?;
    let body = match (&http.body, &http.body_file) {
        (Some(text), _) => Bytes::from(text.expose().clone()),
        (None, Some(path)) => {
            let read = probe.files.get(&probe.module.folder.join(path));
            Bytes::from_owner(read.map_err(|why| probe.stop("Error creating request", &[("err", &why)]))?)
        }
        (None, None) => Bytes::new(),
    };
    Ok(Hop { url, method, body, address, own: true, server_name, referer: None })
}

fn target(url: &Url) -> Target<'_> {
    Target {
        scheme: url.scheme(),
        host: wire::host::bare(url.host_str().unwrap_or_default()),
        port: url.port_or_known_default(),
    }
}

/// Removes possible secrets from a URL or a part of one.
fn without_query(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    match (text[..end].split_once("://"), text[..end].rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => text[..end].to_owned(),
    }
}

/// Returns the target of a redirect, or `None` if the response is not one.
fn redirect(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    let location = headers.get(header::LOCATION)?;
    let leads = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    (leads && !location.is_empty()).then(|| String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// Prepares the request that follows a redirect.
fn next(probe: &mut Probe<'_>, hop: Hop, status: StatusCode, location: &str) -> Result<Hop, ProbeAborted> {
    let url = hop.url.join(location);
    let mut url = url.map_err(|error| probe.stop("Error for HTTP request", &[("err", &error)]))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(probe.stop("Error for HTTP request", &[("err", &"the redirect is not to an HTTP URL")]));
    }
    if url.fragment().is_none() {
        url.set_fragment(hop.url.fragment());
    }
    probe.check(&target(&url))?;
    let absolute = location.contains("://") || location.starts_with("//");
    let same_host = url.host_str() == hop.url.host_str();
    let mut referer = hop.url.clone();
    let downgrade = hop.url.scheme() == "https" && url.scheme() == "http";
    // The calls cannot fail, because a URL that can have a user can also have none.
    let _ = (referer.set_username(""), referer.set_password(None));
    referer.set_fragment(None);
    let keeps_method = matches!(status.as_u16(), 307 | 308) || matches!(hop.method, Method::GET | Method::HEAD);
    let keeps_body = matches!(status.as_u16(), 307 | 308);
    Ok(Hop {
        method: if keeps_method { hop.method } else { Method::GET },
        body: if keeps_body { hop.body } else { Bytes::new() },
        address: if absolute { None } else { hop.address },
        own: hop.own && same_host,
        server_name: if absolute { None } else { hop.server_name },
        referer: (!downgrade).then(|| referer.to_string()),
        url,
    })
}

async fn request(
    probe: &mut Probe<'_>,
    http: &Http,
    hop: &Hop,
    cookies: Option<&Cookies>,
) -> Result<Request<Full<Bytes>>, ProbeAborted> {
    let mut headers = HeaderMap::with_capacity(8);
    let mut host = None;
    for (name, value) in &http.headers {
        if name.eq_ignore_ascii_case("host") {
            host = Some(value.clone());
        } else if hop.own || HARMLESS.contains(&name.to_ascii_lowercase().as_str()) {
            insert(probe, &mut headers, name, value)?;
        }
    }
    if hop.own {
        for (name, values) in &http.client.http_headers {
            for value in values {
                let value = probe.reveal(value)?;
                let name = HeaderName::try_from(name.as_str());
                if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                    headers.append(name, value);
                }
            }
        }
        if !headers.contains_key(header::AUTHORIZATION) {
            let value = match &http.client.authorization {
                None => super::auth::of_url(probe, &hop.url)?,
                wanted => Box::pin(super::auth::authorization(probe, wanted.as_ref(), &hop.url)).await?,
            };
            headers.extend(value.map(|value| (header::AUTHORIZATION, value)));
        }
    }
    if let Some(value) = cookies.and_then(|cookies| cookies.header(&hop.url)) {
        headers.insert(header::COOKIE, value);
    }
    if let Some(referer) = &hop.referer {
        insert(probe, &mut headers, "referer", referer)?;
    }
    if !headers.contains_key(header::USER_AGENT) {
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    }
    if hop.body.is_empty() && hop.referer.is_some() {
        headers.remove(header::CONTENT_TYPE);
    }
    let own_host = if hop.own && hop.server_name.is_some() { probe.hostname.map(str::to_owned).or(host) } else { None };
    let host = own_host.unwrap_or_else(|| authority(&hop.url));
    insert(probe, &mut headers, "host", &host)?;
    probe.log.info("Making HTTP request", &[("url", &without_query(hop.url.as_str())), ("host", &host)]);
    let mut request = Request::new(Full::new(hop.body.clone()));
    request.method_mut().clone_from(&hop.method);
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sets the URI of a request in the form that the connection requires. A proxy that reads the request gets the resolved
/// address, as in `blackbox_exporter`.
fn address(
    probe: &mut Probe<'_>,
    hop: &Hop,
    forward: Option<&wire::Proxy>,
    connection: &Connection,
    request: &mut Request<Full<Bytes>>,
) -> Result<(), ProbeAborted> {
    let mut url = Cow::Borrowed(&hop.url);
    if let (Some(address), Some(_)) = (hop.address, forward) {
        // The call cannot fail, because the URL has a host.
        let _ = url.to_mut().set_ip_host(address);
    }
    let set = set_target(request, &url, connection.protocol(), forward);
    set.map_err(|failure| probe.stop("Error creating request", &[("err", &failure.message)]))
}

fn insert(probe: &mut Probe<'_>, headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), ProbeAborted> {
    match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        (Ok(name), Ok(value)) => {
            headers.insert(name, value);
            Ok(())
        }
        _ => Err(probe.stop("Error creating request: invalid header", &[("header", &name)])),
    }
}

/// Returns host and port for the `Host` header. The port is omitted if it is the default of the scheme.
fn authority(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Opens the connection for one request, directly or through the proxy.
async fn connect(
    probe: &mut Probe<'_>,
    http: &Http,
    hop: &Hop,
    proxy: Option<&wire::Proxy>,
    known: &mut Known,
) -> Result<Connection, ProbeAborted> {
    let failed = |probe: &mut Probe<'_>, why: &str| probe.stop("Error for HTTP request", &[("err", &why)]);
    let host = hop.url.host_str().unwrap_or_default();
    let port = hop.url.port_or_known_default().unwrap_or(80);
    let ready = if hop.url.scheme() == "https" { Some(probe.tls(&http.client.tls)?) } else { None };
    let mut dial = DialOptions::default();
    if proxy.is_none() {
        let (address, looked_up) = match hop.address {
            Some(address) => (address, Duration::ZERO),
            None => {
                let found = probe.dialer.resolve(host, &dial).await;
                let found = found.map_err(|failure| failed(probe, &failure.message))?;
                (*found.addresses.first().expect("`resolve` gives at least one address"), found.took)
            }
        };
        probe.check_address(&target(&hop.url), address)?;
        probe.samples.add_phase(metric::HTTP_DURATION, metric::RESOLVE, looked_up.as_secs_f64());
        dial.pinned = Some(SocketAddr::new(address, port));
    }
    let tunnel = ready.is_some().then(|| match hop.address {
        Some(address) => SocketAddr::new(address, port).to_string(),
        None => wire::host::authority(host, port),
    });
    let offer = if http.client.enable_http2 { AlpnOffer::Http } else { AlpnOffer::Nothing };
    let tls = ready.as_ref().map(|ready| TlsOptions {
        config: Arc::clone(&ready.config),
        name: hop.server_name.as_deref(),
        offer,
    });
    let route = Route { dial, tls, proxy: proxy.map(|proxy| Via { proxy, tunnel }), ..Route::to(host, port) };
    let opened = Box::pin(probe.dialer.open(&route, |_| ())).await;
    let opened = opened.map_err(|refused| failed(probe, &refused.failure.message))?;
    if let (Some(session), Some(ready)) = (&opened.tls, &ready) {
        probe.samples.add_phase(metric::HTTP_DURATION, metric::TLS, session.took.as_secs_f64());
        known.seen = Some(Seen::of(session, ready));
    }
    // blackbox_exporter does not count the request for a tunnel in any phase.
    let connect = opened.connect.saturating_sub(opened.tunnel);
    probe.samples.add_phase(metric::HTTP_DURATION, metric::CONNECT, connect.as_secs_f64());
    let protocol = opened.protocol();
    let begun = Connection::begin(opened.stream, protocol).await;
    begun.map_err(|failure| failed(probe, &failure.message))
}

fn judge_head(probe: &mut Probe<'_>, http: &Http, known: &mut Known, status: StatusCode, headers: &HeaderMap) -> bool {
    let code = status.as_u16();
    probe.log.info("Received HTTP response", &[("status_code", &code)]);
    let mut success =
        if http.valid_status_codes.is_empty() { status.is_success() } else { http.valid_status_codes.contains(&code) };
    if !success {
        probe.log.info("Invalid HTTP response status code", &[("status_code", &code)]);
    }
    if success && !(http.header_matches.is_empty() && http.header_not_matches.is_empty()) {
        success = judge_headers(probe, http, headers);
        known.failed_due_to_regex = !success;
    }
    success
}

fn judge_version(probe: &mut Probe<'_>, http: &Http, version: Version) -> bool {
    let proto = match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let valid = http.valid_http_versions.is_empty() || http.valid_http_versions.iter().any(|valid| valid == proto);
    if !valid {
        probe.log.error("Invalid HTTP version number", &[("version", &proto)]);
    }
    valid
}

fn judge_headers(probe: &mut Probe<'_>, http: &Http, headers: &HeaderMap) -> bool {
    let both = http.header_matches.iter().map(|rule| (rule, false));
    for (rule, must) in both.chain(http.header_not_matches.iter().map(|rule| (rule, true))) {
        let HeaderMatch { header, regexp, allow_missing } = rule;
        let mut values = headers.get_all(header.as_str()).iter().peekable();
        if values.peek().is_none() {
            if *allow_missing {
                continue;
            }
            probe.log.error("Missing required header", &[("header", header)]);
            return false;
        }
        if values.any(|value| regexp.is_match(value.as_bytes())) != must {
            let message =
                if must { "Header did not match regular expression" } else { "Header matched regular expression" };
            probe.log.error(message, &[("header", header), ("regexp", regexp)]);
            return false;
        }
    }
    true
}

fn judge_body(probe: &mut Probe<'_>, http: &Http, text: &[u8]) -> bool {
    if let Some(regexp) = http.body_matches.iter().find(|regexp| regexp.is_match(text)) {
        probe.log.error("Body matched regular expression", &[("regexp", regexp)]);
        return false;
    }
    if let Some(regexp) = http.body_not_matches.iter().find(|regexp| !regexp.is_match(text)) {
        probe.log.error("Body did not match regular expression", &[("regexp", regexp)]);
        return false;
    }
    true
}
