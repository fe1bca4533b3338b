//! The questions, and the large contents. Each question has a connection of its own: it never waits for
//! the writer, nor the writer for it.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::changes::key;
use super::counts::{self, DOUBLED};
use super::files::Files;
use super::incidents::{ROW, not_overtaken, row};
use super::known::known;
use super::known::message;
use super::reserve;
use super::rows::{
    LISTED, QUEUED, attachments, json, listed, mail_id, make_ready, number, payload, queued, text, time, word,
};
use super::storms::{STORM, storm};
use super::urgent::urgent;
use super::{BUSY, Disk, failure};
use crate::event::Severity;
use crate::mail::MailId;
use crate::spool::engine::{self, Content, Failure, PAGE};
use crate::spool::entry::{
    Count, Filter, IncidentFilter, KnownIncident, Listed, Past, Queued, Selection, Shown, ShownEvent, State,
    Unheard, Vouched,
};
use crate::spool::pack::{self, CONTENT};
use crate::spool::reservation::{Reservation, Urgent};
use crate::spool::storm::{Folded, Storm};

/// The page cache of a connection that reads, in KiB.
const CACHE: i64 = 2 << 10;

/// The connections that read. Each is opened when it is needed and kept for the next question.
pub(in crate::spool) struct Store {
    path: PathBuf,
    disk: Disk,
    files: Arc<Files>,
    /// None once the spool is closed: a connection that comes back then is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl Store {
    pub(super) fn new(path: PathBuf, disk: Disk, files: Arc<Files>) -> Self {
        Self { path, disk, files, idle: Mutex::new(Some(Vec::new())) }
    }

    pub(super) fn connection(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().expect("no holder of this lock can panic").as_mut().and_then(Vec::pop);
        if let Some(db) = idle {
            return Ok(db);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "cell_size_check", true)?;
        db.pragma_update(None, "cache_size", -CACHE)?;
        make_ready(&db)?;
        Ok(db)
    }

    pub(super) fn give_back(&self, db: Connection) {
        if let Some(idle) = &mut *self.idle.lock().expect("no holder of this lock can panic") {
            idle.push(db);
        }
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        let ask = || {
            let db = self.connection()?;
            let answer = question(&db)?;
            self.give_back(db);
            Ok(answer)
        };
        ask().map_err(|error| failure(&error))
    }
}

/// The same for a state that shares its index with the others of which nothing is sent.
macro_rules! kept {
    ($state:literal) => {
        (
            "INDEXED BY event_kept",
            concat!("state = '", $state, "' AND state IN ('counted', 'muted', 'folded') AND"),
        )
    };
}

/// The index by which the events of a state are found, and the condition that goes with it.
fn by_state(state: State) -> (&'static str, &'static str) {
    match state {
        State::Queued => ("INDEXED BY event_queued", "state = 'queued' AND"),
        State::Failed => ("INDEXED BY event_failed", "state = 'failed' AND"),
        State::Dropped => ("INDEXED BY event_dropped", "state = 'dropped' AND"),
        State::Delivered => ("", "state = 'delivered' AND"),
        // SQLite takes a partial index only where its own condition is written.
        State::Counted => kept!("counted"),
        State::Muted => kept!("muted"),
        State::Folded => kept!("folded"),
    }
}

/// The question for the events of a team that wait.
pub(super) fn waiting() -> String {
    format!(
        "SELECT {QUEUED} FROM event INDEXED BY event_queued \
         WHERE state = 'queued' AND team = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
    )
}

