//! The spool as delivery sees it, on a disk that takes its time and at times fails: before a change was made
//! or after, so that a kill meets both.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use super::time::{VirtualClock, still};
use crate::record::Millis;
use smtp2signl4::delivery::{Storage, StorageError};
use smtp2signl4::spool::{Outcome, Queued, Reservation, Spool, Urgent};

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
    async fn pass<T>(&self, work: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
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

impl Storage for Disk {
    async fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, StorageError> {
        self.pass(Storage::waiting(&self.spool, team, after, limit)).await
    }

    async fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, StorageError> {
        self.pass(Storage::urgent(&self.spool, team, after, limit)).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<(), StorageError> {
        self.pass(Storage::reserve(&self.spool, reservation)).await
    }

    async fn reservations(&self, account: &str) -> Result<Vec<Reservation>, StorageError> {
        self.pass(Storage::reservations(&self.spool, account)).await
    }

    async fn record(&self, outcomes: Vec<Outcome>) -> Result<(), StorageError> {
        self.pass(Storage::record(&self.spool, outcomes)).await
    }

    async fn teams(&self) -> Result<Vec<(String, u64)>, StorageError> {
        self.pass(Storage::teams(&self.spool)).await
    }

    fn allow(&self, team: &str, events: u32) {
        self.spool.allow(team, events);
    }

    async fn holds(&self) -> Result<Vec<(String, Timestamp)>, StorageError> {
        self.pass(Storage::holds(&self.spool)).await
    }

    async fn note_hold(&self, team: &str, since: Option<Timestamp>) -> Result<(), StorageError> {
        self.pass(Storage::note_hold(&self.spool, team, since)).await
    }
}
