//! The key that no rule gave: what is the same alert, what is another one, and what the marks of a subject say.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

use std::sync::LazyLock;

use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, KeySource, Mark, Repeat, Severity, Status};
use smtp2signl4::mail::{Client, Envelope, Message};
use smtp2signl4::rules::{Judgement, RuleSet, Site, Subject, Tlp, shipped};

/// What the shipped rules and `own` make of a mail that comes from `client`.
fn judge_from(client: &str, own: &str, site: Site, mail: &str) -> Judgement {
    let mut sources = shipped();
    sources.push(Source::new("own.toml", format!("version = 1\n[source]\nname = 'own'\n{own}")));
    judge_by(&RuleSet::load(&sources, site).unwrap(), client, mail)
}

fn judge_by(rules: &RuleSet, client: &str, mail: &str) -> Judgement {
    let message = Message::parse(mail.as_bytes());
    let sender = message.from.first().map(|from| from.address.clone()).unwrap_or_default();
    let envelope = Envelope {
        client: Client { address: Some(client.parse().unwrap()), ..Client::default() },
        reverse_path: sender,
        recipients: vec!["soc@gw.example".to_owned()],
        ..Envelope::default()
    };
    rules.judge(&Subject { message: &message, envelope: &envelope, team: "soc" })
}

fn event_from(client: &str, own: &str, mail: &str) -> Event {
    static SHIPPED: LazyLock<RuleSet> = LazyLock::new(|| RuleSet::load(&shipped(), Site::default()).unwrap());
    let judgement = match own {
        "" => judge_by(&SHIPPED, client, mail),
        own => judge_from(client, own, Site::default(), mail),
    };
    let [event] = &judgement.events[..] else { panic!("{judgement:?}") };
    event.clone()
}

fn event(mail: &str) -> Event {
    event_from("127.0.0.1", "", mail)
}

fn key(mail: &str) -> String {
    event(mail).external_id.unwrap()
}

fn base(mail: &str) -> String {
    event(mail).identity.guess.unwrap().base
}

const STRANGER: &str = "203.0.113.9";

#[test]
fn another_text_under_a_fixed_subject_is_another_incident_with_the_same_base() {
    let psu =
        "From: idrac@oob.example\nSubject: Alert\nMessage-ID: <1@x>\n\nPSU 1 failed\n2026-11-30 10:00\n";
    let drive = "From: idrac@oob.example\nSubject: Alert\nMessage-ID: <2@x>\n\nDrive 4 removed, RAID degraded\n2026-11-30 10:03\n";
    assert_ne!(key(psu), key(drive));
    assert_eq!(base(psu), base(drive));
    assert_eq!(event(psu).identity.key_source, KeySource::Guess);
    assert_ne!(key(psu), key(&psu.replace("PSU 1", "PSU 2")));
    assert_ne!(base(psu), base(&psu.replace("idrac@", "ilo@")));
}

#[test]
fn the_same_text_at_another_time_is_the_same_incident() {
    let one = "From: a@x.example\nSubject: Disk of 2026-11-30 full\nMessage-ID: <1@x>\n\n/var is 93% full, 512 MB free\nat 10:00:00\n";
    let other = "From: a@x.example\nSubject: Disk of 2026-12-01 full\nMessage-ID: <2@x>\n\n/var is 94% full, 480 MB free\nat 11:02:31\n";
    assert_eq!(key(one), key(other));
    assert_ne!(key(one), key(&other.replace("/var", "/srv")));
}

