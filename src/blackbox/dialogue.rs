//! The tcp and unix probers: a connection and its `query_response` dialogue.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::metric;
use super::module::{QueryResponse, Tcp, Tls, Unix};
use super::permit::{Target, split_port};
use super::probe::{Probe, ProbeAborted, Verdict};
use super::regexp::Regexp;
use super::tls::Seen;
use crate::wire::{AlpnOffer, DialOptions, secure, server_name};

/// Maximum length of a line, in bytes, the same as in `blackbox_exporter`.
const LONGEST_LINE: usize = 64 << 10;

/// A connection, encrypted or not.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// Probes a TCP port.
pub(super) async fn tcp(probe: &mut Probe<'_>, tcp: &Tcp, time: Duration) -> Verdict {
    probe.samples.set(metric::FAILED_DUE_TO_REGEX, 0.0);
    probe.samples.set(metric::FAILED_DUE_TO_BYTES, 0.0);
    let done = tokio::time::timeout(time, over_tcp(probe, tcp)).await;
    done.unwrap_or_else(|_| Err(probe.stop("The probe's time ran out", &[])))
}

async fn over_tcp(probe: &mut Probe<'_>, tcp: &Tcp) -> Verdict {
    let Some((host, Some(port))) = split_port(probe.target) else {
        return Err(probe.stop("Error splitting target address and port", &[("err", &"write it as HOST:PORT")]));
    };
    let target = Target { scheme: "tcp", host, port: Some(port) };
    let (address, _) = probe.choose(tcp.addresses, &target).await?;
    let pinned = Some(SocketAddr::new(address, port));
    let dialed =
        probe.dialer.dial(host, port, &DialOptions { source: tcp.source, pinned, ..DialOptions::default() }).await;
    let dialed = dialed.map_err(|failure| probe.stop("Error dialing TCP", &[("err", &failure.message)]))?;
    probe.log.info("Successfully dialed", &[]);
    let conversation = Conversation::new(Box::new(dialed.stream));
    conversation.hold(probe, &tcp.dialogue, tcp.tls, &tcp.tls_config, host).await
}

/// Probes a Unix socket of this machine.
pub(super) async fn unix(probe: &mut Probe<'_>, unix: &Unix, time: Duration) -> Verdict {
    probe.samples.set(metric::FAILED_DUE_TO_REGEX, 0.0);
    probe.samples.set(metric::FAILED_DUE_TO_BYTES, 0.0);
    let done = tokio::time::timeout(time, over_unix(probe, unix)).await;
    done.unwrap_or_else(|_| Err(probe.stop("The probe's time ran out", &[])))
}

async fn over_unix(probe: &mut Probe<'_>, unix: &Unix) -> Verdict {
    let path = probe.target.strip_prefix("unix:").unwrap_or(probe.target);
    let path = path.strip_prefix("//").unwrap_or(path);
    probe.check_path(path)?;
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|error| probe.stop("Error dialing unix socket", &[("err", &error)]))?;
    probe.log.info("Successfully dialed", &[]);
    Conversation::new(Box::new(stream)).hold(probe, &unix.dialogue, unix.tls, &unix.tls_config, "").await
}

/// A connection with its received data.
struct Conversation {
    stream: Box<dyn Bytes>,
    /// Received bytes that have not been processed.
    pending: Vec<u8>,
    ended: bool,
}

impl Conversation {
    fn new(stream: Box<dyn Bytes>) -> Self {
        Self { stream, pending: Vec::new(), ended: false }
    }

    async fn hold(
        mut self,
        probe: &mut Probe<'_>,
        turns: &[QueryResponse],
        tls: bool,
        config: &Tls,
        host: &str,
    ) -> Verdict {
        if tls {
            self = self.secure(probe, config, host).await?;
        }
        for (number, turn) in turns.iter().enumerate() {
            probe.log.debug("Processing query response entry", &[("entry_number", &number)]);
            let send = match &turn.expect {
                Some(regex) => Some(self.expect(probe, regex, turn).await?),
                None => turn.send.as_ref().map(|send| send.expose().clone()),
            };
            if let Some(expected) = &turn.expect_bytes {
                self.expect_bytes(probe, expected).await?;
            }
            if let Some(mut send) = send.filter(|send| !send.is_empty()) {
                if turn.line {
                    send.push(b'\n');
                }
                probe.log.debug("Sending line", &[("bytes", &send.len())]);
                let sent = async {
                    self.stream.write_all(&send).await?;
                    self.stream.flush().await
                };
                sent.await.map_err(|error| probe.stop("Failed to send", &[("err", &error)]))?;
            }
            if turn.starttls {
                self = self.secure(probe, config, host).await?;
            }
        }
        Ok(true)
    }

