//! HTTP on one connection: a request, its response and the duration of each phase.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;

use super::Stream;
use super::failure::{LARGEST_HEAD, is_refused, of_hyper};
use crate::names::Reason;
use crate::outcome::Failure;

/// Maximum number of bytes that an HTTP/2 server may have in flight.
const WINDOW: u32 = 1 << 20;

/// HTTP version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; the server may respond with HTTP/1.0.
    Http1,
    /// HTTP/2, negotiated with ALPN or by prior knowledge.
    Http2,
}

/// An HTTP connection that carries one request after the other.
pub struct Connection {
    sender: Sender,
    driver: Driver,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Transfers the bytes of a connection. It must be polled while anything is awaited on the connection.
enum Driver {
    Http1(Box<http1::Connection<TokioIo<Stream>, Full<Bytes>>>),
    Http2 {
        /// `None` once the connection has ended; its tasks may still have work.
        connection: Option<Box<Http2>>,
        tasks: Tasks,
        running: Running,
    },
    /// The cause, unless it was already returned.
    Ended(Option<hyper::Error>),
}

type Http2 = http2::Connection<TokioIo<Stream>, Full<Bytes>, Tasks>;
type Running = FuturesUnordered<BoxFuture<'static, ()>>;

/// Collects the tasks of an HTTP/2 connection for the driver to run.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(task));
    }
}

impl Tasks {
    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        let ended = match self {
            Self::Ended(_) => return,
            Self::Http1(connection) => Pin::new(connection.as_mut()).poll(cx),
            Self::Http2 { connection, tasks, running } => {
                let ended = match connection {
                    Some(connection) => Pin::new(connection.as_mut()).poll(cx),
                    None => Poll::Ready(Ok(())),
                };
                if ended.is_ready() {
                    *connection = None;
                }
                loop {
                    running.extend(tasks.take());
                    match running.poll_next_unpin(cx) {
                        Poll::Ready(Some(())) => {}
                        Poll::Ready(None) | Poll::Pending => break,
                    }
                }
                if running.is_empty() || matches!(ended, Poll::Ready(Err(_))) { ended } else { Poll::Pending }
            }
        };
        if let Poll::Ready(ended) = ended {
            *self = Self::Ended(ended.err());
        }
    }

    /// Returns the failure for an error. A request sent after the connection broke only gets an error that the
    /// connection is closed; the cause is stored in the driver.
    fn failure(&mut self, told: &hyper::Error) -> Failure {
        match self {
            Self::Ended(why) if told.is_canceled() || told.is_closed() => of_hyper(why.take().as_ref().unwrap_or(told)),
            _ => of_hyper(told),
        }
    }

    /// Awaits a future while transferring the bytes of the connection.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.poll(cx);
            // Data that the driver has just received is used at once, without another turn of the scheduler.
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// Head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status code.
    pub status: StatusCode,
    /// HTTP version of the response.
    pub version: Version,
    /// Headers as received.
    pub headers: HeaderMap,
}

/// A request without a response.
#[derive(Debug)]
pub struct NoResponse {
    /// Failure for the outcome.
    pub failure: Failure,
    /// Whether the request was not sent, so that it can safely be sent again on another connection.
    pub unsent: bool,
    /// Whether the server declared that it has not processed the request, so that it can safely be sent again on another
    /// connection (HTTP/2).
    pub refused: bool,
}

/// A response whose head was received. The body is read from the connection.
pub struct StreamingResponse<'c> {
    /// Head of the response.
    pub head: ResponseHead,
    /// Time from sending the request to receiving the head.
    pub processing: Duration,
    /// Number of body bytes received so far.
    pub bytes: u64,
    /// Trailers, once the body was read to the end.
    pub trailers: Option<HeaderMap>,
    driver: &'c mut Driver,
    body: Incoming,
    headed: Instant,
}

