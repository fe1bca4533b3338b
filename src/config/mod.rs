//! The config file: one TOML document, read into the config of each stage, with every error at once.
//!
//! Each stage owns its section; this module adds them up, finds the teams and reads their secrets. What
//! is not written has a default that works; without any file the defaults are all there is.

mod changes;
mod control;
mod expect;
mod heartbeat;
mod maintenance;
mod names;
mod notices;
mod secrets;
mod signl4;
mod teams;

use std::path::{Path, PathBuf};

pub use control::Control;
pub use expect::Expect;
pub use heartbeat::Heartbeat;
pub use maintenance::{Window, moment};
pub use notices::{MailTls, NoticeMail, Notices};
pub use secrets::{Environment, SecretSource};
pub use teams::{Routes, Team};

use signl4::Signl4;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::authenticity;
use crate::delivery::{self, Connection, Proxy};
use crate::diagnostic::{Diagnostic, Source};
use crate::document::{self, Table};
use crate::incident;
use crate::mail;
use crate::rules;
use crate::smtp;
use crate::spool;

/// Where the config is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/smtp2signl4/smtp2signl4.toml";

/// Stands for the path where there is no file.
const NO_FILE: &str = "(no config file)";

/// Everything that can be configured.
#[derive(Debug)]
pub struct Config {
    /// The file, or none where the defaults are all there is.
    pub path: Option<PathBuf>,
    /// What is written in it.
    written: Written,
    /// The listener.
    pub smtp: smtp::Config,
    /// How senders are authenticated.
    pub authenticity: authenticity::Config,
    /// What the site's mail system does to mails on their way.
    pub mail: mail::Config,
    /// The rules' own settings: where they are, what the site is like.
    pub rules: rules::Config,
    /// Colours, each with the service that has it in SIGNL4.
    pub colors: Vec<(String, String)>,
    /// Where mails are kept.
    pub spool: spool::Config,
    /// How events are posted.
    pub delivery: delivery::Config,
    /// The way to SIGNL4.
    pub connection: Connection,
    /// The webhook's address without the secret.
    pub url: String,
    /// The teams, at least one.
    pub teams: Vec<Team>,
    /// Who learns of trouble.
    pub notices: Notices,
    /// The log.
    pub log: Log,
    /// The socket on which a running service takes commands.
    pub control: Control,
    /// The windows in which mails are kept without being sent.
    pub maintenance: Vec<Window>,
    /// The mails that must come.
    pub expects: Vec<Expect>,
    /// Where to ping while all works; none if nowhere.
    pub heartbeat: Option<Heartbeat>,
}

/// The text of the config, in which there may be a secret.
struct Written(Source);

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Written").field(&self.0.path).finish()
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log {
    /// The least level that is written.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Level {
    /// Only what needs a person.
    Error,
    /// And what may.
    Warn,
    /// And a line for each mail accepted and each event delivered.
    #[default]
    Info,
    /// And each session.
    Debug,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Format {
    /// For people and for journald, which adds the time.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Loads the config: the file at `path` if one is named, else the default file if there is one, else the
/// defaults.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn load(path: Option<&Path>) -> Result<Config, Vec<Diagnostic>> {
    whole(examine(path))
}

/// The same for somebody who looks on after an error: the config as far as it could be read, and everything
/// that is wrong with it.
pub fn examine(path: Option<&Path>) -> (Option<Config>, Vec<Diagnostic>) {
    let named = path.unwrap_or(Path::new(DEFAULT_PATH));
    match std::fs::read_to_string(named) {
        Ok(text) => read(Some(named), &Source::new(named.display().to_string(), text)),
        Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            read(None, &Source::new(NO_FILE, ""))
        }
        Err(error) => {
            let problem =
                Diagnostic::about_file(named.display().to_string(), format!("cannot be read: {error}"));
            (None, vec![problem.help("name another file with --config, or make this one readable")])
        }
    }
}

fn whole((config, problems): (Option<Config>, Vec<Diagnostic>)) -> Result<Config, Vec<Diagnostic>> {
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// Reads the config out of `source`; relative paths in it count from the folder of `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn parse(path: Option<&Path>, source: &Source) -> Result<Config, Vec<Diagnostic>> {
    whole(read(path, source))
}

