//! What the whole relay does: mails a second accepted durably and relayed, the time from the end of DATA to
//! the POST, CPU and memory of the gateway and what it writes to the disk; and the same with fsync off, so that the
//! cost of the promise is seen.
//!
//! ```text
//! cargo bench --bench relay                    20 sessions, 1 session, a steady 500 mails/s
//! cargo bench --bench relay -- --mails 50000   longer
//! ```
//!
//! The load, the sink and the gateway share the machine. A session is one kept-open SMTP connection that
//! sends mails of 4 KiB one after the other and waits for each reply. The sink answers 201 at once.

#![allow(clippy::unwrap_used, reason = "a run that cannot go on has nothing to tell")]

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bytes of a mail.
const SIZE: usize = 4096;

/// How long a run may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mails = arguments
        .iter()
        .position(|argument| argument == "--mails")
        .map_or(20_000, |at| arguments[at + 1].parse().expect("a number behind --mails"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{}", Report::HEAD);
        for sync in ["full", "off"] {
            run("20 sessions", sync, 20, mails, None).await.print();
            run("1 session", sync, 1, mails / 4, None).await.print();
            run("500 mails/s", sync, 20, 5_000, Some(500)).await.print();
        }
    });
}

/// What one run showed.
struct Report {
    name: &'static str,
    sync: &'static str,
    accepted: f64,
    relayed: f64,
    p50: Duration,
    p99: Duration,
    mails: usize,
    usage: Usage,
}

/// What the gateway has used since its start.
struct Usage {
    cpu: f64,
    peak_kib: u64,
    written: u64,
}

impl Report {
    const HEAD: &'static str = "run          sync  accepted/s  relayed/s  to POST p50 ms  p99 ms  CPU s  CPU us/mail  peak RSS MiB  KB written/mail";

    fn print(&self) {
        println!(
            "{:<12} {:<4} {:>11.0} {:>10.0} {:>15.2} {:>7.2} {:>6.2} {:>12.0} {:>13.1} {:>16.1}",
            self.name,
            self.sync,
            self.accepted,
            self.relayed,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.usage.cpu,
            self.usage.cpu * 1e6 / self.mails as f64,
            self.usage.peak_kib as f64 / 1024.0,
            self.usage.written as f64 / 1e3 / self.mails as f64,
        );
    }
}

async fn run(
    name: &'static str,
    sync: &'static str,
    sessions: usize,
    mails: usize,
    rate: Option<u32>,
) -> Report {
    let sink = Sink::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), sink.address, sync);

    let start = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..sessions)
        .map(|_| {
            tokio::spawn(session(gateway.address, Arc::clone(&next), mails, rate, start, Arc::clone(&sink)))
        })
        .collect();
    for one in load {
        one.await.unwrap();
    }
    let accepted = start.elapsed();
    tokio::time::timeout(PATIENCE, sink.wait_for(mails)).await.expect("every mail that got 250 is relayed");
    let relayed = start.elapsed();
    let usage = gateway.usage();
    gateway.kill();

    let mut times = sink.times.lock().unwrap().latencies.clone();
    times.sort();
    Report {
        name,
        sync,
        accepted: mails as f64 / accepted.as_secs_f64(),
        relayed: mails as f64 / relayed.as_secs_f64(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        mails,
        usage,
    }
}

/// One kept-open connection that sends until `mails` are sent by all.
async fn session(
    address: SocketAddr,
    next: Arc<AtomicUsize>,
    mails: usize,
    rate: Option<u32>,
    start: Instant,
    sink: Arc<Sink>,
) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.get_ref().set_nodelay(true).unwrap();
    expect(&mut stream, b"220").await;
    stream.get_mut().write_all(b"EHLO bench.example\r\n").await.unwrap();
    expect(&mut stream, b"250").await;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= mails {
            break;
        }
        if let Some(rate) = rate {
            tokio::time::sleep_until((start + Duration::from_secs(1) / rate * number as u32).into()).await;
        }
        stream
            .get_mut()
            .write_all(b"MAIL FROM:<a@bench.example>\r\nRCPT TO:<soc@bench.example>\r\nDATA\r\n")
            .await
            .unwrap();
        for code in [b"250", b"250", b"354"] {
            expect(&mut stream, code).await;
        }
        let content = mail(number);
        sink.times.lock().unwrap().sent.insert(number, Instant::now());
        stream.get_mut().write_all(content.as_bytes()).await.unwrap();
        expect(&mut stream, b"250").await;
    }
    stream.get_mut().write_all(b"QUIT\r\n").await.unwrap();
}

