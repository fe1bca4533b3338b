//! What the gateway watches over: what is muted, which mail is expected, and that it works itself. On the
//! gateway's own intake and spool, with a clock that the test moves.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use smtp2signl4::clock::{Clock, Manual};
use smtp2signl4::config::{self, Config, Environment, Routes};
use smtp2signl4::delivery::{Connection, Pinger, Proxy, State};
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, Status};
use smtp2signl4::gateway::heartbeat::{Door, Heart};
use smtp2signl4::gateway::{Gateway, Intake, Lookout, expect, load_rules, lookout};
use smtp2signl4::mail::{Envelope, Mail};
use smtp2signl4::secret::Secret;
use smtp2signl4::spool::Spool;
use smtp2signl4::standin::{Options, Standin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn start() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// A gateway without a listener and without a delivery: what it would post waits in the spool.
struct Bench {
    intake: Arc<Intake>,
    clock: Arc<Manual>,
}

fn parse(folder: &Path, text: &str) -> Config {
    let text = format!("[spool]\npath = '{}'\n{text}", folder.display());
    config::parse(None, &Source::new("t.toml", text)).unwrap()
}

impl Bench {
    async fn open(folder: &Path, text: &str, now: Timestamp) -> Self {
        let config = parse(folder, text);
        let clock = Arc::new(Manual::new(now));
        let spool = Spool::open(&config.spool, clock.clone()).unwrap();
        let lookout = Lookout::load(&config, spool.reader(), clock.now()).await.unwrap();
        let rules = Arc::new(load_rules(&config).unwrap());
        let routes = Routes::new(&config.teams);
        let intake = Intake::new(rules, routes, "default".to_owned(), spool, None, clock.clone(), 0);
        let bench = Self { intake: Arc::new(intake.watching(lookout)), clock };
        bench.attend().await;
        bench
    }

    /// Ends it: nothing but the spool is left. The time at which that was.
    async fn end(self) -> Timestamp {
        self.intake.spool().close().await;
        self.clock.now()
    }

    async fn attend(&self) -> Option<Timestamp> {
        lookout::attend(&self.intake).await.unwrap()
    }

    /// Moves the clock by `step` and does what is due then.
    async fn after(&self, step: SignedDuration) -> Option<Timestamp> {
        self.clock.advance(step);
        self.attend().await
    }

    async fn mail(&self, subject: &str) {
        let envelope = Envelope {
            received_at: self.clock.now(),
            reverse_path: "a@example.org".into(),
            recipients: vec!["soc@example.org".into()],
            ..Envelope::default()
        };
        let content = format!("From: a@example.org\r\nSubject: {subject}\r\n\r\ntext\r\n").into();
        self.intake.take(Mail { envelope, content }).await.unwrap();
        self.attend().await;
    }

    /// The payloads of notices of the gateway's own that wait to be posted, in order.
    async fn notices(&self) -> Vec<Value> {
        let waiting = self.intake.spool().waiting("default", 0, 100).await.unwrap();
        let payloads = waiting.iter().map(|event| serde_json::from_str::<Value>(&event.payload).unwrap());
        payloads.filter(|payload| payload["X-S4-SourceSystem"] == "smtp2signl4").collect()
    }

    /// The status of each notice, in order.
    async fn statuses(&self) -> Vec<String> {
        self.notices()
            .await
            .iter()
            .map(|payload| payload["X-S4-Status"].as_str().unwrap().to_owned())
            .collect()
    }
}

const BACKUP: &str = "[[expect]]\nname = 'nightly backup'\nwhen = { subject = '^Backup' }\nwithin = '26h'\n";

#[tokio::test]
async fn an_expected_mail_that_does_not_come_pages_at_its_deadline_and_is_closed_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), BACKUP, start()).await;
    assert_eq!(bench.attend().await, Some(start() + hours(26)));
    bench.after(hours(3)).await;
    bench.mail("Backup ok").await;
    bench.mail("something else").await;
    assert_eq!(bench.attend().await, Some(start() + hours(29)));
    bench.after(hours(26) - SignedDuration::from_millis(1)).await;
    assert_eq!(bench.statuses().await, [""; 0]);

    bench.after(SignedDuration::from_millis(1)).await;
    let raised = bench.notices().await;
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0]["X-S4-ExternalID"], "smtp2signl4:expect:nightly backup");
    assert_eq!(raised[0]["X-S4-Status"], "new");
    assert_eq!(raised[0]["Severity"], "high");
    let message = raised[0]["Message"].as_str().unwrap();
    assert!(message.contains("within 26h") && message.contains("2026-11-20 15:00 UTC"), "{message}");

    bench.after(hours(1)).await;
    assert_eq!(bench.statuses().await, ["new"], "told once");
    bench.after(hours(25)).await;
    assert_eq!(bench.statuses().await, ["new", "new"], "and again each time that it may take");
    bench.mail("Backup ok").await;
    let closed = bench.notices().await.remove(2);
    assert_eq!(closed["X-S4-Status"], "resolved");
    assert_eq!(closed["X-S4-ExternalID"], "smtp2signl4:expect:nightly backup");
    assert!(closed["Message"].as_str().unwrap().contains("the first since 2026-11-20 15:00 UTC"), "{closed}");
    assert_eq!(bench.attend().await, Some(bench.clock.now() + hours(26)));
    assert_eq!(bench.statuses().await.len(), 3);
}

