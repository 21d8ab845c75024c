//! A local name server that responds according to its zone, or not at all.

use std::path::PathBuf;

use tokio::net::UdpSocket;

use super::*;

/// Behavior of a name server.
#[derive(Clone, Copy)]
enum Says {
    /// Responds with these addresses: IPv4 for A, IPv6 for AAAA.
    Addresses(&'static [&'static str]),
    /// Responds with these addresses for A, and not at all for AAAA.
    SilentOnSix(&'static [&'static str]),
    /// Responds with this code.
    Code(u8),
}

/// Files of a system in their own folder.
struct Files(PathBuf);

impl Files {
    fn new(resolv_conf: &str, hosts: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wachta-resolver-{}", crate::outcome::RunId::new()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("resolv.conf"), resolv_conf).unwrap();
        std::fs::write(folder.join("hosts"), hosts).unwrap();
        Self(folder)
    }

    fn resolver(&self, port: u16) -> Resolver {
        Resolver::of_files(self.0.join("resolv.conf"), self.0.join("hosts"), port)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a name server for the lifetime of the test's runtime. Names outside of the zone do not exist.
async fn serve(zone: &'static [(&'static str, Says)]) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(answer) = answer(&buffer[..length], zone) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    port
}

fn answer(question: &[u8], zone: &[(&str, Says)]) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let name = labels.join(".");
    let says = zone.iter().find(|(known, _)| *known == name).map_or(Says::Code(3), |(_, says)| *says);
    let (code, addresses) = match says {
        Says::Code(code) => (code, &[][..]),
        Says::SilentOnSix(_) if kind == 28 => return None,
        Says::Addresses(addresses) | Says::SilentOnSix(addresses) => (0, addresses),
    };
    let mut records = Vec::new();
    let mut count = 0_u8;
    for address in addresses {
        let bytes = match address.parse().unwrap() {
            IpAddr::V4(four) if kind == 1 => four.octets().to_vec(),
            IpAddr::V6(six) if kind == 28 => six.octets().to_vec(),
            _ => continue,
        };
        count += 1;
        records.extend([0xc0, 0x0c, 0, u8::try_from(kind).unwrap(), 0, 1, 0, 0, 0, 60, 0]);
        records.push(u8::try_from(bytes.len()).unwrap());
        records.extend(bytes);
    }
    let mut message = question[..2].to_vec();
    message.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    message.extend(&question[12..end]);
    message.extend(records);
    Some(message)
}

