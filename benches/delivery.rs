//! How a backlog leaves: 100,000 queued events of 1,000 incidents, from the start of the real binary on.
//!
//! ```text
//! cargo bench --bench delivery                    100,000 events
//! cargo bench --bench delivery -- --events 20000  fewer
//! ```
//!
//! Shown are the time from the start of the process to its first post and to the first post of a critical
//! event that was accepted last, the rate at which everything leaves, and the resident memory as it goes.
//! The sink answers 201 at once and shares the machine. Without a bound order within incidents and the
//! commits of what was delivered decide; a commercial account is bound by its budget, which is shown over
//! the first seconds.
//!
//! Then, in the same queue with all incidents open: how long it takes to find an incident by its key, and to put the
//! close of one that way, with the wait for the disk and without; and how long delivery looks for what is most
//! urgent where one incident has all but one of the events.

#![allow(clippy::unwrap_used, reason = "a run that cannot go on has nothing to tell")]

use std::io::{self, BufRead};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use smtp2signl4::clock::System;
use smtp2signl4::event::{Event, Repeat, Severity, Status};
use smtp2signl4::incident::Config as Incidents;
use smtp2signl4::mail::{Envelope, MailId};
use smtp2signl4::spool::{Config, Entry, Spool, Sync};
use smtp2signl4::standin::{Options, Standin};

/// Incidents among which the events are divided.
const INCIDENTS: u64 = 1_000;

/// How long a run may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long the run with a budget is watched: two of its windows.
const WATCHED: Duration = Duration::from_secs(31);

/// The id of the incident that is critical and was accepted last.
const CRITICAL: &[u8] = b"the critical one";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let events = arguments
        .iter()
        .position(|argument| argument == "--events")
        .map_or(100_000, |at| arguments[at + 1].parse().expect("a number behind --events"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{events} queued events of {INCIDENTS} incidents");
        println!(
            "{:<12} {:>10} {:>13} {:>8} {:>9} {:>7} {:>7} {:>7} {:>7} {:>8}",
            "plan",
            "1st post s",
            "critical s",
            "posted",
            "events/s",
            "RSS 1st",
            "1/4",
            "1/2",
            "3/4",
            "peak MiB"
        );
        for plan in ["unlimited", "commercial"] {
            drain(plan, events).await;
        }
        closes(events).await;
        look(events).await;
    });
}

/// What the sink has seen.
#[derive(Default)]
struct Seen {
    posts: AtomicU64,
    first: OnceLock<Instant>,
    critical: OnceLock<Instant>,
}

async fn drain(plan: &str, events: u64) {
    let folder = tempfile::tempdir().unwrap();
    fill(&folder.path().join("spool"), events, true).await;
    let seen = Arc::new(Seen::default());
    let watcher = Arc::clone(&seen);
    let observer = move |body: &bytes::Bytes| {
        watcher.first.get_or_init(Instant::now);
        if body.windows(CRITICAL.len()).any(|part| part == CRITICAL) {
            watcher.critical.get_or_init(Instant::now);
        }
        watcher.posts.fetch_add(1, Ordering::Relaxed);
    };
    let options = Options { keep: 0, observer: Some(Arc::new(observer)), ..Options::default() };
    let sink = Standin::start(options).await.unwrap();

    let started = Instant::now();
    let mut gateway = Gateway::start(folder.path(), &sink.url(), plan);
    let bounded = plan != "unlimited";
    let mut memory = Vec::new();
    loop {
        let posts = seen.posts.load(Ordering::Relaxed);
        if posts * 4 >= events * memory.len() as u64 && posts > 0 && memory.len() < 4 {
            memory.push(gateway.memory("VmRSS:"));
        }
        let elapsed = started.elapsed();
        if posts > events || bounded && elapsed >= WATCHED {
            break;
        }
        assert!(elapsed < PATIENCE, "{posts} of {events} posted");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let since = |at: &OnceLock<Instant>| at.get().map_or(f64::NAN, |at| (*at - started).as_secs_f64());
    let posts = seen.posts.load(Ordering::Relaxed);
    let rate = posts as f64 / (started.elapsed().as_secs_f64() - since(&seen.first));
    let at = |n: usize| memory.get(n).map_or_else(String::new, |kib| format!("{:.1}", *kib as f64 / 1024.0));
    println!(
        "{plan:<12} {:>10.2} {:>13.2} {posts:>8} {rate:>9.0} {:>7} {:>7} {:>7} {:>7} {:>8.1}",
        since(&seen.first),
        since(&seen.critical),
        at(0),
        at(1),
        at(2),
        at(3),
        gateway.memory("VmHWM:") as f64 / 1024.0,
    );
    gateway.kill();
}

/// Closes incidents, one after the other, the queue being full.
async fn closes(events: u64) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), events, false).await;
    println!("{:<28} {:>9} {:>9} {:>9}", "close of an incident", "p50 ms", "p99 ms", "max ms");
    for (half, (sync, name)) in (0..).zip([(Sync::Off, "put, sync off"), (Sync::Full, "put, sync full")]) {
        let spool = open(folder.path(), sync);
        let mut waits = Vec::new();
        for n in (half..INCIDENTS).step_by(2) {
            let close = Event {
                team: "default".into(),
                external_id: Some(incident(n)),
                status: Status::Resolved,
                ..Event::default()
            };
            let entry = entry(events + 1 + n, close);
            let begin = Instant::now();
            let queued = spool.put(entry, Vec::new()).await.unwrap().queued;
            waits.push(begin.elapsed());
            assert_eq!(queued.len(), 1);
        }
        report(name, waits);
        spool.close().await;
    }
}

