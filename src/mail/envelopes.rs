//! The text inside what a mail program puts around a whole mail: an opaque S/MIME signature, Outlook's `winmail.dat`.

use super::cms;
use super::leaf::{self, Leaf, TEXT_LIMIT};
use super::mime::{Kind, Part};
use super::rtf;
use super::tnef;

/// Largest envelope that is opened, in bytes once it is decoded.
const SIZE_LIMIT: usize = 25 * 1024 * 1024;

/// Whether a part is an opaque signature, which hides nothing.
pub(super) fn is_signed(part: &Part<'_>) -> bool {
    may_be_signed(part) && cms::is_signed(&part.transfer.decode(part.body, 256).0)
}

fn may_be_signed(part: &Part<'_>) -> bool {
    part.kind == Kind::Leaf
        && (matches!(part.media_type.as_str(), "application/pkcs7-mime" | "application/x-pkcs7-mime")
            || part.media_type == "application/octet-stream" && has_extension(part, ".p7m"))
}

fn has_extension(part: &Part<'_>, extension: &str) -> bool {
    part.file_name().to_ascii_lowercase().ends_with(extension)
}

/// The mail inside `part`, if that is an opaque signature.
pub(super) fn signed(part: &Part<'_>) -> Option<Vec<u8>> {
    let (bytes, _) = may_be_signed(part).then(|| part.transfer.decode(part.body, SIZE_LIMIT))?;
    cms::signed_content(&bytes)
}

/// The text inside `part`, if that is Outlook's `winmail.dat`.
pub(super) fn outlook(part: &Part<'_>) -> Option<Leaf> {
    let outlook = matches!(part.media_type.as_str(), "application/ms-tnef" | "application/vnd.ms-tnef")
        || part.media_type == "application/octet-stream" && has_extension(part, "winmail.dat");
    if part.kind != Kind::Leaf || !outlook {
        return None;
    }
    let (bytes, _) = part.transfer.decode(part.body, SIZE_LIMIT);
    let body = tnef::body(&bytes)?;
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(TEXT_LIMIT)].to_vec();
    let text = |bytes: &[u8]| {
        let bytes = cut(bytes);
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[..end].to_vec()
    };
    Some(if let Some(wide) = body.wide {
        leaf::of_bytes(&cut(wide), "text/plain", Some("utf-16le"), None, Leaf::default())
    } else if let Some(plain) = body.plain.filter(|plain| plain.len() > 1) {
        leaf::of_bytes(&text(plain), "text/plain", None, None, Leaf::default())
    } else if let Some(html) = body.html {
        leaf::of_bytes(&text(html), "text/html", None, None, Leaf::default())
    } else {
        let rtf = rtf::unpacked(body.rtf?, TEXT_LIMIT)?;
        let (said, charset) = rtf::text(&rtf)?;
        leaf::of_bytes(&cut(&said), "text/plain", Some(&charset), None, Leaf::default())
    })
}
