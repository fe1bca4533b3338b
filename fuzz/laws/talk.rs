//! Holds sessions and cuts streams, for the laws of the edge.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use smtp2signl4::clock::Manual;
use smtp2signl4::mail::{Client, Envelope, Mail, MailId, Tls};
use smtp2signl4::smtp;
use smtp2signl4::smtp::Refusal;
use smtp2signl4::smtp::auth::Login;
use smtp2signl4::smtp::logins::LoginVerdict;
use smtp2signl4::smtp::reply;
use smtp2signl4::smtp::reply::Reply;
use smtp2signl4::smtp::session::{Session, Step};

use super::STRANGER;

/// Longer than any reply, in bytes: the answer to EHLO with all that can be offered has 230.
const LONGEST_REPLY: usize = 300;

pub fn whole(stream: &[u8]) -> Vec<&[u8]> {
    vec![stream]
}

pub fn bytewise(stream: &[u8]) -> Vec<&[u8]> {
    stream.chunks(1).collect()
}

/// Pieces by chance, the same for the same stream.
pub fn by_chance(stream: &[u8]) -> Vec<&[u8]> {
    let seed = stream.iter().fold(stream.len() as u64, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.usize(1..=rest.len().min(16)));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Small limits, so that small inputs reach them.
pub fn config() -> smtp::Config {
    smtp::Config {
        hostname: "mx.example".to_owned(),
        max_message_size: 4096,
        max_recipients: 3,
        max_errors: 5,
        ..smtp::Config::default()
    }
}

/// What came of a session.
#[derive(Debug, Default, PartialEq)]
pub struct Talk {
    pub said: String,
    /// How many replies that is.
    pub replies: usize,
    pub mails: Vec<(Envelope, Vec<u8>)>,
    /// The logins that came to be checked, and what they were found to be.
    pub logins: Vec<(Login, LoginVerdict)>,
    /// How many recipients of the mail in hand are known.
    pub recipients: usize,
    pub closed: Option<bool>,
}

pub fn start(config: &smtp::Config) -> Session {
    let clock = Arc::new(Manual::new(Timestamp::UNIX_EPOCH));
    let listener = Arc::new(config.listeners[0].clone());
    let client = Client { address: Some(STRANGER), ..Client::default() };
    Session::new(Arc::new(config.clone()), listener, clock, client)
}

pub fn is_known(recipient: &str) -> bool {
    !recipient.starts_with("nobody")
}

/// What a login is found to be: it is its password that says so.
pub fn verdict(login: &Login) -> LoginVerdict {
    match login.password.expose().as_bytes().first() {
        Some(b'r') => LoginVerdict::Right,
        Some(b'w') => LoginVerdict::Wrong(Duration::ZERO),
        Some(b'm') => LoginVerdict::TooMany,
        _ => LoginVerdict::Later,
    }
}

pub fn talk(config: &smtp::Config, pieces: &[&[u8]]) -> Talk {
    let mut session = start(config);
    let mut talk = Talk::default();
    // The greeting comes before any piece.
    talk.hear(&mut session, b"");
    for piece in pieces {
        talk.hear(&mut session, piece);
    }
    // Each reply is one to a line, and in LMTP another one to a recipient at the end of the mail.
    let lines = pieces.iter().flat_map(|piece| piece.iter()).filter(|&&byte| byte == b'\n').count();
    assert!(talk.said.len() <= LONGEST_REPLY * (1 + 2 * lines), "more is said than was asked");
    talk
}

impl Talk {
    /// Gives `piece` to the session; returns how many replies it made.
    pub fn hear(&mut self, session: &mut Session, piece: &[u8]) -> usize {
        let mut input = piece;
        let mut replies = 0;
        loop {
            let step = session.advance(&mut input);
            let output = String::from_utf8(session.take_output()).expect("a reply is ASCII");
            let made = replies_in(&output);
            replies += made;
            self.replies += made;
            // A sender that was taken begins a mail.
            if output.contains("250 2.1.0") {
                self.recipients = 0;
            }
            self.said.push_str(&output);
            match step {
                Step::Read => {
                    assert!(input.is_empty(), "it wants more and has some");
                    return replies;
                }
                Step::Write => (),
                // What comes in later pieces cannot be seen.
                Step::Look => session.more_is(false),
                Step::Recipient(recipient) => {
                    let known = is_known(&recipient);
                    self.recipients += usize::from(known);
                    session.recipient_is(recipient, known);
                }
                Step::Accept(Mail { envelope, content }) => {
                    let outcome = match content.first() {
                        Some(b'F') => Err(Refusal::Full),
                        Some(b'U') => Err(Refusal::Unavailable),
                        _ => Ok(MailId::new(envelope.received_at, self.mails.len() as u16)),
                    };
                    self.mails.push((envelope, content.to_vec()));
                    session.mail_is(outcome);
                }
                // What was in hand is forgotten, as the connection does.
                Step::StartTls => {
                    input = &[];
                    session.encrypted(Tls::default());
                }
                Step::Authenticate(login) => {
                    let verdict = verdict(&login);
                    session.login_is(login.name.clone(), verdict);
                    self.logins.push((login, verdict));
                }
                Step::Close { asked } => {
                    self.closed = Some(asked);
                    return replies;
                }
            }
        }
    }
}

/// Holds the session that is cut in this way and that against the one that comes at once, and returns that.
///
/// They are the same but for one thing: when DATA is refused or TLS is to begin, a session that sees more
/// behind it in the same piece ends there, and one that does not cannot know.
pub fn same_however_cut(config: &smtp::Config, input: &[u8]) -> Talk {
    let at_once = talk(config, &whole(input));
    let broken_off = [&reply::NO_COMMANDS_AFTER_DATA, &reply::NOTHING_BEHIND_STARTTLS]
        .into_iter()
        .find_map(|reply| at_once.said.strip_suffix(&written(reply)));
    for cuts in [bytewise(input), by_chance(input)] {
        let mut cut = talk(config, &cuts);
        if let Some(said) = broken_off {
            assert!(cut.said.starts_with(said), "a cut changes what was said before it");
            assert!(cut.mails.len() >= at_once.mails.len(), "a cut loses a mail");
            cut.mails.truncate(at_once.mails.len());
            assert_eq!(cut.mails, at_once.mails, "a cut changes a mail");
        } else {
            assert_eq!(cut, at_once, "a cut changes the session");
        }
    }
    at_once
}

fn written(reply: &Reply) -> String {
    let mut output = Vec::new();
    reply.write(&mut output);
    String::from_utf8(output).expect("a reply is ASCII")
}

/// How many replies are in `output`, all of them whole and in form (RFC 5321 section 4.2): lines of at most
/// 512 octets of printable ASCII, each with its code, and a hyphen on all but the last.
fn replies_in(text: &str) -> usize {
    let mut replies = 0;
    let mut open = None;
    for line in text.split_inclusive("\r\n") {
        assert!(line.len() <= 512, "the line is too long: {line:?}");
        let body = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the line has no end: {line:?}"));
        assert!(body.chars().all(|c| matches!(c, ' '..='~')), "not printable: {line:?}");
        let (code, rest) = body.split_at_checked(3).unwrap_or_else(|| panic!("no code: {line:?}"));
        assert!(code.parse().is_ok_and(|code: u16| (200..600).contains(&code)), "no code: {line:?}");
        assert!(open.is_none_or(|open| open == code), "two codes in a reply: {text:?}");
        match rest.as_bytes().first() {
            Some(b'-') => open = Some(code),
            Some(b' ') => {
                open = None;
                replies += 1;
            }
            _ => panic!("no mark behind the code: {line:?}"),
        }
    }
    assert!(open.is_none(), "a reply without its last line: {text:?}");
    replies
}
