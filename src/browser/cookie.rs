//! Cookies of the current document. Firefox's classic command only returns cookies of the user context that the session
//! started with. For other contexts, all cookies are read with `BiDi` and filtered here.

use serde_json::{Value as Json, json};
use tokio::time::Instant;
use url::Url;

use super::command::{Command, decode};
use super::engine;
use super::errors::CommandError;
use super::locate::LocatorQuery;
use super::page::{PROMPT, Page};

impl Page {
    /// Returns the cookies of the current document in the format of the classic command.
    pub(super) async fn cookies(&mut self, deadline: Instant) -> Result<Json, CommandError> {
        if engine::kind(self.session().engine).tells_cookies || self.bidi().is_none() {
            return self.call(Command::get("cookie"), PROMPT).await;
        }
        let of = json!({"type": "storageKey", "userContext": self.context.user});
        let all = self.ask("storage.getCookies", json!({"partition": of}), PROMPT).await?;
        let page = self.run(&[LocatorQuery::page().json()], deadline).await?;
        let Some(url) = page.first().and_then(|page| Url::parse(page.text("url")).ok()) else { return Ok(json!([])) };
        let here = all["cookies"].as_array().into_iter().flatten().filter(|cookie| is_for(cookie, &url));
        Ok(here.map(|cookie| json!({"name": cookie["name"], "value": cookie_value(&cookie["value"])})).collect())
    }
}

/// Returns whether a cookie is sent to a URL (RFC 6265, section 5.4). A domain with a leading dot includes its
/// subdomains.
fn is_for(cookie: &Json, url: &Url) -> bool {
    let (domain, path) = (cookie["domain"].as_str().unwrap_or(""), cookie["path"].as_str().unwrap_or("/"));
    let host = url.host_str().unwrap_or("");
    let host_fits = host == domain.trim_start_matches('.') || (domain.starts_with('.') && host.ends_with(domain));
    let path_fits = url
        .path()
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || path.ends_with('/') || rest.starts_with('/'));
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    host_fits && path_fits && (cookie["secure"] != true || url.scheme() == "https" || local)
}

/// Returns the text of a cookie, which `BiDi` encodes as base64 if it is not UTF-8.
fn cookie_value(value: &Json) -> Json {
    match value["type"].as_str() {
        Some("base64") => decode(&value["value"]).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).into(),
        _ => value["value"].clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_for_hosts_and_paths() {
        for (domain, path, secure, url, is) in [
            ("shop.example.com", "/", false, "http://shop.example.com/a", true),
            ("example.com", "/", false, "http://shop.example.com/a", false),
            (".example.com", "/", false, "http://shop.example.com/a", true),
            (".example.com", "/", false, "http://example.com/", true),
            (".example.com", "/", false, "http://badexample.com/", false),
            ("127.0.0.1", "/a", false, "http://127.0.0.1:8080/a/b", true),
            ("127.0.0.1", "/a", false, "http://127.0.0.1:8080/ab", false),
            ("example.com", "/", true, "http://example.com/", false),
            ("example.com", "/", true, "https://example.com/", true),
        ] {
            let cookie = json!({"domain": domain, "path": path, "secure": secure});
            assert_eq!(is_for(&cookie, &Url::parse(url).unwrap()), is, "{domain} {path} {url}");
        }
    }
}
