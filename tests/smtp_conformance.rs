//! What a client says and what the server must answer: the sessions in `tests/smtp/*.txt`, each named
//! after a law and the section that it stands in, run over real sockets. mailin-embedded is driven
//! through the same files, so that what our own session is for stays visible: run with `--nocapture`
//! for the table.
//!
//! A file has a line for each step; `*20` behind a letter repeats the step.
//!
//! ```text
//! # a comment
//! with max-errors = 3     a line of the `[smtp]` section that the server gets
//! C: NOOP                 the client sends this and CRLF; \r \n \0 \\ and \xff stand for bytes
//! R: NO                   the client sends this and nothing more
//! S: 250 2.0.0            the server answers this code and, if given, this enhanced code
//! S: 451|452              ... one of these codes
//! S: 250 has SIZE         ... with a line that begins so
//! S: 250 bare             ... in one line, without an enhanced code
//! S: closed               the server closes the connection
//! close                   the client closes it without reading on
//! M: <a@b> -> <c>, <d>    when all is over, the server took this mail
//! D: text                 ... with this line, and CRLF, in its content
//! ```
//!
//! Steps of the client that follow each other are one write. In the files nobody takes mail for
//! `nobody@…`, and mails from `full@…` and `down@…` cannot be stored.

// Helpers of a test may fail it, as the test itself may.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use mailin_embedded::{Handler, Response, Server, response};
use smtp2signl4::clock::System;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::document;
use smtp2signl4::mail::{Mail, MailId};
use smtp2signl4::smtp::{Accept, Config, Listener, Refusal};
use tokio::sync::watch;

/// How long a reply of ours may take. Nothing here waits for it unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one of mailin's may take: where it does not answer at all, every run waits for it.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// The session that any server passes. If mailin failed here, it would be the runner that is wrong.
const PLAIN: &str = "rfc5321-D.1-a-plain-mail-is-taken";

