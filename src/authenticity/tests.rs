//! The checker on mails that the tests sign themselves, with a zone in memory.

mod clouds;
mod dns;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mail_auth::arc::ArcSealer;
use mail_auth::common::crypto::{Ed25519Key, HashAlgorithm, SigningKey};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use mail_auth::{AuthenticatedMessage, AuthenticationResults};

use super::*;
use crate::diagnostic::Source;
use crate::document;
use crate::mail::{Client, Tls};

/// A client on the Internet, that SPF of `SPF` lets send.
const OUTSIDE: &str = "203.0.113.9";

const SPF: &str = "v=spf1 ip4:203.0.113.0/24 -all";

const MAIL: &str = "From: Zabbix <zabbix@example.org>\r\nTo: soc@site.example\r\nSubject: Resolved: disk full\r\n\r\nIt is well.\r\n";

/// A domain's key: made for the test, so that none lies in the tree.
struct Key(Vec<u8>);

impl Key {
    fn new() -> Self {
        Self(Ed25519Key::generate_pkcs8().unwrap())
    }

    fn get(&self) -> Ed25519Key {
        Ed25519Key::from_pkcs8_der(&self.0).unwrap()
    }

    fn record(&self) -> String {
        format!("v=DKIM1; k=ed25519; p={}", base64(&self.get().public_key()))
    }

    /// A resolver that knows this key as `s._domainkey.DOMAIN`, and `others`.
    fn zone(&self, domain: &str, others: &[(&str, &str, &str)]) -> Resolver {
        let (name, record) = (format!("s._domainkey.{domain}"), self.record());
        let mut records = vec![(name.as_str(), "TXT", record.as_str())];
        records.extend(others);
        Resolver::fixed(&records)
    }

    /// `MAIL` under a signature of `domain` over `headers`.
    fn signed(&self, domain: &str, headers: &[&str]) -> String {
        let signer = DkimSigner::from_key(self.get()).domain(domain).selector("s").headers(headers.to_vec());
        format!("{}{MAIL}", signer.sign(MAIL.as_bytes()).unwrap().to_header())
    }

    /// A DKIM-Signature with any tags over From, Subject and the body, all as they are in relaxed form.
    fn signature(&self, tags: &str, signed: &str, body: &str) -> String {
        let hash = HashAlgorithm::Sha256.hash(body.as_bytes());
        let value = format!(
            "v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org; s=s; {tags}; bh={}; b=",
            base64(hash.as_ref())
        );
        let data = format!("{signed}dkim-signature:{value}");
        format!("DKIM-Signature: {value}{}\r\n", base64(&self.get().sign(data.as_bytes()).unwrap()))
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..4).map(
            move |at| {
                if at > chunk.len() { '=' } else { DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char }
            },
        )
    });
    digits.collect()
}

fn envelope(client: &str, from: &str) -> Envelope {
    let client = Client {
        address: Some(client.parse::<IpAddr>().unwrap()),
        helo: "out.example.org".into(),
        ..Client::default()
    };
    Envelope { client, reverse_path: from.into(), ..Envelope::default() }
}

fn checker(config: Config, resolver: Resolver) -> Checker {
    Checker::new(config, Network::private(), resolver)
}

/// What is found of a mail from outside.
async fn found(resolver: Resolver, content: &str) -> Authenticity {
    let envelope = envelope(OUTSIDE, "zabbix@example.org");
    let content = Bytes::copy_from_slice(content.as_bytes());
    checker(Config::default(), resolver).examine(&envelope, &content).await.expect("it is from outside")
}

#[tokio::test]
async fn a_signature_of_the_domain_in_from_proves_it() {
    let key = Key::new();
    let mail = key.signed("example.org", &["From", "Subject", "To"]);
    let all = found(key.zone("example.org", &[]), &mail).await;
    assert_eq!((all.dkim, all.dmarc, all.spf), (Verdict::Pass, Verdict::None, Verdict::None));
    assert_eq!(all.dkim_domains, ["example.org"]);
    assert_eq!(all.proven.as_deref(), Some("example.org"));

    let dmarc = ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject");
    let all = found(key.zone("example.org", &[dmarc]), &mail).await;
    assert_eq!((all.dmarc, all.policy), (Verdict::Pass, Some(Policy::Reject)));
    assert_eq!(all.proven.as_deref(), Some("example.org"));
}

