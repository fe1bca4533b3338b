//! What can go wrong with a spool, by the party that has to act on it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::mail::MailId;

/// Why a spool was not opened. In no case was anything in it changed.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    Locked {
        /// The folder of the spool.
        path: PathBuf,
        /// The owner, if it has named itself.
        pid: Option<u32>,
    },
    /// It was written by a version of this program that has other tables.
    OtherSchema {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The schema version of this program. Before the first release two schemas may have the same number.
        known: i64,
    },
    /// The file is a database, but not a spool.
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// It is damaged.
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Others than the service can write to it.
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        detail: String,
    },
    /// It cannot be read or written.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
}

impl OpenError {
    pub(super) fn io(path: impl Into<PathBuf>, error: &io::Error) -> Self {
        Self::Io { path: path.into(), detail: error.to_string() }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, pid: Some(pid) } => {
                write!(f, "the spool {} is in use by process {pid}", path.display())
            }
            Self::Locked { path, pid: None } => {
                write!(f, "the spool {} is in use by another process", path.display())
            }
            Self::OtherSchema { path, found, known } => write!(
                f,
                "the spool {} was written by another version of smtp2signl4: its schema version is {found}, and \
                 this program has its own version {known}; nothing was changed. Run that version until \
                 `smtp2signl4 queue list --state queued` lists nothing and stop it; then move the folder {} away \
                 and start this version with an empty one",
                path.display(),
                path.parent().unwrap_or(path).display()
            ),
            Self::Foreign { path } => write!(
                f,
                "{} is a database of another program; give `[spool] path` a folder of its own",
                path.display()
            ),
            Self::Corrupt { path, detail } => write!(
                f,
                "the spool {} is damaged: {detail}; nothing was changed. To go on at once, move its folder \
                 aside and start again with an empty one; to save what is in it, restore {0} with its -wal \
                 file from a backup, or run `sqlite3 {0} .recover` on a copy of the folder",
                path.display()
            ),
            Self::Unsafe { path, detail } => write!(f, "the spool is not safe: {} {detail}", path.display()),
            Self::Io { path, detail } => write!(f, "cannot open the spool: {}: {detail}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why a mail was not taken. It is not in the spool, or not for sure; the sender keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutError {
    /// There is no space for it; there may be later.
    Full,
    /// Another mail has this id. Put it again with another.
    IdTaken,
    /// It could not be written, or the spool is closed.
    Io(String),
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space left for the spool"),
            Self::IdTaken => f.write_str("another mail in the spool has this id"),
            Self::Io(detail) => write!(f, "cannot write to the spool: {detail}"),
        }
    }
}

impl std::error::Error for PutError {}

impl From<Error> for PutError {
    fn from(error: Error) -> Self {
        match error {
            Error::Full => Self::Full,
            other => Self::Io(other.to_string()),
        }
    }
}

/// Why a question to the spool or a change in it failed. A change was then not made, or not for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is no such mail.
    NoSuchMail(MailId),
    /// There is no space; there may be later.
    Full,
    /// A mail was judged again so often that its place in the order has no room for more events.
    NoPlace(MailId),
    /// It could not be read or written, or the spool is closed.
    Io(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchMail(id) => write!(f, "no mail {id} in the spool"),
            Self::Full => f.write_str("no space left for the spool"),
            Self::NoPlace(id) => write!(f, "mail {id} was judged again too often; drop it or send it anew"),
            Self::Io(detail) => write!(f, "cannot use the spool: {detail}"),
        }
    }
}

impl std::error::Error for Error {}
