//! The spool stays small: its log, its file, and what it keeps.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use smtp2signl4::spool::{Config, Filter, Outcome, PutError, Spool, State, Sync};

use crate::support::Enqueue;
use crate::{clock, config, id, mail, open_at, sized, start};

fn unsynced(folder: &Path) -> Spool {
    Spool::open(&Config { sync: Sync::Off, ..config(folder) }, clock()).unwrap()
}

fn length(folder: &Path, name: &str) -> u64 {
    fs::metadata(folder.join(name)).map_or(0, |file| file.len())
}

fn delivered(seq: u64, at: Timestamp) -> Outcome {
    Outcome::Delivered { seq, event_id: None, at, by_way: None }
}

/// Puts mails in parallel and delivers each.
async fn relay(spool: &Spool, numbers: std::ops::Range<u32>, size: usize) {
    let tasks: Vec<_> = numbers
        .map(|n| {
            let spool = spool.clone();
            tokio::spawn(async move {
                let queued = spool.enqueue(sized(n, "soc", size)).await.unwrap();
                spool.record(vec![delivered(queued[0].seq, start())]).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_steady_load_the_log_stays_small_though_somebody_reads_all_the_time() {
    /// The pages from which on the log starts over, those that may wait to be copied by then, and a batch.
    const BOUND: u64 = (64 + 16 + 16) << 20;
    let folder = tempfile::tempdir().unwrap();
    let spool = unsynced(folder.path());
    let reading = tokio::spawn({
        let spool = spool.clone();
        async move {
            loop {
                spool.reader().list(Filter::default()).await.unwrap();
            }
        }
    });
    let mut longest = 0;
    for batch in 0..50 {
        relay(&spool, batch * 400..(batch + 1) * 400, 4096).await;
        longest = longest.max(length(folder.path(), "spool.db-wal"));
    }
    reading.abort();
    assert!(length(folder.path(), "spool.db") > 80 << 20, "there was enough to fill it");
    assert!(longest < BOUND, "the log grew to {longest} bytes");
}

#[tokio::test]
async fn what_was_settled_long_enough_ago_is_purged_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let spool = open_at(folder.path(), &clock);
    let mut seqs = Vec::new();
    for n in 0..6 {
        seqs.push(spool.enqueue(mail(n, "soc")).await.unwrap()[0].seq);
    }
    let day = |days: i64| start() + SignedDuration::from_hours(24 * days);
    spool
        .record(vec![
            delivered(seqs[0], day(0)),
            // Delivered late: kept from then on.
            delivered(seqs[1], day(5)),
            Outcome::Failed { seq: seqs[2], at: day(0), reason: "400".into(), maybe_taken: false },
        ])
        .await
        .unwrap();
    assert_eq!(spool.drop(id(3)).await, Ok(1));
    let kept = async || {
        let listed = spool.reader().list(Filter::default()).await.unwrap();
        listed
            .iter()
            .rev()
            .map(|event| (event.title[6..].parse().unwrap(), event.state))
            .collect::<Vec<(u32, _)>>()
    };

    // Seven days to the moment: not yet.
    clock.advance(SignedDuration::from_hours(7 * 24));
    assert_eq!(spool.purge().await, Ok(0));
    clock.advance(SignedDuration::from_secs(1));
    assert_eq!(spool.purge().await, Ok(2));
    let (queued, late) = (State::Queued, (1, State::Delivered));
    assert_eq!(kept().await, [late, (2, State::Failed), (4, queued), (5, queued)]);
    assert_eq!(spool.reader().show(id(0)).await.unwrap(), None);
    assert_eq!(spool.reader().content(id(0)).await.unwrap(), None);

    // A dead letter is kept for thirty; what is queued for ever.
    clock.advance(SignedDuration::from_hours(23 * 24 - 1));
    assert_eq!(spool.purge().await, Ok(1));
    assert_eq!(kept().await, [(2, State::Failed), (4, queued), (5, queued)]);
    clock.advance(SignedDuration::from_hours(1000 * 24));
    assert_eq!(spool.purge().await, Ok(1));
    assert_eq!(kept().await, [(4, queued), (5, queued)]);
}

#[tokio::test]
async fn a_number_is_never_given_twice_even_if_all_mail_is_purged() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let spool = open_at(folder.path(), &clock);
    let mut last = 0;
    for n in 0..3 {
        last = spool.enqueue(mail(n, "soc")).await.unwrap()[0].seq;
        spool.record(vec![delivered(last, start())]).await.unwrap();
    }
    clock.advance(SignedDuration::from_hours(24 * 365));
    assert_eq!(spool.purge().await, Ok(2), "the newest stays");
    spool.close().await;
    let spool = open_at(folder.path(), &clock);
    assert!(spool.enqueue(mail(9, "soc")).await.unwrap()[0].seq > last);
    assert_eq!(spool.purge().await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_the_space_goes_back_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let config = Config { sync: Sync::Off, ..config(folder.path()) };
    let spool = Spool::open(&config, clock.clone()).unwrap();
    relay(&spool, 0..300, 200 << 10).await;
    spool.close().await;
    let full = length(folder.path(), "spool.db");
    assert!(full > 50 << 20);

    let spool = Spool::open(&config, clock.clone()).unwrap();
    clock.advance(SignedDuration::from_hours(8 * 24));
    // Mail that comes meanwhile is taken, and the purge leaves it alone.
    let (purged, put) = tokio::join!(spool.purge(), spool.enqueue(mail(1_000, "soc")));
    assert!(purged.unwrap() >= 299);
    put.unwrap();
    spool.purge().await.unwrap();
    spool.close().await;
    let left = length(folder.path(), "spool.db");
    assert!(left < 8 << 20, "{left} of {full} bytes are left");
    assert_eq!(open_at(folder.path(), &clock).reader().waiting("soc", 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_spool_refuses_mail_notes_deliveries_and_takes_mail_again_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let config = Config { max_size: Some(2 << 20), ..config(folder.path()) };
    let spool = Spool::open(&config, clock.clone()).unwrap();
    let mut seqs = Vec::new();
    let mut n = 0;
    let error = loop {
        match spool.enqueue(sized(n, "soc", 100 << 10)).await {
            Ok(queued) => seqs.push(queued[0].seq),
            Err(error) => break error,
        }
        n += 1;
        assert!(n < 100, "the bound is not held");
    };
    assert_eq!(error, PutError::Full);
    assert!(seqs.len() > 10);
    assert!(spool.enqueue(mail(200, "soc")).await.is_ok(), "a small one still fits");

    let all = seqs.iter().map(|&seq| delivered(seq, start())).collect();
    spool.record(all).await.unwrap();
    clock.advance(SignedDuration::from_hours(8 * 24));
    assert_eq!(spool.purge().await, Ok(seqs.len()));
    assert!(spool.enqueue(sized(n, "soc", 100 << 10)).await.is_ok());
}

#[tokio::test]
async fn the_reserve_of_the_disk_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { min_free: u64::MAX, ..config(folder.path()) };
    let spool = Spool::open(&config, clock()).unwrap();
    assert_eq!(spool.enqueue(mail(1, "soc")).await, Err(PutError::Full));
}

/// A small file system that goes with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(mounted.success());
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: mounts a small tmpfs"]
async fn a_full_disk_refuses_mail_loses_nothing_and_takes_mail_again_when_there_is_space() {
    let disk = SmallDisk::new("24m");
    let folder = disk.0.path().join("spool");
    // No reserve: the disk itself says that it is full.
    let config = Config { min_free: 0, ..config(&folder) };
    let spool = Spool::open(&config, clock()).unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let fill = async |numbers: std::ops::Range<u32>| {
        let puts: Vec<_> = numbers
            .map(|n| {
                let spool = spool.clone();
                tokio::spawn(async move { (n, spool.enqueue(sized(n, "soc", 60 << 10)).await) })
            })
            .collect();
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for put in puts {
            match put.await.unwrap() {
                (n, Ok(_)) => taken.push(n),
                (_, Err(error)) => refused.push(error),
            }
        }
        (taken, refused)
    };
    let (mut taken, refused) = fill(0..600).await;
    assert!(!taken.is_empty() && !refused.is_empty(), "{} taken, {} refused", taken.len(), refused.len());
    assert!(refused.iter().all(|error| *error == PutError::Full), "{refused:?}");

    fs::remove_file(ballast).unwrap();
    let (more, _) = fill(1_000..1_020).await;
    assert!(!more.is_empty(), "nothing is taken though there is space");
    taken.extend(more);
    spool.close().await;
    let waiting =
        Spool::open(&config, clock()).unwrap().reader().waiting("soc", 0, usize::MAX).await.unwrap();
    let waiting: std::collections::BTreeSet<_> = waiting.iter().map(|event| event.mail).collect();
    assert_eq!(waiting, taken.into_iter().map(id).collect());
}
