//! Which type a file is. Only types that SIGNL4 takes have a name here
//! (<https://docs.signl4.com/integrations/webhook/webhook.html>, attachments).
//!
//! What a part says of itself is not believed alone: its first bytes must be those of the same kind of file,
//! and a text must be text from end to end. Nothing is unpacked.

use std::borrow::Cow;

use strum::{EnumString, IntoStaticStr, VariantArray};

use super::charset::{self, Misfit};
use super::mime::Part;
use super::transfer::Transfer;

/// The kinds of files that SIGNL4 takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum FileKind {
    /// PNG, JPEG, GIF, BMP, TIFF.
    Image,
    /// PDF.
    Pdf,
    /// Plain text.
    Text,
    /// MP3, WAV, AIFF, M4A.
    Audio,
    /// MP4, QuickTime.
    Video,
}

/// A type of file that SIGNL4 takes.
#[derive(Debug, PartialEq, Eq)]
pub struct FileType {
    /// Its kind.
    pub kind: FileKind,
    /// Its media type.
    pub media_type: &'static str,
    /// The extensions that such files have, the usual one first.
    pub extensions: &'static [&'static str],
}

const PNG: FileType = FileType { kind: FileKind::Image, media_type: "image/png", extensions: &["png"] };
const JPEG: FileType =
    FileType { kind: FileKind::Image, media_type: "image/jpeg", extensions: &["jpg", "jpeg"] };
const GIF: FileType = FileType { kind: FileKind::Image, media_type: "image/gif", extensions: &["gif"] };
const BMP: FileType = FileType { kind: FileKind::Image, media_type: "image/bmp", extensions: &["bmp"] };
const TIFF: FileType =
    FileType { kind: FileKind::Image, media_type: "image/tiff", extensions: &["tif", "tiff"] };
const PDF: FileType = FileType { kind: FileKind::Pdf, media_type: "application/pdf", extensions: &["pdf"] };
const TEXT: FileType = FileType { kind: FileKind::Text, media_type: "text/plain", extensions: &["txt"] };
const MP3: FileType = FileType { kind: FileKind::Audio, media_type: "audio/mpeg", extensions: &["mp3"] };
const WAV: FileType = FileType { kind: FileKind::Audio, media_type: "audio/wav", extensions: &["wav"] };
const AIFF: FileType = FileType { kind: FileKind::Audio, media_type: "audio/aiff", extensions: &["aiff"] };
const M4A: FileType = FileType { kind: FileKind::Audio, media_type: "audio/mp4", extensions: &["m4a"] };
const MP4: FileType = FileType { kind: FileKind::Video, media_type: "video/mp4", extensions: &["mp4"] };
const MOV: FileType = FileType { kind: FileKind::Video, media_type: "video/quicktime", extensions: &["mov"] };

/// Every type but text, which has no bytes to begin with.
const TYPES: [&FileType; 12] = [&PNG, &JPEG, &GIF, &BMP, &TIFF, &PDF, &MP3, &WAV, &AIFF, &M4A, &MP4, &MOV];

/// The type with this media type, one of those in [`FileType::media_type`].
pub fn file_type(media_type: &str) -> Option<&'static FileType> {
    TYPES.iter().copied().chain([&TEXT]).find(|of| of.media_type == media_type)
}

/// Largest file that SIGNL4 takes, in bytes: it documents 4 MB, here the smaller of its two readings.
pub const FILE_LIMIT: usize = 4_000_000;

/// Bytes at the start of a file that tell its type.
const HEAD: usize = 16;

