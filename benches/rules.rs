//! What judging costs: the shipped rules on their own sample mails, and 10 to 10,000 rules on a mail of
//! 4 KiB and one of 1 MiB, none of which or one in a hundred matches.
//! `cargo bench --bench rules` prints microseconds a mail.

use std::time::{Duration, Instant};

use smtp2signl4::diagnostic::Source;
use smtp2signl4::mail::{Envelope, Message};
use smtp2signl4::rules::{Config, RuleSet, Subject, shipped};

fn main() {
    let envelope = Envelope {
        received_at: jiff::Timestamp::UNIX_EPOCH,
        origin: smtp2signl4::mail::Origin::Smtp,
        client: smtp2signl4::mail::Client { address: Some([127, 0, 0, 1].into()), ..Default::default() },
        reverse_path: "a@a.example".to_owned(),
        recipients: vec!["soc@gw.example".to_owned()],
        ..Envelope::default()
    };
    let rules = load(&shipped());
    println!("shipped rules, µs a mail:");
    for name in [
        "thehive4/case-created",
        "thehive5/case-closed",
        "cortex-mailer/case",
        "signl4/native-new",
        "prtg/down",
        "wazuh/several",
    ] {
        let content = std::fs::read(format!("{}/tests/mail/{name}.eml", env!("CARGO_MANIFEST_DIR")));
        let message = Message::parse(&content.expect("the sample mails are there"));
        println!("  {name:28} {:9.1}", micros(&rules, &message, &envelope));
    }
    println!("  rules     loaded in   4 KiB none  4 KiB 1%   1 MiB none");
    for count in [10, 100, 1_000, 10_000] {
        let started = Instant::now();
        let rules = load(&[Source::new("bench.toml", file(count))]);
        let loaded = started.elapsed();
        let times: Vec<f64> = [(4 << 10, false), (4 << 10, true), (1 << 20, false)]
            .map(|(size, hits)| micros(&rules, &mail(size, count, hits), &envelope))
            .into();
        println!("{count:7} {:10.0?} {:12.1} {:10.1} {:12.1}", loaded, times[0], times[1], times[2]);
    }
}

fn load(sources: &[Source]) -> RuleSet {
    RuleSet::load(sources, Config::default().site(Vec::new(), vec!["soc".to_owned()])).unwrap_or_else(
        |found| {
            panic!("{}", found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect::<String>());
        },
    )
}

/// Rules as sites write them: a subject, a line of the text, keywords.
fn file(count: usize) -> String {
    let mut text = "version = 1\n[source]\nname = \"bench\"\n".to_owned();
    for at in 0..count {
        let when = match at % 3 {
            0 => format!("subject = '^\\[PROBLEM\\] (?<what>\\S+) on host{at} is (?<state>[A-Z]+)'"),
            1 => format!("text = '^Service: (?<service>.+) on host{at}$', subject = 'is (?<state>[A-Z]+)'"),
            _ => format!("text = {{ any-word = [\"host{at}\", \"switch{at}\"] }}"),
        };
        text.push_str(&format!(
            "[[rule]]\nname = \"rule {at}\"\nwhen = {{ {when} }}\nset = {{ service = \"S{at}\", tile.Host = \"host{at}\" }}\n"
        ));
    }
    text
}

/// A mail of log lines; with `hits`, one in a hundred of the rules holds.
fn mail(size: usize, count: usize, hits: bool) -> Message {
    let mut text = String::new();
    if hits {
        (0..count / 100).for_each(|at| text.push_str(&format!("switch{} is down\n", at * 3 + 2)));
    }
    let mut at = 0;
    while text.len() < size {
        text.push_str(&format!(
            "Nov 20 18:04:{:02} web{at} sshd[{at}]: Service: ssh, user admin is CRITICAL\n",
            at % 60
        ));
        at += 1;
    }
    let subject = "[PROBLEM] ssh on server7 is CRITICAL".to_owned();
    Message { subject, text, size, ..Message::default() }
}

/// Microseconds for one judgement, over half a second of them.
fn micros(rules: &RuleSet, message: &Message, envelope: &Envelope) -> f64 {
    let subject = Subject { message, envelope, team: "soc" };
    rules.judge(&subject);
    let started = Instant::now();
    let mut runs = 0;
    while started.elapsed() < Duration::from_millis(500) {
        std::hint::black_box(rules.judge(&subject));
        runs += 1;
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(runs)
}
