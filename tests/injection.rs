//! What a peer writes never reaches a log line, a reply, an event or a listing as a control character: no line is
//! forged, no terminal obeys, nothing reads backwards.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;
use smtp2signl4::smtp::users;
use smtp2signl4::standin::Standin;
use support::tls::{self, Authority, Pair};
use support::{Gateway, PATIENCE, Site, Smtp, base64, run, standin};

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

/// Every poison by itself and all together, each around what it would forge.
fn poisons() -> impl Iterator<Item = String> {
    let all: String = POISON.iter().collect();
    POISON.iter().map(|c| format!("{c}{FORGED}{c}[2J")).chain([all])
}

/// Sends `bytes` in a session of their own and returns all that is answered.
fn answered(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may close it before all is sent.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    let said = String::from_utf8(said).expect("replies are ASCII");
    for line in said.split_inclusive("\r\n") {
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("no whole line: {line:?}"));
        assert_plain("a reply", line);
        assert!(line.is_ascii() && !line.contains(FORGED), "{line:?} to {bytes:?}");
    }
    said
}

/// The id of each mail that was taken.
fn ids(said: &str) -> impl Iterator<Item = String> {
    said.lines().filter_map(|line| line.split_once("queued as ")).map(|(_, id)| id.to_owned())
}

/// Octets as xtext, and as they stand in quoted-printable and in URLs but for the mark.
fn marked(mark: char, text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "{mark}{byte:02X}").unwrap();
        all
    })
}

/// What a client can say around `poison`, each in a session of its own.
fn sessions(poison: &str) -> Vec<Vec<u8>> {
    let word = format!("=?utf-8?Q?{}?=", marked('=', poison));
    let percent = marked('%', poison);
    let xtext = marked('+', poison);
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
    for word in [poison, &xtext] {
        let said =
            ["NAME", "PROTO", "ADDR", "LOGIN", "HELO"].map(|name| format!("XCLIENT {name}={word}\r\n"));
        sessions.push(format!(
            "{greeted}XCLIENT {word}={word}\r\n{}\
             MAIL FROM:<a@b>\r\nRCPT TO:<soc@site>\r\nDATA\r\nSubject: x\r\n\r\nDown.\r\n.\r\nQUIT\r\n",
            said.concat()
        ));
    }
    sessions.push(format!(
        "{greeted}MAIL FROM:<j\u{f6}rg{poison}@m\u{fc}ller.example> SMTPUTF8\r\nRCPT TO:<\u{fc}{poison}@site>\r\n\
         RCPT TO:<\"\u{fc} {poison}\"@site>\r\nDATA\r\nSubject: x\r\n\r\nDown.\r\n.\r\nQUIT\r\n"
    ));
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
    let mut sessions: Vec<Vec<u8>> = sessions.into_iter().map(String::into_bytes).collect();
    // Octets that are no UTF-8, and that terminals of eight bits obey.
    sessions.push(
        b"EHLO \x9b2J\r\n\x9d0;x\r\nMAIL FROM:<\x9b2J@b>\r\nMAIL FROM:<a@b>\r\nRCPT TO:<\x85@site>\r\nRCPT TO:<soc@site>\r\nDATA\r\n\
          Subject: \x9b2J\x85\xff\r\nFrom: \x9b <\x9b@b>\r\nX-\x9b: \x85\r\n\r\n\x9b2J\x85\xff\r\n.\r\nQUIT\r\n"
            .to_vec(),
    );
    sessions
}

/// What a proxy puts in front of a session with this poison.
type Header = fn(&str) -> Vec<u8>;

/// The address of clients that a proxy names.
const NAMED: &str = "192.0.2.9";

