//! How a mail lay in another, and what is kept of the outer one.

use serde::Serialize;

use super::mailbox::Address;

/// How a mail lay in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrapping {
    /// As an attached file.
    Attached,
    /// Within the text, below a head.
    Inline,
    /// In the report of a spam filter.
    SpamReport,
    /// In the report of a mail server's journal.
    Journal,
    /// In the digest of a mailing list.
    Digest,
}

impl Wrapping {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Attached => "a mail around this one, which was attached to it",
            Self::Inline => "a mail around this one, which was forwarded within its text",
            Self::SpamReport => "the report of a spam filter around this mail",
            Self::Journal => "the report of a journal around this mail",
            Self::Digest => "a digest around this mail",
        }
    }
}

/// The mail that another came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wrapper {
    /// How it lay in it.
    pub wrapping: Wrapping,
    /// The sender of the outer mail, the only one that can be proven.
    pub from: Vec<Address>,
    /// The subject of the outer mail.
    pub subject: String,
    /// What its sender wrote beside the mail; empty if nothing, or nothing for a reader.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Whether the site names each sender around the mail in `[[mail.forwarder]]`, so that what it forwards may close
    /// and acknowledge as far as the outer mail may.
    pub named: bool,
}