#[test]
fn the_key_is_the_base_and_sixteen_digits_of_the_text() {
    for mail in [
        "From: a@x.example\nSubject: a\n\nb",
        "Subject: a\nReferences: <1@x> <2@x>\n\nb",
        "Message-ID: <1@x>\n\nb",
        "\n\nb",
    ] {
        let event = event(mail);
        let (id, base) = (event.external_id.unwrap(), event.identity.guess.unwrap().base);
        let text = id.strip_prefix(&format!("{base}#")).unwrap();
        assert!(text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(event.identity.key_source, KeySource::Guess);
    }
    let long = format!("Subject: a\nReferences: <{}@x>\n\nb", "part.".repeat(120));
    assert!(key(&long).len() <= 250 && key(&long).starts_with(&base(&long)));
    assert_ne!(base(&long), base(&long.replace("@x", "@y")));
}

#[test]
fn mails_with_neither_subject_nor_id_are_told_apart_by_their_text() {
    let pump = "From: plc@x.example\n\nPump 3 tripped";
    let boiler = "From: plc@x.example\n\nBoiler 1 overpressure";
    assert_ne!(key(pump), key(boiler));
    assert_eq!(base(pump), base(boiler));
    assert_eq!(key(pump), key(pump));
    // An id of the mail parts those whose subject says nothing.
    assert_ne!(base("Message-ID: <1@x>\n\nb"), base("Message-ID: <2@x>\n\nb"));
}

#[test]
fn mails_whose_text_is_in_their_files_are_told_apart_by_these() {
    let scan = |name: &str, content: &str| {
        format!(
            "From: cam@x.example\nSubject: Motion\nMIME-Version: 1.0\nContent-Type: application/pdf; name=\"{name}\"\nContent-Disposition: attachment; filename=\"{name}\"\n\n{content}\n"
        )
    };
    assert_ne!(key(&scan("door-1.pdf", "x")), key(&scan("door-2.pdf", "x")));
    assert_ne!(key(&scan("a.pdf", "x")), key(&scan("a.pdf", "xy")));
    assert_eq!(key(&scan("a.pdf", "x")), key(&scan("a.pdf", "x")));
}

#[test]
fn a_conversation_is_the_base_and_replies_in_it_are_one_text() {
    let alert = |subject: &str, text: &str| {
        format!(
            "From: a@x.example\nSubject: {subject}\nReferences: <1@x> <2@x>\nIn-Reply-To: <2@x>\n\n{text}"
        )
    };
    assert_eq!(base(&alert("a", "b")), "thread:1@x");
    assert_eq!(base("Subject: a\nIn-Reply-To: <2@x>\n\nb"), "thread:2@x");
    // A tool that threads its mails tells several things in one thread.
    assert_ne!(key(&alert("a", "b")), key(&alert("a", "c")));
    assert_ne!(key(&alert("a", "b")), key(&alert("d", "b")));
    assert_eq!(key(&alert("Re: a", "I look into it")), key(&alert("AW: a", "so do I")));
    assert_ne!(key(&alert("Re: a", "b")), key(&alert("a", "b")));
    // What people say to each other pages once.
    assert_eq!(event(&alert("Re: a", "b")).repeat, Some(Repeat::Count));
    assert_eq!(event(&alert("a", "b")).repeat, None);
    // What is forwarded is no reply, and neither is a subject alone.
    assert_ne!(key(&alert("WG: a", "b")), key(&alert("WG: a", "c")));
    assert_ne!(key("From: a@x.example\nSubject: Re: a\n\nb"), key("From: a@x.example\nSubject: Re: a\n\nc"));
}

#[test]
fn each_mark_says_how_it_stands() {
    for (subject, mark, severity) in [
        ("[FIRING:2] x", Mark::Problem, Severity::High),
        ("[Alerting] x", Mark::Problem, Severity::High),
        ("[No Data] x", Mark::Problem, Severity::Medium),
        ("[WARNING] x", Mark::Problem, Severity::Medium),
        ("[Critical] x", Mark::Problem, Severity::Critical),
        ("PROBLEM: x", Mark::Problem, Severity::High),
        ("DOWN: x", Mark::Problem, Severity::High),
        ("FAILED: x", Mark::Problem, Severity::High),
        ("[PROBLEM] [CRITICAL] x", Mark::Problem, Severity::Critical),
        ("[RESOLVED] x", Mark::End, Severity::Low),
        ("[OK] x", Mark::End, Severity::Low),
        ("RECOVERY: x", Mark::End, Severity::Low),
        ("UP: x", Mark::End, Severity::Low),
        ("[Success] x", Mark::End, Severity::Low),
        ("[RESOLVED] [CRITICAL] x", Mark::End, Severity::Low),
    ] {
        let mail = format!("From: a@x.example\nSubject: {subject}\n\ntext");
        let event = event(&mail);
        assert_eq!(event.identity.guess.as_ref().unwrap().mark, Some(mark), "{subject}");
        assert_eq!(event.severity, Some(severity), "{subject}");
        let status = if mark == Mark::End { Status::Resolved } else { Status::New };
        assert_eq!(event.status, status, "{subject}");
        assert_eq!(base(&mail), base("From: a@x.example\nSubject: x\n\ntext"), "{subject}");
        assert_eq!(
            key(&mail),
            key("From: a@x.example\nSubject: x\n\ntext"),
            "{subject}: the mark is no text"
        );
    }
}

#[test]
fn a_word_that_is_no_mark_says_nothing() {
    for subject in [
        "Backup [OK]",
        "Resolved: your question",
        "Ok: fine",
        "UPS: battery",
        "[OKTA] login",
        "[SOC] [CRITICAL] x",
        "CRITICAL x",
        "Re: [OK] x",
        "ERRORS: 4",
    ] {
        let event = event(&format!("From: a@x.example\nSubject: {subject}\n\ntext"));
        assert_eq!(event.identity.guess.unwrap().mark, None, "{subject}");
        assert_eq!((event.status, event.severity), (Status::New, None), "{subject}");
    }
}

#[test]
fn a_strangers_end_is_a_new_page_of_low_severity_and_no_repeat_of_the_problem() {
    let mail =
        |mark: &str| format!("From: a@x.example\nSubject: {mark} brute force login on vpn01\n\nbrute force");
    let problem = event_from(STRANGER, "", &mail("[CRITICAL]"));
    let end = event_from(STRANGER, "", &mail("[SUCCESS]"));
    assert_eq!((end.status, end.severity), (Status::New, Some(Severity::Low)));
    let guess = end.identity.guess.unwrap();
    assert_eq!((guess.mark, &guess.base), (Some(Mark::End), &problem.identity.guess.unwrap().base));
    assert_ne!(end.external_id, problem.external_id);
    assert!(end.external_id.unwrap().starts_with(&format!("{}#", guess.base)));
}

#[test]
fn marks_say_nothing_where_a_rule_gave_the_key() {
    let own = "[[rule]]\nname = 'k'\nset = { external-id = 'k' }\n";
    let event = event_from("127.0.0.1", own, "From: a@x.example\nSubject: [OK] x\n\nb");
    assert_eq!((event.external_id.as_deref(), event.status), (Some("k"), Status::New));
    // Neither does the severity that came with the mark.
    assert_eq!((event.identity.guess, event.severity), (None, None));
}

#[test]
fn a_site_switches_marks_off_overrules_them_and_adds_its_own() {
    let mail = "From: a@x.example\nSubject: [OK] x\n\nb";
    let off = event_from("127.0.0.1", "[off]\nrules = ['Marks']\n", mail);
    assert_eq!((off.status, off.severity, off.identity.guess.unwrap().mark), (Status::New, None, None));

    let new = "[[rule]]\nname = 'it pages'\nset = { status = 'new' }\n";
    let overruled = event_from("127.0.0.1", new, mail);
    assert_eq!((overruled.status, overruled.identity.guess.unwrap().mark), (Status::New, None));

    let own = "[[rule]]\nname = 'gone'\nwhen = { subject = '^Alarm gone - (?<rest>.+)$' }\nset = { mark = 'end', about = '{{ rest }}' }\n";
    let gone = event_from("127.0.0.1", own, "From: a@x.example\nSubject: Alarm gone - pump 3\n\nb");
    assert_eq!(gone.status, Status::Resolved);
    assert_eq!(gone.identity.guess.unwrap().base, base("From: a@x.example\nSubject: [ALARM] pump 3\n\nb"));
}

#[test]
fn a_mail_that_a_status_would_close_without_a_key_pages() {
    let own = "[[rule]]\nname = 's'\nset = { status = 'resolved' }\n";
    let event = event_from("127.0.0.1", own, "From: a@x.example\nSubject: x\n\nb");
    assert_eq!((event.status, event.identity.guess.unwrap().mark), (Status::New, None));
}

#[test]
fn pieces_of_one_mail_keep_their_part() {
    let own = "[[rule]]\nname = 'r'\nset = { title = 'x' }\n";
    let split = format!("split = '^Alert'\n{own}");
    let mail = "From: a@x.example\nSubject: x\n\nAlert one\nAlert one\n";
    let judgement = judge_from("127.0.0.1", &split, Site::default(), mail);
    let bases: Vec<_> = judgement.events.iter().map(|e| e.identity.guess.clone().unwrap().base).collect();
    assert_eq!(bases.len(), 2);
    assert!(bases[0].ends_with("/1") && bases[1].ends_with("/2"), "{bases:?}");
}

#[test]
fn above_the_limit_the_text_stays_and_still_tells_alerts_apart() {
    let site = || Site { tlp_limit: Some(Tlp::Green), ..Site::default() };
    let of = |text: &str| {
        let mail = format!("From: a@x.example\nSubject: TLP:RED case\n\n{text}");
        let judgement = judge_from("127.0.0.1", "", site(), &mail);
        judgement.events[0].clone()
    };
    let (one, other) = (of("the secret plan"), of("another plan"));
    assert_ne!(one.external_id, other.external_id);
    assert!(!one.payload().contains("secret") && !one.payload().contains("case"), "{}", one.payload());
}

#[test]
fn an_automatic_answer_pages_nobody_unless_the_site_says_so() {
    let mail = "From: kim@x.example\nSubject: Automatic reply: x\nAuto-Submitted: auto-replied\nIn-Reply-To: <1@gw>\n\naway";
    let kept = judge_from("127.0.0.1", "", Site::default(), mail);
    assert_eq!(kept.dropped.unwrap().reason, "an automatic answer");
    let off = "[off]\nrules = ['Answers: an automatic answer pages nobody']\n";
    assert_eq!(judge_from("127.0.0.1", off, Site::default(), mail).events.len(), 1);
    // What answers nothing, and what a pack knows, is an alert.
    for alert in [
        mail.replace("In-Reply-To: <1@gw>\n", ""),
        mail.replace("auto-replied", "auto-generated"),
        mail.replace("Subject: Automatic reply: x", "Subject: ** PROBLEM Host Alert: web01 is DOWN **"),
    ] {
        assert_eq!(judge_from("127.0.0.1", "", Site::default(), &alert).events.len(), 1, "{alert}");
    }
}
