//! Rich Text Format as Outlook sends it: compressed (MS-OXRTFCP) in `winmail.dat`, and the text in it. Read by hand, as no
//! kept library does both (the crate `compressed-rtf`, 1.0, only unpacks); one pass over each, with a bound on what comes out.

/// What the dictionary holds at the beginning (MS-OXRTFCP section 2.1.2.1).
const PRELOAD: &[u8] = b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";

/// Bytes of the dictionary.
const WINDOW: usize = 4096;

/// Deepest nesting of groups that is told apart; what lies deeper is skipped.
const DEPTH_LIMIT: usize = 100;

/// Unpacks at most `limit` bytes; none if it is not compressed RTF. What is cut off ends the unpacking.
pub(super) fn unpacked(packed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let kind = packed.get(8..12)?;
    let content = packed.get(16..)?;
    if kind == b"MELA" {
        return Some(content[..content.len().min(limit)].to_vec());
    }
    if kind != b"LZFu" {
        return None;
    }
    let mut window = [b' '; WINDOW];
    window[..PRELOAD.len()].copy_from_slice(PRELOAD);
    let mut end = PRELOAD.len();
    let mut out = Vec::new();
    let mut put = |byte: u8, window: &mut [u8; WINDOW], end: &mut usize| {
        out.push(byte);
        window[*end] = byte;
        *end = (*end + 1) % WINDOW;
        out.len() < limit
    };
    let mut bytes = content.iter().copied();
    'all: while let Some(control) = bytes.next() {
        for bit in 0..8 {
            let Some(first) = bytes.next() else { break 'all };
            if control >> bit & 1 == 0 {
                if !put(first, &mut window, &mut end) {
                    break 'all;
                }
                continue;
            }
            let Some(second) = bytes.next() else { break 'all };
            let from = usize::from(first) << 4 | usize::from(second) >> 4;
            // A reference to where the next byte goes ends the stream.
            if from == end {
                break 'all;
            }
            for at in 0..usize::from(second & 0x0f) + 2 {
                let byte = window[(from + at) % WINDOW];
                if !put(byte, &mut window, &mut end) {
                    break 'all;
                }
            }
        }
    }
    Some(out)
}

/// The text of RTF and the name of the charset that its bytes are in.
pub(super) fn text(rtf: &[u8]) -> Option<(Vec<u8>, String)> {
    if !rtf.starts_with(b"{\\rtf") {
        return None;
    }
    let mut reader =
        Reader { rest: rtf, charset: "windows-1252".to_owned(), substitutes: 1, ..Reader::default() };
    while reader.step().is_some() {}
    Some((reader.out, reader.charset))
}

#[derive(Default)]
struct Reader<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    charset: String,
    /// Groups that are open.
    depth: usize,
    /// The depth of the group that is skipped.
    skipped: Option<usize>,
    /// Characters that stand for a Unicode one (`\ucN`), and how many of them are still to come.
    substitutes: usize,
    substituted: usize,
}

