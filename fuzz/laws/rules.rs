//! The laws of judging mails and of reading rule files.

use std::net::IpAddr;
use std::sync::LazyLock;

use jiff::Timestamp;
use smtp2signl4::diagnostic::{Diagnostic, Source};
use smtp2signl4::event::{Event, Status, TITLE_LIMIT};
use smtp2signl4::mail::{Client, Envelope, Message, Origin};
use smtp2signl4::rules::{Config, ExampleMail, RuleSet, Site, Subject, shipped};
use smtp2signl4::words::Words;

use super::{STRANGER, TRUSTED};

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
