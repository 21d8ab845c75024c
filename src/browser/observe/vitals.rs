//! Web vitals and navigation timing, as sent by `vitals.js` from the page.

use serde_json::Value as Json;

use super::bounds::time;
use crate::outcome::PageTiming;

/// Function for `script.addPreloadScript`; its only argument is the channel [`CHANNEL`].
pub const SCRIPT: &str = include_str!("vitals.js");

/// Name of the channel.
pub const CHANNEL: &str = "wachta-vitals";

/// Maximum length of a message, in bytes; a message consists of a few hundred bytes and a URL.
const LONGEST: usize = 64 << 10;

/// Measurements of one document. Each message contains everything measured so far.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) realm: String,
    pub(super) context: String,
    pub(super) url: String,
    /// Time origin of the page, in milliseconds since 1970.
    pub(super) origin: f64,
    pub(super) timing: PageTiming,
}

/// Decodes a `script.message`. Pages can reach the channel of a script in their own world, so the content is not
/// trusted: a value that is not a plausible number counts as absent.
pub(super) fn read(params: &Json) -> Option<Message> {
    let text = params["data"]["value"].as_str().filter(|text| text.len() <= LONGEST)?;
    let data: Json = serde_json::from_str(text).ok()?;
    let source = |name: &str| params["source"][name].as_str().map(str::to_owned);
    // Milliseconds; no run lasts a day.
    let seconds = |name: &str| {
        let millis = data[name].as_f64().filter(|millis| *millis > 0.0 && *millis < 86_400_000.0)?;
        Some((millis * 1000.0).round() / 1e6)
    };
    let timing = PageTiming {
        ttfb: seconds("ttfb"),
        fcp: seconds("fcp"),
        lcp: seconds("lcp"),
        inp: seconds("inp"),
        cls: data["cls"].as_f64().filter(|score| (0.0..1e6).contains(score)).map(|score| (score * 1e6).round() / 1e6),
        resolved: seconds("resolved"),
        connected: seconds("connected"),
        interactive: seconds("interactive"),
        loaded: seconds("loaded"),
    };
    let url = data["url"].as_str()?.to_owned();
    let origin = time(&data["origin"])?;
    Some(Message { realm: source("realm")?, context: source("context")?, url, origin, timing })
}
