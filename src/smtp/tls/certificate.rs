//! A certificate and its key: reads both from their files and says what the certificate says.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name, X509Version};

use crate::diagnostic::Diagnostic;
use crate::document::NamedFile;
use crate::mail::visible;

/// How long before its end a certificate is warned about: certbot renews 30 days before, so that one with two
/// weeks left was not renewed.
const NEAR_END: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A certificate and its key, by their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// `certificate`: the certificate and its chain, PEM.
    pub certificate: NamedFile,
    /// `key`: its private key, PEM.
    pub key: NamedFile,
}

/// A certificate that can be presented.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The files it came from.
    pub files: Pair,
    /// What it says.
    pub facts: Facts,
    /// The chain and the key.
    pub key: Arc<CertifiedKey>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is, by its distinguished name: in the order of the certificate, with the escapes of RFC 4514 section
    /// 2.4, so that no value can look like another attribute.
    pub subject: String,
    /// Who made it.
    pub issuer: String,
    /// True for a self-signed certificate: clients must be configured to trust it.
    pub self_signed: bool,
    /// The hosts that it is for: names, `*.` names and addresses.
    pub names: Vec<String>,
    /// Whether it has no alternative name (RFC 5280 section 4.2.1.6), so that the names are what its subject says.
    pub nameless: bool,
    /// The version of X.509. Only [`X509Version::V3`] has names of hosts.
    pub version: X509Version,
    /// When it begins to hold.
    pub valid_from: Timestamp,
    /// When it ends.
    pub valid_until: Timestamp,
    /// SHA-256 of the whole certificate, in hexadecimal with colons, as browsers and openssl show it.
    pub fingerprint: String,
}

impl Certificate {
    /// Reads a certificate with its chain, and its key.
    ///
    /// # Errors
    /// What is wrong with either file, at the place in the config that names it.
    pub fn load(files: &Pair) -> Result<Self, Vec<Diagnostic>> {
        let chain = read_chain(&files.certificate);
        let key = read_key(&files.key);
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
        };
        let facts = Facts::of(&chain[0]).ok_or_else(|| {
            vec![files.certificate.diagnostic("the first certificate in this file cannot be read as X.509")]
        })?;
        let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| {
            let problem = match error {
                _ if facts.version != X509Version::V3 => files
                    .certificate
                    .diagnostic("this certificate is of a version before X.509 v3: it names no host, and clients refuse it")
                    .help("`openssl x509 -req` makes one unless it has extensions: -extfile FILE with a line subjectAltName=DNS:NAME"),
                rustls::Error::InconsistentKeys(_) => files
                    .key
                    .diagnostic("this key is not that of the certificate")
                    .help("name the key that the certificate was made with; the certificate must be the first of its chain"),
                error => files
                    .key
                    .diagnostic(format!("this key cannot be used: {error}"))
                    .help("RSA of at least 2048 bits, or ECDSA on P-256 or P-384, or Ed25519"),
            };
            vec![problem]
        })?;
        Ok(Self { files: files.clone(), facts, key: Arc::new(key) })
    }

    /// What an operator should know about it at `now`, in words.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let path = self.files.certificate.path.display();
        let nameless = self.facts.nameless.then(|| {
            format!("the certificate {path} has no subjectAltName: most clients look for the host there and nowhere else")
        });
        self.end(now).into_iter().chain(nameless).collect()
    }

    /// What is to be said at `now` of the time in which it holds.
    fn end(&self, now: Timestamp) -> Option<String> {
        let Facts { valid_from, valid_until, .. } = self.facts;
        let path = self.files.certificate.path.display();
        if now < valid_from {
            Some(format!("the certificate {path} does not hold before {valid_from}"))
        } else if now >= valid_until {
            Some(format!(
                "the certificate {path} has expired: clients that check it send nothing since {valid_until}"
            ))
        } else if valid_until.duration_since(now) < NEAR_END {
            Some(format!(
                "the certificate {path} ends in {} days, on {valid_until}",
                self.facts.days_left(now)
            ))
        } else {
            None
        }
    }
}