fn read(path: Option<&Path>, source: &Source) -> (Option<Config>, Vec<Diagnostic>) {
    let folder = path.and_then(Path::parent).unwrap_or(Path::new("")).to_path_buf();
    document::examine(source, |root| {
        if let Some(version) = root.value("version").and_then(|v| v.integer(1..=i64::MAX))
            && version.value != 1
        {
            root.error(
                version.span,
                format!("this program reads version 1 of the config, not version {}", version.value),
                "leave `version` out, or write `version = 1`",
            );
        }
        let smtp = section(root, "smtp", smtp::Config::read);
        let authenticity = section(root, "authenticity", authenticity::Config::read);
        let mail = section(root, "mail", mail::Config::read);
        let mut spool = section(root, "spool", spool::Config::read);
        spool.incidents = section(root, "incidents", incident::Config::read);
        let mut delivery = section(root, "delivery", delivery::Config::read);
        let log = section(root, "log", read_log);
        let signl4 = section(root, "signl4", |table| Signl4::read(table, &folder));
        (delivery.plan, delivery.probe) = (signl4.plan.clone(), signl4.probe);
        let teams = teams::read(root, &signl4, &folder);
        let notices = section(root, "notices", |table| Notices::read(table, &folder, &teams));
        let mut written = false;
        let mut rules = section(root, "rules", |table| {
            written = table.has("paths");
            rules::Config::read(table)
        });
        if !written && path.is_some() && folder.join("rules").is_dir() {
            rules.paths = vec![PathBuf::from("rules")];
        }
        for color in &rules.colors {
            if !signl4.colors.iter().any(|(known, _)| known.eq_ignore_ascii_case(&color.value)) {
                root.error(
                    color.span.clone(),
                    format!("no service has the colour `{}`", color.value),
                    "SIGNL4 shows a service's colour: name the service that has it in [signl4.colors]",
                );
            }
        }
        for path in &mut rules.paths {
            *path = folder.join(&path);
        }
        spool.path = folder.join(&spool.path);
        if path.is_some() {
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.clone() };
            spool.rescue.insert(0, folder);
        }
        let maintenance = maintenance::read(root, &rules);
        let expects = expect::read(root, &rules, &teams);
        let heartbeat = root
            .has("heartbeat")
            .then(|| section(root, "heartbeat", |table| Heartbeat::read(table, &folder)));
        let control = section(root, "control", |table| Control::read(table, &folder, &spool.path));
        Config {
            path: path.map(Path::to_path_buf),
            written: Written(source.clone()),
            smtp,
            authenticity,
            mail,
            rules,
            colors: signl4.colors,
            spool,
            delivery,
            connection: signl4.connection,
            url: signl4.url,
            teams,
            notices,
            log,
            control,
            maintenance,
            expects,
            heartbeat,
        }
    })
}

impl Config {
    /// What the rules must know of the site.
    pub fn site(&self) -> rules::Site {
        let teams = self.teams.iter().map(|team| team.name.clone()).collect();
        rules::Site { mail: self.mail.clone(), ..self.rules.site(self.colors.clone(), teams) }
    }

    /// The settings of this config that differ from those of `started_with` and that a running service does not take up:
    /// they count from its next start.
    pub fn needing_a_restart(&self, started_with: &Self) -> Vec<String> {
        changes::pending(&started_with.written.0, &self.written.0)
    }

    /// The text of the file; none if there is a secret in it, as a proxy's address may have.
    pub fn text_without_secrets(&self) -> Option<&str> {
        let secret = matches!(&self.connection.proxy, Proxy::Url(url) if url.expose().contains('@'));
        (!secret).then_some(&self.written.0.text)
    }

    /// What is wrong with the way to SIGNL4: a CA file or a proxy of which no client can be made.
    pub fn connection_problem(&self) -> Option<Diagnostic> {
        let problem = delivery::verify(&self.connection, &self.url).err()?;
        let path = self.path.as_ref().map_or_else(|| NO_FILE.to_owned(), |path| path.display().to_string());
        Some(Diagnostic::about_file(path, format!("[signl4]: {problem}")).help("see `ca-file` and `proxy`"))
    }

