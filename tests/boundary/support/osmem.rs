//! osmem, a server in memory that speaks OpenSearch's REST API. It is written independently of OpenSearch.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::group::{Group, free_port, tools};
use super::{Folder, until};

/// A running server; ended with the test.
pub struct Osmem {
    /// Where it listens, as `ADDRESS:PORT`.
    pub address: String,
    http: reqwest::Client,
    _group: Group,
    _folder: Folder,
}

impl Osmem {
    pub async fn up() -> Self {
        let (folder, tools, port) = (Folder::new("osmem"), tools("osmem/bin/osmem-server"), free_port());
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(tools.join("osmem/bin/osmem-server"));
        command.args(["-addr", &address, "-no-stdin-watch", "-no-ja"]).current_dir(folder.path());
        let mut group = Group::start(&mut command, &folder.path().join("osmem.log"));
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        until("osmem is ready", Duration::from_secs(30), async || {
            group.must_live();
            http.get(format!("http://{address}/")).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
        Self { address, http, _group: group, _folder: folder }
    }

    /// The documents of an index in which a field has this value, in the order of their times; none before there is an
    /// index.
    pub async fn documents(&self, index: &str, field: &str, value: &str) -> Vec<Value> {
        let query = json!({"size": 10_000, "query": {"term": {field: value}}, "sort": [{"@timestamp": "asc"}]});
        let url = format!("http://{}/{index}/_search", self.address);
        let answer: Value = self.http.post(url).json(&query).send().await.unwrap().json().await.unwrap();
        answer["hits"]["hits"].as_array().into_iter().flatten().map(|hit| hit["_source"].clone()).collect()
    }
}
