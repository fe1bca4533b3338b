//! Who comes in by way of something: a proxy, a relay, LMTP; and what a lenient listener makes of what it is
//! told. All through the real program, up to the event that SIGNL4 gets and the mail that the queue shows.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use support::{Gateway, PATIENCE, Process, Site, Smtp, run, standin};

/// A site that listens by the rules of `listener` alone.
async fn site(listener: &str) -> (smtp2signl4::standin::Standin, Site) {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    site.unset("smtp", "listen");
    site.append(&format!("[[smtp.listener]]\naddress = '127.0.0.1:0'\n{listener}\n"));
    (standin, site)
}

/// A connection that says `first` and hears the greeting, and all that is said to it until it is closed.
fn hears(gateway: &Gateway, first: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(first).unwrap();
    let mut heard = String::new();
    // A connection that is closed over what was not read is reset, which is no other answer.
    let _ = stream.read_to_string(&mut heard);
    heard
}

/// The id in the reply to the end of a mail.
fn id(reply: &str) -> String {
    reply.lines().find_map(|line| line.split_once("queued as ")).expect(reply).1.trim().to_owned()
}

/// What the queue shows of a mail.
fn shown(site: &Site, id: &str) -> Value {
    let output = run(site.command(&["queue", "show", id, "--json"]), "");
    serde_json::from_str(&output).unwrap()
}

const MAIL: &str = "MAIL FROM:<a@a.example>\r\nRCPT TO:<soc@b.example>\r\nDATA\r\nSubject: x\r\n\r\nX-S4-ExternalID: 7\r\n.\r\nQUIT\r\n";

#[tokio::test]
async fn the_client_is_the_one_that_the_proxy_names() {
    let (_standin, site) = site("proxies = ['127.0.0.1']").await;
    let gateway = site.start();
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f"[..],
        &[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 0, 25],
        &[4, 0, 0],
    ]
    .concat();
    for header in [&b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 25\r\n"[..], &v2] {
        let heard = hears(&gateway, &[header, b"EHLO client.example\r\n", MAIL.as_bytes()].concat());
        assert!(heard.starts_with("220 "), "{heard}");
        let client = &shown(&site, &id(&heard))["envelope"]["client"];
        assert_eq!((&client["address"], &client["relay"]), (&"203.0.113.9".into(), &"127.0.0.1".into()));
    }
    // The proxy's own look at whether somebody is here.
    let heard = hears(&gateway, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0QUIT\r\n");
    assert!(heard.starts_with("220 ") && heard.contains("\n221 "), "{heard}");
    let log = gateway.stop().join("\n");
    assert!(log.contains("\"client\":\"203.0.113.9\""), "{log}");
}

#[tokio::test]
async fn a_proxy_that_names_nobody_hears_nothing_and_no_one_else_is_asked() {
    let (_standin, first) = site("proxies = ['127.0.0.1']").await;
    let gateway = first.start();
    assert_eq!(hears(&gateway, b"EHLO client.example\r\nQUIT\r\n"), "");
    assert_eq!(hears(&gateway, b"PROXY TCP4 203.0.113.9\r\nQUIT\r\n"), "");
    let log = gateway.stop().join("\n");
    assert!(log.contains("did not begin with a PROXY header"), "{log}");

    let (_standin, second) = site("proxies = ['10.0.0.0/8']").await;
    let gateway = second.start();
    let heard = hears(&gateway, b"PROXY TCP4 10.0.0.1 10.0.0.1 4711 25\r\nQUIT\r\n");
    assert!(heard.starts_with("220 ") && heard.contains("\r\n500 5.5.1 "), "{heard}");
}

#[tokio::test]
async fn sessions_are_counted_for_the_client_and_not_for_its_proxy() {
    let (_standin, mut site) = site("proxies = ['127.0.0.1']").await;
    site.set("smtp", "max-sessions-per-client", "1");
    let gateway = site.start();
    let come = |address: &str| {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("PROXY TCP4 {address} 10.0.0.1 4711 25\r\n").as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        (stream, line)
    };
    let (_one, greeting) = come("203.0.113.9");
    let (_two, other) = come("203.0.113.10");
    assert!(greeting.starts_with("220 ") && other.starts_with("220 "), "{greeting}{other}");
    assert!(come("203.0.113.9").1.starts_with("421 4.7.0 "));
}

#[tokio::test]
async fn a_client_that_a_relay_names_is_trusted_only_by_its_own_address() {
    let (standin, site) = site("xclient = ['127.0.0.1']").await;
    let gateway = site.start();
    let mut ids = Vec::new();
    for address in ["203.0.113.9", "10.0.0.9"] {
        let mut relay = Smtp::connect(gateway.address()).unwrap();
        assert!(relay.say("EHLO relay").unwrap().contains("XCLIENT"));
        assert!(relay.say(&format!("XCLIENT ADDR={address} LOGIN=alice")).unwrap().starts_with("220 "));
        relay.say("EHLO client").unwrap();
        let mail = "Subject: x\nX-S4-ExternalID: taken\n\nText.\n";
        ids.push(id(&relay.mail("a@a.example", &["soc@b.example"], mail).unwrap()));
    }
    let client = &shown(&site, &ids[0])["envelope"]["client"];
    assert_eq!((&client["address"], &client["user"]), (&"203.0.113.9".into(), &"alice".into()));
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    let mut taken: Vec<bool> =
        events.iter().map(|event| event.payload["X-S4-ExternalID"] == "taken").collect();
    taken.sort_unstable();
    assert_eq!(taken, [false, true]);
}

