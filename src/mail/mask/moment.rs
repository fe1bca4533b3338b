//! Dates and clock times.

use std::sync::LazyLock;

use regex::Regex;

use super::atom::{Atom, Kind};
use super::{DATE, Masked, TIME, is_one_of, word_before};

const MONTHS: &[&str] = &[
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "sept",
    "oct",
    "nov",
    "dec",
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "januar",
    "februar",
    "märz",
    "mär",
    "mrz",
    "mai",
    "juni",
    "juli",
    "okt",
    "oktober",
    "dez",
    "dezember",
];

const WEEKDAYS: &[&str] = &[
    "mon",
    "tue",
    "tues",
    "wed",
    "thu",
    "thur",
    "thurs",
    "fri",
    "sat",
    "sun",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "montag",
    "dienstag",
    "mittwoch",
    "donnerstag",
    "freitag",
    "samstag",
    "sonntag",
];

/// Length of the longest weekday and month, `Donnerstag`, in bytes.
const LONGEST_NAME: usize = 10;

/// Words behind which numbers with a colon or dots between are names of parts and versions, and no times.
const NAMED: &[&str] = &[
    "port",
    "ports",
    "slot",
    "bay",
    "interface",
    "if",
    "unit",
    "module",
    "line",
    "channel",
    "disk",
    "drive",
    "psu",
    "fan",
    "node",
    "rack",
    "vlan",
    "lun",
    "target",
    "version",
    "release",
    "firmware",
    "build",
    "serial",
    "sn",
    "ticket",
    "case",
    "incident",
    "number",
    "no",
    "nr",
    "id",
];

fn pattern(text: &str) -> Regex {
    Regex::new(&format!("^(?:{text})$")).expect("the pattern is fixed")
}

const CLOCK: &str = r"(?i-u:(?:[01]?[0-9]|2[0-4]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?(?:am|pm|z|[+-][0-9]{2}:?[0-9]{2})?)";

/// A date and perhaps a time, in one word.
static DATE_WORD: LazyLock<Regex> = LazyLock::new(|| {
    let year_first =
        r"(?:19|20)[0-9]{2}(?:-[01]?[0-9]-[0-3]?[0-9]|/[01]?[0-9]/[0-3]?[0-9]|\.[01]?[0-9]\.[0-3]?[0-9])";
    let year_last = r"[0-3]?[0-9](?:-[01]?[0-9]-|/[0-3]?[0-9]/|\.[01]?[0-9]\.)(?:19|20)[0-9]{2}";
    let month =
        r"[0-3]?[0-9][-/](?i-u:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[-/](?:(?:19|20)[0-9]{2})";
    let compact = r"(?:19|20)[0-9]{6}T[0-9]{4}(?:[0-9]{2})?(?:[.,][0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?";
    pattern(&format!("(?:{year_first}|{year_last}|{month})(?:[Tt_,:-]{CLOCK})?|{compact}"))
});

/// A date with a year of two digits: one only if a time follows.
static SHORT_DATE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[0-3]?[0-9](?:/[0-3]?[0-9]/|\.[01]?[0-9]\.|-[01]?[0-9]-)[0-9]{2}"));

static CLOCK_WORD: LazyLock<Regex> = LazyLock::new(|| pattern(CLOCK));

/// A time that no name of a part looks like: with seconds or a half of the day.
static SURE_CLOCK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i-u:[0-9]{1,2}:[0-9]{2}(?::[0-9][0-9.,:a-z+-]*|am|pm))"));

static DAY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i-u:(?:0?[1-9]|[12][0-9]|3[01])(?:st|nd|rd|th)?)"));

/// The date or the time that begins at the atom `at`.
pub(super) fn moment(atoms: &[Atom<'_>], at: usize) -> Option<Masked> {
    date(atoms, at).map(|taken| (DATE, taken)).or_else(|| clock(atoms, at).map(|taken| (TIME, taken)))
}

/// How many atoms the date takes.
fn date(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let word = atoms[at].text;
    let mut next = at;
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        if is_epoch(atoms, at) {
            return Some(1);
        }
    } else if word.len() > LONGEST_NAME {
        return None;
    } else if is_one_of(word, WEEKDAYS) {
        next = behind(atoms, at)?;
    } else if !is_one_of(word, MONTHS) {
        return None;
    }
    let taken = date_word(atoms, next).or_else(|| spoken_date(atoms, next))?;
    Some(next - at + taken)
}

