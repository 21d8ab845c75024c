//! `heartbeat` check: expects a check-in between the due time and the end of the grace.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::parts;
use crate::diagnostic::Spanned;
use crate::scenario::id::bad_id;
use crate::scenario::key::{ActionSpec, Shape, key};
use crate::scenario::model::Schedule;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("heartbeat", Shape::Text, "name of the check-in URL: /beat/NAME"),
    sibling_keys: &[key("grace", Shape::Duration, "how late the check-in may arrive (default: 5m)")],
};

/// Default grace.
const DEFAULT_GRACE: Duration = Duration::from_secs(300);

/// Heartbeat check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatCheck {
    /// Name of the check-in URL.
    pub name: Spanned<String>,
    /// Maximum delay of a check-in.
    pub grace: Duration,
}

impl HeartbeatCheck {
    /// Returns the earliest time at which a check-in counts for the evaluation at `judged_at`, which is the due time
    /// plus the grace. With a cron schedule, a check-in may come earlier than the due time by as much as the grace;
    /// with an interval, by one interval.
    pub fn window(&self, schedule: &Schedule, judged_at: DateTime<Utc>) -> DateTime<Utc> {
        let before = match schedule {
            Schedule::Every(every) => *every,
            Schedule::Cron { .. } => self.grace,
        };
        judged_at - delta(self.grace) - delta(before)
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<HeartbeatCheck> {
    let name = r.text(target, "`heartbeat`").filter(|name| {
        let problem = bad_id(name);
        if let Some(why) = &problem {
            r.fail(target.span, format!("`heartbeat`: not a valid name for check-ins: {why}"));
        }
        problem.is_none()
    });
    let grace = parts::given(fields, "grace", |node| r.duration(node, "`grace`"));
    Some(HeartbeatCheck { name: name?, grace: grace?.unwrap_or(DEFAULT_GRACE) })
}
