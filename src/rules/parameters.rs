//! SIGNL4's own parameters in a mail (<https://docs.signl4.com/integrations/email/email.html>): header
//! fields called `X-S4-*`, or a body of `Key: value` lines throughout. A line among other text counts for
//! nothing: a writer of a log line or a ticket must not steer.

use crate::event::{Severity, refuse_field};
use crate::words::Words;

use super::field::Key;
use super::file::{Parameters, Target};
use super::mail_fields::MailFields;

/// What a mail asks to be set.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) sets: Vec<(Target, String)>,
    pub(super) notes: Vec<String>,
}

/// The parameters by their names in lower case. `X-S4-Subject` forces the title.
const PARAMETERS: [(&str, Key); 8] = [
    ("x-s4-externalid", Key::ExternalId),
    ("x-s4-status", Key::Status),
    ("x-s4-service", Key::Service),
    ("x-s4-alertingscenario", Key::Scenario),
    ("x-s4-filtering", Key::Filtering),
    ("x-s4-location", Key::Location),
    ("x-s4-sourcesystem", Key::SourceSystem),
    ("x-s4-subject", Key::Title),
];

/// Names that SIGNL4 takes for the title; the first that is there wins.
const TITLES: [&str; 6] = ["title", "subject", "job", "task", "case", "incident"];

/// Names that SIGNL4 takes for the text; the first that is there wins.
const TEXTS: [&str; 6] = ["text", "message", "messagetext", "description", "body", "content"];

pub(super) fn read(from: Parameters, mail: &MailFields<'_>) -> Found {
    match from {
        Parameters::Headers => {
            let headers = mail.message.headers.iter().map(|(name, value)| (name.as_str(), value.trim()));
            let mut found = Found::default();
            found.steer(&headers.filter(|(name, _)| is_parameter(name)).collect::<Vec<_>>());
            found
        }
        Parameters::Body => match lines(mail.text) {
            Some(lines) if lines.iter().any(|(name, _)| is_parameter(name)) => {
                body(&lines, &mail.message.subject)
            }
            _ => Found::default(),
        },
    }
}

/// The `Key: value` lines of a text that has nothing else but blank lines.
fn lines(text: &str) -> Option<Vec<(&str, &str)>> {
    text.lines().filter(|line| !line.trim().is_empty()).map(line).collect()
}

fn line(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim();
    let sign = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '/');
    let named = !name.is_empty() && name.len() <= 64 && name.chars().all(sign);
    // Several words and nothing behind the colon announce a text; no blank behind it makes a URL or a time.
    let parted = if value.trim().is_empty() { !name.contains(' ') } else { value.starts_with([' ', '\t']) };
    (named && parted).then(|| (name, value.trim()))
}

fn is_parameter(name: &str) -> bool {
    name.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("x-s4-"))
}

fn body(lines: &[(&str, &str)], subject: &str) -> Found {
    let mut found = Found::default();
    let first = |names: &[&str]| {
        names.iter().find_map(|wanted| lines.iter().position(|(name, _)| name.eq_ignore_ascii_case(wanted)))
    };
    let (title, text) = (first(&TITLES), first(&TEXTS));
    if let Some(at) = title {
        found.sets.push((Target::Key(Key::Title), lines[at].1.to_owned()));
    }
    let mut message = text.map_or(String::new(), |at| lines[at].1.to_owned());
    for (at, (name, value)) in lines.iter().enumerate() {
        if Some(at) == title || Some(at) == text || is_parameter(name) || value.is_empty() {
            continue;
        }
        let is_key = |key: &str| name.eq_ignore_ascii_case(key);
        if is_key("color") {
            found.sets.push((Target::Key(Key::Color), (*value).to_owned()));
        } else if is_key("severity") && Severity::from_word(value.trim()).is_some() {
            found.sets.push((Target::Key(Key::Severity), (*value).to_owned()));
        } else if refuse_field(name).is_none() {
            found.sets.push((Target::Tile((*name).to_owned()), (*value).to_owned()));
        } else {
            // SIGNL4 would take such a tile for the title or the text.
            message.push_str(&format!("\n{name}: {value}"));
        }
    }
    let message = if message.trim().is_empty() { subject } else { message.trim() };
    found.sets.push((Target::Key(Key::Message), message.to_owned()));
    found.steer(&lines.iter().copied().filter(|(name, _)| is_parameter(name)).collect::<Vec<_>>());
    found
}

impl Found {
    /// Whether the mail has no parameters, not even wrong ones.
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.notes.is_empty()
    }

    /// Takes in the parameters. One that is there twice and says two things says nothing.
    fn steer(&mut self, lines: &[(&str, &str)]) {
        for (at, (name, value)) in lines.iter().enumerate() {
            let same = |other: &&(&str, &str)| other.0.eq_ignore_ascii_case(name);
            if lines.iter().filter(same).any(|(_, other)| other != value) {
                self.notes.push(format!("{name} is not counted: it is there with several values"));
                continue;
            }
            if value.is_empty() || lines[..at].iter().any(|other| other.0.eq_ignore_ascii_case(name)) {
                continue;
            }
            match PARAMETERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((_, key)) => self.sets.push((Target::Key(*key), (*value).to_owned())),
                None => self.notes.push(format!("{name} is no parameter of SIGNL4")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_only_if_it_has_nothing_but_lines() {
        assert!(lines("Message: a\n\nX-S4-Status: new\n").is_some());
        assert!(lines("X-S4-Location:\nX-S4-Status: new\n").is_some());
        for text in [
            "Hello,\nX-S4-Status: resolved",
            "The log says:\nX-S4-Status: new",
            "> X-S4-Status: resolved",
            "https://a.example/",
            "12:30 up",
        ] {
            assert!(lines(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_parameter_that_says_two_things_says_nothing() {
        let mut found = Found::default();
        found.steer(&[
            ("X-S4-Status", "new"),
            ("x-s4-status", "resolved"),
            ("X-S4-Service", "A"),
            ("X-S4-Foo", "b"),
        ]);
        assert_eq!(found.sets, [(Target::Key(Key::Service), "A".to_owned())]);
        assert_eq!(found.notes.len(), 3);
    }
}
