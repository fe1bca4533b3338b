//! Durations and moments as people write and read them.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;
use jiff::tz::TimeZone;
use jiff::{
    RoundMode, SignedDuration, SignedDurationRound, Span, SpanRelativeTo, SpanRound, Timestamp, Unit,
};

/// A hundred years are as good as for ever, and keep every sum with a date in range.
const FOREVER: Duration = Duration::from_hours(100 * 366 * 24);

/// From here on people count days, not hours.
const DAYS: SignedDuration = SignedDuration::from_hours(48);

/// Reads `90s`, `5 min`, `1h 30m`, `3d` and the like; a day has 24 hours.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text).ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok().filter(|duration| *duration <= FOREVER)
}

/// `duration` in full, as [`parse_duration`] reads it: `1h 30m`.
pub fn duration_text(duration: impl TryInto<SignedDuration>) -> String {
    let duration = signed(duration);
    let largest = if duration < DAYS { Unit::Hour } else { Unit::Day };
    Span::try_from(duration)
        .and_then(|span| span.round(SpanRound::new().largest(largest).days_are_24_hours()))
        .map_or_else(|_| format!("{duration:#}"), |span| format!("{span:#}"))
}

/// `duration` in its two greatest units, for people: `2d 3h`, and `0s` if it is negative.
pub fn rounded_text(duration: impl TryInto<SignedDuration>) -> String {
    let duration = signed(duration).max(SignedDuration::ZERO);
    let smallest = match duration.as_hours() {
        0 => Unit::Second,
        _ if duration < DAYS => Unit::Minute,
        _ => Unit::Hour,
    };
    let round = SignedDurationRound::new().smallest(smallest).mode(RoundMode::Trunc);
    duration_text(duration.round(round).unwrap_or(duration))
}

/// `duration` for sums with a [`Timestamp`]; the longest there is, if it is longer.
pub fn signed(duration: impl TryInto<SignedDuration>) -> SignedDuration {
    duration.try_into().unwrap_or(SignedDuration::MAX)
}

/// `at` in the time zone of this machine, for people.
pub fn local(at: Timestamp) -> String {
    in_zone(at, &TimeZone::system())
}

/// `at` in `zone`, for people: as `systemctl` shows it, `Fri 2026-11-20 17:05:00 CET`.
pub fn in_zone(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit() {
        for (text, seconds) in [("90s", 90), ("5 min", 300), ("1h 30m", 5_400), ("3d", 259_200)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "90", "s", "-90s", "90s ago", "1mo", "1y", "37000d", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_in_full_reads_as_itself() {
        for text in ["1m 30s", "26h", "2d", "8d 1h", "250ms", "0s"] {
            assert_eq!(parse_duration(text).map(duration_text).as_deref(), Some(text));
        }
        assert_eq!(duration_text(Duration::MAX), duration_text(SignedDuration::MAX));
    }

    #[test]
    fn a_rounded_duration_has_its_two_greatest_units() {
        for (seconds, text) in
            [(59, "59s"), (61, "1m 1s"), (3 * 3_600 + 179, "3h 2m"), (50 * 3_600 + 59, "2d 2h"), (-5, "0s")]
        {
            assert_eq!(rounded_text(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_moment_is_shown_in_its_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let at = "2026-11-20T16:05:00.9Z".parse().unwrap();
        assert_eq!(in_zone(at, &berlin), "Fri 2026-11-20 17:05:00 CET");
    }
}