/// The seconds, or thousandths and so on, since 1970 behind a name such as `eventtime`.
fn is_epoch(atoms: &[Atom<'_>], at: usize) -> bool {
    let word = atoms[at].text;
    let number = word.starts_with('1')
        && matches!(word.len(), 10 | 13 | 16 | 19)
        && word.bytes().all(|b| b.is_ascii_digit());
    number
        && at > 0
        && atoms[at - 1].kind != Kind::Word
        && word_before(atoms, at).is_some_and(|name| {
            let name = name.to_ascii_lowercase();
            name.ends_with("time") || name.ends_with("timestamp") || name.ends_with("date")
        })
}

/// A date in one word.
fn date_word(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let word = atoms.get(at)?.text;
    if !word.starts_with(|c: char| c.is_ascii_digit()) || is_named(atoms, at) {
        return None;
    }
    let short =
        || SHORT_DATE.is_match(word) && behind(atoms, at).is_some_and(|next| clock(atoms, next).is_some());
    (DATE_WORD.is_match(word) || short()).then_some(1)
}

/// A date with the name of its month. Without a year it is one only if a time follows.
fn spoken_date(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let second = behind(atoms, at)?;
    let (first_word, second_word) = (atoms[at].text, atoms[second].text);
    let is_day_of = |day: &str, month: &str| DAY.is_match(day) && is_one_of(month, MONTHS);
    if !(is_day_of(first_word, second_word) || is_day_of(second_word, first_word)) {
        return None;
    }
    let third = behind(atoms, second)?;
    if is_year(atoms[third].text) {
        return Some(third + 1 - at);
    }
    let time = clock(atoms, third)?;
    // `date` and syslog: Nov 30 10:00:00 CET 2026.
    let mut last = third + time;
    for _ in 0..2 {
        let Some(next) = behind(atoms, last - 1) else { break };
        if is_year(atoms[next].text) {
            return Some(next + 1 - at);
        }
        let zone = atoms[next].text;
        if zone.len() > 5 || !zone.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+')
        {
            break;
        }
        last = next + 1;
    }
    Some(second + 1 - at)
}

fn is_year(word: &str) -> bool {
    word.len() == 4
        && (word.starts_with("19") || word.starts_with("20"))
        && word.bytes().all(|b| b.is_ascii_digit())
}

/// How many atoms the clock time takes.
fn clock(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let word = atoms.get(at)?.text;
    if !word.starts_with(|c: char| c.is_ascii_digit()) || !CLOCK_WORD.is_match(word) {
        return None;
    }
    let half = atoms.get(at + 1).filter(|atom| atom.kind == Kind::Blank).and_then(|_| atoms.get(at + 2));
    let half = half.is_some_and(|atom| is_one_of(atom.text, &["am", "pm", "a.m", "p.m"]));
    let sure = half || SURE_CLOCK.is_match(word);
    if !sure && (word.find(':') == Some(1) || is_named(atoms, at)) {
        return None;
    }
    Some(if half { 3 } else { 1 })
}

/// Whether the word before says that this one names a part, a version or a case.
fn is_named(atoms: &[Atom<'_>], at: usize) -> bool {
    word_before(atoms, at).is_some_and(|before| is_one_of(before, NAMED))
}

/// The word behind the one at `at`, if at most a comma or a dot and blanks stand between.
fn behind(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let between = atoms.get(at + 1..)?.iter().take(3).take_while(|atom| match atom.kind {
        Kind::Blank => true,
        Kind::Mark => matches!(atom.text, "," | "."),
        Kind::Word => false,
    });
    let next = at + 1 + between.count();
    atoms.get(next).filter(|atom| atom.kind == Kind::Word && next > at + 1).map(|_| next)
}
