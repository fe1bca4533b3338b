//! Delivery from a real spool to a stand-in that enforces SIGNL4's documented windows, shortened: the
//! account is never blocked, also across crashes, and what is urgent goes first.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use smtp2signl4::clock::{Clock, Manual, System};
use smtp2signl4::delivery::{
    Config, Connection, Delivery, Fault, Finding, Plan, Proxy, State, Target, probe,
};
use smtp2signl4::event::{Event, Repeat, Severity};
use smtp2signl4::incident;
use smtp2signl4::mail::{Envelope, MailId};
use smtp2signl4::secret::Secret;
use smtp2signl4::spool::{self, Admission, Entry, Filter, Spool};
use smtp2signl4::standin::{self, Options, Request, Standin};
use support::{PATIENCE, Site, Smtp};
use tokio_util::sync::CancellationToken;

/// 4 in a second, 9 in three.
fn windows() -> Vec<(u64, SignedDuration)> {
    vec![(4, SignedDuration::from_secs(1)), (9, SignedDuration::from_secs(3))]
}

async fn standin(secrets: &[&str]) -> Standin {
    let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
    let plan = standin::Plan::Windows(windows());
    Standin::start(Options { plan, secrets, ..Options::default() }).await.unwrap()
}

fn direct() -> Connection {
    Connection { proxy: Proxy::Off, ..Connection::default() }
}

/// A spool, and a delivery that drains it.
struct Rig {
    spool: Spool,
    delivery: Delivery,
    stop: CancellationToken,
}

/// A spool in which every event is sent as it comes.
fn spool_at(folder: &Path) -> spool::Config {
    let incidents = incident::Config { repeat: Repeat::Update, storm: None, ..incident::Config::default() };
    spool::Config { incidents, ..spool::Config::at(folder) }
}

impl Rig {
    fn start(folder: &Path, targets: Vec<Target>, config: Config) -> Self {
        Self::over(&spool_at(folder), targets, config, Arc::new(System))
    }

    fn start_at(folder: &Path, targets: Vec<Target>, config: Config, clock: Arc<dyn Clock>) -> Self {
        Self::over(&spool_at(folder), targets, config, clock)
    }

