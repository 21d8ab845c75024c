//! Page steps over WebDriver: sessions, and what is done in them.
//!
//! [`Browsers`] hands out a fresh session for each run, a [`Page`]. Invariants: a session ends however its run ends,
//! with its processes and its folder; waiting is built into every action and bounded; what went wrong is told apart
//! into theirs and ours in one file. Deliberately absent: warm browsers, dialogs, windows, downloads, traffic.
//!
//! ```text
//! browsers ─ lease ─ driver ─ processes        a session and its end
//!                 └─ guard                     its end when the agent was killed
//! page ─ act · pointer · field · upload · script · expect · picture · evidence     what is done with it
//!     ├─ frame · locate ─ shown                which document and element it is done to
//!     └─ command ─ verdict                     what is said to the driver, and what its errors mean
//! ```

mod act;
mod browsers;
mod command;
mod config;
mod driver;
mod evidence;
mod expect;
mod field;
mod frame;
pub mod guard;
pub mod keys;
mod lease;
mod locate;
mod metrics;
mod page;
mod picture;
mod pointer;
mod processes;
mod script;
mod shown;
#[cfg(test)]
mod tests;
mod upload;
mod verdict;

pub use browsers::{Browsers, Spec};
pub use config::Config;
pub use metrics::Metrics;
pub use page::Page;
