//! Findings with advice, derived from the collected facts. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::super::api::{self, Version};
use super::super::items::{DISCOVERY, DISCOVERY_STEPS};
use super::super::template;
use super::key::Wanted;

/// Maximum number of keys named in a finding.
const MAX_NAMED: usize = 3;

/// Problem that keeps values from arriving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Description of the problem.
    pub problem: String,
    /// Advice for correcting it.
    pub advice: String,
}

/// Result of probing the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// No connection could be established.
    NoConnection(String),
    /// The response does not come from the trapper of a server or proxy.
    NotZabbix(String),
    /// The server rejects values of these keys.
    Refuses(BTreeSet<String>),
}

impl Default for Reply {
    fn default() -> Self {
        Self::Refuses(BTreeSet::new())
    }
}

/// Facts for the diagnosis. Objects are those of the API.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Version of the API.
    pub version: Version,
    /// Destination of the values as `host:port`.
    pub address: String,
    /// Encryption of connections as a number of the API: 1 for none, 2 for a pre-shared key, 4 for certificates.
    pub encryption: u64,
    /// Value of `zabbix.host` in the configuration.
    pub host_name: String,
    /// Address of this machine from which the server is reached.
    pub our_address: Option<IpAddr>,
    /// Result of probing the server.
    pub reply: Reply,
    /// Host object.
    pub host: Option<Value>,
    /// Hosts with a similar technical or visible name, if the configured one does not exist.
    pub similar: Vec<Value>,
    /// Whether a template of that name exists.
    pub is_template: bool,
    /// Number of hosts visible to the API user, counted up to 1.
    pub visible_hosts: usize,
    /// Items of the host, by key.
    pub items: BTreeMap<String, Value>,
    /// Discovery rules of the host, by key.
    pub rules: BTreeMap<String, Value>,
    /// Item prototypes of the host, by key.
    pub prototypes: BTreeMap<String, Value>,
    /// Proxy that monitors the host.
    pub proxy: Option<String>,
    /// Macros and their values.
    pub macros: BTreeMap<String, String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            version: Version::OLDEST,
            address: String::new(),
            encryption: 1,
            host_name: String::new(),
            our_address: None,
            reply: Reply::default(),
            host: None,
            similar: Vec::new(),
            is_template: false,
            visible_hosts: 0,
            items: BTreeMap::new(),
            rules: BTreeMap::new(),
            prototypes: BTreeMap::new(),
            proxy: None,
            macros: BTreeMap::new(),
        }
    }
}

fn finding(problem: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { problem: problem.into(), advice: advice.into() }
}

/// Returns a finding about the server if it does not respond like one.
pub fn server(address: &str, reply: &Reply) -> Option<Finding> {
    match reply {
        Reply::NoConnection(error) => Some(finding(
            format!("no connection to {address}: {error}"),
            "check `zabbix.server`, that the server or proxy runs, and firewalls between it and this machine",
        )),
        Reply::NotZabbix(error) => Some(finding(
            format!("no response of a Zabbix server or proxy at {address}: {error}"),
            "set `zabbix.server` to the trapper port of the server or proxy, 10051 by default, not to that of the frontend or of a Zabbix agent; and compare `zabbix.tls` or `zabbix.psk` with the encryption of the host",
        )),
        Reply::Refuses(_) => None,
    }
}

/// Returns the reasons why values of the keys in `wanted` do not arrive.
pub fn diagnose(facts: &Facts, wanted: &[Wanted]) -> Vec<Finding> {
    let mut found: Vec<_> = server(&facts.address, &facts.reply).into_iter().collect();
    let Some(host) = &facts.host else {
        found.push(no_host(facts));
        return found;
    };
    let nothing = BTreeSet::new();
    let refused = match &facts.reply {
        Reply::Refuses(refused) => refused,
        Reply::NoConnection(_) | Reply::NotZabbix(_) => &nothing,
    };
    let of_host = of_host(facts, host, !refused.is_empty());
    let is_explained = !of_host.is_empty();
    found.extend(of_host);
    let (of_items, explained) = of_items(facts, host, wanted, refused);
    found.extend(of_items);
    let unexplained: Vec<_> = refused.iter().filter(|key| !is_explained && !explained.contains(*key)).collect();
    if !unexplained.is_empty() {
        let period = if facts.version < Version::new(6, 4) { "a minute" } else { "ten seconds" };
        found.push(finding(
            format!("the server accepts no values of {} yet, and the API shows nothing wrong", named(&unexplained)),
            format!(
                "they were created or changed recently: wait for the next configuration sync ({period}; longer behind a proxy) and try again, or run `zabbix_server -R config_cache_reload`"
            ),
        ));
    }
    found
}