impl Connection {
    /// Starts HTTP on a connection.
    pub async fn begin(stream: Stream, protocol: Protocol) -> Result<Self, Failure> {
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let made = http1::Builder::new()
                    .max_header_size(LARGEST_HEAD)
                    .handshake(io)
                    .await
                    .map_err(|error| of_hyper(&error))?;
                Ok(Self { sender: Sender::Http1(made.0), driver: Driver::Http1(Box::new(made.1)) })
            }
            Protocol::Http2 => {
                let tasks = Tasks::default();
                let made = http2::Builder::new(tasks.clone())
                    .max_header_list_size(u32::try_from(LARGEST_HEAD).unwrap_or(u32::MAX))
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .handshake(io)
                    .await
                    .map_err(|error| of_hyper(&error))?;
                let driver = Driver::Http2 { connection: Some(Box::new(made.1)), tasks, running: Running::new() };
                Ok(Self { sender: Sender::Http2(made.0), driver })
            }
        }
    }

    /// Returns the HTTP version of the connection.
    pub fn protocol(&self) -> Protocol {
        match self.sender {
            Sender::Http1(_) => Protocol::Http1,
            Sender::Http2(_) => Protocol::Http2,
        }
    }

    /// Returns whether another request can probably be sent at once. Processes everything that the server has sent in
    /// the meantime.
    pub fn is_open(&mut self) -> bool {
        self.driver.poll(&mut Context::from_waker(Waker::noop()));
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready() && !sender.is_closed(),
            Sender::Http2(sender) => sender.is_ready() && !sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of its response. HTTP/1 requires a path, or a full URI for a proxy, and a
    /// `Host` header; HTTP/2 requires a full URI. Informational responses (1xx) are skipped.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<StreamingResponse<'_>, NoResponse> {
        let Self { sender, driver } = self;
        let began = Instant::now();
        let ready = match sender {
            Sender::Http1(sender) => driver.drive(sender.ready()).await,
            Sender::Http2(sender) => driver.drive(sender.ready()).await,
        };
        if let Err(error) = ready {
            return Err(NoResponse { failure: driver.failure(&error), unsent: true, refused: false });
        }
        let answer: Result<Response<Incoming>, hyper::Error> = match sender {
            Sender::Http1(sender) => driver.drive(sender.send_request(request)).await,
            Sender::Http2(sender) => driver.drive(sender.send_request(request)).await,
        };
        let processing = began.elapsed();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let (unsent, refused) = (error.is_canceled(), is_refused(&error));
                return Err(NoResponse { failure: driver.failure(&error), unsent, refused });
            }
        };
        let (parts, body) = answer.into_parts();
        let head = ResponseHead { status: parts.status, version: parts.version, headers: parts.headers };
        Ok(StreamingResponse { head, processing, bytes: 0, trailers: None, driver, body, headed: Instant::now() })
    }
}

impl StreamingResponse<'_> {
    /// Returns the next part of the body as received, or `None` at the end, when the trailers are available.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.driver.drive(self.body.frame()).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(of_hyper(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.bytes += data.len() as u64;
                        return Ok(Some(data));
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// Reads the rest of the body up to a limit. Data received before a failure stays in `into`.
    pub async fn read(&mut self, into: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
        if let Some(length) = self.length().and_then(|length| usize::try_from(length).ok()) {
            into.reserve(length.min(limit).min(1 << 20));
        }
        while let Some(chunk) = self.chunk().await? {
            if into.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            into.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Returns the length of the body if the server has stated it.
    pub fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Returns the time since the head was received.
    pub fn since_head(&self) -> Duration {
        self.headed.elapsed()
    }
}

/// Returns the failure for a body above the limit.
pub fn too_large(limit: usize) -> Failure {
    let shown = if limit >= 1 << 20 && limit.is_multiple_of(1 << 20) {
        format!("{} MiB", limit >> 20)
    } else {
        format!("{limit} bytes")
    };
    Failure::new(Reason::TooLarge, format!("the response body is larger than {shown}"))
}
