//! Resolution of issues through the API of the server, Sentry or Bugsink.
//!
//! An issue is found by the tag with its failure fingerprint. Sentry supports a search by tag
//! (<https://docs.sentry.io/api/events/list-a-projects-issues/>); the API of Bugsink does not, so the newest events of
//! its unresolved issues are examined.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::config::Api;
use super::item::{CAUSE, cause_id};
use super::reply::{retry_after, said};
use crate::bounded::answer::{self, End};

/// Maximum size of a response, in bytes: a page of issues, or one event.
const MAX_ANSWER: usize = 8 << 20;
/// Maximum number of unresolved Bugsink issues to examine, most recent first.
const MAX_ISSUES: usize = 50;

/// Resolves the unresolved issues with this failure fingerprint, and returns their number.
pub(super) async fn resolve(client: &reqwest::Client, api: &Api, cause: &str) -> Result<usize, Problem> {
    let token = api.token.read().await.map_err(Problem::away)?;
    let server = Server { client, api, token };
    match &api.organization {
        Some(organization) => server.resolve_in_sentry(organization, cause).await,
        None => server.resolve_in_bugsink(cause).await,
    }
}

/// Failure of an API request.
#[derive(Debug)]
pub(super) struct Problem {
    /// Error message of the server, or a description of the failed request.
    pub reason: String,
    /// Delay before the next attempt, if the server requests one.
    pub after: Option<Duration>,
    /// Whether a retry would not help.
    pub is_final: bool,
}

impl Problem {
    fn away(reason: String) -> Self {
        Self { reason, after: None, is_final: false }
    }
}

struct Server<'a> {
    client: &'a reqwest::Client,
    api: &'a Api,
    token: String,
}

impl Server<'_> {
    async fn resolve_in_sentry(&self, organization: &str, cause: &str) -> Result<usize, Problem> {
        let query = format!("is:unresolved {CAUSE}:{}", cause_id(cause));
        let path = format!("api/0/projects/{organization}/{}/issues/", self.api.project);
        let found = self.call(Method::GET, &path, &[("query", &query)], None).await?;
        let ids: Vec<&str> = found.as_array().into_iter().flatten().filter_map(|issue| issue["id"].as_str()).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let ids: Vec<(&str, &str)> = ids.into_iter().map(|id| ("id", id)).collect();
        let path = format!("api/0/projects/{organization}/{}/issues/", self.api.project);
        self.call(Method::PUT, &path, &ids, Some(json!({"status": "resolved"}))).await?;
        Ok(ids.len())
    }

    async fn resolve_in_bugsink(&self, cause: &str) -> Result<usize, Problem> {
        let wanted = cause_id(cause);
        let query = [("project", self.api.project.as_str()), ("sort", "last_seen"), ("order", "desc")];
        let issues = self.call(Method::GET, "api/canonical/0/issues/", &query, None).await?;
        let mut resolved = 0;
        let issues = issues["results"].as_array().into_iter().flatten().filter(|issue| issue["is_resolved"] != true);
        for id in issues.filter_map(|issue| issue["id"].as_str()).take(MAX_ISSUES) {
            let query = [("issue", id), ("order", "desc")];
            let events = self.call(Method::GET, "api/canonical/0/events/", &query, None).await?;
            let Some(event) = events["results"][0]["id"].as_str() else { continue };
            let event = self.call(Method::GET, &format!("api/canonical/0/events/{event}/"), &[], None).await?;
            if event["data"]["tags"][CAUSE] == wanted {
                self.call(Method::POST, &format!("api/canonical/0/issues/{id}/resolve/"), &[], None).await?;
                resolved += 1;
            }
        }
        Ok(resolved)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, Problem> {
        let mut url = self.api.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let mut response = request.send().await.map_err(|error| Problem::away(answer::root(&error.without_url())))?;
        let after = retry_after(response.headers());
        let status = response.status();
        let body = answer::body(&mut response, MAX_ANSWER).await;
        if let End::Broken(error) = body.end {
            return Err(Problem::away(answer::root(&error.without_url())));
        }
        if status.is_success() {
            return Ok(serde_json::from_slice(&body.bytes).unwrap_or_default());
        }
        let said = said(status, &body.bytes);
        // Problems that an operator can correct and temporary problems are retried.
        let is_final = status.is_client_error()
            && !matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::NOT_FOUND
                    | StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_MANY_REQUESTS
            );
        Err(Problem { reason: format!("cannot resolve the issue: {said}"), after, is_final })
    }
}
