//! What becomes of a spool that has other tables: nothing. It is refused with what to do.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use smtp2signl4::spool::{Config, OpenError, Reader, Spool};

use crate::support::Enqueue;
use crate::{clock, mail, open};

/// A spool whose schema was changed by `sql`.
async fn changed(folder: &Path, sql: &str) -> Vec<u8> {
    let spool = open(folder);
    spool.enqueue(mail(1, "soc")).await.unwrap();
    spool.close().await;
    let db = Connection::open(folder.join("spool.db")).unwrap();
    db.execute_batch(sql).unwrap();
    drop(db);
    fs::read(folder.join("spool.db")).unwrap()
}

#[tokio::test]
async fn a_spool_of_another_schema_is_refused_with_what_to_do_and_is_not_changed() {
    for sql in [
        "PRAGMA user_version = 7",
        // The programs before the first release gave their numbers from 1 on as well.
        "ALTER TABLE event DROP COLUMN note",
        "CREATE TABLE more (a)",
        "DROP INDEX event_untold",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let before = changed(folder.path(), sql).await;
        let error = Spool::open(&Config::at(folder.path()), clock()).err().expect("it is refused");
        assert!(matches!(error, OpenError::OtherSchema { .. }), "{sql}: {error}");
        let told = error.to_string();
        for what in ["another version of smtp2signl4", "nothing was changed", "queue list", "move the folder"]
        {
            assert!(told.contains(what), "{told}");
        }
        assert!(told.contains(&folder.path().display().to_string()), "{told}");
        let asked = Reader::open(folder.path()).err().expect("nor is it read");
        assert!(matches!(asked, OpenError::OtherSchema { .. }), "{sql}: {asked}");
        assert_eq!(fs::read(folder.path().join("spool.db")).unwrap(), before, "{sql}");
    }
}

#[tokio::test]
async fn a_spool_of_this_schema_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    changed(folder.path(), "SELECT 1").await;
    assert_eq!(open(folder.path()).reader().waiting("soc", 0, 10).await.unwrap().len(), 1);
}
