//! The `[control]` section: the socket on which a running service takes commands, and who may use it.

use std::path::{Path, PathBuf};

use crate::document::Table;
use crate::spool;
use crate::unix::{GROUPS, group_id};

/// The name of the socket in the folder of the spool.
const SOCKET: &str = "control";

/// The socket of a running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Where it is.
    pub socket: PathBuf,
    /// Who may connect, as permissions of its file. 0600: the service's own user, and root.
    pub mode: u32,
    /// The group of its file, by number; none for that of the service.
    pub group: Option<u32>,
}

impl Default for Control {
    fn default() -> Self {
        Self::at(spool::Config::default().path.join(SOCKET))
    }
}

impl Control {
    /// The socket at `socket`, for the service's own user and root.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket, mode: 0o600, group: None }
    }

    /// Reads the section. Without `socket` it is in the folder of the spool.
    pub(super) fn read(table: &mut Table<'_>, folder: &Path, spool: &Path) -> Self {
        let socket = table.string("socket").map(|socket| folder.join(socket.value));
        let mut control = Self::at(socket.unwrap_or_else(|| spool.join(SOCKET)));
        if let Some(mode) = table.string("mode") {
            match u32::from_str_radix(&mode.value, 8) {
                Ok(bits) if bits <= 0o777 && bits & 0o600 == 0o600 => control.mode = bits,
                _ => table.error(
                    mode.span,
                    format!("`{}` is not a mode of this socket", mode.value.escape_debug()),
                    "\"0600\" for the service's own user and root, \"0660\" for those of `group` as well, \"0666\" so that \
                     everybody on the machine may hand in mail by `submit`",
                ),
            }
        }
        if let Some(group) = table.string("group") {
            control.group = group.value.parse().ok().or_else(|| group_id(&group.value));
            if control.group.is_none() {
                table.error(
                    group.span.clone(),
                    format!("there is no group `{}` in {GROUPS}", group.value.escape_debug()),
                    "make it with groupadd(8), or write its number",
                );
            }
            if control.mode & 0o060 != 0o060 {
                table.error(
                    group.span,
                    "a group that may not connect has no use",
                    "let it in by `mode = \"0660\"`, or leave `group` out",
                );
            }
        }
        control
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Control, Vec<String>> {
        document::read(&Source::new("t", text), |table| {
            Control::read(table, Path::new("/etc/s"), Path::new("/spool"))
        })
        .map_err(|found| found.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn who_may_connect_is_said_by_a_mode_and_a_group() {
        assert_eq!(read(""), Ok(Control { socket: "/spool/control".into(), mode: 0o600, group: None }));
        let all = read("socket = 'c'\nmode = '0660'\ngroup = '12'");
        assert_eq!(all, Ok(Control { socket: "/etc/s/c".into(), mode: 0o660, group: Some(12) }));
        assert_eq!(read("mode = '0660'\ngroup = 'root'").unwrap().group, Some(0));
        assert_eq!(read("mode = 'rw'").unwrap_err(), ["`rw` is not a mode of this socket"]);
        assert_eq!(read("mode = '0066'").unwrap_err(), ["`0066` is not a mode of this socket"]);
        assert_eq!(read("group = '12'").unwrap_err(), ["a group that may not connect has no use"]);
    }
}
