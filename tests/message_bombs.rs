//! Mails made to hurt: each is parsed within bounded time on a small stack, and still makes a message.

mod support;

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use smtp2signl4::mail::{Message, visible};

const MIB: usize = 1024 * 1024;

/// The default max-message-size.
const LARGEST: usize = 25 * MIB;

/// Enough for what takes more than linear time to show.
const LARGE: usize = 5 * MIB;

/// Generous for a debug build on a busy machine; what these guard against takes minutes and hours.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Text that rules may see.
const TEXT_LIMIT: usize = MIB;

/// Parses on a stack of 2 MiB, which is what worker threads have.
fn defuse(name: &str, content: impl Into<Vec<u8>>) -> Message {
    let content = content.into();
    assert!(content.len() <= LARGEST + MIB, "{name} would not be accepted");
    let started = Instant::now();
    let work = move || {
        let message = Message::parse(&content);
        let _ = (message.own_text(), visible(&message.text), visible(&message.subject));
        message
    };
    let message = thread::Builder::new()
        .stack_size(2 * MIB)
        .spawn(work)
        .expect("a thread can be started")
        .join()
        .unwrap_or_else(|_| panic!("{name} made parsing panic"));
    let took = started.elapsed();
    println!("{name}: {took:?}, {} bytes of text, {:?}", message.text.len(), message.defects);
    assert!(took < TIME_LIMIT, "{name} took {took:?}");
    assert!(message.text.len() <= TEXT_LIMIT, "{name} made {} bytes of text", message.text.len());
    assert!(message.headers.len() <= 1_000 && message.attachments.len() <= 1_000, "{name}");
    message
}

/// A mail with this Content-Type and body.
fn mail(content_type: &str, body: &str) -> String {
    format!("Subject: bomb\nFrom: a@x\nContent-Type: {content_type}\n\n{body}")
}

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

#[test]
fn multiparts_nested_without_end() {
    let body = numbered(10_000, |all, at| {
        write!(all, "--b{at}\nContent-Type: multipart/mixed; boundary=b{}\n\n", at + 1).unwrap();
    });
    let message =
        defuse("multiparts 10,000 deep", mail("multipart/mixed; boundary=b0", &(body + "--b10000\n\ntext")));
    assert!(message.defects.iter().any(|defect| defect.contains("nested deeper")));
}

#[test]
fn messages_nested_without_end() {
    let messages = fill("Content-Type: message/rfc822\n\n", 3 * MIB);
    let message = defuse("messages 100,000 deep", format!("Subject: bomb\n{messages}"));
    assert!(message.defects.iter().any(|defect| defect.contains("nested deeper")));
    let digests = numbered(10_000, |all, at| {
        write!(all, "--d{at}\n\nContent-Type: multipart/digest; boundary=d{}\n\n", at + 1).unwrap();
    });
    defuse("digests 10,000 deep", mail("multipart/digest; boundary=d0", &digests));
}

#[test]
fn parts_without_number() {
    let small =
        mail("multipart/mixed; boundary=x", &("--x\n\nStatus: Down\n".to_owned() + &fill("--x\n\na\n", MIB)));
    let message = defuse("150,000 parts", small);
    assert!(message.text.starts_with("Status: Down\n\na\n\na"), "the first parts are read");
    assert!(message.defects.iter().any(|defect| defect.contains("more than")));
    defuse("empty parts only", mail("multipart/mixed; boundary=x", &fill("--x\n", LARGEST)));
}

#[test]
fn boundaries_that_never_come() {
    let parts = numbered(400_000, |all, at| {
        write!(all, "--x\nContent-Type: multipart/mixed; boundary=y{at}\n\n.\n").unwrap();
    });
    defuse("multiparts that never begin", mail("multipart/mixed; boundary=x", &parts));
    let long = "b".repeat(250);
    let nested = numbered(30, |all, _| {
        write!(all, "--{long}\nContent-Type: multipart/mixed; boundary={long}\n\n").unwrap();
    });
    let lines = fill(&format!("--{}\n", "b".repeat(249)), 20 * MIB);
    defuse("lines like the boundary", mail(&format!("multipart/mixed; boundary={long}"), &(nested + &lines)));
}

