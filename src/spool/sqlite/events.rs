//! Events in the database.

use std::ops::Range;

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::Sqlite;
use super::rows::{QUEUED, all, key, maybe, maybe_time, number, one, queued, run, text, time, word};
use crate::event::{Attachment, Status};
use crate::mail::MailId;
use crate::spool::engine::{Done, EventRow, EventState, Events, PastEvent, Undelivered};
use crate::spool::entry::{Outcome, Queued, State};
use crate::words::Words;

/// The files of an event as the database has them.
fn attachments(files: &[Attachment]) -> Option<String> {
    (!files.is_empty()).then(|| serde_json::to_string(files).expect("names and numbers always serialise"))
}

/// The state of a column; one that cannot be read has failed.
fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    Ok(word(row, column)?.unwrap_or(State::Failed))
}

impl Events for Sqlite {
    fn insert_event(&mut self, event: &EventRow<'_>) -> Done<()> {
        let queued = event.queued;
        run(
            &self.db,
            "INSERT INTO event (seq, mail, team, state, attempts, queued_at, next_at, external_id, severity, \
             status, title, payload, settled_at, reason, note, storm, attachments, incident, stranger, part, source) \
             VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
            params![
                key(queued.seq),
                key(queued.mail.number()),
                queued.team,
                event.state.word(),
                queued.accepted_at.as_millisecond(),
                queued.next_at.as_millisecond(),
                queued.external_id,
                queued.severity.map(|severity| severity.word()),
                queued.status.word(),
                event.title,
                event.part.is_none().then_some(&*queued.payload),
                event.settled_at.map(Timestamp::as_millisecond),
                event.reason,
                event.note,
                event.storm.map(key),
                attachments(&queued.attachments),
                queued.incident.map(key),
                queued.stranger,
                event.part.map(|part| part as i64),
                event.source,
            ],
        )?;
        Ok(())
    }

    fn insert_dropped(&mut self, seq: u64, mail: MailId, at: Timestamp, reason: &str) -> Done<()> {
        run(
            &self.db,
            "INSERT INTO event (seq, mail, state, attempts, queued_at, next_at, settled_at, reason, title) \
             VALUES (?1, ?2, 'dropped', 0, ?3, ?3, ?3, ?4, '')",
            params![key(seq), key(mail.number()), at.as_millisecond(), reason],
        )?;
        Ok(())
    }

    fn last_seq(&self) -> Done<Option<u64>> {
        let last: Option<i64> = self.db.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
        Ok(last.map(i64::cast_unsigned))
    }

    fn last_events(&self, limit: usize) -> Done<Vec<PastEvent>> {
        let sql = "SELECT team, stranger, state, source, queued_at FROM event ORDER BY seq DESC LIMIT ?1";
        Ok(all(&self.db, sql, [limit as i64], |row| {
            Ok(PastEvent {
                team: text(row, 0)?,
                stranger: row.get(1)?,
                state: state(row, 2)?,
                source: text(row, 3)?,
                queued_at: time(row, 4)?,
            })
        })?)
    }

    fn states(&self, seqs: &Range<u64>) -> Done<Vec<EventState>> {
        let sql = "SELECT seq, state, settled_at FROM event WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
        Ok(all(&self.db, sql, [key(seqs.start), key(seqs.end)], |row| {
            Ok(EventState { seq: number(row, 0)?, state: state(row, 1)?, settled_at: maybe_time(row, 2)? })
        })?)
    }

    fn undelivered(&self, seqs: &Range<u64>) -> Done<Vec<Undelivered>> {
        let sql = format!(
            "SELECT {QUEUED}, title, part FROM event \
             WHERE seq >= ?1 AND seq < ?2 AND state IN ('queued', 'failed') ORDER BY seq"
        );
        Ok(all(&self.db, &sql, [key(seqs.start), key(seqs.end)], |row| {
            let part = row.get::<_, Option<i64>>("part")?.and_then(|part| usize::try_from(part).ok());
            Ok(Undelivered { queued: queued(row)?, title: row.get("title")?, part })
        })?)
    }

