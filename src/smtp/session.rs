//! The session: SMTP as a state machine without I/O (RFC 5321). Bytes go in, replies come out, and a
//! [`Step`] says what is to be done outside. It makes the same of a stream however that is cut.
//!
//! It leaves out time and sockets, which are the connection's. STARTTLS and AUTH would each be one more
//! step.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use tracing::{debug, info};

use crate::clock::Clock;
use crate::mail::{Client, Envelope, Mail, MailId, Origin};

use super::command::{self, Command};
use super::data::{Data, Lost};
use super::rates::{Exceeded, Rates};
use super::reply::{self, Reply};
use super::{Config, Entrance, Refusal};

/// Replies that wait to be written are written when they are more than this, so that a client that
/// pipelines without end and reads nothing costs no more than that.
const MAX_OUTPUT: usize = 4096;

/// What is to be done before the session can go on. Whatever it is, the output is to be written first.
#[derive(Debug)]
pub enum Step {
    /// Read: all input is used up.
    Read,
    /// Write: there may be more input in hand.
    Write,
    /// Find out whether somebody takes mail for this recipient, then call [`Session::recipient_is`].
    Recipient(String),
    /// Hand the mail on, then call [`Session::mail_is`].
    Accept(Mail),
    /// Close the connection.
    Close {
        /// Whether the client asked for it.
        asked: bool,
    },
}

/// A session with one client.
pub struct Session {
    config: Arc<Config>,
    /// The rules of the entrance that the client came in by.
    entrance: Arc<Entrance>,
    clock: Arc<dyn Clock>,
    /// Counts its mails; none where nobody does.
    rates: Option<Arc<Rates>>,
    client: Client,
    phase: Phase,
    /// The start of a command line whose end is yet to come.
    partial: Vec<u8>,
    transaction: Option<Transaction>,
    /// Refused commands since the last mail.
    errors: usize,
    /// Whether the last command was a DATA that was refused.
    data_refused: bool,
    output: Vec<u8>,
}

/// What the next byte belongs to.
enum Phase {
    /// A command.
    Command,
    /// A command line that is too long: it is read to its end and refused.
    LongLine,
    /// A message.
    Data(Box<Data>),
    /// Nothing: the session is over, as the client asked or not.
    Closed { asked: bool },
}

/// A mail on its way in: what MAIL and RCPT said so far.
#[derive(Debug, Default)]
struct Transaction {
    reverse_path: String,
    recipients: Vec<String>,
    /// How many RCPT commands there were, the refused ones too.
    asked: usize,
    /// Whether it had to be given up for want of memory.
    given_up: bool,
}

impl Session {
    /// A session with the client at `address`, none if it did not come over the network. The greeting is
    /// its first output.
    pub fn new(
        config: Arc<Config>,
        entrance: Arc<Entrance>,
        clock: Arc<dyn Clock>,
        address: Option<IpAddr>,
    ) -> Self {
        let mut session = Self {
            config,
            entrance,
            clock,
            rates: None,
            client: Client { address, ..Client::default() },
            phase: Phase::Command,
            partial: Vec::new(),
            transaction: None,
            errors: 0,
            data_refused: false,
            output: Vec::new(),
        };
        reply::greeting(&session.config.hostname).write(&mut session.output);
        session
    }

    /// The session, whose mails are held to `rates`.
    pub fn counted_by(mut self, rates: Arc<Rates>) -> Self {
        self.rates = Some(rates);
        self
    }

    /// Goes on with `input`, from whose front it takes what it uses, up to the next step.
    pub fn advance(&mut self, input: &mut &[u8]) -> Step {
        loop {
            match &mut self.phase {
                Phase::Closed { asked } => return Step::Close { asked: *asked },
                Phase::Data(data) => {
                    if !data.read(input) {
                        return Step::Read;
                    }
                    if let Some(step) = self.end_of_data() {
                        return step;
                    }
                }
                Phase::Command | Phase::LongLine => match self.line(input) {
                    None => return Step::Read,
                    Some(Err(reply)) => self.not_a_command(b"", reply),
                    Some(Ok(line)) => {
                        if let Some(step) = self.obey(&line, !input.is_empty()) {
                            return step;
                        }
                    }
                },
            }
            if self.output.len() > MAX_OUTPUT {
                return Step::Write;
            }
        }
    }

    /// The replies to be written, taken out.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether it is inside a message.
    pub fn in_data(&self) -> bool {
        matches!(self.phase, Phase::Data(_))
    }

    /// The bytes of memory that it holds for the mail that is coming in.
    pub fn held(&self) -> usize {
        let content = if let Phase::Data(data) = &self.phase { data.held() } else { 0 };
        let envelope = self.transaction.as_ref().map_or(0, |mail| {
            mail.recipients.iter().map(String::capacity).sum::<usize>()
                + mail.recipients.capacity() * size_of::<String>()
        });
        content + envelope
    }

    /// Gives up the mail that is coming in, as there is no memory for it. Its client is told at the end.
    pub fn give_up(&mut self) {
        if let Phase::Data(data) = &mut self.phase {
            data.lose(Lost::NoMemory);
        }
        if let Some(mail) = &mut self.transaction {
            mail.recipients = Vec::new();
            mail.given_up = true;
        }
    }

