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
mod lexicon;
mod moment;

use atom::Kind;
use lexicon::ID;

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

#[cfg(test)]
mod tests;
