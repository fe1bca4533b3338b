//! The parts of a message (RFC 2045, 2046), found in one pass over its lines with a stack of the open
//! multiparts: time and memory grow with the content alone, whatever its structure claims. (mail-parser's
//! own walk over the parts looks for each boundary up to the end of the mail and nests messages as deep as
//! they come, which a mail of a few MiB turns into minutes; its parsers of fields are used all the same.)

use mail_parser::ContentType;

use super::header::{self, Field, Section};
use super::transfer::Transfer;

/// Deepest nesting of multiparts and messages that is unpacked; real mails stay below ten.
const DEPTH_LIMIT: usize = 30;

/// Most parts that are looked at.
const PART_LIMIT: usize = 1_000;

/// Longest boundary (RFC 2046 section 5.1.1 allows 70).
const BOUNDARY_LIMIT: usize = 250;

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It holds parts.
    Multipart,
    /// It holds a message, which is the part that has this one as its parent.
    Message,
    /// It holds its content.
    Leaf,
}

/// A part of a message. The first is the message itself and its own parent.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) parent: usize,
    pub(super) kind: Kind,
    pub(super) fields: Vec<Field<'a>>,
    /// `type/subtype` in lower case.
    pub(super) media_type: String,
    pub(super) content_type: Option<ContentType<'static>>,
    pub(super) disposition: Option<ContentType<'static>>,
    /// The charset, where a Content-Type that is broken names one all the same.
    loose_charset: Option<String>,
    pub(super) transfer: Transfer,
    pub(super) body: &'a [u8],
}

/// The parts in the order in which they stand, parents first, and what was wrong with them.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) list: Vec<Part<'a>>,
    pub(super) defects: Vec<String>,
}

/// Finds the parts of a message. There is at least one.
pub(super) fn parts(content: &[u8]) -> Parts<'_> {
    let parts = Walk::new(content).run(None);
    // The boundary in the header is not the one in use: Content-Type was rewritten or cut on the way.
    if let Some(root) = parts.list.first()
        && root.media_type.starts_with("multipart/")
        && root.kind == Kind::Leaf
        && let Some(boundary) = guess_boundary(root.body)
    {
        let mut parts = Walk::new(content).run(Some(boundary));
        parts.defects.push("the boundary in Content-Type is not the one in use".to_owned());
        return parts;
    }
    parts
}

/// The fields of the message's own header as [`parts`] reads them, without a look at its body.
pub(super) fn header_fields(content: &[u8]) -> Vec<Field<'_>> {
    let section = header::section(content, Walk::new(content).start(), |_| false);
    if section.is_plausible() { section.fields } else { Vec::new() }
}

/// The boundary that the body of a multipart seems to use: of the first line that begins with `--` and has
/// a MIME header field below.
fn guess_boundary(body: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    while at < body.len() {
        let next = header::line_end(body, at);
        let line = body[at..next].trim_ascii_end();
        let below = body.get(next..next + 8).unwrap_or_default();
        if line.len() > 2 && line.starts_with(b"--") && below.eq_ignore_ascii_case(b"content-") {
            return Some(&line[2..]);
        }
        at = next;
    }
    None
}

impl Part<'_> {
    /// A parameter of Content-Type.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.content_type.as_ref()?.attribute(name)
    }

    /// The charset that its sender names.
    pub(super) fn charset(&self) -> Option<&str> {
        self.parameter("charset").or(self.loose_charset.as_deref())
    }

    /// The file name, by Content-Disposition or else by Content-Type, on one line; empty if there is none.
    pub(super) fn file_name(&self) -> String {
        let name = self.disposition.as_ref().and_then(|d| d.attribute("filename")).or(self.parameter("name"));
        header::one_line(name.unwrap_or_default())
    }

    /// Whether the sender wants it shown as a file.
    pub(super) fn is_attachment(&self) -> bool {
        self.disposition.as_ref().is_some_and(|d| d.ctype().eq_ignore_ascii_case("attachment"))
    }

    /// The first field of this name.
    pub(super) fn field(&self, name: &str) -> Option<&Field<'_>> {
        self.fields.iter().find(|field| field.is(name))
    }
}