    fn over(spool: &spool::Config, targets: Vec<Target>, config: Config, clock: Arc<dyn Clock>) -> Self {
        let spool = Spool::open(spool, Arc::clone(&clock)).unwrap();
        let stop = CancellationToken::new();
        let (delivery, run) =
            Delivery::prepare(config, direct(), targets, spool.clone(), clock, 1, stop.clone()).unwrap();
        tokio::spawn(run);
        let offer = delivery.clone();
        spool.tell(move |news| offer.offer(news.queued));
        Self { spool, delivery, stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.delivery.ended().await;
        self.spool.close().await;
    }

    /// Queues an event for `team` and returns its number.
    async fn put(&self, n: u16, team: &str, severity: Severity) -> u64 {
        self.admit(n, team, severity).await.queued[0].seq
    }

    async fn admit(&self, n: u16, team: &str, severity: Severity) -> Admission {
        let event = Event {
            team: team.to_owned(),
            title: n.to_string(),
            severity: Some(severity),
            ..Event::default()
        };
        let entry = Entry {
            id: MailId::new(Timestamp::now(), n),
            envelope: Envelope::default(),
            content: None,
            story: serde_json::Value::Null,
            events: vec![event],
            dropped: None,
        };
        self.spool.put(entry, Vec::new()).await.unwrap()
    }
}

fn config() -> Config {
    Config { plan: Plan::Windows(windows()), ..Config::default() }
}

/// One that posts events as they come, and nothing else.
fn silent() -> Config {
    Config { plan: Plan::Unlimited, probe: false, ..Config::default() }
}

fn target(standin: &Standin, team: &str, secret: &str) -> Target {
    Target::fixed(team, standin.url(), Secret::new(secret))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("nothing happened for a minute")
}

fn titles(requests: &[Request]) -> Vec<u16> {
    requests.iter().filter_map(|r| r.payload["Title"].as_str()?.parse().ok()).collect()
}

fn throttled(standin: &Standin) -> usize {
    standin.requests().iter().filter(|request| request.status == 429).count()
}

#[tokio::test]
async fn a_storm_of_two_teams_earns_no_block_and_the_critical_ones_go_first() {
    let standin = standin(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let targets = ["soc", "ops"].map(|team| target(&standin, team, team)).to_vec();
    let rig = Rig::start(folder.path(), targets, config());
    for n in 0..30 {
        rig.put(n, if n % 2 == 0 { "soc" } else { "ops" }, Severity::Info).await;
    }
    for n in 30..33 {
        rig.put(n, "ops", Severity::Critical).await;
    }
    within(standin.wait_for(|requests| titles(requests).len() >= 33)).await;
    assert_eq!(throttled(&standin), 0);
    let order = titles(&standin.events());
    let place = |n| order.iter().position(|&title| title == n).unwrap();
    for critical in 30..33 {
        assert!(place(critical) < 12, "{order:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_window_forgets_nothing_that_was_posted() {
    let standin = standin(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut all = 0;
    for round in 0..4 {
        let rig = Rig::start(folder.path(), vec![target(&standin, "soc", "soc")], config());
        for n in 0..5 {
            rig.put(round * 100 + n, "soc", Severity::High).await;
        }
        all += 3;
        within(standin.wait_for_events(all)).await;
        rig.stop().await;
    }
    assert_eq!(throttled(&standin), 0);
}

#[tokio::test]
async fn the_headers_tell_an_account_that_is_told_nothing_what_it_may_post() {
    let plan = standin::Plan::Commercial;
    let standin = Standin::start(Options { plan, ..Options::default() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = Config { plan: Plan::Auto, ..Config::default() };
    let rig = Rig::start(folder.path(), vec![target(&standin, "soc", "soc")], config);
    for n in 0..60 {
        rig.put(n, "soc", Severity::High).await;
    }
    // A free account would take more than a minute.
    let all = standin.wait_for(|requests| titles(requests).len() >= 60);
    tokio::time::timeout(Duration::from_secs(14), all).await.unwrap();
    assert_eq!(throttled(&standin), 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_is_found_at_the_start_by_a_question_that_pages_nobody() {
    let standin = standin(&["right"]).await;
    let folder = tempfile::tempdir().unwrap();
    let targets = vec![target(&standin, "soc", "right"), target(&standin, "ops", "wrong")];
    let rig = Rig::start(folder.path(), targets, config());
    within(standin.wait_for(|requests| requests.len() >= 2)).await;
    within(async {
        while rig.delivery.status().await.iter().any(|status| status.state == State::Untried) {}
    })
    .await;
    let states: Vec<_> = rig.delivery.status().await.into_iter().map(|s| (s.team, s.state)).collect();
    assert_eq!(states, [("ops".to_owned(), State::Held), ("soc".to_owned(), State::Open)]);
    for request in standin.requests() {
        assert_eq!(request.payload["X-S4-Status"], "resolved");
        assert_eq!(request.payload["X-S4-ExternalID"], "smtp2signl4:probe");
        assert_eq!(request.payload.get("Title"), None);
    }
    rig.stop().await;
    let asked =
        async |secret| probe(&direct(), Duration::from_secs(5), target(&standin, "x", secret)).await.unwrap();
    assert!(matches!(asked("right").await, Finding::Proven(_)));
    let answer = asked("wrong").await;
    assert!(
        matches!(&answer, Finding::Failed(Fault::Config, reason) if !reason.contains("wrong")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_events_of_a_team_that_is_held_for_long_go_by_its_fallback_and_say_whom_they_are_for() {
    let standin = standin(&["right"]).await;
    let folder = tempfile::tempdir().unwrap();
    let soc = Target { fallback: Some("ops".to_owned()), ..target(&standin, "soc", "wrong") };
    let targets = vec![soc, target(&standin, "ops", "right")];
    let config = Config { fallback_after: Duration::from_secs(1), ..config() };
    let rig = Rig::start(folder.path(), targets, config);
    let seq = rig.put(7, "soc", Severity::High).await;
    within(rig.delivery.wait(seq)).await;
    let event = standin.events().into_iter().find(|event| event.payload.get("Title").is_some()).unwrap();
    assert_eq!((event.secret.as_str(), &event.payload["Title"]), ("right", &"7".into()));
    assert_eq!(event.payload["Meant for"], "soc");
    let listed = rig.spool.reader().list(Filter::default()).await.unwrap();
    assert_eq!(listed[0].reason.as_deref(), Some("by way of team ops"));
    assert!(listed[0].event_id.is_some());
    rig.stop().await;
}

#[tokio::test]
async fn a_restart_does_not_begin_anew_to_count_how_long_a_secret_is_refused() {
    let options = Options { secrets: vec!["right".to_owned()], ..Options::default() };
    let standin = Standin::start(options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let targets = || {
        let soc = Target { fallback: Some("ops".to_owned()), ..target(&standin, "soc", "wrong") };
        vec![soc, target(&standin, "ops", "right")]
    };
    let config = || Config { plan: Plan::Unlimited, ..Config::default() };
    let clock = Arc::new(Manual::new("2026-11-20T12:00:00Z".parse().unwrap()));
    let rig = Rig::start_at(folder.path(), targets(), config(), clock.clone());
    let seq = rig.put(7, "soc", Severity::High).await;
    within(async { while rig.spool.reader().memos("held").await.unwrap().is_empty() {} }).await;
    let noted = rig.spool.reader().memos("held").await.unwrap();
    assert_eq!(noted, [("soc".to_owned(), "2026-11-20T12:00:00Z".into())]);
    rig.stop().await;

    clock.advance(SignedDuration::from_mins(11));
    let rig = Rig::start_at(folder.path(), targets(), config(), clock.clone());
    within(rig.delivery.wait(seq)).await;
    let event = standin.events().into_iter().find(|event| event.payload.get("Title").is_some()).unwrap();
    assert_eq!((event.secret.as_str(), &event.payload["Meant for"]), ("right", &"soc".into()));
    rig.stop().await;

    let rig = Rig::start_at(folder.path(), vec![target(&standin, "soc", "right")], config(), clock);
    within(async { while !rig.spool.reader().memos("held").await.unwrap().is_empty() {} }).await;
    rig.stop().await;
}

/// How many alerts too many there may be, by the summary and by the list.
async fn possible_doubles(spool: &Spool) -> (u64, u32) {
    let counts = spool.reader().counts().await.unwrap();
    let doubled = Filter { doubled: true, ..Filter::default() };
    let listed = spool.reader().list(doubled).await.unwrap();
    (
        counts.iter().map(|count| count.possible_doubles).sum(),
        listed.iter().map(|event| event.possible_doubles).sum(),
    )
}

#[tokio::test]
async fn a_post_whose_answer_was_lost_is_counted_once_it_is_made_again_also_by_the_next_start() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start = || Rig::start(folder.path(), vec![target(&standin, "soc", "right")], silent());
    standin.fail(Some(standin::Fault::TakeAndClose));
    let rig = start();
    let lost = rig.put(1, "soc", Severity::High).await;
    within(async { while rig.spool.reader().find(lost).await.unwrap().unwrap().attempts == 0 {} }).await;
    rig.stop().await;
    let taken = standin.events().len();

    standin.fail(None);
    let rig = start();
    within(rig.delivery.wait(lost)).await;
    let fine = rig.put(2, "soc", Severity::High).await;
    within(rig.delivery.wait(fine)).await;
    assert_eq!(possible_doubles(&rig.spool).await, (taken as u64, taken as u32));
    assert_eq!(rig.delivery.status().await[0].doubles, 1, "one post was made again since the start");
    rig.stop().await;
    let spool = Spool::open(&spool_at(folder.path()), Arc::new(System)).unwrap();
    assert_eq!(possible_doubles(&spool).await, (taken as u64, taken as u32), "no restart forgets it");
    spool.close().await;
}

#[tokio::test]
async fn a_post_that_a_stop_cuts_off_may_have_been_taken_and_is_counted_when_it_is_made_again() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let config = Config { drain: Duration::ZERO, ..silent() };
        Rig::start(folder.path(), vec![target(&standin, "soc", "right")], config)
    };
    standin.fail(Some(standin::Fault::Hang));
    let rig = start();
    let seq = rig.put(1, "soc", Severity::High).await;
    within(standin.wait_for(|requests| requests.len() == 1)).await;
    rig.stop().await;

    standin.fail(None);
    let rig = start();
    let left = rig.spool.reader().find(seq).await.unwrap().unwrap();
    assert_eq!(left.reason.as_deref(), Some("the service stopped before an answer came"));
    within(rig.delivery.wait(seq)).await;
    assert_eq!(possible_doubles(&rig.spool).await, (1, 1));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_program_earns_no_block_however_often_it_is_killed() {
    let standin = standin(&[]).await;
    let mut site = Site::new(&standin);
    site.set("signl4", "plan", "{ 1s = 4, 3s = 9 }");
    site.set("incidents", "storm", "false");
    site.set("signl4", "probe", "true");
    let mut rng = fastrand::Rng::new();
    let seed = rng.u64(..);
    rng.seed(seed);
    let mut gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO storm.example").unwrap();
    for n in 0..30 {
        let mail = format!("Subject: {n}\nX-S4-ExternalID: case {n}\n\nText.\n");
        smtp.mail("a@example.org", &["soc@example.org"], &mail).unwrap();
    }
    for _ in 0..8 {
        // The moment of the kill is what is random here.
        tokio::time::sleep(Duration::from_millis(rng.u64(50..1_200))).await;
        gateway.kill();
        gateway = site.start();
    }
    let all = standin.wait_for(|requests| {
        let mut here = titles(requests);
        here.sort_unstable();
        here.dedup();
        here.len() == 30
    });
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(throttled(&standin), 0, "seed {seed}");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_costs_the_account_only_what_was_under_way() {
    let plan = standin::Plan::Windows(vec![(60, SignedDuration::from_hours(1))]);
    let standin = Standin::start(Options { plan, ..Options::default() }).await.unwrap();
    let mut site = Site::new(&standin);
    site.set("signl4", "plan", "{ 1s = 10, 1h = 60 }");
    site.set("incidents", "storm", "false");
    let mut gateway = site.start();
    let hand_in = |gateway: &support::Gateway, numbers: std::ops::Range<u32>| {
        let mut smtp = Smtp::connect(gateway.address()).unwrap();
        smtp.say("EHLO loop.example").unwrap();
        for n in numbers {
            let mail = format!("Subject: {n}\nX-S4-ExternalID: case {n}\n\nText.\n");
            smtp.mail("a@example.org", &["soc@example.org"], &mail).unwrap();
        }
    };
    for life in 0..24 {
        // One mail comes in every second life; in the others the queue is empty or holds what was cut off.
        if life % 2 == 0 {
            hand_in(&gateway, life / 2..life / 2 + 1);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        gateway.kill();
        gateway = site.start();
    }
    hand_in(&gateway, 12..30);
    let all = standin.wait_for(|requests| {
        let mut here = titles(requests);
        here.sort_unstable();
        here.dedup();
        here.len() == 30
    });
    // Its hour is not used up, and nothing waits for the next.
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    assert_eq!(throttled(&standin), 0);
    gateway.stop();
}

#[tokio::test]
async fn a_storm_is_measured_by_the_account_of_the_team_that_is_flooded() {
    let account = async |plan| Standin::start(Options { plan, ..Options::default() }).await.unwrap();
    let (free, paid) = (account(standin::Plan::Free).await, account(standin::Plan::Commercial).await);
    let folder = tempfile::tempdir().unwrap();
    let targets = vec![
        Target { account: "paid".into(), ..target(&paid, "soc", "a") },
        Target { account: "free".into(), ..target(&free, "ops", "b") },
    ];
    let rig = Rig::over(&spool::Config::at(folder.path()), targets, Config::default(), Arc::new(System));
    // What each may post is learnt from the first reply, the paid account's first.
    for (n, team) in ["soc", "ops"].into_iter().enumerate() {
        let seq = rig.put(n as u16, team, Severity::Info).await;
        within(rig.delivery.wait(seq)).await.unwrap();
    }
    let mut folded = [0, 0];
    for n in 2..32 {
        for (team, folded) in ["soc", "ops"].into_iter().zip(&mut folded) {
            let n = 2 * n + u16::from(team == "ops");
            *folded += rig.admit(n, team, Severity::Info).await.folded;
        }
    }
    assert_eq!(folded, [0, 11], "of 31 in a minute 20 page where 10 may go in 15 seconds");
    rig.stop().await;
}
