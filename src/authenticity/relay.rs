//! What the relay in front found out: its Authentication-Results (RFC 8601), and which of them can be its own.
//!
//! Anybody can write such a field into a mail. The relay's own stand on top of what it received. Its Received
//! field tells where that was: the first such field that names a client outside the trusted networks was
//! written by the machine at which the mail came in, and all above it by trusted ones. A field below it may be
//! that machine's as well, as mail filters under Postfix write theirs there, or the sender's: it counts only if
//! the site says that the machine takes out what others wrote under its name.

use std::borrow::Cow;

use crate::mail::{Authenticity, Header, Hop, Verdict, domain_of};
use crate::network::Network;

use super::Config;

/// Deepest nesting of comments that is read.
const COMMENT_LIMIT: usize = 20;

/// Most results of one field that are read; a relay writes one for each signature.
const RESULT_LIMIT: usize = 50;

/// What the relays with a configured authserv-id found out; none if they say nothing.
pub(super) fn read(header: &Header<'_>, config: &Config, trusted: &[Network]) -> Option<Authenticity> {
    let fields: Vec<(&str, Cow<'_, str>)> = header.fields().collect();
    let mut found: Option<Authenticity> = None;
    let mut signers: Vec<String> = Vec::new();
    let mut author = None;
    for (name, value) in believed(&fields, config.relay_removes_forged, trusted) {
        if !name.eq_ignore_ascii_case("authentication-results") {
            continue;
        }
        let Some(results) = Results::read(value) else { continue };
        let Some(id) = config.authserv_ids.iter().find(|id| id.eq_ignore_ascii_case(&results.id)) else {
            continue;
        };
        let all =
            found.get_or_insert_with(|| Authenticity { by: Some(id.clone()), ..Authenticity::default() });
        for result in &results.list {
            // The topmost field is the latest word.
            let first = |verdict: &mut Verdict| {
                let first = *verdict == Verdict::None;
                if first {
                    *verdict = result.verdict;
                }
                first
            };
            match result.method.as_str() {
                "spf" => _ = first(&mut all.spf),
                "arc" => _ = first(&mut all.arc),
                "dmarc" if first(&mut all.dmarc) && result.verdict == Verdict::Pass => {
                    author = result.property("header.from").map(domain);
                }
                "dkim" => {
                    if all.dkim != Verdict::Pass {
                        all.dkim = result.verdict;
                    }
                    if result.verdict == Verdict::Pass {
                        let signer = result.property("header.d").or(result.property("header.i"));
                        signers.extend(signer.map(domain));
                    }
                }
                _ => {}
            }
        }
    }
    let mut found = found?;
    signers.retain(|signer| !signer.is_empty());
    signers.sort();
    signers.dedup();
    found.proven = domain_of(&header.from())
        .filter(|from| author.as_ref() == Some(from) || signers.iter().any(|signer| signer == from));
    found.dkim_domains = signers;
    Some(found)
}

/// The fields that stand where only trusted machines write.
fn believed<'f>(
    fields: &'f [(&'f str, Cow<'f, str>)],
    relay_removes_forged: bool,
    trusted: &[Network],
) -> &'f [(&'f str, Cow<'f, str>)] {
    let is_hop = |field: &(&str, Cow<'_, str>)| field.0.eq_ignore_ascii_case("received");
    let hops: Vec<usize> = (0..fields.len()).filter(|&at| is_hop(&fields[at])).collect();
    let entry = hops.iter().position(|&at| !Hop::read(&fields[at].1).is_within(trusted));
    let end = match entry {
        // Down to the next hop, which was written before the mail came in.
        Some(hop) if relay_removes_forged => hops.get(hop + 1).copied().unwrap_or(fields.len()),
        Some(hop) => hops[hop],
        None if relay_removes_forged => fields.len(),
        // A mail without a hop has passed no relay: its fields are its sender's.
        None => hops.last().copied().unwrap_or(0),
    };
    &fields[..end]
}

