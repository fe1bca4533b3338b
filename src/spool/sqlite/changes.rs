//! The changes, one by one, inside the transaction of their batch.

use crate::words::Words;
use std::ops::Range;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::Disk;
use super::elsewhere::Told;
use super::incidents::{Place, state_of};
use super::reserve::reserve;
use super::room::{Need, Room};
use super::rows::{QUEUED, queued};
use super::schema::BLOCK;
use super::seen::Seen;
use crate::event::{self, Attachment, with_tile};
use crate::incident::{self, Further, Ruling, Storms, Verdict, Will};
use crate::mail::MailId;
use crate::spool::allowance::Allowances;
use crate::spool::engine::{Applied, Change, Content, Fresh, Judged, Parcel, Refused};
use crate::spool::entry::{Memo, Outcome, Queued, State};

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
    /// How long what is closed is remembered.
    pub retention: SignedDuration,
    /// The storms that are on, and what counts towards the next.
    pub storms: &'a mut Storms,
    /// How many events the account of each team lets go in 15 seconds.
    pub allowances: &'a Allowances,
}

/// Events on their way into the database.
struct Writing<'a> {
    mail: MailId,
    will: Will,
    /// Whether they are the digest of a storm, which says all that those before it do.
    digest: bool,
    fingerprint: Option<&'a str>,
    applied: Applied,
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

