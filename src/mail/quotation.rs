//! What of a text its sender did not write: quoted lines, and a mail that stands below because it was answered or
//! forwarded. It finds more than [`super::Message::own_text`] leaves out: that is for readers, and keeps what is in
//! doubt; this is for the question whether the sender says so himself.

use std::ops::Range;

use super::text;

/// Lines below its first in which the head of an older mail names its subject.
const HEAD_LINES: usize = 8;

/// The words before the colon that begin the head of a mail, in lower case.
const FROM: [&str; 6] = ["from", "von", "de", "da", "van", "från"];

/// The words before the colon that name a subject, in lower case.
const SUBJECT: [&str; 7] = ["subject", "betreff", "objet", "asunto", "oggetto", "onderwerp", "ämne"];

/// The places in `text`, which is tidy, that its sender did not write: in order, none within another.
pub fn quoted(text: &str) -> Vec<Range<usize>> {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for (at, line) in lines.iter().enumerate() {
        let end = (start + line.len() + 1).min(text.len());
        if begins_older_mail(&lines[at..]) {
            found.push(start..text.len());
            break;
        }
        if line.trim_start().starts_with('>') {
            match found.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => found.push(start..end),
            }
        }
        start = end;
    }
    found.retain(|range| !range.is_empty());
    found
}

/// Whether the lines begin with what stands above a mail that was answered or forwarded.
fn begins_older_mail(lines: &[&str]) -> bool {
    if text::begins_older_mail(lines) || text::is_attribution(lines[0].trim()) {
        return true;
    }
    if !named(lines[0], &FROM).is_some_and(|value| value.contains('@')) {
        return false;
    }
    lines.iter().skip(1).take(HEAD_LINES).any(|line| named(line, &SUBJECT).is_some())
}

/// The value of a line `NAME: value` with one of these names, which mail programs may have set in bold or indented.
fn named<'l>(line: &'l str, names: &[&str]) -> Option<&'l str> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_matches(|c: char| c.is_whitespace() || "*|".contains(c));
    names.contains(&name.to_lowercase().as_str()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a text without what its sender did not write.
    fn own(text: &str) -> String {
        let mut own = String::new();
        let mut at = 0;
        for range in quoted(text) {
            own.push_str(&text[at..range.start]);
            at = range.end;
        }
        own + &text[at..]
    }

    #[test]
    fn quoted_lines_and_older_mails_are_not_the_senders_own() {
        assert_eq!(own("Done.\n\n> Status: Closed\n>> x\nBye"), "Done.\n\nBye");
        assert_eq!(own("> all\n> of it"), "");
        for head in [
            "---------- Forwarded message ---------\nFrom: a",
            "-----Original Message-----\nx",
            "Begin forwarded message:\n\nx",
            "On Fri, 20 Nov 2026 a@x.example wrote:\nx",
            "From: A <a@x.example>\nSent: Friday\nTo: b\nSubject: c\n\nx",
            "*Von:* A <a@x.example>\n*Datum:* Freitag\n*Betreff:* c\n\nx",
            "  De : A <a@x.example>\n  Envoyé : x\n  Objet : c",
        ] {
            assert_eq!(own(&format!("FYI\n\n{head}\nStatus: Closed")), "FYI\n\n", "{head}");
            assert_eq!(own(&format!("{head}\nStatus: Closed")), "", "{head}");
        }
    }

    #[test]
    fn what_an_alert_says_of_addresses_and_hosts_is_its_own() {
        for text in [
            "Alert\n\nFrom: 192.0.2.1\nTo: 192.0.2.2\nSubject: x",
            "From: a@x.example\nwas blocked",
            "load > 5\n--\nNagios",
            "",
        ] {
            assert_eq!(own(text), text);
        }
    }
}
