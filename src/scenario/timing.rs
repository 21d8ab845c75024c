//! Computation of due times. Pure: the present time is an argument.
//!
//! Cron expressions follow Unix (`man 5 crontab`), with an optional first field of seconds. The day of the week is 0 to
//! 7, where 0 and 7 are Sunday, or a name; if both day fields are restricted, a match of either is sufficient. The
//! fields are parsed here and passed as plain lists of numbers to the `cron` crate, which counts days from 1 = Sunday.
//!
//! Times are local to the time zone. A time skipped by daylight saving is due at the first instant after the gap; a
//! time that is repeated is due once, at its first occurrence.

use std::ops::{Range, RangeInclusive};
use std::str::FromStr as _;
use std::time::Duration;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use sha2::{Digest as _, Sha256};

use super::model::{ScenarioId, Schedule};

impl Schedule {
    /// Returns the first due time strictly after `after`, or `None` if there are no further ones.
    pub fn next_after(&self, id: &ScenarioId, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(every) => next_of_every(*every, id, after),
            Self::Cron { expression, timezone } => Cron::parse(expression).ok()?.next_after(*timezone, after),
        }
    }

    /// Returns the shortest interval between two due times, among the next few dozen after `from`.
    pub fn shortest_gap(&self, from: DateTime<Utc>) -> Option<Duration> {
        match self {
            Self::Every(every) => Some(*every),
            Self::Cron { expression, timezone } => {
                let cron = Cron::parse(expression).ok()?;
                let next = |after: &DateTime<Utc>| cron.next_after(*timezone, *after);
                let times: Vec<_> = std::iter::successors(next(&from), next).take(60).collect();
                times.windows(2).filter_map(|pair| (pair[1] - pair[0]).to_std().ok()).min()
            }
        }
    }
}

/// Returns the next due time of the form k × interval + phase. The phase is derived from a hash of the id, so that it
/// is the same on every machine and distributes the scenarios over the interval.
fn next_of_every(every: Duration, id: &ScenarioId, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let every = i64::try_from(every.as_millis()).ok().filter(|every| *every > 0)?;
    let hash = Sha256::digest(id.as_str());
    let first: [u8; 8] = hash.as_slice().get(..8)?.try_into().ok()?;
    let every_unsigned = every.unsigned_abs();
    let phase = i64::try_from(u64::from_be_bytes(first) % every_unsigned).ok()?;
    let k = (after.timestamp_millis() - phase).div_euclid(every) + 1;
    DateTime::from_timestamp_millis(k.checked_mul(every)?.checked_add(phase)?)
}

/// Parsed cron expression that has at least one due time.
#[derive(Debug, Clone)]
pub struct Cron {
    /// One schedule, or one per day field if a match of either is sufficient.
    plans: Vec<cron::Schedule>,
}

/// Error in a cron expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadCron {
    /// Byte range of the error in the expression.
    pub range: Range<usize>,
    /// Description of the error.
    pub message: String,
}

struct Field {
    name: &'static str,
    range: RangeInclusive<u32>,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [Field; 6] = [
    Field { name: "second", range: 0..=59, names: &[] },
    Field { name: "minute", range: 0..=59, names: &[] },
    Field { name: "hour", range: 0..=23, names: &[] },
    Field { name: "day of month", range: 1..=31, names: &[] },
    Field { name: "month", range: 1..=12, names: MONTHS },
    Field { name: "day of week", range: 0..=7, names: DAYS },
];

impl Cron {
    /// Parses five fields, six with seconds first, or `@hourly` and similar. An expression that is never due is an
    /// error.
    pub fn parse(text: &str) -> Result<Self, BadCron> {
        let whole = 0..text.len();
        let expression = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => {
                let message = "known are @yearly, @monthly, @weekly, @daily, @hourly".into();
                return Err(BadCron { range: whole, message });
            }
            _ => text,
        };
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let skip = match fields.len() {
            5 => 1,
            6 => 0,
            n => {
                return Err(BadCron { range: whole, message: format!("a cron expression has 5 or 6 fields, not {n}") });
            }
        };
        let mut lists = vec!["0".to_owned(); skip];
        for (field, kind) in fields.iter().zip(&FIELDS[skip..]) {
            let start = field.as_ptr() as usize - expression.as_ptr() as usize;
            let values =
                values(field, kind).map_err(|message| BadCron { range: start..start + field.len(), message })?;
            lists.push(list(&values, kind));
        }
        // As on Unix, a day field that begins with `*` does not restrict the days by itself.
        let [day, week] = [fields[fields.len() - 3], fields[fields.len() - 1]];
        let either = !day.starts_with('*') && !week.starts_with('*');
        let plan = |lists: &[String]| {
            cron::Schedule::from_str(&lists.join(" "))
                .map_err(|error| BadCron { range: whole.clone(), message: error.to_string().to_lowercase() })
        };
        let mut plans = Vec::new();
        if either {
            for at in [3, 5] {
                let mut one = lists.clone();
                "*".clone_into(&mut one[at]);
                plans.push(plan(&one)?);
            }
        } else {
            plans.push(plan(&lists)?);
        }
        let cron = Self { plans };
        if cron.next_local(NaiveDateTime::default()).is_none() {
            return Err(BadCron { range: whole, message: "no such date".into() });
        }
        Ok(cron)
    }