/// Whether a subtype is one, and not a piece of what stands behind it.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
}

/// The type of a text whose Content-Type is not quite one: `text/html charset=utf-8`, `html`.
fn loose_type(value: &str) -> Option<&'static str> {
    let begins =
        |name: &str| value.strip_prefix(name).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    if begins("text/html") || begins("html") || begins("text/xhtml") {
        return Some("text/html");
    }
    begins("text/plain").then_some("text/plain")
}

/// The charset that stands anywhere in a Content-Type that is not quite one.
fn loose_charset(value: &str) -> Option<String> {
    let (_, rest) = value.split_once("charset")?;
    let rest = rest.trim_start().strip_prefix(['=', ':'])?.trim_start_matches([' ', '"', '\'']);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_:.".contains(c)).unwrap_or(rest.len());
    (end > 0).then(|| rest[..end.min(40)].to_owned())
}

/// A multipart or message whose end is not found yet.
struct Open {
    part: usize,
    /// Where its body begins.
    body: usize,
    /// None for a message, which ends with the multipart around it.
    boundary: Option<Vec<u8>>,
    /// Whether a delimiter was found.
    entered: bool,
}

struct Walk<'a> {
    content: &'a [u8],
    parts: Parts<'a>,
    open: Vec<Open>,
    /// The leaf that the current line belongs to, and where its body begins.
    leaf: Option<(usize, usize)>,
}

impl<'a> Walk<'a> {
    fn new(content: &'a [u8]) -> Self {
        Self { content, parts: Parts::default(), open: Vec::new(), leaf: None }
    }

