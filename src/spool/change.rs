//! The changes that are asked of the spool, with everything computed that does not need what is kept. Plain data.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::entry::{Entry, Memo, Outcome, Queued, Withdrawn};
use super::pack::{MOST_PAYLOADS, pack};
use super::reservation::Reservation;
use super::storm::Told;
use crate::event::{Attachment, Event, Identity, Repeat, TITLE_LIMIT, bounded};
use crate::incident::Report;
use crate::mail::{self, MailId, Origin, Trust};
use crate::time::signed;

/// A change, with everything computed that does not need the engine.
#[derive(Debug)]
pub(super) enum Change {
    /// Takes a mail.
    Put(Box<PutRequest>),
    /// Forgets incidents, each with the last event by which it was found to be old; old storms and what was seen long ago;
    /// and how many mails were deleted early long ago.
    Forget { incidents: Vec<(u64, u64)>, storms_before: Timestamp, removed_before: Timestamp, now: Timestamp },
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
pub(super) struct PutRequest {
    pub id: MailId,
    pub received_at: Timestamp,
    /// The envelope as JSON.
    pub envelope: String,
    pub content: Content,
    /// Its content and the payloads of its events, [packed](PutRequest::pack); empty before.
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
    pub events: Vec<NewEvent>,
    /// Why there is no event, or not for every team.
    pub dropped: Option<String>,
}

/// A new event.
#[derive(Debug, Clone)]
pub(super) struct NewEvent {
    /// All of it but its number.
    pub queued: Queued,
    /// The place of its payload in the pack of its mail.
    pub part: Option<usize>,
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

impl PutRequest {
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
        let sender = envelope.reverse_path.to_lowercase();
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
        // The time that is kept: milliseconds are enough, and half the size.
        let now = Timestamp::from_millisecond(now.as_millisecond()).expect("a part of a timestamp is one");
        let events = events
            .into_iter()
            .map(|event| NewEvent {
                title: bounded(&event.title, TITLE_LIMIT).into_owned(),
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

    /// How many numbers its events take, the trace of what was dropped included.
    pub fn numbers(&self) -> usize {
        self.events.len() + usize::from(self.dropped.is_some())
    }
}

impl NewEvent {
    /// What the law of incidents is told of it.
    pub fn report(&self) -> Report<'_> {
        Report {
            status: self.queued.status,
            severity: self.queued.severity,
            repeat: self.repeat,
            quiet: self.quiet,
            muted: self.muted.as_deref(),
        }
    }

    /// Whether both tell one team the same of one incident.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.queued.team == other.queued.team
            && self.queued.external_id == other.queued.external_id
            && (self.posted_as.is_none() || self.posted_as == other.posted_as)
            && self.queued.status == other.queued.status
    }

    /// The same for another team, where SIGNL4 knows it as `posted_as`.
    pub fn for_team(&self, team: &str, posted_as: &str) -> Self {
        let mut event = self.clone();
        team.clone_into(&mut event.queued.team);
        event.posted_as = Some(posted_as.to_owned());
        event.muted = None;
        event
    }
}

impl Change {
    /// About how many bytes the change writes.
    pub fn size(&self) -> u64 {
        /// A row and its places in the indexes, roughly.
        const ROW: usize = 256;
        let judged = |judged: &Judged| {
            let files = |queued: &Queued| queued.attachments.iter().map(attachment_size).sum::<usize>();
            let payload = |event: &NewEvent| event.part.map_or(event.queued.payload.len(), |_| 0);
            let sizes = judged.events.iter().map(|event| ROW + payload(event) + files(&event.queued));
            judged.story.len() + sizes.sum::<usize>()
        };
        let bytes = match self {
            Self::Put(put) => ROW + put.envelope.len() + put.pack.len() + judged(&put.judged),
            Self::Rejudge { judged: again, .. } => ROW + judged(again),
            Self::Record(outcomes) => ROW * outcomes.len(),
            Self::Requeue { seqs, .. } => ROW * seqs.len(),
            Self::Remember(memos) => ROW * memos.len(),
            Self::Forget { incidents, .. } => ROW * incidents.len(),
            // About a mail's events, each with a payload of an ordinary length.
            Self::Retarget { .. } => 16 * ROW,
            _ => ROW,
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
    NoSuchMail(MailId),
    NoPlace(MailId),
    /// The storm that the digest tells of has changed.
    Outdated,
}
