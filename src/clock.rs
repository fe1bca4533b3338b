//! The one source of time. Stages take a [`Clock`] and never ask the system, so that tests are exact.

use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use crate::time::signed;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The time now, UTC, as the machine has it: it may be set, and jump.
    fn now(&self) -> Timestamp;

    /// The time since some moment of this process, which only passes.
    fn up(&self) -> SignedDuration;
}

/// The clock of the machine.
#[derive(Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn up(&self) -> SignedDuration {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let passed = FIRST.get_or_init(Instant::now).elapsed();
        signed(passed)
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug)]
pub struct Manual(Mutex<Reading>);

/// What a clock shows, and the time that has passed.
#[derive(Debug)]
struct Reading {
    now: Timestamp,
    up: SignedDuration,
}

impl Manual {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Mutex::new(Reading { now: start, up: SignedDuration::ZERO }))
    }

    /// Moves the clock by `step`, as time that passes; it is set back if that is negative.
    pub fn advance(&self, step: SignedDuration) {
        self.set(step);
        self.reading().up += step.max(SignedDuration::ZERO);
    }

    /// Sets the clock by `step`, while no time passes.
    pub fn set(&self, step: SignedDuration) {
        self.reading().now += step;
    }

    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        self.reading().now
    }

    fn up(&self) -> SignedDuration {
        self.reading().up
    }
}
