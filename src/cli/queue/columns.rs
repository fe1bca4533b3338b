//! How a listing is written: lines of JSON for programs, columns for people.

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::terminal::one_line;
use crate::event::bounded;
use crate::mail::{is_hidden, visible};
use crate::time::rounded_text;

/// A line of JSON, in which what hides or steers a terminal stands as an escape: the value is the same.
pub(super) fn line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("a listing can be written as JSON");
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_hidden(c) {
            // Only texts have such characters in them, so that an escape can stand there.
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// Rows under their heads, each column as wide as it must be.
pub(super) fn columns<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    if rows.len() == 1 {
        return "nothing to list\n".to_owned();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut shown = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            shown.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

/// The start of `text` on one line, with nothing in it that could steer a terminal or hide.
pub(super) fn short(text: &str) -> String {
    bounded(&plain(text), 60).into_owned()
}

/// The same, whole.
pub(super) fn plain(text: &str) -> String {
    visible(&one_line(text)).into_owned()
}

/// The time from `from` to `until`.
pub(super) fn age(from: Timestamp, until: Timestamp) -> String {
    rounded_text(until.duration_since(from))
}