impl Facts {
    /// Reads a certificate in DER; none if it is not one.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let time = |seconds| Timestamp::from_second(seconds).ok();
        let mut names = Vec::new();
        if let Ok(Some(extension)) = certificate.subject_alternative_name() {
            names.extend(extension.value.general_names.iter().filter_map(host));
        }
        let nameless = names.is_empty();
        if nameless {
            // As it was before there were alternative names. Clients of today do not look here.
            names.extend(
                certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(plain)),
            );
        }
        Some(Self {
            subject: distinguished(certificate.subject()),
            issuer: distinguished(certificate.issuer()),
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            names,
            nameless,
            version: certificate.version(),
            valid_from: time(certificate.validity().not_before.timestamp())?,
            // The end that means that there is none (RFC 5280 section 4.1.2.5) is the last that a timestamp holds.
            valid_until: time(certificate.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX),
            fingerprint: fingerprint(der),
        })
    }

    /// Who a client is by its certificate: the subject; where that is empty the first name; and where there is
    /// none the fingerprint.
    pub fn identity(self) -> String {
        let name = if self.subject.is_empty() { self.names.into_iter().next() } else { Some(self.subject) };
        name.unwrap_or(self.fingerprint)
    }

    /// Whether it is for the host `name`, by RFC 6125: a `*.` stands for one label.
    pub fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
            None => own.eq_ignore_ascii_case(name),
        })
    }

    /// How many whole days it still holds; negative once it has expired.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        self.valid_until.duration_since(now).as_hours().div_euclid(24)
    }
}

/// The certificates in a PEM file, at least one.
pub fn read_chain(file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
    let text = read(file)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| file.diagnostic(format!("{} is not a PEM file: {error}", file.path.display())))?;
    if chain.is_empty() {
        let problem = file.diagnostic(format!("{} holds no certificate", file.path.display()));
        return Err(problem
            .help("a PEM file: the server's certificate and behind it those that lead to its authority"));
    }
    Ok(chain)
}

fn read_key(file: &NamedFile) -> Result<PrivateKeyDer<'static>, Diagnostic> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let path = file.path.display();
        let encrypted = memchr::memmem::find(&text, b"ENCRYPTED").is_some();
        match error {
            _ if encrypted => file
                .diagnostic(format!("the key in {path} is encrypted, and nobody is there to type a password"))
                .help("openssl pkey -in KEY -out KEY-WITHOUT-PASSWORD"),
            pem::Error::NoItemsFound => file
                .diagnostic(format!("{path} holds no private key"))
                .help("a PEM file with a `PRIVATE KEY`"),
            error => file.diagnostic(format!("{path} is not a PEM file: {error}")),
        }
    })
}

fn read(file: &NamedFile) -> Result<Vec<u8>, Diagnostic> {
    std::fs::read(&file.path).map_err(|error| {
        file.diagnostic(format!("{} cannot be read: {error}", file.path.display()))
            .help("the service's own user must be able to read it; the README shows how")
    })
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(plain(name)),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)))
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::from(Ipv6Addr::from(bytes))));
            address.ok().map(|address| address.to_string())
        }
        GeneralName::RFC822Name(name) => Some(plain(name)),
        _ => None,
    }
}

/// A distinguished name in words.
fn distinguished(name: &X509Name<'_>) -> String {
    let relative =
        |part: &RelativeDistinguishedName<'_>| part.iter().map(attribute).collect::<Vec<_>>().join(" + ");
    name.iter().map(relative).collect::<Vec<_>>().join(", ")
}

/// One of its attributes, such as `CN=mx.example`.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    // The parser has the short names of attributes, and no escapes.
    let alone = RelativeDistinguishedName::new(vec![attribute.clone()]);
    let shown = X509Name::new(vec![alone], &[]).to_string();
    let Some((name, value)) = shown.split_once('=') else {
        // It cannot be read as text; so its octets.
        let octets: String = attribute.as_slice().iter().map(|octet| format!("{octet:02X}")).collect();
        return format!("{}=#{octets}", attribute.attr_type());
    };
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\');
        if special || (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    format!("{name}={}", plain(&escaped))
}

/// `text` with nothing in it that could steer a terminal, end a line or read backwards: a client may have written it.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    visible(&text).into_owned()
}

fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut text = String::with_capacity(3 * digest.as_ref().len());
    for byte in digest.as_ref() {
        let gap = if text.is_empty() { "" } else { ":" };
        write!(text, "{gap}{byte:02X}").expect("a string takes whatever is written");
    }
    text
}
