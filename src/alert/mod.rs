//! Alerting: the pure pipeline from an outcome to a notification, with one file per stage, and the task that stores the
//! effects in group commits.

mod agent;
mod burn_rate;
mod changes;
mod committer;
mod conclusive_verdict;
mod effects;
mod fingerprint;
mod flapping;
mod group;
mod groups;
mod mute;
mod pipeline;
mod quorum;
mod rate_limit;
mod receiver_names;
pub mod replay;
mod routing;
mod slo;
pub mod state_machine;
mod suppression;
mod timers;

pub use burn_rate::{BurnRateRule, HistoryRange, RULES};
pub use committer::{Committer, CommitterHandle, Metrics, requests};
pub use effects::Effects;
pub use fingerprint::FailureFingerprint;
pub use pipeline::{Idle, Pipeline, Scenarios, runs_within};
pub use routing::{RouteMatch, route};

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
mod fixtures;
#[cfg(test)]
mod known_issue_tests;
#[cfg(test)]
mod presence_tests;
#[cfg(test)]
mod rate_limit_tests;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod slo_tests;
#[cfg(test)]
mod timeline_tests;
#[cfg(test)]
mod wide_tests;
