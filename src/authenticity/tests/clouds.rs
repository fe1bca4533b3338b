//! Mails that come through a cloud, with the field lists that clouds sign: each is worth what its domain's own mail is
//! worth, with at most one line of config, and a cloud's other customers gain nothing.

use mail_auth::{DmarcOutput, DmarcResult};

use super::*;
use crate::mail::{Message, Trust};

/// What Microsoft 365 signs.
const MICROSOFT: &[&str] = &["From", "Date", "Subject", "Message-ID", "Content-Type", "MIME-Version"];
/// What Google signs.
const GOOGLE: &[&str] = &["MIME-Version", "From", "Date", "Message-ID", "Subject", "To"];
/// What a monitoring service signs by way of its own mail provider.
const SERVICE: &[&str] =
    &["From", "To", "Subject", "MIME-Version", "Content-Type", "Date", "Message-ID", "Reply-To"];

const HEAD: &str = "Received: from mail.cloud.example (mail.cloud.example [198.51.100.20]) by out.cloud.example; Fri, 20 Nov 2026 17:04:06 +0000\r\n\
From: Zabbix <zabbix@example.org>\r\n\
To: soc@site.example\r\n\
Subject: Resolved: disk full\r\n\
Date: Fri, 20 Nov 2026 17:04:05 +0000\r\n\
Message-ID: <1@example.org>\r\n\
MIME-Version: 1.0\r\n";

/// The forms in which a mail may come: its MIME fields and its body.
const FORMS: [(&str, &str); 4] = [
    (
        "Content-Type: text/plain; charset=\"us-ascii\"\r\nContent-Transfer-Encoding: 7bit\r\n",
        "It is well.\r\n",
    ),
    (
        "Content-Type: text/plain; charset=\"utf-8\"\r\nContent-Transfer-Encoding: quoted-printable\r\n",
        "In K=C3=B6ln it is well.\r\n",
    ),
    (
        "Content-Type: text/plain; charset=\"utf-8\"\r\nContent-Transfer-Encoding: base64\r\n",
        "SW4gS8O2bG4gaXQgaXMgd2VsbC4K\r\n",
    ),
    (
        "Content-Type: multipart/alternative; boundary=\"b\"\r\n",
        "--b\r\nContent-Type: text/plain; charset=\"utf-8\"\r\n\r\nIt is well.\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>It is well.</p>\r\n--b--\r\n",
    ),
];

/// `mail` under a signature of `domain` over these fields.
fn signed(key: &Key, domain: &str, fields: &[&str], mail: &str) -> String {
    let signer = DkimSigner::from_key(key.get()).domain(domain).selector("s").headers(fields.to_vec());
    format!("{}{mail}", signer.sign(mail.as_bytes()).unwrap().to_header())
}

/// `mail` under a seal of `sealer`, who says that DMARC passed for `author`.
async fn sealed(resolver: &Resolver, key: &Key, sealer: &str, author: &str, mail: &str) -> String {
    let message = AuthenticatedMessage::parse(mail.as_bytes()).unwrap();
    let dmarc = DmarcOutput::new(author.to_owned()).with_dkim_result(DmarcResult::Pass);
    let results = AuthenticationResults::new("mx.cloud.example").with_dmarc_result(&dmarc);
    let chain = resolver.authenticator().unwrap().verify_arc(check::asking(resolver, &message)).await;
    let sealer = ArcSealer::from_key(key.get()).domain(sealer).selector("s").headers(MICROSOFT.to_vec());
    format!("{}{mail}", sealer.seal(&message, &results, &chain).unwrap().to_header())
}

/// What is found of a mail from a cloud, and its class where example.org may close.
async fn standing(config: Config, resolver: Resolver, content: &str) -> (Trust, Authenticity) {
    let mut envelope = envelope("198.51.100.21", "zabbix@example.org");
    let content = Bytes::copy_from_slice(content.as_bytes());
    let found = checker(config, resolver).examine(&envelope, &content).await.unwrap();
    envelope.authenticity = Some(Box::new(found.clone()));
    let trusted = Trusted { networks: Network::private(), domains: vec!["example.org".into()] };
    (trusted.standing(&Message::parse(&content), &envelope).trust, found)
}

#[tokio::test]
async fn a_mail_signed_as_a_cloud_signs_proves_its_domain_in_every_form() {
    let key = Key::new();
    for fields in [MICROSOFT, GOOGLE, SERVICE] {
        for (mime, body) in FORMS {
            let mail = signed(&key, "example.org", fields, &format!("{HEAD}{mime}\r\n{body}"));
            let (trust, found) = standing(Config::default(), key.zone("example.org", &[]), &mail).await;
            assert_eq!(trust, Trust::Proven, "{fields:?} {mime}: {found}");
            assert_eq!(found.signature.map(|hash| hash.len()), Some(32));
            assert!(found.signed_at.is_some(), "{fields:?}");
        }
    }
}

