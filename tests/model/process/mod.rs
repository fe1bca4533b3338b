//! Long random histories of the real program: mails about incidents, several at once, while SIGNL4 fails in every way,
//! the gateway is killed and started again, gets other rules and teams, and is asked what it has. What was acknowledged,
//! what it listed and what SIGNL4 was sent are then held against the laws of delivery.
//!
//! `HISTORY_SEED` runs the history of one seed, `HISTORIES` so many of random seeds, and `HISTORY_MAILS` makes each of
//! them so long, in mails of each sender.

mod read;
mod scene;
mod senders;
mod storm;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fastrand::Rng;
use smtp2signl4::standin::Request;

use crate::laws::{self, Breach};
use crate::letter::{Letter, read_key};
use crate::record::Record;
use crate::support::PATIENCE;
use scene::{Scene, Terms};
use senders::{Senders, Session, Tries, incident};

/// The histories that are run if nobody wants others.
const SEEDS: [u64; 2] = [1, 2];

/// Histories at the same time.
const AT_ONCE: usize = 2;

/// Senders in a history, and the mails that each gets through.
const SENDERS: usize = 3;
const MAILS: usize = 45;

/// So many mails a second would be a storm.
const TERMS: Terms = Terms { windows: [(14, 1), (36, 3)], storm: None };

/// The longest pause between two things that are done to the gateway, in milliseconds.
const PAUSE: u64 = 500;

/// What waits in the outage at the end of a history, and what comes when it is over.
const INFORMATIONAL: u16 = 24;
const CRITICAL: u16 = 4;

/// Repeats of one incident, over more than the longest quiet time.
const REPEATS: usize = 30;
const REPEAT_PAUSE: Duration = Duration::from_millis(80);

#[test]
fn whatever_happens_to_the_gateway_no_history_breaks_a_law() {
    let number = |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().unwrap());
    let seeds: Vec<u64> = match (number("HISTORY_SEED"), number("HISTORIES")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (0..count).map(|_| fastrand::u64(..)).collect(),
        (None, None) => SEEDS.to_vec(),
    };
    let mails = number("HISTORY_MAILS").map_or(MAILS, |mails| usize::try_from(mails).unwrap());
    for seeds in seeds.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for &seed in seeds {
                scope.spawn(move || {
                    // Each has threads of its own, so that its SIGNL4 answers while it waits for something.
                    let mut runtime = tokio::runtime::Builder::new_multi_thread();
                    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
                    runtime.block_on(history(seed, mails));
                });
            }
        });
    }
}

/// Lives through the history of `seed`, and holds it against the laws.
async fn history(seed: u64, mails: usize) {
    println!("history {seed} begins");
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::start(TERMS, rng.fork()).await;
    let tries = Tries::default();
    let senders = Senders::start(SENDERS, mails, scene.address, &tries, &mut rng);
    while !senders.are_done() {
        // The moment at which something happens is what is random here.
        tokio::time::sleep(Duration::from_millis(rng.u64(0..PAUSE))).await;
        scene.act().await;
    }
    drop(senders);
    overtake(&mut scene, &tries).await;
    repeat(&scene, &tries).await;
    scene.drain().await;

    let record = read::record(&scene, &tries);
    println!("history {seed}: {}", told(&record));
    let broken = laws::broken(&record);
    if let Some(first) = broken.first() {
        eprintln!("{}", record.about(&first.what));
    }
    let broken: Vec<_> = broken.iter().map(|Breach { law, what }| format!("{law}: {what}")).collect();
    let knobs = format!("HISTORY_SEED={seed} HISTORY_MAILS={mails}");
    assert!(
        broken.is_empty(),
        "{}\nrun it again with {knobs} cargo test --test model process::",
        broken.join("\n")
    );
}

/// The incidents of which critical mail comes while other mail waits: the number of the first.
const URGENT: u16 = 200;

/// Lets critical mail come while much that is not waits for the budget.
async fn overtake(scene: &mut Scene, tries: &Tries) {
    scene.refuse().await;
    let stop = AtomicBool::new(false);
    let mut session = Session::new(scene.address);
    for n in 0..INFORMATIONAL {
        session.hand_in(&Letter::open(incident(100 + n), usize::from(n % 2), 4), tries, &stop);
    }
    scene.end_fault().await;
    let taken = |requests: &[Request], team: &str| {
        let of_team = |request: &&Request| request.secret.ends_with(team) && request.event_id.is_some();
        requests.iter().rev().take_while(|request| request.event_id.is_some()).filter(of_team).count()
    };
    let before = scene.standin.requests().len();
    let begun = scene.standin.wait_for(|requests| {
        let new = &requests[before.min(requests.len())..];
        taken(new, "soc") > 1 && taken(new, "ops") > 1
    });
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    for n in 0..CRITICAL {
        session.hand_in(&Letter::open(incident(URGENT + n), usize::from(n % 2), 0), tries, &stop);
    }
    let all = scene.standin.wait_for(|requests| {
        let urgent = |request: &&Request| took(request).is_some_and(|of| of >= incident(URGENT));
        requests.iter().filter(urgent).count() >= usize::from(CRITICAL)
    });
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}

/// Lets mails about an incident whose page has left come faster than it may page.
async fn repeat(scene: &Scene, tries: &Tries) {
    let mut session = Session::new(scene.address);
    let again = incident(URGENT + CRITICAL);
    for _ in 0..REPEATS {
        // Urgent, so that it does not wait behind what is left.
        session.hand_in(&Letter::open(again, 0, 0), tries, &AtomicBool::new(false));
        let paged =
            scene.standin.wait_for(|requests| requests.iter().any(|request| took(request) == Some(again)));
        tokio::time::timeout(PATIENCE, paged).await.unwrap();
        tokio::time::sleep(REPEAT_PAUSE).await;
    }
}

/// The incident of an event that was taken.
fn took(request: &Request) -> Option<u16> {
    read_key(request.payload["X-S4-ExternalID"].as_str()?).filter(|_| request.event_id.is_some())
}

/// A history in numbers.
fn told(record: &Record) -> String {
    let state = |state: &str| record.lines().iter().filter(|line| line.state == state).count();
    let taken = record.posts.iter().filter(|post| post.is_taken()).count();
    format!(
        "{} events tried, {} events delivered, {} counted, {} posts, {} taken, {} runs, {} listings, {} overtook",
        record.events.len(),
        state("delivered"),
        state("counted"),
        record.posts.len(),
        taken,
        record.lives.len(),
        record.looks.len(),
        laws::overtakes(record),
    )
}
