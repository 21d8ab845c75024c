//! Evidence of a page after a failed step. Each part is best effort; the caller masks it.

use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};

use super::command::Command;
use super::page::Page;
use crate::outcome::EvidenceKind;
use crate::store::evidence::LARGEST;

/// Maximum time for collecting all evidence.
const LIMIT: Duration = Duration::from_secs(5);

/// Names of the first downloaded files.
const DOWNLOADS: [&str; 3] = ["download-1", "download-2", "download-3"];

/// Maximum time for recording the footprint of a page.
const PRINT_LIMIT: Duration = Duration::from_secs(2);

/// Returns the document's title.
const TITLE: &str = "return wachta.get(document, 'title');";

/// Returns the current document.
const SOURCE: &str = "return wachta.source();";

/// Returns the accessibility tree of the page; see `tree.js`.
const TREE: &str = "return wachta.tree();";

impl Page {
    /// Collects a screenshot of the whole page, its accessibility tree, the current document, and the URL, title,
    /// console messages and failed requests. Contains less if the browser does not respond. Takes a few seconds at
    /// most.
    pub async fn evidence(&mut self) -> Vec<(EvidenceKind, &'static str, Vec<u8>)> {
        let end = Instant::now() + LIMIT;
        let mut found = Vec::new();
        // A step that was aborted may have left the driver in a frame.
        let _ = timeout_at(end, self.leave_frames()).await;
        // The tree comes first, because the screenshot of a long page may take all of the time.
        let tree = timeout_at(end, self.script(TREE, &Json::Null, end)).await.ok().and_then(Result::ok);
        if let Ok(Ok(picture)) = timeout_at(end, self.of_the_page(true)).await {
            found.push((EvidenceKind::Screenshot, "failure.png", picture));
        }
        if let Some(Json::String(tree)) = tree {
            found.push((EvidenceKind::Accessibility, "failure.aria.txt", tree.into_bytes()));
        }
        let source = timeout_at(end, self.script(SOURCE, &Json::Null, end)).await.ok().and_then(Result::ok);
        if let Some(Json::String(source)) = source {
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
        let downloads = self.watch.observed().downloads().to_vec();
        let files = downloads.iter().filter_map(|one| self.watch.file_of(one));
        for (name, path) in DOWNLOADS.into_iter().zip(files) {
            let mut bytes = Vec::new();
            let read = tokio::fs::File::open(path).await;
            if let Ok(file) = read
                && file.take(LARGEST as u64).read_to_end(&mut bytes).await.is_ok()
            {
                found.push((EvidenceKind::Download, name, bytes));
            }
        }
        found
    }

    /// Returns the document's title, the accessibility tree and a picture of the whole page. Returns `None` while a
    /// dialog is open, and if the page does not respond soon.
    pub async fn print(&mut self) -> Option<(String, String, Option<Vec<u8>>)> {
        if self.dialog_is_awaited {
            return None;
        }
        let end = Instant::now() + PRINT_LIMIT;
        timeout_at(end, self.leave_frames()).await.ok()?.ok()?;
        let title = self.title().await?;
        let tree = timeout_at(end, self.script(TREE, &Json::Null, end)).await.ok()?.ok()?;
        let picture = timeout_at(end, self.of_the_page(true)).await.ok().and_then(Result::ok);
        Some((title, tree.as_str()?.to_owned(), picture))
    }

    /// Returns the document's title.
    pub async fn title(&mut self) -> Option<String> {
        let end = Instant::now() + PRINT_LIMIT;
        let title = timeout_at(end, self.script(TITLE, &Json::Null, end)).await.ok()?.ok()?;
        title.as_str().map(ToOwned::to_owned)
    }

    async fn obtain(&mut self, command: Command, end: Instant) -> Option<Json> {
        let left = end.saturating_duration_since(Instant::now());
        timeout_at(end, self.call(command, left)).await.ok()?.ok()
    }
}
