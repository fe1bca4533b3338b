//! What the headers of a reply say: SIGNL4's rate limit, and when to come back.

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{self, HeaderMap};

/// Bounds of the wait after 429, whatever the headers say: a clock may be wrong on either side, and the
/// hour is the longest of SIGNL4's windows that a burst can fill.
const THROTTLE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_secs(3_600));

/// The wait after a 429 that does not say how long: SIGNL4's shortest window.
const THROTTLE_UNSAID: SignedDuration = SignedDuration::from_secs(15);

/// What the headers say of SIGNL4's rate limit
/// (<https://support.signl4.com/hc/en-us/articles/4404459248657-Event-Throttling>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Events that the window allows (`X-RateLimit-Limit`).
    pub limit: Option<u64>,
    /// Events that it has left (`X-RateLimit-Remaining`).
    pub remaining: Option<u64>,
    /// When it ends (`X-RateLimit-Reset`), by our clock.
    pub reset: Option<Timestamp>,
}

/// The number in a header.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The time in a header, in HTTP's form (RFC 9110 section 5.6.7).
fn date(headers: &HeaderMap, name: header::HeaderName) -> Option<Timestamp> {
    let text = headers.get(name)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|date| date.timestamp())
}

/// How far a time in the reply lies ahead, by the reply's own clock if it shows one: ours may be wrong.
fn ahead(headers: &HeaderMap, at: Timestamp, now: Timestamp) -> SignedDuration {
    at.duration_since(date(headers, header::DATE).unwrap_or(now))
}

/// The rate limit in the headers of a reply that came at `now`.
pub(super) fn limits(headers: &HeaderMap, now: Timestamp) -> Limits {
    // Documented as unix time. A number too small for one is a number of seconds, as others have it.
    const NO_UNIX_TIME: u64 = 1_000_000_000;
    let reset = number(headers, "x-ratelimit-reset").and_then(|reset| {
        let reset = i64::try_from(reset).ok()?;
        let wait = if reset.unsigned_abs() < NO_UNIX_TIME {
            SignedDuration::from_secs(reset)
        } else {
            ahead(headers, Timestamp::from_second(reset).ok()?, now)
        };
        now.checked_add(wait).ok()
    });
    Limits {
        limit: number(headers, "x-ratelimit-limit"),
        remaining: number(headers, "x-ratelimit-remaining"),
        reset,
    }
}

/// When the account may post again after a 429: at the window's reset, else after `Retry-After`
/// (RFC 9110 section 10.2.3: seconds or a date).
pub(super) fn throttled_until(headers: &HeaderMap, limits: Limits, now: Timestamp) -> Timestamp {
    let wait = limits.reset.map(|reset| reset.duration_since(now)).or_else(|| written(headers, now));
    now + wait.unwrap_or(THROTTLE_UNSAID).clamp(THROTTLE.0, THROTTLE.1)
}

/// The wait that a server which is not available asks for, within the bounds of a 429.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    written(headers, now).map(|wait| wait.clamp(THROTTLE.0, THROTTLE.1))
}

/// The wait in `Retry-After`.
fn written(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let seconds = number(headers, "retry-after").and_then(|n| i64::try_from(n).ok());
    let date = || Some(ahead(headers, date(headers, header::RETRY_AFTER)?, now));
    seconds.map(SignedDuration::from_secs).or_else(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_429_waits_as_its_headers_say_within_bounds() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let unix = |ahead: i64| (now.as_second() + ahead).to_string();
        let wait = |list: &[(&'static str, &str)]| {
            let headers = headers(list);
            throttled_until(&headers, limits(&headers, now), now).duration_since(now).as_secs()
        };
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(12))]), 12);
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(12)), ("retry-after", "50")]), 12);
        assert_eq!(wait(&[("x-ratelimit-reset", "9")]), 9);
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(-500))]), 1);
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(90_000))]), 3_600);
        assert_eq!(wait(&[("x-ratelimit-reset", "18446744073709551615")]), 15);
        assert_eq!(wait(&[("x-ratelimit-reset", "soon"), ("retry-after", "20")]), 20);
        assert_eq!(wait(&[("retry-after", "Fri, 20 Nov 2026 12:00:33 GMT")]), 33);
        assert_eq!(wait(&[]), 15);
        // Their clock is ten minutes ahead of ours.
        let date = ("date", "Fri, 20 Nov 2026 12:10:00 GMT");
        assert_eq!(wait(&[date, ("x-ratelimit-reset", &unix(612))]), 12);
        assert_eq!(wait(&[date, ("retry-after", "Fri, 20 Nov 2026 12:10:33 GMT")]), 33);
    }

    #[test]
    fn a_server_that_is_not_available_may_ask_for_a_wait() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let wait =
            |list: &[(&'static str, &str)]| retry_after(&headers(list), now).map(|wait| wait.as_secs());
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[("retry-after", "40")]), Some(40));
        assert_eq!(wait(&[("retry-after", "0")]), Some(1));
        assert_eq!(wait(&[("retry-after", "86400")]), Some(3_600));
    }
}
