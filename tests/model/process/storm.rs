//! The storm at the real program, which is killed while it rages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use smtp2signl4::standin::Request;

use super::read;
use super::scene::{Scene, Terms};
use super::senders::{End, Session, Tries};
use crate::laws;
use crate::record::{Millis, Status};
use crate::storm::{MAILS, assert_few_pages, letter};
use crate::support::{PATIENCE, Smtp};

/// Sessions that send the mails, and how many each sends without waiting for an answer.
const SESSIONS: usize = 40;
const BATCH: u16 = 10;

/// So many pages in a minute are no storm yet.
const SINGLE: usize = 12;

/// How often the digest is sent again, and how long it must be quiet for the storm to be over, in seconds: the least that
/// the config allows.
const INTERVAL: i64 = 10;

/// How often the gateway is killed while it rages.
const KILLS: usize = 2;

/// Incidents that are closed when it is over, beside those that were paged.
const CLOSED: u16 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_ends_in_few_pages_that_tell_of_every_mail_though_the_gateway_is_killed() {
    let mut rng = Rng::new();
    let seed = rng.u64(..);
    rng.seed(seed);
    println!("seed {seed}");
    let terms = Terms { windows: [(20, 1), (50, 3)], storm: Some((SINGLE, INTERVAL)) };
    let mut scene = Scene::start(terms, rng.fork()).await;
    let (begun_at, tries, next) = (Timestamp::now(), Tries::default(), Arc::new(AtomicU16::new(0)));
    let senders: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let (address, tries, next) = (scene.address, tries.clone(), Arc::clone(&next));
            std::thread::spawn(move || send(address, &next, &tries))
        })
        .collect();
    for _ in 0..KILLS {
        // Before it is a storm, a kill would make it one later: what was counted is forgotten.
        let rages = |requests: &[Request]| requests.iter().any(|r| is_digest(r) && r.event_id.is_some());
        tokio::time::timeout(PATIENCE, scene.standin.wait_for(rages)).await.unwrap();
        // The moment of the kill is what is random here.
        tokio::time::sleep(Duration::from_millis(rng.u64(100..1_500))).await;
        scene.kill();
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    println!("{MAILS} mails in {:#}", Timestamp::now().duration_since(begun_at));
    let is_over = |request: &Request| {
        request.payload["Title"].as_str().is_some_and(|title| title.contains(" is over: "))
    };
    let over = |requests: &[Request]| requests.iter().any(|r| is_digest(r) && is_over(r));
    tokio::time::timeout(PATIENCE, scene.standin.wait_for(over)).await.unwrap();
    let lasted = Timestamp::now().duration_since(begun_at).as_secs() / INTERVAL;

    // A close of what was only told in the digest is kept; that of a page is sent.
    let mut session = Session::new(scene.address);
    let (sent, closed) = (scene.standin.events(), (0..CLOSED).chain((CLOSED..MAILS).step_by(200)));
    for n in closed.chain((0..MAILS).filter(|&n| is_paged(&sent, n))) {
        session.hand_in(&letter(n, Status::Resolved), &tries, &AtomicBool::new(false));
    }
    scene.finish().await;
    let record = read::record(&scene, &tries);
    let broken = laws::broken(&record);
    assert!(broken.is_empty(), "seed {seed}: {broken:#?}\n{}", record.about(&broken[0].what));
    let most = 2 + usize::try_from(lasted).unwrap() + KILLS;
    assert_few_pages(&record, SINGLE, 1..=most, Millis::MAX);
    let digests = scene.standin.events().into_iter().filter(is_digest);
    let alerts: std::collections::BTreeSet<_> =
        digests.map(|digest| digest.payload["X-S4-ExternalID"].to_string()).collect();
    assert_eq!(alerts.len(), 1, "seed {seed}: one alert tells of all");
}

fn is_digest(request: &Request) -> bool {
    request.payload["X-S4-ExternalID"].as_str().is_some_and(|id| id.starts_with("smtp2signl4:storm:"))
}

/// Whether the open of the storm's `n`th incident has a page of its own.
fn is_paged(sent: &[Request], n: u16) -> bool {
    let incident = letter(n, Status::New).incident;
    sent.iter().any(|request| super::took(request) == incident)
}

/// Sends mails until there are no more, a batch at a time, each again until it is acknowledged.
fn send(address: SocketAddr, next: &AtomicU16, tries: &Tries) {
    let mut session = None;
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        let mut left: Vec<u16> = (first..MAILS.min(first.saturating_add(BATCH))).collect();
        if left.is_empty() {
            return;
        }
        while !left.is_empty() {
            while session.is_none() {
                session = greeted(address);
                // The next gateway comes in a moment.
                std::thread::sleep(Duration::from_millis(5 * u64::from(session.is_none())));
            }
            let taken = session.as_mut().map_or(0, |smtp| hand_in(smtp, &left, tries));
            left.drain(..taken);
            if !left.is_empty() {
                session = None;
            }
        }
    }
}

fn greeted(address: SocketAddr) -> Option<Smtp> {
    let mut smtp = Smtp::connect(address).ok()?;
    smtp.say("EHLO storm.example").ok()?;
    Some(smtp)
}

/// Hands mails in, all in one write (RFC 2920, RFC 3030), and tells how many were acknowledged before one was not.
fn hand_in(smtp: &mut Smtp, numbers: &[u16], tries: &Tries) -> usize {
    let mut script = String::new();
    let mut serials = Vec::new();
    for &n in numbers {
        let letter = letter(n, Status::New);
        let serial = tries.begin(letter.clone());
        serials.push(serial);
        let (mail, to) = (letter.content(serial), letter.recipients().concat());
        script.push_str(&format!("MAIL FROM:<tool@site.example>\r\nRCPT TO:<{to}>\r\n"));
        script.push_str(&format!("BDAT {} LAST\r\n{mail}", mail.len()));
    }
    if smtp.write(script.as_bytes()).is_err() {
        return 0;
    }
    let mut took = || (0..3).all(|_| smtp.reply().is_ok_and(|reply| reply.starts_with("250 ")));
    let taken = serials.iter().take_while(|_| took());
    taken.inspect(|serial| tries.end(**serial, End::Acknowledged(Timestamp::now()))).count()
}
