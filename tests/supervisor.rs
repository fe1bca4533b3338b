//! No task of the service ends unnoticed: nothing is acknowledged after it, and the process ends with an error.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use smtp2signl4::clock::System;
use smtp2signl4::config::{self, Environment};
use smtp2signl4::delivery::{self, Connection, Delivery, Plan, Proxy, Storage, StorageError, Target};
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::Event;
use smtp2signl4::gateway::{End, Gateway};
use smtp2signl4::mail::{Envelope, MailId};
use smtp2signl4::secret::Secret;
use smtp2signl4::spool::{Config, Entry, Outcome, Queued, Reservation, Spool, Urgent};
use smtp2signl4::standin::{self, Options, Standin};
use support::{Enqueue, PATIENCE, Site, Smtp};
use tokio_util::sync::CancellationToken;

/// Every task that lives as long as the service, but the thread of the spool.
const TASKS: [&str; 10] = [
    "delivery",
    "storms",
    "purge",
    "disk",
    "lookout",
    "notices",
    "heartbeat",
    "watchdog",
    "listener",
    "control socket",
];

const MAIL: &str = "From: tool@example.org\nTo: soc@example.org\nSubject: disk full\n\nIt is.\n";

fn send(smtp: &mut Smtp) -> String {
    smtp.mail("tool@example.org", &["soc@example.org"], MAIL).unwrap_or_else(|error| error.to_string())
}

