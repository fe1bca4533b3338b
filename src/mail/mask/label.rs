//! Ids behind a label that names the mail's or the event's own id.

use super::atom::{Atom, Kind};
use super::is_one_of;

/// Whose id it is.
const OWNERS: &[&str] = &["event", "message", "notification", "request", "trace"];

/// What makes a label of the owner.
const SUFFIXES: &[&str] = &["id", "uuid", "guid", "number", "no", "nr"];

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
    let first = atoms[at];
    if first.kind != Kind::Word || first.text.len() > 24 || !may_begin_an_owner(first.text) {
        return None;
    }
    let plain: String =
        first.text.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
    let letters_only = first.text.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-'));
    if !letters_only {
        return None;
    }
    let owner = |name: &str| OWNERS.contains(&name);
    let name = plain.strip_prefix('x').filter(|rest| !rest.is_empty()).unwrap_or(&plain);
    if SUFFIXES.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(owner)) {
        return Some(at + 1);
    }
    let [blank, suffix, ..] = atoms.get(at + 1..)? else { return None };
    let two = owner(&plain) && blank.kind == Kind::Blank && is_one_of(suffix.text, SUFFIXES);
    two.then_some(at + 3)
}

/// Whether the first letter of `word` is that of an owner, or of `x-` before one: most words end here.
fn may_begin_an_owner(word: &str) -> bool {
    let first = word.bytes().find(u8::is_ascii_alphabetic).map(|letter| letter.to_ascii_lowercase());
    first.is_some_and(|first| first == b'x' || OWNERS.iter().any(|owner| owner.as_bytes()[0] == first))
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
