//! File metadata: whether a file changed, by device, inode, size and time (a replaced file differs in at least one),
//! and whether every user may read it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a file looked like from outside; none if it could not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    /// The stamp of the file at `path`, behind any symbolic link: certbot's names are links.
    pub fn of(path: &Path) -> Self {
        Self(
            fs::metadata(path)
                .ok()
                .map(|seen| (seen.dev(), seen.ino(), seen.size(), seen.mtime(), seen.mtime_nsec())),
        )
    }
}

/// What to say about a file with secrets that everybody on the machine may read; none if they may not.
pub fn open_to_all(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode();
    (mode & 0o007 != 0)
        .then(|| format!("{0} is open to everybody on this machine: chmod o= {0}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_or_is_gone_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&path, "same").unwrap();
        let first = Stamp::of(&path);
        assert_eq!(Stamp::of(&path), first);
        fs::write(&other, "same").unwrap();
        fs::rename(&other, &path).unwrap();
        let second = Stamp::of(&path);
        assert_ne!(second, first);
        fs::remove_file(&path).unwrap();
        assert_ne!(Stamp::of(&path), second);
    }
}
