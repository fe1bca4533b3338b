//! What an engine of the spool must do, so that another one can stand in SQLite's place. It takes changes
//! on one thread and answers questions on others; both may block.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::entry::{Count, Entry, Filter, Listed, Outcome, Past, Queued, Selection, Shown};
use super::reservation::{Reservation, Urgent};
use crate::event::{Event, Status, TITLE_LIMIT, bounded};
use crate::mail::MailId;

/// A change, with everything computed that does not need the engine.
#[derive(Debug)]
pub(super) enum Change {
    /// Takes a mail.
    Put(Parcel),
    /// Notes how deliveries ended.
    Record(Vec<Outcome>),
    /// Puts those of these events that failed or were deferred back into the queue.
    Requeue { seqs: Vec<u64>, now: Timestamp },
    /// Replaces the events of a mail that were not delivered.
    Rejudge { mail: MailId, judged: Judged, now: Timestamp },
    /// Takes the events of a mail that were not delivered out of the queue.
    Drop { mail: MailId, now: Timestamp },
    /// Looks at the next mails after `after` and deletes those that were kept long enough.
    Purge { after: u64, horizon: Horizon },
    /// Gives a little of the space that is no longer used back to the disk.
    Shrink,
    /// Notes what an account has posted and is about to post.
    Reserve(Reservation),
}

/// Until when a mail must have been settled to be purged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// Delivered and dropped before this.
    pub settled: Timestamp,
    /// Failed before this.
    pub failed: Timestamp,
}

/// A mail, ready to be written.
#[derive(Debug)]
pub(super) struct Parcel {
    pub id: MailId,
    pub received_at: Timestamp,
    /// The envelope as JSON.
    pub envelope: String,
    pub content: Content,
    pub judged: Judged,
}

/// The content of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The mail has none.
    None,
    /// To be written with the mail.
    Here(Bytes),
    /// Kept by the engine already, under this name.
    Aside { name: String, size: usize },
}

/// Bytes from which on a content is laid aside before the mail is put.
pub(super) const LARGE: usize = 512 << 10;

/// Bytes of content from which on a page of mails is full.
pub(super) const PAGE: usize = 4 << 20;

impl Content {
    /// Its size in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Here(content) => content.len(),
            Self::Aside { size, .. } => *size,
        }
    }
}

/// What the rules made of a mail, ready to be written.
#[derive(Debug)]
pub(super) struct Judged {
    /// The story as JSON.
    pub story: String,
    pub events: Vec<Fresh>,
    /// Why there is no event, or not for every team.
    pub dropped: Option<String>,
}

/// A new event.
#[derive(Debug)]
pub(super) struct Fresh {
    /// All of it but its number.
    pub queued: Queued,
    pub status: Status,
    pub title: String,
}

impl Parcel {
    pub fn new(entry: Entry, now: Timestamp) -> Self {
        let Entry { id, envelope, content, story, events, dropped } = entry;
        let content = content.map_or(Content::None, Content::Here);
        Self {
            id,
            received_at: envelope.received_at,
            envelope: serde_json::to_string(&envelope).expect("an envelope always serialises"),
            content,
            judged: Judged::new(id, &story, events, dropped, now),
        }
    }
}

impl Judged {
    pub fn new(
        mail: MailId,
        story: &serde_json::Value,
        events: Vec<Event>,
        dropped: Option<String>,
        now: Timestamp,
    ) -> Self {
        // A mail without any trace in the queue would be lost to every listing.
        let dropped = dropped.or_else(|| events.is_empty().then(|| "no rule made an event".to_owned()));
        let now = to_millisecond(now);
        let events = events
            .into_iter()
            .map(|event| Fresh {
                title: bounded(&event.title, TITLE_LIMIT).into_owned(),
                status: event.status,
                queued: Queued {
                    seq: 0,
                    mail,
                    payload: Arc::from(event.payload()),
                    team: event.team,
                    external_id: event.external_id,
                    severity: event.severity,
                    accepted_at: now,
                    attempts: 0,
                    next_at: now,
                    reason: None,
                },
            })
            .collect();
        Self { story: story.to_string(), events, dropped }
    }
}