    /// Walks the lines; `boundary` is used for the outermost multipart in place of its own.
    fn run(mut self, boundary: Option<&[u8]>) -> Parts<'a> {
        let mut at = Some(self.start());
        while let Some(from) = at {
            at = if self.parts.list.len() < PART_LIMIT {
                let body = self.enter(from, boundary);
                self.skip_body(body)
            } else {
                self.defect(format!("more than {PART_LIMIT} parts: the rest was not read"));
                self.close_above(0, from);
                None
            };
        }
        self.parts
    }

    /// Where the header begins: below an mbox line and blank lines, if a header follows them.
    fn start(&self) -> usize {
        let mut at = 0;
        if self.content.starts_with(b"From ") || self.content.starts_with(b">From ") {
            at = header::line_end(self.content, 0);
        }
        at + self.content[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
    }

    /// Reads the header of the part at `from` and returns where its body begins.
    fn enter(&mut self, from: usize, boundary: Option<&[u8]>) -> usize {
        let index = self.parts.list.len();
        let mut section = header::section(self.content, from, |line| self.delimiter(line).is_some());
        if index == 0 && !section.is_plausible() {
            self.defect("no header".to_owned());
            section = Section::default();
        }
        if section.too_long {
            self.defect("the header is too long: not all of it was read".to_owned());
        }
        if section.no_blank_line && (index == 0 || !section.fields.is_empty()) {
            self.defect("no blank line between header and text".to_owned());
        }
        let body = section.body;
        let parent = self.open.last().map_or(0, |open| open.part);
        let mut part = Part {
            parent,
            kind: Kind::Leaf,
            fields: section.fields,
            media_type: self.default_type(parent).to_owned(),
            content_type: None,
            disposition: None,
            loose_charset: None,
            transfer: Transfer::Identity,
            body: &[],
        };
        self.read_mime_fields(&mut part);
        let own_boundary = match boundary {
            Some(boundary) if index == 0 => Some(boundary.to_vec()),
            _ => part.parameter("boundary").map(|boundary| boundary.trim_end().as_bytes().to_vec()),
        };
        let own_boundary = own_boundary.filter(|b| !b.is_empty() && b.len() <= BOUNDARY_LIMIT);
        let multipart = part.media_type.starts_with("multipart/");
        // RFC 2046 section 5.2.1 allows no encoding of a message.
        let message = matches!(part.media_type.as_str(), "message/rfc822" | "message/global")
            && part.transfer == Transfer::Identity;
        if (multipart || message) && self.open.len() < DEPTH_LIMIT {
            part.kind = if multipart { Kind::Multipart } else { Kind::Message };
            let boundary = if multipart { own_boundary } else { None };
            self.open.push(Open { part: index, body, boundary, entered: false });
        } else {
            if multipart || message {
                self.defect(format!("nested deeper than {DEPTH_LIMIT}: the rest was not unpacked"));
            }
            self.leaf = Some((index, body));
        }
        self.parts.list.push(part);
        body
    }

    fn read_mime_fields(&mut self, part: &mut Part<'a>) {
        for field in &part.fields {
            if field.is("content-type") && part.content_type.is_none() {
                part.content_type = field.parameters();
                match &part.content_type {
                    Some(ContentType { c_type, c_subtype: Some(subtype), .. }) if is_token(subtype) => {
                        part.media_type = format!("{c_type}/{subtype}").to_ascii_lowercase();
                    }
                    // RFC 2045 section 5.2: what cannot be read is text/plain.
                    _ => {
                        self.parts.defects.push("unreadable Content-Type".to_owned());
                        let value = field.text().to_ascii_lowercase();
                        if let Some(media_type) = loose_type(&value) {
                            part.media_type = media_type.to_owned();
                        }
                        part.loose_charset = loose_charset(&value);
                    }
                }
            } else if field.is("content-disposition") && part.disposition.is_none() {
                part.disposition = field.parameters();
            } else if field.is("content-transfer-encoding") {
                let name = field.text();
                part.transfer = Transfer::named(&name).unwrap_or_else(|| {
                    self.parts.defects.push(format!("unknown Content-Transfer-Encoding {name:.40?}"));
                    Transfer::Identity
                });
            }
        }
    }

    fn default_type(&self, parent: usize) -> &'static str {
        // RFC 2046 section 5.1.5
        match self.parts.list.get(parent) {
            Some(parent) if parent.media_type == "multipart/digest" => "message/rfc822",
            _ => "text/plain",
        }
    }

    /// Walks over the body that begins at `from`, and returns where the next part's header begins.
    fn skip_body(&mut self, from: usize) -> Option<usize> {
        if self.parts.list.last().is_some_and(|part| part.kind == Kind::Message) {
            return Some(from);
        }
        let mut at = from;
        while at < self.content.len() {
            if self.open.is_empty() && self.leaf.is_some() {
                // Nothing but the end of the content can end it.
                break;
            }
            let next = header::line_end(self.content, at);
            if let Some((level, last)) = self.delimiter(&self.content[at..next]) {
                self.close_above(level + 1, at);
                self.open[level].entered = true;
                if !last {
                    return Some(next);
                }
                self.close_above(level, at);
                if self.open.is_empty() {
                    return None;
                }
            }
            at = next;
        }
        if self.open.iter().any(|open| open.entered) {
            self.defect("the closing boundary is missing: the mail may have been cut".to_owned());
        }
        self.close_above(0, self.content.len());
        None
    }

    /// Which open multipart the line is a delimiter of, and whether it is the last one.
    fn delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--")?.trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(level, open)| {
            match line.strip_prefix(open.boundary.as_deref()?)? {
                b"" => Some((level, false)),
                b"--" => Some((level, true)),
                _ => None,
            }
        })
    }

    /// Ends the leaf and the multiparts above `level` before the delimiter at `at`.
    fn close_above(&mut self, level: usize, at: usize) {
        // The line end before a delimiter belongs to it (RFC 2046 section 5.1.1).
        let mut end = at;
        if at < self.content.len() {
            end -= usize::from(at > 0);
            end -= usize::from(self.content[..end].ends_with(b"\r"));
        }
        if let Some((part, from)) = self.leaf.take() {
            self.parts.list[part].body = &self.content[from..end.max(from)];
        }
        for open in self.open.drain(level..).rev() {
            let part = &mut self.parts.list[open.part];
            part.body = &self.content[open.body..end.max(open.body)];
            if part.kind == Kind::Multipart && !open.entered {
                // Its text is better than nothing.
                part.kind = Kind::Leaf;
                if part.body.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    self.parts.defects.push("a multipart whose boundary never comes".to_owned());
                }
            }
        }
    }

    fn defect(&mut self, defect: String) {
        self.parts.defects.push(defect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in short: depth as indent, type, body.
    fn outline(content: &str) -> Vec<String> {
        let parts = parts(content.as_bytes());
        let depth = |mut at: usize| {
            let mut depth = 0;
            while parts.list[at].parent != at {
                at = parts.list[at].parent;
                depth += 1;
            }
            depth
        };
        let line = |(at, part): (usize, &Part<'_>)| {
            let body = if part.kind == Kind::Leaf { String::from_utf8_lossy(part.body) } else { "".into() };
            format!("{}{} {:?}", " ".repeat(depth(at)), part.media_type, body)
        };
        parts.list.iter().enumerate().map(line).collect()
    }

    #[test]
    fn a_content_type_that_is_not_quite_one_still_says_html() {
        for value in
            ["text/html charset=utf-8", "html", "text/html,charset=\"utf-8\"", "TEXT/HTML charset: utf-8"]
        {
            let content = format!("Subject: s\nContent-Type: {value}\n\n<p>x");
            let parts = parts(content.as_bytes());
            assert_eq!(parts.list[0].media_type, "text/html", "{value}");
            assert!(value == "html" || parts.list[0].charset() == Some("utf-8"), "{value}");
        }
        let parts = parts(b"Subject: s\nContent-Type: text\n\nx");
        assert_eq!(parts.list[0].media_type, "text/plain");
    }

    const NESTED: &str = "\
Content-Type: multipart/mixed; boundary=\"o\"

preamble
--o
Content-Type: multipart/alternative; boundary=o1

--o1

plain
--o1
Content-Type: text/html

<p>
--o1--
--o
Content-Type: message/rfc822

Subject: inner

text
--o--
epilogue
";

    #[test]
    fn nested_parts_are_told_apart() {
        let expected = [
            "multipart/mixed \"\"",
            " multipart/alternative \"\"",
            "  text/plain \"plain\"",
            "  text/html \"<p>\"",
            " message/rfc822 \"\"",
            "  text/plain \"text\"",
        ];
        assert_eq!(outline(NESTED), expected);
        assert_eq!(outline(&NESTED.replace('\n', "\r\n")), expected);
        assert!(parts(NESTED.as_bytes()).defects.is_empty());
    }

    #[test]
    fn a_mail_that_was_cut_keeps_what_came() {
        let cut = &NESTED[..NESTED.find("<p>").unwrap() + 2];
        assert_eq!(outline(cut).last().unwrap(), "  text/html \"<p\"");
        assert_eq!(
            parts(cut.as_bytes()).defects,
            ["the closing boundary is missing: the mail may have been cut"]
        );
    }

    #[test]
    fn an_outer_delimiter_ends_inner_parts() {
        let content = NESTED.replace("--o1--\n", "");
        assert_eq!(outline(&content).len(), 6);
    }

    #[test]
    fn a_boundary_that_was_changed_is_found() {
        let content = NESTED.replacen("\"o\"", "\"other\"", 1);
        assert_eq!(outline(&content).len(), 6);
        let content = NESTED.replacen("; boundary=\"o\"", "", 1);
        assert_eq!(outline(&content).len(), 6);
        assert_eq!(parts(content.as_bytes()).defects, ["the boundary in Content-Type is not the one in use"]);
    }

    #[test]
    fn a_multipart_without_parts_is_its_text() {
        let content = "Content-Type: multipart/mixed; boundary=x\n\nServer down\n";
        assert_eq!(outline(content), ["multipart/mixed \"Server down\\n\""]);
    }

    #[test]
    fn a_part_may_be_empty() {
        let content = "Content-Type: multipart/mixed; boundary=x\n\n--x\n--x\n\n--x\nA: b\n--x--";
        assert_eq!(outline(content)[1..], [" text/plain \"\"", " text/plain \"\"", " text/plain \"\""]);
    }

    #[test]
    fn lines_that_look_like_delimiters_are_text() {
        let content = "Content-Type: multipart/mixed; boundary=x\n\n--x\n\n--xy\n-- x\n--x --\n--x--\n";
        assert_eq!(outline(content)[1], " text/plain \"--xy\\n-- x\\n--x --\"");
    }
}
