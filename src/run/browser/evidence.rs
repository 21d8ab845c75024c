//! What there is to see of a page when a step has failed. Each part is best effort; masking is the caller's.

use std::time::Duration;

use serde_json::Value as Json;
use tokio::time::{Instant, timeout_at};

use super::command::Command;
use super::page::Page;
use crate::outcome::EvidenceKind;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What a screen reader finds in the page, see `tree.js`.
const TREE: &str = "return wachta.tree();";

impl Page {
    /// A picture of the whole page, what a screen reader finds in it, the document as it is now, and its URL, title,
    /// console messages and failed requests; less when the browser does not answer. Takes a few seconds at most.
    pub async fn evidence(&mut self) -> Vec<(EvidenceKind, &'static str, Vec<u8>)> {
        let end = Instant::now() + LIMIT;
        let mut found = Vec::new();
        // A step that was cut off may have left the driver in a frame.
        let _ = timeout_at(end, self.leave_frames()).await;
        // The picture of a long page may take all the time there is.
        let tree = timeout_at(end, self.script(TREE, &Json::Null, end)).await.ok().and_then(Result::ok);
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
        if url.is_some() || title.is_some() || self.bidi().is_some() {
            let text = |answer: &Option<Json>| answer.as_ref().and_then(Json::as_str).map(ToOwned::to_owned);
            let page = self.watch.observed().page_json(text(&url).as_deref(), text(&title).as_deref());
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
