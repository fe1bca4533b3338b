//! Large contents, each in a file beside the database: 25 MiB through the log would hold up every mail in
//! the batch, and fill the log.
//!
//! A file is written and flushed, and its name with it, before the row that names it is committed; it is
//! removed after the commit that deletes the row. So a crash leaves at worst a file without a row, which
//! the next start removes. A name is used once: no file is ever written over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::sync_folder;
use crate::mail::MailId;
use crate::spool::config::Sync;
use crate::spool::owner;

/// The large contents of a spool.
pub(super) struct Files {
    folder: PathBuf,
    sync: Sync,
    /// Tells the files of one mail id apart: several may be written, though only one is committed.
    next: AtomicU64,
}

impl Files {
    /// The files in `folder`, which must be there before the first is written.
    pub fn new(folder: PathBuf, sync: Sync) -> Self {
        Self { folder, sync, next: AtomicU64::new(0) }
    }

    /// Writes a file for the content of `mail` and gives its name. It is on disk then.
    pub fn write(&self, mail: MailId, content: &[u8]) -> io::Result<String> {
        let (name, mut file) = self.create(mail)?;
        let written = file.write_all(content).and_then(|()| match self.sync {
            Sync::Full => file.sync_all().and_then(|()| sync_folder(&self.folder)),
            Sync::Off => Ok(()),
        });
        match written {
            Ok(()) => Ok(name),
            Err(error) => {
                self.remove(&name);
                Err(error)
            }
        }
    }

    fn create(&self, mail: MailId) -> io::Result<(String, File)> {
        loop {
            let name = format!("{mail}-{}", self.next.fetch_add(1, Ordering::Relaxed));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(&name)) {
                Ok(file) => {
                    owner::give(&self.path(&name))?;
                    return Ok((name, file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn read(&self, name: &str) -> io::Result<Bytes> {
        fs::read(self.path(name)).map(Bytes::from)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Removes a file that no row names any more. If that fails, the next start does it.
    pub fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path(name)) {
            tracing::warn!(name, %error, "cannot remove a content that is no longer needed");
        }
    }

    /// The names of all files, with the mail that each was written for. What we did not name is left out.
    pub fn names(&self) -> io::Result<Vec<(MailId, String)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            if let Ok(name) = entry?.file_name().into_string()
                && let Some(mail) = name.split_once('-').and_then(|(mail, _)| mail.parse().ok())
            {
                names.push((mail, name));
            }
        }
        Ok(names)
    }
}
