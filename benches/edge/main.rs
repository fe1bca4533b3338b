//! What the edge does: sessions and mails a second, what a client that only waits costs, and how mails fare while
//! thousands wait or dribble. Postfix's `smtp-sink`, which keeps nothing, is driven by the same clients as the
//! limit, where it is installed.
//!
//! ```text
//! cargo bench --bench edge
//! cargo bench --bench edge -- --mails 50000 --idle 10000 --dribbling 1000     longer, larger
//! ```
//!
//! The clients, the stand-in for SIGNL4 and the gateway share the machine. Mails have 4 KiB and are pipelined as a
//! relay does it: envelope and DATA in one write. The spool does not wait for the disk (`sync = "off"`): what that
//! costs is for `--bench relay` to say. All that the gateway does with a mail is in its figures: it is parsed, judged,
//! kept and posted. `edge` is the listener alone in a process of its own, which forgets each mail as smtp-sink does;
//! with `TLS` its clients speak TLS 1.3 from the first byte.

#![allow(clippy::unwrap_used, reason = "a run that cannot go on has nothing to tell")]

mod server;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use smtp2signl4::clock::System;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::document;
use smtp2signl4::mail::{Mail, MailId};
use smtp2signl4::smtp::{Accept, Config, Listener, Refusal};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use server::Server;

/// Bytes of a mail.
const SIZE: usize = 4096;

/// Mails a second while thousands attack, each by a connection of its own, and for how long.
const RATE: u32 = 100;
const ATTACK: Duration = Duration::from_secs(20);

/// How often each client that dribbles sends a byte.
const DRIBBLE: Duration = Duration::from_secs(1);

/// What this program is told to be the listener alone.
const ALONE: &str = "--listen";

/// A certificate and its key, in the folder of a server.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

fn main() {
    have_descriptors();
    let mails = argument("--mails", 20_000);
    let (idle, dribbling) = (argument("--idle", 5_000), argument("--dribbling", 500));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if std::env::args().any(|argument| argument == ALONE) {
        runtime.block_on(listen());
        return;
    }
    runtime.block_on(async {
        speed(mails).await;
        attack(idle, dribbling).await;
    });
}

/// The listener alone, for clients of another process, which ends this one. Where the command line names the folder
/// of a certificate, it is presented.
async fn listen() {
    let folder = std::env::args().nth(2).unwrap_or_default();
    let source = Source::new("bench", smtp_section(Path::new(&folder)));
    let config = document::read(&source, Config::read).unwrap();
    let listener = Listener::bind(&config).unwrap();
    eprintln!("\"address\":\"{}\"", listener.addresses()[0]);
    listener.run(Arc::new(Forgetful), Arc::new(System), CancellationToken::new()).await;
}

/// The `[smtp]` section of a listener with room for everybody. It presents the certificate in `folder`, if there is one.
fn smtp_section(folder: &Path) -> String {
    let mut section = "max-sessions = 16000\nmax-sessions-per-client = 16000\n".to_owned();
    let certificate = folder.join(CERTIFICATE);
    if certificate.exists() {
        let key = folder.join(KEY);
        section += &format!(
            "listener = [{{ address = '127.0.0.1:0', tls = 'implicit' }}]\n\
             certificate = [{{ certificate = '{}', key = '{}' }}]\n",
            certificate.display(),
            key.display()
        );
    } else {
        section += "listen = '127.0.0.1:0'\n";
    }
    section
}

/// Says that it keeps every mail, and keeps none.
struct Forgetful;

impl Accept for Forgetful {
    fn recipient(&self, _: &str) -> bool {
        true
    }

    async fn accept(&self, _: Mail) -> Result<MailId, Refusal> {
        Ok(MailId::from_number(0).expect("0 is an id"))
    }
}

/// The number behind `name` on the command line.
fn argument(name: &str, default: usize) -> usize {
    let arguments: Vec<String> = std::env::args().collect();
    let found = arguments.iter().position(|argument| argument == name);
    found.map_or(default, |at| arguments[at + 1].parse().expect("a number"))
}

/// Goes on as a process that may have a socket for each client, as may those that it starts.
fn have_descriptors() {
    const MARK: &str = "SMTP2SIGNL4_BENCH_DESCRIPTORS";
    if std::env::var_os(MARK).is_none() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\""]).args(std::env::args_os());
        panic!("{}", shell.env(MARK, "1").exec());
    }
}

