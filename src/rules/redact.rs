//! Redaction: what must not leave the site is replaced in everything that does.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::{Captures, Regex};
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::pattern::{Filter, Found, Pattern};
use crate::event::{REDACTED, without};

/// The name of a password, and what parts it from its value. The name may be part of a longer one, as in
/// `DB_PASSWORD` and `secret-key`; `pass` may only behind a sign, as in `DB_PASS` and not in `bypass`, nor may `secret`
/// begin `secretary`. It begins with letters, so that the search leaps to them.
const PASSWORD: &str = r#"(?i-u:(?:(?:password|passwd|passphrase|pwd|passwort|kennwort|secret)(?:[_-][A-Za-z0-9_-]*|s?(?:key|value|hash)?[0-9]*)|(?:\b|_)pass)["']?[ \t]*[:=][ \t]*)"#;

/// A shipped set of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum RedactSet {
    /// The value behind `password:`, `pwd=` and their like.
    Passwords,
    /// Bearer and API tokens, private keys, web tokens, the keys of well-known services.
    Tokens,
    /// Payment card numbers whose check digit is right (ISO/IEC 7812).
    Cards,
}

/// What to replace.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    patterns: Vec<(Pattern, Option<RedactSet>)>,
    /// Finds the literals that the patterns require: most texts have none of them.
    filter: Filter,
}

impl Redaction {
    /// The shipped `sets` and the site's `own` patterns. A pattern with a group replaces what follows
    /// that group alone: `(key: )\S+` keeps the key.
    pub fn new(sets: &[RedactSet], own: impl IntoIterator<Item = Regex>) -> Self {
        let shipped = sets.iter().flat_map(|set| {
            let patterns = match set {
                RedactSet::Passwords => vec![
                    // In quotes a value may have blanks, and ends where its quote does.
                    format!(r#"({PASSWORD}")(?:[^"\\\n]|\\.)+"#),
                    format!("({PASSWORD}')[^'\\n]+"),
                    format!(r#"({PASSWORD})[^\s"']+"#),
                    r#"((?i-u:--(?:password|passwd|passphrase|pwd|pass)[ \t]+))(?:"[^"\n]*"|'[^'\n]*'|[^\s"'-][^\s"']*)"#.to_owned(),
                    // What a URL has before its host.
                    r"(://[^\s/?#@:]*:)[^\s/?#]+(?<after>@)".to_owned(),
                ],
                RedactSet::Tokens => vec![
                    r#"((?i-u:\bbearer[ \t]+|\bauthorization["']?[ \t]*[:=][ \t]*["']?basic[ \t]+|(?:api[-_ ]?key|access[-_ ]?key|token)["']?[ \t]*[:=][ \t]*["']?))[A-Za-z0-9._~+/=-]{8,}|\b(?:AKIA[0-9A-Z]{16}|(?:ghp_|gho_|ghu_|ghs_|ghr_)[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)|-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"#.to_owned(),
                ],
                RedactSet::Cards => vec![r"\b[3-6][0-9](?:[ -]?[0-9]){11,17}\b".to_owned()],
            };
            patterns.into_iter().map(|pattern| {
                (Regex::new(&pattern).expect("the shipped patterns are tested"), Some(*set))
            })
        });
        let all = shipped.chain(own.into_iter().map(|own| (own, None)));
        let mut patterns: Vec<_> = all.map(|(regex, set)| (Pattern::from(regex), set)).collect();
        let (mut filter, mut known) = (Filter::default(), HashMap::new());
        patterns.iter_mut().for_each(|(pattern, _)| filter.take(pattern, &mut known));
        filter.finish();
        Self { patterns, filter }
    }

    fn found(&self, text: &str) -> Found {
        let mut found = Found::default();
        self.filter.scan(text, &mut found);
        found
    }

    /// `text` without what must not leave.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found = self.found(text);
        let mut text = Cow::Borrowed(text);
        for (pattern, set) in &self.patterns {
            if !found.admits(&pattern.gate) {
                continue;
            }
            let replaced = pattern.regex.replace_all(&text, |found: &Captures<'_>| {
                if *set == Some(RedactSet::Cards) && !passes_luhn(&found[0]) {
                    return found[0].to_owned();
                }
                let kept = found.get(1).map_or("", |kept| kept.as_str());
                // A site's own pattern keeps what is before alone.
                let after = set.and_then(|_| found.name("after")).map_or("", |kept| kept.as_str());
                format!("{kept}{REDACTED}{after}")
            });
            if let Cow::Owned(replaced) = replaced {
                found = self.found(&replaced);
                text = Cow::Owned(replaced);
            }
        }
        text
    }

