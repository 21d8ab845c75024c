//! Durations as text. Pure.

use std::time::Duration;

use crate::scenario::HumanDuration;

/// Formats seconds with a suitable unit and about three digits.
pub fn seconds_text(seconds: f64) -> String {
    let trimmed = |text: String| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match seconds {
        s if s <= 0.0 => "0 s".into(),
        s if s < 0.001 => "< 1 ms".into(),
        s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
        s if s < 10.0 => format!("{} s", trimmed(format!("{s:.2}"))),
        s if s < 120.0 => format!("{} s", trimmed(format!("{s:.1}"))),
        s => HumanDuration(Duration::from_secs_f64(s.round())).to_string(),
    }
}

/// Formats a duration with a suitable unit.
pub fn spent(duration: Duration) -> String {
    seconds_text(duration.as_secs_f64())
}
