//! `demo`: the real gateway on loopback, with a stand-in for SIGNL4 that takes its events. Sample mails of
//! real senders go in by SMTP; for each it shows the mail, the rules that held and the event as received.

use crate::words::Words;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::clock::System;
use crate::config::{self, Config, Environment};
use crate::diagnostic::Source;
use crate::event::shown_size;
use crate::gateway::Gateway;
use crate::spool::State;
use crate::standin::{Options, Request, Standin};

use super::site::{Exit, runtime, tell_all};
use super::terminal::print;

/// What `demo` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 demo              shows the samples and stays up for mails of your own
  smtp2signl4 demo --once       ends after the samples; exit 0 if every event arrived")]
pub(super) struct Arguments {
    /// End after the samples
    #[arg(long)]
    once: bool,
    /// The address that the gateway listens on
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "ADDRESS")]
    listen: SocketAddr,
}

macro_rules! samples {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../tests/mail/", $path)))),*]
    };
}

/// Mails as their senders write them, in the order of a night on call.
const SAMPLES: &[(&str, &[u8])] = samples![
    "thehive4/alert-created.eml",
    "thehive5/case-severity.eml",
    "thehive5/case-closed.eml",
    "cortex-mailer/case.eml",
    "signl4/native-new.eml",
    "zabbix/problem.eml",
    "cron/failed-backup.eml",
    // Once more: it is counted and pages nobody.
    "zabbix/problem.eml",
];

/// The secret of the stand-in's only team.
const SECRET: &str = "demo";

/// How long a sample's event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows the samples, and then whatever comes.
pub(super) fn demo(arguments: &Arguments) -> Exit {
    runtime().block_on(async {
        match Stage::set(arguments).await {
            Ok(stage) => stage.play(arguments).await,
            Err(exit) => exit,
        }
    })
}

/// A gateway and a stand-in, and the folder that their spool is in.
struct Stage {
    gateway: Gateway,
    standin: Standin,
    folder: std::path::PathBuf,
}

impl Stage {
    async fn set(arguments: &Arguments) -> Result<Self, Exit> {
        let unavailable = |what: &str, error: &dyn std::fmt::Display| {
            eprintln!("smtp2signl4: {what}: {error}");
            Exit::Unavailable
        };
        let standin = Standin::start(Options { secrets: vec![SECRET.to_owned()], ..Options::default() })
            .await
            .map_err(|error| unavailable("the stand-in for SIGNL4", &error))?;
        let folder = std::env::temp_dir().join(format!("smtp2signl4-demo-{:016x}", fastrand::u64(..)));
        // Made anew and ours alone: others can write where it stands.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| unavailable("a folder for the spool", &error))?;
        let config = stage_config(arguments, &standin, &folder);
        let environment = Environment::of([("SIGNL4_TEAM_SECRET".to_owned(), SECRET.to_owned())]);
        let config = config::parse(None, &config).map_err(|problems| tell_all(&problems))?;
        match start(&config, &environment).await {
            Ok(gateway) => Ok(Self { gateway, standin, folder }),
            Err(exit) => {
                let _ = std::fs::remove_dir_all(&folder);
                Err(exit)
            }
        }
    }

    async fn play(self, arguments: &Arguments) -> Exit {
        let address = self.gateway.addresses()[0];
        print(&format!(
            "The gateway listens on {address}; a stand-in for SIGNL4 takes its events at {}\n",
            self.standin.url()
        ));
        let mut missing = 0;
        for (name, content) in SAMPLES {
            let before = self.standin.taken();
            let (shown, expected) = self.explain(name, content);
            print(&shown);
            let content = content.to_vec();
            let sent = tokio::task::spawn_blocking(move || send(address, &content)).await;
            let mut kept = 0;
            match sent.expect("the client does not panic") {
                Ok(reply) => {
                    print(&format!("  SMTP    {reply}\n"));
                    for (state, reason) in self.kept(&reply).await {
                        print(&format!("  {:<7} {reason}\n", state.word()));
                        kept += 1;
                    }
                }
                Err(error) => {
                    print(&format!("  SMTP    failed: {error}\n"));
                    missing += 1;
                    continue;
                }
            }
            match tokio::time::timeout(PATIENCE, self.standin.wait_for_events(before + expected - kept)).await
            {
                Ok(events) => {
                    for event in &events[place(before)..] {
                        print(&received(event));
                    }
                }
                Err(_) => {
                    print("  event   did not arrive\n");
                    missing += 1;
                }
            }
        }
        print(&format!(
            "\n{} of {} sample mails ended as the rules said\n",
            SAMPLES.len() - missing,
            SAMPLES.len()
        ));
        if !arguments.once {
            self.stay(address).await;
        }
        self.gateway.stop().await;
        // The folder is under the system's own for such things, which cleans up what cannot be removed here.
        let _ = std::fs::remove_dir_all(&self.folder);
        if missing == 0 { Exit::Done } else { Exit::Unavailable }
    }

