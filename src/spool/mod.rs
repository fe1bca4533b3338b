//! Under way.

use std::sync::Arc;

use jiff::Timestamp;

use crate::event::Severity;
use crate::mail::MailId;

/// An event that waits for delivery.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its place in the order of acceptance, over all teams.
    pub seq: u64,
    /// The mail that it was made of.
    pub mail: MailId,
    /// The team that gets it.
    pub team: String,
    /// What ties the events of one incident together.
    pub external_id: Option<String>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// When its mail was accepted.
    pub accepted_at: Timestamp,
    /// Posts that failed so far.
    pub attempts: u32,
    /// When to try again.
    pub next_at: Timestamp,
    /// Why the last post failed.
    pub reason: Option<String>,
    /// The webhook's JSON, exactly.
    pub payload: Arc<str>,
}

/// What came of an event.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// SIGNL4 took it.
    Delivered {
        /// The event.
        seq: u64,
        /// SIGNL4's id for it.
        event_id: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// It goes out later.
    Deferred {
        /// The event.
        seq: u64,
        /// Posts that failed so far.
        attempts: u32,
        /// When to try again.
        next_at: Timestamp,
        /// Why.
        reason: String,
    },
    /// It never goes out by itself.
    Failed {
        /// The event.
        seq: u64,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}
