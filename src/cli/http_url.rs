//! URLs on the command line.

use url::Url;

/// Parses a URL of HTTP. Without a scheme, such as `127.0.0.1:9815`, it is `http://`.
pub(super) fn http_url(text: &str) -> Result<Url, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&whole) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        Ok(_) => Err("write http://HOST:PORT or https://HOST:PORT".to_owned()),
        Err(error) => Err(format!("{error}; write HOST:PORT or http://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_may_be_left_out() {
        for (text, expected) in [
            ("127.0.0.1:9815", Some("http://127.0.0.1:9815/")),
            ("localhost", Some("http://localhost/")),
            ("[::1]:9815", Some("http://[::1]:9815/")),
            ("https://agent.example", Some("https://agent.example/")),
            ("ftp://agent.example", None),
            ("", None),
        ] {
            assert_eq!(http_url(text).ok().as_ref().map(Url::as_str), expected, "{text}");
        }
    }
}
