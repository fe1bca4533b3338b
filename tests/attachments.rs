//! Files that go along with an event: which do, what of them leaves, and that the alert never waits for them.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use serde_json::Value;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::Event;
use smtp2signl4::mail::{Envelope, Message, Origin};
use smtp2signl4::rules::{Config, RedactSet, RuleSet, Site, Subject, Tlp};
use smtp2signl4::standin::{Fault, Standin};
use support::{PATIENCE, Site as Folder, Smtp};

/// A mail with a picture, a log that holds a password, a program that calls itself a picture, an archive and
/// a signature.
const MAIL: &str = "\
From: alerts@soc.example
To: soc@soc.example
Subject: Intrusion on db01
Message-ID: <1@soc.example>
Content-Type: multipart/mixed; boundary=x

--x

See the files.
--x
Content-Type: image/png; name=\"shot.png\"
Content-Transfer-Encoding: base64

iVBORw0KGgoAAAANSUhEUg==
--x
Content-Type: text/plain; charset=iso-8859-1; name=\"auth.log\"
Content-Transfer-Encoding: quoted-printable

St=F6rung
password: hunter2
--x
Content-Type: image/png; name=\"tool.png\"
Content-Transfer-Encoding: base64

TVqQAAMAAAAEAAAA
--x
Content-Type: application/zip; name=\"all.zip\"
Content-Transfer-Encoding: base64

UEsDBA==
--x
Content-Type: application/pkcs7-signature; name=smime.p7s

s
--x--
";

fn rules(rules: &str, site: Site) -> RuleSet {
    let text = format!("version = 1\n[source]\nname = \"T\"\n{rules}");
    RuleSet::load(&[Source::new("t.toml", text)], site).unwrap_or_else(|found| panic!("{}", found[0]))
}

/// The event of `mail` by these rules, its files looked at as the gateway does.
fn event(text: &str, mail: &str, config: &Config) -> Event {
    let rules = rules(text, config.site(Vec::new(), vec!["soc".into()]));
    let message = Message::parse(mail.as_bytes());
    let envelope = Envelope { origin: Origin::Smtp, ..Envelope::default() };
    let mut events = rules.judge(&Subject { message: &message, envelope: &envelope, team: "soc" }).events;
    rules.clean_files(&mut events, mail.as_bytes());
    events.remove(0)
}

fn names(event: &Event) -> Vec<&str> {
    event.attachments.iter().map(|file| file.name.as_str()).collect()
}

fn tile(event: &Event) -> Option<&str> {
    event.fields.iter().find(|(name, _)| name == "Attachments").map(|(_, value)| value.as_str())
}

const ALL: &str = "[[rule]]\nname = 'r'\nset = { attach = 'all' }";

#[test]
fn without_a_rule_no_file_goes_and_all_are_named() {
    let event = event("", MAIL, &Config::default());
    assert_eq!(names(&event), [""; 0]);
    assert_eq!(
        tile(&event),
        Some(
            "shot.png (16 bytes)\nauth.log (25 bytes)\ntool.png (12 bytes, not a type that SIGNL4 takes)\n\
             all.zip (4 bytes, not a type that SIGNL4 takes)"
        )
    );
}

#[test]
fn the_kinds_that_a_rule_names_go_and_the_later_rule_wins() {
    let config = Config::default();
    let set = |attach: &str| {
        let name = attach.replace('\'', "");
        format!("[[rule]]\nname = 'r {name}'\nset = {{ attach = {attach} }}\n")
    };
    assert_eq!(names(&event(&set("'all'"), MAIL, &config)), ["shot.png", "auth.log.txt"]);
    assert_eq!(names(&event(&set("['image', 'pdf']"), MAIL, &config)), ["shot.png"]);
    assert_eq!(names(&event(&set("\"text\""), MAIL, &config)), ["auth.log.txt"]);
    let off = set("['image']") + &set("false").replace("set =", "when = { subject = 'db01' }\nset =");
    assert_eq!(names(&event(&off, MAIL, &config)), [""; 0]);
    let signed = event(&set("'all'"), MAIL, &config);
    assert!(!tile(&signed).unwrap().contains("p7s"), "a signature is no file to look at");
}

#[test]
fn a_wrong_kind_is_told_with_its_place() {
    for (attach, message) in [
        ("true", "`attach` does not say which files"),
        ("'zip'", "`attach` cannot be `zip`"),
        ("['image', 'exe']", "`attach` cannot be `image,exe`"),
    ] {
        let text = format!(
            "version = 1\n[source]\nname = \"T\"\n[[rule]]\nname = 'r'\nset = {{ attach = {attach} }}"
        );
        let found = RuleSet::load(&[Source::new("t.toml", text)], Site::default()).unwrap_err();
        assert_eq!((found[0].line, found[0].message.as_str()), (6, message));
    }
}

#[test]
fn above_the_tlp_limit_neither_a_file_nor_its_name_leaves() {
    let config = Config { tlp_limit: Some(Tlp::Amber), ..Config::default() };
    let red = event(ALL, &MAIL.replace("Intrusion", "TLP:RED Intrusion"), &config);
    assert_eq!(names(&red), [""; 0]);
    assert_eq!(tile(&red), Some("4 files stay here, as the text does"));
    let amber = event(ALL, &MAIL.replace("Intrusion", "TLP:AMBER Intrusion"), &config);
    assert_eq!(names(&amber).len(), 2);
}