    /// Ends the session with `reply` at once, whatever it was about.
    pub fn end(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
        self.phase = Phase::Closed { asked: false };
    }

    /// The answer to [`Step::Recipient`].
    pub fn recipient_is(&mut self, recipient: String, known: bool) {
        match &mut self.transaction {
            Some(mail) if known => {
                mail.recipients.push(recipient);
                self.answer(&reply::RECIPIENT_OK);
            }
            _ => {
                // Not counted as an error: a relay may have many wrong recipients and one right.
                info!(client = %self.peer(), helo = ?self.client.helo, ?recipient, "recipient refused: unknown");
                self.answer(&reply::UNKNOWN_RECIPIENT);
            }
        }
    }

    /// The answer to [`Step::Accept`].
    pub fn mail_is(&mut self, outcome: Result<MailId, Refusal>) {
        match outcome {
            Ok(id) => {
                self.errors = 0;
                self.answer(&reply::queued(id));
            }
            Err(Refusal::Full) => self.refuse_mail(&reply::NO_ROOM),
            Err(Refusal::Unavailable) => self.refuse_mail(&reply::CANNOT_STORE),
            Err(Refusal::Unauthentic) => self.refuse_mail(&reply::UNAUTHENTIC),
        }
    }

    /// Where the client is, for log lines.
    pub fn peer(&self) -> String {
        self.client.address.map_or_else(|| "local".to_owned(), |address| address.to_string())
    }

