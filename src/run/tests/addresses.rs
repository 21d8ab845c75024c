//! A name with two addresses, of which the first drops every packet: every check must reach the second one.

use socket2::{Domain, Socket, Type};

use super::*;
use crate::wire;
use crate::wire::{Dialer, Reach, Resolver};

/// A port that accepts no more connections. Packets to it are dropped, as by a firewall, and no packet leaves the
/// machine.
struct Hole {
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Hole {
    fn dig(address: SocketAddr) -> std::io::Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&address.into())?;
        listener.listen(0)?;
        let mut waiting = Vec::new();
        // The queue accepts one or two more connections than requested.
        for _ in 0..8 {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            client.set_nonblocking(true)?;
            let _ = client.connect(&address.into());
            waiting.push(client);
        }
        Ok(Self { _listener: listener, _waiting: waiting })
    }
}

#[tokio::test]
async fn a_first_address_that_swallows_everything_fails_no_kind_of_check() {
    let (server, port, _hole) = loop {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        if let Ok(hole) = Hole::dig(SocketAddr::from(([127, 0, 0, 2], port))) {
            break (server, port, hole);
        }
    };
    let swallowed = TcpStream::connect(("127.0.0.2", port));
    assert!(tokio::time::timeout(Duration::from_millis(500), swallowed).await.is_err(), "it is no hole");
    let folder = Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    let hosts = folder.0.join("hosts");
    std::fs::write(&hosts, "127.0.0.2 two.test\n127.0.0.1 two.test\n").unwrap();
    std::fs::write(folder.0.join("resolv.conf"), "").unwrap();
    let resolver = Resolver::of_files(folder.0.join("resolv.conf"), hosts, 1);
    let tools = RunServices { dialer: Dialer::new(Reach::default(), resolver), ..tools(Given::default(), &folder) };
    let resolved = tools.dialer.resolve("two.test", &wire::DialOptions::default()).await.unwrap();
    assert_eq!(resolved.addresses, ["127.0.0.2", "127.0.0.1"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
    for check in [
        format!("{{http: \"http://two.test:{port}/\"}}"),
        format!("{{http: \"https://two.test:{port}/\"}}"),
        format!("{{http: \"http://example.test/\", proxy: \"http://two.test:{port}\"}}"),
        format!("{{http: \"https://example.test/\", proxy: \"http://two.test:{port}\"}}"),
        format!(
            "{{http: \"http://example.test/\", oauth2: {{token_url: \"http://two.test:{port}/\", client_id: a, client_secret: abcdefgh}}}}"
        ),
        format!("{{tcp: \"two.test:{port}\", receive: x}}"),
        format!("{{tcp: \"two.test:{port}\", starttls: smtp}}"),
        format!("{{tls: \"two.test:{port}\"}}"),
        format!("{{dns: example.com, server: \"tls://two.test:{port}\"}}"),
        format!("{{dns: example.com, server: \"https://two.test:{port}/dns-query\"}}"),
        format!("{{postgres: \"postgres://a:abcdefgh@two.test:{port}/a\"}}"),
        format!("{{redis: \"redis://two.test:{port}\"}}"),
        format!("{{redis: \"rediss://two.test:{port}\"}}"),
        format!("{{grpc: \"two.test:{port}\"}}"),
        format!("{{websocket: \"ws://two.test:{port}/\"}}"),
        format!("{{websocket: \"wss://two.test:{port}/\"}}"),
        format!("{{s3: \"http://two.test:{port}/bucket\", key: a}}"),
    ] {
        let scenario = &scenarios(&format!("defaults: {{timeout: 30s}}\nchecks: {{a: {check}}}\n"))[0];
        let stop = CancellationToken::new();
        let ticket = RunRequest { cancel: stop.clone(), ..RunRequest::default() };
        let mut running = std::pin::pin!(run(scenario, &tools, ticket));
        tokio::select! {
            biased;
            outcome = running.as_mut() => panic!("{check}: {}", shown(&outcome)),
            accepted = server.accept() => drop(accepted.unwrap()),
        }
        // The response of the server is not tested here.
        stop.cancel();
        let outcome = running.await;
        assert_ne!(outcome.reason, Some(Reason::Connect), "{check}: {}", shown(&outcome));
        // Further attempts of this check must not count for the next one.
        while tokio::time::timeout(Duration::from_millis(10), server.accept()).await.is_ok() {}
    }
}
