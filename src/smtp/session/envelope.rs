//! The envelope in a session: MAIL and RCPT.

use tracing::info;

use crate::smtp::reply;
use crate::smtp::reply::Reply;

use super::{Session, Step, Transaction};

/// How many senders and recipients that were refused have a line in the log: as many as a mail may have recipients
/// anywhere (RFC 5321 section 4.5.3.1.8). What one session could write without end would cost the log its other lines.
const MAX_LINES: usize = 100;

impl Session {
    /// The answer to [`Step::Recipient`].
    pub fn recipient_is(&mut self, recipient: String, known: bool) {
        match &mut self.transaction {
            Some(mail) if known => {
                mail.recipients.push(recipient);
                mail.accepted += 1;
                self.answer(&reply::RECIPIENT_OK);
            }
            _ => {
                if self.strange < MAX_LINES {
                    info!(client = %self.peer(), helo = ?self.client.helo, ?recipient, "recipient refused: unknown");
                }
                self.refuse_address(&reply::UNKNOWN_RECIPIENT);
            }
        }
    }

    /// MAIL, also from a client that did not greet: Zabbix with no name set does not. Whether it was taken.
    pub(super) fn mail(&mut self, path: &str, size: Option<u64>) -> bool {
        if let Some(reply) = self.unready() {
            info!(client = %self.peer(), helo = ?self.client.helo, sender = ?path, %reply, "mail refused");
            self.refuse(reply);
        } else if self.transaction.is_some() {
            self.refuse(&reply::NESTED_MAIL);
        } else if !self.listener.senders.admit(path) {
            if self.strange < MAX_LINES {
                info!(client = %self.peer(), helo = ?self.client.helo, sender = ?path, "sender refused: not allowed");
            }
            self.refuse_address(&reply::SENDER_REFUSED);
        } else if size.is_some_and(|size| size > self.config.max_message_size as u64) {
            info!(client = %self.peer(), helo = ?self.client.helo, sender = ?path, size, "mail refused: too large");
            self.refuse(&reply::TOO_LARGE);
        } else {
            self.transaction = Some(Transaction { reverse_path: path.to_owned(), ..Transaction::default() });
            self.answer(&reply::SENDER_OK);
            return true;
        }
        false
    }

    pub(super) fn rcpt(&mut self, path: &str) -> Option<Step> {
        let Some(mail) = &mut self.transaction else {
            self.refuse(&reply::NEED_MAIL);
            return None;
        };
        if mail.chunks.is_some() {
            self.refuse(&reply::CHUNKS_BEGUN);
        } else if mail.given_up {
            self.answer(&reply::NO_ROOM);
        } else if mail.asked >= self.config.max_recipients {
            if mail.asked == self.config.max_recipients {
                mail.asked += 1;
                info!(client = %self.peer(), recipient = ?path, "recipient refused: too many, and so are all that follow");
            }
            self.answer(&reply::TOO_MANY_RECIPIENTS);
        } else {
            mail.asked += 1;
            return Some(Step::Recipient(path.to_owned()));
        }
        None
    }

    /// Refuses a sender or a recipient. That is no error like others: a relay may have mails of many senders, and many
    /// wrong recipients beside one right. But who names more of them than a mail may have recipients, and sends no mail
    /// that is taken, tries out names.
    fn refuse_address(&mut self, reply: &Reply) {
        self.strange += 1;
        if self.strange == MAX_LINES {
            info!(client = %self.peer(), helo = ?self.client.helo, "what else is refused until the next mail has no line here");
        }
        if self.strange > self.config.max_recipients {
            self.close(&reply::TOO_MANY_ERRORS);
        } else {
            self.answer(reply);
        }
    }
}