    /// Returns the first due time strictly after `after`.
    pub fn next_after(&self, timezone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut local = after.with_timezone(&timezone).naive_local();
        loop {
            local = self.next_local(local)?;
            // During the second pass through a repeated hour, the first candidates are in the past.
            if let Some(due) = instant(timezone, local).filter(|due| *due > after) {
                return Some(due);
            }
        }
    }

    /// Returns the first matching local time after this one.
    fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let after = after.and_utc();
        self.plans.iter().filter_map(|plan| plan.after(&after).next()).min().map(|due| due.naive_utc())
    }
}

/// Returns the instant of a local time: the first of two if it is repeated, and the end of the gap if it is skipped.
fn instant(timezone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match timezone.from_local_datetime(&local) {
        LocalResult::Single(found) | LocalResult::Ambiguous(found, _) => Some(found.to_utc()),
        LocalResult::None => {
            // For a skipped time, a binary search between the day before and the day after finds the first instant
            // whose local time is later.
            let middle = local.and_utc().timestamp();
            let clock = |t: i64| Some(DateTime::from_timestamp(t, 0)?.with_timezone(&timezone).naive_local());
            let (mut before, mut past) = (middle - 172_800, middle + 172_800);
            while past - before > 1 {
                let half = before + (past - before) / 2;
                if clock(half)? > local { past = half } else { before = half }
            }
            DateTime::from_timestamp(past, 0)
        }
    }
}

/// Returns the sorted numbers that a field represents.
fn values(text: &str, field: &Field) -> Result<Vec<u32>, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => match step.parse::<u32>() {
                Ok(step) if step > 0 => (range, Some(step)),
                _ => return Err(format!("`{part}`: the step must be a number above 0")),
            },
            None => (part, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (*field.range.start(), *field.range.end()),
            (_, Some((first, last))) => (value(first, field)?, value(last, field)?),
            (one, None) => {
                let one = value(one, field)?;
                (one, if step.is_some() { *field.range.end() } else { one })
            }
        };
        // `FRI-SUN` ends with 7, which is also Sunday.
        let last = if last == 0 && first > 0 && field.names == DAYS { 7 } else { last };
        if first > last {
            return Err(format!("`{part}`: the range goes backwards"));
        }
        all.extend((first..=last).step_by(step.unwrap_or(1) as usize));
    }
    if field.names == DAYS {
        for day in &mut all {
            *day %= 7;
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn value(text: &str, field: &Field) -> Result<u32, String> {
    if let Some(at) = field.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(u32::try_from(at).unwrap_or(0) + *field.range.start());
    }
    let (low, high) = (field.range.start(), field.range.end());
    match text.parse::<u32>() {
        Ok(number) if text.chars().all(|c| c.is_ascii_digit()) && field.range.contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is not a valid {}: {low} to {high}", field.name)),
    }
}

/// Formats a list for the `cron` crate; `*` if it contains every value.
fn list(values: &[u32], field: &Field) -> String {
    let (offset, all) = if field.names == DAYS { (1, 7) } else { (0, field.range.clone().count()) };
    if values.len() == all {
        return "*".into();
    }
    values.iter().map(|value| (value + offset).to_string()).collect::<Vec<_>>().join(",")
}

/// Returns a fixed reference time for computations independent of the present. A leap year follows it.
pub fn reference() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(19_723) // 2024-01-01
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the form: expression | zone | after (UTC) | next (UTC).
    const GOLDEN: &str = include_str!("../../tests/golden/cron.txt");

    #[test]
    fn cron_as_on_unix() {
        let mut rows = 0;
        for row in GOLDEN.lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
            let [expression, zone, after, next] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
                panic!("{row}")
            };
            rows += 1;
            if let Some(message) = next.strip_prefix("refused: ") {
                assert_eq!(Cron::parse(expression).expect_err(row).message, message, "{row}");
                continue;
            }
            let after: DateTime<Utc> = after.parse().expect(row);
            let due = Cron::parse(expression).expect(row).next_after(zone.parse().expect(row), after).expect(row);
            assert_eq!(due, next.parse::<DateTime<Utc>>().expect(row), "{row}");
        }
        assert!(rows >= 40, "{rows}");
    }

    #[test]
    fn mistakes_are_located() {
        let bad = Cron::parse("*/5 8-20 * * MON-FRY").expect_err("bad");
        assert_eq!((bad.range, bad.message.as_str()), (13..20, "`FRY` is not a valid day of week: 0 to 7"));
    }

    #[test]
    fn every_is_the_same_on_every_machine_and_strictly_after() {
        let id = ScenarioId::from("shop-checkout");
        let every = Schedule::Every(Duration::from_secs(300));
        let after: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
        let first = every.next_after(&id, after).unwrap();
        assert_eq!(first.to_rfc3339(), "2026-03-01T00:04:28.635+00:00");
        assert_eq!(every.next_after(&id, first).unwrap() - first, TimeDelta::seconds(300));
        assert!(first > after && first - after <= TimeDelta::seconds(300));
    }

    #[test]
    fn gaps_of_schedules() {
        let gap = |expression: &str| {
            Schedule::Cron { expression: expression.into(), timezone: chrono_tz::Europe::Warsaw }
                .shortest_gap(reference())
        };
        assert_eq!(gap("*/5 8-20 * * MON-FRI"), Some(Duration::from_secs(300)));
        assert_eq!(gap("0 3 * * *"), Some(Duration::from_secs(86_400)));
        assert_eq!(gap("0 0 29 2 *").map(|gap| gap.as_secs() / 86_400), Some(1461));
    }
}
