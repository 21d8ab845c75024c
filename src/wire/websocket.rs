//! WebSocket (RFC 6455): the opening handshake, and messages.
//!
//! The frames are those of tungstenite. The handshake is done here, because tungstenite's does not accept a list of
//! tokens in `Connection`, nor folded headers.

use std::fmt;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use url::{Position, Url};

use super::Stream;
use super::failure::{LARGEST_HEAD, MOST_HEADERS, head_too_large, of_io};
use crate::names::Reason;
use crate::outcome::Failure;

/// Maximum size of a message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Names of headers that are sent with these capital letters, because some servers compare them exactly.
const SPELLINGS: [&str; 7] =
    ["Host", "Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Origin"];

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket(WebSocketStream<Stream>);

/// A WebSocket that was not opened.
#[derive(Debug)]
pub struct HandshakeRejected {
    /// Failure for the outcome.
    pub failure: Failure,
    /// Status of the server's response, if there was one.
    pub status: Option<StatusCode>,
}

impl From<Failure> for HandshakeRejected {
    fn from(failure: Failure) -> Self {
        Self { failure, status: None }
    }
}

/// A received message, or the end of the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Text.
    Text(String),
    /// Binary data.
    Binary(Vec<u8>),
    /// The server closed the WebSocket.
    Close(CloseReason),
}

/// Reason for which a server closed a WebSocket.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CloseReason {
    /// Status code, if the server sent one.
    pub code: Option<u16>,
    /// Explanation of the server. Often empty.
    pub text: String,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server closed the WebSocket")?;
        if let Some(code) = self.code {
            write!(f, " with {code}")?;
            if let Some(name) = close_code_name(code) {
                write!(f, " ({name})")?;
            }
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// Returns the meaning of a status code (RFC 6455, section 7.4.1, and the registry of IANA).
fn close_code_name(code: u16) -> Option<&'static str> {
    Some(match code {
        1000 => "normal closure",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1007 => "invalid payload",
        1008 => "policy violation",
        1009 => "message too big",
        1010 => "extension required",
        1011 => "internal error",
        1012 => "service restart",
        1013 => "try again later",
        1014 => "bad gateway",
        3000 => "unauthorized",
        3003 => "forbidden",
        3008 => "timeout",
        _ => return None,
    })
}

impl WebSocket {
    /// Performs the opening handshake for a `ws` or `wss` URL on a connection. `headers` are sent in addition to those of
    /// the handshake, or instead of those with the same name. Redirects are not followed, as in browsers.
    pub async fn open(mut stream: Stream, url: &Url, headers: HeaderMap) -> Result<Self, HandshakeRejected> {
        let request = handshake(url, headers)?;
        stream.write_all(&written(url, &request)).await.map_err(|error| broken(&error))?;
        let (head, rest) = read_head(&mut stream).await?;
        check(&request, &head).map_err(|failure| HandshakeRejected { failure, status: Some(head.status) })?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        Ok(Self(WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await))
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: String) -> Result<(), Failure> {
        self.0.send(Message::text(text)).await.map_err(|error| failure(&error))
    }

    /// Sends a binary message.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.0.send(Message::binary(bytes)).await.map_err(|error| failure(&error))
    }

    /// Receives the next message with content. Pings are answered in the meantime.
    pub async fn receive(&mut self) -> Result<Received, Failure> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(Received::Text(text.as_str().to_owned())),
                Some(Ok(Message::Binary(bytes))) => return Ok(Received::Binary(bytes.into())),
                Some(Ok(Message::Close(frame))) => return Ok(Received::Close(close_reason(frame))),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None | Some(Err(tungstenite::Error::ConnectionClosed)) => {
                    return Ok(Received::Close(CloseReason::default()));
                }
                Some(Err(error)) => return Err(failure(&error)),
            }
        }
    }

    /// Sends a close frame. Returns at once if the connection is already closed.
    pub async fn close(&mut self) {
        // The result of the conversation is already known, so an error here does not matter.
        let _ = self.0.close(None).await;
    }
}

fn close_reason(frame: Option<CloseFrame>) -> CloseReason {
    match frame {
        Some(frame) => CloseReason { code: Some(frame.code.into()), text: frame.reason.as_str().to_owned() },
        None => CloseReason::default(),
    }
}

fn failure(error: &tungstenite::Error) -> Failure {
    match error {
        tungstenite::Error::Capacity(_) => Failure::new(Reason::TooLarge, "a message is larger than 1 MiB"),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Failure::new(Reason::Protocol, "the server closed the connection without a close frame")
        }
        tungstenite::Error::Io(error) => broken(error),
        other => Failure::new(Reason::Protocol, other.to_string().chars().take(200).collect::<String>()),
    }
}

