//! The laws of the ledger, by hand and by long histories of kills. Time is moved by hand.

use super::*;
use crate::delivery::budget::{Share, Spent};
use crate::delivery::plan::Plan;

const LONGEST: SignedDuration = SignedDuration::from_secs(30);

/// Posts that may be under way at once: see `budget/wrong.rs`.
const AT_ONCE: u64 = 7;

fn millis(millis: i64) -> Timestamp {
    "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(millis)
}

fn at(seconds: i64) -> Timestamp {
    millis(1_000 * seconds)
}

fn start(notes: &[Reservation], now: Timestamp) -> (Ledger, Budget) {
    let mut budget = Budget::new(Plan::Free);
    (Ledger::open("a", notes, LONGEST, &mut budget, now), budget)
}

fn may(ledger: &Ledger, budget: &mut Budget, now: Timestamp) -> bool {
    ledger.may_post(now) && budget.free_at(now).is_some_and(|at| at <= now)
}

/// Writes what is due at once, while so many posts wait.
fn write(ledger: &mut Ledger, budget: &mut Budget, notes: &mut Vec<Reservation>, posts: u64, now: Timestamp) {
    while let Some(note) = ledger.due(posts.min(budget.room(Share::Whole, now)), budget, now) {
        notes.push(note);
        assert_eq!(ledger.written(true, now), Change::None);
    }
}

/// Posts as long as it may, the spool answering at once, and SIGNL4 when all that may be under way are.
fn burst(ledger: &mut Ledger, budget: &mut Budget, notes: &mut Vec<Reservation>, now: Timestamp) -> u64 {
    let mut posts = 0;
    loop {
        write(ledger, budget, notes, u64::MAX, now);
        while may(ledger, budget, now) {
            ledger.take();
            budget.take();
            posts += 1;
        }
        if budget.in_flight() == 0 {
            return posts;
        }
        for _ in 0..budget.in_flight() {
            ledger.settle(true);
            budget.settle(Spent::Event, now);
        }
    }
}

/// A service with events enough that is killed and started again, and what of its posts arrives.
struct Site {
    rng: fastrand::Rng,
    now: Timestamp,
    notes: Vec<Reservation>,
    ledger: Ledger,
    budget: Budget,
    /// When each post that is under way left.
    away: Vec<Timestamp>,
    /// A note that is being written, and until when.
    writing: Option<(Reservation, Timestamp)>,
    arrived: Vec<Timestamp>,
    /// Whether an answer has shown since the start that more than one may go.
    open: bool,
    kills: u64,
    /// What kills have left open of which nothing arrived.
    lost: u64,
}

impl Site {
    fn new(seed: u64) -> Self {
        let (ledger, budget) = start(&[], at(0));
        let (notes, away, writing, arrived) = Default::default();
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            rng,
            now: at(0),
            notes,
            ledger,
            budget,
            away,
            writing,
            arrived,
            open: false,
            kills: 0,
            lost: 0,
        }
    }

    /// Ten milliseconds of its life.
    fn tick(&mut self) {
        self.now += SignedDuration::from_millis(10);
        let now = self.now;
        if let Some((note, until)) = self.writing.take() {
            if until <= now {
                self.note(note);
                assert_eq!(self.ledger.written(true, now), Change::None);
            } else {
                self.writing = Some((note, until));
            }
        }
        let mut n = 0;
        while n < self.away.len() {
            let age = now.duration_since(self.away[n]).as_millis();
            if age >= 50 && (age > 2_000 || self.rng.u8(0..8) == 0) {
                let sent = self.away.swap_remove(n);
                self.arrived.push(sent + now.duration_since(sent) / self.rng.i32(1..4));
                self.ledger.settle(true);
                self.budget.settle(Spent::Event, now);
                self.open = true;
            } else {
                n += 1;
            }
        }
        let wanted = if self.open { u64::MAX } else { 1 - self.away.len() as u64 };
        if self.writing.is_none() {
            let due = self.ledger.due(wanted.min(self.budget.room(Share::Whole, now)), &self.budget, now);
            let slow = SignedDuration::from_millis(self.rng.i64(2..60));
            self.writing = due.map(|note| (note, now + slow));
        }
        while (self.open || self.away.is_empty()) && may(&self.ledger, &mut self.budget, now) {
            self.ledger.take();
            self.budget.take();
            self.away.push(now);
        }
    }

    /// Keeps a note as the spool does: those of a second are one.
    fn note(&mut self, note: Reservation) {
        match self.notes.last_mut() {
            Some(last) if last.at.as_second() == note.at.as_second() => {
                *last = Reservation { spent: last.spent + note.spent, ..note };
            }
            _ => self.notes.push(note),
        }
    }

    /// Kills it and starts it again after `down`.
    fn kill(&mut self, down: SignedDuration) {
        // A note that was being written may or may not be there.
        let written = self.writing.take().map(|(note, _)| note).filter(|_| self.rng.bool());
        written.into_iter().for_each(|note| self.note(note));
        let open = self.notes.last().map_or(0, |note| note.open);
        assert!(open <= AT_ONCE, "no crash costs more than may be under way: {open}");
        self.lost += open.saturating_sub(self.away.len() as u64);
        for sent in std::mem::take(&mut self.away) {
            if self.rng.bool() {
                self.arrived.push(sent + self.now.duration_since(sent) / self.rng.i32(1..4));
            } else {
                self.lost += 1;
            }
        }
        self.now += down;
        (self.ledger, self.budget) = start(&self.notes, self.now);
        (self.open, self.kills) = (false, self.kills + 1);
    }

    /// Lives until `end`, killed every so often as `every` says, in seconds.
    fn live(&mut self, end: Timestamp, mut every: impl FnMut(&mut fastrand::Rng) -> f64) {
        while self.now < end {
            let kill_at = self.now + SignedDuration::from_secs_f64(every(&mut self.rng));
            while self.now < kill_at.min(end) {
                self.tick();
                if self.away.is_empty() && self.writing.is_none() {
                    // Nothing happens before there is room.
                    let room_at = self.budget.free_at(self.now).unwrap_or(self.now);
                    self.now = self.now.max(room_at.min(kill_at).min(end));
                }
            }
            if self.now < end {
                let down = SignedDuration::from_millis(self.rng.i64(0..300));
                self.kill(down);
            }
        }
        self.arrived.sort();
    }

    /// How many arrived within a span of `length` at most, and in all.
    fn most_within(&self, length: SignedDuration) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (n, at) in self.arrived.iter().enumerate() {
            while at.duration_since(self.arrived[first]) >= length {
                first += 1;
            }
            most = most.max(n + 1 - first);
        }
        most
    }
}

