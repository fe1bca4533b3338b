//! The log of a life, written as the service writes it, with the times of the history.

use std::io;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use smtp2signl4::clock::Clock;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::time::VirtualClock;
use crate::record::Said;

/// What was written so far: a JSON object a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

struct Times(Arc<VirtualClock>);

impl FormatTime for Times {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", self.0.now())
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no holder of this lock can panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Takes down what the thread says that it is set for.
    pub(super) fn subscriber(&self, clock: &Arc<VirtualClock>) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_timer(Times(Arc::clone(clock)))
            .with_writer(self.clone())
            .finish()
    }

    /// The lines about events.
    pub(super) fn read(&self) -> Vec<Said> {
        let written = std::mem::take(&mut *self.0.lock().expect("no holder of this lock can panic"));
        let start = VirtualClock::new();
        let millis = |at: &str| Some(start.millis_of(at.parse::<Timestamp>().ok()?));
        let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.filter_map(|line| Said::read(&serde_json::from_slice(line).ok()?, millis)).collect()
    }
}