#[test]
fn one_line_as_large_as_the_mail() {
    let message = defuse("a line of text", mail("text/plain", &fill("a", LARGEST)));
    assert!(message.defects.iter().any(|defect| defect.contains("longer than")));
    assert!(visible(&message.text).len() < 300, "a run of one letter is cut");
    defuse("a line and no header", fill("a", LARGEST));
    defuse("a line of a header name", fill("a", LARGEST - 2) + ": b");
    defuse("a line of HTML", mail("text/html", &fill("a ", LARGEST)));
    for (encoding, body) in
        [("base64", "QUJD"), ("base64", "QUJ!"), ("quoted-printable", "=41"), ("quoted-printable", "=")]
    {
        let content_type = format!("text/plain\nContent-Transfer-Encoding: {encoding}");
        defuse(encoding, mail(&content_type, &fill(body, LARGE)));
        let content_type = format!("application/octet-stream\nContent-Transfer-Encoding: {encoding}");
        defuse(encoding, mail(&content_type, &fill(body, LARGE)));
    }
    for line in ["\n", "\r", "\r\n", " \n", "--\n", ">\n", "\0", "\u{202e}", "- \n \n", "On x\nwrote:\n>\n"] {
        defuse(&format!("nothing but {line:?}"), fill(line, LARGE));
        defuse(&format!("text of {line:?}"), mail("text/plain", &fill(line, LARGE)));
    }
}

#[test]
fn headers_without_end() {
    let message =
        defuse("a field of 10 MiB", format!("X: {}\nSubject: after\n\ntext", fill("word ", 10 * MIB)));
    assert_eq!(message.text, "text", "the text below a long header is read");
    let message = defuse("a folded field of 10 MiB", format!("To: {}\n\ntext", fill("a@x,\n ", 10 * MIB)));
    assert_eq!(message.text, "text");
    let message = defuse("a million fields", format!("Subject: s\n{}\ntext", fill("X: y\n", LARGE)));
    assert_eq!((message.subject.as_str(), message.text.as_str()), ("s", "text"));
    for name in ["To", "Subject", "References", "Received", "Content-Type", "Date"] {
        let flood = |value: &str| format!("{name}: {}\n", fill(value, 8 * 1024)).repeat(100);
        for value in
            ["(", "<", "\"", "\\", "a@x,", ":;", "a*1=b;", "<a@x>", "=?u?Q?", "=?u?Q?a?= ", "=?", "?=", "("]
        {
            defuse(&format!("{name} of {value:?}"), format!("{}\n\ntext", flood(value)));
        }
    }
}

#[test]
fn encoded_words_without_end() {
    let words = [
        "=?utf-8?Q?=C3=BC?= ",
        "=?utf-7?B?K0FBLQ==?=",
        "=?utf-8?Q?",
        "=?utf-8?B?\n ",
        "=?a?b?c?",
        "=?x*y?q??=\n ",
    ];
    for word in words {
        let message = defuse(&format!("words {word:?}"), format!("Subject: {}\n\ntext", fill(word, LARGE)));
        assert_eq!(message.text, "text");
        assert!(message.subject.len() <= 200 * 1024, "{}", message.subject.len());
    }
}

#[test]
fn parameters_without_end() {
    // RFC 2231: a name in many pieces, in every part.
    let pieces = numbered(400, |all, at| write!(all, "; name*{at}*=%41").unwrap());
    let languages = fill("; a*='x'", 4_000);
    for parameters in [pieces, languages, fill("; a=b", 4_000), fill("; a=\"", 4_000), fill(";(", 4_000)] {
        let part = format!(
            "--x\nContent-Type: text/plain{parameters}\nContent-Disposition: attachment{parameters}\n\n"
        );
        defuse(&parameters[..9], mail("multipart/mixed; boundary=x", &fill(&part, 9 * MIB)));
    }
}

