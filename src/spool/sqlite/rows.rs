//! What the columns of a row mean. What can be read is: one damaged value hides no row, and holds up no queue.

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::event::Attachment;
use crate::mail::{Envelope, MailId, Trust};
use crate::spool::entry::{Listed, Queued, State};
use crate::spool::pack;
use crate::words::Words;

/// A mail id or sequence number as SQLite keeps it.
pub(super) fn key(number: u64) -> i64 {
    number.cast_signed()
}

/// Runs a statement: how many rows it has changed.
pub(super) fn run(db: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(values)
}

/// The row that a statement finds or returns, if there is one.
pub(super) fn one<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(sql)?.query_row(values, read).optional()
}

/// All rows that a statement finds.
pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map(values, read)?.collect()
}

/// The payload of an event: its own, or a part of its mail's pack.
macro_rules! payload {
    () => {
        "coalesce(event.payload, (SELECT part(data, event.part) FROM pack WHERE pack.mail = event.mail))"
    };
}
pub(super) use payload;

/// The columns that [`queued`] reads.
pub(super) const QUEUED: &str = concat!(
    "seq, mail, team, external_id, severity, queued_at, attempts, next_at, reason, ",
    payload!(),
    ", status, attachments, unanswered, incident, stranger"
);

/// Makes a connection ready for questions: `part(data, place)` is a part of a pack, or NULL.
pub(super) fn make_ready(db: &Connection) -> rusqlite::Result<()> {
    // A plan that hangs on the values that are bound is made anew for each of them: a third of the writer's time.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_scalar_function("part", 2, flags, |context| {
        let place = context.get::<Option<i64>>(1)?.and_then(|place| usize::try_from(place).ok());
        let data = context.get_raw(0).as_blob_or_null()?;
        Ok(data.zip(place).and_then(|(data, place)| pack::part(data, place)))
    })
}

/// Reads what can be read: one damaged value must not hold up the queue behind it.
pub(super) fn queued(row: &Row<'_>) -> rusqlite::Result<Queued> {
    Ok(Queued {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        mail: mail_id(row, 1)?,
        team: row.get(2)?,
        external_id: text(row, 3)?,
        severity: word(row, 4)?,
        status: word(row, 10)?.unwrap_or_default(),
        accepted_at: time(row, 5)?,
        attempts: row.get(6)?,
        next_at: time(row, 7)?,
        reason: text(row, 8)?,
        payload: text(row, 9)?.unwrap_or_default().into(),
        attachments: attachments(row, 11)?,
        unanswered: row.get(12)?,
        incident: maybe(row, 13)?,
        stranger: row.get(14)?,
    })
}

/// The columns that [`listed`] reads.
pub(super) const LISTED: &str = "event.mail, event.seq, mail.received_at, mail.envelope, mail.size, team, title, state, \
     attempts, next_at, settled_at, coalesce(reason, note), event_id, storm, unanswered, severity, \
     status, \
     state = 'queued' AND EXISTS (SELECT 1 FROM event AS earlier INDEXED BY event_lane \
     WHERE earlier.state = 'queued' AND earlier.team = event.team \
     AND earlier.incident = event.incident AND earlier.seq < event.seq)";

/// Reads what can be read, so that a damaged row is seen among the others.
pub(super) fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let envelope: Option<Envelope> = json(row, 3)?;
    let state = word(row, 7)?.unwrap_or(State::Failed);
    Ok(Listed {
        id: mail_id(row, 0)?,
        seq: row.get::<_, i64>(1)?.cast_unsigned(),
        received_at: time(row, 2)?,
        from: envelope.map(|envelope| envelope.reverse_path).unwrap_or_default(),
        size: row.get::<_, i64>(4)?.cast_unsigned(),
        team: text(row, 5)?,
        title: text(row, 6)?.unwrap_or_default(),
        state,
        attempts: row.get(8)?,
        next_at: (state == State::Queued).then(|| time(row, 9)).transpose()?,
        settled_at: maybe_time(row, 10)?,
        reason: text(row, 11)?,
        event_id: text(row, 12)?,
        digest: maybe(row, 13)?,
        possible_doubles: state.possible_doubles(row.get(14)?),
        severity: word(row, 15)?,
        status: word(row, 16)?,
        behind: row.get(17)?,
    })
}

/// The number of a column that never holds less than none.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// The text of a column; bytes that are none are replaced.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

/// The time of a column; one that cannot be is long ago.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_millisecond(row.get(column)?).unwrap_or(Timestamp::UNIX_EPOCH))
}

pub(super) fn maybe_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(|_| time(row, column)).transpose()
}

/// The number of an event, an incident or a storm, if the column has one.
pub(super) fn maybe(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

pub(super) fn mail_id(row: &Row<'_>, column: usize) -> rusqlite::Result<MailId> {
    let number: i64 = row.get(column)?;
    MailId::from_number(number.cast_unsigned())
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// The word of a column, if it is one.
pub(super) fn word<W: Words>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<W>> {
    Ok(text(row, column)?.and_then(|text| W::from_word(&text)))
}

/// The trust class of a column, if it is one.
pub(super) fn trust(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Trust>> {
    let text = text(row, column)?;
    let classes = [Trust::Stranger, Trust::Proven, Trust::Trusted];
    Ok(text.and_then(|text| classes.into_iter().find(|class| class.word() == text)))
}

/// The files of a column; those that cannot be read stay behind.
pub(super) fn attachments(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<Attachment>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default())
}

/// The JSON of a column, if it can be read.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()))
}