#[test]
fn redaction_goes_through_texts_and_names() {
    let config = Config { redact: vec![RedactSet::Passwords], ..Config::default() };
    let named = MAIL.replace("shot.png", "password=hunter2.png");
    let event = event(ALL, &named, &config);
    assert_eq!(names(&event), ["password=[redacted].png", "auth.log.txt"]);
    let text = event.attachments[1].redacted("Störung\npassword: hunter2");
    assert_eq!(text.as_deref(), Some("Störung\npassword: [redacted]"));
}

#[test]
fn a_text_that_would_be_redacted_throughout_stays() {
    let body = "password: x\n".repeat(2_001);
    let mail = MAIL.replace("password: hunter2\n", &body);
    let event = event(ALL, &mail, &Config::default());
    assert_eq!(names(&event), ["shot.png"]);
    assert!(tile(&event).unwrap().ends_with("too much of it would be redacted)"), "{:?}", tile(&event));
}

#[test]
fn five_files_go_and_ten_are_named() {
    let part = "--x\nContent-Type: text/plain; name=\"a.txt\"\n\nt\n";
    let many = format!("Subject: s\nContent-Type: multipart/mixed; boundary=x\n\n{}--x--\n", part.repeat(30));
    let event = event(ALL, &many, &Config::default());
    assert_eq!(event.attachments.len(), 5);
    let tile = tile(&event).unwrap();
    assert_eq!(tile.lines().count(), 11);
    assert!(tile.ends_with("and 15 more"), "{tile}");
}

#[test]
fn a_mail_of_several_alerts_keeps_its_files() {
    let text = "split = '^ALERT'\n[[rule]]\nname = 'r'\nset = { attach = 'all' }";
    let event = event(text, &MAIL.replace("See the files.", "ALERT 1\nALERT 2"), &Config::default());
    assert_eq!(names(&event), [""; 0]);
    assert!(tile(&event).unwrap().starts_with("shot.png (16 bytes, of a mail with several alerts)"));
}

async fn stage() -> (Standin, Folder) {
    let standin = support::standin().await;
    let mut folder = Folder::new(&standin);
    let rules = "version = 1\n[source]\nname = 'T'\n[[rule]]\nname = 'r'\nset = { attach = 'all' }\n";
    std::fs::write(folder.path("site.toml"), rules).unwrap();
    folder.set("rules", "paths", "['site.toml']");
    (standin, folder)
}

fn send(gateway: &support::Gateway) {
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    let reply = smtp.mail("alerts@soc.example", &["soc@soc.example"], MAIL).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_with_the_fields_of_the_json_and_a_retry_is_the_same() {
    let (standin, folder) = stage().await;
    standin.script([Fault::Status(503)]);
    let gateway = folder.start();
    send(&gateway);
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    let event = &events[0];
    assert_eq!(event.payload["Title"], "Intrusion on db01");
    assert_eq!(event.payload["X-S4-Status"], "new");
    assert!(event.payload["Attachments"].as_str().unwrap().starts_with("tool.png (12 bytes"));
    let files: Vec<_> = event
        .files
        .iter()
        .map(|file| (file.field.as_str(), file.name.as_str(), file.content_type.as_str(), &file.content[..]))
        .collect();
    assert_eq!(
        files,
        [
            ("Attachment1", "shot.png", "image/png", &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..]),
            (
                "Attachment2",
                "auth.log.txt",
                "text/plain; charset=utf-8",
                "Störung\r\npassword: [redacted]".as_bytes()
            ),
        ]
    );
    let tries = standin.requests();
    assert_eq!(tries.len(), 2);
    assert_eq!(tries[0].body, tries[1].body);

    let mut explain = folder.command(&["explain", "--to", "soc@soc.example", "-"]);
    explain.stderr(std::process::Stdio::null());
    let shown = support::run(explain, MAIL);
    assert!(shown.contains("with the file auth.log.txt (text/plain, 25 bytes, 1 place redacted)"), "{shown}");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_with_its_files_goes_without_them() {
    let (standin, folder) = stage().await;
    standin.script([Fault::Status(415)]);
    let gateway = folder.start();
    send(&gateway);
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!(events[0].content_type, "application/json");
    let tile = events[0].payload["Attachments"].as_str().unwrap();
    assert!(tile.contains("shot.png (16 bytes, SIGNL4 refused it)"), "{tile}");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_too_slow_for_the_files_gets_the_alert_through() {
    let (standin, folder) = stage().await;
    // Whatever takes files along is never answered as it should be.
    standin.script((0..3).map(|_| Fault::Close));
    let gateway = folder.start();
    send(&gateway);
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    let requests: Vec<Value> = standin.requests().iter().map(|r| r.files.len().into()).collect();
    assert_eq!(requests, [2, 2, 2, 0]);
    assert!(events[0].payload["Attachments"].as_str().unwrap().contains("the tries with it failed"));
    gateway.stop();
}
