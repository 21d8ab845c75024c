//! External names that users, dashboards, rules and scripts depend on, each declared once.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $text:literal $class:ident;)*) => {
        /// Reason of a verdict other than `passed`: one of a bounded set, used as a metric label, in Zabbix and in the
        /// API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// Returns the external name.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// Returns the class of the verdict that the reason explains.
            pub fn class(self) -> ReasonClass {
                match self { $(Reason::$name => ReasonClass::$class,)* }
            }
        }
    };
}

/// Verdict that a [`Reason`] explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonClass {
    /// A failure of the target.
    Failed,
    /// An agent fault.
    Unknown,
    /// A violated soft limit.
    Degraded,
}

reasons! {
    /// The timeout of a step or the scenario expired.
    Timeout "timeout" Failed;
    /// The status of the response was not the expected one.
    Status "status" Failed;
    /// An expectation did not hold.
    Assertion "assertion" Failed;
    /// The limit of `faster_than` was exceeded.
    Slow "slow" Failed;
    /// The conditions of `give_up_if` held.
    GaveUp "gave_up" Failed;
    /// No element matched the locator.
    NotFound "not_found" Failed;
    /// More than one element matched the locator.
    Ambiguous "ambiguous" Failed;
    /// A reference named a value that no step of this run has saved.
    MissingValue "missing_value" Failed;
    /// The host name could not be resolved.
    Dns "dns" Failed;
    /// No connection could be established.
    Connect "connect" Failed;
    /// The TLS handshake failed.
    Tls "tls" Failed;
    /// The certificate is not trusted, not valid for this name, or about to expire.
    Certificate "certificate" Failed;
    /// The response violated its protocol.
    Protocol "protocol" Failed;
    /// The response exceeded the maximum size.
    TooLarge "too_large" Failed;
    /// A `script` step threw an exception.
    Script "script" Failed;
    /// The console of the page contained errors.
    Console "console" Failed;
    /// Requests of the page failed.
    Requests "requests" Failed;
    /// A download did not arrive or did not match the expectation.
    Download "download" Failed;
    /// The page crashed its renderer.
    Crash "crash" Failed;
    /// A check-in of a heartbeat did not arrive.
    Heartbeat "heartbeat" Failed;
    /// A command exited with an error.
    Exec "exec" Failed;

    /// The browser did not start or terminated unexpectedly.
    Browser "browser" Unknown;
    /// The agent's own script failed in the page.
    Inspection "inspection" Unknown;
    /// The WebDriver endpoint did not start or terminated unexpectedly.
    Driver "driver" Unknown;
    /// The machine lacked a resource: memory, file descriptors, ports, processes, or a free browser session.
    Resources "resources" Unknown;
    /// The network of the agent was down.
    Network "network" Unknown;
    /// The store did not respond.
    Store "store" Unknown;
    /// The agent is not set up completely: a variable, a file or a permission is missing.
    Configuration "configuration" Unknown;
    /// The agent terminated during the run.
    Lost "lost" Unknown;
    /// A defect of wachta itself.
    Panic "panic" Unknown;
    /// No check-in of the heartbeat has ever arrived.
    NotSeen "not_seen" Unknown;
    /// The agent was suspended during the check-in window.
    Asleep "asleep" Unknown;

    /// A limit of `budget` was exceeded.
    Budget "budget" Degraded;
    /// A step under `finally` failed.
    Finally "finally" Degraded;
    /// A fallback locator matched instead of the first one.
    Drift "drift" Degraded;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Exit codes of `wachta run` and `wachta check`.
pub mod exit {
    /// All scenarios passed or degraded.
    pub const PASSED: u8 = 0;
    /// A scenario failed, regardless of unknown ones.
    pub const FAILED: u8 = 1;
    /// Invalid arguments, or a file that cannot be loaded.
    pub const USAGE: u8 = 2;
    /// No scenario failed, and at least one was unknown.
    pub const UNKNOWN: u8 = 3;
}

/// Default address of the web server.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9815";

/// Prefix of the store keys of silences and maintenance windows in the alerting state.
pub const MUTES: &str = "mute/";

/// Prefix of the store keys of commands deferred until the next start of an agent.
pub const REQUESTS: &str = "request/";

/// HTTP paths.
pub mod path {
    /// Overview page.
    pub const PAGE: &str = "/";
    /// Metrics for Prometheus: `?scenario=ID`, `?tag=KEY:VALUE` and `?part=agent` select a part.
    pub const METRICS: &str = "/metrics";
    /// Health: 200 while the process runs.
    pub const HEALTHY: &str = "/-/healthy";
    /// Readiness: 200 once the first catalog is loaded, 503 before and while draining.
    pub const READY: &str = "/-/ready";
    /// Reload of the files (POST).
    pub const RELOAD: &str = "/-/reload";
    /// Check-ins of heartbeats, followed by a name and optionally `/start`, `/fail` or an exit code.
    pub const BEAT: &str = "/beat/";
    /// Probe compatible with `blackbox_exporter`: `?target=&module=&hostname=&debug=`.
    pub const PROBE: &str = "/probe";
    /// Modules of `/probe` in effect.
    pub const CONFIG: &str = "/config";
    /// Log of a recent probe: `?id=`.
    pub const LOGS: &str = "/logs";
    /// Page of a scenario, followed by its id.
    pub const SCENARIO: &str = "/scenario/";
    /// Page of a run, followed by its id.
    pub const RUN: &str = "/run/";
    /// Page of an incident, followed by its dedup key.
    pub const INCIDENT: &str = "/incident/";
    /// Incidents, open ones first; followed by a key and `/ack`: acknowledgement of an incident.
    pub const API_INCIDENTS: &str = "/api/v1/incidents";
    /// Decisions, followed by the id of a scenario or the key of an incident.
    pub const API_WHY: &str = "/api/v1/why";
    /// Silences and maintenance windows created by operators; followed by an id: end of a silence.
    pub const API_SILENCES: &str = "/api/v1/silences";
    /// Status of the agent and its sinks.
    pub const API_STATUS: &str = "/api/v1/status";
    /// Creation of maintenance windows.
    pub const API_MAINTENANCE: &str = "/api/v1/maintenance";
    /// Piece of evidence, followed by run id and file name.
    pub const EVIDENCE: &str = "/evidence/";
}

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A value that increases and decreases.
    Gauge,
    /// A value that only increases, starting at 0.
    Counter,
    /// Counts per bucket.
    Histogram,
}