fn broken(error: &std::io::Error) -> Failure {
    of_io(error, Reason::Protocol, format!("connection lost: {error}"))
}

/// Returns the headers of the handshake.
fn handshake(url: &Url, further: HeaderMap) -> Result<HeaderMap, Failure> {
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
    let host = host.map_err(|error| Failure::new(Reason::Configuration, format!("the URL cannot be sent: {error}")))?;
    let key = HeaderValue::try_from(generate_key()).expect("base64 is visible ASCII");
    let mut headers = HeaderMap::with_capacity(8 + further.len());
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, key);
    // `extend` replaces all values of the same name.
    headers.extend(further);
    Ok(headers)
}

fn written(url: &Url, headers: &HeaderMap) -> Vec<u8> {
    let path = &url[Position::BeforePath..Position::AfterQuery];
    let path = if path.is_empty() { "/" } else { path };
    let mut out = format!("GET {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        let name = name.as_str();
        let spelling = SPELLINGS.iter().find(|spelling| spelling.eq_ignore_ascii_case(name));
        out.extend_from_slice(spelling.map_or(name, |spelling| *spelling).as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Head of the response to a handshake.
#[derive(Debug)]
struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

/// Reads the head of the response, and returns it with the bytes behind it. Other informational responses are skipped.
async fn read_head(stream: &mut Stream) -> Result<(Head, Vec<u8>), Failure> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        while let Some((head, length)) = parse(&bytes)? {
            bytes.drain(..length);
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok((head, bytes));
            }
        }
        if bytes.len() >= LARGEST_HEAD {
            return Err(head_too_large());
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => {
                let message = "the connection was closed before the response was complete";
                return Err(Failure::new(Reason::Protocol, message));
            }
            Ok(_) => {}
            Err(error) => return Err(broken(&error)),
        }
    }
}

/// Parses the head of a response and returns it with its length. Returns `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    let invalid =
        |error: &dyn fmt::Display| Failure::new(Reason::Protocol, format!("the response is not HTTP: {error}"));
    let length = match config.parse_response(&mut response, bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(head_too_large()),
        Err(error) => return Err(invalid(&error)),
    };
    let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|error| invalid(&error))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|error| invalid(&error))?;
        // A folded value continues on the next line, which counts as a space (RFC 9112, section 5.2).
        let value = field.value.split(|byte| matches!(byte, b'\r' | b'\n'));
        let value = value.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(&b' ');
        headers.append(name, HeaderValue::from_bytes(&value).map_err(|error| invalid(&error))?);
    }
    Ok(Some((Head { status, headers }, length)))
}

/// Checks a response as a client must (RFC 6455, section 4.1).
fn check(request: &HeaderMap, head: &Head) -> Result<(), Failure> {
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::new(Reason::Status, "the server did not open a WebSocket")
            .compared("status 101", head.status.as_str()));
    }
    let wrong = |message: String| Err(Failure::new(Reason::Protocol, message));
    let invalid = |name: &HeaderName, expected: &str| {
        let seen: Vec<_> = tokens(&head.headers, name).collect();
        let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
        let message = format!("the server's handshake is not valid: header `{name}`");
        Err(Failure::new(Reason::Protocol, message).compared(expected, seen.chars().take(200).collect::<String>()))
    };
    for (name, token) in [(UPGRADE, "websocket"), (CONNECTION, "upgrade")] {
        if !tokens(&head.headers, &name).any(|one| one.eq_ignore_ascii_case(token)) {
            return invalid(&name, token);
        }
    }
    let accept = derive_accept_key(request.get(SEC_WEBSOCKET_KEY).map_or(&[], HeaderValue::as_bytes));
    if head.headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value.as_bytes() != accept.as_bytes()) {
        return invalid(&SEC_WEBSOCKET_ACCEPT, &accept);
    }
    let offers_extension = request.contains_key(SEC_WEBSOCKET_EXTENSIONS);
    if let Some(extension) = tokens(&head.headers, &SEC_WEBSOCKET_EXTENSIONS).next().filter(|_| !offers_extension) {
        return wrong(format!("the server uses the extension `{extension}`, which was not offered"));
    }
    let offered: Vec<&str> = tokens(request, &SEC_WEBSOCKET_PROTOCOL).collect();
    match tokens(&head.headers, &SEC_WEBSOCKET_PROTOCOL).next() {
        Some(selected) if !offered.contains(&selected) => {
            wrong(format!("the server selected the subprotocol `{selected}`, which was not offered"))
        }
        None if !offered.is_empty() => {
            wrong(format!("the server selected none of the offered subprotocols ({})", offered.join(", ")))
        }
        _ => Ok(()),
    }
}