const FREE: [(usize, SignedDuration); 4] = [
    (10, SignedDuration::from_secs(15)),
    (240, SignedDuration::from_mins(1)),
    (1_200, SignedDuration::from_hours(1)),
    (4_800, SignedDuration::from_hours(24)),
];

#[test]
fn whatever_is_killed_when_an_hour_has_the_posts_of_the_account_less_what_the_kills_left_open_and_never_more()
{
    type Every = fn(&mut fastrand::Rng) -> f64;
    let loops: [(&str, i64, Every); 6] = [
        ("every 3 s", 3_600, |_| 3.0),
        ("at random", 3_600, |rng| 40.0 * rng.f64()),
        ("now and then", 3_600, |rng| 600.0 * rng.f64()),
        ("all kinds", 3_600, |rng| if rng.u8(0..10) == 0 { 120.0 } else { 2.0 * rng.f64() }),
        ("every 2 s", 600, |_| 2.0),
        ("at bad moments", 120, |rng| 0.05 + 0.2 * rng.f64()),
    ];
    for (seed, (name, seconds, every)) in (1..).zip(loops) {
        // What a service that is never killed posts: what the account's windows let go.
        let mut calm = Site::new(seed);
        calm.live(at(seconds), |_| 1e6);
        let whole = calm.arrived.len() as u64;
        assert!(seconds < 3_600 || (1_150..=1_200).contains(&whole), "{whole}");
        let mut site = Site::new(seed);
        site.live(at(seconds), every);
        for (limit, length) in FREE {
            assert!(site.most_within(length) <= limit, "{name}: more than {limit} in {length:#}");
        }
        let (posts, Site { kills, lost, .. }) = (site.arrived.len() as u64, site);
        assert!(lost <= AT_ONCE * kills, "{name}: {lost} lost by {kills} kills");
        // A kill costs no time but until the service is back: where the shortest window decides, that is a part of it.
        let late = if seconds < 3_600 { whole / 4 } else { AT_ONCE };
        assert!(
            posts + lost + late >= whole,
            "{name}: {posts} posts of {whole}, {lost} lost by {kills} kills"
        );
    }
}

#[test]
fn a_service_that_is_killed_every_three_seconds_posts_what_its_account_may() {
    let mut site = Site::new(1);
    site.live(at(90), |_| 3.0);
    let posts = site.arrived.len();
    assert!((40..=60).contains(&posts), "{posts} in 90 s, of 60");
}

#[test]
fn hundreds_of_crashes_without_posts_cost_the_account_nothing() {
    let mut notes = Vec::new();
    for n in 0..330 {
        let (mut ledger, mut budget) = start(&notes, at(2 * n));
        // Ten events come in that time; in all other starts the queue is empty.
        let posts = u64::from(n % 33 == 0);
        write(&mut ledger, &mut budget, &mut notes, posts, at(2 * n));
        if posts > 0 {
            assert!(may(&ledger, &mut budget, at(2 * n)), "start {n}");
            ledger.take();
            budget.take();
        }
    }
    let spent: u64 = notes.iter().map(|note| note.spent).sum();
    assert_eq!(spent, 10, "what was posted is noted once: {notes:?}");
    let (mut ledger, mut budget) = start(&notes, at(660));
    assert_eq!(burst(&mut ledger, &mut budget, &mut notes, at(660)), 10);
}

