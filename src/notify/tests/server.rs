//! Server on loopback with configurable responses, valid or invalid.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Received request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    head: String,
    pub(super) bytes: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> Json {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.bytes)))
    }
}

/// Response to a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Status(u16),
    /// Status, further header lines, body.
    Full(u16, &'static str, String),
    /// Closes the connection without a response.
    HangUp,
    /// Ends in the middle of a body.
    Cut(u16),
    /// Does not respond, and advances the time.
    Silence,
}

impl Answer {
    pub(super) fn ok(body: &Json) -> Self {
        Self::Full(200, "", body.to_string())
    }
}

/// Responds to each request by a rule, and passes the requests on.
pub(super) async fn serve(
    rule: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, requests) = mpsc::unbounded_channel();
    let rule = Arc::new(rule);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (heard, rule) = (heard.clone(), Arc::clone(&rule));
            tokio::spawn(async move { take(stream, &heard, &*rule).await });
        }
    });
    (address, requests)
}

/// Responds in this order.
pub(super) async fn script(
    answers: impl IntoIterator<Item = Answer>,
) -> (SocketAddr, mpsc::UnboundedReceiver<Request>) {
    let answers: Mutex<VecDeque<Answer>> = Mutex::new(answers.into_iter().collect());
    serve(move |_| answers.lock().unwrap().pop_front().expect("no more requests than answers")).await
}

async fn take(
    mut stream: TcpStream,
    heard: &mpsc::UnboundedSender<Request>,
    rule: &(dyn Fn(&Request) -> Answer + Send + Sync),
) {
    let mut bytes = Vec::new();
    let request = loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..n]);
        if let Some(request) = parse(&bytes) {
            break request;
        }
        if n == 0 {
            return;
        }
    };
    let answer = rule(&request);
    let _ = heard.send(request);
    let text = match answer {
        Answer::Status(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        Answer::Full(status, head, body) => {
            let length = body.len();
            format!("HTTP/1.1 {status} X\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
        }
        Answer::Cut(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 500\r\n\r\n{{\"ok\": tr"),
        Answer::HangUp => String::new(),
        Answer::Silence => {
            tokio::time::pause();
            return std::future::pending().await;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let path = head.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, head, bytes: Vec::new() };
    let length: usize = request.header("content-length").unwrap_or("0").parse().ok()?;
    request.bytes = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(request)
}