#[tokio::test]
async fn names_resolve_as_the_files_and_the_servers_say() {
    const ZONE: &[(&str, Says)] = &[
        ("both.test", Says::Addresses(&["192.0.2.1", "2001:db8::1"])),
        ("four.test", Says::Addresses(&["192.0.2.1", "192.0.2.2"])),
        ("six.test", Says::Addresses(&["2001:db8::1"])),
        ("none.test", Says::Addresses(&[])),
        ("slow.test", Says::SilentOnSix(&["192.0.2.3"])),
        ("broken.test", Says::Code(2)),
        ("under_score.test", Says::Addresses(&["192.0.2.4"])),
        ("short.lan.test", Says::Addresses(&["192.0.2.5"])),
        ("a.b", Says::Addresses(&["192.0.2.6"])),
        ("a.b.lan.test", Says::Addresses(&["192.0.2.7"])),
        ("known.test", Says::Addresses(&["192.0.2.8"])),
    ];
    let files = Files::new(
        "search lan.test other.test\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        "# local\n127.0.0.1 localhost\n::1 localhost\n198.51.100.1 Known.test alias\n",
    );
    let resolver = files.resolver(serve(ZONE).await);
    let check = async |host: &str, family: AddressFamily, expected: Result<&[&str], &str>| {
        let found = resolver.lookup(host, family).await;
        let found = found.map(|found| found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{host} {family:?}"),
            (Err(failure), Err(expected)) => {
                let whole = format!("`{host}` did not resolve: {expected}");
                assert_eq!((failure.reason, failure.message), (Reason::Dns, whole), "{host} {family:?}");
            }
            (found, _) => panic!("{host} {family:?}: {found:?}"),
        }
    };
    check("both.test", AddressFamily::Any, Ok(&["2001:db8::1", "192.0.2.1"])).await;
    check("BOTH.test.", AddressFamily::Only4, Ok(&["192.0.2.1"])).await;
    check("both.test", AddressFamily::Only6, Ok(&["2001:db8::1"])).await;
    check("four.test", AddressFamily::Any, Ok(&["192.0.2.1", "192.0.2.2"])).await;
    check("four.test", AddressFamily::Prefer6, Ok(&["192.0.2.1", "192.0.2.2"])).await;
    check("six.test", AddressFamily::Prefer4, Ok(&["2001:db8::1"])).await;
    check("under_score.test", AddressFamily::Any, Ok(&["192.0.2.4"])).await;
    // One family is sufficient, and a response for the other is not awaited.
    check("slow.test", AddressFamily::Any, Ok(&["192.0.2.3"])).await;
    check("slow.test", AddressFamily::Prefer4, Ok(&["192.0.2.3"])).await;
    // The search list applies before the name itself if the name has fewer dots than `ndots`, otherwise after it.
    check("short", AddressFamily::Any, Ok(&["192.0.2.5"])).await;
    check("a.b", AddressFamily::Any, Ok(&["192.0.2.6"])).await;
    check("a.b.lan", AddressFamily::Any, Err("no such name")).await;
    // The hosts file takes precedence over the name servers.
    check("known.test", AddressFamily::Any, Ok(&["198.51.100.1"])).await;
    check("known.test", AddressFamily::Only6, Err("it has no address")).await;
    check("alias", AddressFamily::Any, Ok(&["198.51.100.1"])).await;
    check("localhost", AddressFamily::Any, Ok(&["::1", "127.0.0.1"])).await;
    check("shop.localhost", AddressFamily::Only4, Ok(&["127.0.0.1"])).await;
    check("none.test", AddressFamily::Any, Err("it has no address")).await;
    check("missing.test", AddressFamily::Any, Err("no such name")).await;
    check("broken.test", AddressFamily::Any, Err("the name server returned Server Failure")).await;
    check("no such name", AddressFamily::Any, Err("it is not a name")).await;
    check("", AddressFamily::Any, Err("it is not a name")).await;
}

#[tokio::test]
async fn a_dead_name_server_holds_up_nobody_else() {
    // Bound, but never read from.
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let files = Files::new("nameserver 127.0.0.1\n", "127.0.0.1 known.test\n");
    let resolver = files.resolver(dead.local_addr().unwrap().port());
    let dialer = super::super::Dialer::new(super::super::Reach::default(), resolver.clone());
    let waiting: Vec<_> = (0..300)
        .map(|number| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.lookup(&format!("n{number}.test"), AddressFamily::Any).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    let route = super::super::DialOptions::default();
    let others = async {
        for host in ["127.0.0.1", "[::1]", "known.test", "localhost"] {
            assert!(dialer.resolve(host, &route).await.is_ok(), "{host}");
        }
    };
    tokio::time::timeout(Duration::from_secs(2), others).await.expect("nothing of these needs the server");
    assert!(waiting.iter().all(|lookup| !lookup.is_finished()));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let files = Files::new("nameserver 127.0.0.1\n", "192.0.2.1 shop.test\n");
    let resolver = files.resolver(9);
    let address = async || resolver.lookup("shop.test", AddressFamily::Only4).await.unwrap().addresses[0].to_string();
    assert_eq!(address().await, "192.0.2.1");
    // As editors do: replaced by a new file.
    std::fs::write(files.0.join("hosts.new"), "192.0.2.22 shop.test\n").unwrap();
    std::fs::rename(files.0.join("hosts.new"), files.0.join("hosts")).unwrap();
    resolver.state().checked_at = None;
    assert_eq!(address().await, "192.0.2.22");
}

#[tokio::test]
async fn a_lack_of_our_own_is_not_the_names() {
    for code in [nix::errno::Errno::EMFILE, nix::errno::Errno::ENFILE, nix::errno::Errno::ENOMEM] {
        let error = NetError::Io(Arc::new(io::Error::from_raw_os_error(code as i32)));
        assert_eq!(failure("a.test", &error).reason, Reason::Resources, "{code}");
        assert_eq!(unreadable("a.test", &io::Error::from_raw_os_error(code as i32)).reason, Reason::Resources);
    }
    let error = NetError::Io(Arc::new(io::Error::from_raw_os_error(nix::errno::Errno::ECONNREFUSED as i32)));
    assert_eq!(failure("a.test", &error).reason, Reason::Dns);
}
