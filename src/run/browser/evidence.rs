//! What there is to see of a page when a step has failed. Each part is best effort; masking is the caller's.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::{Instant, timeout_at};

use super::command::Command;
use super::engine;
use super::page::Page;
use crate::outcome::EvidenceKind;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What a screen reader finds in the page.
const TREE: &str = concat!(include_str!("names.js"), include_str!("tree.js"));

/// How many console messages are kept: the last ones.
const MESSAGES: usize = 200;

impl Page {
    /// A picture of the whole page, what a screen reader finds in it, the document as it is now, and URL, title and console messages; less when the browser does not answer.
    /// Takes a few seconds at most.
    pub async fn evidence(&mut self) -> Vec<(EvidenceKind, &'static str, Vec<u8>)> {
        let end = Instant::now() + LIMIT;
        let mut found = Vec::new();
        // A step that was cut off may have left the driver in a frame.
        let _ = timeout_at(end, self.leave_frames()).await;
        // The picture of a long page may take all the time there is.
        let tree = self.obtain(Command::script(TREE, &Json::Null), end).await;
        if let Ok(Ok(picture)) = timeout_at(end, self.of_the_page(true)).await {
            found.push((EvidenceKind::Screenshot, "failure.png", picture));
        }
        if let Some(Json::String(tree)) = tree {
            found.push((EvidenceKind::Accessibility, "failure.aria.txt", tree.into_bytes()));
        }
        if let Some(Json::String(source)) = self.obtain(Command::get("source"), end).await {
            found.push((EvidenceKind::Source, "failure.html", source.into_bytes()));
        }
        let url = self.obtain(Command::get("url"), end).await;
        let title = self.obtain(Command::get("title"), end).await;
        let console = if engine::kind(self.session().engine).keeps_logs {
            self.obtain(Command::post("se/log", json!({"type": "browser"})), end).await
        } else {
            None
        };
        if url.is_some() || title.is_some() || console.is_some() {
            let page = json!({"url": url, "title": title, "console": messages(console)});
            if let Ok(bytes) = serde_json::to_vec_pretty(&page) {
                found.push((EvidenceKind::Page, "page.json", bytes));
            }
        }
        found
    }

    async fn obtain(&mut self, command: Command, end: Instant) -> Option<Json> {
        let left = end.saturating_duration_since(Instant::now());
        timeout_at(end, self.call(command, left)).await.ok()?.ok()
    }
}

/// The driver's log entries with the names that people know.
fn messages(log: Option<Json>) -> Vec<Json> {
    let Some(Json::Array(entries)) = log else { return Vec::new() };
    let skipped = entries.len().saturating_sub(MESSAGES);
    entries
        .into_iter()
        .skip(skipped)
        .map(|entry| {
            json!({
                "level": entry["level"],
                "source": entry["source"],
                "message": entry["message"],
                "timestamp_ms": entry["timestamp"],
            })
        })
        .collect()
}
