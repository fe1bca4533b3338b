//! How much an account may post, so that SIGNL4 never has a reason to block it
//! (<https://support.signl4.com/hc/en-us/articles/4404459248657-Event-Throttling>). Pure: times come in.
//!
//! Promised: if all that is posted with the account is told here, no span of a window's length holds more
//! posts than the window allows, wherever SIGNL4 lets its windows begin; and no minute holds more wrong
//! requests than SIGNL4 bears. A post counts as late as it may have arrived: while it is under way as now,
//! then at the time of its answer. What others post with the account is known from the headers of replies.
//!
//! Left out: a clock that is set forward makes what was posted look older than it is.

mod log;
mod share;
mod wrong;

use jiff::{SignedDuration, Timestamp};

use super::plan::{COMMERCIAL, FREE, PAID, Plan};
use super::rank::Rank;
use super::webhook::Limits;
use log::Log;
pub(crate) use share::Share;
use wrong::Wrong;

/// Windows from this length on are long: one that is used up keeps events waiting for so long that a page is late.
const LONG: SignedDuration = SignedDuration::from_mins(10);

/// One of the account's windows.
#[derive(Debug, Clone)]
struct Window {
    limit: u64,
    length: SignedDuration,
    log: Log,
    others: Option<Others>,
}

/// What others have posted with the account in a window that SIGNL4 has told of.
#[derive(Debug, Clone, Copy)]
struct Others {
    limit: u64,
    /// When the window began, and when it ends.
    start: Timestamp,
    reset: Timestamp,
    /// At least so many.
    count: u64,
}

impl Window {
    fn new(limit: u64, length: SignedDuration) -> Self {
        Self { limit, length, log: Log::new(length), others: None }
    }

    /// When one more may be posted beside `in_flight` if only such a `share` of it may be used: now if it is not later
    /// than that, or none if an answer must come first.
    fn free_at(&self, share: Share, in_flight: u64, now: Timestamp) -> Option<Timestamp> {
        let room = share.of(self.limit).checked_sub(in_flight).filter(|&room| room > 0)?;
        let own = self.log.below(room).unwrap_or(now);
        let theirs = self.others.filter(|others| now < others.reset).map_or(now, |others| {
            let used = others.count + self.log.since(others.start) + in_flight;
            if used < share.of(others.limit) { now } else { others.reset }
        });
        Some(own.max(theirs))
    }

    /// How many more may be posted at `now` beside `in_flight`.
    fn room(&self, share: Share, in_flight: u64, now: Timestamp) -> u64 {
        let own = share.of(self.limit).saturating_sub(in_flight + self.log.total());
        let theirs = self.others.filter(|others| now < others.reset).map_or(u64::MAX, |others| {
            share.of(others.limit).saturating_sub(others.count + self.log.since(others.start) + in_flight)
        });
        own.min(theirs)
    }
}

/// What became of a post, as far as the account's limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It never left: nothing was spent.
    Nothing,
    /// It was sent, or may have been.
    Event,
    /// It was sent, and SIGNL4 found it wrong.
    Wrong,
}

/// What an account has posted and may post.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    plan: Plan,
    windows: Vec<Window>,
    wrong: Wrong,
    in_flight: u64,
    blocked_until: Timestamp,
    last_now: Timestamp,
}

impl Budget {
    /// That of an account that has posted nothing.
    pub(crate) fn new(plan: Plan) -> Self {
        let windows = plan.windows().into_iter().map(|(limit, length)| Window::new(limit, length)).collect();
        let wrong = Wrong::new();
        let (blocked_until, last_now) = (Timestamp::MIN, Timestamp::MIN);
        Self { plan, windows, wrong, in_flight: 0, blocked_until, last_now }
    }

    /// Whether there is a bound at all.
    pub(crate) fn is_limited(&self) -> bool {
        !self.windows.is_empty()
    }

    /// The limit of the shortest window.
    pub(crate) fn burst(&self) -> u64 {
        let shortest = self.windows.iter().min_by_key(|window| window.length);
        shortest.map_or(u64::MAX, |window| window.limit)
    }

