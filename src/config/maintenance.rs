//! `[[maintenance]]`: windows in which mails are kept without being sent.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::document::{Located, Table};
use crate::rules::{self, Schedule, StandaloneCondition, read_zone};

/// A maintenance window: what is muted, and when.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its name, in listings and as the reason of what it mutes.
    pub name: String,
    /// What it mutes; everything if none.
    pub when: Option<StandaloneCondition>,
    /// Whether it mutes critical events as well.
    pub critical: bool,
    /// The time zone of its times.
    pub zone: TimeZone,
    calendar: Calendar,
}

/// The times of a window.
#[derive(Debug, Clone, PartialEq)]
struct Calendar {
    schedule: Option<Schedule>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Window {
    /// Whether it is open at `at`.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.calendar.is_open(at)
    }

    /// When the time ends in which it is open at `at`; none if never.
    pub fn closes(&self, at: Timestamp) -> Option<Timestamp> {
        self.calendar.closes(at)
    }

    /// When it opens next after `at`; none if never again.
    pub fn opens(&self, at: Timestamp) -> Option<Timestamp> {
        self.calendar.opens(at)
    }
}

impl Calendar {
    fn is_open(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at)
            && self.until.is_none_or(|until| at < until)
            && self.schedule.as_ref().is_none_or(|schedule| schedule.holds(at))
    }

    fn closes(&self, at: Timestamp) -> Option<Timestamp> {
        let turn = self.schedule.as_ref().and_then(|schedule| schedule.turns(at));
        [turn, self.until].into_iter().flatten().min()
    }

    fn opens(&self, at: Timestamp) -> Option<Timestamp> {
        let start = match (self.from.filter(|from| *from > at), &self.schedule) {
            (Some(from), schedule) if schedule.as_ref().is_none_or(|schedule| schedule.holds(from)) => {
                Some(from)
            }
            (from, Some(schedule)) => {
                let turn = schedule.turns(from.unwrap_or(at))?;
                // If it holds now, the first turn is its end.
                if schedule.holds(turn) { Some(turn) } else { schedule.turns(turn) }
            }
            (_, None) => None,
        };
        start.filter(|start| self.until.is_none_or(|until| *start < until))
    }
}

/// Reads every `[[maintenance]]`.
pub(super) fn read(root: &mut Table<'_>, rules: &rules::Config) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for mut table in root.tables("maintenance") {
        let name = super::names::name_of(
            &mut table,
            "maintenance window",
            windows.iter().map(|window| &*window.name),
        );
        let when = StandaloneCondition::read(&mut table, rules);
        let critical = table.boolean("critical").unwrap_or(false);
        let zone = read_zone(&mut table).unwrap_or_else(|| rules.zone.clone());
        let calendar = read_calendar(&mut table, &zone);
        table.finish();
        windows.push(Window { name, when, critical, zone, calendar });
    }
    windows
}

fn read_calendar(table: &mut Table<'_>, zone: &TimeZone) -> Calendar {
    let schedule = Schedule::read(table, zone);
    let mut moment = |key, last: bool| {
        let text = table.value(key)?.time()?;
        let found = moment(&text.value, zone, last);
        if found.is_none() {
            table.error(
                text.span.clone(),
                format!("`{}` is neither a date nor a time", text.value.escape_debug()),
                "\"2026-12-24\", \"2026-12-24 22:00\" or \"2026-12-24T22:00:00+01:00\"",
            );
        }
        Some(Located { value: found?, span: text.span })
    };
    let (from, until) = (moment("from", false), moment("until", true));
    if schedule.is_none() && !["between", "days", "from", "until"].into_iter().any(|key| table.has(key)) {
        table.error(
            table.span(),
            "this maintenance window has no time",
            "write `days`, `between`, `from` or `until`",
        );
    }
    let backwards = from.as_ref().zip(until.as_ref()).is_some_and(|(from, until)| until.value <= from.value);
    if let Some(until) = until.as_ref().filter(|_| backwards) {
        table.error(until.span.clone(), "it ends before it begins", "`until` must be later than `from`");
    }
    let calendar =
        Calendar { schedule, from: from.map(|from| from.value), until: until.map(|until| until.value) };
    let start = calendar.from.unwrap_or(Timestamp::UNIX_EPOCH);
    if !backwards && !calendar.is_open(start) && calendar.opens(start).is_none() {
        table.error(
            table.span(),
            "this maintenance window never opens",
            "name two different times, and a day that lies between `from` and `until`",
        );
    }
    calendar
}

