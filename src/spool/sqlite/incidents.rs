//! Incidents in the database. The law is [`incident::rule`]: here its rows are loaded and stored, in the transaction
//! that writes the event, so that two mails of one incident are judged in their order.

use crate::words::Words;
use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row as SqlRow, ToSql, params};

use super::changes::{Work, key};
use super::rows::{QUEUED, number, queued, text, time, trust, word};
use crate::event::{KeySource, Severity, Status};
use crate::incident::{self, Case, Incident, Page, Report, Row, Ruling, Source, Verdict, Will};
use crate::spool::engine::{Applied, Fresh};
use crate::spool::entry::{State, Withdrawn};

/// Rows that are looked at for one event at most, of each class: a stranger may use one key under ever new names.
const ROWS: usize = 256;

macro_rules! columns {
    () => {
        "id, team, key, external_id, stranger, key_source, family, form, instance, domain, base, mark, trust, sent_at, \
         state, severity, paged_severity, opened_at, last_at, paged_at, mails, unpaged, posted, first_seq, last_seq, \
         page_seq, held_seq, close_seq, storm, event_ids"
    };
}

/// The columns that [`row`] reads.
pub(super) const ROW: &str = columns!();

/// The rows of a key.
pub(super) const OF_KEY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM incident WHERE team = ?1 AND key = ?2 AND stranger = ?3 ORDER BY id DESC LIMIT ?4"
);

/// The rows that are posted under an id and have another key.
pub(super) const POSTED_AS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM incident INDEXED BY incident_posted WHERE team = ?1 AND external_id = ?2 AND key != ?2 LIMIT ?3"
);

/// The open rows of a guessed key's base.
pub(super) const OF_BASE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM incident INDEXED BY incident_base WHERE team = ?1 AND base = ?2 AND base IS NOT NULL \
     AND state != 'resolved' ORDER BY id DESC LIMIT ?3"
);

/// How many texts of a base were paged by themselves since a time, one incident left out; no more than ?6.
pub(super) const TEXTS: &str = "SELECT count(*) FROM (SELECT 1 FROM incident INDEXED BY incident_texts \
     WHERE team = ?1 AND base = ?2 AND base IS NOT NULL AND page_seq IS NOT NULL AND paged_at > ?3 AND stranger = ?4 \
     AND key != ?5 LIMIT ?6)";

/// One row.
pub(super) const OF_ID: &str = concat!("SELECT ", columns!(), " FROM incident WHERE id = ?1");

/// Reads what can be read, so that a damaged value does not keep a mail out.
pub(super) fn row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let maybe = |column| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
    };
    let maybe_time = |column| row.get::<_, Option<i64>>(column)?.map(|_| time(row, column)).transpose();
    Ok(Row {
        id: number(row, 0)?,
        key: text(row, 2)?.unwrap_or_default(),
        source: Source {
            stranger: row.get(4)?,
            key_source: word(row, 5)?.unwrap_or_default(),
            family: text(row, 6)?,
            form: text(row, 7)?,
            instance: text(row, 8)?.unwrap_or_default(),
            domain: text(row, 9)?.unwrap_or_default(),
            base: text(row, 10)?,
            mark: word(row, 11)?,
        },
        trust: trust(row, 12)?,
        sent_at: maybe_time(13)?,
        incident: Incident {
            team: text(row, 1)?.unwrap_or_default(),
            external_id: text(row, 3)?.unwrap_or_default(),
            state: word(row, 14)?.unwrap_or(incident::State::Open),
            severity: word(row, 15)?,
            paged_severity: word(row, 16)?,
            opened_at: time(row, 17)?,
            last_at: time(row, 18)?,
            paged_at: maybe_time(19)?,
            mails: number(row, 20)?,
            unpaged: number(row, 21)?,
            posted: row.get(22)?,
        },
        first_seq: number(row, 23)?,
        last_seq: number(row, 24)?,
        page_seq: maybe(25)?,
        held_seq: maybe(26)?,
        close_seq: maybe(27)?,
        storm: maybe(28)?,
        event_ids: text(row, 29)?.unwrap_or_default(),
    })
}

fn all(mut question: CachedStatement<'_>, parameters: &[&dyn ToSql]) -> rusqlite::Result<Vec<Row>> {
    question.query_map(parameters, row)?.collect()
}

