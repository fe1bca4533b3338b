//! Whether the files that are open are still those that lie in the folder: a spool that was removed, moved away or
//! written over by a restore takes mail that no later start will find.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::log_path;

/// Which file it is: device and inode.
type Identity = (u64, u64);

/// When and how long it was last written: our own connection writes to it only when it empties the log.
type State = (i64, i64, u64);

/// The files as they were opened.
pub(super) struct Ground {
    folder: (PathBuf, Identity),
    database: (PathBuf, Identity, State),
    log: (PathBuf, Option<Identity>),
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino())
}

fn state(file: &Metadata) -> State {
    (file.mtime(), file.mtime_nsec(), file.len())
}

impl Ground {
    /// Those of the database at `path`, which is open.
    pub fn of(folder: &Path, path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        let log = log_path(path);
        Ok(Self {
            folder: (folder.to_owned(), identity(&fs::metadata(folder)?)),
            database: (path.to_owned(), identity(&file), state(&file)),
            log: (log.clone(), fs::metadata(&log).ok().as_ref().map(identity)),
        })
    }

    /// The database has been written by our own connection.
    pub fn written(&mut self) {
        if let Ok(file) = fs::metadata(&self.database.0)
            && identity(&file) == self.database.1
        {
            self.database.2 = state(&file);
        }
    }

    /// Whether all is as it was.
    ///
    /// # Errors
    /// What has become of it, in words.
    pub fn check(&self) -> Result<(), String> {
        let look = |path: &Path, known: Identity| match fs::metadata(path) {
            Ok(file) if identity(&file) == known => Ok(file),
            Ok(_) => Err(format!("{} is another than the one that is open", path.display())),
            Err(error) => Err(format!("{} is gone: {error}", path.display())),
        };
        look(&self.folder.0, self.folder.1)?;
        let (path, known, at) = &self.database;
        if state(&look(path, *known)?) != *at {
            return Err(format!("{} was written over by another program", path.display()));
        }
        if let (path, Some(known)) = &self.log {
            look(path, *known)?;
        }
        Ok(())
    }

    /// Puts our log aside where another database lies now, or none: SQLite would take the one for the other's. What
    /// waits must be safe elsewhere by then.
    pub fn put_log_aside(&self) -> io::Result<()> {
        let (path, known, at) = &self.database;
        if fs::metadata(path).is_ok_and(|file| identity(&file) == *known && state(&file) == *at) {
            return Ok(());
        }
        let (log, known) = &self.log;
        if !fs::metadata(log).is_ok_and(|file| Some(identity(&file)) == *known) {
            return Ok(());
        }
        let with = |end: &str| {
            let mut name = log.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        fs::rename(log, with(".taken-away"))?;
        let mut index = path.as_os_str().to_owned();
        index.push("-shm");
        match fs::remove_file(PathBuf::from(index)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("spool");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("spool.db");
        fs::write(&path, "database").unwrap();
        fs::write(log_path(&path), "log").unwrap();
        (parent, folder, path)
    }

    #[test]
    fn whatever_is_done_to_the_files_is_seen() {
        type Deed = fn(&Path, &Path);
        let deeds: [(&str, Deed); 7] = [
            ("is gone", |folder, _| fs::remove_dir_all(folder).unwrap()),
            ("is gone", |folder, _| fs::rename(folder, folder.with_file_name("away")).unwrap()),
            ("is gone", |_, path| fs::remove_file(path).unwrap()),
            ("is gone", |_, path| fs::remove_file(log_path(path)).unwrap()),
            ("is another", |folder, path| {
                fs::rename(folder, folder.with_file_name("away")).unwrap();
                fs::create_dir(folder).unwrap();
                fs::write(path, "database").unwrap();
            }),
            ("is another", |folder, path| {
                fs::write(folder.join("copy"), "database").unwrap();
                fs::rename(folder.join("copy"), path).unwrap();
            }),
            ("was written over", |_, path| fs::write(path, "database of yesterday").unwrap()),
        ];
        for (what, deed) in deeds {
            let (_parent, folder, path) = spool();
            let ground = Ground::of(&folder, &path).unwrap();
            assert_eq!(ground.check(), Ok(()));
            deed(&folder, &path);
            let told = ground.check().unwrap_err();
            assert!(told.contains(what), "{told}");
        }
    }

    #[test]
    fn what_our_own_connection_writes_is_nothing_new() {
        let (_parent, folder, path) = spool();
        let mut ground = Ground::of(&folder, &path).unwrap();
        fs::write(&path, "database and more").unwrap();
        ground.written();
        assert_eq!(ground.check(), Ok(()));
        ground.put_log_aside().unwrap();
        assert!(log_path(&path).exists(), "it belongs to this database");
        fs::remove_file(&path).unwrap();
        ground.put_log_aside().unwrap();
        assert!(!log_path(&path).exists());
    }
}
