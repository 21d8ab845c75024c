//! Durations as people write them: `90s`, `1m30s`, `250ms`, `2.5s`, `3w`.

use std::time::Duration;

const UNITS: [(&str, u32); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Parses a duration. Every number has a unit, larger units first; the error says what is wrong.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let mut rest = text;
    let mut millis = 0.0_f64;
    let mut before = u32::MAX;
    if rest.is_empty() {
        return Err("a duration is missing".into());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<f64>() else {
            return Err(format!("`{text}` is not a duration"));
        };
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        if unit.is_empty() {
            return Err(format!("`{text}` has no unit"));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("unknown unit `{unit}`"));
        };
        if *size >= before {
            return Err(format!("`{text}` must have its larger units first, each once"));
        }
        before = *size;
        millis += number * f64::from(*size);
        rest = &rest[letters..];
    }
    // Ten years: far above anything sensible, far below any overflow.
    if millis > 10.0 * 366.0 * 86_400_000.0 {
        return Err(format!("`{text}` is longer than ten years"));
    }
    Ok(Duration::from_secs_f64(millis / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        let good = [("90s", 90_000), ("1m30s", 90_000), ("250ms", 250), ("2.5s", 2500), ("1w", 604_800_000), ("0s", 0)];
        for (text, millis) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "s", "5x", "1s1m", "1s1s", "-5s", "1.2.3s", "99999w", "1m 30", "5 s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
