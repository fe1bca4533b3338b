//! The laws of the scheduler, by hand and by long random histories. Time is moved by hand.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::delivery::webhook;

const LIMITS: Limits = Limits {
    concurrency: 4,
    give_up_after: SignedDuration::from_hours(5 * 24),
    window: 100,
    lane: 20,
    page: 10,
    payload_bytes: 2_000,
};

fn at(seconds: i64) -> Timestamp {
    "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn queued(seq: u64, lane: Option<&str>) -> Queued {
    Queued {
        seq,
        mail: MailId::new(at(0), 0),
        team: "soc".into(),
        external_id: lane.map(str::to_owned),
        severity: None,
        status: crate::event::Status::New,
        accepted_at: at(0),
        attempts: 0,
        next_at: at(0),
        reason: None,
        payload: seq.to_string().into(),
        attachments: Vec::new(),
    }
}

fn accepted() -> Answer {
    Answer::Accepted { event_id: None, limits: webhook::Limits::default() }
}

fn status(code: u16) -> Answer {
    let reason = format!("answered {code}");
    match code {
        201 => accepted(),
        400 => Answer::Refused { reason },
        401 | 403 | 404 => Answer::Unauthorised { reason },
        _ => Answer::Unavailable { reason },
    }
}

fn throttled(until: Timestamp) -> Answer {
    Answer::Throttled { until, reason: "answered 429".into(), limits: webhook::Limits::default() }
}

/// A team beside a spool that answers every page at once.
struct Bench {
    team: Team,
    spool: BTreeMap<u64, Queued>,
    pages: usize,
}

impl Bench {
    fn new() -> Self {
        Self { team: Team::new(LIMITS, Rng::with_seed(7), at(0)), spool: BTreeMap::new(), pages: 0 }
    }

    /// One whose gate a first event has opened.
    fn open() -> Self {
        let mut bench = Self::new();
        bench.put(1, None, at(0));
        assert_eq!(bench.posts(at(0)), [1]);
        bench.answer(1, 201, at(0));
        assert_eq!(bench.team.state(), State::Open);
        bench
    }

    fn put(&mut self, seq: u64, lane: Option<&str>, now: Timestamp) {
        self.spool.insert(seq, queued(seq, lane));
        self.team.offer(queued(seq, lane), now);
    }

    /// The events that are posted at `now`, the spool being read as asked.
    fn posts(&mut self, now: Timestamp) -> Vec<u64> {
        let mut posts = Vec::new();
        while let Some(action) = self.team.next(now, true) {
            match action {
                Action::Post(post) => posts.push(post.seq),
                Action::Page { after, limit } => {
                    self.pages += 1;
                    let rows = self.spool.range(after + 1..).take(limit).map(|(_, q)| q.clone()).collect();
                    self.team.page(rows, now);
                }
            }
        }
        posts
    }

    /// Answers a post and records what comes of it.
    fn reply(&mut self, seq: u64, answer: Answer, now: Timestamp) -> Vec<Notice> {
        let verdict = self.team.answer(seq, answer, now);
        match verdict.outcome {
            Some(Outcome::Delivered { .. } | Outcome::Failed { .. }) => {
                self.spool.remove(&seq);
                self.team.recorded(seq, now);
            }
            Some(Outcome::Deferred { attempts, next_at, .. }) => {
                let row = self.spool.get_mut(&seq).unwrap();
                (row.attempts, row.next_at) = (attempts, next_at);
            }
            None => {}
        }
        verdict.notices
    }

    fn answer(&mut self, seq: u64, code: u16, now: Timestamp) -> Vec<Notice> {
        self.reply(seq, status(code), now)
    }

    /// The first time at or after `from` at which something is posted, and what.
    fn next_posts(&mut self, from: Timestamp) -> (Timestamp, Vec<u64>) {
        let mut now = from;
        loop {
            let posts = self.posts(now);
            if !posts.is_empty() {
                return (now, posts);
            }
            now = self.team.next_time().expect("something waits").max(now);
        }
    }
}

