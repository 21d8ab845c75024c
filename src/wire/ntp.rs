//! NTP packets (RFC 5905, in the form used by SNTP): a request to a time server, and the clock offset that follows from
//! the response.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

use crate::names::Reason;
use crate::outcome::Failure;

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const EPOCH: i64 = 2_208_988_800;
/// Size of a packet without extensions, in bytes.
const PACKET_BYTES: usize = 48;

/// A request to a time server.
#[derive(Debug)]
pub struct NtpRequest {
    token: [u8; 8],
    began: Instant,
    sent_at: DateTime<Utc>,
}

impl NtpRequest {
    /// Creates a request that is sent now. The server echoes the token. Random bytes do not reveal the local clock, and
    /// make responses hard to forge.
    pub fn new(token: [u8; 8]) -> Self {
        Self { token, began: Instant::now(), sent_at: Utc::now() }
    }

    /// Encodes the request.
    pub fn packet(&self) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[0] = 0b00_100_011; // Version 4, a client.
        packet[40..].copy_from_slice(&self.token);
        packet
    }

    /// Returns the offset by which the server's clock is ahead, from a response that arrives now, or the failure that it
    /// reports. Returns `None` if the packet is not a response to this request.
    pub fn offset(&self, packet: &[u8]) -> Option<Result<TimeDelta, Failure>> {
        if packet.len() < PACKET_BYTES || packet[24..32] != self.token {
            return None;
        }
        let received_at = self.sent_at + TimeDelta::from_std(self.began.elapsed()).unwrap_or_default();
        Some(read(packet, self.sent_at, received_at))
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
