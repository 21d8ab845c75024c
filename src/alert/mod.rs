//! Alerting: the pure pipeline from an outcome to a notification, with one file per stage, and the task that stores the
//! effects in group commits.

mod agent;
mod budgets;
mod burn_rate;
mod changes;
mod committer;
mod conclusive_verdict;
mod context;
mod effects;
mod escalation;
mod evaluation;
mod fingerprint;
mod idle;
mod pipeline;
mod receiver_names;
pub mod replay;
mod routing;
mod slo;
mod stages;
mod states;
mod timers;

pub use burn_rate::{BurnRateRule, HistoryRange, RULES};
pub use committer::{Committer, CommitterHandle, Metrics, deferred_commands};
pub use context::Scenarios;
pub use effects::Effects;
pub use fingerprint::FailureFingerprint;
pub use idle::Idle;
pub use pipeline::{Pipeline, runs_within};
pub use routing::{RouteMatch, route};
pub use stages::evaluate::AlertState;

#[cfg(test)]
mod acceptance_tests;
#[cfg(test)]
mod attention_tests;
#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod connectivity_tests;
#[cfg(test)]
mod decision_tests;
#[cfg(test)]
mod dependency_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod flapping_tests;
#[cfg(test)]
mod known_issue_tests;
#[cfg(test)]
mod mute_tests;
#[cfg(test)]
mod notification_tests;
#[cfg(test)]
mod presence_tests;
#[cfg(test)]
mod rate_limit_tests;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod slo_tests;
#[cfg(test)]
mod timeline;
#[cfg(test)]
mod wide_tests;
