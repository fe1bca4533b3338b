//! The header section (RFC 5322 section 2.2): where it ends, its fields, and their decoded values. Reads what
//! senders really write: bare LF, missing blank lines, raw 8-bit text, an mbox line on top.

use std::borrow::Cow;

use jiff::Timestamp;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::parsers::MessageStream;
use mail_parser::{ContentType, HeaderValue};

use super::charset;
use super::mailbox::Address;
use super::transfer;

/// Fields that are kept; a mail that crossed many relays has below a hundred.
const FIELD_LIMIT: usize = 1_000;

/// Bytes of a header section that are read. Postfix takes 100 KiB for one field; no alert needs more in all.
const SECTION_LIMIT: usize = 256 * 1024;

/// Bytes of one field that are decoded.
const VALUE_LIMIT: usize = 64 * 1024;

/// Longest name of a field, colon included; RFC 5322 section 2.1.1 allows 998 bytes for a line.
const NAME_LIMIT: usize = 1_000;

/// Bytes of a field that are read for its grammar: addresses and MIME parameters. Their parser takes
/// quadratic time on some malformed input, which this keeps below the cost of a large mail.
const GRAMMAR_LIMIT: usize = 8 * 1024;

/// A header field as it stands in the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    value: &'a [u8],
}

/// A header section: its fields, where the body after it begins, and what was wrong.
#[derive(Debug, Default)]
pub(super) struct Section<'a> {
    pub(super) fields: Vec<Field<'a>>,
    /// Bytes of the fields so far, as far as they are read.
    size: usize,
    pub(super) body: usize,
    pub(super) too_long: bool,
    pub(super) no_blank_line: bool,
}

/// Reads the header section that begins at `from`. It ends after a blank line, before a line that cannot
/// be part of a header, and before a line that `stop` knows.
pub(super) fn section<'a>(content: &'a [u8], from: usize, stop: impl Fn(&[u8]) -> bool) -> Section<'a> {
    let mut section = Section::default();
    let mut at = from;
    let mut value = None;
    while at < content.len() {
        let next = line_end(content, at);
        let line = &content[at..next];
        if stop(line) {
            break;
        }
        let blank = line.iter().all(u8::is_ascii_whitespace);
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if blank && !(folded && value.is_some() && field_name(&content[next..]).is_some()) {
            at = next;
            section.body = at;
            section.finish(content, &mut value, at);
            return section;
        }
        if !folded {
            if let Some(name) = field_name(line) {
                section.finish(content, &mut value, at);
                let start = at + line.iter().position(|&byte| byte == b':').map_or(0, |colon| colon + 1);
                value = Some((name, start));
            } else if field_name(&content[next..]).is_none_or(|name| !is_known(name)) {
                // The body begins here: the blank line is missing.
                section.no_blank_line = true;
                break;
            } else {
                // A broken line between fields.
                section.finish(content, &mut value, at);
            }
        }
        at = next;
    }
    section.finish(content, &mut value, at);
    section.body = at;
    section
}

impl<'a> Section<'a> {
    fn finish(&mut self, content: &'a [u8], value: &mut Option<(&'a str, usize)>, end: usize) {
        let Some((name, start)) = value.take() else { return };
        let bytes = &content[start..end.max(start)];
        let cut = bytes.len().min(VALUE_LIMIT);
        self.too_long |= cut < bytes.len();
        self.size += name.len() + cut;
        if self.fields.len() < FIELD_LIMIT && self.size <= SECTION_LIMIT {
            self.fields.push(Field { name, value: &bytes[..cut] });
        } else {
            self.too_long = true;
        }
    }

    /// Whether a mail program wrote at least one of these fields.
    pub(super) fn is_plausible(&self) -> bool {
        self.fields.iter().any(|field| is_known(field.name))
    }
}

/// The end of the line that begins at `at`, its line end included.
pub(super) fn line_end(content: &[u8], at: usize) -> usize {
    content[at..].iter().position(|&byte| byte == b'\n').map_or(content.len(), |length| at + length + 1)
}

