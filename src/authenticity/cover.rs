//! What a signature must cover to prove anything about a mail, whoever verified it.
//!
//! A signature that leaves out the subject, or a field that rules go by, can be carried over to another mail that says
//! something else. So one counts only if
//!
//! - the mail has one header, read alike here and by verifiers, in which each field that may be there once is there once;
//! - its `h=` names From, Subject, In-Reply-To, References and each `X-S4-*`, as far as they are there;
//! - it covers the whole body, by an algorithm that is still good;
//! - Content-Type, Content-Transfer-Encoding and Content-Disposition are named, or cannot have changed how the body reads
//!   (see [`super::reading`]).

use std::sync::OnceLock;

use mail_auth::common::crypto::Algorithm;
use mail_auth::{AuthenticatedMessage, dkim};

use crate::mail::Header;

use super::check::fields;
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
const SIGNED: [&str; 4] = ["from", "subject", "in-reply-to", "references"];

/// What a signature must cover to prove anything about the mail.
pub(super) struct Cover<'c> {
    /// Lower-case names of the fields.
    names: Vec<String>,
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
        let mut needed: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        needed.retain(|name| must_be_signed(name));
        let several = needed.len();
        needed.sort();
        needed.dedup();
        Self {
            sound: sound && needed.len() == several,
            names: needed,
            head,
            body,
            certain: Default::default(),
        }
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
