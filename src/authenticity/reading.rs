//! Whether what a signature leaves out of the header can change how the body reads.
//!
//! A signature covers the bytes of the body. What they say is for Content-Type, Content-Transfer-Encoding and
//! Content-Disposition to tell: another boundary makes another part the text, another encoding other words. Google
//! signs none of the three, Microsoft 365 only the first, so their mails are not to be taken for unsigned. Instead the
//! body is read once more, as it tells itself: a body that begins and ends with the delimiter lines of one boundary is a
//! multipart, one that is base64 or quoted-printable from end to end is that, and one that begins with a tag is HTML.
//! Only where both readings say the same, up to the letters beyond ASCII, the unsigned fields have changed nothing.
//!
//! It is strict where a sender of plain text could be made to quote such a form: a multipart has nothing before its first
//! delimiter, and quoted-printable escapes only what an encoder must.

use crate::mail::Message;

/// The fields that tell how the body reads.
pub(super) const FIELDS: [&str; 3] = ["content-type", "content-transfer-encoding", "content-disposition"];

/// Shortest body that is taken for base64, in characters: a word can look like it.
const BASE64_LEAST: usize = 16;

/// Longest line of base64 and quoted-printable (RFC 2045 section 6.7 and 6.8 allow 76), with some grace.
const LINE_LIMIT: usize = 78;

/// Least column at which an encoder breaks a line of quoted-printable.
const SOFT_BREAK_LEAST: usize = 50;

/// What programs write above the first delimiter for those who do not know MIME.
const PREAMBLES: [&str; 3] = [
    "This is a multi-part message in MIME format",
    "This is a multipart message in MIME format",
    "This is a cryptographically signed message in MIME format",
];

/// Whether a mail with this header and body reads the same whatever its unsigned fields say. `signed` tells of each of
/// [`FIELDS`] whether a signature covers it.
pub(super) fn is_certain(head: &[u8], body: &[u8], signed: [bool; 3]) -> bool {
    if signed == [true; 3] {
        return true;
    }
    let actual = Message::parse(&[head, b"\r\n", body].concat());
    let own = own_header(head, body, signed);
    let told = Message::parse(&[&own, &b"\r\n"[..], body].concat());
    ascii(&actual.text) == ascii(&told.text)
        && actual.subject == told.subject
        && actual.encrypted == told.encrypted
        && actual.attachments == told.attachments
}

/// The header with the unsigned ones of [`FIELDS`] as the body tells them.
fn own_header(head: &[u8], body: &[u8], signed: [bool; 3]) -> Vec<u8> {
    let mut own = Vec::with_capacity(head.len() + 100);
    let [mut media, mut transfer] = [None, None];
    for field in super::fields::fields(head) {
        let name = name(field);
        let at = FIELDS.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        if at.is_some_and(|at| !signed[at]) {
            continue;
        }
        match at {
            Some(0) => media = Some(value(field)),
            Some(1) => transfer = Some(value(field)),
            _ => {}
        }
        own.extend_from_slice(field);
    }
    // A field that is signed and not there is none.
    let boundary = if signed[0] { None } else { boundary(body) };
    let is_multipart = match (signed[0], media) {
        (true, media) => media.is_some_and(|media| media.starts_with("multipart/")),
        (false, _) => boundary.is_some(),
    };
    if !signed[1] && !is_multipart {
        let form = if is_base64(body) {
            "base64"
        } else if is_quoted_printable(body) {
            "quoted-printable"
        } else {
            "8bit"
        };
        own.extend_from_slice(format!("Content-Transfer-Encoding: {form}\r\n").as_bytes());
        transfer = Some(form.to_owned());
    }
    if !signed[0] {
        let media = match boundary {
            Some(boundary) => {
                let kind = if is_alternative(&part_types(body, boundary)) { "alternative" } else { "mixed" };
                [format!("multipart/{kind}; boundary=\"").as_bytes(), boundary, b"\""].concat()
            }
            None if is_html(body, transfer.as_deref() == Some("base64")) => b"text/html".to_vec(),
            None => b"text/plain".to_vec(),
        };
        own.extend_from_slice(&[b"Content-Type: ", &media[..], b"\r\n"].concat());
    }
    own
}

/// The name of a field.
pub(super) fn name(field: &[u8]) -> &[u8] {
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    field[..colon].trim_ascii_end()
}

/// The value of a field in lower case.
fn value(field: &[u8]) -> String {
    let colon = memchr::memchr(b':', field).map_or(field.len(), |at| at + 1);
    String::from_utf8_lossy(field[colon..].trim_ascii()).to_lowercase()
}