/// Reads a date, a time without a zone, which is then in `zone`, or one with its offset. A date is the start of that
/// day, or if it is the `last` one, its end.
pub fn moment(text: &str, zone: &TimeZone, last: bool) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let civil = match text.len() {
        10 => {
            let date: Date = text.parse().ok()?;
            let date = if last { date.checked_add(1.day()).ok()? } else { date };
            date.at(0, 0, 0, 0)
        }
        _ => text.parse::<DateTime>().ok()?,
    };
    Some(civil.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn windows(text: &str) -> Result<Vec<Window>, Vec<String>> {
        document::read(&Source::new("t.toml", text), |root| read(root, &rules::Config::default())).map_err(
            |found| found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect(),
        )
    }

    fn window(text: &str) -> Window {
        windows(&format!("[[maintenance]]\nname = 'w'\n{text}")).unwrap().remove(0)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_and_closes_at_its_exact_times() {
        let night = window("days = ['fri']\nbetween = ['22:00', '06:00']\nzone = 'Europe/Berlin'");
        assert!(!night.is_open(at("2026-11-20T20:59:59Z")));
        assert_eq!(night.opens(at("2026-11-20T20:59:59Z")), Some(at("2026-11-20T21:00:00Z")));
        assert!(night.is_open(at("2026-11-20T21:00:00Z")));
        assert_eq!(night.closes(at("2026-11-20T21:00:00Z")), Some(at("2026-11-21T05:00:00Z")));
        assert_eq!(night.opens(at("2026-11-20T21:00:00Z")), Some(at("2026-11-27T21:00:00Z")));
        assert!(!night.is_open(at("2026-11-21T05:00:00Z")));
    }

    #[test]
    fn dates_bound_a_schedule_and_the_last_day_counts() {
        let holidays = window("from = '2026-12-24'\nuntil = 2026-12-26\nzone = 'Europe/Berlin'");
        assert_eq!(holidays.opens(at("2026-11-20T00:00:00Z")), Some(at("2026-12-23T23:00:00Z")));
        assert_eq!(holidays.closes(at("2026-12-24T00:00:00Z")), Some(at("2026-12-26T23:00:00Z")));
        assert_eq!(holidays.opens(at("2026-12-24T00:00:00Z")), None);
        let nights =
            window("between = ['22:00', '06:00']\nfrom = '2026-12-24T23:30:00Z'\nuntil = '2026-12-26 03:00'");
        assert_eq!(nights.opens(at("2026-11-20T00:00:00Z")), Some(at("2026-12-24T23:30:00Z")));
        assert_eq!(nights.closes(at("2026-12-25T00:00:00Z")), Some(at("2026-12-25T06:00:00Z")));
        assert_eq!(nights.opens(at("2026-12-25T00:00:00Z")), Some(at("2026-12-25T22:00:00Z")));
        assert_eq!(nights.closes(at("2026-12-25T22:00:00Z")), Some(at("2026-12-26T03:00:00Z")));
        assert_eq!(nights.opens(at("2026-12-25T22:00:00Z")), None);
        let decommissioned = window("from = 2026-12-24 12:00:00");
        assert_eq!(decommissioned.opens(at("2026-11-20T00:00:00Z")), Some(at("2026-12-24T12:00:00Z")));
        assert!(decommissioned.is_open(at("2030-01-01T00:00:00Z")));
        assert_eq!(decommissioned.closes(at("2030-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_cannot_be_a_window_is_told_at_its_place() {
        let wrong = "[[maintenance]]\nname = 'a'\n[[maintenance]]\nname = 'a'\nfrom = 'soon'\n\
                     [[maintenance]]\nfrom = '2026-12-24'\nuntil = '2026-12-23'\nwhen = { subjct = 'x' }\n\
                     [[maintenance]]\nname = 'b'\ndays = []\nday = 'sat'\n\
                     [[maintenance]]\nname = 'c'\ndays = 'sun'\nfrom = 2026-11-23\nuntil = 2026-11-28\n";
        assert_eq!(
            windows(wrong).unwrap_err(),
            [
                "1:1: this maintenance window has no time",
                "4:8: there is a maintenance window `a` already",
                "5:8: `soon` is neither a date nor a time",
                "6:1: this maintenance window has no name",
                "8:9: it ends before it begins",
                "9:10: unknown field `subjct`",
                "10:1: this maintenance window never opens",
                "13:1: unknown field `day` in `maintenance[3]`",
                "14:1: this maintenance window never opens",
            ]
        );
    }
}