#[test]
fn a_lane_leaves_in_order_one_at_a_time_and_holds_up_no_other() {
    let mut bench = Bench::open();
    for (seq, lane) in [(2, "a"), (3, "a"), (4, "b"), (5, "a"), (6, "b")] {
        bench.put(seq, Some(lane), at(1));
    }
    bench.put(7, None, at(1));
    bench.put(8, None, at(1));
    assert_eq!(bench.posts(at(1)), [2, 4, 7, 8]);
    bench.answer(2, 500, at(2));
    bench.answer(4, 201, at(2));
    assert_eq!(bench.posts(at(2)), [6], "2 waits and 3 behind it");
    let (retried, posts) = bench.next_posts(at(2));
    assert_eq!(posts, [2]);
    bench.answer(2, 201, retried);
    assert_eq!(bench.posts(retried), [3]);
}

#[test]
fn the_next_of_a_lane_waits_until_the_end_of_the_one_before_is_durable() {
    let mut bench = Bench::open();
    bench.put(2, Some("a"), at(1));
    bench.put(3, Some("a"), at(1));
    assert_eq!(bench.posts(at(1)), [2]);
    bench.team.answer(2, accepted(), at(1));
    assert!(bench.posts(at(1)).is_empty());
    bench.team.recorded(2, at(2));
    assert_eq!(bench.posts(at(2)), [3]);
}

#[test]
fn an_event_that_is_refused_is_parked_and_its_lane_goes_on() {
    let mut bench = Bench::open();
    bench.put(2, Some("a"), at(1));
    bench.put(3, Some("a"), at(1));
    bench.posts(at(1));
    let verdict = bench.team.answer(2, status(400), at(1));
    assert!(matches!(verdict.outcome, Some(Outcome::Failed { seq: 2, .. })));
    bench.team.recorded(2, at(1));
    assert_eq!(bench.posts(at(1)), [3]);
}

#[test]
fn a_new_team_is_tried_with_one_event_before_the_others() {
    let mut bench = Bench::new();
    for seq in 1..=9 {
        bench.put(seq, None, at(0));
    }
    assert_eq!(bench.posts(at(0)), [1]);
    bench.answer(1, 201, at(0));
    assert_eq!(bench.posts(at(0)), [2, 3, 4, 5]);
}

#[test]
fn a_wrong_secret_is_probed_once_a_minute_and_everything_goes_when_it_is_right() {
    let mut bench = Bench::new();
    for seq in 1..=4 {
        bench.put(seq, None, at(0));
    }
    assert_eq!(bench.posts(at(0)), [1]);
    assert!(matches!(bench.answer(1, 404, at(0))[..], [Notice::Held { .. }]));
    let mut shouts = 0;
    for minute in 1..=15 {
        let now = at(60 * minute);
        bench.put(100 + minute as u64, None, at(60 * minute - 30));
        assert!(bench.posts(at(60 * minute - 1)).is_empty());
        let posts = bench.posts(now);
        assert_eq!(posts.len(), 1);
        shouts += bench.answer(posts[0], 401, now).len();
    }
    assert_eq!(shouts, 3, "one as the reason changed, then every five minutes");
    let (now, posts) = bench.next_posts(at(901));
    assert_eq!((now, posts.len()), (at(960), 1));
    assert_eq!(bench.answer(posts[0], 201, now), [Notice::Answers { was: State::Held }]);
    assert_eq!(bench.posts(now).len(), LIMITS.concurrency);
    assert!(bench.spool.values().all(|row| row.attempts <= 1), "nobody was tried in vain");
}

