//! The place of the spool: its folder and the files in it, before the database is opened.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::spool::error::OpenError;
use crate::spool::owner;

/// Makes `folder` and whatever is missing above it, each durable in its parent.
pub(super) fn make_folder(folder: &Path) -> Result<(), OpenError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_folder(parent)?;
    }
    let made = DirBuilder::new().mode(0o700).create(folder).and_then(|()| match parent {
        Some(parent) => sync_folder(parent),
        None => sync_folder(Path::new(".")),
    });
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(OpenError::io(folder, &error)),
        Err(_) => Ok(()),
        Ok(()) => owner::give(folder).map_err(|error| OpenError::io(folder, &error)),
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the database file with its mode, which SQLite then gives to the log beside it.
pub(super) fn make_file(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => owner::give(path).map_err(|error| OpenError::io(path, &error))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(OpenError::io(path, &error)),
    }
    check_file(path)
}

/// Refuses what SQLite would take for a new database, deleting the log that belongs to it.
pub(super) fn check_file(path: &Path) -> Result<(), OpenError> {
    let database = fs::metadata(path).map_err(|error| OpenError::io(path, &error))?;
    let log = fs::metadata(log_path(path)).map_or(0, |log| log.len());
    if database.len() == 0 && log > 0 {
        let detail = "the file is empty, but its -wal file is not".to_owned();
        return Err(OpenError::Corrupt { path: path.to_owned(), detail });
    }
    Ok(())
}

pub(super) fn log_path(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Refuses a folder that others can write to: they could put another spool in the place of this one.
pub(in crate::spool) fn check_folder(folder: &Path) -> Result<(), OpenError> {
    let found = fs::metadata(folder).map_err(|error| OpenError::io(folder, &error))?;
    let unsafe_by = |detail: String| Err(OpenError::Unsafe { path: folder.to_owned(), detail });
    let own = rustix::process::geteuid().as_raw();
    if found.mode() & 0o002 != 0 {
        return unsafe_by("can be written by every user of this machine: chmod 0700 it".to_owned());
    }
    // What root does beside a service it does for the service's user.
    if own != 0 && found.uid() != own && found.uid() != 0 {
        return unsafe_by(format!(
            "belongs to user {}, and this program runs as user {own}: chown it, or name another folder by `[spool] path`",
            found.uid()
        ));
    }
    Ok(())
}
