//! Servers with OpenSearch's REST API: OpenSearch itself, and osmem, which is written independently and is up at once.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::group::{Group, free_port, tools, tools_folder};
use super::{Folder, until};

/// How long a server may take to start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A running server; ended with the test.
pub struct SearchServer {
    /// What it is, for messages.
    pub name: &'static str,
    /// Where it listens, as `ADDRESS:PORT`.
    pub address: String,
    http: reqwest::Client,
    group: Group,
    _folder: Folder,
}

impl SearchServer {
    /// Starts osmem. It keeps everything in memory and has no data streams.
    pub async fn osmem() -> Self {
        let (folder, tools, port) = (Folder::new("osmem"), tools("osmem/bin/osmem-server"), free_port());
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(tools.join("osmem/bin/osmem-server"));
        command.args(["-addr", &address, "-no-stdin-watch", "-no-ja"]).current_dir(folder.path());
        let group = Group::start(&mut command, &folder.path().join("log"));
        Self::ready("osmem", Some(address), group, folder).await
    }

    /// Starts an OpenSearch node without plugins. Returns `None`, with a message, where `tests/support/tools.sh` cannot
    /// build one because Java or Maven is missing.
    pub async fn open_search(test: &str) -> Option<Self> {
        let classes = tools_folder().join("opensearch/classes");
        if !classes.exists() {
            let is_there = |program: &str| Command::new(program).arg("-version").output().is_ok();
            let can_build = is_there("mvn") && is_there("javac");
            assert!(!can_build, "opensearch/classes is missing: run tests/support/tools.sh");
            eprintln!("NOT TESTED: {test}: OpenSearch needs Maven and a Java compiler, which are not here");
            return None;
        }
        let folder = Folder::new(&format!("opensearch-{test}"));
        let lib = classes.with_file_name("lib");
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}:{}/*", classes.display(), lib.display()))
            .arg("OpenSearchNode")
            .arg(folder.path());
        let group = Group::start(&mut command, &folder.path().join("log"));
        Some(Self::ready("OpenSearch", None, group, folder).await)
    }

    /// Starts OpenSearch where it can be had, otherwise osmem.
    pub async fn best(test: &str) -> Self {
        match Self::open_search(test).await {
            Some(server) => server,
            None => Self::osmem().await,
        }
    }

    /// Waits until the server answers. Without an address it is taken from the server's output.
    async fn ready(name: &'static str, address: Option<String>, mut group: Group, folder: Folder) -> Self {
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        let address = until(&format!("{name} is ready"), START_TIMEOUT, async || {
            group.must_live();
            let printed = || group.log().lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
            let address = address.clone().or_else(printed)?;
            let answer = http.get(format!("http://{address}/")).send().await.ok()?;
            answer.status().is_success().then_some(address)
        })
        .await;
        Self { name, address, http, group, _folder: folder }
    }

    /// Whether it is OpenSearch itself.
    pub fn is_real(&self) -> bool {
        self.name == "OpenSearch"
    }

    /// Sends a request; returns the status and the answer.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.request(method, format!("http://{}/{path}", self.address));
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.group.log()));
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// The documents that a query finds, in the order of their times; none if there is no such index. What was written
    /// before the call is found.
    pub async fn search(&self, index: &str, query: &Value) -> Vec<Value> {
        self.call(Method::POST, &format!("{index}/_refresh"), &Value::Null).await;
        let body = json!({"size": 10_000, "query": query, "sort": [{"@timestamp": "asc"}]});
        let (status, answer) = self.call(Method::POST, &format!("{index}/_search"), &body).await;
        assert!(matches!(status, 200 | 404), "{query}: {answer:#}");
        answer["hits"]["hits"].as_array().into_iter().flatten().map(|hit| hit["_source"].clone()).collect()
    }

    /// The documents in which a field has this value, in the order of their times.
    pub async fn documents(&self, index: &str, field: &str, value: &str) -> Vec<Value> {
        self.search(index, &json!({"term": {field: value}})).await
    }
}
