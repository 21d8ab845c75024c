//! Selection of addresses of a Zabbix cluster. Pure.
//!
//! The nodes of a high-availability cluster are tried in the order of the configuration, beginning with the one that
//! responded last. A member of a proxy group may redirect to another one, which is then tried before all nodes: as in
//! Zabbix itself, once in a row, and only if its revision is not older than the last one.

use super::protocol::Answer;

/// Default port of the trapper.
pub const DEFAULT_PORT: u16 = 10051;

/// Addresses of one Zabbix installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Addresses of the cluster nodes, in the order of the configuration.
    cluster: Vec<String>,
    /// Index of the node to try first.
    current: usize,
    /// Redirect of a proxy group member: address and revision.
    redirect: Option<(String, u64)>,
    /// Newest revision received.
    revision: u64,
}

/// Action after a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send the same request to this address.
    Follow(String),
    /// Try the next address of the attempt.
    Another,
}

impl Nodes {
    /// Creates the list from the nodes of a cluster, at least one, as `host:port`.
    pub fn new(nodes: Vec<String>) -> Self {
        Self { cluster: nodes, current: 0, redirect: None, revision: 0 }
    }

    /// Returns the addresses to try in an attempt, in order.
    pub fn addresses(&self) -> Vec<String> {
        let redirect = self.redirect.iter().map(|(address, _)| address);
        let nodes = self.cluster[self.current..].iter().chain(&self.cluster[..self.current]);
        redirect.chain(nodes).cloned().collect()
    }

    /// Records that an address responded correctly.
    pub fn succeeded(&mut self, address: &str) {
        if let Some(node) = self.cluster.iter().position(|node| node == address) {
            self.current = node;
        }
    }

    /// Records that an address did not respond: the next attempt begins with another one.
    pub fn failed(&mut self, address: &str) {
        if self.redirect.as_ref().is_some_and(|(member, _)| member == address) {
            self.redirect = None;
        }
        if self.cluster[self.current] == address {
            self.current = (self.current + 1) % self.cluster.len();
        }
    }

    /// Processes a redirect. Returns `None` for any other response. `is_followed` is whether `from` is itself the
    /// destination of a redirect in this attempt.
    pub fn redirected(&mut self, from: &str, answer: &Answer, is_followed: bool) -> Option<Next> {
        match answer {
            Answer::Reset => {
                self.redirect = None;
                self.failed(from);
                Some(Next::Another)
            }
            Answer::Redirect { revision, .. } if is_followed || *revision < self.revision => {
                self.failed(from);
                Some(Next::Another)
            }
            Answer::Redirect { address, revision } => {
                let address = with_port(address);
                self.revision = *revision;
                self.redirect = Some((address.clone(), *revision));
                Some(Next::Follow(address))
            }
            Answer::Processed(_) | Answer::Rejected(_) => None,
        }
    }
}

/// Adds the default port of the trapper to an address without a port, or with port 0.
pub fn with_port(address: &str) -> String {
    let address = address.trim();
    let host = match address.rsplit_once(':') {
        // The port of an IPv6 address follows its bracket.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse::<u16>() {
            Ok(0) => host,
            Ok(_) => return address.to_owned(),
            Err(_) => address,
        },
        _ => address,
    };
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{DEFAULT_PORT}")
    } else {
        format!("{host}:{DEFAULT_PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        let check = |address: &str, expected: &str| assert_eq!(with_port(address), expected, "{address}");
        check("zabbix.internal", "zabbix.internal:10051");
        check("zabbix.internal:20051", "zabbix.internal:20051");
        check(" 10.0.0.1 ", "10.0.0.1:10051");
        check("10.0.0.1:0", "10.0.0.1:10051");
        check("fd00::1", "[fd00::1]:10051");
        check("[fd00::1]", "[fd00::1]:10051");
        check("[fd00::1]:20051", "[fd00::1]:20051");
    }

    fn redirect(address: &str, revision: u64) -> Answer {
        Answer::Redirect { address: address.into(), revision }
    }

    #[test]
    fn the_node_that_answered_last_is_tried_first() {
        let mut nodes = Nodes::new(vec!["a:1".into(), "b:1".into(), "c:1".into()]);
        assert_eq!(nodes.addresses(), ["a:1", "b:1", "c:1"]);
        nodes.failed("a:1");
        assert_eq!(nodes.addresses(), ["b:1", "c:1", "a:1"]);
        nodes.failed("b:1");
        nodes.failed("c:1");
        nodes.succeeded("c:1");
        assert_eq!(nodes.addresses(), ["c:1", "a:1", "b:1"]);
        nodes.failed("c:1");
        assert_eq!(nodes.addresses(), ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn a_redirect_is_followed_once_and_kept_until_it_fails() {
        let mut nodes = Nodes::new(vec!["a:1".into(), "b:1".into()]);
        let followed = nodes.redirected("a:1", &redirect("p2", 17), false);
        assert_eq!(followed, Some(Next::Follow("p2:10051".into())));
        nodes.succeeded("p2:10051");
        assert_eq!(nodes.addresses(), ["p2:10051", "a:1", "b:1"]);
        // A second redirect in a row, and one with an older revision, are ignored.
        let second = nodes.redirected("p2:10051", &redirect("p3", 18), true);
        assert_eq!((second, nodes.addresses()), (Some(Next::Another), vec!["a:1".into(), "b:1".into()]));
        assert_eq!(nodes.redirected("a:1", &redirect("p2", 16), false), Some(Next::Another));
        assert_eq!(nodes.addresses(), ["b:1", "a:1"]);
        // The group has no other member, so its previous redirect is removed.
        nodes.redirected("b:1", &redirect("p2", 17), false);
        assert_eq!(nodes.redirected("p2:10051", &Answer::Reset, false), Some(Next::Another));
        assert_eq!(nodes.addresses(), ["b:1", "a:1"]);
        assert_eq!(nodes.redirected("b:1", &Answer::Processed(1), false), None);
    }
}