/// Reads one reply, which must begin with `code`.
async fn expect(stream: &mut BufReader<TcpStream>, code: &[u8]) {
    let mut line = Vec::with_capacity(128);
    loop {
        line.clear();
        stream.read_until(b'\n', &mut line).await.unwrap();
        assert!(line.starts_with(code), "{}", String::from_utf8_lossy(&line));
        if line[3] != b'-' {
            return;
        }
    }
}

/// A mail whose subject ends in its number, each of an incident of its own.
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

/// An HTTP server that answers 201 to everything and notes when which mail came.
struct Sink {
    address: SocketAddr,
    times: Mutex<Times>,
    arrived: Notify,
}

#[derive(Default)]
struct Times {
    sent: HashMap<usize, Instant>,
    latencies: Vec<Duration>,
}

impl Sink {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sink = Arc::new(Self { address, times: Mutex::default(), arrived: Notify::new() });
        let this = Arc::clone(&sink);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&this).serve(stream));
            }
        });
        sink
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            let head = loop {
                if let Some(at) = find(&buffer, b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let length = content_length(&buffer[..head]);
            while buffer.len() < head + length {
                stream.read_buf(&mut buffer).await?;
            }
            self.note(&buffer[head..head + length]);
            buffer.drain(..head + length);
            stream
                .write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 15\r\n\r\n{\"eventId\":\"1\"}")
                .await?;
        }
    }

    fn note(&self, body: &[u8]) {
        let now = Instant::now();
        let from = find(body, b"number ").expect("the title ends in the number") + b"number ".len();
        let digits = body[from..].iter().take_while(|byte| byte.is_ascii_digit());
        let number = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        let mut times = self.times.lock().unwrap();
        // A second post of one mail finds no start and is not counted.
        if let Some(sent) = times.sent.remove(&number) {
            times.latencies.push(now - sent);
        }
        drop(times);
        self.arrived.notify_one();
    }

    async fn wait_for(&self, mails: usize) {
        while self.times.lock().unwrap().latencies.len() < mails {
            let _ = tokio::time::timeout(Duration::from_millis(100), self.arrived.notified()).await;
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn content_length(head: &[u8]) -> usize {
    String::from_utf8_lossy(head)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap())
}

/// The real binary.
struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Gateway {
    fn start(folder: &Path, sink: SocketAddr, sync: &str) -> Self {
        let config = folder.join("gateway.toml");
        std::fs::write(
            &config,
            format!(
                "[smtp]\nlisten = [\"127.0.0.1:0\"]\n[signl4]\nurl = \"http://{sink}/webhook/\"\nproxy = false\nplan = \"unlimited\"\nprobe = false\n\
                 [incidents]\nstorm = false\n[spool]\npath = \"spool\"\nsync = \"{sync}\"\n[log]\nformat = \"json\"\n"
            ),
        )
        .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_smtp2signl4"))
            .args(["run", "--config"])
            .arg(&config)
            .env("SIGNL4_TEAM_SECRET", "bench")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = io::BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the gateway ended");
            if let Some((_, rest)) = line.split_once("\"address\":\"") {
                break rest[..rest.find('"').unwrap()].parse().unwrap();
            }
        };
        // The log goes on being read, as journald would.
        std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Self { child, address }
    }

    /// CPU seconds so far, the peak of resident memory in KiB, and the bytes that were written to a disk.
    fn usage(&self) -> Usage {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let stat = read("stat");
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = read("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let io = read("io");
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
        Usage {
            // USER_HZ is 100 on every Linux that Rust's standard library runs on.
            cpu: ticks as f64 / 100.0,
            peak_kib: peak.trim().trim_end_matches(" kB").parse().unwrap(),
            written: written.parse().unwrap(),
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
