//! Upkeep: deleting what was kept for long enough, and giving space back to the disk, in small steps.

use jiff::Timestamp;
use rusqlite::params;

use super::changes::{Answer, Work, key};
use crate::mail::MailId;
use crate::spool::engine::{Applied, Horizon};

/// How many mails one purge step looks at: a millisecond or two, which mail that comes meanwhile waits.
const PURGE_STEP: i64 = 32;

/// How many pages one step gives back to the disk: 1 MiB.
const SHRINK_STEP: i64 = 256;

/// Free pages that are kept for the mails to come, beside a tenth of the database: 4 MiB.
const SHRINK_KEEP: i64 = 1_024;

impl Work<'_> {
    pub(super) fn purge(&mut self, after: u64, horizon: Horizon) -> Answer {
        // Ids begin with the time, so the old mails are the first ones and need no index.
        let newest = MailId::new(horizon.settled.max(horizon.failed), u16::MAX);
        let mails: Vec<(i64, i64, i64)> = self
            .db
            .prepare_cached(
                "SELECT id, first_seq, end_seq FROM mail WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
            )?
            .query_map(params![key(after), key(newest.number()), PURGE_STEP], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let mut applied = Applied::default();
        if mails.len() as i64 == PURGE_STEP {
            applied.next = mails.last().map(|(id, ..)| id.cast_unsigned());
        }
        for (id, first, end) in mails {
            // The newest mail stays, so that no number is given twice.
            if end == self.next_seq || self.is_kept(first, end, horizon)? {
                continue;
            }
            self.delete(id, first, end)?;
            applied.count += 1;
        }
        Ok(Ok(applied))
    }

    /// Whether an event among these is queued, or was settled too short a time ago.
    fn is_kept(&self, first: i64, end: i64, horizon: Horizon) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM event WHERE seq >= ?1 AND seq < ?2 AND \
                 CASE state WHEN 'queued' THEN 1 WHEN 'failed' THEN settled_at >= ?4 ELSE settled_at >= ?3 END)",
            )?
            .query_row(
                params![first, end, horizon.settled.as_millisecond(), horizon.failed.as_millisecond()],
                |row| row.get(0),
            )
    }

    pub(super) fn forget_all(
        &self,
        incidents: &[(u64, u64)],
        storms_before: Timestamp,
        now: Timestamp,
    ) -> Answer {
        let count = self.forget(incidents)?;
        self.forget_seen(storms_before, now)?;
        self.db
            .prepare_cached("DELETE FROM storm WHERE state != 'raging' AND last_at < ?1")?
            .execute([storms_before.as_millisecond()])?;
        Ok(Ok(Applied { count, ..Applied::default() }))
    }

    pub(super) fn shrink(&self) -> Answer {
        let number = |sql| self.db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
        let (pages, free) = (number("PRAGMA page_count")?, number("PRAGMA freelist_count")?);
        let mut applied = Applied::default();
        let excess = free - (pages / 10).max(SHRINK_KEEP);
        if excess > 0 {
            let step = excess.min(SHRINK_STEP);
            let mut statement = self.db.prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
            // Each row that is asked for frees a page.
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            applied.next = (excess > step).then_some(0);
        }
        Ok(Ok(applied))
    }
}
