//! When a mail says that SIGNL4 cannot be reached: not before it has lasted, once a day while it lasts, and once
//! when it is over. Pure: times come in, what is due comes out.

use jiff::{SignedDuration, Timestamp};

/// How often the mail is repeated while the trouble lasts.
const REPEAT: SignedDuration = SignedDuration::from_hours(24);

/// The wait after a mail that could not be sent: twice as long after each further one, up to a quarter of an
/// hour.
const RETRY: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(30), SignedDuration::from_mins(15));

/// What a mail has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Events are stuck since then.
    Stuck { since: Timestamp },
    /// They still are.
    StillStuck { since: Timestamp },
    /// They go out again.
    Over { since: Timestamp, until: Timestamp },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Fine,
    Stuck {
        since: Timestamp,
        told_at: Option<Timestamp>,
    },
    /// Over, and those who were told of the trouble do not know.
    Over {
        since: Timestamp,
        until: Timestamp,
        told_at: Timestamp,
    },
}

/// A time in which events are stuck, or the lack of one, as it is at first.
#[derive(Debug, Default)]
pub(super) struct Outage {
    after: SignedDuration,
    phase: Phase,
    /// Mails that failed in a row, and when the next may be tried.
    failures: u32,
    not_before: Timestamp,
}

impl Outage {
    /// From now on trouble is told when it has lasted `after`.
    pub(super) fn tell_after(&mut self, after: SignedDuration) {
        self.after = after;
    }

    /// Looks at how it stands at `now`. What is due is due until [`Outage::sent`].
    pub(super) fn look(&mut self, stuck: bool, now: Timestamp) -> Option<Word> {
        self.phase = match (self.phase, stuck) {
            (Phase::Fine, true) => Phase::Stuck { since: now, told_at: None },
            (Phase::Stuck { told_at: None, .. }, false) => Phase::Fine,
            (Phase::Stuck { since, told_at: Some(told_at) }, false) => {
                Phase::Over { since, until: now, told_at }
            }
            // For those who were told it never was over.
            (Phase::Over { since, told_at, .. }, true) => Phase::Stuck { since, told_at: Some(told_at) },
            (same, _) => same,
        };
        let due = match self.phase {
            Phase::Stuck { since, told_at: None } if now.duration_since(since) >= self.after => {
                Word::Stuck { since }
            }
            Phase::Stuck { since, told_at: Some(at) } if now.duration_since(at) >= REPEAT => {
                Word::StillStuck { since }
            }
            Phase::Over { since, until, .. } => Word::Over { since, until },
            Phase::Fine | Phase::Stuck { .. } => return None,
        };
        (self.not_before <= now).then_some(due)
    }

    /// The mail is with the smarthost.
    pub(super) fn sent(&mut self, now: Timestamp) {
        (self.failures, self.not_before) = (0, Timestamp::MIN);
        self.phase = match self.phase {
            Phase::Stuck { since, .. } => Phase::Stuck { since, told_at: Some(now) },
            Phase::Fine | Phase::Over { .. } => Phase::Fine,
        };
    }

    /// The mail could not be sent: when it is tried again.
    pub(super) fn failed(&mut self, now: Timestamp) -> Timestamp {
        let wait = RETRY.0.saturating_mul(1 << self.failures.min(6)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + wait;
        self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: SignedDuration = SignedDuration::from_mins(15);

    fn at(minutes: i64) -> Timestamp {
        "2026-11-20T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn outage() -> Outage {
        let mut outage = Outage::default();
        outage.tell_after(QUARTER);
        outage
    }

    #[test]
    fn a_short_outage_is_nobodys_business() {
        let mut outage = outage();
        assert_eq!(outage.look(true, at(0)), None);
        assert_eq!(outage.look(true, at(14)), None);
        assert_eq!(outage.look(false, at(15)), None);
        assert_eq!(outage.look(true, at(16)), None, "a new one begins anew");
        assert_eq!(outage.look(true, at(31)), Some(Word::Stuck { since: at(16) }));
    }

    #[test]
    fn a_long_one_is_told_once_then_daily_and_when_it_is_over() {
        let mut outage = outage();
        outage.look(true, at(0));
        assert_eq!(outage.look(true, at(15)), Some(Word::Stuck { since: at(0) }));
        outage.sent(at(15));
        assert_eq!(outage.look(true, at(16)), None);
        assert_eq!(outage.look(true, at(15 + 24 * 60)), Some(Word::StillStuck { since: at(0) }));
        outage.sent(at(15 + 24 * 60));
        let over = Word::Over { since: at(0), until: at(2000) };
        assert_eq!(outage.look(false, at(2000)), Some(over));
        outage.sent(at(2000));
        assert_eq!(outage.look(false, at(2001)), None);
    }

    #[test]
    fn a_mail_that_fails_is_tried_again_ever_more_rarely_and_says_what_is_true_then() {
        let mut outage = outage();
        outage.look(true, at(0));
        assert!(outage.look(true, at(20)).is_some());
        let mut now = at(20);
        for seconds in [30, 60, 120, 240, 480, 900, 900] {
            let next = outage.failed(now);
            assert_eq!(next.duration_since(now).as_secs(), seconds);
            assert_eq!(outage.look(true, next - SignedDuration::from_secs(1)), None);
            assert!(outage.look(true, next).is_some());
            now = next;
        }
        assert_eq!(outage.look(false, now), None, "nobody was told that it began");
    }

    #[test]
    fn an_end_that_nobody_was_told_of_is_none_when_it_begins_again() {
        let mut outage = outage();
        outage.look(true, at(0));
        outage.look(true, at(15));
        outage.sent(at(15));
        assert!(outage.look(false, at(20)).is_some());
        outage.failed(at(20));
        assert_eq!(outage.look(true, at(30)), None);
        assert_eq!(outage.look(true, at(15 + 24 * 60)), Some(Word::StillStuck { since: at(0) }));
    }
}
