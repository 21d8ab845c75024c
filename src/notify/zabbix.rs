//! Synchronization of acknowledgements with Zabbix, by its API.
//!
//! Zabbix shows problems by the triggers of wachta's template, one for each scenario, which are opened and resolved by
//! item values. Therefore this receiver does not create any: it writes an acknowledgement made here to the problem
//! (`event.acknowledge`), and reads those made there (`problem.get`, in rounds). A problem belongs to an incident if it
//! is open on the agent's host and has the tags `scope: availability` and `scenario: ID`.
//!
//! Polling is used because a webhook media type would require an action and a user's media in Zabbix, and a connection
//! from its server to the agent. A problem closed by hand in Zabbix does not resolve the incident here, because further
//! values would open the problem again.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::config::Zabbix;
use super::feedback::{AT_RECEIVER, FEEDBACK, FeedbackChannel};
use super::pagerduty_poll::{Alert, Failure, Standing, alert, carry_out, decide, keep, pause};
use super::zabbix_access::{ZabbixApi, ZabbixConnect};
use super::{DeliveryResult, Notifier, truncate};
use crate::incident::{Event, Notification};

/// Prefix of the messages that wachta writes to problems.
const OURS: &str = "wachta: ";
/// Name of the receiver kind, for the author of an action.
const PLACE: &str = "Zabbix";
/// Bit of an action that acknowledges the event.
const ACKNOWLEDGE: u64 = 2;
/// Bit of an action that adds a message.
const ADD_MESSAGE: u64 = 4;
/// Bit of an action that withdraws the acknowledgement.
const UNACKNOWLEDGE: u64 = 16;
/// Maximum number of characters of a person's name.
const MAX_NAME_CHARS: usize = 100;
/// Maximum length of a message in Zabbix, in characters.
const MAX_MESSAGE_CHARS: usize = 2_000;

/// Notifier that synchronizes acknowledgements.
pub(super) struct Problems {
    pub(super) config: Zabbix,
    pub(super) connect: ZabbixConnect,
}

impl Problems {
    async fn open(&self) -> Result<Box<dyn ZabbixApi>, String> {
        let access = self.config.access.clone().ok_or("`zabbix` in the agent configuration has no `api`")?;
        (self.connect)(access).await
    }

    /// Updates the open problems of scenarios; scenarios without a problem are skipped. Returns the number of problems.
    async fn write(&self, subjects: &[String], action: u64, message: &str) -> Result<usize, String> {
        let api = self.open().await?;
        let written = async {
            let problems = problems(&*api, &self.config.host).await?;
            let events: Vec<_> = problems.iter().filter(|problem| subjects.contains(&problem.scenario)).collect();
            let events: Vec<_> = events.into_iter().map(|problem| problem.event.clone()).collect();
            write(&*api, &events, action, message).await
        };
        let written = written.await;
        api.close().await;
        written
    }

    /// Checks the problems of all open incidents once.
    pub(super) async fn round(&self, channel: &FeedbackChannel) -> Result<(), Failure> {
        let stored =
            channel.stored().await.map_err(|error| Failure::new(format!("the store is not responding: {error}")))?;
        let open: Vec<(Alert<'_>, &Json)> =
            stored.iter().filter_map(|(key, state)| Some((alert(key, state)?, state))).collect();
        let notes = || stored.iter().filter_map(|(key, note)| Some((key.strip_prefix(FEEDBACK)?, note)));
        for (key, _) in notes().filter(|(key, _)| !open.iter().any(|(alert, _)| alert.key == *key)) {
            keep(channel, key, None).await?;
        }
        if open.is_empty() {
            return Ok(());
        }
        let api = self.open().await.map_err(Failure::new)?;
        let asked = async {
            let problems = problems(&*api, &self.config.host).await?;
            let mut changes = Vec::new();
            for (alert, state) in &open {
                let subjects = subjects(state);
                let of = || problems.iter().filter(|problem| subjects.contains(&problem.scenario.as_str()));
                // The problem may have opened after the acknowledgement.
                if let Some(by) = state["acknowledged_by"].as_str() {
                    let new: Vec<_> = of().filter(|one| !one.is_ours_known).map(|one| one.event.clone()).collect();
                    write(&*api, &new, ACKNOWLEDGE | ADD_MESSAGE, &acknowledged(by)).await?;
                    if !new.is_empty() {
                        continue;
                    }
                }
                let note = notes().find(|(key, _)| *key == alert.key).map(|(_, note)| note);
                let mut standing = standing(of());
                if let Standing::Acknowledged(user) = &standing {
                    standing = Standing::Acknowledged(name(&*api, user).await);
                }
                changes.extend(decide(*alert, note, &standing, PLACE).map(|change| (alert.key, change)));
            }
            Ok(changes)
        };
        let changes: Result<_, String> = asked.await;
        api.close().await;
        for (key, change) in changes.map_err(Failure::new)? {
            carry_out(channel, key, change, PLACE).await?;
        }
        Ok(())
    }
}

/// Author of a problem's acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Acknowledger {
    /// The problem is not acknowledged.
    Nobody,
    /// wachta acknowledged the problem.
    Wachta,
    /// A user, given by id, acknowledged the problem.
    User(String),
}

