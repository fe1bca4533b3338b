//! The envelope: what the SMTP dialogue said about a mail, and the id that follows it everywhere.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::authenticity::Authenticity;

/// Crockford's base32 digits: no I, L, O or U, so that an id survives being read out on the phone.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Digits in the text form: 12 × 5 = 60 bits.
const LENGTH: usize = 12;

/// The id of a mail in the spool, in every log line and in the reply to DATA. Ids made later sort later:
/// 44 bits of milliseconds since 1970 and 16 bits that tell mails of one millisecond apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId(u64);

impl MailId {
    /// The id for a mail that came at `now`; `salt` tells mails of one millisecond apart.
    pub fn new(now: Timestamp, salt: u16) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0) & ((1 << 44) - 1);
        Self(millis << 16 | u64::from(salt))
    }

    /// The number behind the id; it fits SQLite's signed 64 bits.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The id with this number, if it can be one.
    pub fn from_number(number: u64) -> Option<Self> {
        (number < 1 << 60).then_some(Self(number))
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; LENGTH];
        for (at, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(self.0 >> (5 * (LENGTH - 1 - at)) & 31) as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("the digits are ASCII"))
    }
}

/// The text is not a mail id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a mail id: an id has {LENGTH} letters and digits, such as 01JD3X9K7M2Q")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for MailId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != LENGTH {
            return Err(NotAnId);
        }
        text.bytes()
            .try_fold(0, |number, byte| {
                // Crockford: read O as 0, I and L as 1, in either case.
                let digit = match byte.to_ascii_uppercase() {
                    b'O' => b'0',
                    b'I' | b'L' => b'1',
                    other => other,
                };
                let value = DIGITS.iter().position(|&d| d == digit).ok_or(NotAnId)?;
                Ok(number << 5 | value as u64)
            })
            .map(Self)
    }
}

impl Serialize for MailId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MailId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The way a mail came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Through the SMTP listener.
    #[default]
    Smtp,
    /// From `smtp2signl4 submit`.
    Submit,
    /// An event without a mail, from `smtp2signl4 send` or `close`.
    Command,
    /// A notice of the gateway's own, without a mail.
    Gateway,
}

/// The SMTP client that handed the mail over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Client {
    /// Its address; none for a mail that came by a pipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What it called itself in EHLO or HELO; empty if it did not greet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub helo: String,
    /// The user it authenticated as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How the stream was encrypted; none if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The proxy or relay in between, which named this client by PROXY or XCLIENT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<IpAddr>,
}

impl Client {
    /// Whether it has logged in or shown a certificate.
    pub fn is_known(&self) -> bool {
        self.user.is_some() || self.tls.as_ref().is_some_and(|tls| tls.subject.is_some())
    }
}

/// What is known of an encrypted stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tls {
    /// The version, such as `TLSv1.3`.
    pub version: String,
    /// The cipher suite, by its IANA name.
    pub cipher: String,
    /// The subject of the client's certificate, once it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// The envelope of a mail (RFC 5321 section 2.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Envelope {
    /// When the end of the data was read.
    pub received_at: Timestamp,
    /// How it came.
    #[serde(default)]
    pub origin: Origin,
    /// The client that handed it over.
    #[serde(default)]
    pub client: Client,
    /// The reverse-path without its brackets; empty for `<>`, as bounces have it.
    pub reverse_path: String,
    /// The forward-paths of the accepted RCPT commands, in order, without brackets.
    pub recipients: Vec<String>,
    /// What the listener repaired of what the client said, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
    /// The evidence about the sender's identity, if it was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticity: Option<Box<Authenticity>>,
    /// Whether it is one too many from a stranger's address, for which the relay that passed it on is not refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excess: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text_in_any_case() {
        let id = MailId::new("2026-11-20T17:04:05.123Z".parse().unwrap(), 0xbeef);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        assert_eq!("not-an-id".parse::<MailId>(), Err(NotAnId));
    }

    #[test]
    fn ids_sort_by_time() {
        let at = |text: &str, salt| MailId::new(text.parse().unwrap(), salt);
        assert!(at("2026-11-20T17:04:05.123Z", u16::MAX) < at("2026-11-20T17:04:05.124Z", 0));
    }
}
