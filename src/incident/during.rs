//! A time of day on certain days of the week. Pure.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike as _, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Timelike as _, Utc, Weekday,
};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// Days of the week, as named in configuration files and commands.
pub const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A time of day on certain days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct During {
    /// Days on which the time starts.
    pub weekdays: Vec<Weekday>,
    /// Start time.
    pub from: NaiveTime,
    /// End time; on the following day if it is not after `from`. Absent for the end of the day.
    pub until: Option<NaiveTime>,
    /// Timezone of the times.
    pub timezone: Tz,
}

/// JSON form, with the keys of the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weekdays: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

/// Returns all days of the week.
pub fn every_day() -> Vec<Weekday> {
    WEEKDAYS.iter().filter_map(|day| weekday(day).ok()).collect()
}

/// Parses a day of the week from its three letters.
pub fn weekday(text: &str) -> Result<Weekday, String> {
    let known = WEEKDAYS.contains(&text).then(|| text.parse().ok()).flatten();
    known.ok_or_else(|| format!("`{text}` is not a weekday; write one of {}", WEEKDAYS.join(", ")))
}

/// Parses a time of day like `08:00`.
pub fn time_of_day(text: &str) -> Result<NaiveTime, String> {
    NaiveTime::parse_from_str(text, "%H:%M")
        .map_err(|_| format!("`{text}` is not a time of the day; write it like 08:00"))
}

impl TryFrom<Form> for During {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let weekdays = match form.weekdays {
            None => every_day(),
            Some(days) if days.is_empty() => {
                return Err("`weekdays` is empty; omit it for every day".into());
            }
            Some(days) => days.iter().map(|day| weekday(day)).collect::<Result<_, _>>()?,
        };
        let time = |text: Option<String>| text.as_deref().map(time_of_day).transpose();
        let zone = |name: String| name.parse::<Tz>().map_err(|_| format!("`{name}` is not a timezone"));
        Ok(Self {
            weekdays,
            from: time(form.from)?.unwrap_or_default(),
            until: time(form.until)?,
            timezone: form.timezone.map_or(Ok(Tz::UTC), zone)?,
        })
    }
}

impl From<During> for Form {
    fn from(during: During) -> Self {
        let time = |time: NaiveTime| time.format("%H:%M").to_string();
        let days = during.weekdays.iter().map(|day| day.to_string().to_lowercase());
        Self {
            weekdays: Some(days.collect()),
            from: Some(time(during.from)),
            until: during.until.map(time),
            timezone: Some(during.timezone.name().to_owned()),
        }
    }
}

/// Parses `mon-fri,sun 22:00-06:00 Europe/Warsaw`: days, times and timezone, each of which is optional.
impl FromStr for During {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut form = Form::default();
        for word in text.split_whitespace() {
            let begins = |c: fn(&char) -> bool| word.chars().next().is_some_and(|first| c(&first));
            if begins(char::is_ascii_digit) {
                let (from, until) =
                    word.split_once('-').ok_or_else(|| format!("`{word}` has no end; write it like 22:00-06:00"))?;
                (form.from, form.until) = (Some(from.to_owned()), Some(until.to_owned()));
            } else if begins(char::is_ascii_lowercase) {
                form.weekdays = Some(days(word)?);
            } else {
                form.timezone = Some(word.to_owned());
            }
        }
        if form.weekdays.is_none() && form.from.is_none() {
            return Err(format!("`{text}` has no time; write it like `mon-fri 22:00-06:00 Europe/Warsaw`"));
        }
        form.try_into()
    }
}

/// Parses days like `mon-fri,sun`.
fn days(word: &str) -> Result<Vec<String>, String> {
    let place = |day: &str| weekday(day).map(|day| day.num_days_from_monday() as usize);
    let mut days = Vec::new();
    for part in word.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (place(first)?, place(last)?);
        let count = (last + 7 - first) % 7 + 1;
        days.extend((first..first + count).map(|day| WEEKDAYS[day % 7].to_owned()));
    }
    Ok(days)
}

impl fmt::Display for During {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<String> = self.weekdays.iter().map(|day| day.to_string().to_lowercase()).collect();
        let days = if days.len() == 7 { "every day".to_owned() } else { days.join(",") };
        let until = self.until.map_or_else(|| "24:00".to_owned(), |until| until.format("%H:%M").to_string());
        write!(f, "{days} {}-{until} {}", self.from.format("%H:%M"), self.timezone.name())
    }
}

impl During {
    /// Returns whether a time is included.
    pub fn contains(&self, now: DateTime<Utc>) -> bool {
        self.began(now).is_some()
    }

    /// Returns the day on which the current period started, if a time is included.
    fn began(&self, now: DateTime<Utc>) -> Option<chrono::NaiveDate> {
        let local = now.with_timezone(&self.timezone);
        let (day, time) = (local.date_naive(), local.time());
        let on = |day: chrono::NaiveDate| self.weekdays.contains(&day.weekday());
        // The part after midnight belongs to the day on which the period started.
        let is_over_night = self.until.is_some_and(|until| until <= self.from);
        let today = on(day) && self.from <= time && (is_over_night || self.until.is_none_or(|until| time < until));
        let before = day
            .pred_opt()
            .filter(|before| is_over_night && on(*before) && self.until.is_some_and(|until| time < until));
        if today { Some(day) } else { before }
    }

