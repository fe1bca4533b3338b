//! A mail as a tree that can be changed and written again: just enough of RFC 2045 for what mail systems do to mails.

use encoding_rs::Encoding;
use mail_parser::decoders::base64::base64_decode;

use crate::support;

/// A mail, or a part of one.
#[derive(Clone)]
pub struct Part {
    /// Name and value of each field, folds and all, without those of MIME.
    pub fields: Vec<(String, String)>,
    /// What it holds.
    pub body: Body,
}

/// What a part holds.
#[derive(Clone)]
pub enum Body {
    /// Text that people read.
    Text { html: bool, text: String },
    /// Parts: `mixed` and the like, and what its type says beside the boundary.
    Parts { kind: String, parameters: String, parts: Vec<Part> },
    /// Anything else as it stands, with its fields of MIME.
    Other { fields: Vec<(String, String)>, bytes: Vec<u8> },
}

/// How text is written into the bytes of a mail.
#[derive(Clone, Copy, Default)]
pub enum Transfer {
    #[default]
    Bits8,
    QuotedPrintable,
    Base64,
}

impl Part {
    /// Reads a mail; none if it is not one that mail systems can take apart.
    pub fn read(content: &[u8]) -> Option<Self> {
        let content = String::from_utf8(content.to_vec()).ok()?.replace("\r\n", "\n");
        Self::of(&content)
    }

    fn of(content: &str) -> Option<Self> {
        let (head, body) = match content.strip_prefix('\n') {
            Some(body) => ("", body),
            None => content.split_once("\n\n")?,
        };
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in head.split('\n').filter(|line| !line.is_empty()) {
            if line.starts_with([' ', '\t']) {
                let (_, value) = fields.last_mut()?;
                value.push('\n');
                value.push_str(line);
            } else {
                let (name, value) = line.split_once(':')?;
                fields.push((name.to_owned(), value.trim_start().to_owned()));
            }
        }
        let (mime, fields): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| {
            let name = name.to_ascii_lowercase();
            name.starts_with("content-") || name == "mime-version"
        });
        let value = |name: &str| {
            let found = mime.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.replace('\n', " ")).unwrap_or_default()
        };
        let content_type = value("Content-Type");
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if let Some(kind) = kind.strip_prefix("multipart/") {
            let boundary = parameter(&content_type, "boundary")?;
            let parameters = content_type.split(';').skip(1).filter(|pair| !pair.contains("boundary"));
            let parameters = parameters.map(|pair| format!(";{pair}")).collect();
            let parts = split(body, &boundary)?.into_iter().map(Self::of).collect::<Option<_>>()?;
            return Some(Self { fields, body: Body::Parts { kind: kind.to_owned(), parameters, parts } });
        }
        let attached = value("Content-Disposition").to_ascii_lowercase().contains("attachment")
            || parameter(&content_type, "name").is_some()
            || parameter(&content_type, "format").is_some();
        let html = kind == "text/html";
        let transfer = value("Content-Transfer-Encoding").to_ascii_lowercase();
        if attached || !(html || kind == "text/plain" || kind.is_empty()) {
            return Some(Self {
                fields,
                body: Body::Other { fields: mime, bytes: body.as_bytes().to_vec() },
            });
        }
        let bytes = match transfer.trim() {
            "base64" => base64_decode(body.as_bytes())?,
            "quoted-printable" => of_quoted_printable(body)?,
            _ => body.as_bytes().to_vec(),
        };
        let charset = parameter(&content_type, "charset").unwrap_or_else(|| "utf-8".to_owned());
        let (text, _, broken) = Encoding::for_label(charset.as_bytes())?.decode(&bytes);
        let text = text.replace("\r\n", "\n");
        (!broken).then_some(Self { fields, body: Body::Text { html, text } })
    }

    /// The mail with CRLF; its text goes as `transfer`, and its parts are told apart by `boundary` and their depth.
    pub fn write(&self, transfer: Transfer, boundary: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut root = self.clone();
        root.fields.push(("MIME-Version".to_owned(), "1.0".to_owned()));
        root.put(&mut out, transfer, boundary, 0);
        String::from_utf8_lossy(&out).replace('\n', "\r\n").into_bytes()
    }

    fn put(&self, out: &mut Vec<u8>, transfer: Transfer, boundary: &str, depth: usize) {
        let field = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend(format!("{name}: {value}\n").bytes());
        };
        for (name, value) in &self.fields {
            field(out, name, value);
        }
        match &self.body {
            Body::Other { fields, bytes } => {
                for (name, value) in fields.iter().filter(|(name, _)| name != "MIME-Version") {
                    field(out, name, value);
                }
                out.push(b'\n');
                out.extend(bytes);
            }
            Body::Text { html, text } => {
                let kind = if *html { "html" } else { "plain" };
                field(out, "Content-Type", &format!("text/{kind}; charset=\"utf-8\""));
                let (name, text) = match transfer {
                    Transfer::Bits8 => ("8bit", text.clone()),
                    Transfer::QuotedPrintable => ("quoted-printable", quoted_printable(text)),
                    Transfer::Base64 => ("base64", base64(text.replace('\n', "\r\n").as_bytes())),
                };
                field(out, "Content-Transfer-Encoding", name);
                out.push(b'\n');
                out.extend(text.bytes());
            }
            Body::Parts { kind, parameters, parts } => {
                let own = format!("{boundary}.{depth}");
                field(out, "Content-Type", &format!("multipart/{kind}{parameters};\n\tboundary=\"{own}\""));
                out.push(b'\n');
                for part in parts {
                    out.extend(format!("--{own}\n").bytes());
                    part.put(out, transfer, boundary, depth + 1);
                    out.push(b'\n');
                }
                out.extend(format!("--{own}--\n").bytes());
            }
        }
    }

    /// The value of a field on one line.
    pub fn field(&self, name: &str) -> Option<String> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.replace('\n', ""))
    }

    /// Puts this in front of the value of a field; whether it has one.
    pub fn prefix(&mut self, name: &str, text: &str) -> bool {
        let found = self.fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.insert_str(0, text)).is_some()
    }

    /// Changes each text that people read; whether there is one.
    pub fn texts(&mut self, change: &mut impl FnMut(&mut bool, &mut String)) -> bool {
        match &mut self.body {
            Body::Text { html, text } => {
                change(html, text);
                true
            }
            Body::Parts { parts, .. } => {
                let mut any = false;
                for part in parts {
                    any |= part.texts(change);
                }
                any
            }
            Body::Other { .. } => false,
        }
    }

    /// The first text of this kind.
    pub fn text(&self, wanted: bool) -> Option<&str> {
        match &self.body {
            Body::Text { html, text } => (*html == wanted).then_some(text),
            Body::Parts { parts, .. } => parts.iter().find_map(|part| part.text(wanted)),
            Body::Other { .. } => None,
        }
    }
}

