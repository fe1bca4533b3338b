//! The text of one part, from its bytes to plain lines. Its declared type is not believed alone.

use std::borrow::Cow;

use serde::Serialize;

use super::charset::{self, Misfit};
use super::flowed;
use super::html;
use super::mime::Part;
use super::text;
use super::transfer::Transfer;

/// Bytes of text that are decoded and rendered, over all parts. Rules and readers need the start; the mail
/// is kept whole.
pub(super) const TEXT_LIMIT: usize = 1024 * 1024;

/// Where the text of a message was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextSource {
    /// A text/plain part, or no MIME at all.
    Plain,
    /// A text/html part, rendered.
    Html,
    /// There was none: empty, encrypted, or attachments only.
    #[default]
    None,
}

/// Bytes at the start of a text in which it shows that it is HTML.
const HEAD: usize = 16 * 1024;

/// Bytes at the start of a file of an unknown type in which it shows that it is text.
const SAMPLE: usize = 4 * 1024;

/// What a part says.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// Tidy lines.
    pub(super) text: String,
    /// Whether it was HTML.
    pub(super) html: bool,
    /// What its sender got wrong.
    pub(super) defects: Vec<String>,
    /// What was undone to read it.
    pub(super) undone: Vec<String>,
}

/// Reads the text of `part`; of its bytes at most `budget`, which is lowered by those that were read.
pub(super) fn read(part: &Part<'_>, budget: &mut usize) -> Leaf {
    let mut leaf = Leaf::default();
    let (bytes, broken) = part.transfer.decode(part.body, *budget);
    if broken {
        let name = if part.transfer == Transfer::Base64 { "base64" } else { "quoted-printable" };
        leaf.defects.push(format!("broken {name}: what could not be decoded was left as it is"));
    }
    if part.body.len() > bytes.len() && bytes.len() >= *budget {
        leaf.defects.push(format!("the text is longer than {} bytes: the rest was not read", TEXT_LIMIT));
    }
    *budget = budget.saturating_sub(bytes.len());
    let flowed = part.parameter("format").is_some_and(|format| format.eq_ignore_ascii_case("flowed"));
    let delsp = part.parameter("delsp").is_some_and(|delsp| delsp.eq_ignore_ascii_case("yes"));
    of_bytes(&bytes, &part.media_type, part.charset(), flowed.then_some(delsp), leaf)
}

/// Reads the text of bytes of this media type and charset; `flowed` is that its lines were broken, and whether with a
/// space.
pub(super) fn of_bytes(
    bytes: &[u8],
    media_type: &str,
    charset: Option<&str>,
    flowed: Option<bool>,
    mut leaf: Leaf,
) -> Leaf {
    let called_html = media_type == "text/html";
    let named = charset.map(Cow::Borrowed);
    let charset = named.or_else(|| if called_html { meta_charset(bytes).map(Cow::Owned) } else { None });
    let (decoded, misfit) = charset::decode(bytes, charset.as_deref());
    if let Some(misfit) = misfit {
        leaf.defects.push(match (misfit, charset) {
            (Misfit::Unknown, Some(name)) => format!("unknown charset {name:.40?}: guessed"),
            (Misfit::Invalid, Some(name)) => format!("the text is not in {name:.40?} throughout"),
            (Misfit::Utf8, Some(name)) => format!("the text is UTF-8 and not {name:.40?}"),
            (Misfit::Iso2022Jp, _) => "the text is ISO-2022-JP and does not say so".to_owned(),
            _ => "8-bit text without a charset: guessed".to_owned(),
        });
    }
    let enriched = matches!(media_type, "text/enriched" | "text/richtext");
    leaf.html = called_html || enriched || is_html(&decoded);
    if leaf.html {
        if enriched {
            leaf.undone.push(format!("{media_type}: its marks"));
        } else if !called_html {
            leaf.undone.push("HTML that was sent as plain text".to_owned());
        }
        let decoded = if enriched { Cow::Owned(of_enriched(&decoded)) } else { decoded };
        let (rendered, links) = html::render(&decoded);
        // What was escaped before it became HTML still is.
        leaf.text = text::tidy(&text::decode_entities(&rendered));
        if links {
            leaf.undone.push(super::links::UNDONE.to_owned());
        }
        return leaf;
    }
    let joined = flowed.and_then(|delsp| flowed::joined(&decoded, delsp));
    if joined.is_some() {
        leaf.undone.push("line breaks inside of lines (format=flowed)".to_owned());
    }
    let decoded = joined.map_or(decoded, Cow::Owned);
    leaf.text = text::tidy(&text::decode_entities(&decoded));
    leaf
}

