//! Section `metrics` of the agent configuration: the metrics exported for each scenario.

use crate::names::metric::Detail;
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::{Reader, cut};
use crate::scenario::tree::Node;
use crate::sink::prometheus::Config;

use super::shape::{TEXTS, key};

/// Keys of `metrics`.
pub(super) const METRICS: &[Key] = &[
    key(
        "detail",
        Shape::Text,
        "metrics per scenario: `basic` or `full` (default: full for fewer than 2000 scenarios, otherwise basic)",
    ),
    key("tags", TEXTS, "keys of tags that become labels `tag_KEY` of `wachta_scenario_info` (default: none)"),
    key("max_step_series", Shape::Count, "maximum number of series for all steps of one scenario (default: 1000)"),
];

/// Parses `metrics`.
pub(super) fn metrics(r: &mut Reader, node: &Node) -> Config {
    let mut config = Config::default();
    let Some(fields) = r.fields(node, "`metrics`", &[METRICS]) else { return config };
    config.detail = fields.get("detail").and_then(|node| match r.word(node, "detail", &["basic", "full"])? {
        "basic" => Some(Detail::Basic),
        _ => Some(Detail::Full),
    });
    for item in fields.get("tags").and_then(|node| r.list(node, "`tags`")).unwrap_or_default() {
        let Some(tag) = r.text(item, "`tags`") else { continue };
        let label = Config::label_of(&tag);
        if tag.is_empty() {
            r.fail(item.span, "a tag in `tags` is empty");
        } else if let Some(known) = config.tags.iter().find(|known| Config::label_of(known) == label) {
            let message = format!("the tags `{}` and `{}` would both be the label `{label}`", cut(known), cut(&tag));
            r.fail_with(item.span, message, "remove one of them");
        } else {
            config.tags.push(tag.value);
        }
    }
    if let Some(count) = fields.get("max_step_series").and_then(|node| r.count(node, "`max_step_series`")) {
        config.max_step_series = count;
    }
    config
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn metrics_are_read_or_refused() {
        let check = |written: &str, expected: Result<Config, &[&str]>| {
            let (config, found) = read("wachta.yaml", &format!("location: a\nscenarios: []\nmetrics: {written}\n"));
            let problems: Vec<_> = found.iter().map(|found| found.message.as_str()).collect();
            match expected {
                Ok(expected) => assert_eq!(
                    (config.map(|config| config.metrics), problems.as_slice()),
                    (Some(expected), [].as_slice()),
                    "{written}"
                ),
                Err(expected) => assert_eq!((config.is_none(), problems.as_slice()), (true, expected), "{written}"),
            }
        };
        let of = |detail, tags: &[&str]| {
            Ok(Config { detail, tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..Config::default() })
        };
        check("{}", of(None, &[]));
        check("{detail: full, tags: [team, cost centre]}", of(Some(Detail::Full), &["team", "cost centre"]));
        check(
            "{detail: basic, max_step_series: 7}",
            Ok(Config { detail: Some(Detail::Basic), max_step_series: 7, ..Config::default() }),
        );
        check("{detail: more}", Err(&["unknown detail `more`"]));
        check("{tags: [a.b, a-b]}", Err(&["the tags `a.b` and `a-b` would both be the label `tag_a_b`"]));
        check("{tags: ['']}", Err(&["a tag in `tags` is empty"]));
        check("{tags: team}", Err(&["`tags` must be a list, not text"]));
        check("{max_step_series: 0}", Err(&["`max_step_series` must be a whole number above 0, not `0`"]));
        check("{details: full}", Err(&["unknown key `details`"]));
    }
}