/// The name of the field that begins here, if one does: RFC 5322 section 3.6.8, and white space before the
/// colon as RFC 5322 section 4.5 has it.
fn field_name(line: &[u8]) -> Option<&str> {
    let line = &line[..line.len().min(NAME_LIMIT)];
    let length = line.iter().position(|byte| !byte.is_ascii_graphic() || *byte == b':')?;
    let blank = line[length..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if length == 0 || line.get(length + blank) != Some(&b':') {
        return None;
    }
    std::str::from_utf8(&line[..length]).ok()
}

/// Whether the name is one that tells a header from text with colons in it.
fn is_known(name: &str) -> bool {
    const KNOWN: [&str; 17] = [
        "from",
        "to",
        "cc",
        "subject",
        "date",
        "message-id",
        "received",
        "return-path",
        "reply-to",
        "sender",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "delivered-to",
        "in-reply-to",
        "x-mailer",
    ];
    KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl<'a> Field<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether the value holds bytes that are neither ASCII nor, as RFC 6532 allows, UTF-8.
    pub(super) fn is_raw(&self) -> bool {
        std::str::from_utf8(self.value).is_err()
    }

    /// The value in characters, unfolded (RFC 5322 section 2.2.3), encoded-words as they are. Raw bytes that are no
    /// UTF-8 are in `charset`, or guessed.
    fn unfolded(&self, limit: usize, charset: Option<&str>) -> Cow<'a, str> {
        let value = &self.value[..self.value.len().min(limit)];
        let text = match charset {
            Some(charset) if self.is_raw() => charset::decode(value, Some(charset)).0,
            _ => charset::guess(value),
        };
        let trimmed = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        if !trimmed.contains(['\r', '\n']) {
            return trimmed;
        }
        let mut out = String::with_capacity(trimmed.len());
        for line in trimmed.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(line);
        }
        Cow::Owned(out)
    }

    /// The value unfolded, with encoded-words as they are: what one holds must not become structure.
    pub(super) fn raw(&self) -> Cow<'a, str> {
        self.unfolded(VALUE_LIMIT, None)
    }

    /// The value unfolded and decoded, on one line.
    pub(super) fn text(&self) -> String {
        self.text_in(None)
    }

    /// The same, with raw bytes in `charset`.
    pub(super) fn text_in(&self, charset: Option<&str>) -> String {
        one_line(&decode_words(&self.unfolded(VALUE_LIMIT, charset)))
    }

    /// The mailboxes of an address field, those of groups among them. A bare word is taken for a local
    /// address, as `To: root`.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.addresses_in(None)
    }

    /// The same, with raw bytes in `charset`.
    pub(super) fn addresses_in(&self, charset: Option<&str>) -> Vec<Address> {
        let line = format!("{}\n", self.unfolded(GRAMMAR_LIMIT, charset));
        let HeaderValue::Address(addresses) = MessageStream::new(line.as_bytes()).parse_address() else {
            return Vec::new();
        };
        let mailbox = |address: &mail_parser::Addr<'_>| {
            let name = one_line(address.name.as_deref().unwrap_or_default());
            match address.address.as_deref().map(one_line) {
                Some(address) => Address { name, address },
                None if name.contains(' ') => Address { name, address: String::new() },
                None => Address { name: String::new(), address: name },
            }
        };
        addresses.iter().map(mailbox).collect()
    }

    /// The message ids of a field (RFC 5322 section 3.6.4), or its words if it has none in brackets.
    pub(super) fn ids(&self) -> Vec<String> {
        let text = self.unfolded(VALUE_LIMIT, None);
        let id =
            |text: &str| text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect::<String>();
        let mut ids: Vec<String> = text
            .split('<')
            .skip(1)
            .filter_map(|rest| rest.split_once('>'))
            .map(|(inside, _)| id(inside))
            .collect();
        if ids.is_empty() {
            ids = text.split_whitespace().map(|word| id(word.trim_matches(['<', '>']))).collect();
        }
        ids.retain(|id| !id.is_empty());
        ids
    }

    /// The date of a Date field, if it is one.
    pub(super) fn date(&self) -> Option<Timestamp> {
        let line = format!("{}\n", self.unfolded(GRAMMAR_LIMIT, None));
        match MessageStream::new(line.as_bytes()).parse_date() {
            HeaderValue::DateTime(date) if date.is_valid() => {
                Timestamp::from_second(date.to_timestamp()).ok()
            }
            _ => None,
        }
    }

    /// A Content-Type or Content-Disposition with its parameters (RFC 2231 and 2047 decoded).
    pub(super) fn parameters(&self) -> Option<ContentType<'static>> {
        let line = format!("{}\n", self.unfolded(GRAMMAR_LIMIT, None));
        MessageStream::new(line.as_bytes()).parse_content_type().into_owned().into_content_type()
    }
}

