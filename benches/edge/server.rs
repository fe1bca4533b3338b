//! The servers that are measured, each in a process of its own.

use std::io::{self, BufRead};
use std::process::{Child, Command, Stdio};

use smtp2signl4::standin::{Options, Standin};
use tokio_rustls::TlsConnector;

use super::{ALONE, Way, certificate, smtp_section, support};

/// A server in a process of its own.
pub struct Server {
    /// What it is called.
    pub name: &'static str,
    child: Child,
    /// How its clients come to it.
    pub way: Way,
    /// What the gateway posts to, and where it keeps its mails.
    _behind: Behind,
}

/// What must not go before a server does.
type Behind = (Option<Standin>, tempfile::TempDir);

/// What a process has used.
pub struct Usage {
    /// Seconds of CPU.
    pub cpu: f64,
    /// Resident memory in bytes, now and at its peak.
    pub memory: u64,
    pub peak: u64,
}

impl Server {
    /// The server of this name; none if it is not installed.
    pub async fn start(name: &'static str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let tls = name.ends_with("TLS").then(|| certificate(folder.path()));
        match name {
            "smtp-sink" => Self::smtp_sink(folder).await,
            "edge" | "edge, TLS" => {
                let mut edge = Command::new(std::env::current_exe().unwrap());
                edge.arg(ALONE).arg(folder.path());
                Some(Self::spawn(name, &mut edge, tls, (None, folder)))
            }
            _ => {
                let standin = Standin::start(Options { keep: 0, ..Options::default() }).await.unwrap();
                let config = folder.path().join("gateway.toml");
                let text = format!(
                    "[smtp]\n{}[signl4]\nurl = \"{}\"\nproxy = false\n[incidents]\nstorm = false\n\
                     [spool]\npath = \"spool\"\nsync = \"off\"\n\
                     [log]\nformat = \"json\"\n",
                    smtp_section(folder.path()),
                    standin.url()
                );
                std::fs::write(&config, text).unwrap();
                let mut command = Command::new(env!("CARGO_BIN_EXE_smtp2signl4"));
                command.args(["run", "--config"]).arg(&config).env("SIGNL4_TEAM_SECRET", "bench");
                Some(Self::spawn(name, &mut command, tls, (Some(standin), folder)))
            }
        }
    }

    /// Runs a command that tells its address.
    fn spawn(name: &'static str, command: &mut Command, tls: Option<TlsConnector>, behind: Behind) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = io::BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "{name} ended");
            if let Some((_, rest)) = line.split_once("\"address\":\"") {
                break rest[..rest.find('"').unwrap()].parse().unwrap();
            }
        };
        // The log goes on being read, as journald would.
        std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Self { name, child, way: Way { address, tls }, _behind: behind }
    }

    async fn smtp_sink(folder: tempfile::TempDir) -> Option<Self> {
        let (child, address) = support::smtp_sink().await?;
        Some(Self { name: "smtp-sink", child, way: Way { address, tls: None }, _behind: (None, folder) })
    }

    /// What it has used up to now.
    pub fn usage(&self) -> Usage {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let stat = read("stat");
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = read("status");
        let memory = |key: &str| {
            let kib = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
        };
        // USER_HZ is 100 on every Linux that Rust's standard library runs on.
        Usage { cpu: ticks as f64 / 100.0, memory: memory("VmRSS:"), peak: memory("VmHWM:") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