#[tokio::test]
async fn a_signature_of_another_domain_proves_nothing() {
    let key = Key::new();
    let mail = key.signed("evil.example", &["From", "Subject"]);
    for record in [None, Some(("_dmarc.example.org", "TXT", "v=DMARC1; p=none"))] {
        let others: Vec<_> = record.into_iter().collect();
        let all = found(key.zone("evil.example", &others), &mail).await;
        assert_eq!((all.dkim, all.proven), (Verdict::Pass, None));
    }
    // One below the domain may be anybody's, until DMARC says that the two belong together.
    let mail = key.signed("mail.example.org", &["From", "Subject"]);
    assert_eq!(found(key.zone("mail.example.org", &[]), &mail).await.proven, None);
    let dmarc = ("_dmarc.example.org", "TXT", "v=DMARC1; p=none");
    assert!(found(key.zone("mail.example.org", &[dmarc]), &mail).await.proven.is_some());
}

#[tokio::test]
async fn a_changed_mail_does_not_pass() {
    let key = Key::new();
    let mail = key.signed("example.org", &["From", "Subject", "To"]);
    for (from, to) in [("It is well", "It is not"), ("disk full", "disk empty"), ("zabbix@", "admin@")] {
        let all = found(key.zone("example.org", &[]), &mail.replace(from, to)).await;
        assert!(matches!(all.dkim, Verdict::Fail | Verdict::Neutral), "{from}: {all}");
        assert_eq!(all.proven, None);
    }
}

#[tokio::test]
async fn relaxed_forgives_white_space_and_simple_does_not() {
    let key = Key::new();
    for (form, verdict) in
        [(Canonicalization::Relaxed, Verdict::Pass), (Canonicalization::Simple, Verdict::Fail)]
    {
        let signer = DkimSigner::from_key(key.get())
            .domain("example.org")
            .selector("s")
            .headers(["From", "Subject"])
            .header_canonicalization(form)
            .body_canonicalization(form);
        let signature = signer.sign(MAIL.as_bytes()).unwrap().to_header();
        let folded = MAIL.replace("Subject: Resolved: disk", "Subject:  Resolved:\r\n disk");
        assert_eq!(
            found(key.zone("example.org", &[]), &format!("{signature}{MAIL}")).await.dkim,
            Verdict::Pass
        );
        assert_eq!(found(key.zone("example.org", &[]), &format!("{signature}{folded}")).await.dkim, verdict);
    }
}

#[tokio::test]
async fn a_signature_that_covers_too_little_is_policy() {
    let key = Key::new();
    let zone = || key.zone("example.org", &[("_dmarc.example.org", "TXT", "v=DMARC1; p=none")]);
    let sound = key.signed("example.org", &["From", "Subject"]);
    let long = |length: usize| {
        let tags = format!("h=from:subject; l={length}");
        let signed = "from:Zabbix <zabbix@example.org>\r\nsubject:Resolved: disk full\r\n";
        format!("{}{MAIL}", key.signature(&tags, signed, "It is well.\r\n"))
    };
    let mut cases = vec![
        (key.signed("example.org", &["From", "To"]), "no subject"),
        (key.signed("example.org", &["Subject"]), "no From"),
        (format!("Subject: Resolved: all\r\n{sound}"), "a second subject"),
        (format!("From: a@example.org\r\n{sound}"), "a second From"),
        (format!("X-S4-Status: resolved\r\n{sound}"), "a parameter that nobody signed"),
        (format!("\r\n{sound}"), "blank lines above the header"),
        (format!("From zabbix@example.org Mon Jan 1\r\n{sound}"), "an mbox line"),
        (sound.replace("Subject: ", "Subject : "), "a field that others would not know"),
        (sound.replace("\r\n\r\n", "\r\nAll resolved\r\n\r\n"), "a line that only some take for text"),
        (sound.replace("\r\n\r\n", "\r\n \r\n\r\n"), "a line that only some take for the end of the header"),
        (long(13), "a length, of the whole body"),
        (long(13) + "Added.\r\n", "a length, and more body"),
    ];
    // What is signed twice cannot be added once more; where it is, the signature itself fails.
    cases.push((format!("X-S4-Status: new\r\nX-S4-Status: new\r\n{sound}"), "a parameter twice"));
    for (mail, why) in cases {
        let all = found(zone(), &mail).await;
        assert_ne!(all.dkim, Verdict::Pass, "{why}");
        assert_eq!((all.proven, all.dkim_domains.len()), (None, 0), "{why}");
        assert_ne!(all.dmarc, Verdict::Pass, "{why}");
    }
    let all = found(zone(), &sound).await;
    assert_eq!((all.dkim, all.unsigned), (Verdict::Pass, vec!["to".to_owned()]));
    // What is left out besides is for the rules to judge without.
    let all = found(zone(), &format!("References: <1@example.org>\r\nX-A: a\r\nX-A: b\r\n{sound}")).await;
    assert_eq!((all.dkim, all.unsigned.join(" ")), (Verdict::Pass, "references to x-a".to_owned()));
    assert_eq!(found(zone(), &long(13)).await.dkim, Verdict::Policy);
}

