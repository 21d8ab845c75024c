//! Judging outcomes: the pure machine, who is told, and the task that writes both in one group commit.

mod committer;
pub mod machine;
mod policy;

pub use committer::{Committer, Intake, Metrics};
pub use policy::receivers;
