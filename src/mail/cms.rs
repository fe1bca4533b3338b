//! The mail inside an opaque S/MIME signature (RFC 8551 section 3.5.2): the content of a CMS SignedData (RFC 5652),
//! which reading needs no key. The structure is walked by hand, as BER with lengths that are not known before, which
//! OpenSSL writes, is what the kept readers of DER refuse; one pass, and a stack of a fixed depth. The signature is
//! not checked.

/// Deepest nesting that is entered: the content lies six deep, its pieces one more.
const DEPTH_LIMIT: usize = 12;

/// id-signedData, RFC 5652 section 5.1.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// id-data, RFC 5652 section 4.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// Where an element stands in its bytes.
struct Element {
    tag: u8,
    /// Where its content begins.
    from: usize,
    /// Where it ends; none if it ends by a mark.
    to: Option<usize>,
}

/// Reads tag and length at `at`.
fn element(bytes: &[u8], at: usize) -> Option<Element> {
    let tag = *bytes.get(at)?;
    if tag & 0x1f == 0x1f {
        // A tag of several bytes; CMS has none.
        return None;
    }
    let first = *bytes.get(at + 1)?;
    let (from, length) = match first {
        0x80 => (at + 2, None),
        0..0x80 => (at + 2, Some(usize::from(first))),
        _ => {
            let count = usize::from(first & 0x7f);
            let digits = bytes.get(at + 2..at + 2 + count).filter(|digits| digits.len() <= 8)?;
            let length = digits.iter().fold(0_usize, |all, digit| all << 8 | usize::from(*digit));
            (at + 2 + count, Some(length))
        }
    };
    let to = match length {
        // Of content that was cut off the start is better than nothing.
        Some(length) => Some(from.checked_add(length)?.min(bytes.len())),
        None => None,
    };
    Some(Element { tag, from, to })
}

/// Whether bytes begin as signed data does.
pub(super) fn is_signed(head: &[u8]) -> bool {
    head.first() == Some(&0x30)
        && head.windows(SIGNED_DATA.len()).take(32).any(|window| window == SIGNED_DATA)
}

/// The content that was signed; none if `bytes` are no signed data with its content inside.
pub(super) fn signed_content(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let mut at = 0;
    // Where the open elements end.
    let mut open: Vec<Option<usize>> = Vec::new();
    let (mut signed, mut data, mut found) = (false, false, false);
    while at < bytes.len() {
        while open.last().is_some_and(|end| end.is_some_and(|end| at >= end)) {
            open.pop();
        }
        if open.last() == Some(&None) && bytes.get(at..at + 2) == Some(&[0, 0]) {
            open.pop();
            at += 2;
            if found && open.len() < 6 {
                break;
            }
            continue;
        }
        let element = element(bytes, at)?;
        match element.tag {
            0x06 => {
                let id = &bytes[element.from..element.to?];
                if !signed {
                    if id != SIGNED_DATA {
                        return None;
                    }
                    signed = true;
                } else if id == DATA && open.len() == 4 {
                    data = true;
                }
            }
            0x04 if data && open.len() >= 5 => {
                found = true;
                content.extend_from_slice(&bytes[element.from..element.to?]);
            }
            _ if found && open.len() < 5 => break,
            _ => {}
        }
        // What is constructed is entered, but for what stands beside the content.
        let beside = open.len() >= 3 && matches!(element.tag, 0x31 | 0xa1) && element.to.is_some();
        let enters = element.tag & 0x20 != 0 && !beside;
        if enters {
            if open.len() >= DEPTH_LIMIT {
                return None;
            }
            open.push(element.to);
            at = element.from;
        } else {
            at = element.to?;
        }
    }
    found.then_some(content)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        if content.len() < 0x80 {
            out.push(u8::try_from(content.len()).unwrap());
        } else {
            out.push(0x82);
            out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
        out.extend(content);
        out
    }

    fn endless(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x80][..], content, &[0, 0]].concat()
    }

    /// Signed data in DER, with what stands around the content.
    pub(crate) fn signed(content: &[u8]) -> Vec<u8> {
        let algorithms = tlv(0x31, &tlv(0x30, &tlv(0x06, &[0x60, 0x86])));
        let inner = tlv(0x30, &[tlv(0x06, DATA), tlv(0xa0, &tlv(0x04, content))].concat());
        let signers = tlv(0x31, &tlv(0x30, &tlv(0x04, b"not the content")));
        let certificates = tlv(0xa0, &tlv(0x30, &tlv(0x04, b"nor this")));
        let data = tlv(0x30, &[tlv(0x02, &[1]), algorithms, inner, certificates, signers].concat());
        tlv(0x30, &[tlv(0x06, SIGNED_DATA), tlv(0xa0, &data)].concat())
    }

    #[test]
    fn the_content_of_a_signature_is_found() {
        assert_eq!(
            signed_content(&signed(b"Content-Type: text/plain\r\n\r\nx")).unwrap(),
            b"Content-Type: text/plain\r\n\r\nx"
        );
        let long = vec![b'a'; 5_000];
        assert_eq!(signed_content(&signed(&long)).unwrap(), long);
    }

    #[test]
    fn lengths_need_not_be_known_before() {
        let pieces = endless(0x24, &[tlv(0x04, b"one "), tlv(0x04, b"two")].concat());
        let inner = endless(0x30, &[tlv(0x06, DATA), endless(0xa0, &pieces)].concat());
        let data =
            endless(0x30, &[tlv(0x02, &[1]), tlv(0x31, b""), inner, tlv(0x31, &tlv(0x04, b"no"))].concat());
        let whole = endless(0x30, &[tlv(0x06, SIGNED_DATA), endless(0xa0, &data)].concat());
        assert_eq!(signed_content(&whole).unwrap(), b"one two");
    }

    #[test]
    fn what_is_no_signature_gives_nothing_and_what_was_cut_off_the_start() {
        assert_eq!(signed_content(b"PK"), None);
        let enveloped = tlv(0x30, &tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03]));
        assert_eq!(signed_content(&enveloped), None);
        let whole = signed(b"content");
        for length in 0..whole.len() {
            let found = signed_content(&whole[..length]).unwrap_or_default();
            assert!(b"content".starts_with(&found));
        }
        assert_eq!(signed_content(&[0x30, 0x80].repeat(10_000)), None);
    }
}
