//! What the gateway watches over: what is muted, which mail is expected, and that it works itself. On the
//! gateway's own intake and spool, with a clock that the test moves.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use smtp2signl4::clock::{Clock, Manual};
use smtp2signl4::config::{self, Config, Environment, Routes};
use smtp2signl4::context::Context;
use smtp2signl4::delivery::{self, Connection, Pinger, Proxy};
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, Severity, Status};
use smtp2signl4::gateway::{Gateway, load_rules};
use smtp2signl4::intake::Intake;
use smtp2signl4::mail::{Envelope, Mail};
use smtp2signl4::operator::{Operator, Reply, Request, perform};
use smtp2signl4::secret::Secret;
use smtp2signl4::spool::{Filter, Outcome, Spool, State};
use smtp2signl4::standin::{Options, Standin};
use smtp2signl4::watch::health::heartbeat::HealthCheck;
use smtp2signl4::watch::health::{LocalEndpoint, Vitals};
use smtp2signl4::watch::{Lookout, expect};
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
        let rules = Arc::new(load_rules(&config).unwrap());
        let context = Context::new(spool, clock.clone(), Routes::new(&config.teams), rules, 0);
        let lookout = Lookout::load(&config, context.clone()).await.unwrap();
        let bench = Self { intake: Arc::new(Intake::new(context, Arc::new(lookout))), clock };
        bench.attend().await;
        bench
    }

    /// Ends it: nothing but the spool is left. The time at which that was.
    async fn end(self) -> Timestamp {
        self.intake.context().spool.close().await;
        self.clock.now()
    }

    /// What an operator is answered.
    async fn perform(&self, request: Request) -> Reply {
        let performed = perform(&self.intake, &request, Bytes::new(), &Operator::of_process()).await;
        performed.reply(self.intake.context()).await
    }

    async fn attend(&self) -> Option<Timestamp> {
        self.intake.lookout().attend().await.unwrap()
    }

    /// Delivers what waits, moves the clock by `step` and does what is due then.
    async fn after(&self, step: SignedDuration) -> Option<Timestamp> {
        let waiting = self.intake.context().spool.reader().waiting("default", 0, 100).await.unwrap();
        let at = self.clock.now();
        let delivered = waiting.iter().map(|event| Outcome::Delivered {
            seq: event.seq,
            event_id: None,
            at,
            by_way: None,
        });
        self.intake.context().spool.record(delivered.collect()).await.unwrap();
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

    /// The payloads of notices of the gateway's own that were posted or wait for it, in order.
    async fn notices(&self) -> Vec<Value> {
        let spool = self.intake.context().spool.reader();
        let states = vec![State::Queued, State::Delivered];
        let listed = spool.list(Filter { states, ..Filter::default() }).await.unwrap();
        let mut found = Vec::new();
        for event in listed.iter().rev() {
            let shown = spool.show(event.id).await.unwrap().unwrap();
            let shown = shown.events.iter().find(|shown| shown.listed.seq == event.seq).unwrap();
            found.push(serde_json::from_str::<Value>(shown.payload.as_ref().unwrap()).unwrap());
        }
        found.retain(|payload| payload["X-S4-SourceSystem"] == "smtp2signl4");
        found
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

/// The endpoint of a gateway with this config that listens on these addresses.
fn endpoint(config: &Config, addresses: &[SocketAddr]) -> Option<LocalEndpoint> {
    LocalEndpoint::of(config.smtp.listeners.iter().zip(addresses.iter().map(ToString::to_string)))
}

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
    assert!(message.contains("within 26h") && message.contains("2026-11-20 15:00:00 UTC"), "{message}");

    bench.after(hours(1)).await;
    assert_eq!(bench.statuses().await, ["new"], "told once");
    bench.after(hours(25)).await;
    assert_eq!(bench.statuses().await, ["new", "new"], "and again each time that it may take");
    bench.mail("Backup ok").await;
    let closed = bench.notices().await.remove(2);
    assert_eq!(closed["X-S4-Status"], "resolved");
    assert_eq!(closed["X-S4-ExternalID"], "smtp2signl4:expect:nightly backup");
    assert!(
        closed["Message"].as_str().unwrap().contains("the first since Fri 2026-11-20 15:00:00 UTC"),
        "{closed}"
    );
    assert_eq!(bench.attend().await, Some(bench.clock.now() + hours(26)));
    assert_eq!(bench.statuses().await.len(), 3);
}

#[tokio::test]
async fn what_is_missing_pages_each_time_however_repeats_of_mails_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[incidents]\nrepeat = 'count'\n[[expect]]\nname = 'pulse'\nwhen = { subject = 'pulse' }\nwithin = '2m'\n";
    let bench = Bench::open(folder.path(), text, start()).await;
    for _ in 0..3 {
        bench.after(SignedDuration::from_mins(2)).await;
    }
    assert_eq!(bench.statuses().await, ["new"; 3]);
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
        let all = expect::standings(bench.intake.context().spool.reader()).await.unwrap();
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
            // Before the answer: the client that has it finds its request counted.
            count.send_modify(|count| *count += usize::from(taken));
            stream.write_all(answer.as_bytes()).await.unwrap();
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
    let check = |endpoint| {
        let pinger = Pinger::new(&config.connection, &Secret::new(&url)).unwrap();
        HealthCheck::new(Vitals::new(endpoint, gateway.intake().context().clone()), pinger, minute)
    };
    let mut beating = check(endpoint(&config, gateway.addresses()));
    assert!(beating.beat().await);
    assert_eq!(*pings.borrow(), 1);

    // Nobody opens: the port was given back.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut deaf = check(endpoint(&config, &[gone]));
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
    let posting = gateway.intake().context().delivery.clone().unwrap();
    while !posting.status().await.iter().any(|team| team.state == delivery::State::Held && team.queued > 0) {
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
    posting.wake().await;
    standin.wait_for_events(1).await;
    while posting.status().await.iter().any(|team| team.state == delivery::State::Held) {
        tokio::task::yield_now().await;
    }
    assert!(beating.beat().await, "it goes on");
    assert_eq!(*pings.borrow(), 4);

    let context = gateway.intake().context().clone();
    let endpoint = endpoint(&config, gateway.addresses());
    context.spool.close().await;
    let pinger = Pinger::new(&config.connection, &Secret::new(&url)).unwrap();
    let mut full = HealthCheck::new(Vitals::new(endpoint, context), pinger, minute);
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

/// What is kept in the spool: title and state of each event but the notices, in order.
async fn kept(bench: &Bench) -> Vec<(String, State)> {
    let listed = bench.intake.context().spool.reader().list(Filter::default()).await.unwrap();
    let kept = listed.into_iter().rev().filter(|event| !event.title.contains("still open"));
    kept.map(|event| (event.title, event.state)).collect()
}

const PATCHING: &str =
    "[[maintenance]]\nname = 'patching'\nwhen = { subject = 'db1' }\nbetween = ['11:00', '14:00']\n";

#[tokio::test]
async fn a_muted_mail_is_kept_and_what_is_still_open_at_the_end_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), PATCHING, start()).await;
    for subject in ["db1 is down", "db2 is down", "db1 disk full", "db1 disk full"] {
        bench.mail(subject).await;
    }
    let muted = |title: &str| (title.to_owned(), State::Muted);
    assert_eq!(
        kept(&bench).await,
        [
            muted("db1 is down"),
            ("db2 is down".to_owned(), State::Queued),
            muted("db1 disk full"),
            muted("db1 disk full"),
        ]
    );
    let listed = bench.intake.context().spool.reader().list(Filter::default()).await.unwrap();
    assert_eq!(listed[0].reason.as_deref(), Some("maintenance patching"));
    assert_eq!(bench.after(hours(1)).await, Some(start() + hours(2)));
    assert_eq!(bench.statuses().await, [""; 0]);

    bench.after(hours(1)).await;
    let told = bench.notices().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["Title"], "2 incidents are still open after maintenance patching");
    let message = told[0]["Message"].as_str().unwrap();
    assert!(message.contains("- db1 is down (Fri 2026-11-20 12:00:00 UTC)\n- db1 disk full"), "{message}");
    bench.after(hours(1)).await;
    assert_eq!(bench.statuses().await.len(), 1);
    bench.mail("db1 is down").await;
    assert_eq!(kept(&bench).await.last(), Some(&("db1 is down".to_owned(), State::Queued)), "it pages again");

    // The next day what was told is not told again.
    bench.after(hours(21)).await;
    bench.mail("db1 is slow").await;
    bench.after(hours(2)).await;
    assert_eq!(bench.notices().await[1]["Title"], "1 incident is still open after maintenance patching");
}

