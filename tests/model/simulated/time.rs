//! The time of a history: tokio's, which stands still while anybody works and leaps to the next timer when
//! nobody does. It goes on from one life of the gateway to the next.

use std::future::Future;
use std::sync::Mutex;
use std::sync::mpsc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::record::Millis;
use smtp2signl4::clock::Clock;

/// When every history begins: 2026-11-20T12:00:00Z.
const START: i64 = 1_795_176_000;

/// The clock of a history.
#[derive(Debug)]
pub(super) struct VirtualClock(Mutex<Reading>);

/// What the clock showed, and the instant of the runtime at which it did; none between two lives.
#[derive(Debug)]
struct Reading {
    shown: Timestamp,
    at: Option<Instant>,
}

impl VirtualClock {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Reading { shown: start(), at: None }))
    }

    /// Goes by the clock of the runtime that this is called in.
    pub(super) fn run(&self) {
        self.0.lock().expect("no holder of this lock can panic").at = Some(Instant::now());
    }

    /// Stands still, since the runtime ends.
    pub(super) fn stop(&self) {
        let now = self.now();
        *self.0.lock().expect("no holder of this lock can panic") = Reading { shown: now, at: None };
    }

    /// Lets time pass that nobody lives in.
    pub(super) fn skip(&self, millis: Millis) {
        let mut reading = self.0.lock().expect("no holder of this lock can panic");
        reading.shown += SignedDuration::from_millis(millis);
    }

    /// The time since the start.
    pub(super) fn millis(&self) -> Millis {
        self.millis_of(self.now())
    }

    /// The time from the start to `at`.
    pub(super) fn millis_of(&self, at: Timestamp) -> Millis {
        at.as_millisecond() - start().as_millisecond()
    }

    /// The moment that lies so long after the start.
    pub(super) fn at(&self, millis: Millis) -> Timestamp {
        start() + SignedDuration::from_millis(millis)
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(START).expect("a time of today")
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let reading = self.0.lock().expect("no holder of this lock can panic");
        let passed = reading.at.map_or(std::time::Duration::ZERO, |at| at.elapsed());
        reading.shown + SignedDuration::try_from(passed).expect("a history is short")
    }

    fn up(&self) -> SignedDuration {
        self.now().duration_since(start())
    }
}

/// Does `work`, which a thread beside the runtime has a part in: time stands still until it is done, for the
/// runtime takes a task that blocks for a reason to wait.
pub(super) async fn still<T>(work: impl Future<Output = T>) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    drop(tokio::task::spawn_blocking(move || is_done.recv()));
    let result = work.await;
    drop(done);
    result
}