#[test]
fn sessions_go_as_the_law_says_and_mailin_shows_what_it_would_let_through() {
    let scripts = scripts();
    assert!(scripts.len() >= 40, "only {} sessions found", scripts.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (_stop, stop) = watch::channel(false);

    // All at a time, as most of the time goes by while mailin does not answer.
    let runs: Vec<_> = scripts
        .into_iter()
        .map(|script| {
            let (ours, mails) = ours(&script, &runtime, stop.clone());
            thread::spawn(move || {
                let ours = script.run(ours, &mails, PATIENCE);
                let theirs = script.config.is_empty().then(|| {
                    let (theirs, mails) = mailin();
                    script.run(theirs, &mails, if script.name == PLAIN { PATIENCE } else { SHORT_PATIENCE })
                });
                (script, ours, theirs)
            })
        })
        .collect();

    let mut table = String::new();
    let mut failures = Vec::new();
    for run in runs {
        let (script, ours, theirs) = run.join().unwrap();
        let mark = |result: &Result<(), String>| if result.is_ok() { "pass" } else { "FAIL" };
        let theirs_mark = theirs.as_ref().map_or("-", mark);
        let _ = writeln!(table, "{:4}  {theirs_mark:6}  {}", mark(&ours), script.name);
        if let Some(Err(why)) = &theirs {
            let _ = writeln!(table, "              {}", why.chars().take(120).collect::<String>());
        }
        if let Err(why) = ours {
            failures.push(format!("{}: {why}", script.name));
        }
        if script.name == PLAIN {
            assert_eq!(theirs, Some(Ok(())));
        }
    }
    println!("ours  mailin  session\n{table}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A session out of a file.
struct Script {
    name: String,
    config: String,
    steps: Vec<Step>,
    mails: Vec<Taken>,
}

enum Step {
    Send(Vec<u8>),
    Expect(Expected),
    ExpectClose,
    Close,
}

/// What a reply must be.
#[derive(Clone, Default)]
struct Expected {
    codes: Vec<String>,
    enhanced: Option<String>,
    has: Option<String>,
    bare: bool,
}

/// A mail as a server took it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    from: String,
    to: Vec<String>,
    content: Vec<u8>,
}

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp");
    let mut found: Vec<Script> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            Script::read(name, &std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl Script {
    fn read(name: String, text: &str) -> Self {
        let mut script = Self { name, config: String::new(), steps: Vec::new(), mails: Vec::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(setting) = line.strip_prefix("with ") {
                script.config += setting;
                script.config.push('\n');
                continue;
            }
            if line == "close" {
                script.steps.push(Step::Close);
                continue;
            }
            let (head, rest) = line.split_once(':').unwrap_or_else(|| panic!("{}: {line}", script.name));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            let (letter, times) = head.split_once('*').unwrap_or((head, "1"));
            for _ in 0..times.parse().unwrap() {
                script.line(letter, rest);
            }
        }
        script
    }

    fn line(&mut self, letter: &str, rest: &str) {
        match letter {
            "C" => self.send(&[&unescape(rest)[..], b"\r\n"].concat()),
            "R" => self.send(&unescape(rest)),
            "S" if rest == "closed" => self.steps.push(Step::ExpectClose),
            "S" => self.steps.push(Step::Expect(Expected::read(rest))),
            "M" => {
                let (from, to) = rest.split_once(" -> ").unwrap();
                let path = |text: &str| text.trim_start_matches('<').trim_end_matches('>').to_owned();
                let to = to.split(", ").map(path).collect();
                self.mails.push(Taken { from: path(from), to, content: Vec::new() });
            }
            "D" => {
                let content = &mut self.mails.last_mut().unwrap().content;
                content.extend(unescape(rest));
                content.extend(b"\r\n");
            }
            _ => panic!("{}: no step `{letter}`", self.name),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        match self.steps.last_mut() {
            Some(Step::Send(before)) => before.extend(bytes),
            _ => self.steps.push(Step::Send(bytes.to_vec())),
        }
    }

    fn run(&self, server: SocketAddr, mails: &Receiver<Taken>, patience: Duration) -> Result<(), String> {
        self.talk(server, patience)?;
        for wanted in &self.mails {
            let found = mails.recv_timeout(patience).map_err(|_| format!("no mail came, not {wanted:?}"))?;
            if found != *wanted {
                return Err(format!("{found:?} came, not {wanted:?}"));
            }
        }
        match mails.try_recv() {
            Ok(mail) => Err(format!("one mail too many: {mail:?}")),
            Err(_) => Ok(()),
        }
    }

    fn talk(&self, server: SocketAddr, patience: Duration) -> Result<(), String> {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.set_write_timeout(Some(patience)).unwrap();
        let mut replies = BufReader::new(stream.try_clone().unwrap());
        for (at, step) in self.steps.iter().enumerate() {
            let here = |why: String| format!("step {}: {why}", at + 1);
            match step {
                // A server that has closed is found out by what it does not answer.
                Step::Send(bytes) => drop(stream.write_all(bytes)),
                Step::Expect(expected) => {
                    expected.check(&reply(&mut replies).map_err(here)?).map_err(here)?
                }
                Step::ExpectClose => match reply(&mut replies) {
                    Err(why) if why == CLOSED => (),
                    other => return Err(here(format!("{other:?}, not closed"))),
                },
                Step::Close => {
                    drop(stream.shutdown(Shutdown::Both));
                    return Ok(());
                }
            }
        }
        // The server reads the end, and closes when it is through.
        drop(stream.shutdown(Shutdown::Write));
        match reply(&mut replies) {
            Err(why) if why == CLOSED => Ok(()),
            other => Err(format!("at the end: {other:?}")),
        }
    }
}

const CLOSED: &str = "closed";

/// The lines of a reply.
fn reply(replies: &mut impl BufRead) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match replies.read_line(&mut line) {
            Ok(0) => return Err(CLOSED.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(CLOSED.to_owned()),
            Err(error) => return Err(format!("no reply: {error}")),
            Ok(_) => (),
        }
        let Some(line) = line.strip_suffix("\r\n") else { return Err(format!("a bare LF behind {line:?}")) };
        let last = line.as_bytes().get(3) != Some(&b'-');
        lines.push(line.to_owned());
        if last {
            return Ok(lines);
        }
    }
}

impl Expected {
    fn read(text: &str) -> Self {
        let mut words = text.split(' ');
        let codes = words.next().unwrap().split('|').map(str::to_owned).collect();
        let mut expected = Self { codes, ..Self::default() };
        while let Some(word) = words.next() {
            match word {
                "has" => expected.has = words.next().map(str::to_owned),
                "bare" => expected.bare = true,
                _ => expected.enhanced = Some(word.to_owned()),
            }
        }
        expected
    }

    fn check(&self, lines: &[String]) -> Result<(), String> {
        let texts: Vec<&str> = lines.iter().map(|line| line.get(4..).unwrap_or("")).collect();
        let code = lines.iter().all(|line| self.codes.iter().any(|code| line.starts_with(code)));
        let begins =
            |text: &str, start: &str| text.split(' ').next().is_some_and(|w| w.eq_ignore_ascii_case(start));
        let enhanced = self.enhanced.as_ref().is_none_or(|code| texts.iter().all(|text| begins(text, code)));
        let has = self.has.as_ref().is_none_or(|start| texts.iter().any(|text| begins(text, start)));
        let has_code = |text: &str| {
            let word = text.split(' ').next().unwrap_or_default();
            word.split('.').count() == 3 && word.split('.').all(|part| part.parse::<u16>().is_ok())
        };
        let bare = !self.bare || (texts.len() == 1 && !has_code(texts[0]));
        if code && enhanced && has && bare { Ok(()) } else { Err(format!("wrong answer {lines:?}")) }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("no escape {other:?} in {text}"),
            },
            other => other,
        });
    }
    bytes
}