/// A header of version 2 that says everything which can be said beside the addresses, and says poison.
fn version_2(poison: &str) -> Vec<u8> {
    let value = |kind: u8, value: &[u8]| {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    };
    let text = poison.as_bytes();
    // Of TLS: that there was a certificate, and its version, common name, cipher, signature and key.
    let mut of_tls = vec![7, 0, 0, 0, 0];
    (0x21..=0x25).for_each(|kind| of_tls.extend(value(kind, text)));
    let mut rest = vec![192, 0, 2, 9, 10, 0, 0, 1, 0x12, 0x67, 0, 25];
    // ALPN, host, padding, id, namespace and one of no standard.
    [0x01, 0x02, 0x04, 0x05, 0x30, 0xe0].into_iter().for_each(|kind| rest.extend(value(kind, text)));
    rest.extend(value(0x20, &of_tls));
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &rest].concat()
}

/// Sessions with headers that name nobody, or are none.
fn strange_headers(poison: &str) -> Vec<Vec<u8>> {
    let mail = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<soc@site>\r\nQUIT\r\n";
    let mut path = poison.as_bytes().to_vec();
    path.resize(216, b'x');
    let unix = [b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8", &path[..], mail].concat();
    let wrong = [b"\r\n\r\n\0\r\nQUIT\n\x21\x7f\0\xd8", &path[..], mail].concat();
    let lines = ["UNKNOWN", "TCP4", "TCP4 192.0.2.9", "TCP6 ::1"];
    let lines =
        lines.into_iter().map(|start| format!("PROXY {start} {poison}\r\nEHLO c\r\nQUIT\r\n").into_bytes());
    lines.chain([unix, wrong]).collect()
}

/// Has a client say everything around every poison, in LMTP if that is spoken, and returns the mails that were taken.
fn poison(gateway: &Gateway, lmtp: bool, header: Header) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    for poison in poisons() {
        for session in sessions(&poison) {
            let session = if lmtp { in_lmtp(&session) } else { session };
            taken.extend(ids(&answered(gateway.address(), &[header(&poison), session].concat())));
        }
        if header(&poison).is_empty() {
            continue;
        }
        for session in strange_headers(&poison) {
            answered(gateway.address(), &session);
        }
    }
    taken
}

/// The session as it is in LMTP.
fn in_lmtp(session: &[u8]) -> Vec<u8> {
    let mut spoken = session.to_vec();
    for at in memchr::memmem::find_iter(session, "EHLO ") {
        spoken[at..at + 4].copy_from_slice(b"LHLO");
    }
    spoken
}

/// What an operator is shown of each mail, which must be plain: the lists, and the story of some.
fn assert_shown_plain(site: &Site, taken: &BTreeSet<String>) {
    let listing = run(site.command(&["queue", "list", "--state", "all"]), "");
    for line in listing.lines() {
        assert_plain("queue list", line);
    }
    assert!(taken.iter().any(|id| listing.contains(id.as_str())), "{listing}");
    for line in run(site.command(&["queue", "list", "--state", "all", "--json"]), "").lines() {
        assert_plain("queue list --json", line);
        serde_json::from_str::<Value>(line).unwrap();
    }
    for id in taken.iter().step_by(taken.len().div_ceil(30)) {
        for form in [&["queue", "show", id][..], &["queue", "show", id, "--json"]] {
            for line in run(site.command(form), "").lines() {
                assert_plain("queue show", line);
            }
        }
    }
}

