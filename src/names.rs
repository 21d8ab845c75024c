//! Names that users, dashboards, rules and scripts depend on, each declared once.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $text:literal $class:ident;)*) => {
        /// Why an outcome is not `passed`: a bounded set, used as a metric label, in Zabbix, in the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The name others see.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// Which verdict it explains.
            pub fn class(self) -> ReasonClass {
                match self { $(Reason::$name => ReasonClass::$class,)* }
            }
        }
    };
}

/// Which verdict a [`Reason`] explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonClass {
    /// The target's fault.
    Failed,
    /// Our own fault.
    Unknown,
    /// A soft limit was missed.
    Degraded,
}

reasons! {
    /// The time for a step or the scenario ran out.
    Timeout "timeout" Failed;
    /// The answer's status was not the expected one.
    Status "status" Failed;
    /// An expectation did not hold.
    Assertion "assertion" Failed;
    /// `faster_than` was missed.
    Slow "slow" Failed;
    /// `give_up_if` held.
    GaveUp "gave_up" Failed;
    /// No element matched the target.
    NotFound "not_found" Failed;
    /// More than one element matched the target.
    Ambiguous "ambiguous" Failed;
    /// A name was used that no step of this run saved.
    MissingValue "missing_value" Failed;
    /// The name did not resolve.
    Dns "dns" Failed;
    /// No connection.
    Connect "connect" Failed;
    /// The TLS handshake failed.
    Tls "tls" Failed;
    /// The certificate is not trusted, not for this name, or about to expire.
    Certificate "certificate" Failed;
    /// The answer broke its protocol.
    Protocol "protocol" Failed;
    /// The answer was larger than allowed.
    TooLarge "too_large" Failed;
    /// A `script` step threw.
    Script "script" Failed;
    /// Errors on the page's console.
    Console "console" Failed;
    /// Failed requests of the page.
    Requests "requests" Failed;
    /// A download did not come or was not the expected one.
    Download "download" Failed;
    /// The page killed its renderer.
    Crash "crash" Failed;
    /// A heartbeat did not come.
    Heartbeat "heartbeat" Failed;
    /// A command exited with an error.
    Exec "exec" Failed;

    /// The browser did not start or went away.
    Browser "browser" Unknown;
    /// The agent's own script failed in the page.
    Inspection "inspection" Unknown;
    /// The WebDriver endpoint did not start or went away.
    Driver "driver" Unknown;
    /// Something that this machine lacks: memory, file descriptors, ports, processes, a free browser session.
    Resources "resources" Unknown;
    /// Our own network was down.
    Network "network" Unknown;
    /// The store did not answer.
    Store "store" Unknown;
    /// Something of ours is not set up: a variable, a file, a right.
    Configuration "configuration" Unknown;
    /// The agent went away during the run.
    Lost "lost" Unknown;
    /// A defect of wachta itself.
    Panic "panic" Unknown;
    /// A heartbeat that was never seen yet.
    NotSeen "not_seen" Unknown;
    /// The agent was not awake in the window.
    Asleep "asleep" Unknown;

    /// A soft budget was missed.
    Budget "budget" Degraded;
    /// A step under `finally` failed.
    Finally "finally" Degraded;
    /// Another selector than the first one was needed.
    Drift "drift" Degraded;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Exit codes of `wachta run` and `wachta check`.
pub mod exit {
    /// All passed or degraded.
    pub const PASSED: u8 = 0;
    /// A scenario failed, also when others were unknown.
    pub const FAILED: u8 = 1;
    /// Bad usage, or a file that does not load.
    pub const USAGE: u8 = 2;
    /// None failed, and at least one could not be tested.
    pub const UNKNOWN: u8 = 3;
}

/// Where the agent listens when nothing else is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9815";

/// What keys of silences and maintenance begin with, among all that alerting remembers in the store.
pub const MUTES: &str = "mute/";

/// What keys of requests begin with that were left in the store for the next start of an agent.
pub const REQUESTS: &str = "request/";

/// HTTP paths.
pub mod path {
    /// The page.
    pub const PAGE: &str = "/";
    /// What Prometheus scrapes: `?scenario=ID`, `?tag=KEY:VALUE` and `?part=agent` select a part.
    pub const METRICS: &str = "/metrics";
    /// 200 while the process runs.
    pub const HEALTHY: &str = "/-/healthy";
    /// 200 once the first catalog is loaded, 503 before and while draining.
    pub const READY: &str = "/-/ready";
    /// POST: load the files anew.
    pub const RELOAD: &str = "/-/reload";
    /// Someone who must call in does so, followed by a name, and perhaps `/start`, `/fail` or an exit code.
    pub const BEAT: &str = "/beat/";
    /// A probe as `blackbox_exporter` makes it: `?target=&module=&hostname=&debug=`.
    pub const PROBE: &str = "/probe";
    /// The modules of `/probe` in effect.
    pub const CONFIG: &str = "/config";
    /// The log of one of the last probes: `?id=`.
    pub const LOGS: &str = "/logs";
    /// One scenario, followed by its id.
    pub const SCENARIO: &str = "/scenario/";
    /// One run, followed by its id.
    pub const RUN: &str = "/run/";
    /// One incident, followed by its id.
    pub const INCIDENT: &str = "/incident/";
    /// Incidents, the open ones first; followed by a key and `/ack`: taking one over.
    pub const API_INCIDENTS: &str = "/api/v1/incidents";
    /// Decisions, followed by the id of a scenario or the key of an incident.
    pub const API_WHY: &str = "/api/v1/why";
    /// Silences and maintenance that people asked for; followed by an id: ending one.
    pub const API_SILENCES: &str = "/api/v1/silences";
    /// How the agent and its sinks are.
    pub const API_STATUS: &str = "/api/v1/status";
    /// Opens a window of maintenance.
    pub const API_MAINTENANCE: &str = "/api/v1/maintenance";
    /// A piece of evidence, followed by run id and file name.
    pub const EVIDENCE: &str = "/evidence/";
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up; starts at 0.
    Counter,
    /// Counts in buckets.
    Histogram,
}

/// A metric as others see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with the unit.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its labels, without those that every scenario metric has.
    pub labels: &'static [&'static str],
    /// One line of help.
    pub help: &'static str,
}

