//! `[delivery]`: how posts are made, and when delivery gives up.

use std::time::Duration;

use super::plan::Plan;
use crate::document::Table;

/// Least age at which an event may be given up: a weekend.
const LEAST_GIVE_UP: Duration = Duration::from_secs(3 * 86_400);

/// The account of teams that name none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// `[delivery]`, and what `[signl4]` says about posting.
#[derive(Debug, Clone)]
pub struct Config {
    /// What each account may post.
    pub plan: Plan,
    /// Whether a team's secret may be tried by a non-paging question.
    pub probe: bool,
    /// Posts at the same time for one team.
    pub concurrency: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// The age at which an event that fails is given up and kept as failed.
    pub give_up_after: Duration,
    /// How long a team's secret must be refused before its events go to its fallback.
    pub fallback_after: Duration,
    /// How long posts under way may take to end when the service stops.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            plan: Plan::Auto,
            probe: true,
            concurrency: 16,
            timeout: Duration::from_secs(30),
            give_up_after: Duration::from_secs(5 * 86_400),
            fallback_after: Duration::from_secs(600),
            drain: Duration::from_secs(8),
        }
    }
}

impl Config {
    /// Reads `[delivery]`: `concurrency`, `timeout`, `give-up-after`, `fallback-after`,
    /// `drain`.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut config = Self::default();
        if let Some(concurrency) = table.integer("concurrency", 1..=256) {
            config.concurrency = usize::try_from(concurrency).expect("1 to 256 is a usize");
        }
        let second = Duration::from_secs(1);
        let bounded = |table: &mut Table<'_>, key, least: Duration, most: Duration, help: &str| {
            let span = table.value(key)?.span();
            let value = table.duration(key)?;
            if (least..=most).contains(&value) {
                return Some(value);
            }
            table.error(span, format!("`{key}` is out of range"), help);
            None
        };
        if let Some(timeout) = bounded(table, "timeout", second, 300 * second, "from 1s to 5m") {
            config.timeout = timeout;
        }
        let help = "at least 3d, so that an outage over a weekend loses nothing";
        if let Some(age) = bounded(table, "give-up-after", LEAST_GIVE_UP, Duration::MAX, help) {
            config.give_up_after = age;
        }
        if let Some(after) = bounded(table, "fallback-after", second, 86_400 * second, "from 1s to 1d") {
            config.fallback_after = after;
        }
        if let Some(drain) = bounded(table, "drain", Duration::ZERO, 60 * second, "from 0s to 60s") {
            config.drain = drain;
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Config, Vec<String>> {
        document::read(&Source::new("t", text), |root| {
            let mut table = root.table("delivery").expect("every case has it");
            let config = Config::read(&mut table);
            table.finish();
            config
        })
        .map_err(|found| {
            found.into_iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    #[test]
    fn the_config_is_read_and_its_bounds_are_held() {
        let config =
            read("[delivery]\nconcurrency = 4\ntimeout = '10s'\ngive-up-after = '7d'\ndrain = '1s'").unwrap();
        assert_eq!((config.concurrency, config.timeout), (4, Duration::from_secs(10)));
        assert_eq!(
            (config.give_up_after, config.drain),
            (Duration::from_secs(7 * 86_400), Duration::from_secs(1))
        );
        assert_eq!(
            read("[delivery]\nconcurrency = 0\ntimeout = '0s'\ngive-up-after = '71h'\nretries = 3")
                .unwrap_err(),
            [
                "2:15: `delivery.concurrency` is out of range",
                "3:11: `timeout` is out of range",
                "4:17: `give-up-after` is out of range",
                "5:1: unknown field `retries` in `delivery`",
            ]
        );
    }
}
