//! Incidents and storms in the database.

use jiff::Timestamp;
use rusqlite::{Row as SqlRow, params};

use super::Sqlite;
use super::rows::{all, json, key, maybe, maybe_time, number, one, run, text, time, trust, word};
use crate::incident::{self, Flood, Incident, Kind, Row, Source};
use crate::spool::engine::{By, Done, Incidents};
use crate::spool::storm::{Storm, StormState};
use crate::words::Words;

macro_rules! columns {
    () => {
        "id, team, key, external_id, stranger, key_source, family, form, instance, domain, base, mark, trust, sent_at, \
         state, severity, paged_severity, opened_at, last_at, paged_at, mails, unpaged, posted, first_seq, last_seq, \
         page_seq, held_seq, close_seq, storm, event_ids, elsewhere"
    };
}

/// The columns that [`row`] reads, of the table that is called `name` in a question.
pub(super) fn columns_of(name: &str) -> String {
    ROW.split(", ").map(|column| format!("{name}.{column}")).collect::<Vec<_>>().join(", ")
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
        sent_at: maybe_time(row, 13)?,
        incident: Incident {
            team: text(row, 1)?.unwrap_or_default(),
            external_id: text(row, 3)?.unwrap_or_default(),
            state: word(row, 14)?.unwrap_or(incident::State::Open),
            severity: word(row, 15)?,
            paged_severity: word(row, 16)?,
            opened_at: time(row, 17)?,
            last_at: time(row, 18)?,
            paged_at: maybe_time(row, 19)?,
            mails: number(row, 20)?,
            unpaged: number(row, 21)?,
            posted: row.get(22)?,
        },
        first_seq: number(row, 23)?,
        last_seq: number(row, 24)?,
        page_seq: maybe(row, 25)?,
        held_seq: maybe(row, 26)?,
        close_seq: maybe(row, 27)?,
        storm: maybe(row, 28)?,
        event_ids: text(row, 29)?.unwrap_or_default(),
        elsewhere: json(row, 30)?.unwrap_or_default(),
    })
}

/// The columns that [`storm`] reads.
pub(super) const STORM: &str = "id, team, source, state, began_at, excess_at, first_at, last_at, folded, open, \
     keyless, told, told_at, kind, stranger, severity, told_severity, digests";

pub(super) fn storm(row: &SqlRow<'_>) -> rusqlite::Result<Storm> {
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
        told_at: maybe_time(row, 12)?,
        kind: word(row, 13)?.unwrap_or(Kind::Pages),
        stranger: row.get(14)?,
        severity: word(row, 15)?,
        told_severity: word(row, 16)?,
        digests: number(row, 17)?,
    })
}

impl Incidents for Sqlite {
    fn incidents(&self, team: &str, by: By<'_>, limit: usize) -> Done<Vec<Row>> {
        let limit = limit as i64;
        Ok(match by {
            By::Key(key, stranger) => all(&self.db, OF_KEY, params![team, key, stranger, limit], row)?,
            By::PostedId(id) => all(&self.db, POSTED_AS, params![team, id, limit], row)?,
            By::Base(base) => all(&self.db, OF_BASE, params![team, base, limit], row)?,
        })
    }

    fn incident(&self, id: u64) -> Done<Option<Row>> {
        Ok(one(&self.db, OF_ID, [key(id)], row)?)
    }

    fn store_incident(&mut self, row: &Row) -> Done<()> {
        let Row { source, incident, .. } = row;
        let elsewhere = (!row.elsewhere.is_empty()).then(|| serde_json::json!(row.elsewhere).to_string());
        run(
            &self.db,
            concat!(
                "INSERT INTO incident (",
                columns!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
                 ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31) ON CONFLICT (id) DO UPDATE SET \
                 external_id = ?4, key_source = ?6, family = ?7, form = ?8, instance = ?9, domain = ?10, base = ?11, \
                 mark = ?12, trust = ?13, sent_at = ?14, state = ?15, severity = ?16, paged_severity = ?17, \
                 opened_at = ?18, last_at = ?19, paged_at = ?20, mails = ?21, unpaged = ?22, posted = ?23, \
                 first_seq = ?24, last_seq = ?25, page_seq = ?26, held_seq = ?27, close_seq = ?28, storm = ?29, \
                 event_ids = ?30, elsewhere = ?31"
            ),
            params![
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
                incident.severity.map(|severity| severity.word()),
                incident.paged_severity.map(|severity| severity.word()),
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
                elsewhere,
            ],
        )?;
        Ok(())
    }

    fn forget_incident(&mut self, id: u64, last_seq: u64) -> Done<bool> {
        let sql = "DELETE FROM incident WHERE id = ?1 AND last_seq = ?2";
        Ok(run(&self.db, sql, [key(id), key(last_seq)])? > 0)
    }

    fn texts(
        &self,
        team: &str,
        base: &str,
        stranger: bool,
        since: Timestamp,
        key: Option<&str>,
        limit: usize,
    ) -> Done<usize> {
        let values = params![team, base, since.as_millisecond(), stranger, key, limit as i64];
        let count = one(&self.db, TEXTS, values, |row| number(row, 0))?;
        Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
    }

    fn insert_storm(&mut self, team: &str, flood: &Flood, at: Timestamp) -> Done<Storm> {
        let sql = format!(
            "INSERT INTO storm (team, kind, stranger, source, state, began_at, excess_at, first_at, last_at, \
             folded, open, keyless, told, digests) \
             VALUES (?1, ?2, ?3, ?4, 'raging', ?5, ?5, ?5, ?5, 0, 0, 0, 0, 0) RETURNING {STORM}"
        );
        let Flood { kind, stranger, source } = flood;
        let values = params![team, kind.word(), stranger, source, at.as_millisecond()];
        Ok(self.db.prepare_cached(&sql)?.query_row(values, storm)?)
    }

    fn storm(&self, id: u64) -> Done<Option<Storm>> {
        Ok(one(&self.db, &format!("SELECT {STORM} FROM storm WHERE id = ?1"), [key(id)], storm)?)
    }

    fn store_storm(&mut self, storm: &Storm) -> Done<()> {
        run(
            &self.db,
            "UPDATE storm SET state = ?2, excess_at = ?3, last_at = ?4, folded = ?5, open = ?6, keyless = ?7, \
             told = ?8, told_at = ?9, severity = ?10, told_severity = ?11, digests = ?12 WHERE id = ?1",
            params![
                key(storm.id),
                storm.state.word(),
                storm.excess_at.as_millisecond(),
                storm.last_at.as_millisecond(),
                key(storm.folded),
                key(storm.open),
                key(storm.keyless),
                key(storm.told),
                storm.told_at.map(Timestamp::as_millisecond),
                storm.severity.map(|severity| severity.word()),
                storm.told_severity.map(|severity| severity.word()),
                key(storm.digests),
            ],
        )?;
        Ok(())
    }

    fn forget_storms(&mut self, before: Timestamp) -> Done<()> {
        let sql = "DELETE FROM storm WHERE state != 'raging' AND last_at < ?1";
        run(&self.db, sql, [before.as_millisecond()])?;
        Ok(())
    }
}
