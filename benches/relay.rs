//! What the whole relay does: mails a second accepted durably and relayed, the time from the end of DATA to
//! the POST, CPU and memory of the gateway, what it writes to the disk and what is left there; and the same with fsync
//! off, so that the cost of the promise is seen. Beside it Postfix's smtp-sink, which keeps nothing, under the same load
//! in the same run: the limit that load and machine set.
//!
//! ```text
//! cargo bench --bench relay                           20 sessions, 1 session, a steady 500 mails/s
//! cargo bench --bench relay -- --mails 50000          longer
//! cargo bench --bench relay -- --connections each     a connection for each mail; `kept` is the default
//! cargo bench --bench relay -- --queued 100000        the time from a start with so many queued to the first POST
//! ```
//!
//! The load, the sink and the gateway share the machine. A session sends mails of 4 KiB one after the other and waits
//! for each reply. The sink answers 201 at once.

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

mod support;

/// Bytes of a mail.
const SIZE: usize = 4096;

/// How long a run may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is sent, and how.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    sessions: usize,
    mails: usize,
    /// Mails a second in all; as many as are taken without.
    rate: Option<u32>,
    /// Whether each mail has a connection of its own.
    each: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")))
    };
    let mails = value("--mails").map_or(20_000, |mails| mails.parse().expect("--mails is a number"));
    let each = match value("--connections").map(String::as_str) {
        None | Some("kept") => false,
        Some("each") => true,
        Some(other) => panic!("--connections is `each` or `kept`, not `{other}`"),
    };
    let many = Load { name: "20 sessions", sessions: 20, mails, rate: None, each };
    let one = Load { name: "1 session", sessions: 1, mails: mails / 4, ..many };
    let steady = Load { name: "500 mails/s", mails: mails.min(5_000), rate: Some(500), ..many };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(queued) = value("--queued") {
        let mails = queued.parse().expect("--queued is a number");
        return runtime.block_on(start_with_queued(Load { mails, ..many }));
    }
    runtime.block_on(async {
        let limits = limits(&[many, one]).await;
        println!("{}", Report::HEAD);
        for sync in ["full", "off"] {
            for load in [many, one, steady] {
                let limit = limits.iter().find(|(name, _)| *name == load.name).map(|(_, limit)| *limit);
                run(load, sync).await.print(limit);
            }
        }
    });
}

/// How many mails a second smtp-sink takes under each load; none where Postfix is not there.
async fn limits(loads: &[Load]) -> Vec<(&'static str, f64)> {
    let Some((mut sink, address)) = support::smtp_sink().await else {
        println!("{} is not there: the ratio to it is left out", support::SMTP_SINK);
        return Vec::new();
    };
    let mut limits = Vec::new();
    for load in loads {
        let taken = send(*load, address, &Sink::start().await).await;
        limits.push((load.name, load.mails as f64 / taken.as_secs_f64()));
    }
    sink.kill().unwrap();
    sink.wait().unwrap();
    limits
}

/// Takes in all of `load` while SIGNL4 is away, and starts the gateway again once it is back.
async fn start_with_queued(load: Load) {
    let folder = tempfile::tempdir().unwrap();
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut gateway = Gateway::start(folder.path(), away, "full");
    send(load, gateway.address, &Sink::start().await).await;
    gateway.stop();
    let sink = Sink::start().await;
    let start = Instant::now();
    let mut gateway = Gateway::start(folder.path(), sink.address, "full");
    let listening = start.elapsed();
    tokio::time::timeout(PATIENCE, sink.arrived.notified()).await.expect("what was queued is posted");
    println!(
        "{} queued: listens {:.0} ms after the start, first POST after {:.0} ms, peak RSS {:.1} MiB",
        load.mails,
        listening.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
        gateway.usage().peak_kib as f64 / 1024.0,
    );
    gateway.stop();
}

/// Sends all of `load`; how long that took.
async fn send(load: Load, address: SocketAddr, sink: &Arc<Sink>) -> Duration {
    let start = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let sessions: Vec<_> = (0..load.sessions)
        .map(|_| tokio::spawn(session(address, Arc::clone(&next), load, start, Arc::clone(sink))))
        .collect();
    for one in sessions {
        one.await.unwrap();
    }
    start.elapsed()
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
    /// Bytes of the spool after a stop in order.
    kept: u64,
}

/// What the gateway has used since its start.
struct Usage {
    cpu: f64,
    peak_kib: u64,
    written: u64,
}

