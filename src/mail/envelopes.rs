//! The text inside what a mail program puts around a whole mail: an opaque S/MIME signature, Outlook's `winmail.dat`.

use super::banners::Banners;
use super::cms;
use super::leaf::{self, Leaf};
use super::message::TextSource;
use super::mime::{self, Kind, Part};
use super::rtf;
use super::tnef;
use super::transcript;

/// Deepest nesting of signatures that is entered: one is usual, two happen.
const DEPTH_LIMIT: usize = 3;

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

/// The text in `part`, if it is an envelope, and how it is told that it was opened. It lies in `depth` others.
pub(super) fn read(part: &Part<'_>, banners: &Banners, depth: usize) -> Option<(Leaf, &'static str)> {
    if part.kind != Kind::Leaf || depth >= DEPTH_LIMIT {
        return None;
    }
    if may_be_signed(part) {
        let (bytes, _) = part.transfer.decode(part.body, SIZE_LIMIT);
        let content = cms::signed_content(&bytes)?;
        let parts = mime::parts(&content).list;
        let said = transcript::within(&parts, banners, depth + 1);
        let leaf = Leaf {
            html: said.source == TextSource::Html,
            text: said.text,
            defects: said.defects,
            undone: said.undone,
        };
        return Some((leaf, "an S/MIME signature around the mail, which was not checked"));
    }
    let outlook = matches!(part.media_type.as_str(), "application/ms-tnef" | "application/vnd.ms-tnef")
        || part.media_type == "application/octet-stream" && has_extension(part, "winmail.dat");
    if !outlook {
        return None;
    }
    let (bytes, _) = part.transfer.decode(part.body, SIZE_LIMIT);
    let body = tnef::body(&bytes)?;
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(transcript::TEXT_LIMIT)].to_vec();
    let text = |bytes: &[u8]| {
        let bytes = cut(bytes);
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[..end].to_vec()
    };
    let leaf = if let Some(wide) = body.wide {
        leaf::of_bytes(&cut(wide), "text/plain", Some("utf-16le"), None, Leaf::default())
    } else if let Some(plain) = body.plain.filter(|plain| plain.len() > 1) {
        leaf::of_bytes(&text(plain), "text/plain", None, None, Leaf::default())
    } else if let Some(html) = body.html {
        leaf::of_bytes(&text(html), "text/html", None, None, Leaf::default())
    } else {
        let rtf = rtf::unpacked(body.rtf?, transcript::TEXT_LIMIT)?;
        let (said, charset) = rtf::text(&rtf)?;
        leaf::of_bytes(&cut(&said), "text/plain", Some(&charset), None, Leaf::default())
    };
    Some((leaf, "Outlook's winmail.dat around the text"))
}
