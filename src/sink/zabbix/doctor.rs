//! Diagnosis of values that Zabbix does not accept: the responses of the server are compared with the data of the API.
//!
//! The server only reports the number of accepted values. Every key is therefore probed with a row without a value: the
//! server decides about it as about any other, and stores nothing (observed with 6.0 and 7.0). Rejections are explained
//! with data of the API; what the API cannot explain is too new for the server. [`diagnose`] is pure.

mod findings;
mod key;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::api::{self, Api, Error, Version};
use super::client::Client;
use super::items::declaration::{OF_AGENT, OF_SCENARIO, OF_STEP, Source};
use super::items::{self, DISCOVERY, DISCOVERY_STEPS, ItemValue, ValueClass};
use super::{Config, Security, template};

pub use findings::{Facts, Finding, Reply, diagnose};
pub use key::Wanted;

/// Timeout of a connection to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a response of the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of keys to probe individually if the server rejects some of them.
const MAX_PROBES: usize = 2_000;

/// Scenario whose values should arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Id of the scenario.
    pub id: String,
    /// Names of the steps.
    pub steps: Vec<String>,
}

/// Returns the keys that an agent and its scenarios always have.
pub fn wanted(scenarios: &[Expected]) -> Vec<Wanted> {
    let rule = |key: &str| Wanted { key: key.to_owned(), value_type: "4", is_sent: true, is_rule: true };
    let of = |item: &items::declaration::Item, parameters: &[&str]| Wanted {
        key: item.key_of(parameters),
        value_type: item.value_type.number(),
        is_sent: item.source == Source::Sent,
        is_rule: false,
    };
    let mut wanted = vec![rule(DISCOVERY), rule(DISCOVERY_STEPS)];
    wanted.extend(OF_AGENT.iter().map(|item| of(item, &[])));
    for scenario in scenarios {
        let every = OF_SCENARIO.iter().filter(|item| item.scope == items::declaration::Scope::Every);
        wanted.extend(every.map(|item| of(item, &[&scenario.id])));
        let names: BTreeSet<_> = scenario.steps.iter().map(|step| items::step_parameter(step)).collect();
        for step in &names {
            wanted.extend(OF_STEP.iter().map(|item| of(item, &[&scenario.id, step])));
        }
    }
    wanted
}

/// Determines the reasons why values do not arrive. There are no problems if the list is empty.
///
/// # Errors
///
/// The API does not respond, or rejects a call that is needed for the diagnosis.
pub async fn examine(api: &Api, config: &Config, scenarios: &[Expected]) -> Result<Vec<Finding>, Error> {
    let wanted = wanted(scenarios);
    let (reply, our_address) = ask_server(config, &wanted).await;
    let facts = Facts {
        version: api.version(),
        address: config.place(),
        encryption: encryption(&config.security),
        host_name: config.host.clone(),
        our_address,
        reply,
        ..gather(api, &config.host).await?
    };
    Ok(diagnose(&facts, &wanted))
}

/// Examines the server without the API.
pub async fn examine_server(config: &Config) -> Option<Finding> {
    let (reply, _) = ask_server(config, &[]).await;
    findings::server(&config.place(), &reply)
}

/// Queries the server for each key whether it accepts values.
async fn ask_server(config: &Config, wanted: &[Wanted]) -> (Reply, Option<IpAddr>) {
    // If values are sent through the API, its data about the host and its items is the only source.
    let mut reply = Reply::default();
    let mut our_address = None;
    for address in &config.servers {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                our_address = stream.local_addr().ok().map(|address| address.ip());
                break;
            }
            Ok(Err(error)) => reply = Reply::NoConnection(error.to_string()),
            Err(_) => reply = Reply::NoConnection("no response".to_owned()),
        }
    }
    if our_address.is_none() {
        return (reply, None);
    }
    let (servers, security) = (config.servers.clone(), config.security.clone());
    let mut client = Client::new(&config.host, servers, security, CONNECT_TIMEOUT, ANSWER_TIMEOUT);
    let rows: Vec<_> = wanted
        .iter()
        .filter(|wanted| wanted.is_sent)
        .map(|wanted| ItemValue { key: wanted.key.clone(), value: String::new(), at: None, weight: ValueClass::Upkeep })
        .collect();
    let not_zabbix = |error: String| (Reply::NotZabbix(error), our_address);
    let taken = match client.send(&rows).await {
        Ok(taken) => taken,
        Err(error) => return not_zabbix(error),
    };
    let mut refused = BTreeSet::new();
    if taken < rows.len() {
        for row in rows.iter().take(MAX_PROBES) {
            match client.send(std::slice::from_ref(row)).await {
                Ok(0) => _ = refused.insert(row.key.clone()),
                Ok(_) => {}
                Err(error) => return not_zabbix(error),
            }
        }
    }
    (Reply::Refuses(refused), our_address)
}

