//! What goes into the spool and what comes out of it. Plain data.
//!
//! Nothing here is redacted: the code that makes a story or a reason keeps secrets out of it, since both are shown
//! by `queue`.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::event::{Attachment, Event, Severity, Status};
use crate::incident::Incident;
use crate::mail::{Envelope, MailId, Trust};

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

/// Something small that must outlive a restart, such as when an expected mail came last. The spool keeps it and does
/// not look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memo {
    /// What it is about: one word for each kind of owner.
    pub kind: &'static str,
    /// Which of its kind.
    pub name: String,
    /// What to keep from now on, in the place of what there was; none to forget it.
    pub value: Option<serde_json::Value>,
}

/// An open incident that was never posted, as its mails were muted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    /// Its team.
    pub team: String,
    /// What ties its mails together; an event that has none is its own.
    pub external_id: Option<String>,
    /// The title of its last mail.
    pub title: String,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// When its last mail came into the spool.
    pub at: Timestamp,
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
    /// The incident that it is about, by the id of its row: the events of one leave in order, one at a time.
    pub incident: Option<u64>,
    /// What ties the events of one incident together, as SIGNL4 is told.
    pub external_id: Option<String>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// What it does.
    pub status: Status,
    /// Whether the mail that it was made of is a stranger's.
    pub stranger: bool,
    /// When it came into the queue, to the millisecond: when the mail was accepted, or an operator put the
    /// event back. How long delivery keeps trying counts from here.
    pub accepted_at: Timestamp,
    /// How often it was tried since.
    pub attempts: u32,
    /// When it is to be tried next.
    pub next_at: Timestamp,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// How many posts of it SIGNL4 may have taken although no answer came.
    pub unanswered: u32,
    /// The exact body of the webhook request.
    pub payload: Arc<str>,
    /// Files of the mail that go along.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// What became of the events of a mail that was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Those that wait for their delivery, in order.
    pub queued: Vec<Queued>,
    /// How many were kept and not sent: repeats of what was paged, and closes of what never was.
    pub counted: usize,
    /// How many were kept and not sent, as a mute or a maintenance window was on.
    pub muted: usize,
    /// How many are told in the digest of a storm.
    pub folded: usize,
}

/// What a batch of changes did to the queue, once it is safe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// The events that came into it, in order.
    pub queued: Vec<Queued>,
    /// The events that were taken out of it untried.
    pub withdrawn: Vec<Withdrawn>,
    /// The events that failed for good.
    pub failed: Vec<u64>,
    /// Whether a storm began, has grown since its digest, or has none of its incidents open any more.
    pub storms: bool,
}

/// An event that was taken out of the queue before it was tried, as its close came meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// Its team.
    pub team: String,
    /// Its number.
    pub seq: u64,
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
        /// The team by whose target it got there, if not by its own.
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
        /// Whether SIGNL4 may have taken it all the same.
        maybe_taken: bool,
    },
    /// It will not be tried again unless an operator says so: a dead letter.
    Failed {
        /// The event.
        seq: u64,
        /// When.
        at: Timestamp,
        /// Why, in words for an operator and without secrets.
        reason: String,
        /// Whether SIGNL4 may have taken it all the same.
        maybe_taken: bool,
    },
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum State {
    /// Waiting for its delivery, or for the next attempt.
    Queued,
    /// Given up for good: a dead letter, kept for an operator.
    Failed,
    /// Taken by SIGNL4.
    Delivered,
    /// Taken out of the queue by an operator, or never made because a rule dropped the mail.
    Dropped,
    /// Kept and not sent, since the incident is told already or was closed before it was.
    Counted,
    /// Kept and not sent, as a mute or a maintenance window was on.
    Muted,
    /// Kept, and told in the digest of a storm.
    Folded,
}

impl State {
    /// How many alerts too many there may be of an event in this state with so many posts that were not answered.
    pub(super) fn possible_doubles(self, unanswered: u32) -> u32 {
        // What SIGNL4 has said yes to is the alert that is meant to be there; until then one of the others may be it.
        unanswered.saturating_sub(u32::from(self != Self::Delivered))
    }
}

