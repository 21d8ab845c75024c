//! E-mail by SMTP (RFC 5321): text and HTML, with the screenshot in the HTML, and one thread per incident.
//!
//! The `Message-ID` of a mail is derived from the notification id, so that mail clients recognize a repeat as the same
//! mail. Later mails refer to the mail of the opening, whose id is derived from the dedup key alone (RFC 5322, 3.6.4).
//! The receiver state only contains the recipients of a notification that the server did not accept for all of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use serde_json::Value as Json;

use super::config::{Email, MailTls};
use super::message::{Message, MessageRenderer, Tone, screenshot};
use super::{DeliveryResult, Notifier, Resolve, truncate};
use crate::bounded;
use crate::incident::{Event, Notification};
use crate::store::evidence::EvidenceFolder;

/// Maximum time for one response of the server.
const ANSWER: Duration = Duration::from_secs(30);
/// Maximum time for the whole exchange.
const EXCHANGE: Duration = Duration::from_mins(2);
/// Maximum number of characters of a subject.
pub(super) const MAX_SUBJECT_CHARS: usize = 200;
/// Maximum number of characters of the first line of the text.
const MAX_TITLE_CHARS: usize = 500;
/// Maximum number of bytes of the text.
const TEXT: usize = 60_000;
/// Maximum number of bytes of an attached screenshot: many servers accept 10 MB in total, and base64 adds a third.
const PICTURE: usize = 5 << 20;

/// Notifier that sends e-mail.
pub(super) struct EmailNotifier {
    pub(super) config: Email,
    pub(super) wording: MessageRenderer,
    pub(super) evidence: EvidenceFolder,
    pub(super) resolve: Resolve,
}