    /// Returns the end of the current period, if a time is included. Adjacent periods count as one, up to a week.
    pub fn open_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut end = self.end(now)?;
        while end - now < TimeDelta::days(7)
            && let Some(next) = self.end(end)
        {
            end = next;
        }
        Some(end)
    }

    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let day = self.began(now)?;
        let local = match self.until {
            Some(until) if until > self.from => day.and_time(until),
            Some(until) => day.succ_opt()?.and_time(until),
            None => day.succ_opt()?.and_time(NaiveTime::MIN),
        };
        // In an hour that occurs twice, the first end may have passed already.
        let end = first_instant(self.timezone, local)?.to_utc();
        Some(if end > now { end } else { now + TimeDelta::minutes(1) })
    }
}

/// Returns the instant of a local time. For a local time skipped by a clock change, the first instant after the gap is
/// returned.
pub fn first_instant(timezone: Tz, local: NaiveDateTime) -> Option<DateTime<Tz>> {
    let at = |local: NaiveDateTime| timezone.from_local_datetime(&local).earliest();
    if let Some(found) = at(local) {
        return Some(found);
    }
    // Gaps end at full minutes and are not longer than a day (Samoa once skipped a whole day).
    let mut next = local.with_second(0)?;
    for _ in 0..=24 * 60 {
        next = next.checked_add_signed(TimeDelta::minutes(1))?;
        if let Some(found) = at(next) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_time_contains_what_it_says_and_ends() {
        for (during, now, until) in [
            ("mon-fri 08:00-18:00", "2027-01-15T08:00:00Z", Some("2027-01-15T18:00:00Z")),
            ("mon-fri 08:00-18:00", "2027-01-15T07:59:59Z", None),
            ("mon-fri 08:00-18:00", "2027-01-15T18:00:00Z", None),
            ("mon-fri 08:00-18:00", "2027-01-16T12:00:00Z", None),
            // A period over midnight belongs to the day of its start: Friday's continues into Saturday.
            ("mon-fri 22:00-06:00 Europe/Warsaw", "2027-01-16T04:59:59Z", Some("2027-01-16T05:00:00Z")),
            ("mon-fri 22:00-06:00 Europe/Warsaw", "2027-01-16T21:30:00Z", None),
            ("mon-fri 22:00-06:00 Europe/Warsaw", "2027-01-18T04:00:00Z", None),
            ("mon-fri 22:00-06:00 Europe/Warsaw", "2027-01-18T21:00:00Z", Some("2027-01-19T05:00:00Z")),
            // Consecutive days are one period.
            ("sat,sun", "2027-01-16T10:00:00Z", Some("2027-01-18T00:00:00Z")),
            ("mon-sun", "2027-01-16T10:00:00Z", Some("2027-01-24T00:00:00Z")),
            ("fri-mon 00:00-12:00", "2027-01-17T10:00:00Z", Some("2027-01-17T12:00:00Z")),
            // Clock changes that skip its end, or repeat it.
            ("sun 01:00-02:30 Europe/Warsaw", "2027-03-28T00:30:00Z", Some("2027-03-28T01:00:00Z")),
            ("sun 01:00-02:30 Europe/Warsaw", "2027-10-31T00:00:00Z", Some("2027-10-31T00:30:00Z")),
        ] {
            let read: During = during.parse().expect(during);
            assert_eq!(read.open_until(utc(now)), until.map(utc), "{during} at {now}");
            assert_eq!(read.contains(utc(now)), until.is_some(), "{during} at {now}");
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<During>(&json).unwrap(), read, "{json}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (text, problem) in [
            ("", "`` has no time; write it like `mon-fri 22:00-06:00 Europe/Warsaw`"),
            ("Europe/Warsaw", "`Europe/Warsaw` has no time; write it like `mon-fri 22:00-06:00 Europe/Warsaw`"),
            ("monday", "`monday` is not a weekday; write one of mon, tue, wed, thu, fri, sat, sun"),
            ("22:00", "`22:00` has no end; write it like 22:00-06:00"),
            ("25:00-26:00", "`25:00` is not a time of the day; write it like 08:00"),
            ("mon Europe/Nowhere", "`Europe/Nowhere` is not a timezone"),
        ] {
            assert_eq!(text.parse::<During>(), Err(problem.to_owned()));
        }
        let read = serde_json::from_str::<During>;
        assert!(read("{\"weekdays\": []}").is_err() && read("{\"days\": [\"mon\"]}").is_err());
        assert_eq!(read("{\"from\": \"22:00\"}").unwrap().to_string(), "every day 22:00-24:00 UTC");
        assert_eq!(
            "sat,sun 08:00-18:00 Europe/Warsaw".parse::<During>().unwrap().to_string(),
            "sat,sun 08:00-18:00 Europe/Warsaw"
        );
    }
}