#[tokio::test]
async fn lmtp_takes_a_mail_once_and_answers_for_each_recipient() {
    let (standin, site) = site("protocol = 'lmtp'").await;
    let gateway = site.start();
    let mut relay = Smtp::connect(gateway.address()).unwrap();
    assert!(relay.say("EHLO relay").unwrap().starts_with("500 "));
    assert!(relay.say("LHLO relay").unwrap().starts_with("250-"));
    let first = relay.mail("a@a.example", &["soc@b.example", "noc@b.example"], "Subject: x\n\ny\n").unwrap();
    assert_eq!(first, relay.reply().unwrap());
    let envelope = &shown(&site, &id(&first))["envelope"];
    assert_eq!(envelope["recipients"], serde_json::json!(["soc@b.example", "noc@b.example"]));
    tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert!(relay.say("QUIT").unwrap().starts_with("221 "));
    assert_eq!(standin.events().len(), 1);
}

#[tokio::test]
async fn what_a_lenient_listener_repaired_is_shown() {
    let (_standin, mut site) = site("lenient = true").await;
    site.set("log", "level", "'debug'");
    let gateway = site.start();
    let heard = hears(
        &gateway,
        b"EHLO\r\nMAIL FROM:plc@plant\r\nRCPT TO:soc\r\nDATA\r\nSubject: St\xf6rung\r\n\r\nx\r\n.\r\nQUIT\r\n",
    );
    let id = id(&heard);
    let page = run(site.command(&["queue", "show", &id]), "");
    for repair in [
        "MAIL FROM without brackets",
        "RCPT TO without brackets",
        "a greeting without a name",
        "8-bit characters in the header without SMTPUTF8",
    ] {
        assert!(page.contains(&format!("  repaired   {repair}\n")), "{page}");
    }
    assert!(page.contains("St\u{f6}rung"), "{page}");
    let counted = gateway.process().wait_for("line of the end of the session", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "disconnect").then(|| line["repaired"].as_u64())?
    });
    assert_eq!(counted, 4);
}

#[tokio::test]
async fn utf8_addresses_and_headers_reach_the_event() {
    let (standin, mut site) = site("").await;
    std::fs::create_dir(site.path("rules")).unwrap();
    let rule = "version = 1\n[source]\nname = 'own'\n[[rule]]\nname = 'all'\nset = { title = '{{ subject }}', message = '{{ sender }} {{ recipient }}' }\n";
    std::fs::write(site.path("rules/own.toml"), rule).unwrap();
    site.set("rules", "shipped", "false");
    let gateway = site.start();
    let mut client = Smtp::connect(gateway.address()).unwrap();
    assert!(client.say("EHLO client").unwrap().contains("SMTPUTF8"));
    assert!(client.say("MAIL FROM:<j\u{f6}rg@m\u{fc}ller.example> SMTPUTF8").unwrap().starts_with("250"));
    assert!(client.say("RCPT TO:<\u{7528}\u{6237}@\u{4f8b}\u{5b50}.example>").unwrap().starts_with("250"));
    client.say("DATA").unwrap();
    let text = "From: J\u{f6}rg <j\u{f6}rg@m\u{fc}ller.example>\r\nSubject: \u{8b66}\u{62a5} \u{fc}ber\r\n\r\nx\r\n.\r\n";
    client.write(text.as_bytes()).unwrap();
    let id = id(&client.reply().unwrap());
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    let payload = &events[0].payload;
    assert_eq!(payload["Title"], "\u{8b66}\u{62a5} \u{fc}ber");
    let message = payload["Message"].as_str().unwrap();
    for word in ["j\u{f6}rg@m\u{fc}ller.example", "\u{7528}\u{6237}@\u{4f8b}\u{5b50}.example"] {
        assert!(message.contains(word), "{payload}");
    }
    let envelope = &shown(&site, &id)["envelope"];
    assert_eq!(envelope["repairs"], Value::Null, "{envelope}");
}

#[tokio::test]
async fn a_notice_of_ours_comes_back_by_no_way() {
    let (standin, mut site) = site("").await;
    site.set("control", "socket", "'control'");
    let gateway = site.start();
    let notice = "Subject: SIGNL4 cannot be reached\nX-Smtp2signl4-Notice: 7\n\nx\n";
    let mut client = Smtp::connect(gateway.address()).unwrap();
    assert!(client.mail("", &["soc@b.example"], notice).unwrap().starts_with("554 5.4.6 "));
    let mut pipe = Process::spawn(site.command(&["submit", "soc"]), notice);
    assert_eq!(pipe.wait().code(), Some(65), "{:?}", pipe.lines());
    gateway.stop();
    assert_eq!(standin.events().len(), 0);
}
