//! Percentages, sizes and durations.

use std::sync::LazyLock;

use regex::Regex;

use super::atom::{Atom, Kind};
use super::lexicon::{DURATION, Lexicon, Masked, PERCENT, SIZE, word_before};

static PERCENT_WORDS: Lexicon = Lexicon::new(&["%", "percent", "prozent"]);

static SIZE_UNITS: Lexicon =
    Lexicon::new(&["bytes", "byte", "gb", "gib", "kb", "kib", "mb", "mib", "pb", "pib", "tb", "tib"]);

/// Units that are a duration behind any number.
static SPAN_UNITS: Lexicon = Lexicon::new(&[
    "day",
    "days",
    "hour",
    "hours",
    "hrs",
    "millisecond",
    "milliseconds",
    "minute",
    "minutes",
    "month",
    "months",
    "mins",
    "minuten",
    "monat",
    "monate",
    "monaten",
    "second",
    "seconds",
    "secs",
    "sekunde",
    "sekunden",
    "stunde",
    "stunden",
    "tag",
    "tage",
    "tagen",
    "week",
    "weeks",
    "woche",
    "wochen",
    "year",
    "years",
]);

/// Units that are a duration only where the words around say so: `5m` may be the name of a thing.
static SHORT_UNITS: Lexicon = Lexicon::new(&["d", "h", "hr", "ms", "m", "min", "s", "sec", "w"]);

/// Words behind which a number with a short unit is a duration.
static CUES: Lexicon = Lexicon::new(&[
    "after", "age", "duration", "downtime", "dauer", "every", "elapsed", "for", "in", "last", "lasted",
    "lasting", "laufzeit", "nach", "past", "since", "seit", "took", "uptime", "vor", "within",
]);

/// Words between the parts of one duration.
static JOINED: Lexicon = Lexicon::new(&["and", "und"]);

fn pattern(text: &str) -> Regex {
    Regex::new(&format!("^(?:{text})$")).expect("the pattern is fixed")
}

/// Several numbers with short units, the greater ones first: `1h30m`.
static COMPOUND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?:[0-9]+w)?(?:[0-9]+d)?(?:[0-9]+h)?(?:[0-9]+m(?:in)?)?(?:[0-9]+(?:\.[0-9]+)?s(?:ec)?)?(?:[0-9]+ms)?",
    )
});

/// The percentage, the size or the duration that begins at the atom `at`.
pub(super) fn amount(atoms: &[Atom<'_>], at: usize) -> Option<Masked> {
    let word = atoms[at].text;
    if !word.trim_start_matches(['~', '+', '-']).starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(taken) = with_unit(atoms, at, &PERCENT_WORDS) {
        return Some((PERCENT, taken));
    }
    if let Some(taken) = with_unit(atoms, at, &SIZE_UNITS) {
        return Some((SIZE, taken));
    }
    let mut end = at + duration(atoms, at)?;
    // `1 hour, 5 minutes and 3 seconds` is one; how many parts it has changes from mail to mail.
    while let Some(next) = further(atoms, end) {
        end = next;
    }
    Some((DURATION, end - at))
}

/// How many atoms a number and one of `units` take.
fn with_unit(atoms: &[Atom<'_>], at: usize, units: &Lexicon) -> Option<usize> {
    let unit = behind_number(atoms.get(at)?.text)?;
    if !unit.is_empty() {
        return units.has(unit).then_some(1);
    }
    match atoms.get(at + 1..)? {
        [blank, unit, ..] if blank.kind == Kind::Blank && units.has(unit.text) => Some(3),
        _ => None,
    }
}

/// What stands right behind the number that `word` begins with: a unit, or nothing.
fn behind_number(word: &str) -> Option<&str> {
    let number = word.strip_prefix(['~', '+', '-']).unwrap_or(word);
    let end = number.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(number.len());
    let (number, unit) = number.split_at(end);
    let letters = unit.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, 'ä' | 'ö' | 'ü'));
    (number.split(['.', ',']).all(|part| !part.is_empty()) && (letters || unit == "%")).then_some(unit)
}

/// How many atoms the first part of a duration takes.
fn duration(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    if let Some(taken) = with_unit(atoms, at, &SPAN_UNITS) {
        return Some(taken);
    }
    let taken = short(atoms, at)?;
    let several = taken == 1 && parts_of(atoms[at].text) > 1;
    let cued = || word_before(atoms, at).is_some_and(|before| CUES.has(before));
    (several || cued() || further(atoms, at + taken).is_some()).then_some(taken)
}

/// How many atoms a number and a short unit take; the words around do not matter.
fn short(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let word = atoms.get(at)?.text;
    if !word.is_empty() && COMPOUND.is_match(word) {
        return Some(1);
    }
    with_unit(atoms, at, &SHORT_UNITS)
}

/// How many numbers a compound has.
fn parts_of(word: &str) -> usize {
    let digits = |b: &[u8]| b[0].is_ascii_digit() && !b[1].is_ascii_digit() && b[1] != b'.';
    word.as_bytes().windows(2).filter(|pair| digits(pair)).count()
}

/// The end of a further part of the duration that ends before the atom `at`.
fn further(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let mut next = at;
    while next < at + 4
        && let Some(atom) = atoms.get(next)
        && match atom.kind {
            Kind::Blank => true,
            Kind::Mark => atom.text == ",",
            Kind::Word => JOINED.has(atom.text),
        }
    {
        next += 1;
    }
    if next == at {
        return None;
    }
    let taken = with_unit(atoms, next, &SPAN_UNITS).or_else(|| short(atoms, next))?;
    Some(next + taken)
}
