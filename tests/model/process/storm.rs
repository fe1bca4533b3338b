//! A storm: far more mails than anybody could read, in a minute, while the gateway is killed. It ends in few pages, and
//! they tell of every mail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use smtp2signl4::standin::{Options, Plan, Request, Standin};

use crate::support::{PATIENCE, SECRET, Site, Smtp, free_port};

/// Mails of the storm.
const MAILS: usize = 10_000;

/// Sessions that send them, and the mails that each sends without waiting for an answer.
const SESSIONS: usize = 40;
const BATCH: usize = 10;

/// One in so many is critical.
const CRITICAL: usize = 1_000;

/// So many pages in a minute are no storm yet.
const SINGLE: usize = 12;

/// How often the digest is sent again, and how long it must be quiet for the storm to be over: the least that the config
/// allows.
const INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// How often the gateway is killed while it rages.
const KILLS: usize = 2;

/// What the account may post, as elsewhere but for the numbers.
const WINDOWS: [(u64, i64); 2] = [(20, 1), (50, 3)];

/// Folded incidents that are closed when it is over.
const CLOSED: usize = 20;

const RULES: &str = "
version = 1
[source]
name = 'Model'
[[rule]]
name = 'what the mail says'
when = { header.x-key = '(?<key>.+)', header.x-status = '(?<state>.+)', header.x-severity = '(?<how_bad>.+)' }
set = { title = '{{ subject }}', external-id = '{{ key }}', status = '{{ state }}', severity = '{{ how_bad }}', source-system = 'Model' }
";

/// The names of the mails that got their 250.
type Acknowledged = Arc<Mutex<BTreeSet<String>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_ends_in_few_pages_that_tell_of_every_mail_though_the_gateway_is_killed() {
    let mut rng = Rng::new();
    let seed = rng.u64(..);
    rng.seed(seed);
    println!("seed {seed}");
    let plan = WINDOWS.map(|(limit, seconds)| (limit, SignedDuration::from_secs(seconds)));
    let secrets = vec![SECRET.to_owned()];
    let options = Options { plan: Plan::Windows(plan.to_vec()), secrets, ..Options::default() };
    let standin = Standin::start(options).await.unwrap();
    // Senders find the next gateway where the last one was.
    let address = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let site = site(&standin, address);
    let mut gateway = site.start();

    let begun_at = Timestamp::now();
    let (acknowledged, next) = (Acknowledged::default(), Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let (acknowledged, next) = (Arc::clone(&acknowledged), Arc::clone(&next));
            std::thread::spawn(move || send(address, &next, &acknowledged))
        })
        .collect();
    for _ in 0..KILLS {
        // Before it is a storm, a kill would make it one later: what was counted is forgotten.
        let rages =
            standin.wait_for(|requests| requests.iter().any(|r| is_digest(r) && r.event_id.is_some()));
        tokio::time::timeout(PATIENCE, rages).await.unwrap();
        // The moment of the kill is what is random here.
        tokio::time::sleep(Duration::from_millis(rng.u64(100..1_500))).await;
        gateway.kill();
        gateway = site.start();
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let sent_at = Timestamp::now();
    println!("{MAILS} mails in {:#}", sent_at.duration_since(begun_at));
    let over =
        standin.wait_for(|requests| requests.iter().any(|r| is_digest(r) && title(r).contains("is over")));
    tokio::time::timeout(PATIENCE, over).await.unwrap();
    let over_at = Timestamp::now();

    // Each mail is kept once, and told by itself or in the digest.
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= MAILS);
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in ask(&site, &["queue", "list", "--state", "all", "--json", "--limit", "1000000"]) {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        states.entry(text("title")).or_default().push(text("state"));
    }
    let told = ask(&site, &["queue", "list", "--digest", "1", "--json", "--limit", "1000000"]);
    let told: BTreeSet<&str> = told.iter().filter_map(|event| event["title"].as_str()).collect();
    // One whose answer was lost was sent again.
    let known: BTreeSet<&str> = states
        .iter()
        .filter(|(_, states)| states.iter().any(|state| state == "folded" || state == "delivered"))
        .map(|(name, _)| key(name))
        .collect();
    let mut single = Vec::new();
    for name in &acknowledged {
        let states = states.get(name).map_or(&[][..], Vec::as_slice);
        match states {
            [state] if state == "folded" => assert!(told.contains(name.as_str()), "seed {seed}: {name}"),
            [state] if state == "delivered" => single.push(name.as_str()),
            [state] if state == "counted" => assert!(known.contains(key(name)), "seed {seed}: {name}"),
            other => panic!("seed {seed}: {name} is {other:?}"),
        }
    }
    // Few pages: those before the storm, the critical ones, and a digest now and then.
    let events = standin.events();
    let digests: Vec<&Request> = events.iter().filter(|event| is_digest(event)).collect();
    let pages: BTreeSet<&str> = events.iter().filter(|event| !is_digest(event)).map(title).collect();
    let (critical, others): (Vec<&str>, Vec<&str>) = pages.iter().partition(|name| is_critical(name));
    assert_eq!(critical.len(), MAILS / CRITICAL, "seed {seed}: each critical mail pages, and once");
    assert!(others.len() <= SINGLE, "seed {seed}: {others:?}");
    assert!(single.iter().all(|name| pages.contains(name)), "seed {seed}");
    let lasted = over_at.duration_since(begun_at).as_secs() / INTERVAL.as_secs();
    let most = 2 + usize::try_from(lasted).unwrap() + KILLS;
    assert!(digests.len() <= most, "seed {seed}: {} digests", digests.len());
    let alerts: BTreeSet<_> =
        digests.iter().map(|digest| digest.payload["X-S4-ExternalID"].to_string()).collect();
    assert_eq!(alerts.len(), 1, "seed {seed}: one alert tells of all");
    let last = digests.last().unwrap();
    assert_eq!(title(last), format!("The storm of mails from Model is over: {} were folded", told.len()));
    assert!(throttled(&standin).is_empty(), "seed {seed}");
    println!(
        "{} pages and {} digests tell of {} mails",
        pages.len(),
        digests.len(),
        states.len() - digests.len()
    );

    // A close of what was only told in the digest is kept; that of a page is sent.
    let mut smtp = greeted(address).unwrap();
    let closes: Vec<&str> = told.iter().copied().take(CLOSED).chain(single.iter().copied()).collect();
    for name in &closes {
        let key = key(name);
        let mail =
            format!("Subject: close of {name}\nX-Key: {key}\nX-Status: resolved\nX-Severity: low\n\nText.\n");
        let reply = smtp.mail("a@example.org", &["soc@example.org"], &mail).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let all = standin.wait_for(|requests| {
        let closed = requests.iter().filter(|r| r.payload["X-S4-Status"] == "resolved").map(title);
        closed.collect::<BTreeSet<_>>().len() >= single.len()
    });
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    gateway.stop();
    let events = standin.events();
    let closed: BTreeSet<&str> = events
        .iter()
        .filter(|event| event.payload["X-S4-Status"] == "resolved")
        .map(|event| title(event).trim_start_matches("close of "))
        .collect();
    assert_eq!(closed, single.iter().copied().collect(), "seed {seed}");
}

