//! The laws that the fuzz targets look for breaches of. Each is a function that takes any input at all and
//! panics where the law does not hold. `tests/fuzz_replay.rs` runs them over the corpus without a fuzzer.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use smtp2signl4::clock::Manual;
use smtp2signl4::diagnostic::{Diagnostic, Source};
use smtp2signl4::event::{Event, Status, TITLE_LIMIT, Words};
use smtp2signl4::mail::{Client, Envelope, Mail, MailId, Message, Origin, Tls};
use smtp2signl4::rules::{Config, ExampleMail, RuleSet, Site, Subject, shipped};
use smtp2signl4::smtp;
use smtp2signl4::smtp::Refusal;
use smtp2signl4::smtp::data::{Data, Lost};
use smtp2signl4::smtp::logins::Verdict;
use smtp2signl4::smtp::reply;
use smtp2signl4::smtp::session::{Session, Step};

/// A client in a network that the site trusts, and one that anybody could be.
const TRUSTED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// Any bytes are a mail, and the shipped rules judge it: the judgement is an event or a drop, the same
/// each time, and traced or not. Each event says something and is JSON that SIGNL4 knows. A stranger's
/// `X-S4-*` fields change nothing.
pub fn judge(content: &[u8]) {
    static RULES: LazyLock<RuleSet> =
        LazyLock::new(|| RuleSet::load(&shipped(), site()).expect("the shipped rules load"));
    let message = Message::parse(content);
    judged(&RULES, &message, TRUSTED);
    let events = judged(&RULES, &message, STRANGER);

    let mut steering = message;
    for (name, value) in [("X-S4-Status", "resolved"), ("X-S4-ExternalID", "taken"), ("X-S4-Service", "none")]
    {
        steering.headers.insert(0, (name.to_owned(), value.to_owned()));
    }
    assert_eq!(events, judged(&RULES, &steering, STRANGER), "a stranger steers");
}

/// Any text is a rule file: it loads, and judges mails, or what is wrong with it is shown at its place.
pub fn rule_file(text: &str) {
    let base = Source::new("base.toml", BASE);
    let source = Source::new("fuzz.toml", text);
    let load = || RuleSet::load(&[base.clone(), source.clone()], site());
    let rules = match load() {
        Ok(rules) => rules,
        Err(found) => {
            assert!(!found.is_empty(), "refused without a reason");
            found.iter().for_each(|diagnostic| stands_in(diagnostic, &source, &base));
            assert_eq!(load().err(), Some(found), "refused otherwise the second time");
            return;
        }
    };
    for mail in MAILS {
        let message = Message::parse(mail.as_bytes());
        judged(&rules, &message, TRUSTED);
        judged(&rules, &message, STRANGER);
    }
    for example in rules.examples() {
        let mail = match example.mail() {
            ExampleMail::File(_) => MAILS[0],
            ExampleMail::Inline(mail) => mail,
        };
        for diagnostic in rules.check_example(example, mail.as_bytes()) {
            stands_in(&diagnostic, &source, &base);
        }
    }
}

/// Any bytes come after DATA: the message ends where RFC 5321 says and nowhere else, however the stream is
/// cut, and what a client stuffed as it says is one mail with the content that it had.
pub fn end_of_data(stream: &[u8]) {
    let wanted = plain_reading(stream);
    let limit = stream.len();
    for cuts in [whole(stream), bytewise(stream), by_chance(stream)] {
        assert_eq!(reading(&cuts, limit), wanted.clone().map(|(content, used)| (Ok(content), used)));
        if let Some((content, used)) = &wanted {
            assert!(content.len() < *used, "the content is longer than what came");
            assert_eq!(reading(&cuts, content.len()), Some((Ok(content.clone()), *used)));
            if let Some(less) = content.len().checked_sub(1) {
                assert_eq!(reading(&cuts, less), Some((Err(Lost::TooLarge), *used)));
            }
        }
    }

    let (stuffed, content) = stuff(stream);
    let dialogue = [b"MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n", &stuffed[..], b"QUIT\r\n"].concat();
    let config = smtp::Config { max_message_size: content.len(), ..config() };
    for cuts in [whole(&dialogue), by_chance(&dialogue)] {
        let talk = talk(&config, &cuts);
        let [mail] = &talk.mails[..] else { panic!("{} mails come of one", talk.mails.len()) };
        assert_eq!(mail.1, content, "the content is another");
        assert_eq!(talk.closed, Some(true), "the end of the message was not seen");
    }
}

