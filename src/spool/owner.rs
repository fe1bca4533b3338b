//! Who owns what is made in the spool: the owner of its folder. A command that root runs beside a service
//! with a user of its own must leave nothing there that the service cannot read.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Gives `path`, just made, to the owner of the folder that it is in, if that is another user.
pub(super) fn give(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let (owner, made) = (fs::metadata(folder)?, fs::metadata(path)?);
    if owner.uid() == made.uid() {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn what_root_makes_in_the_services_folder_is_the_services() {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(65_534), Some(65_534)).unwrap();
        let file = folder.path().join("made");
        fs::write(&file, "").unwrap();
        give(&file).unwrap();
        let made = fs::metadata(&file).unwrap();
        assert_eq!((made.uid(), made.gid()), (65_534, 65_534));
    }
}
