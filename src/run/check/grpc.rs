//! A gRPC health check.

use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::grpc::{GrpcCheck, address};
use crate::values::expect::cut;
use crate::wire::grpc::{Code, STATES, check_health};
use crate::wire::{AlpnOffer, Connection, Protocol, host};

/// Runs the check.
pub async fn check(check: &GrpcCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let (state, took) = around.bounded(call(check, around)).await?;
    if state != "SERVING" {
        return Err(Failure::new(Reason::Assertion, "service is not SERVING").compared("SERVING", state));
    }
    faster_than(check.faster_than.as_ref(), took)
}

/// Calls the health service and returns the state of the service.
async fn call(check: &GrpcCheck, around: &CheckContext<'_>) -> Result<String, Failure> {
    let text = around.values.fill(&check.address)?;
    let bad = |problem: String| configuration("`grpc`", &check.address, &problem);
    let (name, port, tls) = address(&text).map_err(bad)?;
    let name = host::ascii(&name).map_err(|failure| bad(failure.message))?;
    let service = match &check.service {
        Some(service) => around.values.fill(service)?,
        None => String::new(),
    };
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let is_secure = tls || check.connection.trust.is_some();
    let route = if is_secure { plan.tls_route(&name, port, AlpnOffer::Http2) } else { plan.route(&name, port) };
    let stream = around.open(&route).await.map_err(|refused| refused.failure)?.stream;
    let mut connection = Connection::begin(stream, Protocol::Http2).await?;
    let authority = host::authority(&name, port);
    let health = check_health(&mut connection, is_secure, &authority, &service, around.timeout).await?;
    let Some(code) = health.sent_code else {
        if health.http_status != 200 {
            let seen = format!("{} ({})", health.http_status.as_u16(), health.code());
            return Err(Failure::new(Reason::Status, "not a gRPC response").compared("status 200", seen));
        }
        return Err(Failure::new(Reason::Protocol, "the response has no grpc-status"));
    };
    if code != Code::OK {
        let message = match code {
            Code::NOT_FOUND => "unknown service",
            Code::UNIMPLEMENTED => "the server has no health service",
            _ => "the health service returned an error",
        };
        let seen = match health.message.as_str() {
            "" => code.to_string(),
            text => format!("{code}: {}", cut(text, 200)),
        };
        return Err(Failure::new(Reason::Status, message).compared("OK", seen));
    }
    let state = health.state;
    let state = state.ok_or_else(|| Failure::new(Reason::Protocol, "the response is not a HealthCheckResponse"))?;
    Ok(STATES.get(state).map_or_else(|| state.to_string(), |name| (*name).to_owned()))
}
