//! What an engine of the spool must do, so that another one can stand in SQLite's place. It takes changes
//! on one thread and answers questions on others; both may block.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::entry::{
    Count, Entry, Filter, IncidentFilter, KnownIncident, Listed, Memo, Outcome, Past, Queued, Selection,
    Shown, Unheard, Vouched, Withdrawn,
};
use super::pack::{MOST_PAYLOADS, pack};
use super::reservation::{Reservation, Urgent};
use super::storm::{Folded, Storm, Told};
use crate::event::{Attachment, Event, Identity, Repeat, Status, TITLE_LIMIT, bounded};
use crate::mail::{self, Envelope, MailId, Origin, Trust};
use crate::time::signed;

/// A change, with everything computed that does not need the engine.
#[derive(Debug)]
pub(super) enum Change {
    /// Takes a mail.
    Put(Box<Parcel>),
    /// Forgets incidents: the id, and the last event by which they were found to be old.
    Forget { incidents: Vec<(u64, u64)>, storms_before: Timestamp, now: Timestamp },
    /// Notes how deliveries ended.
    Record(Vec<Outcome>),
    /// Puts those of these events that failed or were deferred back into the queue.
    Requeue { seqs: Vec<u64>, now: Timestamp },
    /// Replaces the events of a mail that were not delivered.
    Rejudge { mail: MailId, judged: Judged, now: Timestamp },
    /// Takes the events of a mail that were not delivered out of the queue.
    Drop { mail: MailId, now: Timestamp },
    /// Gives the events of a mail that were not delivered to another team.
    Retarget { mail: MailId, team: String, now: Timestamp },
    /// Looks at the next mails after `after` and deletes those that were kept long enough.
    Purge { after: u64, horizon: Horizon },
    /// Deletes a few of the mails that are done before their time, where there is hardly any room left.
    Relieve(Timestamp),
    /// Gives a little of the space that is no longer used back to the disk.
    Shrink,
    /// Keeps and forgets what must outlive a restart.
    Remember(Vec<Memo>),
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
    /// Its content and the payloads of its events, [packed](Parcel::pack); empty before.
    pub pack: Vec<u8>,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Whether there are events, and all are of strangers.
    pub stranger: bool,
    pub judged: Judged,
    /// What is remembered from the moment at which the mail is taken.
    pub memos: Vec<Memo>,
    /// What the same mail has again when it is handed in twice; none if that cannot be told.
    pub fingerprint: Option<String>,
    /// Whether its events are the gateway's own notices.
    pub notice: bool,
    /// What it tells of a storm, if it is a digest.
    pub told: Option<Box<Told>>,
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
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    /// All of it but its number.
    pub queued: Queued,
    /// The place of its payload in the pack of its mail.
    pub part: Option<usize>,
    pub status: Status,
    pub title: String,
    /// The product that the mail came from, or else its sender; empty if neither is known.
    pub source: String,
    pub repeat: Option<Repeat>,
    pub quiet: Option<SignedDuration>,
    pub muted: Option<String>,
    /// What it is about, and the evidence about its sender.
    pub identity: Identity,
    /// What another team's incident is called at SIGNL4, if it follows an event of that.
    pub posted_as: Option<String>,
}

/// The source of mails whose product is not known.
pub(super) fn sender(envelope: &Envelope) -> String {
    envelope.reverse_path.to_lowercase()
}

impl Parcel {
    pub fn new(entry: Entry, now: Timestamp) -> Self {
        let Entry { id, envelope, content, story, events, dropped } = entry;
        let fingerprint =
            content.as_ref().and_then(|content| mail::fingerprint(content, &envelope.recipients));
        let content = content.map_or(Content::None, Content::Here);
        let of_stranger = |event: &Event| event.identity.trust == Trust::Stranger;
        let stranger = !events.is_empty() && events.iter().all(of_stranger);
        let mut judged = Judged::new(id, &story, events, dropped, now);
        // Two senders of products that no rule knows are two sources: the one that floods takes none of the other's
        // pages along.
        let sender = sender(&envelope);
        judged.events.iter_mut().filter(|event| event.source.is_empty()).for_each(|event| {
            event.source.clone_from(&sender);
        });
        Self {
            id,
            received_at: envelope.received_at,
            envelope: serde_json::to_string(&envelope).expect("an envelope always serialises"),
            content,
            pack: Vec::new(),
            taken_at: now,
            stranger,
            judged,
            memos: Vec::new(),
            fingerprint,
            notice: envelope.origin == Origin::Gateway,
            told: None,
        }
    }

