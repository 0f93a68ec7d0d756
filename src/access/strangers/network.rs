//! Part of an address that distinguishes strangers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Returns an accepted client's address in the one form that the gate records, shows and compares. A listener for both families
/// shows IPv4 addresses as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
#[must_use]
pub fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

/// IPv4 address, or /64 network of an IPv6 address: one host can choose any address of its /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::access) struct Network(IpAddr);

impl Network {
    pub(in crate::access) fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits((address.to_bits() >> 64) << 64).into(),
        })
    }
}

/// Writes the form used in records: `10.0.0.1`, `2001:db8::/64`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_one_network_and_reads_like_one() {
        let network = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        let mapped = canonical("[::ffff:10.0.0.1]:5000".parse().unwrap());
        assert_eq!(mapped.to_string(), "10.0.0.1:5000");
        assert_eq!(
            canonical("[2001:db8::1]:5000".parse().unwrap()).to_string(),
            "[2001:db8::1]:5000"
        );
        assert_eq!(network("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(network("10.0.0.1").to_string(), "10.0.0.1");
    }
}
