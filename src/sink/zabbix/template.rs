//! Template of wachta, generated from the declaration of items. Pure.
//!
//! One trapper item of type text contains each run as JSON; most items of a scenario depend on it. Items of steps
//! cannot, because Zabbix rejects a master prototype of another discovery rule. A trigger prototype has one severity,
//! but scenarios have three: overrides of the discovery rule set it by `{#SEVERITY}`. Zabbix accepts a macro only for
//! the entire parameter `#2` of a function, not for its number, which explains the values of `{$WACHTA.AFTER}` and
//! `{$WACHTA.RECOVER}`; `min` of two values is evaluated even if only one exists, which explains the additional
//! `count`.
//!
//! An object is identified over all releases by its uuid, which [`uuid`] derives from its name.

mod yaml;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::items::declaration::{
    CERTIFICATE, HTTP, Item, OF_AGENT, OF_SCENARIO, OF_STEP, PAGE, STEP_MAP, Scope, Source, VERDICT_MAP, ValueType,
};
use super::items::{AGENT, DISCOVERY, DISCOVERY_STEPS, RUN, key, tag_macro};

/// Technical and visible name of the template.
pub const NAME: &str = "wachta";
/// Group of the template.
const GROUP: &str = "Templates/Applications";
/// Uuid of this group in every Zabbix installation.
const GROUP_UUID: &str = "a571c0d144b14fd4a87a9d9b2aa9fcd6";
/// Macro with the addresses from which values are accepted.
pub const ALLOWED_HOSTS: &str = "{$WACHTA.ALLOWED.HOSTS}";
/// Default history period of 7.0; that of 6.0 is 90d.
const DEFAULT_HISTORY: &str = "31d";
/// Item used by the triggers.
const CONCLUSIVE: &str = "wachta.status.conclusive";
/// Item with the duration of a run.
const DURATION: &str = "wachta.duration";
/// Item with the duration of a step.
const STEP_DURATION: &str = "wachta.step.duration";
/// Name of the trigger for an agent that sends no data.
const AGENT_SILENT: &str = "The wachta agent does not report";
/// Expression of that trigger.
const AGENT_SILENT_WHEN: &str = "nodata(/wachta/wachta.agent,{$WACHTA.AGENT.NODATA})=1";
/// Graph prototype of a scenario.
const RUN_GRAPH: &str = "{#NAME}: duration of runs";
/// Graph prototype of a step.
const STEP_GRAPH: &str = "{#NAME}: {#STEP.NAME}: duration of the step";

/// Version of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For 6.0 and later.
    V6_0,
    /// For 7.0 and later.
    V7_0,
}

impl Format {
    /// Returns the version number in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V6_0 => "6.0",
            Self::V7_0 => "7.0",
        }
    }
}

/// Object that has the item, which determines the parameters of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Agent,
    Scenario,
    Step,
}

impl Level {
    fn items(self) -> &'static [Item] {
        match self {
            Self::Agent => OF_AGENT,
            Self::Scenario => OF_SCENARIO,
            Self::Step => OF_STEP,
        }
    }

    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &[],
            Self::Scenario => &["{#ID}"],
            Self::Step => &["{#ID}", "{#STEP}"],
        }
    }

    /// Returns the prefix of item names.
    fn prefix(self) -> &'static str {
        match self {
            Self::Agent => "",
            Self::Scenario => "{#NAME}: ",
            Self::Step => "{#NAME}: {#STEP.NAME}: ",
        }
    }
}

