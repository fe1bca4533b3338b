//! The spool as delivery sees it, on a disk that takes its time and at times fails: before a change was made
//! or after, so that a kill meets both.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use super::record::Millis;
use super::time::{VirtualClock, still};
use crate::delivery::{Backlog, BacklogError};
use crate::spool::{Outcome, Queued, Reservation, Spool, Urgent};

/// How the disk is.
#[derive(Debug)]
pub(super) struct Mood {
    rng: Rng,
    pub(super) fails_until: Millis,
}

impl Mood {
    pub(super) fn new(rng: Rng) -> Self {
        Self { rng, fails_until: 0 }
    }
}

/// A spool with a disk of some mood.
pub(super) struct Disk {
    pub(super) spool: Spool,
    pub(super) mood: Arc<Mutex<Mood>>,
    pub(super) clock: Arc<VirtualClock>,
}

impl Disk {
    async fn pass<T>(&self, work: impl Future<Output = Result<T, BacklogError>>) -> Result<T, BacklogError> {
        let (before, after, fails) = {
            let mut mood = self.mood.lock().expect("no holder of this lock can panic");
            let fails = self.clock.millis() < mood.fails_until && mood.rng.u8(0..3) > 0;
            let mut wait = || Duration::from_millis(mood.rng.u64(0..6));
            let waits = (wait(), wait());
            (waits.0, waits.1, fails.then(|| mood.rng.bool()))
        };
        tokio::time::sleep(before).await;
        if fails == Some(false) {
            return Err("the disk failed before".into());
        }
        let done = still(work).await;
        tokio::time::sleep(after).await;
        if fails == Some(true) { Err("the disk failed behind".into()) } else { done }
    }
}

impl Backlog for Disk {
    async fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, BacklogError> {
        self.pass(Backlog::waiting(&self.spool, team, after, limit)).await
    }

    async fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, BacklogError> {
        self.pass(Backlog::urgent(&self.spool, team, after, limit)).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<(), BacklogError> {
        self.pass(Backlog::reserve(&self.spool, reservation)).await
    }

    async fn reservations(&self, account: &str) -> Result<Vec<Reservation>, BacklogError> {
        self.pass(Backlog::reservations(&self.spool, account)).await
    }

    async fn record(&self, outcomes: Vec<Outcome>) -> Result<(), BacklogError> {
        self.pass(Backlog::record(&self.spool, outcomes)).await
    }

    async fn teams(&self) -> Result<Vec<(String, u64)>, BacklogError> {
        self.pass(Backlog::teams(&self.spool)).await
    }

    fn allow(&self, team: &str, events: u32) {
        self.spool.allow(team, events);
    }

    async fn holds(&self) -> Result<Vec<(String, Timestamp)>, BacklogError> {
        self.pass(Backlog::holds(&self.spool)).await
    }

    async fn note_hold(&self, team: &str, since: Option<Timestamp>) -> Result<(), BacklogError> {
        self.pass(Backlog::note_hold(&self.spool, team, since)).await
    }
}
