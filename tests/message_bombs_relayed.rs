//! Mails made to hurt, sent to the real program by SMTP: each is taken and pages somebody, in bounded time and
//! memory. `tests/message_bombs.rs` has more of them, for the parser alone.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::fmt::Write;
use std::time::{Duration, Instant};

use support::{PATIENCE, Site, Smtp, base64, standin};

const MIB: usize = 1 << 20;

/// From the first byte of a mail to the reply that it is kept. Generous for a debug build on a busy machine; what
/// this guards against takes minutes and hours.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What the program may use at its peak, with mails of up to 25 MiB coming one after the other: each is there as it
/// came, decoded, and once more on its way into the spool.
const MEMORY_LIMIT: u64 = 200 << 20;

/// The same text again and again, up to a size.
fn fill(text: &str, size: usize) -> String {
    text.repeat(size / text.len())
}

/// Numbered texts one after the other.
fn numbered(count: usize, text: impl Fn(&mut String, usize)) -> String {
    (0..count).fold(String::new(), |mut all, at| {
        text(&mut all, at);
        all
    })
}

/// Lines of at most 76 characters.
fn folded(text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + text.len() / 38);
    for line in text.as_bytes().chunks(76) {
        lines.push_str(str::from_utf8(line).unwrap());
        lines.push('\n');
    }
    lines
}

/// A gzip file (RFC 1952) of this size that unpacks to about 158 times as much: one fixed block (RFC 1951 section
/// 3.2.6) of a zero and then, again and again, "the last byte 258 times".
fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let (mut bits, mut held) = (0_u32, 0);
    let mut push = |file: &mut Vec<u8>, code: &str| {
        for bit in code.bytes() {
            bits |= u32::from(bit == b'1') << held;
            held += 1;
            if held == 8 {
                file.push(bits as u8);
                (bits, held) = (0, 0);
            }
        }
    };
    push(&mut file, "110");
    push(&mut file, "00110000");
    while file.len() < size {
        push(&mut file, "1100010100000");
    }
    // The end of the block, up to a whole byte; the checksum is wrong, which nobody finds who does not unpack.
    push(&mut file, "00000000000000");
    file.extend([0; 8]);
    file
}

/// A mail with this Content-Type and body.
fn typed(content_type: &str, body: &str) -> String {
    format!("Content-Type: {content_type}\n\n{body}")
}