/// Open problem of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    event: String,
    scenario: String,
    /// Author of the acknowledgement.
    acknowledged: Acknowledger,
    /// Whether wachta has ever acknowledged the problem.
    is_ours_known: bool,
}

/// Reads the open problems of the scenarios of a host.
async fn problems(api: &dyn ZabbixApi, host: &str) -> Result<Vec<Problem>, String> {
    let hosts = api.call("host.get", json!({"filter": {"host": host}, "output": ["hostid"]})).await?;
    let Some(id) = hosts[0]["hostid"].as_str() else {
        return Err(format!("Zabbix has no host `{host}` that this user may read"));
    };
    let params = json!({
        "hostids": [id], "source": 0, "object": 0, "output": ["eventid", "acknowledged"], "selectTags": "extend",
        "selectAcknowledges": ["userid", "clock", "message", "action"],
        "tags": [{"tag": "scope", "value": "availability", "operator": 1}],
    });
    let found = api.call("problem.get", params).await?;
    Ok(found.as_array().into_iter().flatten().filter_map(problem).collect())
}

fn problem(json: &Json) -> Option<Problem> {
    let tags = json["tags"].as_array()?;
    let scenario = tags.iter().find(|tag| tag["tag"] == "scenario")?["value"].as_str()?;
    let number = |value: &Json| value.as_str().and_then(|text| text.parse().ok()).or(value.as_u64()).unwrap_or(0);
    let mut actions: Vec<&Json> = json["acknowledges"].as_array().into_iter().flatten().collect();
    actions.sort_by_key(|action| number(&action["clock"]));
    let is_ours = |action: &&Json| action["message"].as_str().is_some_and(|text| text.starts_with(OURS));
    let mut acknowledging = actions.into_iter().filter(|action| number(&action["action"]) & ACKNOWLEDGE != 0);
    let is_ours_known = acknowledging.clone().any(|action| is_ours(&action));
    let last = acknowledging.next_back().filter(|_| number(&json["acknowledged"]) == 1);
    let acknowledged = match last {
        None => Acknowledger::Nobody,
        Some(action) if is_ours(&action) => Acknowledger::Wachta,
        Some(action) => Acknowledger::User(number(&action["userid"]).to_string()),
    };
    let event = json["eventid"].as_str()?.to_owned();
    Some(Problem { event, scenario: scenario.to_owned(), acknowledged, is_ours_known })
}

/// Returns the state of an incident from its problems: acknowledged if all of them are.
fn standing<'a>(problems: impl Iterator<Item = &'a Problem>) -> Standing {
    let all: Vec<_> = problems.map(|problem| &problem.acknowledged).collect();
    let nobody = all.iter().filter(|by| ***by == Acknowledger::Nobody).count();
    let user = all.iter().find_map(|by| match by {
        Acknowledger::User(user) => Some(user.clone()),
        Acknowledger::Nobody | Acknowledger::Wachta => None,
    });
    match user {
        _ if all.is_empty() => Standing::Absent,
        _ if nobody == all.len() => Standing::Triggered,
        _ if nobody > 0 => Standing::Absent,
        Some(user) => Standing::Acknowledged(user),
        None => Standing::Automatic,
    }
}

