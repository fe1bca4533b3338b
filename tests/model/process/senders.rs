//! What is said to the gateway: senders that hand in mails about incidents, and what they heard.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use crate::letter::Letter;
use crate::record::Status;
use crate::support::Smtp;

/// Incidents of each kind in a team: so few that their lives meet everything else.
const INCIDENTS: u16 = 5;

/// The longest pause of a sender between two mails, in milliseconds.
const PAUSE: u64 = 220;

/// A mail that was handed in, or tried to be. Each try has a number of its own, so that each can be found again.
#[derive(Debug, Clone)]
pub struct Try {
    pub letter: Letter,
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

/// All mails that were handed in, by whomever; the first is `m1`.
#[derive(Debug, Clone, Default)]
pub struct Tries(Arc<Mutex<Vec<Try>>>);

impl Tries {
    /// The number of a mail that begins to be handed in.
    pub fn begin(&self, letter: Letter) -> u32 {
        let mut tries = self.0.lock().unwrap();
        tries.push(Try { letter, begun_at: Timestamp::now(), end: End::Unknown });
        tries.len().try_into().unwrap()
    }

    /// Its sender heard something.
    pub fn end(&self, serial: u32, end: End) {
        self.0.lock().unwrap()[serial as usize - 1].end = end;
    }

    pub fn all(&self) -> Vec<Try> {
        self.0.lock().unwrap().clone()
    }
}

/// The incident of this number whose quiet time the rules say.
pub fn incident(number: u16) -> u16 {
    8 * number + 7
}

/// A mail that says something about some incident.
fn any_letter(rng: &mut Rng) -> Letter {
    let teams = match rng.u8(0..20) {
        0..9 => vec![0],
        9..14 => vec![1],
        14..18 => vec![2],
        _ => vec![0, 1],
    };
    // The kinds of repeats are by their numbers: see `letter::repeat`.
    let incident = match rng.u8(0..10) {
        0..8 => incident(rng.u16(0..INCIDENTS)),
        8 => 8 * rng.u16(0..2) + 5,
        _ => 8 * rng.u16(0..2) + 6,
    };
    let status = match rng.u8(0..10) {
        0..6 => Status::New,
        6 => Status::Acknowledged,
        _ => Status::Resolved,
    };
    let severity = match rng.u8(0..10) {
        0..5 => 4,
        5..7 => 3,
        7 => 2,
        8 => 1,
        _ => 0,
    };
    Letter { teams, status, ..Letter::open(incident, 0, severity) }
}

/// Sessions that hand in mails until each has got its number through.
pub struct Senders {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Senders {
    /// Starts `count` of them, each with so many `mails`.
    pub fn start(count: usize, mails: usize, address: SocketAddr, tries: &Tries, rng: &mut Rng) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|_| {
                let (tries, stop, mut rng) = (tries.clone(), Arc::clone(&stop), rng.fork());
                std::thread::spawn(move || {
                    let mut session = Session::new(address);
                    for _ in 0..mails {
                        // Mails come when they come.
                        std::thread::sleep(Duration::from_millis(rng.u64(0..PAUSE)));
                        session.hand_in(&any_letter(&mut rng), &tries, &stop);
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

    /// Hands `letter` in, again and again until it is acknowledged or refused, unless `stop` turns true.
    pub fn hand_in(&mut self, letter: &Letter, tries: &Tries, stop: &AtomicBool) {
        loop {
            let Some(smtp) = self.greeted(stop) else { return };
            let serial = tries.begin(letter.clone());
            let to = letter.recipients();
            let to: Vec<&str> = to.iter().map(String::as_str).collect();
            let end = match smtp.mail("tool@site.example", &to, &letter.content(serial)) {
                Ok(reply) if reply.starts_with("250 ") => End::Acknowledged(Timestamp::now()),
                Ok(reply) if reply.starts_with("550 ") => End::Refused,
                _ => End::Unknown,
            };
            tries.end(serial, end);
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