#[tokio::test]
async fn a_mute_and_what_it_muted_outlive_a_restart_and_its_end_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), "", start()).await;
    let begin = |until, conditions: &[&str]| Request::Mute {
        until,
        conditions: conditions.iter().map(|&condition| condition.to_owned()).collect(),
        reason: Some("new disks".to_owned()),
        critical: false,
    };
    let begun = bench.perform(begin(start() + hours(2), &["event.title=db1", "team=default"])).await;
    let Reply::Mutes { ids } = begun else { panic!("{begun:?}") };
    let refused = bench.perform(begin(start() + hours(2), &["nonsense=x"])).await;
    assert!(matches!(refused, Reply::Refused(_)), "{refused:?}");
    bench.mail("db1 is down").await;
    let now = bench.end().await;

    let bench = Bench::open(folder.path(), "", now + hours(1)).await;
    bench.mail("db1 disk full").await;
    assert!(kept(&bench).await.iter().all(|(_, state)| *state == State::Muted));
    let ended = bench.perform(Request::EndMute { id: Some(ids[0].clone()) }).await;
    assert!(matches!(ended, Reply::Mutes { .. }), "{ended:?}");
    let now = bench.end().await;

    let bench = Bench::open(folder.path(), "", now).await;
    let told = bench.notices().await;
    assert_eq!(told[0]["Title"], format!("2 incidents are still open after mute {}", ids[0]));
    bench.mail("db1 is slow").await;
    assert_eq!(kept(&bench).await.last().unwrap().1, State::Queued);
    let again = bench.perform(Request::EndMute { id: Some(ids[0].clone()) }).await;
    assert!(matches!(again, Reply::Refused(_)), "{again:?}");
}

