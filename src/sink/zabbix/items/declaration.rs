//! Declaration of the Zabbix items of an agent, its scenarios and their steps, from which templates and prototypes are
//! generated, and which determines the documents of runs. Pure.
//!
//! Only the values of [`Source::Sent`] are sent. The other items depend on the document of the run (`wachta.run`), so
//! that all of them refer to the same run and have its time.

/// Value type of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Floating point number.
    Float,
    /// Text of at most 255 characters.
    Char,
    /// Non-negative integer.
    Unsigned,
    /// Text of any length.
    Text,
}

impl ValueType {
    /// Returns the number of the type in the API (`value_type` of items).
    pub fn number(self) -> &'static str {
        match self {
            Self::Float => "0",
            Self::Char => "1",
            Self::Unsigned => "3",
            Self::Text => "4",
        }
    }
}

/// Source of the values of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The agent sends the values (trapper item).
    Sent,
    /// The values are part of the run's document (item that depends on `wachta.run`).
    Run {
        /// JSON path in the document.
        path: &'static str,
        /// Regular expression of values to discard.
        left_out: Option<&'static str>,
        /// Whether every document contains the value. A document without it produces no value.
        is_always_there: bool,
    },
}

/// Scenarios that have an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All scenarios.
    Every,
    /// Scenarios for which discovery sets this macro to 1; it is 0 for all others.
    Macro(&'static str),
}

/// Item, or item prototype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Key without parameters.
    pub key: &'static str,
    /// Last parameter of the key, after those of the scenario and the step.
    pub parameter: Option<&'static str>,
    /// Name, after the names of the scenario and the step.
    pub name: &'static str,
    /// Value type of the item.
    pub value_type: ValueType,
    /// Unit in the notation of Zabbix; a leading `!` disables scaling.
    pub units: &'static str,
    /// Source of the values.
    pub source: Source,
    /// Scenarios that have the item.
    pub scope: Scope,
    /// Name of the value map.
    pub value_map: Option<&'static str>,
    /// History period.
    pub history: &'static str,
    /// Whether trends are stored, which only numbers can have.
    pub has_trends: bool,
    /// Description for users.
    pub description: &'static str,
}

impl Item {
    /// Returns the key of the item with these parameters before its own, each in quotes.
    pub fn key_of(&self, parameters: &[&str]) -> String {
        let all: Vec<&str> = parameters.iter().copied().chain(self.parameter).collect();
        if all.is_empty() { self.key.to_owned() } else { super::key(self.key, &all) }
    }
}

/// Macro of scenarios that send HTTP requests themselves.
pub const HTTP: &str = "{#HTTP}";
/// Macro of scenarios whose runs may contain a certificate.
pub const CERTIFICATE: &str = "{#CERTIFICATE}";
/// Macro of scenarios that open pages in a browser.
pub const PAGE: &str = "{#PAGE}";

/// Value map of verdicts.
pub const VERDICT_MAP: (&str, &[(&str, &str)]) =
    ("wachta verdict", &[("0", "passed"), ("1", "degraded"), ("2", "failed"), ("3", "unknown")]);
/// Value map of the success of steps.
pub const STEP_MAP: (&str, &[(&str, &str)]) = ("wachta step", &[("0", "failed"), ("1", "passed")]);

const fn sent(key: &'static str, name: &'static str, value_type: ValueType) -> Item {
    Item {
        key,
        parameter: None,
        name,
        value_type,
        units: "",
        source: Source::Sent,
        scope: Scope::Every,
        value_map: None,
        history: "31d",
        has_trends: matches!(value_type, ValueType::Float | ValueType::Unsigned),
        description: "",
    }
}

const fn of_run(key: &'static str, name: &'static str, value_type: ValueType, path: &'static str) -> Item {
    let source = Source::Run { path, left_out: None, is_always_there: true };
    Item { source, ..sent(key, name, value_type) }
}