/// The domain of an address, or the name itself, in lower case.
fn domain(text: &str) -> String {
    let domain = text.rsplit_once('@').map_or(text, |(_, domain)| domain);
    domain.trim_end_matches('.').to_lowercase()
}

/// A field that could be read.
#[derive(Debug, PartialEq, Eq)]
struct Results {
    id: String,
    list: Vec<MethodResult>,
}

/// What one method found.
#[derive(Debug, PartialEq, Eq)]
struct MethodResult {
    /// In lower case.
    method: String,
    verdict: Verdict,
    /// `ptype.property` in lower case, and the value.
    properties: Vec<(String, String)>,
}

impl MethodResult {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Results {
    /// Reads the value of a field (RFC 8601 section 2.2); none if it is not one, or of another version.
    fn read(value: &str) -> Option<Self> {
        let words = words(value)?;
        let mut statements = words.split(|word| *word == Word::End);
        let mut head = statements.next()?.iter();
        let id = head.next()?.text()?;
        match (head.next(), head.next()) {
            (None, _) => {}
            (Some(Word::Text(version)), None) if version == "1" => {}
            _ => return None,
        }
        let list = statements.take(RESULT_LIMIT).filter_map(MethodResult::read).collect();
        Some(Self { id: id.to_owned(), list })
    }
}

impl MethodResult {
    /// Reads `method[/version] = result`, a reason and properties. What cannot be read is left out, and so is
    /// a result that RFC 8601 does not know.
    fn read(words: &[Word]) -> Option<Self> {
        let mut pairs = pairs(words).into_iter();
        let (method, Word::Text(result)) = pairs.next()? else { return None };
        let (method, version) = method.split_once('/').unwrap_or((&method, "1"));
        if version != "1" {
            return None;
        }
        Some(Self {
            method: method.to_owned(),
            verdict: Verdict::from_word(result)?,
            properties: pairs.filter_map(|(name, value)| Some((name, value.text()?.to_owned()))).collect(),
        })
    }
}

/// `name = value` by `name = value`, up to what is none. A name may have blanks around its dot. What a quoted
/// string holds is a value and names nothing: it may be the sender's.
fn pairs(words: &[Word]) -> Vec<(String, &Word)> {
    let mut pairs = Vec::new();
    let mut name = String::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word {
            Word::Text(text) => name.push_str(text),
            Word::Equals => {
                let Some(value) = rest.next().filter(|word| word.text().is_some()) else { break };
                pairs.push((std::mem::take(&mut name).to_lowercase(), value));
            }
            Word::Quoted(_) | Word::End => break,
        }
    }
    pairs
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Characters without anything between.
    Text(String),
    /// Characters and quoted strings without anything between.
    Quoted(String),
    Equals,
    /// A semicolon.
    End,
}

impl Word {
    /// Its characters; none if it is a mark.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Quoted(text) => Some(text),
            Self::Equals | Self::End => None,
        }
    }
}

/// The words of a structured field without its comments and white space (RFC 5322 section 3.2); none if a
/// quotation or a comment does not end.
fn words(value: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut text: Option<String> = None;
    let mut word: fn(String) -> Word = Word::Text;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                let text = text.get_or_insert_default();
                word = Word::Quoted;
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => text.push(chars.next()?),
                        c => text.push(c),
                    }
                }
                continue;
            }
            '(' | ';' | '=' => {}
            c if c.is_whitespace() => {}
            c => {
                text.get_or_insert_default().push(c);
                continue;
            }
        }
        words.extend(text.take().map(word));
        word = Word::Text;
        match c {
            '(' => skip_comment(&mut chars)?,
            ';' => words.push(Word::End),
            '=' => words.push(Word::Equals),
            _ => {}
        }
    }
    words.extend(text.map(word));
    Some(words)
}

