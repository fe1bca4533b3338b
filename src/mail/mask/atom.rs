//! The atoms of a text: words, the marks around them, and the blanks between.

/// What an atom is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A run of white space.
    Blank,
    /// One mark, such as a bracket or the colon behind a label.
    Mark,
    /// Anything else: only a whole word is ever masked.
    Word,
}

/// A part of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Atom<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
}

impl<'t> Atom<'t> {
    /// How the atom stands in a masked text.
    pub(super) fn shown(&self) -> &'t str {
        if self.kind == Kind::Blank { " " } else { self.text }
    }
}

/// What the bytes of a run have, by byte: every mail without a key goes through here, one look at each byte.
const BLANK: u8 = 1;
/// A mark that no word has within it.
const PART: u8 = 2;
/// `/`, `\\` and `@`: a path, an address or a link has commas and equal signs of its own, it is one word.
const WHOLE: u8 = 4;
/// A mark that may part a name from a value, or values.
const SPLIT: u8 = 8;
/// A byte of a character beyond ASCII.
const WIDE: u8 = 16;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t'..=b'\r' => BLANK,
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b'"' | b'\'' | b'`' | b';' | b'|' => PART,
            b'/' | b'\\' | b'@' => WHOLE,
            b'=' | b':' | b',' => SPLIT,
            0x80.. => WIDE,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// The class of the character that `text` begins with.
fn class(text: &str) -> u8 {
    let class = text.as_bytes().first().map_or(0, |byte| CLASSES[usize::from(*byte)]);
    match text.chars().next() {
        Some(c) if class == WIDE && c.is_whitespace() => BLANK,
        Some('“' | '”' | '„' | '«' | '»') => PART,
        _ => class,
    }
}

/// The length of the run of words that `text` begins with, up to a blank or a mark, and what its bytes have.
fn run(text: &str) -> (usize, u8) {
    let mut seen = 0;
    for (at, byte) in text.bytes().enumerate() {
        let mut class = CLASSES[usize::from(byte)];
        if class == WIDE && text.is_char_boundary(at) {
            class = self::class(&text[at..]);
        }
        if class & (BLANK | PART) != 0 {
            return (at, seen);
        }
        seen |= class;
    }
    (text.len(), seen)
}

/// Marks that may stand behind a word.
fn ends(c: char) -> bool {
    matches!(c, '.' | ',' | ':' | '!' | '?')
}

/// The atoms of `text` in order. Together they are the text, without white space at its start.
pub(super) fn atoms(text: &str) -> Vec<Atom<'_>> {
    let mut atoms = Vec::with_capacity(text.len() / 4);
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (kind, length) = match class(rest) {
            BLANK => (Kind::Blank, rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len())),
            PART => (Kind::Mark, first.len_utf8()),
            _ if first == '=' || first == ',' => (Kind::Mark, first.len_utf8()),
            _ => {
                let (length, seen) = run(rest);
                words(&rest[..length], seen, &mut atoms);
                rest = &rest[length..];
                continue;
            }
        };
        atoms.push(Atom { kind, text: &rest[..length] });
        rest = &rest[length..];
    }
    atoms
}

/// Takes a run without blanks apart: `name=value`, `Name:value`, values with commas between, and the marks behind.
/// `seen` is what its bytes have.
fn words<'t>(run: &'t str, seen: u8, atoms: &mut Vec<Atom<'t>>) {
    let mut rest = run;
    while !rest.is_empty() {
        if seen & SPLIT != 0
            && let Some(name) = name_before(rest)
        {
            atoms.push(Atom { kind: Kind::Word, text: &rest[..name] });
            atoms.push(Atom { kind: Kind::Mark, text: &rest[name..=name] });
            rest = &rest[name + 1..];
            continue;
        }
        let whole = seen & WHOLE != 0 || seen & SPLIT == 0;
        let end = if whole { rest.len() } else { comma(rest).unwrap_or(rest.len()) };
        let word = rest[..end].trim_end_matches(ends);
        // Of marks alone each is a mark.
        if !word.is_empty() {
            atoms.push(Atom { kind: Kind::Word, text: word });
        }
        let marks = &rest[word.len()..end];
        atoms.extend(
            marks
                .char_indices()
                .map(|(at, mark)| Atom { kind: Kind::Mark, text: &marks[at..at + mark.len_utf8()] }),
        );
        if end < rest.len() {
            atoms.push(Atom { kind: Kind::Mark, text: &rest[end..=end] });
            rest = &rest[end + 1..];
        } else {
            rest = "";
        }
    }
}

/// Where the `=` or the `:` of a `name=value` stands. A name before a colon has no digit and a letter that no
/// number to the base of 16 has: `fe80:10:20` and `web01:8080` are addresses.
fn name_before(run: &str) -> Option<usize> {
    let end = run.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))?;
    let (name, mark) = (&run[..end], run.as_bytes()[end]);
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let spoken = name.len() > 2
        && name.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-'))
        && name.bytes().any(|b| b.is_ascii_alphabetic() && !b.is_ascii_hexdigit());
    let behind = || &run[end + 1..];
    let named = match mark {
        b'=' => starts,
        b':' => spoken && !behind().is_empty() && !behind().starts_with("//"),
        _ => false,
    };
    named.then_some(end)
}

/// The first comma that parts values: one between two digits is part of a number.
fn comma(run: &str) -> Option<usize> {
    let bytes = run.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    (0..bytes.len()).find(|&at| bytes[at] == b',' && !(at > 0 && digit(at - 1) && digit(at + 1)))
}
