//! The room that mail may take: the bounds of the disk and of the spool, the share of strangers, and what is deleted
//! before its time so that mail can still be taken.
//!
//! Mail whose events are all of strangers fills only its share, and never the last tenth, which is for known
//! senders. Under pressure mails go that are done and old enough, strangers' before others', the oldest first. What waits,
//! failed, is held, muted or told in a digest stays, and so does all that is no mail.

use super::{Answer, Keeper};
use crate::spool::change::{Applied, Content, PutRequest};
use crate::spool::config::Config;
use crate::spool::engine::{Done, OldMail, Space};
use crate::spool::entry::{Memo, State};
use crate::time::signed;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// The kind of the memos that count the mails that were deleted early, one for each day on which they came.
pub(in crate::spool) const REMOVED: &str = "removed-early";

/// Mails that are looked at for one that finds no room: a few milliseconds, which the batch waits.
const LOOK: usize = 64;

/// How long nothing is looked for after nothing was found.
const REST: SignedDuration = SignedDuration::from_secs(10);

/// The most that is kept for known senders.
const RESERVE: u64 = 512 << 20;

/// What a mail is to the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes of the disk that it is still to take: first in the log, then in the database.
    pub disk: u64,
    /// Bytes by which the spool grows.
    pub growth: u64,
    /// Bytes of its content that are laid aside.
    pub aside: u64,
    /// Whether all its events are of strangers.
    pub stranger: bool,
}

impl Need {
    /// That of a mail which writes `size` bytes.
    pub fn of(put: &PutRequest, size: u64) -> Self {
        let aside = match put.content {
            Content::Aside { size, .. } => size as u64,
            Content::None | Content::Here(_) => 0,
        };
        Self { disk: size.saturating_mul(2), growth: size + aside, aside, stranger: put.stranger }
    }
}

/// How far the search for mails to delete has come, by the last one that was looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Search {
    after: u64,
    not_before: Option<Timestamp>,
}

/// The bounds, and how full it is.
#[derive(Debug, Clone)]
pub(super) struct Room {
    max_size: Option<u64>,
    min_free: u64,
    /// In percent.
    share: u64,
    keep_at_least: SignedDuration,
    /// How many bytes new mail may still take of the disk, and the spool still grow by.
    disk: u64,
    quota: u64,
    /// What the spool may fill as a whole, as far as that can be said.
    limit: u64,
    /// What the mails of strangers fill.
    strangers: u64,
    /// What the contents fill that were laid aside.
    aside: u64,
    searches: [Search; 2],
    /// When it was last said that mails are deleted early.
    told: Option<Timestamp>,
}

/// What mails to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Strangers,
    Others,
}

/// In the order in which they are looked for.
const ALL: [Whose; 2] = [Whose::Strangers, Whose::Others];

impl Room {
    /// The room that `config` gives.
    pub fn new(config: &Config) -> Self {
        Self {
            max_size: config.max_size,
            min_free: config.min_free,
            share: u64::from(config.stranger_share),
            keep_at_least: signed(config.keep_at_least),
            disk: 0,
            quota: 0,
            limit: 0,
            strangers: 0,
            aside: 0,
            searches: [Search::default(); 2],
            told: None,
        }
    }

    /// Notes what the mails of strangers fill, and the contents that were laid aside.
    pub fn recount(&mut self, (strangers, aside): (u64, u64)) {
        (self.strangers, self.aside) = (strangers, aside);
    }

    /// Looks how full it is now.
    pub fn measure(&mut self, space: Space) {
        let used = space.used + self.aside;
        // The log of what is written still takes some of what is kept free.
        let room = if space.available < self.min_free / 2 {
            0
        } else {
            space.available.saturating_add(space.reusable).saturating_sub(self.min_free)
        };
        self.disk = room.saturating_sub(space.pending);
        self.quota = self.max_size.map_or(u64::MAX, |max| max.saturating_sub(used));
        self.limit = self.max_size.unwrap_or(u64::MAX).min(used.saturating_add(self.disk));
    }

    /// Whether there is room for `need`.
    fn fits(&self, need: Need) -> bool {
        let reserve = if need.stranger { self.reserve() } else { 0 };
        let share = u64::try_from(u128::from(self.limit) * u128::from(self.share) / 100).unwrap_or(u64::MAX);
        need.disk.saturating_add(reserve) <= self.disk
            && need.growth.saturating_add(reserve) <= self.quota
            && (!need.stranger || self.strangers.saturating_add(need.growth) <= share)
    }

    /// What is kept for known senders.
    fn reserve(&self) -> u64 {
        (self.limit / 10).min(RESERVE)
    }

    /// Whether no more room is left than what is kept for known senders.
    fn is_tight(&self) -> bool {
        let reserve = self.reserve();
        self.disk < reserve || self.quota < reserve
    }

    /// A mail takes what it needs.
    pub fn take(&mut self, need: Need) {
        self.disk = self.disk.saturating_sub(need.disk);
        self.quota = self.quota.saturating_sub(need.growth);
        self.aside += need.aside;
        if need.stranger {
            self.strangers += need.growth;
        }
    }

    /// A mail was deleted.
    pub fn leave(&mut self, mail: &OldMail) {
        self.strangers = self.strangers.saturating_sub(mail.stranger.unwrap_or(0));
        self.aside = self.aside.saturating_sub(mail.aside);
    }
}

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
