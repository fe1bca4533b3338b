//! What commands share: where the config is, how a command ends, and the runtime that it has.

use std::path::PathBuf;

use crate::config::{self, Config, Environment};
use crate::diagnostic::Diagnostic;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// It did what was asked.
    Done = 0,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// What was handed in is wrong (EX_DATAERR).
    Data = 65,
    /// Something that it needs is not there (EX_UNAVAILABLE).
    Unavailable = 69,
    /// A part of this program has failed (EX_SOFTWARE).
    Software = 70,
    /// It may work later; a mail system keeps the mail and tries again (EX_TEMPFAIL).
    Temporary = 75,
    /// The config or the rules are wrong (EX_CONFIG).
    Config = 78,
}

/// Where a command finds its config.
pub(super) struct Site {
    pub(super) path: Option<PathBuf>,
    pub(super) environment: Environment,
}

impl Site {
    /// The config, or its errors told on standard error.
    pub(super) fn config(&self) -> Result<Config, Exit> {
        config::load(self.path.as_deref()).map_err(|problems| tell_all(&problems))
    }
}

/// Tells every problem on standard error.
pub(super) fn tell_all(problems: &[Diagnostic]) -> Exit {
    for problem in problems {
        eprintln!("{problem}\n");
    }
    eprintln!("{} error{} found", problems.len(), if problems.len() == 1 { "" } else { "s" });
    Exit::Config
}

/// The runtime that a command's asynchronous part runs on.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads and timers can be had at the start of a process")
}
