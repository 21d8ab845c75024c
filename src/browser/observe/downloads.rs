//! Downloads: `browsingContext.downloadWillBegin` and `downloadEnd`.

use serde_json::Value as Json;

/// Maximum number of stored downloads.
const DOWNLOADS: usize = 200;
/// Maximum length of names, paths and URLs; longer ones are discarded.
const LONGEST: usize = 8192;

/// Status of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadStatus {
    /// The download is in progress.
    InProgress,
    /// The file is complete.
    Complete,
    /// The download was cancelled by the browser or because it was not allowed.
    Canceled,
}

/// A download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Position in `Outcome.steps` of the step during which it started.
    pub step: usize,
    /// Name suggested by the server or the page.
    pub name: String,
    /// Path of the file if the download is complete.
    pub path: Option<String>,
    /// Status of the download.
    pub status: DownloadStatus,
    /// URL of the download, not masked.
    pub url: String,
    /// Id of the download in Chromium, and of the navigation in Firefox.
    key: Option<String>,
}

/// Downloads of a run.
#[derive(Debug, Default)]
pub(super) struct Downloads(Vec<Download>);

impl Downloads {
    pub(super) fn begin(&mut self, params: &Json, step: usize) {
        let url = text(&params["url"]).unwrap_or_default();
        let name = text(&params["suggestedFilename"]).unwrap_or_default();
        self.push(Download { step, name, path: None, status: DownloadStatus::InProgress, url, key: key(params) });
    }

    pub(super) fn end(&mut self, params: &Json, step: usize) {
        let (key, url) = (key(params), text(&params["url"]).unwrap_or_default());
        let path = text(&params["filepath"]);
        let status = match params["status"].as_str() {
            Some("complete") => DownloadStatus::Complete,
            _ => DownloadStatus::Canceled,
        };
        let open = |found: &&mut Download| found.status == DownloadStatus::InProgress;
        let same = |found: &&mut Download| if key.is_some() { found.key == key } else { found.url == url };
        match self.0.iter_mut().filter(open).find(same) {
            Some(found) => (found.path, found.status) = (path, status),
            // The start was not reported.
            None => {
                let name = path.as_deref().and_then(|path| path.rsplit(['/', '\\']).next()).unwrap_or_default();
                self.push(Download { step, name: name.to_owned(), path, status, url, key });
            }
        }
    }

    fn push(&mut self, download: Download) {
        if self.0.len() < DOWNLOADS {
            self.0.push(download);
        }
    }

    pub(super) fn all(&self) -> &[Download] {
        &self.0
    }
}

fn text(value: &Json) -> Option<String> {
    value.as_str().filter(|text| text.len() <= LONGEST).map(str::to_owned)
}

fn key(params: &Json) -> Option<String> {
    text(&params["download"]).or_else(|| text(&params["navigation"]))
}
