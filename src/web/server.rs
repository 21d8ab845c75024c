//! HTTP server with limits on the number and duration of connections.
//!
//! No client can block the agent by not sending or not reading data: the TLS handshake and each part of a request and
//! of its response have a timeout, and if there are too many connections, the one that has been idle longest is closed
//! in favor of the next. The limit leaves file descriptors for runs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Error, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::guard::{Guard, Refusal};
use super::harden;
use super::metrics::Peer;
use super::security::{Admission, Security};
use crate::names::path;

/// Maximum number of concurrent requests on an HTTP/2 connection.
const MAX_STREAMS: u32 = 32;
/// Maximum size of the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Size of the parts in which a response is sent over HTTP/2, in bytes.
const PART_BYTES: usize = 16 << 10;

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of concurrent connections.
    pub connections: usize,
    /// Timeout of the TLS handshake.
    pub handshake: Duration,
    /// Timeout of receiving the head of a request, and maximum idle time of a connection before a request.
    pub head: Duration,
    /// Timeout of receiving the body of a request.
    pub body: Duration,
    /// Maximum size of the body of a request, in bytes.
    pub body_bytes: usize,
    /// Maximum time in which a client reads nothing of a response.
    pub stall: Duration,
    /// Maximum duration of a connection after the agent has begun to stop.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: connections_of(open_files()),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            body: Duration::from_secs(10),
            body_bytes: 64 << 10,
            stall: Duration::from_secs(30),
            farewell: Duration::from_secs(5),
        }
    }
}

/// Returns the maximum number of connections: a quarter of the file descriptors available to the process, at least 16
/// and at most 512. The others are reserved for runs.
fn connections_of(open_files: usize) -> usize {
    (open_files / 4).clamp(16, 512)
}

/// Returns the maximum number of file descriptors of the process.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}

/// Web server with the parts that every connection needs.
#[derive(Clone)]
pub struct Server {
    /// Router for the accepted requests.
    pub router: Router,
    /// Check of the host name and origin of requests.
    pub guard: Guard,
    /// TLS and users.
    pub security: Security,
    /// Limits of connections.
    pub limits: Limits,
}

