//! `passwd`: sets the password of a user of the listener, in the file of users or as a line for it.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::diagnostic::Source;
use crate::secret::Secret;
use crate::smtp::users::{self, Names};

use super::site::{Exit, Site, tell_all};
use super::terminal::print;

/// What `passwd` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 passwd thehive                     asks for the password, and changes the file of [smtp] users
  smtp2signl4 passwd thehive --file users        another file, made if there is none
  pwgen -s 24 1 | smtp2signl4 passwd thehive     the password is the first line of standard input
  smtp2signl4 passwd thehive --delete

Where no file is named, the line is printed. A running service reads the file anew within a minute.")]
pub(super) struct Arguments {
    /// The user
    #[arg(value_name = "NAME")]
    name: String,
    /// The file of users [default: `users` of the config, if it is set]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the user out
    #[arg(long)]
    delete: bool,
}

/// The most that a file of a new user may be read and written by. An old file keeps who may, but others never.
const NEW_MODE: u32 = 0o600;
const MOST_MODE: u32 = 0o640;

/// Sets, prints or deletes a line.
pub(super) fn passwd(site: &Site, arguments: &Arguments) -> Exit {
    if let Err(problem) = users::check_name(&arguments.name) {
        eprintln!("smtp2signl4: {problem}");
        return Exit::Usage;
    }
    let file = match &arguments.file {
        Some(file) => Some(file.clone()),
        None => match site.config() {
            Ok(config) => config.smtp.users.map(|file| file.path),
            Err(exit) => return exit,
        },
    };
    if arguments.delete {
        let Some(file) = file else {
            eprintln!("smtp2signl4: name the file of users by --file, or by `users` in [smtp]");
            return Exit::Usage;
        };
        return change(&file, &arguments.name, None);
    }
    let password = match ask() {
        Ok(password) => password,
        Err(problem) => {
            eprintln!("smtp2signl4: {problem}");
            return Exit::Data;
        }
    };
    let line = match users::line(&arguments.name, password.expose()) {
        Ok(line) => line,
        Err(error) => {
            eprintln!("smtp2signl4: the password cannot be hashed: {error}");
            return Exit::Unavailable;
        }
    };
    match file {
        Some(file) => change(&file, &arguments.name, Some(&line)),
        None => {
            print(&format!("{line}\n"));
            Exit::Done
        }
    }
}

/// Puts `line` into the file in the place of that of `name`, or takes that out.
fn change(file: &Path, name: &str, line: Option<&str>) -> Exit {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && line.is_some() => String::new(),
        Err(error) => {
            eprintln!("smtp2signl4: {} cannot be read: {error}", file.display());
            return Exit::Unavailable;
        }
    };
    // A file of something else named by mistake stays as it is.
    if let Err(problems) = Names::parse(&Source::new(file.display().to_string(), text.as_str())) {
        return tell_all(&problems);
    }
    let Some(changed) = users::with_line(&text, name, line) else {
        eprintln!("smtp2signl4: {} has no user {name:?}", file.display());
        return Exit::Data;
    };
    if let Err(error) = replace(file, &changed) {
        eprintln!("smtp2signl4: {} cannot be written: {error}", file.display());
        return Exit::Unavailable;
    }
    print(&format!("{}: {name:?} {}\n", file.display(), if line.is_some() { "set" } else { "deleted" }));
    Exit::Done
}

/// Replaces the file in one step, so that a service that reads it meanwhile finds the old or the new one. Its owner
/// and group stay, and others never may read it. A link stays, and what it leads to is replaced.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let mut new = File::options().write(true).create_new(true).mode(NEW_MODE).open(&fresh)?;
    let written = (|| {
        new.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(file) {
            std::os::unix::fs::fchown(&new, Some(old.uid()), Some(old.gid()))?;
            new.set_permissions(Permissions::from_mode(old.mode() & MOST_MODE))?;
        }
        new.sync_all()?;
        fs::rename(&fresh, file)
    })();
    if written.is_err() {
        // What went wrong is told already.
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// The password: the first line of standard input, or, from a terminal, what is typed twice without being seen.
fn ask() -> Result<Secret, String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line().and_then(usable);
    }
    let first = unseen("Password: ")?;
    if unseen("Again: ")? != first {
        return Err("the two are not the same".to_owned());
    }
    usable(first)
}

fn usable(password: Secret) -> Result<Secret, String> {
    match password.expose() {
        "" => Err("the password is empty".to_owned()),
        text if text.contains('\0') => Err("the password holds a NUL, which no client can send".to_owned()),
        _ => Ok(password),
    }
}

fn read_line() -> Result<Secret, String> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| format!("the password cannot be read: {error}"))?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

/// Reads a line of the terminal while it does not show what is typed.
fn unseen(prompt: &str) -> Result<Secret, String> {
    let stdin = io::stdin();
    let failed = |error| format!("the terminal cannot be made silent: {error}");
    eprint!("{prompt}");
    let before = tcgetattr(&stdin).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(failed)?;
    let line = read_line();
    tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(failed)?;
    eprintln!();
    line
}
