//! The `[spool]` section of the config, and what the spool must know of `[incidents]`.

use std::path::PathBuf;
use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::document::Table;
use crate::incident;

/// Where the spool lies, how long it keeps what is done, and how full it may make the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder of the spool; made with mode 0700 if it is not there.
    pub path: PathBuf,
    /// How long a mail is kept after its last event was delivered or dropped.
    pub retention: Duration,
    /// How long a mail is kept after its last event failed for good, unless an operator retries or
    /// drops it before.
    pub dead_letter_retention: Duration,
    /// Bytes that stay free on the disk: mail that would take them is refused with 452, so that outcomes
    /// can still be written and no other program on the machine lacks space.
    pub min_free: u64,
    /// Bytes that the spool may use; none for no bound but the disk's.
    pub max_size: Option<u64>,
    /// What mail whose events are all of strangers may fill of that, or of the disk, in percent.
    pub stranger_share: u8,
    /// How long a mail is kept after its last event was delivered, however full the spool is.
    pub keep_at_least: Duration,
    /// Whether a commit waits for the disk.
    pub sync: Sync,
    /// Where to save what is undelivered when the spool is taken away, the first that can be written, and where a start
    /// looks for it.
    pub rescue: Vec<PathBuf>,
    /// When a mail about a known incident pages: a section of its own, decided when a mail is taken.
    pub incidents: incident::Config,
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Sync {
    /// A commit is flushed to the disk before it is answered: what 250 promises.
    #[default]
    Full,
    /// Nothing is flushed; a power cut loses mail that was answered 250. For benchmarks only, to show what
    /// the promise costs.
    Off,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/smtp2signl4"),
            retention: 7 * DAY,
            dead_letter_retention: 30 * DAY,
            min_free: 64 << 20,
            max_size: None,
            stranger_share: 25,
            keep_at_least: DAY,
            sync: Sync::Full,
            rescue: vec![PathBuf::from("/var/tmp")],
            incidents: incident::Config::default(),
        }
    }
}

impl Config {
    /// The defaults with the spool in `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Reads the section; what is not written keeps its default.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut config = Self::default();
        if let Some(path) = table.string("path") {
            if path.value.is_empty() {
                table.error(path.span, "`path` is empty", "the folder that the spool lies in");
            }
            config.path = path.value.into();
        }
        if let Some(retention) = table.duration("retention") {
            config.retention = retention;
        }
        if let Some(retention) = table.duration("dead-letter-retention") {
            config.dead_letter_retention = retention;
        }
        if let Some(bytes) = table.size("min-free") {
            config.min_free = bytes as u64;
        }
        config.max_size = table.size("max-size").map(|bytes| bytes as u64);
        if let Some(share) = table.string("stranger-share") {
            match share.value.strip_suffix('%').and_then(|percent| percent.trim().parse().ok()) {
                Some(percent @ 1..=100) => config.stranger_share = percent,
                _ => table.error(
                    share.span,
                    format!("`{}` is not a share", share.value.escape_debug()),
                    "from \"1%\" to \"100%\"",
                ),
            }
        }
        if let Some(keep) = table.duration("keep-at-least") {
            config.keep_at_least = keep;
        }
        if let Some(sync) = table.word("sync") {
            config.sync = sync;
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    #[test]
    fn every_key_is_read_and_the_rest_keeps_its_default() {
        let source = Source::new(
            "t.toml",
            "path = '/s'\nretention = '1d'\ndead-letter-retention = '2d'\nmin-free = '1 GiB'\nmax-size = '2 GiB'\nstranger-share = '5%'\nkeep-at-least = '1h'\nsync = 'off'\n",
        );
        let config = document::read(&source, Config::read).unwrap();
        let expected = Config {
            path: "/s".into(),
            retention: DAY,
            dead_letter_retention: 2 * DAY,
            min_free: 1 << 30,
            max_size: Some(2 << 30),
            stranger_share: 5,
            keep_at_least: DAY / 24,
            sync: Sync::Off,
            ..Config::default()
        };
        assert_eq!(config, expected);
        assert_eq!(document::read(&Source::new("t.toml", ""), Config::read), Ok(Config::default()));
    }
}
