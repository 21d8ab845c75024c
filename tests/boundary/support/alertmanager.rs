//! A real Alertmanager on loopback, alone in its cluster.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::group::{Group, free_port};
use super::{Folder, until};

/// An Alertmanager that can be restarted.
pub struct Alertmanager {
    group: Option<Group>,
    folder: Folder,
    port: u16,
    http: reqwest::Client,
}

impl Alertmanager {
    /// Groups by `service` and posts to this webhook, quickly.
    pub async fn up(webhook: SocketAddr) -> Self {
        let folder = Folder::new("alertmanager");
        folder.write(
            "alertmanager.yml",
            &format!(
                "route: {{receiver: hook, group_by: [service], group_wait: 2s, group_interval: 1s, repeat_interval: 4h}}\n\
                 receivers:\n  - name: hook\n    webhook_configs: [{{url: \"http://{webhook}/\", send_resolved: true}}]\n"
            ),
        );
        _ = rustls::crypto::ring::default_provider().install_default();
        let mut alertmanager = Self { group: None, folder, port: free_port(), http: reqwest::Client::new() };
        alertmanager.start().await;
        alertmanager
    }

    async fn start(&mut self) {
        let mut command = Command::new("prometheus-alertmanager");
        command
            .args(["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="])
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .current_dir(self.folder.path());
        let mut group = Group::start(&mut command, &self.folder.path().join("log"));
        until("Alertmanager is ready", Duration::from_secs(60), async || {
            group.must_live();
            let ready = self.http.get(format!("{}/-/ready", self.url())).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        self.group = Some(group);
    }

    /// Ends it and starts it again: what fired is forgotten, what was told is not.
    pub async fn restart(&mut self) {
        let group = self.group.take();
        tokio::task::spawn_blocking(move || drop(group)).await.unwrap();
        self.start().await;
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The alerts that fire.
    pub async fn alerts(&self) -> Vec<Value> {
        let asked = self.http.get(format!("{}/api/v2/alerts", self.url())).send().await;
        asked.unwrap().json().await.unwrap()
    }
}
