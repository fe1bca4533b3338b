//! The session: SMTP as a state machine without I/O (RFC 5321). Bytes go in, replies come out, and a
//! [`Step`] says what is to be done outside. It makes the same of a stream however that is cut.
//!
//! It leaves out time and sockets, which are the connection's, and so the handshake of STARTTLS and the
//! checking of passwords: each of them is a step. LMTP (RFC 2033) is the same but for its greeting and for
//! the replies to the end of a mail.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use tracing::{debug, info};

use crate::clock::Clock;
use crate::mail::{Client, Mail};

use super::auth::{Exchange, Login};
use super::chunk::Chunk;
use super::command::Command;
use super::content::Content;
use super::data::{Data, Lost};
use super::lenience::{self, Repairs};
use super::rates::Rates;
use super::reply::{self, Reply};
use super::xclient::Said;
use super::{Config, ListenerConfig, Protocol};

use super::xclient::Naming;

mod chunking;
mod content;
mod envelope;
mod naming;
mod rate;
mod security;

/// Replies that wait to be written are written when they are more than this, so that a client that
/// pipelines without end and reads nothing costs no more than that.
const MAX_OUTPUT: usize = 4096;

/// What is to be done before the session can go on. Whatever it is but [`Step::Look`], the output is to be
/// written first.
#[allow(clippy::large_enum_variant, reason = "a step is done at once and never kept")]
#[derive(Debug)]
pub enum Step {
    /// Read: all input is used up.
    Read,
    /// Write: there may be more input in hand.
    Write,
    /// Look, without waiting and before anything is written, whether more input is there already, then call
    /// [`Session::more_is`].
    Look,
    /// Find out whether somebody takes mail for this recipient, then call [`Session::recipient_is`].
    Recipient(String),
    /// Hand the mail on, then call [`Session::mail_is`].
    Accept(Mail),
    /// Close the connection.
    Close {
        /// Whether the client asked for it.
        asked: bool,
    },
    /// Begin with TLS, then call [`Session::encrypted`]. Input in hand is to be forgotten.
    StartTls,
    /// Find out whether the login is right, then call [`Session::login_is`].
    Authenticate(Login),
}

/// A session with one client.
pub struct Session {
    config: Arc<Config>,
    /// The rules of the listener that the client came in by.
    listener: Arc<ListenerConfig>,
    clock: Arc<dyn Clock>,
    /// Counts its mails; none if they are not counted.
    rates: Option<Arc<Rates>>,
    client: Client,
    /// The address of the connection itself, whatever client a proxy or relay names.
    speaker: Option<IpAddr>,
    /// The proxy that said where it is.
    proxy: Option<IpAddr>,
    /// What it said by XCLIENT.
    named: Said,
    /// Whether it may still say so.
    naming: Naming,
    phase: Phase,
    /// The start of a command line whose end is yet to come.
    partial: Vec<u8>,
    transaction: Option<Transaction>,
    /// Refused commands since the last mail.
    errors: usize,
    /// Senders and recipients that were refused since the last mail.
    strange: usize,
    /// Whether the last command was a DATA that was refused.
    data_refused: bool,
    /// Whether it is yet to be found out if anything is pipelined behind that DATA.
    to_look: bool,
    /// Whether the log tells that this client waits behind LF.LF.
    told_of_bare_lf: bool,
    /// The login that the next line belongs to.
    exchange: Option<Exchange>,
    /// Whether the client has logged in, by a user of ours or by what its network may say.
    logged_in: bool,
    /// What was repaired of the greeting.
    greeting: Repairs,
    /// How often anything was repaired.
    repaired: u32,
    /// How many replies the end of the mail in hand has.
    replies: usize,
    output: Vec<u8>,
}

/// What the next byte belongs to.
enum Phase {
    /// A command.
    Command,
    /// A command line that is too long: it is read to its end and refused. How it began, and its last
    /// octet so far.
    LongLine { verb: [u8; 4], last: u8 },
    /// A message.
    Data(Box<Data>),
    /// A part of a message, of which it is known how long it is.
    Chunk(Chunk),
    /// Nothing: the session is over, as the client asked or not.
    Closed { asked: bool },
}

/// A line that is too long to be looked at: how it began, and what its client is told.
struct Overlong {
    verb: [u8; 4],
    reply: &'static Reply,
}

/// A mail on its way in: what MAIL and RCPT said so far.
#[derive(Debug, Default)]
struct Transaction {
    reverse_path: String,
    recipients: Vec<String>,
    /// How many RCPT commands there were, the refused ones too.
    asked: usize,
    /// How many of them were accepted.
    accepted: usize,
    /// What BDAT brought so far; none before the first.
    chunks: Option<Content>,
    /// Whether it may be binary, and whether its header may be in UTF-8.
    binary: bool,
    utf8: bool,
    /// What was repaired so far.
    repairs: Repairs,
    /// What the client was told, if it is one mail too many.
    over_rate: Option<&'static Reply>,
    /// Whether it had to be given up for want of memory.
    given_up: bool,
}

