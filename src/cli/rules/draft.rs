//! A first rule file for a mail: how to tell mails like it, and which id it carries. All of it is a guess for a
//! person to go over, so it takes what is there and invents nothing: one mail does not tell how another would
//! say that it is over, and so it closes only what a pair of mails shows to close.

use std::fmt::Write;
use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::cli::terminal::one_line;
use crate::mail::Message;

use super::pair::Pair;
use super::patterns::{SUBJECT_LIMIT, escaped, general, key_in_text};

/// Longest name of a source in characters.
const NAME_LIMIT: usize = 80;

/// A first rule file, but for its example.
pub(super) struct Draft {
    /// The name of the source.
    name: String,
    /// The conditions that tell mails like this: field and pattern.
    when: Vec<(&'static str, String)>,
    has_subject: bool,
    /// What says that it is over: the field and the pattern for it; only a pair of mails tells.
    over: Option<(&'static str, String)>,
    /// Whether other rules know the mail: key and status are theirs then.
    pub known: bool,
    /// The start of every external id.
    prefix: String,
    key: Key,
}

/// Where the key comes from.
enum Key {
    /// The name that the subject's pattern captures.
    Subject(&'static str),
    /// A pattern that captures `id` in the text.
    Text(String),
    None,
}

impl Draft {
    /// The draft for mails like `message`; none if there is nothing to tell them by.
    pub fn of(message: &Message, name: Option<&str>) -> Option<Self> {
        let sender = message.from.first().filter(|sender| !sender.address.is_empty());
        let mut when = Vec::new();
        if let Some(sender) = sender {
            when.push(("from", format!(r"(?i)\A{}\z", escaped(&sender.address))));
        }
        let has_subject = !message.subject.trim().is_empty();
        let mut key = Key::None;
        if has_subject {
            let text_key = key_in_text(&message.text);
            let subject = Subject::of(message.subject.trim(), text_key.is_none());
            key = match (subject.key, text_key) {
                (Some(group), _) => Key::Subject(group),
                (None, Some(pattern)) => Key::Text(pattern),
                (None, None) => Key::None,
            };
            when.push(("subject", subject.pattern));
        } else if let Some(pattern) = key_in_text(&message.text) {
            key = Key::Text(pattern);
        }
        if when.is_empty() {
            let line = message.text.lines().find(|line| !line.trim().is_empty())?;
            let start: String = line.trim().chars().take(SUBJECT_LIMIT).collect();
            when.push(("text", format!(r"\A\s*{}", general(&start))));
        }
        let person = sender.map(|sender| sender.name.trim()).filter(|name| !name.is_empty());
        let address = sender.map(|sender| sender.address.as_str());
        let guess = match (person, address) {
            (Some(person), Some(address)) => format!("{person} ({address})"),
            (_, Some(address)) => address.to_owned(),
            _ => "A first rule file".to_owned(),
        };
        let prefix = slug(name.or(person).or(address).unwrap_or("mail"));
        let name = crate::event::bounded(name.unwrap_or(&guess), NAME_LIMIT).into_owned();
        Some(Self { name, when, has_subject, over: None, known: false, prefix, key })
    }

    /// The draft for mails like `problem` and the `recovery` that closes it.
    ///
    /// # Errors
    /// Why there can be none, in words for the operator.
    pub fn of_pair(problem: &Message, recovery: &Message, name: Option<&str>) -> Result<Self, String> {
        let pair = Pair::of(problem, recovery)?;
        let mut draft =
            Self::of(problem, name).ok_or("the mail has no sender, no subject and no text".to_owned())?;
        draft.when.retain(|(field, _)| *field != "subject");
        if draft.has_subject {
            draft.when.push(("subject", pair.subject));
        }
        draft.key = match (pair.key, pair.key_in_text) {
            (Some(group), _) => Key::Subject(group),
            (None, Some(pattern)) => Key::Text(pattern),
            (None, None) => Key::None,
        };
        draft.over = Some(pair.over);
        Ok(draft)
    }

    /// The rule file. `notes` stand above it as comments; an example is a mail and what comes of it, as TOML.
    pub fn text(&self, notes: &[String], examples: &[(String, String)]) -> String {
        let mut text = String::from("version = 1\n\n");
        for note in notes {
            text.push_str(&format!("# {}\n", one_line(note)));
        }
        let when: Vec<String> =
            self.when.iter().map(|(field, pattern)| format!("{field} = {}", literal(pattern))).collect();
        text.push_str(&format!(
            "[source]                  # which mails this file speaks about: make general what changes\n\
             name = {}\nwhen = {{ {} }}\n",
            quoted(&self.name),
            when.join(", ")
        ));
        // Said outright: else SIGNL4's own parameters in such a mail could say otherwise. What other rules know of
        // the mail, when it closes above all, is not taken from them.
        let mut set = if self.known { Vec::new() } else { vec!["status = \"new\"".to_owned()] };
        if self.has_subject {
            set.push("title = \"{{ subject }}\"".to_owned());
        }
        if let (Key::Subject(group), false) = (&self.key, self.known) {
            // The longest part of a subject is words: as a key they have no blanks and no case.
            let filter = if *group == "what" { " | slug" } else { "" };
            set.push(format!("external-id = \"{}:{{{{ {group}{filter} }}}}\"", self.prefix));
        }
        if set.is_empty() {
            set.push("title = \"{{ text | first_line }}\"".to_owned());
        }
        let does = if self.known { "it has our title" } else { "it pages" };
        text.push_str(&format!("\n[[rule]]\nname = \"{does}\"\nset = {{ {} }}\n", set.join(", ")));
        if self.known {
            text.push_str("\n# Key, severity and status are those of the rules that know this mail; what is set here wins over them.\n");
            self.examples(&mut text, examples);
            return text;
        }
        if let Key::Text(pattern) = &self.key {
            text.push_str(&format!(
                "\n[[rule]]\nname = \"the key of the incident is in the text\"\nwhen = {{ text = {} }}\n\
                 set = {{ external-id = \"{}:{{{{ id }}}}\" }}\n",
                literal(pattern),
                self.prefix
            ));
        }
        match (&self.key, &self.over) {
            (Key::None, _) => text.push_str(
                "\n# No key was found: mails are grouped by thread or subject, and none can close the alert.\n\
                 # Capture what an incident keeps for life as (?<id>...) and set external-id to it.\n",
            ),
            (_, None) => text.push_str(
                "\n# One mail does not tell how another says that it is over. From both a file is drafted that closes:\n\
                 #   smtp2signl4 rules new --from PROBLEM --closed-by RECOVERY\n",
            ),
            (_, Some((field, pattern))) => text.push_str(&format!(
                "\n[[rule]]\nname = \"it closes\"\nwhen = {{ {field} = {} }}\nset = {{ status = \"resolved\" }}\n",
                literal(pattern)
            )),
        }
        self.examples(&mut text, examples);
        text
    }

    /// Adds the examples: each a mail and what comes of it, as TOML.
    fn examples(&self, text: &mut String, examples: &[(String, String)]) {
        for (mail, expect) in examples {
            text.push_str(&format!("\n[[example]]\nmail = {mail}\nexpect = {expect}\n"));
        }
    }
}

/// What changes from mail to mail in a subject.
static PARTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?<tilde>~[0-9]+)|(?<hash>#[0-9]+)|(?<ticket>\b[A-Z][A-Z0-9]{1,9}-[0-9]+\b)|(?<number>[0-9]+)|",
        r"(?<state>(?i-u:\b(?:problem|firing|down|critical|warning|failed|failure|unreachable|triggered|",
        r"recovery|recovered|resolved|ok|up|closed|cleared|fixed|success|normal|ended)\b))",
    ))
    .expect("the pattern is written here")
});

