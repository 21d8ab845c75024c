//! Page steps over WebDriver: sessions, and what is done in them.
//!
//! [`Browsers`] hands out a [`Page`] for each run: a user of its own in a warm browser, or a browser of its own.
//! Invariants: a session ends however its run ends, with its processes and its folder; nothing of one run is visible to
//! the next; waiting is built into every action and bounded; what went wrong is told apart into theirs and ours in one
//! file, what differs from driver to driver stands in one file.
//!
//! ```text
//! browsers ─ session ─ lease ─ driver ─ processes   a pool of sessions, and their end
//!     ├─ ports                                      where drivers listen, closed to pages and requests
//!     │          │         └─ guard                 their end when the agent was killed
//!     │          └─ bidi ─ watch ─ observe          what is heard of a browser
//!     ├─ spec                                       what a run wants of its browser
//!     └─ trust                                      roots that a browser begins with
//! page ─ act · pointer · field · upload · script · dialog · window · expect · picture · evidence   what is done with it
//!     ├─ overlay                                    what gets in the way of it
//!     ├─ frame · locate ─ shown · cookie            which document and element it is done to
//!     │            └─ world                         where our own scripts run
//!     └─ command ─ verdict · engine                 what is said to the driver, and what its errors mean
//! ```

mod act;
mod bidi;
mod browsers;
mod command;
mod config;
mod cookie;
mod dialog;
mod driver;
mod engine;
mod evidence;
mod expect;
mod field;
mod filmstrip;
mod frame;
pub mod guard;
mod heard;
pub mod keys;
mod lease;
mod locate;
mod metrics;
mod observe;
mod overlay;
mod page;
mod picture;
mod pointer;
mod ports;
mod processes;
mod script;
mod session;
mod shown;
mod spec;
#[cfg(test)]
mod tests;
mod trust;
mod upload;
mod verdict;
mod watch;
mod window;
mod world;

pub use browsers::Browsers;
pub use config::Config;
pub use metrics::Metrics;
pub use observe::{
    CHANNEL as VITALS_CHANNEL, ConsoleError, DocumentStatus, Download, DownloadStatus, FailedRequest, Observed,
    SCRIPT as VITALS_SCRIPT,
};
pub use page::Page;
pub use processes::out_of_memory_kills;
pub use spec::Spec;
pub use trust::Roots;
