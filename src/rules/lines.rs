//! Labelled lines: what a sender says in lines such as `Severity: High` above the free text, by label.
//!
//! Most senders put what they know in lines of a label and a value, and what others wrote below. A file says
//! where that begins, and no line below it can steer.

use regex::Regex;

/// Longest label, in bytes: a longer one is a sentence with a colon in it.
const LONGEST_LABEL: usize = 40;

/// Most lines that are read: no sender has more labels, and it bounds what a mail can cost.
const MOST_LINES: usize = 500;

/// The labelled lines above the free text. Of several with one label the first counts.
#[derive(Debug, Default)]
pub(super) struct Lines<'t>(Vec<(String, &'t str)>);

impl<'t> Lines<'t> {
    /// Reads the lines of `text` above the first match of `until`.
    pub(super) fn read(text: &'t str, until: &Regex) -> Self {
        let head = until.find(text).map_or(text, |found| &text[..found.start()]);
        let mut lines: Vec<(String, &str)> = Vec::new();
        for (label, value) in head.lines().take(MOST_LINES).filter_map(labelled) {
            let label = normal(label);
            if !lines.iter().any(|(known, _)| *known == label) {
                lines.push((label, value));
            }
        }
        Self(lines)
    }

    /// The value of the line with this label, in lower case with hyphens; an empty one is none.
    pub(super) fn get(&self, label: &str) -> Option<&'t str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == label)?;
        (!value.is_empty()).then_some(*value)
    }
}

/// Label and value of a line: parted by a colon, a tab, a bar, or two blanks as in a row of a table.
fn labelled(line: &str) -> Option<(&str, &str)> {
    // A row of a table may begin with its border, a list with its mark.
    let line = line.trim_start_matches([' ', '\t', '|', '*', '-']);
    if !line.starts_with(char::is_alphabetic) {
        return None;
    }
    let end = [line.find([':', '\t', '|']), line.find("  ")].into_iter().flatten().min()?;
    let label = line[..end].trim_end();
    // The colon of `https://` parts nothing.
    if label.len() > LONGEST_LABEL || line[end..].starts_with("://") {
        return None;
    }
    let value =
        line[end..].trim_start_matches([' ', '\t', ':', '|']).trim_end_matches([' ', '\t', '|', '\r']);
    Some((label, value))
}

/// A label as rules write it: in lower case, with a hyphen for all that is neither letter nor digit.
fn normal(label: &str) -> String {
    let mut name = String::with_capacity(label.len());
    for c in label.chars() {
        if c.is_alphanumeric() {
            name.extend(c.to_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(name.trim_end_matches('-').len());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines<'_> {
        Lines::read(text, &Regex::new("(?m)^(?:Description:|https?://)").unwrap())
    }

    #[test]
    fn a_line_of_label_and_value_is_known_by_its_label() {
        let text = "Hello,\nSeverity: High\nMessage ID : PSU1\nService  HTTP on web01\n| Status | Closed |\n\
                    * Owner:\tkim\nalert/state: new\r\nTime: 18:04:05\nUmgebung\tprod\n";
        let lines = lines(text);
        for (label, value) in [
            ("severity", "High"),
            ("message-id", "PSU1"),
            ("service", "HTTP on web01"),
            ("status", "Closed"),
            ("owner", "kim"),
            ("alert-state", "new"),
            ("time", "18:04:05"),
            ("umgebung", "prod"),
        ] {
            assert_eq!(lines.get(label), Some(value), "{label}");
        }
        assert_eq!(lines.get("hello"), None);
    }

    #[test]
    fn what_stands_below_the_free_text_or_comes_second_steers_nothing() {
        let found = lines("Status: New\nStatus: Closed\nDescription: x\nSeverity: 4\nStage: Closed\n");
        assert_eq!(found.get("status"), Some("New"));
        assert_eq!((found.get("severity"), found.get("stage")), (None, None));
        // The first counts also where it is empty: the sender said that there is nothing.
        assert_eq!(lines("Stage:\nStage: Closed\n").get("stage"), None);
        assert_eq!(lines("https://a.example/\nStage: Closed\n").get("stage"), None);
        // A sentence and a link are no labels.
        let text = format!("{}: x\nsee https://a.example: y\n- - 17: z\n", "long ".repeat(10));
        assert!(lines(&text).0.iter().all(|(label, _)| label.starts_with("see")), "{:?}", lines(&text));
    }

    #[test]
    fn a_mail_of_lines_costs_no_more_than_its_length() {
        let text = (0..200_000).map(|at| format!("l{at}: x\n")).collect::<String>();
        assert_eq!(lines(&text).0.len(), MOST_LINES);
    }
}