/// Returns the name of a user, or its id if the API user may not read the name.
async fn name(api: &dyn ZabbixApi, user: &str) -> String {
    let params = json!({"userids": [user], "output": ["username", "name", "surname"]});
    let found = api.call("user.get", params).await.unwrap_or_default();
    let text = |field: &str| found[0][field].as_str().unwrap_or_default().trim().to_owned();
    let full = format!("{} {}", text("name"), text("surname")).trim().to_owned();
    let names = [full, text("username"), format!("user {user}")];
    let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    truncate::chars(&truncate::line(&name), MAX_NAME_CHARS)
}

async fn write(api: &dyn ZabbixApi, events: &[String], action: u64, message: &str) -> Result<usize, String> {
    if !events.is_empty() {
        let message = truncate::chars(message, MAX_MESSAGE_CHARS);
        api.call("event.acknowledge", json!({"eventids": events, "action": action, "message": message})).await?;
    }
    Ok(events.len())
}

fn acknowledged(by: &str) -> String {
    format!("{OURS}acknowledged by {by}")
}

/// Returns the scenarios of an incident's group from the receiver state.
fn subjects(state: &Json) -> Vec<&str> {
    state["subjects"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

#[async_trait]
impl Notifier for Problems {
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult {
        let incident = &notification.incident;
        let others = notification.others.iter().filter(|other| other.resolved_at.is_none()).map(|other| &other.subject);
        let subjects: Vec<String> = std::iter::once(&incident.subject).chain(others).map(ToString::to_string).collect();
        let mut state = json!({"key": notification.key, "subjects": subjects});
        if notification.event == Event::Resolved {
            state["over"] = true.into();
            return DeliveryResult::sent("Zabbix resolves its problem by itself").remember(state);
        }
        let there = receiver_state
            .map(|receiver_state| &receiver_state[AT_RECEIVER])
            .filter(|there| there["alert"] == notification.key);
        // An acknowledgement is only withdrawn in Zabbix if wachta wrote it.
        let is_written = receiver_state.is_some_and(|receiver_state| receiver_state["acknowledged_by"].is_string());
        let response = match &incident.acknowledged {
            Some(acknowledgement) => {
                state["acknowledged"] = true.into();
                if there.is_some() {
                    Ok("it was acknowledged in Zabbix".to_owned())
                } else {
                    let by = acknowledgement.author.as_str();
                    state["acknowledged_by"] = by.into();
                    if is_written {
                        Ok("it is acknowledged in Zabbix already".to_owned())
                    } else {
                        let written = self.write(&subjects, ACKNOWLEDGE | ADD_MESSAGE, &acknowledged(by)).await;
                        written.map(|count| format!("acknowledged {count} problems in Zabbix"))
                    }
                }
            }
            None if is_written && there.is_none() => {
                let message = format!("{OURS}the acknowledgement was withdrawn");
                let written = self.write(&subjects, UNACKNOWLEDGE | ADD_MESSAGE, &message).await;
                written.map(|count| format!("withdrew the acknowledgement of {count} problems in Zabbix"))
            }
            // There is nothing to write, but problems with the access are detected here.
            None => self.write(&[], 0, "").await.map(|_| "Zabbix opens its problem by itself".to_owned()),
        };
        match response {
            Ok(response) => DeliveryResult::sent(response).remember(state),
            Err(problem) => DeliveryResult::retryable(problem).blocks_receiver(None),
        }
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn has_feedback(&self) -> bool {
        true
    }

    async fn receive(&self, channel: &FeedbackChannel) {
        let (mut failures, mut reported) = (0_u32, None);
        loop {
            let problem = self.round(channel).await.err().map(|failure| failure.problem);
            failures = if problem.is_some() { failures.saturating_add(1) } else { 0 };
            // Each problem is logged once, and its end is logged once.
            if problem != reported {
                let receiver = &channel.receiver;
                match &problem {
                    Some(problem) => tracing::warn!(receiver, problem, "cannot read acknowledgements from Zabbix"),
                    None => tracing::info!(receiver, "reading acknowledgements from Zabbix works again"),
                }
                reported = problem;
            }
            tokio::time::sleep(pause(self.config.interval, failures, None)).await;
        }
    }
}

/// Polling interval if none is configured.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