/// Uuids that were chosen before they were derived from names.
const CHOSEN: &[(&str, &str)] = &[
    ("template/wachta", "bc600b82ea61465b82e61918f589b8d6"),
    ("item/wachta.agent", "4ff791196f5546c19ccc690f76fea2ee"),
    ("trigger/agent silent", "dbd1a795f0da4a649f2ccd7f30fd83a1"),
    ("discovery/wachta.discovery", "27e89a8b80934ad78575cf19e97eb6e9"),
    ("item/wachta.run", "d7500e70589446a19f5340115c00d6d0"),
    ("item/wachta.status", "74386187e65a44ea8292e7ce9af3ceec"),
    ("item/wachta.status.conclusive", "19fb8c0e35af48d2b5fd74016730a831"),
    ("trigger/failed", "9892911039794ee0ab292f31341203e3"),
    ("trigger/not tested", "9e3aefe0da604dc19c163b041757ee46"),
    ("item/wachta.duration", "00fbff1efd094c39ae07644dd4ccd6d1"),
    ("item/wachta.reason", "e728cdd63bbf4b7da59dc9b469e17c72"),
    ("item/wachta.http.status", "9b028d1b3cfb4b70aae92c517a44b44e"),
    ("item/wachta.http.phase/resolve", "09c0e4289f864a27a6b300b862714ede"),
    ("item/wachta.http.phase/connect", "a8eaa29705a84240ac54ca08617599fd"),
    ("item/wachta.http.phase/tls", "0745d25555ef4f2c9044a24746c06bc1"),
    ("item/wachta.http.phase/processing", "974ab41e8ae84a7088f35086a8632566"),
    ("item/wachta.http.phase/transfer", "de1d76cfb4c04f7f97419e0c55c0235d"),
    ("item/wachta.certificate.days", "696fd8ef8e814209b00a56f2f2f0f800"),
    ("item/wachta.vital/ttfb", "757cb686788c44bea76eaaada9c445cb"),
    ("item/wachta.vital/fcp", "dccc8fa7c20940a4a96f268808bb3051"),
    ("item/wachta.vital/lcp", "16a18f158b524d498a25f1f49d24cd3a"),
    ("item/wachta.vital/inp", "4005d83646e548d3b0976602f7ab3c08"),
    ("item/wachta.vital/cls", "c0624d41888e487b9f56a08780b0ce94"),
    ("graph/run", "19cdfb27646a458a829d7b9afefd18fb"),
    ("discovery/wachta.discovery.steps", "5852dc93322a4ef8b7dfd667795b7150"),
    ("item/wachta.step.success", "9b4d3d56946f483cbe6b7473e38c877f"),
    ("item/wachta.step.duration", "dd9703cccbd74fa885b5b943ff2a6746"),
    ("dashboard/wachta", "4afef7f242e740209bba621e2fc262d6"),
    ("value map/wachta verdict", "26dd980666c84c338196f40fd33eb279"),
    ("value map/wachta step", "07fafc3b7acc44959fc8eef09b9c2c35"),
];