/// What is posted of an event.
fn payload(event: &Fresh, ruling: &Ruling) -> Arc<str> {
    let made = &event.queued;
    let as_made = ruling.external_id == made.external_id
        && ruling.status == made.status
        && ruling.severity == made.severity;
    let mut payload = Arc::clone(&made.payload);
    if !as_made {
        let id = ruling.external_id.as_deref();
        payload = event::readdressed(&payload, id, ruling.status, ruling.severity).into();
    }
    if let Verdict::PageAgain { repeats: repeats @ 1.., .. } = ruling.verdict {
        let times = if repeats == 1 { "once".to_owned() } else { format!("{repeats} times") };
        payload = with_tile(&payload, "Repeated", &format!("{times} since the last page")).into();
    }
    payload
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
            Change::Forget { incidents, storms_before, now } => {
                self.forget_all(incidents, *storms_before, *now)
            }
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
        self.db
            .prepare_cached("INSERT INTO pack (mail, data) VALUES (?1, ?2)")?
            .execute(params![key(parcel.id.number()), parcel.pack])?;
        if let Content::Aside { name, size } = &parcel.content {
            self.db
                .prepare_cached("INSERT INTO large (mail, size, file) VALUES (?1, ?2, ?3)")?
                .execute(params![key(parcel.id.number()), *size as i64, name])?;
        }
        self.next_seq = end;
        self.take_room(parcel.id, need)?;
        self.remember(&parcel.memos)?;
        let notice = parcel.told.is_some() || parcel.notice;
        let mut writing = Writing {
            mail: parcel.id,
            will: if notice { Will::Notice } else { Will::Laws },
            digest: parcel.told.is_some(),
            fingerprint: parcel.fingerprint.as_deref(),
            applied: Applied::default(),
        };
        self.queue(&mut writing, first..end, &parcel.judged, parcel.received_at)?;
        Ok(Ok(writing.applied))
    }

    /// Writes new events with numbers out of `seqs`, of which there are enough for them.
    fn queue(
        &mut self,
        writing: &mut Writing<'_>,
        mut seqs: Range<i64>,
        judged: &Judged,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let seen = match writing.will {
            Will::Laws => self.seen(writing.mail, writing.fingerprint, judged)?,
            _ => judged.events.iter().map(|_| Seen::default()).collect(),
        };
        let mut told: Vec<Told<'_>> = Vec::new();
        let mut left = judged.events.len() + usize::from(judged.dropped.is_some());
        for (event, seen) in judged.events.iter().zip(seen) {
            let seq = seqs.next().expect("the block of a mail has a number for each of its events");
            left -= 1;
            let place = Place {
                seq,
                room: usize::try_from(seqs.end - seqs.start).unwrap_or(0).saturating_sub(left),
                will: writing.will,
                handed_in: seen.mail,
                replayed: seen.signature,
            };
            let ruling = self.write(writing, event, &place)?;
            told.extend(Told::of(event, &ruling));
            // The further closes have the next numbers.
            seqs.start += ruling.further.len() as i64;
        }
        if let Some(reason) = &judged.dropped {
            let seq = seqs.next().expect("the block of a mail has a number for its drop");
            self.db
                .prepare_cached(
                    "INSERT INTO event (seq, mail, state, attempts, queued_at, next_at, settled_at, reason, title) \
                     VALUES (?1, ?2, 'dropped', 0, ?3, ?3, ?3, ?4, '')",
                )?
                .execute(params![seq, key(writing.mail.number()), now.as_millisecond(), reason])?;
        }
        // In a block that is full, which takes a thousand events, nothing follows.
        for (event, seq) in self.followers(judged, told)?.iter().zip(seqs) {
            let place = Place { seq, room: 0, will: Will::Follow, handed_in: None, replayed: false };
            self.write(writing, event, &place)?;
        }
        Ok(())
    }

    /// Writes a new event, and what a close makes of further incidents.
    fn write(&mut self, writing: &mut Writing<'_>, event: &Fresh, place: &Place) -> rusqlite::Result<Ruling> {
        if writing.digest {
            self.replace_digests(event, &mut writing.applied)?;
        }
        let ruling = self.judge(event, place, &mut writing.applied)?;
        let storm = ruling.rows.first().and_then(|row| row.storm).filter(|_| ruling.verdict == Verdict::Fold);
        self.write_row(writing, event, &ruling, place.seq, storm)?;
        for Further { seq, incident, external_id, verdict } in &ruling.further {
            let further = Ruling {
                verdict: verdict.clone(),
                external_id: Some(external_id.clone()),
                incident: Some(*incident),
                until: None,
                ticket: None,
                ..ruling.clone()
            };
            self.write_row(writing, event, &further, key(*seq), None)?;
        }
        Ok(ruling)
    }

    /// Writes the row of an event.
    fn write_row(
        &mut self,
        writing: &mut Writing<'_>,
        event: &Fresh,
        ruling: &Ruling,
        seq: i64,
        storm: Option<u64>,
    ) -> rusqlite::Result<()> {
        let storm = storm.filter(|_| ruling.verdict == Verdict::Fold);
        let (state, reason) = state_of(&ruling.verdict, storm);
        let queued = Queued {
            seq: seq.cast_unsigned(),
            mail: writing.mail,
            incident: ruling.incident,
            external_id: ruling.external_id.clone(),
            severity: ruling.severity,
            status: ruling.status,
            next_at: ruling.until.unwrap_or(event.queued.accepted_at),
            payload: payload(event, ruling),
            ..event.queued.clone()
        };
        // As it stands in the pack, unless the law of incidents made another of it.
        let part = event.part.filter(|_| Arc::ptr_eq(&queued.payload, &event.queued.payload));
        let own = part.is_none().then_some(&*queued.payload);
        let settled_at = (state != State::Queued).then(|| queued.accepted_at.as_millisecond());
        self.db
            .prepare_cached(
                "INSERT INTO event (seq, mail, team, state, attempts, queued_at, next_at, external_id, severity, \
                 status, title, payload, settled_at, reason, note, storm, attachments, incident, stranger, part) \
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
            )?
            .execute(params![
                seq,
                key(writing.mail.number()),
                queued.team,
                state.word(),
                queued.accepted_at.as_millisecond(),
                queued.next_at.as_millisecond(),
                queued.external_id,
                queued.severity.map(|severity| severity.to_string()),
                queued.status.to_string(),
                event.title,
                own,
                settled_at,
                reason,
                ruling.note,
                storm.map(key),
                attachments(&queued.attachments),
                queued.incident.map(key),
                queued.stranger,
                part.map(|part| part as i64),
            ])?;
        match state {
            State::Counted => writing.applied.counted += 1,
            State::Muted => writing.applied.muted += 1,
            State::Folded => writing.applied.folded += 1,
            State::Queued | State::Failed | State::Delivered | State::Dropped => {
                writing.applied.queued.push(queued);
            }
        }
        Ok(())
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
                        applied.failed.push(*seq);
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
            if let Some(Queued { severity, .. }) = &row {
                self.waits_again(*seq, *severity, now)?;
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
        let mut writing = Writing {
            mail,
            will: Will::Operator,
            digest: false,
            fingerprint: None,
            applied: Applied::default(),
        };
        self.queue(&mut writing, next..end, judged, now)?;
        Ok(Ok(writing.applied))
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
}
