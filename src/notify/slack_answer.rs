//! Interpretation of the responses of Slack.

use std::time::Duration;

use super::DeliveryResult;
use super::exchange::{Reply, bounded};

/// Interprets a response: with status 200, the body contains the result.
pub(super) fn judge(reply: &Reply) -> DeliveryResult {
    if !reply.status.is_success() {
        return reply.judge();
    }
    let Some(body) = reply.json() else {
        // A webhook responds with `ok` in plain text.
        if reply.body.trim() == "ok" {
            return DeliveryResult::sent(reply.response());
        }
        return reply.taken();
    };
    if body["ok"] == true || body["success"] == true {
        return DeliveryResult::sent(reply.response());
    }
    let error = body["error"].as_str().unwrap_or_default();
    let problem = format!("the receiver returned status {}", reply.response());
    match error {
        "ratelimited" | "rate_limited" => {
            let response = body["retry_after"].as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            DeliveryResult::retryable(problem)
                .blocks_receiver(reply.retry_after.or(response.map(bounded)).or(Some(Duration::from_secs(30))))
        }
        "service_unavailable" | "team_added_to_org" | "ekm_access_denied" => {
            DeliveryResult::retryable(problem).blocks_receiver(None)
        }
        // A wrong token or channel can be corrected; the notification stays queued until then.
        error if MENDABLE.contains(&error) => {
            DeliveryResult::retryable(format!("{problem}; check its token and channel")).blocks_receiver(None)
        }
        "" if body["ok"].is_null() && body["success"].is_null() => reply.taken(),
        "" | "internal_error" | "fatal_error" | "request_timeout" => DeliveryResult::uncertain(problem),
        _ => DeliveryResult::failed(problem),
    }
}

/// Errors that end once the token, its permissions or the channel are corrected.
const MENDABLE: [&str; 18] = [
    "invalid_auth",
    "not_authed",
    "account_inactive",
    "token_expired",
    "token_revoked",
    "no_permission",
    "missing_scope",
    "not_allowed_token_type",
    "access_denied",
    "channel_not_found",
    "channel_is_archived",
    "is_archived",
    "not_in_channel",
    "restricted_action",
    "no_service",
    "no_team",
    "team_disabled",
    "action_prohibited",
];
