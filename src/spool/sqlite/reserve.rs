//! What delivery keeps beside the plain queue: the reservations of the accounts.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::changes::key;
use crate::spool::engine::Applied;
use crate::spool::reservation::Reservation;

/// How long reservations are kept: the longest window of an account is a day.
const KEPT: SignedDuration = SignedDuration::from_hours(25);

/// The last note of the account ?1. Its index finds it: the greatest number would be looked for among those of a day.
macro_rules! last {
    () => {
        "(SELECT number FROM reservation WHERE account = ?1 ORDER BY made_at DESC, number DESC LIMIT 1)"
    };
}

const ADD: &str = concat!(
    "UPDATE reservation SET made_at = ?2, spent = spent + ?3, open = ?4 WHERE number = ",
    last!(),
    " AND made_at / 1000 = ?2 / 1000"
);

const FORGET: &str =
    concat!("DELETE FROM reservation WHERE account = ?1 AND made_at < ?2 AND number < ", last!());

/// Notes a reservation and forgets those that are too old to matter, but for the account's last. The notes of a second
/// are one row, so that a day of them is read soon at the start. What was noted by a clock that was ahead is of now at
/// the latest: else each start would take it for just posted, until that time has come.
pub(super) fn reserve(db: &Connection, reservation: &Reservation) -> rusqlite::Result<Applied> {
    let Reservation { account, at, spent, open } = reservation;
    let at = at.as_millisecond();
    db.prepare_cached("UPDATE reservation SET made_at = ?2 WHERE account = ?1 AND made_at > ?2")?
        .execute(params![account, at])?;
    let same_second = db.prepare_cached(ADD)?.execute(params![account, at, key(*spent), key(*open)])?;
    if same_second == 0 {
        db.prepare_cached("INSERT INTO reservation (account, made_at, spent, open) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![account, at, key(*spent), key(*open)])?;
    }
    db.prepare_cached(FORGET)?.execute(params![account, at - KEPT.as_millis() as i64])?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rusqlite::StatementStatus;
    use strum::VariantArray;

    use super::*;
    use crate::event::{Severity, Status};
    use crate::spool::Config;
    use crate::spool::sqlite::open;

    #[test]
    fn a_note_of_a_busy_day_costs_no_more_than_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _store) = open(&Config::at(folder.path()), Arc::default()).unwrap();
        let db = &writer.db;
        let note = |second: i64| {
            let at = Timestamp::from_second(second).unwrap();
            reserve(db, &Reservation { account: "a".to_owned(), at, spent: 1, open: 0 }).unwrap();
        };
        db.execute_batch("BEGIN").unwrap();
        (0..20_000).for_each(note);
        db.execute_batch("COMMIT").unwrap();
        let steps = |sql: &str| db.prepare_cached(sql).unwrap().reset_status(StatementStatus::VmStep);
        for sql in [ADD, FORGET] {
            steps(sql);
        }
        (20_000..20_010).for_each(note);
        for sql in [ADD, FORGET] {
            assert!(steps(sql) < 1_000, "{sql}");
        }
        assert_eq!(reservations(db, "a").unwrap().iter().map(|note| note.spent).sum::<u64>(), 20_010);
    }

    #[test]
    fn the_database_ranks_events_as_delivery_does() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _store) = open(&Config::at(folder.path()), Arc::default()).unwrap();
        let severities = Severity::VARIANTS.iter().map(|&severity| Some(severity)).chain([None]);
        let all =
            severities.flat_map(|severity| Status::VARIANTS.iter().map(move |&status| (status, severity)));
        let all =
            all.flat_map(|(status, severity)| [false, true].map(|stranger| (status, severity, stranger)));
        for (seq, (status, severity, stranger)) in all.enumerate() {
            let word = severity.map(|severity| severity.to_string());
            let insert = "INSERT INTO event (seq, mail, state, attempts, queued_at, next_at, title, severity, status, \
                          stranger) VALUES (?1, 1, 'queued', 0, 0, 0, '', ?2, ?3, ?4)";
            writer.db.execute(insert, params![seq as i64, word, status.to_string(), stranger]).unwrap();
            let select = "SELECT rank FROM event WHERE seq = ?1";
            let found: u8 = writer.db.query_row(select, [seq as i64], |row| row.get(0)).unwrap();
            assert_eq!(found, crate::spool::rank(status, severity, stranger), "{status:?} {severity:?}");
        }
    }
}
