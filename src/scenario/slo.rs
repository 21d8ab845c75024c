//! `slo`: service level objective of a scenario and its time window.

use std::fmt;
use std::time::Duration;

use super::keys::SLO;
use super::model::HumanDuration;
use super::reader::Reader;
use super::tree::Node;

/// Minimum and maximum objective in percent. Below the minimum, the one-hour rule can no longer detect anything worth
/// an alert; above the maximum, no window contains enough runs.
const PERCENT: [f64; 2] = [90.0, 99.999];
/// Minimum and maximum window in days: the slowest rule covers three days, and runs are stored for thirty.
const DAYS: [u64; 2] = [3, 30];
const DAY: u64 = 86_400;

/// Value of `slo:`: an objective for the share of runs that do not fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slo {
    /// Objective in percent, above 0 and below 100.
    pub percent: f64,
    /// Time window of the objective.
    pub window: Duration,
}

impl Slo {
    /// Returns the objective as a ratio below 1.
    pub fn objective(&self) -> f64 {
        1.0 - self.allowed()
    }

    /// Returns the ratio of runs that may fail, above 0.
    pub fn allowed(&self) -> f64 {
        // Rounded to remove the error of binary fractions: 99.9 % allows exactly one in a thousand.
        ((100.0 - self.percent) * 1e6).round() / 1e8
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}% over {}", self.percent, HumanDuration(self.window))
    }
}

/// Reads `slo`.
pub fn read(r: &mut Reader, node: &Node) -> Option<Slo> {
    let fields = r.fields(node, "`slo`", &[SLO])?;
    let Some(objective) = fields.get("objective") else {
        r.fail_with(fields.span, "`slo` needs `objective`", "write {objective: 99.9%, window: 30d}");
        return None;
    };
    let percent = percent(r, objective);
    let longest = Duration::from_secs(DAYS[1] * DAY);
    let window = match fields.get("window") {
        None => Some(longest),
        Some(node) => {
            let window = r.duration(node, "`window`")?;
            let fits = window >= Duration::from_secs(DAYS[0] * DAY) && window <= longest;
            if !fits {
                let message = format!("`window` must be from {}d to {}d", DAYS[0], DAYS[1]);
                r.fail_with(node.span, message, "runs are stored for 30d");
            }
            fits.then_some(window)
        }
    };
    Some(Slo { percent: percent?, window: window? })
}

fn percent(r: &mut Reader, node: &Node) -> Option<f64> {
    let text = r.text(node, "`objective`")?;
    let Some(number) = text.strip_suffix('%') else {
        r.fail_with(node.span, "`objective` must be a percentage", "write it like 99.9%");
        return None;
    };
    // At most three decimal places, so that the allowed failures are a whole number per 100,000 runs.
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.')
        && number.split_once('.').is_none_or(|(_, fraction)| (1..=3).contains(&fraction.len()));
    let percent = number.parse::<f64>().ok().filter(|_| plain);
    let fits = percent.filter(|percent| (PERCENT[0]..=PERCENT[1]).contains(percent));
    if fits.is_none() {
        let message = format!("`objective` must be from {}% to {}%", PERCENT[0], PERCENT[1]);
        r.fail_with(node.span, message, "write it like 99.9%, with up to three digits after the point");
    }
    fits
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Lookup, LookupError, load};

    struct Nothing;

    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(name.to_owned()))
        }
        fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::Missing(path.display().to_string()))
        }
    }

    #[test]
    fn objectives_are_read() {
        let check = |written: &str, expected: Result<(&str, f64), &[&str]>| {
            let text = format!("scenario: Shop\nsteps: [{{GET: \"http://shop/\"}}]\nslo: {written}\n");
            let loaded = load("shop.yaml", &text, &Nothing);
            let found: Vec<_> =
                loaded.diagnostics.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            match expected {
                Err(problems) => assert_eq!(found, problems, "{written}"),
                Ok((shown, allowed)) => {
                    assert_eq!(found, [""; 0], "{written}");
                    let slo = loaded.scenarios[0].slo.expect("one");
                    assert_eq!((slo.to_string().as_str(), slo.allowed()), (shown, allowed), "{written}");
                }
            }
        };
        check("{objective: 99.9%, window: 30d}", Ok(("99.9% over 30d", 0.001)));
        check("{objective: 99%}", Ok(("99% over 30d", 0.01)));
        check("{objective: \"99.95%\", window: 7d}", Ok(("99.95% over 7d", 0.0005)));
        check("{objective: 99.999%, window: 72h}", Ok(("99.999% over 3d", 0.00001)));
        let range = "shop.yaml:3:18: `objective` must be from 90% to 99.999%";
        for wrong in ["100%", "89.9%", "99.9999%", "-1%", "9e1%", "%", "99.%", "99,9%"] {
            check(&format!("{{objective: \"{wrong}\"}}"), Err(&[range]));
        }
        check("{objective: 99.9}", Err(&["shop.yaml:3:18: `objective` must be a percentage"]));
        check("{window: 30d}", Err(&["shop.yaml:3:6: `slo` needs `objective`"]));
        check("{objective: 99%, window: 31d}", Err(&["shop.yaml:3:31: `window` must be from 3d to 30d"]));
        check("{objective: 99%, window: 1h}", Err(&["shop.yaml:3:31: `window` must be from 3d to 30d"]));
        check("{objective: 99%, windows: 7d}", Err(&["shop.yaml:3:23: unknown key `windows`"]));
    }
}
