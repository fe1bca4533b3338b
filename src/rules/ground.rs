//! What the rules judge: the mail and its envelope, seen as fields. Everything is borrowed from the mail;
//! what must be made is made when the first test asks for it.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use crate::mail::{Address, Envelope, Message, Origin};

use super::Subject;
use super::field::{Field, MailField};
use super::pattern::Found;
use crate::network::Network;

/// A mail, or one piece of it, as fields.
pub(super) struct Ground<'m> {
    pub(super) message: &'m Message,
    pub(super) envelope: &'m Envelope,
    team: &'m str,
    /// The text of the whole mail or of the piece.
    pub(super) text: &'m str,
    trusted_networks: &'m [Network],
    /// Texts that are made of other values.
    made: OnceCell<Made>,
    own_text: OnceCell<Cow<'m, str>>,
    trusted: OnceCell<bool>,
    pub(super) found: Vec<OnceCell<Found>>,
}

/// The text forms of what is no text.
struct Made {
    size: String,
    client: Option<String>,
    received: String,
}

impl<'m> Ground<'m> {
    pub(super) fn new(subject: &Subject<'m>, text: &'m str, networks: &'m [Network], filters: usize) -> Self {
        Self {
            message: subject.message,
            envelope: subject.envelope,
            team: subject.team,
            text,
            trusted_networks: networks,
            made: OnceCell::new(),
            own_text: OnceCell::new(),
            trusted: OnceCell::new(),
            found: (0..filters).map(|_| OnceCell::new()).collect(),
        }
    }

    /// Calls `f` with each value of `field` that is not empty until it returns true; whether it did.
    pub(super) fn any_value<'g>(&'g self, field: &Field, mut f: impl FnMut(&'g str) -> bool) -> bool {
        use MailField as F;
        let message = self.message;
        let mut one = |text: &'g str| !text.is_empty() && f(text);
        match field {
            Field::Header(name) => message.header(name).any(one),
            Field::Mail(field) => match field {
                F::Subject => one(&message.subject),
                F::From => message.from.iter().any(|a| one(&a.address)),
                F::FromName => message.from.iter().any(|a| one(&a.name)),
                F::To => message.to.iter().any(|a| one(&a.address)),
                F::Cc => message.cc.iter().any(|a| one(&a.address)),
                F::ReplyTo => message.reply_to.iter().any(|a| one(&a.address)),
                F::Text => one(self.text),
                F::OwnText => one(self.own_text()),
                F::MessageId => message.message_id.as_deref().is_some_and(one),
                F::Thread => self.thread().is_some_and(one),
                F::Attachment => message.attachments.iter().any(|a| one(&a.name)),
                F::AttachmentType => message.attachments.iter().any(|a| one(&a.content_type)),
                F::Size => one(&self.made().size),
                F::Encrypted => one(flag(message.encrypted)),
                F::Sender => one(&self.envelope.reverse_path),
                F::Recipient => self.envelope.recipients.iter().any(|a| one(a)),
                F::Client => self.made().client.as_deref().is_some_and(one),
                F::Helo => one(&self.envelope.client.helo),
                F::User => self.envelope.client.user.as_deref().is_some_and(one),
                F::Trusted => one(flag(self.trusted())),
                F::Received => one(&self.made().received),
                F::Team => one(self.team),
            },
            Field::Event(_) | Field::Tile(_) | Field::Site(_) | Field::Name { .. } => false,
        }
    }

    /// What a template shows for `field`: its one value, or its values with commas between.
    pub(super) fn shown(&self, field: MailField) -> Option<String> {
        let mut all = String::new();
        self.any_value(&Field::Mail(field), |value| {
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(value);
            false
        });
        (!all.is_empty()).then_some(all)
    }

    /// The id that all mails of one conversation share: the oldest that this one refers to.
    pub(super) fn thread(&self) -> Option<&str> {
        self.message.references.first().or(self.message.in_reply_to.first()).map(String::as_str)
    }

