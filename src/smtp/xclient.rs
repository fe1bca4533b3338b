//! XCLIENT, by which a relay says who its client is (Postfix's XCLIENT_README): what its argument means.
//! Who may say it is the session's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What EHLO offers to those who may name their client.
pub const OFFER: &str = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// The longest value, decoded: that of NAME and HELO. A user is no longer.
const MAX_VALUE: usize = 255;

/// Whether the client may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The relay has not named it.
    Open,
    /// The last command has named it, and the next may say more.
    UnderWay,
    /// It was named.
    Over,
}

/// What one command said. An attribute that was not in it is none; one that the relay does not know itself
/// is said to be none. NAME, PORT, PROTO, DESTADDR and DESTPORT are read and not used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// ADDR.
    pub address: Option<Option<IpAddr>>,
    /// HELO.
    pub helo: Option<Option<String>>,
    /// LOGIN.
    pub login: Option<Option<String>>,
}

impl Said {
    /// Adds what another command said. Returns false, and adds nothing, if one attribute was said before.
    pub fn add(&mut self, more: Self) -> bool {
        let again = (self.address.is_some() && more.address.is_some())
            || (self.helo.is_some() && more.helo.is_some())
            || (self.login.is_some() && more.login.is_some());
        if !again {
            self.address = self.address.or(more.address);
            self.helo = self.helo.take().or(more.helo);
            self.login = self.login.take().or(more.login);
        }
        !again
    }
}

/// Reads the argument of XCLIENT; none if it is not in form.
pub fn said(argument: &[u8]) -> Option<Said> {
    let mut said = Said::default();
    let mut attributes = str::from_utf8(argument).ok()?.split_ascii_whitespace().peekable();
    attributes.peek()?;
    for attribute in attributes {
        let (name, value) = attribute.split_once('=')?;
        let value = xtext(value)?;
        let unknown = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"].iter().any(|word| value.eq_ignore_ascii_case(word));
        let value = (!unknown).then_some(value);
        let checked = |is_good: fn(&str) -> bool| value.as_deref().is_none_or(is_good).then_some(());
        match name.to_ascii_uppercase().as_str() {
            "NAME" => checked(|name| !name.is_empty())?,
            "PORT" | "DESTPORT" => checked(|port| port.parse::<u16>().is_ok())?,
            "PROTO" => checked(|proto| matches!(proto.to_ascii_uppercase().as_str(), "SMTP" | "ESMTP"))?,
            "DESTADDR" => checked(|text| address(text).is_some())?,
            "ADDR" => {
                said.address = Some(match value {
                    Some(text) => Some(address(&text)?),
                    None => None,
                });
            }
            "HELO" => said.helo = Some(value),
            "LOGIN" => said.login = Some(value.filter(|login| !login.is_empty())),
            _ => return None,
        }
    }
    Some(said)
}

/// Decodes xtext (RFC 3461 section 4): `+` and two digits stand for an octet.
fn xtext(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match byte {
            b'+' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?
            }
            b'=' => return None,
            other => other,
        });
    }
    let decoded = String::from_utf8(decoded).ok()?;
    (decoded.len() <= MAX_VALUE && !decoded.contains(char::is_control)).then_some(decoded)
}

/// An IPv4 address, or an IPv6 address behind `IPV6:`.
fn address(text: &str) -> Option<IpAddr> {
    match text.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case("IPV6:") => {
            rest.parse().ok().map(|address: Ipv6Addr| IpAddr::V6(address).to_canonical())
        }
        _ => text.parse().ok().map(|address: Ipv4Addr| address.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_relay_says_is_read_out_of_xtext() {
        let found = said(b"NAME=spike.example ADDR=168.100.189.2 PORT=4711 PROTO=ESMTP HELO=a+2Bb+20c login=j+C3+B6 DESTADDR=IPV6:::1 DESTPORT=25");
        let wanted = Said {
            address: Some(Some("168.100.189.2".parse().unwrap())),
            helo: Some(Some("a+b c".into())),
            login: Some(Some("j\u{f6}".into())),
        };
        assert_eq!(found, Some(wanted));
    }

    #[test]
    fn ipv6_addresses_have_their_prefix_and_ipv4_in_them_is_ipv4() {
        let address = |text: &str| said(format!("ADDR={text}").as_bytes()).and_then(|said| said.address);
        assert_eq!(address("IPV6:2001:db8::7"), Some(Some("2001:db8::7".parse().unwrap())));
        assert_eq!(address("ipv6:::ffff:192.0.2.7"), Some(Some("192.0.2.7".parse().unwrap())));
        for wrong in ["2001:db8::7", "IPV6:192.0.2.7", "IPV6:", "192.0.2", "[192.0.2.7]", "mx.example"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_the_relay_does_not_know_is_said_to_be_none() {
        let found = said(b"NAME=[TEMPUNAVAIL] ADDR=[UNAVAILABLE] HELO=[unavailable] LOGIN=[UNAVAILABLE]");
        assert_eq!(found, Some(Said { address: Some(None), helo: Some(None), login: Some(None) }));
        assert_eq!(said(b"LOGIN="), Some(Said { login: Some(None), ..Said::default() }));
        assert_eq!(said(b"PORT=[UNAVAILABLE]"), Some(Said::default()));
    }

    #[test]
    fn what_is_not_in_form_is_none() {
        for wrong in [
            &b""[..],
            b"  ",
            b"ADDR",
            b"WHO=me",
            b"HELO=a+2",
            b"HELO=a+ZZ",
            b"HELO=a+0D+0Ab",
            b"HELO=a=b",
            b"HELO=\xff",
            b"LOGIN=+FF",
            b"PORT=x",
            b"PROTO=LMTPS",
            b"NAME=",
            b"DESTADDR=here",
        ] {
            assert_eq!(said(wrong), None, "{wrong:?}");
        }
        assert_eq!(said(format!("HELO={}", "x".repeat(256)).as_bytes()), None);
    }
}
