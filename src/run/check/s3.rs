//! An S3 check: one object, or the newest object whose key has a prefix. Requests carry an AWS signature version 4 in
//! their URL.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::{Method, Request};
use rusty_s3::actions::{ListObjectsV2, S3Action as _};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::connection::NEEDS_TLS;
use crate::scenario::check::s3::{S3Check, bucket};
use crate::values::expect::{Actual, cut};
use crate::wire::ResponseHead;

/// Maximum number of list pages, each with up to 1000 objects.
const MOST_PAGES: usize = 20;
/// Maximum size of a list page, in bytes.
const LARGEST: usize = 4 << 20;
/// Validity of a signature.
const GOOD_FOR: Duration = Duration::from_secs(300);

/// Objects found in the bucket.
#[derive(Default)]
struct Found {
    count: u64,
    newest: Option<(DateTime<Utc>, u64)>,
}

/// Runs the check.
pub async fn check(check: &S3Check, around: &CheckContext<'_>) -> Result<(), Failure> {
    let (found, _) = around.bounded(look(check, around)).await?;
    if let Some(count) = &check.count {
        around.held(Some(count), "the number of objects", &Actual::One(found.count.into()))?;
    }
    let Some((written_at, size)) = found.newest else {
        // An expectation on the count may be that there are no objects.
        if check.count.is_some() && check.age.is_none() && check.size.is_none() {
            return Ok(());
        }
        let key = around.values.fill(&check.key)?;
        return Err(Failure::new(Reason::Assertion, "no such object").compared(key, "nothing").at(check.key.span));
    };
    #[allow(clippy::cast_precision_loss)] // Milliseconds of some years.
    let age = (Utc::now() - written_at).num_milliseconds().max(0) as f64 / 1000.0;
    let what = format!("the age of the newest object in seconds, written {}", written_at.format("%F %T UTC"));
    around.held(check.age.as_ref(), &what, &Actual::One(age.into()))?;
    around.held(check.size.as_ref(), "the size of the newest object in bytes", &Actual::One(size.into()))
}

async fn look(check: &S3Check, around: &CheckContext<'_>) -> Result<Found, Failure> {
    let values = around.values;
    let text = values.fill(&check.bucket)?;
    let bad = |problem: &str| configuration("`s3`", &check.bucket, problem);
    let (endpoint, name) = bucket(&text).map_err(|problem| bad(&problem))?;
    if check.connection.trust.is_some() && endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http") {
        return Err(bad(&format!("`trust` {NEEDS_TLS}")));
    }
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let region = match &check.region {
        Some(region) => values.fill(region)?,
        None => "us-east-1".to_owned(),
    };
    let plain = !region.is_empty() && region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !plain {
        return Err(bad("the region is like eu-central-1"));
    }
    let (endpoint, style) = match endpoint {
        Some(endpoint) => (endpoint, UrlStyle::Path),
        None => {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let url =
                url::Url::parse(&format!("https://s3.{region}.{domain}")).map_err(|error| bad(&error.to_string()))?;
            // The wildcard certificate of the store covers only one level of names.
            (url, if name.contains('.') { UrlStyle::Path } else { UrlStyle::VirtualHost })
        }
    };
    let bucket = Bucket::new(endpoint, style, name, region).map_err(|error| bad(&error.to_string()))?;
    let credentials = match &check.credentials {
        Some(given) => {
            let (key, secret) = (values.fill(&given.access_key)?, values.fill(&given.secret_key)?);
            around.hide(&secret);
            Some(match &given.session_token {
                Some(token) => Credentials::new_with_token(key, secret, values.fill(token)?),
                None => Credentials::new(key, secret),
            })
        }
        None => None,
    };
    let key = values.fill(&check.key)?;
    match key.strip_suffix('*') {
        Some(prefix) => list(around, &plan, &bucket, credentials.as_ref(), prefix).await,
        None => head(around, &plan, &bucket, credentials.as_ref(), &key).await,
    }
}

/// Requests the metadata of one object.
async fn head(
    around: &CheckContext<'_>,
    plan: &ConnectionPlan,
    bucket: &Bucket,
    who: Option<&Credentials>,
    key: &str,
) -> Result<Found, Failure> {
    let (head, body) = send(around, plan, Method::HEAD, &bucket.head_object(who, key).sign(GOOD_FOR)).await?;
    if head.status == 404 {
        return Ok(Found::default());
    }
    good(&head, &body)?;
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let written_at = header("last-modified").and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    let size = header("content-length").and_then(|text| text.parse().ok());
    match (written_at, size) {
        (Some(at), Some(size)) => Ok(Found { count: 1, newest: Some((at.to_utc(), size)) }),
        _ => Err(Failure::new(Reason::Protocol, "the response does not contain the age and size of the object")),
    }
}

/// Lists all objects whose keys have the prefix.
async fn list(
    around: &CheckContext<'_>,
    plan: &ConnectionPlan,
    bucket: &Bucket,
    who: Option<&Credentials>,
    prefix: &str,
) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut next: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let mut action = bucket.list_objects_v2(who);
        action.with_prefix(prefix.to_owned());
        if let Some(token) = next.take() {
            action.with_continuation_token(token);
        }
        let (head, body) = send(around, plan, Method::GET, &action.sign(GOOD_FOR)).await?;
        good(&head, &body)?;
        let unread = |why: String| Failure::new(Reason::Protocol, format!("cannot parse the list of objects: {why}"));
        let page = ListObjectsV2::parse_response(&body).map_err(|error| unread(cut(&error.to_string(), 200)))?;
        for object in page.contents {
            let (Some(at), Some(size)) = (object.last_modified, object.size) else {
                return Err(unread("an object has no age or no size".to_owned()));
            };
            let at = DateTime::parse_from_rfc3339(&at).map_err(|error| unread(error.to_string()))?;
            found.count += 1;
            let this = (at.to_utc(), size);
            if found.newest.is_none_or(|newest| newest.0 < this.0) {
                found.newest = Some(this);
            }
        }
        next = page.next_continuation_token;
        if next.is_none() {
            return Ok(found);
        }
    }
    Err(Failure::new(Reason::TooLarge, format!("more than {} objects match; use a longer `key`", MOST_PAGES * 1000)))
}

/// Sends one request and returns the head of the response and the body as text.
async fn send(
    around: &CheckContext<'_>,
    plan: &ConnectionPlan,
    method: Method,
    url: &url::Url,
) -> Result<(ResponseHead, String), Failure> {
    let request = Request::builder()
        .method(method)
        .header("accept", "*/*")
        .header("user-agent", concat!("wachta/", env!("CARGO_PKG_VERSION")))
        .body(Full::default())
        .expect("every part of it is fixed");
    let (head, body) = around.fetch_over(plan, url, request, LARGEST).await?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

/// Returns a failure with the error message of the store, if there is one.
fn good(head: &ResponseHead, body: &str) -> Result<(), Failure> {
    if head.status.is_success() {
        return Ok(());
    }
    let between = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        Some(cut(rest.split_once(&format!("</{tag}>"))?.0, 200))
    };
    let status = head.status.as_str();
    let told = [between("Code"), between("Message")].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let seen = if told.is_empty() { status.to_owned() } else { format!("{status} {told}") };
    Err(Failure::new(Reason::Status, "the storage service rejected the request").compared("status 200", seen))
}
