//! Patterns for the addresses of an envelope: which recipients a team takes, which senders may come in.
//!
//! An address is compared as it is written, without letter case, and without quotes where it needs none: they change
//! nothing of what it means (RFC 5321 section 4.1.2). Whether it is valid is the edge's to say.

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
        let local = unquoted(local);
        (self.domain == "*" || glob(&self.domain, domain))
            && (glob(&self.local, &local)
                || (!self.local.contains('+') && glob(&self.local, without_detail(&local))))
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
        let valid = is_local(local) && is_domain(domain);
        let local = unquoted(local).into_owned();
        valid.then(|| Self { local, domain: domain.to_owned() }).ok_or(NotAPattern)
    }
}

/// Whether a local part can look like this, `*` included. A pattern that nothing matches keeps everybody out, or lets
/// everybody in who was to stay out: it is a slip, most likely a regular expression.
fn is_local(pattern: &str) -> bool {
    !pattern.is_empty() && !pattern.starts_with(".*") && (is_quoted(pattern) || !pattern.contains(is_special))
}

/// Whether a name has this only in quotes.
fn is_special(c: char) -> bool {
    "@<>()[],;:\\\"".contains(c) || c.is_whitespace() || c.is_control()
}

/// Whether it is a quoted name, in which anything may stand but what no line of SMTP has.
fn is_quoted(pattern: &str) -> bool {
    let inside = pattern.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|name| !name.contains(char::is_control))
}

/// Whether a domain can look like this: labels, or an address literal.
fn is_domain(pattern: &str) -> bool {
    let literal = pattern.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let of_literal = |c: char| c.is_ascii_alphanumeric() || "*.:-".contains(c);
    let of_name = |c: char| c.is_alphanumeric() || "*.-_".contains(c) || !(c.is_ascii() || c.is_control());
    let is_name = || pattern.chars().all(of_name) && !pattern.split('.').any(str::is_empty);
    literal.map_or_else(is_name, |inside| !inside.is_empty() && inside.chars().all(of_literal))
}

/// The mailbox that `address` is about, in one spelling: lower case, without a plus detail.
pub fn mailbox(address: &str) -> Cow<'_, str> {
    let (local, _) = split(address);
    let name = unquoted(local);
    let bare = without_detail(&name);
    if bare.len() == local.len() && !address.chars().any(char::is_uppercase) {
        return Cow::Borrowed(address);
    }
    Cow::Owned(format!("{bare}{}", &address[local.len()..]).to_lowercase())
}

/// The local part and the domain, which is empty where there is none.
fn split(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or((address, ""))
}

/// A local part without its quotes, where it means the same without them.
fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inside) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(local);
    };
    let mut name = String::with_capacity(inside.len());
    let mut octets = inside.chars();
    while let Some(c) = octets.next() {
        name.extend(if c == '\\' { octets.next() } else { Some(c) });
    }
    let needs_quotes = name.contains(is_special) || name.split('.').any(str::is_empty);
    if needs_quotes { Cow::Borrowed(local) } else { Cow::Owned(name) }
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
        assert!(law("*@[192.0.2.*]", "root@[192.0.2.7]"));
        assert!(law("\"the hive\"@*", "\"The Hive\"@example.org"));
        assert!(law("jörg@müller.example", "JÖRG@Müller.example"));
        assert!(law("=?x$^'/|{}~!#%&@a_b", "=?x$^'/|{}~!#%&@a_b"), "all of it may stand in a name");
    }

    #[test]
    fn quotes_that_change_nothing_hide_nobody() {
        let law = |pattern: &str, address: &str| pattern.parse::<Pattern>().unwrap().matches(address);
        for spelling in [r#""Bad"@x"#, r#""b\ad"@x"#, r#""bad+1"@x"#] {
            assert!(law("bad@x", spelling) && law("\"bad\"@x", spelling), "{spelling}");
            assert_eq!(mailbox(spelling), "bad@x");
        }
        for other in [r#""b ad"@x"#, r#"""@x"#, r#""bad."@x"#, r#""ba\"d"@x"#, r#""@x"#] {
            assert!(!law("bad@x", other), "{other}");
            assert_eq!(mailbox(other), other);
        }
    }

    #[test]
    fn a_pattern_that_no_address_can_match_is_none() {
        for slip in [
            "",
            "@x",
            "a@",
            "[a",
            "[a-z]*@x",
            "a]@x",
            "(a|b)@x",
            "a b@x",
            "a,b@x",
            "a;b",
            "<a@b>",
            "Name <a@b>",
            "a:b@x",
            "a\\.b@x",
            "a\"b@x",
            "\"a@x",
            ".*@example.org",
            "a\u{7}@x",
            "a@b@c",
            "a@.*",
            "a@b..c",
            "a@b.",
            "a@.b",
            "a@b$",
            "a@(b|c)",
            "a@b?",
            "a@[",
            "a@[]",
            "a@[192.0.2.1",
            "a@[x@y]",
            "a@b c",
            "mailto:a@b",
            "a@b/c",
            "a@b,c@d",
        ] {
            assert_eq!(slip.parse::<Pattern>(), Err(NotAPattern), "{slip}");
        }
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
