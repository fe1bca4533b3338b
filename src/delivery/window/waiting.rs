//! One event that waits in memory: what is known of it, and what its failures mean.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::delivery::backoff;
use crate::delivery::multipart::Files;
use crate::delivery::rank::Rank;
use crate::event::Attachment;
use crate::mail::MailId;
use crate::spool::{Queued, RANKS};

/// An event that waits or is away.
#[derive(Debug)]
pub(in crate::delivery) struct Waiting {
    /// The mail that it was made of.
    pub(in crate::delivery) mail: MailId,
    /// When that was accepted.
    pub(in crate::delivery) accepted_at: Timestamp,
    /// Posts that failed so far.
    pub(in crate::delivery) attempts: u32,
    /// For how long the process had run when the first of this process failed.
    failed_first: Option<SignedDuration>,
    /// Why the last one failed, as it was last logged.
    pub(in crate::delivery) reason: Option<Box<str>>,
    /// Whether one of those may have been taken although no answer came.
    pub(in crate::delivery) maybe_taken: bool,
    /// When to try again, once it is its lane's head.
    pub(super) next_at: Timestamp,
    /// For how long the spool holds it back, as its close may come meanwhile; none if it does not, or no longer.
    pub(super) hold: Option<SignedDuration>,
    pub(super) lane: Option<u64>,
    /// Its own.
    pub(super) rank: Rank,
    /// That of its lane when it was listed as ready.
    pub(super) listed: Rank,
    /// Whether it was read before its turn, since its lane is urgent.
    pub(super) early: bool,
    pub(super) payload: Option<Arc<str>>,
    attachments: Option<Arc<[Attachment]>>,
    pub(super) place: Place,
}

impl Waiting {
    /// What is kept of `queued` while it waits, and its payload.
    pub(super) fn new(queued: Queued, rank: Rank) -> (Self, Arc<str>) {
        let untried = queued.attempts == 0 && queued.next_at > queued.accepted_at;
        let waiting = Self {
            mail: queued.mail,
            accepted_at: queued.accepted_at,
            attempts: queued.attempts,
            failed_first: None,
            reason: queued.reason.map(Box::from),
            maybe_taken: queued.unanswered > 0,
            next_at: queued.next_at,
            hold: untried.then(|| queued.next_at.duration_since(queued.accepted_at)),
            lane: queued.incident,
            rank,
            listed: RANKS,
            early: false,
            payload: None,
            attachments: (!queued.attachments.is_empty()).then(|| queued.attachments.into()),
            place: Place::Behind,
        };
        (waiting, queued.payload)
    }

    /// Counts a post that failed when the process had run for `up`. How many have.
    pub(in crate::delivery) fn count(&mut self, up: SignedDuration) -> u32 {
        self.failed_first.get_or_insert(up);
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }

    /// Whether the event was tried for as `long` as that, in a process that has run for `up`. A clock that jumps makes an
    /// untried event look old. So the time counts that this process has run since the first try, or a number of tries
    /// that needs that time: tries are noted across restarts.
    pub(in crate::delivery) fn is_tried_for(&self, long: SignedDuration, up: SignedDuration) -> bool {
        let enough = long.as_secs() / backoff::CAP.as_secs();
        let tried_for = self.failed_first.map_or(SignedDuration::ZERO, |first| up - first);
        tried_for >= long || i64::from(self.attempts) >= enough
    }

    /// The files that go along with this event, which has the number `seq`.
    pub(in crate::delivery) fn files(&self, seq: u64) -> Option<Arc<Files>> {
        let attachments = Arc::clone(self.attachments.as_ref()?);
        Some(Arc::new(Files { seq, mail: self.mail, attempts: self.attempts, attachments }))
    }
}

/// Where an event of the window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Others of its lane go first.
    Behind,
    /// In `ready`.
    Ready,
    /// In `later`.
    Later,
    /// In `held`.
    Held,
    /// Being posted, or done and not yet recorded.
    Away,
}