    /// Whether nothing is ever replaced.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What of `text` must not leave, as [`crate::event::Attachment::redactions`] has it; none if there are
    /// more than `most` such places.
    pub(super) fn ranges(&self, text: &str, most: usize) -> Option<Vec<Vec<(usize, usize)>>> {
        let mut literals = self.found(text);
        let mut text = Cow::Borrowed(text);
        let (mut passes, mut count) = (Vec::new(), 0);
        for (pattern, set) in &self.patterns {
            if !literals.admits(&pattern.gate) {
                continue;
            }
            let mut ranges = Vec::new();
            for found in pattern.regex.captures_iter(&text) {
                let whole = found.get_match();
                if *set == Some(RedactSet::Cards) && !passes_luhn(whole.as_str()) {
                    continue;
                }
                // What stands before a group that is kept goes as well.
                let kept = found.get(1).filter(|kept| kept.start() == whole.start());
                let after = set.and_then(|_| found.name("after"));
                let start = kept.map_or(whole.start(), |kept| kept.end());
                let end = after.map_or(whole.end(), |after| after.start());
                ranges.push((start, end.saturating_sub(start)));
            }
            count += ranges.len();
            if count > most {
                return None;
            }
            if !ranges.is_empty() {
                text = Cow::Owned(without(&text, &ranges)?);
                literals = self.found(&text);
                passes.push(ranges);
            }
        }
        Some(passes)
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
    use crate::event::Attachment;

    #[test]
    fn what_must_not_leave_is_replaced_and_its_name_kept() {
        let all = Redaction::new(&[RedactSet::Passwords, RedactSet::Tokens, RedactSet::Cards], []);
        let mut ungated = all.clone();
        ungated.patterns.iter_mut().for_each(|(pattern, _)| pattern.gate.clear());
        for (text, expected) in [
            ("Password: hunter2, user: ada", "Password: [redacted] user: ada"),
            ("login pwd=\"a b\" ok", "login pwd=\"[redacted]\" ok"),
            ("DB_PASSWORD=hunter2", "DB_PASSWORD=[redacted]"),
            ("userPassword: hunter2", "userPassword: [redacted]"),
            ("client_secret=abc", "client_secret=[redacted]"),
            ("AWS_SECRET_ACCESS_KEY=wJalr/x", "AWS_SECRET_ACCESS_KEY=[redacted]"),
            ("secret_key: abc", "secret_key: [redacted]"),
            ("secretKey: abc", "secretKey: [redacted]"),
            ("pass: hunter2", "pass: [redacted]"),
            ("DB_PASS=hunter2", "DB_PASS=[redacted]"),
            (r#"{"password": "a \" b"}"#, r#"{"password": "[redacted]"}"#),
            ("passwd='a b' ok", "passwd='[redacted]' ok"),
            ("mysql --password hunter2 -h db", "mysql --password [redacted] -h db"),
            ("mysql --password 'a b' -h db", "mysql --password [redacted] -h db"),
            ("at https://ada:p@w@host/x", "at https://ada:[redacted]@host/x"),
            ("Authorization: Basic YWRhOnB3", "Authorization: Basic [redacted]"),
            ("GITHUB_TOKEN=abcdef123456", "GITHUB_TOKEN=[redacted]"),
            ("key sk_live_abcdefghij0123456789 used", "key [redacted] used"),
            ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
            ("key AKIAIOSFODNN7EXAMPLE used", "key [redacted] used"),
            ("card 4111 1111 1111 1111 seen", "card [redacted] seen"),
            ("card 4111 1111 1111 1112 seen", "card 4111 1111 1111 1112 seen"),
            ("token refresh failed", "token refresh failed"),
            ("the password was changed", "the password was changed"),
            ("secretary: Bob, bypass: on", "secretary: Bob, bypass: on"),
            ("Basic information follows", "Basic information follows"),
            ("http://host:8080/a?to=x@y.example", "http://host:8080/a?to=x@y.example"),
            ("mysql --password -h db", "mysql --password -h db"),
        ] {
            assert_eq!(all.apply(text), expected);
            assert_eq!(ungated.apply(text), expected, "the literals hide nothing");
            let redactions = all.ranges(text, 9);
            let file = Attachment { redactions, ..Attachment::default() };
            assert_eq!(file.redacted(text).as_deref(), Some(expected), "a file is redacted as a text is");
        }
        let mut rng = fastrand::Rng::with_seed(7);
        const PIECES: [&str; 10] = [
            "password: ",
            "hunter2",
            "\"",
            "'",
            " ",
            "\n",
            "4111 1111 1111 1111",
            "Störung ",
            "://a:",
            "token=abcdefgh",
        ];
        for _ in 0..2_000 {
            let pieces = rng.usize(..12);
            let text: String = (0..pieces).map(|_| PIECES[rng.usize(..PIECES.len())]).collect();
            assert_eq!(all.apply(&text), ungated.apply(&text));
            let file = Attachment { redactions: all.ranges(&text, 99), ..Attachment::default() };
            assert_eq!(file.redacted(&text).as_deref(), Some(&*all.apply(&text)), "{text:?}");
        }
        let shipped = all.patterns.iter().filter(|(_, set)| *set != Some(RedactSet::Cards));
        for (pattern, _) in shipped {
            assert!(!pattern.gate.is_empty(), "asked of every text: {}", pattern.regex);
        }
        let own = Redaction::new(&[], [Regex::new(r"(Kunde )\S+").unwrap()]);
        assert_eq!(own.apply("Kunde Meier ruft an"), "Kunde [redacted] ruft an");
    }
}
