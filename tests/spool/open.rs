//! What is opened, what is refused, and that nothing is changed by a refusal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use smtp2signl4::spool::{Config, Filter, OpenError, Reader, Spool, Sync};

use crate::support::Enqueue;
use crate::{clock, config, content, id, mail, open, sized};

/// The database and its log, byte for byte; an empty log is none.
fn files(folder: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    ["spool.db", "spool.db-wal"]
        .into_iter()
        .filter_map(|name| Some((name, fs::read(folder.join(name)).ok()?)))
        .filter(|(name, bytes)| *name == "spool.db" || !bytes.is_empty())
        .collect()
}

/// Copies the files of a spool, as a crash would leave them.
fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// The error of opening `folder`, which must leave it as it is.
fn refusal(folder: &Path) -> OpenError {
    let before = files(folder);
    let error = Spool::open(&config(folder), clock()).err().expect("the spool is refused");
    assert!(files(folder) == before, "a refused spool is changed");
    error
}

/// A spool with mails in it, closed.
async fn filled(mails: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    for n in 0..mails {
        spool.enqueue(sized(n, "soc", 4096)).await.unwrap();
    }
    spool.close().await;
    folder
}

#[test]
fn the_sqlite_that_is_compiled_in_is_free_of_the_log_reset_bug() {
    // https://sqlite.org/wal.html#walresetbug: 3.7.0 to 3.51.2 can corrupt a WAL.
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[tokio::test]
async fn the_folder_and_its_files_are_for_the_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    let spool = open(&folder);
    spool.enqueue(mail(1, "soc")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for name in ["lock", "spool.db", "spool.db-wal", "spool.db-shm"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_has_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let error = Spool::open(&config(folder.path()), clock()).err().unwrap();
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())));
    spool.enqueue(mail(1, "soc")).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_lets_go_soon_does_not_keep_the_next_one_out() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let path = folder.path().to_owned();
    let second = tokio::task::spawn_blocking(move || open(&path));
    first.close().await;
    second.await.unwrap().enqueue(mail(1, "soc")).await.unwrap();
}

#[tokio::test]
async fn the_last_handle_that_goes_closes_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.enqueue(mail(1, "soc")).await.unwrap();
    drop(spool.clone());
    drop(spool);
    assert_eq!(open(folder.path()).reader().waiting("soc", 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn another_schema_version_is_refused_with_both_versions_and_not_touched() {
    let folder = filled(3).await;
    let db = Connection::open(folder.path().join("spool.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::OtherSchema { found: 99, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("schema version is 99"));
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let db = Connection::open(folder.path().join("spool.db")).unwrap();
    db.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(db);
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
}

#[tokio::test]
async fn damage_anywhere_is_refused_and_not_touched() {
    let whole = filled(200).await;
    let bytes = fs::read(whole.path().join("spool.db")).unwrap();
    let pages = bytes.len() / 4096;
    for page in (0..8).chain((8..pages).step_by(37)).chain([pages - 1]) {
        let folder = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
        fs::write(folder.path().join("spool.db"), damaged).unwrap();
        let error = refusal(folder.path());
        assert!(matches!(error, OpenError::Corrupt { .. }), "page {page}: {error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
    }
}

#[tokio::test]
async fn a_log_without_its_database_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let running = tempfile::tempdir().unwrap();
    let spool = open(running.path());
    spool.enqueue(mail(1, "soc")).await.unwrap();
    copy(running.path(), folder.path());
    fs::write(folder.path().join("spool.db"), "").unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Corrupt { .. }));
}

#[tokio::test]
async fn a_log_with_a_torn_or_garbled_end_keeps_what_was_acknowledged_before_it() {
    const MAILS: u32 = 12;
    let running = tempfile::tempdir().unwrap();
    let spool = open(running.path());
    let log = running.path().join("spool.db-wal");
    // How long the log was when each mail had been answered.
    let mut acknowledged = Vec::new();
    for n in 0..MAILS {
        spool.enqueue(sized(n, "soc", 3_000)).await.unwrap();
        acknowledged.push(fs::metadata(&log).unwrap().len());
    }
    assert!(acknowledged.is_sorted_by(|a, b| a < b), "one log holds them all: {acknowledged:?}");
    let whole = files(running.path());
    let bytes = &whole["spool.db-wal"];
    let mut random = fastrand::Rng::with_seed(250);
    let mut lost = 0;
    for _ in 0..40 {
        let cut = random.usize(..bytes.len());
        let mut torn = bytes.clone();
        if random.bool() {
            torn.truncate(cut);
        } else {
            random.fill(&mut torn[cut..]);
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("spool.db"), &whole["spool.db"]).unwrap();
        fs::write(folder.path().join("spool.db-wal"), torn).unwrap();
        let config = Config { sync: Sync::Off, ..config(folder.path()) };
        let spool = Spool::open(&config, clock()).unwrap();
        let safe = acknowledged.iter().filter(|&&length| length <= cut as u64).count();
        let waiting = spool.reader().waiting("soc", 0, 100).await.unwrap();
        assert!(waiting.len() >= safe, "cut at {cut}: {safe} were safe, {} are left", waiting.len());
        lost += MAILS as usize - waiting.len();
        for (n, event) in (0..).zip(&waiting) {
            assert_eq!((event.mail, &*event.payload), (id(n), &*mail(n, "soc").events[0].payload()));
            assert!(spool.reader().content(id(n)).await.unwrap() == Some(content(n, 3_000)));
        }
        // And it takes mail as before.
        spool.enqueue(mail(100, "soc")).await.unwrap();
    }
    assert!(lost > 0, "no cut hit anything");
}

#[tokio::test]
async fn a_spool_can_be_read_beside_its_owner_and_when_it_has_none() {
    let running = tempfile::tempdir().unwrap();
    let spool = open(running.path());
    spool.enqueue(mail(1, "soc")).await.unwrap();
    let list =
        async |folder: &Path| Reader::open(folder).unwrap().list(Filter::default()).await.unwrap().len();
    assert_eq!(list(running.path()).await, 1);

    // As a crash leaves it: the log is there, its index is not.
    let crashed = tempfile::tempdir().unwrap();
    copy(running.path(), crashed.path());
    assert_eq!(list(crashed.path()).await, 1);
    assert_eq!(open(crashed.path()).reader().waiting("soc", 0, 10).await.unwrap().len(), 1);

    spool.close().await;
    assert!(!running.path().join("spool.db-wal").exists(), "a closed spool is one file");
    assert_eq!(list(running.path()).await, 1);
    assert!(matches!(Reader::open(&running.path().join("none")), Err(OpenError::Io { .. })));
}
