//! Laws that hold for every mail and every order, on arbitrary bytes and rules made by chance from a seed.

use std::time::{Duration, Instant};

use smtp2signl4::diagnostic::Source;
use smtp2signl4::mail::{Client, Envelope, Message, Origin};
use smtp2signl4::rules::{Config, RuleSet, Site, Subject, Tlp, shipped};

fn site() -> Site {
    Config::default().site(Vec::new(), vec!["soc".into(), "net".into()])
}

fn load(sources: &[Source]) -> RuleSet {
    RuleSet::load(sources, site()).unwrap_or_else(|found| {
        panic!("{}", found.iter().map(|d| format!("{d}\n")).collect::<String>());
    })
}

fn envelope() -> Envelope {
    Envelope {
        received_at: jiff::Timestamp::UNIX_EPOCH,
        origin: Origin::Smtp,
        client: Client::default(),
        reverse_path: String::new(),
        recipients: Vec::new(),
        ..Envelope::default()
    }
}

/// Bytes as senders and attackers write them: pieces of real mails, and noise.
fn bytes(rng: &mut fastrand::Rng) -> Vec<u8> {
    const PIECES: [&str; 16] = [
        "Subject: Notification from TheHive\n",
        "Subject: [Case #1208] x\n",
        "Subject: Case #1 closed: Other\n",
        "Content-Type: multipart/mixed; boundary=\"===============1==\"\n",
        "X-S4-Status: resolved\n",
        "X-S4-ExternalID: \u{202e}\n",
        "\n",
        "Audit (1):\ncreate Case ~41136\n  by a at \n",
        "TheHive update Case ~1\nBy: \nContext: Case ~1\nStatus:\nSeverity:\nTLP:\nNumber:\nLink:\nTitle:\n",
        "https://h.example/cases/~1/details\n",
        "Stage: Closed\n",
        "Description: ",
        "{{ 7 * 7 }}{% if %}",
        "TLP:RED password: x 4111 1111 1111 1111",
        "Received: from [1.2.3.4] (\n",
        "--===============1==\n",
    ];
    let mut out = Vec::new();
    for _ in 0..rng.usize(0..20) {
        if rng.u8(..) < 32 {
            out.extend((0..rng.usize(0..40)).map(|_| rng.u8(..)));
        } else {
            out.extend_from_slice(PIECES[rng.usize(..PIECES.len())].as_bytes());
        }
    }
    out
}

#[test]
fn every_mail_is_judged_and_always_the_same() {
    let rules = load(&shipped());
    let mut rng = fastrand::Rng::with_seed(7);
    let envelope = envelope();
    for _ in 0..3_000 {
        let content = bytes(&mut rng);
        let message = Message::parse(&content);
        let subject = Subject { message: &message, envelope: &envelope, team: "soc" };
        let judgement = rules.judge(&subject);
        let shown = String::from_utf8_lossy(&content);
        assert_eq!(judgement, rules.judge(&subject), "{shown}");
        assert_eq!(judgement.events, rules.judge_traced(&subject).events, "{shown}");
        assert_eq!(judgement.events.is_empty(), judgement.dropped.is_some(), "{shown}");
        for event in &judgement.events {
            assert!(!event.title.is_empty() && !event.message.is_empty(), "{shown}");
            assert!(event.external_id.as_ref().is_some_and(|id| !id.is_empty()), "{shown}");
        }
    }
}

/// A rule by chance: what it asks of the subject, what it sets, whether it stops or drops.
fn rule(rng: &mut fastrand::Rng, at: usize) -> String {
    let letter = |rng: &mut fastrand::Rng| ["a", "b", "c", "d"][rng.usize(..4)];
    let mut text = format!("[[rule]]\nname = 'r{at}'\n");
    // An empty group holds on every subject; without a `when`, rules below could be refused as useless.
    text.push_str(&format!("when = {{ subject = '{}' }}\n", if rng.bool() { letter(rng) } else { "(?<x>)" }));
    match rng.u8(..10) {
        0 => text.push_str("drop = 'by chance'\n"),
        1 => text.push_str("keep = true\n"),
        other => {
            if other == 2 {
                text.push_str("stop = true\n");
            }
            let key = ["title", "service", "message"][rng.usize(..3)];
            text.push_str(&format!("set = {{ {key} = '{at}{{{{ subject }}}}' }}\n"));
        }
    }
    text
}