/// The text with each run of characters beyond ASCII as one mark: the charset cannot change the rest.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else if !out.ends_with('\u{fffd}') {
            out.push('\u{fffd}');
        }
    }
    out
}

fn lines(body: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end)
}

/// The boundary of a body that is a multipart from its first line to its last.
fn boundary(body: &[u8]) -> Option<&[u8]> {
    let is_preamble = |line: &[u8]| {
        line.is_empty() || PREAMBLES.iter().any(|preamble| line.starts_with(preamble.as_bytes()))
    };
    let mut rest = lines(body).skip_while(|line| is_preamble(line));
    let boundary = rest.next()?.strip_prefix(b"--").filter(|boundary| {
        !boundary.is_empty()
            && !boundary.iter().any(|byte| byte.is_ascii_control() || matches!(byte, b'"' | b'\\'))
    })?;
    let begins = rest.next()?.get(..8)?.eq_ignore_ascii_case(b"content-");
    let last = lines(body).rev().find(|line| !line.is_empty())?;
    let ends = last.strip_prefix(b"--")?.strip_prefix(boundary)? == b"--";
    (begins && ends).then_some(boundary)
}

/// The media types of the parts, in lower case.
fn part_types(body: &[u8], boundary: &[u8]) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    let mut in_header = false;
    for line in lines(body) {
        if line.strip_prefix(b"--") == Some(boundary) {
            types.push("text/plain".to_owned());
            in_header = true;
        } else if line.is_empty() {
            in_header = false;
        } else if in_header && name(line).eq_ignore_ascii_case(b"content-type") {
            let value = value(line);
            let media = value.split(';').next().unwrap_or_default().trim().to_owned();
            types.last_mut().into_iter().for_each(|last| last.clone_from(&media));
        }
    }
    types
}

/// Whether parts of these types are the versions of one text.
fn is_alternative(types: &[String]) -> bool {
    const RICHER: [&str; 6] = [
        "text/html",
        "text/calendar",
        "text/x-amp-html",
        "text/watch-html",
        "text/enriched",
        "multipart/related",
    ];
    types.len() > 1
        && types[0] == "text/plain"
        && types[1..].iter().all(|media| RICHER.contains(&media.as_str()))
}

fn is_base64(body: &[u8]) -> bool {
    let full: Vec<&[u8]> = lines(body).filter(|line| !line.is_empty()).collect();
    let Some((last, others)) = full.split_last() else { return false };
    let length: usize = full.iter().map(|line| line.len()).sum();
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let padded = last.iter().rev().take_while(|byte| **byte == b'=').count();
    length >= BASE64_LEAST
        && length.is_multiple_of(4)
        && padded <= 2
        && last[..last.len() - padded].iter().all(is_digit)
        && others.iter().all(|line| line.len() == others[0].len() && line.iter().all(is_digit))
        && (others.is_empty() || others[0].len() <= LINE_LIMIT && last.len() <= others[0].len())
}

/// Whether the body is quoted-printable as an encoder writes it, and says something else than it would in clear.
fn is_quoted_printable(body: &[u8]) -> bool {
    let mut encoded = false;
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LINE_LIMIT || !line.is_ascii() {
            return false;
        }
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'=', &line[at..]) {
            encoded = true;
            let escape = at + found;
            let digits = &line[escape + 1..];
            if digits.trim_ascii_end().is_empty() {
                if escape < SOFT_BREAK_LEAST {
                    return false;
                }
                break;
            }
            let code = digits.get(..2).and_then(|digits| str::from_utf8(digits).ok()).filter(|digits| {
                digits.bytes().all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit))
            });
            let Some(code) = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                return false;
            };
            at = escape + 3;
            let at_end = line[at..].trim_ascii_end().is_empty() || line[at..] == *b"=";
            let needed = match code {
                0x80.. | b'=' | b'\r' | b'\n' => true,
                b' ' | b'\t' => at_end,
                b'.' | b'F' => escape == 0,
                _ => b"!\"#$@[\\]^`{|}~".contains(&code),
            };
            if !needed {
                return false;
            }
        }
    }
    encoded
}

