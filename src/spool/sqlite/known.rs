//! An incident as an operator sees it: with what was kept of it and not sent.

use rusqlite::{Connection, Row as SqlRow, params};
use serde::Deserialize;

use super::rows::{all, json, key, mail_id, one, payload, text, time};
use crate::incident::Row;
use crate::spool::entry::{KeptEvent, KnownIncident};

/// How many of the kept events of an incident are shown.
const KEPT: usize = 5;

/// What a payload says.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Text {
    title: String,
    message: String,
}

/// The message of a column that holds a payload.
pub(super) fn message(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(json::<Text>(row, column)?.unwrap_or_default().message)
}

/// Title and text of a column that holds a payload.
fn whole(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<String> {
    let Text { title, message } = json(row, column)?.unwrap_or_default();
    Ok(format!("{title}\n{message}"))
}

/// A row with what else is known of its incident.
pub(super) fn known(db: &Connection, row: Row) -> rusqlite::Result<KnownIncident> {
    let sql = concat!("SELECT ", payload!(), " FROM event WHERE seq = ?1");
    let page = one(db, sql, [row.page_seq.map(key)], |row| whole(row, 0))?;
    let sql = concat!(
        "SELECT mail, queued_at, reason, ",
        payload!(),
        " FROM event INDEXED BY event_untold WHERE incident = ?1 AND seq >= ?2 \
         AND (state = 'counted' OR state = 'muted' OR state = 'folded') ORDER BY seq DESC LIMIT ?3"
    );
    let kept = all(db, sql, params![key(row.id), key(row.first_seq), KEPT as i64], |row| {
        Ok(KeptEvent { id: mail_id(row, 0)?, at: time(row, 1)?, reason: text(row, 2)?, text: whole(row, 3)? })
    })?;
    Ok(KnownIncident {
        id: row.id,
        key: row.key,
        class: row.trust,
        stranger: row.source.stranger,
        family: row.source.family,
        instance: row.source.instance,
        event_ids: row.event_ids.split_whitespace().map(str::to_owned).collect(),
        page,
        kept,
        incident: row.incident,
    })
}