impl Session {
    /// A session with `client`, as far as it is known before it says anything: its address (none if it did
    /// not come over the network), and the proxy that named it. The greeting is the first output.
    pub fn new(
        config: Arc<Config>,
        listener: Arc<ListenerConfig>,
        clock: Arc<dyn Clock>,
        client: Client,
    ) -> Self {
        let mut session = Self {
            config,
            listener,
            clock,
            rates: None,
            speaker: client.address,
            proxy: client.relay,
            client,
            named: Said::default(),
            naming: Naming::Open,
            phase: Phase::Command,
            partial: Vec::new(),
            transaction: None,
            errors: 0,
            strange: 0,
            data_refused: false,
            to_look: false,
            told_of_bare_lf: false,
            exchange: None,
            logged_in: false,
            greeting: Repairs::default(),
            repaired: 0,
            replies: 1,
            output: Vec::new(),
        };
        session.greet_client();
        session
    }

    /// The server's greeting.
    fn greet_client(&mut self) {
        self.answer(&reply::greeting(&self.config.hostname, self.listener.protocol));
    }

    /// Goes on with `input`, from whose front it takes what it uses, up to the next step.
    pub fn advance(&mut self, input: &mut &[u8]) -> Step {
        loop {
            match &mut self.phase {
                Phase::Closed { asked } => return Step::Close { asked: *asked },
                Phase::Data(data) => {
                    if !data.read(input) {
                        self.look_for_bare_lf();
                        return Step::Read;
                    }
                    if let Some(step) = self.end_of_data() {
                        return step;
                    }
                }
                Phase::Chunk(_) => {
                    if !self.read_chunk(input) {
                        return Step::Read;
                    }
                    if let Some(step) = self.end_of_chunk() {
                        return step;
                    }
                }
                Phase::Command | Phase::LongLine { .. } => match self.line(input) {
                    None => return Step::Read,
                    Some(Err(Overlong { verb, reply })) => {
                        // How a line of a login begins says nothing.
                        let verb = if self.exchange.take().is_some() { &[][..] } else { &verb };
                        self.not_a_command(verb, reply, !input.is_empty());
                    }
                    Some(Ok(line)) => {
                        let step = match self.exchange.take() {
                            Some(exchange) => self.converse(exchange, &line),
                            None => self.obey(&line, !input.is_empty()),
                        };
                        if let Some(step) = step {
                            return step;
                        }
                    }
                },
            }
            if std::mem::take(&mut self.to_look) {
                return Step::Look;
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

    /// Whether a mail's content is on its way: in a message, in a chunk, or between two of them.
    pub fn in_data(&self) -> bool {
        let begun = self.transaction.as_ref().is_some_and(|mail| mail.chunks.is_some());
        begun || self.in_message() || self.in_chunk()
    }

    /// Whether the next octet belongs to a message, behind DATA.
    pub fn in_message(&self) -> bool {
        matches!(self.phase, Phase::Data(_))
    }

    /// Whether the next octet belongs to a chunk, behind BDAT.
    pub fn in_chunk(&self) -> bool {
        matches!(self.phase, Phase::Chunk(_))
    }

    /// How often anything was repaired of what the client said.
    pub fn repaired(&self) -> u32 {
        self.repaired
    }

    /// The bytes of memory that it holds for the mail that is coming in.
    pub fn held(&self) -> usize {
        let content = if let Phase::Data(data) = &self.phase { data.held() } else { 0 };
        let envelope = self.transaction.as_ref().map_or(0, |mail| {
            mail.recipients.iter().map(String::capacity).sum::<usize>()
                + mail.recipients.capacity() * size_of::<String>()
                + mail.chunks.as_ref().map_or(0, Content::held)
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
            if let Some(content) = &mut mail.chunks {
                content.lose(Lost::NoMemory);
            }
        }
    }

    /// Ends the session with `reply` at once, whatever it was about.
    pub fn end(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
        self.phase = Phase::Closed { asked: false };
    }

    /// Where the client is, for log lines.
    pub fn peer(&self) -> String {
        match (self.client.address, self.client.relay) {
            (Some(address), _) => address.to_string(),
            (None, Some(relay)) => format!("unknown, by way of {relay}"),
            (None, None) => "local".to_owned(),
        }
    }

    /// Takes a command line from the front of `input`: none if its end is not there yet, an error if it
    /// is too long to be looked at.
    fn line<'i>(&mut self, input: &mut &'i [u8]) -> Option<Result<Cow<'i, [u8]>, Overlong>> {
        let end = memchr::memchr(b'\n', input).map(|at| at + 1);
        let (head, rest) = input.split_at(end.unwrap_or(input.len()));
        *input = rest;
        let longest = self.max_line(head);
        if matches!(self.phase, Phase::Command) && self.partial.len() + head.len() > longest {
            let start = self.partial.iter().chain(head).skip_while(|octet| octet.is_ascii_whitespace());
            let mut verb = [0; 4];
            verb.iter_mut().zip(start).for_each(|(place, octet)| *place = *octet);
            let last = *self.partial.last().unwrap_or(&0);
            self.partial = Vec::new();
            self.phase = Phase::LongLine { verb, last };
        }
        if let Phase::LongLine { verb, last } = &mut self.phase {
            let before_end = head.len().checked_sub(2).and_then(|at| head.get(at)).unwrap_or(last);
            let bare = *before_end != b'\r' && self.listener.public;
            *last = *head.last().unwrap_or(last);
            end?;
            let verb = *verb;
            self.phase = Phase::Command;
            let of_login = self.exchange.is_some() || verb.eq_ignore_ascii_case(b"AUTH");
            let reply = match (bare, of_login) {
                (true, _) => &reply::BARE_LF,
                (false, true) => &reply::LOGIN_TOO_LONG,
                (false, false) => &reply::LINE_TOO_LONG,
            };
            return Some(Err(Overlong { verb, reply }));
        }
        if end.is_none() {
            self.partial.extend_from_slice(head);
            return None;
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
        if self.listener.public && !line.ends_with(b"\r\n") {
            self.not_a_command(line, &reply::BARE_LF, followed);
            return None;
        }
        let mut straightened = Vec::new();
        let (command, repairs) = match lenience::read(line, self.listener.lenient, &mut straightened) {
            Ok(read) => read,
            Err(reply) => {
                self.not_a_command(line, reply, followed);
                return None;
            }
        };
        self.repaired += repairs.count();
        if let Some(mail) = &mut self.transaction {
            mail.repairs.join(repairs);
        }
        self.data_refused = false;
        if !matches!(command, Command::Xclient(_)) {
            self.end_naming();
        }
        match (command, self.listener.protocol) {
            (Command::Ehlo(name), Protocol::Smtp) | (Command::Lhlo(name), Protocol::Lmtp) => {
                let more = self.extensions();
                let reply = reply::offers(&self.config.hostname, self.config.max_message_size, &more);
                self.greet(name.into_owned(), repairs, &reply);
            }
            (Command::Helo(name), Protocol::Smtp) => {
                let reply = reply::hello(&self.config.hostname);
                self.greet(name.into_owned(), repairs, &reply);
            }
            (command, _) => return self.obey_command(command, repairs, followed),
        }
        None
    }

    fn obey_command(&mut self, command: Command<'_>, repairs: Repairs, followed: bool) -> Option<Step> {
        match command {
            Command::Ehlo(_) | Command::Helo(_) => self.refuse(&reply::NEED_LHLO),
            Command::Lhlo(_) => self.refuse(&reply::NOT_IMPLEMENTED),
            Command::Mail { path, size, binary, utf8 } => {
                if self.mail(path, size)
                    && let Some(mail) = &mut self.transaction
                {
                    mail.repairs = self.greeting;
                    mail.repairs.join(repairs);
                    (mail.binary, mail.utf8) = (binary, utf8);
                }
            }
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
            Command::Starttls => return self.starttls(followed),
            Command::Auth { mechanism, initial } => return self.auth(mechanism, initial),
            Command::Bdat(announced) => self.bdat(announced),
            Command::Xclient(said) => self.name_client(said),
        }
        None
    }

    /// Answers a line that cannot be obeyed. A client that was refused DATA and then sends such a line
    /// sends its message; so does one that spoils DATA or BDAT itself. `followed` as for [`Session::obey`].
    fn not_a_command(&mut self, line: &[u8], reply: &'static Reply, followed: bool) {
        self.end_naming();
        if self.data_refused {
            self.close(&reply::NO_COMMANDS_AFTER_DATA);
            return;
        }
        let start = line.trim_ascii_start();
        let begins_like = |verb: &[u8]| start.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        if *reply == reply::BARE_LF || begins_like(b"BDAT") {
            self.close(reply);
            return;
        }
        if begins_like(b"DATA") {
            self.refuse_data(reply, followed);
            return;
        }
        // The words of greetings, MAIL and RCPT tell an operator what to put right. Those of other lines are not
        // written anywhere: a client that sends AUTH unasked sends its password.
        let verb = line.split(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
        if verb.eq_ignore_ascii_case(b"MAIL") || verb.eq_ignore_ascii_case(b"RCPT") {
            let line = String::from_utf8_lossy(line);
            info!(client = %self.peer(), helo = ?self.client.helo, line = ?line.trim_end(), %reply, "command refused");
        } else if [&b"EHLO"[..], b"HELO", b"LHLO"].iter().any(|greeting| verb.eq_ignore_ascii_case(greeting))
        {
            // A device that gives up here sends nothing else to be found by.
            let line = String::from_utf8_lossy(line);
            info!(client = %self.peer(), line = ?line.trim_end(), %reply, "greeting refused");
        } else {
            debug!(client = %self.peer(), helo = ?self.client.helo, %reply, "command refused");
        }
        self.refuse(reply);
    }

    /// EHLO and HELO also do what RSET does (RFC 5321 section 4.1.4).
    fn greet(&mut self, name: String, repairs: Repairs, reply: &Reply) {
        self.client.helo = name;
        self.greeting = repairs;
        self.transaction = None;
        self.answer(reply);
    }

    fn answer(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
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