/// Returns whether a text is an e-mail address, with or without a name.
pub fn is_mailbox(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn html(message: &Message, has_picture: bool) -> String {
    let colour = match message.tone {
        Tone::Critical => "#d40e0d",
        Tone::Warning => "#a86c00",
        Tone::Info => "#1f6feb",
        Tone::Good => "#1a7f37",
    };
    let lines: String = message.text.lines().map(|line| format!("{}<br>\n", escape(line))).collect();
    let links: Vec<String> =
        message.links.iter().map(|(name, url)| format!("<a href=\"{}\">{name}</a>", escape(url))).collect();
    let picture = if has_picture {
        "<p><img src=\"cid:screenshot\" alt=\"the page when it failed\" style=\"max-width:100%\"></p>\n"
    } else {
        ""
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body style=\"font-family:sans-serif\">\n<div style=\"border-left:4px solid {colour};padding-left:12px\">\n\
         <h2 style=\"font-size:16px;color:{colour}\">{title}</h2>\n<p>{lines}</p>\n{picture}<p>{links}</p>\n</div>\n</body></html>\n",
        title = escape(&message.title),
        links = links.join(" &middot; "),
    )
}

impl EmailNotifier {
    /// Creates the mail of a notification. The error describes the problem in the agent configuration.
    fn mail(
        &self,
        notification: &Notification,
        message: &Message,
        picture: Option<Vec<u8>>,
    ) -> Result<lettre::Message, String> {
        let from: Mailbox = self.config.from.parse().map_err(|e| format!("`from`: {e}"))?;
        let domain = from.email.domain().to_owned();
        let id = |text: &str| format!("<{}@{domain}>", &truncate::digest(text)[..32]);
        let thread = id(&format!("{} to {}", notification.dedup_key(), notification.receiver));
        let mut builder = lettre::Message::builder().from(from).date_now();
        // The subject is shorter than the first line of the text.
        builder = builder.subject(self.wording.marked(notification, MAX_SUBJECT_CHARS).title);
        for to in &self.config.to {
            builder = builder.to(to.parse().map_err(|e| format!("`to`: {e}"))?);
        }
        builder = if notification.event == Event::Opened {
            builder.message_id(Some(thread))
        } else {
            builder.message_id(Some(id(&notification.id))).in_reply_to(thread.clone()).references(thread)
        };
        // RFC 3834: prevents automatic replies.
        for (name, value) in [
            (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated"),
            (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All"),
        ] {
            builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
        }
        let text = format!("{}\n\n{}\n\n{}", message.title, message.text, message.link_lines());
        let html = SinglePart::html(html(message, picture.is_some()));
        let body = MultiPart::alternative().singlepart(SinglePart::plain(text));
        let body = match picture {
            Some(picture) => {
                let png = ContentType::parse("image/png").expect("it is a content type");
                let inline = Attachment::new_inline_with_name("screenshot".into(), "screenshot.png".into());
                let picture = inline.body(picture, png);
                body.multipart(MultiPart::related().singlepart(html).singlepart(picture))
            }
            None => body.singlepart(html),
        };
        builder.multipart(body).map_err(|e| format!("the mail cannot be written: {e}"))
    }
    /// Opens a connection that is ready to send mail: encrypted and logged in, as configured.
    async fn connect(&self) -> Result<AsyncSmtpConnection, DeliveryResult> {
        let Email { host, port, tls, login, .. } = &self.config;
        let hello = ClientId::default();
        let away = |error: SmtpError| {
            // A rejected login can be corrected in the configuration.
            DeliveryResult::retryable(problem(&error)).blocks_receiver(None)
        };
        let encryption = match tls {
            MailTls::None => None,
            MailTls::StartTls | MailTls::Implicit => Some(self.encryption().await?),
        };
        let at_once = encryption.clone().filter(|_| *tls == MailTls::Implicit);
        // The SMTP client itself would resolve names on blocking threads. TLS still verifies the name.
        let resolved = tokio::time::timeout(ANSWER, (self.resolve)(host.clone())).await;
        let resolved = resolved.unwrap_or_else(|_| Err(format!("no name server responded for `{host}`")));
        let addresses =
            resolved.map_err(|why| DeliveryResult::retryable(format!("mail server: {why}")).blocks_receiver(None))?;
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|address| SocketAddr::new(address, *port)).collect();
        let connecting = AsyncSmtpConnection::connect_tokio1(addresses.as_slice(), Some(ANSWER), &hello, at_once, None);
        let mut connection = connecting.await.map_err(away)?;
        if let (MailTls::StartTls, Some(encryption)) = (tls, encryption) {
            if !connection.can_starttls() {
                connection.abort().await;
                let problem = "the mail server offers no STARTTLS; set `tls: implicit`, or `tls: none` on this machine";
                return Err(DeliveryResult::retryable(problem).blocks_receiver(None));
            }
            connection.starttls(encryption, &hello).await.map_err(away)?;
        }
        if let Some((user, password)) = login {
            let password = password.read().await.map_err(DeliveryResult::retryable)?;
            let credentials = Credentials::new(user.clone(), password);
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await.map_err(away)?;
        }
        Ok(connection)
    }

    /// Returns the TLS parameters with the root certificates of the system, or those of browsers if the system has
    /// none, and those of the file `ca`.
    async fn encryption(&self) -> Result<TlsParameters, DeliveryResult> {
        let mut builder = TlsParameters::builder(self.config.host.clone());
        if rustls_native_certs::load_native_certs().certs.is_empty() {
            builder = builder.certificate_store(CertificateStore::WebpkiRoots);
        }
        if let Some(file) = &self.config.ca {
            let shown = file.path().display();
            let pem = file.read(bounded::MAX_SMALL_BYTES).await;
            let pem = pem.map_err(|e| DeliveryResult::retryable(format!("the file `{shown}` cannot be read: {e}")))?;
            let roots = Certificate::from_pem(&pem);
            builder =
                builder.add_root_certificate(roots.map_err(|e| DeliveryResult::retryable(format!("`{shown}`: {e}")))?);
        }
        builder.build().map_err(|e| DeliveryResult::failed(format!("TLS: {e}")))
    }

    /// Sends a mail. `content` becomes true as soon as the server may have accepted the mail. `done` contains the
    /// addresses that have received the mail or will never receive it, and is extended.
    async fn hand_over(
        &self,
        mail: &lettre::Message,
        done: &mut BTreeSet<String>,
        content: &mut bool,
    ) -> Result<(String, Option<String>), DeliveryResult> {
        let mut connection = self.connect().await?;
        let refused = |error: SmtpError| {
            if error.is_permanent() {
                DeliveryResult::failed(problem(&error))
            } else {
                DeliveryResult::retryable(problem(&error))
            }
        };
        let envelope = mail.envelope();
        // A rejected sender address can be corrected in the configuration.
        let sender = |error: SmtpError| DeliveryResult::retryable(problem(&error)).blocks_receiver(None);
        connection.command(Mail::new(envelope.from().cloned(), Vec::new())).await.map_err(sender)?;
        // An address that is rejected, permanently or for now, does not prevent delivery to the others.
        let (mut taken, mut later, mut never) = (Vec::new(), None, Vec::new());
        for to in envelope.to().iter().filter(|to| !done.contains(&to.to_string())) {
            match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
                Ok(_) => taken.push(to.to_string()),
                Err(error) => {
                    let problem = problem(&error);
                    tracing::warn!(to = %to, problem, "the mail server does not accept mail for this address");
                    if error.is_permanent() {
                        never.push((to.to_string(), problem));
                    } else {
                        later = Some(problem);
                    }
                }
            }
        }
        if taken.is_empty() {
            connection.abort().await;
            return Err(match (later, never.pop()) {
                (Some(problem), _) => DeliveryResult::retryable(problem),
                // The server rejects all configured addresses.
                (None, Some((_, problem))) if done.is_empty() => DeliveryResult::retryable(problem),
                (None, _) => return Ok(("no other server accepts it".to_owned(), None)),
            });
        }
        connection.command(Data).await.map_err(refused)?;
        *content = true;
        let answer = connection.message(&mail.formatted()).await.map_err(|error| match error.status() {
            // A response states that the mail was not accepted; without one, the result is uncertain.
            Some(_) => refused(error),
            None => DeliveryResult::uncertain(problem(&error)),
        })?;
        let response = format!("{} {}", answer.code(), truncate::line(&answer.message().collect::<Vec<_>>().join(" ")));
        let _ = connection.quit().await;
        done.extend(taken);
        done.extend(never.into_iter().map(|(to, _)| to));
        Ok((response, later))
    }
}

/// Returns the error message, with the response of the server.
fn problem(error: &SmtpError) -> String {
    let mut text = format!("mail server: {error}");
    let mut next = std::error::Error::source(error);
    while let Some(inner) = next {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(&format!(": {inner_text}"));
        }
        next = inner.source();
    }
    truncate::chars(&truncate::line(&text), 400)
}

