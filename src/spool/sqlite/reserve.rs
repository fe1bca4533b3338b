//! What delivery asks beside the plain queue: the reservations of the accounts, and what is most urgent.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::changes::key;
use super::rows::{QUEUED, queued};
use crate::spool::engine::Applied;
use crate::spool::reservation::{Reservation, Urgent};

/// How long reservations are kept: the longest window of an account is a day.
const KEPT: SignedDuration = SignedDuration::from_hours(25);

/// The tables and indexes, for the schema.
///
/// An event's `rank` is that of its severity, 0 the most urgent: [`crate::spool::rank`] in SQL. `event_urgent` gives
/// the queue in the order of delivery, `event_lane` the most urgent event of an incident.
pub(super) const SCHEMA: &str = "
    CREATE TABLE reservation (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        spent INTEGER NOT NULL,
        open INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX reservation_account ON reservation (account, made_at);
    ALTER TABLE event ADD COLUMN rank INTEGER AS (CASE severity
        WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 WHEN 'info' THEN 4 ELSE 2 END) VIRTUAL;
    CREATE INDEX event_urgent ON event (team, rank, seq) WHERE state = 'queued';
    CREATE INDEX event_lane ON event (team, external_id, rank, seq) WHERE state = 'queued';
";

/// Notes a reservation and forgets those that are too old to matter, but for the account's last.
pub(super) fn reserve(db: &Connection, reservation: &Reservation) -> rusqlite::Result<Applied> {
    let Reservation { account, at, spent, open } = reservation;
    let at = at.as_millisecond();
    db.prepare_cached("INSERT INTO reservation (account, made_at, spent, open) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![account, at, key(*spent), key(*open)])?;
    db.prepare_cached(
        "DELETE FROM reservation WHERE account = ?1 AND made_at < ?2 \
         AND number < (SELECT max(number) FROM reservation WHERE account = ?1)",
    )?
    .execute(params![account, at - KEPT.as_millis() as i64])?;
    Ok(Applied::default())
}

/// What is known of `account`, in the order in which it was noted.
pub(super) fn reservations(db: &Connection, account: &str) -> rusqlite::Result<Vec<Reservation>> {
    db.prepare_cached("SELECT made_at, spent, open FROM reservation WHERE account = ?1 ORDER BY number")?
        .query_map([account], |row| {
            Ok(Reservation {
                account: account.to_owned(),
                at: Timestamp::from_millisecond(row.get(0)?).unwrap_or(Timestamp::UNIX_EPOCH),
                spent: row.get::<_, i64>(1)?.cast_unsigned(),
                open: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })?
        .collect()
}

/// The question for the incidents of a team that have the most urgent events, each by its oldest event.
pub(super) fn question() -> String {
    let head: Vec<String> = QUEUED.split(", ").map(|column| format!("head.{column}")).collect();
    format!(
        "SELECT {}, best.rank AS best_rank, best.seq AS best_seq FROM ( \
             SELECT seq, rank, team, external_id FROM event AS one INDEXED BY event_urgent \
             WHERE state = 'queued' AND team = ?1 AND (rank, seq) > (?2, ?3) AND NOT EXISTS ( \
                 SELECT 1 FROM event AS other INDEXED BY event_lane \
                 WHERE other.state = 'queued' AND other.team = one.team \
                 AND other.external_id = one.external_id \
                 AND (other.rank, other.seq) < (one.rank, one.seq)) \
             ORDER BY rank, seq LIMIT ?4) AS best \
         CROSS JOIN event AS head ON head.seq = coalesce(( \
             SELECT min(lane.seq) FROM event AS lane INDEXED BY event_lane \
             WHERE lane.state = 'queued' AND lane.team = best.team \
             AND lane.external_id = best.external_id), best.seq) \
         ORDER BY best.rank, best.seq",
        head.join(", ")
    )
}

/// The incidents of `team` behind `after`, a rank and a number, by their most urgent events.
pub(super) fn urgent(
    db: &Connection,
    team: &str,
    after: (u8, u64),
    limit: usize,
) -> rusqlite::Result<Vec<Urgent>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(&question())?
        .query_map(params![team, after.0, key(after.1), limit], |row| {
            let rank: i64 = row.get("best_rank")?;
            Ok(Urgent {
                head: queued(row)?,
                rank: u8::try_from(rank).unwrap_or(u8::MAX),
                seq: row.get::<_, i64>("best_seq")?.cast_unsigned(),
            })
        })?
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Severity, Words};
    use crate::spool::Config;
    use crate::spool::sqlite::open;

    #[test]
    fn what_is_urgent_is_read_by_its_indexes_without_sorting_the_queue() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _store) = open(&Config::at(folder.path()), Arc::default()).unwrap();
        let plan: Vec<String> = writer
            .db
            .prepare(&format!("EXPLAIN QUERY PLAN {}", question()))
            .unwrap()
            .query_map(params!["soc", 0, 0, 10], |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let plan = plan.join("\n");
        assert!(plan.contains("SEARCH one USING INDEX event_urgent (team=? AND rank>?)"), "{plan}");
        assert!(plan.contains("SEARCH other USING INDEX event_lane (team=? AND external_id=?"), "{plan}");
        assert!(
            plan.contains("SEARCH lane USING COVERING INDEX event_lane (team=? AND external_id=?"),
            "{plan}"
        );
        assert!(plan.contains("SEARCH head USING INTEGER PRIMARY KEY (rowid=?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }

    #[test]
    fn the_database_ranks_events_as_delivery_does() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _store) = open(&Config::at(folder.path()), Arc::default()).unwrap();
        let words = Severity::WORDS.iter().map(|&(_, severity)| Some(severity)).chain([None]);
        for (seq, severity) in words.enumerate() {
            let word = severity.map(|severity| severity.to_string());
            let insert = "INSERT INTO event (seq, mail, state, attempts, queued_at, next_at, title, severity) \
                          VALUES (?1, 1, 'queued', 0, 0, 0, '', ?2)";
            writer.db.execute(insert, params![seq as i64, word]).unwrap();
            let select = "SELECT rank FROM event WHERE seq = ?1";
            let found: u8 = writer.db.query_row(select, [seq as i64], |row| row.get(0)).unwrap();
            assert_eq!(found, crate::spool::rank(severity), "{severity:?}");
        }
    }
}
