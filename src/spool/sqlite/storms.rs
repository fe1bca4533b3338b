//! Storms in the database: how many mails each has folded, how many of their incidents are open, and how much
//! of that its digest has told.

use crate::words::Words;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;

use super::changes::{Work, key};
use super::rows::{json, number, payload, text, time, word};
use crate::event::{Severity, Status};
use crate::incident::{self, Flood, Kind, Storms, Ticket};
use crate::mail::{Envelope, Origin};
use crate::spool::allowance::{self, Allowances};
use crate::spool::engine::{self, Applied, Fresh};
use crate::spool::storm::{Storm, StormState, Told};

/// The columns that [`storm`] reads.
pub(super) const STORM: &str = "id, team, source, state, began_at, excess_at, first_at, last_at, folded, open, \
     keyless, told, told_at, kind, stranger, severity, told_severity, digests";

pub(super) fn storm(row: &Row<'_>) -> rusqlite::Result<Storm> {
    Ok(Storm {
        id: number(row, 0)?,
        team: text(row, 1)?.unwrap_or_default(),
        source: text(row, 2)?,
        state: word(row, 3)?.unwrap_or(StormState::Raging),
        began_at: time(row, 4)?,
        excess_at: time(row, 5)?,
        first_at: time(row, 6)?,
        last_at: time(row, 7)?,
        folded: number(row, 8)?,
        open: number(row, 9)?,
        keyless: number(row, 10)?,
        told: number(row, 11)?,
        told_at: row.get::<_, Option<i64>>(12)?.map(|_| time(row, 12)).transpose()?,
        kind: word(row, 13)?.unwrap_or(Kind::Pages),
        stranger: row.get(14)?,
        severity: word(row, 15)?,
        told_severity: word(row, 16)?,
        digests: number(row, 17)?,
    })
}

/// How many events the accounts of the teams were last known to let go.
pub(super) fn read_allowances(db: &Connection, allowances: &Allowances) -> rusqlite::Result<()> {
    let mut statement = db.prepare("SELECT name, value FROM memo WHERE kind = ?1")?;
    let mut rows = statement.query([allowance::MEMO])?;
    while let Some(row) = rows.next()? {
        if let (Some(team), Some(Ok(events))) = (text(row, 0)?, text(row, 1)?.map(|value| value.parse())) {
            allowances.learn(&team, events);
        }
    }
    Ok(())
}

/// The storms that are on, and the pages that count for the next: what was known before a restart.
pub(super) fn remembered(db: &Connection) -> rusqlite::Result<Storms> {
    let mut storms = raging(db)?;
    // What is damaged there is not counted, and keeps no mail out.
    for (team, stranger, source, at) in last_pages(db).unwrap_or_default().into_iter().rev() {
        storms.recall((&team, stranger), &source, at);
    }
    Ok(storms)
}

/// The last events, and whether each has paged or was folded. Those that an operator dropped have not.
const LAST_EVENTS: &str = concat!(
    "SELECT event.team, event.queued_at, ",
    payload!(),
    ", coalesce(event.status = 'new' AND event.state IN ('queued', 'failed', 'delivered', 'folded'), 0), \
     mail.envelope, event.stranger FROM event CROSS JOIN mail ON mail.id = event.mail ORDER BY event.seq DESC LIMIT ?1"
);

/// What an event tells of its source.
#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "X-S4-SourceSystem")]
    source: Option<String>,
}

/// The pages of the last minute before the last event, latest first: the team, whether it is a stranger's, the source
/// and the time of each.
fn last_pages(db: &Connection) -> rusqlite::Result<Vec<(String, bool, String, Timestamp)>> {
    let mut pages = Vec::new();
    let mut statement = db.prepare(LAST_EVENTS)?;
    let mut rows = statement.query([i64::try_from(incident::MOST_COUNTED).unwrap_or(i64::MAX)])?;
    let mut newest = None;
    while let Some(row) = rows.next()? {
        let at = time(row, 1)?;
        if at < newest.get_or_insert(at).checked_sub(incident::STORM_WINDOW).unwrap_or(Timestamp::MIN) {
            break;
        }
        let envelope: Option<Envelope> = json(row, 4)?;
        let notice = envelope.as_ref().is_some_and(|envelope| envelope.origin == Origin::Gateway);
        if row.get(3)? && !notice {
            let payload: Option<Payload> = json(row, 2)?;
            let source = payload.and_then(|payload| payload.source).filter(|source| !source.is_empty());
            let source = source.or_else(|| envelope.as_ref().map(engine::sender)).unwrap_or_default();
            pages.push((text(row, 0)?.unwrap_or_default(), row.get(5)?, source, at));
        }
    }
    Ok(pages)
}

/// The storms that are on.
pub(super) fn raging(db: &Connection) -> rusqlite::Result<Storms> {
    let mut storms = Storms::default();
    let mut statement =
        db.prepare("SELECT id, team, kind, stranger, source FROM storm WHERE state = 'raging'")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let kind = word(row, 2)?.unwrap_or(Kind::Pages);
        let flood = Flood { kind, stranger: row.get(3)?, source: text(row, 4)? };
        storms.rage(&text(row, 1)?.unwrap_or_default(), &flood, number(row, 0)?);
    }
    Ok(storms)
}

