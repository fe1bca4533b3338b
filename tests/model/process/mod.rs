//! Long random histories of the real program: mails about incidents, several at once, while SIGNL4 fails in every way,
//! the gateway is killed and started again, gets other rules and teams, and is asked what it has. What was acknowledged,
//! what it listed and what SIGNL4 was sent are then held against the laws of delivery.
//!
//! `HISTORY_SEED` runs the history of one seed, `HISTORIES` so many of random seeds, and `HISTORY_MAILS` makes each of
//! them so long, in mails of each sender.

mod laws;
mod mails;
mod record;
mod scene;
mod storm;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::support::PATIENCE;
use fastrand::Rng;
use smtp2signl4::event::Severity;
use smtp2signl4::standin::Request;

use mails::{Said, Senders, Session};
use record::Record;
use scene::Scene;

/// The histories that are run if nobody wants others.
const SEEDS: [u64; 2] = [1, 2];

/// Histories at the same time.
const AT_ONCE: usize = 2;

/// Senders in a history, and the mails that each gets through.
const SENDERS: usize = 3;
const MAILS: usize = 45;

/// The longest pause between two things that are done to the gateway, in milliseconds.
const PAUSE: u64 = 500;

/// What waits in the outage at the end of a history, and what comes when it is over.
const INFORMATIONAL: usize = 24;
const CRITICAL: usize = 4;

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
    let mut scene = Scene::start(rng.fork()).await;
    let said = Said::default();
    let senders = Senders::start(SENDERS, mails, scene.address, &said, &mut rng);
    while !senders.are_done() {
        // The moment at which something happens is what is random here.
        tokio::time::sleep(Duration::from_millis(rng.u64(0..PAUSE))).await;
        scene.act().await;
    }
    drop(senders);
    overtake(&mut scene, &said).await;
    repeat(&scene, &said).await;
    scene.drain().await;

    let incidents = scene.incidents();
    let mails = std::mem::take(&mut *said.lock().unwrap());
    let mut record = Record::new(
        mails,
        std::mem::take(&mut scene.listings),
        scene.standin.requests(),
        std::mem::take(&mut scene.runs),
    );
    (record.faults, record.throttled) = (scene.faults.clone(), scene.throttled.clone());
    (record.reloads, record.refusals) = (scene.reloads.clone(), scene.refusals.clone());
    record.incidents = incidents;
    println!("history {seed}: {}", told(&record));
    let broken = laws::broken(&record);
    if !broken.is_empty() {
        eprintln!("{}", record.story());
    }
    assert!(broken.is_empty(), "history {seed} breaks laws:\n{}", broken.join("\n"));
}

/// Lets critical mail come while much that is not waits for the budget.
async fn overtake(scene: &mut Scene, said: &Said) {
    scene.refuse().await;
    let stop = AtomicBool::new(false);
    let mut session = Session::new(scene.address);
    for n in 0..INFORMATIONAL {
        let team = ["soc", "ops"][n % 2];
        session.hand_in(mails::open(format!("last {n}"), team, Severity::Info), said, &stop);
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
        let team = ["soc", "ops"][n % 2];
        session.hand_in(mails::open(format!("urgent {n}"), team, Severity::Critical), said, &stop);
    }
    let all = scene.standin.wait_for(|requests| {
        let urgent = |request: &&Request| {
            request.event_id.is_some()
                && request.payload["Title"].as_str().is_some_and(|title| title.starts_with("urgent"))
        };
        requests.iter().filter(urgent).count() >= CRITICAL
    });
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}

/// Lets mails about an incident whose page has left come faster than it may page.
async fn repeat(scene: &Scene, said: &Said) {
    let mut session = Session::new(scene.address);
    for n in 0..REPEATS {
        // Urgent, so that it does not wait behind what is left.
        let mail = mails::open(format!("again {n}"), "soc", Severity::Critical);
        let mail = mails::Mail { key: "again".to_owned(), ..mail };
        session.hand_in(mail, said, &AtomicBool::new(false));
        let is_first =
            |request: &Request| request.event_id.is_some() && request.payload["X-S4-ExternalID"] == "again";
        let paged = scene.standin.wait_for(|requests| requests.iter().any(is_first));
        tokio::time::timeout(PATIENCE, paged).await.unwrap();
        tokio::time::sleep(REPEAT_PAUSE).await;
    }
}

/// A history in numbers.
fn told(record: &Record) -> String {
    let state = |state: &str| record.end().iter().filter(|line| line.state == state).count();
    let taken = record.posts.iter().filter(|post| post.taken && post.event.is_some()).count();
    format!(
        "{} mails tried, {} events delivered, {} counted, {} posts, {} taken, {} runs, {} outages, {} listings, {} overtook",
        record.mails.len(),
        state("delivered"),
        state("counted"),
        record.posts.len(),
        taken,
        record.runs.len(),
        record.faults.len(),
        record.looks.len(),
        laws::overtakes(record),
    )
}
