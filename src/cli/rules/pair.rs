//! A first rule file for a problem and its recovery: what both share is the key, what differs is the state.
//! Where only a person can say which state is the old one and which the new, it says so and drafts nothing.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::mail::Message;

use super::patterns::{SUBJECT_LIMIT, escaped, general, key_in_text};

/// What a pair of mails says about all mails like them.
pub(super) struct Pair {
    /// The pattern for their subjects.
    pub subject: String,
    /// The name that the subject's pattern captures as the key.
    pub key: Option<&'static str>,
    /// The pattern that captures the key `id` in their texts.
    pub key_in_text: Option<String>,
    /// What of a mail says that it is over: the field, and the pattern for it.
    pub over: (&'static str, String),
}

/// A stretch of two subjects.
enum Stretch {
    Same(String),
    /// What stands there in the problem and in the recovery.
    Other(String, String),
}

impl Pair {
    /// What `problem` and `recovery` say together.
    ///
    /// # Errors
    /// Why nothing can be drafted from them, in words for the operator.
    pub fn of(problem: &Message, recovery: &Message) -> Result<Self, String> {
        let address = |mail: &Message| mail.from.first().map(|sender| sender.address.to_lowercase());
        if address(problem) != address(recovery) {
            return Err("the two mails are not of one sender".to_owned());
        }
        let stretches = compare(&shortened(&problem.subject), &shortened(&recovery.subject));
        let states: Vec<usize> = (0..stretches.len()).filter(|&at| is_state(&stretches[at])).collect();
        old_or_new(states.iter().map(|&at| &stretches[at]))?;
        let state = states
            .iter()
            .copied()
            .find(|&at| matches!(&stretches[at], Stretch::Other(_, after) if !after.trim().is_empty()));
        let over = match state {
            Some(at) => {
                let Stretch::Other(_, after) = &stretches[at] else { unreachable!("it was just found") };
                ("state", format!(r"(?i)\A{}\z", general(after.trim())))
            }
            None if !states.is_empty() => {
                return Err("the recovery says nothing in its subject that the problem does not say: a file that closes by what is missing would close by chance".to_owned());
            }
            None => ("text", state_in_text(&problem.text, &recovery.text)?),
        };
        let text_key = key_in_text(&problem.text).filter(|pattern| same_id(pattern, problem, recovery));
        let (subject, key) = pattern(&stretches, state, text_key.is_none());
        let key_in_text = if key.is_some() { None } else { text_key };
        if key.is_none() && key_in_text.is_none() {
            return Err("nothing that both mails share names what they are about: without a key no mail closes another".to_owned());
        }
        Ok(Self { subject, key, key_in_text, over })
    }
}

fn shortened(subject: &str) -> String {
    subject.trim().chars().take(SUBJECT_LIMIT).collect()
}

/// Both subjects as stretches that are the same and such that are not.
fn compare(before: &str, after: &str) -> Vec<Stretch> {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+|\s+|.").expect("the pattern is written here"));
    let words = |text: &'static Regex, of: &str| -> Vec<String> {
        text.find_iter(of).map(|word| word.as_str().to_owned()).collect()
    };
    let (a, b) = (words(&WORDS, before), words(&WORDS, after));
    // The longest common subsequence, from the end; a subject is short.
    let mut longest = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for at in (0..a.len()).rev() {
        for other in (0..b.len()).rev() {
            longest[at][other] = if a[at] == b[other] {
                // What is no word joins nothing by itself.
                longest[at + 1][other + 1] + if a[at].contains(char::is_alphanumeric) { 10 } else { 1 }
            } else {
                longest[at + 1][other].max(longest[at][other + 1])
            };
        }
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    let (mut at, mut other) = (0, 0);
    while at < a.len() || other < b.len() {
        if at < a.len() && other < b.len() && a[at] == b[other] {
            match stretches.last_mut() {
                Some(Stretch::Same(text)) => text.push_str(&a[at]),
                _ => stretches.push(Stretch::Same(a[at].clone())),
            }
            at += 1;
            other += 1;
            continue;
        }
        if !matches!(stretches.last(), Some(Stretch::Other(..))) {
            stretches.push(Stretch::Other(String::new(), String::new()));
        }
        let Some(Stretch::Other(before, after)) = stretches.last_mut() else { unreachable!("just pushed") };
        if other == b.len() || at < a.len() && longest[at + 1][other] >= longest[at][other + 1] {
            before.push_str(&a[at]);
            at += 1;
        } else {
            after.push_str(&b[other]);
            other += 1;
        }
    }
    stretches.into_iter().fold(Vec::new(), join)
}

/// Adds `next`; blanks between two stretches that differ belong to them.
fn join(mut all: Vec<Stretch>, next: Stretch) -> Vec<Stretch> {
    if let Stretch::Other(before, after) = &next
        && let [.., Stretch::Other(..), Stretch::Same(gap)] = all.as_slice()
        && gap.trim().is_empty()
    {
        let gap = gap.clone();
        all.pop();
        if let Some(Stretch::Other(b, a)) = all.last_mut() {
            b.push_str(&gap);
            b.push_str(before);
            a.push_str(&gap);
            a.push_str(after);
        }
        return all;
    }
    all.push(next);
    all
}

/// Whether a stretch differs because the state does, and not because time went by.
fn is_state(stretch: &Stretch) -> bool {
    matches!(stretch, Stretch::Other(before, after) if !is_time(before, after))
}

/// Whether two texts differ as times, durations and counts do.
fn is_time(before: &str, after: &str) -> bool {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\A(?:\s*[0-9]+(?:[.:,/TZ+%-]?|(?i-u: ?(?:ms|s|sec|m|min|h|d|days?|hours?|minutes?|seconds?)))\b?\s*)*\z")
            .expect("the pattern is written here")
    });
    general(before) == general(after) || TIME.is_match(before) && TIME.is_match(after)
}

