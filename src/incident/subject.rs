//! Subject of an incident, and its text, which the store, the API and receivers have.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scenario::ScenarioId;

/// Prefix of the text of an agent.
const AGENT: &str = "agent/";
/// Prefix of the text of an objective.
const OBJECTIVE: &str = "slo/";
/// Prefix of the text of a test.
const TEST: &str = "test/";

/// Subject of an incident. Its text is unambiguous, because scenario ids contain no slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A scenario. Its text is the id.
    Scenario(ScenarioId),
    /// The objective of a scenario, that is, its error budget: `slo/<scenario>`.
    Objective(ScenarioId),
    /// The agent at a location: `agent/<location>`.
    Agent(Arc<str>),
    /// A receiver that a test notification is sent to: `test/<receiver>`. Never stored.
    Test(Arc<str>),
}

impl Subject {
    /// Returns the subject of the agent at a location.
    pub fn agent(location: &str) -> Self {
        Self::Agent(location.into())
    }

    /// Returns the text as prefix and name.
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Scenario(id) => ("", id.as_str()),
            Self::Objective(id) => (OBJECTIVE, id.as_str()),
            Self::Agent(location) => (AGENT, location),
            Self::Test(receiver) => (TEST, receiver),
        }
    }

    /// Returns the text.
    pub fn text(&self) -> Cow<'_, str> {
        match self.parts() {
            ("", name) => Cow::Borrowed(name),
            (prefix, name) => Cow::Owned(format!("{prefix}{name}")),
        }
    }

    /// Returns the scenario that the subject or its objective belongs to.
    pub fn scenario(&self) -> Option<&ScenarioId> {
        match self {
            Self::Scenario(id) | Self::Objective(id) => Some(id),
            Self::Agent(_) | Self::Test(_) => None,
        }
    }

    /// Returns the id of the scenario that the subject or its objective belongs to; for any other subject its text.
    pub fn monitor_id(&self) -> Cow<'_, str> {
        self.scenario().map_or_else(|| self.text(), |id| Cow::Borrowed(id.as_str()))
    }
}

impl From<&ScenarioId> for Subject {
    fn from(id: &ScenarioId) -> Self {
        Self::Scenario(id.clone())
    }
}

impl From<&str> for Subject {
    fn from(text: &str) -> Self {
        if let Some(scenario) = text.strip_prefix(OBJECTIVE) {
            Self::Objective(scenario.into())
        } else if let Some(location) = text.strip_prefix(AGENT) {
            Self::Agent(location.into())
        } else if let Some(receiver) = text.strip_prefix(TEST) {
            Self::Test(receiver.into())
        } else {
            Self::Scenario(text.into())
        }
    }
}

impl FromStr for Subject {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, name) = self.parts();
        f.write_str(prefix)?;
        f.write_str(name)
    }
}

/// Subjects have the order of their texts.
impl Ord for Subject {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((prefix, name), (other_prefix, other_name)) = (self.parts(), other.parts());
        if prefix == other_prefix {
            return name.cmp(other_name);
        }
        prefix.bytes().chain(name.bytes()).cmp(other_prefix.bytes().chain(other_name.bytes()))
    }
}

impl PartialOrd for Subject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn subjects_are_written_and_read_back() {
        let all = [
            ("agent/waw-1", Subject::agent("waw-1")),
            ("agent/waw 1/rack 2", Subject::agent("waw 1/rack 2")),
            ("agents", Subject::Scenario("agents".into())),
            ("shop", Subject::Scenario("shop".into())),
            ("slo", Subject::Scenario("slo".into())),
            ("slo-shop", Subject::Scenario("slo-shop".into())),
            ("slo/shop", Subject::Objective("shop".into())),
            ("test/on-call", Subject::Test("on-call".into())),
            ("zoo", Subject::Scenario("zoo".into())),
        ];
        for (text, subject) in &all {
            assert_eq!(subject.to_string(), *text);
            assert_eq!(subject.text(), *text);
            assert_eq!(text.parse::<Subject>().as_ref(), Ok(subject));
            let json = serde_json::to_value(subject).unwrap();
            assert_eq!(json, *text);
            assert_eq!(serde_json::from_value::<Subject>(json).unwrap(), *subject);
            // The text is also the key of a JSON object.
            let map = BTreeMap::from([(subject.clone(), 1)]);
            let json = serde_json::to_string(&map).unwrap();
            assert_eq!(json, format!("{{\"{text}\":1}}"));
            assert_eq!(serde_json::from_str::<BTreeMap<Subject, i32>>(&json).unwrap(), map);
        }
        for (text, subject) in &all {
            for (other_text, other) in &all {
                assert_eq!(subject.cmp(other), text.cmp(other_text), "{text} {other_text}");
            }
        }
    }

    #[test]
    fn subjects_name_the_scenario_they_belong_to() {
        for (text, scenario, monitor) in [
            ("shop", Some("shop"), "shop"),
            ("slo/shop", Some("shop"), "shop"),
            ("agent/waw-1", None, "agent/waw-1"),
            ("test/on-call", None, "test/on-call"),
        ] {
            let subject = Subject::from(text);
            assert_eq!(subject.scenario().map(ScenarioId::as_str), scenario);
            assert_eq!(subject.monitor_id(), monitor);
        }
    }
}
