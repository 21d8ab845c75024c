//! The dns prober: one query over UDP, TCP or TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use super::metric;
use super::module::{Dns, RrValidator};
use super::permit::{Target, split_port};
use super::probe::{Probe, ProbeAborted, Verdict};
use crate::wire::dns::{self as records, Message, ResourceRecord};
use crate::wire::{AlpnOffer, DialOptions, secure, server_name};

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
    let question = ascii(&dns.query_name)
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

/// Converts a name to ASCII (IDNA).
fn ascii(name: &str) -> Option<String> {
    if name.is_ascii() {
        return Some(name.to_owned());
    }
    let url = url::Url::parse(&format!("http://{name}/")).ok()?;
    url.host_str().map(ToOwned::to_owned)
}

async fn over_udp(
    probe: &mut Probe<'_>,
    dns: &Dns,
    server: SocketAddr,
    question: &[u8],
    id: u16,
) -> Result<Message, String> {
    let said = |error: std::io::Error| error.to_string();
    let began = Instant::now();
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((dns.source.unwrap_or(any), 0)).await.map_err(said)?;
    // A connected socket only receives packets from its peer.
    socket.connect(server).await.map_err(said)?;
    probe.samples.add_phase(metric::DNS_DURATION, metric::CONNECT, began.elapsed().as_secs_f64());
    let began = Instant::now();
    socket.send(question).await.map_err(said)?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(said)?;
        match Message::parse(&buffer[..length]) {
            Some(message) if message.id == id && message.response => {
                probe.samples.add_phase(metric::DNS_DURATION, metric::REQUEST, began.elapsed().as_secs_f64());
                return Ok(message);
            }
            // A late response, or one to another query.
            Some(_) => {}
            None => return Err("the response is not a DNS message".into()),
        }
    }
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
    let route = DialOptions { source: dns.source, pinned: Some(server), ..DialOptions::default() };
    let dialed = probe.dialer.dial(host, server.port(), &route).await.map_err(|failure| failure.message)?;
    if !dns.over_tls {
        probe.samples.add_phase(metric::DNS_DURATION, metric::CONNECT, began.elapsed().as_secs_f64());
        return exchange(probe, dialed.stream, question, id).await;
    }
    let ready = probe.tls(&dns.tls_config).map_err(|ProbeAborted| "TLS is not set up".to_owned())?;
    let name = server_name(dns.tls_config.server_name.as_deref().unwrap_or(host)).map_err(|failure| failure.message)?;
    let secured = secure(dialed.stream, ready.config.clone(), name, AlpnOffer::Nothing).await;
    let stream = secured.map_err(|refused| refused.failure.message)?.stream;
    probe.samples.add_phase(metric::DNS_DURATION, metric::CONNECT, began.elapsed().as_secs_f64());
    exchange(probe, stream, question, id).await
}

async fn exchange(
    probe: &mut Probe<'_>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    question: &[u8],
    id: u16,
) -> Result<Message, String> {
    let began = Instant::now();
    let talk = async {
        let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(question);
        stream.write_all(&framed).await?;
        stream.flush().await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = talk.await.map_err(|error| error.to_string())?;
    probe.samples.add_phase(metric::DNS_DURATION, metric::REQUEST, began.elapsed().as_secs_f64());
    let message = Message::parse(&answer).ok_or("the response is not a DNS message")?;
    if message.id != id || !message.response {
        return Err("the response does not match the query".into());
    }
    Ok(message)
}
