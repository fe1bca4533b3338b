//! The message: the content of a mail made readable (RFC 5322, MIME). Parsing never fails; what was
//! wrong is listed as defects. Time and memory are bounded by the size of the content, whatever it holds;
//! compressed attachments are never unpacked, signatures never checked.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;

use super::attachment::Attachment;
use super::banners;
use super::config::Config;
use super::header::Field;
use super::leaf::TextSource;
use super::links;
use super::mailbox::Address;
use super::mime;
use super::roles;
use super::tags;
use super::text;
use super::transcript;
use super::wrapping::Wrapper;

/// The header of a message as [`Message::parse`] reads it, without its body.
#[derive(Debug)]
pub struct Header<'a>(Vec<Field<'a>>);

/// Bytes that are read of a header alone: more than any relay takes, so that reading it takes bounded time.
const HEADER_LIMIT: usize = 512 * 1024;

impl<'a> Header<'a> {
    /// Reads the header of `content`, as far as it stands in the first 512 KiB; what has none gives one
    /// without fields.
    pub fn read(content: &'a [u8]) -> Self {
        Self(mime::header_fields(&content[..content.len().min(HEADER_LIMIT)]))
    }

    /// Name and value of each field in order; values unfolded, encoded-words as they are.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        self.0.iter().map(|field| (field.name, field.raw()))
    }

    /// The names of the fields in order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|field| field.name)
    }

    /// The values of the Received fields, the latest hop first.
    pub fn received(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|field| field.is("received")).map(Field::text)
    }

    /// The Date, if there is one that can be read.
    pub fn date(&self) -> Option<Timestamp> {
        self.0.iter().find(|field| field.is("date")).and_then(Field::date)
    }

    /// The mailboxes of To, Cc and Bcc.
    pub fn recipients(&self) -> Vec<Address> {
        let to = |field: &&Field<'_>| ["to", "cc", "bcc"].iter().any(|name| field.is(name));
        self.0.iter().filter(to).flat_map(Field::addresses).collect()
    }

    /// The From mailboxes.
    pub fn from(&self) -> Vec<Address> {
        self.0.iter().filter(|field| field.is("from")).flat_map(Field::addresses).collect()
    }
}

/// A parsed message. Every text in it is decoded and unfolded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Message {
    /// The Subject on one line, entities decoded; empty if there is none. When a signed part protects the
    /// real one and this was obscured, it is the real one.
    pub subject: String,
    /// The From mailboxes.
    pub from: Vec<Address>,
    /// The To mailboxes.
    pub to: Vec<Address>,
    /// The Cc mailboxes.
    pub cc: Vec<Address>,
    /// The Reply-To mailboxes.
    pub reply_to: Vec<Address>,
    /// The Date; none if it is missing or unreadable.
    pub date: Option<Timestamp>,
    /// The Message-ID without its brackets.
    pub message_id: Option<String>,
    /// The ids of In-Reply-To, without brackets.
    pub in_reply_to: Vec<String>,
    /// The ids of References, oldest first, without brackets.
    pub references: Vec<String>,
    /// Every header field in order: the name as written, the value decoded.
    pub headers: Vec<(String, String)>,
    /// The readable text: LF line ends, HTML rendered, entities decoded, no white space at the ends of
    /// lines, and no two blank lines in a row. At most 1 MiB.
    pub text: String,
    /// Where the text came from.
    pub text_source: TextSource,
    /// Whether it is a reply to another mail by its subject, which no product sends.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reply: bool,
    /// The mail around this one, if it was forwarded; all but the recipients, further attachments and the trace fields
    /// are then those of the mail inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<Box<Wrapper>>,
    /// The mails that are attached and of which none is this one, for a reader.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub enclosed: String,
    /// What was done to the mail on its way and was undone here, in words for an operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<String>,
    /// The parts that are not text.
    pub attachments: Vec<Attachment>,
    /// Whether the content is encrypted (PGP/MIME, S/MIME), so that the text says nothing.
    pub encrypted: bool,
    /// The size of the content in bytes.
    pub size: usize,
    /// What was wrong with the message, in words for an operator.
    pub defects: Vec<String>,
}

/// Most defects that are listed; a mail that is wrong in more ways is wrong enough.
const DEFECT_LIMIT: usize = 20;

impl Message {
    /// Parses the content of a mail, with CRLF or LF line ends. Anything at all gives a message: content
    /// without a header becomes its text. What mail systems everywhere do to a mail on its way is undone.
    pub fn parse(content: &[u8]) -> Self {
        Self::parse_for(content, &Config::default())
    }

    /// The same, where the site's mail system does to mails what `config` says.
    pub fn parse_for(content: &[u8], config: &Config) -> Self {
        Self::parse_within(content, config, 0)
    }

    /// The same for a mail that lies in others, `depth` of them.
    pub(super) fn parse_within(content: &[u8], config: &Config, depth: usize) -> Self {
        let parts = mime::parts(content);
        let transcript = transcript::of(&parts.list, &config.banners);
        let mut message = Self {
            text: transcript.text,
            text_source: transcript.source,
            attachments: transcript.attachments,
            encrypted: transcript.encrypted,
            size: content.len(),
            undone: transcript.undone,
            ..Self::default()
        };
        message.defects = message.read_header(&parts.list[0].fields, roles::charset(&parts.list));
        message.defects.extend(parts.defects);
        message.defects.extend(transcript.defects);
        let forwarded = message.undo(config, transcript.protected_subject);
        message.unwrap(&parts.list, config, depth, forwarded, transcript.borrowed);
        for list in [&mut message.defects, &mut message.undone] {
            let mut seen: Vec<String> = Vec::new();
            for line in list.drain(..) {
                if seen.len() < DEFECT_LIMIT && !seen.contains(&line) {
                    seen.push(line);
                }
            }
            *list = seen;
        }
        message
    }

