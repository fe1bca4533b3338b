//! The log on standard error. Under systemd, journald adds the time and reads the level from what stands before each line
//! (sd-daemon(3)), so that `journalctl -p warning` finds what needs a person.

use std::fmt;
use std::io::{IsTerminal, stderr};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{self, Format, Log};

/// Starts it.
pub(super) fn start_log(log: Log) {
    let level = match log.level {
        config::Level::Error => Level::ERROR,
        config::Level::Warn => Level::WARN,
        config::Level::Info => Level::INFO,
        config::Level::Debug => Level::DEBUG,
    };
    let journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(stderr);
    let form = format().with_target(false);
    match log.format {
        Format::Json if journal => {
            let form = form.json().flatten_event(true);
            lines.json().with_ansi(false).event_format(WithPriority(form)).init();
        }
        Format::Json => lines.with_target(false).json().flatten_event(true).init(),
        Format::Text if journal => {
            lines.with_ansi(false).event_format(WithPriority(form.without_time().with_ansi(false))).init();
        }
        Format::Text => lines.with_target(false).with_ansi(stderr().is_terminal()).init(),
    }
}

/// Whether standard error is the stream to journald that systemd names: a program that has inherited the name may write
/// elsewhere (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journal(named: Option<&str>) -> bool {
    let Ok(stream) = rustix::fs::fstat(stderr()) else { return false };
    named == Some(&*format!("{}:{}", stream.st_dev, stream.st_ino))
}

/// Each line of an event behind its priority.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}