/// A gateway's edge that tells what it takes.
struct Taker(Sender<Taken>);

impl Accept for Taker {
    fn recipient(&self, address: &str) -> bool {
        !address.starts_with("nobody")
    }

    async fn accept(&self, mail: Mail) -> Result<MailId, Refusal> {
        let envelope = mail.envelope;
        if envelope.reverse_path.starts_with("full@") {
            return Err(Refusal::Full);
        }
        if envelope.reverse_path.starts_with("down@") {
            return Err(Refusal::Unavailable);
        }
        let content = mail.content.to_vec();
        self.0.send(Taken { from: envelope.reverse_path, to: envelope.recipients, content }).unwrap();
        Ok(MailId::new(envelope.received_at, 0))
    }
}

fn ours(
    script: &Script,
    runtime: &tokio::runtime::Runtime,
    stop: watch::Receiver<bool>,
) -> (SocketAddr, Receiver<Taken>) {
    let config = format!("listen = \"127.0.0.1:0\"\n{}", script.config);
    let config = document::read(&Source::new(script.name.as_str(), config), Config::read).unwrap();
    let (taken, mails) = mpsc::channel();
    let _within = runtime.enter();
    let listener = Listener::bind(&config).unwrap();
    let address = listener.addresses()[0];
    runtime.spawn(listener.run(Arc::new(Taker(taken)), Arc::new(System), stop));
    (address, mails)
}

/// What mailin-embedded calls for each connection.
#[derive(Clone)]
struct Mailin {
    taken: Sender<Taken>,
    mail: Taken,
}

impl Handler for Mailin {
    fn rcpt(&mut self, to: &str) -> Response {
        if to.starts_with("nobody") { response::NO_MAILBOX } else { response::OK }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        self.mail = Taken { from: from.to_owned(), to: to.to_vec(), content: Vec::new() };
        response::OK
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mail.content.extend_from_slice(bytes);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        if self.mail.from.starts_with("full@") {
            return response::OUT_OF_SPACE;
        }
        if self.mail.from.starts_with("down@") {
            return response::INTERNAL_ERROR;
        }
        // The test may be over with this file, if mailin took longer than it had.
        let _ = self.taken.send(self.mail.clone());
        response::OK
    }
}

/// A server of mailin-embedded, which cannot be stopped and ends with the process.
fn mailin() -> (SocketAddr, Receiver<Taken>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (taken, mails) = mpsc::channel();
    let mail = Taken { from: String::new(), to: Vec::new(), content: Vec::new() };
    let mut server = Server::new(Mailin { taken, mail });
    server.with_num_threads(1).with_tcp_listener(listener);
    thread::spawn(move || drop(server.serve()));
    (address, mails)
}
