//! `wachta alerts test`: sends a test notification to one receiver.

use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::config_file::agents_file;
use super::terminal::say_error;
use crate::app::{config, resolve, web_client, web_tls, zabbix_api};
use crate::incident::Event;
use crate::names::exit;
use crate::notify::{LOG, Links, NotifierServices, Receiver, TestNotification, send_test};
use crate::store::DeliveryStatus;
use crate::store::evidence::EvidenceFolder;

/// Arguments of `wachta alerts test`.
#[derive(clap::Args)]
pub(super) struct TestArgs {
    /// Name of the receiver in the agent configuration
    receiver: String,
    /// Agent configuration
    #[arg(long, value_name = "FILE", default_value = "wachta.yaml")]
    config: PathBuf,
}

/// Runs the command. The exit code is 0 if the receiver accepted all notifications, 1 if it did not, and 2 if the
/// receiver does not exist.
pub(super) async fn test(args: &TestArgs) -> u8 {
    match tried(args).await {
        Ok(trials) => {
            let mut out = std::io::stdout().lock();
            let taken = trials.iter().all(|trial| trial.delivery == DeliveryStatus::Delivered);
            for trial in &trials {
                // The reader of the output may be gone.
                let _ = writeln!(out, "{}", line(&args.receiver, trial));
            }
            if taken { exit::PASSED } else { exit::FAILED }
        }
        Err(text) => {
            say_error(&text);
            exit::USAGE
        }
    }
}

/// Describes the result of a test notification.
fn line(receiver: &str, trial: &TestNotification) -> String {
    let event = match trial.event {
        Event::Resolved => "the resolution of the test",
        _ => "the test",
    };
    match &trial.delivery {
        DeliveryStatus::Delivered => format!("{receiver} accepted {event}: {}", trial.response),
        DeliveryStatus::Retryable(problem) => format!("{receiver} did not accept {event}, but may later: {problem}"),
        DeliveryStatus::Uncertain(problem) => format!("{receiver} may have accepted {event}: {problem}"),
        DeliveryStatus::Failed(problem) => format!("{receiver} rejected {event}: {problem}"),
    }
}

async fn tried(args: &TestArgs) -> Result<Vec<TestNotification>, String> {
    let (config, receiver) = load(&args.config, &args.receiver)?;
    // There was no run, so no screenshot is attached.
    let client = web_client().map_err(|e| e.to_string())?;
    let tools = NotifierServices {
        client,
        evidence: EvidenceFolder::new(""),
        resolve: resolve(),
        tls: web_tls(),
        zabbix: zabbix_api(),
    };
    let links = Links::new(config.web.external_url.clone());
    Ok(send_test(&receiver, &links, &tools, &config.location, Utc::now()).await)
}

fn load(file: &Path, name: &str) -> Result<(config::Config, Receiver), String> {
    let config = agents_file(file)?;
    let receivers = &config.alerting.receivers;
    let found = receivers.iter().find(|receiver| receiver.name == name).cloned();
    let found = found.or_else(|| (name == LOG).then(|| Receiver { name: LOG.to_owned(), ..Receiver::default() }));
    match found {
        Some(receiver) => Ok((config, receiver)),
        None => {
            let known: Vec<&str> = receivers.iter().map(|receiver| receiver.name.as_str()).chain([LOG]).collect();
            Err(format!("no receiver `{name}` in {}; known receivers: {}", file.display(), known.join(", ")))
        }
    }
}