#[test]
fn a_wake_while_a_probe_is_under_way_sends_another_after_it() {
    let mut bench = Bench::new();
    bench.put(1, None, at(0));
    assert_eq!(bench.posts(at(0)), [1]);
    bench.team.wake(at(1));
    assert!(bench.posts(at(1)).is_empty());
    bench.answer(1, 404, at(2));
    assert_eq!(bench.posts(at(2)), [1]);
    bench.answer(1, 404, at(3));
    assert!(bench.posts(at(4)).is_empty());
}

#[test]
fn no_event_is_given_up_while_its_team_is_held() {
    let mut bench = Bench::new();
    bench.put(1, None, at(0));
    for minute in 0..(20 * 24 * 60) {
        let now = at(60 * minute);
        assert_eq!(bench.posts(now), [1]);
        bench.answer(1, 404, now);
    }
    assert!(bench.spool.contains_key(&1));
}

#[test]
fn an_event_that_alone_earns_403_does_not_hold_the_team_twice() {
    let mut bench = Bench::open();
    bench.put(2, None, at(1));
    bench.put(3, None, at(1));
    assert_eq!(bench.posts(at(1)), [2, 3]);
    bench.answer(3, 201, at(1));
    bench.answer(2, 403, at(2));
    assert_eq!(bench.team.state(), State::Held);
    bench.put(4, None, at(3));
    assert_eq!(bench.next_posts(at(3)), (at(62), vec![4]), "the one that was tried least");
    bench.answer(4, 201, at(62));
    assert_eq!(bench.posts(at(62)), [2]);
    bench.answer(2, 403, at(63));
    assert_eq!(bench.team.state(), State::Open);
    bench.put(5, None, at(64));
    assert_eq!(bench.posts(at(64)), [5]);
}

#[test]
fn a_throttled_team_waits_until_the_time_and_asks_with_one_event() {
    let mut bench = Bench::open();
    for seq in 2..=9 {
        bench.put(seq, None, at(1));
    }
    assert_eq!(bench.posts(at(1)), [2, 3, 4, 5]);
    bench.answer(2, 201, at(1));
    for seq in 3..=5 {
        bench.reply(seq, throttled(at(16)), at(2));
    }
    bench.put(10, None, at(5));
    assert!(bench.posts(at(15)).is_empty());
    assert_eq!(bench.posts(at(16)), [3]);
    bench.reply(3, throttled(at(17)), at(16));
    assert_eq!(bench.next_posts(at(16)), (at(18), vec![3]), "longer than asked, as asking did not help");
    bench.answer(3, 201, at(18));
    assert_eq!(bench.posts(at(18)).len(), LIMITS.concurrency);
    assert!(bench.spool.values().all(|row| row.attempts == 0), "a 429 is no event's fault");
}

#[test]
fn an_outage_is_probed_one_event_at_a_time_and_all_go_when_it_is_over() {
    let mut bench = Bench::open();
    for seq in 2..=30 {
        bench.put(seq, None, at(1));
    }
    assert_eq!(bench.posts(at(1)), [2, 3, 4, 5]);
    bench.answer(2, 503, at(2));
    bench.answer(3, 503, at(2));
    assert_eq!(bench.team.state(), State::Open, "two could be a chance");
    let notices = bench.answer(4, 503, at(2));
    assert!(notices.iter().any(|notice| matches!(notice, Notice::Down { .. })));
    bench.answer(5, 503, at(2));
    let mut now = at(2);
    let mut probed = BTreeSet::new();
    let mut waits = Vec::new();
    for _ in 0..20 {
        let (then, posts) = bench.next_posts(now);
        assert_eq!(posts.len(), 1);
        probed.insert(posts[0]);
        waits.push(then.duration_since(now).as_secs());
        bench.answer(posts[0], 503, then);
        now = then;
    }
    assert_eq!(probed.len(), 20, "never the same while there are others");
    assert!(waits[0] <= 2 && waits[19] >= 200 && waits.iter().all(|&wait| wait <= 300), "{waits:?}");
    let (now, posts) = bench.next_posts(now);
    assert_eq!(bench.answer(posts[0], 201, now), [Notice::Answers { was: State::Down }]);
    assert_eq!(bench.posts(now).len(), LIMITS.concurrency, "what was deferred is due at once");
}

