//! What the rules judge: the mail and its envelope, seen as fields. Everything is borrowed from the mail;
//! what must be made is made when the first test asks for it.

use crate::words::Words;
use std::borrow::Cow;
use std::cell::OnceCell;

use crate::authenticity::Standing;
use crate::mail::{Address, Authenticity, Envelope, Message, Trust};

use super::field::{Field, MailField};
use super::pattern::Found;
use super::site::Site;

/// A mail on its way to a team.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What was sent.
    pub message: &'a Message,
    /// How it came.
    pub envelope: &'a Envelope,
    /// The team that the recipient stands for.
    pub team: &'a str,
}

/// A mail, or one piece of it, as fields.
pub(super) struct MailFields<'m> {
    pub(super) message: &'m Message,
    pub(super) envelope: &'m Envelope,
    team: &'m str,
    /// The text of the whole mail or of the piece.
    pub(super) text: &'m str,
    site: &'m Site,
    /// The trust in the sender, found at the first question: one for all pieces of a mail.
    pub(super) standing: &'m OnceCell<Standing>,
    /// Texts that are made of other values.
    made: OnceCell<Made>,
    own_text: OnceCell<Cow<'m, str>>,
    pub(super) found: Vec<OnceCell<Found>>,
}

/// The text forms of what is no text.
struct Made {
    size: String,
    client: Option<String>,
    received: String,
}

impl<'m> MailFields<'m> {
    pub(super) fn new(
        subject: &Subject<'m>,
        text: &'m str,
        site: &'m Site,
        standing: &'m OnceCell<Standing>,
        filters: usize,
    ) -> Self {
        Self {
            message: subject.message,
            envelope: subject.envelope,
            team: subject.team,
            text,
            site,
            standing,
            made: OnceCell::new(),
            own_text: OnceCell::new(),
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
                F::TlsSubject => {
                    self.envelope.client.tls.as_ref().and_then(|tls| tls.subject.as_deref()).is_some_and(one)
                }
                F::Trusted => one(flag(self.standing().trust == Trust::Trusted)),
                F::Authenticated => one(flag(!self.standing().trust.is_stranger())),
                F::ParameterSender => one(flag(self.is_parameter_sender())),
                F::Spf => self.found_out().is_some_and(|found| one(found.spf.word())),
                F::Dkim => self.found_out().is_some_and(|found| one(found.dkim.word())),
                F::DkimDomain => {
                    self.found_out().is_some_and(|found| found.dkim_domains.iter().any(|domain| one(domain)))
                }
                F::Dmarc => self.found_out().is_some_and(|found| one(found.dmarc.word())),
                F::Arc => self.found_out().is_some_and(|found| one(found.arc.word())),
                F::Received => one(&self.made().received),
                F::Team => one(self.team),
            },
            Field::Event(_) | Field::Tile(_) | Field::Site(_) | Field::Line(_) | Field::Name { .. } => false,
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

    /// The sender: the From mailbox, or the reverse path where there is none.
    pub(super) fn sender(&self) -> &str {
        let from = self.message.from.first().map(|a| a.address.as_str()).filter(|a| !a.is_empty());
        from.unwrap_or(match self.envelope.reverse_path.as_str() {
            "" => "an unknown sender",
            path => path,
        })
    }

    /// The trust in the sender, and the evidence for it.
    pub(super) fn standing(&self) -> &'m Standing {
        self.standing.get_or_init(|| self.site.trusted.standing(self.message, self.envelope))
    }

    /// Whether DKIM or DMARC proves the domain in From, be it one of the site's own or a stranger's.
    pub(super) fn domain_is_proven(&self) -> bool {
        self.found_out().is_some_and(|found| found.vouches_for(self.message.sent_by()))
    }

    /// Whether the site lets every mailbox in From steer by parameters in the body.
    fn is_parameter_sender(&self) -> bool {
        let named = |from: &Address| self.site.parameter_senders.iter().any(|p| p.matches(&from.address));
        let from = self.message.sent_by();
        !from.is_empty() && from.iter().all(named)
    }

    /// What was found out about the mail, if it was checked.
    fn found_out(&self) -> Option<&'m Authenticity> {
        self.envelope.authenticity.as_deref()
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

/// The first mailbox of a list, for the message of a mail without text.
pub(super) fn first(list: &[Address]) -> Option<&str> {
    list.first().map(|address| address.address.as_str()).filter(|address| !address.is_empty())
}
