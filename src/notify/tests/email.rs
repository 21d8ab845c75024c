//! Mail to a server with configurable responses. The format of mails is tested with a real server in `tests/boundary`.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Responses to commands with a prefix, instead of the usual ones. An empty response hangs up; `.` is the end of the
/// mail.
type Replies = &'static [(&'static str, &'static str)];

struct Server {
    address: SocketAddr,
    /// File with its certificate.
    ca: std::path::PathBuf,
    heard: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn listen(tls: MailTls, replies: Replies) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["mail.test".to_owned()]).unwrap();
        let ca = std::env::temp_dir().join(format!("wachta-mail-{}.pem", RunId::new()));
        std::fs::write(&ca, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (say, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (say, acceptor) = (say.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if tls == MailTls::Implicit {
                        let Ok(mut stream) = acceptor.accept(stream).await else { return };
                        talk(&mut stream, true, false, replies, &say).await;
                    } else if talk(&mut stream, true, tls == MailTls::StartTls, replies, &say).await {
                        let Ok(mut stream) = acceptor.accept(stream).await else { return };
                        talk(&mut stream, false, false, replies, &say).await;
                    }
                });
            }
        });
        Self { address, ca, heard }
    }

    fn receiver(&self, tls: MailTls) -> Receiver {
        receiver(ReceiverKind::Email(Email {
            host: "mail.test".into(),
            port: self.address.port(),
            tls,
            ca: Some(self.ca.clone().into()),
            login: Some(("wachta".into(), Credential::text("hidden-password"))),
            from: "Wachta <wachta@example.com>".into(),
            to: vec!["on-call@example.com".into(), "Żółw <boss@example.com>".into()],
        }))
    }

    fn all_heard(&mut self) -> String {
        let mut all = String::new();
        while let Ok(line) = self.heard.try_recv() {
            all.push_str(&line);
        }
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.ca);
    }
}

/// Plays the server side of SMTP. Returns true if TLS has to start.
async fn talk(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    greets: bool,
    offers_tls: bool,
    replies: Replies,
    heard: &mpsc::UnboundedSender<String>,
) -> bool {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read);
    let mut is_content = false;
    let mut line = if greets { "greet".to_owned() } else { String::new() };
    loop {
        if line.is_empty() && (lines.read_line(&mut line).await.unwrap_or(0) == 0) {
            return false;
        }
        let _ = heard.send(line.clone());
        let command = line.trim_end().to_owned();
        line.clear();
        if is_content && command != "." {
            continue;
        }
        is_content = command.starts_with("DATA");
        let own = replies.iter().find(|(begin, _)| command.starts_with(begin)).map(|(_, reply)| *reply);
        let reply = match (own, command.split([' ', ':']).next().unwrap_or_default()) {
            (Some(""), _) => return false,
            (Some("silence"), _) => {
                tokio::time::pause();
                return std::future::pending().await;
            }
            (Some(reply), _) => {
                is_content &= reply.starts_with("354");
                reply
            }
            (None, "greet") => "220 mail.example.com ESMTP",
            (None, "EHLO") if offers_tls => "250-mail.example.com\r\n250 STARTTLS",
            (None, "EHLO") => "250-mail.example.com\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
            (None, "STARTTLS") => "220 2.0.0 ready",
            (None, "AUTH") => "235 2.7.0 welcome",
            (None, "DATA") => "354 go on",
            (None, ".") => "250 2.0.0 queued as 4711",
            _ => "250 2.1.0 ok",
        };
        if write.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
            return false;
        }
        if command == "STARTTLS" && reply.starts_with("220") {
            return true;
        }
    }
}