fn no_host(facts: &Facts) -> Finding {
    let name = &facts.host_name;
    let visible = facts.similar.iter().find(|host| api::text(&host["name"]) == *name);
    if let Some(host) = visible {
        let technical = api::text(&host["host"]);
        return finding(
            format!("`{name}` is the visible name of a host, not its technical name"),
            format!("write `zabbix: {{host: {technical}}}` in the agent configuration"),
        );
    }
    let other = facts.similar.iter().find(|host| api::text(&host["host"]).eq_ignore_ascii_case(name));
    if let Some(host) = other {
        let technical = api::text(&host["host"]);
        return finding(
            format!("there is no host `{name}`, but a host `{technical}`: upper and lower case differ"),
            format!("write `zabbix: {{host: {technical}}}` in the agent configuration"),
        );
    }
    if facts.is_template {
        return finding(
            format!("`{name}` is a template, not a host"),
            "create a host with `wachta zabbix provision`, and write its name at `zabbix.host`",
        );
    }
    if facts.visible_hosts == 0 {
        return finding(
            format!("the user of the API has no access to any host, so `{name}` cannot be checked"),
            "give its user group at least read permission on the host group of the host",
        );
    }
    finding(
        format!("there is no host `{name}`, or the user of the API may not see it"),
        "create it with `wachta zabbix provision`, or correct `zabbix.host`, or give the user read permission on its host group",
    )
}

/// Returns the problems of the host as a whole. A merely possible cause is included only if values are rejected.
fn of_host(facts: &Facts, host: &Value, is_refused: bool) -> Vec<Finding> {
    let (name, field) = (&facts.host_name, |key: &str| api::text(&host[key]));
    let mut found = Vec::new();
    if field("status") == "1" {
        found.push(finding(format!("the host `{name}` is disabled"), "enable it in Zabbix (Data collection → Hosts)"));
    }
    if field("maintenance_status") == "1" && field("maintenance_type") == "1" {
        found.push(finding(
            format!("the host `{name}` is in a maintenance without data collection"),
            "wait for its end, or change the maintenance to one with data collection",
        ));
    }
    let accepts: u64 = field("tls_accept").parse().unwrap_or(1);
    if accepts & facts.encryption == 0 {
        let kinds = |bits: u64| {
            let all = [(1, "without encryption"), (2, "with a pre-shared key"), (4, "with a certificate")];
            all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, kind)| *kind).collect::<Vec<_>>().join(" or ")
        };
        found.push(finding(
            format!(
                "the host `{name}` accepts only connections {}, and this one is {}",
                kinds(accepts),
                kinds(facts.encryption)
            ),
            "change what the host accepts (host → Encryption → Connections from host), or `zabbix.tls` and `zabbix.psk` here",
        ));
    }
    if let Some(proxy) = facts.proxy.as_ref().filter(|_| is_refused) {
        found.push(finding(
            format!(
                "the host `{name}` is monitored by the proxy {proxy}, and {} is another one or the server",
                facts.address
            ),
            "set `zabbix.server` to that proxy, or let the server monitor the host",
        ));
    }
    let linked = host["parentTemplates"].as_array().cloned().unwrap_or_default();
    let is_linked = linked.iter().any(|of| api::text(&of["host"]) == template::NAME);
    if !is_linked && facts.items.is_empty() && facts.rules.is_empty() {
        found.push(finding(
            format!("the template `{}` is not linked to the host `{name}`", template::NAME),
            "run `wachta zabbix provision`, or link the template to the host",
        ));
    }
    found
}