    /// What the mail says and which rules hold for it, and how many events that makes.
    fn explain(&self, name: &str, content: &[u8]) -> (String, u64) {
        let message = self.gateway.intake().context().rules.get().read(content);
        let envelope = super::explain::Envelope::default().of(&message, System);
        let mut shown = format!("\n{name}\n  mail    {}\n", message.subject);
        let first = message.text.lines().filter(|line| !line.trim().is_empty()).take(3);
        first.for_each(|line| shown.push_str(&format!("          {line}\n")));
        let mut events = 0;
        for team in self.gateway.intake().context().teams.reached(&envelope.recipients) {
            let judgement = self.gateway.intake().context().rules.get().judge(&crate::rules::Subject {
                message: &message,
                envelope: &envelope,
                team: &team,
            });
            events += judgement.events.len() as u64;
            let sources = judgement.trace.pieces.iter().flat_map(|piece| &piece.sources);
            for (source, rule) in
                sources.flat_map(|source| source.rules.iter().map(move |rule| (source, rule)))
            {
                shown.push_str(&format!("  rule    {}: {}\n", source.source, rule.rule));
            }
            if let Some(dropped) = &judgement.dropped {
                shown.push_str(&format!("  dropped {}\n", dropped.reason));
            }
        }
        (shown, events)
    }

    /// The events of the mail that `reply` names that are kept and not sent, and why.
    async fn kept(&self, reply: &str) -> Vec<(State, String)> {
        let Some(id) = reply.split_whitespace().last().and_then(|id| id.parse().ok()) else {
            return Vec::new();
        };
        let shown = self.gateway.intake().context().spool.reader().show(id).await.ok().flatten();
        let events = shown.into_iter().flat_map(|shown| shown.events).map(|event| event.listed);
        let kept =
            events.filter(|event| matches!(event.state, State::Counted | State::Muted | State::Folded));
        kept.map(|event| (event.state, event.reason.unwrap_or_default())).collect()
    }

    /// Shows events of the reader's own mails until Ctrl-C.
    async fn stay(&self, address: SocketAddr) {
        print(&format!(
            "\nNow send your own; Ctrl-C ends this:\n  \
             swaks --server {address} --from you@example.org --to soc@example.org --header 'Subject: Disk full on db01'\n  \
             printf 'Subject: Disk full on db01\\n\\n/var is at 99 %%\\n' | curl -sS smtp://{address} \
             --mail-from you@example.org --mail-rcpt soc@example.org -T -\n\n"
        ));
        let mut seen = self.standin.taken();
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return,
                events = self.standin.wait_for_events(seen + 1) => {
                    for event in &events[place(seen)..] {
                        print(&received(event));
                    }
                    seen = events.len() as u64;
                }
            }
        }
    }
}

async fn start(config: &Config, environment: &Environment) -> Result<Gateway, Exit> {
    Gateway::start(config, environment, Arc::new(System)).await.map_err(|failure| {
        eprintln!("smtp2signl4: {failure}; `--listen 127.0.0.1:0` takes any free port");
        Exit::Unavailable
    })
}

fn stage_config(arguments: &Arguments, standin: &Standin, folder: &Path) -> Source {
    let text = format!(
        "[smtp]\nlisten = [\"{}\"]\n[signl4]\nurl = \"{}\"\nproxy = false\nplan = \"unlimited\"\nprobe = false\n[spool]\npath = \"{}\"\n",
        arguments.listen,
        standin.url(),
        folder.display()
    );
    Source::new("the demo's config", text)
}

/// Where the event with this number stands in the stand-in's list.
fn place(number: u64) -> usize {
    usize::try_from(number).expect("a demo does not see so many events")
}

/// An event as it was received, with the files that came along.
fn received(event: &Request) -> String {
    let mut text = format!("  event   {}\n", indented(&event.payload));
    for file in &event.files {
        let name = super::terminal::excerpt(&file.name);
        text.push_str(&format!("  file    {name}, {}\n", shown_size(file.content.len())));
    }
    text
}

fn indented(payload: &Value) -> String {
    serde_json::to_string_pretty(payload).expect("JSON can be written").replace('\n', "\n          ")
}

/// Sends one mail by SMTP and returns the reply to its end.
fn send(address: SocketAddr, content: &[u8]) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_mut().set_read_timeout(Some(PATIENCE))?;
    expect(&mut stream, '2')?;
    for (command, wanted) in [
        ("EHLO demo.example", '2'),
        ("MAIL FROM:<sender@example.org>", '2'),
        ("RCPT TO:<soc@example.org>", '2'),
        ("DATA", '3'),
    ] {
        write!(stream.get_mut(), "{command}\r\n")?;
        expect(&mut stream, wanted)?;
    }
    let mut data = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    if !data.ends_with(b"\r\n") {
        data.extend_from_slice(b"\r\n");
    }
    data.extend_from_slice(b".\r\n");
    stream.get_mut().write_all(&data)?;
    let reply = expect(&mut stream, '2')?;
    write!(stream.get_mut(), "QUIT\r\n")?;
    expect(&mut stream, '2')?;
    Ok(reply)
}

/// Reads one reply and returns its last line, if it begins as wanted.
fn expect(stream: &mut BufReader<TcpStream>, wanted: char) -> io::Result<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            let line = line.trim_end().to_owned();
            return if line.starts_with(wanted) { Ok(line) } else { Err(io::Error::other(line)) };
        }
    }
}