    /// Packs the content, if it is not kept elsewhere, with the payloads that find a place beside it.
    pub fn pack(&mut self) {
        let mut parts = vec![match &self.content {
            Content::Here(content) => Some(&content[..]),
            Content::None | Content::Aside { .. } => None,
        }];
        let mut room = MOST_PAYLOADS;
        for event in &mut self.judged.events {
            let payload = event.queued.payload.as_bytes();
            let Some(left) = room.checked_sub(payload.len()) else { continue };
            room = left;
            event.part = Some(parts.len());
            parts.push(Some(payload));
        }
        self.pack = pack(&parts);
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
                    incident: None,
                    stranger: event.identity.trust.is_stranger(),
                    external_id: event.external_id,
                    severity: event.severity,
                    status: event.status,
                    accepted_at: now,
                    attempts: 0,
                    next_at: now,
                    reason: None,
                    unanswered: 0,
                    attachments: event.attachments,
                },
                part: None,
                source: event.source_system.unwrap_or_default(),
                repeat: event.repeat,
                quiet: event.quiet.map(signed),
                muted: event.muted,
                identity: event.identity,
                posted_as: None,
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
            let files = |queued: &Queued| queued.attachments.iter().map(attachment_size).sum::<usize>();
            let payloads: usize = judged
                .events
                .iter()
                .map(|event| {
                    let payload = if event.part.is_some() { 0 } else { event.queued.payload.len() };
                    ROW + payload + files(&event.queued)
                })
                .sum();
            judged.story.len() + payloads
        };
        let bytes = match self {
            Self::Put(parcel) => ROW + parcel.envelope.len() + parcel.pack.len() + judged(&parcel.judged),
            Self::Rejudge { judged: again, .. } => ROW + judged(again),
            Self::Record(outcomes) => ROW * outcomes.len(),
            Self::Requeue { seqs, .. } => ROW * seqs.len(),
            Self::Remember(memos) => ROW * memos.len(),
            Self::Forget { incidents, .. } => ROW * incidents.len(),
            Self::Drop { .. } | Self::Purge { .. } | Self::Relieve(_) | Self::Shrink => ROW,
            Self::Reserve(_) => ROW,
            // About a mail's events, each with a payload of an ordinary length.
            Self::Retarget { .. } => 16 * ROW,
        };
        bytes as u64
    }
}

/// About how many bytes a file that goes along takes up: its name and its places, not its content.
fn attachment_size(file: &Attachment) -> usize {
    const PLACE: usize = 16;
    let places: usize = file.redactions.iter().flatten().map(Vec::len).sum();
    128 + file.name.len() + places * PLACE
}

/// What a change did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The events that it put into the queue, in order.
    pub queued: Vec<Queued>,
    /// The events that it took out of the queue before they were tried.
    pub withdrawn: Vec<Withdrawn>,
    /// The events that failed for good.
    pub failed: Vec<u64>,
    /// How many events were kept and not sent, as repeats and the like, as muted, and in
    /// the digest of a storm.
    pub counted: usize,
    pub muted: usize,
    pub folded: usize,
    /// Whether there is news of a storm.
    pub storms: bool,
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
    /// The storm that the digest tells of has changed.
    Outdated,
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
    /// A fault of this program in one of the changes.
    Fault,
    /// The spool was taken away: what is written no longer gets to where the next start looks.
    Gone(String),
}

impl Failure {
    /// What happened, in words; none if it is only that there is no space.
    pub fn detail(self) -> Option<String> {
        match self {
            Self::Full => None,
            Self::Fault => Some("a fault of this program, of which the log says more".to_owned()),
            Self::Io(detail) | Self::Lost(detail) | Self::Gone(detail) => Some(detail),
        }
    }
}

/// The engine's side of the writer's thread.
pub(super) trait Writer: Send + 'static {
    /// Makes all changes in one transaction, but for those that it refuses. `Ok` once they are safe.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure>;

    /// Called when the waiters of a batch have been answered, for upkeep that must not delay them; `idle`
    /// if no other change waits.
    fn tidy(&mut self, idle: bool) -> Result<(), Failure>;

    /// After a panic in [`Writer::apply`]: forgets what was noted of the batch that is not made.
    ///
    /// # Errors
    /// It cannot go on.
    fn recover(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// After [`Failure::Gone`]: keeps what is undelivered elsewhere, for the next start. `changes` were not made; the
    /// outcomes among them count. What was done, in words.
    ///
    /// # Errors
    /// Why nothing could be kept, in words.
    fn rescue(&mut self, changes: &[Change]) -> Result<String, String> {
        _ = changes;
        Err("this engine has nothing to save".to_owned())
    }

    /// Leaves everything in order. Not called after [`Failure::Lost`] or [`Failure::Gone`].
    fn close(self: Box<Self>);
}

/// The engine's side that answers questions.
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
    /// The mails from `from` on by what their stories say of trust.
    fn vouched(&self, from: MailId) -> Result<Vec<Vouched>, Failure>;
    fn counts(&self) -> Result<Vec<Count>, Failure>;
    /// The open incidents that were never posted, of those that were muted since `since` for
    /// the reason `label`, with or without a colon and more behind it.
    fn unheard(&self, label: &str, since: Timestamp) -> Result<Vec<Unheard>, Failure>;
    /// The names and values of the memos of a kind, in the order of the names.
    fn memos(&self, kind: &str) -> Result<Vec<(String, String)>, Failure>;
    fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<KnownIncident>, Failure>;
    fn incident(&self, team: &str, external_id: &str) -> Result<Option<KnownIncident>, Failure>;
    /// The incidents to forget: the closed ones whose last mail came before `closed`, the others that were
    /// not heard of since `open` and of which no event is left. At most `limit`.
    fn old_incidents(
        &self,
        closed: Timestamp,
        open: Timestamp,
        limit: usize,
    ) -> Result<Vec<(u64, u64)>, Failure>;
    /// The storms that have news to come.
    fn storms(&self) -> Result<Vec<Storm>, Failure>;
    /// What a storm has folded, in order.
    fn folded(&self, storm: u64, after: u64, limit: usize) -> Result<Vec<Folded>, Failure>;
    /// Lets go of everything that is not in use.
    fn close(&self);
}

/// The time that the engine keeps: milliseconds are enough, and half the size.
pub(super) fn to_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).expect("a part of a timestamp is one")
}