/// Metric as exported.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, including the unit.
    pub name: &'static str,
    /// Type of the metric.
    pub kind: MetricKind,
    /// Labels, except those of every scenario metric.
    pub labels: &'static [&'static str],
    /// Help text in one line.
    pub help: &'static str,
}

/// Metrics of wachta. Those that begin with `SCENARIO`, `STEP`, `HTTP`, `TLS`, `WEB` or `SLO` also have the labels
/// `scenario` and `location`.
pub mod metric {
    use super::{Metric, MetricKind};

    /// Labels of every scenario metric.
    pub const SCENARIO_LABELS: [&str; 2] = ["scenario", "location"];

    /// Upper bounds of duration buckets, in seconds. Their number is small because each one is a time series per
    /// scenario; a scraper that requests protobuf receives a native histogram as well.
    pub const DURATION_BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

    /// Upper bounds of the buckets of the schedule lag, in seconds.
    pub const LAG_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

    /// Amount of metrics exported per scenario: `metrics.detail`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Detail {
        /// Only the metrics that dashboards and rules need.
        Basic,
        /// Additionally the duration histogram, steps, phases, web vitals and the objective.
        Full,
    }

    /// Scenario metrics that are also exported at [`Detail::Basic`]. In that case the certificate metric covers the
    /// step whose certificate expires first.
    pub const BASIC: [&Metric; 12] = [
        &SCENARIO_INFO,
        &SCENARIO_SUCCESS,
        &SCENARIO_VERDICT,
        &SCENARIO_DURATION,
        &SCENARIO_RUNS,
        &SCENARIO_FAILURES,
        &SCENARIO_UNKNOWNS,
        &SCENARIO_DEGRADATIONS,
        &SCENARIO_LAST_RUN,
        &SCENARIO_LAST_SUCCESS,
        &TLS_CERTIFICATE_EXPIRY,
        &SLO_BUDGET_REMAINING,
    ];

    macro_rules! metrics {
        ($($id:ident $name:literal $kind:ident [$($label:literal),*] $help:literal;)*) => {
            $(#[doc = $help] pub const $id: Metric = Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help };)*
            /// All metrics exported by wachta.
            pub const ALL: &[&Metric] = &[$(&$id,)*];
        };
    }

    metrics! {
        SCENARIO_INFO "wachta_scenario_info" Gauge ["name", "kind", "schedule", "severity"] "Scenario metadata; always 1.";
        SCENARIO_SUCCESS "wachta_scenario_success" Gauge [] "1 if the last conclusive run passed or was degraded, 0 if it failed.";
        SCENARIO_VERDICT "wachta_scenario_verdict" Gauge ["verdict"] "1 for the verdict of the last run, 0 for the others.";
        SCENARIO_DURATION "wachta_scenario_duration_seconds" Gauge [] "Duration of the last run.";
        SCENARIO_RUN_DURATION "wachta_scenario_run_duration_seconds" Histogram [] "Run durations.";
        SCENARIO_RUNS "wachta_scenario_runs_total" Counter ["verdict"] "Runs by verdict.";
        SCENARIO_FAILURES "wachta_scenario_failures_total" Counter ["reason"] "Failed runs by reason.";
        SCENARIO_UNKNOWNS "wachta_scenario_unknowns_total" Counter ["reason"] "Unknown runs by reason.";
        SCENARIO_DEGRADATIONS "wachta_scenario_degradations_total" Counter ["reason"] "Degraded runs by reason.";
        SCENARIO_LAST_RUN "wachta_scenario_last_run_timestamp_seconds" Gauge [] "End time of the last run.";
        SCENARIO_LAST_SUCCESS "wachta_scenario_last_success_timestamp_seconds" Gauge [] "End time of the last run that passed or was degraded.";
        STEP_SUCCESS "wachta_step_success" Gauge ["step"] "1 if the step passed in the last run that reached it, 0 if it failed.";
        STEP_DURATION "wachta_step_duration_seconds" Gauge ["step"] "Duration of the step in the last run that reached it.";
        HTTP_PHASE_DURATION "wachta_http_phase_duration_seconds" Gauge ["step", "phase"] "Duration of a phase of the step's request, summed over its redirects.";
        HTTP_STATUS_CODE "wachta_http_status_code" Gauge ["step"] "Status code of the step's response.";
        TLS_CERTIFICATE_EXPIRY "wachta_tls_certificate_expiry_timestamp_seconds" Gauge ["step"] "Expiry time of the certificate presented to the step.";
        WEB_VITAL "wachta_web_vital_seconds" Gauge ["step", "vital"] "Web vital of the page that the step opened in the last run that reached it.";
        WEB_VITAL_LAYOUT_SHIFT "wachta_web_vital_layout_shift" Gauge ["step"] "Cumulative layout shift of the page that the step opened in the last run that reached it.";
        SLO_OBJECTIVE "wachta_slo_objective_ratio" Gauge [] "Objective as a ratio of successful runs.";
        SLO_BUDGET_REMAINING "wachta_slo_error_budget_remaining_ratio" Gauge [] "Remaining share of the error budget within the objective's window; negative if it is exceeded.";
        SCENARIOS "wachta_scenarios" Gauge ["state"] "Loaded scenarios, paused scenarios, and rejected files or scenarios.";
        INCIDENTS_OPEN "wachta_incidents_open" Gauge ["severity"] "Open incidents.";
        NOTIFICATIONS_SENT "wachta_notifications_sent_total" Counter ["receiver"] "Notifications delivered.";
        NOTIFICATIONS_FAILED "wachta_notifications_failed_total" Counter ["receiver"] "Failed delivery attempts.";
        NOTIFICATIONS_SUPPRESSED "wachta_notifications_suppressed_total" Counter ["reason"] "Bad outcomes that caused no notification.";
        SCHEDULE_LAG "wachta_schedule_lag_seconds" Histogram [] "Time from the due time of a run to its start.";
        SCHEDULE_SKIPPED "wachta_schedule_skipped_total" Counter ["cause"] "Skipped due runs.";
        BROWSER_SESSIONS "wachta_browser_sessions" Gauge ["state"] "Browser sessions.";
        BROWSER_WAITING "wachta_browser_waiting_runs" Gauge ["cause"] "Runs waiting for a browser session, or for memory to start one.";
        BROWSER_WAIT "wachta_browser_wait_seconds" Histogram [] "Time that runs waited for a browser, including its start.";
        BROWSER_SESSIONS_STARTED "wachta_browser_sessions_started_total" Counter [] "Browser sessions started.";
        BROWSER_SANDBOX "wachta_browser_sandbox" Gauge [] "Whether browsers have a sandbox (1 or 0): Chromium has none when the agent runs as root.";
        BROWSER_SESSIONS_REAPED "wachta_browser_sessions_reaped_total" Counter ["cause"] "Browser sessions that had to be ended by force.";
        SINK_QUEUE_LENGTH "wachta_sink_queue_length" Gauge ["sink"] "Queue length: outcomes not delivered to the destination yet, in memory and in the store.";
        SINK_SENT "wachta_sink_sent_total" Counter ["sink"] "Outcomes delivered to the destination.";
        SINK_FAILED "wachta_sink_failed_total" Counter ["sink"] "Failed send attempts.";
        SINK_REFUSED "wachta_sink_refused_total" Counter ["sink"] "Outcomes rejected permanently by the destination and set aside.";
        SINK_DROPPED "wachta_sink_dropped_total" Counter ["sink"] "Outcomes dropped, including rejected ones.";
        STORE_AVAILABLE "wachta_store_available" Gauge [] "1 while the store accepts writes, 0 while it is unavailable and outcomes are kept in memory.";
        STORE_WAITING "wachta_store_waiting_outcomes" Gauge [] "Outcomes in memory not written to the store yet.";
        STORE_ROWS_REFUSED "wachta_store_rows_refused_total" Counter [] "Rows rejected permanently by the store and set aside.";
        SERIES_OMITTED "wachta_series_omitted_total" Counter [] "Step series not exported because their scenario reached its limit, counted per run.";
        TASK_RESTARTS "wachta_task_restarts_total" Counter ["task"] "Tasks of the agent restarted after an internal error.";
        STALLED "wachta_agent_stalled" Gauge ["part"] "1 while a part of the agent has not responded for ten seconds.";
        CONFIG_RELOAD_SUCCESSFUL "wachta_config_last_reload_successful" Gauge [] "1 if the last load accepted all files, 0 if something was rejected.";
        CONFIG_RELOAD_TIMESTAMP "wachta_config_last_reload_success_timestamp_seconds" Gauge [] "Time of the last load of the files without a problem.";
        BUILD_INFO "wachta_build_info" Gauge ["version", "revision"] "Version of wachta; always 1.";
    }
}

