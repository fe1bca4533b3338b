//! What an account may post, as its owner says
//! (<https://support.signl4.com/hc/en-us/articles/4404459248657-Event-Throttling>).

use jiff::SignedDuration;

use crate::diagnostic::suggest;
use crate::document::{Table, Value};
use crate::time::{parse_duration, signed};

/// The least limit that is more than a free account's shortest window, and none of its longer ones.
pub(super) const COMMERCIAL: u64 = 150;

/// What an account may post.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Plan {
    /// A free account's, until the headers of SIGNL4's replies say that it is more.
    #[default]
    Auto,
    /// 10 in 15 s, 240 in a minute, 1,200 in an hour, 4,800 in a day.
    Free,
    /// 150 in 15 s, 600 in a minute, 36,000 in an hour, 864,000 in a day.
    Commercial,
    /// Without a bound: for a test endpoint.
    Unlimited,
    /// So many events in so long a time, each: for a test endpoint.
    Windows(Vec<(u64, SignedDuration)>),
}

/// Limits of the named windows: 15 s, a minute, an hour, a day.
pub(super) const FREE: [u64; 4] = [10, 240, 1_200, 4_800];
pub(super) const PAID: [u64; 4] = [COMMERCIAL, 600, 36_000, 864_000];

/// The lengths of the named windows.
const LENGTHS: [SignedDuration; 4] = [
    SignedDuration::from_secs(15),
    SignedDuration::from_mins(1),
    SignedDuration::from_hours(1),
    SignedDuration::from_hours(24),
];

/// The words of the config.
const WORDS: [(&str, Plan); 4] = [
    ("auto", Plan::Auto),
    ("free", Plan::Free),
    ("commercial", Plan::Commercial),
    ("unlimited", Plan::Unlimited),
];

impl Plan {
    /// Reads `plan`: a word, or for a test endpoint a table of windows such as `{ 15s = 10, 1h = 1200 }`.
    pub fn read(value: &Value<'_>) -> Self {
        if value.type_name() == "table" {
            return value.table().map_or(Self::Auto, |table| Self::read_windows(table, value));
        }
        let Some(word) = value.string() else { return Self::Auto };
        let found = WORDS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&word.value));
        found.map(|(_, plan)| plan).unwrap_or_else(|| {
            let help = suggest(&word.value, WORDS.iter().map(|(known, _)| *known));
            value.error(format!("there is no plan `{}`", word.value), help);
            Self::Auto
        })
    }

    fn read_windows(mut table: Table<'_>, value: &Value<'_>) -> Self {
        let mut windows = Vec::new();
        for (length, limit) in table.entries() {
            let known = parse_duration(&length.value).map(signed);
            match known.filter(SignedDuration::is_positive) {
                Some(known) => {
                    let limit = limit.integer(1..=i64::from(u32::MAX));
                    windows.extend(limit.map(|limit| (limit.value.unsigned_abs(), known)));
                }
                None => table.error(
                    length.span,
                    format!("`{}` is not the length of a window", length.value),
                    "a number and its unit: `15s = 10`, `1h = 1200`",
                ),
            }
        }
        table.finish();
        if windows.is_empty() {
            value.error("this plan has no window", "write \"unlimited\" if there is no bound");
        }
        windows.sort_by_key(|&(_, length)| length);
        Self::Windows(windows)
    }

    /// How many events in how long a time each window allows, the shortest first.
    pub(super) fn windows(&self) -> Vec<(u64, SignedDuration)> {
        match self {
            Self::Auto | Self::Free => FREE.into_iter().zip(LENGTHS).collect(),
            Self::Commercial => PAID.into_iter().zip(LENGTHS).collect(),
            Self::Unlimited => Vec::new(),
            Self::Windows(list) => list.clone(),
        }
    }

    /// How many events go in the shortest window; none if there is no bound.
    pub fn burst(&self) -> Option<u64> {
        self.windows().first().map(|&(limit, _)| limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Plan, Vec<String>> {
        document::read(&Source::new("t", text), |root| {
            let plan = root.value("plan").map_or(Plan::Auto, |value| Plan::read(&value));
            assert!(!plan.windows().is_empty() || plan.burst().is_none());
            plan
        })
        .map_err(|found| found.into_iter().map(|d| format!("{}: {}", d.column, d.message)).collect())
    }

    #[test]
    fn a_plan_is_a_word_or_the_windows_of_a_test_endpoint() {
        assert_eq!(read("plan = 'commercial'"), Ok(Plan::Commercial));
        assert_eq!(read("plan = 'Auto'").unwrap().burst(), Some(10));
        let windows = vec![(5, SignedDuration::from_secs(1)), (40, SignedDuration::from_mins(1))];
        assert_eq!(read("plan = { 1m = 40, 1s = 5 }"), Ok(Plan::Windows(windows)));
        assert_eq!(read("plan = 'comercial'"), Err(vec!["8: there is no plan `comercial`".to_owned()]));
        assert_eq!(
            read("plan = { week = 40, 1s = 0 }").unwrap_err(),
            [
                "8: this plan has no window",
                "10: `week` is not the length of a window",
                "26: `plan.1s` is out of range",
            ]
        );
    }
}
