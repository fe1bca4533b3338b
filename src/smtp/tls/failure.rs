//! Why a handshake failed and what an operator can do, for the log: rustls says what is wrong with the bytes.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The reason of a failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub why: &'static str,
    /// What to do about it.
    pub help: &'static str,
}

const SIGN: &str = "have it signed by an authority in `client-ca`, or add its authority to that file; a client that shows \
                    none may come in too, and log in";

impl Failure {
    /// The reason of `error`, if it is one that somebody can do something about.
    pub fn of(error: &io::Error) -> Option<Self> {
        let failure = |why, help| Some(Self { why, help });
        match error.get_ref()?.downcast_ref::<Error>()? {
            Error::InvalidCertificate(wrong) => match wrong {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    failure("the client's certificate has expired", "renew it")
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => failure(
                    "the client's certificate does not hold yet",
                    "look at the clocks of the client and of this machine",
                ),
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => failure(
                    "the client's certificate is not one for clients",
                    "make it for client authentication: extendedKeyUsage = clientAuth",
                ),
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    failure("the client's certificate is of no authority in `client-ca`", SIGN)
                }
                // As `openssl req -x509` makes them. Such a one is refused also where it is in the file itself.
                CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => failure(
                    "the client's certificate is that of an authority, as self-signed ones mostly are",
                    SIGN,
                ),
                _ => failure("the client's certificate cannot be used", SIGN),
            },
            Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnsupportedCertificate,
            ) => failure(
                "the client does not trust the certificate of this listener",
                "`smtp2signl4 tls` shows what the client sees; it must trust that authority, for that name",
            ),
            Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => failure(
                "the client has no version of TLS, or no cipher, that is still safe",
                "it needs TLS 1.2; if it cannot, give it a listener without TLS, with `allow`",
            ),
            Error::InvalidMessage(_) => failure(
                "what the client sent is not TLS",
                "it may have another mode of TLS than this listener: STARTTLS, or TLS from the first byte",
            ),
            _ => None,
        }
    }
}
