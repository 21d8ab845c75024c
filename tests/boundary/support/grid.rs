//! Selenium Grid on this machine, with Chromium and Firefox. It fetches nothing and reports nothing.

use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::group::{Group, free_port, tools};
use super::{Folder, until};

/// A Grid that takes sessions.
pub struct Grid {
    _group: Group,
    pub url: url::Url,
    _folder: Folder,
}

impl Grid {
    /// Starts it for this many sessions at once.
    pub async fn up(name: &str, sessions: usize) -> Self {
        let (folder, tools, port) = (Folder::new(name), tools("selenium-server.jar"), free_port());
        let node = |browser: &str, driver: &str, options: &str| {
            format!(
                "[[node.driver-configuration]]\ndisplay-name = \"{browser}\"\nwebdriver-executable = \"{driver}\"\nmax-sessions = {sessions}\n\
                 stereotype = '{{\"browserName\": \"{browser}\", \"platformName\": \"linux\", {options}}}'\n"
            )
        };
        let driver = tools.join("bin/geckodriver").display().to_string();
        folder.write(
            "grid.toml",
            &format!(
                "[server]\nhost = \"127.0.0.1\"\nport = {port}\nbind-bus = false\n\
                 [node]\ndetect-drivers = false\nselenium-manager = false\nmax-sessions = {sessions}\nsession-timeout = 60\n{}{}",
                node("chrome", "/usr/bin/chromedriver", r#""goog:chromeOptions": {"binary": "/usr/bin/chromium"}"#),
                node("firefox", &driver, r#""moz:firefoxOptions": {"binary": "/usr/bin/firefox-esr"}"#),
            ),
        );
        let temporary = folder.path().join("tmp");
        std::fs::create_dir_all(&temporary).unwrap();
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-jar"])
            .arg(tools.join("selenium-server.jar"))
            .args(["standalone", "--config"])
            .arg(folder.path().join("grid.toml"))
            .env("SE_OFFLINE", "true")
            .env("SE_AVOID_STATS", "true")
            .env("TMPDIR", &temporary);
        let mut group = Group::start(&mut command, &folder.path().join("grid.log"));
        let status = format!("http://127.0.0.1:{port}/status");
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        until("the Grid is ready", Duration::from_secs(60), async || {
            group.must_live();
            let answer: Value = http.get(&status).send().await.ok()?.json().await.ok()?;
            (answer["value"]["ready"] == true).then_some(())
        })
        .await;
        Self { _group: group, url: format!("http://127.0.0.1:{port}/").parse().unwrap(), _folder: folder }
    }

    /// What its machine needs of Chromium: as root there is no sandbox.
    pub fn capabilities() -> Map<String, Value> {
        let own = json!({"goog:chromeOptions": {"args": ["--no-sandbox"]}});
        if nix::unistd::geteuid().is_root() { own.as_object().cloned().unwrap_or_default() } else { Map::new() }
    }
}
