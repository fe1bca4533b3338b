//! Delivery over real connections to the stand-in: what every kind of answer and failure leads to.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod rig;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rig::{Memory, Rig, SECRET, config, direct, fixed, numbers, within};
use smtp2signl4::delivery::{Config, Connection, EventId, Proxy, SecretSource, State, Target};
use smtp2signl4::event::Attachment;
use smtp2signl4::secret::Secret;
use smtp2signl4::spool::{Outcome, Withdrawn};
use smtp2signl4::standin::{Fault, Options, Plan, Standin};

#[tokio::test]
async fn an_event_is_posted_once_as_it_is_and_its_id_is_kept() {
    let rig = Rig::start().await;
    rig.send(1, Some("case 1"));
    let event_id = rig.delivered(1).await;
    let events = rig.standin.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event_id.as_deref(), Some(event_id.as_str()));
    assert_eq!(events[0].secret, SECRET);
    assert_eq!(events[0].content_type, "application/json");
    assert_eq!(&events[0].body[..], br#"{"Title":"confidential title 1","Message":"1"}"#);
    assert!(rig.memory.queued().is_empty());
}

#[tokio::test]
async fn what_waited_in_the_spool_goes_out_at_the_start() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let memory = Memory::default();
    for seq in 1..=1_000 {
        memory.put(seq, Some(if seq % 2 == 0 { "even" } else { "odd" }));
    }
    let target = Target::fixed("soc", standin.url(), Secret::new(SECRET));
    let rig = Rig::over(memory, standin, target, config(), direct());
    within(rig.standin.wait_for_events(1_000)).await;
    let posted = numbers(&rig.standin.events());
    for parity in [0, 1] {
        let lane: Vec<u64> = posted.iter().copied().filter(|seq| seq % 2 == parity).collect();
        assert_eq!(lane.len(), 500);
        assert!(lane.is_sorted(), "a lane leaves in its order");
    }
}

#[tokio::test]
async fn a_429_is_waited_out_until_its_reset() {
    let plan = Plan::Windows(vec![(2, jiff::SignedDuration::from_secs(1))]);
    let rig = Rig::with(Options { plan, ..Options::default() }).await;
    for seq in 1..=6 {
        rig.send(seq, Some("one lane"));
    }
    within(rig.standin.wait_for_events(6)).await;
    assert_eq!(numbers(&rig.standin.events()), [1, 2, 3, 4, 5, 6]);
    // One at least is needed to learn of each block; more than a few would be hammering.
    let blocked = rig.standin.requests().iter().filter(|r| r.status == 429).count();
    assert!((1..=4).contains(&blocked), "{blocked} requests into the block");
}

#[tokio::test]
async fn errors_of_the_server_are_tried_again_until_it_recovers() {
    let rig = Rig::start().await;
    rig.standin.script([Fault::Status(500), Fault::Status(503)]);
    rig.send(1, None);
    rig.recorded(|o| matches!(o, Outcome::Deferred { attempts: 1, reason, .. } if reason.contains("500")))
        .await;
    rig.delivered(1).await;
    let statuses: Vec<u16> = rig.standin.requests().iter().map(|r| r.status).collect();
    assert_eq!(statuses, [500, 503, 201]);
}

