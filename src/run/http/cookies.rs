//! Cookies of one run, stored as in browsers (RFC 6265).

use cookie_store::{CookieStore, RawCookie};
use hyper::header::{HeaderMap, SET_COOKIE};
use url::Url;

/// Stores, replaces and removes the cookies that a response from `url` sets.
pub(super) fn keep(cookies: &mut CookieStore, headers: &HeaderMap, url: &Url) {
    let texts = headers.get_all(SET_COOKIE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    cookies.store_response_cookies(texts.filter_map(|text| RawCookie::parse(with_plain_expiry(&text)).ok()), url);
}

/// Rewrites the `Expires` attribute of a cookie into the format that every parser supports. Omits a date that is
/// invalid by RFC 6265, and uses the last of several.
fn with_plain_expiry(text: &str) -> String {
    let mut parts = text.split(';');
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut expiry = None;
    for part in parts {
        match part.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("expires") => expiry = date(value).or(expiry),
            _ => {
                out.push(';');
                out.push_str(part);
            }
        }
    }
    if let Some(expiry) = expiry {
        out.push_str(&format!("; Expires={}", expiry.format("%a, %d %b %Y %H:%M:%S GMT")));
    }
    out
}

/// Parses a date by RFC 6265, section 5.1.1: time, day, month and year in any order and format.
fn date(text: &str) -> Option<chrono::NaiveDateTime> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let is_delimiter = |c: char| matches!(c, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~');
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = clock(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = number(token, 1..=2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(at) =
                MONTHS.iter().position(|month| token.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(month)))
        {
            month = u32::try_from(at + 1).ok();
        } else if year.is_none()
            && let Some(found) = number(token, 2..=4)
        {
            year = Some(match found {
                70..=99 => found + 1900,
                0..=69 => found + 2000,
                whole => whole,
            });
        }
    }
    let year = i32::try_from(year.filter(|year| *year >= 1601)?).ok()?;
    let (hour, minute, second) = time?;
    chrono::NaiveDate::from_ymd_opt(year, month?, day?)?.and_hms_opt(hour, minute, second)
}

/// Parses `hh:mm:ss` with one or two digits each. Anything that starts with a non-digit may follow.
fn clock(token: &str) -> Option<(u32, u32, u32)> {
    let mut fields = token.splitn(3, ':');
    let (hour, minute) = (fields.next()?, fields.next()?);
    let whole = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| number(text, 1..=2)).flatten();
    Some((whole(hour)?, whole(minute)?, number(fields.next()?, 1..=2)?))
}

/// Parses a number with an allowed number of digits. Anything that starts with a non-digit may follow.
fn number(token: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let digits = token.bytes().take_while(u8::is_ascii_digit).count();
    if length.contains(&digits) { token[..digits].parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_browsers_read_them() {
        let check = |text: &str, expected: Option<&str>| {
            let read = date(text).map(|read| read.format("%F %T").to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        };
        for text in [
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 01 Jan 1970 00:00:00 UTC",
            "Thu, 01-Jan-1970 00:00:00 GMT",
            "Thursday, 01-Jan-70 00:00:00 GMT",
            "Thu Jan  1 00:00:00 1970",
            "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
            "1 January 1970 0:0:0",
            "00:00:00 1970 jan 1",
            "01 Jan 1970 00:00:00.123",
        ] {
            check(text, Some("1970-01-01 00:00:00"));
        }
        check("Wed, 31 Dec 69 23:59:59 GMT", Some("2069-12-31 23:59:59"));
        check("Wed, 31 Dec 2031 23:59:59 +0200", Some("2031-12-31 23:59:59"));
        for text in [
            "0",
            "",
            "1970-01-01T00:00:00Z",
            "Thu, 01 Jan 1600 00:00:00 GMT",
            "Thu, 32 Jan 1970 00:00:00 GMT",
            "Thu, 30 Feb 1970 00:00:00 GMT",
            "Thu, 01 Jan 1970 24:00:00 GMT",
            "Thu, 01 Jan 1970",
            "Thu, 01 Foo 1970 00:00:00",
            "Thu, 01 Jan 19700 00:00:00",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn cookies_end_when_their_server_says_so() {
        let url = Url::parse("http://127.0.0.1/").unwrap();
        let check = |set: &[&str], expected: &[&str]| {
            let mut cookies = CookieStore::default();
            for text in set {
                let mut headers = HeaderMap::new();
                headers.append(SET_COOKIE, text.parse().unwrap());
                keep(&mut cookies, &headers, &url);
            }
            let mut left: Vec<String> =
                cookies.get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect();
            left.sort_unstable();
            assert_eq!(left, expected, "{set:?}");
        };
        check(&["a=1", "b=2; Path=/"], &["a=1", "b=2"]);
        for end in [
            "Expires=Thursday, 01-Jan-70 00:00:00 GMT",
            "expires=Thu, 01 Jan 1970 00:00:00 UTC",
            "Expires=Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
            "Max-Age=0",
            "Max-Age=-1",
            "Expires=Wed, 01 Jan 2070 00:00:00 GMT; Max-Age=0",
        ] {
            check(&["a=1", &format!("a=; {end}")], &[]);
        }
        // Stored: cookies that are still valid, and cookies with an invalid expiry.
        check(&["a=1; Expires=Wed, 01 Jan 2069 00:00:00 GMT"], &["a=1"]);
        check(&["a=1; Expires=0"], &["a=1"]);
        check(&["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60"], &["a=1"]);
        check(&["a=x;y=2", "b=a=b=c"], &["a=x", "b=a=b=c"]);
    }
}
