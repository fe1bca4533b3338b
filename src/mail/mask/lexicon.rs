//! The words by which a thing that is masked is known, and what stands in its place.

use super::atom::{Atom, Kind};

/// What stands in the place of each thing that is masked.
pub(super) const DATE: &str = "⟨date⟩";
pub(super) const TIME: &str = "⟨time⟩";
pub(super) const PERCENT: &str = "⟨percent⟩";
pub(super) const SIZE: &str = "⟨size⟩";
pub(super) const DURATION: &str = "⟨duration⟩";
pub(super) const ID: &str = "⟨id⟩";

/// A thing that is masked: what stands in its place, and how many atoms it takes.
pub(super) type Masked = (&'static str, usize);

/// The word before the atom `at`, if only blanks and marks such as `:` stand between.
pub(super) fn word_before<'t>(atoms: &[Atom<'t>], at: usize) -> Option<&'t str> {
    let near = atoms[..at].iter().rev().take(4);
    let mut before = near.skip_while(|atom| atom.kind != Kind::Word);
    before.next().map(|atom| atom.text)
}

/// A list of words in lower case, in the order of their first letters.
pub(super) struct Lexicon {
    pub(super) words: &'static [&'static str],
    /// Of each letter the place of its first word, how many it has, and their lengths, a bit each: most words of a text
    /// are none of them by that.
    letters: [(u8, u8, u32); 26],
}

impl Lexicon {
    pub(super) const fn new(words: &'static [&'static str]) -> Self {
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
    pub(super) fn has(&self, word: &str) -> bool {
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