#[test]
fn without_room_nothing_is_reserved() {
    let mut notes = Vec::new();
    let (mut ledger, mut budget) = start(&notes, at(0));
    assert_eq!(burst(&mut ledger, &mut budget, &mut notes, at(0)), 10);
    let written = notes.len();
    write(&mut ledger, &mut budget, &mut notes, u64::MAX, at(1));
    assert_eq!(notes.len(), written);
    assert_eq!(notes.last().unwrap().open, 0, "and what has ended is not open");
}

#[test]
fn what_a_crash_left_open_counts_once_and_at_its_time() {
    let mut notes = Vec::new();
    let (mut ledger, mut budget) = start(&notes, at(0));
    write(&mut ledger, &mut budget, &mut notes, 5, at(0));
    // Killed, and long down: the last of it can have arrived half a minute later, and not now.
    let (mut ledger, mut budget) = start(&notes, at(3_600));
    assert_eq!(budget.room(Share::Whole, at(3_600)), AT_ONCE);
    write(&mut ledger, &mut budget, &mut notes, 0, at(3_600));
    assert_eq!(notes.last().unwrap(), &Reservation { account: "a".into(), at: at(35), spent: 5, open: 0 });
    // Killed, and back at once: it counts as of now, and the next starts do not make that later.
    let now = at(7_200);
    let (mut ledger, mut budget) = start(&notes, now);
    write(&mut ledger, &mut budget, &mut notes, 7, now);
    for n in 1..20 {
        let (mut ledger, mut budget) = start(&notes, now + SignedDuration::from_secs(n));
        write(&mut ledger, &mut budget, &mut notes, 0, now + SignedDuration::from_secs(n));
    }
    let (_, mut budget) = start(&notes, now + SignedDuration::from_secs(17));
    assert_eq!(budget.room(Share::Whole, now + SignedDuration::from_secs(17)), AT_ONCE);
}

#[test]
fn a_token_that_is_not_used_soon_is_no_longer_good() {
    let mut notes = Vec::new();
    let (mut ledger, mut budget) = start(&notes, at(0));
    write(&mut ledger, &mut budget, &mut notes, 1, at(0));
    assert!(ledger.may_post(at(4)) && !ledger.may_post(at(5)));
    write(&mut ledger, &mut budget, &mut notes, 1, at(60));
    assert!(ledger.may_post(at(60)));
    write(&mut ledger, &mut budget, &mut notes, 0, at(61));
    assert_eq!(notes.last().map(|note| (note.at, note.open)), Some((at(61), 0)), "it is given back");
}

#[test]
fn one_write_serves_for_all_that_may_go_at_once_and_a_stop_gives_back_what_is_left() {
    let (mut notes, now) = (Vec::new(), at(0));
    let (mut ledger, mut budget) = start(&notes, now);
    assert_eq!(burst(&mut ledger, &mut budget, &mut notes, now), 10);
    assert!(notes.len() <= 3, "{notes:?}");
    assert_eq!(ledger.close(&budget, now), None, "there is nothing to tell");
    write(&mut ledger, &mut budget, &mut notes, 1, at(16));
    notes.extend(ledger.close(&budget, at(16)));
    assert_eq!(notes.last().map(|note| note.open), Some(0));
    assert_eq!(notes.iter().map(|note| note.spent).sum::<u64>(), 10);
    let (mut ledger, mut budget) = start(&notes, at(16));
    assert_eq!(burst(&mut ledger, &mut budget, &mut notes, at(16)), 10);
    let (mut ledger, mut budget) = start(&notes, at(17));
    assert_eq!(burst(&mut ledger, &mut budget, &mut notes, at(17)), 0, "the window is used up");
}

#[test]
fn a_spool_that_cannot_write_is_waited_for_and_then_done_without() {
    let (mut ledger, budget) = start(&[], at(0));
    let mut changes = Vec::new();
    for second in 0..=20 {
        assert_eq!(ledger.may_post(at(second)), second > 10);
        assert!(ledger.due(1, &budget, at(second)).is_some());
        assert!(ledger.due(1, &budget, at(second)).is_none(), "one at a time");
        changes.push(ledger.written(false, at(second)));
    }
    assert_eq!(changes.iter().filter(|&&change| change == Change::Loosened).count(), 1);
    assert!(ledger.due(1, &budget, at(21)).is_some());
    assert_eq!(ledger.written(true, at(21)), Change::Tightened);
    assert!(ledger.may_post(at(21)));
}
