//! A line that tells how far a long job is, on standard error if that is a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// The interval between updates of the line.
const STEP: Duration = Duration::from_millis(100);

/// Width of the bar in characters.
const WIDTH: usize = 30;

/// The line. It goes when this is dropped.
pub(super) struct Progress {
    noun: &'static str,
    of: u64,
    start: Instant,
    last: Option<Instant>,
    watched: bool,
}

impl Progress {
    /// A line about `of` things called `noun`.
    pub fn new(noun: &'static str, of: u64) -> Self {
        Self { noun, of, start: Instant::now(), last: None, watched: stderr().is_terminal() }
    }

    /// Tells that `done` of them are done.
    pub fn show(&mut self, done: u64) {
        if !self.watched || self.last.is_some_and(|last| last.elapsed() < STEP) {
            return;
        }
        self.last = Some(Instant::now());
        // The terminal may be gone.
        let _ = write!(stderr(), "\r\x1b[K{}", line(self.noun, done, self.of, self.start.elapsed()));
    }

    /// How long the job has taken.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn line(noun: &str, done: u64, of: u64, elapsed: Duration) -> String {
    let share = if of == 0 { 1.0 } else { (done as f64 / of as f64).min(1.0) };
    let full = (share * WIDTH as f64) as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full));
    let mut line = format!("{bar} {done} of {of} {noun}");
    if share > 0.0 && elapsed > Duration::from_secs(1) {
        let left = elapsed.as_secs_f64() * (1.0 - share) / share;
        line.push_str(&format!(", {left:.0} s left"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_the_job_is_and_how_long_it_takes() {
        let shown = line("mails", 50, 200, Duration::from_secs(2));
        assert_eq!(shown, format!("{}{} 50 of 200 mails, 6 s left", "█".repeat(7), "░".repeat(23)));
        assert!(line("mails", 9, 0, Duration::ZERO).ends_with("9 of 0 mails"), "nothing is divided by zero");
    }
}
