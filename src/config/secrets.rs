//! Team secrets: where each comes from, and reading it. A secret never stands in the config file, which
//! is readable, copied into tickets and kept in version control.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::document::Table;
use crate::secret::Secret;

/// The environment of the process, taken once, so that tests bring their own.
#[derive(Debug, Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// That of this process; names and values that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        Self::of(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// One made of these names and values.
    pub fn of(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(vars.into_iter().collect())
    }

    /// The value of `name`, if it is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Where a team's secret is to be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretSource {
    /// The file that holds it, from `secret-file`.
    pub file: Option<PathBuf>,
    /// The systemd credential that holds it.
    pub credential: String,
    /// The environment variable that holds it.
    pub variable: String,
}

/// The credential and the variable of the one team that needs no name.
const CREDENTIAL: &str = "signl4-secret";
const VARIABLE: &str = "SIGNL4_TEAM_SECRET";

impl SecretSource {
    /// Reads the keys of `[signl4]`.
    pub fn read(table: &mut Table<'_>, folder: &Path) -> Self {
        refuse_inline(table);
        Self {
            file: table.string("secret-file").map(|file| folder.join(file.value)),
            credential: CREDENTIAL.to_owned(),
            variable: VARIABLE.to_owned(),
        }
    }

    /// Reads the keys of `[[team]]`; the credential and the variable are named after the team.
    pub fn read_for(table: &mut Table<'_>, folder: &Path, team: &str) -> Self {
        let suffix: String = team
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        Self {
            credential: format!("{CREDENTIAL}-{team}"),
            variable: format!("{VARIABLE}_{suffix}"),
            ..Self::read(table, folder)
        }
    }

    /// The secret, from the one place that has it.
    ///
    /// # Errors
    /// In words for an operator: none has it, several have it, or what is there is not a secret. Never
    /// with the secret in it.
    pub fn secret(&self, environment: &Environment) -> Result<Secret, String> {
        self.look_up(environment, "team secret", "secret-file", team_secret)
    }

    /// The same for a password, which may hold anything but a line end.
    ///
    /// # Errors
    /// As those of [`SecretSource::secret`].
    pub fn password(&self, environment: &Environment) -> Result<Secret, String> {
        self.look_up(environment, "password", "password-file", |text| {
            match text.trim_end_matches(['\r', '\n']) {
                "" => Err("is empty"),
                text if text.contains('\n') => Err("is not one line with a password"),
                text => Ok(text),
            }
        })
    }

    /// The same for a secret that is called `what`, whose file is named by `key`. `read` takes it out of the text
    /// that is there, or says what is wrong with that.
    pub(super) fn look_up(
        &self,
        environment: &Environment,
        what: &str,
        key: &str,
        read: impl for<'t> Fn(&'t str) -> Result<&'t str, &'static str>,
    ) -> Result<Secret, String> {
        let credential = environment
            .var("CREDENTIALS_DIRECTORY")
            .map(|folder| Path::new(folder).join(&self.credential))
            .filter(|path| path.exists());
        let variable = environment.var(&self.variable);
        let places: Vec<String> = [
            self.file.as_ref().map(|path| format!("`{key}` ({})", path.display())),
            credential.as_ref().map(|_| format!("the systemd credential `{}`", self.credential)),
            variable.map(|_| format!("the environment variable {}", self.variable)),
        ]
        .into_iter()
        .flatten()
        .collect();
        match places.as_slice() {
            [] => return Err(format!("there is no {what}")),
            [_] => {}
            several => {
                return Err(format!("the {what} is given more than once: by {}", several.join(" and by ")));
            }
        }
        let text = match (self.file.as_ref().or(credential.as_ref()), variable) {
            (Some(path), _) => std::fs::read_to_string(path)
                .map_err(|error| format!("the {what} cannot be read from {}: {error}", path.display()))?,
            (None, variable) => variable.unwrap_or_default().to_owned(),
        };
        read(&text).map(Secret::new).map_err(|problem| format!("{} {problem}", places[0]))
    }

    /// What is wrong with who can read the file, if there is one: a secret is for the service alone.
    pub fn exposed(&self) -> Option<String> {
        let path = self.file.as_ref()?;
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        (mode & 0o004 != 0).then(|| {
            format!(
                "{} holds a secret, and every user of this machine can read it: chmod 0600 it, and chown it to the \
                 service's user",
                path.display()
            )
        })
    }

    /// How to give the secret, for the help line of an error.
    pub fn how_to_give(&self) -> String {
        format!(
            "put it in a file and name it by `secret-file`, or set {}, or give the service the systemd credential \
             `{}`; `smtp2signl4 demo` shows everything without one",
            self.variable, self.credential
        )
    }
}

fn refuse_inline(table: &mut Table<'_>) {
    if let Some(inline) = table.value("secret") {
        let problem = table.source().diagnostic(inline.span(), "a team secret does not belong in this file");
        table.report(
            problem.masked().help(
                "put it in a file of its own, readable by the service only, and name it by `secret-file`",
            ),
        );
    }
}

/// The team or integration secret in `text`, or what is wrong with it.
fn team_secret(text: &str) -> Result<&str, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        Err("is empty")
    } else if text.contains("://") {
        Err("holds a whole address: keep only what follows `/webhook/`")
    } else if text.contains('@') {
        Err("holds a mail address: keep only what stands before the `@`")
    } else if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~'))
    {
        Err("holds more than a secret: only letters, digits, `-` and `_` can be in one")
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: Option<&Path>) -> SecretSource {
        SecretSource {
            file: file.map(Path::to_path_buf),
            credential: CREDENTIAL.to_owned(),
            variable: VARIABLE.to_owned(),
        }
    }

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment::of(vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn a_secret_comes_from_exactly_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "from-file\n").unwrap();
        std::fs::write(folder.path().join(CREDENTIAL), "from-credential").unwrap();
        let credentials = folder.path().to_str().unwrap();

        let none = environment(&[]);
        let variable = environment(&[(VARIABLE, "from-variable")]);
        let credential = environment(&[("CREDENTIALS_DIRECTORY", credentials)]);

        assert_eq!(source(Some(&file)).secret(&none).unwrap().expose(), "from-file");
        assert_eq!(source(None).secret(&variable).unwrap().expose(), "from-variable");
        assert_eq!(source(None).secret(&credential).unwrap().expose(), "from-credential");
        assert_eq!(source(None).secret(&none).unwrap_err(), "there is no team secret");
        assert!(source(Some(&file)).secret(&variable).unwrap_err().contains("more than once"));
    }

    #[test]
    fn a_file_that_every_user_can_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "s3cret").unwrap();
        let told = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            source(Some(&file)).exposed()
        };
        assert!(told(0o644).is_some_and(|told| told.contains("chmod 0600") && !told.contains("s3cret")));
        assert_eq!(told(0o640), None);
        assert_eq!(source(None).exposed(), None);
    }

    #[test]
    fn what_is_not_a_secret_is_refused_without_being_shown() {
        for wrong in
            ["https://connect.signl4.com/webhook/s3cret", "s3cret@mail.signl4.com", "two s3cret words"]
        {
            let told = source(None).secret(&environment(&[(VARIABLE, wrong)])).unwrap_err();
            assert!(!told.contains("s3cret"), "{told}");
        }
    }
}
