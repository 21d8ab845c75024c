//! The agent's file: composed of the parts' own `Config` types.

use crate::{notify, run, sink, web};

/// The agent's file, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where this agent looks from.
    pub location: String,
    /// Files and folders of scenarios, relative to the agent's file.
    pub scenarios: Vec<String>,
    /// What scenarios may use of the agent's environment and files.
    pub allow: Allow,
    /// The store's URL: `sqlite:FILE` or `sqlite::memory:`.
    pub store: String,
    /// Where the agent listens.
    pub web: web::Config,
    /// Browsers.
    pub browser: run::browser::Config,
    /// Zabbix, where there is one.
    pub zabbix: Option<sink::zabbix::Config>,
    /// Who is told.
    pub alerting: notify::Alerting,
}

/// What scenarios may use. Each left out: none; files beside the scenario always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Names of variables, with `*` for any characters.
    pub env: Vec<String>,
    /// Files, or folders with a `/` at the end.
    pub files: Vec<String>,
}
