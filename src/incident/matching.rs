//! Matching of incidents against routes, silences and maintenance windows. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Incident;
use crate::scenario::Scenario;

/// Condition on the value of a tag, or of `severity`, `scenario`, `name`, `location`, `kind` or `host`.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// The value is equal.
    Equals(String),
    /// The value differs or is absent.
    Not(String),
    /// The regular expression matches a part of the value. An absent value counts as empty.
    Matches(regex::Regex),
    /// The regular expression does not match any part of the value.
    NotMatches(regex::Regex),
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.sign() == other.sign() && self.value() == other.value()
    }
}

impl Eq for Matcher {}

/// Serialized form of a matcher: a plain value, or `{not: shop}`, `{matches: "^shop-"}`, `{not_matches: "^shop-"}`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Equals(String),
    Other(BTreeMap<String, String>),
}

/// Keys of the serialized forms other than a plain value.
pub const FORMS: [&str; 3] = ["not", "matches", "not_matches"];

impl Matcher {
    /// Creates a matcher from the key of its form. Returns an error message if the key is unknown or the regular
    /// expression is invalid.
    pub fn of_form(form: &str, value: &str) -> Result<Self, String> {
        let expression = || {
            let compiled = regex::RegexBuilder::new(value).size_limit(1 << 20).build();
            compiled.map_err(|_| format!("`{value}` is not a regular expression"))
        };
        match form {
            "not" => Ok(Self::Not(value.to_owned())),
            "matches" => Ok(Self::Matches(expression()?)),
            "not_matches" => Ok(Self::NotMatches(expression()?)),
            other => Err(format!("`{other}` is not supported here; write {}", FORMS.join(", "))),
        }
    }

    fn sign(&self) -> &'static str {
        match self {
            Self::Equals(_) => "=",
            Self::Not(_) => "!=",
            Self::Matches(_) => "=~",
            Self::NotMatches(_) => "!~",
        }
    }

    /// Returns the value or regular expression to compare with.
    pub fn value(&self) -> &str {
        match self {
            Self::Equals(value) | Self::Not(value) => value,
            Self::Matches(expression) | Self::NotMatches(expression) => expression.as_str(),
        }
    }

    fn holds<T: AsRef<str>>(&self, values: &[T]) -> bool {
        let any_matches = |expression: &regex::Regex| {
            values.iter().any(|value| expression.is_match(value.as_ref()))
                || (values.is_empty() && expression.is_match(""))
        };
        match self {
            Self::Equals(wanted) => values.iter().any(|value| value.as_ref() == wanted),
            Self::Not(unwanted) => values.iter().all(|value| value.as_ref() != unwanted),
            Self::Matches(expression) => any_matches(expression),
            Self::NotMatches(expression) => !any_matches(expression),
        }
    }
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.value().to_owned();
        let form = match self {
            Self::Equals(_) => Form::Equals(value),
            Self::Not(_) => Form::Other([("not".to_owned(), value)].into()),
            Self::Matches(_) => Form::Other([("matches".to_owned(), value)].into()),
            Self::NotMatches(_) => Form::Other([("not_matches".to_owned(), value)].into()),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Equals(value) => Ok(Self::Equals(value)),
            Form::Other(forms) => match forms.iter().next() {
                Some((form, value)) if forms.len() == 1 => Self::of_form(form, value).map_err(serde::de::Error::custom),
                _ => Err(serde::de::Error::custom("a match has one value")),
            },
        }
    }
}

/// Conditions on an incident, by key. All of them must hold; without conditions every incident matches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Matchers(pub BTreeMap<String, Matcher>);

impl FromIterator<(String, String)> for Matchers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key, Matcher::Equals(value))).collect())
    }
}

impl<const N: usize> From<[(String, String); N]> for Matchers {
    fn from(pairs: [(String, String); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("everything");
        }
        for (number, (key, matcher)) in self.0.iter().enumerate() {
            let gap = if number == 0 { "" } else { " " };
            write!(f, "{gap}{key}{}{}", matcher.sign(), matcher.value())?;
        }
        Ok(())
    }
}

