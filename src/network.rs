//! Networks in CIDR notation (RFC 4632, RFC 4291): which clients a site trusts, which addresses a rule means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: all addresses that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The text is not a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotANetwork;

impl Network {
    /// The networks that no packet from the Internet comes from: loopback, private (RFC 1918),
    /// unique local (RFC 4193) and link-local.
    pub fn private() -> Vec<Self> {
        let v4 = |a, b, c, d, prefix| Self { address: Ipv4Addr::new(a, b, c, d).into(), prefix };
        let v6 = |first, prefix| Self { address: Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0).into(), prefix };
        vec![
            v4(127, 0, 0, 0, 8),
            v4(10, 0, 0, 0, 8),
            v4(172, 16, 0, 0, 12),
            v4(192, 168, 0, 0, 16),
            v4(169, 254, 0, 0, 16),
            Self { address: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
            v6(0xfc00, 7),
            v6(0xfe80, 10),
        ]
    }

    /// Whether `address` is in the network. An IPv4 address in its IPv6 form counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// Whether `networks` together hold every address of IPv4, or every one of IPv6.
pub fn hold_everything(networks: &[Network]) -> bool {
    let all = |is_v4: bool| {
        let last = if is_v4 { u128::from(u32::MAX) } else { u128::MAX };
        let mut ranges: Vec<_> = networks
            .iter()
            .filter(|network| network.address.is_ipv4() == is_v4)
            .map(|network| {
                let bits = match network.address {
                    IpAddr::V4(address) => u128::from(address.to_bits()),
                    IpAddr::V6(address) => address.to_bits(),
                };
                let hosts = last.checked_shr(network.prefix.into()).unwrap_or(0);
                (bits & !hosts, bits | hosts)
            })
            .collect();
        ranges.sort_unstable();
        // What is held without a gap from the first address on.
        let held = ranges.into_iter().try_fold(0, |next: u128, (first, end)| {
            if first > next {
                Err(false)
            } else {
                end.checked_add(1).map(|behind| next.max(behind)).ok_or(true)
            }
        });
        held.map_or_else(|whole| whole, |next| next > last)
    };
    all(true) || all(false)
}

/// The address that stands for whoever holds `address`: an IPv4 address is itself, also in its IPv6 form, and an
/// IPv6 address is its /64, for that much the smallest customer is given (RFC 6177) and can use all of.
pub fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or one address. IPv4 in its IPv6 form is IPv4, as clients are.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest {
            return Err(NotANetwork);
        }
        match address.to_canonical() {
            IpAddr::V4(inner) if address.is_ipv6() && prefix >= 96 => {
                Ok(Self { address: inner.into(), prefix: prefix - 96 })
            }
            _ => Ok(Self { address, prefix }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_of_its_prefix() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("192.0.2.0/24", "192.0.2.255"));
        assert!(!holds("192.0.2.0/24", "192.0.3.0"));
        assert!(holds("0.0.0.0/0", "203.0.113.9"));
        assert!(holds("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!holds("::/0", "192.0.2.1"));
        assert!(holds("::ffff:192.0.2.0/120", "192.0.2.9"));
        assert!(!holds("::ffff:192.0.2.0/120", "192.0.3.9"));
        for wrong in ["192.0.2.0/33", "192.0.2/24", "", "/8", "::/129", "10.0.0.0/-1"] {
            assert_eq!(wrong.parse::<Network>(), Err(NotANetwork), "{wrong}");
        }
    }

    #[test]
    fn networks_that_leave_no_address_out_are_everything_however_they_are_cut() {
        let all = |text: &str| {
            let networks: Vec<Network> = text.split_whitespace().map(|one| one.parse().unwrap()).collect();
            hold_everything(&networks)
        };
        for everything in [
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/8 ::/0",
            "0.0.0.0/1 128.0.0.0/1",
            "203.0.113.9/1 10.0.0.0/8 192.0.2.1 1.2.3.4/1",
            "::/1 8000::/1",
            "0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/3 224.0.0.0/3",
            "::ffff:0.0.0.0/96",
        ] {
            assert!(all(everything), "{everything}");
        }
        for part in [
            "",
            "0.0.0.0/1",
            "0.0.0.0/1 ::/1",
            "0.0.0.0/1 129.0.0.0/8 192.0.0.0/2",
            "8000::/1 ::1",
            "128.0.0.0/1 0.0.0.1/32",
        ] {
            assert!(!all(part), "{part}");
        }
    }

    #[test]
    fn whoever_has_an_ipv6_network_is_one_client() {
        let one = |address: &str| holder(address.parse().unwrap()).to_string();
        assert_eq!(one("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(one("192.0.2.7"), "192.0.2.7");
        assert_eq!(one("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
