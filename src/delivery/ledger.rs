//! Tokens for posts, reserved in the spool before they are used, so that a crash does not make an account
//! forget what it has posted. Pure: times and the spool's answers come in.
//!
//! One synced write serves for many posts. After a crash, what the last reservation left open counts as
//! posted at the start, which is never too early. A spool that cannot write stops nothing for long: after a
//! while the account goes on by what is in memory, and only a crash meanwhile would make it forget.

use jiff::{SignedDuration, Timestamp};

use crate::spool::Reservation;

use super::budget::Budget;

/// Tokens of the first reservation after a start. Each is twice the one before, so that a service that
/// crashes again and again loses few of them.
const FIRST: u64 = 2;

/// How long posts wait for a spool that cannot write.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// The wait after a reservation that failed.
const RETRY: SignedDuration = SignedDuration::from_secs(1);

/// How an answer of the spool has changed what may be posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not at all.
    None,
    /// From now on posts go without a token.
    Loosened,
    /// From now on they need one again.
    Tightened,
}

/// The tokens of one account.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    account: String,
    /// Reserved and not used.
    left: u64,
    /// Posts that have ended since the last reservation.
    spent: u64,
    /// Tokens of the next reservation.
    block: u64,
    /// The reservation that is being written: the tokens that it adds, and what it says was spent.
    writing: Option<(u64, u64)>,
    failing_since: Option<Timestamp>,
    retry_at: Timestamp,
    loose: bool,
}

impl Ledger {
    /// The ledger of `account`, for which the spool holds `notes`, oldest first. What they tell is charged
    /// to `budget`.
    pub(crate) fn open(account: &str, notes: &[Reservation], budget: &mut Budget, now: Timestamp) -> Self {
        for note in notes {
            budget.charge(note.spent, note.at.min(now));
        }
        let open = notes.last().map_or(0, |note| note.open);
        budget.charge(open, now);
        Self {
            account: account.to_owned(),
            left: 0,
            spent: open,
            block: FIRST,
            writing: None,
            failing_since: None,
            retry_at: Timestamp::MIN,
            loose: false,
        }
    }

    /// Whether a post may go now.
    pub(crate) fn may_post(&self) -> bool {
        self.left > 0 || self.loose
    }

    /// A post goes out.
    pub(crate) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// A post has ended; `sent` unless it never left.
    pub(crate) fn settle(&mut self, sent: bool) {
        if sent {
            self.spent += 1;
        } else if !self.loose {
            self.left += 1;
        }
    }

    /// The reservation to be written now, if posts are `wanted` and tokens run low. Bring the answer to
    /// [`Ledger::written`].
    pub(crate) fn due(&mut self, wanted: bool, budget: &Budget, now: Timestamp) -> Option<Reservation> {
        let most = (budget.burst() / 2).max(1);
        let block = self.block.min(most);
        let enough = !wanted || self.left > block / 2;
        if enough || !budget.is_limited() || self.writing.is_some() || now < self.retry_at {
            return None;
        }
        let tokens = block - self.left;
        self.writing = Some((tokens, self.spent));
        Some(self.note(budget.in_flight() + self.left + tokens, now))
    }

