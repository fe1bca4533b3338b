//! From the bytes of a part to those that its sender encoded: transfer encodings (RFC 2045 section 6). Nothing here
//! fails: what cannot be decoded is kept as well as it can be, and the caller is told.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;

/// A content transfer encoding that changes bytes; 7bit, 8bit and binary do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Transfer {
    #[default]
    Identity,
    Base64,
    QuotedPrintable,
}

impl Transfer {
    /// The encoding of this name; none if it is unknown.
    pub(super) fn named(name: &str) -> Option<Self> {
        // Trailing comments and parameters are not allowed and yet seen.
        let name = name.split([';', '(']).next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "7bit" | "8bit" | "binary" | "7-bit" | "8-bit" => Some(Self::Identity),
            "base64" => Some(Self::Base64),
            "quoted-printable" => Some(Self::QuotedPrintable),
            _ => None,
        }
    }

    /// Decodes what is needed for `limit` bytes, and says whether something was wrong with it.
    pub(super) fn decode(self, body: &[u8], limit: usize) -> (Cow<'_, [u8]>, bool) {
        match self {
            Self::Identity => (Cow::Borrowed(&body[..body.len().min(limit)]), false),
            Self::Base64 => decode_base64(body, limit),
            Self::QuotedPrintable => {
                let (bytes, broken) = decode_quoted_printable(body, limit);
                (Cow::Owned(bytes), broken)
            }
        }
    }

    /// The size after decoding, counted without decoding.
    pub(super) fn decoded_size(self, body: &[u8]) -> usize {
        match self {
            Self::Identity => body.len(),
            Self::Base64 => body.iter().filter(is_base64).count() * 3 / 4,
            Self::QuotedPrintable => decode_quoted_printable(body, usize::MAX).0.len(),
        }
    }
}

fn is_base64(byte: &&u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Decodes base64 up to the first line that is something else: relays append their disclaimers in clear.
fn decode_base64(body: &[u8], limit: usize) -> (Cow<'_, [u8]>, bool) {
    // Four characters make three bytes; lines of 76 end in two more.
    let body = &body[..body.len().min(limit.saturating_add(limit / 2).saturating_add(4))];
    if let Some(bytes) = base64_decode(body) {
        return (Cow::Owned(bytes), false);
    }
    let good: usize = body
        .split_inclusive(|&byte| byte == b'\n')
        .take_while(|line| {
            line.iter().all(|b| is_base64(&b) || matches!(b, b'=' | b'\r' | b'\n' | b' ' | b'\t'))
        })
        .map(<[u8]>::len)
        .sum();
    let (encoded, clear) = body.split_at(good);
    match base64_decode(encoded) {
        Some(mut bytes) if !bytes.is_empty() => {
            bytes.push(b'\n');
            bytes.extend_from_slice(clear);
            (Cow::Owned(bytes), true)
        }
        _ => (Cow::Borrowed(body), true),
    }
}

/// Decodes quoted-printable; an equals sign that begins nothing known stays as it is.
fn decode_quoted_printable(body: &[u8], limit: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(body.len().min(limit));
    let mut broken = false;
    let mut rest = body;
    while let Some(at) = rest.iter().position(|&byte| byte == b'=') {
        out.extend_from_slice(&rest[..at]);
        if out.len() >= limit {
            break;
        }
        rest = &rest[at + 1..];
        if let Some(byte) = hex_pair(rest) {
            out.push(byte);
            rest = &rest[2..];
        } else {
            // A soft line break, before which relays may have left white space.
            let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
            match rest.get(blank) {
                Some(b'\n') => rest = &rest[blank + 1..],
                None => rest = &[],
                Some(_) => {
                    out.push(b'=');
                    broken = true;
                }
            }
        }
    }
    out.extend_from_slice(rest);
    out.truncate(limit);
    (out, broken)
}

/// The byte that two hexadecimal digits at the start of `bytes` stand for, in either case.
pub(super) fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(transfer: Transfer, body: &str) -> (String, bool) {
        let (bytes, broken) = transfer.decode(body.as_bytes(), 1000);
        (String::from_utf8_lossy(&bytes).into_owned(), broken)
    }

    #[test]
    fn base64_is_decoded_up_to_what_a_relay_appended() {
        assert_eq!(decoded(Transfer::Base64, "aGVs\r\nbG8=\r\n"), ("hello".into(), false));
        assert_eq!(
            decoded(Transfer::Base64, "aGVsbG8=\r\n-- \r\nSent by X!"),
            ("hello\n-- \r\nSent by X!".into(), true)
        );
        assert_eq!(decoded(Transfer::Base64, "Server is down!"), ("Server is down!".into(), true));
    }

    #[test]
    fn quoted_printable_keeps_what_it_cannot_decode() {
        assert_eq!(
            decoded(Transfer::QuotedPrintable, "a =3d b=\r\nc= \t\nd=C3=BC="),
            ("a = bcdü".into(), false)
        );
        assert_eq!(decoded(Transfer::QuotedPrintable, "a=b&c=zz =4"), ("a=b&c=zz =4".into(), true));
    }

    #[test]
    fn decoding_stops_at_the_limit() {
        assert_eq!(Transfer::QuotedPrintable.decode(b"ab=3Dcdef", 4).0.as_ref(), b"ab=c");
        assert_eq!(Transfer::Identity.decode(b"abcdef", 4).0.as_ref(), b"abcd");
        let long = "QUJD".repeat(100);
        assert!(Transfer::Base64.decode(long.as_bytes(), 100).0.len() <= 115);
    }

    #[test]
    fn sizes_are_those_of_the_decoded_bytes() {
        assert_eq!(Transfer::Base64.decoded_size(b"aGVs\r\nbG8=\r\n"), 5);
        assert_eq!(Transfer::QuotedPrintable.decoded_size(b"a=3D=\r\nb"), 3);
    }
}
