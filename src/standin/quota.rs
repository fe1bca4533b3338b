//! SIGNL4's rate limit as far as it is documented
//! (<https://support.signl4.com/hc/en-us/articles/4404459248657-Event-Throttling>). No clock: the time
//! comes in.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// The windows of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Plan {
    /// None: no headers, no throttling, not even of wrong requests.
    #[default]
    Unlimited,
    /// A free account: 10 in 15 s, 240 in a minute, 1,200 in an hour, 4,800 in a day.
    Free,
    /// A commercial account: 150 in 15 s, 600 in a minute, 36,000 in an hour, 864,000 in a day.
    Commercial,
    /// So many events in so long a time, each.
    Windows(Vec<(u64, SignedDuration)>),
}

/// Wrong requests that are taken in a minute.
const WRONG_LIMIT: u64 = 10;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What the limit says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it is taken.
    pub allowed: bool,
    /// `X-RateLimit-Limit` of the window that is nearest to its end.
    pub limit: u64,
    /// `X-RateLimit-Remaining` of that window.
    pub remaining: u64,
    /// `X-RateLimit-Reset`: when the block is over, or else when that window is.
    pub reset: Timestamp,
}

/// One window, which slides: SIGNL4 does not say where its windows begin, and who never posts more than
/// the limit within any span of their length passes none.
#[derive(Debug, Clone)]
struct Window {
    limit: u64,
    length: SignedDuration,
    /// When the requests of the last `length` came.
    taken: VecDeque<Timestamp>,
}

impl Window {
    fn new(limit: u64, length: SignedDuration) -> Self {
        Self { limit, length, taken: VecDeque::new() }
    }

    fn slide(&mut self, now: Timestamp) {
        while self.taken.front().is_some_and(|&at| now.duration_since(at) >= self.length) {
            self.taken.pop_front();
        }
    }

    fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.taken.len() as u64)
    }

    /// When its oldest request leaves it.
    fn end(&self, now: Timestamp) -> Timestamp {
        let oldest = *self.taken.front().unwrap_or(&now);
        oldest.checked_add(self.length).unwrap_or(Timestamp::MAX)
    }
}

/// The state of one account's limit.
#[derive(Debug, Clone)]
pub struct Quota {
    windows: Vec<Window>,
    wrong: Window,
    blocked_until: Timestamp,
}

impl Quota {
    /// An account that has sent nothing yet; none if the plan limits nothing.
    pub fn new(plan: &Plan) -> Option<Self> {
        let windows = |limits: [u64; 4]| {
            let lengths = [SignedDuration::from_secs(15), MINUTE, 60 * MINUTE, 24 * 60 * MINUTE];
            limits.into_iter().zip(lengths).map(|(limit, length)| Window::new(limit, length)).collect()
        };
        let windows = match plan {
            Plan::Unlimited => return None,
            Plan::Free => windows([10, 240, 1_200, 4_800]),
            Plan::Commercial => windows([150, 600, 36_000, 864_000]),
            Plan::Windows(list) => list.iter().map(|&(limit, length)| Window::new(limit, length)).collect(),
        };
        Some(Self { windows, wrong: Window::new(WRONG_LIMIT, MINUTE), blocked_until: Timestamp::MIN })
    }

    /// Counts a request at `now`. Passing a window blocks the account for as long as that window is.
    pub fn take(&mut self, now: Timestamp) -> Ruling {
        let allowed = self.count(now);
        self.ruling(allowed, now)
    }

    /// Counts a wrong request at `now`: allowed means that it gets its own answer, not 429. It counts as a
    /// request too, and one too many of them blocks the account as any other does.
    pub fn take_wrong(&mut self, now: Timestamp) -> Ruling {
        let mut allowed = self.count(now);
        self.wrong.slide(now);
        if allowed && self.wrong.remaining() == 0 {
            self.blocked_until = now + self.wrong.length;
            allowed = false;
        }
        if allowed {
            self.wrong.taken.push_back(now);
        }
        let reset = if allowed { self.wrong.end(now) } else { self.blocked_until };
        Ruling { allowed, limit: self.wrong.limit, remaining: self.wrong.remaining(), reset }
    }

    fn count(&mut self, now: Timestamp) -> bool {
        if now < self.blocked_until {
            return false;
        }
        for window in &mut self.windows {
            window.slide(now);
            if window.remaining() == 0 {
                self.blocked_until = self.blocked_until.max(now + window.length);
            }
        }
        let allowed = now >= self.blocked_until;
        if allowed {
            self.windows.iter_mut().for_each(|window| window.taken.push_back(now));
        }
        allowed
    }

    fn ruling(&self, allowed: bool, now: Timestamp) -> Ruling {
        let nearest = self.windows.iter().min_by_key(|window| window.remaining());
        let (limit, remaining, end) = nearest
            .map_or((0, 0, Timestamp::MAX), |window| (window.limit, window.remaining(), window.end(now)));
        Ruling { allowed, limit, remaining, reset: if allowed { end } else { self.blocked_until } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_event_in_fifteen_seconds_blocks_a_free_account_for_fifteen() {
        let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let at = |seconds| start + SignedDuration::from_secs(seconds);
        let mut quota = Quota::new(&Plan::Free).unwrap();
        for n in 0..10 {
            let ruling = quota.take(at(n));
            assert!(ruling.allowed);
            assert_eq!((ruling.limit, ruling.remaining, ruling.reset), (10, 9 - n as u64, at(15)));
        }
        assert_eq!(quota.take(at(10)), Ruling { allowed: false, limit: 10, remaining: 0, reset: at(25) });
        assert!(!quota.take(at(24)).allowed, "and asking meanwhile changes nothing");
        assert!(quota.take(at(25)).allowed);
    }

    #[test]
    fn a_longer_window_blocks_for_as_long_as_it_is() {
        let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let windows = vec![(5, SignedDuration::from_secs(1)), (8, SignedDuration::from_secs(60))];
        let mut quota = Quota::new(&Plan::Windows(windows)).unwrap();
        for n in 0..8 {
            assert!(quota.take(start + SignedDuration::from_millis(n * 300)).allowed, "{n}");
        }
        let ruling = quota.take(start + SignedDuration::from_secs(5));
        assert_eq!((ruling.allowed, ruling.reset), (false, start + SignedDuration::from_secs(65)));
    }

    #[test]
    fn wrong_requests_are_taken_ten_times_a_minute() {
        let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let mut quota = Quota::new(&Plan::Commercial).unwrap();
        let taken = (0..20).filter(|_| quota.take_wrong(start).allowed).count();
        assert_eq!(taken, 10);
        assert!(!quota.take(start).allowed, "and one more blocks everything for a minute");
        assert!(quota.take_wrong(start + MINUTE).allowed);
    }
    #[test]
    fn no_span_of_a_windows_length_holds_more_than_its_limit_wherever_it_begins() {
        let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let mut quota = Quota::new(&Plan::Free).unwrap();
        let at = |seconds| start + SignedDuration::from_secs(seconds);
        assert!(quota.take(at(0)).allowed);
        assert!((0..9).all(|_| quota.take(at(14)).allowed));
        assert!(quota.take(at(15)).allowed, "the first has left");
        assert_eq!(quota.take(at(15)), Ruling { allowed: false, limit: 10, remaining: 0, reset: at(30) });
    }
}
