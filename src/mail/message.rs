//! The message: the content of a mail made readable (RFC 5322, MIME). Parsing never fails; what was
//! wrong is listed as defects.

use jiff::Timestamp;
use serde::Serialize;

/// A mailbox out of an address header.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Address {
    /// The display name; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The addr-spec, `local@domain`, as written.
    pub address: String,
}

/// A part of the message that is not its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attachment {
    /// The file name; empty if the part has none.
    pub name: String,
    /// The media type in lower case, such as `image/png`.
    pub content_type: String,
    /// The decoded size in bytes.
    pub size: usize,
}

/// Where the text of a message was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextSource {
    /// A text/plain part, or no MIME at all.
    Plain,
    /// A text/html part, rendered.
    Html,
    /// There was none: empty, encrypted, or attachments only.
    #[default]
    None,
}

/// A parsed message. Every text in it is decoded and unfolded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Message {
    /// The Subject; empty if there is none.
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
    /// The readable text: LF line ends, HTML rendered, entities decoded.
    pub text: String,
    /// Where the text came from.
    pub text_source: TextSource,
    /// The parts that are not text.
    pub attachments: Vec<Attachment>,
    /// Whether the content is encrypted (PGP/MIME, S/MIME), so that the text says nothing.
    pub encrypted: bool,
    /// The size of the content in bytes.
    pub size: usize,
    /// What was wrong with the message, in words for an operator.
    pub defects: Vec<String>,
}

impl Message {
    /// The values of the header fields called `name`, in order, compared without case.
    pub fn header(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}