#[tokio::test]
async fn what_was_closed_or_paged_meanwhile_is_not_told_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let rules =
        "[[maintenance]]\nname = 'all'\nfrom = '2026-11-20T12:30:00Z'\nuntil = '2026-11-20T14:00:00Z'\n";
    let bench = Bench::open(folder.path(), rules, start()).await;
    let event = |id: &str, status, severity| Event {
        team: "default".into(),
        title: id.into(),
        external_id: Some(id.into()),
        severity,
        status,
        ..Event::default()
    };
    let take = async |event| {
        let envelope = Envelope { received_at: bench.clock.now(), ..Envelope::default() };
        bench.intake.take_event(envelope, event).await.unwrap();
    };
    take(event("known", Status::New, Some(Severity::Low))).await;
    take(event("worse", Status::New, Some(Severity::Low))).await;
    bench.after(hours(1)).await;
    take(event("known", Status::New, Some(Severity::Low))).await;
    take(event("worse", Status::New, Some(Severity::High))).await;
    take(event("closed", Status::New, None)).await;
    take(event("closed", Status::Resolved, None)).await;
    take(event("critical", Status::New, Some(Severity::Critical))).await;
    bench.after(hours(1)).await;
    let told = bench.notices().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["Title"], "1 incident is still open after maintenance all");
    assert!(told[0]["Message"].as_str().unwrap().contains("- worse (high, "), "{}", told[0]);
    assert_eq!(told[0]["Severity"], "high");
}
