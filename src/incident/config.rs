//! The `[incidents]` section of the config.

use std::time::Duration;

use jiff::SignedDuration;

use crate::document::Table;
use crate::event::Repeat;
use crate::time::signed;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Longest time that an open may be held back: it is a page that waits.
const LONGEST_HOLD: SignedDuration = SignedDuration::from_mins(10);

/// When a further mail about an open incident pages, and what a storm is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What becomes of a further open.
    pub repeat: Repeat,
    /// How long after a page it is only counted.
    pub quiet: SignedDuration,
    /// The same while the incident is acknowledged: somebody sees to it.
    pub acknowledged_quiet: SignedDuration,
    /// How long an open waits for its close, so that neither is sent; zero sends it at once.
    pub hold: SignedDuration,
    /// When pages are folded into a digest; none if never.
    pub storm: Option<Storm>,
    /// How long a mail that is handed in again is known; zero if never.
    pub redelivery: SignedDuration,
}

/// When pages are folded into a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storm {
    /// How many times what the account lets go in 15 seconds must come within a minute.
    pub factor: u32,
    /// How many pages within a minute are no storm yet, whatever the account lets go.
    pub after: Option<u32>,
    /// How often the digest is sent again while it grows.
    pub interval: SignedDuration,
    /// How long it must have been quieter for the storm to be over.
    pub calm: SignedDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            repeat: Repeat::Quiet,
            quiet: 10 * MINUTE,
            acknowledged_quiet: 24 * 60 * MINUTE,
            hold: SignedDuration::ZERO,
            storm: Some(Storm::default()),
            redelivery: 24 * 60 * MINUTE,
        }
    }
}

impl Default for Storm {
    fn default() -> Self {
        Self { factor: 2, after: None, interval: 5 * MINUTE, calm: 5 * MINUTE }
    }
}

impl Storm {
    /// How many pages within a minute are no storm yet, for an account that lets `allowance` events go in
    /// 15 seconds.
    pub fn threshold(&self, allowance: u32) -> usize {
        let threshold = self.after.unwrap_or_else(|| allowance.saturating_mul(self.factor));
        usize::try_from(threshold).unwrap_or(usize::MAX)
    }
}

impl Config {
    /// Reads the section; what is not written keeps its default.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut config = Self::default();
        if let Some(repeat) = table.word("repeat") {
            config.repeat = repeat;
        }
        let (zero, year, help) = (SignedDuration::ZERO, 365 * 24 * 60 * MINUTE, "from 0s to 365d");
        if let Some(quiet) = duration(table, "quiet", zero, year, help) {
            config.quiet = quiet;
        }
        if let Some(quiet) = duration(table, "acknowledged-quiet", zero, year, help) {
            config.acknowledged_quiet = quiet;
        }
        let help = "from 0s to 10m: for so long nobody is paged";
        if let Some(hold) = duration(table, "hold", zero, LONGEST_HOLD, help) {
            config.hold = hold;
        }
        let help = "from 0s to 30d: for so long the same mail counts once";
        if let Some(redelivery) = duration(table, "redelivery", zero, 30 * 24 * 60 * MINUTE, help) {
            config.redelivery = redelivery;
        }
        if let Some(storm) = table.value("storm") {
            if storm.type_name() == "boolean" {
                config.storm = storm.boolean().filter(|on| *on).map(|_| Storm::default());
            } else if let Some(mut table) = storm.table() {
                config.storm = Some(Storm::read(&mut table));
                table.finish();
            }
        }
        config
    }
}

impl Storm {
    fn read(table: &mut Table<'_>) -> Self {
        let mut storm = Self::default();
        let number = |n| u32::try_from(n).expect("the range is that of a u32");
        if let Some(factor) = table.integer("factor", 1..=1_000) {
            storm.factor = number(factor);
        }
        storm.after = table.integer("after", 1..=1_000_000).map(number);
        let help = "from 10s to 1d: each digest may page";
        let longest = 24 * 60 * MINUTE;
        if let Some(interval) = duration(table, "interval", SignedDuration::from_secs(10), longest, help) {
            storm.interval = interval;
        }
        if let Some(calm) = duration(table, "calm", SignedDuration::from_secs(10), longest, "from 10s to 1d")
        {
            storm.calm = calm;
        }
        storm
    }
}

/// The duration of `key` within its bounds.
fn duration(
    table: &mut Table<'_>,
    key: &'static str,
    least: SignedDuration,
    most: SignedDuration,
    help: &str,
) -> Option<SignedDuration> {
    let span = table.value(key)?.span();
    let found: Duration = table.duration(key)?;
    let found = signed(found);
    if (least..=most).contains(&found) {
        return Some(found);
    }
    table.error(span, format!("`{key}` is out of range"), help);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Config, Vec<String>> {
        document::read(&Source::new("t.toml", text), Config::read)
            .map_err(|found| found.into_iter().map(|d| format!("{}: {}", d.line, d.message)).collect())
    }

    #[test]
    fn every_key_is_read_and_the_rest_keeps_its_default() {
        let text = "repeat = 'count'\nquiet = '1h'\nacknowledged-quiet = '2h'\nhold = '30s'\nredelivery = '6h'\n\
                    storm = { factor = 3, after = 7, interval = '1m', calm = '2m' }\n";
        let expected = Config {
            repeat: Repeat::Count,
            quiet: 60 * MINUTE,
            acknowledged_quiet: 120 * MINUTE,
            hold: SignedDuration::from_secs(30),
            storm: Some(Storm { factor: 3, after: Some(7), interval: MINUTE, calm: 2 * MINUTE }),
            redelivery: 360 * MINUTE,
        };
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read(""), Ok(Config::default()));
        assert_eq!(read("storm = false").unwrap().storm, None);
        assert_eq!(read("storm = true").unwrap().storm, Some(Storm::default()));
    }

    #[test]
    fn what_cannot_be_is_told_with_its_place() {
        let text = "repeat = 'never'\nhold = '1h'\nstorm = { factor = 0, calm = '1s', x = 1 }\n";
        assert_eq!(
            read(text).unwrap_err(),
            [
                "1: `repeat` cannot be `never`",
                "2: `hold` is out of range",
                "3: `storm.factor` is out of range",
                "3: `calm` is out of range",
                "3: unknown field `x` in `storm`",
            ]
        );
    }

    #[test]
    fn a_storm_is_measured_by_what_the_account_lets_go_unless_a_number_is_given() {
        let storm = Storm::default();
        assert_eq!((storm.threshold(10), storm.threshold(150)), (20, 300));
        assert_eq!(Storm { after: Some(5), ..storm }.threshold(150), 5);
    }
}
