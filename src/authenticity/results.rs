//! An Authentication-Results field (RFC 8601), word by word. What a sender chose, such as its reverse-path, stays a value.

use crate::mail::Verdict;
use crate::words::Words;

/// Deepest nesting of comments that is read.
const COMMENT_LIMIT: usize = 20;

/// Most results of one field that are read; a relay writes one for each signature.
const RESULT_LIMIT: usize = 50;

/// A field that could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) id: String,
    pub(super) list: Vec<MethodResult>,
}

/// What one method found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MethodResult {
    /// In lower case.
    pub(super) method: String,
    pub(super) verdict: Verdict,
    /// `ptype.property` in lower case, and the value.
    properties: Vec<(String, String)>,
}

impl MethodResult {
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Results {
    /// Reads the value of a field (RFC 8601 section 2.2); none if it is not one, or of another version.
    pub(super) fn read(value: &str) -> Option<Self> {
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
    }
}
