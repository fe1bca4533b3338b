//! Tokens for posts, reserved in the spool before they are used, so that a crash does not make an account
//! forget what it has posted. Pure: times and the spool's answers come in.
//!
//! Only what is about to be posted is reserved: posts that exist and for which there is room. So what is open at a
//! time, under way or about to leave, is never more than may be under way at once, and that is the most that a
//! crash can cost. A note says what has ended since the note before, and what is open. It is written together with
//! the outcomes of the posts that made room for the next ones, in one commit: it costs no sync of its own.
//!
//! After a crash what the last note left open counts as posted once: when the service is back, or when the last of it
//! can have arrived, if that is earlier. A note made then keeps that time for all further starts.
//!
//! A spool that cannot write stops nothing for long: after a while the account goes on by what is in memory, and
//! only a crash meanwhile would make it forget.

use jiff::{SignedDuration, Timestamp};

use crate::spool::Reservation;

use super::budget::Budget;

/// How long a token may be used. What waits for longer is no longer about to be posted, and another note says when
/// it was.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_secs(5);

/// How long posts wait for a spool that cannot write.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// The wait after a reservation that failed.
const RETRY: SignedDuration = SignedDuration::from_secs(1);

/// How an answer of the spool has changed what may be posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not at all.
    None,
    /// From now on posts go without a token.
    Loosened,
    /// From now on they need one again.
    Tightened,
}

/// A note that is being written.
#[derive(Debug, Clone, Copy)]
struct Writing {
    at: Timestamp,
    /// The tokens that it adds.
    tokens: u64,
    /// The posts that it says have ended, of those of this start.
    spent: u64,
    /// The posts that it leaves open.
    open: u64,
}

/// The tokens of one account.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    account: String,
    /// Reserved and not used.
    left: u64,
    /// Until when those may be.
    good_until: Timestamp,
    /// Posts that have ended since the last note.
    spent: u64,
    /// What the last note leaves open.
    open: u64,
    /// What a crash has left open, and the time at which it counts, until that is noted.
    cut_off: Option<(u64, Timestamp)>,
    writing: Option<Writing>,
    failing_since: Option<Timestamp>,
    retry_at: Timestamp,
    loose: bool,
}

impl Ledger {
    /// The ledger of `account`, for which the spool holds `notes`, oldest first. What they tell is charged
    /// to `budget`. No post takes longer than `longest`.
    pub(crate) fn open(
        account: &str,
        notes: &[Reservation],
        longest: SignedDuration,
        budget: &mut Budget,
        now: Timestamp,
    ) -> Self {
        for note in notes {
            budget.charge(note.spent, note.at.min(now));
        }
        let cut_off = notes.last().filter(|note| note.open > 0).map(|note| {
            let last = note.at.checked_add(longest.saturating_add(TOKEN_LIFE)).unwrap_or(now);
            (note.open, last.min(now))
        });
        if let Some((open, at)) = cut_off {
            budget.charge(open, at);
        }
        Self {
            account: account.to_owned(),
            left: 0,
            good_until: Timestamp::MIN,
            spent: 0,
            open: 0,
            cut_off,
            writing: None,
            failing_since: None,
            retry_at: Timestamp::MIN,
            loose: false,
        }
    }

    /// Whether a post may go now.
    pub(crate) fn may_post(&self, now: Timestamp) -> bool {
        self.left > 0 && now < self.good_until || self.loose
    }

    /// A post goes out.
    pub(crate) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// A post has ended; `sent` unless it never left.
    pub(crate) fn settle(&mut self, sent: bool) {
        if sent {
            self.spent += 1;
        } else if !self.loose {
            self.left += 1;
        }
    }

    /// The note to be written now, if so many `posts` are about to be made, or if the last of them have ended. Bring
    /// the answer to [`Ledger::written`].
    pub(crate) fn due(&mut self, posts: u64, budget: &Budget, now: Timestamp) -> Option<Reservation> {
        if !budget.is_limited() || self.writing.is_some() || now < self.retry_at {
            return None;
        }
        let under_way = budget.in_flight();
        if let Some((open, at)) = self.cut_off {
            return Some(self.write(at, 0, open, under_way));
        }
        if self.left == 0 || now >= self.good_until {
            self.left = 0;
            if posts > 0 {
                return Some(self.write(now, posts, self.spent, under_way + posts));
            }
        }
        let over = posts == 0 && under_way == 0 && (self.spent > 0 || self.open > 0);
        over.then(|| {
            self.left = 0;
            self.write(now, 0, self.spent, 0)
        })
    }

    fn write(&mut self, at: Timestamp, tokens: u64, spent: u64, open: u64) -> Reservation {
        self.writing = Some(Writing { at, tokens, spent, open });
        Reservation { account: self.account.clone(), at, spent, open }
    }

    /// When [`Ledger::due`] may have something to say if nothing else happens.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        (self.failing_since.is_some() && self.writing.is_none()).then_some(self.retry_at)
    }

    /// What the spool answered.
    pub(crate) fn written(&mut self, safe: bool, now: Timestamp) -> Change {
        let Some(note) = self.writing.take() else { return Change::None };
        if safe {
            if self.cut_off.take().is_none() {
                self.spent -= note.spent;
            }
            if note.tokens > 0 {
                (self.left, self.good_until) = (self.left + note.tokens, note.at + TOKEN_LIFE);
            }
            self.open = note.open;
            self.failing_since = None;
            return if std::mem::take(&mut self.loose) { Change::Tightened } else { Change::None };
        }
        self.retry_at = now + RETRY;
        let since = *self.failing_since.get_or_insert(now);
        if !self.loose && now.duration_since(since) >= PATIENCE {
            self.loose = true;
            return Change::Loosened;
        }
        Change::None
    }

    /// The last note, when nothing more is posted: tokens that are left are given back.
    pub(crate) fn close(&mut self, budget: &Budget, now: Timestamp) -> Option<Reservation> {
        let settled = self.spent == 0 && self.open == 0 && self.writing.is_none() && self.cut_off.is_none();
        if !budget.is_limited() || settled {
            return None;
        }
        let before = self.cut_off.map_or(0, |(open, _)| open);
        let open = budget.in_flight();
        Some(Reservation { account: self.account.clone(), at: now, spent: self.spent + before, open })
    }
}

#[cfg(test)]
mod tests;
