//! The way a mail took before it reached the client: what its Received fields (RFC 5321 section 4.4) tell. A
//! relay puts its field on top. If the client is trusted, so is its field, and so on down to the first hop
//! from elsewhere; the fields below were written there.

use std::net::IpAddr;

use crate::network::Network;

use super::envelope::{Envelope, Origin};

/// Where a relay had the mail from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// It has no `from` clause: the mail was made on the machine.
    Local,
    /// Every address before the receiver's `by`: its own word on the client, and what the client said.
    From(Vec<IpAddr>),
    /// It came from somewhere, and that is all.
    Unknown,
}

impl Hop {
    /// Reads the value of a Received field.
    pub fn read(received: &str) -> Self {
        let received = received.trim_start();
        let Some(from) = received.get(..5).filter(|head| head.eq_ignore_ascii_case("from ")) else {
            return Self::Local;
        };
        let clause = before_last_by(&received[from.len()..]);
        // The client writes its name, the receiver the comment behind it: the last brackets are the receiver's.
        let bracketed = clause.rsplit_once('[').map(|(_, rest)| rest.split(']').next().unwrap_or(""));
        // Exchange writes parentheses alone.
        let parted = || clause.rsplit_once('(').map(|(_, rest)| rest.split(')').next().unwrap_or(""));
        if bracketed.or_else(parted).and_then(address).is_none() {
            let rest = &received[from.len() + clause.len()..];
            return if is_local(clause, rest) { Self::Local } else { Self::Unknown };
        }
        // But relays differ in where they write what, and a name can look like a comment: so all count.
        let parts = clause.split(|c: char| c.is_whitespace() || "[]()<>=,;".contains(c));
        Self::From(parts.filter_map(address).collect())
    }

    /// Whether the mail was made on the machine or came from one of `networks`.
    pub fn is_within(&self, networks: &[Network]) -> bool {
        match self {
            Self::Local => true,
            Self::From(addresses) => addresses.iter().all(|address| is_in(networks, *address)),
            Self::Unknown => false,
        }
    }
}

impl Envelope {
    /// Whether the client that handed the mail over is in one of `networks`, and so is who named it. One without an address came by
    /// a Unix socket and so is on this machine, unless a proxy or relay stands before it that could not name it.
    pub fn client_is_within(&self, networks: &[Network]) -> bool {
        match (self.origin, self.client.address) {
            (Origin::Submit | Origin::Command | Origin::Gateway, _) => true,
            (Origin::Smtp, Some(address)) => {
                is_in(networks, address) && self.client.relay.is_none_or(|relay| is_in(networks, relay))
            }
            (Origin::Smtp, None) => self.client.relay.is_none(),
        }
    }

    /// Whether the client and every hop that a Received field names are in `networks`, so that the mail was
    /// written there as well.
    pub fn is_from_within<T: AsRef<str>>(
        &self,
        mut received: impl Iterator<Item = T>,
        networks: &[Network],
    ) -> bool {
        self.client_is_within(networks) && received.all(|hop| Hop::read(hop.as_ref()).is_within(networks))
    }

    /// The address outside `networks` that the mail came from: the client's, or else that of the first hop outside that a
    /// Received field names. None if nothing outside is named.
    pub fn outside<T: AsRef<str>>(
        &self,
        received: impl Iterator<Item = T>,
        networks: &[Network],
    ) -> Option<IpAddr> {
        let client = self.client.address.filter(|address| !is_in(networks, *address));
        let hops = received.map(|hop| Hop::read(hop.as_ref()));
        client.or_else(|| match hops.into_iter().find(|hop| !hop.is_within(networks))? {
            Hop::From(addresses) => addresses.into_iter().find(|address| !is_in(networks, *address)),
            Hop::Local | Hop::Unknown => None,
        })
    }

    /// Whether the client vouches for the mail: it has logged in or shown a certificate, and every hop before it is in
    /// `networks`. A relay that has logged in vouches for itself alone, and not for those whose mail it passes on.
    pub fn client_vouches<T: AsRef<str>>(
        &self,
        mut received: impl Iterator<Item = T>,
        networks: &[Network],
    ) -> bool {
        self.client.is_known() && received.all(|hop| Hop::read(hop.as_ref()).is_within(networks))
    }
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// What stands before the last word `by`. The first may be the client's, which says what it likes in HELO;
/// a later one than the receiver's only adds addresses that must be trusted.
fn before_last_by(clause: &str) -> &str {
    let blank = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
    let bytes = clause.as_bytes();
    let by = (1..bytes.len().saturating_sub(1)).rev().find(|&at| {
        bytes[at..at + 2].eq_ignore_ascii_case(b"by") && blank(bytes.get(at - 1)) && blank(bytes.get(at + 2))
    });
    &clause[..by.unwrap_or(clause.len())]
}

/// Whether a user of the machine handed the mail over: Exim writes `from root by host with local`. In front of that `by`
/// stands the name of the user alone, so that no client can have written it.
fn is_local(user: &str, rest: &str) -> bool {
    let mut words = rest.split_whitespace();
    let protocol = words.nth(3).unwrap_or_default();
    let local =
        ["local", "local-smtp", "local-esmtp"].iter().any(|local| protocol.eq_ignore_ascii_case(local));
    let with = rest.split_whitespace().nth(2).is_some_and(|word| word.eq_ignore_ascii_case("with"));
    user.split_whitespace().count() == 1 && with && local
}

fn address(text: &str) -> Option<IpAddr> {
    text.strip_prefix("IPv6:").unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_came_from_the_client_outside_or_from_the_first_hop_outside() {
        let from = |client: &str, received: &[&str]| {
            let client = crate::mail::Client { address: Some(client.parse().unwrap()), ..Default::default() };
            let envelope = Envelope { client, ..Envelope::default() };
            envelope.outside(received.iter(), &Network::private()).map(|address| address.to_string())
        };
        let hop = "from mx ([10.0.0.5]) by relay.example; now";
        let outside = "from evil ([203.0.113.9]) by mx.example; now";
        let forged = "from x ([198.51.100.7]) by y; now";
        assert_eq!(from("203.0.113.10", &[outside]).as_deref(), Some("203.0.113.10"));
        assert_eq!(from("10.0.0.1", &[hop, outside, forged]).as_deref(), Some("203.0.113.9"));
        assert_eq!(from("10.0.0.1", &[hop]), None);
        assert_eq!(from("10.0.0.1", &["from somewhere by mx.example; now", outside]), None);
    }

    #[test]
    fn a_mail_that_a_user_of_the_relay_handed_over_was_made_there() {
        let exim = "from root by relay.example with local (Exim 4.96) (envelope-from <a@b>) id 1abc; now";
        assert_eq!(Hop::read(exim), Hop::Local);
        for remote in [
            "from out.example by relay.example with ESMTP id 1abc; now",
            "from root x by relay.example with local; now",
            "from evil by relay.example with SMTP for <\"a by b with local c\"@d>; now",
            "from root by relay.example id 1 with local; now",
            "from root",
        ] {
            assert_eq!(Hop::read(remote), Hop::Unknown, "{remote}");
        }
        assert!(matches!(Hop::read("from a ([203.0.113.9]) by b with local; now"), Hop::From(_)));
    }
}
