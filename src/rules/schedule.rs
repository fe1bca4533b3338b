//! Times of the day and days of the week, in a time zone: what a rule asks of the time of a mail, and what
//! a maintenance window keeps to.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::diagnostic::suggest;
use crate::document::Table;

/// Times of the day, days of the week, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// From the first until before the second; past midnight if the second is the earlier.
    between: Option<(Time, Time)>,
    /// Monday first; with a span past midnight, the day is that on which the span began.
    days: Option<[bool; 7]>,
    zone: TimeZone,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// How far ahead a schedule can be still: a week, and a day that the clocks may eat.
const HORIZON: SignedDuration = SignedDuration::from_hours(8 * 24);

impl Schedule {
    /// Reads `between`, `days` and `zone` of `table`, and leaves its other keys to the caller; none if neither
    /// times nor days are written. `zone` is the zone where none is written.
    pub fn read(table: &mut Table<'_>, zone: &TimeZone) -> Option<Self> {
        let zone = read_zone(table).unwrap_or_else(|| zone.clone());
        let mut schedule = Self { between: None, days: None, zone };
        let mut written = false;
        if let Some(times) = table.strings("between") {
            written = true;
            let mut read = Vec::new();
            for text in &times {
                match Time::strptime("%H:%M", &text.value) {
                    Ok(time) => read.push(time),
                    Err(_) => table.error(
                        text.span.clone(),
                        format!("`{}` is not a time of the day", text.value),
                        "write \"22:00\"",
                    ),
                }
            }
            match read[..] {
                [from, until] if times.len() == 2 => schedule.between = Some((from, until)),
                _ if times.len() == 2 => (),
                _ => table.error(
                    table.span(),
                    "`between` needs two times",
                    "write between = [\"22:00\", \"06:00\"]",
                ),
            }
        }
        if let Some(days) = table.strings("days") {
            written = true;
            let mut set = [false; 7];
            for text in days {
                match DAYS.iter().position(|day| day.eq_ignore_ascii_case(&text.value)) {
                    Some(at) => set[at] = true,
                    None => table.error(
                        text.span,
                        format!("`{}` is not a day", text.value),
                        suggest(&text.value, DAYS),
                    ),
                }
            }
            schedule.days = Some(set);
        }
        written.then_some(schedule)
    }

    /// Whether `at` is within.
    pub fn holds(&self, at: Timestamp) -> bool {
        let zoned = at.to_zoned(self.zone.clone());
        let time = zoned.time();
        let mut day = zoned.weekday();
        if let Some((from, until)) = self.between {
            let within = if from <= until {
                from <= time && time < until
            } else {
                if time < until {
                    day = day.previous();
                }
                time >= from || time < until
            };
            if !within {
                return false;
            }
        }
        self.days.is_none_or(|days| days[day.to_monday_zero_offset() as usize])
    }

    /// The first time after `at` at which it begins or ceases to hold; none if it never does.
    pub fn turns(&self, at: Timestamp) -> Option<Timestamp> {
        let now = self.holds(at);
        let end = at.saturating_add(HORIZON).expect("a duration of hours has no calendar in it");
        let times =
            [Time::midnight()].into_iter().chain(self.between.into_iter().flat_map(<[Time; 2]>::from));
        let times: Vec<Time> = times.collect();
        let first = at.to_zoned(self.zone.clone()).date();
        let mut turns: Vec<Timestamp> = first
            .series(1.day())
            .take(10)
            .flat_map(|day| times.iter().map(move |time| day.to_datetime(*time)))
            // A time that the clocks skip or show twice is looked at from both sides.
            .flat_map(|civil| {
                let zoned = || self.zone.to_ambiguous_zoned(civil);
                [zoned().earlier(), zoned().later()]
            })
            .filter_map(|zoned| Some(zoned.ok()?.timestamp()))
            // And at the change of the clocks itself.
            .chain(self.zone.following(at).map(|turn| turn.timestamp()).take_while(|turn| *turn <= end))
            .filter(|turn| at < *turn && *turn <= end)
            .collect();
        turns.sort_unstable();
        turns.into_iter().find(|turn| self.holds(*turn) != now)
    }

    /// Its time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

/// The time zone in the key `zone` of `table`; none if it is not written, or is none.
pub fn read_zone(table: &mut Table<'_>) -> Option<TimeZone> {
    let zone = table.string("zone")?;
    let found = TimeZone::get(&zone.value).ok();
    if found.is_none() {
        table.error(
            zone.span,
            format!("there is no time zone `{}`", zone.value),
            "a name of the tz database, such as \"Europe/Berlin\"",
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn schedule(text: &str) -> Schedule {
        document::read(&Source::new("t", text), |table| Schedule::read(table, &TimeZone::UTC))
            .unwrap()
            .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        let night = schedule("between = ['22:00', '06:00']\ndays = ['fri']");
        assert!(night.holds(at("2026-11-20T23:00:00Z")));
        assert!(night.holds(at("2026-11-21T05:59:59Z")));
        assert!(!night.holds(at("2026-11-20T05:00:00Z")));
        assert!(!night.holds(at("2026-11-21T06:00:00Z")));
    }

    #[test]
    fn the_next_turn_is_the_exact_time_at_which_it_begins_or_ends() {
        let weekend = schedule("days = ['sat', 'sun']");
        assert_eq!(weekend.turns(at("2026-11-20T12:00:00Z")), Some(at("2026-11-21T00:00:00Z")));
        assert_eq!(weekend.turns(at("2026-11-21T00:00:00Z")), Some(at("2026-11-23T00:00:00Z")));
        let night = schedule("between = ['22:00', '06:00']\ndays = ['fri']");
        assert_eq!(night.turns(at("2026-11-20T22:00:00Z")), Some(at("2026-11-21T06:00:00Z")));
        assert_eq!(night.turns(at("2026-11-21T06:00:00Z")), Some(at("2026-11-27T22:00:00Z")));
        assert_eq!(schedule("days = []").turns(at("2026-11-20T22:00:00Z")), None);
        assert_eq!(schedule("between = ['00:00', '00:00']").turns(at("2026-11-20T22:00:00Z")), None);
    }

    #[test]
    fn a_turn_within_the_change_of_the_clocks_is_found() {
        let berlin = |between: &str| schedule(&format!("between = [{between}]\nzone = 'Europe/Berlin'"));
        // 02:00 to 03:00 does not exist on 2027-03-28.
        let spring = berlin("'02:30', '04:00'");
        assert_eq!(spring.turns(at("2027-03-28T00:00:00Z")), Some(at("2027-03-28T01:00:00Z")));
        assert_eq!(spring.turns(at("2027-03-28T01:00:00Z")), Some(at("2027-03-28T02:00:00Z")));
        // It exists twice on 2026-10-25.
        let autumn = berlin("'01:00', '02:30'");
        assert_eq!(autumn.turns(at("2026-10-24T23:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(autumn.turns(at("2026-10-25T00:30:00Z")), Some(at("2026-10-25T01:00:00Z")));
        assert_eq!(autumn.turns(at("2026-10-25T01:00:00Z")), Some(at("2026-10-25T01:30:00Z")));
    }
}
