//! The changes, one by one, inside the transaction of their batch.

use std::ops::Range;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::Disk;
use super::reserve::reserve;
use super::room::{Need, Room};
use super::rows::{QUEUED, queued};
use super::schema::BLOCK;
use crate::event::Attachment;
use crate::incident::{self, Storms};
use crate::mail::MailId;
use crate::spool::allowance::Allowances;
use crate::spool::engine::{Applied, Change, Content, Fresh, Horizon, Judged, Parcel, Refused};
use crate::spool::entry::{Memo, Outcome, Queued, State};

/// How many mails one purge step looks at: a millisecond or two, which mail that comes meanwhile waits.
const PURGE_STEP: i64 = 32;

/// How many pages one step gives back to the disk: 1 MiB.
const SHRINK_STEP: i64 = 256;

/// Free pages that are kept for the mails to come, beside a tenth of the database: 4 MiB.
const SHRINK_KEEP: i64 = 1_024;

/// The transaction of a batch.
pub(super) struct Work<'a> {
    pub db: &'a Connection,
    /// The first number of the next mail's block.
    pub next_seq: i64,
    /// The disk, and the room that mail may take of it and of the spool.
    pub space: &'a Disk,
    pub room: &'a mut Room,
    /// The files that no row names any more once this is committed.
    pub unnamed: Vec<String>,
    /// When a mail about a known incident pages.
    pub incidents: &'a incident::Config,
    /// What floods whom.
    pub storms: &'a mut Storms,
    /// How many events the account of each team lets go in 15 seconds.
    pub allowances: &'a Allowances,
}

/// Whose word decides whether an event goes out.
#[derive(Debug, Clone, Copy)]
enum Will {
    /// That of the laws of incidents.
    Laws,
    /// The same for a notice of the gateway's own.
    Notice,
    /// The same for the digest of a storm, which says all that those before it do.
    Digest,
    /// An operator's.
    Operator,
}

pub(super) type Answer = rusqlite::Result<Result<Applied, Refused>>;

/// A mail id or sequence number as SQLite keeps it.
pub(super) fn key(number: u64) -> i64 {
    number.cast_signed()
}

/// The files of an event as the database has them.
fn attachments(files: &[Attachment]) -> Option<String> {
    (!files.is_empty()).then(|| serde_json::to_string(files).expect("names and numbers always serialise"))
}

