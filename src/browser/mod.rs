//! Browser steps over WebDriver: sessions and the actions performed in them.
//!
//! [`BrowserPool`] provides a [`Page`] for each run: a user context in a warm browser, or a browser of its own.
//! Invariants: a session ends, with its processes and its folder, however its run ends; nothing of one run is visible
//! to the next; every action waits by itself, for a limited time. The distinction between failures of the target and
//! agent faults is made in one file, and all differences between drivers are in another one.
//!
//! ```text
//! browsers ─ session ─ lease ─ driver ─ processes   pool of sessions and their cleanup
//!     ├─ ports                                      ports of drivers, closed to pages and requests
//!     │          │         └─ guard                 cleanup after a killed agent
//!     │          └─ bidi ─ watch ─ observe          events of the browser
//!     ├─ spec                                       browser settings of a run
//!     └─ trust                                      additional trusted roots
//! page ─ act · pointer · field · upload · script · dialog · window · expect · picture · evidence   actions on the page
//!     ├─ overlay                                    overlays that obstruct steps
//!     ├─ frame · locate ─ shown · cookie            document and element of an action
//!     │            └─ world                         isolated world of the agent's scripts
//!     └─ command ─ verdict · engine                 commands to the driver, classification of its errors
//! ```

mod act;
mod bidi;
mod command;
mod config;
mod cookie;
mod describe;
mod dialog;
mod driver;
mod element_command;
mod engine;
mod environment;
mod errors;
mod event_expectation;
mod event_tracker;
mod evidence;
mod expect;
mod field;
mod filmstrip;
mod frame;
pub mod guard;
pub mod keys;
mod lease;
mod locate;
mod metrics;
mod observe;
mod overlay;
mod page;
mod picture;
mod place;
mod pointer;
mod pool;
mod ports;
mod processes;
mod script;
mod session;
mod spec;
#[cfg(test)]
mod tests;
mod trust;
mod typed;
mod upload;
mod window;
mod world;

pub use config::Config;
pub use metrics::Metrics;
pub use observe::{
    CHANNEL as VITALS_CHANNEL, ConsoleError, DocumentStatus, Download, DownloadStatus, FailedRequest, Observed,
    SCRIPT as VITALS_SCRIPT,
};
pub use page::Page;
pub use pool::BrowserPool;
pub use processes::out_of_memory_kills;
pub use spec::ContextOptions;
pub use trust::Roots;
