//! The questions, and the large contents. Each question has a connection of its own: it never waits for
//! the writer, nor the writer for it.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::counts::{self, DOUBLED};
use super::files::Files;
use super::incidents::{ROW, STORM, columns_of, row, storm};
use super::known::known;
use super::known::message;
use super::notes;
use super::rows::{
    LISTED, QUEUED, all, attachments, json, key, listed, mail_id, make_ready, number, one, payload, queued,
    text, time, word,
};
use super::urgent::urgent;
use super::{BUSY, Disk};
use crate::event::Severity;
use crate::mail::MailId;
use crate::spool::change::Content;
use crate::spool::engine::{self, Done, FailedEvent, Failure, PAGE};
use crate::spool::entry::{
    Count, Filter, IncidentFilter, KnownIncident, Listed, Past, Queued, Shown, ShownEvent, State, Unheard,
    Vouched,
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

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Done<T> {
        let db = self.connection()?;
        let answer = question(&db)?;
        self.give_back(db);
        Ok(answer)
    }
}

/// The index by which the events of a state are found, and the condition that goes with it.
fn by_state(state: State) -> (&'static str, &'static str) {
    match state {
        State::Queued => ("INDEXED BY event_queued", "state = 'queued' AND"),
        State::Failed => ("INDEXED BY event_failed", "state = 'failed' AND"),
        State::Dropped => ("INDEXED BY event_dropped", "state = 'dropped' AND"),
        State::Delivered => ("", "state = 'delivered' AND"),
        State::Counted => ("INDEXED BY event_kept", "state = 'counted' AND"),
        State::Muted => ("INDEXED BY event_kept", "state = 'muted' AND"),
        State::Folded => ("INDEXED BY event_kept", "state = 'folded' AND"),
    }
}

/// A limit as SQLite takes it.
fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The question for the events of a team that wait.
pub(super) fn waiting() -> String {
    format!(
        "SELECT {QUEUED} FROM event INDEXED BY event_queued \
         WHERE state = 'queued' AND team = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
    )
}

