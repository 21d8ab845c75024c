//! Outcomes as documents of the Elastic Common Schema, sent to Elasticsearch or OpenSearch by `_bulk`
//! (<https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>,
//! <https://docs.opensearch.org/latest/api-reference/document-apis/bulk/>).
//!
//! Every document is created with a fixed id (that of the run, followed by the position for a step), so that a repeated
//! one receives status 409, which counts as accepted. The index template is created before the first batch. Responses
//! are interpreted in [`answer`] (pure). Lifecycle policies are deliberately not created, because they differ between
//! the two products and are the responsibility of the cluster's operators.

mod answer;
mod config;

use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

pub use config::{Authentication, Config, Target};

use super::ecs::document::documents;
use super::{Context, Event, HttpSettings, Limits, Sent, Sink, Size};
use crate::bounded::answer::{self as bounded, End, root};

/// Maximum number of documents in a batch.
const MAX_ROWS: usize = 2_000;
/// Approximate maximum size of a batch, in bytes; clusters reject requests above 100 MB.
const MAX_BYTES: usize = 8 << 20;
/// Maximum size of a response, in bytes. One item in it has about 300 bytes.
const MAX_ANSWER: usize = 16 << 20;
/// Timeout of a batch.
const DEADLINE: Duration = Duration::from_secs(60);

/// Elasticsearch sink.
struct Elasticsearch {
    config: Config,
    client: reqwest::Client,
    /// Time at which the template is created next, or `None` if it exists or is not configured.
    template_at: Option<Instant>,
}

/// Response of the cluster.
struct Reply {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Elasticsearch {
    /// Creates a request to a path of the cluster, with the credentials, which are read for each request.
    async fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, String> {
        let mut url: Url = self.config.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        let request = self.client.request(method, url);
        Ok(match &self.config.authentication {
            None => request,
            Some(Authentication::ApiKey(key)) => {
                let mut value = header::HeaderValue::try_from(format!("ApiKey {}", key.read().await?))
                    .map_err(|_| "the API key has characters that no header can have".to_owned())?;
                value.set_sensitive(true);
                request.header(header::AUTHORIZATION, value)
            }
            Some(Authentication::Basic(user, password)) => request.basic_auth(user, Some(password.read().await?)),
        })
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Reply, String> {
        let mut response = request.send().await.map_err(|error| root(&error.without_url()))?;
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| bounded::retry_after(text, Utc::now()));
        let status = response.status();
        let body = bounded::body(&mut response, MAX_ANSWER).await;
        match body.end {
            End::Whole => Ok(Reply { status, retry_after, body: body.bytes }),
            End::Cut => Err(format!("the response is larger than {MAX_ANSWER} bytes")),
            End::Broken(error) => Err(root(&error.without_url())),
        }
    }

    /// Creates the template of the index or data stream. An existing one of the same name is replaced.
    async fn put_template(&self) -> Result<Reply, String> {
        let path = format!("_index_template/{}", self.config.target.name());
        let request = self.request(Method::PUT, &path).await?;
        let request = request.header(header::CONTENT_TYPE, "application/json");
        self.exchange(request.body(template(&self.config.target).to_string())).await
    }
}

/// Returns the template of an index or data stream: strings are keywords, except messages; times and addresses have
/// their own types.
fn template(target: &Target) -> Value {
    let name = target.name();
    let mut body = json!({
        "index_patterns": [name],
        "priority": 200,
        "template": {
            "settings": {"index": {"mapping": {"total_fields": {"limit": 2000}}}},
            "mappings": {
                "dynamic_templates": [
                    {"texts": {"match_mapping_type": "string", "mapping": {"type": "keyword", "ignore_above": 1024}}}
                ],
                "properties": {
                    "@timestamp": {"type": "date_nanos"},
                    "event": {"properties": {
                        "start": {"type": "date_nanos"},
                        "end": {"type": "date_nanos"},
                        "duration": {"type": "long"}
                    }},
                    "error": {"properties": {"message": {"type": "text"}}},
                    "monitor": {"properties": {
                        "duration": {"properties": {"us": {"type": "long"}}},
                        "ip": {"type": "ip"},
                        "timespan": {"type": "date_range"}
                    }},
                    "state": {"properties": {"started_at": {"type": "date_nanos"}}},
                    "tls": {"properties": {
                        "certificate_not_valid_after": {"type": "date"},
                        "server": {"properties": {"x509": {"properties": {"not_after": {"type": "date"}}}}}
                    }},
                    "wachta": {"properties": {"due_at": {"type": "date_nanos"}}}
                }
            }
        }
    });
    if matches!(target, Target::DataStream(_)) {
        body["data_stream"] = json!({});
    }
    body
}

/// Returns the lines of a bulk request, and for each document the index of its event in the batch.
fn lines(batch: &[Event], target: &Target) -> (Vec<u8>, Vec<usize>) {
    let (mut lines, mut owner) = (Vec::new(), Vec::new());
    for (index, event) in batch.iter().enumerate() {
        for document in documents(event) {
            let action = json!({"create": {"_index": target.name(), "_id": document.id}});
            for line in [&action, &document.body] {
                serde_json::to_writer(&mut lines, line).expect("plain data becomes JSON");
                lines.push(b'\n');
            }
            owner.push(index);
        }
    }
    (lines, owner)
}

impl Config {
    /// Creates the sink.
    ///
    /// # Errors
    ///
    /// The file with root certificates cannot be read or contains none.
    pub fn build(&self, context: &Context) -> Result<Box<dyn Sink>, String> {
        let client = (context.http_client)(HttpSettings { roots: self.ca.as_deref(), ..HttpSettings::default() })?;
        let template_at = self.puts_template.then(Instant::now);
        Ok(Box::new(Elasticsearch { config: self.clone(), client, template_at }))
    }
}

#[async_trait]
impl Sink for Elasticsearch {
    fn limits(&self) -> Limits {
        Limits { rows: MAX_ROWS, bytes: MAX_BYTES, age: Duration::from_secs(1), deadline: DEADLINE }
    }

    fn measure(&self, event: &Event) -> Size {
        let rows = event.finished().map_or(1, |finished| 1 + finished.outcome.steps.len());
        Size { rows, bytes: rows * 1700 }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        let (lines, owner) = lines(batch, &self.config.target);
        let request = match self.request(Method::POST, "_bulk").await {
            Ok(request) => request.header(header::CONTENT_TYPE, "application/x-ndjson").body(lines),
            Err(reason) => return Sent::Retry { after: None, reason },
        };
        match self.exchange(request).await {
            Ok(reply) => answer::of_bulk(reply.status.as_u16(), reply.retry_after, &reply.body, &owner),
            Err(reason) => Sent::Retry { after: None, reason },
        }
    }

    fn upkeep_at(&self) -> Option<Instant> {
        self.template_at
    }

    async fn upkeep(&mut self) -> Sent {
        match self.put_template().await {
            Ok(reply) if reply.status.is_success() => {
                self.template_at = None;
                Sent::Taken
            }
            Ok(reply) => {
                let reason = answer::problem(reply.status.as_u16(), &reply.body);
                Sent::Retry { after: reply.retry_after, reason: format!("the index template was rejected: {reason}") }
            }
            Err(reason) => Sent::Retry { after: None, reason },
        }
    }
}

#[cfg(test)]
mod tests;
