//! Which address of a Zabbix cluster is tried. Pure.
//!
//! The nodes of a high-availability cluster are tried in the order in which they are named, beginning with the one that
//! answered last. A member of a proxy group may name another one instead, which is then tried before all nodes: as in
//! Zabbix itself once in a row, and only when its revision is not older than the last one.

use super::protocol::Answer;

/// The trapper's port when nothing else is said.
pub const DEFAULT_PORT: u16 = 10051;

/// The addresses of one Zabbix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Those of the cluster, in the order of the configuration.
    cluster: Vec<String>,
    /// The one that is tried first.
    current: usize,
    /// Where a member of a proxy group sent us, and with which revision.
    redirect: Option<(String, u64)>,
    /// The newest revision that was seen.
    revision: u64,
}

/// What follows an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The same request goes to this address.
    Follow(String),
    /// The next of the attempt's addresses is tried.
    Another,
}

impl Nodes {
    /// Takes the nodes of a cluster, at least one, as `host:port`.
    pub fn new(nodes: Vec<String>) -> Self {
        Self { cluster: nodes, current: 0, redirect: None, revision: 0 }
    }

    /// The addresses that an attempt tries, in order.
    pub fn addresses(&self) -> Vec<String> {
        let redirect = self.redirect.iter().map(|(address, _)| address);
        let nodes = self.cluster[self.current..].iter().chain(&self.cluster[..self.current]);
        redirect.chain(nodes).cloned().collect()
    }

    /// Takes note that an address answered as it should.
    pub fn succeeded(&mut self, address: &str) {
        if let Some(node) = self.cluster.iter().position(|node| node == address) {
            self.current = node;
        }
    }

    /// Takes note that an address did not answer: the next attempt begins with another one.
    pub fn failed(&mut self, address: &str) {
        if self.redirect.as_ref().is_some_and(|(member, _)| member == address) {
            self.redirect = None;
        }
        if self.cluster[self.current] == address {
            self.current = (self.current + 1) % self.cluster.len();
        }
    }

    /// Takes note of an answer that sends us elsewhere; `None` for any other. `is_followed` says whether the address that
    /// gave it was named by another one just now.
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

/// An address with its port: that of the trapper where it has none, or the port 0.
pub fn with_port(address: &str) -> String {
    let address = address.trim();
    let host = match address.rsplit_once(':') {
        // An IPv6 address has a port only behind its bracket.
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
        // A second one in a row, and one that is older, lead nowhere.
        let second = nodes.redirected("p2:10051", &redirect("p3", 18), true);
        assert_eq!((second, nodes.addresses()), (Some(Next::Another), vec!["a:1".into(), "b:1".into()]));
        assert_eq!(nodes.redirected("a:1", &redirect("p2", 16), false), Some(Next::Another));
        assert_eq!(nodes.addresses(), ["b:1", "a:1"]);
        // The group has nobody to name: what it named before is forgotten.
        nodes.redirected("b:1", &redirect("p2", 17), false);
        assert_eq!(nodes.redirected("p2:10051", &Answer::Reset, false), Some(Next::Another));
        assert_eq!(nodes.addresses(), ["b:1", "a:1"]);
        assert_eq!(nodes.redirected("b:1", &Answer::Processed(1), false), None);
    }
}
