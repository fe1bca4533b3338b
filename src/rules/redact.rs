//! Redaction: what must not leave the site is replaced in everything that does.

use std::borrow::Cow;

use regex::{Captures, Regex};

use crate::event::Words;

/// What stands in the place of what was there.
const MARK: &str = "[redacted]";

/// A shipped set of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedactSet {
    /// The value behind `password:`, `pwd=` and their like.
    Passwords,
    /// Bearer and API tokens, private keys, web tokens, the keys of well-known services.
    Tokens,
    /// Payment card numbers whose check digit is right (ISO/IEC 7812).
    Cards,
}

impl Words for RedactSet {
    const WORDS: &'static [(&'static str, Self)] =
        &[("passwords", Self::Passwords), ("tokens", Self::Tokens), ("cards", Self::Cards)];
}

/// What to replace.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    patterns: Vec<(Regex, Option<RedactSet>)>,
}

impl Redaction {
    /// The shipped `sets` and the site's `own` patterns. A pattern with a group replaces what follows
    /// that group alone: `(key: )\S+` keeps the key.
    pub fn new(sets: &[RedactSet], own: impl IntoIterator<Item = Regex>) -> Self {
        let shipped = sets.iter().map(|set| {
            let pattern = match set {
                RedactSet::Passwords => {
                    r#"((?i-u:\b(?:password|passwd|passphrase|pwd|passwort|kennwort|secret)["']?[ \t]*[:=][ \t]*["']?))[^\s"']+"#
                }
                RedactSet::Tokens => {
                    r#"((?i-u:\b(?:bearer[ \t]+|(?:api[-_ ]?key|access[-_ ]?token|auth[-_ ]?token|token)["']?[ \t]*[:=][ \t]*["']?)))[A-Za-z0-9._~+/=-]{8,}|\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)|-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"#
                }
                RedactSet::Cards => r"\b[3-6][0-9](?:[ -]?[0-9]){11,17}\b",
            };
            (Regex::new(pattern).expect("the shipped patterns are tested"), Some(*set))
        });
        Self { patterns: shipped.chain(own.into_iter().map(|own| (own, None))).collect() }
    }

    /// `text` without what must not leave.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for (pattern, set) in &self.patterns {
            let replaced = pattern.replace_all(&text, |found: &Captures<'_>| {
                if *set == Some(RedactSet::Cards) && !passes_luhn(&found[0]) {
                    return found[0].to_owned();
                }
                format!("{}{MARK}", found.get(1).map_or("", |kept| kept.as_str()))
            });
            if let Cow::Owned(replaced) = replaced {
                text = Cow::Owned(replaced);
            }
        }
        text
    }
}

/// Whether the digits in `text` have the check digit of ISO/IEC 7812-1 annex B.
fn passes_luhn(text: &str) -> bool {
    let digits = text.bytes().rev().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_leave_is_replaced_and_its_name_kept() {
        let all = Redaction::new(&[RedactSet::Passwords, RedactSet::Tokens, RedactSet::Cards], []);
        for (text, expected) in [
            ("Password: hunter2, user: ada", "Password: [redacted] user: ada"),
            ("login pwd=\"a b\"", "login pwd=\"[redacted] b\""),
            ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
            ("key AKIAIOSFODNN7EXAMPLE used", "key [redacted] used"),
            ("card 4111 1111 1111 1111 seen", "card [redacted] seen"),
            ("card 4111 1111 1111 1112 seen", "card 4111 1111 1111 1112 seen"),
            ("token refresh failed", "token refresh failed"),
            ("the password was changed", "the password was changed"),
        ] {
            assert_eq!(all.apply(text), expected);
        }
        let own = Redaction::new(&[], [Regex::new(r"(Kunde )\S+").unwrap()]);
        assert_eq!(own.apply("Kunde Meier ruft an"), "Kunde [redacted] ruft an");
    }
}
