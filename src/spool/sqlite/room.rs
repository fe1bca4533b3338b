//! The room that mail may take: the bounds of the disk and of the spool, the share of strangers, and what is deleted
//! before its time so that mail can still be taken.
//!
//! Mail whose events are all of strangers fills only its share, and never the last tenth, which is for known
//! senders. Under pressure mails go that are done and old enough, strangers' before others', the oldest first. What waits,
//! failed, is held, muted or told in a digest stays, and so does all that is no mail.

use std::ops::AddAssign;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::Disk;
use super::changes::{Work, key};
use crate::mail::MailId;
use crate::spool::config::Config;
use crate::spool::engine::{Applied, Content, Parcel};
use crate::time::signed;

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
    /// Whether all its events are of strangers.
    pub stranger: bool,
}

impl Need {
    /// That of `parcel`, which writes `size` bytes.
    pub fn of(parcel: &Parcel, size: u64) -> Self {
        let growth = match parcel.content {
            Content::Aside { size: aside, .. } => size + aside as u64,
            Content::None | Content::Here(_) => size,
        };
        Self { disk: size.saturating_mul(2), growth, stranger: parcel.stranger }
    }
}

/// How far the search for mails to delete has come, by the last one that was looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Search {
    after: i64,
    not_before: Option<Timestamp>,
}

/// The bounds, and how full it is.
#[derive(Debug, Clone)]
pub(super) struct Room {
    max_size: Option<u64>,
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

impl Room {
    /// The room that `config` gives, in the database `db`.
    pub fn new(config: &Config, db: &Connection) -> rusqlite::Result<Self> {
        let mut room = Self {
            max_size: config.max_size,
            share: u64::from(config.stranger_share),
            keep_at_least: signed(config.keep_at_least),
            disk: 0,
            quota: 0,
            limit: 0,
            strangers: 0,
            searches: [Search::default(); 2],
            told: None,
        };
        room.recount(db)?;
        Ok(room)
    }

    /// Adds up what the mails of strangers fill.
    pub fn recount(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let sum =
            db.query_row("SELECT coalesce(sum(bytes), 0) FROM stranger", [], |row| row.get::<_, i64>(0))?;
        self.strangers = sum.cast_unsigned();
        Ok(())
    }

    /// Looks how full it is now.
    pub fn measure(&mut self, db: &Connection, disk: &Disk) -> rusqlite::Result<()> {
        let number = |sql| db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
        let page = number("PRAGMA page_size")?;
        let (pages, free) = (number("PRAGMA page_count")?, number("PRAGMA freelist_count")?);
        let large = number("SELECT coalesce(sum(size), 0) FROM large")?;
        let used = ((pages - free) * page + large).cast_unsigned();
        // What is free within the database takes no more of the disk.
        let pending = disk.pending((pages * page).cast_unsigned());
        self.disk = disk.room((free * page).cast_unsigned()).saturating_sub(pending);
        self.quota = self.max_size.map_or(u64::MAX, |max| max.saturating_sub(used));
        self.limit = self.max_size.unwrap_or(u64::MAX).min(used.saturating_add(self.disk));
        Ok(())
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

    /// A mail of strangers was deleted.
    fn leave(&mut self, bytes: i64) {
        self.strangers = self.strangers.saturating_sub(bytes.cast_unsigned());
    }
}

/// What was deleted early.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Removed {
    strangers: usize,
    others: usize,
}

impl AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.strangers += other.strangers;
        self.others += other.others;
    }
}

