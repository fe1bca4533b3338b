//! Durations and sizes as people write them: a whole number and its unit.

use std::time::Duration;

/// Reads `90s`, `5m`, `3d` and the like.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    // A hundred years is as good as for ever, and keeps every sum with a date in range.
    number.checked_mul(millis).filter(|&ms| ms <= 100 * 366 * 86_400_000).map(Duration::from_millis)
}

/// The shortest way to write `duration` that [`parse_duration`] reads.
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let whole = units.iter().find(|(_, length)| millis >= *length && millis.is_multiple_of(*length));
    whole.map_or_else(
        || format!("{}s", duration.as_secs()),
        |(unit, length)| format!("{}{unit}", millis / length),
    )
}

/// Reads `25 MiB`, `512 KiB`, `100 B` and the like.
pub(super) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes).and_then(|n| usize::try_from(n).ok())
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..at].parse().ok()?, text[at..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit() {
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("3d"), Some(Duration::from_secs(3 * 86_400)));
        assert_eq!(parse_duration("90"), None);
        for text in ["90s", "3d", "1h", "250ms", "0s"] {
            assert_eq!(parse_duration(text).map(duration_text).as_deref(), Some(text));
        }
        assert_eq!(parse_duration("99999999999999999999s"), None);
        assert_eq!(parse_size("25 MiB"), Some(25 << 20));
        assert_eq!(parse_size("1GB"), None);
    }
}
