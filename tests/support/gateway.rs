//! The real program, run on a site of its own: a folder with a config, a secret and a spool.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::Value;
use smtp2signl4::standin::Standin;
use tempfile::TempDir;

use super::{Process, SECRET, run};

/// A folder with a config, a secret and a spool, on which gateways run one after another.
pub struct Site {
    folder: TempDir,
    settings: BTreeMap<(&'static str, &'static str), String>,
    appendix: String,
}

impl Site {
    /// A site whose team is that of `standin`, and whose gateways listen on a port of the system's choice.
    pub fn new(standin: &Standin) -> Self {
        // Other users go through this folder, as Postfix and what it starts do; the spool is private by itself.
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("smtp2signl4-").permissions(open).tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let mut site = Self { folder, settings: BTreeMap::new(), appendix: String::new() };
        site.set("smtp", "listen", "['127.0.0.1:0']");
        site.set("signl4", "url", format!("'{}'", standin.url()));
        site.set("signl4", "secret-file", "'secret'");
        // A stand-in counts what it is sent, and bears more than an account does.
        site.set("signl4", "plan", "'unlimited'");
        site.set("signl4", "probe", "false");
        site.set("spool", "path", "'spool'");
        site.set("log", "format", "'json'");
        site
    }

    /// Writes `key = value` into `[section]`, over what was there.
    pub fn set(&mut self, section: &'static str, key: &'static str, value: impl Into<String>) {
        self.settings.insert((section, key), value.into());
    }

    /// Leaves `key` out of `[section]`.
    pub fn unset(&mut self, section: &'static str, key: &'static str) {
        self.settings.remove(&(section, key));
    }

    /// Adds TOML to the end of the config, such as a `[[team]]`.
    pub fn append(&mut self, toml: &str) {
        self.appendix.push_str(toml);
    }

    /// Puts TOML in the place of all that was added to the end of the config.
    pub fn replace_appendix(&mut self, toml: &str) {
        toml.clone_into(&mut self.appendix);
    }

    /// The path of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the spool.
    pub fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// Writes the config as it is now and returns its path.
    pub fn config(&self) -> PathBuf {
        let mut text = String::new();
        let mut last = "";
        for ((section, key), value) in &self.settings {
            if *section != last {
                writeln!(text, "[{section}]").unwrap();
                last = section;
            }
            writeln!(text, "{key} = {value}").unwrap();
        }
        text.push_str(&self.appendix);
        let path = self.path("smtp2signl4.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `smtp2signl4 ARGUMENTS` with this site's config and nothing of the tester's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(self.config());
        command.env_clear().env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs the service and waits until it listens.
    pub fn start(&self) -> Gateway {
        self.start_with(&[])
    }

    /// The same with these variables in its environment.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Gateway {
        let mut command = self.command(&["run"]);
        command.envs(variables.iter().copied());
        let process = Process::spawn(command, "");
        let address = process.wait_for("address that it listens on", |line| {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                return line.split_once("listening address=\"")?.1.split('"').next()?.parse().ok();
            };
            line["address"].as_str().filter(|_| line["message"] == "listening")?.parse().ok()
        });
        Gateway { process, address }
    }
}

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_smtp2signl4"))
}

/// A running service.
pub struct Gateway {
    process: Process,
    address: SocketAddr,
}

impl Gateway {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, whose output is its log: one JSON object a line.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: the program of that name is not on every machine.
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("kill -{name} {}", self.process.id()));
        run(shell, "");
    }

    /// Stops it as systemd does, which must go well, and returns its log.
    pub fn stop(mut self) -> Vec<String> {
        self.signal("TERM");
        let status = self.process.wait();
        assert_eq!(status.code(), Some(0), "{status}");
        self.process.lines()
    }

    /// Waits until it ends by itself; how, and its log.
    pub fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        (self.process.wait(), self.process.lines())
    }

    /// Kills it: no code of its own runs any more. Returns its log.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill();
        self.process.wait();
        self.process.lines()
    }
}
