//! Selection of series by a scrape: the query of `/metrics`.

use std::collections::HashSet;

use url::form_urlencoded;

use crate::scenario::Scenario;

/// Part of the series requested by a scrape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// All series.
    #[default]
    All,
    /// Only the series of the agent itself.
    Agent,
    /// Only the series of some scenarios, so that parts scraped in parallel do not overlap.
    Scenarios {
        /// Ids of scenarios.
        ids: HashSet<String>,
        /// Tags by key and value; scenarios with any one of them are selected.
        tags: Vec<(String, String)>,
    },
}

impl Selection {
    /// Parses a query: `scenario=ID` and `tag=KEY:VALUE`, each any number of times, or `part=agent`.
    ///
    /// # Errors
    ///
    /// Description of the problem for the client. An id or a tag without scenarios is not an error: its part is empty.
    pub fn parse(query: &str) -> Result<Self, String> {
        let (mut ids, mut tags, mut agent) = (HashSet::new(), Vec::new(), false);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "scenario" if !value.is_empty() => drop(ids.insert(value.into_owned())),
                "scenario" => return Err("`scenario` names no scenario: write ?scenario=ID".to_owned()),
                "tag" => match value.split_once(':') {
                    Some((tag, of)) if !tag.is_empty() => tags.push((tag.trim().to_owned(), of.trim().to_owned())),
                    _ => return Err(format!("`{}` is not a tag: write ?tag=KEY:VALUE", shown(&value))),
                },
                "part" if value == "agent" => agent = true,
                "part" => return Err(format!("there is no part `{}`: write ?part=agent", shown(&value))),
                key => return Err(format!("unknown parameter `{}`: allowed are scenario, tag and part", shown(key))),
            }
        }
        match (agent, ids.is_empty() && tags.is_empty()) {
            (true, false) => Err("`part=agent` has no scenarios: remove the other parameters".to_owned()),
            (true, true) => Ok(Self::Agent),
            (false, true) => Ok(Self::All),
            (false, false) => Ok(Self::Scenarios { ids, tags }),
        }
    }

    /// Returns whether the selection includes the agent's own series.
    pub(super) fn has_agent(&self) -> bool {
        matches!(self, Self::All | Self::Agent)
    }

    /// Returns whether the selection includes the series of a scenario.
    pub(super) fn has(&self, scenario: &Scenario) -> bool {
        match self {
            Self::All => true,
            Self::Agent => false,
            Self::Scenarios { ids, tags } => {
                ids.contains(scenario.id.value.as_str())
                    || tags.iter().any(|(key, value)| scenario.tags.get(key) == Some(value))
            }
        }
    }
}

/// Returns the beginning of a text with its control characters replaced.
fn shown(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused() {
        let part = |ids: &[&str], tags: &[(&str, &str)]| {
            Ok(Selection::Scenarios {
                ids: ids.iter().map(|id| (*id).to_owned()).collect(),
                tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            })
        };
        let check = |query: &str, expected: Result<Selection, &str>| {
            assert_eq!(Selection::parse(query), expected.map_err(str::to_owned), "{query}");
        };
        check("", Ok(Selection::All));
        check("part=agent", Ok(Selection::Agent));
        check("scenario=a&scenario=b+c&scenario=a", part(&["a", "b c"], &[]));
        check("tag=team:shop&tag=url:http://a/", part(&[], &[("team", "shop"), ("url", "http://a/")]));
        check("tag=team:&scenario=a", part(&["a"], &[("team", "")]));
        check("tag=team%3Ashop", part(&[], &[("team", "shop")]));
        check("scenario=", Err("`scenario` names no scenario: write ?scenario=ID"));
        check("tag=shop", Err("`shop` is not a tag: write ?tag=KEY:VALUE"));
        check("tag=:shop", Err("`:shop` is not a tag: write ?tag=KEY:VALUE"));
        check("tags=a:b", Err("unknown parameter `tags`: allowed are scenario, tag and part"));
        check("%1b[2J=1", Err("unknown parameter `\u{fffd}[2J`: allowed are scenario, tag and part"));
        check("part=all", Err("there is no part `all`: write ?part=agent"));
        check("part=agent&tag=a:b", Err("`part=agent` has no scenarios: remove the other parameters"));
    }
}