impl Report {
    const HEAD: &'static str = "run          sync  accepted/s  relayed/s  of smtp-sink  to POST p50 ms  p99 ms  CPU us/mail  peak RSS MiB  KB written/mail  KB kept/mail";

    /// `limit` is what smtp-sink takes a second.
    fn print(&self, limit: Option<f64>) {
        let ratio = limit.map_or("-".to_owned(), |limit| format!("{:.2}", self.accepted / limit));
        println!(
            "{:<12} {:<4} {:>11.0} {:>10.0} {ratio:>13} {:>15.2} {:>7.2} {:>12.0} {:>13.1} {:>16.1} {:>13.1}",
            self.name,
            self.sync,
            self.accepted,
            self.relayed,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.usage.cpu * 1e6 / self.mails as f64,
            self.usage.peak_kib as f64 / 1024.0,
            self.usage.written as f64 / 1e3 / self.mails as f64,
            self.kept as f64 / 1e3 / self.mails as f64,
        );
    }
}

async fn run(load: Load, sync: &'static str) -> Report {
    let sink = Sink::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), sink.address, sync);
    let start = Instant::now();
    let accepted = send(load, gateway.address, &sink).await;
    let mails = load.mails;
    tokio::time::timeout(PATIENCE, sink.wait_for(mails)).await.expect("every mail that got 250 is relayed");
    let relayed = start.elapsed();
    let usage = gateway.usage();
    gateway.stop();
    let kept = std::fs::metadata(folder.path().join("spool/spool.db")).unwrap().len();

    let mut times = sink.times.lock().unwrap().latencies.clone();
    times.sort();
    Report {
        name: load.name,
        sync,
        accepted: mails as f64 / accepted.as_secs_f64(),
        relayed: mails as f64 / relayed.as_secs_f64(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        mails,
        usage,
        kept,
    }
}

/// One session that sends until the mails of `load` are sent by all.
async fn session(address: SocketAddr, next: Arc<AtomicUsize>, load: Load, start: Instant, sink: Arc<Sink>) {
    let mut kept = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.mails {
            break;
        }
        if let Some(rate) = load.rate {
            tokio::time::sleep_until((start + Duration::from_secs(1) / rate * number as u32).into()).await;
        }
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => greeted(address).await,
        };
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
        if load.each {
            stream.get_mut().write_all(b"QUIT\r\n").await.unwrap();
        } else {
            kept = Some(stream);
        }
    }
    if let Some(mut stream) = kept {
        stream.get_mut().write_all(b"QUIT\r\n").await.unwrap();
    }
}

/// A connection that has said EHLO.
async fn greeted(address: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.get_ref().set_nodelay(true).unwrap();
    expect(&mut stream, b"220").await;
    stream.get_mut().write_all(b"EHLO bench.example\r\n").await.unwrap();
    expect(&mut stream, b"250").await;
    stream
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

/// A mail whose subject ends in its number, each of an incident of its own, with a text as monitoring writes them: the
/// words repeat from line to line, the times, hosts and numbers do not.
fn mail(number: usize) -> String {
    const LINES: [&str; 8] = [
        "sshd: Failed password for invalid user admin from",
        "kernel: EXT4-fs error (device sda1): ext4_find_entry, inode",
        "systemd: nginx.service: Main process exited, code=killed, status=9/KILL, pid",
        "postfix/smtpd: NOQUEUE: reject: RCPT from unknown, 554 5.7.1 Relay access denied, id",
        "zabbix_agentd: Free disk space on volume /var is less than 5 percent, item",
        "wazuh: Rule 5712 (level 10): brute force trying to get access to the system, event",
        "dockerd: health check of container web exceeded its timeout, container",
        "cron: (root) CMD (/usr/local/bin/backup --all) finished with exit code 2, job",
    ];
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut text = format!(
        "From: monitoring@bench.example\r\nTo: soc@bench.example\r\nDate: Fri, 20 Nov 2026 18:04:05 +0100\r\n\
         Message-ID: <{number}@bench.example>\r\nX-S4-ExternalID: bench-{number}\r\n\
         Subject: Disk is almost full, number {number}\r\n\r\n"
    );
    while text.len() < SIZE {
        let (line, host, id) = (LINES[random.usize(..LINES.len())], random.u8(1..100), random.u64(..1 << 40));
        let (minute, second) = (random.u8(..60), random.u8(..60));
        text.push_str(&format!("Nov 20 18:{minute:02}:{second:02} web{host:02} {line} {id:x}\r\n"));
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

    /// Stops it in order, so that the log of the spool is in its database.
    fn stop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}
