//! The session by itself: bytes in, replies and mails out.

use std::time::Duration;

use super::*;
use crate::clock::Manual;
use crate::diagnostic::Source;
use crate::document;
use crate::mail::{Envelope, MailId, Origin, Tls};
use crate::smtp::Refusal;
use crate::smtp::command;
use crate::smtp::logins::LoginVerdict;

mod chunking;
mod entry;
mod lmtp;
mod naming;
mod repairs;

/// A session and what it did.
pub(super) struct Talk {
    session: Session,
    clock: Arc<Manual>,
    pub(super) mails: Vec<Mail>,
    outcome: Result<MailId, Refusal>,
    pub(super) closed: Option<bool>,
    /// What STARTTLS leads to.
    pub(super) tls: Tls,
}

fn id() -> MailId {
    MailId::new("2026-11-20T17:04:05Z".parse().unwrap(), 7)
}

fn client() -> Client {
    Client { address: Some("192.0.2.7".parse().unwrap()), ..Client::default() }
}

impl Talk {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// A session that was greeted, by the `[smtp]` section `text`.
    fn configured(text: &str) -> Self {
        let configured = document::read(&Source::new("t.toml", text), Config::read).unwrap();
        let mut talk = Self::with(|config| *config = configured);
        talk.says("");
        talk
    }

    /// At a listener with other rules.
    pub(super) fn at(change: impl FnOnce(&mut ListenerConfig)) -> Self {
        Self::with(|config| change(&mut config.listeners[0]))
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { hostname: "mx.example".into(), ..Config::default() };
        change(&mut config);
        let tls = Tls { version: "TLSv1.3".into(), cipher: "TLS_AES_256_GCM_SHA384".into(), subject: None };
        let listener = Arc::new(config.listeners[0].clone());
        let clock = Arc::new(Manual::new("2026-11-20T17:04:05Z".parse().unwrap()));
        let rates = Arc::new(Rates::new(config.rates.clone()));
        let time = Arc::clone(&clock);
        let session = Session::new(Arc::new(config), listener, time, client()).counted_by(rates);
        Self { session, clock, mails: Vec::new(), outcome: Ok(id()), closed: None, tls }
    }

    /// What the session answers to `input`. Nobody takes mail for `nobody…`.
    pub(super) fn says(&mut self, input: impl AsRef<[u8]>) -> String {
        let mut input = input.as_ref();
        let mut output = Vec::new();
        loop {
            let step = self.session.advance(&mut input);
            output.extend(self.session.take_output());
            match step {
                Step::Read => break,
                // More may come, but not before the replies are heard.
                Step::Look => self.session.more_is(false),
                Step::Write => (),
                Step::Recipient(recipient) => {
                    let known = !recipient.starts_with("nobody");
                    self.session.recipient_is(recipient, known);
                }
                Step::Accept(mail) => {
                    self.mails.push(mail);
                    self.session.mail_is(self.outcome);
                }
                Step::Close { asked } => {
                    self.closed = Some(asked);
                    break;
                }
                Step::StartTls => {
                    input = &[];
                    self.session.encrypted(self.tls.clone());
                }
                Step::Authenticate(login) => {
                    let right = login.password.expose() == "right";
                    let verdict =
                        if right { LoginVerdict::Right } else { LoginVerdict::Wrong(Duration::ZERO) };
                    self.session.login_is(login.name, verdict);
                }
            }
        }
        String::from_utf8(output).unwrap()
    }

