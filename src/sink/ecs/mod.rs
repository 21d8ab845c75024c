//! Outcomes as documents of the Elastic Common Schema in a file of lines, for Filebeat, rsyslog, Vector or another
//! shipper.
//!
//! [`document`] creates the documents (pure), [`file`] writes them. A line that is duplicated after a crash has the
//! same `event.id`.

pub(super) mod document;
mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::document::documents;
use self::file::RotatedFile;
use super::{Context, Event, Limits, Sent, Sink, Size};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;

/// Default maximum size of the file, in bytes.
const MAX_SIZE: u64 = 100_000_000;
/// Default number of older files.
const KEEP: u32 = 5;

/// Section `ecs:` of the agent configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of the file.
    pub file: PathBuf,
    /// Size at which the file is rotated, in bytes.
    pub max_size: u64,
    /// Number of older files to keep.
    pub keep: u32,
}

impl Config {
    /// Keys of `ecs:`.
    pub const KEYS: &[Key] = &[
        Key {
            name: "file",
            shape: Some(Shape::Text),
            doc: "file with one JSON document per line, relative to this file; required",
        },
        Key {
            name: "max_size",
            shape: Some(Shape::Text),
            doc: "size at which the file is rotated, such as `100MB` (default: 100MB)",
        },
        Key {
            name: "keep",
            shape: Some(Shape::Whole),
            doc: "number of older files to keep, at most 1000 (default: 5)",
        },
    ];

    /// Reads `ecs:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`ecs`", &[Self::KEYS])?;
        let Some(file) = fields.get("file") else {
            r.fail_with(node.span, "`ecs` needs `file:`", "name the file that a shipper reads");
            return None;
        };
        let name = r.text(file, "`file`")?;
        if name.is_empty() {
            r.fail(file.span, "`file` is empty");
            return None;
        }
        let beside = Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(&name.value);
        let mut config = Self { file: beside, max_size: MAX_SIZE, keep: KEEP };
        if let Some(node) = fields.get("max_size") {
            match r.size(node, "`max_size`")? {
                0 => {
                    r.fail_with(node.span, "`max_size` must be a size above 0", "write it like 100MB");
                    return None;
                }
                size => config.max_size = size,
            }
        }
        if let Some(node) = fields.get("keep") {
            let keep = r.whole(node, "`keep`")?;
            let Some(keep) = u32::try_from(keep).ok().filter(|keep| *keep <= 1000) else {
                r.fail(node.span, "`keep` must be at most 1000");
                return None;
            };
            config.keep = keep;
        }
        Some(config)
    }

    /// Describes the destination.
    pub fn describe(&self) -> String {
        self.file.display().to_string()
    }

    /// Creates the sink. The file is opened before the first write.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn build(&self, _context: &Context) -> Result<Box<dyn Sink>, String> {
        let file = RotatedFile::new(self.file.clone(), self.max_size, self.keep);
        let shown = self.describe();
        Ok(Box::new(Ecs { file: Arc::new(Mutex::new(file)), shown }))
    }
}

struct Ecs {
    /// Shared with the writing thread, which may outlive this sink.
    file: Arc<Mutex<RotatedFile>>,
    shown: String,
}

#[async_trait]
impl Sink for Ecs {
    fn limits(&self) -> Limits {
        Limits { rows: 5000, bytes: 8 << 20, age: Duration::from_secs(1), deadline: Duration::from_secs(30) }
    }

    fn measure(&self, event: &Event) -> Size {
        let rows = event.finished().map_or(1, |finished| 1 + finished.outcome.steps.len());
        Size { rows, bytes: rows * 1500 }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        let mut lines = Vec::new();
        for event in batch {
            for document in documents(event) {
                serde_json::to_writer(&mut lines, &document.body).expect("plain data becomes JSON");
                lines.push(b'\n');
            }
        }
        let file = Arc::clone(&self.file);
        let written =
            tokio::task::spawn_blocking(move || file.lock().unwrap_or_else(PoisonError::into_inner).append(&lines));
        let error = match written.await {
            Ok(Ok(())) => return Sent::Taken,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Sent::Retry { after: None, reason: format!("{} is not written: {error}", self.shown) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::sink::fixtures::{self, event};

    #[tokio::test]
    async fn every_run_is_a_line_that_reads_back() {
        let path = std::env::temp_dir().join(format!("wachta-ecs-{}.ndjson", crate::outcome::RunId::new()));
        let config = Config { file: path.clone(), max_size: MAX_SIZE, keep: KEEP };
        let mut sink = config.build(&fixtures::context()).unwrap();
        assert_eq!(sink.send(&[event(1, "shop"), event(2, "cart")]).await, Sent::Taken);
        assert_eq!(sink.send(&[event(3, "shop")]).await, Sent::Taken);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let monitors: Vec<Value> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["monitor"]["id"].clone()).collect();
        assert_eq!(monitors, ["shop", "cart", "shop"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_tried_again() {
        let config = Config { file: "/proc/none/outcomes.ndjson".into(), max_size: MAX_SIZE, keep: KEEP };
        let mut sink = config.build(&fixtures::context()).unwrap();
        let Sent::Retry { after: None, reason } = sink.send(&[event(1, "shop")]).await else { panic!("it is written") };
        assert!(reason.starts_with("/proc/none/outcomes.ndjson is not written: "), "{reason}");
    }
}
