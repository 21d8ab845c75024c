//! Numbers of any length that are compared by their digits: `9007199254740993` differs from `9007199254740992`, and
//! `1.0` equals `1`.

use std::cmp::Ordering;
use std::fmt;

/// A decimal number of any size and precision in the notation of JSON (RFC 8259, section 6).
#[derive(Debug, Clone)]
pub struct Decimal {
    text: String,
    negative: bool,
    /// Digits without leading and trailing zeros. Empty for zero.
    digits: Vec<u8>,
    /// Power of ten of the first digit.
    exponent: i64,
}

impl Decimal {
    /// Parses a number. In addition to JSON notation, accepts a `+`, leading zeros and a decimal point without digits
    /// on one side. Returns `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, exponent(power)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !(all_digits(whole) && all_digits(fraction)) || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let end = digits.iter().rposition(|digit| *digit != b'0').map_or(zeros, |last| last + 1);
        let position = i64::try_from(whole.len()).ok()? - 1 - i64::try_from(zeros).ok()?;
        let digits = digits.get(zeros..end).unwrap_or_default().to_vec();
        // Zero has neither sign nor exponent.
        let (negative, exponent) =
            if digits.is_empty() { (false, 0) } else { (negative, position.saturating_add(power)) };
        Some(Self { text: text.to_owned(), negative, digits, exponent })
    }
}

/// Parses the exponent after `e`. Exponents that are too large are limited to the maximum.
fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    Some(if text.starts_with('-') { -size } else { size })
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        sign(self).cmp(&sign(other)).then_with(|| {
            // Digits without trailing zeros can be compared lexicographically.
            let size = self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
            let size = if self.digits.is_empty() { Ordering::Equal } else { size };
            if self.negative { size.reverse() } else { size }
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value_and_by_every_digit() {
        // Each list contains one value in several notations; the lists ascend.
        let ascending: &[&[&str]] = &[
            &["-1e400"],
            &["-9007199254740993"],
            &["-9007199254740992", "-9007199254740992.0"],
            &["-1", "-1.0", "-10e-1"],
            &["-1e-400"],
            &["0", "-0", "0.0", "0e9", "-0.00e-5", "+0"],
            &["1e-400"],
            &["0.1", ".1", "1e-1", "0.10", "00.1"],
            &["1", "1.0", "1.", "+1", "0.1e1", "100e-2"],
            &["19.9", "19.90"],
            &["100", "1e2", "1E2", "1e+2", "100.000"],
            &["1234567890.1234567890123456"],
            &["1234567890.1234567890123457"],
            &["9007199254740992"],
            &["9007199254740993"],
            &["18446744073709551614"],
            &["18446744073709551615"],
            &["12345678901234567800000000"],
            &["12345678901234567890123456"],
            &["1e400"],
            &["1e99999999999999999999"],
        ];
        let all: Vec<(usize, Decimal)> = ascending
            .iter()
            .enumerate()
            .flat_map(|(rank, texts)| texts.iter().map(move |text| (rank, Decimal::parse(text).unwrap())))
            .collect();
        for (rank, one) in &all {
            for (other_rank, other) in &all {
                assert_eq!(one.cmp(other), rank.cmp(other_rank), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_none() {
        for text in ["", "-", ".", "1e", "1e+", "e5", "1.2.3", "0x10", "1_000", "1,5", "inf", "NaN", "--1", "1 2", "١"]
        {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
        assert_eq!(Decimal::parse(" 4.50 ").unwrap().to_string(), "4.50");
    }
}