#[test]
fn a_new_event_is_tried_at_once_in_an_outage() {
    let mut bench = Bench::new();
    bench.put(1, None, at(0));
    bench.posts(at(0));
    let mut now = at(0);
    for _ in 0..12 {
        bench.answer(1, 503, now);
        (now, _) = bench.next_posts(now);
    }
    bench.answer(1, 503, now);
    let soon = now + SignedDuration::from_secs(10);
    assert!(bench.posts(soon).is_empty());
    bench.put(2, None, soon);
    assert_eq!(bench.posts(soon), [2]);
    bench.put(3, None, soon);
    bench.answer(2, 503, soon);
    bench.put(4, None, soon);
    assert!(bench.posts(soon).is_empty());
    assert_eq!(bench.posts(soon + EAGER_INTERVAL), [3], "not more often than once a second");
}

#[test]
fn one_event_that_always_fails_is_no_outage_and_is_given_up_for_its_age() {
    let mut bench = Bench::open();
    bench.put(2, Some("poison"), at(1));
    bench.put(3, Some("poison"), at(1));
    let mut now = at(1);
    let mut attempts = 0;
    loop {
        let (then, posts) = bench.next_posts(now);
        now = then;
        if posts == [3] {
            break;
        }
        assert_eq!(posts, [2]);
        attempts += 1;
        bench.answer(2, 500, now);
        assert_eq!(bench.team.state(), State::Open);
    }
    assert!(now >= at(5 * 86_400) && now <= at(5 * 86_400 + 400), "{now}");
    assert!(attempts > 5 * 24 * 12, "{attempts}");
}

#[test]
fn events_are_taken_from_disk_in_order_and_never_more_than_the_window_holds() {
    let mut bench = Bench::new();
    for seq in 1..=1_000 {
        bench.spool.insert(seq, queued(seq, None));
    }
    let mut now = at(0);
    let mut order = Vec::new();
    while order.len() < 1_050 {
        assert!(now < at(60), "stuck after {order:?}");
        if now == at(0) + SignedDuration::from_millis(100) {
            for seq in 1_001..=1_050 {
                bench.put(seq, None, now);
            }
        }
        let posts = bench.posts(now);
        assert!(bench.team.waiting().0 <= LIMITS.window);
        for seq in posts {
            order.push(seq);
            bench.answer(seq, 201, now);
        }
        now += SignedDuration::from_millis(1);
    }
    assert!(order.is_sorted());
    assert!(bench.pages < 250, "{} pages for 1050 events", bench.pages);
    assert_eq!(bench.team.waiting(), (0, false, None));
}

#[test]
fn a_storm_of_one_lane_takes_no_more_than_its_share_and_delays_no_other() {
    let mut bench = Bench::open();
    for seq in 2..=500 {
        bench.put(seq, Some("storm"), at(1));
    }
    for seq in 501..=1_000 {
        bench.spool.insert(seq, queued(seq, Some("storm")));
    }
    bench.team.wake(at(1));
    assert_eq!(bench.posts(at(1)), [2]);
    bench.put(1_001, Some("other"), at(1));
    bench.put(1_002, None, at(1));
    assert_eq!(bench.posts(at(1)), [1_001, 1_002]);
    assert_eq!(bench.team.waiting().0, LIMITS.lane + 2);
    bench.pages = 0;
    for seq in 2..1_000 {
        bench.answer(seq, 201, at(2));
        assert_eq!(bench.posts(at(2)), [seq + 1]);
    }
    assert!(bench.pages < 250, "{} pages for 1000 events", bench.pages);
}

