//! SIGNL4 fails in every way that a server and the net can, while mails keep coming: nothing is lost, and
//! no incident's events change their order.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use smtp2signl4::standin::{Fault, Options, Request, Standin};
use support::{Gateway, PATIENCE, Site, Smtp};

/// Incidents in each phase; each is opened and closed.
const INCIDENTS: usize = 20;

fn site(standin: &Standin) -> Site {
    let mut site = Site::new(standin);
    site.set("delivery", "timeout", "'1s'");
    // So many mails a second would be one.
    site.set("incidents", "storm", "false");
    site
}

/// Opens and closes incidents whose ids begin with `phase`.
fn send_phase(gateway: &Gateway, phase: &str) {
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO outage.example").unwrap();
    for status in ["new", "resolved"] {
        for incident in 0..INCIDENTS {
            let mail = format!(
                "Subject: {phase} {incident}\nX-S4-ExternalID: {phase}-{incident}\nX-S4-Status: {status}\n\nText.\n"
            );
            let reply = smtp.mail("tool@example.org", &["soc@example.org"], &mail).unwrap();
            assert!(reply.starts_with("250 "), "{reply}");
        }
    }
}

/// Waits until every incident of `phases` is closed and asserts what came of each: opened, then closed.
async fn assert_told_in_order(standin: &Standin, phases: &[&str]) {
    let resolved = |requests: &[Request]| {
        requests.iter().filter(|r| r.event_id.is_some() && r.payload["X-S4-Status"] == "resolved").count()
    };
    let all = standin.wait_for(|requests| resolved(requests) >= phases.len() * INCIDENTS);
    tokio::time::timeout(PATIENCE, all).await.expect("every incident is closed in the end");
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in standin.events() {
        let text = |key: &str| event.payload[key].as_str().unwrap().to_owned();
        let statuses = told.entry(text("X-S4-ExternalID")).or_default();
        // A post whose answer was lost is made again.
        if statuses.last() != Some(&text("X-S4-Status")) {
            statuses.push(text("X-S4-Status"));
        }
    }
    assert_eq!(told.len(), phases.len() * INCIDENTS);
    for (id, statuses) in told {
        assert_eq!(statuses, ["new", "resolved"], "{id}");
    }
}

/// Waits for a log line with `message` in which `field` holds `part`.
fn wait_for_line(gateway: &Gateway, what: &str, part: &str) {
    gateway.process().wait_for(what, |line| line.contains(part).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_any_kind_loses_and_reorders_nothing() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let site = site(&standin);
    let gateway = site.start();

    send_phase(&gateway, "fine");
    standin.refuse().await.unwrap();
    send_phase(&gateway, "refused");
    standin.listen().await.unwrap();
    assert_told_in_order(&standin, &["fine", "refused"]).await;

    let mut phases = vec!["fine", "refused"];
    for (phase, fault) in [
        ("500", Fault::Status(500)),
        ("503", Fault::Status(503)),
        ("hang", Fault::Hang),
        ("close", Fault::Close),
        ("lost answer", Fault::TakeAndClose),
    ] {
        let tried = standin.requests().len();
        standin.fail(Some(fault));
        send_phase(&gateway, phase);
        // The outage lasts until it has been met more than once.
        tokio::time::timeout(PATIENCE, standin.wait_for(|requests| requests.len() >= tried + 3))
            .await
            .unwrap();
        standin.fail(None);
        phases.push(phase);
        assert_told_in_order(&standin, &phases).await;
    }
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_account_is_left_alone_until_the_time_that_it_names() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let site = site(&standin);
    let gateway = site.start();
    let reset = jiff::Timestamp::now().as_second() + 3;
    standin.script([Fault::Reply {
        status: 429,
        headers: vec![("X-RateLimit-Reset".to_owned(), reset.to_string())],
        body: String::new(),
    }]);
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO outage.example").unwrap();
    smtp.mail("a@example.org", &["soc@example.org"], "Subject: first\n\nText.\n").unwrap();
    tokio::time::timeout(PATIENCE, standin.wait_for(|requests| !requests.is_empty())).await.unwrap();
    smtp.mail("a@example.org", &["soc@example.org"], "Subject: second\n\nText.\n").unwrap();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    for event in &events {
        assert!(event.at.as_second() >= reset, "{} was posted within the block", event.payload["Title"]);
    }
    assert_eq!(standin.requests().len(), 3, "nothing else was posted");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_holds_everything_until_it_is_put_right() {
    let standin =
        Standin::start(Options { secrets: vec!["right".to_owned()], ..Options::default() }).await.unwrap();
    let site = site(&standin);
    std::fs::write(site.path("secret"), "wrong-secret").unwrap();
    let gateway = site.start();
    send_phase(&gateway, "held");
    wait_for_line(&gateway, "that says the team is held", "404");
    let listed = site.command(&["queue", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("team default: held: ") && !listed.contains("wrong-secret"), "{listed}");
    std::fs::write(site.path("secret"), "right").unwrap();
    // A held team is probed once a minute; an operator need not wait.
    let retried = site.command(&["queue", "retry", "--all"]).output().unwrap();
    assert!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stderr));
    assert_told_in_order(&standin, &["held"]).await;
    let log = gateway.stop().join("\n");
    assert!(!log.contains("wrong-secret"), "the log holds the secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_signl4_refuses_is_parked_and_holds_up_nobody() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let site = site(&standin);
    let gateway = site.start();
    standin.script([Fault::Status(400)]);
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO outage.example").unwrap();
    let reply = smtp.mail("a@example.org", &["soc@example.org"], "Subject: poison\n\nText.\n").unwrap();
    wait_for_line(&gateway, "that says it is parked", "400");
    smtp.mail("a@example.org", &["soc@example.org"], "Subject: fine\n\nText.\n").unwrap();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!(events[0].payload["Title"], "fine");

    // What SIGNL4 said is logged before it is written down.
    let deadline = Instant::now() + PATIENCE;
    let listed = loop {
        let list = site.command(&["queue", "list", "--state", "failed", "--json"]).output().unwrap();
        if let Ok(listed) = serde_json::from_slice::<Value>(&list.stdout) {
            break listed;
        }
        assert!(Instant::now() < deadline, "nothing is listed as failed");
    };
    assert_eq!(listed["title"], "poison");
    let id = listed["id"].as_str().unwrap();
    assert!(reply.ends_with(id), "{reply} names another mail than {id}");

    let retried = site.command(&["queue", "retry", id]).output().unwrap();
    assert!(retried.status.success());
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    assert_eq!(events[1].payload["Title"], "poison");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_restart_and_leaves_at_once() {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.refuse().await.unwrap();
    let site = site(&standin);
    let gateway = site.start();
    send_phase(&gateway, "waiting");
    gateway.stop();
    standin.listen().await.unwrap();
    let started = Instant::now();
    let gateway = site.start();
    assert_told_in_order(&standin, &["waiting"]).await;
    assert!(started.elapsed() < Duration::from_secs(30), "what waited was left lying");
    gateway.stop();
}
