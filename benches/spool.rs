//! What the promise of `250` costs: mails a second into the spool, and through it.
//!
//! `cargo bench --bench spool`, with the folder to measure in as an argument (default: the system's
//! temporary folder). Numbers are about that disk. With `--quick` a tenth of the mails and not all runs.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use smtp2signl4::clock::{Clock, Manual, System};
use smtp2signl4::event::{Event, Status};
use smtp2signl4::incident;
use smtp2signl4::mail::{Client, Envelope, MailId, Origin};
use smtp2signl4::spool::{Config, Entry, Outcome, Queued, Spool, Sync};
use tokio::sync::mpsc;

/// Mails in a run; a tenth with `--quick`.
static MAILS: AtomicU32 = AtomicU32::new(20_000);

/// Bytes in a mail.
const SIZE: usize = 4 << 10;

/// Closes that are put one after the other into a queue of that many mails.
const CLOSES: u32 = 2_000;

/// Mails in the queue for the measurement of a start.
const BACKLOG: u32 = 100_000;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = folder.map_or_else(std::env::temp_dir, Into::into);
    let quick = std::env::args().any(|argument| argument == "--quick");
    if quick {
        MAILS.store(2_000, Ordering::Relaxed);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{} mails of {SIZE} bytes in {}", mails(), folder.display());
        println!(
            "{:<28} {:>9} {:>9} {:>9} {:>9} {:>11}",
            "", "mails/s", "p50 ms", "p99 ms", "max ms", "CPU us/mail"
        );
        for (sync, name) in [(Sync::Full, "full"), (Sync::Off, "off")] {
            let sessions: &[u32] = if quick { &[16] } else { &[1, 16, 64] };
            for &sessions in sessions {
                let spool = tempfile::tempdir_in(&folder).unwrap();
                accept(spool.path(), sync, sessions, &format!("put, sync {name}, {sessions}")).await;
            }
            for &sessions in sessions {
                let spool = tempfile::tempdir_in(&folder).unwrap();
                relay(spool.path(), sync, sessions, &format!("put+record, sync {name}, {sessions}")).await;
            }
        }
        let spool = tempfile::tempdir_in(&folder).unwrap();
        storm(spool.path()).await;
        if quick {
            return;
        }
        let spool = tempfile::tempdir_in(&folder).unwrap();
        purge(spool.path()).await;
        let spool = tempfile::tempdir_in(&folder).unwrap();
        restart(spool.path()).await;
    });
}

fn mails() -> u32 {
    MAILS.load(Ordering::Relaxed)
}

/// A spool that folds nothing: so many mails a second would be a storm.
fn open(folder: &Path, sync: Sync) -> Spool {
    Spool::open(&config(folder, sync), Arc::new(System)).unwrap()
}

fn config(folder: &Path, sync: Sync) -> Config {
    let incidents = incident::Config { storm: None, ..incident::Config::default() };
    Config { sync, incidents, ..Config::at(folder) }
}

fn entry(n: u32) -> Entry {
    let now = Timestamp::now();
    Entry {
        id: MailId::from_number((u64::try_from(now.as_millisecond()).unwrap() << 16) + u64::from(n)).unwrap(),
        envelope: Envelope {
            received_at: now,
            origin: Origin::Smtp,
            client: Client {
                address: Some([192, 0, 2, 1].into()),
                helo: "mx.example".into(),
                ..Client::default()
            },
            reverse_path: "thehive@example.org".into(),
            recipients: vec!["soc@example.net".into()],
            ..Envelope::default()
        },
        content: Some(Bytes::from(vec![b'x'; SIZE])),
        story: serde_json::json!({ "rules": [{ "name": "thehive5-alert", "set": ["title", "external-id"] }] }),
        events: vec![Event {
            team: "soc".into(),
            title: format!("[TheHive] New alert {n}"),
            message: "m".repeat(600),
            external_id: Some(format!("thehive:~{n}")),
            ..Event::default()
        }],
        dropped: None,
    }
}

