//! Strangers do not fill the spool, and what is done goes early where there is no room.

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use smtp2signl4::clock::{Clock, Manual};
use smtp2signl4::mail::Trust;
use smtp2signl4::spool::{Config, Entry, Filter, Outcome, PutError, Spool, State};

use crate::support::Enqueue;
use crate::{clock, config, sized, start};

const MIB: usize = 1 << 20;

fn open(folder: &Path, clock: &Arc<Manual>) -> Spool {
    let clock: Arc<dyn Clock> = clock.clone();
    Spool::open(&Config { max_size: Some(48 << 20), ..config(folder) }, clock).unwrap()
}

/// The `n`th mail, of 2.8 MiB, which the spool keeps in a file of its own.
fn large(n: u32, trust: Trust) -> Entry {
    of(n, trust, 28 * MIB / 10)
}

fn of(n: u32, trust: Trust, size: usize) -> Entry {
    let mut entry = sized(n, "soc", size);
    entry.events.iter_mut().for_each(|event| event.identity.trust = trust);
    entry
}

/// Puts mails until one is refused: how many were taken. Each is delivered at `at`, if there is one.
async fn fill(spool: &Spool, from: u32, trust: Trust, at: Option<Timestamp>) -> u32 {
    for n in from.. {
        match spool.enqueue(large(n, trust)).await {
            Ok(queued) => {
                if let Some(at) = at {
                    let seq = queued[0].seq;
                    spool
                        .record(vec![Outcome::Delivered { seq, event_id: None, at, by_way: None }])
                        .await
                        .unwrap();
                }
            }
            Err(PutError::Full) => return n - from,
            Err(problem) => panic!("{problem}"),
        }
    }
    unreachable!()
}

async fn count(spool: &Spool, state: State) -> usize {
    let filter = Filter { states: vec![state], limit: 1_000, ..Filter::default() };
    spool.reader().list(filter).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_fill_their_share_and_leave_the_rest_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let spool = open(folder.path(), &clock);
    assert_eq!(fill(&spool, 0, Trust::Stranger, Some(start())).await, 4, "a quarter of 48 MiB");
    spool.enqueue(of(50, Trust::Proven, 1000)).await.unwrap();
    let others = fill(&spool, 100, Trust::Trusted, None).await;
    assert!(others >= 12, "{others}");
    assert_eq!(
        spool.enqueue(of(200, Trust::Stranger, 1000)).await,
        Err(PutError::Full),
        "the last tenth is not theirs"
    );
    spool.enqueue(of(300, Trust::Trusted, 1000)).await.unwrap();
    // What they fill is known after a restart.
    spool.close().await;
    drop(spool);
    let spool = open(folder.path(), &clock);
    assert_eq!(fill(&spool, 400, Trust::Stranger, None).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_pressure_what_is_delivered_goes_and_that_of_strangers_first() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let spool = open(folder.path(), &clock);
    let waiting = spool.enqueue(of(0, Trust::Trusted, 1000)).await.unwrap();
    assert_eq!(fill(&spool, 1, Trust::Stranger, Some(start())).await, 4);
    let known = fill(&spool, 100, Trust::Trusted, Some(start())).await;
    assert_eq!(count(&spool, State::Delivered).await, known as usize + 4, "within a day nothing goes");

    clock.advance(SignedDuration::from_hours(25));
    spool.enqueue(large(1000, Trust::Trusted)).await.unwrap();
    let strangers = async || {
        let listed = spool.reader().list(Filter { limit: 1_000, ..Filter::default() }).await.unwrap();
        listed
            .iter()
            .filter(|event| event.title.strip_prefix("event ").unwrap().parse::<u32>().unwrap() < 100)
            .count()
    };
    assert_eq!(strangers().await, 1 + 3, "the oldest of a stranger went, and no other");
    for n in 1001..1010 {
        spool.enqueue(large(n, Trust::Trusted)).await.unwrap();
    }
    assert_eq!(strangers().await, 1, "then the other three, and the oldest of those that are known");
    assert_eq!(count(&spool, State::Delivered).await, known as usize + 4 - 10);
    assert_eq!(count(&spool, State::Queued).await, 11);
    let still = spool.reader().waiting("soc", 0, 1).await.unwrap();
    assert_eq!(still[0].seq, waiting[0].seq, "what waits stays");
    assert_eq!(spool.reader().removed_early(start()).await, Ok(10), "and how many went is known");
}

#[test]
fn a_folder_that_others_can_write_to_and_a_lock_that_leads_away_are_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let open = || Spool::open(&config(folder.path()), clock()).map(drop).map_err(|error| error.to_string());
    let mode = |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    assert!(open().unwrap_err().contains("chmod 0700"));
    assert!(Spool::check(&config(folder.path())).is_err());
    mode(0o700);
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, folder.path().join("lock")).unwrap();
    assert!(open().unwrap_err().contains("remove it"));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    std::fs::remove_file(folder.path().join("lock")).unwrap();
    assert_eq!(open(), Ok(()));
}
