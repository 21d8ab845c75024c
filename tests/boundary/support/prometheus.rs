//! A Prometheus server that takes remote write and, where asked, scrapes an agent several times for each run.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::group::{Group, free_port};
use super::{Folder, until};

/// A running server; ended with the test.
pub struct Prometheus {
    /// Where it listens, as `ADDRESS:PORT`.
    pub address: String,
    http: reqwest::Client,
    _group: Group,
    _folder: Folder,
}

impl Prometheus {
    /// A server that scrapes `/metrics` of a target (`ADDRESS:PORT`) every 200 ms, where one is given.
    pub async fn up(target: Option<&str>) -> Self {
        let (folder, port) = (Folder::new("prometheus"), free_port());
        let address = format!("127.0.0.1:{port}");
        let jobs = target.map(|target| {
            format!("{{job_name: wachta, honor_labels: true, static_configs: [{{targets: [\"{target}\"]}}]}}")
        });
        folder.write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs: [{}]\n",
                jobs.unwrap_or_default()
            ),
        );
        let mut command = Command::new("prometheus");
        command.current_dir(folder.path()).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.enable-remote-write-receiver",
            "--enable-feature=exemplar-storage",
            &format!("--web.listen-address={address}"),
        ]);
        let mut group = Group::start(&mut command, &folder.path().join("prometheus.log"));
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        until("Prometheus is ready", Duration::from_secs(30), async || {
            group.must_live();
            http.get(format!("http://{address}/-/ready")).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
        Self { address, http, _group: group, _folder: folder }
    }

    async fn get(&self, path: &str, pairs: &[(&str, &str)]) -> Value {
        let mut url: url::Url = format!("http://{}/api/v1/{path}", self.address).parse().unwrap();
        url.query_pairs_mut().extend_pairs(pairs);
        let answer: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{pairs:?}: {answer}");
        answer["data"].clone()
    }

    /// The samples of each series that a range selector finds: times in seconds since 1970, and values.
    pub async fn samples(&self, selector: &str) -> Vec<Vec<(f64, f64)>> {
        let data = self.get("query", &[("query", selector)]).await;
        let sample = |value: &Value| (value[0].as_f64().unwrap(), value[1].as_str().unwrap().parse().unwrap());
        let series = data["result"].as_array().unwrap().iter();
        series.map(|series| series["values"].as_array().unwrap().iter().map(sample).collect()).collect()
    }

    /// The ids of traces that exemplars of these series have.
    pub async fn traces(&self, selector: &str) -> BTreeSet<String> {
        let data = self.get("query_exemplars", &[("query", selector), ("start", "0"), ("end", "9999999999")]).await;
        let exemplars = data.as_array().unwrap().iter().flat_map(|series| series["exemplars"].as_array().unwrap());
        exemplars.map(|exemplar| exemplar["labels"]["trace_id"].as_str().unwrap().to_owned()).collect()
    }
}
