//! What a signature must cover to prove anything about a mail, verified here or by a relay.
//!
//! A signature that leaves out the subject, or a field that rules go by, can be carried over to another mail that says
//! something else. So one counts only if
//!
//! - the mail has one header, read alike here and by verifiers, in which each field that may be there once is there once;
//! - its `h=` names From, Subject and each `X-S4-*`, as far as they are there;
//! - it covers the whole body, by an algorithm that is still good;
//! - Content-Type, Content-Transfer-Encoding and Content-Disposition are named, or cannot have changed how the body reads
//!   (see [`super::reading`]).
//!
//! Other fields that it leaves out, such as the In-Reply-To that Microsoft 365 does not sign, are noted with the proof
//! ([`Cover::unsigned`]): the rules judge the mail a second time without them, and what it then would not close or be about
//! is not proven.

use std::sync::OnceLock;

use mail_auth::common::crypto::Algorithm;
use mail_auth::{AuthenticatedMessage, dkim};

use crate::mail::Header;

use super::fields::fields;
use super::reading;

/// Fields that RFC 5322 section 3.6 and RFC 2045 allow once. Where one stands twice, a signature may cover
/// the one and rules read the other.
const SINGLE: [&str; 14] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
];

/// Fields that a signature must cover where they are there. SIGNL4's own parameters are among them: see
/// [`must_be_signed`].
const SIGNED: [&str; 2] = ["from", "subject"];

/// Fields that relays add on the way, and those that are checked in another way: a signature need not cover them.
const PASSED_OVER: [&str; 14] = [
    "received",
    "received-spf",
    "x-received",
    "return-path",
    "delivered-to",
    "x-original-to",
    "dkim-signature",
    "domainkey-signature",
    "authentication-results",
    "arc-seal",
    "arc-message-signature",
    "arc-authentication-results",
    "mime-version",
    "date",
];

/// What a signature must cover to prove anything about the mail.
pub(super) struct Cover<'c> {
    /// Lower-case names of the fields that must be signed.
    names: Vec<String>,
    /// Those of all others that a rule could go by, each as often as it is there.
    others: Vec<String>,
    /// Whether a signature can prove anything.
    sound: bool,
    head: &'c [u8],
    body: &'c [u8],
    /// Whether the body reads the same whatever the fields say that are not signed: by which of
    /// [`reading::FIELDS`] are.
    certain: [OnceLock<bool>; 8],
}

impl<'c> Cover<'c> {
    /// For a mail with this content, as `message` has it.
    pub(super) fn of(header: &Header<'_>, message: &AuthenticatedMessage<'_>, content: &'c [u8]) -> Self {
        let names: Vec<&str> = header.names().collect();
        let alike =
            names.iter().map(|name| name.as_bytes()).eq(message.headers.iter().map(|(name, _)| *name));
        let count = |single: &str| names.iter().filter(|name| name.eq_ignore_ascii_case(single)).count();
        let (head, body) = content.split_at(content.len().min(message.body_offset as usize));
        let head = without_end(head);
        let sound = alike
            && count("from") == 1
            && SINGLE.iter().all(|single| count(single) <= 1)
            && fields(head).all(is_clean);
        let is_other = |name: &String| {
            !PASSED_OVER.contains(&name.as_str()) && !reading::FIELDS.contains(&name.as_str())
        };
        let lower = names.iter().map(|name| name.to_ascii_lowercase());
        let (mut needed, mut others): (Vec<String>, Vec<String>) =
            lower.partition(|name| must_be_signed(name));
        others.retain(is_other);
        let several = needed.len();
        needed.sort();
        needed.dedup();
        let sound = sound && needed.len() == several;
        Self { sound, names: needed, others, head, body, certain: Default::default() }
    }

    /// The names of the other fields that a signature over these leaves out, or one of which it leaves out.
    pub(super) fn unsigned(&self, signed: &[String]) -> Vec<String> {
        let count = |names: &[String], name: &str| {
            names.iter().filter(|other| other.eq_ignore_ascii_case(name)).count()
        };
        let is_left_out = |name: &&String| count(signed, name) < count(&self.others, name);
        let mut unsigned: Vec<String> = self.others.iter().filter(is_left_out).cloned().collect();
        unsigned.sort();
        unsigned.dedup();
        unsigned
    }

    /// Whether a DKIM signature covers what it must.
    pub(super) fn is_by(&self, signature: &dkim::Signature) -> bool {
        signature.l == 0 && self.is_within(&signature.h, signature.a)
    }

    /// Whether a signature over these fields and the whole body covers what it must, by an algorithm that is still good
    /// (RFC 8301 section 3.1).
    pub(super) fn is_within(&self, signed: &[String], algorithm: Algorithm) -> bool {
        let signs = |name: &str| signed.iter().any(|signed| signed.eq_ignore_ascii_case(name));
        if !self.sound || algorithm == Algorithm::RsaSha1 || !self.names.iter().all(|name| signs(name)) {
            return false;
        }
        let told = reading::FIELDS.map(signs);
        let at = told.iter().fold(0, |at, told| at << 1 | usize::from(*told));
        *self.certain[at].get_or_init(|| reading::is_certain(self.head, self.body, told))
    }
}

fn must_be_signed(name: &str) -> bool {
    SIGNED.contains(&name) || name.starts_with("x-s4-")
}

/// The header without the blank line behind it.
fn without_end(head: &[u8]) -> &[u8] {
    [&b"\r\n\r\n"[..], b"\n\n", b"\n\r\n"]
        .iter()
        .find(|end| head.ends_with(end))
        .map_or(head, |end| &head[..head.len() - if end.ends_with(b"\r\n") { 2 } else { 1 }])
}

/// Whether a field has a name, and no line that some take for the end of the header.
fn is_clean(field: &[u8]) -> bool {
    let name = field.iter().take_while(|byte| byte.is_ascii_graphic() && **byte != b':').count();
    name > 0
        && field.get(name) == Some(&b':')
        && field
            .split(|byte| *byte == b'\n')
            .skip(1)
            .all(|line| line.is_empty() || !line.trim_ascii().is_empty())
}