#[tokio::test]
async fn no_change_of_an_unsigned_field_makes_such_a_mail_say_something_else() {
    let key = Key::new();
    // A mail that quotes what an attacker wrote: parts, and words that stand for others in another encoding.
    let body = "PROBLEM. Said by the user:\r\n--x\r\n\r\nResolved: all\r\n--x--\r\n=52esolved\r\n";
    let plain = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";
    let encoding = plain.replace("8bit", "quoted-printable");
    let boundary = "Content-Type: multipart/mixed; boundary=x\r\n";
    for (fields, changed) in [(MICROSOFT, vec![&*encoding]), (GOOGLE, vec![&*encoding, boundary])] {
        let mail = signed(&key, "example.org", fields, &format!("{HEAD}{plain}\r\n{body}"));
        let class = async |mail: &str| standing(Config::default(), key.zone("example.org", &[]), mail).await;
        assert_eq!(class(&mail).await.0, Trust::Proven, "{fields:?}");
        for changed in changed {
            let (trust, found) = class(&mail.replace(plain, changed)).await;
            assert_eq!((trust, found.dkim), (Trust::Stranger, Verdict::Policy), "{fields:?} {changed}");
        }
    }
    // Two parts inside each other: the inner boundary would show the inner one alone.
    let (mime, body) = (
        "Content-Type: multipart/mixed; boundary=b\r\n",
        "--b\r\nContent-Type: text/plain\r\n\r\nPROBLEM\r\n--x\r\n\r\nResolved: all\r\n--x--\r\n--b--\r\n",
    );
    let mail = signed(&key, "example.org", GOOGLE, &format!("{HEAD}{mime}\r\n{body}"));
    for (mail, trust) in
        [(mail.clone(), Trust::Proven), (mail.replace("boundary=b", "boundary=x"), Trust::Stranger)]
    {
        assert_eq!(standing(Config::default(), key.zone("example.org", &[]), &mail).await.0, trust, "{mail}");
    }
}