/// Returns the items of a header that is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the accepted value of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[test]
    fn handshakes_are_checked_as_in_browsers() {
        let check = |offered: &str, response: &str, expected: Result<(), &str>| {
            let mut request = HeaderMap::new();
            request.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static(KEY));
            if !offered.is_empty() {
                request.insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
            }
            let text = response.replace("ACCEPT", ACCEPT).replace('\n', "\r\n") + "\r\n\r\n";
            let (head, length) = parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(length, text.len());
            let checked = super::check(&request, &head);
            assert_eq!(checked.as_ref().map_err(|failure| failure.message.as_str()).copied(), expected, "{response}");
        };
        let good = "HTTP/1.1 101 X\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: ACCEPT";
        check("", good, Ok(()));
        check("", &good.replace("Connection: Upgrade", "connection: keep-alive, Upgrade"), Ok(()));
        check("", &good.replace("Connection: Upgrade", "Connection: keep-alive,\n  upgrade"), Ok(()));
        check("", &good.replace(": websocket", ": WebSocket"), Ok(()));
        check("", &good.replace("Accept: ", "Accept:\n "), Ok(()));
        let invalid = |name: &str| format!("the server's handshake is not valid: header `{name}`");
        check("", &good.replace("Upgrade: websocket\n", ""), Err(&invalid("upgrade")));
        check("", &good.replace(": Upgrade", ": close"), Err(&invalid("connection")));
        check("", &good.replace("ACCEPT", "x"), Err(&invalid("sec-websocket-accept")));
        check("", &good.replace("101", "200"), Err("the server did not open a WebSocket"));
        let with = |more: &str| format!("{good}\n{more}");
        check("b, a", &with("Sec-WebSocket-Protocol: a"), Ok(()));
        check(
            "",
            &with("Sec-WebSocket-Protocol: a"),
            Err("the server selected the subprotocol `a`, which was not offered"),
        );
        check(
            "b",
            &with("Sec-WebSocket-Protocol: a"),
            Err("the server selected the subprotocol `a`, which was not offered"),
        );
        check("b, a", good, Err("the server selected none of the offered subprotocols (b, a)"));
        check(
            "",
            &with("Sec-WebSocket-Extensions: permessage-deflate"),
            Err("the server uses the extension `permessage-deflate`, which was not offered"),
        );
    }

    #[test]
    fn heads_are_read_when_they_are_complete() {
        assert!(parse(b"HTTP/1.1 101 X\r\nupgrade: websocket\r\n").unwrap().is_none());
        for (bytes, expected) in [
            (&b"SSH-2.0-x\r\n\r\n"[..], Reason::Protocol),
            (&[&b"HTTP/1.1 101 X\r\n"[..], &b"x: y\r\n".repeat(101), b"\r\n"].concat(), Reason::TooLarge),
        ] {
            assert_eq!(parse(bytes).unwrap_err().reason, expected);
        }
    }

    #[test]
    fn the_handshake_is_spelled_as_in_browsers() {
        let url = Url::parse("wss://u:p@grün.test:8443?a=b#c").unwrap();
        let mut further = HeaderMap::new();
        further.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static(KEY));
        further.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat"));
        further.insert("x-a", HeaderValue::from_static("b"));
        let text = String::from_utf8(written(&url, &handshake(&url, further).unwrap())).unwrap();
        let mut lines: Vec<&str> = text.trim_end().split("\r\n").collect();
        assert_eq!(lines.remove(0), "GET /?a=b HTTP/1.1");
        lines.sort_unstable();
        let key = format!("Sec-WebSocket-Key: {KEY}");
        assert_eq!(
            lines,
            [
                "Connection: Upgrade",
                "Host: xn--grn-ioa.test:8443",
                key.as_str(),
                "Sec-WebSocket-Protocol: chat",
                "Sec-WebSocket-Version: 13",
                "Upgrade: websocket",
                "x-a: b",
            ]
        );
    }

    #[test]
    fn reasons_for_closing_are_named() {
        for (code, text, expected) in [
            (None, "", "the server closed the WebSocket"),
            (Some(1000), "", "the server closed the WebSocket with 1000 (normal closure)"),
            (Some(1008), "key missing", "the server closed the WebSocket with 1008 (policy violation): key missing"),
            (Some(4321), "", "the server closed the WebSocket with 4321"),
        ] {
            assert_eq!(CloseReason { code, text: text.to_owned() }.to_string(), expected);
        }
    }
}
