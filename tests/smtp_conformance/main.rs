//! What a client says and what the server must answer: the sessions in `tests/smtp/*.txt`, each named
//! after a law and the section that it stands in, run over real sockets in each way that they can go.
//! mailin-embedded is driven through the same files, so that what our own session is for stays visible.
//!
//! `tests/README.md` has the grammar of the files and the table of what each passes; `BLESS=1` writes the
//! table anew.

// Helpers of a test may fail it, as the test itself may.
#![allow(clippy::unwrap_used)]

mod mailin;
mod ours;
mod over;
mod script;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ours::Site;
use over::{CLOSED, Over, Peer};
use script::{Script, Step, Taken};
use tokio_util::sync::CancellationToken;

/// How long a reply of ours may take. Nothing here waits for it unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one of mailin's may take: where it does not answer at all, every run waits for it.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// How many sessions go at a time.
const AT_A_TIME: usize = 48;

/// The session that any server passes. If mailin failed here, it would be the runner that is wrong.
const PLAIN: &str = "rfc5321-D.1-a-plain-mail-is-taken";

/// What stands around the table in `tests/README.md`.
const TABLE: (&str, &str) = ("<!-- the table begins -->\n", "<!-- the table ends -->\n");

/// Who is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Server {
    Ours(Over),
    Mailin,
}

type Results = BTreeMap<(usize, Server), Result<(), String>>;

#[test]
fn sessions_go_as_the_law_says_and_mailin_shows_what_it_would_let_through() {
    let scripts = script::all();
    assert!(scripts.len() >= 150, "only {} sessions found", scripts.len());
    let results = run_all(&scripts);

    let failures: Vec<String> = results
        .iter()
        .filter_map(|((at, server), result)| match (server, result) {
            (Server::Ours(over), Err(why)) => Some(format!("{} ({over}): {why}", scripts[*at].name)),
            _ => None,
        })
        .collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    let plain = scripts.iter().position(|script| script.name == PLAIN).unwrap();
    assert_eq!(results[&(plain, Server::Mailin)], Ok(()));
    compare(&table(&scripts, &results));
}

fn run_all(scripts: &[Script]) -> Results {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stop = CancellationToken::new();
    let site = Site::new();
    let mut runs = Vec::new();
    for (at, script) in scripts.iter().enumerate() {
        // What takes longest first: where mailin does not answer.
        if script.config.is_empty() && script.listener.is_empty() && script.over.contains(&Over::Plain) {
            runs.insert(0, (at, Server::Mailin));
        }
        runs.extend(script.over.iter().map(|&over| (at, Server::Ours(over))));
    }
    let (runs, results) = (Arc::new(Mutex::new(runs.into_iter())), Mutex::new(Results::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some((at, server)) = runs.lock().unwrap().next() else { return };
                    let script = &scripts[at];
                    let client = Arc::clone(&site.client);
                    let result = match server {
                        Server::Ours(over) => {
                            let (address, mails) = site.listen(script, over, &runtime, stop.clone());
                            let peer = Peer::connect(address, over, client, PATIENCE);
                            peer.and_then(|peer| script.run(peer, &mails, PATIENCE))
                        }
                        Server::Mailin => {
                            let patience = if script.name == PLAIN { PATIENCE } else { SHORT_PATIENCE };
                            let (address, mails) = mailin::start();
                            let peer = Peer::connect(address, Over::Plain, client, patience);
                            peer.and_then(|peer| script.run(peer, &mails, patience))
                        }
                    };
                    results.lock().unwrap().insert((at, server), result);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

impl Script {
    fn run(&self, peer: Peer, mails: &Receiver<Taken>, patience: Duration) -> Result<(), String> {
        self.talk(peer)?;
        for wanted in &self.mails {
            let mut found =
                mails.recv_timeout(patience).map_err(|_| format!("no mail came, not {wanted:?}"))?;
            if wanted.client.is_none() {
                found.client = None;
            }
            if found != *wanted {
                return Err(format!("{found:?} came, not {wanted:?}"));
            }
        }
        match mails.try_recv() {
            Ok(mail) => Err(format!("one mail too many: {mail:?}")),
            Err(_) => Ok(()),
        }
    }

    fn talk(&self, mut peer: Peer) -> Result<(), String> {
        for (at, step) in self.steps.iter().enumerate() {
            let here = |why: String| format!("step {}: {why}", at + 1);
            match step {
                Step::Send(bytes) => peer.send(bytes),
                Step::Handshake => peer.handshake().map_err(here)?,
                Step::Expect(expected) => expected.check(&peer.reply().map_err(here)?).map_err(here)?,
                Step::ExpectClose => match peer.reply() {
                    Err(why) if why == CLOSED => (),
                    other => return Err(here(format!("{other:?}, not closed"))),
                },
                Step::ExpectAlert => return peer.alert().map_err(here),
                Step::Close => return Ok(()),
            }
        }
        // The server reads the end, and closes when it is through.
        peer.end();
        match peer.reply() {
            Err(why) if why == CLOSED => Ok(()),
            other => Err(format!("at the end: {other:?}")),
        }
    }
}

/// A line for each session: what passes.
fn table(scripts: &[Script], results: &Results) -> String {
    let mut table = "| session |".to_owned();
    for over in Over::ALL {
        let _ = write!(table, " {over} |");
    }
    table += " mailin-embedded |\n| --- |";
    table += &" --- |".repeat(Over::ALL.len() + 1);
    table.push('\n');
    for (at, script) in scripts.iter().enumerate() {
        let _ = write!(table, "| {} |", script.name);
        let servers = Over::ALL.iter().map(|&over| Server::Ours(over)).chain([Server::Mailin]);
        for server in servers {
            let mark = match results.get(&(at, server)) {
                None => "–",
                Some(Ok(())) => "yes",
                Some(Err(_)) => "**no**",
            };
            let _ = write!(table, " {mark} |");
        }
        table.push('\n');
    }
    let passed = |server: Server| {
        let of = results.iter().filter(|((_, s), _)| *s == server);
        let (passed, all) =
            of.fold((0, 0), |(passed, all), (_, r)| (passed + usize::from(r.is_ok()), all + 1));
        format!(" {passed} of {all} |")
    };
    table += "| **passed** |";
    table.extend(Over::ALL.iter().map(|&over| passed(Server::Ours(over))));
    table += &passed(Server::Mailin);
    table.push('\n');
    table
}

/// Holds the table against the one that is kept.
fn compare(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(TABLE.0).unwrap();
    let (kept, tail) = rest.split_once(TABLE.1).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, [head, TABLE.0, table, TABLE.1, tail].concat()).unwrap();
    } else {
        assert_eq!(kept, table, "tests/README.md is not what came out; BLESS=1 writes it anew");
    }
}