/// Refuses a pair whose states share a word: "OK -> CRIT" and "CRIT -> OK" name the same two.
fn old_or_new<'s>(states: impl Iterator<Item = &'s Stretch>) -> Result<(), String> {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for state in states {
        if let Stretch::Other(b, a) = state {
            before.extend(words(b));
            after.extend(words(a));
        }
    }
    match before.iter().find(|word| after.contains(word)) {
        None => Ok(()),
        Some(word) => Err(format!(
            "both mails name the state `{}`: which is the old one and which the new, only a person can say; write the file by hand, as the recipe in rules/README.md does, with a pattern such as '(?<old>\\w+) -> (?<new>\\w+)'",
            word.escape_debug()
        )),
    }
}

/// The pattern for the line of the recovery's text that says how it is, where the subjects do not.
fn state_in_text(problem: &str, recovery: &str) -> Result<String, String> {
    let lines = |text: &str| -> Vec<(String, String)> {
        let labelled = text.lines().filter_map(|line| line.split_once(':'));
        labelled.map(|(label, value)| (label.trim().to_owned(), value.trim().to_owned())).collect()
    };
    let (before, after) = (lines(problem), lines(recovery));
    let mut found: Vec<(&str, &str)> = Vec::new();
    for (label, value) in &after {
        let other = before.iter().find(|(other, _)| other == label).map(|(_, value)| value);
        let differs = other.is_some_and(|other| other != value && !is_time(other, value));
        if differs && !value.is_empty() && !label.is_empty() && !found.iter().any(|(known, _)| known == label)
        {
            found.push((label, value));
        }
    }
    let named = |label: &str| ["status", "state"].iter().any(|name| label.to_lowercase().ends_with(name));
    if found.len() > 1 && found.iter().filter(|(label, _)| named(label)).count() == 1 {
        found.retain(|(label, _)| named(label));
    }
    match found.as_slice() {
        [(label, value)] => Ok(format!(r"^[ \t]*{}[ \t]*:[ \t]*{}[ \t]*$", escaped(label), general(value))),
        [] => Err("the mails differ in nothing that says how it is: their subjects are the same, and no line of their texts has another value".to_owned()),
        several => {
            let labels: Vec<String> = several.iter().map(|(label, _)| format!("`{}`", label.escape_debug())).collect();
            Err(format!("several lines differ, {}: which of them says that it is over, only a person can say", labels.join(", ")))
        }
    }
}

/// Whether `pattern` finds the same id in both texts.
fn same_id(pattern: &str, problem: &Message, recovery: &Message) -> bool {
    let Ok(regex) = Regex::new(pattern) else { return false };
    let id = |text: &str| regex.captures(text).map(|found| found["id"].to_owned());
    id(&problem.text).is_some_and(|found| id(&recovery.text) == Some(found))
}

/// The pattern for both subjects, and the name that captures the key in it.
fn pattern(
    stretches: &[Stretch],
    state: Option<usize>,
    must_have_key: bool,
) -> (String, Option<&'static str>) {
    static ID: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"~[0-9]+|#[0-9]+|\b[A-Z][A-Z0-9]{1,9}-[0-9]+\b").expect("the pattern is written here")
    });
    let id = stretches.iter().enumerate().find_map(|(at, stretch)| match stretch {
        Stretch::Same(text) => ID.find(text).map(|found| (at, found.range())),
        Stretch::Other(..) => None,
    });
    let what = if id.is_none() && must_have_key { longest(stretches) } else { None };
    let mut pattern = String::from(r"\A");
    for (at, stretch) in stretches.iter().enumerate() {
        match stretch {
            Stretch::Same(text) => {
                let (mark, range) = match (&id, &what) {
                    (Some((place, range)), _) if *place == at => ("(?<id>", range.clone()),
                    (_, Some((place, range))) if *place == at => ("(?<what>", range.clone()),
                    _ => {
                        pattern.push_str(&general(text));
                        continue;
                    }
                };
                pattern.push_str(&general(&text[..range.start]));
                pattern.push_str(mark);
                pattern.push_str(&general(&text[range.clone()]));
                pattern.push(')');
                pattern.push_str(&general(&text[range.end..]));
            }
            Stretch::Other(..) if Some(at) == state => pattern.push_str("(?<state>.*?)"),
            Stretch::Other(before, after) if general(before) == general(after) => {
                pattern.push_str(&general(before));
            }
            Stretch::Other(..) => pattern.push_str(".*?"),
        }
    }
    pattern.push_str(r"\z");
    let key = if id.is_some() { Some("id") } else { what.map(|_| "what") };
    (pattern, key)
}