impl Work<'_> {
    /// Makes `change`. An error means that the transaction is void; a refusal that it goes on without.
    pub fn change(&mut self, change: &Change) -> Answer {
        match change {
            Change::Put(parcel) => self.put(parcel, change.size()),
            Change::Record(outcomes) => self.record(outcomes),
            Change::Requeue { seqs, now } => self.requeue(seqs, *now),
            Change::Rejudge { mail, judged, now } => self.rejudge(*mail, judged, *now),
            Change::Drop { mail, now } => self.drop(*mail, *now),
            Change::Retarget { mail, team, now } => self.retarget(*mail, team, *now),
            Change::Purge { after, horizon } => self.purge(*after, *horizon),
            Change::Forget { incidents, storms_before } => self.forget_all(incidents, *storms_before),
            Change::Shrink => self.shrink(),
            Change::Relieve(now) => Ok(Ok(self.relieve(*now)?)),
            Change::Remember(memos) => {
                self.remember(memos)?;
                Ok(Ok(Applied::default()))
            }
            Change::Reserve(reservation) => Ok(Ok(reserve(self.db, reservation)?)),
        }
    }

    fn put(&mut self, parcel: &Parcel, size: u64) -> Answer {
        let now = parcel.taken_at;
        let need = Need::of(parcel, size);
        if !self.has_room(need, now)? {
            return Ok(Err(Refused::Full));
        }
        let events = parcel.judged.events.len() + usize::from(parcel.judged.dropped.is_some());
        let blocks = events.div_ceil(BLOCK as usize) as i64;
        let (first, end) = (self.next_seq, self.next_seq + blocks * BLOCK);
        let added = self
            .db
            .prepare_cached(
                "INSERT INTO mail (id, received_at, first_seq, end_seq, size, envelope, story) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                key(parcel.id.number()),
                parcel.received_at.as_millisecond(),
                first,
                end,
                parcel.content.size() as i64,
                parcel.envelope,
                parcel.judged.story,
            ])?;
        if added == 0 {
            return Ok(Err(Refused::IdTaken));
        }
        if let Some(told) = &parcel.told
            && !self.tell(told, parcel.received_at)?
        {
            self.db.prepare_cached("DELETE FROM mail WHERE id = ?1")?.execute([key(parcel.id.number())])?;
            return Ok(Err(Refused::Outdated));
        }
        match &parcel.content {
            Content::None => {}
            Content::Here(content) => {
                self.db
                    .prepare_cached("INSERT INTO content (mail, body) VALUES (?1, ?2)")?
                    .execute(params![key(parcel.id.number()), &content[..]])?;
            }
            Content::Aside { name, size } => {
                self.db
                    .prepare_cached("INSERT INTO large (mail, size, file) VALUES (?1, ?2, ?3)")?
                    .execute(params![key(parcel.id.number()), *size as i64, name])?;
            }
        }
        self.next_seq = end;
        self.take_room(parcel.id, need)?;
        self.remember(&parcel.memos)?;
        let will = match (&parcel.told, parcel.notice) {
            (Some(_), _) => Will::Digest,
            (None, true) => Will::Notice,
            (None, false) => Will::Laws,
        };
        let applied = self.queue(parcel.id, first..end, &parcel.judged, parcel.received_at, will)?;
        Ok(Ok(applied))
    }

    /// Writes new events with numbers out of `seqs`, of which there are enough for them.
    fn queue(
        &mut self,
        mail: MailId,
        mut seqs: Range<i64>,
        judged: &Judged,
        now: Timestamp,
        will: Will,
    ) -> rusqlite::Result<Applied> {
        let mut applied = Applied::default();
        let mut followers: Vec<Fresh> = Vec::new();
        for event in &judged.events {
            let seq = seqs.next().expect("the block of a mail has a number for each of its events");
            let incident = self.write(mail, seq, event, will, &mut applied)?;
            for follower in self.followers(event, incident)? {
                // The mail itself may be for that team as well.
                if !judged.events.iter().chain(&followers).any(|other| other.says_the_same_as(&follower)) {
                    followers.push(follower);
                }
            }
        }
        if let Some(reason) = &judged.dropped {
            let seq = seqs.next().expect("the block of a mail has a number for its drop");
            self.db
                .prepare_cached(
                    "INSERT INTO event (seq, mail, state, attempts, queued_at, next_at, settled_at, reason, title) \
                     VALUES (?1, ?2, 'dropped', 0, ?3, ?3, ?3, ?4, '')",
                )?
                .execute(params![seq, key(mail.number()), now.as_millisecond(), reason])?;
        }
        // In a block that is full, which takes a thousand events, nothing follows.
        for (event, seq) in followers.iter().zip(seqs) {
            self.write(mail, seq, event, Will::Notice, &mut applied)?;
        }
        Ok(applied)
    }

    /// Writes a new event with the number `seq`, and tells its incident.
    fn write(
        &mut self,
        mail: MailId,
        seq: i64,
        event: &Fresh,
        will: Will,
        applied: &mut Applied,
    ) -> rusqlite::Result<Option<i64>> {
        let sentence = match will {
            Will::Laws => self.judge(event, seq, false, applied)?,
            Will::Notice => self.judge(event, seq, true, applied)?,
            Will::Digest => {
                self.replace_digests(event, applied)?;
                self.judge(event, seq, true, applied)?
            }
            Will::Operator => self.release(event, seq, applied)?,
        };
        let queued = &event.queued;
        let settled_at = (sentence.state != State::Queued).then(|| queued.accepted_at.as_millisecond());
        self.db
            .prepare_cached(
                "INSERT INTO event (seq, mail, team, state, attempts, queued_at, next_at, external_id, \
                     severity, status, title, payload, settled_at, reason, storm, attachments, incident, stranger) \
                     VALUES (?1, ?2, ?3, ?11, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?12, ?13, ?14, ?15, ?16, ?17)",
            )?
            .execute(params![
                seq,
                key(mail.number()),
                queued.team,
                queued.accepted_at.as_millisecond(),
                sentence.next_at.as_millisecond(),
                queued.external_id,
                queued.severity.map(|severity| severity.to_string()),
                event.status.to_string(),
                event.title,
                sentence.payload.as_deref().unwrap_or(&queued.payload),
                sentence.state.word(),
                settled_at,
                sentence.reason,
                sentence.storm,
                attachments(&queued.attachments),
                sentence.incident,
                queued.stranger,
            ])?;
        match sentence.state {
            State::Counted => applied.counted += 1,
            State::Muted => applied.muted += 1,
            State::Folded => applied.folded += 1,
            State::Queued | State::Failed | State::Delivered | State::Dropped => {
                let mut queued = queued.clone();
                queued.seq = seq.cast_unsigned();
                queued.incident = sentence.incident.map(i64::cast_unsigned);
                queued.next_at = sentence.next_at;
                queued.payload = sentence.payload.map_or(queued.payload, Into::into);
                applied.queued.push(queued);
            }
        }
        Ok(sentence.incident)
    }

    fn record(&self, outcomes: &[Outcome]) -> Answer {
        let mut applied = Applied::default();
        for outcome in outcomes {
            match outcome {
                // What was delivered was, whatever an operator did to the event meanwhile.
                Outcome::Delivered { seq, event_id, at, by_way } => {
                    let way = by_way.as_ref().map(|team| format!("by way of team {team}"));
                    self.db
                        .prepare_cached(
                            "UPDATE event SET state = 'delivered', attempts = attempts + 1, settled_at = ?2, \
                             event_id = ?3, reason = ?4 WHERE seq = ?1",
                        )?
                        .execute(params![key(*seq), at.as_millisecond(), event_id, way])?;
                    if let Some(team) = by_way {
                        self.goes_elsewhere(*seq, team)?;
                    }
                    self.was_posted(*seq, event_id.as_deref(), *at, &mut applied)?;
                }
                Outcome::Deferred { seq, attempts, next_at, reason, maybe_taken } => {
                    let next_at = next_at.as_millisecond();
                    self.db
                        .prepare_cached(
                            "UPDATE event SET attempts = ?2, next_at = ?3, reason = ?4, \
                             unanswered = unanswered + ?5 WHERE seq = ?1 AND state = 'queued'",
                        )?
                        .execute(params![key(*seq), attempts, next_at, reason, maybe_taken])?;
                }
                Outcome::Failed { seq, at, reason, maybe_taken } => {
                    let failed = self
                        .db
                        .prepare_cached(
                            "UPDATE event SET state = 'failed', attempts = attempts + 1, settled_at = ?2, \
                             reason = ?3, unanswered = unanswered + ?4 WHERE seq = ?1 AND state = 'queued'",
                        )?
                        .execute(params![key(*seq), at.as_millisecond(), reason, maybe_taken])?;
                    if failed > 0 {
                        self.was_not_posted(*seq)?;
                    }
                }
            }
        }
        Ok(Ok(applied))
    }

    pub(super) fn requeue(&self, seqs: &[u64], now: Timestamp) -> Answer {
        let mut statement = self.db.prepare_cached(&format!(
            "UPDATE event SET state = 'queued', attempts = 0, queued_at = ?2, next_at = ?2, \
             settled_at = NULL \
             WHERE seq = ?1 AND (state = 'failed' OR state = 'queued' AND attempts > 0) RETURNING {QUEUED}"
        ))?;
        let mut applied = Applied::default();
        for seq in seqs {
            let row = statement.query_row(params![key(*seq), now.as_millisecond()], queued).optional()?;
            if let Some(Queued { incident: Some(incident), severity, .. }) = &row {
                self.waits_again(*incident, (*seq, *severity), now)?;
            }
            applied.queued.extend(row);
        }
        Ok(Ok(applied))
    }

    fn rejudge(&mut self, mail: MailId, judged: &Judged, now: Timestamp) -> Answer {
        let Some((first, end)) = self.block(mail)? else {
            return Ok(Err(Refused::NoSuchMail));
        };
        let last: Option<i64> = self
            .db
            .prepare_cached("SELECT max(seq) FROM event WHERE seq >= ?1 AND seq < ?2")?
            .query_row([first, end], |row| row.get(0))?;
        let next = last.map_or(first, |last| last + 1);
        let events = judged.events.len() + usize::from(judged.dropped.is_some());
        if i64::try_from(events).map_or(true, |events| events > end - next) {
            return Ok(Err(Refused::NoPlace));
        }
        // The old ones keep their numbers: one may be under way, and its outcome must not hit a new one.
        self.db
            .prepare_cached(
                "UPDATE event SET state = 'dropped', settled_at = ?3, reason = 'judged again' \
                 WHERE seq >= ?1 AND seq < ?2 AND state IN ('queued', 'failed', 'counted', 'muted', 'folded')",
            )?
            .execute(params![first, end, now.as_millisecond()])?;
        self.db
            .prepare_cached("UPDATE mail SET story = ?2 WHERE id = ?1")?
            .execute(params![key(mail.number()), judged.story])?;
        Ok(Ok(self.queue(mail, next..end, judged, now, Will::Operator)?))
    }

    fn drop(&self, mail: MailId, now: Timestamp) -> Answer {
        let Some((first, end)) = self.block(mail)? else {
            return Ok(Err(Refused::NoSuchMail));
        };
        let count = self
            .db
            .prepare_cached(
                "UPDATE event SET state = 'dropped', settled_at = ?3, \
                 reason = 'dropped by an operator' || coalesce('; before: ' || reason, '') \
                 WHERE seq >= ?1 AND seq < ?2 AND state IN ('queued', 'failed')",
            )?
            .execute(params![first, end, now.as_millisecond()])?;
        Ok(Ok(Applied { count, ..Applied::default() }))
    }

    /// The numbers of the mail's events: first and end.
    pub(super) fn block(&self, mail: MailId) -> rusqlite::Result<Option<(i64, i64)>> {
        self.db
            .prepare_cached("SELECT first_seq, end_seq FROM mail WHERE id = ?1")?
            .query_row([key(mail.number())], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn purge(&mut self, after: u64, horizon: Horizon) -> Answer {
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

    fn remember(&self, memos: &[Memo]) -> rusqlite::Result<()> {
        for Memo { kind, name, value } in memos {
            match value {
                Some(value) => self
                    .db
                    .prepare_cached("INSERT OR REPLACE INTO memo (kind, name, value) VALUES (?1, ?2, ?3)")?
                    .execute(params![kind, name, value.to_string()])?,
                None => self
                    .db
                    .prepare_cached("DELETE FROM memo WHERE kind = ?1 AND name = ?2")?
                    .execute(params![kind, name])?,
            };
        }
        Ok(())
    }

    fn forget_all(&self, incidents: &[(u64, u64)], storms_before: Timestamp) -> Answer {
        let count = self.forget(incidents)?;
        self.db
            .prepare_cached("DELETE FROM storm WHERE state != 'raging' AND last_at < ?1")?
            .execute([storms_before.as_millisecond()])?;
        Ok(Ok(Applied { count, ..Applied::default() }))
    }

    fn shrink(&self) -> Answer {
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