/// Any bytes come from a client: each command and each message has one reply, in the form of RFC 5321;
/// mails are no more than what came; and it is all the same however the bytes are cut.
///
/// But for one thing: when DATA is refused, a session that sees more behind it in the same piece ends
/// there, and one that does not cannot know.
pub fn session(input: &[u8]) {
    let config = config();
    let at_once = talk(&config, &whole(input));
    let contents: usize = at_once.mails.iter().map(|(_, content)| content.len()).sum();
    assert!(contents <= input.len(), "more comes out than came in");
    for (envelope, _) in &at_once.mails {
        assert!(!envelope.recipients.is_empty(), "a mail to nobody");
        assert!(envelope.recipients.len() <= config.max_recipients, "a mail to too many");
        assert!(envelope.recipients.iter().all(|recipient| is_known(recipient)), "a mail to an unknown");
    }
    let broken_off = {
        let mut end = Vec::new();
        reply::NO_COMMANDS_AFTER_DATA.write(&mut end);
        at_once.said.strip_suffix(std::str::from_utf8(&end).expect("a reply is ASCII"))
    };
    for cuts in [bytewise(input), by_chance(input)] {
        let mut cut = talk(&config, &cuts);
        if let Some(said) = broken_off {
            assert!(cut.said.starts_with(said), "a cut changes what was said before it");
            assert!(cut.mails.len() >= at_once.mails.len(), "a cut loses a mail");
            cut.mails.truncate(at_once.mails.len());
            assert_eq!(cut.mails, at_once.mails, "a cut changes a mail");
        } else {
            assert_eq!(cut, at_once, "a cut changes the session");
        }
    }
    one_reply_each(&config, input);
}

fn site() -> Site {
    let colors = [("red", "Critical"), ("blue", "Information")].map(|(c, s)| (c.to_owned(), s.to_owned()));
    Config::default().site(colors.into(), vec!["soc".into(), "net".into()])
}

/// Judges `message` in every way there is, and holds the judgement against the laws of all judgements.
fn judged(rules: &RuleSet, message: &Message, client: IpAddr) -> Vec<Event> {
    let envelope = Envelope {
        received_at: Timestamp::UNIX_EPOCH,
        origin: Origin::Smtp,
        client: Client { address: Some(client), helo: "client.example".into(), ..Client::default() },
        reverse_path: "bounce@a.example".into(),
        recipients: vec!["soc@gw.example".into()],
        ..Envelope::default()
    };
    let subject = Subject { message, envelope: &envelope, team: "soc" };
    let judgement = rules.judge(&subject);
    assert_eq!(judgement, rules.judge(&subject), "judged otherwise the second time");
    let traced = rules.judge_traced(&subject);
    assert_eq!((&judgement.events, &judgement.dropped), (&traced.events, &traced.dropped), "a trace matters");
    assert_eq!(judgement.events.is_empty(), judgement.dropped.is_some(), "neither an event nor a drop");
    judgement.events.iter().for_each(says_something);
    judgement.events
}

