//! The law of the reader of Authentication-Results (RFC 8601).

use std::sync::LazyLock;

use smtp2signl4::authenticity::{Checker, Config, Resolver};
use smtp2signl4::mail::{Authenticity, Client, Envelope, Verdict};
use smtp2signl4::network::Network;

use super::TRUSTED;

/// What stands below it is the sender's.
const ENTRY: &str =
    "Received: from out.example (out.example [203.0.113.9]) by mx.example; now\r\nX-Below: x\r\n";

/// How much of an input is put into a field: what is behind 64 KiB of a field is not read.
const LONGEST: usize = 4096;

/// Any bytes are a mail, and what a relay found out about it is read. What the sender wrote into the mail is
/// none of it, nor is what the relay wrote of his words into a comment or a quoted string; of any field, its
/// comments are white space and its quoted strings are values.
pub fn results(input: &[u8]) {
    let _ = told(input);
    assert_eq!(told(&[ENTRY.as_bytes(), input].concat()), None, "the sender's own word counts");

    let text: String =
        String::from_utf8_lossy(input).replace(['\r', '\n'], " ").chars().take(LONGEST).collect();
    let of = |value: &str| {
        told(format!("Authentication-Results: {value}\r\n{ENTRY}From: a@a.example\r\n").as_bytes())
    };
    let base = of("mx.example; spf=fail; dkim=fail; dmarc=pass header.from=b.example");
    assert!(base.as_ref().is_some_and(|found| found.spf == Verdict::Fail && found.proven.is_none()));
    let (comment, quoted) = (escaped(&text, &['(', ')', '\\']), escaped(&text, &['"', '\\']));
    for value in [
        format!("mx.example ({comment}); spf=fail; dkim=fail; dmarc=pass header.from=b.example"),
        format!("mx.example; spf=fail ({comment}); dkim=fail; dmarc=pass ({comment}) header.from=b.example"),
        format!(
            "mx.example; spf=fail smtp.mailfrom=\"{quoted}\"; dkim=fail; dmarc=pass header.from=b.example"
        ),
        format!(
            "mx.example; spf=fail; dkim=fail reason=\"{quoted}\"; dmarc=pass reason=\"{quoted}\" header.from=b.example"
        ),
    ] {
        assert_eq!(of(&value), base, "what a sender writes becomes a result: {value}");
    }

    let value = format!("mx.example; {text}");
    let verdicts = |found: Option<Authenticity>| found.map(|all| [all.spf, all.dkim, all.dmarc, all.arc]);
    // One that is nested too deep is not read.
    if let Some(found) = verdicts(of(&value)) {
        let bare = bare(&value).expect("a field is read that does not end");
        assert_eq!(Some(found), verdicts(of(&bare)), "a result out of a comment or a quoted string: {value}");
    }
}

/// What the relay in front says of this mail.
fn told(content: &[u8]) -> Option<Authenticity> {
    static CHECKER: LazyLock<Checker> = LazyLock::new(|| {
        let config = Config { authserv_ids: vec!["mx.example".to_owned()], ..Config::default() };
        Checker::new(config, Network::private(), Resolver::system())
    });
    let client = Client { address: Some(TRUSTED), ..Client::default() };
    CHECKER.told(&Envelope { client, ..Envelope::default() }, content)
}

/// The text with a backslash in front of each of these characters (RFC 5322 section 3.2.1).
fn escaped(text: &str, special: &[char]) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if special.contains(&c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The value with a blank for each comment and one letter for each quoted string; none if one does not end.
fn bare(value: &str) -> Option<String> {
    let mut bare = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        let end = match c {
            '(' => ')',
            '"' => '"',
            other => {
                bare.push(other);
                continue;
            }
        };
        let mut depth = 1;
        while depth > 0 {
            match chars.next()? {
                '\\' => _ = chars.next()?,
                c if c == end => depth -= 1,
                '(' if end == ')' => depth += 1,
                _ => (),
            }
        }
        bare.push(if end == ')' { ' ' } else { 'q' });
    }
    Some(bare)
}