/// A number that looks like an id: long, and no year, part of a time, version or port.
static LONE_NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|[\s(\[])(?<id>[013-9][0-9]{3,}|2[1-9][0-9]{2,}|20[0-9]{3,})(?:$|[\s)\],])")
        .expect("the pattern is written here")
});

/// A pattern for a subject.
struct Subject {
    pattern: String,
    key: Option<&'static str>,
}

impl Subject {
    /// The pattern for subjects like `subject`. Where it holds no id and nothing else does, as
    /// `must_have_key` says, its longest part is the key if a state stands beside it.
    fn of(subject: &str, must_have_key: bool) -> Self {
        let whole = subject.chars().nth(SUBJECT_LIMIT).is_none();
        let subject: String = subject.chars().take(SUBJECT_LIMIT).collect();
        let parts: Vec<Captures<'_>> = PARTS.captures_iter(&subject).collect();
        let has = |group: &str| parts.iter().find_map(|part| part.name(group)).map(|found| found.start());
        let id = ["tilde", "hash", "ticket"].into_iter().find_map(has).or_else(|| {
            let lone = LONE_NUMBER.captures(&subject)?;
            must_have_key.then(|| lone.name("id").map(|id| id.start()))?
        });
        let states = || parts.iter().filter_map(|part| part.name("state"));
        let what = (id.is_none() && must_have_key && states().next().is_some())
            .then(|| longest_between(&subject, states().map(|word| word.range())))
            .flatten();

        let mut pattern = String::from(r"\A");
        let literal = |pattern: &mut String, gap: Range<usize>| {
            let cuts = what.clone().map_or([0, 0], |what| [what.start, what.end]);
            let mut from = gap.start;
            for (cut, mark) in cuts.into_iter().zip(["(?<what>", ")"]) {
                // What ends at the end of a gap ends there, and not at the start of the next.
                let within = if mark == ")" { gap.start < cut && cut <= gap.end } else { gap.contains(&cut) };
                if what.is_some() && within {
                    pattern.push_str(&escaped(&subject[from..cut]));
                    pattern.push_str(mark);
                    from = cut;
                }
            }
            pattern.push_str(&escaped(&subject[from..gap.end]));
        };
        let mut end = 0;
        for part in &parts {
            let found = part.get(0).expect("a match has a text");
            literal(&mut pattern, end..found.start());
            if what.as_ref().is_some_and(|what| what.start == found.start()) {
                pattern.push_str("(?<what>");
            }
            let is_id = Some(found.start()) == id;
            pattern.push_str(match part.name("state") {
                Some(_) => "[A-Za-z]+",
                None if part.name("tilde").is_some() => pick(is_id, "(?<id>~[0-9]+)", "~[0-9]+"),
                None if part.name("hash").is_some() => pick(is_id, "#(?<id>[0-9]+)", "#[0-9]+"),
                None if part.name("ticket").is_some() => {
                    pick(is_id, "(?<id>[A-Z][A-Z0-9]+-[0-9]+)", "[A-Z][A-Z0-9]+-[0-9]+")
                }
                None => pick(is_id, "(?<id>[0-9]+)", "[0-9]+"),
            });
            if what.as_ref().is_some_and(|what| what.end == found.end()) {
                pattern.push(')');
            }
            end = found.end();
        }
        literal(&mut pattern, end..subject.len());
        if whole {
            pattern.push_str(r"\z");
        }
        let key = if id.is_some() { Some("id") } else { what.map(|_| "what") };
        Self { pattern, key }
    }
}