#[tokio::test]
async fn an_expired_signature_does_not_pass() {
    let key = Key::new();
    let signed = "from:Zabbix <zabbix@example.org>\r\nsubject:Resolved: disk full\r\n";
    for (tags, verdict) in [
        ("h=from:subject; t=1000", Verdict::Pass),
        ("h=from:subject; t=1000; x=9999999999", Verdict::Pass),
        ("h=from:subject; t=1000; x=2000", Verdict::Neutral),
        ("h=from:subject; t=9999999999; x=9999999998", Verdict::Neutral),
    ] {
        let mail = format!("{}{MAIL}", key.signature(tags, signed, "It is well.\r\n"));
        assert_eq!(found(key.zone("example.org", &[]), &mail).await.dkim, verdict, "{tags}");
    }
}

#[tokio::test]
async fn spf_of_the_reverse_path_counts_where_it_is_the_domain_of_from() {
    let dmarc = ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject; aspf=s");
    let zone = Resolver::fixed(&[
        ("example.org", "TXT", SPF),
        ("evil.example", "TXT", SPF),
        ("a.example.org", "TXT", "v=spf1 a:relay.example.org mx -all"),
        ("relay.example.org", "A", OUTSIDE),
        dmarc,
    ]);
    let check = async |client: &str, from: &str| {
        let mail = Bytes::from_static(MAIL.as_bytes());
        let found =
            checker(Config::default(), zone.clone()).examine(&envelope(client, from), &mail).await.unwrap();
        (found.spf, found.dmarc, found.proven.is_some())
    };
    assert_eq!(check(OUTSIDE, "bounces@example.org").await, (Verdict::Pass, Verdict::Pass, true));
    assert_eq!(check("198.51.100.1", "a@example.org").await, (Verdict::Fail, Verdict::Fail, false));
    assert_eq!(check(OUTSIDE, "a@evil.example").await, (Verdict::Pass, Verdict::Fail, false));
    assert_eq!(check(OUTSIDE, "a@nothing.example").await, (Verdict::None, Verdict::Fail, false));
    assert_eq!(check(OUTSIDE, "a@a.example.org").await, (Verdict::Pass, Verdict::Fail, false));
    assert_eq!(check("::ffff:203.0.113.9", "a@example.org").await, (Verdict::Pass, Verdict::Pass, true));
    assert!(!check(OUTSIDE, "").await.2);
}

#[tokio::test]
async fn a_from_of_two_domains_is_proven_by_none() {
    let key = Key::new();
    let zone = key.zone(
        "example.org",
        &[("example.org", "TXT", SPF), ("_dmarc.example.org", "TXT", "v=DMARC1; p=none")],
    );
    let mail = MAIL.replace("From: ", "From: ceo@example.net, ");
    let signer =
        DkimSigner::from_key(key.get()).domain("example.org").selector("s").headers(["From", "Subject"]);
    let signed = format!("{}{mail}", signer.sign(mail.as_bytes()).unwrap().to_header());
    assert_eq!(found(zone, &signed).await.proven, None);
}

#[tokio::test]
async fn a_chain_of_forwarders_is_told_and_proves_nothing() {
    let key = Key::new();
    let message = AuthenticatedMessage::parse(MAIL.as_bytes()).unwrap();
    let resolver = key.zone("list.example", &[]);
    let results = AuthenticationResults::new("list.example");
    let none = resolver.authenticator().unwrap().verify_arc(&message).await;
    let set = ArcSealer::from_key(key.get())
        .domain("list.example")
        .selector("s")
        .headers(["From", "Subject"])
        .seal(&message, &results, &none)
        .unwrap();
    let mail = format!("{}{MAIL}", set.to_header());
    let all = found(resolver.clone(), &mail).await;
    assert_eq!((all.arc, all.dkim, all.proven), (Verdict::Pass, Verdict::None, None));
    assert_eq!(found(resolver, &mail.replace("It is well", "It is not")).await.arc, Verdict::Fail);
}

