//! The spool in SQLite: WAL, `synchronous=FULL`, one connection that writes, a few that read.
//!
//! A transaction that was committed survives a power cut (<https://sqlite.org/wal.html>): the commit
//! flushes the write-ahead log before it returns, and opening replays what is whole in the log and
//! ignores a torn end. The log is copied into the database behind the waiters' backs, between batches.

mod counts;
mod events;
mod files;
mod ground;
mod incidents;
mod known;
mod mails;
mod notes;
mod place;
mod rescue;
mod rows;
mod schema;
mod store;
mod urgent;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::config::{Config, Sync};
use super::engine::{Done, Engine, Failure, Space};
use super::error::OpenError;
use super::lock::Lock;
use crate::mail::joined;
use files::Files;
use ground::Ground;
pub(super) use place::check_folder as check;
use place::{check_file, check_folder, log_path, make_file, make_folder, sync_folder};
use rows::key;
pub(super) use store::Store;

/// The database in the folder of the spool.
const FILE: &str = "spool.db";

/// A database up to this size is checked whole when it is opened, which takes a fifth of a second with a
/// warm cache. In a larger one only the queue is read: the rest is noticed when it is asked for.
const CHECKED_WHOLE: u64 = 256 << 20;

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

/// How many pages one step gives back to the disk: 1 MiB.
const SHRINK_STEP: u64 = 256;

/// Free pages that are kept for the mails to come, beside a tenth of the database: 4 MiB.
const SHRINK_KEEP: u64 = 1_024;

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
}

impl Disk {
    /// How many of its bytes are free.
    fn available(&self) -> u64 {
        // A file system that does not tell is one that is not guarded.
        rustix::fs::statvfs(&self.folder).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize)
    }

    /// By how many bytes the file of the database has yet to grow to `size`, when the log is copied into it. A log that
    /// finds no space for that is never emptied.
    fn pending(&self, size: u64) -> u64 {
        std::fs::metadata(self.folder.join(FILE)).map_or(0, |file| size.saturating_sub(file.len()))
    }
}

/// The connection that writes.
pub(super) struct Sqlite {
    db: Connection,
    disk: Disk,
    /// The size of a page, which never changes.
    page: u64,
    files: Arc<Files>,
    /// Files that no row names any more once the transaction is committed, and those to be removed behind it.
    deleted: Vec<String>,
    unnamed: Vec<String>,
    ground: Ground,
    /// Whether the database is no longer in its place: what is written now is for the rescue alone.
    gone: bool,
    /// The folder as it is named by a rescue file, and where such files may lie.
    name: PathBuf,
    rescue: Vec<PathBuf>,
    /// Held for as long as the connection is open, so it stands after it.
    _lock: Lock,
}

/// Opens the spool of `config`, and makes it if there is none.
pub(super) fn open(config: &Config) -> Result<(Sqlite, Store), OpenError> {
    let path = config.path.join(FILE);
    open_at(config, &path).map_err(|unusable| unusable.at(&path))
}

fn open_at(config: &Config, path: &Path) -> Result<(Sqlite, Store), Unusable> {
    let folder = config.path.as_path();
    make_folder(folder)?;
    check_folder(folder)?;
    let lock = Lock::take(folder)?;
    make_file(path)?;
    let db = open_database(path, config.sync)?;
    let name = rescue::name(folder);
    rescue::take_in(&db, &name, &config.rescue);
    let large = folder.join(LARGE);
    make_folder(&large)?;
    let files = Arc::new(Files::new(large.clone(), config.sync));
    sweep(&db, &files, &large)?;
    let disk = Disk { folder: folder.to_owned() };
    let store = Store::new(path.to_owned(), disk.clone(), Arc::clone(&files));
    let page = db.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?.cast_unsigned();
    let ground = Ground::of(folder, path).map_err(|error| OpenError::io(path, &error))?;
    let engine = Sqlite {
        db,
        disk,
        page,
        files,
        deleted: Vec::new(),
        unnamed: Vec::new(),
        ground,
        gone: false,
        name,
        rescue: config.rescue.clone(),
        _lock: lock,
    };
    Ok((engine, store))
}

/// Removes the large contents that a crash left without a mail.
fn sweep(db: &Connection, files: &Files, folder: &Path) -> Result<(), Unusable> {
    let names = files.names().map_err(|error| OpenError::io(folder, &error))?;
    let mut named = db.prepare("SELECT EXISTS (SELECT 1 FROM mail WHERE id = ?1 AND file = ?2)")?;
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
    let disk = Disk { folder: folder.to_owned() };
    let store = Store::new(path.clone(), disk, Arc::new(Files::new(folder.join(LARGE), Sync::Full)));
    let check = || -> Result<(), Unusable> {
        let db = store.connection()?;
        if check_version(&path, &db)? == 0 {
            let detail = "there is no spool in it yet".to_owned();
            return Err(OpenError::Io { path: path.clone(), detail }.into());
        }
        store.give_back(db);
        Ok(())
    };
    check().map_err(|unusable| unusable.at(&path))?;
    Ok(store)
}

