//! What a peer writes never reaches a log line, a reply, an event or a listing as a control character: no line is
//! forged, no terminal obeys, nothing reads backwards.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;
use smtp2signl4::standin::Standin;
use support::{Gateway, PATIENCE, Site, base64, run, standin};

/// Characters that end lines, command terminals, hide or turn text around: C0, DEL, C1, line separators, overrides
/// of the writing direction, and what has no width.
const POISON: &[char] = &[
    '\r',
    '\0',
    '\x07',
    '\x08',
    '\x0b',
    '\x0c',
    '\x1b',
    '\x7f',
    '\u{80}',
    '\u{85}',
    '\u{9b}',
    '\u{9d}',
    '\u{2028}',
    '\u{2029}',
    '\u{202a}',
    '\u{202e}',
    '\u{2066}',
    '\u{2069}',
    '\u{200b}',
    '\u{200e}',
    '\u{feff}',
    '\u{e0001}',
    '\u{ad}',
    '\n',
];

/// What would be seen at the start of a line if one could be forged.
const FORGED: &str = "FORGED";

/// Whether `c` may stand in what people and their terminals read.
fn is_plain(c: char) -> bool {
    !POISON.contains(&c) && !c.is_control()
}

/// Fails at the first character of `text` that may not be there.
fn assert_plain(what: &str, text: &str) {
    if let Some(c) = text.chars().find(|c| !is_plain(*c)) {
        panic!("{c:?} in {what}: {text:?}");
    }
}

/// Every text in `value`, the keys included.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(entries) => {
            for (key, item) in entries {
                found.push(key.clone());
                texts(item, found);
            }
        }
        _ => (),
    }
}

/// Sends `bytes` in a session of their own and returns all that is answered.
fn answered(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may close it before all is sent.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8(said).expect("replies are ASCII")
}

/// What a client can say around `poison`, each in a session of its own.
fn sessions(poison: &str) -> Vec<Vec<u8>> {
    let quoted = |text: &str| -> String {
        text.bytes().fold(String::new(), |mut all, byte| {
            write!(all, "={byte:02X}").unwrap();
            all
        })
    };
    let word = format!("=?utf-8?Q?{}?=", quoted(poison));
    let percent = poison.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02X}").unwrap();
        all
    });
    let greeted = "EHLO client.example\r\n";
    let mut sessions: Vec<String> = [
        format!("EHLO {poison}\r\n"),
        format!("HELO {poison}\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@elsewhere>\r\nDATA\r\n"),
        format!("EHLO [{poison}]\r\nMAIL FROM:<a@b> SIZE=999999999\r\n"),
        format!("{poison}\r\n{FORGED} {poison}\r\nNOOP {poison}\r\nVRFY {poison}\r\nHELP {poison}\r\n"),
        format!("{greeted}MAIL FROM:<{poison}@b>\r\nMAIL FROM:<a@{poison}> X={poison}\r\nMAIL FROM:<a@b> {poison}=1\r\n"),
        format!("{greeted}MAIL FROM:<\"{poison}\"@b>\r\nRCPT TO:<\"{poison}\"@site>\r\nRCPT TO:<a@{poison}>\r\n"),
        format!("{greeted}MAIL FROM:<a@b> AUTH={poison} SIZE=999999999\r\nRCPT TO {poison}\r\n"),
        format!("{greeted}MAIL FROM:<{poison}@denied.example>\r\nMAIL FROM:<a@b>\r\nRCPT TO:<{poison}nobody@elsewhere>\r\n"),
        format!("{greeted}AUTH PLAIN {}\r\n", base64(format!("{poison}\0{poison}\0{poison}"))),
        format!("{greeted}AUTH LOGIN\r\n{}\r\n{}\r\n", base64(poison), base64(poison)),
        format!("{greeted}AUTH {poison} {poison}\r\nSTARTTLS {poison}\r\nBDAT {poison}\r\nLHLO {poison}\r\n"),
        format!("{greeted}XCLIENT NAME={poison} ADDR={poison} HELO={poison} LOGIN={poison}\r\nXFORWARD NAME={poison}\r\n"),
        format!("PROXY TCP4 {poison} 192.0.2.1 1 2\r\n"),
    ]
    .into();
    // Mails of which events are made; their content may hold anything.
    for content in [
        format!("Subject: {poison}{FORGED}\r\nFrom: {poison} <{poison}@b>\r\n\r\n{poison}{FORGED}\r\n"),
        format!(
            "Subject: {word}\r\nFrom: {word} <a@b>\r\nTo: {word} <soc@site>\r\nMessage-ID: <{poison}>\r\n\r\nDown.\r\n"
        ),
        format!(
            "Subject: x\r\nX-S4-ExternalID: {poison}\r\nX-S4-Service: {word}\r\nX-S4-Status: {poison}\r\n{poison}: x\r\n\r\nDown.\r\n"
        ),
        format!(
            "Authentication-Results: relay.example {poison}; spf=pass smtp.mailfrom={poison}@b; dkim=pass ({poison}) \
             header.d={poison} header.s={poison}; dmarc=pass header.from={poison}\r\n\
             DKIM-Signature: v=1; d={poison}; s={poison}; b={poison}\r\nARC-Seal: i=1; d={poison}\r\n\
             Received: from {poison} ({poison} [192.0.2.1]) by {poison}; {poison}\r\nReceived-SPF: {poison}\r\n\
             From: {poison} <a@{poison}>\r\nSubject: x\r\n\r\nDown.\r\n"
        ),
        format!(
            "Subject: x\r\nX-S4-{poison}: {poison}\r\nX-S4-Location: {poison}\r\nX-S4-AlertingScenario: {poison}\r\n\r\nTitle: {poison}\r\n"
        ),
        format!(
            "Subject: x\r\nContent-Type: multipart/mixed; boundary=\"{poison}x\"\r\n\r\n--{poison}x\r\nContent-Type: text/{poison}; charset={poison}\r\n\
             Content-Disposition: attachment; filename*=utf-8''{percent}\r\n\r\nx\r\n--{poison}x--\r\n"
        ),
        format!(
            "Subject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<title>{poison}</title><p>&#x202e;&#27;&#x9b;{poison}<a href='http://x/{poison}'>y</a>\r\n"
        ),
        format!(
            "Subject: ** PROBLEM Service Alert: {poison}/{poison} is CRITICAL **\r\n\r\n***** Nagios *****\r\n\r\nNotification Type: PROBLEM\r\nService: {poison}\r\nHost: {poison}\r\n"
        ),
        format!(
            "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            base64(format!("{poison}{FORGED}"))
        ),
    ] {
        // Where the sender itself is no address, the mail comes by another.
        for sender in [poison, "a"] {
            sessions.push(format!(
                "EHLO {poison}\r\nRSET\r\nEHLO c\r\nMAIL FROM:<{sender}@b>\r\nMAIL FROM:<a@b>\r\nRCPT TO:<soc@site>\r\nRCPT TO:<{poison}@site>\r\nDATA\r\n"
            ) + &content + ".\r\nQUIT\r\n");
        }
    }
    sessions.into_iter().map(String::into_bytes).collect()
}