const fn where_there(
    key: &'static str,
    parameter: Option<&'static str>,
    name: &'static str,
    value_type: ValueType,
    path: &'static str,
    scope: &'static str,
) -> Item {
    let source = Source::Run { path, left_out: None, is_always_there: false };
    Item { source, parameter, scope: Scope::Macro(scope), ..sent(key, name, value_type) }
}

const fn phase(phase: &'static str, name: &'static str, path: &'static str) -> Item {
    let item = where_there("wachta.http.phase", Some(phase), name, ValueType::Float, path, HTTP);
    Item { units: "s", description: "Phase of the last request of the run, including its redirects.", ..item }
}

const fn vital(vital: &'static str, name: &'static str, path: &'static str) -> Item {
    let item = where_there("wachta.vital", Some(vital), name, ValueType::Float, path, PAGE);
    Item { units: "s", description: "Worst value of the pages that the run opened.", ..item }
}

/// Items of the agent.
pub const OF_AGENT: &[Item] = &[Item {
    history: "7d",
    description: "State of the agent, every minute.",
    ..sent(super::AGENT, "Agent", ValueType::Text)
}];

/// Items of every scenario; the first parameter of their keys is its id.
pub const OF_SCENARIO: &[Item] = &[
    Item { history: "7d", description: "Last run as JSON.", ..sent(super::RUN, "run", ValueType::Text) },
    Item { value_map: Some(VERDICT_MAP.0), ..of_run("wachta.status", "status", ValueType::Unsigned, "$.status") },
    Item {
        value_map: Some(VERDICT_MAP.0),
        source: Source::Run { path: "$.status", left_out: Some("^3$"), is_always_there: true },
        description: "Status without unknown runs (3), which neither raise nor resolve a problem of the target.",
        ..sent("wachta.status.conclusive", "status of conclusive runs", ValueType::Unsigned)
    },
    Item { units: "s", ..of_run("wachta.duration", "run duration", ValueType::Float, "$.duration") },
    Item {
        description: "Reason why the last run did not pass; empty if it passed.",
        ..of_run("wachta.reason", "reason", ValueType::Char, "$.reason")
    },
    Item {
        description: "Status code of the last response of the run.",
        ..where_there("wachta.http.status", None, "HTTP status", ValueType::Unsigned, "$.http.status", HTTP)
    },
    phase("resolve", "HTTP: resolving the name", "$.http.resolve"),
    phase("connect", "HTTP: connecting", "$.http.connect"),
    phase("tls", "HTTP: TLS handshake", "$.http.tls"),
    phase("processing", "HTTP: waiting for the response", "$.http.processing"),
    phase("transfer", "HTTP: transfer of the response", "$.http.transfer"),
    Item {
        units: "!days",
        description: "Time until the first certificate of the run expires; negative afterwards.",
        ..where_there(
            "wachta.certificate.days",
            None,
            "certificate: days left",
            ValueType::Float,
            "$.certificate_days",
            CERTIFICATE,
        )
    },
    vital("ttfb", "time to first byte (TTFB)", "$.vitals.ttfb"),
    vital("fcp", "first contentful paint (FCP)", "$.vitals.fcp"),
    vital("lcp", "largest contentful paint (LCP)", "$.vitals.lcp"),
    vital("inp", "interaction to next paint (INP)", "$.vitals.inp"),
    Item { units: "", ..vital("cls", "cumulative layout shift (CLS)", "$.vitals.cls") },
];

/// Items of every step; the parameters of their keys are the id of the scenario and the name of the step.
pub const OF_STEP: &[Item] = &[
    Item {
        value_map: Some(STEP_MAP.0),
        description: "1 if the step passed in the run, 0 if it failed; no value for runs that did not reach it.",
        ..sent("wachta.step.success", "step success", ValueType::Unsigned)
    },
    Item { units: "s", ..sent("wachta.step.duration", "step duration", ValueType::Float) },
];
