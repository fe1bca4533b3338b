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

/// Marks that no word has within it.
fn parts(c: char) -> bool {
    matches!(
        c,
        '(' | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | '<'
            | '>'
            | '"'
            | '\''
            | '`'
            | ';'
            | '|'
            | '“'
            | '”'
            | '„'
            | '«'
            | '»'
    )
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
        let (kind, length) = if first.is_whitespace() {
            (Kind::Blank, rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()))
        } else if parts(first) || first == '=' || first == ',' {
            (Kind::Mark, first.len_utf8())
        } else {
            let run = rest.find(|c: char| c.is_whitespace() || parts(c)).unwrap_or(rest.len());
            words(&rest[..run], &mut atoms);
            rest = &rest[run..];
            continue;
        };
        atoms.push(Atom { kind, text: &rest[..length] });
        rest = &rest[length..];
    }
    atoms
}

/// Takes a run without blanks apart: `name=value`, `Name:value`, values with commas between, and the marks behind.
fn words<'t>(run: &'t str, atoms: &mut Vec<Atom<'t>>) {
    let mut rest = run;
    // A path, an address or a link has commas and equal signs of its own: it is one word.
    let whole = run.contains(['/', '\\', '@']);
    while !rest.is_empty() {
        if let Some(name) = name_before(rest) {
            atoms.push(Atom { kind: Kind::Word, text: &rest[..name] });
            atoms.push(Atom { kind: Kind::Mark, text: &rest[name..=name] });
            rest = &rest[name + 1..];
            continue;
        }
        let end = if whole { rest.len() } else { comma(rest).unwrap_or(rest.len()) };
        let word = rest[..end].trim_end_matches(ends);
        // Of marks alone each is a mark.
        if !word.is_empty() {
            atoms.push(Atom { kind: Kind::Word, text: word });
        }
        for (at, mark) in rest[..end].char_indices().filter(|(at, _)| *at >= word.len()) {
            atoms.push(Atom { kind: Kind::Mark, text: &rest[at..at + mark.len_utf8()] });
        }
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