/// Goes behind the end of a comment whose parenthesis was just read.
fn skip_comment(chars: &mut std::str::Chars<'_>) -> Option<()> {
    let mut depth = 1;
    while depth > 0 {
        match chars.next()? {
            '(' if depth == COMMENT_LIMIT => return None,
            '(' => depth += 1,
            ')' => depth -= 1,
            '\\' => _ = chars.next()?,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAYED: &str = "Received: from out.example (out.example [203.0.113.9]) by mx.example.org; now\n";

    fn config() -> Config {
        Config { authserv_ids: vec!["mx.example.org".into()], ..Config::default() }
    }

    fn of(content: &str, config: &Config) -> Option<Authenticity> {
        read(&Header::read(content.as_bytes()), config, &Network::private())
    }

    type Told = (String, Verdict, Vec<(String, String)>);

    fn results(field: &str) -> Vec<Told> {
        let read = Results::read(field).expect(field);
        read.list.into_iter().map(|result| (result.method, result.verdict, result.properties)).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_examples_of_rfc_8601_are_read() {
        // Appendix B.2 to B.6.
        assert_eq!(results("example.org 1; none"), []);
        assert_eq!(
            results("example.com;\n   spf=pass smtp.mailfrom=example.net"),
            [("spf".into(), Verdict::Pass, vec![pair("smtp.mailfrom", "example.net")])]
        );
        let read = results(
            "example.com; dkim=pass (good signature) header.d=example.com; \
             dkim=fail reason=\"bad; (signature\" header.i=@newyork.example.com",
        );
        assert_eq!(read[0].2, [pair("header.d", "example.com")]);
        assert_eq!(read[1].1, Verdict::Fail);
        assert_eq!(read[1].2, [pair("reason", "bad; (signature"), pair("header.i", "@newyork.example.com")]);
        // Section 2.2 and appendix B.7: comments wherever they may be.
        let heavy = "foo.example.net (foobar) 1 (baz);\n    dkim (Because I like it) / 1 (One yay) = (wait for it) \
             fail\n      policy (A dot can go here) . (like that) expired\n      (this surprised me) = (as I wasn't \
             expecting it) 1362471462";
        assert_eq!(
            results(heavy),
            [("dkim".into(), Verdict::Fail, vec![pair("policy.expired", "1362471462")])]
        );
    }

    #[test]
    fn what_is_not_a_field_of_version_1_says_nothing() {
        for wrong in [
            "",
            ";",
            "mx.example.org 2; spf=pass",
            "mx.example.org 1 1; spf=pass",
            "=; spf=pass",
            "mx; spf=pass (",
            "mx; spf=\"pass",
        ] {
            assert_eq!(Results::read(wrong), None, "{wrong}");
        }
        for nothing in ["mx; spf", "mx; spf=", "mx; =pass", "mx; spf/2=pass", "mx; spf=great", "mx;;;", "mx"]
        {
            let read = Results::read(nothing).unwrap().list;
            assert!(read.iter().all(|result| result.method.is_empty()), "{nothing}");
        }
        assert_eq!(Results::read(&format!("mx; spf=pass {}", "(".repeat(100_000))), None);
    }

    #[test]
    fn what_a_sender_puts_into_a_value_stays_a_value() {
        // A reverse-path that tries to be a result, as a relay quotes it.
        let read = results(r#"mx; spf=fail smtp.mailfrom="a; dmarc=pass header.from=b\" ("@evil.example"#);
        assert_eq!(
            read,
            [(
                "spf".into(),
                Verdict::Fail,
                vec![pair("smtp.mailfrom", "a; dmarc=pass header.from=b\" (@evil.example")]
            )]
        );
        // Nor does it name anything where a value is not due.
        for quoted in [
            "\"spf\"=pass",
            "spf=\"pass\"",
            "s\"pf\"=pass",
            "spf \"\" =pass",
            "spf/\"1\"=pass",
            "\"\" spf=pass",
        ] {
            assert_eq!(results(&format!("mx; {quoted}")), [], "{quoted}");
        }
        let read = results("\"mx\"; dkim=pass header.d=\"a.example\" \"x\" header.i=@b.example");
        assert_eq!(read, [("dkim".into(), Verdict::Pass, vec![pair("header.d", "a.example")])]);
        // An encoded-word is text, and is not decoded here.
        let content = format!(
            "Authentication-Results: mx.example.org; spf=fail smtp.mailfrom==?utf-8?q?=3B_dmarc=3Dpass?=\n{RELAYED}From: a@example.org\n\n"
        );
        assert_eq!(of(&content, &config()).unwrap().dmarc, Verdict::None);
    }

    #[test]
    fn the_relays_word_above_its_own_received_field_counts() {
        let content = format!(
            "Authentication-Results: MX.example.org; dmarc=pass (p=reject) header.from=Example.org;\n dkim=pass header.d=example.org; spf=softfail; arc=none\n{RELAYED}From: a@example.org\n\n"
        );
        let found = of(&content, &config()).unwrap();
        assert_eq!((found.dmarc, found.dkim, found.spf), (Verdict::Pass, Verdict::Pass, Verdict::SoftFail));
        assert_eq!(found.dkim_domains, ["example.org"]);
        assert_eq!(
            (found.by.as_deref(), found.proven.as_deref()),
            (Some("mx.example.org"), Some("example.org"))
        );
    }

    #[test]
    fn a_result_for_another_domain_proves_nothing() {
        for result in [
            "dmarc=pass header.from=example.net",
            "dmarc=pass",
            "dkim=pass header.d=evil.example",
            "dkim=pass header.i=a@sub.example.org",
            "dmarc=fail header.from=example.org",
        ] {
            let content =
                format!("Authentication-Results: mx.example.org; {result}\n{RELAYED}From: a@example.org\n\n");
            assert_eq!(of(&content, &config()).unwrap().proven, None, "{result}");
        }
    }

    #[test]
    fn what_others_wrote_never_counts() {
        let forged = "Authentication-Results: mx.example.org; dmarc=pass header.from=example.org\n";
        let other = forged.replace("mx.example.org", "mx.evil.example");
        let inside = "Received: from a (a [10.0.0.1]) by b\n";
        for (content, why) in [
            (format!("{RELAYED}{forged}"), "below the field of the machine where it came in"),
            (format!("{inside}{RELAYED}{forged}"), "the same, one machine further"),
            (format!("{RELAYED}{forged}{inside}"), "with a Received field that the sender made up"),
            (format!("{inside}{forged}"), "below the last hop"),
            (forged.to_owned(), "in a mail that no relay passed on"),
            (format!("{other}{RELAYED}"), "under another name"),
            (
                format!("Received: from x by mx\n{forged}{RELAYED}"),
                "below a hop that does not say from where",
            ),
            (format!("X-{forged}{RELAYED}"), "in another field"),
        ] {
            assert_eq!(of(&format!("{content}From: a@example.org\n\n"), &config()), None, "{why}");
        }
    }

    #[test]
    fn where_the_relay_removes_forged_results_those_of_its_filters_count() {
        let config = Config { relay_removes_forged: true, ..config() };
        let own = "Authentication-Results: mx.example.org; dmarc=pass header.from=example.org\n";
        let content = format!("{RELAYED}{own}From: a@example.org\n\n");
        assert_eq!(of(&content, &config).unwrap().proven.as_deref(), Some("example.org"));
        // But what stands below a further hop was there before the mail came in.
        let older = format!("{RELAYED}{RELAYED}{own}From: a@example.org\n\n");
        assert_eq!(of(&older, &config), None);
    }

    #[test]
    fn of_two_results_the_upper_one_is_the_later() {
        let content = format!(
            "Authentication-Results: mx.example.org; dmarc=fail header.from=example.org\nAuthentication-Results: mx.example.org; dmarc=pass header.from=example.org; dkim=fail\n{RELAYED}From: a@example.org\n\n"
        );
        let found = of(&content, &config()).unwrap();
        assert_eq!((found.dmarc, found.dkim, found.proven), (Verdict::Fail, Verdict::Fail, None));
    }
}