/// Metrics of wachta. Those that begin with `SCENARIO`, `STEP`, `HTTP`, `TLS`, `WEB` or `SLO` have the labels
/// `scenario` and `location` as well.
pub mod metric {
    use super::{Metric, MetricKind};

    /// Labels of every scenario metric.
    pub const SCENARIO_LABELS: [&str; 2] = ["scenario", "location"];

    /// Upper bounds of duration buckets, in seconds. Few, since each one is a series of every scenario: a scraper that
    /// asks for protobuf gets a native histogram beside them.
    pub const DURATION_BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

    /// Upper bounds of the buckets of the schedule lag, in seconds.
    pub const LAG_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

    /// How much is exported of each scenario: `metrics.detail`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Detail {
        /// What dashboards and rules need of a scenario.
        Basic,
        /// The histogram of durations, steps, phases, web vitals and the objective as well.
        Full,
    }

    /// Metrics of scenarios that are exported at [`Detail::Basic`] too. The certificate is then that of the step whose
    /// certificate expires first.
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
            /// Every metric that wachta exports.
            pub const ALL: &[&Metric] = &[$(&$id,)*];
        };
    }

    metrics! {
        SCENARIO_INFO "wachta_scenario_info" Gauge ["name", "kind", "schedule", "severity"] "Always 1: what is known of a scenario.";
        SCENARIO_SUCCESS "wachta_scenario_success" Gauge [] "1 if the last conclusive run passed or was degraded, 0 if it failed.";
        SCENARIO_VERDICT "wachta_scenario_verdict" Gauge ["verdict"] "1 for the verdict of the last run, 0 for the others.";
        SCENARIO_DURATION "wachta_scenario_duration_seconds" Gauge [] "Duration of the last run.";
        SCENARIO_RUN_DURATION "wachta_scenario_run_duration_seconds" Histogram [] "Durations of the runs.";
        SCENARIO_RUNS "wachta_scenario_runs_total" Counter ["verdict"] "Runs by verdict.";
        SCENARIO_FAILURES "wachta_scenario_failures_total" Counter ["reason"] "Failed runs by reason.";
        SCENARIO_UNKNOWNS "wachta_scenario_unknowns_total" Counter ["reason"] "Runs that could not test their target, by reason.";
        SCENARIO_DEGRADATIONS "wachta_scenario_degradations_total" Counter ["reason"] "Degraded runs by reason.";
        SCENARIO_LAST_RUN "wachta_scenario_last_run_timestamp_seconds" Gauge [] "When the last run ended.";
        SCENARIO_LAST_SUCCESS "wachta_scenario_last_success_timestamp_seconds" Gauge [] "When the last run that passed or was degraded ended.";
        STEP_SUCCESS "wachta_step_success" Gauge ["step"] "1 if the step passed in the last run that reached it, 0 if it failed.";
        STEP_DURATION "wachta_step_duration_seconds" Gauge ["step"] "Duration of the step in the last run that reached it.";
        HTTP_PHASE_DURATION "wachta_http_phase_duration_seconds" Gauge ["step", "phase"] "Duration of a part of the step's request, summed over its redirects.";
        HTTP_STATUS_CODE "wachta_http_status_code" Gauge ["step"] "Status code of the step's answer.";
        TLS_CERTIFICATE_EXPIRY "wachta_tls_certificate_expiry_timestamp_seconds" Gauge ["step"] "When the certificate that the step saw expires.";
        WEB_VITAL "wachta_web_vital_seconds" Gauge ["step", "vital"] "Web vital of the page that the step opened in the last run that reached it.";
        WEB_VITAL_LAYOUT_SHIFT "wachta_web_vital_layout_shift" Gauge ["step"] "Cumulative layout shift of the page that the step opened in the last run that reached it.";
        SLO_OBJECTIVE "wachta_slo_objective_ratio" Gauge [] "The share of runs that is not to fail, by the scenario's objective.";
        SLO_BUDGET_REMAINING "wachta_slo_error_budget_remaining_ratio" Gauge [] "The share of the failures that the objective allows within its window that is left; below 0 when there were more.";
        SCENARIOS "wachta_scenarios" Gauge ["state"] "Scenarios that are loaded, that are paused, and files or scenarios that were refused.";
        INCIDENTS_OPEN "wachta_incidents_open" Gauge ["severity"] "Open incidents.";
        NOTICES_SENT "wachta_notices_sent_total" Counter ["receiver"] "Notices that the receiver took.";
        NOTICES_FAILED "wachta_notices_failed_total" Counter ["receiver"] "Tries to send a notice that failed.";
        NOTICES_SUPPRESSED "wachta_notices_suppressed_total" Counter ["reason"] "Bad outcomes that led to no notice.";
        SCHEDULE_LAG "wachta_schedule_lag_seconds" Histogram [] "From the due time of a run to its start.";
        SCHEDULE_SKIPPED "wachta_schedule_skipped_total" Counter ["cause"] "Due runs that were not started.";
        BROWSER_SESSIONS "wachta_browser_sessions" Gauge ["state"] "Browser sessions.";
        BROWSER_WAITING "wachta_browser_waiting_runs" Gauge ["cause"] "Runs that wait: for a free session, or for memory to start one.";
        BROWSER_WAIT "wachta_browser_wait_seconds" Histogram [] "How long runs waited for a browser, the start of one included.";
        BROWSER_SESSIONS_STARTED "wachta_browser_sessions_started_total" Counter [] "Browser sessions that were started.";
        BROWSER_SANDBOX "wachta_browser_sandbox" Gauge [] "Whether browsers have a sandbox (1 or 0): Chromium has none when the agent runs as root.";
        BROWSER_SESSIONS_REAPED "wachta_browser_sessions_reaped_total" Counter ["cause"] "Browser sessions that did not end by themselves and were ended.";
        SINK_QUEUE_LENGTH "wachta_sink_queue_length" Gauge ["sink"] "Outcomes that the destination does not have yet, in memory and in the store.";
        SINK_SENT "wachta_sink_sent_total" Counter ["sink"] "Outcomes that the destination took.";
        SINK_FAILED "wachta_sink_failed_total" Counter ["sink"] "Tries to send that failed.";
        SINK_REFUSED "wachta_sink_refused_total" Counter ["sink"] "Outcomes that the destination refused for good and that were set aside.";
        SINK_DROPPED "wachta_sink_dropped_total" Counter ["sink"] "Outcomes that were given up, those that were refused included.";
        STORE_AVAILABLE "wachta_store_available" Gauge [] "1 while the store takes what is written, 0 while it is away and memory holds it.";
        STORE_WAITING "wachta_store_waiting_outcomes" Gauge [] "Outcomes in memory that are not written to the store yet.";
        STORE_ROWS_REFUSED "wachta_store_rows_refused_total" Counter [] "Rows that the store refused for good and that were set aside.";
        SERIES_OMITTED "wachta_series_omitted_total" Counter [] "Series of steps that were not exported, counted in each run, since their scenario has as many as it may have.";
        TASK_RESTARTS "wachta_task_restarts_total" Counter ["task"] "Tasks of the agent that ended by a defect and were started again.";
        STALLED "wachta_agent_stalled" Gauge ["part"] "1 while a part of the agent has not moved for ten seconds.";
        CONFIG_RELOAD_SUCCESSFUL "wachta_config_last_reload_successful" Gauge [] "1 if the last load of the files took everything, 0 if something was refused.";
        CONFIG_RELOAD_TIMESTAMP "wachta_config_last_reload_success_timestamp_seconds" Gauge [] "When the files were last loaded without a problem.";
        BUILD_INFO "wachta_build_info" Gauge ["version", "revision"] "Always 1: which wachta this is.";
    }
}

