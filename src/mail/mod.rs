//! The mail: RFC 5321's mail object, an envelope and its content, and the message parsed out of that
//! content. Plain data: no I/O, no clock.

mod authenticity;

mod envelope;
mod file;
mod fingerprint;
mod message;
pub mod trace;

mod received;

mod header;

mod mask;

mod mime;

mod charset;

mod transfer;

mod config;

mod banners;

mod phrases;

mod tags;

mod links;

mod flowed;

mod forward;

mod cms;

mod rtf;
mod tnef;

mod leaf;

mod envelopes;

mod wrapper;

mod notice;

mod transcript;

mod html;

mod text;

mod quotation;
mod trust;

pub use authenticity::{Authenticity, Policy, Verdict, domain_of};
pub use config::Config;
pub use envelope::{Client, Envelope, MailId, Origin, Tls};
pub use file::{FILE_LIMIT, FileContent, FileKind, FileType, file_contents, file_type};
pub use fingerprint::fingerprint;
pub use mask::masked;
pub use message::{Address, Attachment, Header, Message, TextSource};
pub use quotation::quoted;
pub use received::Hop;
pub use text::{is_hidden, visible};
pub use trust::Trust;
pub use wrapper::{Wrapper, Wrapping};

use bytes::Bytes;

/// A mail object (RFC 5321 section 2.3.1) as the edge took it in.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Who sent it, to whom, and how it came.
    pub envelope: Envelope,
    /// The content as received: dot-unstuffed, otherwise byte for byte.
    pub content: Bytes,
}