    /// The codes, basic and enhanced, of what it answers.
    pub(super) fn codes(&mut self, input: impl AsRef<[u8]>) -> String {
        let said = self.says(input);
        let short = |line: &str| match line.split_once(' ') {
            Some((code, text)) => match text.split_once(' ') {
                Some((word, _)) if word.split('.').all(|n| n.parse::<u16>().is_ok()) => {
                    format!("{code} {word}")
                }
                _ => code.to_owned(),
            },
            None => line.to_owned(),
        };
        said.lines()
            .filter(|line| line.as_bytes().get(3) == Some(&b' '))
            .map(short)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The handshake, whatever was said.
    pub(super) fn session_encrypted(&mut self) {
        self.session.encrypted(self.tls.clone());
    }

    pub(super) fn session_login_is(&mut self, verdict: LoginVerdict) {
        self.session.login_is("hive".into(), verdict);
    }

    fn contents(&self) -> Vec<&[u8]> {
        self.mails.iter().map(|mail| &mail.content[..]).collect()
    }
}

#[test]
fn a_mail_comes_out_with_its_envelope_and_its_id_goes_back() {
    let mut talk = Talk::new();
    assert_eq!(talk.says(""), "220 mx.example ESMTP smtp2signl4\r\n");
    assert_eq!(
        talk.says("EHLO hive.example\r\n"),
        "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"
    );
    assert_eq!(talk.says("MAIL FROM:<hive@a.example>\r\n"), "250 2.1.0 sender OK\r\n");
    assert_eq!(talk.says("RCPT TO:<soc@b.example>\r\n"), "250 2.1.5 recipient OK\r\n");
    assert_eq!(talk.says("rcpt to:<noc>\r\n"), "250 2.1.5 recipient OK\r\n");
    assert_eq!(talk.says("DATA\r\n"), "354 end data with <CR><LF>.<CR><LF>\r\n");
    assert_eq!(talk.says("Subject: x\r\n\r\n..y\r\n.\r\n"), format!("250 2.0.0 queued as {}\r\n", id()));
    assert_eq!(talk.says("QUIT\r\n"), "221 2.0.0 goodbye\r\n");
    assert_eq!(talk.closed, Some(true));

    let [mail] = &talk.mails[..] else { panic!("{:?}", talk.mails) };
    assert_eq!(mail.content, "Subject: x\r\n\r\n.y\r\n");
    let wanted = Envelope {
        received_at: "2026-11-20T17:04:05Z".parse().unwrap(),
        origin: Origin::Smtp,
        client: Client {
            address: Some("192.0.2.7".parse().unwrap()),
            helo: "hive.example".into(),
            user: None,
            ..Client::default()
        },
        reverse_path: "hive@a.example".into(),
        recipients: vec!["soc@b.example".into(), "noc".into()],
        ..Envelope::default()
    };
    assert_eq!(mail.envelope, wanted);
}

const SMUGGLED: &str = "EHLO a\r\nMAIL FROM:<a@a> SIZE=9\r\nRCPT TO:<b@b>\r\nRCPT TO:<nobody@b>\r\nDATA\r\n\
     x\n.\nMAIL FROM:<evil>\r\n\r.\r\n.\r\r\n\n.\r\n\0\r\n..\r\n.\nRCPT TO:<evil>\n.\r\nDATA\r\n\r\n.\r\n\
     NOOP\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<c>\r\nDATA\r\n.\r\nQUIT\r\nMAIL FROM:<late>\r\n";

#[test]
fn a_session_is_the_same_however_its_bytes_come() {
    let mut whole = Talk::new();
    let said = whole.says(SMUGGLED);
    assert_eq!(
        whole.contents(),
        [
            &b"x\n.\nMAIL FROM:<evil>\r\n\r.\r\n\r\r\n\n.\r\n\0\r\n.\r\n\nRCPT TO:<evil>\n.\r\nDATA\r\n\r\n"
                [..],
            b""
        ]
    );
    assert_eq!(whole.mails[1].envelope.reverse_path, "");
    let outcome =
        |talk: &Talk| (talk.closed, talk.mails.iter().map(|m| m.envelope.clone()).collect::<Vec<_>>());
    for at in 0..SMUGGLED.len() {
        let mut cut = Talk::new();
        let answer = cut.says(&SMUGGLED[..at]) + &cut.says(&SMUGGLED[at..]);
        assert_eq!((&answer, cut.contents()), (&said, whole.contents()), "cut at {at}");
        assert_eq!(outcome(&cut), outcome(&whole), "cut at {at}");
    }
    let mut bytes = Talk::new();
    let answer: String = SMUGGLED.bytes().map(|byte| bytes.says([byte])).collect();
    assert_eq!((answer, bytes.contents()), (said, whole.contents()));
}

#[test]
fn a_client_need_not_greet() {
    let mut talk = Talk::new();
    assert_eq!(
        talk.codes("MAIL FROM:<z>\r\nRCPT TO:<s>\r\nDATA\r\n.\r\n"),
        "220, 250 2.1.0, 250 2.1.5, 354, 250 2.0.0"
    );
    assert_eq!(talk.mails[0].envelope.client.helo, "");
}

#[test]
fn commands_out_of_order_are_refused_and_change_nothing() {
    let mut talk = Talk::new();
    assert_eq!(talk.codes("RCPT TO:<a>\r\nMAIL FROM:<a>\r\n"), "220, 503 5.5.1, 250 2.1.0");
    assert_eq!(talk.codes("MAIL FROM:<b>\r\n"), "503 5.5.1");
    assert_eq!(talk.codes("DATA\r\n"), "503 5.5.1");
    assert_eq!(
        talk.codes("RCPT TO:<c>\r\nNOOP x\r\nVRFY c\r\nHELP\r\nEXPN c\r\nXYZ\r\n"),
        "250 2.1.5, 250 2.0.0, 252 2.0.0, 214 2.0.0, 502 5.5.1, 500 5.5.1"
    );
    assert_eq!(talk.codes("DATA\r\n.\r\n"), "354, 250 2.0.0");
    assert_eq!(talk.mails[0].envelope.reverse_path, "a");
}

#[test]
fn rset_and_a_new_greeting_forget_the_mail() {
    for forget in ["RSET", "EHLO x", "HELO x"] {
        let mut talk = Talk::new();
        talk.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\n");
        assert!(talk.says(format!("{forget}\r\n")).starts_with("250"));
        assert_eq!(talk.codes("RCPT TO:<b>\r\n"), "503 5.5.1");
    }
}

#[test]
fn a_mail_goes_only_to_the_recipients_that_some_team_takes() {
    let mut talk = Talk::new();
    assert_eq!(
        talk.codes("MAIL FROM:<a>\r\nRCPT TO:<nobody@x>\r\nRCPT TO:<c>\r\nDATA\r\n.\r\n"),
        "220, 250 2.1.0, 550 5.1.1, 250 2.1.5, 354, 250 2.0.0"
    );
    assert_eq!(talk.mails[0].envelope.recipients, ["c"]);
    talk.says("MAIL FROM:<a>\r\nRCPT TO:<nobody@x>\r\n");
    assert_eq!(talk.codes("DATA\r\n"), "554 5.5.1");
}

#[test]
fn what_comes_behind_a_refused_data_is_never_obeyed() {
    let mut talk = Talk::new();
    talk.says("MAIL FROM:<a>\r\n");
    assert_eq!(talk.codes("DATA\r\nRCPT TO:<b>\r\nDATA\r\nsmuggled\r\n.\r\n"), "503 5.5.1, 421 4.7.0");
    assert_eq!((talk.closed, talk.mails.len()), (Some(false), 0));

    let mut late = Talk::new();
    late.says("MAIL FROM:<a>\r\n");
    assert_eq!(late.codes("DATA\r\n"), "503 5.5.1");
    assert_eq!(late.codes("Subject: x\r\nRCPT TO:<b>\r\n"), "421 4.7.0");
    assert_eq!(late.closed, Some(false));

    let mut long = Talk::new();
    long.says("MAIL FROM:<a>\r\n");
    assert_eq!(long.codes("DATA\r\n"), "503 5.5.1");
    assert_eq!(long.codes("x".repeat(9999) + "\r\nRCPT TO:<b>\r\n"), "421 4.7.0");

    let mut spoilt = Talk::new();
    spoilt.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\n");
    assert_eq!(spoilt.codes("DATA now\r\nQUIT\r\n"), "501 5.5.4, 421 4.7.0");
    assert_eq!(spoilt.closed, Some(false));
    for data in ["DATA \x07\r\n".to_owned(), format!("DATA{}\r\n", " ".repeat(9999))] {
        let mut spoilt = Talk::new();
        assert_eq!(spoilt.codes(data), "220, 500 5.5.2");
        assert_eq!(spoilt.codes("Subject: x\r\nNOOP\r\n"), "421 4.7.0");
    }

    let mut patient = Talk::new();
    patient.says("MAIL FROM:<a>\r\n");
    assert_eq!(patient.codes("DATA\r\n"), "503 5.5.1");
    assert_eq!(patient.codes("RSET\r\nXYZ\r\n"), "250 2.0.0, 500 5.5.1");
}

#[test]
fn a_mail_that_is_too_large_is_refused_when_declared_and_when_sent() {
    let mut talk = Talk::with(|config| config.max_message_size = 10);
    assert_eq!(talk.codes("MAIL FROM:<a> SIZE=11\r\n"), "220, 552 5.3.4");
    assert_eq!(talk.codes("MAIL FROM:<a> SIZE=10\r\nRCPT TO:<b>\r\nDATA\r\n"), "250 2.1.0, 250 2.1.5, 354");
    assert_eq!(talk.codes("123456789\r\n"), "");
    assert_eq!(talk.session.held(), size_of::<String>() * 4 + 1);
    assert_eq!(talk.codes("0\r\n.\r\nNOOP\r\n"), "552 5.3.4, 250 2.0.0");
    assert_eq!(
        talk.codes("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n12345678\r\n.\r\n"),
        "250 2.1.0, 250 2.1.5, 354, 250 2.0.0"
    );
}

#[test]
fn a_mail_that_is_not_kept_is_not_answered_250() {
    let mut talk = Talk::new();
    talk.outcome = Err(Refusal::Full);
    assert_eq!(
        talk.codes("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n"),
        "220, 250 2.1.0, 250 2.1.5, 354, 452 4.3.1"
    );
    talk.outcome = Err(Refusal::Unavailable);
    assert_eq!(
        talk.codes("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n"),
        "250 2.1.0, 250 2.1.5, 354, 451 4.3.0"
    );
    talk.outcome = Err(Refusal::Unauthentic);
    assert_eq!(
        talk.codes("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n"),
        "250 2.1.0, 250 2.1.5, 354, 550 5.7.26"
    );
}

#[test]
fn a_mail_without_memory_is_refused_for_now_wherever_it_was() {
    let mut talk = Talk::new();
    talk.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nx");
    talk.session.give_up();
    assert_eq!(talk.session.held(), 0);
    assert_eq!(talk.codes("y\r\n.\r\n"), "452 4.3.1");

    talk.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\n");
    talk.session.give_up();
    assert_eq!(talk.codes("RCPT TO:<c>\r\n"), "452 4.3.1");
    assert_eq!(talk.codes("DATA\r\n"), "452 4.3.1");
    assert!(talk.mails.is_empty());
}

#[test]
fn recipients_are_counted_the_refused_ones_too() {
    let mut talk = Talk::with(|config| config.max_recipients = 2);
    assert_eq!(
        talk.codes("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nRCPT TO:<nobody>\r\nRCPT TO:<c>\r\nDATA\r\n.\r\n"),
        "220, 250 2.1.0, 250 2.1.5, 550 5.1.1, 452 4.5.3, 354, 250 2.0.0"
    );
}

#[test]
fn a_line_that_is_too_long_is_one_error_and_is_not_kept() {
    let mut talk = Talk::new();
    let line = |length: usize| format!("NOOP {}\r\n", "x".repeat(length - 7));
    assert_eq!(talk.codes(line(command::MAX_LINE)), "220, 250 2.0.0");
    assert_eq!(talk.codes(line(command::MAX_LINE + 1)), "500 5.5.2");
    assert_eq!(talk.codes("x".repeat(1 << 20)), "");
    assert_eq!(talk.session.partial.capacity(), 0);
    assert_eq!(talk.codes("x".repeat(command::MAX_LINE - 1)), "");
    assert_eq!(talk.codes("\r\nNOOP\r\n"), "500 5.5.2, 250 2.0.0");
}

#[test]
fn too_many_errors_end_the_session_and_a_mail_forgives_them() {
    let mut talk = Talk::with(|config| config.max_errors = 3);
    assert_eq!(talk.codes("X\r\nX\r\n"), "220, 500 5.5.1, 500 5.5.1");
    talk.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n");
    assert_eq!(talk.codes("X\r\nX\r\nX\r\nNOOP\r\n"), "500 5.5.1, 500 5.5.1, 421 4.7.0");
    assert_eq!(talk.closed, Some(false));
}

#[test]
fn a_browser_that_was_sent_here_is_turned_out_at_once() {
    let mut talk = Talk::new();
    assert_eq!(talk.codes("POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a>\r\n"), "220, 421 4.7.0");
}

#[test]
fn replies_wait_for_the_client_to_read_them() {
    let mut talk = Talk::new();
    let input = "EHLO x\r\n".repeat(1000);
    let mut rest = input.as_bytes();
    assert!(matches!(talk.session.advance(&mut rest), Step::Write));
    assert!(talk.session.take_output().len() < 2 * MAX_OUTPUT && !rest.is_empty());
}

#[test]
fn no_reply_holds_a_word_of_the_client() {
    let mut talk = Talk::new();
    let mut said = String::new();
    for line in [
        "EHLO EVIL",
        "HELO EVIL",
        "EVIL",
        "MAIL FROM:EVIL",
        "MAIL FROM:<EVIL@> EVIL",
        "MAIL FROM:<EVIL> EVIL=EVIL",
        "MAIL FROM:<EVIL>",
        "RCPT TO:EVIL",
        "RCPT TO:<nobody-EVIL>",
        "VRFY EVIL",
        "HELP EVIL",
        "NOOP EVIL",
        "DATA EVIL",
    ] {
        said += &talk.says(format!("{line}\r\n"));
    }
    assert!(!said.contains("EVIL"), "{said}");
}
