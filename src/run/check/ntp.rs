//! An NTP check: one request to a time server (RFC 5905, in the form used by SNTP), repeated until a response arrives.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::connection::{packets, unanswered};
use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::scenario::check::ntp::{NtpCheck, address};
use crate::values::expect::Actual;

/// Time to wait for a response before the request is sent again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const EPOCH: i64 = 2_208_988_800;

/// Runs the check.
pub async fn check(check: &NtpCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let text = around.values.fill(&check.address)?;
    let (host, port) = address(&text).map_err(|problem| configuration("`ntp`", &check.address, &problem))?;
    let (offset, took) = around.bounded(around.first(&host, port, ask)).await?;
    let seconds = (offset.abs().as_seconds_f64() * 1e6).round() / 1e6;
    around.held(check.offset.as_ref(), "the offset of its clock, in seconds", &Actual::One(seconds.into()))?;
    faster_than(check.faster_than.as_ref(), took)
}

/// Returns the offset by which the server's clock is ahead of the local one.
async fn ask(address: SocketAddr) -> Result<TimeDelta, Failure> {
    let refused = |error: std::io::Error| unanswered(address, &error);
    let socket = packets(address).await?;
    let mut buffer = [0_u8; 512];
    loop {
        // The server echoes the transmit timestamp. Random bytes there do not reveal the local clock, and make
        // responses hard to forge.
        let token: [u8; 8] = RunId::new().0.as_bytes()[8..].try_into().expect("half of sixteen bytes");
        let mut request = [0_u8; 48];
        request[0] = 0b00_100_011; // Version 4, a client.
        request[40..].copy_from_slice(&token);
        let (began, sent) = (Instant::now(), Utc::now());
        socket.send(&request).await.map_err(refused)?;
        while let Ok(received) =
            tokio::time::timeout(PATIENCE.saturating_sub(began.elapsed()), socket.recv(&mut buffer)).await
        {
            let length = received.map_err(refused)?;
            if length >= 48 && buffer[24..32] == token {
                return read(&buffer[..length], sent, sent + TimeDelta::from_std(began.elapsed()).unwrap_or_default());
            }
        }
    }
}

/// Computes the clock offset from a response and the local times of sending and receiving.
fn read(packet: &[u8], sent: DateTime<Utc>, received: DateTime<Utc>) -> Result<TimeDelta, Failure> {
    let (leap, mode, stratum) = (packet[0] >> 6, packet[0] & 7, packet[1]);
    if mode != 4 {
        return Err(Failure::new(Reason::Protocol, format!("not a response of a time server: mode {mode}")));
    }
    if stratum == 0 {
        let code: String = packet[12..16].iter().map(|b| char::from(*b)).filter(char::is_ascii_graphic).collect();
        return Err(
            Failure::new(Reason::Assertion, "server sent kiss-o'-death").compared("the time", format!("`{code}`"))
        );
    }
    if leap == 3 || stratum > 15 {
        return Err(Failure::new(Reason::Assertion, "the clock of the server is not synchronized")
            .compared("stratum 1 to 15", format!("stratum {stratum}")));
    }
    let (came, left) = (time(&packet[32..40], sent), time(&packet[40..48], sent));
    Ok(((came - sent) + (left - received)) / 2)
}

/// Decodes an NTP timestamp: seconds and a fraction, in the era nearest to the local time.
fn time(bytes: &[u8], near: DateTime<Utc>) -> DateTime<Utc> {
    let word = |at: usize| bytes[at..at + 4].iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    let mut seconds = word(0) - EPOCH;
    let era = 1_i64 << 32;
    seconds += (near.timestamp() - seconds + era / 2).div_euclid(era) * era;
    let nanos = (word(4) * 1_000_000_000) >> 32;
    DateTime::from_timestamp(seconds, u32::try_from(nanos).unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(at: DateTime<Utc>) -> [u8; 8] {
        let seconds = u32::try_from((at.timestamp() + EPOCH) % (1 << 32)).unwrap();
        let fraction = u32::try_from((u64::from(at.timestamp_subsec_nanos()) << 32) / 1_000_000_000).unwrap();
        [seconds.to_be_bytes(), fraction.to_be_bytes()].concat().try_into().unwrap()
    }

    #[test]
    fn offsets_are_computed_in_every_era() {
        // 32 bits of seconds overflow in 2036.
        for sent in ["2026-11-23T00:00:00.25Z", "2036-02-07T06:28:15Z", "2040-01-01T00:00:00Z"] {
            let sent: DateTime<Utc> = sent.parse().unwrap();
            let mut packet = [0_u8; 48];
            (packet[0], packet[1]) = (0b00_100_100, 2);
            // The request takes 30 ms, the server 10 ms, the response 30 ms; the server is 1.5 s ahead.
            packet[32..40].copy_from_slice(&stamp(sent + TimeDelta::milliseconds(1530)));
            packet[40..48].copy_from_slice(&stamp(sent + TimeDelta::milliseconds(1540)));
            let offset = read(&packet, sent, sent + TimeDelta::milliseconds(70)).unwrap();
            assert!((offset - TimeDelta::milliseconds(1500)).abs() < TimeDelta::microseconds(2), "{sent}: {offset}");
        }
    }
}
