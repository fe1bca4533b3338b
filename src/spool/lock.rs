//! One process a spool: a lock that the system takes back when its holder dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::error::OpenError;
use super::owner;

/// How long to wait for a holder that is about to let go: a command that queues a mail takes milliseconds,
/// and must not keep the service from starting.
const GRACE: Duration = Duration::from_secs(2);

/// How often to look meanwhile.
const STEP: Duration = Duration::from_millis(20);

/// The lock of a spool, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock in `folder`.
    pub fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join("lock");
        let io = |error| OpenError::io(&path, &error);
        if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
            let detail =
                "is not the file that the service makes: remove it, and see who put it there".to_owned();
            return Err(OpenError::Unsafe { path, detail });
        }
        // And if it becomes one at this moment, it is not followed.
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow)
            .open(&path)
            .map_err(io)?;
        owner::give(&path).map_err(io)?;
        let deadline = Instant::now() + GRACE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(STEP),
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                    return Err(OpenError::Locked { path: folder.to_owned(), pid });
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
        }
        // The pid only serves the message to the next one: a full disk must not keep us from starting.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
