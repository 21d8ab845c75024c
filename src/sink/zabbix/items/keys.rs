//! Keys of the items and discovery rules. Pure.

use std::fmt::Write as _;

/// Item with the state of the agent.
pub const AGENT: &str = "wachta.agent";
/// Item with the JSON document of a run.
pub const RUN: &str = "wachta.run";
/// Low-level discovery rule of scenarios.
pub const DISCOVERY: &str = "wachta.discovery";
/// Low-level discovery rule of steps.
pub const DISCOVERY_STEPS: &str = "wachta.discovery.steps";

/// Formats a key with quoted parameters. The only escape in Zabbix is `\"`.
pub fn key(item: &str, parameters: &[&str]) -> String {
    let mut key = String::from(item);
    for (index, parameter) in parameters.iter().enumerate() {
        let before = if index == 0 { '[' } else { ',' };
        write!(key, "{before}\"{}\"", parameter.replace('"', "\\\"")).expect("a string takes everything");
    }
    key.push(']');
    key
}