/// The row with this number.
pub(super) fn by_id(db: &Connection, id: i64) -> rusqlite::Result<Option<Row>> {
    db.prepare_cached(OF_ID)?.query_row([id], row).optional()
}

/// The row of the incident that the event `seq` is about.
pub(super) fn of_event(db: &Connection, seq: u64) -> rusqlite::Result<Option<Row>> {
    let id: Option<i64> = db
        .prepare_cached("SELECT incident FROM event WHERE seq = ?1 AND incident IS NOT NULL")?
        .query_row([key(seq)], |row| row.get(0))
        .optional()?;
    id.map_or(Ok(None), |id| by_id(db, id))
}

/// The numbers that an event may use beside its own, and the numbers of mails that it repeats.
pub(super) struct Place {
    pub seq: i64,
    /// How many numbers after it are free for further closes.
    pub room: usize,
    pub will: Will,
    /// The mail as which it was handed in before.
    pub handed_in: Option<String>,
    /// Whether the signature that proves it was seen before.
    pub replayed: bool,
}

impl Work<'_> {
    /// Decides what becomes of a new event, and writes how its incidents stand then.
    pub fn judge(&mut self, event: &Fresh, place: &Place, applied: &mut Applied) -> rusqlite::Result<Ruling> {
        let queued = &event.queued;
        let (team, now) = (queued.team.as_str(), queued.accepted_at);
        let rows = match queued.external_id.as_deref() {
            Some(key) => self.rows(event, key)?,
            None => Vec::new(),
        };
        let case = Case {
            seq: place.seq.cast_unsigned(),
            room: place.room,
            team,
            key: queued.external_id.as_deref(),
            posted_as: event.posted_as.as_deref(),
            report: event.report(),
            identity: &event.identity,
            source: &event.source,
            will: place.will,
            rows: &rows,
            handed_in: place.handed_in.as_deref(),
            replayed: place.replayed,
            texts: self.texts(event)?,
            allowance: self.allowances.of(team),
            retention: self.retention,
            now,
        };
        let db = self.db;
        let mut ruling = incident::rule(&case, |row| page(db, row, now), self.storms, self.incidents)?;
        if let Some(ticket) = ruling.ticket.clone() {
            let storm = self.join(event, &ticket, applied)?;
            ruling.fold_into(storm);
        }
        for (seq, reason) in &ruling.withdraw {
            self.withdraw(team, key(*seq), reason, now, applied)?;
        }
        for row in &ruling.rows {
            let before = rows.iter().find(|known| known.id == row.id).and_then(|known| known.storm);
            if before != row.storm {
                self.move_between_storms(before.map(key), row.storm.map(key), applied)?;
            }
            self.store(row)?;
        }
        Ok(ruling)
    }

    /// The rows that matter for an event of this key.
    fn rows(&self, event: &Fresh, of: &str) -> rusqlite::Result<Vec<Row>> {
        let (team, limit) = (&event.queued.team, ROWS as i64);
        let closes = event.status != Status::New;
        let identity = &event.identity;
        let mut rows = Vec::new();
        for stranger in [false, true] {
            // What a stranger holds does not matter to an open of a known sender.
            if stranger && !closes && !identity.trust.is_stranger() {
                continue;
            }
            rows.extend(all(self.db.prepare_cached(OF_KEY)?, &[team, &of, &stranger, &limit])?);
        }
        let mut more = Vec::new();
        if closes && identity.key_source == KeySource::Operator {
            more = all(self.db.prepare_cached(POSTED_AS)?, &[team, &of, &limit])?;
        } else if let Some(guess) = identity.guess.as_ref().filter(|_| closes) {
            more = all(self.db.prepare_cached(OF_BASE)?, &[team, &guess.base, &(4 * limit)])?;
        }
        more.retain(|row| !rows.iter().any(|known| known.id == row.id));
        rows.extend(more);
        Ok(rows)
    }

    /// How many texts of the event's base were paged by themselves within the quiet time.
    fn texts(&self, event: &Fresh) -> rusqlite::Result<usize> {
        let Some(guess) = &event.identity.guess else { return Ok(0) };
        let quiet = event.quiet.unwrap_or(self.incidents.quiet);
        let since = event.queued.accepted_at.checked_sub(quiet).unwrap_or(Timestamp::MIN);
        let count: i64 = self.db.prepare_cached(TEXTS)?.query_row(
            params![
                event.queued.team,
                guess.base,
                since.as_millisecond(),
                event.identity.trust.is_stranger(),
                event.queued.external_id,
                incident::TEXTS as i64
            ],
            |row| row.get(0),
        )?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Writes a row.
    pub fn store(&self, row: &Row) -> rusqlite::Result<()> {
        let Row { source, incident, .. } = row;
        let severity = |severity: Option<Severity>| severity.map(|severity| severity.to_string());
        self.db
            .prepare_cached(concat!(
                "INSERT INTO incident (",
                columns!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
                 ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30) ON CONFLICT (id) DO UPDATE SET \
                 external_id = ?4, key_source = ?6, family = ?7, form = ?8, instance = ?9, domain = ?10, base = ?11, \
                 mark = ?12, trust = ?13, sent_at = ?14, state = ?15, severity = ?16, paged_severity = ?17, \
                 opened_at = ?18, last_at = ?19, paged_at = ?20, mails = ?21, unpaged = ?22, posted = ?23, \
                 first_seq = ?24, last_seq = ?25, page_seq = ?26, held_seq = ?27, close_seq = ?28, storm = ?29, \
                 event_ids = ?30"
            ))?
            .execute(params![
                key(row.id),
                incident.team,
                row.key,
                incident.external_id,
                source.stranger,
                source.key_source.word(),
                source.family,
                source.form,
                source.instance,
                source.domain,
                source.base,
                source.mark.map(|mark| mark.word()),
                row.trust.map(|trust| trust.word()),
                row.sent_at.map(Timestamp::as_millisecond),
                incident.state.word(),
                severity(incident.severity),
                severity(incident.paged_severity),
                incident.opened_at.as_millisecond(),
                incident.last_at.as_millisecond(),
                incident.paged_at.map(Timestamp::as_millisecond),
                key(incident.mails),
                key(incident.unpaged),
                incident.posted,
                key(row.first_seq),
                key(row.last_seq),
                row.page_seq.map(key),
                row.held_seq.map(key),
                row.close_seq.map(key),
                row.storm.map(key),
                row.event_ids,
            ])?;
        Ok(())
    }

    /// Takes an open that was not tried out of the queue.
    pub fn withdraw(
        &self,
        team: &str,
        seq: i64,
        reason: &str,
        now: Timestamp,
        applied: &mut Applied,
    ) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "UPDATE event SET state = 'counted', settled_at = ?2, reason = ?3 \
                 WHERE seq = ?1 AND state = 'queued'",
            )?
            .execute(params![seq, now.as_millisecond(), reason])?;
        applied.withdrawn.push(Withdrawn { team: team.to_owned(), seq: seq.cast_unsigned() });
        Ok(())
    }

    /// An event was delivered, and SIGNL4 calls it `event_id`. If it is an open that was withdrawn for a close, that
    /// close follows it.
    pub fn was_posted(
        &self,
        seq: u64,
        event_id: Option<&str>,
        at: Timestamp,
        applied: &mut Applied,
    ) -> rusqlite::Result<()> {
        let opens = self
            .db
            .prepare_cached("SELECT 1 FROM event WHERE seq = ?1 AND status = 'new'")?
            .exists([key(seq)])?;
        let Some(mut row) = opens.then(|| of_event(self.db, seq)).transpose()?.flatten() else {
            return Ok(());
        };
        let close = row.was_posted(seq, event_id, at);
        self.store(&row)?;
        if let Some(close) = close {
            let row = self
                .db
                .prepare_cached(&format!(
                    "UPDATE event SET state = 'queued', queued_at = ?2, next_at = ?2, settled_at = NULL, \
                     reason = NULL WHERE seq = ?1 AND state = 'counted' RETURNING {QUEUED}"
                ))?
                .query_row(params![key(close), at.as_millisecond()], queued)
                .optional()?;
            applied.queued.extend(row);
        }
        Ok(())
    }

    /// An event failed for good, or goes to another team.
    pub fn was_not_posted(&self, seq: u64) -> rusqlite::Result<()> {
        let Some(mut row) = of_event(self.db, seq)? else { return Ok(()) };
        if row.was_not_posted(seq) { self.store(&row) } else { Ok(()) }
    }

    /// An event was put back into the queue.
    pub fn waits_again(&self, seq: u64, severity: Option<Severity>, now: Timestamp) -> rusqlite::Result<()> {
        let Some(mut row) = of_event(self.db, seq)? else { return Ok(()) };
        if row.waits_again(seq, severity, now) { self.store(&row) } else { Ok(()) }
    }

    /// Forgets these incidents, unless they were heard of since.
    pub fn forget(&self, incidents: &[(u64, u64)]) -> rusqlite::Result<usize> {
        let mut statement = self.db.prepare_cached("DELETE FROM incident WHERE id = ?1 AND last_seq = ?2")?;
        let mut count = 0;
        for &(id, last) in incidents {
            let forgotten = statement.execute([key(id), key(last)])?;
            if forgotten > 0 {
                self.forgets(id)?;
            }
            count += forgotten;
        }
        Ok(count)
    }
}

