//! The dns prober: one query over UDP, TCP or TLS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::metric;
use super::module::{Dns, RrValidator};
use super::permit::{Target, split_port};
use super::probe::{Probe, ProbeAborted, Verdict};
use crate::wire::dns::{self as records, Message, ResourceRecord};
use crate::wire::udp::PacketSocket;
use crate::wire::{self, AlpnOffer, DialOptions, Route, TlsOptions};

/// Probes a DNS server.
pub(super) async fn dns(probe: &mut Probe<'_>, dns: &Dns, time: Duration) -> Verdict {
    for phase in [metric::RESOLVE, metric::CONNECT, metric::REQUEST] {
        probe.samples.add_phase(metric::DNS_DURATION, phase, 0.0);
    }
    for metric in
        [metric::DNS_ANSWER_RRS, metric::DNS_AUTHORITY_RRS, metric::DNS_ADDITIONAL_RRS, metric::DNS_QUERY_SUCCEEDED]
    {
        probe.samples.set(metric, 0.0);
    }
    let done = tokio::time::timeout(time, ask(probe, dns)).await;
    done.unwrap_or_else(|_| Err(probe.stop("Error while sending a DNS query", &[("err", &"i/o timeout")])))
}

async fn ask(probe: &mut Probe<'_>, dns: &Dns) -> Verdict {
    let (host, port) = split_port(probe.target).unwrap_or((probe.target, None));
    let port = port.unwrap_or(if dns.over_tls { 853 } else { 53 });
    let (address, took) = probe.choose(dns.addresses, &Target { scheme: "dns", host, port: Some(port) }).await?;
    probe.samples.add_phase(metric::DNS_DURATION, metric::RESOLVE, took.as_secs_f64());
    let server = SocketAddr::new(address, port);
    let [.., high, low] = *uuid::Uuid::now_v7().as_bytes();
    let id = u16::from_be_bytes([high, low]);
    let question = wire::host::ascii(&dns.query_name)
        .ok()
        .and_then(|name| records::question(id, &name, dns.query_type, dns.query_class, dns.recursion));
    let Some(question) = question else {
        return Err(probe.stop("Error while sending a DNS query", &[("err", &"`query_name` is not a domain name")]));
    };
    probe.log.info("Making DNS query", &[("target", &server), ("query", &dns.query_name), ("type", &dns.query_type)]);
    let message = if dns.tcp {
        over_tcp(probe, dns, host, server, &question, id).await
    } else {
        over_udp(probe, dns, server, &question, id).await
    };
    let message = message.map_err(|why| probe.stop("Error while sending a DNS query", &[("err", &why)]))?;
    judge(probe, dns, &message)
}

fn judge(probe: &mut Probe<'_>, dns: &Dns, message: &Message) -> Verdict {
    let name = records::rcode_name(message.rcode);
    probe.log.info("Got response", &[("rcode", &name), ("answers", &message.answers.len())]);
    let samples = &mut probe.samples;
    samples.set(metric::DNS_ANSWER_RRS, message.answers.len() as f64);
    samples.set(metric::DNS_AUTHORITY_RRS, message.authorities.len() as f64);
    samples.set(metric::DNS_ADDITIONAL_RRS, message.additionals.len() as f64);
    samples.set(metric::DNS_QUERY_SUCCEEDED, 1.0);
    if dns.query_type == records::SOA {
        let serial = message.answers.iter().rev().find_map(|record| record.serial);
        samples.set(metric::DNS_SERIAL, f64::from(serial.unwrap_or(0)));
    }
    if !dns.valid_rcodes.contains(&message.rcode) {
        return Err(probe.stop("Rcode is not one of the valid rcodes", &[("rcode", &name)]));
    }
    for (part, records, rules) in [
        ("answer", &message.answers, &dns.answer),
        ("authority", &message.authorities, &dns.authority),
        ("additional", &message.additionals, &dns.additional),
    ] {
        if let Err((rule, record)) = hold(records, rules) {
            let values: [(&str, &dyn std::fmt::Display); 3] = [("part", &part), ("rule", &rule), ("rr", &record)];
            return Err(probe.stop("RRs validation failed", &values));
        }
    }
    Ok(true)
}