/// The event has a title, a text and a key, and its payload is what SIGNL4 takes.
fn says_something(event: &Event) {
    let payload: serde_json::Value =
        serde_json::from_str(&event.payload()).expect("the payload is valid JSON");
    let fields = payload.as_object().expect("the payload is an object");
    let text = |name: &str| fields.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    for name in ["Title", "Message", "X-S4-ExternalID"] {
        assert!(!text(name).trim().is_empty(), "no {name}: {payload}");
    }
    assert!(text("Title").chars().count() <= TITLE_LIMIT, "the title is too long: {payload}");
    assert!(!text("Title").contains('\n'), "the title is more than a line: {payload}");
    assert_eq!(Status::from_word(text("X-S4-Status")), Some(event.status), "{payload}");
    for (name, value) in fields {
        for text in [Some(name.as_str()), value.as_str()].into_iter().flatten() {
            assert!(!text.contains(deceives), "{name} holds what deceives the reader: {payload}");
        }
    }
}

/// Controls, and overrides of the writing direction (Unicode's UAX 9).
fn deceives(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The place of `diagnostic` is in the text that it speaks about, and it can be shown.
fn stands_in(diagnostic: &Diagnostic, source: &Source, base: &Source) {
    let text = if diagnostic.path == base.path { &base.text } else { &source.text };
    assert!([&source.path, &base.path].contains(&&diagnostic.path), "{diagnostic:?}");
    assert!(!diagnostic.message.is_empty(), "{diagnostic:?}");
    assert!(diagnostic.to_string().contains(&diagnostic.message), "{diagnostic:?}");
    if diagnostic.line == 0 {
        return;
    }
    // Behind the last line end there is one more line, which is empty.
    let line = text.split('\n').nth(diagnostic.line - 1).unwrap_or_else(|| panic!("no line: {diagnostic:?}"));
    assert_eq!(diagnostic.excerpt.trim_end_matches('\r'), line.trim_end_matches('\r'));
    assert!(diagnostic.width >= 1, "nothing is underlined: {diagnostic:?}");
    // What is missing is missed behind the end of the line, behind its CR at most.
    let end = line.chars().count() + 2;
    assert!((1..=end).contains(&diagnostic.column), "no column: {diagnostic:?}");
    assert!(diagnostic.column + diagnostic.width <= end + 1, "underlined too far: {diagnostic:?}");
}

/// What `overrides` and `[off]` can speak about.
const BASE: &str = "\
version = 1
[source]
name = \"Base\"
when = { subject = '(?<state>DOWN|UP)' }
[[rule]]
name = \"down\"
when = { state = 'DOWN' }
set = { severity = \"critical\", title = \"{{ state }}\", external-id = \"base:{{ subject }}\" }
";

/// What rule files are tried on.
const MAILS: [&str; 4] = [
    "From: Disk Watch <watch@a.example>\r\nTo: soc@gw.example\r\nSubject: web01 is DOWN\r\n\
     Date: Fri, 20 Nov 2026 17:04:05 +0000\r\nMessage-ID: <1@a.example>\r\nX-Priority: 1\r\n\r\n\
     Host: web01\r\nLoad: 93 %\r\nState: DOWN\r\n\r\n> quoted\r\n-- \r\nsignature\r\n",
    "Subject: web01 is UP\r\nReferences: <1@a.example>\r\nX-S4-Status: resolved\r\n\r\nState: UP\r\n",
    "X-S4-ExternalID: 7\r\nX-S4-Status: acknowledged\r\n",
    "",
];

/// What one who reads RFC 5321 section 4.5.2 makes of the stream: the content, and where its end is behind.
fn plain_reading(stream: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut start = 0;
    loop {
        let length = stream[start..].windows(2).position(|pair| pair == b"\r\n")?;
        let line = &stream[start..start + length];
        start += length + 2;
        if line == b"." {
            return Some((content, start));
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        content.extend_from_slice(b"\r\n");
    }
}

/// What the reader makes of the pieces: the content, and where its end is behind.
fn reading(pieces: &[&[u8]], limit: usize) -> Option<(Result<Vec<u8>, Lost>, usize)> {
    let mut data = Data::new(limit);
    let mut used = 0;
    for piece in pieces {
        let mut input = *piece;
        let ended = data.read(&mut input);
        used += piece.len() - input.len();
        assert!(data.held() <= limit, "it holds more than a message may have");
        if ended {
            return Some((data.finish(), used));
        }
        assert!(input.is_empty(), "it leaves what is the message's");
    }
    None
}

/// What a client sends for `message` (RFC 5321 section 4.5.2), and the content that this means: a message
/// ends with a line end.
fn stuff(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut content = message.to_vec();
    if !content.is_empty() && !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    let mut sent = Vec::new();
    for &byte in &content {
        if byte == b'.' && (sent.is_empty() || sent.ends_with(b"\r\n")) {
            sent.push(b'.');
        }
        sent.push(byte);
    }
    sent.extend_from_slice(b".\r\n");
    (sent, content)
}

fn whole(stream: &[u8]) -> Vec<&[u8]> {
    vec![stream]
}

fn bytewise(stream: &[u8]) -> Vec<&[u8]> {
    stream.chunks(1).collect()
}

/// Pieces by chance, the same for the same stream.
fn by_chance(stream: &[u8]) -> Vec<&[u8]> {
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
fn config() -> smtp::Config {
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
struct Talk {
    said: String,
    mails: Vec<(Envelope, Vec<u8>)>,
    closed: Option<bool>,
}

fn start(config: &smtp::Config) -> Session {
    let clock = Arc::new(Manual::new(Timestamp::UNIX_EPOCH));
    let entrance = Arc::new(config.entrances[0].clone());
    let client = Client { address: Some(STRANGER), ..Client::default() };
    Session::new(Arc::new(config.clone()), entrance, clock, client)
}

fn is_known(recipient: &str) -> bool {
    !recipient.starts_with("nobody")
}

fn talk(config: &smtp::Config, pieces: &[&[u8]]) -> Talk {
    let mut session = start(config);
    let mut talk = Talk::default();
    // The greeting comes before any piece.
    talk.hear(&mut session, b"");
    for piece in pieces {
        talk.hear(&mut session, piece);
    }
    talk
}

impl Talk {
    /// Gives `piece` to the session; returns how many replies it made.
    fn hear(&mut self, session: &mut Session, piece: &[u8]) -> usize {
        let mut input = piece;
        let mut replies = 0;
        loop {
            let step = session.advance(&mut input);
            let output = String::from_utf8(session.take_output()).expect("a reply is ASCII");
            replies += replies_in(&output);
            self.said.push_str(&output);
            match step {
                Step::Read => {
                    assert!(input.is_empty(), "it wants more and has some");
                    return replies;
                }
                Step::Write => (),
                Step::Recipient(recipient) => {
                    let known = is_known(&recipient);
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
                    let right = login.password.expose() == "right";
                    let verdict = if right { Verdict::Right } else { Verdict::Later };
                    session.login_is(login.name, verdict);
                }
                Step::Close { asked } => {
                    self.closed = Some(asked);
                    return replies;
                }
            }
        }
    }
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

/// A reply comes with the greeting, with the end of each line that is a command's, and with the end of each
/// message and chunk, and with nothing else. BDAT has its reply at the end of its chunk alone.
fn one_reply_each(config: &smtp::Config, input: &[u8]) {
    let mut session = start(config);
    let mut talk = Talk::default();
    assert_eq!(talk.hear(&mut session, b""), 1, "no greeting");
    for (at, byte) in input.iter().enumerate() {
        let over = talk.closed.is_some();
        let in_content = session.in_message() || session.in_chunk();
        let replies = talk.hear(&mut session, &[*byte]);
        let ended = if in_content { !session.in_message() } else { *byte == b'\n' } && !session.in_chunk();
        assert_eq!(replies, usize::from(ended && !over), "at byte {at}");
    }
}