/// Looks for what is most urgent in a queue of which all but one event are of one incident.
async fn look(events: u64) {
    let folder = tempfile::tempdir().unwrap();
    let flood = |n| Event { external_id: Some(incident(u64::from(n == events))), ..disk(n) };
    put_all(folder.path(), (0..=events).map(|n| entry(n, flood(n)))).await;
    let spool = open(folder.path(), Sync::Off);
    let mut waits = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        let found = spool.reader().urgent("default", (0, 0), 256).await.unwrap();
        waits.push(begin.elapsed());
        assert_eq!(found.len(), 2);
    }
    report("what is most urgent, flooded", waits);
    spool.close().await;
}

fn report(name: &str, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() * part / 1000).min(waits.len() - 1)].as_secs_f64() * 1e3;
    println!("{name:<28} {:>9.3} {:>9.3} {:>9.3}", at(500), at(990), at(1000));
}

/// A spool in which each open goes out, so that there is a queue.
fn open(folder: &Path, sync: Sync) -> Spool {
    let incidents = Incidents { repeat: Repeat::Update, storm: None, ..Incidents::default() };
    let config = Config { sync, incidents, ..Config::at(folder) };
    Spool::open(&config, Arc::new(System)).unwrap()
}

/// The external id of an incident.
fn incident(n: u64) -> String {
    format!("incident {}", n % INCIDENTS)
}

/// The `n`th mail.
fn entry(n: u64, event: Event) -> Entry {
    static START: OnceLock<Timestamp> = OnceLock::new();
    let start = *START.get_or_init(Timestamp::now);
    let millisecond = start + jiff::SignedDuration::from_millis((n / 60_000) as i64);
    Entry {
        id: MailId::new(millisecond, (n % 60_000) as u16),
        envelope: Envelope::default(),
        content: None,
        story: serde_json::Value::Null,
        events: vec![event],
        dropped: None,
    }
}

/// Fills a spool: `events` of all incidents in turn, each incident opened, updated again and again and, if it is
/// `closed`, closed; and one more that is critical.
async fn fill(folder: &Path, events: u64, closed: bool) {
    let mail = |n| {
        let last = n == events;
        let event = Event {
            external_id: Some(if last { String::from_utf8(CRITICAL.to_vec()).unwrap() } else { incident(n) }),
            status: if closed && n + INCIDENTS >= events && !last { Status::Resolved } else { Status::New },
            severity: Some(if last { Severity::Critical } else { Severity::Info }),
            ..disk(n)
        };
        entry(n, event)
    };
    put_all(folder, (0..=events).map(mail)).await;
}

/// The `n`th event.
fn disk(n: u64) -> Event {
    Event {
        team: "default".into(),
        title: format!("Disk is almost full, number {n}"),
        message: "The disk of this machine is almost full; somebody should look at it soon. ".repeat(6),
        ..Event::default()
    }
}

async fn put_all(folder: &Path, entries: impl Iterator<Item = Entry>) {
    // What is made here is thrown away.
    let spool = open(folder, Sync::Off);
    let mut puts = Vec::new();
    for entry in entries {
        let spool = spool.clone();
        puts.push(tokio::spawn(async move { spool.put(entry, Vec::new()).await.unwrap() }));
        if puts.len() == 512 {
            for put in puts.drain(..) {
                put.await.unwrap();
            }
        }
    }
    for put in puts {
        put.await.unwrap();
    }
    spool.close().await;
}

/// The real binary.
struct Gateway {
    child: Child,
}

impl Gateway {
    fn start(folder: &Path, url: &str, plan: &str) -> Self {
        let config = folder.join("gateway.toml");
        std::fs::write(
            &config,
            format!(
                "[smtp]\nlisten = [\"127.0.0.1:0\"]\n[signl4]\nurl = \"{url}\"\nproxy = false\nplan = \"{plan}\"\n\
                 [spool]\npath = \"spool\"\n[log]\nformat = \"json\"\n"
            ),
        )
        .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_smtp2signl4"))
            .args(["run", "--config"])
            .arg(&config)
            .env("SIGNL4_TEAM_SECRET", "bench")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = io::BufReader::new(child.stderr.take().unwrap());
        // The log is read, as journald would.
        std::thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|length| length > 0) {
                line.clear();
            }
        });
        Self { child }
    }

    /// A figure of its memory in KiB.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