impl Work<'_> {
    /// Counts an event as folded into the storm of its ticket, which begins with it if it is not on.
    pub fn join(&mut self, event: &Fresh, ticket: &Ticket, applied: &mut Applied) -> rusqlite::Result<u64> {
        let (team, now) = (&event.queued.team, event.queued.accepted_at);
        let storm = match ticket.storm {
            Some(storm) => storm,
            None => self.begin(team, ticket, now)?,
        };
        let (folded, told, worst, told_worst): (i64, i64, Option<Severity>, Option<Severity>) = self
            .db
            .prepare_cached(
                "UPDATE storm SET folded = folded + 1, keyless = keyless + ?2, last_at = ?3, \
                 excess_at = iif(?4, ?3, excess_at) WHERE id = ?1 RETURNING folded, told, severity, told_severity",
            )?
            .query_row(
                params![key(storm), event.queued.external_id.is_none(), now.as_millisecond(), ticket.excess],
                |row| Ok((row.get(0)?, row.get(1)?, word(row, 2)?, word(row, 3)?)),
            )?;
        let worse = event.queued.severity > worst;
        if worse {
            self.db
                .prepare_cached("UPDATE storm SET severity = ?2 WHERE id = ?1")?
                .execute(params![key(storm), event.queued.severity.map(|severity| severity.to_string())])?;
        }
        // The first piece of news, and what is worse than all that was told; of more of it nobody need be told before
        // the next digest is due.
        applied.storms |= folded == told + 1 || worse && event.queued.severity > told_worst;
        Ok(storm)
    }

    fn begin(&mut self, team: &str, ticket: &Ticket, now: Timestamp) -> rusqlite::Result<u64> {
        let flood = &ticket.flood;
        let storm = self
            .db
            .prepare_cached(
                "INSERT INTO storm (team, kind, stranger, source, state, began_at, excess_at, first_at, last_at, \
                 folded, open, keyless, told, digests) \
                 VALUES (?1, ?2, ?3, ?4, 'raging', ?5, ?5, ?5, ?5, 0, 0, 0, 0, 0) RETURNING id",
            )?
            .query_row(
                params![team, flood.kind.word(), flood.stranger, flood.source, now.as_millisecond()],
                |row| number(row, 0),
            )?;
        self.storms.rage(team, flood, storm);
        Ok(storm)
    }

    /// An incident that one storm's digest tells of is now told by another's, or by none as it is closed.
    pub fn move_between_storms(
        &self,
        from: Option<i64>,
        to: Option<i64>,
        applied: &mut Applied,
    ) -> rusqlite::Result<()> {
        let mut change = self
            .db
            .prepare_cached("UPDATE storm SET open = max(open + ?2, 0) WHERE id = ?1 RETURNING open")?;
        if let Some(from) = from {
            let open: Option<i64> = change.query_row([from, -1], |row| row.get(0)).optional()?;
            applied.storms |= open == Some(0);
        }
        if let Some(to) = to {
            let _: Option<i64> = change.query_row([to, 1], |row| row.get(0)).optional()?;
        }
        Ok(())
    }

    /// Takes out of the queue what still waits there of the digests before `event`. A close does not page, so that
    /// it takes the place of none.
    pub fn replace_digests(&self, event: &Fresh, applied: &mut Applied) -> rusqlite::Result<()> {
        if event.status != Status::New {
            return Ok(());
        }
        let waiting: Vec<i64> = self
            .db
            .prepare_cached(
                "SELECT seq FROM event INDEXED BY event_lane \
                 WHERE state = 'queued' AND attempts = 0 AND team = ?1 \
                 AND incident = (SELECT id FROM incident WHERE team = ?1 AND key = ?2)",
            )?
            .query_map(params![event.queued.team, event.queued.external_id], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let (team, now) = (&event.queued.team, event.queued.accepted_at);
        let reason = "replaced by a later digest of the storm";
        waiting.into_iter().try_for_each(|seq| self.withdraw(team, seq, reason, now, applied))
    }

    /// Notes what a digest tells. False if the storm is no longer as its maker saw it.
    pub fn tell(&mut self, told: &Told, now: Timestamp) -> rusqlite::Result<bool> {
        let changed = self
            .db
            .prepare_cached(
                "UPDATE storm SET state = ?2, told = ?3, told_at = ?4, digests = digests + 1, \
                 told_severity = ?6 WHERE id = ?1 AND state != 'closed' \
                 AND CASE ?2 WHEN 'raging' THEN state = 'raging' WHEN 'over' THEN excess_at = ?5 \
                 ELSE excess_at = ?5 AND open = 0 END",
            )?
            .execute(params![
                key(told.storm),
                told.state.word(),
                key(told.folded),
                now.as_millisecond(),
                told.excess_at.as_millisecond(),
                told.severity.map(|severity| severity.to_string()),
            ])?;
        if changed > 0 && told.state != StormState::Raging {
            self.storms.calm(told.storm);
        }
        Ok(changed > 0)
    }
}
