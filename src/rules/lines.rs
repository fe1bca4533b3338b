//! Labelled lines: what a sender says in lines such as `Severity: High` above the free text, by label.
//!
//! Most senders put what they know in lines of a label and a value, and what others wrote below. A file says
//! where that begins, and no line below it can steer.

use super::pattern::Pattern;

/// Longest label, in bytes: a longer one is a sentence with a colon in it.
const LONGEST_LABEL: usize = 40;

/// Most lines that are read: no sender has more labels, and it bounds what a mail can cost.
const MOST_LINES: usize = 500;

/// Where the labelled lines of a file end, as its `[source] lines` says.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Where the free text begins.
    pub(super) until: Pattern,
    /// The label whose value others write, such as a title. It may have lines of its own: the first line below it
    /// that has no label ends the labelled lines.
    pub(super) free: Option<String>,
}

/// The labelled lines above the free text. Of several with one label the first counts.
#[derive(Debug, Default)]
pub(super) struct Lines<'t>(Vec<(String, &'t str)>);

impl<'t> Lines<'t> {
    /// Reads the lines of `text` within `bounds`.
    pub(super) fn read(text: &'t str, bounds: &Bounds) -> Self {
        let head = bounds.until.regex.find(text).map_or(text, |found| &text[..found.start()]);
        let mut lines: Vec<(String, &str)> = Vec::new();
        let mut below_free = false;
        for line in head.lines().take(MOST_LINES) {
            let Some((label, value)) = labelled(line) else {
                if below_free {
                    break;
                }
                continue;
            };
            let label = normal(label);
            below_free |= bounds.free.as_ref() == Some(&label);
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

/// Label and value of a line: parted by a colon, a tab, a bar, two blanks as in a row of a table, or a blank before
/// a number with its mark: `Case #1208`.
fn labelled(line: &str) -> Option<(&str, &str)> {
    // A row of a table may begin with its border, a list with its mark.
    let line = line.trim_start_matches([' ', '\t', '|', '*', '-']);
    if !line.starts_with(char::is_alphabetic) {
        return None;
    }
    let number = line.find(" #").filter(|at| line[at + 2..].starts_with(|c: char| c.is_ascii_digit()));
    let end = [line.find([':', '\t', '|']), line.find("  "), number].into_iter().flatten().min()?;
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
        let until = Pattern::new("^(?:Description:|https?://)").unwrap();
        Lines::read(text, &Bounds { until, free: Some("title".to_owned()) })
    }

    #[test]
    fn a_line_of_label_and_value_is_known_by_its_label() {
        let text = "Hello,\nSeverity: High\nMessage ID : PSU1\nService  HTTP on web01\n| Status | Closed |\n\
                    * Owner:\tkim\nalert/state: new\r\nTime: 18:04:05\nUmgebung\tprod\n\
                    New case #1208 Phishing: a mail\n";
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
            ("new-case", "#1208 Phishing: a mail"),
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
    fn a_line_without_a_label_below_the_free_one_ends_the_lines() {
        let found = lines("Hello\nStage: New\nTitle: Re: x\nOwner: kim\nthey wrote\nStatus: Closed\n");
        assert_eq!((found.get("stage"), found.get("owner")), (Some("New"), Some("kim")));
        assert_eq!(found.get("status"), None);
    }

    #[test]
    fn a_mail_of_lines_costs_no_more_than_its_length() {
        let text = (0..200_000).map(|at| format!("l{at}: x\n")).collect::<String>();
        assert_eq!(lines(&text).0.len(), MOST_LINES);
    }
}