/// The bombs, each with its name: what stands below the fields of the mail that name it.
fn bombs() -> Vec<(&'static str, String)> {
    let nested = numbered(10_000, |all, at| {
        write!(all, "--b{at}\nContent-Type: multipart/mixed; boundary=b{}\n\n", at + 1).unwrap();
    });
    let digests = numbered(10_000, |all, at| {
        write!(all, "--d{at}\n\nContent-Type: multipart/digest; boundary=d{}\n\n", at + 1).unwrap();
    });
    let pieces = numbered(400, |all, at| write!(all, "; name*{at}*=%41").unwrap());
    let names = format!(
        "--x\nContent-Type: text/plain{pieces}\nContent-Disposition: attachment; filename*1=b; filename*0*=x''%; a*=x'{pieces}\n\n"
    );
    let attachment = |kind: &str, name: &str| {
        format!(
            "multipart/mixed; boundary=x\n\n--x\n\nDown.\n--x\nContent-Type: {kind}\nContent-Transfer-Encoding: base64\n\
             Content-Disposition: attachment; filename=\"{name}\"\n\n{}--x--\n",
            folded(&base64(gzip_bomb(10 * MIB)))
        )
    };
    vec![
        ("multiparts 10,000 deep", typed("multipart/mixed; boundary=b0", &nested)),
        ("digests 10,000 deep", typed("multipart/digest; boundary=d0", &digests)),
        ("messages 100,000 deep", fill("Content-Type: message/rfc822\n\n", 3 * MIB)),
        ("a million parts", typed("multipart/mixed; boundary=x", &"--x\n\na\n".repeat(1_000_000))),
        ("four million empty parts", typed("multipart/mixed; boundary=x", &"--x\n".repeat(4_000_000))),
        ("a line of 25 MiB", typed("text/plain", &"a".repeat(25 * MIB - 1024))),
        ("a line of 25 MiB of HTML", typed("text/html", &"a ".repeat(12 * MIB))),
        ("a field of 10 MiB", format!("X: {}\n\nDown.\n", fill("word ", 10 * MIB))),
        ("a folded field of 10 MiB", format!("To: {}\n\nDown.\n", fill("a@x,\n ", 9 * MIB))),
        ("a million fields", format!("{}\nDown.\n", "X: y\n".repeat(1_000_000))),
        ("encoded words", format!("Comments: {}\n\nDown.\n", fill("=?utf-8?Q?=C3=BC?=\n ", 9 * MIB))),
        ("encoded words cut short", format!("From: {}\n\nDown.\n", fill("=?utf-8?B?\n ", 9 * MIB))),
        ("elements of HTML without end", typed("text/html", &fill("<div>", 10 * MIB))),
        ("tables in tables", typed("text/html", &fill("<table><tr><td>", 10 * MIB))),
        ("an attribute without end", typed("text/html", &fill("<a b=\"", 10 * MIB))),
        ("entities", typed("text/html", &fill("&#1", 10 * MIB))),
        ("names in pieces", typed("multipart/mixed; boundary=x", &fill(&names, 9 * MIB))),
        ("gzip", format!("Content-Type: {}", attachment("application/gzip", "report.gz"))),
        ("gzip named as text", format!("Content-Type: {}", attachment("text/plain", "report.txt.gz"))),
        (
            "gzip as the content's encoding",
            format!("Content-Encoding: gzip\nContent-Type: {}", attachment("text/html", "a.svgz")),
        ),
        (
            "base64 in one line",
            typed("text/plain\nContent-Transfer-Encoding: base64", &fill("QUJD", 24 * MIB)),
        ),
        (
            "quoted-printable in one line",
            typed("text/plain\nContent-Transfer-Encoding: quoted-printable", &fill("=41", 24 * MIB)),
        ),
        ("characters without width", typed("text/plain; charset=utf-8", &fill("\u{200b}", 10 * MIB))),
    ]
}

#[tokio::test]
async fn every_bomb_is_kept_in_time_and_pages_somebody() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    // Each mail is to be an event, also where there are many.
    site.set("incidents", "storm", "false");
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    let mut slowest = ("", Duration::ZERO);
    let bombs = bombs();
    for (name, bomb) in &bombs {
        let content = format!("Subject: bomb\nFrom: a@x\nX-S4-ExternalID: {name}\n{bomb}");
        let began = Instant::now();
        let reply = smtp.mail("a@x", &["soc@x"], &content).unwrap();
        let took = began.elapsed();
        assert!(reply.starts_with("250 2.0.0"), "{name}: {reply}");
        assert!(took < TIME_LIMIT, "{name} took {took:?}");
        println!("{name}: {took:?}, peak {} MiB", gateway.process().peak_memory() >> 20);
        slowest = if took > slowest.1 { (name, took) } else { slowest };
    }
    let all = standin.wait_for_events(bombs.len() as u64);
    let events = tokio::time::timeout(PATIENCE, all).await.expect("an event for each bomb");
    for (name, _) in &bombs {
        let of_bomb: Vec<_> =
            events.iter().filter(|event| event.payload["X-S4-ExternalID"] == *name).collect();
        let [event] = of_bomb[..] else { panic!("{} events of {name}", of_bomb.len()) };
        let size = event.payload.to_string().len();
        assert!(size < 64 << 10, "the event of {name} has {size} bytes");
    }
    let peak = gateway.process().peak_memory();
    println!("slowest: {} in {:?}; peak of memory: {} MiB", slowest.0, slowest.1, peak >> 20);
    assert!(peak < MEMORY_LIMIT, "{} MiB", peak >> 20);
    gateway.stop();
}
