//! What a spool of the first version, which knew of no incidents, becomes: nobody is paged again for what was paged.

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use smtp2signl4::clock::Manual;
use smtp2signl4::event::{Event, Severity, Status};
use smtp2signl4::incident::State as Incident;
use smtp2signl4::spool::{Config, Entry, Spool, State};

use crate::{id, mail};

/// When the first version wrote its last event.
fn end() -> Timestamp {
    Timestamp::from_millisecond(1_795_311_779_197).unwrap()
}

/// A spool of the first version.
fn first_version(folder: &Path) -> Connection {
    let db = Connection::open(folder.join("spool.db")).unwrap();
    db.execute_batch(include_str!("version-1.sql")).unwrap();
    db
}

/// An event of it, with the number that `n` stands for: delivered at once, but for the last of its events.
fn insert(db: &Connection, n: i64, incident: &str, status: &str, severity: Option<&str>, state: &str) {
    let at = end().as_millisecond();
    let delivered = state == "delivered";
    db.execute(
        "INSERT INTO event VALUES (?1, 1, 'default', ?2, 0, ?3, ?3, ?4, NULL, ?5, ?6, ?7, ?8, '', '{}')",
        params![
            n * 1024,
            state,
            at,
            delivered.then_some(at),
            delivered.then(|| format!("2518_{n}")),
            incident,
            severity,
            status
        ],
    )
    .unwrap();
}

/// Opens it with today's version, so long after its last event.
fn upgrade(folder: &Path, minutes: i64) -> Spool {
    let clock = Arc::new(Manual::new(end() + SignedDuration::from_mins(minutes)));
    Spool::open(&Config::at(folder), clock).unwrap()
}

/// Puts the mail `n` about an incident and tells where its event stands.
async fn put(spool: &Spool, n: u32, incident: &str, severity: Option<Severity>) -> State {
    let event = Event {
        team: "default".into(),
        external_id: Some(incident.into()),
        severity,
        status: Status::New,
        ..Event::default()
    };
    spool.put(Entry { events: vec![event], ..mail(n, "default") }).await.unwrap();
    spool.reader().show(id(n)).await.unwrap().unwrap().events[0].listed.state
}

#[tokio::test]
async fn a_repeat_of_what_the_first_version_paged_is_counted_and_what_it_failed_to_page_pages() {
    let folder = tempfile::tempdir().unwrap();
    drop(first_version(folder.path()));
    let spool = upgrade(folder.path(), 3);
    assert_eq!(put(&spool, 1, "subject:d71e6a0c5f0f05e3", None).await, State::Counted);
    assert_eq!(put(&spool, 2, "backup-7", None).await, State::Queued, "it was refused");
    assert_eq!(put(&spool, 3, "INC-4711", None).await, State::Queued, "it was closed");
    let found = spool.reader().incident("default", "subject:d71e6a0c5f0f05e3").await.unwrap().unwrap();
    assert_eq!(
        (found.incident.mails, found.incident.unpaged, found.event_ids),
        (2, 1, vec!["2518_a".into()])
    );
    spool.close().await;
    let later = tempfile::tempdir().unwrap();
    drop(first_version(later.path()));
    let spool = upgrade(later.path(), 11);
    assert_eq!(
        put(&spool, 1, "subject:d71e6a0c5f0f05e3", None).await,
        State::Queued,
        "the quiet time is over"
    );
}

#[tokio::test]
async fn the_upgrade_knows_how_an_incident_stands_since_it_opened_last() {
    let folder = tempfile::tempdir().unwrap();
    let db = first_version(folder.path());
    for (n, (incident, status, severity, state)) in (6..).zip([
        ("a", "new", Some("critical"), "delivered"),
        ("a", "resolved", None, "delivered"),
        ("a", "new", Some("low"), "delivered"),
        ("a", "new", Some("high"), "delivered"),
        ("a", "new", None, "queued"),
        ("b", "new", None, "delivered"),
        ("b", "acknowledged", None, "delivered"),
        ("c", "new", Some("high"), "failed"),
        ("d", "new", None, "dropped"),
    ]) {
        insert(&db, n, incident, status, severity, state);
    }
    drop(db);
    let spool = upgrade(folder.path(), 1);
    let found = async |incident| spool.reader().incident("default", incident).await.unwrap();
    let a = found("a").await.unwrap();
    assert_eq!((a.incident.state, a.incident.mails, a.incident.posted), (Incident::Open, 3, true));
    assert_eq!(
        (a.incident.severity, a.incident.paged_severity),
        (Some(Severity::High), Some(Severity::High))
    );
    assert_eq!((a.incident.paged_at, a.event_ids), (Some(end()), vec!["2518_8".into(), "2518_9".into()]));
    assert_eq!(found("b").await.unwrap().incident.state, Incident::Acknowledged);
    let c = found("c").await.unwrap().incident;
    assert_eq!((c.severity, c.paged_severity, c.paged_at), (Some(Severity::High), None, None));
    assert_eq!(found("d").await, None, "an operator had dropped it");
    assert_eq!(put(&spool, 1, "a", Some(Severity::High)).await, State::Counted);
    assert_eq!(put(&spool, 2, "a", Some(Severity::Critical)).await, State::Queued, "it is worse");
    assert_eq!(put(&spool, 3, "b", None).await, State::Counted);
    assert_eq!(put(&spool, 4, "c", None).await, State::Queued);
    assert_eq!(put(&spool, 5, "d", None).await, State::Queued);
}
