//! What SQLite's own doings mean for the spool, and by which indexes it answers.

use super::*;
use crate::mail::MailId;
use crate::spool::change::{Change, Content, Judged, PutRequest};
use crate::spool::engine::Store as _;
use crate::spool::keeper::Keeper;
use crate::spool::writer::Committer as _;

#[test]
fn only_a_flush_that_failed_ends_the_spool() {
    let of = |code| Failure::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
    assert!(matches!(of(ffi::SQLITE_IOERR_FSYNC), Failure::Lost(_)));
    assert!(matches!(of(ffi::SQLITE_IOERR_DIR_FSYNC), Failure::Lost(_)));
    assert!(matches!(of(ffi::SQLITE_FULL), Failure::Full));
    assert!(matches!(of(ffi::SQLITE_IOERR_WRITE), Failure::Io(_)));
    assert!(matches!(of(ffi::SQLITE_BUSY), Failure::Io(_)));
}

#[test]
fn a_batch_that_the_database_has_no_space_for_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::at(folder.path());
    let (engine, store) = open(&config).unwrap();
    let pages: i64 = engine.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    engine.db.pragma_update_and_check(None, "max_page_count", pages + 20, |_| Ok(())).unwrap();
    let store = Arc::new(store);
    let mut keeper = Keeper::open(Box::new(engine), store.clone(), &config, Arc::default()).unwrap();
    let put = |n: u64, size: usize| {
        let id = MailId::from_number(n).unwrap();
        let now = jiff::Timestamp::UNIX_EPOCH;
        Change::Put(Box::new(PutRequest {
            id,
            received_at: now,
            envelope: String::new(),
            content: Content::None,
            pack: vec![0; size],
            taken_at: now,
            stranger: false,
            judged: Judged::new(id, &serde_json::Value::Null, vec![], None, now),
            memos: Vec::new(),
            fingerprint: None,
            notice: false,
            told: None,
        }))
    };
    let batch = [put(1, 100), put(2, 200 << 10), put(3, 100)];
    assert_eq!(keeper.apply(&batch).err(), Some(Failure::Full));
    let first = MailId::from_number(1).unwrap();
    assert_eq!(store.count_mails(first), Ok(0));
    assert!(keeper.apply(&batch[..1]).unwrap()[0].is_ok());
    assert_eq!(keeper.apply(&batch[1..2]).err(), Some(Failure::Full));
    assert!(keeper.apply(&batch[2..]).unwrap()[0].is_ok());
    assert_eq!(store.count_mails(first), Ok(2));
}

#[test]
fn an_incident_is_found_by_an_index_for_a_mail_and_when_its_open_was_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _store) = open(&Config::at(folder.path())).unwrap();
    for (sql, parameters, found) in [
        (incidents::OF_KEY, 4, "SEARCH incident USING INDEX incident_key (team=? AND key=? AND stranger=?)"),
        (incidents::POSTED_AS, 3, "SEARCH incident USING INDEX incident_posted (team=? AND external_id=?)"),
        (incidents::OF_BASE, 3, "SEARCH incident USING INDEX incident_base (team=? AND base=?)"),
        (incidents::OF_ID, 1, "SEARCH incident USING INTEGER PRIMARY KEY (rowid=?)"),
    ] {
        let plan: Vec<String> = engine
            .db
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap()
            .query_map(rusqlite::params_from_iter(vec!["1"; parameters]), |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(plan[0].starts_with(found), "{plan:?}");
        assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{plan:?}");
    }
}

#[test]
fn the_queue_is_read_by_its_index_without_sorting() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _store) = open(&Config::at(folder.path())).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {}", store::waiting());
    let plan: Vec<String> = engine
        .db
        .prepare(&sql)
        .unwrap()
        .query_map(rusqlite::params!["soc", 0, 10], |row| row.get(3))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let found =
        ["SEARCH event USING INDEX event_queued (team=? AND seq>?)", "SEARCH pack USING INTEGER PRIMARY KEY"];
    assert!(plan[0] == found[0] && plan[2].starts_with(found[1]) && plan.len() == 3, "{plan:?}");
}

#[test]
fn a_question_is_planned_once_whatever_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _store) = open(&Config::at(folder.path())).unwrap();
    for n in 0..10 {
        let mut question = engine.db.prepare_cached(incidents::OF_KEY).unwrap();
        let mut rows =
            question.query(rusqlite::params!["soc", format!("incident {n}"), n % 2 == 0, 256]).unwrap();
        assert!(rows.next().unwrap().is_none());
    }
    let question = engine.db.prepare_cached(incidents::OF_KEY).unwrap();
    assert_eq!(question.get_status(rusqlite::StatementStatus::RePrepare), 0);
}
