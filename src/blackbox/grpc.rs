//! The grpc prober: a health check (`grpc.health.v1`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::metric;
use super::module::Grpc;
use super::permit::{Target, split_port};
use super::probe::{Probe, ProbeAborted, Verdict};
use super::tls::Seen;
use crate::wire::grpc::{Code, STATES, check_health};
use crate::wire::{self, AlpnOffer, Connection, DialOptions, Protocol, Route, TlsOptions};

/// Result of a health check.
struct Checked {
    status: Code,
    state: Option<usize>,
}

/// Probes the health of a service.
pub(super) async fn grpc(probe: &mut Probe<'_>, grpc: &Grpc, time: Duration) -> Verdict {
    probe.samples.add_phase(metric::GRPC_DURATION, metric::RESOLVE, 0.0);
    for metric in [metric::GRPC_SSL, metric::GRPC_STATUS_CODE, metric::SSL_EARLIEST_CERT_EXPIRY] {
        probe.samples.set(metric, 0.0);
    }
    let began = std::time::Instant::now();
    let without_scheme = probe.target.split_once("://").map_or(probe.target, |(_, rest)| rest);
    let authority = without_scheme.split('/').next().unwrap_or_default();
    let Some((host, port)) = split_port(authority).filter(|(host, _)| !host.is_empty()) else {
        return Err(probe.stop("Could not parse target URL", &[("err", &"write it as HOST:PORT")]));
    };
    let port = port.unwrap_or(if grpc.tls { 443 } else { 80 });
    let target = Target { scheme: "grpc", host, port: Some(port) };
    let chosen = tokio::time::timeout(time, probe.choose(grpc.addresses, &target)).await;
    let (address, took) = chosen.unwrap_or_else(|_| Err(probe.stop("Error resolving address", &[])))?;
    probe.samples.add_phase(metric::GRPC_DURATION, metric::RESOLVE, took.as_secs_f64());

    let check_began = std::time::Instant::now();
    let left = time.saturating_sub(began.elapsed());
    let attempt = attempt(probe, grpc, host, SocketAddr::new(address, port), left);
    let checked = tokio::time::timeout(left, attempt).await;
    let checked = checked.unwrap_or_else(|_| {
        probe.log.error("The probe's time ran out", &[]);
        Err(Code::DEADLINE_EXCEEDED)
    });
    let checked = checked.unwrap_or_else(|status| Checked { status, state: None });
    probe.samples.add_phase(metric::GRPC_DURATION, metric::CHECK, check_began.elapsed().as_secs_f64());
    for (number, state) in STATES.iter().enumerate() {
        let value = f64::from(u8::from(checked.state == Some(number)));
        probe.samples.set_with(metric::GRPC_HEALTHCHECK_RESPONSE, &[("serving_status", state)], value);
    }
    probe.samples.set(metric::GRPC_STATUS_CODE, f64::from(checked.status.0));
    let serving = checked.status == Code::OK && checked.state == Some(1);
    if !serving {
        let state = checked.state.map_or("none", |number| STATES[number]);
        probe.log.error("The service does not serve", &[("status", &checked.status.0), ("state", &state)]);
    }
    Ok(serving)
}

async fn attempt(
    probe: &mut Probe<'_>,
    grpc: &Grpc,
    host: &str,
    address: SocketAddr,
    left: Duration,
) -> Result<Checked, Code> {
    let failed = |probe: &mut Probe<'_>, why: &str| {
        probe.log.error("can't connect grpc server", &[("err", &why)]);
        Code::UNAVAILABLE
    };
    let ready =
        if grpc.tls { Some(probe.tls(&grpc.tls_config).map_err(|ProbeAborted| Code::UNAVAILABLE)?) } else { None };
    let name = wire::host::ascii(host).map_err(|failure| failed(probe, &failure.message))?;
    let tls = ready.as_ref().map(|ready| TlsOptions {
        config: Arc::clone(&ready.config),
        name: grpc.tls_config.server_name.as_deref(),
        offer: AlpnOffer::Http2,
    });
    let dial = DialOptions { pinned: Some(address), ..DialOptions::default() };
    let route = Route { dial, tls, ..Route::to(&name, address.port()) };
    let opened = probe.dialer.open(&route, |_| ()).await;
    let opened = opened.map_err(|refused| failed(probe, &refused.failure.message))?;
    if let (Some(session), Some(ready)) = (&opened.tls, &ready) {
        probe.samples.set(metric::GRPC_SSL, 1.0);
        Seen::of(session, ready).write(&mut probe.samples);
    }
    let mut connection =
        Connection::begin(opened.stream, Protocol::Http2).await.map_err(|failure| failed(probe, &failure.message))?;
    let authority = wire::host::authority(&name, address.port());
    let health = check_health(&mut connection, grpc.tls, &authority, &grpc.service, left).await;
    let health = health.map_err(|failure| failed(probe, &failure.message))?;
    let status = health.code();
    if status != Code::OK {
        probe.log.error("The server rejected the request", &[("code", &status.0), ("message", &health.message)]);
        return Err(status);
    }
    let state = health.state.filter(|state| *state < STATES.len()).ok_or(Code::INTERNAL)?;
    Ok(Checked { status, state: Some(state) })
}