/// Whether the body begins with a tag and ends one.
fn is_html(body: &[u8], base64: bool) -> bool {
    let decoded;
    let text = if base64 {
        decoded = mail_parser::decoders::base64::base64_decode(body).unwrap_or_default();
        &decoded
    } else {
        body
    };
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    let begins = text
        .strip_prefix(b"<")
        .and_then(<[u8]>::first)
        .is_some_and(|c| c.is_ascii_alphabetic() || *c == b'!');
    begins && (memchr::memmem::find(text, b"</").is_some() || memchr::memmem::find(text, b"<br").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a mail with these MIME fields and body reads as its body tells.
    fn certain(fields: &str, body: &str) -> bool {
        let head = format!("From: a@example.org\r\nSubject: s\r\n{}", fields.replace('\n', "\r\n"));
        is_certain(head.as_bytes(), body.replace('\n', "\r\n").as_bytes(), [false; 3])
    }

    const PARTS: &str = "--b1\nContent-Type: text/plain; charset=utf-8\n\nPROBLEM\n--x\n\nRECOVERY\n--x--\n\
                         --b1\nContent-Type: text/html\n\n<p>PROBLEM</p>\n--b1--\n";

    #[test]
    fn a_mail_that_says_itself_how_it_reads_is_certain() {
        for (fields, body) in [
            ("", "It is well.\n"),
            (
                "Content-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 7bit\n",
                "a=b, and x=10\n",
            ),
            ("Content-Type: text/plain; charset=\"iso-8859-1\"\n", "K\u{f6}ln is well\n"),
            (
                "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n",
                "SXQgaXMgd2VsbC4gSXQgaXMgd2VsbC4K\n",
            ),
            (
                "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n",
                "K=C3=B6ln is well, a=3Db=20\n.\n",
            ),
            ("Content-Type: text/html\n", "<html><body><p>It is well.</p></body></html>\n"),
            (
                "Content-Type: text/html\nContent-Transfer-Encoding: base64\n",
                "PGh0bWw+PGI+SXQgaXMgd2VsbC48L2I+PC9odG1sPg==\n",
            ),
            ("Content-Type: multipart/alternative; boundary=b1\n", PARTS),
            (
                "Content-Type: multipart/alternative; boundary=b1\nContent-Transfer-Encoding: 7bit\n",
                &format!("This is a multi-part message in MIME format.\n{PARTS}\n"),
            ),
            (
                "Content-Type: multipart/mixed; boundary=b1\n",
                "--b1\nContent-Type: text/plain\n\nx\n--b1\nContent-Type: image/png; name=a.png\n\nx\n--b1--\n",
            ),
        ] {
            assert!(certain(fields, body), "{fields}{body}");
        }
    }

    #[test]
    fn a_field_that_makes_the_body_say_something_else_is_found() {
        for (fields, body, why) in [
            ("Content-Type: multipart/mixed; boundary=x\n", PARTS, "another boundary"),
            ("Content-Type: text/plain\n", PARTS, "no multipart any more"),
            ("Content-Type: multipart/mixed; boundary=b1\n", PARTS, "both versions"),
            (
                "Content-Type: multipart/mixed; boundary=x\n",
                "PROBLEM\n--x\n\nRECOVERY\n--x--\n",
                "parts inside of a text",
            ),
            ("Content-Transfer-Encoding: quoted-printable\n", "said: =52ESOLVED\n", "needless escapes"),
            (
                "Content-Transfer-Encoding: quoted-printable\n",
                "said: RESOL=\nVED\n",
                "a break in a short line",
            ),
            ("Content-Transfer-Encoding: base64\n", "PROBLEM\nUmVzb2x2ZWQ=\n", "base64 in a text"),
            ("", "SXQgaXMgd2VsbC4gSXQgaXMgd2VsbC4K\n", "base64 that is not told"),
            ("", "K=C3=B6ln is well\n", "quoted-printable that is not told"),
            ("Content-Type: text/html\n", "PROBLEM <!-- not at all --> RECOVERY\n", "text as HTML"),
            (
                "Content-Type: text/plain; charset=utf-7\n",
                "said: +AFIARQBTAE8ATABWAEUARA-\n",
                "another charset",
            ),
            ("Content-Type: text/plain; charset=utf-16le\n", "PROBLEM at db1\n", "a wide charset"),
            ("Content-Type: application/pdf\n", "PROBLEM\n", "a file"),
            ("Content-Type: message/rfc822\n", "Subject: x\n\nRECOVERY\n", "a mail inside"),
        ] {
            assert!(!certain(fields, body), "{why}");
        }
    }

    #[test]
    fn what_is_signed_is_believed() {
        let certain = |fields: &str, body: &str, signed| {
            let head = format!("Subject: s\r\n{fields}\r\n");
            is_certain(head.as_bytes(), body.as_bytes(), signed)
        };
        let body = "a\r\n--x\r\n\r\nb\r\n--x--\r\n";
        assert!(certain("Content-Type: multipart/mixed; boundary=x", body, [true, false, false]));
        assert!(!certain("Content-Type: multipart/mixed; boundary=x", body, [false, true, true]));
        assert!(certain("Content-Transfer-Encoding: quoted-printable", "=52\r\n", [false, true, false]));
        assert!(!certain("Content-Transfer-Encoding: quoted-printable", "=52\r\n", [true, false, true]));
    }
}
