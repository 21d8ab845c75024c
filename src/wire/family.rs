//! Address families of a name.

use std::net::IpAddr;

/// Address families of a name that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressFamily {
    /// All addresses, alternating between IPv6 and IPv4.
    #[default]
    Any,
    /// IPv4, or IPv6 if there is no IPv4 address.
    Prefer4,
    /// IPv6, or IPv4 if there is no IPv6 address.
    Prefer6,
    /// Only IPv4.
    Only4,
    /// Only IPv6.
    Only6,
}

impl AddressFamily {
    /// Returns whether an address may be used.
    pub(super) fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::Only4 => address.is_ipv4(),
            Self::Only6 => address.is_ipv6(),
            Self::Any | Self::Prefer4 | Self::Prefer6 => true,
        }
    }
}