    /// When [`Ledger::due`] may have something to say if nothing else happens.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        (self.failing_since.is_some() && self.writing.is_none()).then_some(self.retry_at)
    }

    /// What the spool answered.
    pub(crate) fn written(&mut self, safe: bool, now: Timestamp) -> Change {
        let Some((tokens, spent)) = self.writing.take() else { return Change::None };
        if safe {
            self.left += tokens;
            self.spent -= spent;
            self.block = self.block.saturating_mul(2);
            self.failing_since = None;
            return if std::mem::take(&mut self.loose) { Change::Tightened } else { Change::None };
        }
        self.retry_at = now + RETRY;
        let since = *self.failing_since.get_or_insert(now);
        if !self.loose && now.duration_since(since) >= PATIENCE {
            self.loose = true;
            return Change::Loosened;
        }
        Change::None
    }

    /// The last note, when nothing more is posted: tokens that are left are given back.
    pub(crate) fn close(&mut self, budget: &Budget, now: Timestamp) -> Option<Reservation> {
        let unused = self.left == 0 && self.spent == 0 && self.writing.is_none();
        (budget.is_limited() && !unused).then(|| self.note(budget.in_flight(), now))
    }

    fn note(&self, open: u64, now: Timestamp) -> Reservation {
        Reservation { account: self.account.clone(), at: now, spent: self.spent, open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::budget::Spent;
    use crate::delivery::plan::Plan;

    fn at(seconds: i64) -> Timestamp {
        "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
    }

    fn start(notes: &[Reservation], now: Timestamp) -> (Ledger, Budget) {
        let mut budget = Budget::new(Plan::Free);
        (Ledger::open("a", notes, &mut budget, now), budget)
    }

    fn may(ledger: &Ledger, budget: &mut Budget, now: Timestamp) -> bool {
        ledger.may_post() && budget.free_at(now).is_some_and(|at| at <= now)
    }

    /// Posts as long as it may, the spool answering at once.
    fn burst(ledger: &mut Ledger, budget: &mut Budget, notes: &mut Vec<Reservation>, now: Timestamp) -> u64 {
        let mut posts = 0;
        loop {
            if let Some(note) = ledger.due(true, budget, now) {
                notes.push(note);
                assert_eq!(ledger.written(true, now), Change::None);
            }
            if !may(ledger, budget, now) {
                return posts;
            }
            ledger.take();
            budget.take();
            ledger.settle(true);
            budget.settle(Spent::Event, now);
            posts += 1;
        }
    }

    #[test]
    fn a_crash_at_any_moment_forgets_no_post() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut notes: Vec<Reservation> = Vec::new();
            let mut arrived: Vec<Timestamp> = Vec::new();
            let (mut ledger, mut budget) = start(&notes, at(0));
            let mut away: Vec<Timestamp> = Vec::new();
            let mut writing = None;
            let mut now = at(0);
            for _ in 0..600 {
                now += SignedDuration::from_millis(rng.i64(0..900));
                match rng.u32(0..100) {
                    0..2 => {
                        // A note that was being written may or may not be there.
                        notes.extend(writing.take().filter(|_| rng.bool()));
                        arrived.extend(away.drain(..).map(|_| now));
                        (ledger, budget) = start(&notes, now);
                    }
                    2..30 if writing.is_some() => {
                        let safe = rng.u8(0..5) > 0;
                        notes.extend(writing.take().filter(|_| safe));
                        assert_eq!(ledger.written(safe, now), Change::None);
                    }
                    30..60 if !away.is_empty() => {
                        let sent = away.swap_remove(rng.usize(0..away.len()));
                        arrived.push(sent + now.duration_since(sent) / rng.i32(1..4));
                        ledger.settle(true);
                        budget.settle(Spent::Event, now);
                    }
                    60..70 if rng.u8(0..20) == 0 && writing.is_none() => {
                        arrived.extend(away.drain(..).map(|_| {
                            ledger.settle(true);
                            budget.settle(Spent::Event, now);
                            now
                        }));
                        notes.extend(ledger.close(&budget, now));
                        (ledger, budget) = start(&notes, now);
                    }
                    _ => {}
                }
                if writing.is_none() {
                    writing = ledger.due(true, &budget, now);
                }
                if may(&ledger, &mut budget, now) {
                    ledger.take();
                    budget.take();
                    away.push(now);
                }
                // Kept from being given up, which the next test is about.
                ledger.failing_since = None;
            }
            arrived.sort();
            assert!(arrived.len() > 30, "seed {seed}: {}", arrived.len());
            for (n, &first) in arrived.iter().enumerate() {
                let within = arrived[n..].iter().take_while(|at| at.duration_since(first).as_secs() < 15);
                assert!(within.count() <= 10, "seed {seed}");
            }
        }
    }

    #[test]
    fn one_write_serves_for_many_posts_and_a_stop_gives_back_what_is_left() {
        let (mut notes, now) = (Vec::new(), at(0));
        let (mut ledger, mut budget) = start(&notes, now);
        assert_eq!(burst(&mut ledger, &mut budget, &mut notes, now), 10);
        assert!(notes.len() <= 5, "{notes:?}");
        let last = ledger.close(&budget, now).unwrap();
        assert_eq!(last.open, 0);
        notes.push(last);
        assert_eq!(notes.iter().map(|note| note.spent).sum::<u64>(), 10);
        let (mut ledger, mut budget) = start(&notes, at(1));
        assert_eq!(burst(&mut ledger, &mut budget, &mut notes, at(1)), 0, "the window is used up");
        assert_eq!(burst(&mut ledger, &mut budget, &mut notes, at(16)), 10);
    }

    #[test]
    fn a_service_that_crashes_again_and_again_can_still_post() {
        let mut notes = Vec::new();
        for n in 0..3 {
            let (mut ledger, mut budget) = start(&notes, at(n));
            notes.extend(ledger.due(true, &budget, at(n)));
            ledger.written(true, at(n));
            assert!(may(&ledger, &mut budget, at(n)), "start {n}");
        }
    }

    #[test]
    fn a_spool_that_cannot_write_is_waited_for_and_then_done_without() {
        let (mut ledger, budget) = start(&[], at(0));
        let mut changes = Vec::new();
        for second in 0..=20 {
            assert_eq!(ledger.may_post(), second > 10);
            assert!(ledger.due(true, &budget, at(second)).is_some());
            assert!(ledger.due(true, &budget, at(second)).is_none(), "one at a time");
            changes.push(ledger.written(false, at(second)));
        }
        assert_eq!(changes.iter().filter(|&&change| change == Change::Loosened).count(), 1);
        assert!(ledger.due(true, &budget, at(21)).is_some());
        assert_eq!(ledger.written(true, at(21)), Change::Tightened);
        assert!(ledger.may_post());
    }
}