/// Sessions and mails a second, of the gateway and of smtp-sink.
async fn speed(mails: usize) {
    println!(
        "{:<11} {:<26} {:>9} {:>10} {:>10} {:>14}",
        "server", "load", "per s", "p50 ms", "p99 ms", "CPU us each"
    );
    for server in ["smtp-sink", "edge", "edge, TLS", "gateway", "gateway, TLS"] {
        for (load, sessions, each) in [
            (Load::Session, 1, mails / 4),
            (Load::Session, 20, mails),
            (Load::MailASession, 20, mails),
            (Load::Mail, 1, mails),
            (Load::Mail, 20, mails),
        ] {
            // A server for each load, so that none has to work off what the last one left.
            let Some(server) = Server::start(server).await else {
                println!("{} is not there; Debian's package postfix has it", support::SMTP_SINK);
                break;
            };
            let before = server.usage().cpu;
            let began = Instant::now();
            let times = drive(&server.way, load, sessions, each).await;
            let took = began.elapsed();
            let cpu = server.usage().cpu - before;
            println!(
                "{:<11} {:<26} {:>9.0} {:>10.2} {:>10.2} {:>14.0}",
                server.name,
                format!("{}, {sessions} at a time", load.name()),
                each as f64 / took.as_secs_f64(),
                milliseconds(quantile(&times, 50)),
                milliseconds(quantile(&times, 99)),
                cpu * 1e6 / each as f64,
            );
        }
    }
}

/// What clients that wait cost, and how mails fare among them.
async fn attack(idle: usize, dribbling: usize) {
    let gateway = Server::start("gateway").await.expect("the gateway is always there");
    let way = &gateway.way;
    // The first mails fill caches.
    drive(way, Load::MailASession, 1, 100).await;
    let unloaded = steady(way).await;
    let before = gateway.usage();
    let waiting = connect(way, idle, b"").await;
    let after = gateway.usage();
    println!(
        "\n{} clients that wait: {} bytes of the gateway's memory each",
        idle,
        (after.memory - before.memory) / idle as u64
    );
    let slow =
        connect(way, dribbling, b"MAIL FROM:<a@slow.example>\r\nRCPT TO:<soc@bench.example>\r\nDATA\r\n")
            .await;
    let dribble = tokio::spawn(dribble(slow));
    let loaded = steady(way).await;
    let under = gateway.usage();
    dribble.abort();
    println!("{RATE} mails/s, each by a connection of its own, from connect to the reply that it is kept:");
    println!("{:<40} {:>10} {:>10} {:>10}", "", "p50 ms", "p99 ms", "max ms");
    let alone = "alone".to_owned();
    for (name, times) in
        [(alone, &unloaded), (format!("with {idle} that wait, {dribbling} that dribble"), &loaded)]
    {
        println!(
            "{name:<40} {:>10.2} {:>10.2} {:>10.2}",
            milliseconds(quantile(times, 50)),
            milliseconds(quantile(times, 99)),
            milliseconds(quantile(times, 100))
        );
    }
    println!("peak of the gateway's memory: {:.1} MiB", under.peak as f64 / f64::from(1 << 20));
    drop(waiting);
}

/// What a client does again and again.
#[derive(Clone, Copy)]
enum Load {
    /// Connect, read the greeting, QUIT.
    Session,
    /// Connect, greet, hand in a mail, QUIT.
    MailASession,
    /// Hand in a mail on a connection that is kept.
    Mail,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Session => "connect, quit",
            Self::MailASession => "connect, mail, quit",
            Self::Mail => "mail",
        }
    }
}

/// Has so many clients at a time do so much together; returns how long each took, in order.
async fn drive(way: &Way, load: Load, clients: usize, count: usize) -> Vec<Duration> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (next, way) = (Arc::clone(&next), way.clone());
        running.spawn(async move {
            let mut times = Vec::with_capacity(count);
            let mut kept = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return times;
                }
                let began = Instant::now();
                match load {
                    Load::Session => Client::connect(&way).await.quit().await,
                    Load::MailASession => {
                        let mut client = Client::greeted(&way).await;
                        client.mail(number).await;
                        client.quit().await;
                    }
                    Load::Mail => {
                        if kept.is_none() {
                            kept = Some(Client::greeted(&way).await);
                        }
                        kept.as_mut().unwrap().mail(number).await;
                    }
                }
                times.push(began.elapsed());
            }
        });
    }
    let mut times = running.join_all().await.concat();
    times.sort_unstable();
    times
}

