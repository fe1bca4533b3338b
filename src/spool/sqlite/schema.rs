//! The tables, and how an older database becomes today's.

use rusqlite::Connection;

/// "S4SP": marks the file as a spool of this program (`PRAGMA application_id`).
pub const APPLICATION: i64 = 0x5334_5350;

/// The schema version that this program writes (`PRAGMA user_version`).
pub const VERSION: i64 = STEPS.len() as i64;

/// How many numbers a mail has for its events, those that it may get when it is judged again included:
/// its block is this or a multiple, so that they keep its place in the order of acceptance.
pub const BLOCK: i64 = 1024;

/// `STEPS[n]` makes version n + 1 of version n; version 0 is an empty file.
///
/// Times are milliseconds since 1970. The events of a mail are those with `first_seq <= seq < end_seq`:
/// no index is needed to find them. A mail that a rule dropped has an event without team and payload, so
/// that every mail is in every listing. The content has its own table, so that lists do not read past it.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE mail (
        id INTEGER PRIMARY KEY,
        received_at INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        end_seq INTEGER NOT NULL,
        size INTEGER NOT NULL,
        envelope TEXT NOT NULL,
        story TEXT NOT NULL
    ) STRICT;
    CREATE TABLE content (
        mail INTEGER PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE large (
        mail INTEGER PRIMARY KEY,
        size INTEGER NOT NULL,
        file TEXT NOT NULL
    ) STRICT;
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        mail INTEGER NOT NULL,
        team TEXT,
        state TEXT NOT NULL CHECK (state IN ('queued', 'failed', 'delivered', 'dropped')),
        attempts INTEGER NOT NULL,
        queued_at INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        settled_at INTEGER,
        reason TEXT,
        event_id TEXT,
        external_id TEXT,
        severity TEXT,
        status TEXT,
        title TEXT NOT NULL,
        payload TEXT
    ) STRICT;
    CREATE INDEX event_queued ON event (team, seq) WHERE state = 'queued';
    CREATE INDEX event_failed ON event (team, seq) WHERE state = 'failed';
    CREATE INDEX event_dropped ON event (team, seq) WHERE state = 'dropped';
",
    // The files that go along with an event, as JSON; the content is the mail's.
    "ALTER TABLE event ADD COLUMN attachments TEXT",
];

/// Brings the schema from version `from` to [`VERSION`] in one transaction.
pub fn migrate(db: &Connection, from: i64) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
