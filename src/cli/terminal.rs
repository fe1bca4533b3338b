//! What is written for people, with nothing in it that steers a terminal.

/// Writes `text` to standard output. A reader that went away, as `head` does, is no error.
pub(super) fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Longest text shown of a mail, a match or a value, in characters.
const EXCERPT: usize = 160;

/// `text` on one line and bounded, with nothing in it that could steer a terminal.
pub(super) fn excerpt(text: &str) -> String {
    crate::event::bounded(&one_line(text), EXCERPT).into_owned()
}

/// `text` on one line, with a blank for each character that could end it or steer a terminal.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
