//! What is deleted before its time, so that mail can still be taken: mails that are done and old enough, strangers' before
//! others', the oldest first. What waits, failed, is held, muted or told in a digest stays, and so does all that is no
//! mail.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::room::{Need, Room, Search, Whose};
use super::{Answer, Keeper, REMOVED};
use crate::spool::change::Applied;
use crate::spool::engine::Done;
use crate::spool::entry::{Memo, State};

/// Mails that are looked at for one that finds no room: a few milliseconds, which the batch waits.
const LOOK: usize = 64;

/// How long nothing is looked for after nothing was found.
const REST: SignedDuration = SignedDuration::from_secs(10);

/// In the order in which they are looked for.
const ALL: [Whose; 2] = [Whose::Strangers, Whose::Others];

impl Keeper {
    /// Makes room for a mail that needs so much, if there is none. Whether there is.
    pub(super) fn has_room(&mut self, need: Need, now: Timestamp) -> Done<bool> {
        let whose = if need.stranger { &ALL[..1] } else { &ALL };
        self.remove(whose, now, |room| room.fits(need))?;
        Ok(self.room.fits(need))
    }

    /// Deletes early what may be, a little of it, while no more room is left than what is kept for known senders. Where
    /// nothing is, it is not looked for again at once.
    pub(super) fn relieve(&mut self, now: Timestamp) -> Answer {
        let count = self.remove(&ALL, now, |room| !room.is_tight())?;
        let next = (count > 0 && self.room.is_tight()).then_some(0);
        Ok(Ok(Applied { count, next, ..Applied::default() }))
    }

    /// Deletes mails early, the oldest of each of `whose` first, until it is `enough`. How many.
    fn remove(&mut self, whose: &[Whose], now: Timestamp, enough: impl Fn(&Room) -> bool) -> Done<usize> {
        let mut removed = [0; 2];
        for &whose in whose {
            if !enough(&self.room) {
                removed[whose as usize] = self.remove_of(whose, now, &enough)?;
            }
        }
        self.tell_removed(removed, now);
        Ok(removed.iter().sum())
    }

    fn remove_of(&mut self, whose: Whose, now: Timestamp, enough: impl Fn(&Room) -> bool) -> Done<usize> {
        let mut removed = 0;
        let mut search = self.room.searches[whose as usize];
        if search.not_before.is_some_and(|at| now < at && now >= at - REST) {
            return Ok(removed);
        }
        let mails = self.engine.mails_after(search.after, whose == Whose::Strangers, LOOK)?;
        let last = mails.len() < LOOK;
        let before = now.checked_sub(self.room.keep_at_least).unwrap_or(Timestamp::MIN);
        for mail in mails {
            if enough(&self.room) {
                self.room.searches[whose as usize] = search;
                return Ok(removed);
            }
            search.after = mail.id;
            let done = [State::Delivered, State::Dropped, State::Counted];
            if !self.is_done(&mail, |state| done.contains(&state).then_some(before))? {
                continue;
            }
            self.delete(&mail)?;
            self.note_removed(mail.received_at)?;
            removed += 1;
            self.room.measure(self.engine.space()?);
        }
        if last {
            search = Search { after: 0, not_before: now.checked_add(REST).ok() };
        }
        self.room.searches[whose as usize] = search;
        Ok(removed)
    }

    /// Counts a mail that came at `at` among those of its day that were deleted early.
    fn note_removed(&mut self, at: Timestamp) -> Done<()> {
        let name = at.to_zoned(TimeZone::UTC).date().to_string();
        let before = self.engine.memo(REMOVED, &name)?.and_then(|count| count.parse().ok()).unwrap_or(0_u64);
        self.engine.remember(&Memo { kind: REMOVED, name, value: Some((before + 1).into()) })
    }

    /// Forgets how many mails were deleted early of the days before `before`.
    pub(super) fn forget_removed(&mut self, before: Timestamp) -> Done<()> {
        let kept = before.to_zoned(TimeZone::UTC).date().to_string();
        let old = self.store.memos(REMOVED)?.into_iter().filter(|(day, _)| *day < kept);
        let memos: Vec<Memo> = old.map(|(name, _)| Memo { kind: REMOVED, name, value: None }).collect();
        self.remember(&memos)
    }

    /// Says that mails are deleted early, once an hour.
    fn tell_removed(&mut self, [strangers, others]: [usize; 2], now: Timestamp) {
        let due = self.room.told.is_none_or(|at| now >= at + SignedDuration::from_hours(1) || now < at);
        if strangers + others > 0 && due {
            self.room.told = Some(now);
            tracing::warn!(
                strangers,
                others,
                "the spool is full: mails that were delivered are deleted before `retention` is over, those of strangers \
                 first; make room, or raise `[spool] max-size`"
            );
        }
    }
}
