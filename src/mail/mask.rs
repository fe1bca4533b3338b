//! Masks: a text without what changes from mail to mail of one and the same alert. Two texts that are the same
//! behind the masks tell the same.
//!
//! Masked are dates, clock times, percentages, sizes, durations, and an id behind a label that names the mail's
//! or the event's own (event, message, notification, request, trace). Nothing else is: a text in doubt differs,
//! for a further page costs less than one that never comes. So a mask needs a whole word, and a word with a
//! slash, a backslash or an `@` in it is a path, an address or a user and stays as it is. The examples are in
//! `rules/README.md`, and a test reads them there.
//!
//! One pass over the text with a look ahead of a few words: linear in the text, which the caller bounds.

mod amount;
mod atom;
mod label;
mod moment;

use atom::{Atom, Kind};

/// What stands in the place of each thing that is masked.
const DATE: &str = "⟨date⟩";
const TIME: &str = "⟨time⟩";
const PERCENT: &str = "⟨percent⟩";
const SIZE: &str = "⟨size⟩";
const DURATION: &str = "⟨duration⟩";
const ID: &str = "⟨id⟩";

/// A thing that is masked: what stands in its place, and how many atoms it takes.
type Masked = (&'static str, usize);

/// `text` behind the masks, with each run of white space as one blank. Masking it again changes nothing.
pub fn masked(text: &str) -> String {
    let atoms = atom::atoms(text);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(atom) = atoms.get(at) {
        if atom.kind != Kind::Word {
            out.push_str(atom.shown());
            at += 1;
            continue;
        }
        // The label of an id stays, the id goes.
        if let Some(id) = label::id(&atoms, at) {
            atoms[at..id].iter().for_each(|atom| out.push_str(atom.shown()));
            out.push_str(ID);
            at = id + 1;
            continue;
        }
        match moment::moment(&atoms, at).or_else(|| amount::amount(&atoms, at)) {
            Some((mask, taken)) => {
                out.push_str(mask);
                at += taken;
            }
            None => {
                out.push_str(atom.text);
                at += 1;
            }
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The word before the atom `at`, if only blanks and marks such as `:` stand between.
fn word_before<'t>(atoms: &[Atom<'t>], at: usize) -> Option<&'t str> {
    let near = atoms[..at].iter().rev().take(4);
    let mut before = near.skip_while(|atom| atom.kind != Kind::Word);
    before.next().map(|atom| atom.text)
}

/// A list of words in lower case, in the order of their first letters.
struct Lexicon {
    words: &'static [&'static str],
    /// Of each letter the place of its first word, how many it has, and their lengths, a bit each: most words of a text
    /// are none of them by that.
    letters: [(u8, u8, u32); 26],
}

impl Lexicon {
    const fn new(words: &'static [&'static str]) -> Self {
        let mut letters = [(0, 0, 0); 26];
        let mut at = 0;
        while at < words.len() {
            let word = words[at].as_bytes();
            if word[0].is_ascii_lowercase() {
                let (first, count, lengths) = &mut letters[(word[0] - b'a') as usize];
                if *count == 0 {
                    *first = at as u8;
                }
                assert!(*first as usize + *count as usize == at, "words of one letter stand together");
                *count += 1;
                *lengths |= 1 << word.len();
            }
            at += 1;
        }
        Self { words, letters }
    }

    /// Whether `word` is in the list, in any case.
    fn has(&self, word: &str) -> bool {
        let Some(first) = word.bytes().next() else { return false };
        if !word.is_ascii() {
            return self.words.contains(&word.to_lowercase().as_str());
        }
        let near = match self.letters.get(usize::from((first | 0x20).wrapping_sub(b'a'))) {
            Some((_, _, lengths)) if word.len() > 31 || lengths >> word.len() & 1 == 0 => return false,
            Some((first, count, _)) => &self.words[usize::from(*first)..usize::from(first + count)],
            None => self.words,
        };
        near.iter().any(|known| known.eq_ignore_ascii_case(word))
    }
}

#[cfg(test)]
mod tests;