#[tokio::test]
async fn hostile_mails_cost_little() {
    let key = Key::new();
    let body = "It is well.\r\n";
    let signed = "from:Zabbix <zabbix@example.org>\r\nsubject:Resolved: disk full\r\n";
    let one = key.signature("h=from:subject", signed, body);
    let names: String = (0..20_000).map(|at| format!(":{at:x}")).collect();
    let arc = |i: usize| {
        format!(
            "ARC-Seal: i={i}; a=ed25519-sha256; cv=pass; d=example.org; s=s; b=AAAA\r\nARC-Message-Signature: i={i}; a=ed25519-sha256; d=example.org; s=s; h=from; bh=AAAA; b=AAAA\r\nARC-Authentication-Results: i={i}; mx\r\n"
        )
    };
    let cases = [
        (one.repeat(500), "500 signatures"),
        (one.repeat(5_000), "5,000 signatures, in too large a header"),
        (key.signature(&format!("h=from:subject{names}"), signed, body), "20,000 names to find"),
        (format!("DKIM-Signature: {}\r\n", "a=b;".repeat(25_000)), "25,000 tags"),
        (format!("DKIM-Signature: v=1; b={}\r\n", "A".repeat(100_000)), "a signature of 75 kB"),
        ((1..=50).map(arc).collect(), "50 seals"),
        (format!("From: {}\r\n", "\"(<,".repeat(20_000)), "a From of 80 kB"),
        ("From: a@example.org\r\n".repeat(5_000), "5,000 From"),
        (format!("X: {}\r\n", "x".repeat(24 << 20)), "a field of 24 MiB"),
        ("a:\r\n".repeat(6 << 20), "6 million fields"),
    ];
    for (head, why) in cases {
        let start = Instant::now();
        let all = found(key.zone("example.org", &[]), &format!("{head}{MAIL}")).await;
        let took = start.elapsed();
        eprintln!("{why}: {took:?}, {all}");
        // A test build on a busy machine; a fiftieth of it in the real one.
        assert!(took < Duration::from_secs(5), "{why}: {took:?}");
    }
    // The first signatures count, so that what a sender put below changes nothing.
    let all = found(key.zone("example.org", &[]), &format!("{}{MAIL}", one.repeat(500))).await;
    assert_eq!(all.dkim, Verdict::Pass);
}

#[tokio::test]
async fn a_mail_from_inside_is_not_checked() {
    // A resolver that would fail every check shows that nobody asks it.
    let zone = || Resolver::fixed(&[("example.org", "SERVFAIL", ""), ("_dmarc.example.org", "SERVFAIL", "")]);
    let mail = Bytes::from_static(MAIL.as_bytes());
    let auto = checker(Config::default(), zone());
    assert_eq!(auto.examine(&envelope("127.0.0.1", "a@example.org"), &mail).await, None);
    assert_eq!(auto.examine(&envelope("192.168.1.9", "a@example.org"), &mail).await, None);
    let submitted = Envelope { origin: Origin::Submit, ..envelope(OUTSIDE, "a@example.org") };
    assert_eq!(auto.examine(&submitted, &mail).await, None);
    let mut known = envelope(OUTSIDE, "a@example.org");
    known.client.user = Some("zabbix".into());
    assert_eq!(auto.examine(&known, &mail).await, None);

    // Passed on by a relay inside, it is checked, though not by the relay's address.
    let relayed = Bytes::from(format!("Received: from out (out [{OUTSIDE}]) by mx; now\r\n{MAIL}"));
    let found = auto.examine(&envelope("127.0.0.1", "a@example.org"), &relayed).await.unwrap();
    assert_eq!((found.spf, found.dmarc), (Verdict::None, Verdict::TempError));

    let never = checker(Config { check: Check::None, ..Config::default() }, zone());
    assert_eq!(never.examine(&envelope(OUTSIDE, "a@example.org"), &mail).await, None);
    let always = checker(Config { check: Check::All, ..Config::default() }, zone());
    assert!(always.examine(&envelope("127.0.0.1", "a@example.org"), &mail).await.is_some());
}