/// The parts between the delimiters.
fn split<'b>(body: &'b str, boundary: &str) -> Option<Vec<&'b str>> {
    let delimiter = format!("\n--{boundary}");
    let (inner, _) = body.rsplit_once(&format!("{delimiter}--"))?;
    let mut parts: Vec<&str> = Vec::new();
    let begin = format!("--{boundary}\n");
    let inner = inner
        .strip_prefix(&begin)
        .or_else(|| inner.split_once(&format!("\n{begin}")).map(|(_, rest)| rest))?;
    for part in inner.split(&format!("{delimiter}\n")) {
        parts.push(part);
    }
    Some(parts)
}

/// The value of a parameter of a field.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|pair| {
        let (known, value) = pair.split_once('=')?;
        known.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn of_quoted_printable(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let text = text.replace("=\n", "");
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'=' {
            out.push(u8::from_str_radix(std::str::from_utf8(after.get(..2)?).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    Some(out)
}

/// Quoted-printable whose lines are all broken where they may be: at 76 characters.
pub fn quoted_printable(text: &str) -> String {
    let mut out = String::new();
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let mut length = 0;
        let bytes = line.as_bytes();
        for (at, &byte) in bytes.iter().enumerate() {
            let blank_at_the_end = byte == b' ' && at + 1 == bytes.len();
            let plain = matches!(byte, b' '..=b'~') && byte != b'=' && !blank_at_the_end;
            let word = if plain { char::from(byte).to_string() } else { format!("={byte:02X}") };
            if length + word.len() > 75 {
                out.push_str("=\n");
                length = 0;
            }
            length += word.len();
            out.push_str(&word);
        }
    }
    out
}

/// Base64 in lines of 76.
pub fn base64(bytes: &[u8]) -> String {
    let whole = support::base64(bytes);
    whole.as_bytes().chunks(76).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect()
}
