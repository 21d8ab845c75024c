//! Response of the server: the requested delay and the error message.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, header};
use serde_json::Value;

use crate::bounded::answer;

/// Maximum length of a stored reason, in characters.
const MAX_REASON: usize = 300;

/// Returns the delay requested by the server.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok())?;
    answer::retry_after(value, Utc::now())
}

/// Formats the status and the error message of the server on one line.
pub(super) fn said(status: StatusCode, body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = ["detail", "error", "message"].into_iter().find_map(|name| answer[name].as_str());
    let text = detail.map_or_else(|| String::from_utf8_lossy(body).into_owned(), ToOwned::to_owned);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_REASON).collect();
    if line.is_empty() { format!("status {}", status.as_u16()) } else { format!("status {}: {line}", status.as_u16()) }
}
