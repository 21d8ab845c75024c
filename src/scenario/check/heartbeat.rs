//! `heartbeat`: someone must call in, from when it is due until some grace later.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::diagnostic::At;
use crate::scenario::keys::{Kind, Shape, key};
use crate::scenario::model::Schedule;
use crate::scenario::naming;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::Node;

/// Its keys.
pub const KIND: Kind = Kind {
    key: key("heartbeat", Shape::Text, "the name under which someone calls in: /beat/NAME"),
    beside: &[key("grace", Shape::Duration, "how late the call may come; default 5m")],
};

/// How late a call may come when nothing is said.
const DEFAULT_GRACE: Duration = Duration::from_secs(300);

/// A heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatCheck {
    /// The name under which someone calls in.
    pub name: At<String>,
    /// How late the call may come.
    pub grace: Duration,
}

impl HeartbeatCheck {
    /// From when on a call counts for the judgement of `judged_at`, which is due time and grace. By a clock: as much
    /// before the due time as it may come later. At an interval: one interval.
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
        let problem = naming::bad_id(name);
        if let Some(why) = &problem {
            r.fail(target.span, format!("`heartbeat`: this is not a name to call in under: {why}"));
        }
        problem.is_none()
    });
    let grace = super::given(fields, "grace", |node| r.duration(node, "`grace`"));
    Some(HeartbeatCheck { name: name?, grace: grace?.unwrap_or(DEFAULT_GRACE) })
}
