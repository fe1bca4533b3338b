//! The markup of HTML: tags with the attributes that matter, and how far comments and raw text go. Lenient
//! where browsers would hide the rest of the page, and each byte is looked at a fixed number of times.

/// What a `<` began.
pub(super) enum Markup<'a> {
    /// No markup: to be shown as it is.
    Text,
    /// A comment, a declaration, an instruction.
    Nothing,
    /// A start tag.
    Open(Tag<'a>),
    /// An end tag, by name.
    Close(&'a str),
}

/// A start tag with the attributes that matter.
#[derive(Default)]
pub(super) struct Tag<'a> {
    pub(super) name: &'a str,
    pub(super) href: Option<&'a str>,
    pub(super) alt: Option<&'a str>,
    /// Whether it is of a class of Word's, in which a paragraph is a line.
    pub(super) of_word: bool,
}

/// What was once looked for up to the end and not found, which must not be looked for again: else many
/// openings without an end would take quadratic time.
#[derive(Default)]
pub(super) struct OpenEnded {
    comment: bool,
    raw_text: [bool; 4],
}

impl OpenEnded {
    /// Elements whose content is not text for readers.
    const RAW_TEXT: [&str; 4] = ["style", "script", "title", "xml"];

    /// The length of the content of a raw text element, or none if `name` is not one or it never ends:
    /// then it is shown, as a browser would not, so that no alert is lost in an unclosed style sheet.
    pub(super) fn raw_text(&mut self, name: &str, rest: &str) -> Option<usize> {
        let at = Self::RAW_TEXT.iter().position(|raw| raw.eq_ignore_ascii_case(name))?;
        if self.raw_text[at] {
            return None;
        }
        let length = rest.match_indices("</").map(|(end, _)| end).find(|end| {
            let tag = &rest.as_bytes()[end + 2..];
            tag.get(..name.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(name.as_bytes()))
        });
        self.raw_text[at] = length.is_none();
        length
    }

    /// The length of a comment that starts with `<!--`; up to the next `>` if it never ends.
    fn comment(&mut self, rest: &str) -> usize {
        // `<!-->` and `<!--->` are whole comments.
        if let Some(length) = ["<!-->", "<!--->"].iter().find(|c| rest.starts_with(**c)).map(|c| c.len()) {
            return length;
        }
        if !self.comment {
            if let Some(end) = rest.find("-->") {
                return end + 3;
            }
            self.comment = true;
        }
        rest.find('>').map_or(rest.len(), |end| end + 1)
    }
}

/// Reads the markup at the start of `rest`, which begins with `<`, and its length.
pub(super) fn read<'a>(rest: &'a str, open_ended: &mut OpenEnded) -> (Markup<'a>, usize) {
    match rest.as_bytes().get(1) {
        Some(b'!') if rest.starts_with("<!--") => (Markup::Nothing, open_ended.comment(rest)),
        Some(b'!' | b'?') => (Markup::Nothing, rest.find('>').map_or(rest.len(), |end| end + 1)),
        Some(b'/') if rest.as_bytes().get(2).is_some_and(u8::is_ascii_alphabetic) => {
            let length = rest.find('>').map_or(rest.len(), |end| end + 1);
            let name = &rest[2..];
            (Markup::Close(&name[..name_length(name)]), length)
        }
        Some(letter) if letter.is_ascii_alphabetic() => {
            let (tag, length) = start_tag(rest);
            // Addresses and links in unescaped angle brackets: `Cron <root@web01>`.
            if tag.name.contains('@') || tag.name.contains(':') && !is_prefixed(tag.name) {
                (Markup::Text, 1)
            } else {
                (Markup::Open(tag), length)
            }
        }
        _ => (Markup::Text, 1),
    }
}

/// Whether a name is one of another vocabulary with its prefix, as Word writes `o:p`, `v:shape`, `st1:place`. Prefixes
/// are short and in lower case; a longer one is text, such as `<Error:Timeout>`.
fn is_prefixed(name: &str) -> bool {
    name.split_once(':').is_some_and(|(prefix, local)| {
        prefix.len() <= 3
            && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && local.starts_with(|c: char| c.is_ascii_alphabetic())
            && local.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// The length of a tag or attribute name.
fn name_length(text: &str) -> usize {
    text.bytes()
        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>' | b'='))
        .unwrap_or(text.len())
}

/// Reads a start tag and its length. A quote that never closes ends with the tag.
fn start_tag(rest: &str) -> (Tag<'_>, usize) {
    let name = &rest[1..];
    let mut tag = Tag { name: &name[..name_length(name)], ..Tag::default() };
    let mut at = 1 + tag.name.len();
    let bytes = rest.as_bytes();
    loop {
        while bytes.get(at).is_some_and(|&byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'=')) {
            at += 1;
        }
        match bytes.get(at) {
            None => return (tag, rest.len()),
            Some(b'>') => return (tag, at + 1),
            Some(_) => {}
        }
        let name = &rest[at..at + name_length(&rest[at..])];
        at += name.len();
        let spaces = |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let equals = at + spaces(at);
        if bytes.get(equals) != Some(&b'=') {
            continue;
        }
        at = equals + 1;
        at += spaces(at);
        let closed = bytes.get(at).filter(|byte| matches!(byte, b'"' | b'\'')).and_then(|&quote| {
            rest[at + 1..].find(char::from(quote)).map(|length| (at + 1, at + 1 + length, at + length + 2))
        });
        let (from, to, next) = closed.unwrap_or_else(|| {
            let end = bytes[at..].iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>');
            let end = end.map_or(rest.len(), |length| at + length);
            (at, end, end)
        });
        let value = &rest[from..to];
        if name.eq_ignore_ascii_case("href") {
            tag.href.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("alt") {
            tag.alt.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("class") {
            tag.of_word |= value.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("mso"));
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> (&str, Option<&str>, Option<&str>, &str) {
        let (tag, length) = start_tag(text);
        (tag.name, tag.href, tag.alt, &text[length..])
    }

    #[test]
    fn attributes_are_found_however_they_are_quoted() {
        assert_eq!(tag("<a href=x>y"), ("a", Some("x"), None, "y"));
        assert_eq!(tag("<a\nclass = 'a > b' HREF = \"x y\" href=z>y"), ("a", Some("x y"), None, "y"));
        assert_eq!(tag("<img/alt=\"\"/>y"), ("img", None, Some(""), "y"));
        assert_eq!(tag("<br/>y"), ("br", None, None, "y"));
        assert_eq!(tag("<a data-href=x hidden>y"), ("a", None, None, "y"));
    }

    #[test]
    fn a_tag_that_never_ends_takes_no_more_than_the_page() {
        assert_eq!(tag("<a href"), ("a", None, None, ""));
        assert_eq!(tag("<a href="), ("a", Some(""), None, ""));
        assert_eq!(tag("<a href=\"x>y"), ("a", Some("\"x"), None, "y"));
    }

    #[test]
    fn raw_text_ends_at_its_own_end_tag() {
        let mut open_ended = OpenEnded::default();
        assert_eq!(open_ended.raw_text("STYLE", "a </b> c</Style>d"), Some(8));
        assert_eq!(open_ended.raw_text("p", "a</p>"), None);
        assert_eq!(open_ended.raw_text("script", "a"), None);
        assert_eq!(open_ended.raw_text("script", "a</script>"), None, "it is looked for once");
    }
}