#[tokio::test]
async fn what_came_last_and_what_was_told_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), BACKUP, start()).await;
    bench.after(hours(3)).await;
    bench.mail("Backup ok").await;
    let now = bench.end().await;

    let bench = Bench::open(folder.path(), BACKUP, now + hours(25)).await;
    assert_eq!(bench.attend().await, Some(start() + hours(29)));
    bench.after(hours(1)).await;
    assert_eq!(bench.statuses().await, ["new"]);
    let now = bench.end().await;

    let bench = Bench::open(folder.path(), BACKUP, now + hours(1)).await;
    assert_eq!(bench.statuses().await, ["new"], "it was told");
    bench.mail("Backup ok").await;
    assert_eq!(bench.statuses().await, ["new", "resolved"]);
}

#[tokio::test]
async fn a_mail_that_came_right_before_a_crash_still_closes_the_alert() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), BACKUP, start()).await;
    bench.after(hours(26)).await;
    assert_eq!(bench.statuses().await, ["new"]);
    let envelope = Envelope { received_at: bench.clock.now(), ..Envelope::default() };
    bench.intake.take(Mail { envelope, content: "Subject: Backup ok\r\n\r\nt\r\n".into() }).await.unwrap();
    let now = bench.end().await;
    let bench = Bench::open(folder.path(), BACKUP, now).await;
    assert_eq!(bench.statuses().await, ["new", "resolved"]);
}

#[tokio::test]
async fn after_a_long_silence_of_its_own_the_gateway_gives_mail_time_to_come() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), BACKUP, start()).await;
    let now = bench.end().await;
    let bench = Bench::open(folder.path(), BACKUP, now + hours(100)).await;
    assert_eq!(bench.attend().await, Some(now + hours(100) + SignedDuration::from_mins(15)));
    assert_eq!(bench.statuses().await, [""; 0]);
    bench.after(SignedDuration::from_mins(15)).await;
    assert_eq!(bench.statuses().await, ["new"]);
}

#[tokio::test]
async fn what_is_no_longer_expected_is_closed_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), BACKUP, start()).await;
    bench.after(hours(26)).await;
    let now = bench.end().await;
    let bench = Bench::open(folder.path(), "", now).await;
    assert_eq!(bench.statuses().await, ["new", "resolved"]);
    let now = bench.end().await;
    let bench = Bench::open(folder.path(), BACKUP, now + hours(5)).await;
    assert_eq!(bench.attend().await, Some(now + hours(31)), "it counts from this start");
    assert_eq!(bench.statuses().await, ["new", "resolved"]);
}

#[tokio::test]
async fn a_mail_that_a_rule_drops_has_come_and_an_event_can_be_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let expects = "[[expect]]\nname = 'report'\nwhen = { subject = '^Logwatch for' }\nwithin = '1d'\n\
                   [[expect]]\nname = 'veeam'\nwhen = { event = { source-system = 'SIGNL4|Veeam', status = '^resolved$' } }\nwithin = '2d'\n";
    let bench = Bench::open(folder.path(), expects, start()).await;
    bench.after(hours(1)).await;
    let envelope = Envelope { received_at: bench.clock.now(), ..Envelope::default() };
    let report = "From: logwatch@web1.example\r\nSubject: Logwatch for web1 (Linux)\r\n\r\n ####### Logwatch 7.5 #######\r\n";
    bench.intake.take(Mail { envelope: envelope.clone(), content: report.into() }).await.unwrap();
    assert_eq!(bench.attend().await, Some(start() + hours(25)));
    let standing = async |name: &str| {
        let all = expect::standings(bench.intake.spool().reader()).await.unwrap();
        all.into_iter().find(|(known, _)| known == name).unwrap().1.seen.map(|seen| seen.at)
    };
    assert_eq!((standing("report").await, standing("veeam").await), (Some(start() + hours(1)), None));
    let event = Event { team: "default".into(), source_system: Some("Veeam".into()), ..Event::default() };
    bench.intake.take_event(envelope.clone(), event.clone()).await.unwrap();
    assert_eq!(standing("veeam").await, None, "it is not resolved");
    let resolved = Event { status: Status::Resolved, ..event };
    bench.intake.take_event(envelope, resolved).await.unwrap();
    assert_eq!(standing("veeam").await, Some(start() + hours(1)));
}

