//! The promise of 250, held against SIGKILL: the real program is killed at random moments under load, with
//! the webhook up and down, and every mail that it acknowledged arrives, in the order of its incident.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp2signl4::standin::{Options, Request, Standin};
use support::{PATIENCE, Site, Smtp};

/// How often the gateway is killed.
const KILLS: usize = 20;

/// Senders at a time.
const SENDERS: usize = 8;

/// The life of an incident, a mail each.
const LIFE: [&str; 3] = ["new", "acknowledged", "resolved"];

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_mail_arrives_in_order_however_often_the_gateway_is_killed() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let mut site = Site::new(&standin);
    // Senders find the next gateway where the last one was.
    let address = free_address();
    site.set("smtp", "listen", format!("['{address}']"));
    // So many mails a second would be one.
    site.set("incidents", "storm", "false");
    let mut rng = fastrand::Rng::new();
    let seed = rng.u64(..);
    rng.seed(seed);
    println!("seed {seed}");

    let mut gateway = site.start();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            std::thread::spawn(move || send_until(address, sender, &stop, &acknowledged))
        })
        .collect();
    for kill in 0..KILLS {
        match kill % 4 {
            1 => standin.refuse().await.unwrap(),
            2 => standin.listen().await.unwrap(),
            _ => {}
        }
        // The moment of the kill is what is random here.
        tokio::time::sleep(Duration::from_millis(rng.u64(20..300))).await;
        gateway.kill();
        gateway = site.start();
    }
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    standin.listen().await.unwrap();

    let acknowledged: HashSet<String> = acknowledged.lock().unwrap().drain(..).collect();
    assert!(acknowledged.len() > KILLS, "only {} mails were acknowledged", acknowledged.len());
    let all_here = standin.wait_for(|requests| {
        let here: HashSet<&str> = requests.iter().filter(|r| r.event_id.is_some()).map(title).collect();
        acknowledged.iter().all(|title| here.contains(title.as_str()))
    });
    if tokio::time::timeout(PATIENCE, all_here).await.is_err() {
        let here: HashSet<String> = standin.events().iter().map(|r| title(r).to_owned()).collect();
        let missing: Vec<_> = acknowledged.iter().filter(|title| !here.contains(*title)).collect();
        panic!("seed {seed}: acknowledged and missing: {missing:?}");
    }
    let events = standin.events();
    assert_eq!(out_of_order(&events), Vec::<String>::new(), "seed {seed}");
    println!(
        "{} mails acknowledged over {KILLS} kills, {} events arrived, {} of them twice",
        acknowledged.len(),
        events.len(),
        events.len() - events.iter().map(title).collect::<HashSet<_>>().len(),
    );
    gateway.stop();
}

/// An address that nobody listens on.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends the lives of incidents, a mail after the other, each again until it is acknowledged.
fn send_until(address: SocketAddr, sender: usize, stop: &AtomicBool, acknowledged: &Mutex<Vec<String>>) {
    let mut connection = None;
    for incident in 0.. {
        for status in LIFE {
            let title = format!("{sender}-{incident} {status}");
            let mail = format!(
                "From: tool@example.org\nTo: soc@example.org\nSubject: {title}\n\
                 X-S4-ExternalID: {sender}-{incident}\nX-S4-Status: {status}\n\n{}\n",
                "What happened, at some length.\n".repeat(100)
            );
            loop {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if connection.is_none() {
                    connection = greeted(address);
                }
                let Some(smtp) = &mut connection else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                match smtp.mail("tool@example.org", &["soc@example.org"], &mail) {
                    Ok(reply) if reply.starts_with("250 ") => {
                        acknowledged.lock().unwrap().push(title);
                        break;
                    }
                    _ => connection = None,
                }
            }
        }
    }
}

fn greeted(address: SocketAddr) -> Option<Smtp> {
    let mut smtp = Smtp::connect(address).ok()?;
    smtp.say("EHLO crash.example").ok()?;
    Some(smtp)
}

fn title(request: &Request) -> &str {
    request.payload["Title"].as_str().unwrap_or_default()
}

/// Events that came after one that their incident had later. One that comes twice is no fault.
fn out_of_order(events: &[Request]) -> Vec<String> {
    let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for event in events {
        let id = event.payload["X-S4-ExternalID"].as_str().unwrap();
        let status = event.payload["X-S4-Status"].as_str().unwrap();
        let step = LIFE.iter().position(|known| *known == status).unwrap();
        let furthest = reached.entry(id).or_default();
        if step < *furthest {
            wrong.push(format!("{id}: {status} after {}", LIFE[*furthest]));
        }
        *furthest = step.max(*furthest);
    }
    wrong
}