/// Puts all mails from so many sessions; what was queued goes to `next`.
async fn put_all(spool: &Spool, sessions: u32, next: Option<&mpsc::Sender<Vec<Queued>>>) -> Vec<Duration> {
    let tasks: Vec<_> = (0..sessions)
        .map(|session| {
            let (spool, next) = (spool.clone(), next.cloned());
            tokio::spawn(async move {
                let mut waits = Vec::new();
                for n in (session..mails()).step_by(sessions as usize) {
                    let begin = Instant::now();
                    let queued = spool.put(entry(n), Vec::new()).await.unwrap().queued;
                    waits.push(begin.elapsed());
                    if let Some(next) = &next {
                        next.send(queued).await.unwrap();
                    }
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap());
    }
    waits
}

/// A run: when it began, and the CPU seconds that the process had used by then.
struct Run(Instant, f64);

impl Run {
    fn begin() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    fn report(self, name: &str, waits: Vec<Duration>) {
        report(name, self.0.elapsed(), cpu_seconds() - self.1, waits);
    }
}

/// What the kernel says in clock ticks, of which Linux shows programs a hundred a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program stands in brackets and may hold anything; utime and stime are 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn report(name: &str, taken: Duration, cpu: f64, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() * part / 1000).min(waits.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "{name:<28} {:>9.0} {:>9.2} {:>9.2} {:>9.1} {:>11.0}",
        f64::from(mails()) / taken.as_secs_f64(),
        at(500),
        at(990),
        at(1000),
        cpu * 1e6 / f64::from(mails())
    );
}

async fn accept(folder: &Path, sync: Sync, sessions: u32, name: &str) {
    let spool = open(folder, sync);
    let run = Run::begin();
    let waits = put_all(&spool, sessions, None).await;
    run.report(name, waits);
    spool.close().await;
}

async fn relay(folder: &Path, sync: Sync, sessions: u32, name: &str) {
    let spool = open(folder, sync);
    let run = Run::begin();
    let (next, mut queued) = mpsc::channel::<Vec<Queued>>(64);
    let recorder = tokio::spawn({
        let spool = spool.clone();
        async move {
            let permits = Arc::new(tokio::sync::Semaphore::new(32));
            while let Some(events) = queued.recv().await {
                let (spool, permit) = (spool.clone(), Arc::clone(&permits).acquire_owned().await.unwrap());
                tokio::spawn(async move {
                    let delivered = |event: Queued| Outcome::Delivered {
                        seq: event.seq,
                        event_id: Some("2518_0000".into()),
                        at: Timestamp::now(),
                        by_way: None,
                    };
                    spool.record(events.into_iter().map(delivered).collect()).await.unwrap();
                    drop(permit);
                });
            }
            let _ = permits.acquire_many(32).await.unwrap();
        }
    });
    let waits = put_all(&spool, sessions, Some(&next)).await;
    drop(next);
    recorder.await.unwrap();
    run.report(name, waits);
    assert_eq!(spool.reader().counts().await.unwrap(), []);
    spool.close().await;
}

/// Puts mails of which all but the first are folded.
async fn storm(folder: &Path) {
    let spool = Spool::open(&Config { sync: Sync::Off, ..Config::at(folder) }, Arc::new(System)).unwrap();
    let run = Run::begin();
    let waits = put_all(&spool, 16, None).await;
    run.report("put in a storm, sync off, 16", waits);
    spool.close().await;
}

/// Purges all mails while one session puts new ones.
async fn purge(folder: &Path) {
    let clock = Arc::new(Manual::new(Timestamp::now()));
    let spool = Spool::open(&config(folder, Sync::Full), clock.clone()).unwrap();
    put_all(&spool, 64, None).await;
    let all = spool.reader().waiting("soc", 0, usize::MAX).await.unwrap();
    let delivered =
        |event: &Queued| Outcome::Delivered { seq: event.seq, event_id: None, at: clock.now(), by_way: None };
    spool.record(all.iter().map(delivered).collect()).await.unwrap();
    clock.advance(SignedDuration::from_hours(8 * 24));
    let run = Run::begin();
    let mut purging = tokio::spawn({
        let spool = spool.clone();
        async move { spool.purge().await.unwrap() }
    });
    let mut waits = Vec::new();
    let mut n = mails();
    let purged = loop {
        let begin = Instant::now();
        tokio::select! {
            purged = &mut purging => break purged.unwrap(),
            put = spool.put(entry(n), Vec::new()) => put.unwrap().queued,
        };
        waits.push(begin.elapsed());
        n += 1;
    };
    let taken = run.0.elapsed();
    run.report("put during a purge, 1", waits);
    println!("purged {purged} in {taken:.1?} (mails/s and CPU above are of the purge)");
}

async fn restart(folder: &Path) {
    let spool = open(folder, Sync::Off);
    let tasks: Vec<_> = (0..64)
        .map(|session| {
            let spool = spool.clone();
            tokio::spawn(async move {
                for n in (session..BACKLOG).step_by(64) {
                    spool.put(entry(n), Vec::new()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    spool.close().await;
    let begin = Instant::now();
    let spool = open(folder, Sync::Full);
    let opened = begin.elapsed();
    let first = spool.reader().waiting("soc", 0, 1_000).await.unwrap();
    let ready = begin.elapsed();
    let (mut after, mut all) = (0, 0);
    loop {
        let page = spool.reader().waiting("soc", after, 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        all += page.len();
    }
    let read = begin.elapsed();
    let counts = spool.reader().counts().await.unwrap();
    println!(
        "start with {} queued: open {opened:.1?}, first {} waiting after {ready:.1?}, all {all} after {read:.1?}",
        counts[0].queued,
        first.len()
    );
    spool.close().await;
    close(&open(folder, Sync::Off)).await;
}

/// Closes incidents, one after the other, of which the opens wait in the queue.
async fn close(spool: &Spool) {
    let mut waits = Vec::new();
    for n in (0..BACKLOG).step_by((BACKLOG / CLOSES) as usize) {
        let mut entry = entry(n);
        entry.id = MailId::from_number(entry.id.number() + u64::from(BACKLOG)).unwrap();
        entry.events[0].status = Status::Resolved;
        let begin = Instant::now();
        spool.put(entry, Vec::new()).await.unwrap();
        waits.push(begin.elapsed());
    }
    waits.sort_unstable();
    let at = |part: usize| waits[waits.len() * part / 1000];
    println!("close of one of them, the disk left out: p50 {:.1?}, p99 {:.1?}", at(500), at(990));
}
