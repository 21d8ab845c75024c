//! Page steps over WebDriver: sessions, and what is done in them.
//!
//! [`Browsers`] hands out a fresh session for each run, a [`Page`]. Invariants: a session ends however its run ends,
//! with its processes and its folder; waiting is built into every action and bounded; what went wrong is told apart
//! into theirs and ours in one file. Deliberately absent: warm browsers, frames, dialogs, windows, downloads, traffic.
//!
//! ```text
//! browsers ─ lease ─ driver ─ processes        a session and its end
//!                 └─ guard                     its end when the agent was killed
//! page ─ act · look · expect · evidence        what is done with it
//!     └─ command ─ verdict                     what is said to the driver, and what its errors mean
//! ```

mod act;
mod browsers;
mod command;
mod config;
mod driver;
mod evidence;
mod expect;
pub mod guard;
pub mod keys;
mod lease;
mod locate;
mod metrics;
mod observe;
mod page;
mod processes;
#[cfg(test)]
mod tests;
mod verdict;

pub use browsers::{Browsers, Spec};
pub use config::Config;
pub use metrics::Metrics;
pub use observe::{
    CHANNEL as VITALS_CHANNEL, ConsoleError, DocumentStatus, Download, DownloadStatus, FailedRequest, Observed,
    SCRIPT as VITALS_SCRIPT,
};
pub use page::Page;