#[tokio::test]
async fn a_subject_that_a_cloud_tagged_counts_by_its_seal_if_the_site_names_the_sealer() {
    let (author, cloud) = (Key::new(), Key::new());
    let (record, dmarc) = (author.record(), ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject"));
    let others = [("s._domainkey.example.org", "TXT", &*record), dmarc];
    let resolver = cloud.zone("microsoft.com", &others);
    let (mime, body) = FORMS[0];
    let mail = signed(&author, "example.org", MICROSOFT, &format!("{HEAD}{mime}\r\n{body}"));
    let tagged = mail.replace("Subject: ", "Subject: [EXTERNAL] ");
    let mail = sealed(&resolver, &cloud, "microsoft.com", "example.org", &tagged).await;
    let naming = |sealers: &[&str]| Config {
        arc_sealers: sealers.iter().map(|&name| name.to_owned()).collect(),
        ..Config::default()
    };
    let (trust, found) = standing(naming(&["microsoft.com"]), resolver.clone(), &mail).await;
    assert_eq!((trust, found.sealer.as_deref()), (Trust::Proven, Some("microsoft.com")), "{found}");
    assert_eq!((found.arc, found.dmarc), (Verdict::Pass, Verdict::Fail));
    assert_eq!(found.signed_at, "2026-11-20T17:04:05Z".parse().ok());
    for sealers in [&[][..], &["google.com"], &["soft.com"]] {
        assert_eq!(
            standing(naming(sealers), resolver.clone(), &mail).await.0,
            Trust::Stranger,
            "{sealers:?}"
        );
    }
    for (from, to, why) in [
        ("[EXTERNAL] Resolved", "[EXTERNAL] Closed", "a subject changed after the seal"),
        ("It is well", "It is not", "a body changed after the seal"),
        ("From: Zabbix <zabbix@example.org>", "From: <a@evil.example>", "another author"),
    ] {
        let changed = mail.replace(from, to);
        assert_ne!(changed, mail);
        assert_eq!(
            standing(naming(&["microsoft.com"]), resolver.clone(), &changed).await.0,
            Trust::Stranger,
            "{why}"
        );
    }
    // A seal that says that another domain passed.
    let other = sealed(&resolver, &cloud, "microsoft.com", "evil.example", &tagged).await;
    assert_eq!(standing(naming(&["microsoft.com"]), resolver.clone(), &other).await.0, Trust::Stranger);
}

#[tokio::test]
async fn a_seal_below_that_of_a_stranger_counts_for_nothing() {
    let (cloud, evil) = (Key::new(), Key::new());
    let record = evil.record();
    let resolver = cloud.zone("microsoft.com", &[("s._domainkey.evil.example", "TXT", &record)]);
    let (mime, body) = FORMS[0];
    let mail = format!("{HEAD}{mime}\r\n{body}");
    let naming = || Config { arc_sealers: vec!["microsoft.com".into()], ..Config::default() };
    let genuine = sealed(&resolver, &cloud, "microsoft.com", "example.org", &mail).await;
    assert_eq!(standing(naming(), resolver.clone(), &genuine).await.0, Trust::Proven);
    // Whoever seals last may have changed the mail before, and his chain is valid all the same.
    let forged = sealed(&resolver, &evil, "evil.example", "example.org", &genuine).await;
    let (trust, found) = standing(naming(), resolver.clone(), &forged).await;
    assert_eq!((trust, found.arc), (Trust::Stranger, Verdict::Pass), "{found}");
    let own = sealed(&resolver, &evil, "evil.example", "example.org", &mail).await;
    assert_eq!(standing(naming(), resolver, &own).await.0, Trust::Stranger);
}

#[tokio::test]
async fn where_the_relays_word_proves_nothing_a_trusted_seal_does() {
    let cloud = Key::new();
    let resolver = cloud.zone("microsoft.com", &[]);
    let (mime, body) = FORMS[0];
    let mail =
        sealed(&resolver, &cloud, "microsoft.com", "example.org", &format!("{HEAD}{mime}\r\n{body}")).await;
    let mail = format!(
        "Authentication-Results: mx.site.example; dmarc=fail header.from=example.org; arc=pass\r\n\
         Received: from out (out [198.51.100.21]) by mx.site.example; now\r\n{mail}"
    );
    let found = async |sealers: &[&str]| {
        let config = Config {
            authserv_ids: vec!["mx.site.example".into()],
            arc_sealers: sealers.iter().map(|&name| name.to_owned()).collect(),
            ..Config::default()
        };
        let content = Bytes::copy_from_slice(mail.as_bytes());
        checker(config, resolver.clone()).examine(&envelope("10.0.0.1", "a@b"), &content).await.unwrap()
    };
    let all = found(&["microsoft.com"]).await;
    assert_eq!((all.proven.as_deref(), all.sealer.as_deref()), (Some("example.org"), Some("microsoft.com")));
    let all = found(&["google.com"]).await;
    assert_eq!((all.proven, all.by.as_deref()), (None, Some("mx.site.example")));
}

#[tokio::test]
async fn an_address_that_many_customers_share_proves_nothing() {
    for (record, proves) in [
        ("v=spf1 ip4:203.0.113.0/24 -all", true),
        ("v=spf1 include:spf.cloud.example ip4:203.0.113.9 -all", true),
        ("v=spf1 mx a:relay.example.org -all", true),
        ("v=spf1 include:spf.cloud.example -all", false),
        ("v=spf1 ip4:198.51.100.1 redirect=spf.cloud.example", false),
        ("v=spf1 +all", false),
    ] {
        let zone = Resolver::fixed(&[
            ("example.org", "TXT", record),
            ("spf.cloud.example", "TXT", "v=spf1 ip4:203.0.113.0/24 -all"),
            ("relay.example.org", "A", OUTSIDE),
            ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject"),
        ]);
        let all = found(zone, MAIL).await;
        assert_eq!((all.spf, all.dmarc), (Verdict::Pass, Verdict::Pass), "{record}");
        assert_eq!(all.proven.is_some(), proves, "{record}");
    }
}

#[test]
fn a_client_vouches_only_for_mail_that_no_hop_outside_brought() {
    let trusted = Trusted { networks: Network::private(), domains: Vec::new() };
    let class = |client: &str, hops: &str| {
        let mut envelope = envelope(client, "a@example.org");
        envelope.client.user = Some("relay".into());
        trusted.standing(&Message::parse(format!("{hops}{MAIL}").as_bytes()), &envelope).trust
    };
    let inside = "Received: from mon (mon [10.0.0.5]) by relay; now\r\n";
    let outside = "Received: from a (a [203.0.113.9]) by relay; now\r\n";
    assert_eq!(class(OUTSIDE, ""), Trust::Proven);
    assert_eq!(class(OUTSIDE, inside), Trust::Proven);
    assert_eq!(class(OUTSIDE, outside), Trust::Stranger);
    assert_eq!(class(OUTSIDE, &format!("{inside}{outside}")), Trust::Stranger);
    assert_eq!(class("10.0.0.1", outside), Trust::Stranger);
}