/// Mails at a steady rate, whatever becomes of those before; how long each took, in order.
async fn steady(way: &Way) -> Vec<Duration> {
    let mut running = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    for number in 0..(ATTACK.as_secs() as usize * RATE as usize) {
        tick.tick().await;
        let way = way.clone();
        running.spawn(async move {
            let began = Instant::now();
            let mut client = Client::greeted(&way).await;
            client.mail(number).await;
            let took = began.elapsed();
            client.quit().await;
            took
        });
    }
    let mut times = running.join_all().await;
    times.sort_unstable();
    times
}

/// So many clients that were greeted and said `words`, whose replies they read.
async fn connect(way: &Way, count: usize, words: &[u8]) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Client::connect(way).await;
        client.0.get_mut().write_all(words).await.unwrap();
        for _ in 0..words.split(|byte| *byte == b'\n').count() - 1 {
            client.hear().await;
        }
        clients.push(client);
    }
    clients
}

/// Each client sends a byte of its message again and again, and not all at the same moment.
async fn dribble(clients: Vec<Client>) {
    let mut tick = tokio::time::interval(DRIBBLE / clients.len() as u32);
    let mut clients: Vec<_> = clients.into_iter().map(|client| client.0.into_inner()).collect();
    loop {
        for client in &mut clients {
            tick.tick().await;
            client.write_all(b"x").await.unwrap();
        }
    }
}

/// The way to a server.
#[derive(Clone)]
pub struct Way {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// What a client speaks over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An SMTP client.
struct Client(BufReader<Box<dyn Stream>>);

impl Client {
    /// Connects and reads the greeting.
    async fn connect(way: &Way) -> Self {
        let stream = TcpStream::connect(way.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream: Box<dyn Stream> = match &way.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(tls.connect(name, stream).await.unwrap())
            }
        };
        let mut client = Self(BufReader::with_capacity(512, stream));
        assert_eq!(client.hear().await, b'2');
        client
    }

    async fn greeted(way: &Way) -> Self {
        let mut client = Self::connect(way).await;
        client.say(b"EHLO bench.example\r\n", b"2").await;
        client
    }

    /// Hands in a mail and reads that it is kept.
    async fn mail(&mut self, number: usize) {
        self.say(b"MAIL FROM:<a@bench.example>\r\nRCPT TO:<soc@bench.example>\r\nDATA\r\n", b"223").await;
        self.say(mail(number).as_bytes(), b"2").await;
    }

    async fn quit(mut self) {
        self.say(b"QUIT\r\n", b"2").await;
    }

    /// Says something to which there are replies, each of which must begin with its digit.
    async fn say(&mut self, words: &[u8], digits: &[u8]) {
        self.0.get_mut().write_all(words).await.unwrap();
        for digit in digits {
            assert_eq!(self.hear().await, *digit);
        }
    }

    /// Reads a reply and returns its first digit.
    async fn hear(&mut self) -> u8 {
        let mut line = Vec::with_capacity(128);
        loop {
            line.clear();
            assert_ne!(self.0.read_until(b'\n', &mut line).await.unwrap(), 0, "the server hung up");
            if line[3] != b'-' {
                return line[0];
            }
        }
    }
}

/// Makes a certificate in `folder` and returns what trusts it.
fn certificate(folder: &Path) -> TlsConnector {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join(CERTIFICATE), made.cert.pem()).unwrap();
    std::fs::write(folder.join(KEY), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// A mail of an incident of its own, with the end of data.
fn mail(number: usize) -> String {
    let mut text = format!(
        "From: monitoring@bench.example\r\nTo: soc@bench.example\r\nDate: Fri, 20 Nov 2026 18:04:05 +0100\r\n\
         Message-ID: <{number}@bench.example>\r\nX-S4-ExternalID: bench-{number}\r\n\
         Subject: Disk is almost full, number {number}\r\n\r\n"
    );
    while text.len() < SIZE {
        text.push_str("The disk of this machine is almost full; somebody should look at it soon.\r\n");
    }
    text.push_str(".\r\n");
    text
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
