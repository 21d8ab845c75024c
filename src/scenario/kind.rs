//! Kind of a scenario.

use serde::{Deserialize, Serialize};

/// Kind of a scenario as a whole; the label `kind` of `wachta_scenario_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScenarioKind {
    /// A flow with at least one page step.
    Browser,
    /// A flow of requests, without page steps.
    Api,
    /// One `http` check.
    Http,
    /// One `tcp` check.
    Tcp,
    /// One `tls` check.
    Tls,
    /// One `dns` check.
    Dns,
    /// One `ping` check.
    Ping,
    /// One `postgres` check.
    Postgres,
    /// One `redis` check.
    Redis,
    /// One `grpc` check.
    Grpc,
    /// One `websocket` check.
    Websocket,
    /// One `ntp` check.
    Ntp,
    /// One `s3` check.
    S3,
    /// One `heartbeat` check.
    Heartbeat,
    /// One `exec` check.
    Exec,
}

impl ScenarioKind {
    /// Returns the external name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Api => "api",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Ping => "ping",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Grpc => "grpc",
            Self::Websocket => "websocket",
            Self::Ntp => "ntp",
            Self::S3 => "s3",
            Self::Heartbeat => "heartbeat",
            Self::Exec => "exec",
        }
    }
}
