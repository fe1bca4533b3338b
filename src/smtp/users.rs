//! The users of the listener: a file with a line for each, `name:$argon2id$…`, as `smtp2signl4 passwd` writes it.
//!
//! Checking a password takes the same time for an unknown name as for a known one, provided that
//! all lines were made with the same costs, and a hash cannot ask for more memory than [`MAX_MEMORY`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version};
use tracing::{error, info};

use crate::diagnostic::{Diagnostic, Source};
use crate::document::NamedFile;

use super::stamp;
use super::stamp::Stamp;

/// The most memory that checking a password may take, in KiB: three times what `passwd` asks for, which is 19 MiB.
const MAX_MEMORY: u32 = 64 << 10;

/// The most passes over it: an attacker waits for each of them, and so does everybody behind him.
const MAX_PASSES: u32 = 10;

/// The longest name, in bytes.
const MAX_NAME: usize = 255;

/// Checked where the file has no line at all. No password fits it.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c210cDJzaWdubDQtbm9ib2R5$S2mCQuyAdgdvTN0WZXmvSbyQH6Vw5dcH2iEzUFsyqSM";

/// The memory in which passwords are checked, one after the other. It grows to what the costliest hash needs and
/// stays, as an allocator would keep as much for each thread that ever checked one.
#[derive(Default)]
pub struct Workspace(Vec<Block>);

/// The names and hashes of one state of the file.
#[derive(Debug)]
pub struct Names {
    hashes: HashMap<String, PasswordHash>,
    /// The costliest of them, against which the passwords of unknown names are checked.
    nobody: PasswordHash,
}

/// A file of users, kept up with its changes.
#[derive(Debug)]
pub struct Users {
    file: NamedFile,
    current: RwLock<(Arc<Names>, Stamp)>,
}

impl Names {
    /// Reads the lines of `source`. Empty lines and those that begin with `#` are for people.
    ///
    /// # Errors
    /// Each line that is wrong. The hashes in it are not shown.
    pub fn parse(source: &Source) -> Result<Self, Vec<Diagnostic>> {
        let mut hashes = HashMap::new();
        let mut problems = Vec::new();
        let mut at = 0;
        for line in source.text.split_inclusive('\n') {
            let start = at;
            at += line.len();
            let line = line.trim_end();
            if line.trim_start().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            match user(line) {
                Ok((name, _)) if hashes.contains_key(name) => {
                    let span = start..start + name.len();
                    problems.push(source.diagnostic(span, "this user has a line already").masked());
                }
                Ok((name, hash)) => _ = hashes.insert(name.to_owned(), hash),
                Err(problem) => problems.push(
                    // Somebody may have written a password where its hash belongs.
                    source
                        .diagnostic(start..start + line.len(), problem)
                        .masked()
                        .help("a line for each user: `smtp2signl4 passwd NAME` makes it"),
                ),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let nobody = PasswordHash::new(NOBODY).expect("this hash is well-formed");
        let nobody = hashes.values().max_by_key(|hash| cost(hash)).cloned().unwrap_or(nobody);
        Ok(Self { hashes, nobody })
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// True if there is no user.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether `password` is that of the user `name`. It takes tens of milliseconds, and in `workspace` the memory
    /// of the hash.
    pub fn check(&self, name: &str, password: &str, workspace: &mut Workspace) -> bool {
        let known = self.hashes.get(name);
        let right = workspace.verify(password, known.unwrap_or(&self.nobody)).unwrap_or(false);
        right && known.is_some()
    }
}

impl Workspace {
    /// Whether `password` is the one that was hashed. None if the hash has no salt or output, or impossible costs.
    fn verify(&mut self, password: &str, hash: &PasswordHash) -> Option<bool> {
        let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
        let params = Params::try_from(hash).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
        let needed = params.block_count();
        if self.0.len() < needed {
            // The old memory goes first, so that there are never both.
            self.0 = Vec::new();
            self.0 = vec![Block::new(); needed];
        }
        let mut found = [0; Output::MAX_LENGTH];
        let found = found.get_mut(..expected.len())?;
        Argon2::new(algorithm, version, params)
            .hash_password_into_with_memory(password.as_bytes(), salt, found, &mut self.0)
            .ok()?;
        // It compares in constant time.
        Some(Output::new(found).ok()? == *expected)
    }
}

impl fmt::Debug for Workspace {
    /// Shows how many blocks it has, for what they hold comes from a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Workspace").field(&self.0.len()).finish()
    }
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// That it cannot be read, at its place in the config; or each line that is wrong, at its place in the file.
    pub fn load(file: &NamedFile) -> Result<Self, Vec<Diagnostic>> {
        let stamp = Stamp::of(&file.path);
        let names = read(file)?;
        Ok(Self { file: file.clone(), current: RwLock::new((Arc::new(names), stamp)) })
    }

    /// The users as they are now.
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What an operator should know: hashes that everybody may try passwords on.
    pub fn warning(&self) -> Option<String> {
        stamp::open_to_all(&self.file.path)
    }

    /// Reads the file anew if it changed since it was last read. One that is wrong leaves the users as they were,
    /// and is told once for each change. It blocks.
    pub fn look(&self) {
        let stamp = Stamp::of(&self.file.path);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == stamp {
            return;
        }
        let names = read(&self.file);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.1 = stamp;
        match names {
            Ok(names) => {
                info!(file = %self.file.path.display(), users = names.len(), "new users");
                current.0 = Arc::new(names);
            }
            Err(problems) => {
                for problem in &problems {
                    error!("{problem}");
                }
                error!("the new users cannot be used; the old ones stay");
            }
        }
    }
}

fn read(file: &NamedFile) -> Result<Names, Vec<Diagnostic>> {
    let path = file.path.display().to_string();
    match std::fs::read_to_string(&file.path) {
        Ok(text) => Names::parse(&Source::new(path, text)),
        Err(error) => Err(vec![file.diagnostic(format!("{path} cannot be read: {error}")).help(
            "`smtp2signl4 passwd NAME --file FILE` makes it; the service's own user must be able to read it",
        )]),
    }
}

/// The name and the hash of a line.
fn user(line: &str) -> Result<(&str, PasswordHash), &'static str> {
    let (name, hash) = line.split_once(':').ok_or("this is not `name:hash`")?;
    check_name(name)?;
    let hash = PasswordHash::new(hash).map_err(|_| "behind the name is no hash of a password")?;
    if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
        return Err("only hashes of argon2id are taken");
    }
    let params = Params::try_from(&hash).map_err(|_| "the costs of this hash cannot be")?;
    if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
        return Err(
            "this hash costs more than 64 MiB or 10 passes, and everybody could make the service pay it",
        );
    }
    Ok((name, hash))
}