/// The longest stretch that both share, from its first letter to its last letter or digit.
fn longest(stretches: &[Stretch]) -> Option<(usize, Range<usize>)> {
    let shared = stretches.iter().enumerate().filter_map(|(at, stretch)| {
        let Stretch::Same(text) = stretch else { return None };
        let start = text.find(char::is_alphanumeric)?;
        let (last, c) = text.char_indices().rfind(|(_, c)| c.is_alphanumeric())?;
        Some((at, start..last + c.len_utf8()))
    });
    shared.max_by_key(|(at, range)| (range.len(), std::cmp::Reverse(*at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str, text: &str) -> Message {
        Message::parse(format!("From: watch@soc.example\nSubject: {subject}\n\n{text}\n").as_bytes())
    }

    fn pair(problem: &str, recovery: &str) -> Result<Pair, String> {
        Pair::of(&mail(problem, "x"), &mail(recovery, "x"))
    }

    #[test]
    fn what_both_share_is_the_key_and_what_differs_the_state() {
        for (problem, recovery, subject, over) in [
            (
                "** PROBLEM Host Alert: web01 is DOWN **",
                "** RECOVERY Host Alert: web01 is UP **",
                r"\A\*\* (?<state>.*?) (?<what>Host Alert: web[0-9]+ is) .*? \*\*\z",
                r"(?i)\ARECOVERY\z",
            ),
            (
                "Backup of nas01: failed after 17 min",
                "Backup of nas01: succeeded after 2 min",
                r"\A(?<what>Backup of nas[0-9]+): (?<state>.*?) after [0-9]+ min\z",
                r"(?i)\Asucceeded\z",
            ),
            (
                "[#4711] disk full",
                "[#4711] disk cleaned",
                r"\A\[(?<id>#[0-9]+)\] disk (?<state>.*?)\z",
                r"(?i)\Acleaned\z",
            ),
            (
                "Link eth0 down",
                "Link eth0 down ended (now: fine)",
                r"\A(?<what>Link eth[0-9]+ down)(?<state>.*?)\z",
                r"(?i)\Aended \(now: fine\)\z",
            ),
        ] {
            let pair = pair(problem, recovery).unwrap_or_else(|why| panic!("{problem}: {why}"));
            assert_eq!((pair.subject.as_str(), pair.over.1.as_str()), (subject, over), "{problem}");
            let regex = Regex::new(&pair.subject).unwrap();
            assert!(regex.is_match(problem) && regex.is_match(recovery), "{problem}");
        }
    }

    #[test]
    fn what_only_a_person_can_say_is_not_guessed() {
        for (problem, recovery, why) in [
            ("db01: OK -> CRIT", "db01: CRIT -> OK", "which is the old one"),
            (
                "db01 changed from normal to failed",
                "db01 changed from failed to normal",
                "which is the old one",
            ),
            ("db01 is not OK", "db01 is OK", "closes by what is missing"),
            ("db01 report", "db01 report", "differ in nothing"),
            ("alarm", "fine", "names what they are about"),
        ] {
            let told = pair(problem, recovery).err().unwrap_or_else(|| panic!("{problem} was guessed"));
            assert!(told.contains(why), "{problem}: {told}");
        }
        let other = Message::parse(b"From: other@soc.example\nSubject: db01 is up\n\nx\n");
        assert!(Pair::of(&mail("db01 is down", "x"), &other).is_err());
    }

    #[test]
    fn a_line_of_the_text_says_it_where_the_subject_does_not() {
        let down = mail("Alert of pump 7", "Time: 18:04\nStatus: Down\nReason: pressure\n");
        let up = mail("Alert of pump 7", "Time: 18:09\nStatus: Running\nReason: none\n");
        let pair = Pair::of(&down, &up).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(pair.over, ("text", r"^[ \t]*Status[ \t]*:[ \t]*Running[ \t]*$".to_owned()));
        let (down, up) = (mail("Alert 7", "A: x\nB: y\n"), mail("Alert 7", "A: u\nB: v\n"));
        let told = Pair::of(&down, &up).err().unwrap();
        assert!(told.contains("`A`, `B`"), "{told}");
    }
}
