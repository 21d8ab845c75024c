//! Quantities with units: durations (`90s`, `1m30s`, `250ms`, `2.5s`, `3w`), sizes (`10KB`, `1.5MiB`) and CSS pixels
//! (`800px`).

use std::time::Duration;

const UNITS: [(&str, u32); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Parses a duration. Every number has a unit, larger units first. The error describes the problem.
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
    // Ten years are far above any reasonable value and far below an overflow.
    if millis > 10.0 * 366.0 * 86_400_000.0 {
        return Err(format!("`{text}` is longer than ten years"));
    }
    Ok(Duration::from_secs_f64(millis / 1000.0))
}

/// Byte units: decimal ones, as used for networks and disks, and binary ones.
const SIZES: [(&str, u32); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Parses a size in bytes. The unit is required. The error describes the problem.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let Ok(number) = text[..digits].parse::<f64>() else {
        return Err(format!("`{text}` is not a size"));
    };
    let unit = &text[digits..];
    if unit.is_empty() {
        return Err(format!("`{text}` has no unit"));
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("unknown unit `{unit}`"));
    };
    let bytes = (number * f64::from(*factor)).round();
    // A petabyte is far above any reasonable value, and every integer below it is exact.
    if bytes > 1e15 {
        return Err(format!("`{text}` is larger than a petabyte"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between 0 and a petabyte.
    Ok(bytes as u64)
}

/// Parses a whole number of CSS pixels. The error describes the problem.
pub fn pixels(text: &str) -> Result<i32, String> {
    let text = text.trim();
    let Some(number) = text.strip_suffix("px") else {
        return Err(match text.parse::<f64>() {
            Ok(_) => format!("`{text}` has no unit"),
            Err(_) => format!("`{text}` is not a number of pixels"),
        });
    };
    match number.parse::<i32>() {
        Ok(pixels) if (-1_000_000..=1_000_000).contains(&pixels) => Ok(pixels),
        Ok(_) => Err(format!("`{text}` is too far")),
        Err(_) => Err(format!("`{text}` is not a whole number of pixels")),
    }
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

    #[test]
    fn sizes_need_units() {
        let good = [("500B", 500), ("1KB", 1000), ("1.5KiB", 1536), ("2MB", 2_000_000), ("1GiB", 1 << 30), ("0B", 0)];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "5", "KB", "5kb", "-5B", "1.2.3B", "1 KB", "2000000GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pixels_need_their_unit() {
        assert_eq!((pixels("800px"), pixels("-300px")), (Ok(800), Ok(-300)));
        for bad in ["", "px", "800", "8.5px", "10em", "99999999px"] {
            assert!(pixels(bad).is_err(), "{bad}");
        }
    }
}