/// Whether a text that is not called so is HTML: it begins with a tag of a page or of its layout and closes one, or
/// breaks its lines by tags.
fn is_html(text: &str) -> bool {
    const BEGINS: [&str; 25] = [
        "!doctype html",
        "html",
        "head",
        "body",
        "meta",
        "style",
        "title",
        "table",
        "div",
        "p",
        "span",
        "font",
        "center",
        "h1",
        "h2",
        "h3",
        "b",
        "strong",
        "br",
        "ul",
        "ol",
        "pre",
        "img",
        "a",
        "hr",
    ];
    const CLOSES: [&str; 13] =
        ["html", "body", "table", "div", "p", "span", "font", "center", "b", "strong", "ul", "ol", "pre"];
    if !text.contains('<') {
        return false;
    }
    let head = text[..text.floor_char_boundary(HEAD)].to_ascii_lowercase();
    let head = head.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    let named = |rest: &str, name: &str| {
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['>', ' ', '/', '\r', '\n', '\t']))
    };
    let begins = head.strip_prefix('<').is_some_and(|rest| BEGINS.iter().any(|name| named(rest, name)));
    let page = || head.contains("<html") && (head.contains("<body") || head.contains("</html>"));
    let closes = || {
        head.match_indices("</").any(|(at, _)| {
            let rest = &head[at + 2..];
            CLOSES.iter().any(|name| named(rest, name)) || rest.starts_with(['h', 't'])
        })
    };
    let breaks =
        || head.match_indices("<br").filter(|(at, _)| named(&head[at + 1..], "br")).take(2).count() == 2;
    begins && (closes() || breaks()) || page() && closes() || breaks() && !head.contains("<script")
}

/// text/enriched (RFC 1896) as HTML: a single line end is a space, two are one, and `<<` is `<`.
fn of_enriched(text: &str) -> String {
    text.replace("\r\n", "\n").replace("<<", "&lt;").replace("\n\n", "<br>")
}

/// Whether the bytes of a file of no known type are text.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let control =
        |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b) || *byte == 0x7f;
    if sample.is_empty() || sample.iter().any(control) {
        return false;
    }
    let whole = match std::str::from_utf8(sample) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && bytes.len() > SAMPLE,
    };
    whole || sample.iter().filter(|byte| !byte.is_ascii()).count() * 3 < sample.len()
}

/// The charset that an HTML page names for itself in its first KiB.
fn meta_charset(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let (_, rest) = head.split_once("charset=")?;
    let rest = rest.trim_start_matches(['"', '\'']);
    let name: String =
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_:.".contains(*c)).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], media_type: &str) -> Leaf {
        of_bytes(bytes, media_type, None, None, Leaf::default())
    }

    #[test]
    fn html_that_is_called_plain_is_rendered() {
        for page in [
            "<html><body><h1>Scan</h1><table><tr><td>host</td><td>db7</td></tr></table></body></html>",
            "\r\n<!DOCTYPE html>\n<HTML><p>Scan<br>host  db7</HTML>",
            "<p>Scan</p>host db7<br>",
            "Scan<br>host <b>db7</b><br/>",
        ] {
            let leaf = read(page.as_bytes(), "text/plain");
            assert!(leaf.html && !leaf.text.contains('<'), "{page}: {}", leaf.text);
            assert_eq!(leaf.undone, ["HTML that was sent as plain text"]);
        }
    }

    #[test]
    fn text_that_only_speaks_of_markup_stays() {
        for text in [
            "Cron <root@web01> test -x /usr/sbin/anacron",
            "GET /?q=<script>alert(1)</script> HTTP/1.1",
            "<134>Nov 30 10:00:00 fw01 denied",
            "a <b and c> d",
            "<event><id>7</id></event>",
            "Blocked: <b>x</b> in field name",
        ] {
            let leaf = read(text.as_bytes(), "text/plain");
            assert_eq!((leaf.text.as_str(), leaf.html), (text, false));
        }
    }

    #[test]
    fn enriched_text_loses_its_marks() {
        assert_eq!(
            read(b"<bold>Pump 3</bold>\ntripped\n\n<<5 bar", "text/enriched").text,
            "Pump 3 tripped\n<5 bar"
        );
    }

    #[test]
    fn bytes_are_told_from_text() {
        for text in
            [&b"On battery power\r\n"[..], "Störung".as_bytes(), b"St\xf6rung in Halle 4", b"\x1b[31mred"]
        {
            assert!(is_text(text), "{text:?}");
        }
        for other in [&b""[..], b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"a\0b", &[0xff, 0xd8, 0xff, 0xe0]] {
            assert!(!is_text(other), "{other:?}");
        }
        assert!(is_text("ü".repeat(SAMPLE).as_bytes()), "the sample may end inside a character");
    }
}
