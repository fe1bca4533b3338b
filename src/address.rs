//! Patterns for the addresses of an envelope: which recipients a team takes, which senders may come in.
//!
//! An address is compared as it is written, without letter case. Whether it is valid is the edge's to say.

use std::borrow::Cow;
use std::str::FromStr;

/// A pattern for addresses: `soc@example.org`, `soc` (in any domain), `*@example.org`, `*`, and `<>` for the
/// empty reverse-path of bounces. A plus detail (`soc+thehive@example.org`) counts only where the pattern has
/// one. Letter case never counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    local: String,
    domain: String,
}

/// The text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAPattern;

impl Pattern {
    /// Whether `address`, given without brackets, matches.
    pub fn matches(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        let (local, domain) = split(&address);
        (self.domain == "*" || glob(&self.domain, domain))
            && (glob(&self.local, local)
                || (!self.local.contains('+') && glob(&self.local, without_detail(local))))
    }

    /// Whether it is `<>`, which nothing but the empty reverse-path matches.
    pub fn is_null(&self) -> bool {
        self.local.is_empty()
    }
}

impl FromStr for Pattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        if text == "<>" {
            return Ok(Self { local: String::new(), domain: String::new() });
        }
        let text = text.to_lowercase();
        let (local, domain) = text.rsplit_once('@').unwrap_or((&text, "*"));
        let valid = !local.is_empty() && !domain.is_empty() && !text.contains(char::is_whitespace);
        valid.then(|| Self { local: local.to_owned(), domain: domain.to_owned() }).ok_or(NotAPattern)
    }
}

/// The mailbox that `address` is about, in one spelling: lower case, without a plus detail.
pub fn mailbox(address: &str) -> Cow<'_, str> {
    let (local, _) = split(address);
    let bare = without_detail(local);
    if bare.len() == local.len() && !address.chars().any(char::is_uppercase) {
        return Cow::Borrowed(address);
    }
    Cow::Owned(format!("{bare}{}", &address[local.len()..]).to_lowercase())
}

/// The local part and the domain, which is empty where there is none.
fn split(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or((address, ""))
}

fn without_detail(local: &str) -> &str {
    local.split_once('+').map_or(local, |(bare, _)| bare)
}

/// Whether `text` matches `pattern`, in which `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut rest = rest;
    let mut last = None;
    for piece in pieces {
        if let Some(middle) = last.replace(piece) {
            match rest.find(middle) {
                Some(at) => rest = &rest[at + middle.len()..],
                None => return false,
            }
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(pattern: &str, address: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(address)
    }

    #[test]
    fn a_pattern_matches_whole_addresses_without_case() {
        assert!(law("soc@example.org", "SOC@Example.org"));
        assert!(law("soc@example.org", "soc+thehive@example.org"));
        assert!(law("soc+thehive@example.org", "soc+thehive@example.org"));
        assert!(!law("soc+thehive@example.org", "soc@example.org"));
        assert!(law("soc", "soc@anywhere"));
        assert!(law("soc", "soc"));
        assert!(law("*@example.org", "x@example.org"));
        assert!(!law("*@example.org", "x@example.org.evil"));
        assert!(!law("soc@example.org", "notsoc@example.org"));
        assert!(law("*-oncall@*", "db-oncall@gw"));
        assert!(law("a*b*c@x", "aXbYc@x"));
        assert!(!law("a*b*c@x", "aXcYb@x"));
        assert_eq!("@x".parse::<Pattern>(), Err(NotAPattern));
    }

    #[test]
    fn the_empty_reverse_path_has_a_pattern_of_its_own() {
        assert!(law("<>", ""));
        assert!(!law("<>", "a@b") && !law("<>", "<>"));
        assert!(!law("*@example.org", ""));
        assert!(law("*", ""), "everything is everything");
    }

    #[test]
    fn a_mailbox_has_one_spelling() {
        assert_eq!(mailbox("soc@example.org"), "soc@example.org");
        assert_eq!(mailbox("Soc+42@Example.org"), "soc@example.org");
        assert_eq!(mailbox("JÖRG@müller.example"), "jörg@müller.example");
        assert_eq!(mailbox("Root"), mailbox("root"));
        assert_eq!(mailbox(""), "");
    }
}
