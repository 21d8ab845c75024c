//! Alerting: the pure pipeline from an outcome to a notification, with one file per stage, and the task that stores the
//! effects in group commits.

mod agent;
mod burn;
mod cause;
mod changes;
mod committer;
mod effects;
mod flapping;
mod group;
mod groups;
mod hold;
mod limit;
pub mod machine;
mod mute;
mod pipeline;
mod policy;
mod quorum;
pub mod replay;
mod slo;
mod timers;

pub use burn::{RULES, Rule, Span};
pub use cause::Cause;
pub use committer::{Answer, Committer, Intake, Metrics, requests};
pub use effects::Effects;
pub use mute::Mute;
pub use pipeline::{Idle, Pipeline, Request, Scenarios, runs_within};
pub use policy::{Routed, route};

#[cfg(test)]
mod acceptance_tests;
#[cfg(test)]
mod attention_tests;
#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod complaint_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod presence_tests;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod slo_tests;
#[cfg(test)]
mod timeline_tests;
#[cfg(test)]
mod why_tests;
#[cfg(test)]
mod wide_tests;
