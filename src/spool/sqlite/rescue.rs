//! The rescue file: a copy of what is undelivered, for a spool that was taken away under the service. It is written out
//! of the open database, which is there as long as it is open, to a folder elsewhere, and the next start takes it in.
//!
//! It is a database with the tables of the spool: of the mails those that are not done, with all their events, and the
//! other tables whole. Its name cannot be guessed and only its owner can read it; what another user wrote or could have
//! written is never taken in.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, params};

use super::files::Files;
use super::{schema, sync_folder};
use crate::spool::pack;

/// How its name begins and ends.
const NAME: (&str, &str) = ("smtp2signl4-rescue-", ".db");

/// The mails that are not done.
const UNDONE: &str = "SELECT mail FROM main.event WHERE state NOT IN ('delivered', 'dropped', 'counted')";

type Told<T> = Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes what of `db` is undelivered to the first of `folders` that takes it: what was done, in words. `spool` is the
/// folder of the spool, and `files` its large contents, as far as they are there.
///
/// # Errors
/// Why none took it, in words.
pub(super) fn write(db: &Connection, files: &Files, spool: &Path, folders: &[PathBuf]) -> Told<String> {
    let mut problems = String::new();
    for folder in folders {
        match write_to(db, files, spool, folder) {
            Ok(saved) => return Ok(saved),
            Err(problem) => _ = write!(problems, "; {}: {problem}", folder.display()),
        }
    }
    Err(format!("nothing could be saved{problems}"))
}

fn write_to(db: &Connection, files: &Files, spool: &Path, folder: &Path) -> Told<String> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| "no random numbers".to_owned())?;
    let name = random.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
    let part = folder.join(format!("{}{name}.part", NAME.0));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(told)?;
    let path = folder.join(format!("{}{name}{}", NAME.0, NAME.1));
    let written = copy_out(db, files, spool, &part).map_err(told).and_then(|mails| {
        File::open(&part).and_then(|file| file.sync_all()).map_err(told)?;
        fs::rename(&part, &path).and_then(|()| sync_folder(folder)).map_err(told)?;
        Ok(mails)
    });
    if written.is_err() {
        // An unfinished file is of no use.
        let _ = fs::remove_file(&part);
    }
    written.map(|mails| format!("what is undelivered, mails: {mails}, is saved in {}", path.display()))
}

fn copy_out(db: &Connection, files: &Files, spool: &Path, part: &Path) -> rusqlite::Result<usize> {
    db.execute("ATTACH DATABASE ?1 AS rescue", [part.to_string_lossy()])?;
    let copied = copy_tables(db, files, spool);
    if copied.is_err() && !db.is_autocommit() {
        db.execute_batch("ROLLBACK")?;
    }
    db.execute_batch("DETACH DATABASE rescue")?;
    copied
}

fn copy_tables(db: &Connection, files: &Files, spool: &Path) -> rusqlite::Result<usize> {
    // Nobody reads it before it has its name.
    db.pragma_update_and_check(Some("rescue"), "journal_mode", "MEMORY", |_| Ok(()))?;
    db.execute_batch("BEGIN")?;
    for table in tables(db, "main")? {
        let which = match table.as_str() {
            "mail" => format!("WHERE id IN ({UNDONE})"),
            "event" | "pack" => format!("WHERE mail IN ({UNDONE})"),
            _ => String::new(),
        };
        db.execute_batch(&format!(
            "CREATE TABLE rescue.\"{table}\" AS SELECT * FROM main.\"{table}\" {which}"
        ))?;
    }
    // A large content is moved into the file, if it is still there.
    let large: Vec<(i64, String)> = db
        .prepare("SELECT id, file FROM rescue.mail WHERE file IS NOT NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (mail, name) in large {
        match files.read(&name) {
            Ok(body) => {
                let data = db.query_row("SELECT data FROM rescue.pack WHERE mail = ?1", [mail], |row| {
                    Ok(pack::with_content(row.get_ref(0)?.as_blob()?, &body))
                })?;
                db.execute("UPDATE rescue.pack SET data = ?2 WHERE mail = ?1", params![mail, data])?;
            }
            Err(error) => tracing::warn!(name, %error, "a large mail goes on without its content"),
        }
    }
    db.execute("UPDATE rescue.mail SET file = NULL", [])?;
    db.execute("CREATE TABLE rescue.rescue (spool TEXT NOT NULL, schema INTEGER NOT NULL)", [])?;
    db.execute(
        "INSERT INTO rescue.rescue VALUES (?1, ?2)",
        params![spool.to_string_lossy(), schema::VERSION],
    )?;
    let mails: i64 = db.query_row("SELECT count(*) FROM rescue.mail", [], |row| row.get(0))?;
    db.execute_batch("COMMIT")?;
    Ok(usize::try_from(mails).unwrap_or_default())
}