/// The laws, done in the plainest way: files of rules, and what they set.
fn model(files: &[Vec<String>], subject: &str) -> (Option<String>, [Option<String>; 3]) {
    let mut values = [None, None, None];
    let mut dropped = None;
    for file in files {
        for rule in file {
            let part =
                |start: &str| rule.split(start).nth(1).map(|rest| rest.split('\'').next().unwrap_or(""));
            let wanted = part("subject = '").expect("every rule asks for a subject");
            // A field that is empty passes no test, not even this.
            let holds = if wanted == "(?<x>)" { !subject.is_empty() } else { subject.contains(wanted) };
            if !holds {
                continue;
            }
            if rule.contains("keep = true") {
                dropped = None;
            }
            if let Some(reason) = part("drop = '") {
                dropped = Some(reason.to_owned());
                break;
            }
            for (at, key) in ["title", "service", "message"].iter().enumerate() {
                if let Some(value) = part(&format!("set = {{ {key} = '")) {
                    values[at] = Some(value.replace("{{ subject }}", subject));
                }
            }
            if rule.contains("stop = true") {
                break;
            }
        }
    }
    (dropped, values)
}

#[test]
fn order_is_as_the_laws_say() {
    let mut rng = fastrand::Rng::with_seed(11);
    let envelope = envelope();
    let mut judged = 0;
    while judged < 150 {
        let files: Vec<Vec<String>> = (0..3)
            .map(|file| (0..rng.usize(1..6)).map(|at| rule(&mut rng, file * 10 + at)).collect())
            .collect();
        let sources: Vec<Source> = files
            .iter()
            .enumerate()
            .map(|(at, rules)| {
                Source::new(
                    format!("{at}.toml"),
                    format!("version = 1\n[source]\nname = '{at}'\n{}", rules.concat()),
                )
            })
            .collect();
        let rules = match RuleSet::load(&sources, site()) {
            Ok(rules) => rules,
            // Chance makes rules behind the end of their file as well; those are refused, and for nothing else.
            Err(found) => {
                let told: Vec<_> = found.iter().map(ToString::to_string).collect();
                assert!(found.iter().all(|d| d.message.contains("never be reached")), "{}", told.join("\n"));
                continue;
            }
        };
        judged += 1;
        for subject in ["", "a", "bc", "abcd", "d"] {
            let message =
                Message { subject: subject.to_owned(), text: "text".to_owned(), ..Message::default() };
            let judgement = rules.judge(&Subject { message: &message, envelope: &envelope, team: "soc" });
            let (dropped, [title, service, text]) = model(&files, subject);
            let shown = || format!("{subject}: {}", sources.iter().map(|s| &*s.text).collect::<String>());
            assert_eq!(judgement.dropped.map(|d| d.reason), dropped, "{}", shown());
            let Some(event) = judgement.events.first() else { continue };
            let fallback =
                if subject.is_empty() { "Mail from an unknown sender (no subject)" } else { subject };
            assert_eq!(event.title, title.as_deref().unwrap_or(fallback), "{}", shown());
            assert_eq!(event.service, service, "{}", shown());
            assert_eq!(event.message, text.as_deref().unwrap_or("text"), "{}", shown());
        }
    }
}

#[test]
fn no_text_takes_longer_than_its_length() {
    let rules = load(&shipped());
    // Every piece of a split mail has the label of the whole mail.
    let split = Source::new(
        "split.toml",
        "version = 1\n[source]\nname = 'split'\nsplit = '^Alert '\n[[rule]]\nname = 'a'\nset = { service = 'x' }\n",
    );
    let limited = Site { tlp_limit: Some(Tlp::Amber), ..site() };
    let splitting = RuleSet::load(&[split], limited).expect("the rules are right");
    let envelope = envelope();
    let time = |rules: &RuleSet, piece: &str, size: usize| {
        let message = Message {
            subject: "Case #1208 closed".to_owned(),
            text: piece.repeat(size / piece.len()),
            ..Message::default()
        };
        let subject = Subject { message: &message, envelope: &envelope, team: "soc" };
        let run = || {
            let started = Instant::now();
            rules.judge(&subject);
            started.elapsed()
        };
        (0..3).map(|_| run()).min().expect("it ran")
    };
    for (rules, piece) in [
        "Stage: New\n",
        "\n",
        "x",
        "https://h/cases/~1/details ",
        "X-S4-a: ",
        "password=",
        "4111 ",
        "TLP: ",
        "eyJaaaaaaaaaa.",
    ]
    .map(|piece| (&rules, piece))
    .into_iter()
    .chain([(&splitting, &*format!("Alert x\n{}\n", "TLP: x ".repeat(300)))])
    {
        let (short, long) = (time(rules, piece, 1 << 14), time(rules, piece, 1 << 18));
        // Sixteen times the text; a quadratic one would take 256 times as long. The floor is for noise.
        assert!(long < short * 80 + Duration::from_millis(100), "{piece:?}: {short:?}, then {long:?}");
    }
}
