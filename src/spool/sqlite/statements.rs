//! How many statements a mail takes, and that they take no more than they need.

use std::sync::{Arc, Mutex};

use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::*;
use crate::event::{Event, Guess, Identity, KeySource, Status};
use crate::mail::{Envelope, MailId, Trust};
use crate::spool::change::{Change, PutRequest};
use crate::spool::entry::{Entry, Outcome};
use crate::spool::keeper::Keeper;
use crate::spool::writer::Committer as _;

fn entry(n: u64, event: Event) -> Entry {
    let content =
        format!("Message-ID: <{n}@hive.example>\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\n{n}\r\n");
    Entry {
        id: MailId::from_number(n).unwrap(),
        envelope: Envelope::default(),
        content: Some(content.into()),
        story: serde_json::Value::Null,
        events: vec![event],
        dropped: None,
    }
}

/// An event of TheHive's alert `n`.
fn shipped(n: u64, status: Status) -> Event {
    let identity = Identity {
        key_source: KeySource::Shipped,
        family: Some("TheHive".into()),
        instance: "hive@hive.example".into(),
        ..Identity::default()
    };
    Event { team: "soc".into(), status, external_id: Some(format!("~{n}")), identity, ..Event::default() }
}

/// A text that no rule knows.
fn unknown(n: u64, trust: Trust) -> Event {
    let guess = Some(Guess { base: format!("base{n}"), mark: None });
    let identity = Identity { trust, key_source: KeySource::Guess, guess, ..Identity::default() };
    Event { team: "soc".into(), external_id: Some(format!("base{n}#{n}")), identity, ..Event::default() }
}

#[test]
fn a_mail_and_its_delivery_take_no_statement_that_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::at(folder.path());
    let (mut engine, store) = open(&config).unwrap();
    let statements: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&statements);
    let note = move |event: TraceEvent<'_>| {
        if let TraceEvent::Stmt(_, sql) = event {
            noted.lock().unwrap().push(sql.to_owned());
        }
    };
    engine.db.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note)).unwrap();
    let mut keeper = Keeper::open(Box::new(engine), Arc::new(store), &config, Arc::default()).unwrap();
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let put = |n, event| {
        let mut request = PutRequest::new(entry(n, event), now);
        request.pack();
        Change::Put(Box::new(request))
    };
    let delivered = |seq| {
        Change::Record(vec![Outcome::Delivered { seq, event_id: Some("x".into()), at: now, by_way: None }])
    };
    // Those of a batch are among them: BEGIN and COMMIT, and two that measure the room if there is a mail.
    for (what, change, most) in [
        ("an open of a known sender", put(1, shipped(1, Status::New)), 10),
        ("its delivery", delivered(1024), 5),
        ("a repeat", put(2, shipped(1, Status::New)), 11),
        ("its close", put(3, shipped(1, Status::Resolved)), 12),
        ("the delivery of that", delivered(3 * 1024), 3),
        ("an unknown text of a proven sender", put(4, unknown(4, Trust::Proven)), 11),
        ("an unknown text of a stranger", put(5, unknown(5, Trust::Stranger)), 11),
    ] {
        statements.lock().unwrap().clear();
        keeper.apply(std::slice::from_ref(&change)).unwrap()[0].as_ref().unwrap();
        let statements = statements.lock().unwrap();
        assert!(statements.len() <= most, "{what}: {} {statements:#?}", statements.len());
        for sql in statements.iter().filter(|sql| !sql.starts_with("PRAGMA")) {
            // RETURNING takes one.
            let most = usize::from(sql.contains("RETURNING"));
            assert!(temporary_tables(sql) <= most, "{what}: a table is made at each {sql}");
        }
    }
}

/// How many tables of its own a statement makes each time: each costs more than the statement. An `IN` of three words in
/// a CHECK or the condition of an index is one.
fn temporary_tables(sql: &str) -> usize {
    let db = Connection::open_in_memory().unwrap();
    rows::make_ready(&db).unwrap();
    schema::make(&db).unwrap();
    let mut steps = db.prepare(&format!("EXPLAIN {sql}")).unwrap();
    let mut rows = steps.raw_query();
    let mut tables = 0;
    while let Some(row) = rows.next().unwrap() {
        let step: String = row.get(1).unwrap();
        tables += usize::from(["OpenEphemeral", "OpenAutoindex"].contains(&step.as_str()));
    }
    tables
}
