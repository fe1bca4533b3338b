//! What each part of a message is to it: its text, an attachment, a mail inside, or what is encrypted.

use super::mime::{Kind, Part};

/// The parts that are attachments of the message.
pub(super) fn attached(parts: &[Part<'_>]) -> impl Iterator<Item = usize> {
    (0..parts.len()).filter(|&at| {
        !is_inside_message(parts, at) && parts[at].kind != Kind::Multipart && !is_text(parts, at)
    })
}

/// The charset that the text of a message names.
pub(super) fn charset<'p>(parts: &'p [Part<'_>]) -> Option<&'p str> {
    (0..parts.len())
        .filter(|&at| parts[at].kind == Kind::Leaf && !is_inside_message(parts, at))
        .find_map(|at| parts[at].charset())
}

/// The parts directly inside of this one.
pub(super) fn children(parts: &[Part<'_>], at: usize) -> impl Iterator<Item = usize> {
    (at + 1..parts.len()).filter(move |&child| parts[child].parent == at)
}

/// Whether a part is of a type that people read, though no mail program shows it as the text.
pub(super) fn is_readable(part: &Part<'_>) -> bool {
    let (class, subtype) = part.media_type.split_once('/').unwrap_or_default();
    class == "text"
        || class == "application"
            && (matches!(subtype, "json" | "xml" | "yaml" | "x-yaml" | "x-ndjson" | "ndjson")
                || subtype.ends_with("+json")
                || subtype.ends_with("+xml"))
}

/// Whether a part is a mail that was attached as any other file.
pub(super) fn is_letter(part: &Part<'_>) -> bool {
    part.kind == Kind::Leaf && is_letter_name(&part.file_name())
}

/// Whether a file is called as mails are.
pub(super) fn is_letter_name(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".eml")
}

/// Whether the type of a part says nothing of what is in it.
pub(super) fn is_unknown(part: &Part<'_>) -> bool {
    matches!(
        part.media_type.as_str(),
        "application/octet-stream" | "application/x-download" | "binary/octet-stream" | "application/unknown"
    )
}

/// Whether a part is text of the message and not a file: text/plain or text/html without the marks of an
/// attachment. The message itself and the versions of an alternative are text, with and without a file name.
pub(super) fn is_text(parts: &[Part<'_>], at: usize) -> bool {
    let part = &parts[at];
    let whole = at == part.parent || parts[part.parent].kind == Kind::Message;
    // A multipart that never begins, and text of an unknown type, such as text/markdown.
    if part.kind == Kind::Leaf && (part.media_type.starts_with("multipart/") || whole) {
        return part.media_type.starts_with("multipart/") || part.media_type.starts_with("text/");
    }
    matches!(part.media_type.as_str(), "text/plain" | "text/html")
        && !part.is_attachment()
        && (part.file_name().is_empty() || parts[part.parent].media_type == "multipart/alternative")
}

/// Whether a part belongs to a message that is an attachment of this one.
pub(super) fn is_inside_message(parts: &[Part<'_>], mut at: usize) -> bool {
    while parts[at].parent != at {
        at = parts[at].parent;
        if parts[at].kind == Kind::Message {
            return true;
        }
    }
    false
}

pub(super) fn is_smime(part: &Part<'_>) -> bool {
    matches!(part.media_type.as_str(), "application/pkcs7-mime" | "application/x-pkcs7-mime")
}

/// Whether a part is encrypted content: RFC 1847 section 2.2, RFC 3156, RFC 8551 section 3.2.2.
pub(super) fn is_encrypted(part: &Part<'_>) -> bool {
    let signed = || {
        let kind = part.parameter("smime-type").unwrap_or_default();
        kind.eq_ignore_ascii_case("signed-data") || kind.eq_ignore_ascii_case("certs-only")
    };
    matches!(part.media_type.as_str(), "multipart/encrypted" | "application/pgp-encrypted")
        || is_smime(part) && !signed()
}

/// The Subject that a part protects (RFC 9788, and `protected-headers` before it).
pub(super) fn protected_subject(part: &Part<'_>) -> Option<String> {
    part.parameter("hp").or(part.parameter("protected-headers"))?;
    part.field("subject").map(|field| field.text())
}