#[tokio::test]
async fn the_relays_word_is_taken_from_a_trusted_client_alone() {
    let config = Config { authserv_ids: vec!["mx.example.org".into()], ..Config::default() };
    let checker = checker(config, Resolver::fixed(&[]));
    let mail = Bytes::from(format!(
        "Authentication-Results: mx.example.org; dmarc=pass header.from=example.org\r\nReceived: from a (a [{OUTSIDE}]) by mx\r\n{MAIL}"
    ));
    let told = async |envelope: &Envelope| checker.examine(envelope, &mail).await.and_then(|found| found.by);
    let relay = envelope("10.0.0.1", "a@example.org");
    assert_eq!(told(&relay).await.as_deref(), Some("mx.example.org"));
    assert_eq!(checker.told(&relay, &mail).unwrap().proven.as_deref(), Some("example.org"));
    assert_eq!(told(&envelope(OUTSIDE, "a@example.org")).await, None);
    // A proxy passes on the sender's own bytes.
    let mut proxied = relay.clone();
    proxied.client.relay = Some("10.0.0.2".parse().unwrap());
    assert_eq!(told(&proxied).await, None);
}

#[tokio::test]
async fn only_what_fails_dmarc_straight_from_outside_is_refused_and_only_if_asked_for() {
    let zone = Resolver::fixed(&[("_dmarc.example.org", "TXT", "v=DMARC1; p=reject")]);
    let mail = Bytes::from_static(MAIL.as_bytes());
    let refuses = async |reject: bool, mut envelope: Envelope, mail: &Bytes, zone: &Resolver| {
        let checker = checker(Config { reject, check: Check::All, ..Config::default() }, zone.clone());
        envelope.authenticity = checker.examine(&envelope, mail).await.map(Box::new);
        checker.refuses(&envelope)
    };
    let outside = || envelope(OUTSIDE, "a@evil.example");
    assert!(refuses(true, outside(), &mail, &zone).await);
    assert!(!refuses(false, outside(), &mail, &zone).await);
    assert!(!refuses(true, envelope("10.0.0.1", "a@evil.example"), &mail, &zone).await);
    let mut known = outside();
    known.client.tls = Some(Tls { subject: Some("CN=zabbix".into()), ..Tls::default() });
    assert!(!refuses(true, known, &mail, &zone).await);
    for record in ["v=DMARC1; p=quarantine", "v=DMARC1; p=none", "v=DMARC1; p=reject; t=y"] {
        let zone = Resolver::fixed(&[("_dmarc.example.org", "TXT", record)]);
        assert!(!refuses(true, outside(), &mail, &zone).await, "{record}");
    }
    let down = Resolver::fixed(&[("_dmarc.example.org", "SERVFAIL", "")]);
    assert!(!refuses(true, outside(), &mail, &down).await);
}

#[test]
fn the_section_is_read_and_its_errors_have_their_place() {
    let read = |text: &str| {
        document::read(&Source::new("c", text), Config::read).map_err(|found| {
            found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect::<Vec<_>>()
        })
    };
    assert_eq!(read(""), Ok(Config::default()));
    let config = read(
        "check = true\ntrusted-authserv-ids = ['mx']\nrelay-removes-forged = true\ntrusted-arc-sealers = ['Microsoft.com.']\nreject = true\ntimeout = '2s'\n",
    );
    let wanted = Config {
        check: Check::All,
        authserv_ids: vec!["mx".into()],
        relay_removes_forged: true,
        arc_sealers: vec!["microsoft.com".into()],
        reject: true,
        timeout: Duration::from_secs(2),
    };
    assert_eq!(config, Ok(wanted));
    assert_eq!(read("check = false\n").unwrap().check, Check::None);
    assert_eq!(read("check = 'auto'\n"), Ok(Config::default()));
    assert_eq!(
        read("check = 'always'\ntrusted-authserv-ids = ['a b', '']\ntimeout = '1h'\n").unwrap_err(),
        [
            "1:9: `check` cannot be `always`",
            "2:25: `a b` is not an authserv-id",
            "2:32: `` is not an authserv-id",
            "3:11: `timeout` is out of range"
        ]
    );
}
