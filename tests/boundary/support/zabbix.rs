//! A Zabbix server with its API, 6.0 or 7.0, and a host that the template is linked to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};
use wachta::bounded::credential::Credential;
use wachta::sink::zabbix::api::{self, Login};
use wachta::sink::zabbix::provision::{self, Wanted};

/// The host's technical name.
/// How the hosts of tests begin. Each test has a host of its own: to one that was made anew under the same name the
/// server goes on to give values for items that are gone, until its next configuration sync.
const HOSTS: &str = "wachta-test-";

/// There is one server, and one host: one test has them at a time.
static ONE: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

/// A version of Zabbix that tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V6_0,
    V7_0,
}

impl Version {
    pub const ALL: [Self; 2] = [Self::V6_0, Self::V7_0];

    fn script(self) -> PathBuf {
        root().join(match self {
            Self::V6_0 => "tests/support/zabbix.sh",
            Self::V7_0 => "tests/support/zabbix7.sh",
        })
    }
}

/// A running server; ended when the test is over, however it ends.
pub struct Server {
    pub version: Version,
    pub trapper: String,
    pub api: String,
    /// The folder with the authority, and a certificate of an agent that it signed.
    pub tls: PathBuf,
    _mine: OwnedMutexGuard<()>,
}

impl Server {
    /// Starts 6.0, when no other test has a server. Blocks.
    pub fn up() -> Self {
        Self::start(Version::V6_0).expect("6.0 can be had on every Debian")
    }

    /// Starts a version, when no other test has a server; `None`, said loudly, where it cannot be had. Blocks.
    pub fn start(version: Version) -> Option<Self> {
        let mine = Arc::clone(&ONE).blocking_lock_owned();
        let output = Command::new(version.script()).arg("up").output().expect("the script runs");
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(NOT_TO_BE_HAD) {
            eprintln!("NOT TESTED against {version:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let value = |key: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(key)).expect("the script says where the server is");
            line.trim_start_matches('=').to_owned()
        };
        Some(Self {
            version,
            trapper: value("ZABBIX_TRAPPER"),
            api: value("ZABBIX_API"),
            tls: value("ZABBIX_TLS").into(),
            _mine: mine,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = Command::new(self.version.script()).arg("down").status();
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The exit code of a script whose server cannot be had on this machine.
const NOT_TO_BE_HAD: i32 = 77;

/// The JSON-RPC API, logged in.
pub struct Api {
    /// The technical name of this test's host.
    pub host: String,
    http: reqwest::Client,
    url: String,
    session: Option<String>,
}

impl Api {
    pub async fn login(server: &Server) -> Self {
        // Plain HTTP, but the client wants to know how it would do TLS.
        _ = rustls::crypto::ring::default_provider().install_default();
        let host = format!("{HOSTS}{}", uuid::Uuid::now_v7().simple());
        let mut api = Self { host, http: reqwest::Client::new(), url: server.api.clone(), session: None };
        let session = api.call("user.login", json!({"username": "Admin", "password": "zabbix"})).await;
        api.session = session.as_str().map(str::to_owned);
        api
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        let mut request = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        if let Some(session) = &self.session {
            request["auth"] = session.as_str().into();
        }
        let answer: Value = self.http.post(&self.url).json(&request).send().await.unwrap().json().await.unwrap();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Asks again until the answer is as expected. An agent waits up to half a minute before it tries again to send
    /// what Zabbix has no item for yet.
    pub async fn until(&self, method: &str, params: Value, expected: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asked = tokio::time::timeout(Duration::from_secs(120), async {
            loop {
                last = self.call(method, params.clone()).await;
                if expected(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(asked.await.is_ok(), "{method} {params} still answers {last:#}");
        last
    }

    /// The values of an item, oldest first, once there are `count`.
    pub async fn history(&self, key: &str, value_type: u8, count: usize) -> Vec<Value> {
        let items = json!({"host": self.host, "filter": {"key_": key}, "output": ["itemid", "value_type", "name"]});
        let items = self.until("item.get", items, |items| items[0]["itemid"].is_string()).await;
        let params = json!({"itemids": items[0]["itemid"], "history": value_type, "output": "extend"});
        let values =
            self.until("history.get", params, |values| values.as_array().is_some_and(|v| v.len() >= count)).await;
        let mut values = values.as_array().unwrap().clone();
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
        values.sort_by_key(|value| (number(&value["clock"]), number(&value["ns"])));
        values
    }

    /// A host with the template, as `wachta zabbix provision` makes it.
    pub async fn provision(&self) {
        // A test that failed halfway leaves them behind, and their hosts cannot go before them.
        let search = json!({"search": {"name": HOSTS}, "startSearch": true, "output": ["maintenanceid"]});
        let old = self.call("maintenance.get", search).await;
        let ids: Vec<_> = old.as_array().unwrap().iter().map(|old| old["maintenanceid"].clone()).collect();
        if !ids.is_empty() {
            self.call("maintenance.delete", json!(ids)).await;
        }
        let old =
            self.call("host.get", json!({"search": {"host": HOSTS}, "startSearch": true, "output": ["hostid"]})).await;
        let ids: Vec<_> = old.as_array().unwrap().iter().map(|host| host["hostid"].clone()).collect();
        if !ids.is_empty() {
            self.call("host.delete", json!(ids)).await;
        }
        let wanted = self.wanted();
        provision::provision(&self.ours().await, &wanted, false).await.unwrap();
    }

    /// What tests want of provisioning.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            host: self.host.clone(),
            group: "Watched by tests".into(),
            tags: vec!["service".into()],
            allowed_hosts: None,
        }
    }

    /// How the agent's own client is told of this API.
    pub fn config(&self) -> api::Config {
        let login = Login::User("Admin".into(), Credential::text("zabbix"));
        api::Config { url: api::url_of(&self.url).unwrap(), login, ca: None }
    }

    /// The agent's own client.
    pub async fn ours(&self) -> api::Api {
        api::Api::connect(&self.config(), self.http.clone()).await.unwrap()
    }
}
