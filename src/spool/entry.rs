//! What goes into the spool and what comes out of it. Plain data.
//!
//! Nothing here is redacted: who makes a story or a reason keeps secrets out of it, since both are shown
//! by `queue`.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Severity, Status, Words};
use crate::mail::{Envelope, MailId};

/// A mail with what the rules made of it: what `250` promises to keep.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The id, chosen by the caller.
    pub id: MailId,
    /// Who sent it, to whom, and how it came.
    pub envelope: Envelope,
    /// The content as received; none for an event that came without a mail.
    pub content: Option<Bytes>,
    /// What the rules did, for `queue show`.
    pub story: serde_json::Value,
    /// The events to deliver, in order.
    pub events: Vec<Event>,
    /// Why a rule dropped the mail, if one did.
    pub dropped: Option<String>,
}

/// An event that waits for its delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Queued {
    /// Its place in the order of acceptance: a later mail has greater numbers. Numbers are never given twice.
    pub seq: u64,
    /// The mail that it was made of.
    pub mail: MailId,
    /// The team that it is for.
    pub team: String,
    /// What ties the events of one incident together.
    pub external_id: Option<String>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// When it came into the queue, to the millisecond: when the mail was accepted, or an operator put the
    /// event back. How long delivery keeps trying counts from here.
    pub accepted_at: Timestamp,
    /// How often it was tried since.
    pub attempts: u32,
    /// When it is to be tried next.
    pub next_at: Timestamp,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// The exact body of the webhook request.
    pub payload: Arc<str>,
}

/// How an attempt to deliver an event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// SIGNL4 took it.
    Delivered {
        /// The event.
        seq: u64,
        /// SIGNL4's id of it.
        event_id: Option<String>,
        /// When.
        at: Timestamp,
        /// How it got there, if not by the team's own way.
        by_way: Option<String>,
    },
    /// It will be tried again.
    Deferred {
        /// The event.
        seq: u64,
        /// How often it was tried by now.
        attempts: u32,
        /// When it is to be tried next.
        next_at: Timestamp,
        /// Why, in words for an operator and without secrets.
        reason: String,
    },
    /// It will not be tried again unless an operator says so: a dead letter.
    Failed {
        /// The event.
        seq: u64,
        /// When.
        at: Timestamp,
        /// Why, in words for an operator and without secrets.
        reason: String,
    },
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waiting for its delivery, or for the next attempt.
    Queued,
    /// Given up for good: a dead letter, kept for an operator.
    Failed,
    /// Taken by SIGNL4.
    Delivered,
    /// Taken out of the queue by an operator, or never made because a rule dropped the mail.
    Dropped,
}

impl Words for State {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("queued", Self::Queued),
        ("failed", Self::Failed),
        ("delivered", Self::Delivered),
        ("dropped", Self::Dropped),
    ];
}

impl State {
    /// The word for it, in the database and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
        }
    }
}

/// Which events to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Those in one of these states; in any if there is none.
    pub states: Vec<State>,
    /// Those of this team.
    pub team: Option<String>,
    /// Those with a smaller number: the last one of a page, to list the next.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { states: Vec::new(), team: None, before: None, limit: 100 }
    }
}

/// An event in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    /// The mail that it was made of.
    pub id: MailId,
    /// Its place in the order of acceptance.
    pub seq: u64,
    /// When the mail was received.
    pub received_at: Timestamp,
    /// The reverse-path of the mail.
    pub from: String,
    /// The size of the mail's content in bytes.
    pub size: u64,
    /// The team; none if a rule dropped the mail, so that there is no event.
    pub team: Option<String>,
    /// The title of the event.
    pub title: String,
    /// Where it stands.
    pub state: State,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is to be tried next, if it is queued.
    pub next_at: Option<Timestamp>,
    /// When it was delivered, failed or was dropped, if it is not queued.
    pub settled_at: Option<Timestamp>,
    /// Why it failed, waits or was dropped.
    pub reason: Option<String>,
    /// SIGNL4's id of it, if it was delivered.
    pub event_id: Option<String>,
}

/// A mail with all that the spool knows of it but its content.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    /// The mail.
    pub id: MailId,
    /// The size of its content in bytes.
    pub size: u64,
    /// Who sent it, to whom, and how it came; none if the disk has damaged it.
    pub envelope: Option<Envelope>,
    /// What the rules did.
    pub story: serde_json::Value,
    /// Its events in order.
    pub events: Vec<ShownEvent>,
}

/// A mail as it came, for those who judge it again.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The id.
    pub id: MailId,
    /// Who sent it, to whom, and how it came; none if the disk has damaged it.
    pub envelope: Option<Envelope>,
    /// The content as received; none where no mail stood behind the event.
    pub content: Option<Bytes>,
}

/// An event of a shown mail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShownEvent {
    /// What a listing says of it.
    #[serde(flatten)]
    pub listed: Listed,
    /// What ties the events of one incident together.
    pub external_id: Option<String>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// What it does; none if a rule dropped the mail.
    pub status: Option<Status>,
    /// The exact body of the webhook request; none if a rule dropped the mail.
    pub payload: Option<String>,
}

/// Which events to put back into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Those of one mail.
    Mail(MailId),
    /// All of them.
    All,
}

/// How much of a team's work is open. What is settled is not counted: that would read the whole spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    /// The team.
    pub team: String,
    /// Events that wait.
    pub queued: u64,
    /// Dead letters.
    pub failed: u64,
    /// When the oldest event that waits came into the queue.
    pub oldest: Option<Timestamp>,
}