    /// Undoes what was put around the subject and the text; `protected` is the subject inside a signed part. Says whether
    /// the subject says that the mail was forwarded.
    fn undo(&mut self, config: &Config, protected: Option<String>) -> bool {
        let lists: Vec<String> = ["List-Id", "List-Post"]
            .into_iter()
            .flat_map(|name| self.header(name).take(1))
            .flat_map(tags::list_names)
            .collect();
        let mut found = tags::strip(&self.subject, &config.subject_tags, &lists);
        if let Some(subject) = protected
            && is_obscured(found.subject)
        {
            self.subject = subject;
            found = tags::strip(&self.subject, &config.subject_tags, &lists);
        }
        let (forwarded, reply) = (found.forwarded, found.reply);
        if !found.tags.is_empty() {
            let (subject, undone) = (found.subject.to_owned(), tags::undone(&found.tags));
            self.subject = subject;
            self.undone.push(undone);
        }
        self.reply = reply;
        let stripped = config.banners.stripped(&self.text);
        let mut undone = stripped.undone;
        let mut text = if undone.is_empty() { None } else { Some(stripped.text.to_owned()) };
        if let Some(bare) = banners::without_armour(text.as_ref().unwrap_or(&self.text)) {
            undone.push("the armour of a PGP signature, which was not checked".to_owned());
            text = Some(config.banners.stripped(&bare).text.to_owned());
        }
        if let Some(restored) = links::restored(text.as_ref().unwrap_or(&self.text)) {
            undone.push(links::UNDONE.to_owned());
            text = Some(restored);
        }
        if let Some(text) = text {
            self.text = text;
        }
        self.undone.extend(undone);
        forwarded
    }

    /// Takes over the header fields, raw bytes of which are in `charset`, and returns what was wrong with them.
    fn read_header(&mut self, fields: &[Field<'_>], charset: Option<&str>) -> Vec<String> {
        let mut defects = Vec::new();
        let mut date = None;
        let mut subject = None;
        for field in fields {
            let value = field.text_in(charset);
            if field.is("subject") {
                // Templates escape it as they escape the text.
                subject.get_or_insert_with(|| text::breakable(&text::decode_entities(&value)).into_owned());
            } else if field.is("from") {
                self.from.extend(field.addresses_in(charset));
            } else if field.is("to") {
                self.to.extend(field.addresses_in(charset));
            } else if field.is("cc") {
                self.cc.extend(field.addresses_in(charset));
            } else if field.is("reply-to") {
                self.reply_to.extend(field.addresses_in(charset));
            } else if field.is("date") {
                date.get_or_insert_with(|| field.date());
            } else if field.is("message-id") {
                self.message_id = self.message_id.take().or_else(|| field.ids().into_iter().next());
            } else if field.is("in-reply-to") {
                self.in_reply_to.extend(field.ids());
            } else if field.is("references") {
                self.references.extend(field.ids());
            }
            if field.is_raw() {
                defects.push(match charset.filter(|name| !name.eq_ignore_ascii_case("utf-8")) {
                    Some(name) => format!(
                        "8-bit text in the header that is not UTF-8: read as {name:.40?}, like the text"
                    ),
                    None => "8-bit text in the header that is not UTF-8: guessed".to_owned(),
                });
            }
            self.headers.push((field.name.to_owned(), value));
        }
        if fields.is_empty() {
            // Said once, by the reader of the header.
            return defects;
        }
        self.subject = subject.unwrap_or_else(|| {
            defects.push("no Subject".to_owned());
            String::new()
        });
        if self.from.is_empty() {
            defects.push("no From".to_owned());
        }
        match date {
            None => defects.push("no Date".to_owned()),
            Some(None) => defects.push("unreadable Date".to_owned()),
            Some(date) => self.date = date,
        }
        if self.message_id.is_none() {
            defects.push("no Message-ID".to_owned());
        }
        defects
    }

    /// The message without the header fields of these names, given in lower case.
    #[must_use]
    pub fn without(&self, names: &[String]) -> Self {
        let has = |name: &str| names.iter().any(|other| other == name);
        let mut message = self.clone();
        message.headers.retain(|(name, _)| !has(&name.to_ascii_lowercase()));
        for (name, mailboxes) in
            [("to", &mut message.to), ("cc", &mut message.cc), ("reply-to", &mut message.reply_to)]
        {
            if has(name) {
                mailboxes.clear();
            }
        }
        for (name, ids) in
            [("in-reply-to", &mut message.in_reply_to), ("references", &mut message.references)]
        {
            if has(name) {
                ids.clear();
            }
        }
        message.message_id = message.message_id.filter(|_| !has("message-id"));
        message
    }

    /// The text without quoted mail and signature: what its writer added. When nothing would remain it is
    /// the whole text.
    pub fn own_text(&self) -> Cow<'_, str> {
        text::own(&self.text)
    }

    /// The values of the header fields called `name`, in order, compared without case.
    pub fn header(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Whether the subject was hidden by a program that put the real one into the protected part: RFC 9788
/// section 4.2 writes `[...]`, GnuPG's older practice `...` or a notice.
fn is_obscured(subject: &str) -> bool {
    matches!(subject, "" | "..." | "[...]" | "Encrypted Message")
}
