//! What a rule may know of who sent a mail: whether it comes from inside, and what proves the sender.

use smtp2signl4::mail::{Authenticity, Envelope, Origin, Tls, Verdict};

use super::{MAIL, envelope, judge, judge_with, site, titled, value};

#[test]
fn a_mail_from_outside_is_not_trusted_for_its_relay_inside() {
    let rules = "[[rule]]\nname = 'a'\nwhen = { trusted = true }\nset = { title = 'trusted' }\n";
    let title = |received: &str, client: &str| {
        let mut envelope = envelope();
        envelope.client.address = client.parse().ok();
        judge_with(&[rules], &format!("{received}Subject: no\n\n"), site(), &envelope).events[0].title.clone()
    };
    assert_eq!(title("", "10.0.0.1"), "trusted");
    assert_eq!(title("", "203.0.113.9"), "no");
    assert_eq!(title("Received: from mon (mon.example [10.0.0.7]) by relay; now\n", "10.0.0.1"), "trusted");
    assert_eq!(
        title("Received: from [10.0.0.7] (evil.example [203.0.113.9]) by relay; now\n", "10.0.0.1"),
        "no"
    );
    assert_eq!(
        title("Received: from ex1.example (10.0.0.7) by ex2.example (10.0.0.8) with SMTP; now\n", "10.0.0.1"),
        "trusted"
    );
    assert_eq!(
        title("Received: from (10.0.0.7) (203.0.113.9) by ex2.example (10.0.0.8); now\n", "10.0.0.1"),
        "no"
    );
    assert_eq!(title("Received: from nowhere by relay; now\n", "10.0.0.1"), "no");
    assert_eq!(
        title("Received: by mon.example (Postfix, from userid 111) id 1; now\n", "10.0.0.1"),
        "trusted"
    );
    // What the client says in HELO ends no clause and hides no address.
    for from in [
        "a [10.0.0.1] by x (unknown [203.0.113.5])",
        "a [10.0.0.1]\tBY x (unknown [203.0.113.5])",
        "a ([10.0.0.1] by x (unknown [203.0.113.5])",
        "[10.0.0.1] (203.0.113.5)",
        "[203.0.113.5] (helo=[10.0.0.1])",
    ] {
        assert_eq!(title(&format!("Received: from {from} by relay; now\n"), "10.0.0.1"), "no", "{from}");
    }
    assert_eq!(
        title("Received: from mon ([IPv6:::1]) by relay (checked by x [10.0.0.2]); now\n", "10.0.0.1"),
        "trusted"
    );
    // What comes by a Unix socket is from this machine; what a proxy does not name may be from anywhere.
    assert_eq!(title("", ""), "trusted");
    let mut proxied = envelope();
    proxied.client.address = None;
    proxied.client.relay = "10.0.0.1".parse().ok();
    assert_eq!(judge_with(&[rules], "Subject: no\n\n", site(), &proxied).events[0].title, "no");
    // A proxy or relay that names its client is a hop as any other: both must be trusted.
    for (client, relay, wanted) in [
        ("10.0.0.7", "10.0.0.1", "trusted"),
        ("203.0.113.9", "10.0.0.1", "no"),
        ("10.0.0.7", "203.0.113.9", "no"),
        ("", "10.0.0.1", "no"),
    ] {
        let mut named = envelope();
        (named.client.address, named.client.relay) = (client.parse().ok(), relay.parse().ok());
        let judged = judge_with(&[rules], "Subject: no\n\n", site(), &named);
        assert_eq!(judged.events[0].title, wanted, "{client} by way of {relay}");
    }
    let mut submitted = envelope();
    submitted.origin = Origin::Submit;
    submitted.client.address = None;
    assert_eq!(judge_with(&[rules], "Subject: no\n\n", site(), &submitted).events[0].title, "trusted");
}

/// A mail that a client outside the trusted networks brought.
fn from_outside() -> Envelope {
    let mut outside = envelope();
    outside.client.address = "203.0.113.9".parse().ok();
    outside
}

/// Facts that vouch for `domain`.
fn proof_of(domain: &str) -> Option<Box<Authenticity>> {
    Some(Box::new(Authenticity {
        dkim: Verdict::Pass,
        dkim_domains: vec![domain.to_owned(), "esp.example".to_owned()],
        dmarc: Verdict::Pass,
        spf: Verdict::SoftFail,
        proven: Some(domain.to_owned()),
        ..Authenticity::default()
    }))
}

#[test]
fn what_proves_the_sender_is_a_condition() {
    let mut site = site();
    site.trusted.domains = vec!["mon.example".to_owned()];
    let holds = |when: &str, envelope: &Envelope| {
        judge_with(&[&titled(when)], MAIL, site.clone(), envelope).events[0].title == "yes"
    };
    let mut proven = from_outside();
    proven.authenticity = proof_of("mon.example");
    for when in [
        "authenticated = true",
        "spf = { equals = 'softfail' }",
        "dkim = '^pass$'",
        "dkim-domain = { equals = 'esp.example' }",
        "dkim-domain = { equals = 'mon.example' }",
        "dmarc = { equals = 'pass' }",
        "arc = { equals = 'none' }",
        "tls-subject = { present = false }",
    ] {
        assert!(holds(when, &proven), "{when}");
        // Of what was not checked nothing is known.
        assert!(!holds(when, &from_outside()) || when.contains("tls-subject"), "{when}");
    }
    // Where the client and every hop are the site's own, nothing need be proven.
    assert!(holds("authenticated = true", &envelope()));
    proven.authenticity = proof_of("elsewhere.example");
    assert!(holds("authenticated = false, dkim = 'pass'", &proven), "a domain that the site does not name");
    let mut certified = from_outside();
    certified.client.tls = Some(Tls { subject: Some("CN=zabbix".into()), ..Tls::default() });
    assert!(holds("authenticated = true, tls-subject = { equals = 'CN=zabbix' }", &certified));
    // Encryption alone proves nothing.
    certified.client.tls = Some(Tls::default());
    assert!(holds("authenticated = false", &certified));
    let mut user = from_outside();
    user.client.user = Some("zabbix".into());
    assert!(holds("authenticated = true, user = { equals = 'zabbix' }", &user));
    raises!("[[rule]]\nname = 'a'\nset = { title = '{{ dmarc | default(\"unknown\") }} {{ authenticated }} {{ tls_subject | default(\"-\") }}' }\n", MAIL => "title" = "unknown true -");
}
