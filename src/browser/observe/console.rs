//! Console messages: `log.entryAdded`.

use std::collections::VecDeque;
use std::fmt;

use serde_json::{Value as Json, json};

use super::bounds::{kept, time};

/// Maximum number of stored messages: the latest ones, and the first errors.
const MESSAGES: usize = 1000;
/// Maximum number of stored errors.
const ERRORS: usize = 1000;
/// Maximum length of a stored message, in bytes.
const LONGEST: usize = 4000;

/// An error on the console, or an uncaught exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleError {
    /// Position in `Outcome.steps` of the step during which it occurred.
    pub step: usize,
    /// Text of the error, not masked.
    pub text: String,
    /// `URL:LINE:COLUMN` of its source, if known; not masked.
    pub place: Option<String>,
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " ({place})"))
    }
}

/// Recorded console messages.
#[derive(Debug, Default)]
pub(super) struct Console {
    messages: VecDeque<Message>,
    errors: Vec<ConsoleError>,
    count_of_errors: u64,
}

#[derive(Debug)]
struct Message {
    step: usize,
    level: String,
    source: String,
    text: String,
    place: Option<String>,
    at: f64,
}

impl Console {
    /// Records an entry and returns whether it is an error.
    pub(super) fn entry(&mut self, params: &Json, step: usize, received: f64) -> bool {
        let level = kept(params["level"].as_str().unwrap_or("info"), 20);
        let source = kept(params["type"].as_str().unwrap_or("console"), 20);
        let text = kept(params["text"].as_str().unwrap_or_default(), LONGEST);
        let place = place(&params["stackTrace"]["callFrames"][0]);
        // The type `javascript` is an uncaught exception or unhandled rejection, which browsers report as an error.
        let is_error = level == "error" || (source == "javascript" && !matches!(level.as_str(), "warn" | "warning"));
        if is_error {
            self.count_of_errors += 1;
            if self.errors.len() < ERRORS {
                self.errors.push(ConsoleError { step, text: text.clone(), place: place.clone() });
            }
        }
        if self.messages.len() == MESSAGES {
            self.messages.pop_front();
        }
        let at = time(&params["timestamp"]).unwrap_or(received);
        self.messages.push_back(Message { step, level, source, text, place, at });
        is_error
    }

    pub(super) fn errors(&self) -> Vec<ConsoleError> {
        self.errors.clone()
    }

    pub(super) fn count_of_errors(&self) -> u64 {
        self.count_of_errors
    }

    /// Returns the last messages in the format of the evidence.
    pub(super) fn last(&self, count: usize) -> Vec<Json> {
        let skipped = self.messages.len().saturating_sub(count);
        let shown = self.messages.iter().skip(skipped).map(|message| {
            json!({
                "level": message.level,
                "source": message.source,
                "message": message.text,
                "place": message.place,
                "step": message.step,
                "timestamp_ms": message.at,
            })
        });
        shown.collect()
    }
}

/// Returns the source position. `BiDi` counts lines and columns from 0, while users expect 1.
fn place(frame: &Json) -> Option<String> {
    let url = frame["url"].as_str().filter(|url| !url.is_empty() && url.len() <= LONGEST)?;
    let number = |name: &str| frame[name].as_u64().map_or(1, |number| number.saturating_add(1));
    Some(format!("{url}:{}:{}", number("lineNumber"), number("columnNumber")))
}