#[test]
fn html_that_never_stops() {
    let numbers = numbered(200_000, |all, at| write!(all, " {at:x}=1").unwrap());
    let pages = [
        fill("<div>", LARGE),
        fill("<table><tr><td>", LARGE),
        fill("<blockquote>x", LARGE),
        fill("<p", LARGE),
        fill("<", LARGE),
        fill("</", LARGE),
        fill("<!--", LARGE),
        fill("<!-", LARGE),
        fill("<style>", LARGE),
        fill("<style></styl", LARGE),
        fill("<script><title><style>", LARGE),
        fill("<a b=\"", LARGE),
        fill("<a b='\"", LARGE),
        fill("<a href=http://x>", LARGE),
        fill("<a href=http://x><p>y", LARGE),
        fill("<td>", LARGE),
        fill("<tr><td>x<td>", LARGE),
        fill("<pre>\n", LARGE),
        fill("&", LARGE),
        fill("&amp", LARGE),
        fill("&#1", LARGE),
        fill("<img alt='&lt;'>", LARGE),
        fill("<br>", LARGE),
        fill("<hr>", LARGE),
        fill("\u{200c}", LARGE),
        fill("<p>x", LARGE),
        fill("<p>&nbsp;</p>", LARGE),
        fill("<p>x</p><br>", LARGE),
        fill("<tr><td>&nbsp;", LARGE),
        fill("<br>&nbsp; x", LARGE),
        format!("<p{numbers}>"),
    ];
    for page in pages {
        let message = defuse(&page[..page.len().min(24)], mail("text/html; charset=utf-8", &page));
        assert_eq!(message.subject, "bomb");
    }
}

#[test]
fn what_is_undone_may_be_there_without_end() {
    let long = "CAUTION: external mail. Do not click links. ";
    for text in [
        "https://urldefense.com/v3/__https://",
        "https://a.safelinks.protection.outlook.com/?url=https%3A%2F%2F",
        "https://a/",
        "&#39;",
        "&#x",
        "CAUTION: external mail\n\n",
        "________\nThis e-mail is confidential\n",
        "________\n",
        "This e-mail is confidential\n\n",
        "From: a@x.example\nSent: x\nSubject: y\n",
        "From: a@x.example\nSent: x\n",
        "---------- Forwarded message ---------\nFrom: a@x.example\nDate: x\nSubject: FW: y\n\n",
        "---- Forwarded message from a <a@x.example> ---\nFrom: root\nCreated: x\nSubject: y\n---- End forwarded message ---\n",
        "https://x.example<https://a.safelinks.protection.outlook.com/?url=https%3A%2F%2Fx.example>",
        "- you don't often get email from a <https://a> [https://a] (https://a) ",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: x\n\n",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: x\n\n-----BEGIN PGP SIGNATURE-----\n",
        "\x1b$B\x1b(B",
        "a very long line that was broken for its length and goes on \n",
        "> a \n",
        "\u{200f}\u{5d0}\u{2067}",
        "\u{200f}\n",
        "\u{a0}\n",
        "<br>",
        "<html><b>x</b>",
        long,
    ] {
        defuse(
            &format!("text of {text:?}"),
            mail("text/plain; charset=utf-8; format=flowed", &fill(text, LARGE)),
        );
        defuse(
            &format!("a forwarded text of {text:?}"),
            format!("Subject: FW: x\nFrom: a@x\n\n{}", fill(text, LARGE)),
        );
    }
    for (tag, size) in [("[EXT] ", MIB), ("*", MIB), ("Fwd: ", MIB), ("[external ", MIB), ("(", MIB)] {
        let message =
            defuse(&format!("tags {tag:?}"), format!("List-Id: <a.x>\nSubject: {}\n\ntext", fill(tag, size)));
        assert!(message.undone.iter().all(|line| line.len() < 70_000));
    }
}

/// Compressed RTF in `winmail.dat`: what it unpacks to is bounded, and so is the reading of it.
fn rich_text() {
    let sized = |bytes: &[u8]| u32::try_from(bytes.len()).expect("it is small").to_le_bytes().to_vec();
    let message = |kind: &[u8; 4], content: &[u8]| {
        let rtf = [[0; 8].as_slice(), kind, &[0; 4], content].concat();
        let property =
            [&[1, 0, 0, 0, 0x02, 0x01, 0x09, 0x10, 1, 0, 0, 0][..], &sized(&rtf), &rtf, &[0; 3]].concat();
        let head = [0x78, 0x9f, 0x3e, 0x22, 1, 0, 1, 0x03, 0x90, 0x06, 0];
        let stream = [&head[..], &sized(&property), &property, &[0; 2]].concat();
        let content_type = "application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64";
        mail(content_type, &support::base64(stream))
    };
    let repeated = |text: &str| format!("{{\\rtf1 {}", fill(text, LARGE));
    for text in ["{", "}", "{a", "\\par ", "\\u1?", "\\'41", "\\uc9\\u65 ", "{\\*\\x a}", "\\"] {
        defuse(&format!("RTF of {text:?}"), message(b"MELA", repeated(text).as_bytes()));
    }
    let words: Vec<u8> = [b"\0{\\rtf1 a".as_slice(), &[0xff, 0, 0x1f].repeat(LARGE / 3)].concat();
    defuse("RTF that grows as it is unpacked", message(b"LZFu", &words));
}