impl engine::Store for Store {
    fn lay_aside(&self, mail: MailId, content: Bytes, min_free: u64) -> Done<Content> {
        let size = content.len();
        if size as u64 > self.disk.available().saturating_sub(min_free) {
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

    fn waiting(&self, team: &str, after: u64, limit: usize) -> Done<Vec<Queued>> {
        self.ask(|db| all(db, &waiting(), params![team, key(after), most(limit)], queued))
    }

    fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Done<Vec<Urgent>> {
        self.ask(|db| urgent(db, team, after, limit))
    }

    fn reservations(&self, account: &str) -> Done<Vec<Reservation>> {
        self.ask(|db| notes::reservations(db, account))
    }

    fn failed(&self) -> Done<Vec<FailedEvent>> {
        let sql = format!(
            "SELECT {}, event.seq, event.status, page.state, last.state FROM event INDEXED BY event_failed \
             LEFT JOIN incident ON incident.id = event.incident LEFT JOIN event AS page ON page.seq = page_seq \
             LEFT JOIN event AS last ON last.seq = last_seq WHERE event.state = 'failed' ORDER BY event.seq",
            columns_of("incident")
        );
        self.ask(|db| {
            all(db, &sql, [], |found| {
                let incident = found.get::<_, Option<i64>>(0)?.map(|_| row(found)).transpose()?;
                Ok(FailedEvent {
                    seq: number(found, 31)?,
                    status: word(found, 32)?.unwrap_or_default(),
                    incident,
                    page: word(found, 33)?,
                    last: word(found, 34)?,
                })
            })
        })
    }

    fn deferred(&self) -> Done<Vec<u64>> {
        let sql = "SELECT seq FROM event INDEXED BY event_queued WHERE state = 'queued' AND attempts > 0";
        self.ask(|db| all(db, sql, [], |row| number(row, 0)))
    }

    fn list(&self, filter: &Filter) -> Done<Vec<Listed>> {
        let before = filter.before.map_or(i64::MAX, key);
        let limit = most(filter.limit);
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
                let sql = format!(
                    "SELECT {LISTED} FROM (SELECT seq FROM event {index} WHERE {condition} seq < ?1 \
                     AND (?2 IS NULL OR team = ?2) AND (?4 IS NULL OR storm = ?4) \
                     ORDER BY seq DESC LIMIT ?3) AS page \
                     JOIN event ON event.seq = page.seq JOIN mail ON mail.id = event.mail \
                     ORDER BY event.seq DESC"
                );
                found.extend(all(db, &sql, params![before, filter.team, limit, storm], listed)?);
            }
            moment.finish()?;
            found.sort_by_key(|event| std::cmp::Reverse(event.seq));
            found.dedup_by_key(|event| event.seq);
            found.truncate(filter.limit);
            Ok(found)
        })
    }

    fn show(&self, mail: MailId) -> Done<Option<Shown>> {
        self.ask(|db| {
            let sql = "SELECT envelope, story, size, first_seq, end_seq FROM mail WHERE id = ?1";
            let found = one(db, sql, [key(mail.number())], |row| {
                let block: [i64; 2] = [row.get(3)?, row.get(4)?];
                let (envelope, story) = (json(row, 0)?, json(row, 1)?.unwrap_or_default());
                Ok((Shown { id: mail, size: number(row, 2)?, envelope, story, events: Vec::new() }, block))
            })?;
            let Some((mut shown, block)) = found else { return Ok(None) };
            let sql = format!(
                "SELECT {LISTED}, external_id, {}, attachments FROM event JOIN mail ON mail.id = event.mail \
                 WHERE event.seq >= ?1 AND event.seq < ?2 ORDER BY event.seq",
                payload!()
            );
            shown.events = all(db, &sql, block, |row| {
                Ok(ShownEvent {
                    listed: listed(row)?,
                    external_id: text(row, 18)?,
                    payload: text(row, 19)?,
                    attachments: attachments(row, 20)?,
                })
            })?;
            Ok(Some(shown))
        })
    }

    fn content(&self, mail: MailId) -> Done<Option<Bytes>> {
        let sql = "SELECT file FROM mail WHERE id = ?1";
        let file =
            self.ask(|db| one(db, sql, [key(mail.number())], |row| row.get::<_, Option<String>>(0)))?;
        if let Some(name) = file.flatten() {
            return match self.files.read(&name) {
                Ok(content) => Ok(Some(content)),
                Err(error) => Err(Failure::Io(format!("{}: {error}", self.files.path(&name).display()))),
            };
        }
        self.ask(|db| {
            let read = |row: &Row<'_>| Ok(pack::part(row.get_ref(0)?.as_blob()?, CONTENT));
            let content = one(db, "SELECT data FROM pack WHERE mail = ?1", [key(mail.number())], read)?;
            Ok(content.flatten().map(Bytes::from))
        })
    }

    fn mails(&self, from: MailId, before: Option<MailId>, limit: usize) -> Done<Vec<Past>> {
        let before = before.map_or(i64::MAX, |before| key(before.number()));
        let limit = most(limit);
        self.ask(|db| {
            let mut question = db.prepare_cached(
                "SELECT mail.id, mail.envelope, pack.data, mail.file FROM mail \
                 LEFT JOIN pack ON pack.mail = mail.id \
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

    fn count_mails(&self, from: MailId) -> Done<u64> {
        self.ask(|db| {
            let sql = "SELECT count(*) FROM mail WHERE id >= ?1";
            db.query_row(sql, [key(from.number())], |row| number(row, 0))
        })
    }

    fn vouched(&self, from: MailId) -> Done<Vec<Vouched>> {
        self.ask(|db| counts::vouched(db, key(from.number())))
    }

    fn counts(&self) -> Done<Vec<Count>> {
        self.ask(counts::counts)
    }

    fn unheard(&self, label: &str, since: Timestamp) -> Done<Vec<Unheard>> {
        self.ask(|db| {
            let mut question = db.prepare_cached(
                "SELECT event.team, event.external_id, event.title, coalesce(incident.severity, event.severity), \
                 event.queued_at, incident.posted, incident.paged_severity \
                 FROM event INDEXED BY event_kept \
                 LEFT JOIN incident ON incident.id = event.incident \
                 WHERE event.state = 'muted' AND event.queued_at >= ?2 \
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

    fn memos(&self, kind: &str) -> Done<Vec<(String, String)>> {
        let sql = "SELECT name, value FROM memo WHERE kind = ?1 ORDER BY name";
        self.ask(|db| all(db, sql, [kind], |row| Ok((row.get(0)?, row.get(1)?))))
    }

    fn incidents(&self, filter: &IncidentFilter) -> Done<Vec<KnownIncident>> {
        let limit = most(filter.limit);
        self.ask(|db| {
            let sql = format!(
                "SELECT {ROW} FROM incident WHERE (?1 IS NULL OR team = ?1) \
                 AND (NOT ?2 OR state != 'resolved') ORDER BY last_at DESC, last_seq DESC LIMIT ?3"
            );
            let rows = all(db, &sql, params![filter.team, filter.open, limit], row)?;
            rows.into_iter().map(|row| known(db, row)).collect()
        })
    }

    fn old_incidents(&self, closed: Timestamp, open: Timestamp, limit: usize) -> Done<Vec<(u64, u64)>> {
        let limit = most(limit);
        self.ask(|db| {
            let sql = "SELECT id, last_seq FROM incident WHERE last_at < ?1 AND (state = 'resolved' OR last_at < ?2 \
                       AND NOT EXISTS (SELECT 1 FROM event WHERE seq IN (last_seq, page_seq))) LIMIT ?3";
            let values = params![closed.as_millisecond(), open.as_millisecond(), limit];
            all(db, sql, values, |row| Ok((number(row, 0)?, number(row, 1)?)))
        })
    }

    fn storms(&self) -> Done<Vec<Storm>> {
        let sql = format!("SELECT {STORM} FROM storm WHERE state != 'closed' ORDER BY id");
        self.ask(|db| all(db, &sql, [], storm))
    }

    fn folded(&self, storm: u64, after: u64, limit: usize) -> Done<Vec<Folded>> {
        self.ask(|db| {
            let sql = concat!(
                "SELECT seq, title, severity, ",
                payload!(),
                " FROM event INDEXED BY event_folded WHERE storm = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
            );
            all(db, sql, params![key(storm), key(after), most(limit)], |row| {
                Ok(Folded {
                    seq: number(row, 0)?,
                    title: text(row, 1)?.unwrap_or_default(),
                    severity: word(row, 2)?,
                    message: message(row, 3)?,
                })
            })
        })
    }

    fn close(&self) {
        *self.idle.lock().expect("no holder of this lock can panic") = None;
    }
}