/// Fails at a line of a log that is not one, or not plain.
fn assert_log_plain(log: &[String], what: &str) {
    for line in log {
        assert_plain("a line of the log", line);
        if line.starts_with('{') {
            let mut found = Vec::new();
            texts(&serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")), &mut found);
            found.iter().for_each(|text| assert_plain("a text of the log", text));
        } else {
            assert!(
                line.starts_with("20") && line.get(10..11) == Some("T"),
                "a line without a time: {line:?}"
            );
        }
    }
    let is_shown = |line: &String| line.contains("u{202e}") || line.contains("U+202E");
    assert!(log.iter().any(|line| is_shown(line) && line.contains(FORGED)), "nothing was logged of {what}");
}

/// Fails at a text of an event that is not plain.
fn assert_events_plain(standin: &Standin) {
    for event in standin.events() {
        let mut found = Vec::new();
        texts(&event.payload, &mut found);
        for line in found.iter().flat_map(|text| text.split(['\n', '\t'])) {
            assert_plain("an event", line);
        }
    }
}

/// A site on which each mail is an event, also where there are many and they are alike.
fn poisoned_site(standin: &Standin, format: &str, entry: &str) -> Site {
    let mut site = Site::new(standin);
    site.set("incidents", "storm", "false");
    site.set("incidents", "repeat", "'update'");
    site.unset("smtp", "listen");
    site.append(&format!("[[smtp.listener]]\naddress = '127.0.0.1:0'\n{entry}\n"));
    site.set("log", "format", format!("'{format}'"));
    site.set("log", "level", "'debug'");
    site.append("[[team]]\nname = 'soc'\nsecret-file = 'secret'\nrecipients = ['*@site']\n");
    site.unset("signl4", "secret-file");
    site
}

/// Poisons a gateway with this log format and these rules of entry, and returns its log. Each session begins with
/// `header`. Nothing of it is raw in what is answered, logged, shown or posted.
async fn poisoned(format: &str, entry: &str, header: Header) -> Vec<String> {
    let standin = standin().await;
    let mut site = poisoned_site(&standin, format, entry);
    if !header("").is_empty() {
        // No name server is to be asked about the client of a proxy.
        site.set("authenticity", "check", "false");
    }
    site.set("authenticity", "trusted-authserv-ids", "['relay.example']");
    site.set("smtp", "senders-deny", "'*@denied.example'");
    let gateway = site.start();
    let taken = poison(&gateway, entry.contains("lmtp"), header);
    assert!(taken.len() > POISON.len(), "only {} mails", taken.len());
    let events =
        standin.wait_for(|requests| requests.iter().filter(|r| r.event_id.is_some()).count() >= taken.len());
    tokio::time::timeout(PATIENCE, events).await.expect("an event for each mail");
    assert_shown_plain(&site, &taken);
    let log = gateway.stop();
    assert!(log.len() > 1000, "{}", log.len());
    assert_log_plain(&log, entry);
    assert!(
        standin.events().iter().any(|event| event.payload.to_string().contains(FORGED)),
        "poison does come in"
    );
    assert_events_plain(&standin);
    log
}

#[tokio::test]
async fn nothing_that_a_peer_writes_reaches_a_log_a_reply_or_an_event_raw() {
    poisoned("text", "", |_| Vec::new()).await;
}

#[tokio::test]
async fn nothing_that_a_relay_says_of_its_client_is_shown_raw() {
    let log = poisoned("json", "xclient = '127.0.0.0/8'\nlenient = true", |_| Vec::new()).await;
    assert!(log.iter().any(|line| line.contains("\"helo\":\"\\\"\\\\u{202e}")), "the relay is heard");
}

#[tokio::test]
async fn nothing_that_is_said_in_lmtp_is_shown_raw() {
    poisoned("json", "xclient = '127.0.0.0/8'\nprotocol = 'lmtp'", |_| Vec::new()).await;
}

#[tokio::test]
async fn nothing_that_a_proxy_says_of_its_client_is_shown_raw() {
    let log = poisoned("text", "proxies = '127.0.0.0/8'\npublic = true", version_2).await;
    assert!(log.iter().any(|line| line.contains(NAMED)), "the header is read");
}

/// What somebody may say who logs in as `name`, in the ways that there are.
fn logins(name: &str, password: &str) -> [String; 3] {
    let plain = base64(format!("\0{name}\0{password}"));
    [
        format!("AUTH PLAIN {plain}\r\n"),
        format!("AUTH PLAIN\r\n{plain}\r\n"),
        format!("AUTH LOGIN\r\n{}\r\n{}\r\n", base64(name), base64(password)),
    ]
}

#[tokio::test]
async fn a_name_that_somebody_logs_in_by_is_shown_plain() {
    let standin = standin().await;
    let users_of = |names: &[&str]| -> String {
        names.iter().map(|name| users::line(name, "right").unwrap() + "\n").collect()
    };
    // No name of ours has a control character, and this is the worst that it can have.
    let ours = format!("\u{202e}{FORGED}\u{2028}\u{200b}\u{feff}");
    let site = {
        let entry = "auth-without-tls = true\nproxies = '127.0.0.0/8'";
        let mut site = poisoned_site(&standin, "json", entry);
        std::fs::write(site.path("users"), users_of(&[&ours])).unwrap();
        site.set("smtp", "users", "'users'");
        site.set("authenticity", "check", "false");
        site
    };
    let gateway = site.start();
    // Each from an address of its own: who fails is answered late, and not at all in the end.
    let session = |at: usize, login: &str| {
        let mail =
            "MAIL FROM:<a@b>\r\nRCPT TO:<soc@site>\r\nDATA\r\nSubject: x\r\n\r\nDown.\r\n.\r\nQUIT\r\n";
        let [high, low] = [at / 250, at % 250];
        let head = format!("PROXY TCP4 192.0.{high}.{low} 10.0.0.1 4711 25\r\nEHLO c\r\n");
        answered(gateway.address(), format!("{head}{login}{mail}").as_bytes())
    };
    let wrong: Vec<String> = poisons().flat_map(|name| logins(&name, &name)).collect();
    let taken: BTreeSet<String> = std::thread::scope(|scope| {
        let (session, wrong) = (&session, &wrong);
        let threads: Vec<_> = (0..wrong.len())
            .map(|at| {
                scope.spawn(move || {
                    let said = session(at, &wrong[at]);
                    assert!(said.contains("\r\n535 5.7.8") || said.contains("\r\n501 5.5.2"), "{said}");
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        logins(&ours, "right")
            .iter()
            .flat_map(|login| {
                let said = session(500, login);
                assert!(said.contains("\r\n235 2.7.0 "), "{said}");
                ids(&said).collect::<Vec<_>>()
            })
            .collect()
    });
    assert_eq!(taken.len(), 3);
    for id in &taken {
        let story = run(site.command(&["queue", "show", id]), "");
        story.lines().for_each(|line| assert_plain("queue show", line));
        assert!(story.lines().any(|line| line.contains("user") && line.contains(FORGED)), "{story}");
    }
    let log = gateway.stop();
    let refused = log.iter().filter(|line| line.contains("login refused")).count();
    assert!(refused >= POISON.len(), "{refused}");
    assert_log_plain(&log, "logins");
}

#[tokio::test]
async fn a_name_in_a_client_certificate_is_shown_plain() {
    let standin = standin().await;
    let (authority, stranger) = (Authority::new("Test CA"), Authority::new("\u{202e}Another\u{1b}[2J"));
    let entry = "tls = 'implicit'\nrequire-auth = true";
    let mut site = poisoned_site(&standin, "json", entry);
    std::fs::write(site.path("ca.pem"), authority.pem()).unwrap();
    authority.sign("mx.example").write(site.path("").as_path(), "mx");
    site.set("smtp", "client-ca", "'ca.pem'");
    site.append("[[smtp.certificate]]\ncertificate = 'mx.pem'\nkey = 'mx.key'\n");
    let gateway = site.start();
    let connect = |pair: &Pair| {
        let stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        tls::handshake(stream, &authority.client(Some(pair)), "mx.example").and_then(Smtp::over)
    };
    let mut taken = BTreeSet::new();
    for poison in poisons() {
        for subject in [poison.clone(), format!("\r\n{poison}")] {
            let mut smtp = connect(&authority.sign_name(&subject)).unwrap();
            let reply =
                smtp.mail(&format!("{}@b", taken.len()), &["soc@site"], "Subject: x\n\nDown.\n").unwrap();
            taken.extend(ids(&reply));
        }
        assert!(connect(&stranger.sign_name(&poison)).is_err());
    }
    assert_eq!(taken.len(), 2 * poisons().count());
    for id in &taken {
        let story = run(site.command(&["queue", "show", id]), "");
        story.lines().for_each(|line| assert_plain("queue show", line));
        assert!(story.contains("  TLS        TLSv1.3 of CN="), "{story}");
    }
    let log = gateway.stop();
    assert_log_plain(&log, "certificates");
    assert_events_plain(&standin);
}