fn cost(hash: &PasswordHash) -> u32 {
    Params::try_from(hash).map_or(0, |params| params.m_cost() * params.t_cost())
}

/// Whether somebody can be called `name`.
///
/// # Errors
/// Why not, in words.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("the user has no name")
    } else if name.len() > MAX_NAME {
        Err("the name is longer than 255 bytes")
    } else if name.trim() != name
        || name.starts_with('#')
        || name.contains(|c: char| c == ':' || c.is_control())
    {
        Err(
            "the name begins with `#`, begins or ends with a space, or has a colon or control character in it",
        )
    } else {
        Ok(())
    }
}

/// The line of a user, with a fresh salt and no line end.
///
/// # Errors
/// The system has no random bits.
pub fn line(name: &str, password: &str) -> Result<String, argon2::password_hash::Error> {
    let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes())?;
    Ok(format!("{name}:{hash}"))
}

/// `text` with `line` in the place of the line of the user `name`, or at the end; without it if there is no `line`.
/// None if it has no such line and none is to be put in.
pub fn with_line(text: &str, name: &str, line: Option<&str>) -> Option<String> {
    let is_of_user = |written: &str| written.split_once(':').is_some_and(|(user, _)| user == name);
    let mut found = false;
    let mut lines: Vec<&str> = Vec::new();
    for written in text.lines() {
        if !is_of_user(written) {
            lines.push(written);
        } else if !found {
            found = true;
            lines.extend(line);
        }
    }
    if !found {
        lines.push(line?);
    }
    Some(lines.iter().map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash that costs nothing to check, of the password `right`.
    fn cheap(password: &str) -> String {
        costing(8, password)
    }

    fn costing(memory: u32, password: &str) -> String {
        let params = Params::new(memory, 1, 1, None).unwrap();
        let hash: PasswordHash = Argon2::from(params).hash_password(password.as_bytes()).unwrap();
        hash.to_string()
    }

    fn problems(text: &str) -> Vec<String> {
        let found = Names::parse(&Source::new("users", text)).unwrap_err();
        found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
    }

    #[test]
    fn a_password_is_right_for_its_user_only() {
        let text = format!("# the hive\nhive:{}\n\njörg@soc:{}\r\n", cheap("right"), cheap("other"));
        let names = Names::parse(&Source::new("users", text)).unwrap();
        let check = |name, password| names.check(name, password, &mut Workspace::default());
        assert_eq!(names.len(), 2);
        assert!(check("hive", "right"));
        assert!(check("jörg@soc", "other"));
        for (name, password) in
            [("hive", "other"), ("hive", ""), ("nobody", "right"), ("", ""), ("Hive", "right")]
        {
            assert!(!check(name, password), "{name} {password}");
        }
    }

    #[test]
    fn an_unknown_name_costs_what_the_costliest_hash_costs() {
        let text = format!("small:{}\nbig:{}\n", cheap("s"), costing(64, "b"));
        let names = Names::parse(&Source::new("users", text)).unwrap();
        let mut workspace = Workspace::default();
        assert!(!names.check("stranger", "b", &mut workspace));
        assert_eq!(workspace.0.len(), 64);
        let nobody = Names::parse(&Source::new("users", "")).unwrap();
        let mut workspace = Workspace::default();
        assert!(!nobody.check("stranger", "x", &mut workspace));
        assert_eq!(workspace.0.len(), 19_456, "as much as `passwd` makes the hash of a user cost");
    }

    #[test]
    fn a_file_without_users_lets_nobody_in() {
        let names = Names::parse(&Source::new("users", "# nobody yet\n")).unwrap();
        assert!(names.is_empty());
        assert!(!names.check("hive", "nobody", &mut Workspace::default()));
    }

    #[test]
    fn every_line_that_is_wrong_is_told_without_what_it_holds() {
        let good = cheap("x");
        let text = format!(
            "hive:{good}\nhive:{good}\nplain:s3cret\nno colon s3cret\n:{good}\nold:$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA\n\
             big:$argon2id$v=19$m=1048576,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA\n"
        );
        assert_eq!(
            problems(&text),
            [
                "2:1: this user has a line already",
                "3:1: behind the name is no hash of a password",
                "4:1: this is not `name:hash`",
                "5:1: the user has no name",
                "6:1: only hashes of argon2id are taken",
                "7:1: this hash costs more than 64 MiB or 10 passes, and everybody could make the service pay it",
            ]
        );
        let shown: String =
            Names::parse(&Source::new("users", text)).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(!shown.contains("s3cret") && !shown.contains("argon2i$"), "{shown}");
    }

    #[test]
    fn a_line_that_was_made_can_be_read_and_costs_what_the_standard_asks() {
        let line = line("hive", "s3cret").unwrap();
        assert!(line.starts_with("hive:$argon2id$v=19$m=19456,t=2,p=1$"), "{line}");
        let names = Names::parse(&Source::new("users", line)).unwrap();
        assert!(names.check("hive", "s3cret", &mut Workspace::default()));
    }

    #[test]
    fn a_workspace_holds_as_much_as_the_costliest_hash_and_serves_all() {
        let text = format!("small:{}\nbig:{}\n", cheap("s"), costing(64, "b"));
        let names = Names::parse(&Source::new("users", text)).unwrap();
        let mut workspace = Workspace::default();
        assert!(names.check("small", "s", &mut workspace));
        assert_eq!(workspace.0.len(), 8);
        assert!(names.check("big", "b", &mut workspace));
        let memory = (workspace.0.as_ptr(), workspace.0.capacity());
        assert_eq!(memory.1, 64);
        // What the one before left in it makes no difference.
        for (name, password, right) in
            [("small", "s", true), ("small", "b", false), ("big", "b", true), ("nobody", "b", false)]
        {
            assert_eq!(names.check(name, password, &mut workspace), right, "{name} {password}");
            assert_eq!((workspace.0.as_ptr(), workspace.0.capacity()), memory);
        }
    }

    #[test]
    fn a_line_takes_the_place_of_the_old_one_and_the_rest_stays() {
        let text = "# users\nhive:old\nother:x";
        assert_eq!(with_line(text, "hive", Some("hive:new")).unwrap(), "# users\nhive:new\nother:x\n");
        assert_eq!(with_line(text, "new", Some("new:y")).unwrap(), "# users\nhive:old\nother:x\nnew:y\n");
        assert_eq!(with_line(text, "hive", None).unwrap(), "# users\nother:x\n");
        assert_eq!(with_line(text, "nobody", None), None);
    }
}
