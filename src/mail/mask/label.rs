//! Ids behind a label that names the mail's or the event's own id.

use super::atom::{Atom, Kind};
use super::lexicon::Lexicon;

/// The words for the owner of an id.
const OWNERS: [&str; 5] = ["event", "message", "notification", "request", "trace"];

/// Longest label in bytes.
const LONGEST_LABEL: usize = 24;

/// What makes a label of the owner.
static SUFFIXES: Lexicon = Lexicon::new(&["guid", "id", "number", "no", "nr", "uuid"]);

/// The place of the id whose label begins at the atom `at`.
pub(super) fn id(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let behind = label(atoms, at)?;
    let between = atoms[behind..].iter().take(4).take_while(|atom| match atom.kind {
        Kind::Blank => true,
        Kind::Mark => matches!(atom.text, ":" | "=" | "." | "<" | "\"" | "'" | "("),
        Kind::Word => false,
    });
    let place = behind + between.count();
    let value = atoms.get(place).filter(|atom| atom.kind == Kind::Word && place > behind)?;
    is_its_own(value.text).then_some(place)
}

/// The atom behind the label that begins at `at`: `event_id`, `X-Request-Id`, `Message ID`.
fn label(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let first = atoms[at].text;
    let may_be = may_begin_an_owner(first) && first.len() <= LONGEST_LABEL;
    if !may_be || !first.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-')) {
        return None;
    }
    let mut letters = [0; LONGEST_LABEL];
    let mut length = 0;
    for letter in first.bytes().filter(u8::is_ascii_alphabetic) {
        letters[length] = letter.to_ascii_lowercase();
        length += 1;
    }
    let plain = &letters[..length];
    let owner = |name: &[u8]| OWNERS.iter().any(|owner| owner.as_bytes() == name);
    let name = plain.strip_prefix(b"x").filter(|rest| !rest.is_empty()).unwrap_or(plain);
    let suffixed = |suffix: &&str| name.strip_suffix(suffix.as_bytes()).is_some_and(owner);
    if SUFFIXES.words.iter().any(suffixed) {
        return Some(at + 1);
    }
    let [blank, suffix, ..] = atoms.get(at + 1..)? else { return None };
    let two = owner(plain) && blank.kind == Kind::Blank && SUFFIXES.has(suffix.text);
    two.then_some(at + 3)
}

/// Whether `word` begins as an owner does, or as `x-` before one: most words do not.
fn may_begin_an_owner(word: &str) -> bool {
    let begins = |letter: u8| letter == b'x' || OWNERS.iter().any(|owner| owner.as_bytes()[0] == letter);
    word.bytes()
        .next()
        .is_some_and(|first| matches!(first, b'_' | b'-') || begins(first.to_ascii_lowercase()))
}

/// Whether `id` can be that of one mail or event alone. A short number or word may as well name a kind of event,
/// such as 4625 of Windows or PSU0001 of a server's controller.
fn is_its_own(id: &str) -> bool {
    let id = id.trim_start_matches('#');
    let digits = id.bytes().filter(u8::is_ascii_digit).count();
    let all = |also: &[u8], of: fn(&u8) -> bool| id.bytes().all(|b| of(&b) || also.contains(&b));
    let of_mail = id.split_once('@').is_some_and(|(left, right)| !left.is_empty() && right.contains('.'));
    of_mail && digits > 0
        || digits >= 6 && all(b"-.", u8::is_ascii_digit)
        || digits >= 1 && id.len() >= 8 && all(b"-", u8::is_ascii_hexdigit)
        || digits >= 4 && id.len() >= 16 && all(b"-_", u8::is_ascii_alphanumeric)
}
