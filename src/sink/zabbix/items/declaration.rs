//! The items that Zabbix has for an agent, its scenarios and their steps: the one place where they are declared. Templates
//! and prototypes are made from it, and documents of runs have what it names. Pure.
//!
//! The only values that are sent are those of [`Source::Sent`]. The others depend on the run's document
//! (`wachta.run`), so that all of them are of one run and have its time.

/// What an item holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// A number with a fraction.
    Float,
    /// A text of at most 255 characters.
    Char,
    /// A whole number from 0 up.
    Unsigned,
    /// A text of any length.
    Text,
}

impl ValueType {
    /// Its number in the API (`value_type` of items).
    pub fn number(self) -> &'static str {
        match self {
            Self::Float => "0",
            Self::Char => "1",
            Self::Unsigned => "3",
            Self::Text => "4",
        }
    }
}

/// Where an item's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The agent sends them (a trapper item).
    Sent,
    /// They are part of the run's document (an item that depends on `wachta.run`).
    Run {
        /// The place in the document, as a JSON path.
        path: &'static str,
        /// A regular expression; values that match it are left out.
        left_out: Option<&'static str>,
        /// Whether every document has it. What a document lacks gives no value.
        is_always_there: bool,
    },
}

/// Which scenarios have an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Every,
    /// Those for which discovery gives this macro the value 1; for the others it is 0.
    Macro(&'static str),
}

/// An item, or the prototype of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// The key without parameters.
    pub key: &'static str,
    /// The last parameter of the key, behind those of the scenario and the step.
    pub parameter: Option<&'static str>,
    /// What it is called, behind the names of the scenario and the step.
    pub name: &'static str,
    /// What it holds.
    pub value_type: ValueType,
    /// The unit, as Zabbix writes it; `!` keeps it from being scaled.
    pub units: &'static str,
    /// Where its values come from.
    pub source: Source,
    /// Which scenarios have it.
    pub scope: Scope,
    /// The name of the map that gives its values words.
    pub value_map: Option<&'static str>,
    /// How long its values are kept.
    pub history: &'static str,
    /// Whether trends are kept of it, which only numbers can have.
    pub has_trends: bool,
    /// What people should know of it.
    pub description: &'static str,
}

impl Item {
    /// The item's key with these parameters before its own, each in quotes.
    pub fn key_of(&self, parameters: &[&str]) -> String {
        let all: Vec<&str> = parameters.iter().copied().chain(self.parameter).collect();
        if all.is_empty() { self.key.to_owned() } else { super::key(self.key, &all) }
    }
}

/// The macro of scenarios that send HTTP requests themselves.
pub const HTTP: &str = "{#HTTP}";
/// The macro of scenarios that may see a certificate.
pub const CERTIFICATE: &str = "{#CERTIFICATE}";
/// The macro of scenarios that open pages in a browser.
pub const PAGE: &str = "{#PAGE}";

/// The map of verdicts.
pub const VERDICT_MAP: (&str, &[(&str, &str)]) =
    ("wachta verdict", &[("0", "passed"), ("1", "degraded"), ("2", "failed"), ("3", "unknown")]);
/// The map of steps' success.
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
    Item { units: "s", description: "Part of the time of the last request of the run, its redirects included.", ..item }
}

const fn vital(vital: &'static str, name: &'static str, path: &'static str) -> Item {
    let item = where_there("wachta.vital", Some(vital), name, ValueType::Float, path, PAGE);
    Item { units: "s", description: "The worst of the pages that the run opened.", ..item }
}

/// The items of the agent.
pub const OF_AGENT: &[Item] = &[Item {
    history: "7d",
    description: "The state of the agent, every minute.",
    ..sent(super::AGENT, "Agent", ValueType::Text)
}];

/// The items of every scenario; their keys have its id as the first parameter.
pub const OF_SCENARIO: &[Item] = &[
    Item { history: "7d", description: "The last run as JSON.", ..sent(super::RUN, "run", ValueType::Text) },
    Item { value_map: Some(VERDICT_MAP.0), ..of_run("wachta.status", "status", ValueType::Unsigned, "$.status") },
    Item {
        value_map: Some(VERDICT_MAP.0),
        source: Source::Run { path: "$.status", left_out: Some("^3$"), is_always_there: true },
        description: "The status without runs that could not test anything (3): these neither raise nor resolve a \
                      problem of the target.",
        ..sent("wachta.status.conclusive", "status of conclusive runs", ValueType::Unsigned)
    },
    Item { units: "s", ..of_run("wachta.duration", "run duration", ValueType::Float, "$.duration") },
    Item {
        description: "Why the last run did not pass; empty when it did.",
        ..of_run("wachta.reason", "reason", ValueType::Char, "$.reason")
    },
    Item {
        description: "The status code of the last response of the run.",
        ..where_there("wachta.http.status", None, "HTTP status", ValueType::Unsigned, "$.http.status", HTTP)
    },
    phase("resolve", "HTTP: resolving the name", "$.http.resolve"),
    phase("connect", "HTTP: connecting", "$.http.connect"),
    phase("tls", "HTTP: TLS handshake", "$.http.tls"),
    phase("processing", "HTTP: waiting for the response", "$.http.processing"),
    phase("transfer", "HTTP: transfer of the response", "$.http.transfer"),
    Item {
        units: "!days",
        description: "Until the first of the certificates that the run saw expires; negative afterwards.",
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

/// The items of every step; their keys have the scenario's id and the step's name as parameters.
pub const OF_STEP: &[Item] = &[
    Item {
        value_map: Some(STEP_MAP.0),
        description: "1 if the step passed in the run, 0 if it failed; nothing from runs that did not reach it.",
        ..sent("wachta.step.success", "step success", ValueType::Unsigned)
    },
    Item { units: "s", ..sent("wachta.step.duration", "step duration", ValueType::Float) },
];