#[test]
fn what_the_spool_withdraws_is_not_posted_and_what_is_under_way_is_waited_for() {
    let mut bench = Bench::open();
    let held = Queued { next_at: at(60), ..queued(2, Some("a")) };
    bench.spool.insert(2, held.clone());
    bench.team.offer(held, at(1));
    bench.put(3, Some("b"), at(1));
    assert_eq!(bench.posts(at(1)), [3], "2 is held until its time");
    bench.spool.clear();
    bench.team.withdraw(2, at(2));
    bench.team.withdraw(3, at(2));
    bench.put(4, Some("a"), at(2));
    assert_eq!(bench.posts(at(60)), [4]);
    assert!(bench.answer(3, 201, at(61)).is_empty());
    assert_eq!(bench.team.in_flight(), 1);
}

#[test]
fn what_was_dropped_from_the_spool_is_not_posted_and_what_was_retried_is() {
    let mut bench = Bench::open();
    bench.put(2, Some("a"), at(1));
    bench.put(3, Some("a"), at(1));
    bench.put(4, None, at(1));
    bench.posts(at(1));
    bench.answer(2, 500, at(1));
    bench.answer(4, 400, at(1));
    bench.spool.remove(&2);
    bench.spool.insert(4, queued(4, None));
    bench.team.wake(at(1));
    assert_eq!(bench.posts(at(1)), [3, 4]);
}

#[test]
fn a_clock_that_is_set_back_delays_nothing() {
    let mut bench = Bench::open();
    bench.put(2, None, at(1));
    bench.posts(at(1));
    bench.answer(2, 500, at(1));
    assert_eq!(bench.posts(at(-86_400)), [2]);
}

/// What the server of a random history does to a post.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weather {
    Fine,
    Errors,
    Flaky,
    WrongSecret,
    Throttled(Timestamp),
}

/// A random history: a spool, a server and a team that is now and then killed.
struct World {
    rng: Rng,
    now: Timestamp,
    team: Team,
    limits: Limits,
    weather: Weather,
    next_seq: u64,
    spool: BTreeMap<u64, Queued>,
    /// Committed, and on their way to the team in the order of their lanes.
    offers: Vec<Queued>,
    posts: Vec<Post>,
    page: Option<(u64, usize, Option<Vec<Queued>>)>,
    unrecorded: Vec<Outcome>,
    /// By lane, what the server took, in order.
    taken: BTreeMap<String, Vec<u64>>,
    failed: BTreeSet<u64>,
    /// Posts that may have been made twice with good reason.
    killed_with: BTreeSet<u64>,
}

/// Every 50th event is one that SIGNL4 refuses, every 70th one that breaks it, every 90th one that a
/// firewall dislikes.
fn nature(seq: u64) -> u16 {
    match seq {
        seq if seq.is_multiple_of(50) => 400,
        seq if seq.is_multiple_of(70) => 500,
        seq if seq.is_multiple_of(90) => 403,
        _ => 201,
    }
}