impl metric::Detail {
    /// Returns the name in the agent configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Full => "full",
        }
    }

    /// Returns the maximum number of time series of a scenario, without those of its steps.
    pub fn max_series(self) -> usize {
        match self {
            Self::Basic => 12,
            Self::Full => 30,
        }
    }
}

/// Causes of a skipped run: the label `cause` of `wachta_schedule_skipped_total`.
pub mod skipped {
    /// The previous run is still in progress.
    pub const OVERLAP: &str = "overlap";
    /// The due time passed while the agent was not running or was suspended.
    pub const MISSED: &str = "missed";
    /// All causes.
    pub const ALL: [&str; 4] = [OVERLAP, "capacity", "paused", MISSED];
}

/// Reasons why a bad outcome caused no notification: the label `reason` of `wachta_notifications_suppressed_total`.
pub mod suppressed {
    /// The verdict was `unknown` because of an agent fault.
    pub const AGENT_FAULT: &str = "agent_fault";
    /// There were fewer bad runs than `alert.after` requires.
    pub const BELOW_THRESHOLD: &str = "below_threshold";
    /// The incident is open, and its notification is delivered or queued.
    pub const ALREADY_OPEN: &str = "already_open";
    /// The incident opens and resolves repeatedly, and a notification of that has been sent.
    pub const FLAPPING: &str = "flapping";
    /// A scenario that this one depends on fails as well, or a run of it is pending.
    pub const DEPENDENCY: &str = "dependency";
    /// A maintenance window is active.
    pub const MAINTENANCE: &str = "maintenance";
    /// A silence is active.
    pub const SILENCE: &str = "silence";
    /// The incident is acknowledged, so no reminder is sent.
    pub const ACKNOWLEDGED: &str = "acknowledged";
    /// The runs were bad at fewer locations than the quorum requires.
    pub const QUORUM: &str = "quorum";
    /// The incident joined the notification of another one with the same failure fingerprint.
    pub const GROUPED: &str = "grouped";
    /// The incident was resolved before the group wait ended.
    pub const RESOLVED_EARLY: &str = "resolved_early";
    /// The rate limit of the receiver was reached.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// All reasons.
    pub const ALL: [&str; 12] = [
        AGENT_FAULT,
        QUORUM,
        BELOW_THRESHOLD,
        FLAPPING,
        DEPENDENCY,
        MAINTENANCE,
        SILENCE,
        ACKNOWLEDGED,
        GROUPED,
        RESOLVED_EARLY,
        ALREADY_OPEN,
        RATE_LIMITED,
    ];
}
