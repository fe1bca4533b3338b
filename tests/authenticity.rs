//! Mails from outside, from the edge to the spool: who may close an alert, who is refused, and that the facts are
//! kept. The zone is in memory; nobody is asked.

#![allow(clippy::unwrap_used)]

use smtp2signl4::words::Words;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use smtp2signl4::authenticity::{Checker, Resolver};
use smtp2signl4::clock::Manual;
use smtp2signl4::config::{Routes, parse};
use smtp2signl4::context::Context;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, Status};
use smtp2signl4::gateway::load_rules;
use smtp2signl4::intake::{Edge, Intake};
use smtp2signl4::mail::{Authenticity, Client, Envelope, Mail, MailId, Trust, Verdict};
use smtp2signl4::smtp::strangers::Strangers;
use smtp2signl4::smtp::{Accept, Refusal};
use smtp2signl4::spool::{Config, Spool};
use smtp2signl4::watch::Lookout;
use smtp2signl4::watch::expect::standings;

/// The site's own domain is the only sender's.
const YOURS: &str = "[rules]\nclosing-domains = ['example.org']\n";

/// An edge of a site with these lines in `[authenticity]`, over a spool in `folder`. The only sender in its world is
/// example.org, which sends from 203.0.113.0/24.
async fn edge(folder: &Path, settings: &str) -> Edge {
    let config = parse(None, &Source::new("c", format!("[authenticity]\n{settings}"))).unwrap();
    let clock = Arc::new(Manual::new(now()));
    let spool = Spool::open(&Config::at(folder), clock.clone()).unwrap();
    let (rules, routes) = (Arc::new(load_rules(&config).unwrap()), Routes::new(&config.teams));
    let context = Context::new(spool, clock, routes, rules, 0);
    let lookout = Lookout::load(&config, context.clone()).await.unwrap();
    let resolver = Resolver::fixed(&[
        ("example.org", "TXT", "v=spf1 ip4:203.0.113.0/24 -all"),
        ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject"),
    ]);
    Edge::new(
        Arc::new(Intake::new(context, Arc::new(lookout))),
        Checker::new(config.authenticity, config.rules.trusted, resolver),
    )
}

fn now() -> Timestamp {
    "2026-11-20T17:04:05Z".parse().unwrap()
}

/// A mail in SIGNL4's own words that Zabbix could send, from `client`.
fn resolved(client: &str, head: &str) -> Mail {
    let content = format!(
        "{head}From: Zabbix <zabbix@example.org>\r\nTo: soc@site.example\r\nSubject: Resolved: High CPU\r\n\r\n\
         Problem has been resolved at 18:21:40 on 2026.11.20\r\nProblem name: High CPU\r\nHost: db01\r\nSeverity: High\r\n\r\n\
         Original problem ID: 90210\r\n"
    );
    let client = Client { address: Some(client.parse().unwrap()), ..Client::default() };
    let envelope = Envelope {
        received_at: now(),
        client,
        reverse_path: "zabbix@example.org".into(),
        recipients: vec!["soc@site.example".into()],
        ..Envelope::default()
    };
    Mail { envelope, content: Bytes::from(content) }
}