    fn attempts(&self, seq: u64) -> Done<Option<(u32, Timestamp)>> {
        let sql = "SELECT attempts, next_at FROM event WHERE seq = ?1 AND state = 'queued'";
        Ok(one(&self.db, sql, [key(seq)], |row| Ok((row.get(0)?, time(row, 1)?)))?)
    }

    fn record(&mut self, outcome: &Outcome) -> Done<Option<(Option<u64>, Status)>> {
        let noted = |row: &Row<'_>| Ok((maybe(row, 0)?, word(row, 1)?.unwrap_or_default()));
        Ok(match outcome {
            Outcome::Delivered { seq, event_id, at, by_way } => one(
                &self.db,
                "UPDATE event SET state = 'delivered', attempts = attempts + 1, settled_at = ?2, event_id = ?3, \
                 reason = 'by way of team ' || ?4 WHERE seq = ?1 RETURNING incident, status",
                params![key(*seq), at.as_millisecond(), event_id, by_way],
                noted,
            ),
            Outcome::Deferred { seq, attempts, next_at, reason, maybe_taken } => one(
                &self.db,
                "UPDATE event SET attempts = ?2, next_at = ?3, reason = ?4, unanswered = unanswered + ?5 \
                 WHERE seq = ?1 AND state = 'queued' RETURNING incident, status",
                params![key(*seq), attempts, next_at.as_millisecond(), reason, maybe_taken],
                noted,
            ),
            Outcome::Failed { seq, at, reason, maybe_taken } => one(
                &self.db,
                "UPDATE event SET state = 'failed', attempts = attempts + 1, settled_at = ?2, reason = ?3, \
                 unanswered = unanswered + ?4 WHERE seq = ?1 AND state = 'queued' RETURNING incident, status",
                params![key(*seq), at.as_millisecond(), reason, maybe_taken],
                noted,
            ),
        }?)
    }

    fn settle(
        &mut self,
        seqs: &Range<u64>,
        from: &[State],
        to: State,
        at: Timestamp,
        reason: &str,
    ) -> Done<usize> {
        let from: Vec<String> = from.iter().map(|state| format!("'{}'", state.word())).collect();
        let sql = format!(
            "UPDATE event SET state = ?3, settled_at = ?4, reason = ?5 || coalesce('; before: ' || reason, '') \
             WHERE seq >= ?1 AND seq < ?2 AND state IN ({})",
            from.join(", ")
        );
        let values = params![key(seqs.start), key(seqs.end), to.word(), at.as_millisecond(), reason];
        Ok(run(&self.db, &sql, values)?)
    }

    fn requeue(&mut self, seq: u64, at: Timestamp) -> Done<Option<Queued>> {
        let sql = format!(
            "UPDATE event SET state = 'queued', attempts = 0, queued_at = ?2, next_at = ?2, settled_at = NULL \
             WHERE seq = ?1 AND (state = 'failed' OR state = 'queued' AND attempts > 0) RETURNING {QUEUED}"
        );
        Ok(one(&self.db, &sql, [key(seq), at.as_millisecond()], queued)?)
    }

    fn release(&mut self, seq: u64, at: Timestamp) -> Done<Option<Queued>> {
        let sql = format!(
            "UPDATE event SET state = 'queued', queued_at = ?2, next_at = ?2, settled_at = NULL, reason = NULL \
             WHERE seq = ?1 AND state = 'counted' RETURNING {QUEUED}"
        );
        Ok(one(&self.db, &sql, [key(seq), at.as_millisecond()], queued)?)
    }

    fn untried(&self, team: &str, key: &str) -> Done<Vec<u64>> {
        let sql = "SELECT seq FROM event INDEXED BY event_lane \
                   WHERE state = 'queued' AND attempts = 0 AND team = ?1 \
                   AND incident = (SELECT id FROM incident WHERE team = ?1 AND key = ?2)";
        Ok(all(&self.db, sql, [team, key], |row| number(row, 0))?)
    }
}
