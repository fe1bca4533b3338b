//! BDAT (RFC 3030 section 2): so many octets, whatever they are. Nothing in a chunk ends it and nothing is
//! taken out of it; CR, LF and dots have no meaning there.

use super::reply::Reply;

/// What BDAT asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// How many octets follow the line. One that does not fit is as good as the largest that does.
    pub size: u64,
    /// Whether they are the last of the mail.
    pub last: bool,
}

/// Reads the argument of BDAT; none if it does not say how many octets follow.
pub fn announced(argument: &[u8]) -> Option<Announced> {
    let mut words = str::from_utf8(argument).ok()?.split_ascii_whitespace();
    let size = words.next().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then(|| Announced { size: size.parse().unwrap_or(u64::MAX), last })
}

/// A chunk on its way in.
#[derive(Debug)]
pub struct Chunk {
    left: u64,
    last: bool,
    refusal: Option<&'static Reply>,
}

impl Chunk {
    /// A chunk of which nothing is read yet. One that is refused is read to its end all the same, so that
    /// its octets are never taken for commands.
    pub fn new(announced: Announced, refusal: Option<&'static Reply>) -> Self {
        Self { left: announced.size, last: announced.last, refusal }
    }

    /// Takes the octets of the chunk that are at the front of `input`.
    pub fn read<'i>(&mut self, input: &mut &'i [u8]) -> &'i [u8] {
        let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (octets, behind) = input.split_at(here);
        *input = behind;
        self.left -= here as u64;
        octets
    }

    /// Whether all of it was read.
    pub fn is_whole(&self) -> bool {
        self.left == 0
    }

    /// Whether it is the last of its mail.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// What its client is told at its end instead of that it was taken.
    pub fn refusal(&self) -> Option<&'static Reply> {
        self.refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_and_perhaps_last_is_what_bdat_asks_for() {
        let read = |text: &str| announced(text.as_bytes()).map(|found| (found.size, found.last));
        assert_eq!(read("0"), Some((0, false)));
        assert_eq!(read("0 LAST"), Some((0, true)));
        assert_eq!(read("00086 last"), Some((86, true)));
        assert_eq!(read("18446744073709551615"), Some((u64::MAX, false)));
        assert_eq!(read("18446744073709551616 LAST"), Some((u64::MAX, true)));
        for wrong in ["", "LAST", "-1", "+1", "1.", "0x1", "1k", "1 2", "1 LAST LAST", "1 LASTS", "\u{663}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_chunk_takes_its_octets_and_no_other() {
        let mut chunk = Chunk::new(Announced { size: 4, last: false }, None);
        let mut input = &b"a\r"[..];
        assert_eq!((chunk.read(&mut input), input, chunk.is_whole()), (&b"a\r"[..], &b""[..], false));
        let mut input = &b"\n.\r\nQUIT"[..];
        assert_eq!((chunk.read(&mut input), input, chunk.is_whole()), (&b"\n."[..], &b"\r\nQUIT"[..], true));
        assert_eq!(chunk.read(&mut input), b"");
    }
}
