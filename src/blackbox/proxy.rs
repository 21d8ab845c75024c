//! Selection of the proxy for a request.

use std::net::IpAddr;

use url::{Host, Url};

use super::module::Proxy;
use crate::outcome::Failure;
use crate::wire;

impl Proxy {
    /// Returns the proxy for a URL, or `None` for a direct connection. Fails if the credentials of the proxy are invalid.
    pub(super) fn for_url(&self, url: &Url) -> Result<Option<wire::Proxy>, Failure> {
        let Some(chosen) = self.chosen(url, |name| std::env::var(name).ok()) else { return Ok(None) };
        let headers = self.connect_headers.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect();
        Ok(Some(wire::Proxy { headers, ..wire::Proxy::of(&chosen)? }))
    }

    /// Returns whether a URL is reached through a proxy.
    pub(super) fn applies_to(&self, url: &Url) -> bool {
        self.chosen(url, |name| std::env::var(name).ok()).is_some()
    }

    fn chosen(&self, url: &Url, environment: impl Fn(&str) -> Option<String>) -> Option<Url> {
        if !self.from_environment {
            let proxy = self.url.clone()?;
            return (!excluded(url, self.excluded.iter().map(String::as_str))).then_some(proxy);
        }
        let either = |name: &str| {
            environment(name).or_else(|| environment(&name.to_ascii_lowercase())).filter(|value| !value.is_empty())
        };
        let named = either(if url.scheme() == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" })?;
        // As in Go, this machine is never reached through a proxy from the environment.
        let own = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let none = either("NO_PROXY").unwrap_or_default();
        if own || excluded(url, none.split(',').map(str::trim).filter(|item| !item.is_empty())) {
            return None;
        }
        let named = if named.contains("://") { named } else { format!("http://{named}") };
        Url::parse(&named).ok().filter(|proxy| proxy.scheme() == "http")
    }
}

/// Returns whether a list in the format of `NO_PROXY` contains a URL's host: `*`, names with their subdomains,
/// `.suffixes`, addresses and networks, each with or without a port.
fn excluded<'a>(url: &Url, mut items: impl Iterator<Item = &'a str>) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    items.any(|item| {
        let item = item.to_ascii_lowercase();
        if item == "*" {
            return true;
        }
        if let Some((network, length)) = item.split_once('/')
            && let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u8>())
        {
            return address.is_some_and(|address| super::permit::within(address, network, length));
        }
        let Some((name, wanted)) = super::permit::split_port(&item) else { return false };
        if wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        if let Ok(listed) = name.parse::<IpAddr>() {
            return address == Some(listed);
        }
        match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
            None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_the_one_that_is_meant() {
        let check = |proxy: &Proxy, url: &str, variables: &[(&str, &str)], expected: Option<&str>| {
            let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
            let chosen = proxy.chosen(&Url::parse(url).unwrap(), find);
            assert_eq!(chosen.as_ref().map(Url::as_str), expected, "{url} {variables:?}");
        };
        let listed = |items: &[&str]| Proxy {
            url: Some(Url::parse("http://p:3128").unwrap()),
            excluded: items.iter().map(ToString::to_string).collect(),
            ..Proxy::default()
        };
        let through = Some("http://p:3128/");
        check(&Proxy::default(), "http://a/", &[("HTTP_PROXY", "x")], None);
        check(&listed(&[]), "http://a/", &[], through);
        check(&listed(&["example.com"]), "http://example.com/", &[], None);
        check(&listed(&["example.com"]), "http://a.example.com/", &[], None);
        check(&listed(&["example.com"]), "http://badexample.com/", &[], through);
        check(&listed(&[".example.com"]), "http://example.com/", &[], through);
        check(&listed(&["example.com:8080"]), "http://example.com/", &[], through);
        check(&listed(&["10.0.0.0/8"]), "http://10.1.2.3/", &[], None);
        check(&listed(&["10.1.2.3"]), "http://10.1.2.4/", &[], through);
        check(&listed(&["*"]), "https://a/", &[], None);
        let environment = Proxy { from_environment: true, ..Proxy::default() };
        check(&environment, "http://a/", &[("HTTP_PROXY", "p:3128")], through);
        check(&environment, "https://a/", &[("HTTP_PROXY", "p:3128")], None);
        check(&environment, "https://a/", &[("https_proxy", "http://p:3128")], through);
        check(&environment, "http://localhost/", &[("HTTP_PROXY", "p:3128")], None);
        check(&environment, "http://a.b/", &[("HTTP_PROXY", "p:3128"), ("NO_PROXY", "x, b")], None);
    }
}
