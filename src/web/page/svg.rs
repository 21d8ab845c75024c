//! Charts as inline SVG. Pure; every text is escaped here, and colors come from the stylesheet of the page.
//!
//! A verdict is never shown by color alone: failed bars have a cross, degraded ones a dot, unknown ones are dashed.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::duration::seconds_text;
use crate::outcome::{StepStatus, Verdict};

/// Run in a chart.
#[derive(Debug, Clone)]
pub struct Point {
    /// Verdict of the run.
    pub verdict: Verdict,
    /// Duration in seconds.
    pub seconds: f64,
    /// End of the run.
    pub at: DateTime<Utc>,
    /// Link target.
    pub link: String,
}

/// Maximum number of runs in a strip.
pub const STRIP: usize = 30;

/// Escapes text for element content and attribute values.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Other control characters cannot be represented in XML.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Draws the last runs of a scenario, newest on the right, small enough for a thousand strips on one page.
pub fn strip(points: &[Point]) -> String {
    const PITCH: usize = 6;
    const HEIGHT: f64 = 24.0;
    let points = &points[points.len().saturating_sub(STRIP)..];
    let longest = points.iter().map(|point| point.seconds).fold(0.001, f64::max);
    let mut paths: [String; 4] = Default::default();
    let (mut crosses, mut dots) = (String::new(), String::new());
    for (slot, point) in points.iter().enumerate() {
        let x = (STRIP - points.len() + slot) * PITCH + PITCH / 2;
        let bar = 3.0 + point.seconds / longest * 14.0;
        let top = HEIGHT - bar;
        let _ = write!(paths[usize::from(point.verdict.code())], "M{x} {HEIGHT}v-{bar:.0}");
        match point.verdict {
            Verdict::Failed => {
                let _ = write!(crosses, "M{} {:.0}l4 4m0-4l-4 4", x - 2, top - 6.0);
            }
            Verdict::Degraded => {
                let _ = write!(dots, "M{x} {:.0}v-3", top - 2.0);
            }
            Verdict::Passed | Verdict::Unknown => {}
        }
    }
    let mut out = format!(
        r#"<svg class="strip" viewBox="0 0 {} 24" width="{0}" height="24" role="img" aria-label="{}">"#,
        STRIP * PITCH,
        escape(&counted(points))
    );
    let _ = write!(out, r#"<path class="ground" d="M0 23.5h{}"/>"#, STRIP * PITCH);
    for (verdict, path) in Verdict::ALL.into_iter().zip(&paths) {
        if !path.is_empty() {
            let _ = write!(out, r#"<path class="bar {verdict}" d="{path}"/>"#);
        }
    }
    for (class, path) in [("cross failed", &crosses), ("bar degraded", &dots)] {
        if !path.is_empty() {
            let _ = write!(out, r#"<path class="{class}" d="{path}"/>"#);
        }
    }
    out.push_str("</svg>");
    out
}

/// Formats the number of runs by verdict, such as `last 12 runs: 10 passed, 2 failed`.
fn counted(points: &[Point]) -> String {
    let parts: Vec<String> = Verdict::ALL
        .into_iter()
        .map(|verdict| (points.iter().filter(|point| point.verdict == verdict).count(), verdict))
        .filter(|(count, _)| *count > 0)
        .map(|(count, verdict)| format!("{count} {verdict}"))
        .collect();
    match points.len() {
        0 => "no runs yet".to_owned(),
        1 => format!("last run: {}", parts.join(", ")),
        n => format!("last {n} runs: {}", parts.join(", ")),
    }
}

/// Draws the durations of the last runs with axes. Every bar links to its run.
pub fn chart(points: &[Point]) -> String {
    const WIDTH: f64 = 1200.0;
    const LEFT: f64 = 56.0;
    const TOP: f64 = 18.0;
    const BOTTOM: f64 = 150.0;
    if points.is_empty() {
        return String::new();
    }
    let limit = round_up(points.iter().map(|point| point.seconds).fold(0.001, f64::max));
    let y = |seconds: f64| BOTTOM - (BOTTOM - TOP) * (seconds / limit).clamp(0.0, 1.0);
    let pitch = ((WIDTH - LEFT) / points.len() as f64).min(40.0);
    let wide = (pitch * 0.7).clamp(2.0, 18.0);
    let mut out = format!(
        r#"<svg class="chart" viewBox="0 0 {WIDTH} 178" role="img" aria-label="Duration of the {}">"#,
        escape(&counted(points))
    );
    for share in [0.0, 0.5, 1.0] {
        let at = y(limit * share);
        let _ = write!(
            out,
            r#"<path class="grid" d="M{LEFT} {at:.1}H{WIDTH}"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            at + 4.0,
            seconds_text(limit * share)
        );
    }
    for (slot, point) in points.iter().enumerate() {
        let middle = WIDTH - pitch * (points.len() - slot) as f64 + pitch / 2.0;
        let top = y(point.seconds).min(BOTTOM - 2.0);
        let _ = write!(
            out,
            r#"<a href="{}"><title>{} in {}, {}</title><rect class="{}" x="{:.1}" y="{top:.1}" width="{wide:.1}" height="{:.1}"/>"#,
            escape(&point.link),
            point.verdict,
            seconds_text(point.seconds),
            point.at.format("%Y-%m-%d %H:%M:%S UTC"),
            point.verdict,
            middle - wide / 2.0,
            BOTTOM - top,
        );
        match point.verdict {
            Verdict::Failed => {
                let _ = write!(
                    out,
                    r#"<path class="cross failed" d="M{:.1} {:.1}l6 6m0-6l-6 6"/>"#,
                    middle - 3.0,
                    top - 9.0
                );
            }
            Verdict::Degraded => {
                let _ = write!(out, r#"<circle class="degraded" cx="{middle:.1}" cy="{:.1}" r="2.5"/>"#, top - 5.0);
            }
            Verdict::Unknown => {
                let _ = write!(out, r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">?</text>"#, top - 4.0);
            }
            Verdict::Passed => {}
        }
        out.push_str("</a>");
    }
    let start = WIDTH - pitch * points.len() as f64;
    // Two labels need space; with few runs only the last one is shown.
    let first = points.first().filter(|_| WIDTH - start > 320.0);
    for (x, anchor, point) in [(start, "start", first), (WIDTH, "end", points.last())] {
        if let Some(point) = point {
            let at = point.at.format("%Y-%m-%d %H:%M:%S UTC");
            let _ = write!(out, r#"<text x="{x:.1}" y="170" text-anchor="{anchor}">{at}</text>"#);
        }
    }
    out.push_str("</svg>");
    out
}

/// Draws the time range of a step as a share of the run.
pub fn bar(offset: f64, duration: f64, total: f64, status: StepStatus) -> String {
    let total = total.max(0.001);
    let start = (offset / total * 100.0).clamp(0.0, 99.0);
    let wide = (duration / total * 100.0).clamp(0.6, 100.0 - start);
    let class = match status {
        StepStatus::Passed => "passed",
        StepStatus::Failed => "failed",
        StepStatus::Unknown => "unknown",
        StepStatus::Skipped => "skipped",
    };
    format!(
        r#"<svg class="fall" height="14" aria-hidden="true"><rect class="rail" x="0" y="0" width="100%" height="14"/><rect class="{class}" x="{start:.2}%" y="1" width="{wide:.2}%" height="12" rx="2"/></svg>"#
    )
}

/// Draws the axis above a waterfall, which divides the duration of the run into quarters.
pub fn axis(total: f64) -> String {
    let mut out = String::from(r#"<svg class="fall axis" height="16" aria-hidden="true">"#);
    for (quarter, anchor) in ["start", "middle", "middle", "middle", "end"].into_iter().enumerate() {
        let share = quarter as f64 / 4.0;
        let _ = write!(
            out,
            r#"<text x="{}%" y="12" text-anchor="{anchor}">{}</text>"#,
            quarter * 25,
            seconds_text(total * share)
        );
    }
    out.push_str("</svg>");
    out
}

/// Returns the next number suitable as the end of an axis: 1, 2, 5 or 10 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|limit| *limit >= value * 0.999).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(verdicts: &[(Verdict, f64)]) -> Vec<Point> {
        let point = |&(verdict, seconds)| Point { verdict, seconds, at: DateTime::UNIX_EPOCH, link: "/run/\"<".into() };
        verdicts.iter().map(point).collect()
    }

    #[test]
    fn a_strip_counts_and_marks_without_colour() {
        let shown = strip(&points(&[(Verdict::Passed, 1.0), (Verdict::Failed, 2.0), (Verdict::Degraded, 1.0)]));
        assert!(shown.contains("last 3 runs: 1 passed, 1 degraded, 1 failed"), "{shown}");
        assert!(shown.contains("class=\"cross failed\""), "{shown}");
        assert!(strip(&[]).contains("no runs yet"));
        let many = strip(&points(&[(Verdict::Passed, 0.0); 1000]));
        assert!(many.contains("last 30 runs") && many.len() < 1000, "{}", many.len());
    }

    #[test]
    fn a_chart_has_units_and_escapes_links() {
        let shown = chart(&points(&[(Verdict::Passed, 0.3), (Verdict::Unknown, 0.0)]));
        assert!(shown.contains(">500 ms<") && shown.contains(">250 ms<"), "{shown}");
        assert!(shown.contains("href=\"/run/&quot;&lt;\""), "{shown}");
        assert_eq!(chart(&[]), "");
    }

    #[test]
    fn bars_stay_inside_the_run() {
        for (offset, duration, total) in [(0.0, 0.0, 0.0), (5.0, 5.0, 1.0), (0.9, 0.2, 1.0), (0.0, 1.0, 1.0)] {
            let shown = bar(offset, duration, total, StepStatus::Passed);
            let number = |key: &str| {
                let rest = &shown[shown.rfind(key).expect(key) + key.len()..];
                rest[..rest.find('%').expect("a percentage")].parse::<f64>().expect(key)
            };
            assert!(number(" x=\"") + number(" width=\"") <= 100.01, "{shown}");
        }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, limit) in [(0.3, 0.5), (1.0, 1.0), (1.2, 2.0), (7.0, 10.0), (0.04, 0.05)] {
            assert!((round_up(value) - limit).abs() < 1e-9, "{value} -> {}", round_up(value));
        }
    }
}