enum Unusable {
    Refused(OpenError),
    Sqlite(rusqlite::Error),
}

impl Unusable {
    /// Why the database at `path` is refused.
    fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Refused(error) => error,
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase) => {
                    OpenError::Corrupt { path, detail: error.to_string() }
                }
                _ => OpenError::Io { path, detail: error.to_string() },
            },
        }
    }
}

impl From<OpenError> for Unusable {
    fn from(error: OpenError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Refuses a database whose pages are damaged, as far as that is found in short time.
fn check_pages(path: &Path, db: &Connection) -> Result<(), Unusable> {
    let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_WHOLE);
    let sql = if small {
        "PRAGMA quick_check(1)"
    } else {
        "SELECT iif(count(*) >= 0, 'ok', '') FROM event INDEXED BY event_queued WHERE state = 'queued'"
    };
    let found: String = db.query_row(sql, [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    let detail = joined(&found);
    Err(Unusable::Refused(OpenError::Corrupt { path: path.to_owned(), detail }))
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
        return Err(OpenError::Io { path: path.to_owned(), detail }.into());
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
    Err(refused.into())
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_extended_error_code() {
            Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => Self::Lost(error.to_string()),
            // The log's index grows by writing to it, and that fails like this on a full disk.
            Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE) => Self::Full,
            _ => Self::Io(error.to_string()),
        }
    }
}

impl Sqlite {
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

    /// Whether the database is in its place.
    fn check_ground(&mut self) -> Done<()> {
        let checked = if self.gone { Ok(()) } else { self.ground.check() };
        self.gone |= checked.is_err();
        checked.map_err(Failure::Gone)
    }

    /// The pages of the database, and those of them that are unused.
    fn pages(&self) -> rusqlite::Result<(u64, u64)> {
        let number = |sql| self.db.prepare_cached(sql)?.query_row([], |row| rows::number(row, 0));
        Ok((number("PRAGMA page_count")?, number("PRAGMA freelist_count")?))
    }
}

impl Engine for Sqlite {
    fn begin(&mut self) -> Done<()> {
        rows::run(&self.db, "BEGIN IMMEDIATE", [])?;
        Ok(())
    }

    fn commit(&mut self) -> Done<()> {
        // Before the commit, so that it is not made where it is lost, and after it, so that nobody is told of one
        // that is.
        self.check_ground()?;
        rows::run(&self.db, "COMMIT", [])?;
        self.unnamed.append(&mut self.deleted);
        self.check_ground()
    }

    fn roll_back(&mut self) {
        self.deleted.clear();
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "cannot roll back a transaction of the spool");
        }
    }

    fn space(&self) -> Done<Space> {
        let (pages, free) = self.pages()?;
        Ok(Space {
            used: (pages - free) * self.page,
            available: self.disk.available(),
            reusable: free * self.page,
            pending: self.disk.pending(pages * self.page),
        })
    }

    fn shrink(&mut self) -> Done<bool> {
        let (pages, free) = self.pages()?;
        let excess = free.saturating_sub((pages / 10).max(SHRINK_KEEP));
        if excess > 0 {
            let step = excess.min(SHRINK_STEP);
            let mut statement = self.db.prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
            // Each row that is asked for frees a page.
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(excess > SHRINK_STEP)
    }

    fn tidy(&mut self, idle: bool) -> Done<()> {
        for name in self.unnamed.drain(..) {
            self.files.remove(&name);
        }
        let (pages, copied) = self.checkpoint("NOOP")?;
        let waiting = pages - copied;
        if waiting >= CHECKPOINT_BUSY || idle && waiting >= CHECKPOINT_IDLE {
            let mode = if pages >= CHECKPOINT_RESTART { "RESTART" } else { "PASSIVE" };
            self.checkpoint(mode)?;
        }
        Ok(())
    }

    fn rescue(&mut self) -> Result<String, String> {
        let saved = rescue::write(&self.db, &self.files, &self.name, &self.rescue)?;
        if let Err(error) = self.ground.put_log_aside() {
            tracing::warn!(%error, "the -wal file of the spool that was taken away cannot be put aside");
        }
        Ok(saved)
    }

    fn close(&mut self) {
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
mod statements;
#[cfg(test)]
mod tests;
