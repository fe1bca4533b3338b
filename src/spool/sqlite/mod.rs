//! The spool in SQLite: WAL, `synchronous=FULL`, one connection that writes, a few that read.
//!
//! A transaction that was committed survives a power cut (<https://sqlite.org/wal.html>): the commit
//! flushes the write-ahead log before it returns, and opening replays what is whole in the log and
//! ignores a torn end. The log is copied into the database behind the waiters' backs, between batches.

mod changes;
mod counts;
mod elsewhere;
mod files;
mod ground;
mod incidents;
mod known;
mod place;
mod rescue;
mod reserve;
mod retarget;
mod room;
mod rows;
mod schema;
mod seen;
mod store;
mod storms;
mod upkeep;
mod urgent;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, ffi};

use super::allowance::Allowances;
use super::config::{Config, Sync};
use super::engine::{self, Applied, Change, Failure, Refused};
use super::error::OpenError;
use super::lock::Lock;
use crate::incident::{self, Storms};
use crate::time::signed;
use changes::{Work, key};
use files::Files;
use ground::Ground;
pub(super) use place::check_folder as check;
use place::{check_file, check_folder, check_pages, log_path, make_file, make_folder, sync_folder};
pub(super) use room::REMOVED;
use room::Room;
pub(super) use store::Store;

/// The database in the folder of the spool.
const FILE: &str = "spool.db";

/// The folder in it for large contents.
const LARGE: &str = "large";

/// Pages in the log from which on they are copied into the database when no change waits: 4 MiB. More would
/// make the copying rarer and longer, less would flush more often.
const CHECKPOINT_IDLE: i64 = 1_000;

/// Pages in the log from which on they are copied even if changes wait: 16 MiB.
const CHECKPOINT_BUSY: i64 = 4_000;

/// Pages in the log from which on the next batch waits until every reader has left it, so that it can
/// start over: 64 MiB.
const CHECKPOINT_RESTART: i64 = 16_000;

/// What the log is cut to when it starts over.
const LOG_LIMIT: i64 = 16 << 20;

/// How long a statement waits for a lock that another process holds, such as `sqlite3` on the database.
const BUSY: Duration = Duration::from_secs(5);

/// The page cache of the connection that writes, in KiB: holds the pages of a batch of ordinary mails.
const CACHE: i64 = 16 << 10;

/// The disk that the spool lies on.
#[derive(Clone)]
struct Disk {
    folder: PathBuf,
    min_free: u64,
}

impl Disk {
    /// How many bytes new mail may take, where `free` are unused within the database.
    fn room(&self, free: u64) -> u64 {
        // A file system that does not tell is one that is not guarded.
        rustix::fs::statvfs(&self.folder).map_or(u64::MAX, |disk| {
            let available = disk.f_bavail * disk.f_frsize;
            // The log of what is written still takes some of it.
            if available < self.min_free / 2 { 0 } else { (available + free).saturating_sub(self.min_free) }
        })
    }

    /// By how many bytes the file of the database has yet to grow to `size`, when the log is copied into it. A log that
    /// finds no space for that is never emptied.
    fn pending(&self, size: u64) -> u64 {
        std::fs::metadata(self.folder.join(FILE)).map_or(0, |file| size.saturating_sub(file.len()))
    }
}

/// The connection that writes.
pub(super) struct Writer {
    db: Connection,
    disk: Disk,
    room: Room,
    files: Arc<Files>,
    /// Files to be removed when no change waits.
    unnamed: Vec<String>,
    /// The first number of the next mail's block.
    next_seq: i64,
    incidents: incident::Config,
    retention: jiff::SignedDuration,
    storms: Storms,
    allowances: Arc<Allowances>,
    ground: Ground,
    /// The folder as it is named by a rescue file, and where such files may lie.
    name: PathBuf,
    rescue: Vec<PathBuf>,
    /// Held for as long as the connection is open, so it stands after it.
    _lock: Lock,
}

