//! Patterns that are drafted from the texts of mails.

use std::fmt::Write;
use std::sync::LazyLock;

use regex::Regex;

/// Most characters of a subject that go into a pattern.
pub(super) const SUBJECT_LIMIT: usize = 200;

/// A pattern that captures an incident's id in `text`, by what it is called there, or by its form.
pub(super) fn key_in_text(text: &str) -> Option<String> {
    static CALLED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"(?<label>(?i-u:\b(?:(?:original )?(?:case|incident|alert|event|ticket|problem|issue|sensor)",
            r"(?: ?(?:id|number|no\.?))?|id)))(?<gap>[ \t]*[:=#][ \t]*#?|[ \t]+#)(?<id>~?[0-9][0-9A-Fa-f-]{2,})",
        ))
        .expect("the pattern is written here")
    });
    static LINK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?<start>https?://[^\s<>"?#]*[/#?&=])(?<id>~?[0-9]{2,})\b"#)
            .expect("the pattern is written here")
    });
    static TILDE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("~[0-9]{3,}").expect("the pattern is written here"));
    if let Some(found) = CALLED.captures(text) {
        let tilde = if found["id"].starts_with('~') { "~" } else { "" };
        let digits = found["id"].trim_start_matches('~').bytes().all(|b| b.is_ascii_digit());
        let class = if digits { "[0-9]+" } else { "[0-9A-Fa-f-]+" };
        return Some(format!(r"{}{}(?<id>{tilde}{class})", escaped(&found["label"]), escaped(&found["gap"])));
    }
    if TILDE.is_match(text) {
        return Some("(?<id>~[0-9]+)".to_owned());
    }
    LINK.captures(text).map(|found| format!(r"{}(?<id>~?[0-9]+)\b", escaped(&found["start"])))
}

/// `text` as a pattern in which every number stands for any.
pub(super) fn general(text: &str) -> String {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("[0-9]+").expect("the pattern is written here"));
    NUMBER.split(text).map(escaped).collect::<Vec<_>>().join("[0-9]+")
}

/// `text` as a pattern for itself; what cannot be seen is written by its number.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in regex::escape(text).chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hidden {
            write!(out, "\\x{{{:x}}}", u32::from(c)).expect("a string takes everything");
        } else {
            out.push(c);
        }
    }
    // These need no escape outside a class, and patterns are to be read.
    for plain in ["-", "#", "&", "~"] {
        out = out.replace(&format!("\\{plain}"), plain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_the_text_is_found_by_what_it_is_called_by_its_form_or_in_a_link() {
        for (text, pattern) in [
            ("Original problem ID: 90210", "Original problem ID: (?<id>[0-9]+)"),
            ("see https://x.example/case/4711/details", r"https://x\.example/case/(?<id>~?[0-9]+)\b"),
            ("update Case ~41136", "(?<id>~[0-9]+)"),
        ] {
            assert_eq!(key_in_text(text).as_deref(), Some(pattern), "{text}");
        }
        assert_eq!(key_in_text("load is 90% at 18:04"), None);
    }
}
