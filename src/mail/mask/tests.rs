//! What is masked and what is not, as `rules/README.md` says it, and the laws of masks.

use fastrand::Rng;

use super::masked;

/// The rows of the two tables of `rules/README.md`: what it is, and two texts.
fn table(heading: &str) -> Vec<(String, String, String)> {
    let page = include_str!("../../../rules/README.md");
    let rows = page.lines().skip_while(|line| !line.starts_with(&format!("| {heading} |"))).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let [_, what, one, other, _] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let text = |cell: &str| cell.trim().trim_matches('`').to_owned();
            (what.trim().to_owned(), text(one), text(other))
        })
        .collect()
}

#[test]
fn the_texts_that_the_page_calls_the_same_are_the_same() {
    let rows = table("masked");
    assert!(rows.len() >= 6, "the table is gone");
    for (what, one, other) in rows {
        assert_ne!(one, other, "{what}");
        assert_eq!(masked(&one), masked(&other), "{what}: {one}");
    }
}

#[test]
fn the_texts_that_the_page_calls_different_differ() {
    let rows = table("never masked");
    assert!(rows.len() >= 8, "the table is gone");
    for (what, one, other) in rows {
        assert_ne!(masked(&one), masked(&other), "{what}: {one}");
    }
}

#[test]
fn each_form_of_a_masked_thing_is_found() {
    for (text, shown) in [
        ("on 2026-11-30 at 10:00", "on ⟨date⟩ at ⟨time⟩"),
        ("[2026-11-30T10:00:00.123Z] down", "[⟨date⟩] down"),
        ("date=2026-11-30 time=10:00:00 level=alert", "date=⟨date⟩ time=⟨time⟩ level=alert"),
        ("Mon, 30 Nov 2026 10:00:00 +0100", "⟨date⟩ ⟨time⟩ +0100"),
        ("Nov 30 10:00:00 web01 sshd[812]: x", "⟨date⟩ ⟨time⟩ web01 sshd[812]: x"),
        ("Mon Nov 30 10:00:00 CET 2026.", "⟨date⟩."),
        ("Montag, 30. November 2026, 10:00 Uhr", "⟨date⟩, ⟨time⟩ Uhr"),
        ("30/Nov/2026:10:00:00", "⟨date⟩"),
        ("11/30/26, 6:04:05 PM", "⟨date⟩, ⟨time⟩"),
        ("November 30th, 2026", "⟨date⟩"),
        ("2026-11-30,10:00:00,CRITICAL,web01", "⟨date⟩,CRITICAL,web01"),
        ("Zeit:10:00:00", "Zeit:⟨time⟩"),
        ("eventtime=1796029200123456789 x", "eventtime=⟨date⟩ x"),
        ("disk at 93% (93.5 %), -2,5 percent", "disk at ⟨percent⟩ (⟨percent⟩), ⟨percent⟩"),
        ("1.5GB of 2 TiB, 1,024 bytes", "⟨size⟩ of ⟨size⟩, ⟨size⟩"),
        ("down for 5m 30s", "down for ⟨duration⟩"),
        ("down for 1h30m", "down for ⟨duration⟩"),
        ("up 2 days, 3 hours and 4 minutes.", "up ⟨duration⟩."),
        ("Dauer: 5 Minuten", "Dauer: ⟨duration⟩"),
        ("Duration: 90s", "Duration: ⟨duration⟩"),
        ("up 2d 3h", "up ⟨duration⟩"),
        ("Event ID: 1234567", "Event ID: ⟨id⟩"),
        ("\"eventId\": \"7f3a9c21\"", "\"eventId\": \"⟨id⟩\""),
        ("X-Request-Id: 0d6f2f52-8d0c-4d1e-9d2f-3c5b1e0a7f11", "X-Request-Id: ⟨id⟩"),
        ("Message-ID: <a1@x.example>", "Message-ID: <⟨id⟩>"),
        ("trace_id=4bf92f3577b34da6a3ce929d0e0e4736", "trace_id=⟨id⟩"),
        ("notification number #1234567", "notification number ⟨id⟩"),
        ("a \n\n  b\t", "a b"),
    ] {
        assert_eq!(masked(text), shown, "{text}");
    }
}

#[test]
fn what_may_be_a_name_stays() {
    for text in [
        "192.0.2.7 10.11.2026.1 fe80::10:20 fe80:10:20 00:11:22:33:44:55 web01:8080 localhost:8080",
        "port 10:24, Slot 12:01, 1:24 1:2:3",
        "version 10.11.2026",
        "/var/log/2026-11-30.log /2026/11/30/ C:\\logs\\5% https://x.example/?at=10:00:00&free=5%",
        "app-2026-11-30.log 2026-11-30.tar.gz 20261130 20261130100000",
        "kim+5%@ops.example <2026-11-30@x>",
        "Drive 4, PSU 1, fan 2, unit 5m, rack 3d, iPhone 5s, 5G, 10G, 3 M",
        "Event ID: 4625, Message ID: PSU0001, MessageID: Alert.1.0.PSU0001, event 1234567",
        "Ticket 1234567, case id 1234567, problem id: 1234567, serial 1234567, log id 0100032002",
        "sha256 4bf92f3577b34da6a3ce929d0e0e4736, request a, Nov 30, May 4 people",
        "⟨date⟩ ⟨id⟩",
    ] {
        assert_eq!(masked(text), text);
    }
}

