//! The server: connections, their number and their time.
//!
//! Nobody can hold the agent up by what he does not send or does not read: each part of a request and of its answer
//! has a time of its own, and of very many connections the one that has been idle longest makes room for the next. The
//! number leaves descriptors for runs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::guard::Guard;
use super::harden;
use crate::names::path;

/// Times and sizes of connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of connections at once.
    pub connections: usize,
    /// How long the head of a request may take to arrive, and how long a connection may be idle before one begins.
    pub head: Duration,
    /// How long the body of a request may take to arrive.
    pub body: Duration,
    /// Maximum size of the body of a request, in bytes.
    pub body_bytes: usize,
    /// How long a client may take none of an answer.
    pub stall: Duration,
    /// How long a connection may go on once the agent stops.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: connections_of(open_files()),
            head: Duration::from_secs(30),
            body: Duration::from_secs(10),
            body_bytes: 64 << 10,
            stall: Duration::from_secs(30),
            farewell: Duration::from_secs(5),
        }
    }
}

/// A quarter of the descriptors that the process may have, at least 16 and at most 512: the others are for runs.
fn connections_of(open_files: usize) -> usize {
    (open_files / 4).clamp(16, 512)
}

/// How many descriptors the process may have.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}

/// Serves until `stop`, and then until every connection has ended or its time is over.
pub async fn serve(listener: TcpListener, router: Router, guard: Guard, limits: Limits, stop: CancellationToken) {
    let connections = Arc::new(Connections::default());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Without descriptors the next one fails as well.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = connections.admit(limits.connections) else { continue };
        // Answers are small and often.
        let _ = stream.set_nodelay(true);
        tasks.spawn(connection(stream, router.clone(), guard.clone(), limits, place, stop.clone()));
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    router: Router,
    guard: Guard,
    limits: Limits,
    place: Place,
    stop: CancellationToken,
) {
    let closing = place.closing.clone();
    let answering = Arc::new(place);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (router, guard, busy) = (router.clone(), guard.clone(), Busy::new(&answering));
        async move {
            let response = answer(router, &guard, limits, request).await;
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Stalling::new(stream, limits.stall)), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a client went away tells nobody anything.
        _ = connection.as_mut() => return,
        () = closing.cancelled() => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(limits.farewell, connection).await;
}

async fn answer(mut router: Router, guard: &Guard, limits: Limits, request: Request<Incoming>) -> Response {
    let checked = guard.check(request.method(), request.uri(), request.version(), request.headers());
    // Whoever speaks to the API reads its refusals as it reads its answers.
    let is_api = request.uri().path().starts_with("/api/");
    let refusal = |status: StatusCode, text: &str| {
        if is_api {
            let body = axum::Json(serde_json::json!({ "error": text }));
            harden((status, [(header::CONNECTION, "close")], body).into_response())
        } else {
            refusal(status, text)
        }
    };
    if let Err((status, text)) = checked {
        return refusal(status, &text);
    }
    let (parts, body) = request.into_parts();
    // What comes with a call of a heartbeat is not read.
    let body = if hyper::body::Body::is_end_stream(&body) || parts.uri.path().starts_with(path::BEAT) {
        Body::empty()
    } else {
        let read = axum::body::to_bytes(Body::new(body), limits.body_bytes);
        match tokio::time::timeout(limits.body, read).await {
            Ok(Ok(bytes)) => bytes.into(),
            Ok(Err(_)) => {
                let text = format!("the body is larger than {} KiB, or broke off", limits.body_bytes >> 10);
                return refusal(StatusCode::PAYLOAD_TOO_LARGE, &text);
            }
            Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        }
    };
    let answered = router.call(Request::from_parts(parts, body)).await;
    answered.unwrap_or_else(|never| match never {})
}

/// An answer after which the connection is closed.
fn refusal(status: StatusCode, text: &str) -> Response {
    harden((status, [(header::CONNECTION, "close")], format!("{text}\n")).into_response())
}

/// The connections there are.
#[derive(Debug, Default)]
struct Connections(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    /// Since when no request is answered on it; `None` while one is.
    idle_since: Option<Instant>,
    closing: CancellationToken,
}

impl Connections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more; where there is none the connection that has been idle longest is closed. `None` when all of
    /// them are being answered.
    fn admit(self: &Arc<Self>, max: usize) -> Option<Place> {
        let mut state = self.state();
        if state.open.len() >= max {
            let idle = state.open.iter().filter_map(|(id, open)| Some((open.idle_since?, *id)));
            let (_, oldest) = idle.min()?;
            if let Some(open) = state.open.remove(&oldest) {
                open.closing.cancel();
            }
        }
        let id = state.next;
        state.next += 1;
        let closing = CancellationToken::new();
        state.open.insert(id, Open { idle_since: Some(Instant::now()), closing: closing.clone() });
        Some(Place { connections: Arc::clone(self), id, closing })
    }
}

/// The place of one connection.
#[derive(Debug)]
struct Place {
    connections: Arc<Connections>,
    id: u64,
    closing: CancellationToken,
}

impl Place {
    fn set_idle(&self, since: Option<Instant>) {
        if let Some(open) = self.connections.state().open.get_mut(&self.id) {
            open.idle_since = since;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.state().open.remove(&self.id);
    }
}

/// A request that is being answered.
struct Busy(Arc<Place>);

impl Busy {
    fn new(place: &Arc<Place>) -> Self {
        place.set_idle(None);
        Self(Arc::clone(place))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_idle(Some(Instant::now()));
    }
}

/// A stream whose writes fail when the other side takes nothing for a while.
struct Stalling {
    stream: TcpStream,
    limit: Duration,
    since: Option<Pin<Box<Sleep>>>,
}

impl Stalling {
    fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, limit, since: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.since = None;
            return written;
        }
        let limit = self.limit;
        let since = self.since.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(since.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client takes nothing of the answer")))
    }
}

impl AsyncRead for Stalling {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
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
