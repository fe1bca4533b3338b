//! The one source of wall time. Stages take a [`Clock`] and never ask the system, so that tests are exact.

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

/// Tells the wall time.
pub trait Clock: Send + Sync + 'static {
    /// The time now, UTC.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug)]
pub struct Manual(Mutex<Timestamp>);

impl Manual {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock by `step`, backwards if it is negative.
    pub fn advance(&self, step: SignedDuration) {
        *self.0.lock().expect("no holder of this lock can panic") += step;
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no holder of this lock can panic")
    }
}