    /// Posts that are under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// When one more event may be posted: at once if that is not after `now`. None if an answer must come
    /// first.
    pub(crate) fn free_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.free_for(Share::Whole, now)
    }

    /// The same if only such a `share` may be used.
    pub(crate) fn free_for(&mut self, share: Share, now: Timestamp) -> Option<Timestamp> {
        let at = self.room_at(share, now)?;
        let wrong = if self.is_limited() { self.wrong.free_at(share, self.in_flight, now)? } else { now };
        Some(at.max(wrong))
    }

    /// When the windows have room.
    fn room_at(&mut self, share: Share, now: Timestamp) -> Option<Timestamp> {
        self.look(now);
        let mut at = self.blocked_until.max(now);
        for window in &self.windows {
            at = at.max(window.free_at(share, self.in_flight, now)?);
        }
        Some(at)
    }

    /// The same for a post that may well earn an error: it leaves room for events that do not.
    pub(crate) fn free_for_probe_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let at = self.free_at(now)?;
        let wrong = if self.is_limited() { self.wrong.free_for_probe_at() } else { None };
        Some(at.max(wrong.unwrap_or(now)))
    }

    /// How many more events may be posted at `now` if only such a `share` may be used.
    pub(crate) fn room(&mut self, share: Share, now: Timestamp) -> u64 {
        self.look(now);
        if now < self.blocked_until {
            return 0;
        }
        let windows = self.windows.iter().map(|window| window.room(share, self.in_flight, now));
        let wrong = if self.is_limited() { self.wrong.room(share, self.in_flight) } else { u64::MAX };
        windows.min().unwrap_or(u64::MAX).min(wrong)
    }

    /// Whether a question may be asked that no event waits for. What is asked at each start must not use up what
    /// events need: it leaves them three quarters of each long window.
    pub(crate) fn may_ask_idly(&mut self, now: Timestamp) -> bool {
        self.look(now);
        let mut long = self.windows.iter().filter(|window| window.length >= LONG);
        long.all(|window| (window.log.total() + self.in_flight) * 4 < window.limit)
    }

    /// The limit that keeps one more event from being posted at `now` for the longest, and for how long a time it
    /// counts; none if it is not the plan that does.
    pub(crate) fn used_up(&mut self, now: Timestamp) -> Option<(u64, SignedDuration)> {
        self.look(now);
        let full = self.windows.iter().filter_map(|window| {
            let at = window.free_at(Share::Whole, self.in_flight, now).filter(|&at| at > now)?;
            Some((at, window.limit, window.length))
        });
        full.max().map(|(_, limit, length)| (limit, length))
    }

    /// Whether an event of `team` that is so urgent is not too much like one that was found wrong, to be posted at
    /// `now`.
    pub(crate) fn trusts(&self, team: usize, rank: Rank, now: Timestamp) -> bool {
        !self.is_limited() || self.wrong.trusts(team, rank, self.in_flight, now)
    }

    /// When [`Budget::trusts`] may say something else if nothing else happens.
    pub(crate) fn trusts_again_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.look(now);
        if self.is_limited() { self.wrong.trusts_again_at(self.in_flight, now) } else { None }
    }

    /// Until when an event of `team` that is so urgent has to wait, and how many wrong requests of the last minute
    /// are the reason; none if it is what was posted.
    pub(crate) fn waits(
        &mut self,
        team: usize,
        rank: Rank,
        now: Timestamp,
    ) -> Option<(Timestamp, Option<u64>)> {
        let room = self.room_at(Share::Whole, now)?;
        let mut wrong = None;
        if self.is_limited() {
            let free = self.wrong.free_at(Share::Whole, self.in_flight, now)?;
            let again =
                self.wrong.trusts_again_at(self.in_flight, now).filter(|_| !self.trusts(team, rank, now));
            wrong = Some(free.max(again.unwrap_or(free))).filter(|&at| at > room);
        }
        let at = wrong.unwrap_or(room);
        (at > now).then(|| (at, wrong.map(|_| self.wrong.count())))
    }

    /// A post goes out.
    pub(crate) fn take(&mut self) {
        self.in_flight += 1;
    }

    /// A post has come to its end.
    pub(crate) fn settle(&mut self, spent: Spent, now: Timestamp) {
        self.look(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        if spent != Spent::Nothing {
            self.charge(1, now);
        }
        if spent == Spent::Wrong {
            self.wrong.add(now);
        }
    }

    /// The request that was found wrong was an event of `team`, so urgent.
    pub(crate) fn suspect(&mut self, team: usize, rank: Rank, now: Timestamp) {
        self.wrong.suspect(team, rank, now);
    }

    /// So many were posted at `at`, or before.
    pub(crate) fn charge(&mut self, count: u64, at: Timestamp) {
        if count > 0 {
            self.windows.iter_mut().for_each(|window| window.log.add(count, at));
        }
    }

    /// SIGNL4 takes nothing before `until`.
    pub(crate) fn block(&mut self, until: Timestamp) {
        self.blocked_until = self.blocked_until.max(until);
    }

    /// Learns from the headers of a reply that took an event: what the account may post, and what others
    /// have posted with it. True if the plan is now known to be another.
    pub(crate) fn learn(&mut self, told: &Limits, now: Timestamp) -> bool {
        let Some(limit) = told.limit else { return false };
        let changed = self.plan == Plan::Auto && self.is_another_plan(limit);
        if changed {
            let paid = self.windows.first().is_some_and(|window| window.limit < COMMERCIAL);
            for (window, limit) in self.windows.iter_mut().zip(if paid { PAID } else { FREE }) {
                window.limit = limit;
                window.others = None;
            }
        }
        if let (Some(remaining), Some(reset)) = (told.remaining, told.reset)
            && reset > now
        {
            self.learn_of_others(limit, remaining, reset, now);
        }
        changed
    }

    /// Whether a window of `limit` shows that the plan is not the one that is assumed.
    fn is_another_plan(&self, limit: u64) -> bool {
        match self.windows.first() {
            Some(shortest) if shortest.limit >= COMMERCIAL => FREE.contains(&limit),
            _ => limit >= COMMERCIAL && !FREE.contains(&limit),
        }
    }

    fn learn_of_others(&mut self, limit: u64, remaining: u64, reset: Timestamp, now: Timestamp) {
        let in_flight = self.in_flight;
        // Which window it is, its limit tells; else it is the shortest that it can be, which makes the
        // others' part too large rather than too small.
        let at = self.windows.iter().position(|window| window.limit == limit).or_else(|| {
            let ahead = reset.duration_since(now);
            self.windows.iter().position(|window| window.length >= ahead)
        });
        let Some(window) = at.and_then(|at| self.windows.get_mut(at)) else { return };
        let start = reset - window.length;
        let ours = window.log.since(start) + in_flight;
        let mut count = limit.saturating_sub(remaining).saturating_sub(ours);
        if let Some(known) = window.others {
            // Resets are told in whole seconds, by a clock that is shown in whole seconds too.
            let blur = (window.length / 4).min(SignedDuration::from_secs(2));
            if known.reset > reset + blur {
                return;
            }
            // The same window: each reply tells the least that it can be, and they may come in any order.
            if known.reset.duration_since(reset).abs() <= blur {
                count = count.max(known.count);
            }
        }
        window.others = Some(Others { limit, start, reset, count });
    }

    fn look(&mut self, now: Timestamp) {
        if now < self.last_now {
            self.windows.iter_mut().for_each(|window| window.log.set_back(now));
            self.wrong.set_back(now);
        }
        self.windows.iter_mut().for_each(|window| window.log.expire(now));
        self.wrong.expire(now);
        self.last_now = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(millis)
    }

    fn told(limit: u64, remaining: u64, reset: Timestamp) -> Limits {
        Limits { limit: Some(limit), remaining: Some(remaining), reset: Some(reset) }
    }

    fn may(budget: &mut Budget, now: Timestamp) -> bool {
        budget.free_at(now).is_some_and(|at| at <= now)
    }

    /// Posts as many as may go at `now`, each answered at once.
    fn burst(budget: &mut Budget, now: Timestamp) -> usize {
        let mut count = 0;
        while may(budget, now) {
            budget.take();
            budget.settle(Spent::Event, now);
            count += 1;
        }
        count
    }

    #[test]
    fn a_free_account_posts_ten_and_then_waits_for_its_window() {
        let mut budget = Budget::new(Plan::Auto);
        assert_eq!(burst(&mut budget, at(0)), 10);
        assert_eq!(burst(&mut budget, at(15_000)), 0);
        let next = budget.free_at(at(15_000)).unwrap();
        assert_eq!(next, at(16_000), "a second more than the window, for clocks that count seconds");
        assert_eq!(burst(&mut budget, next), 10);
    }

    #[test]
    fn no_span_of_any_window_ever_holds_more_than_it_may_however_late_posts_arrive() {
        let windows = vec![
            (5, SignedDuration::from_secs(3)),
            (9, SignedDuration::from_secs(10)),
            (40, SignedDuration::from_secs(90)),
        ];
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut budget = Budget::new(Plan::Windows(windows.clone()));
            let mut arrived: Vec<Timestamp> = Vec::new();
            // Sent at, arrives at, answered at.
            let mut away: Vec<(Timestamp, Timestamp)> = Vec::new();
            let mut now = at(0);
            for _ in 0..3_000 {
                now += SignedDuration::from_millis(rng.i64(0..400));
                away.retain(|&(arrives, answered)| {
                    if answered <= now {
                        budget.settle(Spent::Event, now);
                        arrived.push(arrives);
                    }
                    answered > now
                });
                if may(&mut budget, now) && rng.u8(0..4) > 0 {
                    budget.take();
                    let arrives = now + SignedDuration::from_millis(rng.i64(0..2_000));
                    away.push((arrives, arrives + SignedDuration::from_millis(rng.i64(0..2_000))));
                }
            }
            arrived.extend(away.iter().map(|&(arrives, _)| arrives));
            arrived.sort();
            assert!(arrived.len() > 100);
            for &(limit, length) in &windows {
                for (n, &first) in arrived.iter().enumerate() {
                    let within = arrived[n..].iter().take_while(|&&at| at.duration_since(first) < length);
                    assert!(within.count() as u64 <= limit, "seed {seed}: more than {limit} in {length}");
                }
            }
        }
    }

    #[test]
    fn a_day_of_posts_takes_little_memory_and_little_of_the_limit() {
        let mut budget = Budget::new(Plan::Commercial);
        let mut posted = 0;
        let mut now = at(0);
        while now < at(86_400_000) {
            posted += burst(&mut budget, now);
            now = budget.free_at(now).unwrap();
        }
        assert!((800_000..=864_000).contains(&posted), "{posted}");
        assert!(budget.windows.iter().all(|window| window.log.is_short()));
    }

    #[test]
    fn posts_under_way_count_until_they_are_answered_and_those_that_never_left_do_not() {
        let mut budget = Budget::new(Plan::Windows(vec![(3, SignedDuration::from_secs(15))]));
        for _ in 0..3 {
            assert!(may(&mut budget, at(0)));
            budget.take();
        }
        assert_eq!(budget.free_at(at(60_000)), None, "only an answer frees a place");
        budget.settle(Spent::Nothing, at(60_000));
        assert!(may(&mut budget, at(60_000)));
        budget.settle(Spent::Event, at(60_000));
        budget.settle(Spent::Event, at(60_000));
        assert_eq!(burst(&mut budget, at(60_000)), 1);
    }

    #[test]
    fn the_headers_make_a_free_account_commercial_and_back() {
        let mut budget = Budget::new(Plan::Auto);
        for (limit, changed, burst) in
            [(10, false, 10), (240, false, 10), (150, true, 150), (600, false, 150), (1_200, true, 10)]
        {
            let told = Limits { limit: Some(limit), ..Limits::default() };
            assert_eq!(budget.learn(&told, at(0)), changed, "{limit}");
            assert_eq!(budget.burst(), burst, "{limit}");
        }
        let mut named = Budget::new(Plan::Free);
        assert!(!named.learn(&told(150, 140, at(5_000)), at(0)));
        assert_eq!(named.burst(), 10);
    }

    #[test]
    fn what_others_post_with_the_account_is_left_to_them_until_the_window_ends() {
        let mut budget = Budget::new(Plan::Free);
        budget.take();
        budget.settle(Spent::Event, at(1_000));
        // One is ours, seven are not.
        budget.learn(&told(10, 2, at(12_000)), at(1_000));
        // A reply from before tells less, and changes nothing.
        budget.learn(&told(10, 9, at(12_000)), at(1_000));
        assert_eq!(burst(&mut budget, at(1_100)), 2);
        assert_eq!(budget.free_at(at(1_100)), Some(at(12_000)));
        assert_eq!(burst(&mut budget, at(12_000)), 7);
    }

    #[test]
    fn a_block_is_waited_out_and_a_clock_that_is_set_back_frees_nothing() {
        let mut budget = Budget::new(Plan::Free);
        budget.block(at(15_000));
        assert_eq!(budget.free_at(at(0)), Some(at(15_000)));
        assert_eq!(burst(&mut budget, at(15_000)), 10);
        let before = at(-86_400_000);
        budget.blocked_until = Timestamp::MIN;
        assert_eq!(budget.free_at(before), Some(before + SignedDuration::from_secs(16)));
    }
}