    /// What is wrong with who can read the files of secrets: a line for each that every user of the machine can read.
    pub fn exposed_secrets(&self) -> Vec<String> {
        let login = self.notices.mail.as_ref().and_then(|mail| mail.login.as_ref());
        let teams = self.teams.iter().map(|team| &team.secret);
        let others =
            self.heartbeat.iter().map(|beat| &beat.source).chain(login.map(|(_, password)| password));
        let mut found: Vec<String> = teams.chain(others).filter_map(SecretSource::exposed).collect();
        found.dedup();
        found
    }

    /// What is wrong with the secrets, those of the teams and the heartbeat's: one diagnostic for each that cannot be
    /// had.
    pub fn secret_problems(&self, environment: &Environment) -> Vec<Diagnostic> {
        let path = self.path.as_ref().map_or_else(|| NO_FILE.to_owned(), |path| path.display().to_string());
        let problem = |team: &Team| {
            let message = team.secret.secret(environment).err()?;
            let whose =
                if self.teams.len() > 1 { format!("team `{}`: {message}", team.name) } else { message };
            Some(Diagnostic::about_file(path.as_str(), whose).help(team.secret.how_to_give()))
        };
        let heartbeat = self.heartbeat.as_ref().and_then(|heartbeat| {
            let message = heartbeat.url(environment).err()?;
            let problem = Diagnostic::about_file(path.as_str(), format!("[heartbeat]: {message}"));
            Some(problem.help(Heartbeat::how_to_give()))
        });
        let login = self.notices.mail.as_ref().and_then(|mail| mail.login.as_ref());
        let password = login.and_then(|(_, password)| {
            let message = password.password(environment).err()?;
            let help =
                "name a file by `password-file`, or give the service the credential `notices-password`";
            Some(Diagnostic::about_file(path.as_str(), format!("[notices.mail]: {message}")).help(help))
        });
        self.teams.iter().filter_map(problem).chain(heartbeat).chain(password).collect()
    }
}

/// Reads the section `name` by `read`, which sees an empty table where it is not written.
fn section<T>(root: &mut Table<'_>, name: &'static str, read: impl FnOnce(&mut Table<'_>) -> T) -> T {
    let mut table = root.table(name).unwrap_or_else(|| root.absent(name));
    let value = read(&mut table);
    table.finish();
    value
}

fn read_log(table: &mut Table<'_>) -> Log {
    Log { level: table.word("level").unwrap_or_default(), format: table.word("format").unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment::of(vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    fn parse_text(text: &str) -> Result<Config, Vec<String>> {
        let source = Source::new("gateway.toml", text);
        parse(Some(Path::new("/etc/smtp2signl4/smtp2signl4.toml")), &source).map_err(|found| {
            found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    #[test]
    fn nothing_at_all_is_a_config_once_the_secret_is_in_the_environment() {
        let config = parse_text("").unwrap();
        assert_eq!(config.url, signl4::DEFAULT_URL);
        assert_eq!(config.teams.len(), 1);
        assert_eq!(
            config.teams[0]
                .secret
                .secret(&environment(&[("SIGNL4_TEAM_SECRET", "abc123")]))
                .unwrap()
                .expose(),
            "abc123"
        );
        assert_eq!(config.control.socket, Path::new("/var/lib/smtp2signl4/control"));
    }

    #[test]
    fn the_smallest_useful_config_keeps_working() {
        let text = concat!(
            "[smtp]\nlisten = [\"127.0.0.1:2525\"]\n[signl4]\nurl = \"https://connect.signl4.com/webhook/\"\n",
            "secret-file = \"secret\"\n[spool]\npath = \"/var/lib/smtp2signl4\"\n"
        );
        let config = parse_text(text).unwrap();
        assert_eq!(config.spool.path, Path::new("/var/lib/smtp2signl4"));
    }

    #[test]
    fn every_error_of_every_section_is_told_at_once() {
        let text = "[smpt]\n[signl4]\nurl = 'ftp://x'\ncolors = { rde = 'A' }\n[log]\nlevel = 'loud'\n";
        assert_eq!(
            parse_text(text).unwrap_err(),
            [
                "1:2: unknown field `smpt`",
                "3:7: this is not the address of a webhook",
                "4:12: `rde` is not a colour that SIGNL4 has",
                "6:9: `log.level` cannot be `loud`",
            ]
        );
    }
}