/// One thing that is masked, in one of its forms.
fn changing(rng: &mut Rng, form: usize) -> String {
    let two = |rng: &mut Rng, most: u8| format!("{:02}", rng.u8(1..=most));
    match form {
        0 => format!("20{:02}-{}-{}", rng.u8(10..40), two(rng, 12), two(rng, 28)),
        1 => format!("{}.{}.20{:02}", two(rng, 28), two(rng, 12), rng.u8(10..40)),
        2 => format!("{}:{}:{}", two(rng, 23), two(rng, 59), two(rng, 59)),
        3 => format!("{}.{}%", rng.u8(..), rng.u8(..10)),
        4 => format!("{} MB", rng.u16(1..)),
        5 => format!("{} minutes", rng.u16(2..)),
        6 => format!("Event ID: {}", rng.u64(100_000..)),
        7 => format!("request_id={:016x}1", rng.u64(..)),
        8 => format!("Mon, {} Nov 20{:02}", rng.u8(1..29), rng.u8(10..40)),
        _ => format!("for {}m", rng.u8(1..60)),
    }
}

/// One thing that is never masked.
fn lasting(rng: &mut Rng) -> String {
    let n = rng.u8(..);
    match rng.u8(..12) {
        0 => format!("192.0.2.{n}"),
        1 => format!("web{n}.ops.example"),
        2 => format!("user{n}@ops.example"),
        3 => format!("{:032x}", rng.u128(..)),
        4 => format!("S/N:WD-{n}"),
        5 => format!("/var/log/2026-11-{n}"),
        6 => format!("port {n}"),
        7 => format!("PSU {n}"),
        8 => format!("ticket #{n}"),
        9 => format!("case {n}"),
        10 => format!("fe80::{n:x}:10"),
        _ => format!("word{n}"),
    }
}

const FORMS: usize = 10;

#[test]
fn changing_a_masked_thing_never_changes_a_text_and_changing_anything_else_does() {
    for seed in 0..2_000 {
        let rng = &mut Rng::with_seed(seed);
        let forms: Vec<Option<usize>> =
            (0..rng.usize(1..12)).map(|_| rng.bool().then(|| rng.usize(..FORMS))).collect();
        let same: Vec<String> = forms.iter().map(|_| lasting(rng)).collect();
        let text = |rng: &mut Rng, same: &[String]| -> String {
            let parts = forms
                .iter()
                .zip(same)
                .map(|(form, same)| form.map_or_else(|| same.clone(), |f| changing(rng, f)));
            parts.collect::<Vec<_>>().join(" - ")
        };
        let (one, other) = (text(rng, &same), text(rng, &same));
        assert_eq!(masked(&one), masked(&other), "seed {seed}:\n{one}\n{other}");
        let Some(at) = forms.iter().position(Option::is_none) else { continue };
        let mut changed = same.clone();
        while changed[at] == same[at] {
            changed[at] = lasting(rng);
        }
        assert_ne!(masked(&one), masked(&text(rng, &changed)), "seed {seed}: {} {}", same[at], changed[at]);
    }
}

#[test]
fn masking_again_changes_nothing() {
    const ATOMS: &[&str] = &[
        " ",
        "\n",
        ",",
        ":",
        "=",
        ".",
        "(",
        "<",
        "\"",
        "%",
        "/",
        "@",
        "-",
        "10",
        "2026",
        "11",
        "30",
        "5m",
        "for",
        "Nov",
        "Mon",
        "am",
        "id",
        "event",
        "GB",
        "hours",
        "and",
        "10:00",
        "2026-11-30",
        "1234567",
        "port",
        "time",
        "CET",
        "1796029200",
        "1h30m",
        "11/30/26",
        "⟨date⟩",
        "ä",
        "x",
    ];
    for seed in 0..20_000 {
        let rng = &mut Rng::with_seed(seed);
        let text: String = (0..rng.usize(1..14)).map(|_| ATOMS[rng.usize(..ATOMS.len())]).collect();
        let once = masked(&text);
        assert_eq!(masked(&once), once, "seed {seed}: {text:?}");
    }
}

#[test]
fn no_text_takes_more_than_linear_time() {
    for part in ["5 ", "1 day, ", "10:", "=", ",", "a=", "event id ", "⟨", "Nov 30 ", "1h", "5% "] {
        let text = part.repeat((64 << 10) / part.len());
        let begun = std::time::Instant::now();
        masked(&text);
        assert!(begun.elapsed().as_secs() < 20, "{part:?} took {:?}", begun.elapsed());
    }
}