    /// Who sent it, in the fewest words that tell.
    pub(super) fn sender(&self) -> &str {
        let from = self.message.from.first().map(|a| a.address.as_str()).filter(|a| !a.is_empty());
        from.unwrap_or(match self.envelope.reverse_path.as_str() {
            "" => "an unknown sender",
            path => path,
        })
    }

    /// Whether the site lets whoever wrote the mail steer by `X-S4-*`: the client, and every hop that a
    /// Received field names, is in a trusted network. A relay puts the address of its own client first,
    /// so that mail from outside is not trusted for having come through a relay inside.
    pub(super) fn trusted(&self) -> bool {
        *self.trusted.get_or_init(|| {
            let trusted =
                |address: IpAddr| self.trusted_networks.iter().any(|network| network.contains(address));
            let client = match (self.envelope.origin, self.envelope.client.address) {
                (Origin::Smtp, None) => false,
                (Origin::Smtp, Some(address)) => trusted(address),
                (Origin::Submit | Origin::Command | Origin::Gateway, _) => true,
            };
            client
                && self.message.header("Received").all(|hop| match hop_address(hop) {
                    Hop::Local => true,
                    Hop::From(addresses) => addresses.into_iter().all(trusted),
                    Hop::Unknown => false,
                })
        })
    }

    fn own_text(&self) -> &str {
        self.own_text.get_or_init(|| {
            // A piece was cut out by a pattern of its own: it has no quotation and no signature.
            if self.text.len() == self.message.text.len() {
                self.message.own_text()
            } else {
                self.text.into()
            }
        })
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| Made {
            size: self.message.size.to_string(),
            client: self.envelope.client.address.map(|address| address.to_canonical().to_string()),
            received: self.envelope.received_at.to_string(),
        })
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// What a Received field (RFC 5321 section 4.4) tells of where the mail came from.
enum Hop {
    /// It has no `from` clause: the mail was made on the machine.
    Local,
    /// Every address before the receiver's `by`: its own word on the client, and what the client said.
    From(Vec<IpAddr>),
    /// It came from somewhere, and that is all.
    Unknown,
}

fn hop_address(received: &str) -> Hop {
    let received = received.trim_start();
    let Some(from) = received.get(..5).filter(|head| head.eq_ignore_ascii_case("from ")) else {
        return Hop::Local;
    };
    let clause = before_last_by(&received[from.len()..]);
    // The client writes its name, the receiver the comment behind it: the last brackets are the receiver's.
    let bracketed = clause.rsplit_once('[').map(|(_, rest)| rest.split(']').next().unwrap_or(""));
    // Exchange writes parentheses alone.
    let parted = || clause.rsplit_once('(').map(|(_, rest)| rest.split(')').next().unwrap_or(""));
    if bracketed.or_else(parted).and_then(address).is_none() {
        return Hop::Unknown;
    }
    // But relays differ in where they write what, and a name can look like a comment: so all count.
    let parts = clause.split(|c: char| c.is_whitespace() || "[]()<>=,;".contains(c));
    Hop::From(parts.filter_map(address).collect())
}

/// What stands before the last word `by`. The first may be the client's, which says what it likes in HELO;
/// a later one than the receiver's only adds addresses that must be trusted.
fn before_last_by(clause: &str) -> &str {
    let blank = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
    let bytes = clause.as_bytes();
    let by = (1..bytes.len().saturating_sub(1)).rev().find(|&at| {
        bytes[at..at + 2].eq_ignore_ascii_case(b"by") && blank(bytes.get(at - 1)) && blank(bytes.get(at + 2))
    });
    &clause[..by.unwrap_or(clause.len())]
}

fn address(text: &str) -> Option<IpAddr> {
    text.strip_prefix("IPv6:").unwrap_or(text).parse().ok()
}

/// The first mailbox of a list, for the message of a mail without text.
pub(super) fn first(list: &[Address]) -> Option<&str> {
    list.first().map(|address| address.address.as_str()).filter(|address| !address.is_empty())
}