    /// Reads lines until one matches and returns the data to send.
    async fn expect(
        &mut self,
        probe: &mut Probe<'_>,
        regex: &Regexp,
        turn: &QueryResponse,
    ) -> Result<Vec<u8>, ProbeAborted> {
        while let Some(line) = self.line(probe).await? {
            probe.log.debug("Read line", &[("line", &String::from_utf8_lossy(&line))]);
            let Some(groups) = regex.captures(&line) else { continue };
            probe.log.info("Regexp matched", &[("regexp", regex)]);
            probe.samples.set(metric::FAILED_DUE_TO_REGEX, 0.0);
            let filled = |text: &[u8]| {
                let mut out = Vec::new();
                groups.expand(text, &mut out);
                out
            };
            if !turn.labels.is_empty() {
                let values: Vec<(&str, String)> = turn
                    .labels
                    .iter()
                    .map(|(name, value)| {
                        (name.as_str(), String::from_utf8_lossy(&filled(value.as_bytes())).into_owned())
                    })
                    .collect();
                let labels: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
                probe.samples.set_with(metric::EXPECT_INFO, &labels, 1.0);
            }
            return Ok(turn.send.as_ref().map(|send| filled(send.expose())).unwrap_or_default());
        }
        probe.samples.set(metric::FAILED_DUE_TO_REGEX, 1.0);
        Err(probe.stop("Regexp did not match", &[("regexp", regex)]))
    }

    async fn expect_bytes(&mut self, probe: &mut Probe<'_>, expected: &[u8]) -> Result<(), ProbeAborted> {
        while self.pending.len() < expected.len() {
            if !self.more(probe).await? {
                let counts: [(&str, &dyn std::fmt::Display); 2] =
                    [("expected", &expected.len()), ("bytes", &self.pending.len())];
                return Err(probe.stop("Read less data than expected", &counts));
            }
        }
        let rest = self.pending.split_off(expected.len());
        let came = std::mem::replace(&mut self.pending, rest);
        let differs = came != expected;
        probe.samples.set(metric::FAILED_DUE_TO_BYTES, f64::from(u8::from(differs)));
        if differs { Err(probe.stop("Bytes did not match", &[])) } else { Ok(()) }
    }

    /// Returns the next line without its line break, or `None` at the end of the stream.
    async fn line(&mut self, probe: &mut Probe<'_>) -> Result<Option<Vec<u8>>, ProbeAborted> {
        let mut looked = 0;
        loop {
            if let Some(at) = self.pending[looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(looked + at + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            looked = self.pending.len();
            if looked > LONGEST_LINE {
                return Err(probe.stop("Error reading from connection", &[("err", &"a line is longer than 64 KiB")]));
            }
            if !self.more(probe).await? {
                let rest = std::mem::take(&mut self.pending);
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    /// Reads more data. Returns false at the end of the stream.
    async fn more(&mut self, probe: &mut Probe<'_>) -> Result<bool, ProbeAborted> {
        if self.ended {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer).await;
        let read = read.map_err(|error| probe.stop("Error reading from connection", &[("err", &error)]))?;
        self.pending.extend_from_slice(&buffer[..read]);
        self.ended = read == 0;
        Ok(!self.ended)
    }

    /// Starts TLS for the rest of the connection. Unprocessed plain data is dropped, because it is not authenticated.
    async fn secure(self, probe: &mut Probe<'_>, config: &Tls, host: &str) -> Result<Self, ProbeAborted> {
        let ready = probe.tls(config)?;
        let name = match config.server_name.as_deref().unwrap_or(host) {
            // Without verification, a placeholder can be used as the name.
            "" if config.insecure_skip_verify => Ok(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())),
            "" => Err("`server_name` or `insecure_skip_verify` is needed".to_owned()),
            name => server_name(name).map_err(|failure| failure.message),
        };
        let name = name.map_err(|why| probe.stop("Failed to create TLS configuration", &[("err", &why)]))?;
        let done = secure(self.stream, ready.config.clone(), name, AlpnOffer::Nothing).await;
        let secured =
            done.map_err(|refused| probe.stop("TLS Handshake (client) failed", &[("err", &refused.failure.message)]))?;
        probe.log.info("TLS Handshake (client) succeeded.", &[]);
        let seen = Seen::of(&secured.session, &ready);
        seen.write(&mut probe.samples);
        seen.write_chain(&mut probe.samples);
        Ok(Self::new(Box::new(secured.stream)))
    }
}
