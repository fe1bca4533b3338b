//! The tables: one schema, version 1. A database of another one is refused, never changed.

use rusqlite::Connection;

/// "S4SP": marks the file as a spool of this program (`PRAGMA application_id`).
pub const APPLICATION: i64 = 0x5334_5350;

/// The schema version that this program reads and writes (`PRAGMA user_version`).
pub const VERSION: i64 = 1;

/// All tables and indexes. Times are milliseconds since 1970.
///
/// - `event`: the events of a mail are those with `first_seq <= seq < end_seq`: no index is needed to find them. A
///   mail that a rule dropped has an event without team and payload, so that every mail is in every listing. Its `rank`
///   is how urgent it is, [`crate::spool::rank`] in SQL; `event_urgent` is the queue in the order of delivery,
///   `event_lane` gives the most urgent event of an incident. `note` is what the law of incidents remarked on an event
///   that is sent. `source` is set where it counts for the storm of a source. Its `payload` is the part `part` of the pack, unless it was made otherwise later.
/// - `pack`: the content and the payloads of a mail ([`crate::spool::pack`]), apart from the rows that change: noting
///   a delivery writes a few hundred bytes, and lists do not read past it.
/// - `mail`: `stranger` is what it takes of the share of strangers, if all its events are of strangers; `file` the name of
///   its content, if that is a large one and so a file of its own.
/// - `incident`: its id is the number of the event that made the row, so that none is given twice. `key` is what its
///   events share, `external_id` what SIGNL4 was told in its present life. It knows those of its events that matter,
///   and what SIGNL4 calls them, so that delivering an event writes to no further index.
/// - `seen`: the mails and the signatures that are not to count twice.
/// - `memo`: what must outlive a restart and the spool does not look into.
///
/// What is checked at each write is written with OR: for an IN of more than two words SQLite makes a table each time.
const SCHEMA: &str = "
    CREATE TABLE mail (
        id INTEGER PRIMARY KEY,
        received_at INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        end_seq INTEGER NOT NULL,
        size INTEGER NOT NULL,
        envelope TEXT NOT NULL,
        story TEXT NOT NULL,
        stranger INTEGER,
        file TEXT
    ) STRICT;
    CREATE INDEX mail_stranger ON mail (id, stranger) WHERE stranger IS NOT NULL;
    CREATE INDEX mail_file ON mail (size) WHERE file IS NOT NULL;
    CREATE TABLE pack (
        mail INTEGER PRIMARY KEY,
        data BLOB NOT NULL
    ) STRICT;
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        mail INTEGER NOT NULL,
        team TEXT,
        state TEXT NOT NULL CHECK (state = 'queued' OR state = 'failed' OR
            state = 'delivered' OR state = 'dropped' OR state = 'counted' OR state = 'muted' OR state = 'folded'),
        attempts INTEGER NOT NULL,
        unanswered INTEGER NOT NULL DEFAULT 0,
        queued_at INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        settled_at INTEGER,
        reason TEXT,
        note TEXT,
        event_id TEXT,
        incident INTEGER,
        external_id TEXT,
        severity TEXT,
        status TEXT,
        stranger INTEGER NOT NULL DEFAULT 0,
        title TEXT NOT NULL,
        part INTEGER,
        payload TEXT,
        attachments TEXT,
        storm INTEGER,
        source TEXT,
        rank INTEGER AS (CASE
            WHEN stranger THEN 6 WHEN status IN ('acknowledged', 'resolved') THEN 5
            WHEN severity = 'critical' THEN 0 WHEN severity = 'high' THEN 1
            WHEN severity = 'low' THEN 3 WHEN severity = 'info' THEN 4 ELSE 2 END) VIRTUAL
    ) STRICT;
    CREATE INDEX event_queued ON event (team, seq) WHERE state = 'queued';
    CREATE INDEX event_urgent ON event (team, rank, seq) WHERE state = 'queued';
    CREATE INDEX event_lane ON event (team, incident, rank, seq) WHERE state = 'queued';
    CREATE INDEX event_failed ON event (team, seq) WHERE state = 'failed';
    CREATE INDEX event_dropped ON event (team, seq) WHERE state = 'dropped';
    CREATE INDEX event_kept ON event (state, seq) WHERE (state = 'counted' OR state = 'muted' OR state = 'folded');
    CREATE INDEX event_untold ON event (incident, seq) WHERE (state = 'counted' OR state = 'muted' OR state = 'folded');
    CREATE INDEX event_folded ON event (storm, seq) WHERE storm IS NOT NULL;
    CREATE INDEX event_unanswered ON event (team, seq) WHERE unanswered > 0;
    CREATE TABLE incident (
        id INTEGER PRIMARY KEY,
        team TEXT NOT NULL,
        key TEXT NOT NULL,
        external_id TEXT NOT NULL,
        stranger INTEGER NOT NULL,
        key_source TEXT NOT NULL,
        family TEXT,
        form TEXT,
        instance TEXT NOT NULL,
        domain TEXT NOT NULL,
        base TEXT,
        mark TEXT,
        trust TEXT,
        sent_at INTEGER,
        state TEXT NOT NULL CHECK (state = 'open' OR state = 'acknowledged' OR state = 'resolved'),
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
        elsewhere TEXT
    ) STRICT;
    CREATE INDEX incident_key ON incident (team, key, stranger);
    CREATE INDEX incident_posted ON incident (team, external_id);
    CREATE INDEX incident_base ON incident (team, base) WHERE base IS NOT NULL AND state != 'resolved';
    CREATE INDEX incident_texts ON incident (team, base, paged_at) WHERE base IS NOT NULL AND page_seq IS NOT NULL;
    CREATE TABLE storm (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        team TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind = 'pages' OR kind = 'texts'),
        stranger INTEGER NOT NULL,
        source TEXT,
        state TEXT NOT NULL CHECK (state = 'raging' OR state = 'over' OR state = 'closed'),
        began_at INTEGER NOT NULL,
        excess_at INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        severity TEXT,
        told_severity TEXT,
        folded INTEGER NOT NULL,
        open INTEGER NOT NULL,
        keyless INTEGER NOT NULL,
        told INTEGER NOT NULL,
        told_at INTEGER,
        digests INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE seen (
        team TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        trust TEXT NOT NULL,
        at INTEGER NOT NULL,
        mail INTEGER NOT NULL,
        PRIMARY KEY (team, fingerprint)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_at ON seen (at);
    CREATE TABLE memo (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE reservation (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        spent INTEGER NOT NULL,
        open INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX reservation_account ON reservation (account, made_at);
";

/// Makes the tables in an empty database, in one transaction.
pub fn make(db: &Connection) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Whether the tables and indexes are exactly those that [`make`] makes: a version number alone does not tell, as
/// programs before the first release have used it for other tables.
pub fn is_ours(db: &Connection) -> rusqlite::Result<bool> {
    let text = |db: &Connection| -> rusqlite::Result<Vec<(String, Option<String>)>> {
        db.prepare(
            "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
    };
    let new = Connection::open_in_memory()?;
    new.execute_batch(SCHEMA)?;
    Ok(text(db)? == text(&new)?)
}
