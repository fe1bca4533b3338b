//! ARC (RFC 8617): the chain of relays that passed a mail on; each seals what it found. A valid
//! chain alone proves nothing, since anyone may seal. But where the last to seal is one that the site names
//! (`trusted-arc-sealers`), and so is each back to the one that found DMARC to pass, that result is taken.
//!
//! A sealer that serves many customers, as Microsoft 365, lets each of them change what they pass on: naming it trusts
//! all of them to that extent. Therefore the last seal must cover what a signature must cover, and the domain must be one
//! of `closing-domains` as for any other proof.

use jiff::Timestamp;
use mail_auth::AuthenticatedMessage;

use crate::mail::{Header, Verdict};

use super::cover::Cover;
use super::evidence::{digest, time_of};
use super::results::Results;

/// What a trusted sealer vouches for.
pub(super) struct Sealed {
    /// The sealer, as the site names it.
    pub(super) by: String,
    /// Of the seal's signature over the mail.
    pub(super) signature: String,
    /// When the mail was signed, as far as that is known.
    pub(super) signed_at: Option<Timestamp>,
    /// What the seal leaves out: see [`Cover::unsigned`].
    pub(super) unsigned: Vec<String>,
}

/// Whether a mail from `from` passed DMARC by the word of one of `sealers`. Its chain must have been found valid.
pub(super) fn vouched(
    header: &Header<'_>,
    message: &AuthenticatedMessage<'_>,
    cover: &Cover<'_>,
    from: &str,
    sealers: &[String],
) -> Option<Sealed> {
    let named = |domain: &str| {
        let domain = domain.trim_end_matches('.').to_lowercase();
        sealers.iter().find(|sealer| {
            domain.strip_suffix(sealer.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        })
    };
    // The sets stand in the order of their instances: a valid chain has them so.
    let last = &message.ams_headers.last()?.header;
    if !cover.is_within(&last.h, last.a) {
        return None;
    }
    let sets = message.as_headers.iter().zip(&message.ams_headers).zip(&message.aar_headers);
    for ((seal, signature), results) in sets.rev() {
        let by = named(&seal.header.d)?;
        named(&signature.header.d)?;
        if passes(results.value, from) {
            return Some(Sealed {
                by: by.clone(),
                signature: digest(&last.b),
                unsigned: cover.unsigned(&last.h),
                // A seal is made anew each time that a mail is passed on; its Date is the sender's.
                signed_at: time_of(header, &last.h)
                    .or_else(|| Timestamp::from_second(i64::try_from(last.t).ok()?).ok()),
            });
        }
    }
    None
}

/// Whether the value of an ARC-Authentication-Results says that DMARC passed for `from`.
fn passes(value: &[u8], from: &str) -> bool {
    let value = String::from_utf8_lossy(value).replace(['\r', '\n'], "");
    // `i=N;` stands before what is an Authentication-Results field (RFC 8617 section 4.1.1).
    let Some(results) = value.split_once(';').and_then(|(_, rest)| Results::read(rest)) else { return false };
    let mut dmarc = results.list.iter().filter(|result| result.method == "dmarc");
    dmarc.next().is_some_and(|first| {
        let author = first.property("header.from").unwrap_or_default();
        first.verdict == Verdict::Pass && author.trim_end_matches('.').eq_ignore_ascii_case(from)
    }) && dmarc.next().is_none()
}