    /// Takes a command line from the front of `input`: none if its end is not there yet, an error if it
    /// is too long to be looked at.
    fn line<'i>(&mut self, input: &mut &'i [u8]) -> Option<Result<Cow<'i, [u8]>, &'static Reply>> {
        let end = memchr::memchr(b'\n', input).map(|at| at + 1);
        let (head, rest) = input.split_at(end.unwrap_or(input.len()));
        *input = rest;
        if self.partial.len() + head.len() > command::MAX_LINE {
            self.partial = Vec::new();
            self.phase = Phase::LongLine;
        }
        let too_long = matches!(self.phase, Phase::LongLine);
        if end.is_none() {
            if !too_long {
                self.partial.extend_from_slice(head);
            }
            return None;
        }
        self.phase = Phase::Command;
        if too_long {
            return Some(Err(&reply::LINE_TOO_LONG));
        }
        if self.partial.is_empty() {
            return Some(Ok(Cow::Borrowed(head)));
        }
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(head);
        Some(Ok(Cow::Owned(line)))
    }

    /// Obeys a command line. `followed` says whether more input is in hand behind it.
    fn obey(&mut self, line: &[u8], followed: bool) -> Option<Step> {
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(reply) => {
                self.not_a_command(line, reply);
                return None;
            }
        };
        self.data_refused = false;
        match command {
            Command::Ehlo(name) => {
                let reply = reply::offers(&self.config.hostname, self.config.max_message_size);
                self.greet(name.into_owned(), &reply);
            }
            Command::Helo(name) => {
                let reply = reply::hello(&self.config.hostname);
                self.greet(name.into_owned(), &reply);
            }
            Command::Mail { path, size } => self.mail(path, size),
            Command::Rcpt(path) => return self.rcpt(path),
            Command::Data => self.data(followed),
            Command::Rset => {
                self.transaction = None;
                self.answer(&reply::OK);
            }
            Command::Noop => self.answer(&reply::OK),
            Command::Vrfy => self.answer(&reply::CANNOT_VERIFY),
            Command::Help => self.answer(&reply::HELP),
            Command::Quit => {
                self.answer(&reply::GOODBYE);
                self.phase = Phase::Closed { asked: true };
            }
            Command::Http => self.close(&reply::NOT_HTTP),
        }
        None
    }

    /// Answers a line that cannot be obeyed. A client that was refused DATA and then sends such a line
    /// sends its message.
    fn not_a_command(&mut self, line: &[u8], reply: &Reply) {
        if self.data_refused {
            self.close(&reply::NO_COMMANDS_AFTER_DATA);
            return;
        }
        // The words of MAIL and RCPT tell an operator what to put right. Those of other lines are not
        // written anywhere: a client that sends AUTH unasked sends its password.
        let verb = line.get(..4).unwrap_or_default();
        if verb.eq_ignore_ascii_case(b"MAIL") || verb.eq_ignore_ascii_case(b"RCPT") {
            let line = String::from_utf8_lossy(line);
            info!(client = %self.peer(), helo = ?self.client.helo, line = ?line.trim_end(), %reply, "command refused");
        } else {
            debug!(client = %self.peer(), helo = ?self.client.helo, %reply, "command refused");
        }
        self.refuse(reply);
    }

    /// EHLO and HELO also do what RSET does (RFC 5321 section 4.1.4).
    fn greet(&mut self, name: String, reply: &Reply) {
        self.client.helo = name;
        self.transaction = None;
        self.answer(reply);
    }

    /// MAIL, also from a client that did not greet: Zabbix with no name set does not.
    fn mail(&mut self, path: &str, size: Option<u64>) {
        if self.transaction.is_some() {
            self.refuse(&reply::NESTED_MAIL);
        } else if !self.entrance.senders.admit(path) {
            // Not counted as an error: a relay may have mails of many senders.
            info!(client = %self.peer(), helo = ?self.client.helo, sender = ?path, "sender refused: not allowed");
            self.answer(&reply::SENDER_REFUSED);
        } else if size.is_some_and(|size| size > self.config.max_message_size as u64) {
            info!(client = %self.peer(), helo = ?self.client.helo, sender = ?path, size, "mail refused: too large");
            self.refuse(&reply::TOO_LARGE);
        } else {
            self.transaction = Some(Transaction { reverse_path: path.to_owned(), ..Transaction::default() });
            self.answer(&reply::SENDER_OK);
        }
    }

    fn rcpt(&mut self, path: &str) -> Option<Step> {
        let Some(mail) = &mut self.transaction else {
            self.refuse(&reply::NEED_MAIL);
            return None;
        };
        if mail.given_up {
            self.answer(&reply::NO_ROOM);
        } else if mail.asked >= self.config.max_recipients {
            info!(client = %self.peer(), recipient = ?path, "recipient refused: too many");
            self.answer(&reply::TOO_MANY_RECIPIENTS);
        } else {
            mail.asked += 1;
            return Some(Step::Recipient(path.to_owned()));
        }
        None
    }

    /// DATA. When it is refused, its message may come nevertheless, from a client that does not wait for
    /// the reply, and must not be taken for commands: whoever wrote the message would write them.
    ///
    /// By RFC 2920 section 3.1 nothing may be pipelined behind DATA. So if anything is, it can only be
    /// that message, and the session ends; and it ends if the next line is no command. That a message
    /// which comes late begins with a command cannot be told from a client that goes on, as it may.
    fn data(&mut self, followed: bool) {
        let refusal = match &self.transaction {
            None => &reply::NEED_MAIL,
            Some(mail) if mail.given_up => &reply::NO_ROOM,
            Some(mail) if !mail.recipients.is_empty() => match self.over_rate(mail) {
                Some(reply) => return self.refuse_data(reply, followed),
                None => {
                    self.phase = Phase::Data(Box::new(Data::new(self.config.max_message_size)));
                    self.answer(&reply::START_MAIL);
                    return;
                }
            },
            Some(mail) if mail.asked > 0 => &reply::NO_VALID_RECIPIENTS,
            Some(_) => &reply::NEED_RCPT,
        };
        info!(client = %self.peer(), helo = ?self.client.helo, reply = %refusal, "DATA refused");
        self.refuse_data(refusal, followed);
    }

    fn refuse_data(&mut self, reply: &Reply, followed: bool) {
        self.data_refused = true;
        self.refuse(reply);
        if followed {
            self.close(&reply::NO_COMMANDS_AFTER_DATA);
        }
    }

    /// Counts a mail that is about to come in; the reply that refuses it if it is one too many.
    fn over_rate(&self, mail: &Transaction) -> Option<&'static Reply> {
        let rates = self.rates.as_ref()?;
        let (sender, recipients) = (&mail.reverse_path, &mail.recipients);
        let exceeded = rates.mail(self.client.address, sender, recipients, self.clock.now()).err()?;
        let reply = exceeded.reply();
        let recipient = if let Exceeded::Recipient(at) = exceeded { &recipients[at] } else { "" };
        info!(client = %self.peer(), helo = ?self.client.helo, ?sender, ?recipient, %reply, "mail refused: too many");
        Some(reply)
    }

    fn end_of_data(&mut self) -> Option<Step> {
        let Phase::Data(data) = std::mem::replace(&mut self.phase, Phase::Command) else { return None };
        let transaction = self.transaction.take()?;
        match data.finish() {
            Ok(content) => Some(Step::Accept(Mail {
                envelope: Envelope {
                    received_at: self.clock.now(),
                    origin: Origin::Smtp,
                    client: self.client.clone(),
                    reverse_path: transaction.reverse_path,
                    recipients: transaction.recipients,
                    ..Envelope::default()
                },
                content: content.into(),
            })),
            Err(why) => {
                self.refuse_mail(match why {
                    Lost::TooLarge => &reply::TOO_LARGE,
                    Lost::NoMemory => &reply::NO_ROOM,
                });
                None
            }
        }
    }

    fn answer(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    fn refuse_mail(&mut self, reply: &Reply) {
        info!(client = %self.peer(), helo = ?self.client.helo, %reply, "mail refused");
        self.answer(reply);
    }

    /// Answers an error, and ends the session at one too many.
    fn refuse(&mut self, reply: &Reply) {
        self.errors += 1;
        if self.errors >= self.config.max_errors {
            self.close(&reply::TOO_MANY_ERRORS);
        } else {
            self.answer(reply);
        }
    }

    fn close(&mut self, reply: &Reply) {
        if !matches!(self.phase, Phase::Closed { .. }) {
            info!(client = %self.peer(), helo = ?self.client.helo, %reply, "session closed");
            self.end(reply);
        }
    }
}

#[cfg(test)]
mod tests;