/// Opens the spool of `config`, and makes it if there is none.
pub(super) fn open(config: &Config, allowances: Arc<Allowances>) -> Result<(Writer, Store), OpenError> {
    let folder = config.path.as_path();
    make_folder(folder)?;
    check_folder(folder)?;
    let lock = Lock::take(folder)?;
    let path = folder.join(FILE);
    make_file(&path)?;
    let unusable = |error| match error {
        Unusable::Refused(error) => error,
        Unusable::Sqlite(error) => refuse(&path, &error),
    };
    let db = open_database(&path, config.sync).map_err(unusable)?;
    let name = rescue::name(folder);
    rescue::take_in(&db, &name, &config.rescue);
    let next_seq = next_seq(&db).map_err(|error| refuse(&path, &error))?;
    let large = folder.join(LARGE);
    make_folder(&large)?;
    let files = Arc::new(Files::new(large.clone(), config.sync));
    sweep(&db, &files, &large).map_err(unusable)?;
    let disk = Disk { folder: folder.to_owned(), min_free: config.min_free };
    let store = Store::new(path.clone(), disk.clone(), Arc::clone(&files));
    storms::read_allowances(&db, &allowances).map_err(|error| refuse(&path, &error))?;
    let room = Room::new(config, &db).map_err(|error| refuse(&path, &error))?;
    let ground = Ground::of(folder, &path).map_err(|error| OpenError::io(&path, &error))?;
    let writer = Writer {
        storms: storms::remembered(&db).map_err(|error| refuse(&path, &error))?,
        db,
        disk,
        room,
        files,
        unnamed: Vec::new(),
        next_seq,
        incidents: config.incidents.clone(),
        retention: signed(config.retention),
        allowances,
        ground,
        name,
        rescue: config.rescue.clone(),
        _lock: lock,
    };
    Ok((writer, store))
}

/// Removes the large contents that a crash left without a mail.
fn sweep(db: &Connection, files: &Files, folder: &Path) -> Result<(), Unusable> {
    let names = files.names().map_err(|error| Unusable::Refused(OpenError::io(folder, &error)))?;
    let mut named = db.prepare("SELECT EXISTS (SELECT 1 FROM large WHERE mail = ?1 AND file = ?2)")?;
    for (mail, name) in names {
        if !named.query_row((key(mail.number()), &name), |row| row.get::<_, bool>(0))? {
            files.remove(&name);
        }
    }
    Ok(())
}

/// Opens the spool in `folder` for reading, whether another process writes to it or none.
pub(super) fn open_reader(folder: &Path) -> Result<Store, OpenError> {
    let path = folder.join(FILE);
    check_file(&path)?;
    let disk = Disk { folder: folder.to_owned(), min_free: 0 };
    let store = Store::new(path.clone(), disk, Arc::new(Files::new(folder.join(LARGE), Sync::Full)));
    let check = || -> Result<(), Unusable> {
        let db = store.connection()?;
        let detail = match check_version(&path, &db)? {
            0 => "there is no spool in it yet",
            _ => "",
        };
        if !detail.is_empty() {
            return Err(Unusable::Refused(OpenError::Io { path: path.clone(), detail: detail.to_owned() }));
        }
        store.give_back(db);
        Ok(())
    };
    check().map_err(|error| match error {
        Unusable::Refused(error) => error,
        Unusable::Sqlite(error) => refuse(&path, &error),
    })?;
    Ok(store)
}

enum Unusable {
    Refused(OpenError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn open_database(path: &Path, sync: Sync) -> Result<Connection, Unusable> {
    // A rescue file is named by a URI.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(path, flags)?;
    // A database that is refused must stay as it is, its log included; and after a failed flush nothing
    // that was read back may be written again.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.busy_timeout(BUSY)?;
    let version = check_version(path, &db)?;
    if version == 0 {
        // Must come before the first table: lets free pages at the end go back to the disk.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "cache_size", -CACHE)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let detail = "the file system cannot keep a write-ahead log (a network file system?)".to_owned();
        return Err(Unusable::Refused(OpenError::Io { path: path.to_owned(), detail }));
    }
    let synchronous = match sync {
        Sync::Full => "FULL",
        Sync::Off => "OFF",
    };
    db.pragma_update(None, "synchronous", synchronous)?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |_| Ok(()))?;
    db.set_prepared_statement_cache_capacity(64);
    rows::make_ready(&db)?;
    if version > 0 {
        check_pages(path, &db)?;
    }
    if version == 0 {
        schema::make(&db)?;
    }
    Ok(db)
}

/// The first number that no event had.
fn next_seq(db: &Connection) -> rusqlite::Result<i64> {
    let last: Option<i64> = db.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
    Ok(last.map_or(schema::BLOCK, |last| (last / schema::BLOCK + 1) * schema::BLOCK))
}

/// The schema version, if the database is a spool that this program can read.
fn check_version(path: &Path, db: &Connection) -> Result<i64, Unusable> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let path = path.to_owned();
    let refused = if application == 0 && version == 0 && tables == 0 {
        return Ok(0);
    } else if application != schema::APPLICATION {
        OpenError::Foreign { path }
    } else if version < 1 || tables == 0 {
        OpenError::Corrupt { path, detail: "its tables are gone".to_owned() }
    } else if version != schema::VERSION || !schema::is_ours(db)? {
        OpenError::OtherSchema { path, found: version, known: schema::VERSION }
    } else {
        return Ok(version);
    };
    Err(Unusable::Refused(refused))
}

