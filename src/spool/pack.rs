//! A pack: what never changes of a mail, in one piece. Its content comes first, then the payloads made of it. They
//! repeat most of the content, so that packed together they take little more than the content alone.
//!
//! Layout: the number of parts and the length of each as little-endian u32, then all parts in one LZ4 block.

use std::ops::Range;

/// The place of the content among the parts.
pub(super) const CONTENT: usize = 0;

/// Bytes of payloads that one pack takes. A payload is read by unpacking all parts: a mail with a thousand events must
/// not cost a thousand times all of them. Payloads beyond it are kept with their events.
pub(super) const MOST_PAYLOADS: usize = 64 << 10;

/// The length of a part that is absent.
const ABSENT: u32 = u32::MAX;

/// The largest factor by which an LZ4 block can grow: a damaged length cannot ask for more memory.
const MOST_GROWTH: usize = 255;

/// Packs `parts`.
pub(super) fn pack(parts: &[Option<&[u8]>]) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).expect("a mail is far smaller than 4 GiB");
    let mut head = number(parts.len()).to_le_bytes().to_vec();
    for part in parts {
        head.extend(part.map_or(ABSENT, |part| number(part.len())).to_le_bytes());
    }
    let whole = parts.iter().flatten().copied().collect::<Vec<_>>().concat();
    head.extend(lz4_flex::block::compress(&whole));
    head
}

/// The part at `place` of `pack`; none if it is absent or the pack is damaged.
pub(super) fn part(pack: &[u8], place: usize) -> Option<Vec<u8>> {
    let (whole, parts) = unpack(pack)?;
    Some(whole[parts.get(place)?.clone()?].to_vec())
}

/// `pack` with `content` as its content.
pub(super) fn with_content(pack: &[u8], content: &[u8]) -> Vec<u8> {
    let (whole, parts) = unpack(pack).unwrap_or_default();
    let payloads = parts.into_iter().skip(CONTENT + 1).map(|part| part.map(|part| &whole[part]));
    self::pack(&[Some(content)].into_iter().chain(payloads).collect::<Vec<_>>())
}

/// All parts in one, and where each stands in it.
type Unpacked = (Vec<u8>, Vec<Option<Range<usize>>>);

fn unpack(pack: &[u8]) -> Option<Unpacked> {
    let number = |at: usize| {
        let bytes = pack.get(at * 4..at * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let count = usize::try_from(number(0)?).ok()?;
    let block = pack.get(count.checked_add(1)?.checked_mul(4)?..)?;
    let mut end = 0;
    let mut parts = Vec::new();
    for place in 1..=count {
        let length = number(place)?;
        let start = end;
        end += if length == ABSENT { 0 } else { length as usize };
        parts.push((length != ABSENT).then_some(start..end));
    }
    if end > block.len().saturating_mul(MOST_GROWTH) {
        return None;
    }
    let whole = lz4_flex::block::decompress(block, end).ok()?;
    (whole.len() == end).then_some((whole, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_comes_back_as_it_was() {
        let content = b"Subject: disk full on web01\r\n\r\nThe disk is full.\r\n".repeat(40);
        let payload = br#"{"Title":"disk full on web01"}"#;
        let packed = pack(&[Some(&content), Some(payload), None, Some(b"")]);
        assert!(packed.len() < content.len() / 10, "{}", packed.len());
        assert_eq!(part(&packed, CONTENT), Some(content));
        assert_eq!(part(&packed, 1).as_deref(), Some(&payload[..]));
        assert_eq!((part(&packed, 2), part(&packed, 3), part(&packed, 4)), (None, Some(Vec::new()), None));
        assert_eq!(part(&pack(&[]), CONTENT), None);
    }

    #[test]
    fn a_content_can_be_put_in_later() {
        let packed = with_content(&pack(&[None, Some(b"{}")]), b"the mail");
        assert_eq!(part(&packed, CONTENT).as_deref(), Some(&b"the mail"[..]));
        assert_eq!(part(&packed, 1).as_deref(), Some(&b"{}"[..]));
        assert_eq!(part(&with_content(b"", b"x"), CONTENT).as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn a_damaged_pack_has_no_part_and_asks_for_no_memory() {
        let packed = pack(&[Some(&[7; 3000]), Some(b"{}")]);
        for at in 0..packed.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut damaged = packed.clone();
                damaged[at] = byte;
                let longest = part(&damaged, CONTENT).map_or(0, |part| part.len());
                assert!(longest <= packed.len() * MOST_GROWTH);
                assert!(part(&damaged[..at], 1).is_none());
            }
        }
    }
}