/// The text on one line: what an encoded-word can smuggle in becomes a space.
pub(super) fn one_line(text: &str) -> String {
    text.trim().replace(['\r', '\n', '\t', '\0'], " ").trim().to_owned()
}

/// Decodes encoded-words (RFC 2047). Neighbours of one charset are joined before they are decoded, because
/// senders cut them inside of characters. What is not quite an encoded-word stays as it is.
fn decode_words(text: &str) -> Cow<'_, str> {
    if !text.contains("=?") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    // Bytes of neighbouring words that are not decoded yet, and their charset.
    let mut pending: Option<(&str, Vec<u8>)> = None;
    let flush = |pending: &mut Option<(&str, Vec<u8>)>, out: &mut String| {
        if let Some((charset, bytes)) = pending.take() {
            out.push_str(&charset::decode(&bytes, Some(charset)).0);
        }
    };
    let mut rest = text;
    while let Some(at) = rest.find("=?") {
        let between = &rest[..at];
        let Some(word) = encoded_word(&rest[at..]) else {
            flush(&mut pending, &mut out);
            out.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        // White space between encoded-words is not displayed (RFC 2047 section 6.2).
        let neighbours = pending.is_some() && between.trim().is_empty();
        match &mut pending {
            Some((charset, bytes)) if neighbours && charset.eq_ignore_ascii_case(word.charset) => {
                bytes.extend_from_slice(&word.bytes);
            }
            _ => {
                flush(&mut pending, &mut out);
                if !neighbours {
                    out.push_str(between);
                }
                pending = Some((word.charset, word.bytes));
            }
        }
        rest = &rest[at + word.length..];
    }
    flush(&mut pending, &mut out);
    out.push_str(rest);
    Cow::Owned(out)
}

struct EncodedWord<'a> {
    charset: &'a str,
    bytes: Vec<u8>,
    length: usize,
}

/// Reads the encoded-word at the start of `text`. Longer than the 75 characters of RFC 2047 is common, and so
/// are spaces and question marks inside.
fn encoded_word(text: &str) -> Option<EncodedWord<'_>> {
    let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
    // RFC 2231 section 5: a language may follow the charset.
    let charset = charset.split('*').next().unwrap_or_default();
    let (encoding, rest) = rest.split_once('?')?;
    let mut marks = rest.match_indices('?').map(|(at, _)| at);
    let end = marks.find(|&at| rest[at + 1..].starts_with('=') || rest[..at].ends_with('='))?;
    if charset.is_empty() || charset.contains(' ') || !rest[end + 1..].starts_with('=') {
        // The next word begins before this one has ended.
        return None;
    }
    let encoded = &rest.as_bytes()[..end];
    let bytes = match encoding {
        "b" | "B" => base64_decode(encoded)?,
        "q" | "Q" => decode_q(encoded),
        _ => return None,
    };
    let length = text.len() - rest.len() + end + 2;
    Some(EncodedWord { charset, bytes, length })
}