/// Which events to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Those in one of these states; in any if there is none.
    pub states: Vec<State>,
    /// Those of this team.
    pub team: Option<String>,
    /// Those that this storm's digest tells.
    pub digest: Option<u64>,
    /// Those of which there may be an alert too many.
    pub doubled: bool,
    /// Those with a smaller number: the last one of a page, to list the next.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { states: Vec::new(), team: None, digest: None, doubled: false, before: None, limit: 100 }
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
    /// How bad it is.
    pub severity: Option<Severity>,
    /// What it does; none if a rule dropped the mail.
    pub status: Option<Status>,
    /// Where it stands.
    pub state: State,
    /// Whether it is queued behind an earlier event of its incident, which goes first.
    pub behind: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is to be tried next, if it is queued.
    pub next_at: Option<Timestamp>,
    /// When it was delivered, failed, was dropped or was kept and not sent, if it is not queued.
    pub settled_at: Option<Timestamp>,
    /// Why it failed, waits, was dropped or was not sent.
    pub reason: Option<String>,
    /// SIGNL4's id of it, if it was delivered.
    pub event_id: Option<String>,
    /// The storm whose digest tells it, if it is folded.
    pub digest: Option<u64>,
    /// How many alerts there may be of it at SIGNL4 beside the one: it was posted again, as no answer had come.
    pub possible_doubles: u32,
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

/// A mail as it came, to be judged again.
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
    /// The exact body of the webhook request; none if a rule dropped the mail.
    pub payload: Option<String>,
    /// Files of the mail that go along.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// Which events to put back into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Those of one mail.
    Mail(MailId),
    /// All of them, but what a later event of the same incident has overtaken.
    All,
}

/// How much of a team's work is open, and how many alerts may be there twice. What is settled is not counted: that
/// would read the whole spool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    /// The team.
    pub team: String,
    /// Events that wait.
    pub queued: u64,
    /// Dead letters.
    pub failed: u64,
    /// When the mail of the oldest event that waits was accepted.
    pub oldest: Option<Timestamp>,
    /// Alerts that may be at SIGNL4 twice, of the events that are kept: a post whose answer was lost was made again.
    pub possible_doubles: u64,
}

/// Mails that were taken with the same trust for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The trust class, in its word.
    pub class: String,
    /// The domain of a stranger.
    pub domain: Option<String>,
    /// The line of the config by which he would be none.
    pub line: Option<String>,
    /// How many there are.
    pub mails: u64,
}

/// Which incidents to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentFilter {
    /// Those that are not closed.
    pub open: bool,
    /// Those of this team.
    pub team: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// An incident, and what SIGNL4 calls its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KnownIncident {
    /// The incident.
    #[serde(flatten)]
    pub incident: Incident,
    /// Its number.
    pub id: u64,
    /// What its mails share, as the rules gave it: SIGNL4 is told the external id.
    pub key: String,
    /// The class that is trusted most of those that paged since it opened; none if none did.
    pub class: Option<Trust>,
    /// Whether its mails are strangers'.
    pub stranger: bool,
    /// The product family; none if no product is known.
    pub family: Option<String>,
    /// The installation of the product that its mails come from.
    pub instance: String,
    /// SIGNL4's ids of the opens that it took since the incident opened, in order; of very many the last.
    pub event_ids: Vec<String>,
    /// What its last page said: title and text.
    pub page: Option<String>,
    /// The last of its mails that were kept and not sent since it opened, the latest first.
    pub kept: Vec<KeptEvent>,
}

/// A mail of an incident that was kept and not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeptEvent {
    /// The mail.
    pub id: MailId,
    /// When it came.
    pub at: Timestamp,
    /// Why it was not sent.
    pub reason: Option<String>,
    /// What it says: title and text.
    pub text: String,
}
