//! A process that does not outlive its test, and what it writes.

use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// A running process. Dropped, it is killed, and a test that fails shows what it wrote.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<(Mutex<Output>, Condvar)>,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

/// Runs a command that must succeed, with `input` on its standard input, and returns what it wrote.
pub fn run(command: Command, input: &str) -> String {
    let mut process = Process::spawn(command, input);
    let status = process.wait();
    assert!(status.success(), "{} ended with {status}", process.name);
    process.lines().join("\n")
}

impl Process {
    /// Starts `command` with `input` on its standard input, which then ends.
    pub fn spawn(command: Command, input: &str) -> Self {
        let mut process = Self::with_stdin(command, Stdio::piped());
        // A program may end without reading its input.
        let _ = process.child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        process
    }

    /// Starts `command` with this for its standard input.
    pub fn with_stdin(mut command: Command, stdin: Stdio) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let (reader, writer) = io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer).stdin(stdin);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = Arc::default();
        read(reader, Arc::clone(&output));
        Self { name, child, output }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The peak of its resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Every line that it wrote so far, on standard output and standard error.
    pub fn lines(&self) -> Vec<String> {
        self.output.0.lock().unwrap().lines.clone()
    }

    /// What `find` makes of the first line in which it finds anything, however long ago that was written.
    pub fn wait_for<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let (output, grown) = &*self.output;
        let mut output = output.lock().unwrap();
        let mut seen = 0;
        loop {
            if let Some(found) = output.lines[seen..].iter().find_map(|line| find(line)) {
                return found;
            }
            seen = output.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if output.ended || left.is_zero() {
                drop(output);
                panic!("{} wrote no {what}", self.name);
            }
            output = grown.wait_timeout(output, left).unwrap().0;
        }
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let (output, grown) = &*self.output;
        let held = output.lock().unwrap();
        let (held, timeout) = grown.wait_timeout_while(held, PATIENCE, |output| !output.ended).unwrap();
        drop(held);
        assert!(!timeout.timed_out(), "{} does not end", self.name);
        self.child.wait().unwrap()
    }

    /// Kills it: no code of its own runs any more.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{} wrote:\n{}\n", self.name, self.lines().join("\n"));
        }
    }
}

/// Reads what is written until nobody can write any more, on a thread of its own.
fn read(reader: PipeReader, output: Arc<(Mutex<Output>, Condvar)>) {
    std::thread::spawn(move || {
        let (output, grown) = &*output;
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            output.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
            grown.notify_all();
        }
        output.lock().unwrap().ended = true;
        grown.notify_all();
    });
}