#[test]
fn letters_in_letters_and_envelopes_without_end() {
    let eml = |inner: &str, at: usize| {
        format!(
            "Subject: FW: x\nFrom: a@x\nContent-Type: multipart/mixed; boundary=b{at}\n\n--b{at}\nContent-Type: application/octet-stream; name=a.eml\n\n{inner}\n--b{at}--\n"
        )
    };
    let inner = mail("text/plain", &fill("Status: Down\n", LARGE));
    let nested = (0..2).fold(inner, |inner, at| eml(&inner, at));
    let message = defuse("letters in letters", nested);
    assert!(message.text.starts_with("Status: Down"));
    let note = message.wrapper.expect("both letters were opened").note;
    assert!(note.is_empty(), "what the file holds is no note: {note}");
    let deep = mail("text/plain", &fill("Status: Down\n", MIB));
    let deep = (0..40).fold(deep, |inner, at| eml(&inner, at));
    assert!(!defuse("letters 40 deep", deep).text.is_empty(), "what is not opened is still shown");
    let many = fill("--b\nContent-Type: message/rfc822\n\nSubject: y\n\nx\n", LARGE);
    let message = defuse("letters without number", mail("multipart/mixed; boundary=b", &many));
    assert!(message.enclosed.len() <= TEXT_LIMIT);
    let whole = fill("--b\nContent-Type: message/rfc822\n\nSubject: y\n\nx\n", MIB);
    defuse(
        "letters in a digest",
        mail(
            "multipart/digest; boundary=b",
            &(0..4).fold(whole, |inner, _| {
                format!("--b\n\nContent-Type: multipart/digest; boundary=b\n\n{inner}")
            }),
        ),
    );
    let cms = "application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: base64";
    // 30 80 without end, and lengths that say more than there is.
    for line in ["MIAwgDCAMIAwgDCAMIAwgDCAMIAwgDCA\n", "MIL/////MIL/////JIDgAAAA\n"] {
        defuse(&format!("CMS {line:?}"), mail(cms, &fill(line, LARGE)));
    }
    rich_text();
    let tnef = "application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64";
    let head = "eJ8+IgEA";
    for line in ["AQOQBgD/////////////////////////////\n", "AQyAAgAAAAAAAAABDIACAAAAAAAA\n"] {
        defuse(&format!("TNEF {line:?}"), mail(tnef, &format!("{head}{}", fill(line, LARGE))));
    }
}

#[test]
fn no_damage_to_a_mail_makes_parsing_panic() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
    let mut random = fastrand::Rng::with_seed(2026);
    for name in
        ["alertmanager/firing", "forwarded/rfc822-only", "malformed/encoded-words", "attachments/names"]
    {
        let mail = std::fs::read(folder.join(name).with_extension("eml")).unwrap();
        for _ in 0..500 {
            let mut damaged = mail.clone();
            for _ in 0..random.usize(1..20) {
                let at = random.usize(..damaged.len());
                match random.u8(..4) {
                    0 => damaged[at] = random.u8(..),
                    1 => damaged.truncate(at.max(1)),
                    2 => damaged.insert(at, *random.choice(b"\r\n-=?<>&;\"'(%* \0\xfc").unwrap()),
                    _ => drop(damaged.drain(at..(at + random.usize(..40)).min(damaged.len() - 1).max(at))),
                }
            }
            let message = Message::parse(&damaged);
            let _ = (message.own_text(), visible(&message.text));
        }
    }
}
