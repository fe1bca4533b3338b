//! The life of incidents, the whole way: what is sent, what is kept, and what a storm becomes.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use smtp2signl4::clock::{Clock, Manual};
use smtp2signl4::config::{self, Routes};
use smtp2signl4::context::Context;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, Severity, Status};
use smtp2signl4::incident;
use smtp2signl4::mail::{Envelope, MailId, Origin};
use smtp2signl4::rules::RuleSet;
use smtp2signl4::spool::{Config, Entry, Filter, Outcome, Queued, Reader, Spool, Sync};
use smtp2signl4::standin::{Fault, Options, Request, Standin};
use smtp2signl4::watch::storm::tell_due;
use support::{Enqueue, PATIENCE, Site, Smtp};

/// Sends a mail in SIGNL4's own format.
fn send(smtp: &mut Smtp, title: &str, key: &str, status: &str) {
    let mail = format!("Subject: {title}\nX-S4-ExternalID: {key}\nX-S4-Status: {status}\n\nText.\n");
    let reply = smtp.mail("a@example.org", &["soc@example.org"], &mail).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
}

/// What a command prints, a JSON object a line.
fn lines(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let output = site.command(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_kept_and_shown_and_the_close_and_the_next_open_are_sent() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let site = Site::new(&standin);
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO incidents.example").unwrap();
    for (title, status) in [("one", "new"), ("two", "new"), ("three", "resolved"), ("four", "new")] {
        send(&mut smtp, title, "a", status);
    }
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(3)).await.unwrap();
    let titles: Vec<_> = events.iter().map(|event| event.payload["Title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["one", "three", "four"]);

    let counted = lines(&site, &["queue", "list", "--state", "counted", "--json"]);
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0]["title"], "two");
    assert!(counted[0]["reason"].as_str().unwrap().starts_with("a repeat, "));
    let shown = site.command(&["queue", "show", counted[0]["id"].as_str().unwrap()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("counted") && shown.contains("a repeat, "), "{shown}");
    let retried = site.command(&["queue", "retry", counted[0]["id"].as_str().unwrap()]).output().unwrap();
    let told = String::from_utf8(retried.stdout).unwrap();
    assert!(told.starts_with("0 events to be posted again\nevent "), "{told}");
    assert!(told.ends_with(": counted, kept and not sent; `queue retry ID --rejudge` sends it\n"), "{told}");
    let teams = lines(&site, &["queue", "teams", "--json"]);
    let figures = ["team", "state", "queued", "failed", "possible-doubles"].map(|key| teams[0][key].clone());
    assert_eq!(Value::from(figures.to_vec()), serde_json::json!(["default", "open", 0, 0, 0]));
    let unknown = site.command(&["queue", "list", "--team", "nobody"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(65), "{}", String::from_utf8_lossy(&unknown.stdout));

    // An event from a shell is told the same.
    let repeated = ["send", "--title", "five", "--message", "Text.", "--external-id", "a", "--wait"];
    let sent = site.command(&repeated).output().unwrap();
    let told = String::from_utf8(sent.stderr).unwrap();
    assert!(sent.status.success() && told.contains("and not sent: a repeat, "), "{told}");

    let log = gateway.stop();
    let accepted =
        |line: &String| serde_json::from_str::<Value>(line).ok().filter(|l| l["message"] == "accepted");
    let accepted: Vec<Value> = log.iter().filter_map(accepted).collect();
    assert_eq!((&accepted[0]["events"], &accepted[0]["counted"]), (&1.into(), &0.into()));
    assert_eq!((&accepted[1]["events"], &accepted[1]["counted"]), (&0.into(), &1.into()));

    // Looking needs no service.
    let incidents = lines(&site, &["queue", "incidents", "--open", "--json"]);
    assert_eq!(incidents.len(), 1);
    let incident = &incidents[0];
    assert_eq!((&incident["external-id"], &incident["state"]), (&"a".into(), &"open".into()));
    assert_eq!((&incident["mails"], &incident["unpaged"]), (&2.into(), &1.into()));
    assert_eq!(incident["event-ids"], serde_json::json!([events[2].event_id]));
    let table = site.command(&["queue", "incidents"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("KEY ") && table.contains("a    default  open"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_answer_was_lost_goes_again_with_its_external_id_and_is_counted() {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.script([Fault::TakeAndClose]);
    let site = Site::new(&standin);
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO incidents.example").unwrap();
    send(&mut smtp, "one", "a", "new");
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    assert_eq!(events[0].payload, events[1].payload);
    assert_eq!(events[1].payload["X-S4-ExternalID"], "a");
    // What came of the second post is in the spool when the service has ended.
    gateway.stop();
    let listed = site.command(&["queue", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(", 1 possibly there twice"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_storm_few_pages_tell_of_all_and_every_mail_is_kept_and_linked() {
    const MAILS: usize = 30;
    let standin = Standin::start(Options::default()).await.unwrap();
    let mut site = Site::new(&standin);
    site.set("incidents", "storm", "{ after = 5, interval = '1h', calm = '1h' }");
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO storm.example").unwrap();
    for n in 0..MAILS {
        send(&mut smtp, &format!("Disk {n} is full"), &format!("disk-{n}"), "new");
    }
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(6)).await.unwrap();
    let digest = events.iter().find(|event| event.payload["Title"].as_str().unwrap().contains("torm"));
    let payload = &digest.expect("a digest goes out").payload;
    assert!(payload["X-S4-ExternalID"].as_str().unwrap().starts_with("smtp2signl4:storm:1-"), "{payload}");
    let folded = lines(&site, &["queue", "list", "--digest", "1", "--json"]);
    assert_eq!(folded.len(), MAILS - 5);
    assert!(folded.iter().all(|event| event["state"] == "folded" && event["digest"] == 1));
    gateway.stop();
    assert_eq!(standin.taken(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_in_a_storm_the_gateway_pages_no_further_burst_and_names_each_mail_once() {
    const MAILS: usize = 24;
    const SINGLY: usize = 5;
    let standin = Standin::start(Options::default()).await.unwrap();
    let mut site = Site::new(&standin);
    site.set("incidents", "storm", "{ after = 5, interval = '1h', calm = '1h' }");
    // Killed before the storm begins, as it begins, and twice while it rages.
    for life in 0..4 {
        let gateway = site.start();
        let mut smtp = Smtp::connect(gateway.address()).unwrap();
        smtp.say("EHLO storm.example").unwrap();
        let from = [0, 3, 6, 15][life];
        let to = [3, 6, 15, MAILS][life];
        for n in from..to {
            send(&mut smtp, &format!("Disk {n} is full"), &format!("disk-{n}"), "new");
        }
        gateway.kill();
    }
    let gateway = site.start();
    let is_digest = |title: &str| title.starts_with("Storm of ");
    let titles = |requests: &[Request]| -> HashSet<String> {
        requests.iter().map(|event| event.payload["Title"].as_str().unwrap().to_owned()).collect()
    };
    let all_came = standin.wait_for(|requests| titles(requests).len() > SINGLY);
    tokio::time::timeout(PATIENCE, all_came).await.unwrap();
    gateway.stop();
    let titles = titles(&standin.requests());
    let singly: HashSet<&String> = titles.iter().filter(|title| !is_digest(title)).collect();
    assert_eq!((singly.len(), titles.len()), (SINGLY, SINGLY + 1), "{titles:?}");
    let folded = lines(&site, &["queue", "list", "--digest", "1", "--json"]);
    let named: HashSet<&str> = folded.iter().map(|event| event["title"].as_str().unwrap()).collect();
    assert_eq!((folded.len(), named.len()), (MAILS - SINGLY, MAILS - SINGLY));
    assert!(singly.iter().all(|title| !named.contains(title.as_str())));
    // A digest is written with the note of what it tells: what was killed while it was posted goes out again, with
    // the same key, and no second one is made.
    let all = Filter { limit: 1_000, ..Filter::default() };
    let written = Reader::open(&site.spool()).unwrap().list(all).await.unwrap();
    let digests = written.iter().filter(|event| is_digest(&event.title)).count();
    assert_eq!((written.len(), digests), (MAILS + 1, 1));
}

/// A spool whose events are taken at once, and a clock that the test moves.
struct Model {
    context: Context,
    clock: Arc<Manual>,
    storm: incident::Storm,
    posted: Vec<Queued>,
    next: u16,
}

impl Model {
    fn new(folder: &std::path::Path) -> Self {
        let clock = Arc::new(Manual::new("2026-11-20T17:00:00Z".parse::<Timestamp>().unwrap()));
        let config = Config { sync: Sync::Off, ..Config::at(folder) };
        let storm = config.incidents.storm.clone().unwrap();
        let spool = Spool::open(&config, clock.clone()).unwrap();
        let site = config::parse(None, &Source::new("c", "")).unwrap();
        let (rules, teams) = (RuleSet::load(&[], site.site()).unwrap(), Routes::new(&site.teams));
        let context = Context::new(spool, clock.clone(), teams, Arc::new(rules), 0);
        Self { context, clock, storm, posted: Vec::new(), next: 0 }
    }

    async fn put(&mut self, n: u32, status: Status) {
        self.next = self.next.wrapping_add(1);
        let now = self.clock.now();
        let event = Event {
            team: "soc".into(),
            title: format!("Disk {n} is full"),
            external_id: Some(format!("disk-{n}")),
            source_system: Some("Tool".into()),
            severity: Some(if n % 1_000 == 999 { Severity::Critical } else { Severity::Low }),
            status,
            ..Event::default()
        };
        let entry = Entry {
            id: MailId::new(now, self.next),
            envelope: Envelope { received_at: now, origin: Origin::Command, ..Envelope::default() },
            content: None,
            story: Value::Null,
            events: vec![event],
            dropped: None,
        };
        self.context.spool.enqueue(entry).await.unwrap();
    }

    /// Tells what is due and posts all that waits.
    async fn post(&mut self) {
        tell_due(&self.context, &self.storm, Timestamp::MIN).await.unwrap();
        let waiting = self.context.spool.reader().waiting("soc", 0, 100_000).await.unwrap();
        let at = self.clock.now();
        let delivered =
            |event: &Queued| Outcome::Delivered { seq: event.seq, event_id: None, at, by_way: None };
        self.context.spool.record(waiting.iter().map(delivered).collect()).await.unwrap();
        self.posted.extend(waiting);
    }

    async fn pass(&mut self, minutes: u32) {
        for _ in 0..minutes {
            self.clock.advance(SignedDuration::from_mins(1));
            self.post().await;
        }
    }

    fn titles(&self) -> Vec<String> {
        let payload = |event: &Queued| serde_json::from_str::<Value>(&event.payload).unwrap();
        self.posted
            .iter()
            .map(|event| payload(event)["Title"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_mails_in_a_minute_end_in_few_pages_that_tell_of_them_all() {
    const MAILS: u32 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::new(folder.path());
    for n in 0..MAILS {
        model.put(n, Status::New).await;
        model.clock.advance(SignedDuration::from_millis(6));
        if n % 500 == 0 {
            model.post().await;
        }
    }
    model.pass(12).await;
    let titles = model.titles();
    let critical: HashSet<String> =
        (0..MAILS / 1_000).map(|n| format!("Disk {} is full", n * 1_000 + 999)).collect();
    assert!(critical.iter().all(|title| titles.contains(title)), "critical mail pages by itself");
    let digests: Vec<_> = titles.iter().filter(|title| title.contains("torm")).collect();
    assert_eq!(
        digests,
        [
            "Storm of mails from Tool: 481 folded so far",
            "The storm of mails from Tool is over: 9970 were folded",
        ]
    );
    assert_eq!(titles.len(), 20 + critical.len() + digests.len());

    // It is over: the next page by itself. When all is closed, so is the digest, and no close is sent of what
    // was only told in it.
    model.put(MAILS, Status::New).await;
    for n in 0..=MAILS {
        model.put(n, Status::Resolved).await;
    }
    model.posted.clear();
    model.post().await;
    let opens = model.posted.iter().filter(|event| event.status == Status::New).count();
    let closes = model.posted.len() - opens;
    assert_eq!((opens, closes), (1, 20 + critical.len() + 1 + 1));
    let last = model.titles().pop().unwrap();
    assert_eq!(last, "The storm of mails from Tool is over: all 9970 folded are closed");
    assert_eq!(model.context.spool.reader().storms().await.unwrap(), []);
}