/// Returns the problems of items and rules, and the keys whose rejection they explain.
fn of_items(
    facts: &Facts,
    host: &Value,
    wanted: &[Wanted],
    refused: &BTreeSet<String>,
) -> (Vec<Finding>, BTreeSet<String>) {
    let mut problems: Vec<(Problem, Vec<&String>)> = Vec::new();
    let mut explained = BTreeSet::new();
    // Without the template, findings about each of its items would be useless.
    if host["parentTemplates"].as_array().is_none_or(Vec::is_empty) && facts.items.is_empty() && facts.rules.is_empty()
    {
        return (Vec::new(), refused.clone());
    }
    for wanted in wanted {
        let there = if wanted.is_rule { &facts.rules } else { &facts.items };
        let problem = match there.get(&wanted.key) {
            Some(object) => of_item(facts, wanted, object, refused.contains(&wanted.key)),
            None => Some(missing(facts, wanted)),
        };
        let Some(problem) = problem else { continue };
        explained.insert(wanted.key.clone());
        match problems.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, keys)) => keys.push(&wanted.key),
            None => problems.push((problem, vec![&wanted.key])),
        }
    }
    (problems.iter().map(|(problem, keys)| problem.finding(&named(keys))).collect(), explained)
}

/// Problem of an item or rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// The item does not exist although it is part of the template.
    NotInTemplate,
    /// The item does not exist because its discovery rule is disabled.
    RuleDisabled(&'static str),
    /// The item does not exist because its discovery rule has an error.
    RuleFails(&'static str, String),
    /// The item does not exist because its discovery rule is missing.
    NoRule(&'static str),
    /// The item does not exist because discovery by its prototype is disabled.
    NotDiscovered(String),
    /// The item has not been discovered yet.
    NotYetDiscovered,
    Disabled,
    NotTrapper,
    NotDependent,
    WrongValueType,
    NotAllowed {
        listed: String,
        address: String,
    },
    Unsupported(String),
}

impl Problem {
    fn finding(&self, keys: &str) -> Finding {
        match self {
            Self::NotInTemplate => finding(
                format!("the host has no item {keys}: its template is an old one, or another one"),
                "run `wachta zabbix provision`",
            ),
            Self::RuleDisabled(rule) => finding(
                format!("the discovery rule `{rule}` is disabled, so there is no item {keys}"),
                "enable it (host → Discovery)",
            ),
            Self::RuleFails(rule, error) => finding(
                format!("the discovery rule `{rule}` fails, so there is no item {keys}: {error}"),
                "correct what the error names; `wachta zabbix provision` puts the template in order",
            ),
            Self::NoRule(rule) => finding(
                format!("the host has no discovery rule `{rule}`, so there is no item {keys}"),
                "run `wachta zabbix provision`",
            ),
            Self::NotDiscovered(prototype) => finding(
                format!("the item prototype {prototype} is not discovered, so there is no item {keys}"),
                "switch on `Discover` of the prototype (host → Discovery → Item prototypes)",
            ),
            Self::NotYetDiscovered => finding(
                format!("there is no item {keys}: Zabbix has not discovered it"),
                "start the agent with this scenario: it sends discovery at its start, after each change and every hour, and Zabbix creates the items at once",
            ),
            Self::Disabled => finding(format!("{keys} is disabled"), "enable it (host → Items or Discovery)"),
            Self::NotTrapper => finding(
                format!("{keys} is not of the type Zabbix trapper, so nobody can send values to it"),
                "delete it, or give it the type Zabbix trapper; `wachta zabbix provision` puts the template in order",
            ),
            Self::NotDependent => finding(
                format!("{keys} is not of the type dependent item, so it gets no values of runs"),
                "delete it, so that discovery creates it again; `wachta zabbix provision` puts the template in order",
            ),
            Self::WrongValueType => finding(
                format!("{keys} has another type of information than wachta sends"),
                "run `wachta zabbix provision`, or give it the type that docs/zabbix.md has for it",
            ),
            Self::NotAllowed { listed, address } => finding(
                format!("the allowed hosts of {keys} are `{listed}`, which leaves out this machine ({address})"),
                format!(
                    "add the address with `wachta zabbix provision --allowed-hosts`, which sets the macro {} of the host, or change the item",
                    template::ALLOWED_HOSTS
                ),
            ),
            Self::Unsupported(error) => finding(
                format!("Zabbix cannot use the last value of {keys}: {error}"),
                "run `wachta zabbix provision`, which puts types and preprocessing in order; the next good value clears it",
            ),
        }
    }
}

/// Returns the reason why the item or rule of a key is missing.
fn missing(facts: &Facts, wanted: &Wanted) -> Problem {
    let rule = match wanted.key.split_once('[') {
        None => return Problem::NotInTemplate,
        Some((item, _)) if item.starts_with("wachta.step.") => DISCOVERY_STEPS,
        Some(_) => DISCOVERY,
    };
    let Some(found) = facts.rules.get(rule) else { return Problem::NoRule(rule) };
    if api::text(&found["status"]) == "1" {
        return Problem::RuleDisabled(rule);
    }
    let error = api::text(&found["error"]);
    if !error.is_empty() {
        return Problem::RuleFails(rule, error);
    }
    let (item, _) = wanted.key.split_once('[').unwrap_or((&wanted.key, ""));
    let is_of = |key: &String| key.split_once('[').is_some_and(|(of, _)| of == item);
    match facts.prototypes.iter().find(|(key, _)| is_of(key)) {
        None => Problem::NotInTemplate,
        Some((key, prototype)) if api::text(&prototype["discover"]) == "1" => {
            Problem::NotDiscovered(format!("`{key}`"))
        }
        Some(_) => Problem::NotYetDiscovered,
    }
}

/// Returns the problem of an existing item or rule.
fn of_item(facts: &Facts, wanted: &Wanted, object: &Value, is_refused: bool) -> Option<Problem> {
    let field = |key: &str| api::text(&object[key]);
    let kind = field("type");
    if wanted.is_sent && kind != "2" {
        return Some(Problem::NotTrapper);
    }
    if !wanted.is_sent && kind != "18" {
        return Some(Problem::NotDependent);
    }
    if field("status") == "1" {
        return Some(Problem::Disabled);
    }
    if !wanted.is_rule && field("value_type") != wanted.value_type {
        return Some(Problem::WrongValueType);
    }
    if is_refused && let Some(address) = facts.our_address {
        let listed = resolved(&field("trapper_hosts"), &facts.macros);
        if !listed.is_empty() && !allows(&listed, address) {
            return Some(Problem::NotAllowed { listed, address: address.to_string() });
        }
    }
    let error = field("error");
    (field("state") == "1" && !error.is_empty()).then_some(Problem::Unsupported(error))
}

/// Replaces the macros in a text by their values.
fn resolved(text: &str, macros: &BTreeMap<String, String>) -> String {
    macros.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Returns whether a list of addresses and networks contains an address. Host names are not resolved and count as other
/// addresses.
fn allows(listed: &str, address: IpAddr) -> bool {
    listed.split(',').map(str::trim).any(|one| {
        let (network, bits) = match one.split_once('/') {
            Some((network, bits)) => (network, bits.parse::<u32>().ok()),
            None => (one, None),
        };
        let Ok(network) = network.parse::<IpAddr>() else { return false };
        let (wide, network_bits, total) = match (address.to_canonical(), network) {
            (IpAddr::V4(address), IpAddr::V4(network)) => {
                (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
            }
            (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
            // `::/0` matches every address.
            (IpAddr::V4(_), IpAddr::V6(network)) => return network.is_unspecified() && bits == Some(0),
            (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let shift = total - bits.unwrap_or(total).min(total);
        shift >= 128 || wide >> shift == network_bits >> shift
    })
}

/// Formats the first keys of a list, and the number of the others.
fn named(keys: &[&String]) -> String {
    let first: Vec<_> = keys.iter().take(MAX_NAMED).map(|key| format!("`{key}`")).collect();
    let more = keys.len().saturating_sub(MAX_NAMED);
    if more == 0 { first.join(", ") } else { format!("{} and {more} more", first.join(", ")) }
}
