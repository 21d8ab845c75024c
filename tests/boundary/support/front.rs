//! A TLS server in front of a plain one, as a reverse proxy with authentication would be: it checks credentials, and can be
//! busy.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wachta::outcome::RunId;

/// A request that came through TLS: when it came, what it asked for, and the status that it got.
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Instant,
    pub line: String,
    pub status: u16,
}

#[derive(Default)]
struct Inner {
    /// The values of `Authorization` that are accepted; none: anything is, and nothing as well.
    accepted: Vec<String>,
    /// How many of the next bulk requests are answered with 429, and with which `Retry-After` in seconds.
    busy: (usize, u64),
    log: Vec<Entry>,
}

/// The server. It ends when it is dropped.
pub struct Front {
    /// Its base URL.
    pub url: String,
    /// The certificate of its authority, as PEM.
    pub ca: String,
    /// The certificate of another authority of the same name, as PEM.
    pub twin: String,
    inner: Arc<Mutex<Inner>>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    /// Starts it before a server (`ADDRESS:PORT`), with the values of `Authorization` that it accepts; none: anything.
    pub async fn before(server: &str, accepted: &[&str]) -> Self {
        let (acceptor, ca, twin) = acceptor();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let accepted = accepted.iter().map(|value| (*value).to_owned()).collect();
        let inner = Arc::new(Mutex::new(Inner { accepted, ..Inner::default() }));
        let (state, server, http) = (Arc::clone(&inner), server.to_owned(), reqwest::Client::new());
        let router = Router::new().fallback(move |request: Request| {
            let (state, server, http) = (Arc::clone(&state), server.clone(), http.clone());
            async move {
                let (at, line) = (Instant::now(), format!("{} {}", request.method(), request.uri().path()));
                let early = refusal(&state, &request);
                let response = match early {
                    Some(response) => response,
                    None => forward(&http, &server, request).await,
                };
                state.lock().unwrap().log.push(Entry { at, line, status: response.status().as_u16() });
                response
            }
        });
        let listener = TlsListener { listener, acceptor };
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, ca, twin, inner, task }
    }

    /// Answers that many bulk requests with 429 and this `Retry-After`, in seconds.
    pub fn be_busy(&self, times: usize, retry_after: u64) {
        self.inner.lock().unwrap().busy = (times, retry_after);
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<Entry> {
        self.inner.lock().unwrap().log.clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is answered without asking the server, in the words of OpenSearch's security plugin.
fn refusal(inner: &Mutex<Inner>, request: &Request) -> Option<Response> {
    let mut inner = inner.lock().unwrap();
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_open = inner.accepted.is_empty();
    if !is_open && !inner.accepted.iter().any(|accepted| Some(accepted.as_str()) == given) {
        return Some((StatusCode::UNAUTHORIZED, "Unauthorized").into_response());
    }
    if inner.busy.0 > 0 && request.uri().path() == "/_bulk" {
        inner.busy.0 -= 1;
        let after = [(header::RETRY_AFTER, inner.busy.1.to_string())];
        return Some((StatusCode::TOO_MANY_REQUESTS, after, "busy").into_response());
    }
    None
}

async fn forward(http: &reqwest::Client, server: &str, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut forwarded = http.request(head.method, format!("http://{server}{}", head.uri)).body(body);
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        forwarded = forwarded.header(header::CONTENT_TYPE, kind);
    }
    match forwarded.send().await {
        Ok(answer) => {
            let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
            let mut response = (status, answer.bytes().await.unwrap()).into_response();
            if let Some(kind) = kind {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            response
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// TLS with a certificate of an authority that nobody else knows, and the certificate of that authority.
fn acceptor() -> (TlsAcceptor, String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Authorities of one name are taken for one another, until the signature is looked at.
    params.distinguished_name.push(DnType::CommonName, RunId::new().to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap().pem();
    let twin = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca, twin)
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // Clients that do not trust the certificate end here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