/// The longest part of `subject` between `states`, from its first letter to its last letter or digit: it
/// most likely says what is up or down.
fn longest_between(subject: &str, states: impl Iterator<Item = Range<usize>>) -> Option<Range<usize>> {
    let mut end = 0;
    let mut gaps: Vec<Range<usize>> = Vec::new();
    for state in states {
        gaps.push(end..state.start);
        end = state.end;
    }
    gaps.push(end..subject.len());
    let trimmed = gaps.into_iter().filter_map(|gap| {
        let text = &subject[gap.clone()];
        let start = text.find(char::is_alphabetic)?;
        let (last, c) = text.char_indices().rfind(|(_, c)| c.is_alphanumeric())?;
        Some(gap.start + start..gap.start + last + c.len_utf8())
    });
    trimmed.max_by_key(|gap| (gap.len(), std::cmp::Reverse(gap.start)))
}

fn pick<'a>(first: bool, one: &'a str, other: &'a str) -> &'a str {
    if first { one } else { other }
}

/// The start of an external id: lower case, without blanks.
fn slug(text: &str) -> String {
    let words: Vec<String> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(4)
        .map(str::to_ascii_lowercase)
        .collect();
    if words.is_empty() { "mail".to_owned() } else { words.join("-") }
}

/// A TOML string: as it is in single quotes, if it can be.
fn literal(text: &str) -> String {
    if text.contains('\'') || text.contains(char::is_control) { quoted(text) } else { format!("'{text}'") }
}

/// A TOML string in double quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out.push('"');
    out
}

/// A TOML string over several lines.
pub(super) fn block(text: &str) -> String {
    let mut out = String::from("\"\"\"\n");
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\n' => out.push(c),
            '"' if !out.ends_with('"') => out.push(c),
            c => push_escaped(&mut out, c),
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out.push_str("\"\"\"");
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes everything"),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> String {
        Subject::of(text, true).pattern
    }

    #[test]
    fn a_subject_becomes_an_anchored_pattern_with_what_changes_in_groups() {
        for (text, pattern) in [
            (
                "[Case #1208] Suspicious PowerShell on WS-042",
                r"\A\[Case #(?<id>[0-9]+)\] Suspicious PowerShell on [A-Z][A-Z0-9]+-[0-9]+\z",
            ),
            ("Incident Case Notification: ~41136 x", r"\AIncident Case Notification: (?<id>~[0-9]+) x\z"),
            (
                "** PROBLEM Host Alert: web01 is DOWN **",
                r"\A\*\* [A-Za-z]+ (?<what>Host Alert: web[0-9]+ is) [A-Za-z]+ \*\*\z",
            ),
            ("[SOC MISP] Event 1337", r"\A\[SOC MISP\] Event (?<id>[0-9]+)\z"),
            (
                "[FIRING:1] InstanceDown (web:9100 node)",
                r"\A\[[A-Za-z]+:[0-9]+\] (?<what>InstanceDown \(web:[0-9]+ node)\)\z",
            ),
            (
                "core-sw1 Down ended (now: Up) (OK)",
                r"\A(?<what>core-sw[0-9]+) [A-Za-z]+ [A-Za-z]+ \(now: [A-Za-z]+\) \([A-Za-z]+\)\z",
            ),
            ("Report of 2026-11-20", r"\AReport of [0-9]+-[0-9]+-[0-9]+\z"),
        ] {
            assert_eq!(subject(text), pattern);
            assert!(Regex::new(pattern).unwrap().is_match(text), "{text}");
        }
    }

    #[test]
    fn any_text_can_be_written_as_toml() {
        let text = "a 'b' \"\"\"c\"\"\"\" \\ \u{1b} \u{202e}\ttab\nend\"";
        for written in [quoted(text), block(text), literal(text)] {
            let read: toml::Table = toml::from_str(&format!("x = {written}")).unwrap();
            assert_eq!(read["x"].as_str().unwrap().trim_end(), text);
        }
    }
}