fn refuse(path: &Path, error: &rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase) => {
            OpenError::Corrupt { path, detail: error.to_string() }
        }
        _ => OpenError::Io { path, detail: error.to_string() },
    }
}

/// What a failed statement means.
fn failure(error: &rusqlite::Error) -> Failure {
    match error.sqlite_extended_error_code() {
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => Failure::Lost(error.to_string()),
        // The log's index grows by writing to it, and that fails like this on a full disk.
        Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE) => Failure::Full,
        _ => Failure::Io(error.to_string()),
    }
}

impl Writer {
    /// Does `act` in one transaction. Where the database is no longer in its place nothing is done, but for what is
    /// `last`: that is for the rescue alone. Why it is not in its place, if so.
    fn transact<T>(
        &mut self,
        last: bool,
        act: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Result<T, String>> {
        let transaction = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        let mut work = Work {
            db: &transaction,
            next_seq: self.next_seq,
            space: &self.disk,
            room: &mut self.room,
            unnamed: Vec::new(),
            incidents: &self.incidents,
            retention: self.retention,
            storms: &mut self.storms,
            allowances: &self.allowances,
        };
        let done = act(&mut work)?;
        let Work { next_seq, unnamed, .. } = work;
        // Before the commit, so that it is not made where it is lost, and after it, so that nobody is told of one
        // that is.
        let check = || if last { Ok(()) } else { self.ground.check() };
        if let Err(what) = check() {
            return Ok(Err(what));
        }
        transaction.commit()?;
        self.next_seq = next_seq;
        self.unnamed.extend(unnamed);
        Ok(check().map(|()| done))
    }

    /// Copies the log into the database, as far as `mode` goes. How many pages the log has, and how many
    /// of them are copied.
    fn checkpoint(&mut self, mode: &str) -> rusqlite::Result<(i64, i64)> {
        let done = self
            .db
            .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
            .query_row([], |row| Ok((row.get(1)?, row.get(2)?)));
        if mode != "NOOP" {
            self.ground.written();
        }
        done
    }
}

impl engine::Writer for Writer {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure> {
        let before = self.room.clone();
        let mut apply = || {
            self.room.measure(&self.db, &self.disk)?;
            self.transact(false, |work| changes.iter().map(|change| work.change(change)).collect())
        };
        let applied = apply().map_err(|error| failure(&error));
        applied.and_then(|done| done.map_err(Failure::Gone)).inspect_err(|_| {
            self.room = before;
            // What was counted and begun in the batch was not. A storm that cannot be read begins anew.
            self.storms = storms::raging(&self.db).unwrap_or_default();
        })
    }

    fn recover(&mut self) -> Result<(), Failure> {
        let mut recover = || {
            self.storms = storms::raging(&self.db)?;
            self.room.recount(&self.db)
        };
        recover().map_err(|error| failure(&error))
    }

    fn rescue(&mut self, changes: &[Change]) -> Result<String, String> {
        for change in changes {
            // What is delivered need not be saved.
            if let Change::Record(outcomes) = change
                && let Err(problem) =
                    self.transact(true, |work| work.change(&Change::Record(outcomes.clone())))
            {
                tracing::warn!(%problem, "what was delivered last is not noted: it may go out again");
            }
        }
        let saved = rescue::write(&self.db, &self.files, &self.name, &self.rescue)?;
        if let Err(error) = self.ground.put_log_aside() {
            tracing::warn!(%error, "the -wal file of the spool that was taken away cannot be put aside");
        }
        Ok(format!("what is undelivered, mails: {}, is saved in {}", saved.mails, saved.path.display()))
    }

    fn tidy(&mut self, idle: bool) -> Result<(), Failure> {
        for name in self.unnamed.drain(..) {
            self.files.remove(&name);
        }
        let mut tidy = || {
            let (pages, copied) = self.checkpoint("NOOP")?;
            let waiting = pages - copied;
            if waiting >= CHECKPOINT_BUSY || idle && waiting >= CHECKPOINT_IDLE {
                let mode = if pages >= CHECKPOINT_RESTART { "RESTART" } else { "PASSIVE" };
                self.checkpoint(mode)?;
            }
            Ok(())
        };
        tidy().map_err(|error| failure(&error))
    }

    fn close(mut self: Box<Self>) {
        let closed = self
            .checkpoint("TRUNCATE")
            .and_then(|_| self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false));
        if let Err(error) = closed {
            // Nothing is lost: the log is read at the next start.
            tracing::warn!(%error, "spool closed without emptying its log");
        }
    }
}

#[cfg(test)]
mod tests;