async fn gateway(folder: &std::path::Path, standin: &Standin) -> Gateway {
    let text = format!(
        "[smtp]\nlisten = ['127.0.0.1:0']\n[signl4]\nurl = '{}'\nproxy = false\n[spool]\npath = 'spool'\n\
         [heartbeat]\ninterval = '1h'\n",
        standin.url()
    );
    let path = folder.join("t.toml");
    let config = config::parse(Some(&path), &Source::new("t.toml", text)).unwrap();
    let environment = Environment::of(
        [
            ("SIGNL4_TEAM_SECRET", "team"),
            ("SIGNL4_HEARTBEAT_URL", "http://127.0.0.1:9/beat"),
            ("WATCHDOG_USEC", "3600000000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    Gateway::start(&config, &environment, Arc::new(System)).await.unwrap()
}

fn session(gateway: &Gateway) -> Smtp {
    let mut smtp = Smtp::connect(gateway.addresses()[0]).unwrap();
    smtp.say("EHLO supervisor.example").unwrap();
    smtp
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_task_ends_it_is_named_and_nothing_is_acknowledged_after_it() {
    let standin = Standin::start(Options::default()).await.unwrap();
    for task in TASKS {
        let folder = tempfile::tempdir().unwrap();
        let gateway = gateway(folder.path(), &standin).await;
        let mut smtp = session(&gateway);
        assert!(send(&mut smtp).starts_with("250 "), "{task}");
        gateway.supervisor().break_task(task);
        match gateway.broke().await {
            End::Task(ended) => assert_eq!(ended.task, task),
            End::Spool(reason) => panic!("{task}: {reason}"),
        }
        let answer = send(&mut smtp);
        assert!(!answer.starts_with("250 "), "{task}: {answer}");
        gateway.abandon().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thread_of_the_spool_is_such_a_task() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(folder.path(), &standin).await;
    let mut smtp = session(&gateway);
    gateway.supervisor().break_task("spool");
    for _ in 0..2 {
        let answer = send(&mut smtp);
        assert!(answer.starts_with("451 "), "{answer}");
    }
    assert!(matches!(gateway.broke().await, End::Spool(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_with_an_error_and_the_next_one_delivers_what_was_acknowledged() {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.refuse().await.unwrap();
    let site = Site::new(&standin);
    for (round, (task, code)) in [("delivery", 70), ("listener", 70), ("spool", 75)].into_iter().enumerate() {
        let trigger = site.path(&format!("trigger-{round}"));
        let mut gateway = site.start_with(&[("SMTP2SIGNL4_BREAK", &format!("{task}={}", trigger.display()))]);
        let mut smtp = Smtp::connect(gateway.address()).unwrap();
        smtp.say("EHLO supervisor.example").unwrap();
        let mail = format!("Subject: trouble {round}\n\nx\n");
        assert!(smtp.mail("a@example.org", &["soc@example.org"], &mail).unwrap().starts_with("250 "));
        std::fs::write(trigger, "").unwrap();
        // Whatever comes, until it ends: the spool's thread notices with the next mail.
        while smtp.mail("a@example.org", &["soc@example.org"], &mail).is_ok_and(|r| r.starts_with("250 ")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (status, log) = gateway.ended();
        assert_eq!(status.code(), Some(code), "{task}");
        assert!(log.iter().any(|line| line.contains(task)), "{task}: {log:?}");
    }
    standin.listen().await.unwrap();
    let gateway = site.start();
    let all = standin.wait_for(|requests| {
        (0..3).all(|round| requests.iter().any(|r| r.payload["Title"] == format!("trouble {round}")))
    });
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_fails_ends_the_process_at_once_though_a_post_is_under_way() {
    let standin = Standin::start(Options::default()).await.unwrap();
    // Takes every connection, and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut site = Site::new(&standin);
    site.set("signl4", "url", format!("'http://{}/webhook/'", mute.local_addr().unwrap()));
    site.set("delivery", "drain", "'60s'");
    let trigger = site.path("trigger");
    let mut gateway = site.start_with(&[("SMTP2SIGNL4_BREAK", &format!("spool={}", trigger.display()))]);
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO supervisor.example").unwrap();
    assert!(send(&mut smtp).starts_with("250 "));
    let _post = mute.accept().unwrap();
    let since = std::time::Instant::now();
    std::fs::write(trigger, "").unwrap();
    while send(&mut smtp).starts_with("250 ") {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(gateway.ended().0.code(), Some(75));
    assert!(since.elapsed() < Duration::from_secs(45), "it waited for the end of the post");
}

/// A spool at whose news of an allowance delivery panics, while the first event is in hand.
struct Poisonous(Spool, AtomicBool);

impl Storage for Poisonous {
    async fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, StorageError> {
        Storage::waiting(&self.0, team, after, limit).await
    }
    async fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, StorageError> {
        Storage::urgent(&self.0, team, after, limit).await
    }
    async fn reserve(&self, reservation: Reservation) -> Result<(), StorageError> {
        Storage::reserve(&self.0, reservation).await
    }
    async fn reservations(&self, account: &str) -> Result<Vec<Reservation>, StorageError> {
        Storage::reservations(&self.0, account).await
    }
    async fn record(&self, outcomes: Vec<Outcome>) -> Result<(), StorageError> {
        Storage::record(&self.0, outcomes).await
    }
    async fn teams(&self) -> Result<Vec<(String, u64)>, StorageError> {
        Storage::teams(&self.0).await
    }
    fn allow(&self, _team: &str, _events: u32) {
        assert!(!self.1.load(Ordering::SeqCst), "a fault of the test's own");
    }
    async fn holds(&self) -> Result<Vec<(String, Timestamp)>, StorageError> {
        Ok(Vec::new())
    }
    async fn note_hold(&self, _team: &str, _since: Option<Timestamp>) -> Result<(), StorageError> {
        Ok(())
    }
    async fn content(&self, mail: MailId) -> Result<Option<bytes::Bytes>, StorageError> {
        Storage::content(&self.0, mail).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_at_which_delivery_panics_is_known() {
    let standin = Standin::start(Options { plan: standin::Plan::Free, ..Options::default() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(&Config::at(folder.path()), Arc::new(System)).unwrap();
    let (delivery, run) = Delivery::prepare(
        delivery::Config { plan: Plan::Auto, probe: false, ..delivery::Config::default() },
        Connection { proxy: Proxy::Off, ..Connection::default() },
        vec![Target::fixed("soc", standin.url(), Secret::new("team"))],
        Poisonous(spool.clone(), AtomicBool::new(true)),
        Arc::new(System),
        1,
        CancellationToken::new(),
    )
    .unwrap();
    let run = tokio::spawn(run);
    assert_eq!(delivery.in_hand(), None);
    let now = Timestamp::now();
    let event = Event { team: "soc".into(), title: "poison".into(), ..Event::default() };
    let entry = Entry {
        id: MailId::new(now, 1),
        envelope: Envelope { received_at: now, ..Envelope::default() },
        content: None,
        story: serde_json::Value::Null,
        events: vec![event],
        dropped: None,
    };
    let queued = spool.enqueue(entry).await.unwrap();
    let seq = queued[0].seq;
    delivery.offer(queued);
    let run = tokio::time::timeout(PATIENCE, run).await.unwrap();
    assert!(run.unwrap_err().is_panic());
    assert_eq!(delivery.in_hand(), Some(seq));
}