impl Matchers {
    /// Returns whether there are no conditions, so that every incident matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses conditions like `team=shop`, `team!=shop`, `name=~^shop-`, `name!~^shop-`.
    pub fn parse(pairs: &[String]) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for pair in pairs {
            let unread = || format!("`{pair}` is not a matcher; write it like team=shop, team!=shop, name=~'^shop-'");
            let at = pair.find(['=', '!']).filter(|at| *at > 0).ok_or_else(unread)?;
            let (key, rest) = pair.split_at(at);
            let (form, value) = ["!=", "=~", "!~", "="]
                .iter()
                .zip(["not", "matches", "not_matches", ""])
                .find_map(|(sign, form)| Some((form, rest.strip_prefix(sign)?)))
                .ok_or_else(unread)?;
            if value.is_empty() {
                return Err(format!("`{pair}` compares with nothing"));
            }
            let matcher = match form {
                "" => Matcher::Equals(value.to_owned()),
                form => Matcher::of_form(form, value)?,
            };
            if all.insert(key.to_owned(), matcher).is_some() {
                return Err(format!("`{key}` is listed twice"));
            }
        }
        Ok(Self(all))
    }

    /// Returns whether an incident matches. Each of its locations is compared, and its host with and without the port.
    pub fn fits(&self, incident: &Incident) -> bool {
        self.0.iter().all(|(key, matcher)| matcher.holds(&incident.values(key)))
    }

    /// Returns whether incidents of a scenario will match, as far as this can be determined in advance. `host` is the
    /// host of the scenario's target.
    pub fn fits_scenario(&self, scenario: &Scenario, location: &str, host: Option<&str>) -> bool {
        let values = |key: &str| match key {
            "severity" => vec![scenario.alert.severity.as_str()],
            "scenario" => vec![scenario.id.as_str()],
            "name" => vec![scenario.name.as_str()],
            "location" => vec![location],
            "kind" => vec![scenario.kind.as_str()],
            "host" => host.map(with_and_without_port).unwrap_or_default(),
            tag => scenario.tags.get(tag).map(String::as_str).into_iter().collect(),
        };
        // The matchers of a silence also have to cover the error budget of the scenario, whose kind is `slo`.
        let kind = |matcher: &Matcher| scenario.slo.is_some() && matcher.holds(&["slo"]);
        self.0.iter().all(|(key, matcher)| matcher.holds(&values(key)) || (key == "kind" && kind(matcher)))
    }
}

fn with_and_without_port(host: &str) -> Vec<&str> {
    let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    std::iter::once(host).chain(bare.map(|(bare, _)| bare)).collect()
}

impl Incident {
    /// Returns the values of a key, which is one of six fixed names or a tag.
    pub fn values(&self, key: &str) -> Vec<Cow<'_, str>> {
        let values = match key {
            "severity" => vec![self.severity.as_str()],
            "scenario" => return vec![self.subject.monitor_id()],
            "name" => vec![self.name.as_str()],
            "location" => std::iter::once(self.location.as_str()).chain(self.location.split(", ")).collect(),
            "kind" => vec![self.kind.as_str()],
            "host" => self.host().map(with_and_without_port).unwrap_or_default(),
            tag => self.tags.get(tag).map(String::as_str).into_iter().collect(),
        };
        values.into_iter().map(Cow::Borrowed).collect()
    }

    /// Returns the host of the last bad run, with the port if the URL contains one.
    pub fn host(&self) -> Option<&str> {
        let rest = self.target.as_deref()?.split_once("://")?.1;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host)).filter(|host| !host.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Matchers, String> {
        Matchers::parse(&text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn four_signs_compare_tags_and_words() {
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut incident = Incident::of_agent(crate::incident::Subject::from("shop-checkout"), 1, "waw-1", at);
        incident.name = "Shop checkout".into();
        incident.kind = "browser".into();
        incident.severity = crate::scenario::Severity::Critical;
        incident.tags = [("service".to_owned(), "shop".to_owned())].into();
        incident.location = "fra-1, waw-1".into();
        incident.target = Some("https://shop.example.com:8443/cart".into());
        for (text, holds) in [
            ("service=shop", true),
            ("service=blog", false),
            ("service!=blog", true),
            ("service!=shop", false),
            ("team!=shop", true),
            ("team=shop", false),
            ("name=~^Shop", true),
            ("name=~^shop", false),
            ("name!~^shop", true),
            ("team=~^$", true),
            ("team=~.", false),
            ("location=waw-1", true),
            ("location!=waw-1", false),
            ("location=ber-1", false),
            ("host=shop.example.com", true),
            ("host=shop.example.com:8443", true),
            ("host=~example", true),
            ("scenario=shop-checkout severity=critical kind=browser", true),
            ("scenario=shop-checkout severity=info", false),
        ] {
            assert_eq!(parsed(text).unwrap().fits(&incident), holds, "{text}");
        }
    }

    #[test]
    fn what_is_no_match_is_refused() {
        for text in ["shop", "=shop", "team=", "team=~(", "team!shop", "team=a team!=b", "team!="] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_match_is_written_and_read_back() {
        let all = parsed("a=1 b!=2 c=~3 d!~4").unwrap();
        let json = serde_json::to_value(&all).unwrap();
        let expected =
            serde_json::json!({"a": "1", "b": {"not": "2"}, "c": {"matches": "3"}, "d": {"not_matches": "4"}});
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Matchers>(json).unwrap(), all);
        assert_eq!(all.to_string(), "a=1 b!=2 c=~3 d!~4");
        for wrong in [r#"{"a": {"nod": "x"}}"#, r#"{"a": {}}"#, r#"{"a": {"matches": "("}}"#, r#"{"a": 1}"#] {
            assert!(serde_json::from_str::<Matchers>(wrong).is_err(), "{wrong}");
        }
    }
}
