//! State of a running probe: its permissions, measurements and log, and the resolution of target names.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::files::Files;
use super::log::Log;
use super::metric;
use super::module::{Addresses, Module, SecretRef, Tls};
use super::permit::{Target, TargetPolicy};
use super::samples::Samples;
use super::tls::{Authorities, Ready};
use crate::wire::{AddressFamily, DialOptions, Dialer};

/// Marker error of an aborted prober. The log contains the cause.
#[derive(Debug)]
pub(super) struct ProbeAborted;

/// Result of a prober: whether the probe succeeded.
pub(super) type Verdict = Result<bool, ProbeAborted>;

/// A running probe.
pub(super) struct Probe<'a> {
    pub(super) module: &'a Module,
    pub(super) target: &'a str,
    pub(super) hostname: Option<&'a str>,
    pub(super) permit: &'a TargetPolicy,
    pub(super) authorities: &'a Authorities,
    pub(super) dialer: &'a Dialer,
    pub(super) files: Files,
    pub(super) samples: Samples,
    pub(super) log: Log,
}

impl Probe<'_> {
    /// Logs why the probe cannot continue and returns the marker error.
    pub(super) fn stop(
        &mut self,
        message: &'static str,
        values: &[(&'static str, &dyn std::fmt::Display)],
    ) -> ProbeAborted {
        self.log.error(message, values);
        ProbeAborted
    }

    /// Fails if the target may not be probed.
    pub(super) fn check(&mut self, target: &Target<'_>) -> Result<(), ProbeAborted> {
        if self.permit.allows(target) {
            return Ok(());
        }
        Err(self.stop("The target is not allowed by `probe.targets`", &[("host", &target.host)]))
    }

    /// Fails if a Unix socket is listed in neither `probe.targets` nor `allow.network`.
    pub(super) fn check_path(&mut self, path: &str) -> Result<(), ProbeAborted> {
        if self.permit.names_path(path) {
            return Ok(());
        }
        match self.dialer.reach().check_path(Path::new(path)) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.stop("The socket is not allowed by `probe.targets`", &[("path", &path)])),
        }
    }

    /// Resolves the target to the address to probe and returns it with the duration. Sets the related metrics in any
    /// case.
    pub(super) async fn choose(
        &mut self,
        addresses: Addresses,
        target: &Target<'_>,
    ) -> Result<(IpAddr, Duration), ProbeAborted> {
        self.samples.set(metric::LOOKUP_TIME, 0.0);
        self.samples.set(metric::IP_PROTOCOL, 0.0);
        self.samples.set(metric::IP_ADDR_HASH, 0.0);
        self.check(target)?;
        let preferred = if addresses.prefer_ip4 { "ip4" } else { "ip6" };
        self.log.info("Resolving target address", &[("target", &target.host), ("ip_protocol", &preferred)]);
        let family = match (addresses.prefer_ip4, addresses.fallback) {
            (true, true) => AddressFamily::Prefer4,
            (true, false) => AddressFamily::Only4,
            (false, true) => AddressFamily::Prefer6,
            (false, false) => AddressFamily::Only6,
        };
        let began = std::time::Instant::now();
        let found = self.dialer.resolve(target.host, &DialOptions { family, ..DialOptions::default() }).await;
        let took = began.elapsed();
        self.samples.set(metric::LOOKUP_TIME, took.as_secs_f64());
        let address = match found {
            Ok(found) => found.addresses.first().copied(),
            Err(failure) => return Err(self.stop("Resolution with IP protocol failed", &[("err", &failure.message)])),
        };
        let Some(address) = address else { return Err(self.stop("Resolution returned no address", &[])) };
        self.log.info("Resolved target address", &[("target", &target.host), ("ip", &address)]);
        self.samples.set(metric::IP_PROTOCOL, if address.is_ipv4() { 4.0 } else { 6.0 });
        self.samples.set(metric::IP_ADDR_HASH, f64::from(hash(address)));
        self.check_address(target, address)?;
        Ok((address, took))
    }

    /// Fails if the target may not be probed at this address.
    pub(super) fn check_address(&mut self, target: &Target<'_>, address: IpAddr) -> Result<(), ProbeAborted> {
        if let Err(failure) = self.dialer.reach().check(target.host, SocketAddr::new(address, target.port.unwrap_or(0)))
        {
            return Err(self.stop("The target is not allowed for probes", &[("err", &failure.message)]));
        }
        if self.permit.allows_address(target, address) {
            return Ok(());
        }
        let values: [(&'static str, &dyn std::fmt::Display); 2] = [("host", &target.host), ("ip", &address)];
        Err(self.stop("The name resolves to an address that `probe.targets` does not allow", &values))
    }

    /// Returns the TLS configuration.
    pub(super) fn tls(&mut self, tls: &Tls) -> Result<Arc<Ready>, ProbeAborted> {
        let ready = self.module.prepared.get(tls, &self.module.folder, &self.files, self.authorities);
        ready.map_err(|why| self.stop("Error creating TLS configuration", &[("err", &why)]))
    }

    /// Reads a secret from the configuration or its file.
    pub(super) fn reveal(&mut self, hidden: &SecretRef) -> Result<String, ProbeAborted> {
        let path: PathBuf = match hidden {
            SecretRef::Inline(secret) => return Ok(secret.expose().clone()),
            SecretRef::File(path) => self.module.folder.join(path),
        };
        let text = self.files.get(&path).and_then(|bytes| {
            String::from_utf8(bytes.to_vec()).map_err(|_| format!("{} is not UTF-8", path.display()))
        });
        match text {
            Ok(text) => {
                let text = text.trim().to_owned();
                // Adding to the masker is more expensive than checking, and files change rarely.
                if self.module.masker.mask(&text) == text {
                    self.module.masker.add(&text);
                }
                Ok(text)
            }
            Err(why) => Err(self.stop("Error reading a file", &[("err", &why)])),
        }
    }
}

/// Computes the hash that `blackbox_exporter` uses: FNV-1a with 32 bits over the bytes of an address.
fn hash(address: IpAddr) -> u32 {
    let over = |bytes: &[u8]| {
        bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    };
    match address {
        IpAddr::V4(v4) => over(&v4.octets()),
        IpAddr::V6(v6) => over(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hash_as_in_the_original() {
        // The value that blackbox_exporter 0.23 returns for 127.0.0.1.
        assert_eq!(hash("127.0.0.1".parse().unwrap()), 3_668_918_509);
        assert_ne!(hash("::1".parse().unwrap()), hash("::2".parse().unwrap()));
    }
}