impl Work<'_> {
    /// Makes room for a mail that needs so much, if there is none. Whether there is.
    pub(super) fn has_room(&mut self, need: Need, now: Timestamp) -> rusqlite::Result<bool> {
        if !self.room.fits(need) {
            let mut removed = self.remove(Whose::Strangers, now, |room| room.fits(need))?;
            if !need.stranger && !self.room.fits(need) {
                removed += self.remove(Whose::Others, now, |room| room.fits(need))?;
            }
            self.tell_removed(removed, now);
        }
        Ok(self.room.fits(need))
    }

    /// The mail `id` takes what it needs.
    pub(super) fn take_room(&mut self, id: MailId, need: Need) -> rusqlite::Result<()> {
        self.room.disk = self.room.disk.saturating_sub(need.disk);
        self.room.quota = self.room.quota.saturating_sub(need.growth);
        if need.stranger {
            self.room.strangers += need.growth;
            self.db
                .prepare_cached("INSERT INTO stranger (mail, bytes) VALUES (?1, ?2)")?
                .execute(params![key(id.number()), need.growth.cast_signed()])?;
        }
        Ok(())
    }

    /// Deletes early what may be, a little of it, while no more room is left than what is kept for senders who are
    /// known. Where nothing is, it is not looked for again at once. How many mails.
    pub(super) fn relieve(&mut self, now: Timestamp) -> rusqlite::Result<Applied> {
        let mut removed = Removed::default();
        if self.room.is_tight() {
            removed = self.remove(Whose::Strangers, now, |room| !room.is_tight())?;
        }
        if self.room.is_tight() {
            removed += self.remove(Whose::Others, now, |room| !room.is_tight())?;
        }
        self.tell_removed(removed, now);
        let count = removed.strangers + removed.others;
        Ok(Applied { count, next: (count > 0 && self.room.is_tight()).then_some(0), ..Applied::default() })
    }

    /// Deletes mails early, the oldest first, until it is `enough`.
    fn remove(
        &mut self,
        whose: Whose,
        now: Timestamp,
        enough: impl Fn(&Room) -> bool,
    ) -> rusqlite::Result<Removed> {
        let mut removed = Removed::default();
        let mut search = self.room.searches[whose as usize];
        if search.not_before.is_some_and(|at| now < at && now >= at - REST) {
            return Ok(removed);
        }
        let sql = match whose {
            Whose::Strangers => {
                "SELECT mail.id, first_seq, end_seq, received_at FROM stranger JOIN mail ON mail.id = stranger.mail \
                 WHERE stranger.mail > ?1 ORDER BY stranger.mail LIMIT ?2"
            }
            Whose::Others => {
                "SELECT id, first_seq, end_seq, received_at FROM mail WHERE id > ?1 ORDER BY id LIMIT ?2"
            }
        };
        let mails: Vec<(i64, i64, i64, i64)> = self
            .db
            .prepare_cached(sql)?
            .query_map(params![search.after, LOOK as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let last = mails.len() < LOOK;
        let before = now.checked_sub(self.room.keep_at_least).unwrap_or(Timestamp::MIN);
        for (id, first, end, at) in mails {
            if enough(self.room) {
                self.room.searches[whose as usize] = search;
                return Ok(removed);
            }
            search.after = id;
            // The newest mail stays, so that no number is given twice.
            if end == self.next_seq || !self.is_done(first, end, before)? {
                continue;
            }
            self.delete(id, first, end)?;
            self.note_removed(at)?;
            match whose {
                Whose::Strangers => removed.strangers += 1,
                Whose::Others => removed.others += 1,
            }
            self.room.measure(self.db, self.space)?;
        }
        if last {
            search = Search { after: 0, not_before: now.checked_add(REST).ok() };
        }
        self.room.searches[whose as usize] = search;
        Ok(removed)
    }

    /// Whether all events among these are done, and have been since before `before`.
    fn is_done(&self, first: i64, end: i64, before: Timestamp) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached(
                "SELECT NOT EXISTS (SELECT 1 FROM event WHERE seq >= ?1 AND seq < ?2 AND \
                 (state NOT IN ('delivered', 'dropped', 'counted') OR settled_at >= ?3))",
            )?
            .query_row(params![first, end, before.as_millisecond()], |row| row.get(0))
    }

    /// Deletes the mail `id` with its content and its events.
    pub(super) fn delete(&mut self, id: i64, first: i64, end: i64) -> rusqlite::Result<()> {
        let optional = |sql: &str| {
            let mut statement = self.db.prepare_cached(sql)?;
            let mut rows = statement.query([id])?;
            rows.next()?.map(|row| row.get::<_, rusqlite::types::Value>(0)).transpose()
        };
        if let Some(rusqlite::types::Value::Text(file)) =
            optional("DELETE FROM large WHERE mail = ?1 RETURNING file")?
        {
            self.unnamed.push(file);
        }
        if let Some(rusqlite::types::Value::Integer(bytes)) =
            optional("DELETE FROM stranger WHERE mail = ?1 RETURNING bytes")?
        {
            self.room.leave(bytes);
        }
        for sql in ["DELETE FROM pack WHERE mail = ?1", "DELETE FROM mail WHERE id = ?1"] {
            self.db.prepare_cached(sql)?.execute([id])?;
        }
        self.db.prepare_cached("DELETE FROM event WHERE seq >= ?1 AND seq < ?2")?.execute([first, end])?;
        Ok(())
    }

    /// Counts a mail that came at `at`, in milliseconds, among those of its day that were deleted early.
    fn note_removed(&self, at: i64) -> rusqlite::Result<()> {
        let day = Timestamp::from_millisecond(at).unwrap_or_default().to_zoned(TimeZone::UTC).date();
        self.db
            .prepare_cached(
                "INSERT INTO memo (kind, name, value) VALUES (?1, ?2, '1') \
                 ON CONFLICT DO UPDATE SET value = CAST(value AS INTEGER) + 1",
            )?
            .execute(params![REMOVED, day.to_string()])?;
        Ok(())
    }

    /// Says that mails are deleted early, once an hour.
    fn tell_removed(&mut self, removed: Removed, now: Timestamp) {
        let Removed { strangers, others } = removed;
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
