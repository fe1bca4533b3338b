//! Unix sockets in the file system, and the names that the machine has for users and groups.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The users of this machine (passwd(5)).
const USERS: &str = "/etc/passwd";

/// The groups of this machine (group(5)).
pub const GROUPS: &str = "/etc/group";

/// The file of a socket that we made. It goes with this, unless somebody else has put another there.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    inode: (u64, u64),
}

impl Place {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.inode) {
            // A failure cannot be told any more; the next start replaces the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, where a stale socket is replaced. The file has `mode` and, if one is given,
/// `group`.
///
/// # Errors
/// Somebody answers there, something else is there, or the folder is missing or may not be written.
pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> io::Result<(UnixListener, Place)> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                return Err(ErrorKind::AddrInUse.into());
            }
        }
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "something else is there already")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // It gets its mode and its group in a folder that is closed to others: there is no moment in which they could
    // connect.
    let mut folder = path.as_os_str().to_owned();
    folder.push(".new");
    let folder = PathBuf::from(folder);
    let fresh = folder.join("s");
    // What a service left that died at this point.
    let _ = fs::remove_file(&fresh);
    let _ = fs::remove_dir(&folder);
    DirBuilder::new().mode(0o700).create(&folder)?;
    let listener = UnixListener::bind(&fresh)?;
    if let Some(group) = group {
        chown(&fresh, None, Some(group)).map_err(|error| {
            let hint = "the service must be a member of it (SupplementaryGroups= in its unit)";
            io::Error::new(error.kind(), format!("cannot give it to group {group}: {error}; {hint}"))
        })?;
    }
    fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
    let made = fs::symlink_metadata(&fresh)?;
    fs::rename(&fresh, path)?;
    fs::remove_dir(&folder)?;
    Ok((listener, Place { path: path.to_owned(), inode: (made.dev(), made.ino()) }))
}

/// The name of the user `uid`, if the machine's own list has it.
pub fn user_name(uid: u32) -> Option<String> {
    let users = fs::read_to_string(USERS).ok()?;
    entries(&users).find(|(_, id)| *id == uid).map(|(name, _)| name.to_owned())
}

/// The number of the group `name`, if the machine's own list has it.
pub fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string(GROUPS).ok()?;
    entries(&groups).find(|(known, _)| *known == name).map(|(_, id)| id)
}

/// The names and numbers in the lines of passwd(5) or group(5).
fn entries(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_has_its_mode_and_its_group_replaces_a_stale_one_and_goes_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let group = fs::metadata(folder.path()).unwrap().gid();
        // Left by a service that died.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        for mode in [0o600, 0o660, 0o666] {
            let (listener, place) = bind(&path, mode, Some(group)).unwrap();
            let made = fs::symlink_metadata(&path).unwrap();
            assert_eq!((made.mode() & 0o777, made.gid(), place.path()), (mode, group, &*path));
            assert_eq!(bind(&path, mode, None).unwrap_err().kind(), ErrorKind::AddrInUse);
            UnixStream::connect(&path).unwrap();
            drop((listener, place));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        }
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path, 0o660, None).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_socket_of_another_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = bind(&path, 0o600, None).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&path, 0o600, None).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let named =
            |name: &str, text: &str| entries(text).find(|(known, _)| *known == name).map(|(_, id)| id);
        assert_eq!(named("ops", "root:x:0:\nops:x:1007:anna,bert\n"), Some(1007));
        assert_eq!(named("op", "root:x:0:\nops:x:1007:\nop\n+::::::\n"), None);
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(group_id("root"), Some(0));
    }
}