#[async_trait]
impl Notifier for EmailNotifier {
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult {
        // Recipients that already received this notification when another recipient was rejected temporarily.
        let earlier = receiver_state.filter(|receiver_state| {
            [&receiver_state["notification"], &receiver_state["notice"]]
                .iter()
                .any(|id| **id == notification.id.as_str())
        });
        let earlier = earlier.and_then(|receiver_state| receiver_state["done"].as_array()).into_iter().flatten();
        let mut done: BTreeSet<String> = earlier.filter_map(Json::as_str).map(ToOwned::to_owned).collect();
        let mut message = self.wording.marked(notification, MAX_TITLE_CHARS);
        message.text = truncate::bytes(&message.text, TEXT);
        // A resolution has no screenshot, because it would show a past state.
        let picture = match notification.event {
            Event::Resolved => None,
            _ => screenshot(&self.evidence, &notification.incident).await.filter(|picture| picture.len() <= PICTURE),
        };
        let mail = match self.mail(notification, &message, picture) {
            Ok(mail) => mail,
            Err(problem) => return DeliveryResult::failed(problem),
        };
        let mut content = false;
        match tokio::time::timeout(EXCHANGE, self.hand_over(&mail, &mut done, &mut content)).await {
            Ok(Ok((response, None))) => DeliveryResult::sent(response),
            Ok(Ok((_, Some(problem)))) => {
                DeliveryResult::retryable(format!("not accepted for all recipients: {problem}"))
                    .remember(serde_json::json!({"notification": notification.id, "done": done}))
            }
            Ok(Err(tried)) => tried,
            Err(_) if content => DeliveryResult::uncertain("mail server: no response").blocks_receiver(None),
            Err(_) => DeliveryResult::retryable("mail server: no response").blocks_receiver(None),
        }
    }

    fn keeps_state(&self) -> bool {
        true
    }
}
