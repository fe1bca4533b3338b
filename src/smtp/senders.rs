//! Which senders may hand in mails at a listener: patterns for the reverse-path.
//!
//! Anybody can write any sender, so that this keeps noise out and not an attacker.

use crate::address::Pattern;
use crate::document::Table;

/// The senders of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Senders {
    /// `senders-allow`: those that may come. None is given, and everybody may.
    allow: Option<Vec<Pattern>>,
    /// `senders-deny`: exceptions to the allowed senders. Default: none.
    deny: Vec<Pattern>,
}

impl Senders {
    /// Reads `senders-allow` and `senders-deny`; what is not written is as in `general`.
    pub(super) fn read(table: &mut Table<'_>, general: &Self) -> Self {
        Self {
            allow: patterns(table, "senders-allow").or_else(|| general.allow.clone()),
            deny: patterns(table, "senders-deny").unwrap_or_else(|| general.deny.clone()),
        }
    }

    /// Whether a mail with this reverse-path may come in.
    pub fn admit(&self, reverse_path: &str) -> bool {
        let among = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(reverse_path));
        self.allow.as_deref().is_none_or(among) && !among(&self.deny)
    }
}

fn patterns(table: &mut Table<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    let mut found = Vec::new();
    for text in table.strings(key)? {
        match text.value.parse() {
            Ok(pattern) => found.push(pattern),
            Err(_) => table.error(
                text.span,
                format!("`{}` is not a pattern for senders", text.value.escape_debug()),
                "one address, either part with `*` in it for any characters, or the empty sender of bounces: \
                 \"nagios@example.org\", \"*@example.org\", \"<>\"",
            ),
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document::read;

    fn senders(text: &str) -> Senders {
        let general = Senders { allow: None, deny: vec!["spam@*".parse().unwrap()] };
        read(&Source::new("t.toml", text), |table| Senders::read(table, &general)).unwrap()
    }

    #[test]
    fn who_is_denied_is_denied_though_he_is_allowed() {
        let some = senders("senders-allow = ['*@example.org', '<>']\nsenders-deny = 'noise@example.org'\n");
        assert!(some.admit("nagios@Example.org") && some.admit(""));
        assert!(!some.admit("noise+1@example.org") && !some.admit("a@b"));
        let closed = senders("senders-allow = []\n");
        assert!(!closed.admit("a@b") && !closed.admit(""));
    }

    #[test]
    fn what_an_entrance_does_not_say_is_as_everywhere() {
        let plain = senders("");
        assert!(plain.admit("a@b") && plain.admit("") && !plain.admit("spam@b"));
        assert!(senders("senders-deny = []\n").admit("spam@b"));
    }

    #[test]
    fn what_is_no_pattern_is_said_at_its_place() {
        let source =
            Source::new("t.toml", "senders-deny = ['a b', '[a']\nsenders-allow = '.*@example.org'\n");
        let wrong = read(&source, |table| Senders::read(table, &Senders::default())).unwrap_err();
        let said =
            wrong.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect::<Vec<_>>();
        assert_eq!(
            said,
            [
                "1:17: `a b` is not a pattern for senders",
                "1:24: `[a` is not a pattern for senders",
                "2:17: `.*@example.org` is not a pattern for senders",
            ]
        );
    }
}