/// Checks records against rules. On failure, returns the violated rule and the record that violates it.
fn hold<'r>(records: &'r [ResourceRecord], rules: &RrValidator) -> Result<(), (&'static str, &'r str)> {
    if records.is_empty() && !rules.not_matches.is_empty() {
        return Err(("fail_if_not_matches_regexp", ""));
    }
    if records.is_empty() && !rules.none_matches.is_empty() {
        return Err(("fail_if_none_matches_regexp", ""));
    }
    let (mut all, mut any) = (true, false);
    for record in records {
        let fits = |regex: &super::regexp::Regexp| regex.is_match(record.text.as_bytes());
        if rules.matches.iter().any(fits) {
            return Err(("fail_if_matches_regexp", &record.text));
        }
        all &= rules.all_match.iter().all(fits);
        if !rules.not_matches.iter().all(fits) {
            return Err(("fail_if_not_matches_regexp", &record.text));
        }
        any |= rules.none_matches.iter().any(fits);
    }
    // Despite the name of the rule, blackbox_exporter fails when *not* all records match, and this prober does the same
    // for compatibility.
    if !rules.all_match.is_empty() && !all {
        return Err(("fail_if_all_match_regexp", ""));
    }
    if !rules.none_matches.is_empty() && !any {
        return Err(("fail_if_none_matches_regexp", ""));
    }
    Ok(())
}

async fn over_udp(
    probe: &mut Probe<'_>,
    dns: &Dns,
    server: SocketAddr,
    question: &[u8],
    id: u16,
) -> Result<Message, String> {
    let began = Instant::now();
    let socket = PacketSocket::connect(server, dns.source).await.map_err(|failure| failure.message)?;
    probe.samples.add_phase(metric::DNS_DURATION, metric::CONNECT, began.elapsed().as_secs_f64());
    let began = Instant::now();
    let read = |bytes: &[u8]| match Message::parse(bytes) {
        Some(message) if message.id == id && message.response => Some(Ok(message)),
        // A late response, or one to another query.
        Some(_) => None,
        None => Some(Err("the response is not a DNS message".to_owned())),
    };
    let received = records::over_udp(&socket, question, None, &mut vec![0; 65_535], read).await;
    let message = received.map_err(|failure| failure.message)??;
    probe.samples.add_phase(metric::DNS_DURATION, metric::REQUEST, began.elapsed().as_secs_f64());
    Ok(message)
}

async fn over_tcp(
    probe: &mut Probe<'_>,
    dns: &Dns,
    host: &str,
    server: SocketAddr,
    question: &[u8],
    id: u16,
) -> Result<Message, String> {
    let began = Instant::now();
    let dial = DialOptions { source: dns.source, pinned: Some(server), ..DialOptions::default() };
    let mut route = Route { dial, ..Route::to(host, server.port()) };
    if dns.over_tls {
        let ready = probe.tls(&dns.tls_config).map_err(|ProbeAborted| "TLS is not set up".to_owned())?;
        let name = dns.tls_config.server_name.as_deref();
        route.tls = Some(TlsOptions { config: ready.config.clone(), name, offer: AlpnOffer::Nothing });
    }
    let opened = probe.dialer.open(&route, |_| {}).await;
    let mut stream = opened.map_err(|refused| refused.failure.message)?.stream;
    probe.samples.add_phase(metric::DNS_DURATION, metric::CONNECT, began.elapsed().as_secs_f64());
    let began = Instant::now();
    let answer = records::over_stream(&mut stream, question).await.map_err(|error| error.to_string())?;
    probe.samples.add_phase(metric::DNS_DURATION, metric::REQUEST, began.elapsed().as_secs_f64());
    let message = Message::parse(&answer).ok_or("the response is not a DNS message")?;
    if message.id != id || !message.response {
        return Err("the response does not match the query".into());
    }
    Ok(message)
}