impl Server {
    /// Serves connections until `stop` is cancelled, and then until every connection has ended or has reached its time
    /// limit.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let connections = Arc::new(Connections::default());
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Without free file descriptors, the next attempt would fail immediately as well.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = connections.admit(self.limits.connections) else { continue };
            // Responses are small and frequent.
            let _ = stream.set_nodelay(true);
            tasks.spawn(self.clone().connection(stream, peer.ip(), place, stop.clone()));
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }

    async fn connection(self, stream: TcpStream, peer: IpAddr, place: Place, stop: CancellationToken) {
        let closing = place.closing.clone();
        let place = Arc::new(place);
        // The error of a closed connection is of no interest.
        let serving = self.begin(stream, peer, &place, &stop);
        tokio::select! {
            () = serving => {}
            () = closing.cancelled() => {}
        }
    }

    /// Performs the TLS handshake if TLS is configured, and serves the connection.
    async fn begin(self, stream: TcpStream, peer: IpAddr, place: &Arc<Place>, stop: &CancellationToken) {
        let limits = self.limits;
        let Some(config) = self.security.settings().tls.clone() else {
            return self.http1(Stalling::new(stream, limits.stall), peer, place, stop).await;
        };
        let handshake = tokio::time::timeout(limits.handshake, secured(stream, TlsAcceptor::from(config)));
        let Some(Ok(Some(stream))) = stop.run_until_cancelled(handshake).await else { return };
        let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Stalling::new(stream, limits.stall);
        if speaks_http2 {
            self.http2(stream, peer, place, stop).await;
        } else {
            self.http1(stream, peer, place, stop).await;
        }
    }

    async fn http1<S>(self, stream: Stalling<S>, peer: IpAddr, place: &Arc<Place>, stop: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (limits, answering) = (self.limits, Arc::clone(place));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (server, busy) = (self.clone(), Busy::new(&answering));
            async move {
                let response = server.answer(peer, request).await;
                drop(busy);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(limits.farewell, connection).await;
    }

    async fn http2<S>(self, stream: Stalling<S>, peer: IpAddr, place: &Arc<Place>, stop: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (limits, answering) = (self.limits, Arc::clone(place));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (server, place) = (self.clone(), Arc::clone(&answering));
            async move {
                let busy = Busy::new(&place);
                let response = server.answer(peer, request).await;
                drop(busy);
                Ok::<_, Infallible>(response.map(|body| Parts { body, rest: Bytes::new(), place }))
            }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // The HTTP implementation has no timeouts for receiving a request or for sending a response.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = place.idle_for(limits.head) => {}
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(limits.farewell, connection).await;
    }

    async fn answer(mut self, peer: IpAddr, request: Request<Incoming>) -> Response {
        // API clients expect rejections as JSON like all other responses.
        let is_api = request.uri().path().starts_with("/api/");
        let refusal = |status: StatusCode, text: &str| {
            if is_api {
                let body = axum::Json(serde_json::json!({ "error": text }));
                harden((status, [(header::CONNECTION, "close")], body).into_response())
            } else {
                refusal(status, text)
            }
        };
        let security = self.security.clone();
        let mut response = match self.admit(peer, &request).await {
            Err((status, text)) => refusal(status, &text),
            Ok(()) => match self.body(request).await {
                Err((status, text)) => refusal(status, &text),
                Ok(mut request) => {
                    request.extensions_mut().insert(Peer(peer));
                    let answered = self.router.call(request).await;
                    answered.unwrap_or_else(|never| match never {})
                }
            },
        };
        let settings = security.settings();
        if response.status() == StatusCode::UNAUTHORIZED && settings.has_users() {
            let realm = HeaderValue::from_static("Basic realm=\"wachta\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        settings.add_headers(response.headers_mut());
        response
    }

    /// Checks whether a request may be processed, by its host name, origin and credentials.
    async fn admit(&self, peer: IpAddr, request: &Request<Incoming>) -> Result<(), Refusal> {
        let (uri, headers) = (request.uri(), request.headers());
        self.guard.check(request.method(), uri, request.version(), headers)?;
        let is_beat = uri.path().starts_with(path::BEAT);
        match self.security.admit(headers, peer).await {
            Admission::Open if is_beat => self.guard.check_beat_token(uri, headers).await.unwrap_or(Ok(())),
            Admission::Open | Admission::User => Ok(()),
            // Health checks of a service manager have no password.
            _ if matches!(uri.path(), path::HEALTHY | path::READY) => Ok(()),
            denied => {
                // For check-ins, the token replaces the password.
                if is_beat && let Some(checked) = self.guard.check_beat_token(uri, headers).await {
                    return checked;
                }
                Err(match denied {
                    Admission::Busy => {
                        (StatusCode::SERVICE_UNAVAILABLE, "too many password checks at once; try again".into())
                    }
                    _ => (StatusCode::UNAUTHORIZED, "the user name or password is missing or wrong".into()),
                })
            }
        }
    }

    /// Reads the body of a request completely.
    async fn body(&self, request: Request<Incoming>) -> Result<Request<Body>, Refusal> {
        let (parts, body) = request.into_parts();
        // The body of a check-in is not read.
        if body.is_end_stream() || parts.uri.path().starts_with(path::BEAT) {
            return Ok(Request::from_parts(parts, Body::empty()));
        }
        let limits = self.limits;
        let read = axum::body::to_bytes(Body::new(body), limits.body_bytes);
        match tokio::time::timeout(limits.body, read).await {
            Ok(Ok(bytes)) => Ok(Request::from_parts(parts, bytes.into())),
            Ok(Err(_)) => {
                let text = format!("the body is larger than {} KiB, or was truncated", limits.body_bytes >> 10);
                Err((StatusCode::PAYLOAD_TOO_LARGE, text))
            }
            Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body was not received in time".into())),
        }
    }
}

/// Performs the TLS handshake. Returns `None` if it fails. A client that speaks HTTP without TLS receives an error
/// response.
async fn secured(mut stream: TcpStream, acceptor: TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    // Record type of a TLS handshake, the first byte of a connection.
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 1 && first[0].is_ascii_alphabetic() && first[0] != HANDSHAKE {
        let text = "this server uses HTTPS: use an https:// URL\n";
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        // The request is read so that a connection reset does not discard the response.
        let mut sent = [0; 4096];
        let _ = stream.read(&mut sent).await;
        let _ = stream.shutdown().await;
        return None;
    }
    acceptor.accept(stream).await.ok()
}

/// Creates a response after which the connection is closed.
fn refusal(status: StatusCode, text: &str) -> Response {
    harden((status, [(header::CONNECTION, "close")], format!("{text}\n")).into_response())
}

/// Open connections.
#[derive(Debug, Default)]
struct Connections(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    /// Number of requests in progress on the connection.
    busy: usize,
    /// Time of the last activity.
    moved_at: Instant,
    closing: CancellationToken,
}

impl Connections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a slot for a connection. If there are no free slots, the connection that has been idle longest is
    /// closed. Returns `None` if all connections are busy.
    fn admit(self: &Arc<Self>, max: usize) -> Option<Place> {
        let mut state = self.state();
        if state.open.len() >= max {
            let idle = state.open.iter().filter(|(_, open)| open.busy == 0).map(|(id, open)| (open.moved_at, *id));
            let (_, oldest) = idle.min()?;
            if let Some(open) = state.open.remove(&oldest) {
                open.closing.cancel();
            }
        }
        let id = state.next;
        state.next += 1;
        let closing = CancellationToken::new();
        state.open.insert(id, Open { busy: 0, moved_at: Instant::now(), closing: closing.clone() });
        Some(Place { connections: Arc::clone(self), id, closing })
    }
}

/// Slot of one connection.
#[derive(Debug)]
struct Place {
    connections: Arc<Connections>,
    id: u64,
    closing: CancellationToken,
}

impl Place {
    /// Updates the entry of the connection and the time of its last activity.
    fn moved(&self, note: impl FnOnce(&mut Open)) {
        if let Some(open) = self.connections.state().open.get_mut(&self.id) {
            note(open);
            open.moved_at = Instant::now();
        }
    }

    /// Returns after the connection has had no request in progress and no activity for this duration.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let until = match self.connections.state().open.get(&self.id) {
                Some(open) if open.busy == 0 => open.moved_at + limit,
                Some(_) => now + limit,
                None => return,
            };
            if until <= now {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.state().open.remove(&self.id);
    }
}

