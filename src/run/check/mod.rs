//! Execution of checks, one file per kind. The settings of a check are defined in the file of the same name in
//! `scenario/check`.
//!
//! Every check is limited by its timeout, and everything it reads is limited in size.

pub(super) mod certificate;
mod check_ins;
mod connection;
mod connection_plan;
mod context;
mod dns;
mod exec;
mod grpc;
mod heartbeat;
mod junit;
mod ntp;
mod ping;
mod postgres;
mod redis;
mod relay;
mod result;
mod s3;
mod tcp;
mod tls;
mod websocket;

use crate::scenario::Check;

pub use check_ins::CheckIns;
pub(super) use context::CheckContext;
pub(super) use result::{Case, CaseEnd, CheckResult};

/// Runs a check.
pub(super) async fn check(check: &Check, around: &CheckContext<'_>) -> CheckResult {
    match check {
        Check::Tcp(check) => tcp::check(check, around).await,
        Check::Tls(check) => tls::check(check, around).await,
        Check::Dns(check) => dns::check(check, around).await.into(),
        Check::Ping(check) => ping::check(check, around).await.into(),
        Check::Postgres(check) => postgres::check(check, around).await.into(),
        Check::Redis(check) => redis::check(check, around).await.into(),
        Check::Grpc(check) => grpc::check(check, around).await.into(),
        Check::Websocket(check) => websocket::check(check, around).await.into(),
        Check::Ntp(check) => ntp::check(check, around).await.into(),
        Check::S3(check) => s3::check(check, around).await.into(),
        Check::Heartbeat(check) => heartbeat::check(check, around).await.into(),
        Check::Exec(check) => exec::check(check, around).await,
    }
}