fn site(standin: &Standin, address: SocketAddr) -> Site {
    let mut site = Site::new(standin);
    let windows = WINDOWS.map(|(limit, seconds)| format!("{seconds}s = {limit}")).join(", ");
    let seconds = INTERVAL.as_secs();
    site.set("smtp", "listen", format!("['{address}']"));
    site.set("signl4", "plan", format!("{{ {windows} }}"));
    site.set(
        "incidents",
        "storm",
        format!("{{ after = {SINGLE}, interval = '{seconds}s', calm = '{seconds}s' }}"),
    );
    site.set("rules", "shipped", "false");
    site.set("rules", "paths", "['rules.toml']");
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    site
}

/// What a command prints, a JSON object a line.
fn ask(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let output = site.command(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn greeted(address: SocketAddr) -> Option<Smtp> {
    let mut smtp = Smtp::connect(address).ok()?;
    smtp.say("EHLO storm.example").ok()?;
    Some(smtp)
}

/// Sends mails until there are no more, a batch at a time, each again until it is acknowledged.
fn send(address: SocketAddr, next: &AtomicUsize, acknowledged: &Mutex<BTreeSet<String>>) {
    let mut session = None;
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        let mut left: Vec<usize> = (first..MAILS.min(first + BATCH)).collect();
        if left.is_empty() {
            return;
        }
        for attempt in 1.. {
            let names: Vec<String> =
                left.iter().map(|n| format!("Disk {n} is full, try {attempt}")).collect();
            while session.is_none() {
                session = greeted(address);
                // The next gateway comes in a moment.
                std::thread::sleep(Duration::from_millis(5 * u64::from(session.is_none())));
            }
            let taken = session.as_mut().map_or(0, |smtp| hand_in(smtp, &names));
            acknowledged.lock().unwrap().extend(names.into_iter().take(taken));
            left.drain(..taken);
            if left.is_empty() {
                break;
            }
            session = None;
        }
    }
}

/// Hands mails in, all in one write (RFC 2920, RFC 3030), and tells how many were acknowledged before one was not.
fn hand_in(smtp: &mut Smtp, names: &[String]) -> usize {
    let mut script = String::new();
    for name in names {
        let severity = if is_critical(name) { "critical" } else { "low" };
        let key = key(name);
        let mail = format!(
            "From: a@example.org\r\nSubject: {name}\r\nX-Key: {key}\r\nX-Status: new\r\nX-Severity: {severity}\r\n\r\nText.\r\n"
        );
        script.push_str("MAIL FROM:<a@example.org>\r\nRCPT TO:<soc@example.org>\r\n");
        script.push_str(&format!("BDAT {} LAST\r\n{mail}", mail.len()));
    }
    if smtp.write(script.as_bytes()).is_err() {
        return 0;
    }
    let mut took = || (0..3).all(|_| smtp.reply().is_ok_and(|reply| reply.starts_with("250 ")));
    names.iter().take_while(|_| took()).count()
}

/// The incident of a mail: each try of a disk is about the same.
fn key(name: &str) -> &str {
    name.split(',').next().unwrap()
}

fn is_critical(name: &str) -> bool {
    let number = name.split(' ').nth(1).and_then(|number| number.parse::<usize>().ok());
    number.is_some_and(|number| number % CRITICAL == CRITICAL - 1)
}

fn is_digest(request: &Request) -> bool {
    request.payload["X-S4-ExternalID"].as_str().is_some_and(|id| id.starts_with("smtp2signl4:storm:"))
}

fn title(request: &Request) -> &str {
    request.payload["Title"].as_str().unwrap_or_default()
}

fn throttled(standin: &Standin) -> Vec<Timestamp> {
    standin.requests().iter().filter(|request| request.status == 429).map(|request| request.at).collect()
}
