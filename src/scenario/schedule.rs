//! Schedule of a scenario.

use std::fmt;
use std::time::Duration;

use super::pretty::HumanDuration;

/// Schedule of a scenario. The next due times are computed in `timing`.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// A fixed interval, with a phase derived from a hash of the id.
    Every(Duration),
    /// Cron expression (Unix rules) in a time zone.
    Cron {
        /// Expression as written in the file.
        expression: String,
        /// Time zone of the expression.
        timezone: chrono_tz::Tz,
    },
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {}", HumanDuration(*every)),
            Self::Cron { expression, timezone } => write!(f, "cron {expression} {timezone}"),
        }
    }
}
