//! Reader of the authentication of a request.

use super::parts::{given, needed};
use crate::scenario::keys::{OAUTH2, REQUEST_BASIC_AUTH};
use crate::scenario::model::{Authentication, OAuth2};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::Node;
use crate::scenario::url::{self, Use};

const LOGINS: [&str; 3] = ["basic_auth", "bearer", "oauth2"];

/// Reads the authentication if there is one.
#[allow(clippy::option_option)] // The outer `None` means that an error was reported.
pub(super) fn login(r: &mut Reader, fields: &Fields<'_>) -> Option<Option<Authentication>> {
    let logins: Vec<_> = fields.iter().filter(|entry| LOGINS.contains(&entry.key.as_str())).collect();
    if let [first, second, ..] = logins.as_slice() {
        let message =
            format!("a request has one authentication: `{}` and `{}` exclude each other", first.key, second.key);
        r.fail_with(second.key_span, message, "keep one of them");
        return None;
    }
    let Some(entry) = logins.first() else { return Some(None) };
    let headers = fields.get("headers").and_then(Node::entries).unwrap_or_default();
    if let Some(header) = headers.iter().find(|header| header.key.eq_ignore_ascii_case("authorization")) {
        let message = format!("`{}` sets this header: both exclude each other", entry.key);
        r.fail_with(header.key_span, message, "keep one of them");
        return None;
    }
    Some(Some(match entry.key.as_str() {
        "basic_auth" => {
            let inner = r.fields(&entry.value, "`basic_auth`", &[REQUEST_BASIC_AUTH])?;
            let user = needed(r, &inner, "`basic_auth`", "user");
            let password = needed(r, &inner, "`basic_auth`", "password");
            let digest = given(&inner, "digest", |node| r.boolean(node, "`digest`"));
            Authentication::Basic { user: user?, password: password?, digest: digest?.unwrap_or(false) }
        }
        "bearer" => Authentication::Bearer(r.template(&entry.value, "`bearer`")?),
        _ => Authentication::OAuth2(Box::new(oauth2(r, &entry.value)?)),
    }))
}

fn oauth2(r: &mut Reader, node: &Node) -> Option<OAuth2> {
    let fields = r.fields(node, "`oauth2`", &[OAUTH2])?;
    let token_url = match fields.get("token_url") {
        Some(node) => url::read(r, node, "`token_url`", None, Use::Request),
        None => needed(r, &fields, "`oauth2`", "token_url"),
    };
    let client_id = needed(r, &fields, "`oauth2`", "client_id");
    let client_secret = needed(r, &fields, "`oauth2`", "client_secret");
    let scope = given(&fields, "scope", |node| r.template(node, "`scope`"));
    let audience = given(&fields, "audience", |node| r.template(node, "`audience`"));
    let shown = given(&fields, "auth", |node| r.word(node, "place of the client secret", &["header", "body"]));
    Some(OAuth2 {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope: scope?,
        audience: audience?,
        in_body: shown? == Some("body"),
    })
}
