//! The tables, and how an older database becomes today's.

use rusqlite::Connection;

use super::reserve;

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
const STEPS: &[&[&str]] = &[&[MAILS], &[INCIDENTS, OPEN_INCIDENTS], &[MEMOS], &[FILES], &[reserve::SCHEMA]];

/// Version 1: mails and their events.
const MAILS: &str = "
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
";

/// Version 2: incidents, and events that are kept and not sent. A state that an event may have is a
/// constraint of its table, so the table is made anew. An incident knows those of its events that matter, and
/// what SIGNL4 calls them, so that neither taking a mail nor delivering it writes to a further index.
const INCIDENTS: &str = "
    CREATE TABLE event_2 (
        seq INTEGER PRIMARY KEY,
        mail INTEGER NOT NULL,
        team TEXT,
        state TEXT NOT NULL CHECK (state IN
            ('queued', 'failed', 'delivered', 'dropped', 'counted', 'muted', 'folded')),
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
        payload TEXT,
        storm INTEGER
    ) STRICT;
    INSERT INTO event_2 SELECT *, NULL FROM event;
    DROP TABLE event;
    ALTER TABLE event_2 RENAME TO event;
    CREATE INDEX event_queued ON event (team, seq) WHERE state = 'queued';
    CREATE INDEX event_failed ON event (team, seq) WHERE state = 'failed';
    CREATE INDEX event_dropped ON event (team, seq) WHERE state = 'dropped';
    CREATE INDEX event_kept ON event (state, seq) WHERE state IN ('counted', 'muted', 'folded');
    CREATE INDEX event_folded ON event (storm, seq) WHERE storm IS NOT NULL;
    CREATE TABLE incident (
        team TEXT NOT NULL,
        external_id TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved')),
        severity TEXT,
        paged_severity TEXT,
        opened_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        paged_at INTEGER,
        mails INTEGER NOT NULL,
        unpaged INTEGER NOT NULL,
        posted INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        page_seq INTEGER,
        held_seq INTEGER,
        close_seq INTEGER,
        storm INTEGER,
        event_ids TEXT NOT NULL,
        PRIMARY KEY (team, external_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE storm (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        team TEXT NOT NULL,
        source TEXT,
        state TEXT NOT NULL CHECK (state IN ('raging', 'over', 'closed')),
        began_at INTEGER NOT NULL,
        excess_at INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        folded INTEGER NOT NULL,
        open INTEGER NOT NULL,
        keyless INTEGER NOT NULL,
        told INTEGER NOT NULL,
        told_at INTEGER
    ) STRICT;
";

/// The incidents that the events of version 1 tell of and that are open, so that their next mails are repeats. That
/// version posted every event, so the last open is the last page. Of what it closed nothing need be known; nor of
/// what lies behind the last 100,000 events, so that no start takes long.
const OPEN_INCIDENTS: &str = "
    INSERT INTO incident
    WITH known AS (
        SELECT seq, team, external_id, state, status, queued_at, event_id,
            max(iif(status = 'resolved', seq, 0)) OVER (PARTITION BY team, external_id) AS closed_by,
            CASE severity WHEN 'critical' THEN 5 WHEN 'high' THEN 4 WHEN 'medium' THEN 3 WHEN 'low' THEN 1
            WHEN 'info' THEN 0 ELSE 2 END AS worth
        FROM event WHERE team IS NOT NULL AND external_id IS NOT NULL AND state != 'dropped'
        AND seq > coalesce((SELECT seq FROM event ORDER BY seq DESC LIMIT 1 OFFSET 100000), 0)
    ), life AS (
        SELECT team, external_id, count(*) AS mails, min(queued_at) AS opened_at, max(queued_at) AS last_at,
            min(seq) AS first, max(seq) AS last, max(iif(status = 'new', seq, NULL)) AS page,
            max(iif(status = 'acknowledged', seq, 0)) AS acknowledged, max(iif(status = 'new', worth, -1)) AS worst,
            max(iif(status = 'new' AND state != 'failed', worth, -1)) AS worst_paged,
            group_concat(iif(status = 'new', event_id || ' ', NULL), '' ORDER BY seq) AS ids
        FROM known WHERE seq > closed_by GROUP BY team, external_id
    ), word (worth, word) AS (
        VALUES (5, 'critical'), (4, 'high'), (3, 'medium'), (1, 'low'), (0, 'info')
    )
    SELECT life.team, life.external_id, iif(acknowledged > page, 'acknowledged', 'open'),
        (SELECT word FROM word WHERE worth = worst),
        iif(event.state = 'failed', NULL, (SELECT word FROM word WHERE worth = worst_paged)), opened_at, last_at,
        iif(event.state = 'failed', NULL, coalesce(event.settled_at, event.queued_at)), mails, 0, 1, first, last, page,
        NULL, NULL, NULL, coalesce(iif(length(ids) < 4096, ids,
            substr(ids, length(ids) - 2048 + instr(substr(ids, -2048), ' ') + 1)), '')
    FROM life JOIN event ON event.seq = page;
";

/// Memos: what must outlive a restart and the spool does not look into.
const MEMOS: &str = "
    CREATE TABLE memo (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
";

/// Version 4: the files that go along with an event, as JSON; their content is the mail's.
const FILES: &str = "ALTER TABLE event ADD COLUMN attachments TEXT";

/// Brings the schema from version `from` to [`VERSION`] in one transaction.
pub fn migrate(db: &Connection, from: i64) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or(0)).copied().flatten() {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_older_schema_becomes_todays_and_keeps_what_is_in_it() {
        for from in 1..VERSION {
            let old = Connection::open_in_memory().unwrap();
            for step in STEPS[..from as usize].iter().copied().flatten() {
                old.execute_batch(step).unwrap();
            }
            old.execute_batch(
                "INSERT INTO mail VALUES (1, 0, 1024, 2048, 0, '{}', '{}');
                 INSERT INTO event (seq, mail, team, state, attempts, queued_at, next_at, severity, title)
                 VALUES (1024, 1, 'soc', 'queued', 0, 0, 0, 'critical', 'disk full')",
            )
            .unwrap();
            migrate(&old, from).unwrap();
            let new = Connection::open_in_memory().unwrap();
            migrate(&new, 0).unwrap();
            let schema = |db: &Connection| -> Vec<String> {
                let sql = "SELECT type || ' ' || name || ' ' || tbl_name FROM sqlite_schema ORDER BY 1";
                db.prepare(sql)
                    .unwrap()
                    .query_map([], |row| row.get(0))
                    .unwrap()
                    .map(Result::unwrap)
                    .collect()
            };
            assert_eq!(schema(&old), schema(&new), "from {from}");
            let title: String = old.query_row("SELECT title FROM event", [], |row| row.get(0)).unwrap();
            assert_eq!(title, "disk full");
        }
    }
}