/// Where the last page of an incident is.
fn page(db: &Connection, row: &Row, now: Timestamp) -> rusqlite::Result<Page> {
    let Some(seq) = row.page_seq else { return Ok(Page::Gone) };
    let waits: Option<(u32, i64)> = db
        .prepare_cached("SELECT attempts, next_at FROM event WHERE seq = ?1 AND state = 'queued'")?
        .query_row([key(seq)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match waits {
        None => Page::Gone,
        Some((0, next_at)) if row.held_seq == Some(seq) && next_at > now.as_millisecond() => {
            Page::Held(Timestamp::from_millisecond(next_at).unwrap_or(now))
        }
        Some(_) => Page::Waits,
    })
}

/// The events that failed and are not overtaken.
pub(super) fn not_overtaken(db: &Connection) -> rusqlite::Result<Vec<u64>> {
    let state = |seq: Option<u64>| -> rusqlite::Result<State> {
        let Some(seq) = seq else { return Ok(State::Delivered) };
        let mut question = db.prepare_cached("SELECT state FROM event WHERE seq = ?1")?;
        let found: Option<Option<State>> = question.query_row([key(seq)], |row| word(row, 0)).optional()?;
        // What was kept for long enough and is deleted was delivered.
        Ok(found.flatten().unwrap_or(State::Delivered))
    };
    let mut failed = db.prepare_cached(
        "SELECT seq, status, incident FROM event INDEXED BY event_failed WHERE state = 'failed' ORDER BY seq",
    )?;
    let mut events = failed.query([])?;
    let mut found = Vec::new();
    while let Some(event) = events.next()? {
        let (seq, status) = (number(event, 0)?, word(event, 1)?.unwrap_or(Status::New));
        let row = match event.get::<_, Option<i64>>(2)? {
            Some(id) => by_id(db, id)?,
            None => None,
        };
        let overtaken = match row {
            Some(row) => {
                let goes = matches!(state(row.page_seq)?, State::Queued | State::Delivered);
                let stands = !matches!(state(Some(row.last_seq))?, State::Failed | State::Dropped);
                row.overtakes(seq, status, goes, stands)
            }
            None => false,
        };
        if !overtaken {
            found.push(seq);
        }
    }
    Ok(found)
}

impl Fresh {
    pub(super) fn report(&self) -> Report<'_> {
        Report {
            status: self.status,
            severity: self.queued.severity,
            repeat: self.repeat,
            quiet: self.quiet,
            muted: self.muted.as_deref(),
        }
    }
}

/// What a verdict makes of an event: its state, and why.
pub(super) fn state_of(verdict: &Verdict, storm: Option<u64>) -> (State, Option<String>) {
    match verdict {
        Verdict::Page | Verdict::PageAgain { .. } | Verdict::Update | Verdict::Pass => (State::Queued, None),
        Verdict::Count { reason } | Verdict::Flap { reason } => (State::Counted, Some(reason.clone())),
        Verdict::Mute { reason } => (State::Muted, Some(reason.clone())),
        Verdict::Fold => (State::Folded, storm.map(|storm| format!("told in the digest of storm {storm}"))),
    }
}