#[tokio::test]
async fn a_refused_event_is_parked_at_once_and_its_lane_goes_on() {
    let rig = Rig::start().await;
    for (seq, status) in [(1, 400), (2, 405), (3, 413), (4, 415), (5, 422)] {
        rig.standin.script([Fault::Status(status)]);
        rig.send(seq, Some("lane"));
        let reason = rig.failed(seq).await;
        assert!(reason.contains(&status.to_string()), "{reason}");
    }
    rig.send(6, Some("lane"));
    rig.delivered(6).await;
    assert_eq!(rig.standin.requests().len(), 6);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_after_the_timeout_and_tried_again() {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.script([Fault::Hang, Fault::Close]);
    let target = Target::fixed("soc", standin.url(), Secret::new(SECRET));
    let config = Config { timeout: Duration::from_millis(300), ..config() };
    let rig = Rig::over(Memory::default(), standin, target, config, direct());
    rig.send(1, Some("lane"));
    rig.send(2, Some("lane"));
    rig.delivered(2).await;
    assert_eq!(numbers(&rig.standin.requests()), [1, 1, 1, 2]);
    rig.recorded(|o| matches!(o, Outcome::Deferred { reason, .. } if reason == "no answer within 300ms"))
        .await;
}

#[tokio::test]
async fn refused_connections_lose_nothing_and_a_new_event_is_tried_at_once_when_it_is_back() {
    let rig = Rig::start().await;
    rig.standin.refuse().await.unwrap();
    for seq in 1..=20 {
        rig.send(seq, None);
    }
    rig.recorded(|o| matches!(o, Outcome::Deferred { reason, .. } if reason.contains("refused"))).await;
    assert_eq!(rig.state().await, State::Down);
    rig.standin.listen().await.unwrap();
    rig.send(21, None);
    within(rig.standin.wait_for_events(21)).await;
    rig.delivered(20).await;
    assert_eq!(rig.state().await, State::Open);
}

#[tokio::test]
async fn a_wrong_secret_holds_the_team_until_it_is_put_right() {
    let standin =
        Standin::start(Options { secrets: vec![SECRET.into()], ..Options::default() }).await.unwrap();
    let secret = Arc::new(Mutex::new("not-the-secret".to_owned()));
    let read = Arc::clone(&secret);
    let source: SecretSource = Arc::new(move || Ok(Secret::new(read.lock().unwrap().clone())));
    let target = Target { team: "soc".into(), url: standin.url(), secret: source, ..fixed(&standin) };
    let rig = Rig::over(Memory::default(), standin, target, config(), direct());
    for seq in 1..=30 {
        rig.send(seq, None);
    }
    rig.recorded(|o| matches!(o, Outcome::Deferred { .. })).await;
    assert_eq!(rig.state().await, State::Held);
    assert_eq!(rig.standin.requests().len(), 1, "one probe, not all thirty");
    assert_eq!(rig.memory.recorded().len(), 1, "the others are untouched");
    *secret.lock().unwrap() = SECRET.to_owned();
    rig.delivery.wake().await;
    within(rig.standin.wait_for_events(30)).await;
    assert_eq!(rig.standin.requests().len(), 31);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_holds_the_team_without_a_post() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let source: SecretSource = Arc::new(|| Err("/etc/secret: permission denied".to_owned()));
    let target = Target { team: "soc".into(), url: standin.url(), secret: source, ..fixed(&standin) };
    let rig = Rig::over(Memory::default(), standin, target, config(), direct());
    rig.send(1, None);
    rig.recorded(|o| matches!(o, Outcome::Deferred { reason, .. } if reason.contains("permission denied")))
        .await;
    assert_eq!((rig.state().await, rig.standin.requests().len()), (State::Held, 0));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_holds_the_team() {
    let rig = Rig::start().await;
    let elsewhere = Standin::start(Options::default()).await.unwrap();
    for status in [301, 302, 307, 308] {
        let headers = vec![("location".to_owned(), elsewhere.url())];
        rig.standin.script([Fault::Reply { status, headers, body: String::new() }]);
    }
    rig.send(1, None);
    for count in 1..=4 {
        rig.recorded(|o| matches!(o, Outcome::Deferred { attempts, .. } if *attempts == count)).await;
        assert_eq!(rig.state().await, State::Held);
        rig.delivery.wake().await;
    }
    rig.delivered(1).await;
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn the_yes_of_a_login_page_in_between_is_not_taken_for_signl4s() {
    let rig = Rig::start().await;
    let page = |kind: &str, body: &str| Fault::Reply {
        status: 200,
        headers: vec![("content-type".to_owned(), kind.to_owned())],
        body: body.to_owned(),
    };
    rig.standin.script([
        page("text/html; charset=utf-8", "Please log in"),
        page("application/octet-stream", "\n<!DOCTYPE html><title>Hotel</title>"),
    ]);
    rig.send(1, None);
    for count in 1..=2 {
        rig.recorded(|o| matches!(o, Outcome::Deferred { attempts, .. } if *attempts == count)).await;
        assert_eq!(rig.state().await, State::Held);
        rig.delivery.wake().await;
    }
    rig.delivered(1).await;
    // Whoever answers as SIGNL4 might is believed, be it with few words.
    let terse = [(200, r#"{"ok":true}"#), (202, "queued"), (204, ""), (201, "<p>")];
    for (seq, (status, body)) in (2..).zip(terse) {
        rig.standin.script([Fault::Reply { status, headers: Vec::new(), body: body.to_owned() }]);
        rig.send(seq, None);
        rig.delivered(seq).await;
    }
}

#[tokio::test]
async fn where_an_events_id_is_required_any_other_yes_holds_the_team_and_only_the_question_is_repeated() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let connection = Connection { event_id: EventId::Required, ..direct() };
    let target = fixed(&standin);
    let config = Config { probe: true, ..config() };
    let rig = Rig::over(Memory::default(), standin, target, config, connection);
    within(async { while rig.state().await != State::Open {} }).await;
    let reply = |status, body: &str| Fault::Reply { status, headers: Vec::new(), body: body.to_owned() };
    let strangers =
        [(200, "<html>Please log in</html>"), (200, r#"{"ok":true}"#), (200, r#"{"eventId":"25"#), (204, "")];
    for (seq, (status, body)) in (1..).zip(strangers) {
        rig.standin.fail(Some(reply(status, body)));
        rig.send(seq, None);
        rig.recorded(|o| matches!(o, Outcome::Deferred { seq: s, maybe_taken: true, .. } if *s == seq)).await;
        within(async { while rig.state().await != State::Held {} }).await;
        let status = &within(rig.delivery.status()).await[0];
        assert!(status.meets_another && status.reason.contains("this is not SIGNL4"), "{}", status.reason);
        rig.standin.fail(None);
        rig.delivery.wake().await;
        rig.delivered(seq).await;
        // The one that was said yes to, and once more.
        let message = seq.to_string();
        let posts = rig.standin.requests().iter().filter(|r| r.payload["Message"] == *message).count();
        assert_eq!((posts, rig.delivery.status().await[0].doubles), (2, seq), "{status:?}");
    }
    // The vendor may change what a 201 says.
    rig.standin.script([reply(201, "")]);
    rig.send(9, None);
    rig.delivered(9).await;
}

#[tokio::test]
async fn an_event_whose_answer_is_lost_is_posted_again() {
    let rig = Rig::start().await;
    rig.standin.script([Fault::TakeAndClose]);
    rig.send(1, None);
    rig.delivered(1).await;
    assert_eq!(numbers(&rig.standin.events()), [1, 1]);
}

#[tokio::test]
async fn an_end_that_cannot_be_recorded_is_kept_and_not_posted_again() {
    let rig = Rig::start().await;
    rig.memory.0.full.store(true, Ordering::SeqCst);
    rig.send(1, Some("lane"));
    rig.send(2, Some("lane"));
    rig.send(3, None);
    within(rig.standin.wait_for_events(2)).await;
    assert_eq!(numbers(&rig.standin.events()), [1, 3], "2 must not leave before the end of 1 is durable");
    rig.memory.0.full.store(false, Ordering::SeqCst);
    rig.delivered(2).await;
    assert_eq!(numbers(&rig.standin.events()), [1, 3, 2]);
    rig.delivered(1).await;
}

#[tokio::test]
async fn stopping_lets_the_posts_under_way_end_and_starts_no_others() {
    let rig = Rig::start().await;
    rig.send(1, None);
    rig.delivered(1).await;
    rig.standin.fail(Some(Fault::Delay(Duration::from_millis(200))));
    for seq in 2..=40 {
        rig.send(seq, None);
    }
    within(async { while rig.delivery.status().await[0].in_flight < 16 {} }).await;
    rig.stop.cancel();
    within(rig.delivery.ended()).await;
    assert_eq!(rig.standin.taken(), 17);
    assert_eq!(rig.memory.queued().len(), 40 - 17, "what was answered is recorded");
    assert!(rig.delivery.wait(40).await.is_none());
}

#[tokio::test]
async fn an_event_that_was_dropped_from_the_queue_is_not_tried_again() {
    let rig = Rig::start().await;
    rig.standin.script([Fault::Status(500)]);
    rig.send(1, None);
    rig.recorded(|o| matches!(o, Outcome::Deferred { .. })).await;
    rig.memory.queued().remove(&1);
    rig.delivery.wake().await;
    rig.send(2, None);
    rig.delivered(2).await;
    assert_eq!(numbers(&rig.standin.requests()), [1, 2]);
}

#[tokio::test]
async fn a_team_that_the_config_does_not_name_keeps_its_events_and_is_listed() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let memory = Memory::default();
    memory.put(1, None);
    memory.queued().get_mut(&1).unwrap().team = "night".into();
    let target = Target::fixed("soc", standin.url(), Secret::new(SECRET));
    let rig = Rig::over(memory, standin, target, config(), direct());
    let status = within(rig.delivery.status()).await;
    let night = &status[0];
    assert_eq!((night.team.as_str(), night.state, night.queued), ("night", State::Unknown, 1));
    assert!(night.is_stuck());
    let mut given_up = rig.memory.put(2, None);
    given_up[0].team = "night".into();
    rig.memory.queued().remove(&2);
    rig.delivery.offer(given_up);
    rig.delivery.withdraw(vec![Withdrawn { team: "night".into(), seq: 2 }]);
    assert_eq!(within(rig.delivery.status()).await[0].queued, 1, "an operator has given up on the other");
    let Rig { memory, standin, .. } = rig;
    let target = Target::fixed("night", standin.url(), Secret::new(SECRET));
    let rig = Rig::over(memory, standin, target, config(), direct());
    rig.delivered(1).await;
}

#[tokio::test]
async fn the_configured_proxy_is_used() {
    // The stand-in plays the proxy: it answers a request in absolute form like any other.
    let proxy = Standin::start(Options::default()).await.unwrap();
    let target = Target::fixed("soc", "http://signl4.invalid/webhook/", Secret::new(SECRET));
    let url = Secret::new(format!("http://{}", proxy.address()));
    let connection = Connection { proxy: Proxy::Url(url), ..Connection::default() };
    let rig = Rig::over(Memory::default(), proxy, target, config(), connection);
    rig.send(1, None);
    rig.delivered(1).await;
    assert_eq!(rig.standin.events()[0].secret, SECRET);
}

#[tokio::test]
#[ignore = "needs an environment with a proxy: run by the test below"]
async fn in_an_environment_with_a_proxy() {
    let proxy = if std::env::var_os("TEST_PROXY_OFF").is_some() { Proxy::Off } else { Proxy::Environment };
    let standin = Standin::start(Options::default()).await.unwrap();
    let target = Target::fixed("soc", "http://signl4.invalid/webhook/", Secret::new(SECRET));
    let connection = Connection { proxy, ..Connection::default() };
    let rig = Rig::over(Memory::default(), standin, target, config(), connection);
    rig.send(1, None);
    rig.recorded(|_| true).await;
    println!("outcome: {:?}", rig.memory.recorded()[0]);
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_unless_it_is_turned_off() {
    let proxy = Standin::start(Options::default()).await.unwrap();
    for (off, expected) in [(false, "outcome: Delivered"), (true, "outcome: Deferred")] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "in_an_environment_with_a_proxy", "--ignored", "--nocapture"]);
        child.env("http_proxy", format!("http://{}", proxy.address())).env_remove("no_proxy");
        child.env_remove("NO_PROXY").env_remove("REQUEST_METHOD");
        if off {
            child.env("TEST_PROXY_OFF", "1");
        }
        let output = within(tokio::task::spawn_blocking(move || child.output())).await.unwrap().unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.contains(expected), "{output}");
    }
    assert_eq!(proxy.events().len(), 1);
}

/// Lines of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_the_log_nor_a_reason_holds_the_secret_or_the_text_of_an_event() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // With one log alone, what a test on another thread says first would be left out of it for good.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    // Everything runs on the thread of this test, and so does its log.
    let _guard = tracing::subscriber::set_default(subscriber);
    let rig = Rig::start().await;
    let echo = format!("<a href='/webhook/{SECRET}'>\u{1b}[31m moved</a>\r\nforged line");
    let fault = |status, body: &str| {
        let headers = vec![("retry-after".to_owned(), "1".to_owned())];
        Fault::Reply { status, headers, body: body.to_owned() }
    };
    rig.standin.set_secrets(vec!["another".into()]);
    rig.send(1, None);
    rig.recorded(|o| matches!(o, Outcome::Deferred { reason, .. } if reason.contains("[redacted] was not")))
        .await;
    rig.standin.set_secrets(Vec::new());
    rig.standin.script([500, 404, 429, 301].map(|status| fault(status, &echo)));
    rig.standin.script([Fault::Close, fault(400, &echo)]);
    for posted in 1..7 {
        rig.delivery.wake().await;
        within(rig.standin.wait_for(|requests| requests.len() > posted)).await;
    }
    rig.failed(1).await;
    rig.send(2, None);
    rig.delivery.wake().await;
    rig.delivered(2).await;
    rig.stop.cancel();
    within(rig.delivery.ended()).await;

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let reasons = format!("{:?}", rig.memory.recorded());
    for text in [&log, &reasons] {
        assert!(text.contains("404") && text.contains("[redacted]"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        assert!(!text.contains("confidential"), "{text}");
    }
    assert!(!log.contains('\u{1b}') && !log.contains("\nforged"), "{log}");
    assert!(log.contains("SIGNL4 refuses the secret") && log.contains("delivered"), "{log}");
}

#[tokio::test]
async fn many_lanes_and_a_flaky_server_keep_their_order() {
    let rig = Rig::start().await;
    let lanes: Vec<String> = (0..200).map(|n| format!("case {n}")).collect();
    for seq in 1..=2_000 {
        if seq == 500 {
            within(rig.standin.wait_for_events(100)).await;
            rig.standin.script([Fault::Status(502), Fault::Close, Fault::TakeAndClose, Fault::Status(408)]);
        }
        rig.send(seq, Some(&lanes[seq as usize % lanes.len()]));
    }
    rig.delivered(2_000).await;
    within(rig.standin.wait_for_events(2_001)).await;
    let posted = numbers(&rig.standin.events());
    assert_eq!(posted.iter().collect::<std::collections::BTreeSet<_>>().len(), 2_000);
    for lane in 0..lanes.len() as u64 {
        let of_lane: Vec<u64> = posted.iter().copied().filter(|seq| seq % 200 == lane).collect();
        assert!(of_lane.is_sorted(), "{of_lane:?}");
    }
}

#[tokio::test]
async fn an_event_whose_mail_is_no_longer_kept_goes_without_its_files_and_says_so() {
    let rig = Rig::start().await;
    let mut queued = rig.memory.put(1, None);
    let file = Attachment { name: "shot.png".into(), media_type: "image/png".into(), ..Default::default() };
    queued[0].attachments = vec![file];
    rig.memory.queued().insert(1, queued[0].clone());
    rig.delivery.offer(queued);
    let events = rig.standin.wait_for_events(1).await;
    assert_eq!(events[0].content_type, "application/json");
    assert_eq!(events[0].payload["Attachments"], "shot.png (0 bytes, the mail is no longer kept)");
    rig.stop.cancel();
    rig.delivery.ended().await;
}