/// Request in progress.
struct Busy(Arc<Place>);

impl Busy {
    fn new(place: &Arc<Place>) -> Self {
        place.moved(|open| open.busy += 1);
        Self(Arc::clone(place))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.moved(|open| open.busy -= 1);
    }
}

/// Body of a response, sent in parts as the client reads them, so that a client that reads nothing is noticed.
struct Parts {
    body: Body,
    rest: Bytes,
    place: Arc<Place>,
}

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.place.moved(|_| {});
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(PART_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// Stream whose writes fail if the peer reads nothing for some time.
struct Stalling<S> {
    stream: S,
    limit: Duration,
    since: Option<Pin<Box<Sleep>>>,
}

impl<S> Stalling<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, since: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if written.is_ready() {
            self.since = None;
            return written;
        }
        let limit = self.limit;
        let since = self.since.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(since.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read the response")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_runs() {
        for (open_files, connections) in [(64, 16), (256, 64), (1024, 256), (65_536, 512)] {
            assert_eq!(connections_of(open_files), connections);
        }
        assert!(open_files() >= 64);
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_longest_makes_room() {
        let connections = Arc::new(Connections::default());
        let one = Arc::new(connections.admit(2).unwrap());
        tokio::time::advance(Duration::from_secs(1)).await;
        let two = Arc::new(connections.admit(2).unwrap());
        let busy = Busy::new(&one);
        let three = Arc::new(connections.admit(2).unwrap());
        assert_eq!((one.closing.is_cancelled(), two.closing.is_cancelled()), (false, true));
        let also_busy = Busy::new(&three);
        assert!(connections.admit(2).is_none(), "all of them are being answered");
        drop(busy);
        assert!(connections.admit(2).is_some() && one.closing.is_cancelled());
        drop(also_busy);
        drop((one, two, three));
        assert!(connections.state().open.is_empty());
    }
}