/// The one event of a kept mail, and the facts in its envelope and its story.
async fn kept(edge: &Edge, id: MailId) -> (Event, Envelope, serde_json::Value) {
    let reader = edge.intake.context().spool.reader();
    let shown = reader.show(id).await.unwrap().unwrap();
    let envelope = shown.envelope.unwrap();
    let content = reader.content(id).await.unwrap().unwrap();
    // Judged again, by the kept facts alone.
    let (mut events, _, story) = edge.intake.rejudge(&envelope, &content);
    assert_eq!((events.len(), &story), (1, &shown.story));
    (events.remove(0), envelope, story)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_close_pages_and_a_proven_one_closes() {
    let folder = tempfile::tempdir().unwrap();
    let edge = edge(folder.path(), YOURS).await;
    for (client, head, status, spf, dmarc) in [
        ("203.0.113.9", "", Status::Resolved, Verdict::Pass, Verdict::Pass),
        ("198.51.100.66", "", Status::New, Verdict::Fail, Verdict::Fail),
        // A relay inside hides who it was.
        (
            "127.0.0.1",
            "Received: from a (a [203.0.113.9]) by mx; now\r\n",
            Status::New,
            Verdict::None,
            Verdict::None,
        ),
    ] {
        let id = edge.accept(resolved(client, head)).await.unwrap();
        let (event, envelope, story) = kept(&edge, id).await;
        assert_eq!((event.status, event.external_id.as_deref()), (status, Some("zabbix:90210")), "{client}");
        assert_eq!(event.message.contains("nothing proves who sent it"), status == Status::New, "{client}");
        let found = envelope.authenticity.unwrap();
        assert_eq!((found.spf, found.dmarc), (spf, dmarc), "{client}");
        assert!(
            story["authenticity"].as_str().unwrap().starts_with(&format!("spf={}", spf.word())),
            "{story}"
        );
    }
    // A sender of one's own needs no proof, and nothing is looked for.
    let id = edge.accept(resolved("10.1.2.3", "")).await.unwrap();
    let (event, envelope, story) = kept(&edge, id).await;
    assert_eq!((event.status, envelope.authenticity), (Status::Resolved, None));
    assert!(story.get("authenticity").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_dmarc_is_refused_only_where_the_site_wants_that() {
    let folder = tempfile::tempdir().unwrap();
    let strict = edge(folder.path(), "reject = true\n").await;
    assert_eq!(strict.accept(resolved("198.51.100.66", "")).await, Err(Refusal::Unauthentic));
    assert!(
        strict
            .intake
            .context()
            .spool
            .reader()
            .mails(MailId::new(now(), 0), None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    strict.accept(resolved("203.0.113.9", "")).await.unwrap();
    strict.accept(resolved("127.0.0.1", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_leaves_out_what_a_mail_is_about_closes_nothing_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let edge = edge(folder.path(), YOURS).await;
    let with = |head: &str, unsigned: &[&str]| {
        let mut mail = resolved("203.0.113.9", head);
        mail.envelope.authenticity = Some(Box::new(Authenticity {
            dkim: Verdict::Pass,
            proven: Some("example.org".into()),
            unsigned: unsigned.iter().map(|&name| name.to_owned()).collect(),
            ..Authenticity::default()
        }));
        let (mut events, _, _) = edge.intake.rejudge(&mail.envelope, &mail.content);
        let event = events.remove(0);
        (event.status, event.external_id.unwrap(), event.identity.trust)
    };
    let id =
        |number: u32| format!("In-Reply-To: <{number}.0123456789abcdef0123456789abcdef.1.0@zabbix.com>\r\n");
    let closes = (Status::Resolved, "zabbix:90210".to_owned(), Trust::Proven);
    // Microsoft 365 signs no In-Reply-To: the body says the same.
    assert_eq!(with("", &[]), closes);
    assert_eq!(with(&id(90210), &["in-reply-to", "to"]), closes);
    assert_eq!(with(&format!("X-Mailer: x\r\n{}", id(90210)), &["x-mailer"]), closes);
    // Where an unsigned field makes it a close or gives the key, it is a stranger's page.
    let body = |text: &str| {
        let mut mail = resolved("203.0.113.9", &id(4711));
        let content = String::from_utf8(mail.content.to_vec()).unwrap();
        mail.content = content.replace("Original problem ID: 90210", text).into();
        mail.envelope.authenticity = Some(Box::new(Authenticity {
            dkim: Verdict::Pass,
            proven: Some("example.org".into()),
            unsigned: vec!["in-reply-to".to_owned()],
            ..Authenticity::default()
        }));
        let (mut events, _, _) = edge.intake.rejudge(&mail.envelope, &mail.content);
        events.remove(0)
    };
    let event = body("");
    assert_eq!((event.status, event.identity.trust), (Status::New, Trust::Stranger), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_outside_pages_within_his_rate_and_a_relay_of_ours_is_refused_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rates = parse(None, &Source::new("c", "[smtp.rates]\nstrangers = '2/m'\n")).unwrap().smtp.rates;
    let edge = edge(folder.path(), YOURS).await.bounding(Strangers::new(rates));
    let hop = "Received: from a (a [198.51.100.66]) by mx; now\r\n";
    let takes = async |client: &str, head: &str| edge.accept(resolved(client, head)).await;
    for _ in 0..2 {
        assert!(takes("198.51.100.66", "").await.is_ok());
    }
    assert_eq!(takes("198.51.100.66", "").await, Err(Refusal::TooMany));
    for _ in 0..9 {
        // Another address, one that is proven, and the same stranger by way of a relay inside.
        assert!(takes("203.0.113.9", "").await.is_ok());
        let id = takes("10.0.0.1", hop).await.unwrap();
        assert!(kept(&edge, id).await.1.excess, "and is told in a digest");
        assert!(takes("10.0.0.1", "").await.is_ok());
    }
    let id = takes("10.0.0.1", "Received: from b (b [198.51.100.68]) by mx; now\r\n").await.unwrap();
    assert!(!kept(&edge, id).await.1.excess);
    assert!(takes("198.51.100.67", "").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relays_results_close_and_forged_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let edge = edge(folder.path(), &format!("trusted-authserv-ids = ['mx.site.example']\n{YOURS}")).await;
    let results = "Authentication-Results: mx.site.example; dmarc=pass header.from=example.org\r\n";
    let hop = "Received: from out (out.example [203.0.113.9]) by mx.site.example; now\r\n";
    for (client, head, status) in [
        ("10.0.0.1", format!("{results}{hop}"), Status::Resolved),
        ("10.0.0.1", format!("{hop}{results}"), Status::New),
        ("198.51.100.66", format!("{results}{hop}"), Status::New),
    ] {
        let id = edge.accept(resolved(client, &head)).await.unwrap();
        let (event, envelope, _) = kept(&edge, id).await;
        assert_eq!(event.status, status, "{client} {head}");
        assert_eq!(
            envelope.authenticity.unwrap().by.is_some(),
            status == Status::Resolved,
            "{client} {head}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_domain_closes_only_where_the_site_names_it_and_the_story_says_so() {
    for (lines, class, status) in [
        (YOURS, "proven", Status::Resolved),
        ("[rules]\nclosing-domains = ['site.example']\n", "stranger", Status::New),
        ("", "stranger", Status::New),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let edge = edge(folder.path(), lines).await;
        let id = edge.accept(resolved("203.0.113.9", "")).await.unwrap();
        let (event, envelope, story) = kept(&edge, id).await;
        assert_eq!(envelope.authenticity.unwrap().proven.as_deref(), Some("example.org"));
        assert_eq!((event.status, event.external_id.as_deref()), (status, Some("zabbix:90210")), "{lines}");
        let trust = &story["trust"];
        assert_eq!(trust["class"], class, "{trust}");
        assert!(trust["why"].as_str().unwrap().contains("proven to be from example.org"), "{trust}");
        let line = "[rules] closing-domains = [\"example.org\"]";
        assert_eq!(trust.get("line").is_some_and(|told| told == line), class == "stranger", "{trust}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_satisfies_no_expectation_unless_it_says_so() {
    let expects = "[[expect]]\nname = 'ours'\nwhen = { subject = '^Resolved' }\nwithin = '1h'\n\
                   [[expect]]\nname = 'any'\nwhen = { subject = '^Resolved' }\nwithin = '1h'\nstrangers = true\n";
    for (client, seen) in
        [("198.51.100.66", &["any"][..]), ("203.0.113.9", &["any", "ours"]), ("10.0.0.1", &["any", "ours"])]
    {
        let folder = tempfile::tempdir().unwrap();
        let edge = edge(folder.path(), &format!("{YOURS}{expects}")).await;
        edge.accept(resolved(client, "")).await.unwrap();
        let known = standings(edge.intake.context().spool.reader()).await.unwrap();
        let mut names: Vec<String> =
            known.into_iter().filter(|(_, standing)| standing.seen.is_some()).map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, seen, "{client}");
    }
}
