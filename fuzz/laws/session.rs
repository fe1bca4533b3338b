//! The law of a session as a whole.

use smtp2signl4::smtp;
use smtp2signl4::smtp::Protocol;
use smtp2signl4::smtp::listener_config::TlsMode;

use super::talk::{Talk, config, is_known, same_however_cut, start};

/// What the first byte of an input asks for, if it is less than 32: the sum of the rules of the listener.
pub const LMTP: u8 = 1;
pub const XCLIENT: u8 = 2;
pub const LENIENT: u8 = 4;
pub const PUBLIC: u8 = 8;
pub const SAFE: u8 = 16;

/// Any bytes come from a client, at any listener: each command and each message has one reply, in the form of
/// RFC 5321, or in LMTP as many as it has recipients; mails are no more than what came; and it is all the same
/// however the bytes are cut.
pub fn session(input: &[u8]) {
    let (config, input) = at_listener(input, LMTP | XCLIENT | LENIENT | PUBLIC | SAFE);
    let at_once = same_however_cut(&config, input);
    let contents: usize = at_once.mails.iter().map(|(_, content)| content.len()).sum();
    assert!(contents <= input.len(), "more comes out than came in");
    for (envelope, _) in &at_once.mails {
        assert!(!envelope.recipients.is_empty(), "a mail to nobody");
        assert!(envelope.recipients.len() <= config.max_recipients, "a mail to too many");
        assert!(envelope.recipients.iter().all(|recipient| is_known(recipient)), "a mail to an unknown");
    }
    one_reply_each(&config, input);
}

/// The listener that the first byte of `input` asks for, as far as `possible`, and what comes in there.
pub fn at_listener(input: &[u8], possible: u8) -> (smtp::Config, &[u8]) {
    let (wanted, input) = match input {
        [first @ ..32, rest @ ..] => (first & possible, rest),
        _ => (0, input),
    };
    let mut config = config();
    let is = |rule: u8| wanted & rule != 0;
    let listener = &mut config.listeners[0];
    if is(LMTP) {
        listener.protocol = Protocol::Lmtp;
    }
    if is(XCLIENT) {
        listener.xclient = vec!["203.0.113.0/24".parse().expect("this is a network")];
    }
    if is(SAFE) {
        (listener.tls, listener.auth) = (TlsMode::Starttls, true);
    }
    listener.lenient = is(LENIENT);
    listener.public = is(PUBLIC);
    (config, input)
}

/// A reply comes with the greeting, with the end of each line that is a command's, and with the end of each
/// message and chunk, and with nothing else. BDAT has its reply at the end of its chunk alone.
fn one_reply_each(config: &smtp::Config, input: &[u8]) {
    let mut session = start(config);
    let mut talk = Talk::default();
    assert_eq!(talk.hear(&mut session, b""), 1, "no greeting");
    for (at, byte) in input.iter().enumerate() {
        let over = talk.closed.is_some();
        let in_content = session.in_message() || session.in_chunk();
        let (mails, recipients) = (talk.mails.len(), talk.recipients);
        let replies = talk.hear(&mut session, &[*byte]);
        let ended = if in_content { !session.in_message() } else { *byte == b'\n' } && !session.in_chunk();
        let each = match config.listeners[0].protocol {
            Protocol::Lmtp if talk.mails.len() > mails => recipients,
            // A mail that was lost has as many, all else has one.
            Protocol::Lmtp if replies != 1 => recipients,
            _ => 1,
        };
        assert_eq!(replies, if ended && !over { each } else { 0 }, "at byte {at}");
    }
}