/// Derives the uuid of an object from its kind and name, so that it is the same in every release. Zabbix requires the
/// format of version 4 (RFC 9562, section 5.4), so the corresponding bits of a hash are replaced.
fn uuid(name: &str) -> String {
    if let Some((_, chosen)) = CHOSEN.iter().find(|(known, _)| *known == name) {
        return (*chosen).to_owned();
    }
    let hash = Sha256::digest(format!("wachta zabbix template/{name}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().simple().to_string()
}

/// Returns the template as a YAML file.
pub fn file(format: Format, tags: &[String]) -> String {
    format!(
        "# The template of wachta for Zabbix {} and later, written by `wachta zabbix template`.\n{}",
        format.as_str(),
        yaml::write(&export(format, tags))
    )
}

/// Returns the template in the import format. Items and triggers have the scenario's tags with the names in `tags`.
pub fn export(format: Format, tags: &[String]) -> Value {
    let mut template = json!({
        "uuid": uuid("template/wachta"),
        "template": NAME,
        "name": NAME,
    });
    if format == Format::V7_0 {
        template["vendor"] = json!({"name": "wachta", "version": concat!("7.0-", env!("CARGO_PKG_VERSION_MAJOR"))});
    }
    let rest = json!({
        "description": "Results of a wachta agent, which sends them (trapper items); nothing is polled. Link it to a host whose technical name is `zabbix.host` in the agent configuration.",
        "groups": [{"name": GROUP}],
        "items": of_level(format, Level::Agent, tags),
        "discovery_rules": [scenarios(format, tags), steps(format, tags)],
        "tags": [tag("class", "application"), tag("target", NAME)],
        "macros": macros(),
        "dashboards": [dashboard(format)],
        "valuemaps": [
            value_map(VERDICT_MAP),
            value_map(STEP_MAP),
        ],
    });
    extend(&mut template, rest);
    let groups = json!([{"uuid": GROUP_UUID, "name": GROUP}]);
    let mut export = Map::new();
    export.insert("version".into(), format.as_str().into());
    export.insert(if format == Format::V6_0 { "groups" } else { "template_groups" }.into(), groups);
    export.insert("templates".into(), json!([template]));
    json!({"zabbix_export": export})
}

fn extend(object: &mut Value, with: Value) {
    if let (Value::Object(object), Value::Object(with)) = (object, with) {
        object.extend(with);
    }
}

fn tag(name: &str, value: &str) -> Value {
    json!({"tag": name, "value": value})
}

fn macros() -> Value {
    let one = |name: &str, value: &str, doc: &str| json!({"macro": name, "value": value, "description": doc});
    json!([
        one(
            "{$WACHTA.AFTER}",
            "#2",
            "Number of consecutive conclusive runs that must fail for a problem, as #NUMBER. Per scenario: {$WACHTA.AFTER:\"id\"}."
        ),
        one(
            "{$WACHTA.RECOVER}",
            "#2",
            "Number of consecutive good runs that resolve it, as #NUMBER. Per scenario: {$WACHTA.RECOVER:\"id\"}."
        ),
        one("{$WACHTA.NODATA}", "1h", "Maximum time without a conclusive run. Per scenario: {$WACHTA.NODATA:\"id\"}."),
        one("{$WACHTA.AGENT.NODATA}", "5m", "Maximum time without data from the agent."),
        one(ALLOWED_HOSTS, "0.0.0.0/0,::/0", "Addresses from which values are accepted, separated by commas."),
    ])
}

fn value_map((name, values): (&str, &[(&str, &str)])) -> Value {
    let mapping = |(value, name): &(&str, &str)| json!({"value": value, "newvalue": name});
    let mappings: Vec<_> = values.iter().map(mapping).collect();
    json!({"uuid": uuid(&format!("value map/{name}")), "name": name, "mappings": mappings})
}

fn of_level(format: Format, level: Level, tags: &[String]) -> Vec<Value> {
    level.items().iter().map(|declared| item(format, level, declared, tags)).collect()
}

fn item(format: Format, level: Level, declared: &Item, tags: &[String]) -> Value {
    let identity = declared.parameter.map_or(declared.key.to_owned(), |last| format!("{}/{last}", declared.key));
    let is_sent = declared.source == Source::Sent;
    let mut item = json!({
        "uuid": uuid(&format!("item/{identity}")),
        "name": format!("{}{}", level.prefix(), declared.name),
        "type": if is_sent { "TRAP" } else { "DEPENDENT" },
        "key": declared.key_of(level.parameters()),
    });
    // Default values that an export omits are omitted here as well, so that every difference is a real one.
    if format == Format::V6_0 {
        item["delay"] = "0".into();
    }
    if format == Format::V6_0 || declared.history != DEFAULT_HISTORY {
        item["history"] = declared.history.into();
    }
    if !declared.has_trends {
        item["trends"] = "0".into();
    }
    match declared.value_type {
        ValueType::Unsigned => {}
        ValueType::Float => item["value_type"] = "FLOAT".into(),
        ValueType::Char => item["value_type"] = "CHAR".into(),
        ValueType::Text => item["value_type"] = "TEXT".into(),
    }
    match declared.source {
        Source::Sent => item["allowed_hosts"] = ALLOWED_HOSTS.into(),
        Source::Run { path, left_out, is_always_there } => {
            let mut steps = vec![json!({"type": "JSONPATH", "parameters": [path]})];
            if !is_always_there {
                steps[0]["error_handler"] = "DISCARD_VALUE".into();
            }
            steps.extend(left_out.map(|pattern| {
                json!({"type": "NOT_MATCHES_REGEX", "parameters": [pattern], "error_handler": "DISCARD_VALUE"})
            }));
            item["preprocessing"] = steps.into();
            item["master_item"] = json!({"key": key(RUN, Level::Scenario.parameters())});
        }
    }
    if !declared.units.is_empty() {
        item["units"] = declared.units.into();
    }
    if let Some(map) = declared.value_map {
        item["valuemap"] = json!({"name": map});
    }
    if !declared.description.is_empty() {
        item["description"] = declared.description.into();
    }
    let component = declared.key.strip_prefix("wachta.").unwrap_or(declared.key);
    item["tags"] = tagged(level, &[("component", component)], tags).into();
    match declared.key {
        AGENT => item["triggers"] = json!([agent_silent()]),
        CONCLUSIVE => item["trigger_prototypes"] = json!([failed(tags), not_tested(tags)]),
        _ => {}
    }
    item
}

/// Returns the overrides that omit items of scenarios whose runs never contain their data.
fn left_out(first: usize) -> Vec<Value> {
    let left_out = |(n, (name, wanted)): (usize, (&str, &'static str))| {
        let of_scope = OF_SCENARIO.iter().filter(|item| item.scope == Scope::Macro(wanted));
        let names: Vec<_> = of_scope.map(|item| regex::escape(item.name)).collect();
        json!({
            "name": name,
            "step": (first + n).to_string(),
            "filter": {"conditions": [{"macro": wanted, "value": "^0$", "formulaid": "A"}]},
            "operations": [{
                "operationobject": "ITEM_PROTOTYPE",
                "operator": "REGEXP",
                "value": format!(": ({})$", names.join("|")),
                "discover": "NO_DISCOVER",
            }],
        })
    };
    let scopes = [("no HTTP requests", HTTP), ("no certificates", CERTIFICATE), ("no pages", PAGE)];
    scopes.into_iter().enumerate().map(left_out).collect()
}

/// Returns the tags of an item or trigger: its scenario, `further` ones, and the tags of the scenario.
fn tagged(level: Level, further: &[(&str, &str)], tags: &[String]) -> Vec<Value> {
    let mut all: Vec<_> = further.iter().map(|(name, value)| tag(name, value)).collect();
    if level != Level::Agent {
        all.push(tag("scenario", "{#ID}"));
        all.extend(tags.iter().map(|name| tag(name, &tag_macro(name))));
    }
    if level == Level::Step {
        all.push(tag("step", "{#STEP.NAME}"));
    }
    all
}

fn agent_silent() -> Value {
    json!({
        "uuid": uuid("trigger/agent silent"),
        "expression": AGENT_SILENT_WHEN,
        "name": AGENT_SILENT,
        "priority": "AVERAGE",
        "description": "No data from the agent for {$WACHTA.AGENT.NODATA}: it is down, or cannot reach Zabbix. The state of its scenarios is unknown meanwhile.",
        "tags": [tag("scope", "availability")],
    })
}

fn failed(tags: &[String]) -> Value {
    json!({
        "uuid": uuid("trigger/failed"),
        "expression": "min(/wachta/wachta.status.conclusive[\"{#ID}\"],{$WACHTA.AFTER:\"{#ID}\"})=2 and count(/wachta/wachta.status.conclusive[\"{#ID}\"],#2)=2",
        "recovery_mode": "RECOVERY_EXPRESSION",
        "recovery_expression": "max(/wachta/wachta.status.conclusive[\"{#ID}\"],{$WACHTA.RECOVER:\"{#ID}\"})<2",
        "name": "{#NAME}: failed",
        "opdata": "last conclusive run: {ITEM.LASTVALUE1}",
        "priority": "WARNING",
        "description": "The last conclusive runs failed ({$WACHTA.AFTER:\"{#ID}\"}). It resolves after good ones in a row ({$WACHTA.RECOVER:\"{#ID}\"}). The item `run` has the step and the message.",
        "manual_close": "YES",
        "tags": tagged(Level::Scenario, &[("scope", "availability")], tags),
    })
}

fn not_tested(tags: &[String]) -> Value {
    json!({
        "uuid": uuid("trigger/not tested"),
        "expression": "nodata(/wachta/wachta.status.conclusive[\"{#ID}\"],{$WACHTA.NODATA:\"{#ID}\"})=1",
        "name": "{#NAME}: not tested for {$WACHTA.NODATA:\"{#ID}\"}",
        "priority": "WARNING",
        "description": "No run for {$WACHTA.NODATA:\"{#ID}\"} that tested the target: runs are unknown (the fault is with the agent), or there are none.",
        "manual_close": "YES",
        "dependencies": [{"name": AGENT_SILENT, "expression": AGENT_SILENT_WHEN}],
        "tags": tagged(Level::Scenario, &[("scope", "notice")], tags),
    })
}

/// Returns a discovery rule without its prototypes. Lost items stay enabled for some time in every version, so that the
/// last value of a removed scenario is accepted.
fn rule(format: Format, name: &str, key: &str) -> Value {
    let mut rule = json!({
        "uuid": uuid(&format!("discovery/{key}")),
        "name": name,
        "type": "TRAP",
        "key": key,
        "allowed_hosts": ALLOWED_HOSTS,
    });
    // The default of 7.0; it was 30d before.
    if format == Format::V6_0 {
        rule["delay"] = "0".into();
        rule["lifetime"] = "7d".into();
    }
    if format == Format::V7_0 {
        rule["enabled_lifetime_type"] = "DISABLE_NEVER".into();
    }
    rule
}

fn graph(name: &str, uuid_of: &str, item: &str, level: Level) -> Value {
    json!({
        "uuid": uuid(uuid_of),
        "name": name,
        "graph_items": [{"color": "1A7C11", "item": {"host": NAME, "key": key(item, level.parameters())}}],
    })
}

fn scenarios(format: Format, tags: &[String]) -> Value {
    let severity = |step: &str, name: &str, value: &str, severity: &str| {
        json!({
            "name": format!("severity {name}"),
            "step": step,
            "filter": {"conditions": [{"macro": "{#SEVERITY}", "value": format!("^{value}$"), "formulaid": "A"}]},
            "operations": [{
                "operationobject": "TRIGGER_PROTOTYPE", "operator": "REGEXP", "value": ": failed$", "severity": severity,
            }],
        })
    };
    let mut overrides = vec![severity("1", "information", "1", "INFO"), severity("2", "high", "4", "HIGH")];
    overrides.extend(left_out(overrides.len() + 1));
    let mut rule = rule(format, "Scenarios", DISCOVERY);
    let rest = json!({
        "overrides": overrides,
        "item_prototypes": of_level(format, Level::Scenario, tags),
        "graph_prototypes": [graph(RUN_GRAPH, "graph/run", DURATION, Level::Scenario)],
    });
    extend(&mut rule, rest);
    rule
}

fn steps(format: Format, tags: &[String]) -> Value {
    let mut rule = rule(format, "Steps", DISCOVERY_STEPS);
    let rest = json!({
        "item_prototypes": of_level(format, Level::Step, tags),
        "graph_prototypes": [graph(STEP_GRAPH, "graph/step", STEP_DURATION, Level::Step)],
    });
    extend(&mut rule, rest);
    rule
}

/// Returns the dashboard of each host: a page of scenarios, and one of steps with their timing, like that of a web
/// scenario.
fn dashboard(format: Format) -> Value {
    json!({
        "uuid": uuid("dashboard/wachta"),
        "name": NAME,
        "pages": [
            {"name": "Scenarios", "widgets": [graphs(format, "WCHTA", RUN_GRAPH, 2, 3)]},
            {"name": "Steps", "widgets": [graphs(format, "WCHTB", STEP_GRAPH, 3, 4)]},
        ],
    })
}

/// Returns a full-width widget with the graphs of a prototype.
fn graphs(format: Format, reference: &str, graph: &str, columns: u32, rows: u32) -> Value {
    let number = |name: &str, value: u32| json!({"type": "INTEGER", "name": name, "value": value.to_string()});
    let (kind, width, field) = match format {
        Format::V6_0 => ("GRAPH_PROTOTYPE", "24", "graphid"),
        Format::V7_0 => ("graphprototype", "72", "graphid.0"),
    };
    let mut fields = vec![number("columns", columns)];
    fields.push(json!({"type": "GRAPH_PROTOTYPE", "name": field, "value": {"host": NAME, "name": graph}}));
    if format == Format::V7_0 {
        fields.push(json!({"type": "STRING", "name": "reference", "value": reference}));
    }
    fields.extend([number("rows", rows), number("source_type", 2)]);
    json!({"type": kind, "width": width, "height": (rows * 5).to_string(), "fields": fields})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_files_of_the_repository_are_written_by_this() {
        for format in [Format::V6_0, Format::V7_0] {
            let name = format!("deploy/zabbix/template-wachta-{}.yaml", format.as_str());
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
            let expected = file(format, &[]);
            if std::env::var_os("WACHTA_BLESS").is_some() {
                std::fs::write(&path, &expected).unwrap();
            }
            let seen = std::fs::read_to_string(&path).unwrap();
            assert!(seen == expected, "{name} is not what `wachta zabbix template` writes: run with WACHTA_BLESS=1");
        }
    }

    #[test]
    fn uuids_are_of_version_4_each_its_own_and_the_same_in_both_files() {
        fn collect(value: &Value, into: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    into.extend(map.get("uuid").map(|uuid| uuid.as_str().unwrap().to_owned()));
                    map.values().for_each(|value| collect(value, into));
                }
                Value::Array(list) => list.iter().for_each(|value| collect(value, into)),
                _ => {}
            }
        }
        let all = |format| {
            let mut all = Vec::new();
            collect(&export(format, &[]), &mut all);
            all
        };
        let uuids = all(Format::V6_0);
        assert_eq!(uuids, all(Format::V7_0));
        let mut counts = BTreeMap::new();
        for text in &uuids {
            *counts.entry(text).or_insert(0) += 1;
            let uuid = uuid::Uuid::parse_str(text).unwrap();
            assert_eq!(
                (text.len(), uuid.get_version_num(), uuid.get_variant()),
                (32, 4, uuid::Variant::RFC4122),
                "{text}"
            );
        }
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        // A name has the same uuid in every release.
        assert_eq!(uuid("graph/step"), "a65cfe18b19b455e9aeae086cd3291be");
    }

    #[test]
    fn objects_have_the_tags_of_scenarios() {
        let text = file(Format::V7_0, &["on-call".to_owned()]);
        let objects = OF_SCENARIO.len() + OF_STEP.len() + 2;
        assert_eq!(text.matches("value: '{#TAG.ON_CALL}'").count(), objects);
    }
}