/// Answers every request with 200 and counts them, one connection each.
async fn listener() -> (String, tokio::sync::watch::Receiver<usize>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/apps/heartbeat-s3cret?param=x", socket.local_addr().unwrap());
    let (count, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = socket.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let taken = request[..read].starts_with(b"GET /apps/heartbeat-s3cret?param=x HTTP/1.1\r\n");
            let status = if taken { "200 OK" } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            count.send_modify(|count| *count += usize::from(taken));
        }
    });
    (url, counted)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heart_beats_while_accept_spool_and_delivery_work_and_names_the_part_that_does_not() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let (url, pings) = listener().await;
    let folder = tempfile::tempdir().unwrap();
    let text =
        format!("[smtp]\nlisten = ['127.0.0.1:0']\n[signl4]\nurl = '{}'\nproxy = false\n", standin.url());
    let config = parse(folder.path(), &text);
    let clock = Arc::new(Manual::new(start()));
    let environment = Environment::of([("SIGNL4_TEAM_SECRET".to_owned(), "team".to_owned())]);
    let gateway = Gateway::start(&config, &environment, clock.clone()).await.unwrap();
    let minute = Duration::from_secs(60);
    let heart = |door| {
        let pinger = Pinger::new(&config.connection, &Secret::new(&url)).unwrap();
        Heart::new(door, Arc::clone(gateway.intake()), pinger, minute)
    };
    let mut beating = heart(Door::of(&config.smtp.entrances, gateway.addresses()));
    assert!(beating.beat().await);
    assert_eq!(*pings.borrow(), 1);

    // Nobody opens: the port was given back.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut deaf = heart(Door::of(&config.smtp.entrances, &[gone]));
    assert!(!deaf.beat().await);
    assert_eq!(deaf.check().await.unwrap_err().part, "accept");
    assert_eq!(*pings.borrow(), 1, "no ping without a client that is greeted");

    // SIGNL4 does not know the team: its event is held, which is no fault before three beats have passed.
    standin.set_secrets(vec!["another".to_owned()]);
    let event = Event { team: "default".into(), title: "t".into(), ..Event::default() };
    gateway
        .intake()
        .take_event(Envelope { received_at: start(), ..Envelope::default() }, event)
        .await
        .unwrap();
    let delivery = gateway.intake().delivery().unwrap();
    while !delivery.status().await.iter().any(|team| team.state == State::Held && team.queued > 0) {
        standin.wait_for(|requests| !requests.is_empty()).await;
        tokio::task::yield_now().await;
    }
    assert!(beating.beat().await);
    clock.advance(SignedDuration::from_secs(179));
    assert!(beating.beat().await);
    clock.advance(SignedDuration::from_secs(1));
    assert!(!beating.beat().await);
    let fault = beating.check().await.unwrap_err();
    assert_eq!(fault.part, "delivery");
    assert!(fault.problem.contains("default"), "{}", fault.problem);
    assert_eq!(*pings.borrow(), 3);
    standin.set_secrets(Vec::new());
    delivery.wake(None).await;
    standin.wait_for_events(1).await;
    while delivery.status().await.iter().any(|team| team.state == State::Held) {
        tokio::task::yield_now().await;
    }
    assert!(beating.beat().await, "it goes on");
    assert_eq!(*pings.borrow(), 4);

    let intake = Arc::clone(gateway.intake());
    let door = Door::of(&config.smtp.entrances, gateway.addresses());
    intake.spool().close().await;
    let pinger = Pinger::new(&config.connection, &Secret::new(&url)).unwrap();
    let mut full = Heart::new(door, intake, pinger, minute);
    assert_eq!(full.check().await.unwrap_err().part, "spool");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_that_fails_shows_no_address() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let connection = Connection { proxy: Proxy::Off, ..Connection::default() };
    let refused =
        Pinger::new(&connection, &Secret::new(format!("http://{free}/s3cret"))).unwrap().ping().await;
    assert!(!refused.unwrap_err().contains("s3cret"));
    let standin = Standin::start(Options::default()).await.unwrap();
    let unknown = Secret::new(format!("http://{}/s3cret", standin.address()));
    let refused = Pinger::new(&connection, &unknown).unwrap().ping().await.unwrap_err();
    assert!(refused.starts_with("answered 404") && !refused.contains("s3cret"), "{refused}");
    assert!(
        Pinger::new(&connection, &Secret::new("s3cret"))
            .is_err_and(|error| !error.to_string().contains("s3cret"))
    );
}
