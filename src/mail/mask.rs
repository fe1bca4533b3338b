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
        // The label of an id stays, the id goes.
        if let Some(id) = label::id(&atoms, at) {
            atoms[at..id].iter().for_each(|atom| out.push_str(atom.shown()));
            out.push_str(ID);
            at = id + 1;
            continue;
        }
        match thing(&atoms, at) {
            Some((mask, taken)) => {
                out.push_str(mask);
                at += taken;
            }
            None => {
                out.push_str(atom.shown());
                at += 1;
            }
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The thing that begins at the atom `at` and is masked.
fn thing(atoms: &[Atom<'_>], at: usize) -> Option<Masked> {
    if atoms[at].kind != Kind::Word {
        return None;
    }
    moment::moment(atoms, at).or_else(|| amount::amount(atoms, at))
}

/// The word before the atom `at`, if only blanks and marks such as `:` stand between.
fn word_before<'t>(atoms: &[Atom<'t>], at: usize) -> Option<&'t str> {
    let near = atoms[..at].iter().rev().take(4);
    let mut before = near.skip_while(|atom| atom.kind != Kind::Word);
    before.next().map(|atom| atom.text)
}

/// Whether `word` is one of `list`, which is in lower case.
fn is_one_of(word: &str, list: &[&str]) -> bool {
    let Some(first) = word.as_bytes().first().map(u8::to_ascii_lowercase) else { return false };
    if !first.is_ascii() {
        return list.contains(&word.to_lowercase().as_str());
    }
    let mut near = list.iter().filter(|known| known.as_bytes()[0] == first);
    if word.is_ascii() {
        near.any(|known| known.eq_ignore_ascii_case(word))
    } else {
        let lower = word.to_lowercase();
        near.any(|known| *known == lower)
    }
}

#[cfg(test)]
mod tests;
