//! Networks in CIDR notation (RFC 4632, RFC 4291): which clients a site trusts, which addresses a rule means.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// A network: all addresses that share a prefix. IPv4 in its IPv6 form is IPv4, as clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// The text is not a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotANetwork;

/// The networks that no packet from the Internet comes from: loopback, private (RFC 1918), link-local, unique local
/// (RFC 4193).
const PRIVATE: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1",
    "fc00::/7",
    "fe80::/10",
];

impl Network {
    /// The networks that no packet from the Internet comes from.
    pub fn private() -> Vec<Self> {
        PRIVATE.iter().map(|text| text.parse().expect("the networks are fixed")).collect()
    }

    /// Whether `address` is in the network. An IPv4 address in its IPv6 form counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// Whether `networks` together hold every address of IPv4, or every one of IPv6.
pub fn hold_everything(networks: &[Network]) -> bool {
    let networks: Vec<IpNet> = networks.iter().map(|network| network.0).collect();
    IpNet::aggregate(&networks).iter().any(|network| network.prefix_len() == 0)
}

/// The address that stands for the customer behind `address`: an IPv4 address is itself, also in its IPv6 form, and an
/// IPv6 address is its /64, which even the smallest customer gets (RFC 6177).
pub fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or one address.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let network: IpNet = match text.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => text.parse().map_err(|_| NotANetwork)?,
        };
        Ok(Self(match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
            (IpAddr::V4(inner), Some(prefix)) if network.addr().is_ipv6() => {
                Ipv4Net::new(inner, prefix).map_err(|_| NotANetwork)?.into()
            }
            _ => network,
        }))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
