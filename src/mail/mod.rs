//! The mail: RFC 5321's mail object, an envelope and its content, and the message parsed out of that
//! content. Plain data: no I/O, no clock.

mod attachment;
mod authenticity;
mod banners;
mod charset;
mod cms;
mod config;
mod envelope;
mod envelopes;
mod file;
mod file_type;
mod fingerprint;
mod flowed;
mod forward;
mod header;
mod html;
mod leaf;
mod links;
mod mailbox;
mod mark;
mod mask;
mod message;
mod mime;
mod notice;
mod phrases;
mod quotation;
mod received;
mod roles;
mod rtf;
mod tags;
mod text;
mod tnef;
mod transcript;
mod transfer;
mod trust;
mod wrapper;
mod wrapping;

pub mod trace;

pub use attachment::Attachment;
pub use authenticity::{Authenticity, Policy, Verdict, domain_of};
pub use config::Config;
pub use envelope::{Client, Envelope, MailId, Origin, Tls};
pub use file::{FileContent, file_contents};
pub use file_type::{FILE_LIMIT, FileKind, FileType, file_type};
pub use fingerprint::fingerprint;
pub use leaf::TextSource;
pub use mailbox::Address;
pub use mask::masked;
pub use message::{Header, Message};
pub use quotation::quoted;
pub use received::Hop;
pub use text::{is_hidden, joined, visible};
pub use trust::Trust;
pub use wrapping::{Wrapper, Wrapping};

use bytes::Bytes;

/// A mail object (RFC 5321 section 2.3.1) as the edge took it in.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The sender, the recipients, and how the mail came.
    pub envelope: Envelope,
    /// The content as received: dot-unstuffed, otherwise byte for byte.
    pub content: Bytes,
}