/// Has a client say everything around every poison and returns the number of mails that were taken.
fn poison(gateway: &Gateway, header: &str) -> usize {
    let mut taken = 0;
    let all: String = POISON.iter().collect();
    let text = |c: &char| format!("{c}{FORGED}{c}[2J");
    for poison in POISON.iter().map(text).chain([all]) {
        for session in sessions(&poison) {
            let said = answered(gateway.address(), &[header.as_bytes(), &session].concat());
            for line in said.split_inclusive("\r\n") {
                let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("no whole line: {line:?}"));
                assert_plain("a reply", line);
                assert!(line.is_ascii() && !line.contains(FORGED), "{line:?} to {session:?}");
                taken += usize::from(line.contains("queued as"));
            }
        }
    }
    taken
}

/// Runs a gateway with this log format and these rules of entry, poisons it, and returns its log. Each session begins
/// with `header`.
async fn poisoned(standin: &Standin, format: &str, entry: &str, header: &str) -> Vec<String> {
    let before = standin.taken() as usize;
    let mut site = Site::new(standin);
    // Each mail is to be an event, also where there are many and they are alike.
    site.set("incidents", "storm", "false");
    site.set("incidents", "repeat", "'update'");
    site.unset("smtp", "listen");
    site.append(&format!("[[smtp.listener]]\naddress = '127.0.0.1:0'\n{entry}\n"));
    if !header.is_empty() {
        // No name server is to be asked about the client of a proxy.
        site.set("authenticity", "check", "false");
    }
    site.set("log", "format", format!("'{format}'"));
    site.set("log", "level", "'debug'");
    site.set("authenticity", "trusted-authserv-ids", "['relay.example']");
    site.set("smtp", "senders-deny", "'*@denied.example'");
    site.append("[[team]]\nname = 'soc'\nsecret-file = 'secret'\nrecipients = ['*@site']\n");
    site.unset("signl4", "secret-file");
    let gateway = site.start();
    let taken = poison(&gateway, header);
    assert!(taken > POISON.len(), "only {taken} mails");
    let events = standin
        .wait_for(|requests| requests.iter().filter(|r| r.event_id.is_some()).count() >= before + taken);
    tokio::time::timeout(PATIENCE, events).await.expect("an event for each mail");

    let listing = run(site.command(&["queue", "list", "--state", "all"]), "");
    for line in listing.lines() {
        assert_plain("queue list", line);
    }
    let ids: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|id| id.len() == 12)
        .collect();
    assert!(!ids.is_empty(), "{listing}");
    for id in ids.iter().step_by(ids.len().div_ceil(20)) {
        for line in run(site.command(&["queue", "show", id]), "").lines() {
            assert_plain("queue show", line);
        }
    }
    let log = gateway.stop();
    assert!(
        log.iter().any(|line| line.contains("u{202e}") && line.contains(FORGED)),
        "nothing was logged of it"
    );
    log
}

#[tokio::test]
async fn nothing_that_a_peer_writes_reaches_a_log_a_reply_or_an_event_raw() {
    let standin = standin().await;
    let log = poisoned(&standin, "text", "", "").await;
    assert!(log.len() > 1000, "{}", log.len());
    for line in &log {
        assert_plain("a line of the log", line);
        assert!(line.starts_with("20") && line.get(10..11) == Some("T"), "a line without a time: {line:?}");
    }
    let relayed = poisoned(&standin, "json", "xclient = '127.0.0.0/8'\nlenient = true", "").await;
    let header = "PROXY TCP4 192.0.2.9 192.0.2.1 1024 25\r\n";
    let proxied = poisoned(&standin, "json", "proxies = '127.0.0.0/8'\npublic = true", header).await;
    assert!(proxied.iter().any(|line| line.contains("192.0.2.9")), "the header is read");
    for line in relayed.into_iter().chain(proxied) {
        assert_plain("a line of the log", &line);
        let mut found = Vec::new();
        texts(&serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}")), &mut found);
        found.iter().for_each(|text| assert_plain("a text of the log", text));
    }
    let events = standin.events();
    assert!(events.iter().any(|event| event.payload.to_string().contains(FORGED)), "poison does come in");
    for event in events {
        let mut found = Vec::new();
        texts(&event.payload, &mut found);
        for line in found.iter().flat_map(|text| text.split(['\n', '\t'])) {
            assert_plain("an event", line);
        }
    }
}
