//! What is said to the gateway: senders that hand in mails about incidents, and what they heard.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use smtp2signl4::event::{Repeat, Severity, Status};

use crate::support::Smtp;

/// The teams; [`VISITOR`] is not always in the config.
pub const TEAMS: [&str; 3] = ["soc", "ops", VISITOR];

/// The team that comes and goes with restarts.
pub const VISITOR: &str = "lab";

/// Incidents of each kind in a team: so few that their lives meet everything else.
const INCIDENTS: usize = 5;

/// The longest pause of a sender between two mails, in milliseconds.
const PAUSE: u64 = 220;

/// A mail that was handed in, or tried to be. Each try has a name of its own, so that each can be found again.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Its subject, which becomes the title.
    pub name: String,
    /// The teams that it goes to.
    pub teams: Vec<&'static str>,
    /// What its incident is called.
    pub key: String,
    pub status: Status,
    pub severity: Severity,
    /// What the rules say of repeats of its incident.
    pub repeat: Repeat,
    /// When its session began to hand it in.
    pub begun_at: Timestamp,
    pub end: End,
}

/// What a sender heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// 250, at this time.
    Acknowledged(Timestamp),
    /// A refusal before the mail was sent.
    Refused,
    /// Nothing, or nothing that says what became of it.
    Unknown,
}

impl Mail {
    /// When it was acknowledged, if it was.
    pub fn acknowledged_at(&self) -> Option<Timestamp> {
        match self.end {
            End::Acknowledged(at) => Some(at),
            End::Refused | End::Unknown => None,
        }
    }

    fn text(&self) -> String {
        let Self { name, key, status, severity, repeat, .. } = self;
        let repeat = match repeat {
            Repeat::Quiet => "quiet",
            Repeat::Count => "count",
            Repeat::Update => "update",
        };
        format!(
            "From: tool@example.org\nTo: soc@example.org\nSubject: {name}\nX-Key: {key}\nX-Status: {status}\n\
             X-Severity: {severity}\nX-Repeat: {repeat}\n\nWhat happened.\n"
        )
    }
}

/// A mail that says something about some incident.
fn any_mail(name: String, rng: &mut Rng) -> Mail {
    let teams = match rng.u8(0..20) {
        0..9 => vec!["soc"],
        9..14 => vec!["ops"],
        14..18 => vec![VISITOR],
        _ => vec!["soc", "ops"],
    };
    let (repeat, kind) = match rng.u8(0..10) {
        0..8 => (Repeat::Quiet, "quiet"),
        8 => (Repeat::Count, "count"),
        _ => (Repeat::Update, "update"),
    };
    let status = match rng.u8(0..10) {
        0..6 => Status::New,
        6 => Status::Acknowledged,
        _ => Status::Resolved,
    };
    let severity = match rng.u8(0..10) {
        0..5 => Severity::Info,
        5..7 => Severity::Low,
        7 => Severity::Medium,
        8 => Severity::High,
        _ => Severity::Critical,
    };
    let incidents = if repeat == Repeat::Quiet { INCIDENTS } else { 2 };
    let key = format!("{kind} {}", rng.usize(0..incidents));
    let (begun_at, end) = (Timestamp::now(), End::Unknown);
    Mail { name, teams, key, status, severity, repeat, begun_at, end }
}

/// A mail that opens an incident of its own.
pub fn open(name: String, team: &'static str, severity: Severity) -> Mail {
    let (begun_at, end) = (Timestamp::now(), End::Unknown);
    let key = name.clone();
    Mail { name, teams: vec![team], key, status: Status::New, severity, repeat: Repeat::Quiet, begun_at, end }
}

/// All mails that were handed in, by whomever.
pub type Said = Arc<Mutex<Vec<Mail>>>;

/// Sessions that hand in mails until each has got its number through.
pub struct Senders {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Senders {
    /// Starts `count` of them, each with so many `mails`.
    pub fn start(count: usize, mails: usize, address: SocketAddr, said: &Said, rng: &mut Rng) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|sender| {
                let (said, stop, mut rng) = (Arc::clone(said), Arc::clone(&stop), rng.fork());
                std::thread::spawn(move || {
                    let mut session = Session::new(address);
                    for n in 0..mails {
                        // Mails come when they come.
                        std::thread::sleep(Duration::from_millis(rng.u64(0..PAUSE)));
                        let mail = any_mail(format!("{sender}-{n}"), &mut rng);
                        session.hand_in(mail, &said, &stop);
                    }
                })
            })
            .collect();
        Self { threads, stop }
    }

    /// Whether all are through.
    pub fn are_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What went wrong there has been told there.
            let failed = thread.join().is_err();
            assert!(!failed || std::thread::panicking(), "a sender failed");
        }
    }
}

/// A session that is begun anew when it breaks.
pub struct Session {
    address: SocketAddr,
    smtp: Option<Smtp>,
}

impl Session {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, smtp: None }
    }

    /// Hands `mail` in, again and again until it is acknowledged or refused, unless `stop` turns true.
    pub fn hand_in(&mut self, mail: Mail, said: &Mutex<Vec<Mail>>, stop: &AtomicBool) {
        for attempt in 1.. {
            let mut mail = Mail { name: format!("{} try {attempt}", mail.name), ..mail.clone() };
            let Some(smtp) = self.greeted(stop) else { return };
            mail.begun_at = Timestamp::now();
            let to: Vec<String> = mail.teams.iter().map(|team| format!("{team}@example.org")).collect();
            let to: Vec<&str> = to.iter().map(String::as_str).collect();
            mail.end = match smtp.mail("tool@example.org", &to, &mail.text()) {
                Ok(reply) if reply.starts_with("250 ") => End::Acknowledged(Timestamp::now()),
                Ok(reply) if reply.starts_with("550 ") => End::Refused,
                _ => End::Unknown,
            };
            let end = mail.end;
            said.lock().unwrap().push(mail);
            match end {
                End::Acknowledged(_) => return,
                // The transaction is half done.
                End::Refused => return self.smtp = None,
                End::Unknown => self.smtp = None,
            }
        }
    }

    /// A session with whatever gateway is there next.
    fn greeted(&mut self, stop: &AtomicBool) -> Option<&mut Smtp> {
        while self.smtp.is_none() && !stop.load(Ordering::Relaxed) {
            self.smtp = Smtp::connect(self.address).ok().and_then(|mut smtp| {
                smtp.say("EHLO model.example").ok()?;
                Some(smtp)
            });
            if self.smtp.is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.smtp.as_mut()
    }
}