impl engine::Store for Store {
    fn lay_aside(&self, mail: MailId, content: Bytes) -> Result<Content, Failure> {
        let size = content.len();
        if size as u64 > self.disk.room(0) {
            return Err(Failure::Full);
        }
        // A flush that fails here is no reason to stop: the file is thrown away, not tried again.
        let name = self.files.write(mail, &content).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Full,
            _ => Failure::Io(error.to_string()),
        })?;
        Ok(Content::Aside { name, size })
    }

    fn forget(&self, content: &Content) {
        if let Content::Aside { name, .. } = content {
            self.files.remove(name);
        }
    }

    fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, Failure> {
        self.ask(|db| {
            db.prepare_cached(&waiting())?
                .query_map(params![team, key(after), i64::try_from(limit).unwrap_or(i64::MAX)], queued)?
                .collect()
        })
    }

    fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, Failure> {
        self.ask(|db| urgent(db, team, after, limit))
    }

    fn reservations(&self, account: &str) -> Result<Vec<Reservation>, Failure> {
        self.ask(|db| reserve::reservations(db, account))
    }

    fn stuck(&self, selection: Selection) -> Result<Option<Vec<u64>>, Failure> {
        let seqs = |db: &Connection, sql: &str, params: &[&dyn rusqlite::ToSql]| {
            db.prepare_cached(sql)?
                .query_map(params, |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        self.ask(|db| match selection {
            Selection::Mail(mail) => {
                let block: Option<(i64, i64)> = db
                    .prepare_cached("SELECT first_seq, end_seq FROM mail WHERE id = ?1")?
                    .query_row([key(mail.number())], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let Some((first, end)) = block else { return Ok(None) };
                let sql = "SELECT seq FROM event WHERE seq >= ?1 AND seq < ?2 \
                           AND (state = 'failed' OR state = 'queued' AND attempts > 0) ORDER BY seq";
                seqs(db, sql, &[&first, &end]).map(Some)
            }
            Selection::All => {
                let deferred = "SELECT seq FROM event INDEXED BY event_queued \
                                WHERE state = 'queued' AND attempts > 0 ORDER BY seq";
                let mut found = not_overtaken(db)?;
                found.extend(seqs(db, deferred, &[])?);
                found.sort_unstable();
                Ok(Some(found))
            }
        })
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Listed>, Failure> {
        let before = filter.before.map_or(i64::MAX, key);
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        // One question a state, since each has its own index but for the delivered, which are most.
        let pages = match (filter.digest, filter.states.is_empty()) {
            (Some(_), _) => vec![("INDEXED BY event_folded", "storm = ?4 AND")],
            _ if filter.doubled => vec![DOUBLED],
            (None, true) => vec![("", "")],
            (None, false) => filter.states.iter().map(|&state| by_state(state)).collect(),
        };
        let storm = filter.digest.map(key);
        self.ask(|db| {
            // All states as they were at one moment: what changes its own meanwhile must be in one of them.
            let moment = db.unchecked_transaction()?;
            let mut found: Vec<Listed> = Vec::new();
            for (index, condition) in pages {
                let rows = db
                    .prepare_cached(&format!(
                        "SELECT {LISTED} FROM (SELECT seq FROM event {index} WHERE {condition} seq < ?1 \
                         AND (?2 IS NULL OR team = ?2) AND (?4 IS NULL OR storm = ?4) \
                         ORDER BY seq DESC LIMIT ?3) AS page \
                         JOIN event ON event.seq = page.seq JOIN mail ON mail.id = event.mail \
                         ORDER BY event.seq DESC"
                    ))?
                    .query_map(params![before, filter.team, limit, storm], listed)?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                found.extend(rows);
            }
            moment.finish()?;
            found.sort_by_key(|event| std::cmp::Reverse(event.seq));
            found.dedup_by_key(|event| event.seq);
            found.truncate(filter.limit);
            Ok(found)
        })
    }

    fn find(&self, seq: u64) -> Result<Option<Listed>, Failure> {
        self.ask(|db| {
            db.prepare_cached(&format!(
                "SELECT {LISTED} FROM event JOIN mail ON mail.id = event.mail WHERE event.seq = ?1"
            ))?
            .query_row([key(seq)], listed)
            .optional()
        })
    }

    fn show(&self, mail: MailId) -> Result<Option<Shown>, Failure> {
        self.ask(|db| {
            let found = db
                .prepare_cached("SELECT envelope, story, size, first_seq, end_seq FROM mail WHERE id = ?1")?
                .query_row([key(mail.number())], |row| {
                    let block: (i64, i64) = (row.get(3)?, row.get(4)?);
                    let size = row.get::<_, i64>(2)?.cast_unsigned();
                    let envelope = json(row, 0)?;
                    let story = json(row, 1)?.unwrap_or_default();
                    Ok((Shown { id: mail, size, envelope, story, events: Vec::new() }, block))
                })
                .optional()?;
            let Some((mut shown, (first, end))) = found else { return Ok(None) };
            shown.events = db
                .prepare_cached(&format!(
                    "SELECT {LISTED}, external_id, {}, attachments \
                     FROM event JOIN mail ON mail.id = event.mail \
                     WHERE event.seq >= ?1 AND event.seq < ?2 ORDER BY event.seq",
                    payload!()
                ))?
                .query_map([first, end], |row| {
                    Ok(ShownEvent {
                        listed: listed(row)?,
                        external_id: text(row, 18)?,
                        payload: text(row, 19)?,
                        attachments: attachments(row, 20)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Some(shown))
        })
    }

    fn content(&self, mail: MailId) -> Result<Option<Bytes>, Failure> {
        let file: Option<String> = self.ask(|db| {
            db.prepare_cached("SELECT file FROM large WHERE mail = ?1")?
                .query_row([key(mail.number())], |row| row.get(0))
                .optional()
        })?;
        if let Some(name) = file {
            return match self.files.read(&name) {
                Ok(content) => Ok(Some(content)),
                Err(error) => Err(Failure::Io(format!("{}: {error}", self.files.path(&name).display()))),
            };
        }
        self.ask(|db| {
            db.prepare_cached("SELECT data FROM pack WHERE mail = ?1")?
                .query_row([key(mail.number())], |row| Ok(pack::part(row.get_ref(0)?.as_blob()?, CONTENT)))
                .optional()
                .map(|content| content.flatten().map(Bytes::from))
        })
    }

    fn mails(&self, from: MailId, before: Option<MailId>, limit: usize) -> Result<Vec<Past>, Failure> {
        let before = before.map_or(i64::MAX, |before| key(before.number()));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(|db| {
            let mut question = db.prepare_cached(
                "SELECT mail.id, mail.envelope, pack.data, large.file FROM mail \
                 LEFT JOIN pack ON pack.mail = mail.id LEFT JOIN large ON large.mail = mail.id \
                 WHERE mail.id >= ?1 AND mail.id < ?2 ORDER BY mail.id DESC LIMIT ?3",
            )?;
            let mut rows = question.query(params![key(from.number()), before, limit])?;
            let (mut page, mut size) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let content = match text(row, 3)? {
                    // A file that cannot be read is one mail less, and no reason to end the walk.
                    Some(name) => self.files.read(&name).ok(),
                    None => {
                        let data = row.get_ref(2)?.as_blob_or_null()?;
                        data.and_then(|data| pack::part(data, CONTENT)).map(Bytes::from)
                    }
                };
                size += content.as_ref().map_or(0, Bytes::len);
                page.push(Past { id: mail_id(row, 0)?, envelope: json(row, 1)?, content });
                if size >= PAGE {
                    break;
                }
            }
            Ok(page)
        })
    }

    fn count_mails(&self, from: MailId) -> Result<u64, Failure> {
        self.ask(|db| {
            db.prepare_cached("SELECT count(*) FROM mail WHERE id >= ?1")?
                .query_row([key(from.number())], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
        })
    }

    fn vouched(&self, from: MailId) -> Result<Vec<Vouched>, Failure> {
        self.ask(|db| counts::vouched(db, key(from.number())))
    }

    fn counts(&self) -> Result<Vec<Count>, Failure> {
        self.ask(counts::counts)
    }

    fn unheard(&self, label: &str, since: Timestamp) -> Result<Vec<Unheard>, Failure> {
        self.ask(|db| {
            let mut question = db.prepare_cached(
                "SELECT event.team, event.external_id, event.title, coalesce(incident.severity, event.severity), \
                 event.queued_at, incident.posted, incident.paged_severity \
                 FROM event INDEXED BY event_kept \
                 LEFT JOIN incident ON incident.id = event.incident \
                 WHERE event.state = 'muted' AND event.state IN ('counted', 'muted', 'folded') AND event.queued_at >= ?2 \
                 AND (event.reason = ?1 OR substr(event.reason, 1, length(?1) + 2) = ?1 || ': ') \
                 AND (event.external_id IS NULL OR incident.state = 'open' AND incident.storm IS NULL) \
                 ORDER BY event.seq DESC",
            )?;
            let mut rows = question.query(params![label, since.as_millisecond()])?;
            let mut found: Vec<Unheard> = Vec::new();
            let mut known = HashSet::new();
            while let Some(row) = rows.next()? {
                let (team, external_id): (String, _) = (text(row, 0)?.unwrap_or_default(), text(row, 1)?);
                if external_id.is_some() && !known.insert((team.clone(), external_id.clone())) {
                    continue;
                }
                let severity: Option<Severity> = word(row, 3)?;
                let posted = row.get::<_, Option<bool>>(5)?.unwrap_or(false);
                if posted && severity <= word(row, 6)? {
                    continue;
                }
                let (title, at) = (text(row, 2)?.unwrap_or_default(), time(row, 4)?);
                found.push(Unheard { team, external_id, title, severity, at });
            }
            found.reverse();
            Ok(found)
        })
    }

    fn memos(&self, kind: &str) -> Result<Vec<(String, String)>, Failure> {
        self.ask(|db| {
            db.prepare_cached("SELECT name, value FROM memo WHERE kind = ?1 ORDER BY name")?
                .query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<KnownIncident>, Failure> {
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        self.ask(|db| {
            let rows: Vec<_> = db
                .prepare_cached(&format!(
                    "SELECT {ROW} FROM incident WHERE (?1 IS NULL OR team = ?1) \
                     AND (NOT ?2 OR state != 'resolved') ORDER BY last_at DESC, last_seq DESC LIMIT ?3"
                ))?
                .query_map(params![filter.team, filter.open, limit], row)?
                .collect::<rusqlite::Result<_>>()?;
            rows.into_iter().map(|row| known(db, row)).collect()
        })
    }

    fn incident(&self, team: &str, id: &str) -> Result<Option<KnownIncident>, Failure> {
        self.ask(|db| {
            db.prepare_cached(&format!(
                "SELECT {ROW} FROM incident WHERE team = ?1 AND (external_id = ?2 OR key = ?2) \
                 ORDER BY external_id = ?2 DESC, stranger, last_seq DESC LIMIT 1"
            ))?
            .query_row([team, id], row)
            .optional()?
            .map(|row| known(db, row))
            .transpose()
        })
    }

    fn old_incidents(
        &self,
        closed: Timestamp,
        open: Timestamp,
        limit: usize,
    ) -> Result<Vec<(u64, u64)>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(|db| {
            db.prepare_cached(
                "SELECT id, last_seq FROM incident WHERE last_at < ?1 \
                 AND (state = 'resolved' OR last_at < ?2 \
                 AND NOT EXISTS (SELECT 1 FROM event WHERE seq IN (last_seq, page_seq))) LIMIT ?3",
            )?
            .query_map(params![closed.as_millisecond(), open.as_millisecond(), limit], |row| {
                Ok((number(row, 0)?, number(row, 1)?))
            })?
            .collect()
        })
    }

    fn storms(&self) -> Result<Vec<Storm>, Failure> {
        self.ask(|db| {
            db.prepare_cached(&format!("SELECT {STORM} FROM storm WHERE state != 'closed' ORDER BY id"))?
                .query_map([], storm)?
                .collect()
        })
    }

    fn folded(&self, storm: u64, after: u64, limit: usize) -> Result<Vec<Folded>, Failure> {
        self.ask(|db| {
            db.prepare_cached(concat!(
                "SELECT seq, title, severity, ",
                payload!(),
                " FROM event INDEXED BY event_folded WHERE storm = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
            ))?
            .query_map(params![key(storm), key(after), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                Ok(Folded {
                    seq: number(row, 0)?,
                    title: text(row, 1)?.unwrap_or_default(),
                    severity: word(row, 2)?,
                    message: message(row, 3)?,
                })
            })?
            .collect()
        })
    }

    fn close(&self) {
        *self.idle.lock().expect("no holder of this lock can panic") = None;
    }
}
