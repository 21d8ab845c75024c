//! Section `metrics` of the agent configuration.

use crate::names::metric::Detail;

/// Number of scenarios from which on the default detail is `basic`.
pub const BASIC_FROM: usize = 2000;
/// Default maximum number of series for the steps of a scenario.
const MAX_STEP_SERIES: u32 = 1000;

/// Settings of `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Detail per scenario (default: depends on the number of scenarios).
    pub detail: Option<Detail>,
    /// Keys of tags that become labels of `wachta_scenario_info`.
    pub tags: Vec<String>,
    /// Maximum number of series for all steps of one scenario together.
    pub max_step_series: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { detail: None, tags: Vec::new(), max_step_series: MAX_STEP_SERIES }
    }
}

impl Config {
    /// Returns the detail for this number of scenarios.
    pub fn detail_of(&self, scenarios: usize) -> Detail {
        self.detail.unwrap_or(if scenarios < BASIC_FROM { Detail::Full } else { Detail::Basic })
    }

    /// Returns the label of `wachta_scenario_info` for a tag: `tag_` and its key, with `_` in place of characters that
    /// a label name cannot contain.
    pub fn label_of(tag: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        format!("tag_{}", tag.chars().map(plain).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_follows_the_number_of_scenarios_where_none_is_set() {
        let check = |detail, scenarios, expected| {
            assert_eq!(Config { detail, ..Config::default() }.detail_of(scenarios), expected, "{detail:?} {scenarios}");
        };
        check(None, 0, Detail::Full);
        check(None, 1999, Detail::Full);
        check(None, 2000, Detail::Basic);
        check(Some(Detail::Full), 100_000, Detail::Full);
        check(Some(Detail::Basic), 1, Detail::Basic);
    }
}
