//! Section `zabbix: {api: …}` of the agent configuration.

use std::path::{Path, PathBuf};

use url::Url;

use crate::bounded::credential::{Credential, SECRET};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;

/// Path of the API below the address of the frontend.
const PATH: &str = "api_jsonrpc.php";

/// URL of the API with its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// URL of `api_jsonrpc.php`.
    pub url: Url,
    /// Credentials for the API.
    pub login: Login,
    /// PEM file with root certificates trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
}

/// Credentials for the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// An API token.
    Token(Credential),
    /// User name and password for opening a session, which is closed afterwards.
    User(String, Credential),
}

impl Config {
    /// Keys of `api:`.
    pub const KEYS: &[Key] = &[
        Key {
            name: "url",
            shape: Some(Shape::Text),
            doc: "URL of the frontend, or of its `api_jsonrpc.php`; required",
        },
        Key { name: "token", shape: Some(SECRET), doc: "API token" },
        Key { name: "user", shape: Some(Shape::Text), doc: "user, together with `password`, instead of a token" },
        Key { name: "password", shape: Some(SECRET), doc: "password of `user`" },
        Key {
            name: "ca",
            shape: Some(Shape::Text),
            doc: "PEM file with root certificates in addition to those of the system, relative to this file",
        },
    ];

    /// Reads `api:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`api`", &[Self::KEYS])?;
        let errors = r.errors();
        let url = match fields.get("url") {
            None => {
                r.fail_with(node.span, "`api` needs `url:`", "write it like https://zabbix.example.com/");
                None
            }
            Some(node) => r.text(node, "`url`").and_then(|text| {
                let url = url_of(&text);
                if let Err(problem) = &url {
                    r.fail_with(node.span, format!("`url` {problem}"), "write it like https://zabbix.example.com/");
                }
                url.ok()
            }),
        };
        let secret = |r: &mut Reader, key: &str| {
            fields.get(key).and_then(|node| Credential::from_config(r, node, &format!("`{key}`")))
        };
        let (token, password) = (secret(r, "token"), secret(r, "password"));
        let user = fields.get("user").and_then(|node| r.text(node, "`user`")).map(|text| text.value);
        let login = match (token, user, password) {
            (Some(token), None, None) => Some(Login::Token(token)),
            (None, Some(user), Some(password)) => Some(Login::User(user, password)),
            _ => {
                // Invalid values have been reported already.
                if r.errors() == errors {
                    r.fail(node.span, "`api` needs either `token`, or `user` and `password`");
                }
                None
            }
        };
        let ca = fields.get("ca").and_then(|node| r.text(node, "`ca`"));
        let ca = ca.map(|ca| Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(&ca.value));
        if r.errors() > errors {
            return None;
        }
        Some(Self { url: url?, login: login?, ca })
    }
}

/// Returns the URL of the API for its own URL or that of the frontend.
///
/// # Errors
///
/// Description of the problem, as the end of a sentence about the text.
pub fn url_of(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let mut url = url.ok_or("is not a URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no credentials");
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path();
    // Users may copy the address of any page of the frontend.
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let is_page = Path::new(file).extension().is_some_and(|extension| extension == "php");
    let folder = if file.is_empty() || is_page { folder } else { path };
    let path = format!("{folder}/{PATH}");
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::url_of;

    #[test]
    fn the_url_of_the_api_is_made_from_that_of_the_frontend() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(url_of(text).as_ref().map(url::Url::as_str).map_err(|problem| *problem), expected, "{text}");
        };
        check("https://z.example.com", Ok("https://z.example.com/api_jsonrpc.php"));
        check("https://z.example.com/zabbix", Ok("https://z.example.com/zabbix/api_jsonrpc.php"));
        check("https://z.example.com/zabbix/", Ok("https://z.example.com/zabbix/api_jsonrpc.php"));
        check("https://z.example.com/api_jsonrpc.php", Ok("https://z.example.com/api_jsonrpc.php"));
        check("http://z:8080/zabbix.php?action=dashboard.view#x", Ok("http://z:8080/api_jsonrpc.php"));
        check("z.example.com", Err("is not a URL"));
        check("ftp://z", Err("is not a URL"));
        check("https://u:p@z", Err("must hold no credentials"));
    }
}
