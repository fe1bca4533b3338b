//! What was answered survives the death of the process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use smtp2signl4::spool::{Filter, Outcome, State};

use crate::support::Enqueue;
use crate::{content, id, open, sized, start};

/// Tells the test binary that it is the process to be killed: the folder of the spool.
const FOLDER: &str = "SPOOL_CRASH_FOLDER";

/// The number of the first mail to put.
const FIRST: &str = "SPOOL_CRASH_FIRST";

/// How many put at a time.
const SESSIONS: u32 = 8;

const KILLS: u32 = 20;

/// Bytes in the `n`th mail: mostly small, now and then so large that it has a file of its own.
fn size(n: u32) -> usize {
    if n % 50 == 7 { 1 << 20 } else { 500 + (n as usize * 37) % 8_000 }
}

/// The process that is killed. Says on stderr what it was answered: `put N`, `delivered N`.
#[test]
#[ignore = "needs its parent: killed_at_random_moments_the_spool_has_every_mail_that_was_answered"]
fn put_until_killed() {
    let (Some(folder), Ok(first)) = (std::env::var_os(FOLDER), std::env::var(FIRST)) else {
        return;
    };
    let first: u32 = first.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let say = |word: &str, n: u32| std::io::stderr().write_all(format!("{word} {n}\n").as_bytes()).unwrap();
    runtime.block_on(async move {
        let spool = open(Path::new(&folder));
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let spool = spool.clone();
                tokio::spawn(async move {
                    for n in (first + session..).step_by(SESSIONS as usize) {
                        let queued =
                            spool.enqueue(sized(n, &format!("team{session}"), size(n))).await.unwrap();
                        say("put", n);
                        if n % 3 == 0 {
                            let seq = queued[0].seq;
                            let event_id = Some(format!("e{n}"));
                            let outcome = Outcome::Delivered { seq, event_id, at: start(), by_way: None };
                            spool.record(vec![outcome]).await.unwrap();
                            say("delivered", n);
                        }
                    }
                })
            })
            .collect();
        for session in sessions {
            session.await.unwrap();
        }
    });
}

fn spawn(folder: &Path, first: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::put_until_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn killed_at_random_moments_the_spool_has_every_mail_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(250);
    // What was answered: the mail, and whether its delivery was, too.
    let mut answered: BTreeMap<u32, bool> = BTreeMap::new();
    let mut first = 0;
    for _ in 0..KILLS {
        let mut child = spawn(folder.path(), first);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut killed = false;
        let after = random.usize(1..120);
        for seen in 1.. {
            if seen == after {
                child.kill().unwrap();
                killed = true;
            }
            // After the kill, what it said before.
            let Some(line) = lines.next() else { break };
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("put", n)) => _ = answered.entry(n.parse().unwrap()).or_insert(false),
                Some(("delivered", n)) => _ = answered.insert(n.parse().unwrap(), true),
                _ => panic!("the child failed: {line}"),
            }
        }
        assert!(killed, "the child ended by itself");
        child.wait().unwrap();

        let spool = open(folder.path());
        let listed = spool.reader().list(Filter { limit: usize::MAX, ..Filter::default() }).await.unwrap();
        let kept: BTreeMap<_, _> = listed.iter().map(|event| (event.id, event)).collect();
        for (&n, &delivered) in &answered {
            let event = kept.get(&id(n)).unwrap_or_else(|| panic!("mail {n} was answered and is lost"));
            assert_eq!(event.title, format!("event {n}"));
            assert!(!delivered || event.state == State::Delivered, "the delivery of mail {n} is forgotten");
        }
        // A mail that was not answered may be there, but then whole.
        for event in kept.values() {
            let n: u32 = event.title.strip_prefix("event ").unwrap().parse().unwrap();
            assert!(spool.reader().content(event.id).await.unwrap() == Some(content(n, size(n))), "mail {n}");
            first = first.max((n / SESSIONS + 1) * SESSIONS);
        }
        // Nothing is left of a large mail that did not make it.
        let large = kept.values().filter(|event| event.size == 1 << 20).count();
        assert_eq!(std::fs::read_dir(folder.path().join("large")).unwrap().count(), large);
        for session in 0..SESSIONS {
            let waiting = spool.reader().waiting(&format!("team{session}"), 0, usize::MAX).await.unwrap();
            assert!(waiting.is_sorted_by_key(|event| event.mail), "order of session {session}");
        }
        spool.close().await;
    }
    assert!(answered.len() > KILLS as usize, "only {} mails were answered", answered.len());
}
