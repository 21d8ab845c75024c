//! Delivery of notifications: one file per kind of receiver, and the service that delivers the outbox.
//!
//! A notifier reports the result of an attempt and the delay that the receiver asked for. The service decides about
//! further attempts. A new kind of receiver needs a file here, its keys in the agent configuration, and a line in
//! [`notifier`].

mod alertmanager;
mod alerts;
mod config;
mod delivery_metrics;
mod delivery_result;
mod delivery_service;
mod delivery_task;
mod email;
mod ends;
mod exchange;
mod feedback;
mod headline;
mod links;
mod log;
mod message;
mod notifier;
mod ntfy;
mod outbound_heartbeat;
mod pagerduty;
mod pagerduty_poll;
mod retry;
mod services;
mod slack;
mod slack_answer;
mod slack_socket;
mod teams;
mod telegram;
pub mod template;
mod test_notification;
mod truncate;
mod webhook;
mod zabbix;
mod zabbix_access;

use std::sync::Arc;

pub use crate::bounded::credential;
use crate::diagnostic::credentials;
use crate::secret::Masker;

pub use config::{
    Alerting, Alertmanager, Begins, Causes, Email, Escalation, MailTls, Ntfy, PagerDuty, PagerDutyApi, Receiver,
    ReceiverKind, Route, Slack, Teams, Telegram, Webhook, WebhookFormat, Window, Zabbix, renamed,
};
pub use delivery_metrics::Metrics;
pub(crate) use delivery_result::DeliveryResult;
pub use delivery_service::DeliveryService;
pub use email::is_mailbox;
pub use feedback::{Feedback, OperatorAction};
pub use headline::headline;
pub use links::Links;
pub(crate) use notifier::Notifier;
pub use outbound_heartbeat::{OutboundHeartbeat, run_outbound_heartbeat};
pub use services::{NotifierServices, Resolve};
pub use test_notification::{TestNotification, send_test};
pub use zabbix::DEFAULT_INTERVAL as ZABBIX_INTERVAL;
pub use zabbix_access::{ZabbixAccess, ZabbixApi, ZabbixConnect};

/// Name of the built-in receiver that writes to the log.
pub const LOG: &str = "log";

/// Creates the notifier of a receiver.
fn notifier(receiver: &Receiver, links: &Links, tools: &NotifierServices) -> Box<dyn Notifier> {
    let wording = message::MessageRenderer::new(&receiver.templates, links);
    let client = tools.client.clone();
    match receiver.kind.clone() {
        ReceiverKind::Log => Box::new(log::Log { wording }),
        ReceiverKind::Webhook(config) => Box::new(webhook::WebhookNotifier { client, config, wording }),
        ReceiverKind::Alertmanager(config) => Box::new(alertmanager::AlertmanagerNotifier { client, config, wording }),
        ReceiverKind::PagerDuty(config) => Box::new(pagerduty::PagerDutyNotifier { client, config, wording }),
        ReceiverKind::Slack(config) => {
            let (evidence, resolve, tls) = (tools.evidence.clone(), Arc::clone(&tools.resolve), Arc::clone(&tools.tls));
            Box::new(slack::SlackNotifier { client, config, wording, evidence, resolve, tls })
        }
        ReceiverKind::Teams(config) => Box::new(teams::TeamsNotifier { client, config, wording }),
        ReceiverKind::Telegram(config) => Box::new(telegram::Bot { client, config, wording }),
        ReceiverKind::Email(config) => Box::new(email::EmailNotifier {
            config,
            wording,
            evidence: tools.evidence.clone(),
            resolve: Arc::clone(&tools.resolve),
        }),
        ReceiverKind::Ntfy(config) => Box::new(ntfy::NtfyNotifier { client, config, wording }),
        ReceiverKind::Zabbix(config) => Box::new(zabbix::Problems { config, connect: Arc::clone(&tools.zabbix) }),
    }
}

/// Returns a masker for all secrets that may occur in the responses of a receiver.
async fn masker(receiver: &Receiver) -> Masker {
    let masker = Masker::default();
    for credential in receiver.kind.credentials() {
        let Ok(value) = credential.read().await else { continue };
        masker.add(&value);
        for part in credentials::parts_of_url(&value) {
            masker.add(&part);
        }
    }
    masker
}

#[cfg(test)]
mod tests;