/// The Q encoding (RFC 2047 section 4.2).
fn decode_q(encoded: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len());
    let mut at = 0;
    while let Some(&byte) = encoded.get(at) {
        at += 1;
        match byte {
            b'_' => out.push(b' '),
            b'=' => match transfer::hex_pair(&encoded[at..]) {
                Some(decoded) => {
                    out.push(decoded);
                    at += 2;
                }
                None => out.push(b'='),
            },
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> (Vec<(String, String)>, &str) {
        let section = section(content.as_bytes(), 0, |_| false);
        let fields = section.fields.iter().map(|field| (field.name.to_owned(), field.text())).collect();
        (fields, &content[section.body..])
    }

    fn field(value: &[u8]) -> Field<'_> {
        Field { name: "X", value }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_section_ends_at_the_blank_line_whatever_the_line_ends() {
        for content in
            ["A: 1\r\nB : 2\r\n 3\r\n\r\nbody", "A: 1\nB : 2\n\t3\n\nbody", "A: 1\r\nB: 2\n 3\n\r\nbody"]
        {
            assert_eq!(read(content), (vec![pair("A", "1"), pair("B", "2 3")], "body"), "{content:?}");
        }
    }

    #[test]
    fn a_forgotten_blank_line_is_seen() {
        assert_eq!(read("Subject: x\nServer is down\n"), (vec![pair("Subject", "x")], "Server is down\n"));
        assert_eq!(
            read("Subject: x\ngarbage\nTo: y\n\nz"),
            (vec![pair("Subject", "x"), pair("To", "y")], "z")
        );
    }

    #[test]
    fn a_section_without_a_body_is_read() {
        assert_eq!(read("Subject: x"), (vec![pair("Subject", "x")], ""));
        assert_eq!(read(""), (vec![], ""));
        assert_eq!(read("\nSubject: x"), (vec![], "Subject: x"));
    }

    #[test]
    fn encoded_words_are_decoded_and_joined() {
        let cases = [
            ("=?utf-8?q?Caf=C3=A9?= =?UTF-8?B?IGF1?= lait", "Café au lait"),
            // Not base64.
            ("=?utf-8?b?w*?= =?utf-8?b?w7w=?=", "=?utf-8?b?w*?= ü"),
            // Cut inside a character.
            ("=?utf-8?q?=C3?=\r\n =?utf-8?q?=BC?=", "ü"),
            ("=?iso-8859-1*en?Q?a_b=FC?=c", "a büc"),
            ("=?utf-8?Q?Really??= ok", "Really? ok"),
            ("=?utf-8?Q?=0d=0aX-Evil:_1=00?=", "X-Evil: 1"),
            ("=?utf-8?Q?a=0d=0ab=09c?=", "a  b c"),
            ("=?utf-8?X?a?= =? =?? a=?b", "=?utf-8?X?a?= =? =?? a=?b"),
            ("a =?utf-8?Q?b?= =?latin1?Q?c?= d", "a bc d"),
        ];
        for (value, text) in cases {
            assert_eq!(field(value.as_bytes()).text(), text, "{value}");
        }
    }

    #[test]
    fn raw_bytes_are_guessed() {
        assert_eq!(field("St\u{f6}rung".as_bytes()).text(), "Störung");
        assert_eq!(field(b" St\xf6rung\r\n").text(), "Störung");
        assert!(field(b"St\xf6rung").is_raw());
    }

    #[test]
    fn addresses_of_senders_that_never_read_the_rfc_are_found() {
        let list = |value: &str| {
            let addresses = field(value.as_bytes()).addresses();
            addresses.into_iter().map(|a| (a.name, a.address)).collect::<Vec<_>>()
        };
        assert_eq!(list("signl4@x,lead@x"), [pair("", "signl4@x"), pair("", "lead@x")]);
        assert_eq!(list("mdadm monitoring <root>"), [pair("mdadm monitoring", "root")]);
        assert_eq!(list("root"), [pair("", "root")]);
        assert_eq!(list("nagios@x (Nagios)"), [pair("Nagios", "nagios@x")]);
        assert_eq!(list("\"(Cron Daemon)\" <root@x>"), [pair("(Cron Daemon)", "root@x")]);
        assert_eq!(list("=?utf-8?q?Caf=C3=A9?= <a@x>"), [pair("Café", "a@x")]);
        assert_eq!(list("undisclosed-recipients:;"), []);
        assert_eq!(list("Team: a@x, B <b@x>;"), [pair("", "a@x"), pair("B", "b@x")]);
        assert_eq!(list(""), []);
    }

    #[test]
    fn ids_lose_their_brackets() {
        assert_eq!(field(b" <a@x>\r\n\t<b@x> (c)").ids(), ["a@x", "b@x"]);
        assert_eq!(field(b"a@x").ids(), ["a@x"]);
        assert!(field(b" <>").ids().is_empty());
    }

    #[test]
    fn dates_with_comments_and_without_sense_are_told_apart() {
        let time = "2026-11-20T17:04:05Z".parse().unwrap();
        assert_eq!(field(b" Fri, 20 Nov 2026 18:04:05 +0100 (CET)\r\n").date(), Some(time));
        assert_eq!(field(b"20 Nov 2026 17:04:05 GMT").date(), Some(time));
        assert_eq!(field(b"yesterday").date(), None);
        assert_eq!(field(b"").date(), None);
    }
}