/// Returns the encryption of connections as a number of the API.
fn encryption(security: &Security) -> u64 {
    match security {
        Security::None => 1,
        Security::Psk(_) => 2,
        Security::Certificate(_) => 4,
    }
}

/// Collects the data of the API about a host.
async fn gather(api: &Api, host: &str) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    let params = json!({"filter": {"host": host}, "output": "extend", "selectParentTemplates": ["templateid", "host"]});
    facts.host = api.get("host.get", &params).await?.into_iter().next();
    let Some(id) = facts.host.as_ref().map(|host| host["hostid"].clone()) else {
        let params = json!({
            "search": {"host": host, "name": host}, "searchByAny": true, "output": ["host", "name"], "limit": 20,
        });
        facts.similar = api.get("host.get", &params).await?;
        let params = json!({"filter": {"host": host}, "output": ["templateid"]});
        facts.is_template = !api.get("template.get", &params).await?.is_empty();
        facts.visible_hosts = api.get("host.get", &json!({"output": ["hostid"], "limit": 1})).await?.len();
        return Ok(facts);
    };
    let common = json!(["itemid", "key_", "name", "type", "status", "state", "error", "value_type", "trapper_hosts"]);
    let params = json!({"hostids": id, "search": {"key_": "wachta."}, "startSearch": true, "output": common});
    facts.items = by_key(api.get("item.get", &params).await?);
    let rules = json!(["itemid", "key_", "name", "type", "status", "state", "error", "trapper_hosts"]);
    let params = json!({"hostids": id, "filter": {"key_": [DISCOVERY, DISCOVERY_STEPS]}, "output": rules});
    facts.rules = by_key(api.get("discoveryrule.get", &params).await?);
    let params = json!({"hostids": id, "output": ["key_", "name", "status", "discover"]});
    facts.prototypes = by_key(api.get("itemprototype.get", &params).await?);
    facts.proxy = proxy(api, facts.host.as_ref().unwrap_or(&Value::Null)).await?;
    // A macro of the host overrides one of its templates, which overrides a global one.
    facts.macros = macros(api.get("usermacro.get", &json!({"globalmacro": true})).await.unwrap_or_default());
    let params =
        json!({"filter": {"host": template::NAME}, "output": ["templateid"], "selectMacros": ["macro", "value"]});
    for template in api.get("template.get", &params).await? {
        facts.macros.extend(macros(template["macros"].as_array().cloned().unwrap_or_default()));
    }
    facts.macros.extend(macros(api.get("usermacro.get", &json!({"hostids": id})).await?));
    Ok(facts)
}

fn by_key(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (api::text(&object["key_"]), object)).collect()
}

fn macros(objects: Vec<Value>) -> BTreeMap<String, String> {
    objects.into_iter().map(|object| (api::text(&object["macro"]), api::text(&object["value"]))).collect()
}

/// Returns the name of the proxy or proxy group that monitors a host.
async fn proxy(api: &Api, host: &Value) -> Result<Option<String>, Error> {
    let is_old = api.version() < Version::new(7, 0);
    let (method, id, key, name) = match (is_old, api::text(&host["monitored_by"]).as_str()) {
        (true, _) => ("proxy.get", &host["proxy_hostid"], "proxyids", "host"),
        (false, "1") => ("proxy.get", &host["proxyid"], "proxyids", "name"),
        (false, "2") => ("proxygroup.get", &host["proxy_groupid"], "proxy_groupids", "name"),
        (false, _) => return Ok(None),
    };
    if matches!(api::text(id).as_str(), "" | "0") {
        return Ok(None);
    }
    let found = api.get(method, &json!({key: id, "output": [name]})).await?;
    // The user may have permission for the host but not for the proxy.
    Ok(Some(
        found
            .first()
            .map_or("of which only the id is known".to_owned(), |proxy| format!("`{}`", api::text(&proxy[name]))),
    ))
}
