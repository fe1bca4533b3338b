//! Memos, what was seen, and reservations in the database.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::Sqlite;
use super::rows::{all, key, mail_id, number, one, run, time, trust};
use crate::mail::Trust;
use crate::spool::engine::{Done, Notes, Seen};
use crate::spool::entry::Memo;
use crate::spool::reservation::Reservation;

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

impl Notes for Sqlite {
    fn note_seen(&mut self, team: &str, name: &str, seen: &Seen, replace: bool) -> Done<bool> {
        let sql = if replace {
            "INSERT OR REPLACE INTO seen (team, fingerprint, trust, at, mail) VALUES (?1, ?2, ?3, ?4, ?5)"
        } else {
            "INSERT OR IGNORE INTO seen (team, fingerprint, trust, at, mail) VALUES (?1, ?2, ?3, ?4, ?5)"
        };
        let (at, mail) = (seen.at.as_millisecond(), key(seen.mail.number()));
        Ok(run(&self.db, sql, params![team, name, seen.trust.word(), at, mail])? > 0)
    }

    fn seen(&self, team: &str, name: &str) -> Done<Option<Seen>> {
        let sql = "SELECT trust, at, mail FROM seen WHERE team = ?1 AND fingerprint = ?2";
        Ok(one(&self.db, sql, [team, name], |row| {
            let trust = trust(row, 0)?.unwrap_or(Trust::Stranger);
            Ok(Seen { mail: mail_id(row, 2)?, trust, at: time(row, 1)? })
        })?)
    }

    fn forget_seen(&mut self, prefix: &str, before: Timestamp) -> Done<()> {
        let sql = "DELETE FROM seen WHERE at < ?2 AND substr(fingerprint, 1, length(?1)) = ?1";
        run(&self.db, sql, params![prefix, before.as_millisecond()])?;
        Ok(())
    }

    fn memo(&self, kind: &str, name: &str) -> Done<Option<String>> {
        let sql = "SELECT value FROM memo WHERE kind = ?1 AND name = ?2";
        Ok(one(&self.db, sql, [kind, name], |row| row.get(0))?)
    }

    fn remember(&mut self, Memo { kind, name, value }: &Memo) -> Done<()> {
        match value {
            Some(value) => run(
                &self.db,
                "INSERT OR REPLACE INTO memo (kind, name, value) VALUES (?1, ?2, ?3)",
                params![kind, name, value.to_string()],
            )?,
            None => run(&self.db, "DELETE FROM memo WHERE kind = ?1 AND name = ?2", params![kind, name])?,
        };
        Ok(())
    }

    fn reserve(&mut self, reservation: &Reservation, kept_since: Timestamp) -> Done<()> {
        let Reservation { account, at, spent, open } = reservation;
        let values = params![account, at.as_millisecond(), key(*spent), key(*open)];
        // The notes of a second are one row, so that a day of them is read soon at the start. What is of a later time is set
        // back, or each start would take it for just posted until that time has come.
        let set_back = "UPDATE reservation SET made_at = ?2 WHERE account = ?1 AND made_at > ?2";
        if run(&self.db, ADD, values)? > 0
            || run(&self.db, set_back, params![account, at.as_millisecond()])? > 0
                && run(&self.db, ADD, values)? > 0
        {
            return Ok(());
        }
        let insert = "INSERT INTO reservation (account, made_at, spent, open) VALUES (?1, ?2, ?3, ?4)";
        run(&self.db, insert, values)?;
        run(&self.db, FORGET, params![account, kept_since.as_millisecond()])?;
        Ok(())
    }
}

/// What is known of `account`, in the order in which it was noted.
pub(super) fn reservations(db: &Connection, account: &str) -> rusqlite::Result<Vec<Reservation>> {
    let sql = "SELECT made_at, spent, open FROM reservation WHERE account = ?1 ORDER BY number";
    all(db, sql, [account], |row| {
        Ok(Reservation {
            account: account.to_owned(),
            at: time(row, 0)?,
            spent: number(row, 1)?,
            open: number(row, 2)?,
        })
    })
}

#[cfg(test)]
mod tests {

    use rusqlite::StatementStatus;
    use strum::VariantArray;

    use super::*;
    use crate::event::{Severity, Status};
    use crate::spool::Config;
    use crate::spool::sqlite::open;

    #[test]
    fn a_note_of_a_busy_day_costs_no_more_than_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (mut engine, _store) = open(&Config::at(folder.path())).unwrap();
        let note = |engine: &mut Sqlite, second: i64| {
            let at = Timestamp::from_second(second).unwrap();
            let reservation = Reservation { account: "a".to_owned(), at, spent: 1, open: 0 };
            engine.reserve(&reservation, Timestamp::UNIX_EPOCH).unwrap();
        };
        engine.db.execute_batch("BEGIN").unwrap();
        (0..20_000).for_each(|second| note(&mut engine, second));
        engine.db.execute_batch("COMMIT").unwrap();
        let steps = |engine: &Sqlite, sql| {
            engine.db.prepare_cached(sql).unwrap().reset_status(StatementStatus::VmStep)
        };
        for sql in [ADD, FORGET] {
            steps(&engine, sql);
        }
        (20_000..20_010).for_each(|second| note(&mut engine, second));
        for sql in [ADD, FORGET] {
            assert!(steps(&engine, sql) < 1_000, "{sql}");
        }
        assert_eq!(reservations(&engine.db, "a").unwrap().iter().map(|note| note.spent).sum::<u64>(), 20_010);
    }

    #[test]
    fn the_database_ranks_events_as_delivery_does() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, _store) = open(&Config::at(folder.path())).unwrap();
        let severities = Severity::VARIANTS.iter().map(|&severity| Some(severity)).chain([None]);
        let all =
            severities.flat_map(|severity| Status::VARIANTS.iter().map(move |&status| (status, severity)));
        let all =
            all.flat_map(|(status, severity)| [false, true].map(|stranger| (status, severity, stranger)));
        for (seq, (status, severity, stranger)) in all.enumerate() {
            let word = severity.map(|severity| severity.to_string());
            let insert = "INSERT INTO event (seq, mail, state, attempts, queued_at, next_at, title, severity, status, \
                          stranger) VALUES (?1, 1, 'queued', 0, 0, 0, '', ?2, ?3, ?4)";
            engine.db.execute(insert, params![seq as i64, word, status.to_string(), stranger]).unwrap();
            let select = "SELECT rank FROM event WHERE seq = ?1";
            let found: u8 = engine.db.query_row(select, [seq as i64], |row| row.get(0)).unwrap();
            assert_eq!(found, crate::spool::rank(status, severity, stranger), "{status:?} {severity:?}");
        }
    }
}