impl metric::Detail {
    /// The word that the agent's file uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Full => "full",
        }
    }

    /// Maximum number of series of a scenario, those of its steps aside.
    pub fn max_series(self) -> usize {
        match self {
            Self::Basic => 12,
            Self::Full => 30,
        }
    }
}

/// Why a due run was not started: the label `cause` of `wachta_schedule_skipped_total`.
pub mod skipped {
    /// The one before still runs.
    pub const OVERLAP: &str = "overlap";
    /// The due time passed while the agent was not running or was stopped.
    pub const MISSED: &str = "missed";
    /// Every cause there is.
    pub const ALL: [&str; 4] = [OVERLAP, "capacity", "paused", MISSED];
}

/// Why a bad outcome led to no notice: the label `reason` of `wachta_notices_suppressed_total`.
pub mod suppressed {
    /// The verdict was `unknown`: our own fault.
    pub const OWN_FAULT: &str = "own_fault";
    /// Not yet as many bad runs as `alert.after` asks for.
    pub const COUNT: &str = "count";
    /// The incident is open and its notice is sent or owed.
    pub const REPEAT: &str = "repeat";
    /// It opens and resolves over and over, which was told.
    pub const FLAPPING: &str = "flapping";
    /// A scenario that it depends on fails as well, or has still to be looked at.
    pub const DEPENDENCY: &str = "dependency";
    /// A window of maintenance.
    pub const MAINTENANCE: &str = "maintenance";
    /// Somebody silenced it.
    pub const SILENCE: &str = "silence";
    /// Somebody has taken it over: no reminder.
    pub const ACKNOWLEDGED: &str = "acknowledged";
    /// Bad, but at fewer locations than have to agree.
    pub const QUORUM: &str = "quorum";
    /// It joined the notice of another incident with the same cause.
    pub const CAUSE: &str = "cause";
    /// It was over before its group had gathered.
    pub const GROUP: &str = "group";
    /// The receiver was told as often as it wants to be within an hour.
    pub const LIMIT: &str = "limit";
    /// Every reason there is.
    pub const ALL: [&str; 12] = [
        OWN_FAULT,
        QUORUM,
        COUNT,
        FLAPPING,
        DEPENDENCY,
        MAINTENANCE,
        SILENCE,
        ACKNOWLEDGED,
        CAUSE,
        GROUP,
        REPEAT,
        LIMIT,
    ];
}
