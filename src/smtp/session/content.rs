//! The content of a mail in a session: DATA, its end, and what becomes of the mail there.

use tracing::{info, warn};

use crate::mail::{Envelope, Mail, MailId, Origin, trace};
use crate::smtp::data::{Data, Lost};
use crate::smtp::lenience::Repair;
use crate::smtp::reply::Reply;
use crate::smtp::{Protocol, Refusal, lenience, reply};

use super::{Phase, Session, Step, Transaction};

impl Session {
    /// The answer to [`Step::Accept`].
    pub fn mail_is(&mut self, outcome: Result<MailId, Refusal>) {
        match outcome {
            Ok(id) => {
                (self.errors, self.strange) = (0, 0);
                self.answer_mail(&reply::queued(id));
            }
            Err(Refusal::Full) => self.refuse_mail(&reply::NO_ROOM),
            Err(Refusal::Unavailable) => self.refuse_mail(&reply::CANNOT_STORE),
            Err(Refusal::Unauthentic) => self.refuse_mail(&reply::UNAUTHENTIC),
            Err(Refusal::TooMany) => self.refuse_mail(&reply::TOO_MANY_OF_STRANGER),
        }
    }

    /// DATA. When it is refused, its message may come nevertheless, from a client that does not wait for
    /// the reply, and must not be read as commands: the writer of the message would choose them.
    ///
    /// By RFC 2920 section 3.1 nothing may be pipelined behind DATA. So if anything is, it can only be
    /// that message, and the session ends; and it ends if the next line is no command. That a message
    /// which comes late begins with a command cannot be told from a client that goes on, as it may.
    /// Where the input in hand ends with DATA, what is behind it may only not have been read yet: that is
    /// looked for before the client gets the refusal, because no client may go on before that.
    pub(super) fn data(&mut self, followed: bool) {
        // Only a client that ends its commands so ends its mails so.
        let bare_lf = self.listener.bare_lf && self.ends_by_bare_lf();
        let refusal = match &self.transaction {
            None => &reply::NEED_MAIL,
            Some(mail) if mail.chunks.is_some() => &reply::CHUNKS_BEGUN,
            Some(mail) if mail.given_up => &reply::NO_ROOM,
            Some(mail) if mail.binary => &reply::NEED_BDAT,
            Some(mail) if !mail.recipients.is_empty() => match self.over_rate() {
                Some(reply) => reply,
                None => {
                    let limit = self.config.max_message_size;
                    let data = if bare_lf { Data::of_lines(limit) } else { Data::new(limit) };
                    self.phase = Phase::Data(Box::new(data));
                    self.answer(&reply::START_MAIL);
                    return;
                }
            },
            Some(mail) => self.no_recipients(mail),
        };
        self.refuse_data(refusal, followed);
    }

    pub(super) fn refuse_data(&mut self, refusal: &'static Reply, followed: bool) {
        if !self.is_told_of_rate() {
            info!(client = %self.peer(), helo = ?self.client.helo, reply = %refusal, "DATA refused");
        }
        self.data_refused = true;
        self.refuse(refusal);
        self.to_look = !followed;
        self.more_is(followed);
    }

    /// The answer to [`Step::Look`]: whether anything is pipelined behind a DATA that was refused.
    pub fn more_is(&mut self, there: bool) {
        if there {
            self.close(&reply::NO_COMMANDS_AFTER_DATA);
        }
    }

    /// Whether the client ended a command of this mail by a bare LF.
    fn ends_by_bare_lf(&self) -> bool {
        self.transaction.as_ref().is_some_and(|mail| mail.repairs.has(Repair::BareLf))
    }

    /// Tells of a client that waits for the end of a mail which it has ended, as it thinks, by LF.LF.
    pub(super) fn look_for_bare_lf(&mut self) {
        let Phase::Data(data) = &self.phase else { return };
        if self.ends_by_bare_lf() && !self.told_of_bare_lf && data.waits_behind_a_bare_dot() {
            self.told_of_bare_lf = true;
            warn!(
                client = %self.peer(), helo = ?self.client.helo,
                "this client ends its lines by a bare LF, and LF.LF does not end a mail: it hangs, and its mail is not \
                 taken. Let it send CRLF; or, where nobody else can come in by the listener, give that `bare-lf = true`"
            );
        }
    }

    pub(super) fn end_of_data(&mut self) -> Option<Step> {
        let Phase::Data(data) = std::mem::replace(&mut self.phase, Phase::Command) else { return None };
        self.complete(data.finish())
    }

    /// The content of the mail is there, or is lost.
    pub(super) fn complete(&mut self, content: Result<Vec<u8>, Lost>) -> Option<Step> {
        let mut transaction = self.transaction.take()?;
        self.replies = match self.listener.protocol {
            Protocol::Smtp => 1,
            Protocol::Lmtp => transaction.accepted,
        };
        let content = match content {
            Ok(content) => content,
            Err(lost) => {
                self.refuse_mail(why(lost));
                return None;
            }
        };
        let header = trace::header(&content);
        let going_round = if trace::is_notice(header) {
            Some(&reply::OWN_NOTICE)
        } else {
            (trace::hops(header) > self.config.max_hops).then_some(&reply::TOO_MANY_HOPS)
        };
        if let Some(reply) = going_round {
            warn!(client = %self.peer(), sender = ?transaction.reverse_path, "a mail goes round in circles");
            self.refuse_mail(reply);
            return None;
        }
        let mut found = lenience::of_content(&content, header, transaction.utf8, transaction.binary);
        let plain = transaction
            .recipients
            .iter()
            .chain([&transaction.reverse_path])
            .all(|address| address.is_ascii());
        if !transaction.utf8 && !plain {
            found.note(Repair::RawAddress);
        }
        self.repaired += found.count();
        transaction.repairs.join(found);
        let mut envelope = Envelope {
            received_at: self.clock.now(),
            origin: Origin::Smtp,
            client: self.client.clone(),
            reverse_path: transaction.reverse_path,
            recipients: transaction.recipients,
            ..Envelope::default()
        };
        envelope.repairs = transaction.repairs.words();
        Some(Step::Accept(Mail { envelope, content: content.into() }))
    }

    /// Answers the end of a mail: in LMTP once for each recipient (RFC 2033 section 4.2), who all fare alike.
    fn answer_mail(&mut self, reply: &Reply) {
        for _ in 0..self.replies {
            self.answer(reply);
        }
    }

    /// The reply to a client that sends content without an accepted recipient.
    pub(super) fn no_recipients(&self, mail: &Transaction) -> &'static Reply {
        match self.listener.protocol {
            _ if mail.asked == 0 => &reply::NEED_RCPT,
            Protocol::Smtp => &reply::NO_VALID_RECIPIENTS,
            Protocol::Lmtp => &reply::NO_RECIPIENTS,
        }
    }

    fn refuse_mail(&mut self, reply: &Reply) {
        info!(client = %self.peer(), helo = ?self.client.helo, %reply, "mail refused");
        self.answer_mail(reply);
    }
}

/// What the client of a mail that was lost is told.
pub(super) fn why(lost: Lost) -> &'static Reply {
    match lost {
        Lost::TooLarge => &reply::TOO_LARGE,
        Lost::NoMemory => &reply::NO_ROOM,
    }
}
