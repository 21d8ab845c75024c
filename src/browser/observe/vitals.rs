//! Web vitals and navigation timing: what `vitals.js` sends from the page.

use serde_json::Value as Json;

use crate::outcome::PageTiming;

/// The function for `script.addPreloadScript`; its one argument is the channel [`CHANNEL`].
pub const SCRIPT: &str = include_str!("vitals.js");

/// The name of the channel.
pub const CHANNEL: &str = "wachta-vitals";

/// A message is a few hundred bytes and a URL.
const LONGEST: usize = 64 << 10;

/// What one document says of itself. Each message holds all that is known so far.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) realm: String,
    pub(super) context: String,
    pub(super) url: String,
    /// The page's time origin, milliseconds since 1970.
    pub(super) origin: f64,
    pub(super) timing: PageTiming,
}

/// Reads a `script.message`. Pages can reach the channel of a script in their own world, so that nothing is taken on
/// trust: what is no sensible number is absent.
pub(super) fn read(params: &Json) -> Option<Message> {
    let text = params["data"]["value"].as_str().filter(|text| text.len() <= LONGEST)?;
    let data: Json = serde_json::from_str(text).ok()?;
    let source = |name: &str| params["source"][name].as_str().map(str::to_owned);
    // Milliseconds; a day is more than any run lasts.
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
    let origin = super::time(&data["origin"])?;
    Some(Message { realm: source("realm")?, context: source("context")?, url, origin, timing })
}
