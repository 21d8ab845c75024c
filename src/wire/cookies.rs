//! Cookies, stored as in browsers (RFC 6265).

use cookie_store::{CookieStore, RawCookie};
use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};
use psl::{List, Psl as _};
use url::{Host, Url};

/// Cookies of one client.
#[derive(Debug, Default)]
pub struct Cookies(CookieStore);

impl Cookies {
    /// Stores, replaces and removes the cookies that a response from `url` sets.
    pub fn store(&mut self, headers: &HeaderMap, url: &Url) {
        let texts =
            headers.get_all(SET_COOKIE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let cookies = texts.filter_map(|text| RawCookie::parse(with_plain_expiry(&text)).ok());
        self.0.store_response_cookies(cookies.filter_map(|cookie| within_site(cookie, url)), url);
    }

    /// Returns the `Cookie` header of a request, or `None` without cookies for the URL.
    pub fn header(&self, url: &Url) -> Option<HeaderValue> {
        let mut text = String::new();
        for (name, value) in self.0.get_request_values(url) {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        if text.is_empty() {
            return None;
        }
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Returns the value of a cookie that a request to the URL would carry.
    pub fn value(&self, url: &Url, name: &str) -> Option<&str> {
        self.0.get_request_values(url).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// Returns a cookie, unless its domain is a public suffix such as `co.uk`, for which it would be sent to the sites of
/// others (RFC 6265, section 5.3, step 5). If the server itself has that name, the cookie is for this server only.
fn within_site(mut cookie: RawCookie<'static>, url: &Url) -> Option<RawCookie<'static>> {
    let Some(domain) = cookie.domain().filter(|domain| !domain.is_empty()) else { return Some(cookie) };
    let Ok(Host::Domain(domain)) = Host::parse(domain) else { return Some(cookie) };
    // A name without a known suffix counts as one if it has a single label.
    if List.suffix(domain.as_bytes()).is_none_or(|suffix| suffix.as_bytes() != domain.as_bytes()) {
        return Some(cookie);
    }
    if url.host_str() != Some(domain.as_str()) {
        return None;
    }
    cookie.unset_domain();
    Some(cookie)
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
            let mut cookies = Cookies::default();
            for text in set {
                let mut headers = HeaderMap::new();
                headers.append(SET_COOKIE, text.parse().unwrap());
                cookies.store(&headers, &url);
            }
            let left = cookies.header(&url);
            let left = left.as_ref().map_or("", |left| left.to_str().unwrap());
            let mut left: Vec<&str> = left.split("; ").filter(|pair| !pair.is_empty()).collect();
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
    #[test]
    fn cookies_of_a_public_suffix_are_refused() {
        let check = |url: &str, domain: &str, to: &str, expected: bool| {
            let mut cookies = Cookies::default();
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, HeaderValue::from_str(&format!("a=1; Domain={domain}")).unwrap());
            cookies.store(&headers, &Url::parse(url).unwrap());
            assert_eq!(cookies.header(&Url::parse(to).unwrap()).is_some(), expected, "{domain} from {url} to {to}");
        };
        let (shop, other) = ("http://shop.co.uk/", "http://other.co.uk/");
        check(shop, "co.uk", shop, false);
        check(shop, "co.uk", other, false);
        check(shop, ".CO.UK", shop, false);
        check(shop, "shop.co.uk", "http://www.shop.co.uk/", true);
        check("http://www.shop.co.uk/", ".shop.co.uk", shop, true);
        check("http://a.github.io/", "github.io", "http://b.github.io/", false);
        check("http://a.xn--55qx5d.cn/", "xn--55qx5d.cn", "http://b.xn--55qx5d.cn/", false);
        check("http://shop.test/", "test", "http://other.test/", false);
        // A server whose own name is a suffix keeps its cookies to itself.
        check("http://github.io/", "github.io", "http://github.io/", true);
        check("http://github.io/", "github.io", "http://a.github.io/", false);
        check("http://localhost/", "localhost", "http://localhost/", true);
        check("http://127.0.0.1/", "127.0.0.1", "http://127.0.0.1/", true);
    }
}
