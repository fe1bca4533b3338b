//! What Outlook puts into `winmail.dat`: the text of the mail, out of the Transport Neutral Encapsulation Format
//! (MS-OXTNEF). Read by hand, as no kept library reads it (the crate `tnef`, 0.1.1, is not kept
//! any more); one pass, nothing is copied but what is given back.

/// The text in a TNEF stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Body<'a> {
    /// Plain text, in a charset that the stream does not name well.
    pub(super) plain: Option<&'a [u8]>,
    /// Plain text in UTF-16.
    pub(super) wide: Option<&'a [u8]>,
    /// HTML.
    pub(super) html: Option<&'a [u8]>,
    /// Compressed RTF.
    pub(super) rtf: Option<&'a [u8]>,
}

/// Attributes and properties that are looked at, each.
const LIMIT: usize = 1_000;

const SIGNATURE: u32 = 0x223e_9f78;
const ATT_BODY: u32 = 0x0002_800c;
const ATT_MAPI_PROPERTIES: u32 = 0x0006_9003;
const LEVEL_MESSAGE: u8 = 1;

/// Reads on from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }

    /// A value of `length` bytes, padded to a multiple of four.
    fn padded(&mut self, length: usize) -> Option<&'a [u8]> {
        let value = self.take(length)?;
        let padding = length.wrapping_neg() % 4;
        self.take(padding.min(self.0.len()))?;
        Some(value)
    }
}

/// The text of the message in `stream`; none if it is no TNEF. What is cut off or wrong ends the reading.
pub(super) fn body(stream: &[u8]) -> Option<Body<'_>> {
    let mut reader = Reader(stream);
    if reader.u32()? != SIGNATURE {
        return None;
    }
    reader.u16()?;
    let mut body = Body::default();
    for _ in 0..LIMIT {
        if attribute(&mut reader, &mut body).is_none() {
            break;
        }
    }
    Some(body)
}

fn attribute<'a>(reader: &mut Reader<'a>, body: &mut Body<'a>) -> Option<()> {
    let level = reader.u8()?;
    let id = reader.u32()?;
    let length = reader.length()?;
    // Of a stream that was cut off the start is better than nothing.
    let data = reader.take(length.min(reader.0.len()))?;
    if level == LEVEL_MESSAGE && id == ATT_BODY {
        body.plain.get_or_insert(data);
    } else if level == LEVEL_MESSAGE && id == ATT_MAPI_PROPERTIES {
        properties(Reader(data), body);
    }
    reader.u16().map(|_| ())
}

/// Reads the MAPI properties (MS-OXTNEF section 2.1.3.4) up to the first that is not understood.
fn properties<'a>(mut reader: Reader<'a>, body: &mut Body<'a>) -> Option<()> {
    let count = reader.length()?;
    for _ in 0..count.min(LIMIT) {
        let kind = reader.u16()?;
        let id = reader.u16()?;
        if id >= 0x8000 {
            // A named property: its set, and its number or its name.
            reader.take(16)?;
            if reader.u32()? == 0 {
                reader.take(4)?;
            } else {
                let length = reader.length()?;
                reader.padded(length)?;
            }
        }
        let many = kind & 0x1000 != 0;
        match kind & 0x0fff {
            0x0002 | 0x0003 | 0x0004 | 0x000a | 0x000b => {
                let count = if many { reader.length()? } else { 1 };
                reader.take(count.checked_mul(4)?)?;
            }
            0x0005 | 0x0006 | 0x0007 | 0x0014 | 0x0040 => {
                let count = if many { reader.length()? } else { 1 };
                reader.take(count.checked_mul(8)?)?;
            }
            0x0048 => {
                let count = if many { reader.length()? } else { 1 };
                reader.take(count.checked_mul(16)?)?;
            }
            kind @ (0x000d | 0x001e | 0x001f | 0x0102) => {
                let count = reader.length()?;
                for _ in 0..count.min(LIMIT) {
                    let length = reader.length()?;
                    let value = reader.padded(length)?;
                    match (id, kind) {
                        (0x1000, 0x001e) => body.plain = Some(value),
                        (0x1000, 0x001f) => body.wide = Some(value),
                        (0x1013, 0x001e | 0x0102) => body.html = Some(value),
                        (0x1009, 0x0102) => body.rtf = Some(value),
                        _ => {}
                    }
                }
            }
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A stream of these attributes of the message.
    pub(crate) fn stream(attributes: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut out = SIGNATURE.to_le_bytes().to_vec();
        out.extend([1, 0]);
        for (id, data) in attributes {
            out.push(LEVEL_MESSAGE);
            out.extend(id.to_le_bytes());
            out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            out.extend(data);
            out.extend([0, 0]);
        }
        out
    }

    fn property(kind: u16, id: u16, value: &[u8]) -> Vec<u8> {
        let mut out = [kind.to_le_bytes(), id.to_le_bytes()].concat();
        out.extend([1, 0, 0, 0]);
        out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn the_body_is_found_as_an_attribute_and_as_a_property() {
        let plain = stream(&[(0x0001_8004, b"a subject\0".to_vec()), (ATT_BODY, b"Job failed\0".to_vec())]);
        assert_eq!(body(&plain).unwrap().plain, Some(&b"Job failed\0"[..]));
        let flag = [&[0x0b, 0, 0x1b, 0x0e][..], &[1, 0, 0, 0]].concat();
        let mut properties = vec![3, 0, 0, 0];
        properties
            .extend([flag, property(0x1e, 0x37, b"odd"), property(0x102, 0x1013, b"<p>x</p>")].concat());
        let html = stream(&[(ATT_MAPI_PROPERTIES, properties)]);
        assert_eq!(body(&html).unwrap().html, Some(&b"<p>x</p>"[..]));
    }

    #[test]
    fn what_is_no_stream_or_was_cut_off_is_read_as_far_as_it_goes() {
        assert_eq!(body(b"PK\x03\x04"), None);
        let whole = stream(&[(ATT_BODY, b"Job failed".to_vec())]);
        for length in 0..whole.len() {
            if let Some(body) = body(&whole[..length]) {
                assert!(b"Job failed".starts_with(body.plain.unwrap_or_default()));
            }
        }
        let huge = stream(&[(ATT_MAPI_PROPERTIES, vec![0xff; 64])]);
        assert_eq!(body(&huge).unwrap(), Body::default());
    }
}
