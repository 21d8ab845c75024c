//! Check of any kind.

use std::time::Duration;

use super::parts::Expected;
use super::{dns, exec, grpc, heartbeat, ntp, ping, postgres, redis, s3, tcp, tls, websocket};
use crate::diagnostic::{Span, Spanned};
use crate::scenario::model::ScenarioKind;
use crate::scenario::template::Template;

/// Check of any kind except `http`, which is a request.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // Stored in a `Box`.
pub enum Check {
    /// TCP connection, with optional data sent and received.
    Tcp(tcp::TcpCheck),
    /// TLS handshake and the certificates of the server.
    Tls(tls::TlsCheck),
    /// DNS query.
    Dns(dns::DnsCheck),
    /// ICMP echo request.
    Ping(ping::PingCheck),
    /// Query to a PostgreSQL database.
    Postgres(postgres::PostgresCheck),
    /// Command to a Redis server.
    Redis(redis::RedisCheck),
    /// Query of the gRPC health service.
    Grpc(grpc::GrpcCheck),
    /// WebSocket connection, with optional messages sent and received.
    Websocket(websocket::WebsocketCheck),
    /// Query of a time server.
    Ntp(ntp::NtpCheck),
    /// Objects in an S3 bucket.
    S3(s3::S3Check),
    /// Expected check-in of an external program.
    Heartbeat(heartbeat::HeartbeatCheck),
    /// Command on the agent's machine.
    Exec(exec::ExecCheck),
}

impl Check {
    /// Returns the kind of the check.
    pub fn kind(&self) -> ScenarioKind {
        match self {
            Self::Tcp(_) => ScenarioKind::Tcp,
            Self::Tls(_) => ScenarioKind::Tls,
            Self::Dns(_) => ScenarioKind::Dns,
            Self::Ping(_) => ScenarioKind::Ping,
            Self::Postgres(_) => ScenarioKind::Postgres,
            Self::Redis(_) => ScenarioKind::Redis,
            Self::Grpc(_) => ScenarioKind::Grpc,
            Self::Websocket(_) => ScenarioKind::Websocket,
            Self::Ntp(_) => ScenarioKind::Ntp,
            Self::S3(_) => ScenarioKind::S3,
            Self::Heartbeat(_) => ScenarioKind::Heartbeat,
            Self::Exec(_) => ScenarioKind::Exec,
        }
    }

    /// Returns the time between the due time and the evaluation.
    pub fn grace(&self) -> Duration {
        match self {
            Self::Heartbeat(check) => check.grace,
            _ => Duration::ZERO,
        }
    }

    /// Returns the files that the check references.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
        let connection = match self {
            Self::Tcp(check) => &check.connection,
            Self::Tls(check) => &check.connection,
            Self::Dns(check) => &check.connection,
            Self::Postgres(check) => &check.connection,
            Self::Redis(check) => &check.connection,
            Self::Grpc(check) => &check.connection,
            Self::Websocket(check) => &check.connection,
            Self::S3(check) => &check.connection,
            Self::Ping(_) | Self::Ntp(_) | Self::Heartbeat(_) | Self::Exec(_) => return Vec::new(),
        };
        connection.files()
    }

    /// Returns the spans of the expectations that a failure can refer to.
    pub fn spans(&self) -> Vec<Span> {
        let (expected, limit): (Vec<&Expected>, _) = match self {
            Self::Tcp(check) => {
                let facts = check.expect.iter().map(|fact| fact.span).chain(check.receive.iter().map(|one| one.span));
                return facts.chain(check.faster_than.iter().map(|limit| limit.span)).collect();
            }
            Self::Tls(check) => {
                let facts = check.expect.iter().map(|fact| fact.span);
                return facts.chain(check.faster_than.iter().map(|limit| limit.span)).collect();
            }
            Self::Dns(check) => {
                let mut spans: Vec<_> = check.answer.iter().chain(&check.rcode).map(|one| one.span).collect();
                spans.extend(check.dnssec.iter().map(|one| one.span));
                spans.extend(check.faster_than.iter().map(|one| one.span));
                return spans;
            }
            Self::Ping(check) => (Vec::new(), &check.faster_than),
            Self::Postgres(check) => (check.value.iter().collect(), &check.faster_than),
            Self::Redis(check) => (check.value.iter().collect(), &check.faster_than),
            Self::Grpc(check) => (Vec::new(), &check.faster_than),
            Self::Websocket(check) => (check.receive.iter().collect(), &check.faster_than),
            Self::Ntp(check) => (check.offset.iter().collect(), &check.faster_than),
            Self::S3(check) => (check.age.iter().chain(&check.size).chain(&check.count).collect(), &None),
            Self::Heartbeat(_) => (Vec::new(), &None),
            Self::Exec(check) => (Vec::new(), &check.faster_than),
        };
        expected.into_iter().map(|one| one.span).chain(limit.iter().map(|limit| limit.span)).collect()
    }
}
