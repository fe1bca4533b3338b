//! Requests that SIGNL4 found invalid. It tolerates ten a minute, then blocks the account. Validity is unknown before
//! posting.
//!
//! Promised: what was wrong within a minute and what is under way, which may be wrong too, are never ten. Left out:
//! to find the good ones among events that look like those that were wrong. So the last of what SIGNL4 bears is kept
//! for others: of another team, or more urgent than all that its team was refused. Those go on one after the other,
//! so that no number of bad events holds up a good page that stands before them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::log::Log;
use super::share::Share;
use crate::delivery::rank::Rank;

/// Wrong requests that we allow ourselves in a minute, posts under way included. SIGNL4 bears ten.
const MOST: u64 = 9;

/// Posts under way at once: even if all of them are wrong, some may go that are not like them.
const AT_ONCE: u64 = 7;

/// Wrong requests in a minute from which on none goes that is like them.
const ALIKE: u64 = 8;

/// The wait before one more goes that is like those that were wrong, where they are many.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// Wrong requests in a minute from which on no secret is tried that was refused before: what is left is for
/// events.
const PROBES: u64 = 5;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// How many wrong requests a minute may have, and how many posts may be under way at once.
fn bounds(share: Share) -> (u64, u64) {
    match share {
        Share::Whole => (MOST, AT_ONCE),
        Share::Half => (PROBES, AT_ONCE / 2),
    }
}

/// The wrong requests of an account.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    log: Log,
    /// By team, what was wrong within the last minute.
    suspects: BTreeMap<usize, Suspect>,
}

/// Events of a team that were wrong.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// How urgent the most urgent of them was.
    rank: Rank,
    /// When the last one was answered.
    last: Timestamp,
}

impl Wrong {
    pub(super) fn new() -> Self {
        Self { log: Log::new(MINUTE), suspects: BTreeMap::new() }
    }

    /// A request was wrong.
    pub(super) fn add(&mut self, now: Timestamp) {
        self.log.add(1, now);
    }

    /// It was an event of `team`, so urgent.
    pub(super) fn suspect(&mut self, team: usize, rank: Rank, now: Timestamp) {
        let suspect = self.suspects.entry(team).or_insert(Suspect { rank, last: now });
        *suspect = Suspect { rank: suspect.rank.min(rank), last: now };
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        self.log.expire(now);
        self.suspects.retain(|_, suspect| now.duration_since(suspect.last) < MINUTE);
    }

    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.log.set_back(now);
        for suspect in self.suspects.values_mut() {
            suspect.last = suspect.last.min(now);
        }
    }

    /// How many were wrong within the last minute.
    pub(super) fn count(&self) -> u64 {
        self.log.total()
    }

    /// When one more may be posted beside `in_flight`: now if it is not later than that, or none if an answer must
    /// come first.
    pub(super) fn free_at(&self, share: Share, in_flight: u64, now: Timestamp) -> Option<Timestamp> {
        let (most, at_once) = bounds(share);
        let room = most.checked_sub(in_flight).filter(|&room| room > 0 && in_flight < at_once)?;
        Some(self.log.below(room).unwrap_or(now))
    }

    /// How many more may be posted beside `in_flight`, before an answer shows whether they were wrong.
    pub(super) fn room(&self, share: Share, in_flight: u64) -> u64 {
        let (most, at_once) = bounds(share);
        at_once.saturating_sub(in_flight).min(most.saturating_sub(in_flight + self.log.total()))
    }

    /// When a secret may be tried that was refused before; none is now.
    pub(super) fn free_for_probe_at(&self) -> Option<Timestamp> {
        self.log.below(PROBES)
    }

    /// Whether an event of `team` that is so urgent may go beside `in_flight`: it is not like those that were
    /// wrong, or those are few, or long ago.
    pub(super) fn trusts(&self, team: usize, rank: Rank, in_flight: u64, now: Timestamp) -> bool {
        let alike = self.suspects.get(&team).filter(|suspect| suspect.rank <= rank);
        alike.is_none_or(|suspect| {
            let count = self.count();
            count + in_flight < AT_ONCE
                || in_flight == 0 && count < ALIKE && now.duration_since(suspect.last) >= PAUSE
        })
    }

    /// When one that is like those that were wrong may go, which may not now.
    pub(super) fn trusts_again_at(&self, in_flight: u64, now: Timestamp) -> Option<Timestamp> {
        let few = AT_ONCE.checked_sub(in_flight).and_then(|most| self.log.below(most));
        let after_pause = || {
            let last =
                self.suspects.values().map(|suspect| suspect.last + PAUSE).filter(|&at| at > now).min();
            last.max(self.log.below(ALIKE))
        };
        let alone = if in_flight == 0 { after_pause() } else { None };
        [few, alone].into_iter().flatten().filter(|&at| at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
    }

    /// One of which so many events of team 0, of rank 3, were wrong at the start.
    fn after(count: u64) -> Wrong {
        let mut wrong = Wrong::new();
        for _ in 0..count {
            wrong.add(at(0));
            wrong.suspect(0, 3, at(0));
        }
        wrong
    }

    fn free(wrong: &Wrong, in_flight: u64) -> bool {
        wrong.free_at(Share::Whole, in_flight, at(1)) == Some(at(1))
    }

    #[test]
    fn what_was_wrong_and_what_is_under_way_are_never_more_than_nine() {
        for count in 0..=9 {
            let wrong = after(count);
            for in_flight in 0..=9 {
                assert!(!free(&wrong, in_flight) || count + in_flight < 9, "{count} and {in_flight}");
            }
            assert_eq!(free(&wrong, 0), count < 9);
        }
        assert_eq!(after(9).free_at(Share::Whole, 0, at(1)), Some(at(61)));
        assert_eq!(after(0).free_at(Share::Whole, 7, at(1)), None, "an answer must come first");
    }

    #[test]
    fn what_is_not_like_the_wrong_ones_has_a_place_left_when_all_under_way_were_wrong() {
        let wrong = after(AT_ONCE);
        assert!(free(&wrong, 0) && free(&wrong, 1));
        for (team, rank, trusted) in [(0, 2, true), (0, 3, false), (0, 4, false), (1, 3, true)] {
            assert_eq!(wrong.trusts(team, rank, 0, at(1)), trusted, "team {team}, rank {rank}");
            assert!(wrong.trusts(team, rank, 0, at(10)), "one after a pause");
            assert_eq!(wrong.trusts(team, rank, 1, at(10)), trusted, "and only one");
        }
        assert_eq!(wrong.trusts_again_at(0, at(1)), Some(at(10)));
        assert!(!after(ALIKE).trusts(0, 3, 0, at(30)), "the last place is not for them");
        assert_eq!(after(ALIKE).trusts_again_at(0, at(30)), Some(at(61)));
    }

    #[test]
    fn a_secret_is_tried_only_where_events_have_room_left() {
        assert_eq!(after(4).free_for_probe_at(), None);
        assert_eq!(after(5).free_for_probe_at(), Some(at(61)));
    }

    #[test]
    fn after_a_minute_nothing_is_suspected() {
        let mut wrong = after(9);
        wrong.expire(at(61));
        assert!(free(&wrong, 6) && wrong.trusts(0, 4, 6, at(61)) && wrong.count() == 0);
    }
}
