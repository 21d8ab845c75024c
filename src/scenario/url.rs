//! Validation of URLs and addresses, as far as they are literal in the file.

use super::reader::{Reader, cut};
use super::template::Template;
use super::tree::Node;
use crate::diagnostic::{Diagnostic, Spanned};

/// Purpose of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// URL of a page, which may also be `about:blank`.
    Page,
    /// URL of a request.
    Request,
    /// Base of relative URLs.
    Base,
}

/// Reads a URL. A literal text must be a URL, and must not be relative without a `base_url`.
pub fn read(
    r: &mut Reader,
    node: &Node,
    what: &str,
    base: Option<&Spanned<Template>>,
    purpose: Use,
) -> Option<Spanned<Template>> {
    let template = r.template(node, what)?;
    let raw = template.raw();
    let text = match template.as_literal() {
        Some(text) => text,
        // A path with references is still a path.
        None if raw.starts_with('/') => "/",
        None => return Some(template),
    };
    let problem = match ::url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => None,
        Ok(url) if purpose == Use::Page && url.as_str() == "about:blank" => None,
        Ok(url) if url.cannot_be_a_base() && text.contains('.') => {
            Some((format!("`{}` has no scheme", cut(raw)), format!("write `https://{}`", cut(raw))))
        }
        Ok(url) => Some((format!("unknown scheme `{}`", url.scheme()), "write http:// or https://".into())),
        Err(::url::ParseError::RelativeUrlWithoutBase) if purpose == Use::Base => {
            Some((format!("`{}` is relative", cut(raw)), "write the whole URL".into()))
        }
        Err(::url::ParseError::RelativeUrlWithoutBase) if base.is_some() => None,
        Err(::url::ParseError::RelativeUrlWithoutBase) => Some((
            format!("`{}` is relative and there is no `base_url`", cut(raw)),
            "write the whole URL, or add a `base_url` to the scenario".into(),
        )),
        Err(error) => Some((format!("`{}` is not a URL: {error}", cut(raw)), String::new())),
    };
    match problem {
        None => {
            warn_of_base_path(r, node, raw, base);
            Some(template)
        }
        Some((message, label)) => {
            if label.is_empty() {
                r.fail(node.span, message);
            } else {
                r.fail_with(node.span, message, label);
            }
            None
        }
    }
}

/// Warns about a path that begins with `/` and therefore replaces the path of `base_url`.
fn warn_of_base_path(r: &mut Reader, node: &Node, path: &str, base: Option<&Spanned<Template>>) {
    let Some(base) = base.and_then(|base| base.as_literal()).and_then(|base| ::url::Url::parse(base).ok()) else {
        return;
    };
    let own = base.path().trim_end_matches('/');
    let below =
        |path: &str| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    if own.is_empty() || !path.starts_with('/') || path.starts_with("//") || below(path) {
        return;
    }
    let message = format!("`{}` replaces the path `{own}` of `base_url`", cut(path));
    let label = format!("write `{}`, or take the path out of `base_url`", cut(&format!("{own}{path}")));
    r.report(Diagnostic::warning(&r.source, node.span, message).label(label));
}

/// Reads `host:port`.
pub fn address(r: &mut Reader, node: &Node, what: &str) -> Option<Spanned<Template>> {
    let template = r.template(node, what)?;
    if let Some(text) = template.as_literal() {
        let port = text.rsplit_once(':').filter(|(host, _)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            !host.is_empty() && !host.contains('/') && (bracketed || !host.contains(':'))
        });
        if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            r.fail_with(node.span, format!("`{}` is not `host:port`", cut(text)), "write it like www.example.com:443");
            return None;
        }
    }
    Some(template)
}

/// Reads the URL of a proxy: `http://[user:password@]host[:port]`.
pub fn proxy(r: &mut Reader, node: &Node) -> Option<Spanned<Template>> {
    let template = r.template(node, "`proxy`")?;
    let Some(text) = template.as_literal() else { return Some(template) };
    if let Err(message) = proxy_url(text) {
        r.fail_with(node.span, message, "write it like http://proxy.internal:3128");
        return None;
    }
    Some(template)
}

/// Parses the URL of a proxy. The error describes the problem.
pub fn proxy_url(text: &str) -> Result<::url::Url, String> {
    let url = ::url::Url::parse(text).map_err(|error| format!("`proxy` is not a URL: {error}"))?;
    if url.scheme() != "http" {
        return Err(format!("`proxy` must be an http:// URL, not {}://", url.scheme()));
    }
    if url.host_str().is_none() || !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err("`proxy` must be a host and a port".into());
    }
    Ok(url)
}

/// Reads the address to connect to: an IP address with an optional port.
pub fn pinned(r: &mut Reader, node: &Node) -> Option<Spanned<Template>> {
    let template = r.template(node, "`resolve`")?;
    if let Some(text) = template.as_literal()
        && address_of(text).is_none()
    {
        let message = format!("`{}` is not an IP address", cut(text));
        r.fail_with(node.span, message, "write it like 10.0.0.1, 10.0.0.1:8443 or [::1]:8443");
        return None;
    }
    Some(template)
}

/// Parses an IP address with an optional port.
pub fn address_of(text: &str) -> Option<(core::net::IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<core::net::SocketAddr>() {
        return (address.port() > 0).then(|| (address.ip(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address| (address, None))
}
