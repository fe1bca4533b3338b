//! What tells a mail that is sent again by somebody else from one that is new: the signature that proves it, and when it
//! was made.

use jiff::Timestamp;
use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::dkim;

use crate::mail::{Authenticity, Header};

use super::cover::Cover;

impl Authenticity {
    /// Notes the signature that proves the mail.
    pub(super) fn by_signature(
        &mut self,
        header: &Header<'_>,
        signature: &dkim::Signature,
        cover: &Cover<'_>,
    ) {
        self.unsigned = cover.unsigned(&signature.h);
        self.signature = Some(digest(&signature.b));
        let told = i64::try_from(signature.t).ok().filter(|seconds| *seconds > 0);
        self.signed_at =
            told.and_then(|at| Timestamp::from_second(at).ok()).or_else(|| time_of(header, &signature.h));
    }
}

/// What stands for a signature: 16 bytes of its SHA-256 in hexadecimal.
pub(super) fn digest(signature: &[u8]) -> String {
    let hash = HashAlgorithm::Sha256.hash(signature);
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The Date of the mail, if the fields named in `signed` have it.
pub(super) fn time_of(header: &Header<'_>, signed: &[String]) -> Option<Timestamp> {
    signed.iter().any(|name| name.eq_ignore_ascii_case("date")).then(|| header.date()).flatten()
}
