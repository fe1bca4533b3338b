//! Dates and clock times.

use std::sync::LazyLock;

use regex::Regex;

use super::atom::{Atom, Kind};
use super::lexicon::{DATE, Lexicon, Masked, TIME, word_before};

static MONTHS: Lexicon = Lexicon::new(&[
    "apr",
    "aug",
    "april",
    "august",
    "dec",
    "december",
    "dez",
    "dezember",
    "feb",
    "february",
    "februar",
    "jan",
    "jun",
    "jul",
    "january",
    "june",
    "july",
    "januar",
    "juni",
    "juli",
    "mar",
    "may",
    "march",
    "märz",
    "mär",
    "mrz",
    "mai",
    "nov",
    "november",
    "oct",
    "october",
    "okt",
    "oktober",
    "sep",
    "sept",
    "september",
]);

static WEEKDAYS: Lexicon = Lexicon::new(&[
    "dienstag",
    "donnerstag",
    "fri",
    "friday",
    "freitag",
    "mon",
    "monday",
    "montag",
    "mittwoch",
    "sat",
    "sun",
    "saturday",
    "sunday",
    "samstag",
    "sonntag",
    "tue",
    "tues",
    "thu",
    "thur",
    "thurs",
    "tuesday",
    "thursday",
    "wed",
    "wednesday",
]);

/// Words behind which numbers with a colon or dots between are names of parts and versions, and no times.
static NAMED: Lexicon = Lexicon::new(&[
    "bay",
    "build",
    "channel",
    "case",
    "disk",
    "drive",
    "fan",
    "firmware",
    "interface",
    "if",
    "incident",
    "id",
    "line",
    "lun",
    "module",
    "node",
    "number",
    "no",
    "nr",
    "port",
    "ports",
    "psu",
    "rack",
    "release",
    "slot",
    "serial",
    "sn",
    "target",
    "ticket",
    "unit",
    "vlan",
    "version",
]);

fn pattern(text: &str) -> Regex {
    Regex::new(&format!("^(?:{text})$")).expect("the pattern is fixed")
}

/// A date, and what stands behind it in the place of a time, in one word.
static DATE_WORD: LazyLock<Regex> = LazyLock::new(|| {
    let year_first =
        r"(?:19|20)[0-9]{2}(?:-[01]?[0-9]-[0-3]?[0-9]|/[01]?[0-9]/[0-3]?[0-9]|\.[01]?[0-9]\.[0-3]?[0-9])";
    let year_last = r"[0-3]?[0-9](?:-[01]?[0-9]-|/[0-3]?[0-9]/|\.[01]?[0-9]\.)(?:19|20)[0-9]{2}";
    let month =
        r"[0-3]?[0-9][-/](?i-u:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[-/](?:(?:19|20)[0-9]{2})";
    let compact = r"(?:19|20)[0-9]{6}T[0-9]{4}(?:[0-9]{2})?(?:[.,][0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?";
    pattern(&format!("(?:{year_first}|{year_last}|{month})(?:[Tt_,:-](?<time>.+))?|{compact}"))
});

/// A date with a year of two digits: one only if a time follows.
static SHORT_DATE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[0-3]?[0-9](?:/[0-3]?[0-9]/|\.[01]?[0-9]\.|-[01]?[0-9]-)[0-9]{2}"));

/// The halves of a day.
static HALVES: Lexicon = Lexicon::new(&["am", "a.m", "pm", "p.m"]);

/// What stands behind the number of a day.
static ORDINALS: Lexicon = Lexicon::new(&["nd", "rd", "st", "th"]);

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
    } else if WEEKDAYS.has(word) {
        next = behind(atoms, at)?;
    } else if !MONTHS.has(word) {
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
    // Most words are none by their first bytes: the shortest is `1.1.70`, and `20261130T1012` has no mark.
    let marked = || word.bytes().take(5).any(|byte| matches!(byte, b'-' | b'/' | b'.'));
    let compact = || word.as_bytes().get(8) == Some(&b'T');
    let may_be = word.starts_with(|c: char| c.is_ascii_digit()) && word.len() > 5 && (marked() || compact());
    if !may_be || is_named(atoms, at) {
        return None;
    }
    let short =
        || SHORT_DATE.is_match(word) && behind(atoms, at).is_some_and(|next| clock(atoms, next).is_some());
    (is_date(word) || short()).then_some(1)
}

/// Whether `word` is a date, with or without a time.
fn is_date(word: &str) -> bool {
    let time = |found: regex::Captures<'_>| found.name("time").is_none_or(|time| is_clock(time.as_str()));
    DATE_WORD.captures(word).is_some_and(time)
}

/// A date with the name of its month. Without a year it is one only if a time follows.
fn spoken_date(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let second = behind(atoms, at)?;
    let (first_word, second_word) = (atoms[at].text, atoms[second].text);
    let is_day_of = |day: &str, month: &str| MONTHS.has(month) && is_day(day);
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

/// Whether `word` is the day of a month: `1`, `01`, `31st`.
fn is_day(word: &str) -> bool {
    let digits = word.bytes().take(3).take_while(u8::is_ascii_digit).count();
    let (number, ordinal) = word.split_at(digits);
    digits < 3 && matches!(number.parse(), Ok(1..=31)) && (ordinal.is_empty() || ORDINALS.has(ordinal))
}

/// Whether `word` is a time of the day: `10:20`, `10:20:30.5+01:00`, `10:20pm`.
fn is_clock(word: &str) -> bool {
    let Some((hour, behind)) = word.split_once(':') else { return false };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let sixty = |text: &str| digits(text) >= 2 && text.as_bytes()[0] < b'6';
    if hour.len() > 2 || digits(hour) != hour.len() || !matches!(hour.parse(), Ok(0..=24)) || !sixty(behind) {
        return false;
    }
    let mut rest = &behind[2..];
    if let Some(seconds) = rest.strip_prefix(':').filter(|seconds| sixty(seconds)) {
        rest = &seconds[2..];
        if let Some(fraction) = rest.strip_prefix(['.', ',']).filter(|fraction| digits(fraction) > 0) {
            rest = &fraction[digits(fraction).min(9)..];
        }
    }
    match rest.strip_prefix(['+', '-']) {
        Some(zone) => {
            let (hours, minutes) = zone.split_at_checked(2).unwrap_or((zone, ""));
            let minutes = minutes.strip_prefix(':').unwrap_or(minutes);
            hours.len() == 2 && minutes.len() == 2 && digits(hours) == 2 && digits(minutes) == 2
        }
        None => rest.is_empty() || ["am", "pm", "z"].iter().any(|end| rest.eq_ignore_ascii_case(end)),
    }
}

/// How many atoms the clock time takes.
fn clock(atoms: &[Atom<'_>], at: usize) -> Option<usize> {
    let word = atoms.get(at)?.text;
    let (hour, behind) = word.split_once(':').filter(|_| is_clock(word))?;
    let half = atoms.get(at + 1).filter(|atom| atom.kind == Kind::Blank).and_then(|_| atoms.get(at + 2));
    let half = half.is_some_and(|atom| HALVES.has(atom.text));
    // No name of a part looks like a time with seconds or a half of the day.
    let behind = &behind[2..];
    let sure = half || behind.starts_with(':') || HALVES.has(behind);
    if !sure && (hour.len() == 1 || is_named(atoms, at)) {
        return None;
    }
    Some(if half { 3 } else { 1 })
}

/// Whether the word before says that this one names a part, a version or a case.
fn is_named(atoms: &[Atom<'_>], at: usize) -> bool {
    word_before(atoms, at).is_some_and(|before| NAMED.has(before))
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
