//! Interpretation of the responses of a cluster. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::sink::{Refusal, Sent};

/// Maximum length of the part of a response that is stored as a reason, in characters.
const MAX_REASON: usize = 300;

/// Interprets the response to a bulk request. `owner` contains the index of the event in the batch for each document.
///
/// A document that exists already was accepted before. Only status 400 is caused by the document itself (it does not
/// match the mapping). A problem that affects every document (no index, no permission, an overloaded or read-only
/// cluster) leads to a retry of the whole batch, for which documents accepted before receive status 409.
pub(super) fn of_bulk(status: u16, retry_after: Option<Duration>, body: &[u8], owner: &[usize]) -> Sent {
    let retry = |reason: String| Sent::Retry { after: retry_after, reason };
    match status {
        200 => {}
        413 => return Sent::Refused(problem(status, body)),
        _ => return retry(problem(status, body)),
    }
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return retry("the response to _bulk is not JSON".into());
    };
    if answer["errors"] == false {
        return Sent::Taken;
    }
    let Some(items) = answer["items"].as_array().filter(|items| items.len() == owner.len()) else {
        return retry("the response to _bulk does not have an item for each document".into());
    };
    let mut refusals: Vec<Refusal> = Vec::new();
    for (item, index) in items.iter().zip(owner) {
        let item = item.as_object().and_then(|item| item.values().next()).unwrap_or(item);
        match item["status"].as_u64() {
            Some(200..=299 | 409) => {}
            Some(400) => {
                let is_known = refusals.last().is_some_and(|refusal| refusal.index == *index);
                if !is_known {
                    refusals.push(Refusal { index: *index, reason: reason(&item["error"]), for_now: false });
                }
            }
            Some(status) => return retry(format!("status {status} for a document: {}", reason(&item["error"]))),
            None => return retry("an item of the response to _bulk has no status".into()),
        }
    }
    if refusals.is_empty() { Sent::Taken } else { Sent::Partial(refusals) }
}

/// Describes the problem of a request that was rejected as a whole.
pub(super) fn problem(status: u16, body: &[u8]) -> String {
    let error = serde_json::from_slice::<Value>(body).map(|body| body["error"].clone()).unwrap_or_default();
    match status {
        _ if !error.is_null() => format!("status {status}: {}", reason(&error)),
        401 => "status 401: the credentials are missing or not accepted".into(),
        403 => "status 403: the credentials do not permit this".into(),
        _ => format!("status {status}"),
    }
}

/// Returns the reason of an error as reported by the cluster, with its cause.
fn reason(error: &Value) -> String {
    let of = |error: &Value| error["reason"].as_str().map(str::to_owned);
    let text = match (of(error), of(&error["caused_by"]), error.as_str()) {
        (Some(reason), Some(cause), _) => format!("{reason}: {cause}"),
        (Some(reason), None, _) => reason,
        (None, _, Some(text)) => text.to_owned(),
        (None, _, None) => "no reason is given".to_owned(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Checks the response to a batch of two events, of which the first has two documents.
    fn check(status: u16, body: &Value, expected: &str) {
        let after = Some(Duration::from_secs(7));
        let shown = match of_bulk(status, after, body.to_string().as_bytes(), &[0, 0, 1]) {
            Sent::Taken => "taken".to_owned(),
            Sent::Retry { after: seen, reason } => {
                assert_eq!(seen, after);
                format!("retry: {reason}")
            }
            Sent::Refused(reason) => format!("refused: {reason}"),
            Sent::Partial(refusals) => {
                let refusal = |refusal: &Refusal| {
                    assert!(!refusal.for_now);
                    format!("{} {}", refusal.index, refusal.reason)
                };
                refusals.iter().map(refusal).collect::<Vec<_>>().join("; ")
            }
        };
        assert_eq!(shown, expected, "{status} {body}");
    }

    fn items(statuses: [u16; 3]) -> Value {
        let item = |status: &u16| match status {
            200..=299 => json!({"create": {"status": status}}),
            _ => {
                json!({"create": {"status": status, "error": {"type": "t", "reason": "no", "caused_by": {"reason": "why"}}}})
            }
        };
        json!({"errors": true, "items": statuses.iter().map(item).collect::<Vec<_>>()})
    }

    #[test]
    fn answers_to_a_bulk_request_are_understood() {
        check(200, &json!({"errors": false, "items": []}), "taken");
        // A document that exists already was sent before.
        check(200, &items([201, 409, 201]), "taken");
        // An invalid document is set aside once, with its event.
        check(200, &items([400, 400, 201]), "0 no: why");
        check(200, &items([201, 201, 400]), "1 no: why");
        check(200, &items([201, 400, 400]), "0 no: why; 1 no: why");
        // A problem that affects every document is not caused by the document.
        check(200, &items([400, 429, 201]), "retry: status 429 for a document: no: why");
        check(200, &items([404, 404, 404]), "retry: status 404 for a document: no: why");
        check(200, &items([201, 403, 201]), "retry: status 403 for a document: no: why");
        check(200, &items([503, 201, 201]), "retry: status 503 for a document: no: why");
        let short = json!({"errors": true, "items": [{"create": {"status": 201}}]});
        check(200, &short, "retry: the response to _bulk does not have an item for each document");
        check(200, &json!("busy"), "retry: the response to _bulk does not have an item for each document");
        check(401, &json!({"error": {"reason": "who are you"}}), "retry: status 401: who are you");
        check(429, &json!({"error": "slow down"}), "retry: status 429: slow down");
        check(401, &json!(null), "retry: status 401: the credentials are missing or not accepted");
        check(403, &json!(null), "retry: status 403: the credentials do not permit this");
        check(503, &json!(null), "retry: status 503");
        check(400, &json!({"error": {}}), "retry: status 400: no reason is given");
        check(413, &json!(null), "refused: status 413");
    }
}