impl Reader<'_> {
    fn step(&mut self) -> Option<()> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        match byte {
            b'{' => {
                self.depth += 1;
                if self.depth > DEPTH_LIMIT {
                    self.skipped.get_or_insert(self.depth);
                }
            }
            b'}' => {
                if self.skipped == Some(self.depth) {
                    self.skipped = None;
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b'\\' => self.control()?,
            b'\r' | b'\n' => {}
            byte => self.put(&[byte]),
        }
        Some(())
    }

    /// Writes a character, unless it stands for one that was written as Unicode.
    fn put(&mut self, bytes: &[u8]) {
        if self.skipped.is_some() {
            return;
        }
        match self.substituted.checked_sub(1) {
            Some(left) => self.substituted = left,
            None => self.out.extend(bytes),
        }
    }

    fn control(&mut self) -> Option<()> {
        let (&first, rest) = self.rest.split_first()?;
        if !first.is_ascii_alphabetic() {
            self.rest = rest;
            match first {
                b'\'' => {
                    let digits = std::str::from_utf8(self.rest.get(..2)?).ok();
                    let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    self.rest = &self.rest[2..];
                    if let Some(byte) = byte {
                        self.put(&[byte]);
                    }
                }
                // A destination that a reader skips if it does not know it.
                b'*' => self.skip(),
                b'~' => self.put(b" "),
                b'_' => self.put(b"-"),
                b'\r' | b'\n' => self.put(b"\n"),
                b'{' | b'}' | b'\\' => self.put(&[first]),
                _ => {}
            }
            return Some(());
        }
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (word, rest) = self.rest.split_at(length);
        let digits = rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        let signed = rest.first() == Some(&b'-');
        let first_digit = usize::from(rest.first().is_some_and(u8::is_ascii_digit));
        let length = if signed || first_digit == 1 { digits + 1 } else { 0 };
        let (number, rest) = rest.split_at(length);
        let number: Option<i32> = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        self.rest = rest.strip_prefix(b" ").unwrap_or(rest);
        match word {
            b"par" | b"line" | b"row" | b"sect" | b"page" => self.put(b"\n"),
            b"tab" | b"cell" => self.put(b"\t"),
            b"emdash" => self.put(b"-"),
            b"endash" => self.put(b"-"),
            b"lquote" | b"rquote" => self.put(b"'"),
            b"ldblquote" | b"rdblquote" => self.put(b"\""),
            b"fonttbl" | b"colortbl" | b"stylesheet" | b"info" | b"pict" | b"object" | b"header"
            | b"footer" => {
                self.skip();
            }
            b"ansicpg" => {
                if let Some(page) = number.filter(|page| (1..=99_999).contains(page)) {
                    self.charset = format!("windows-{page}");
                }
            }
            b"uc" => self.substitutes = usize::try_from(number.unwrap_or(1)).unwrap_or(1).min(10),
            b"u" => self.unicode(number?),
            _ => {}
        }
        Some(())
    }

    /// Skips the group that is open.
    fn skip(&mut self) {
        self.skipped.get_or_insert(self.depth);
    }

    /// Writes a Unicode character as the entity that stands for it, as the text around is in another charset.
    fn unicode(&mut self, number: i32) {
        self.substituted = 0;
        let unit = if number < 0 { number + 0x1_0000 } else { number };
        if let Some(c) = u32::try_from(unit).ok().and_then(char::from_u32) {
            self.put(format!("&#{};", u32::from(c)).as_bytes());
        }
        self.substituted = self.substitutes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RTF as it stands, in the form that is not compressed.
    fn stored(rtf: &str) -> Vec<u8> {
        let length = u32::try_from(rtf.len()).unwrap();
        let header = [(length + 12).to_le_bytes(), length.to_le_bytes(), *b"MELA", [0; 4]].concat();
        [header, rtf.as_bytes().to_vec()].concat()
    }

    #[test]
    fn the_examples_of_the_specification_are_unpacked() {
        // MS-OXRTFCP sections 3.1.1 and 3.1.2.
        let simple = b"\x2d\0\0\0\x2b\0\0\0LZFu\xf1\xc5\xc7\xa7\x03\0\x0a\0rcpg125B2\x0a\xf3 hel\x09\0 bw\x05\xb0ld}\x0a\x80\x0f\xa0";
        assert_eq!(unpacked(simple, 1_000).unwrap(), b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n");
        let crossing = b"\x1a\0\0\0\x1c\0\0\0LZFu\xe2\xd4\x4b\x51\x41\0\x04\x20WXYZ\x0d\x6e\x7d\x01\x0e\xb0";
        assert_eq!(unpacked(crossing, 1_000).unwrap(), b"{\\rtf1 WXYZWXYZWXYZWXYZWXYZ}");
        assert_eq!(unpacked(crossing, 9).unwrap().len(), 9);
        assert_eq!(unpacked(&stored("{\\rtf1 x}"), 1_000).unwrap(), b"{\\rtf1 x}");
        assert_eq!(unpacked(b"PK\x03\x04", 9), None);
    }

    #[test]
    fn the_text_is_what_a_reader_sees() {
        let rtf = r"{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0 Arial;}}{\colortbl;\red0\green0\blue0;}{\*\generator x;}\pard Job \b failed\b0 :\par St\'f6rung \u8364?5 {\*\htmltag <b>}\{x\}\line a\tab b\par}";
        let (text, charset) = text(rtf.as_bytes()).unwrap();
        assert_eq!(text, b"Job failed:\nSt\xf6rung &#8364;5 {x}\na\tb\n");
        assert_eq!(charset, "windows-1252");
        assert_eq!(super::text(b"Job failed"), None);
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_read_as_far_as_it_goes() {
        for rtf in
            ["{\\rtf1 a\\", "{\\rtf1 a\\'4", "{\\rtf1 a}}}}{", "{\\rtf1 \\u a", "{\\rtf1 \\u-99999999999 a"]
        {
            assert!(text(rtf.as_bytes()).is_some(), "{rtf}");
        }
        let deep = format!("{{\\rtf1 a{}b{}c}}", "{".repeat(500), "}".repeat(500));
        assert_eq!(text(deep.as_bytes()).unwrap().0, b"ac");
    }
}