/// The type of the file that `part` is, by what it says of itself and by what is in it.
pub(super) fn type_of(part: &Part<'_>) -> Option<&'static FileType> {
    let name = part.file_name();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let declared = declared(&part.media_type, extension.as_deref())?;
    if declared == FileKind::Text {
        return text(part).map(|_| &TEXT);
    }
    let head = match part.transfer {
        // Whole groups of four, as many as the head needs.
        Transfer::Base64 => {
            let symbols: Vec<u8> =
                part.body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(HEAD * 2).collect();
            Transfer::Base64.decode(&symbols, HEAD * 2).0.into_owned()
        }
        transfer => transfer.decode(part.body, HEAD).0.into_owned(),
    };
    sniff(&head).filter(|found| found.kind == declared)
}

/// The kind that a media type says, or the extension where the type says nothing.
fn declared(media_type: &str, extension: Option<&str>) -> Option<FileKind> {
    match media_type {
        "application/octet-stream" | "application/x-download" | "binary/octet-stream" => match extension? {
            "txt" | "log" => Some(FileKind::Text),
            extension => TYPES.iter().find(|t| t.extensions.contains(&extension)).map(|t| t.kind),
        },
        "application/pdf" | "application/x-pdf" => Some(FileKind::Pdf),
        "text/plain" => Some(FileKind::Text),
        other => match other.split_once('/')?.0 {
            "image" => Some(FileKind::Image),
            "audio" => Some(FileKind::Audio),
            "video" => Some(FileKind::Video),
            _ => None,
        },
    }
}

/// The type of the file that begins with `head`.
fn sniff(head: &[u8]) -> Option<&'static FileType> {
    let at = |from: usize, wanted: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(wanted));
    let found = if at(0, b"\x89PNG\r\n\x1a\n") {
        &PNG
    } else if at(0, b"\xff\xd8\xff") {
        &JPEG
    } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
        &GIF
    // Its reserved words are zero.
    } else if at(0, b"BM") && at(6, &[0; 4]) {
        &BMP
    } else if at(0, b"II*\0") || at(0, b"MM\0*") {
        &TIFF
    } else if at(0, b"%PDF-") {
        &PDF
    } else if at(0, b"ID3") || at(0, b"\xff\xfb") || at(0, b"\xff\xf3") || at(0, b"\xff\xf2") {
        &MP3
    } else if at(0, b"RIFF") && at(8, b"WAVE") {
        &WAV
    } else if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
        &AIFF
    } else if at(4, b"ftyp") {
        // ISO/IEC 14496-12 section 4.3: the major brand.
        match head.get(8..12)? {
            b"M4A " | b"M4B " => &M4A,
            b"qt  " => &MOV,
            b"mp41" | b"mp42" | b"avc1" | b"dash" | b"M4V " | b"MSNV" => &MP4,
            brand if brand.starts_with(b"iso") => &MP4,
            _ => return None,
        }
    } else {
        return None;
    };
    Some(found)
}

/// The decoded content; none if it is too large or broken.
pub(super) fn bytes<'a>(part: &Part<'a>) -> Option<Cow<'a, [u8]>> {
    if part.transfer.decoded_size(part.body) > FILE_LIMIT {
        return None;
    }
    let (bytes, broken) = part.transfer.decode(part.body, usize::MAX / 2);
    (!broken && !bytes.is_empty()).then_some(bytes)
}

/// The text; none if it is none: in an unknown charset, or with characters that no text has.
pub(super) fn text(part: &Part<'_>) -> Option<String> {
    let bytes = bytes(part)?;
    let (text, misfit) = charset::decode(&bytes, part.charset());
    let plain = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}');
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    (!matches!(misfit, Some(Misfit::Invalid | Misfit::Unknown)) && text.chars().all(plain))
        .then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_known_by_its_first_bytes() {
        for (head, expected) in [
            (&b"\x89PNG\r\n\x1a\n\0\0"[..], "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"BM\x10\0\0\0\0\0\0\0", "image/bmp"),
            (b"II*\0", "image/tiff"),
            (b"MM\0*", "image/tiff"),
            (b"%PDF-1.7", "application/pdf"),
            (b"ID3\x04", "audio/mpeg"),
            (b"\xff\xfb\x90", "audio/mpeg"),
            (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
            (b"FORM\x10\0\0\0AIFF", "audio/aiff"),
            (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
            (b"\0\0\0\x20ftypisom", "video/mp4"),
            (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        ] {
            assert_eq!(sniff(head).map(|found| found.media_type), Some(expected), "{head:?}");
        }
        for head in [&b"MZ\x90\0"[..], b"PK\x03\x04", b"\x7fELF", b"\0\0\0\x20ftypheic", b"BMW", b""] {
            assert_eq!(sniff(head), None, "{head:?}");
        }
    }
}