fn lane_of(event: &Queued) -> String {
    event.external_id.clone().unwrap_or_else(|| format!("alone {}", event.seq))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = Limits {
            concurrency: rng.usize(1..=6),
            give_up_after: SignedDuration::from_hours(72),
            window: rng.usize(10..60),
            lane: rng.usize(1..8),
            page: rng.usize(1..12),
            payload_bytes: rng.usize(0..200),
        };
        Self {
            team: Team::new(limits, rng.fork(), at(0)),
            rng,
            now: at(0),
            limits,
            weather: Weather::Fine,
            next_seq: 1,
            spool: BTreeMap::new(),
            offers: Vec::new(),
            posts: Vec::new(),
            page: None,
            unrecorded: Vec::new(),
            taken: BTreeMap::new(),
            failed: BTreeSet::new(),
            killed_with: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..20 => self.accept(),
            20..40 => self.offer(),
            40..60 => self.reply(),
            60..75 => self.record(),
            75..85 => self.read(),
            85..96 => {
                let most = if self.rng.u8(0..10) == 0 { 400_000 } else { 900 };
                self.now += SignedDuration::from_millis(self.rng.i64(0..most));
            }
            96 => self.team.sweep(),
            97 => self.team.wake(self.now),
            98 => {
                let until = self.now + SignedDuration::from_secs(self.rng.i64(1..60));
                let weathers = [Weather::Fine, Weather::Errors, Weather::Flaky, Weather::WrongSecret];
                self.weather = *self.rng.choice(&weathers[..]).unwrap();
                if self.rng.u8(0..5) == 0 {
                    self.weather = Weather::Throttled(until);
                }
            }
            _ => {
                if self.rng.u8(0..4) == 0 {
                    self.kill();
                }
            }
        }
        self.act();
    }

    fn accept(&mut self) {
        let lane = ["a", "b", "c", "d"][self.rng.usize(0..4)];
        let seq = self.next_seq;
        self.next_seq += 1;
        // A lane behind an event that is held for ever waits for ever, rightly.
        let lane = (self.rng.bool() && nature(seq) != 403).then_some(lane);
        let event = Queued { accepted_at: self.now, next_at: self.now, ..queued(seq, lane) };
        self.spool.insert(seq, event.clone());
        self.offers.push(event);
    }

    /// One of the offers arrives, not overtaking another of its lane; a few never do.
    fn offer(&mut self) {
        if self.offers.is_empty() {
            return;
        }
        let some = self.rng.usize(0..self.offers.len().min(4));
        let lane = lane_of(&self.offers[some]);
        let first = self.offers.iter().position(|offer| lane_of(offer) == lane).unwrap();
        let offer = self.offers.remove(first);
        if self.rng.u8(0..60) == 0 && offer.external_id.is_none() {
            return;
        }
        self.team.offer(offer, self.now);
    }

    fn reply(&mut self) {
        if self.posts.is_empty() {
            return;
        }
        let post = self.posts.swap_remove(self.rng.usize(0..self.posts.len()));
        let code = match self.weather {
            Weather::Fine => nature(post.seq),
            Weather::Errors => 503,
            Weather::Flaky => [nature(post.seq), 502][self.rng.usize(0..2)],
            Weather::WrongSecret => 404,
            Weather::Throttled(until) if self.now < until => 429,
            Weather::Throttled(_) => nature(post.seq),
        };
        let answer = match (code, self.weather) {
            (429, Weather::Throttled(until)) => throttled(until.max(self.now + SignedDuration::from_secs(1))),
            _ => status(code),
        };
        if code == 201 {
            let event = self.spool.get(&post.seq).expect("only what is queued is posted");
            let taken = self.taken.entry(lane_of(event)).or_default();
            assert!(
                taken.last().is_none_or(|&last| last < post.seq || self.killed_with.contains(&post.seq)),
                "{} after {taken:?}",
                post.seq
            );
            assert!(taken.last().is_none_or(|&last| last <= post.seq), "{} after {taken:?}", post.seq);
            taken.push(post.seq);
        }
        let verdict = self.team.answer(post.seq, answer, self.now);
        self.unrecorded.extend(verdict.outcome);
    }

    fn record(&mut self) {
        for outcome in std::mem::take(&mut self.unrecorded) {
            match outcome {
                Outcome::Delivered { seq, .. } => {
                    self.spool.remove(&seq);
                    self.team.recorded(seq, self.now);
                }
                Outcome::Failed { seq, .. } => {
                    assert_ne!(nature(seq), 201, "{seq} was given up");
                    self.spool.remove(&seq);
                    self.failed.insert(seq);
                    self.team.recorded(seq, self.now);
                }
                Outcome::Deferred { seq, attempts, next_at, .. } => {
                    let row = self.spool.get_mut(&seq).unwrap();
                    (row.attempts, row.next_at) = (attempts, next_at);
                }
            }
        }
    }

    /// A page is read: its snapshot is taken at some moment, and arrives at a later one.
    fn read(&mut self) {
        match self.page.take() {
            None => {}
            Some((_, _, Some(rows))) => assert!(self.team.page(rows, self.now).is_empty()),
            Some((_, _, None)) if self.rng.u8(0..10) == 0 => self.team.page_failed(self.now),
            Some((after, limit, None)) => {
                let rows = self.spool.range(after + 1..).take(limit).map(|(_, q)| q.clone()).collect();
                self.page = Some((after, limit, Some(rows)));
            }
        }
    }

    /// The process dies and starts again over the same spool.
    fn kill(&mut self) {
        self.killed_with.extend(self.unrecorded.drain(..).filter_map(|outcome| match outcome {
            Outcome::Delivered { seq, .. } => Some(seq),
            _ => None,
        }));
        self.posts.clear();
        self.offers.clear();
        self.page = None;
        self.team = Team::new(self.limits, self.rng.fork(), self.now);
    }

    /// Carries out what the team wants done now, and looks at the laws.
    fn act(&mut self) {
        while let Some(action) = self.team.next(self.now, true) {
            match action {
                Action::Page { after, limit } => {
                    assert!(self.page.is_none(), "one page at a time");
                    self.page = Some((after, limit, None));
                }
                Action::Post(post) => {
                    assert_eq!(*post.payload, post.seq.to_string());
                    let lane = lane_of(&self.spool[&post.seq]);
                    let ends = self.unrecorded.iter().filter_map(|outcome| match outcome {
                        Outcome::Delivered { seq, .. } | Outcome::Failed { seq, .. } => Some(*seq),
                        Outcome::Deferred { .. } => None,
                    });
                    for busy in self.posts.iter().map(|post| post.seq).chain(ends) {
                        assert_ne!(lane_of(&self.spool[&busy]), lane, "{busy} and {} at once", post.seq);
                    }
                    self.posts.push(post);
                }
            }
        }
        assert!(self.posts.len() <= self.limits.concurrency);
        assert!(self.team.waiting().0 <= self.limits.window, "the window is bounded");
    }

    /// Good weather until nothing is left.
    fn settle(&mut self) {
        self.weather = Weather::Fine;
        for round in 0.. {
            while !self.offers.is_empty() {
                self.offer();
                self.act();
            }
            while !self.posts.is_empty() || !self.unrecorded.is_empty() || self.page.is_some() {
                self.reply();
                self.record();
                self.read();
                self.act();
            }
            // Alone, an event that earns 403 cannot be told from a wrong secret, and holds the team.
            if self.spool.keys().all(|&seq| nature(seq) == 403) {
                return;
            }
            assert!(round < 50_000, "stuck with {:?} at {}: {:?}", self.spool.keys(), self.now, self.team);
            let sweep = self.now + SignedDuration::from_secs(30);
            self.now = self.team.next_time().map_or(sweep, |next| next.clamp(self.now, sweep));
            self.team.sweep();
            self.act();
        }
    }
}

#[test]
fn random_histories_lose_nothing_and_keep_the_order_of_every_lane() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        for _ in 0..1_500 {
            world.step();
        }
        world.settle();
        let mut taken: Vec<u64> = world.taken.values().flatten().copied().collect();
        taken.sort_unstable();
        taken.dedup();
        let whole: Vec<u64> = (1..world.next_seq).filter(|&seq| nature(seq) == 201).collect();
        assert_eq!(taken, whole, "seed {seed}");
        let parked: Vec<u64> = world.failed.iter().copied().collect();
        let faulty = (1..world.next_seq).filter(|&seq| nature(seq) != 201);
        let faulty: Vec<u64> = faulty.filter(|seq| !world.spool.contains_key(seq)).collect();
        assert_eq!(parked, faulty, "seed {seed}");
    }
}