/// The tables of the database that is attached as `name`.
fn tables(db: &Connection, name: &str) -> rusqlite::Result<Vec<String>> {
    db.prepare(&format!(
        "SELECT name FROM {name}.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ))?
    .query_map([], |row| row.get(0))?
    .collect()
}

/// Takes in the rescue files of the spool in `spool` that lie in `folders`, and removes them once they are in `db`. One
/// that cannot be taken in stays where it is.
pub(super) fn take_in(db: &Connection, spool: &Path, folders: &[PathBuf]) {
    for path in folders.iter().flat_map(|folder| found(folder)) {
        match own(&path, spool).and_then(|()| take(db, spool, &path)) {
            Ok(None) => {}
            Ok(Some(mails)) => {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(file = %path.display(), %error, "a rescue file that was taken in cannot be removed");
                }
                tracing::warn!(file = %path.display(), mails, "took in what was saved when the spool was taken away");
            }
            Err(problem) => {
                tracing::error!(file = %path.display(), problem, "a rescue file is not taken in; it stays where it is");
            }
        }
    }
}

/// The rescue files in `folder`, in the order of their time.
fn found(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_one = |name: &str| name.starts_with(NAME.0) && name.ends_with(NAME.1);
    let mut found: Vec<(_, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_one))
        .map(|entry| (entry.metadata().and_then(|file| file.modified()).ok(), entry.path()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Whether the file at `path` can only have been written by this user, by root or by the owner of the spool.
fn own(path: &Path, spool: &Path) -> Told<()> {
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).map_err(told)?;
    let file = OpenOptions::new().read(true).custom_flags(nofollow).open(path).map_err(told)?;
    let file = file.metadata().map_err(told)?;
    let owners =
        [Some(rustix::process::geteuid().as_raw()), Some(0), fs::metadata(spool).ok().map(|f| f.uid())];
    let mine = owners.contains(&Some(file.uid()));
    if !file.is_file() || !mine || file.mode() & 0o077 != 0 || file.nlink() != 1 {
        return Err("it is not a file that only the user of the service can read and write".to_owned());
    }
    Ok(())
}

/// Takes in the file at `path`: of how many mails something was new. None if it is of another spool.
fn take(db: &Connection, spool: &Path, path: &Path) -> Told<Option<usize>> {
    // Nothing that lies beside it is obeyed, such as a journal that another user may have put there.
    let mut uri = "file:".to_owned();
    for &byte in std::path::absolute(path).map_err(told)?.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => _ = write!(uri, "%{byte:02X}"),
        }
    }
    uri.push_str("?immutable=1&mode=ro");
    db.execute("ATTACH DATABASE ?1 AS rescue", [uri]).map_err(told)?;
    let taken = copy_in(db, spool);
    if taken.is_err() && !db.is_autocommit() {
        db.execute_batch("ROLLBACK").map_err(told)?;
    }
    db.execute_batch("DETACH DATABASE rescue").map_err(told)?;
    taken
}

fn copy_in(db: &Connection, spool: &Path) -> Told<Option<usize>> {
    let (of, version): (String, i64) = db
        .query_row("SELECT spool, schema FROM rescue.rescue", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(told)?;
    if Path::new(&of) != spool {
        return Ok(None);
    }
    if version != schema::VERSION {
        return Err(format!(
            "its schema is version {version}, and this program knows version {}: start the program that wrote it once",
            schema::VERSION
        ));
    }
    copy_rows(db).map(Some).map_err(told)
}

fn copy_rows(db: &Connection) -> rusqlite::Result<usize> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    let number =
        |sql: &str| db.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).map(Option::unwrap_or_default);
    // A spool that went on by itself meanwhile may have given the same numbers to other mails.
    let first = "SELECT min(first_seq) FROM rescue.mail WHERE id NOT IN (SELECT id FROM main.mail)";
    let taken = "SELECT EXISTS (SELECT 1 FROM rescue.mail AS r JOIN main.mail AS m ON r.first_seq < m.end_seq \
                 AND r.end_seq > m.first_seq AND r.id != m.id)";
    let strange = number(taken)? > 0;
    let shift = if strange { number("SELECT max(end_seq) FROM main.mail")? - number(first)? } else { 0 };
    let before = number("SELECT count(*) FROM main.mail")?;
    let known = tables(db, "main")?;
    // The mails come last, as what belongs to them asks which of them are new.
    let mut order = tables(db, "rescue")?;
    order.retain(|table| known.contains(table));
    order.sort_by_key(|table| table == "mail");
    for table in &order {
        // Of the spool's own table: what SQLite computes by itself is not among them.
        let columns: Vec<String> = db
            .prepare(&format!("PRAGMA main.table_info(\"{table}\")"))?
            .query_map([], |row| row.get(1))?
            .collect::<rusqlite::Result<_>>()?;
        let is_mail = matches!(table.as_str(), "mail" | "event");
        let names = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let values = columns
            .iter()
            .map(|name| match name.as_str() {
                "first_seq" | "end_seq" | "seq" if is_mail => format!("\"{name}\" + {shift}"),
                _ => format!("\"{name}\""),
            })
            .collect::<Vec<_>>()
            .join(", ");
        let (how, which) = match table.as_str() {
            "mail" => ("OR IGNORE", ""),
            "event" | "pack" if strange => ("OR IGNORE", "WHERE mail NOT IN (SELECT id FROM main.mail)"),
            "event" | "pack" => ("OR IGNORE", ""),
            // What a restored copy says of the time after it is older than this.
            _ if strange => continue,
            _ => ("OR REPLACE", ""),
        };
        db.execute(
            &format!(
                "INSERT {how} INTO main.\"{table}\" ({names}) SELECT {values} FROM rescue.\"{table}\" {which}"
            ),
            [],
        )?;
    }
    let mails = number("SELECT count(*) FROM main.mail")? - before;
    db.execute_batch("COMMIT")?;
    Ok(usize::try_from(mails).unwrap_or_default())
}

/// The folder of a spool, as a rescue file names it.
pub(super) fn name(folder: &Path) -> PathBuf {
    fs::canonicalize(folder).unwrap_or_else(|_: io::Error| folder.to_owned())
}