impl Change {
    /// About how many bytes the change writes.
    pub fn size(&self) -> u64 {
        /// A row and its places in the indexes, roughly.
        const ROW: usize = 256;
        let judged = |judged: &Judged| {
            let payloads: usize = judged.events.iter().map(|event| ROW + event.queued.payload.len()).sum();
            judged.story.len() + payloads
        };
        let bytes = match self {
            Self::Put(parcel) => {
                let content = match &parcel.content {
                    Content::Here(content) => content.len(),
                    Content::None | Content::Aside { .. } => 0,
                };
                ROW + parcel.envelope.len() + content + judged(&parcel.judged)
            }
            Self::Rejudge { judged: again, .. } => ROW + judged(again),
            Self::Record(outcomes) => ROW * outcomes.len(),
            Self::Requeue { seqs, .. } => ROW * seqs.len(),
            Self::Drop { .. } | Self::Purge { .. } | Self::Shrink => ROW,
            Self::Reserve(_) => ROW,
        };
        bytes as u64
    }
}

/// What a change did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The events that it put into the queue, in order.
    pub queued: Vec<Queued>,
    /// How many mails it deleted, or events it dropped.
    pub count: usize,
    /// Where to go on, if there is more to do.
    pub next: Option<u64>,
}

/// Why one change of a batch was not made; the others were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    IdTaken,
    NoSuchMail,
    NoPlace,
}

/// Why a batch was not made as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No space.
    Full,
    /// An error that may pass.
    Io(String),
    /// What is on disk is unknown, and only opening anew tells: the disk did not confirm a flush, and
    /// asking again would hear a false yes (Linux marks the pages clean all the same).
    Lost(String),
}

/// The engine's side of the writer's thread.
pub(super) trait Writer: Send + 'static {
    /// Makes all changes in one transaction, but for those that it refuses. `Ok` once they are safe.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure>;

    /// Called when the waiters of a batch have been answered, for upkeep that must not delay them; `idle`
    /// if nobody else waits either.
    fn tidy(&mut self, idle: bool) -> Result<(), Failure>;

    /// Leaves everything in order. Not called after [`Failure::Lost`].
    fn close(self: Box<Self>);
}

/// The engine's side of everybody else.
pub(super) trait Store: Send + Sync + 'static {
    /// Keeps a large content before its mail is put, so that no other mail waits for it.
    fn lay_aside(&self, mail: MailId, content: Bytes) -> Result<Content, Failure>;
    /// Forgets a content whose mail was not taken.
    fn forget(&self, content: &Content);
    fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, Failure>;
    fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, Failure>;
    fn reservations(&self, account: &str) -> Result<Vec<Reservation>, Failure>;
    /// The numbers of events that failed or were deferred; none if there is no such mail.
    fn stuck(&self, selection: Selection) -> Result<Option<Vec<u64>>, Failure>;
    fn list(&self, filter: &Filter) -> Result<Vec<Listed>, Failure>;
    fn find(&self, seq: u64) -> Result<Option<Listed>, Failure>;
    fn show(&self, mail: MailId) -> Result<Option<Shown>, Failure>;
    fn content(&self, mail: MailId) -> Result<Option<Bytes>, Failure>;
    /// A page of mails, latest first, that ends early where it holds [`PAGE`] bytes.
    fn mails(&self, from: MailId, before: Option<MailId>, limit: usize) -> Result<Vec<Past>, Failure>;
    fn count_mails(&self, from: MailId) -> Result<u64, Failure>;
    fn counts(&self) -> Result<Vec<Count>, Failure>;
    /// Lets go of everything that is not in use.
    fn close(&self);
}

/// The time that the engine keeps: milliseconds are enough, and half the size.
pub(super) fn to_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).expect("a part of a timestamp is one")
}
