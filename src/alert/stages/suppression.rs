//! Suppression of the notifications of an open incident by a dependency or a mute. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::alert::fingerprint::FailureFingerprint;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{DecisionReason, Subject};
use crate::names::suppressed;

/// Prefix of the store keys of suppressed incidents.
pub const PREFIX: &str = "held/";

/// Maximum time that an incident is suppressed while the dependencies of its scenario are run.
pub const PARENT_RUN_TIMEOUT: TimeDelta = TimeDelta::seconds(30);

/// Reason why an incident is suppressed at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// A parent has not run since the failure; it is run at once, and its outcome is awaited until a fixed time.
    #[serde(rename = "look")]
    ParentPending {
        /// Parent scenario.
        parent: Subject,
        /// Time at which the incident is notified regardless of the parent.
        until: DateTime<Utc>,
    },
    /// A parent fails as well, which explains the incident.
    #[serde(rename = "down")]
    ParentFailing {
        /// Parent scenario.
        parent: Subject,
    },
    /// A mute is active.
    Muted {
        /// Id of the mute.
        mute: String,
        /// End of the mute.
        until: DateTime<Utc>,
    },
    /// The suppression ended; a bad run that starts afterwards causes a notification.
    #[serde(rename = "since")]
    Released {
        /// End of the suppression.
        at: DateTime<Utc>,
    },
}

impl Suppression {
    /// Returns the time at which the suppression has to be checked again at the latest.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::ParentPending { until, .. } | Self::Muted { until, .. } => Some(*until),
            Self::ParentFailing { .. } | Self::Released { .. } => None,
        }
    }

    /// Returns the parent whose next run decides about the suppression.
    pub fn parent(&self) -> Option<&Subject> {
        match self {
            Self::ParentPending { parent, .. } | Self::ParentFailing { parent } => Some(parent),
            Self::Muted { .. } | Self::Released { .. } => None,
        }
    }
}

/// Suppression with the decision to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuppressionDetail {
    /// The suppression.
    pub hold: Suppression,
    /// Reason of the decision.
    pub reason: DecisionReason,
    /// Figures behind the reason.
    pub detail: String,
}

impl SuppressionDetail {
    /// Returns the reason under which the suppression is counted in the metrics.
    pub fn suppressed(&self) -> &'static str {
        match self.reason {
            DecisionReason::Maintenance => suppressed::MAINTENANCE,
            DecisionReason::Silence => suppressed::SILENCE,
            _ => suppressed::DEPENDENCY,
        }
    }
}

/// Suppressed incident, with the data needed to notify of it later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressedIncident {
    /// Current suppression.
    pub hold: Suppression,
    /// Start of the bad run. Only parent runs that started after it count.
    pub began: DateTime<Utc>,
    /// Failure fingerprint of the incident.
    pub cause: FailureFingerprint,
    /// `alert.remind` of the scenario.
    pub remind: Option<std::time::Duration>,
    /// Note for the notification.
    pub note: Option<String>,
}

impl Timers for SuppressedIncident {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        visit(Timer::Since(&mut self.began));
        match &mut self.hold {
            Suppression::ParentPending { until, .. } => visit(Timer::Due(until)),
            Suppression::Released { at } => visit(Timer::Since(at)),
            // The end of a mute is adjusted together with the mute itself.
            Suppression::ParentFailing { .. } | Suppression::Muted { .. } => {}
        }
    }
}