#[tokio::test]
async fn mail_goes_over_encryption_with_a_login_and_as_one_thread() {
    for tls in [MailTls::StartTls, MailTls::Implicit, MailTls::None] {
        let mut server = Server::listen(tls, &[]).await;
        let receiver = server.receiver(tls);
        let header = |mail: &str, name: &str| {
            let lines = mail.replace("\r\n ", " ");
            lines.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(ToOwned::to_owned))
        };
        let tried = try_once(&receiver, &notification(1), None).await;
        assert_eq!((shown(&tried).as_str(), tried.response.as_str()), ("sent", "250 2.0.0 queued as 4711"), "{tls:?}");
        let opened = server.all_heard();
        assert!(opened.contains("AUTH PLAIN AHdhY2h0YQBoaWRkZW4tcGFzc3dvcmQ="), "{opened}");
        assert!(
            opened.contains("RCPT TO:<on-call@example.com>") && opened.contains("RCPT TO:<boss@example.com>"),
            "{opened}"
        );
        assert_eq!(opened.contains("STARTTLS"), tls == MailTls::StartTls);
        let thread = header(&opened, "Message-ID").unwrap();
        assert!(thread.ends_with("@example.com>"), "{thread}");
        assert_eq!(header(&opened, "Auto-Submitted").as_deref(), Some("auto-generated"));
        // A repeat is the same mail.
        try_once(&receiver, &notification(1), None).await;
        assert_eq!(header(&server.all_heard(), "Message-ID"), Some(thread.clone()));
        try_once(&receiver, &resolved(1), None).await;
        let resolved = server.all_heard();
        assert_eq!(header(&resolved, "In-Reply-To"), Some(thread.clone()));
        assert_eq!(header(&resolved, "References"), Some(thread.clone()));
        assert_ne!(header(&resolved, "Message-ID"), Some(thread.clone()));
        try_once(&receiver, &notification(2), None).await;
        assert_ne!(header(&server.all_heard(), "Message-ID"), Some(thread));
    }
}

#[tokio::test]
async fn what_a_mail_server_answers() {
    let check = async |replies: Replies, expected: &str| {
        let server = Server::listen(MailTls::StartTls, replies).await;
        let shown = shown(&try_once(&server.receiver(MailTls::StartTls), &notification(1), None).await);
        assert!(shown.starts_with(expected), "{replies:?}: {shown}");
        assert!(!shown.contains("hidden-password") && !shown.contains("aGlkZGVu"), "{shown}");
    };
    check(&[("greet", "421 4.3.2 not now")], "refused all: mail server: ").await;
    check(&[("greet", "")], "refused all: mail server: ").await;
    check(&[("EHLO", "250 mail.example.com")], "refused all: the mail server offers no STARTTLS").await;
    check(&[("STARTTLS", "454 4.7.0 no")], "refused all: mail server: ").await;
    check(&[("AUTH", "535 5.7.8 who are you, hidden-password")], "refused all: mail server: ").await;
    check(&[("AUTH", "454 4.7.0 later")], "refused all: mail server: ").await;
    check(&[("MAIL", "451 4.3.0 later")], "refused all: mail server: ").await;
    check(&[("MAIL", "550 5.7.1 never")], "refused all: mail server: ").await;
    // One address is accepted, and the other one is tried again.
    check(&[("RCPT TO:<boss", "450 4.2.1 greylisted")], "refused: not accepted for all recipients: mail server: ")
        .await;
    // One valid address is sufficient.
    check(&[("RCPT TO:<boss", "550 5.1.1 nobody")], "sent").await;
    check(&[("RCPT", "550 5.1.1 nobody")], "refused: mail server: ").await;
    check(&[("RCPT", "450 4.2.1 greylisted")], "refused: mail server: ").await;
    check(&[("DATA", "554 5.6.0 no")], "failed: mail server: ").await;
    check(&[(".", "552 5.3.4 too large")], "failed: mail server: ").await;
    check(&[(".", "451 4.3.0 later")], "refused: mail server: ").await;
    // It is uncertain whether the mail was accepted.
    check(&[(".", "")], "unsure: mail server: ").await;
}

#[tokio::test]
async fn a_mail_server_that_says_nothing_is_not_waited_for_long() {
    for (replies, expected) in [
        (&[("greet", "silence")] as Replies, "refused all: mail server: "),
        (&[("RCPT", "silence")], "refused"),
        (&[(".", "silence")], "unsure"),
    ] {
        let server = Server::listen(MailTls::None, replies).await;
        let shown = shown(&try_once(&server.receiver(MailTls::None), &notification(1), None).await);
        assert!(shown.starts_with(expected), "{replies:?}: {shown}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let server = Server::listen(MailTls::Implicit, &[]).await;
    let mut receiver = server.receiver(MailTls::Implicit);
    let ReceiverKind::Email(email) = &mut receiver.kind else { panic!("it is mail") };
    email.ca = None;
    let shown = shown(&try_once(&receiver, &notification(1), None).await);
    assert!(shown.starts_with("refused all: mail server: ") && shown.to_lowercase().contains("certificate"), "{shown}");
}

#[tokio::test]
async fn a_long_mail_is_cut() {
    let mut server = Server::listen(MailTls::None, &[]).await;
    let tried = try_once(&server.receiver(MailTls::None), &endless(), None).await;
    assert_eq!(shown(&tried), "sent");
    let mail = server.all_heard();
    assert!(mail.len() < 600_000, "{}", mail.len());
    // RFC 5321, 4.5.3.1.6.
    assert!(mail.lines().all(|line| line.len() <= 998));
}
