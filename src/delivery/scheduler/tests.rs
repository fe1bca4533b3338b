//! The laws of the scheduler, by hand and by long random histories. Time is moved by hand.

use std::collections::BTreeMap;

use super::*;
use crate::delivery::rank::Rank;
use crate::delivery::webhook::{self, Reached};
use crate::event::{Severity, Status};
use crate::mail::MailId;
use crate::secret::Secret;
use crate::spool::{Outcome, Queued, Urgent, rank};

const LIMITS: TeamLimits = TeamLimits {
    concurrency: 4,
    give_up_after: SignedDuration::from_hours(5 * 24),
    fallback_after: SignedDuration::from_mins(10),
    probe: true,
    window: 100,
    urgent: 20,
    lane: 20,
    page: 10,
    payload_bytes: 2_000,
};

fn at(seconds: i64) -> Timestamp {
    "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

/// The number of the incident that a test calls `lane`.
fn number(lane: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(lane, &mut hasher);
    std::hash::Hasher::finish(&hasher)
}

fn queued(seq: u64, lane: Option<&str>) -> Queued {
    Queued {
        seq,
        mail: MailId::new(at(0), 0),
        team: "soc".into(),
        incident: lane.map(number),
        external_id: lane.map(str::to_owned),
        stranger: false,
        severity: None,
        status: Status::New,
        accepted_at: at(0),
        attempts: 0,
        next_at: at(0),
        reason: None,
        unanswered: 0,
        payload: seq.to_string().into(),
        attachments: Vec::new(),
    }
}

fn target(name: &str) -> Target {
    Target::fixed(name, "", Secret::new(""))
}

fn accepted() -> Answer {
    Answer::Accepted { event_id: None, limits: webhook::Limits::default() }
}

fn status(code: u16) -> Answer {
    let reason = format!("answered {code}");
    match code {
        201 => accepted(),
        200 => Answer::Foreign { reason },
        400 => Answer::Refused { reason },
        401 | 403 | 404 => Answer::Unauthorised { reason },
        _ => Answer::Unavailable { reason, retry_after: None, reached: Reached::Yes },
    }
}

fn throttled(until: Timestamp) -> Answer {
    Answer::Throttled { until, reason: "answered 429".into(), limits: webhook::Limits::default() }
}

/// The lane that an event is in, by a name.
fn lane_of(event: &Queued) -> String {
    event.external_id.clone().unwrap_or_else(|| format!("alone {}", event.seq))
}

/// The most urgent incidents of `spool`, as the real one tells them.
fn urgent_of(spool: &BTreeMap<u64, Queued>, after: (Rank, u64), limit: usize) -> Vec<Urgent> {
    let mut lanes: BTreeMap<String, (Rank, u64, u64)> = BTreeMap::new();
    for event in spool.values() {
        let place = (rank(event.status, event.severity, event.stranger), event.seq);
        let lane = lanes.entry(lane_of(event)).or_insert((place.0, place.1, event.seq));
        if place < (lane.0, lane.1) {
            (lane.0, lane.1) = place;
        }
    }
    let mut found: Vec<_> = lanes.into_values().filter(|&(rank, seq, _)| (rank, seq) > after).collect();
    found.sort_unstable();
    let row = |(rank, seq, head): (Rank, u64, u64)| Urgent { head: spool[&head].clone(), rank, seq };
    found.into_iter().take(limit).map(row).collect()
}

/// A scheduler beside a spool that answers everything at once. Most tests have one team and no budget.
struct Bench {
    scheduler: Scheduler,
    spool: BTreeMap<u64, Queued>,
    pages: usize,
    /// Questions that were asked, by team.
    asks: Vec<usize>,
    reservations: Vec<Reservation>,
    /// Each post under way: the team, by whose target, and the account.
    routes: BTreeMap<u64, (usize, usize, usize)>,
    /// Events that were posted as a possible double.
    doubles: Vec<u64>,
    /// By how much the clock was set, without that time having passed.
    jumped: SignedDuration,
}

impl Bench {
    fn new() -> Self {
        Self::with(Plan::Unlimited, &["default"])
    }

    /// One team for each account that is named, the team `soc` the first.
    fn with(plan: Plan, accounts: &[&str]) -> Self {
        let mut scheduler = Scheduler::new(plan, SignedDuration::from_secs(30));
        for account in accounts {
            let known = scheduler.account(account);
            let account = known.unwrap_or_else(|| scheduler.add_account(account, Some(&[]), at(0)));
            let name = format!("soc{}", scheduler.teams.len());
            scheduler.add_team(target(&name), account, LIMITS, Rng::with_seed(7), at(0));
        }
        Self {
            scheduler,
            spool: BTreeMap::new(),
            pages: 0,
            asks: Vec::new(),
            reservations: Vec::new(),
            routes: BTreeMap::new(),
            doubles: Vec::new(),
            jumped: SignedDuration::ZERO,
        }
    }

    /// One whose gate a first event has opened.
    fn open() -> Self {
        let mut bench = Self::new();
        bench.put(1, None, at(0));
        assert_eq!(bench.posts(at(0)), [1]);
        bench.answer(1, 201, at(0));
        assert_eq!(bench.state(), State::Open);
        bench
    }

    fn state(&self) -> State {
        self.scheduler.team(0).state()
    }

    fn put(&mut self, seq: u64, lane: Option<&str>, now: Timestamp) {
        self.commit(queued(seq, lane), now);
    }

    fn commit(&mut self, event: Queued, now: Timestamp) {
        self.spool.insert(event.seq, event.clone());
        self.scheduler.team_mut(team_of(&event)).offer(event, now);
    }

    /// The events that are posted at `now`, the spool being read as asked.
    fn posts(&mut self, now: Timestamp) -> Vec<u64> {
        self.scheduler.has_run_for(now.duration_since(at(0)) - self.jumped);
        let mut posts = Vec::new();
        while let Some(action) = self.scheduler.next(now, true) {
            match action {
                Action::Post(Post { seq, team, by, account, possible_double, .. }) => {
                    self.doubles.extend(possible_double.then_some(seq));
                    self.routes.insert(seq, (team, by, account));
                    posts.push(seq);
                }
                Action::Ask { team, .. } => self.asks.push(team),
                Action::Page { team, after, limit } => {
                    self.pages += 1;
                    let rows = self.spool.range(after + 1..).map(|(_, q)| q);
                    let rows = rows.filter(|q| team_of(q) == team).take(limit).cloned().collect();
                    self.scheduler.team_mut(team).page(rows, now);
                }
                Action::Urgent { team, after, limit } => {
                    self.pages += 1;
                    let mut own = self.spool.clone();
                    own.retain(|_, event| team_of(event) == team);
                    self.scheduler.team_mut(team).urgent(urgent_of(&own, after, limit), now);
                }
                Action::Reserve { account, reservation } => {
                    self.reservations.push(reservation);
                    assert_eq!(self.scheduler.reserved(account, true, now), Change::None);
                }
            }
        }
        posts
    }

    /// Answers a post and records what comes of it.
    fn reply(&mut self, seq: u64, answer: Answer, now: Timestamp) -> Vec<Notice> {
        self.scheduler.has_run_for(now.duration_since(at(0)) - self.jumped);
        let route = self.routes.remove(&seq).expect("it was posted");
        let verdict = self.scheduler.answer(route, seq, answer, now);
        match verdict.outcome {
            Some(Outcome::Delivered { .. } | Outcome::Failed { .. }) => {
                self.spool.remove(&seq);
                self.scheduler.team_mut(route.0).recorded(seq, now);
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

    /// Answers the question that is under way.
    fn answer_ask(&mut self, code: u16, now: Timestamp) -> Vec<Notice> {
        let team = self.asks.pop().expect("it was asked");
        self.scheduler.asked(team, self.scheduler.teams[team].account, &status(code), now)
    }

    /// The first time at or after `from` at which something is posted, and what.
    fn next_posts(&mut self, from: Timestamp) -> (Timestamp, Vec<u64>) {
        let mut now = from;
        loop {
            let posts = self.posts(now);
            if !posts.is_empty() || !self.asks.is_empty() {
                return (now, posts);
            }
            now = self.scheduler.next_time(now).expect("something waits").max(now);
        }
    }
}

/// The team of an event: `soc` is the first, `soc1` the second.
fn team_of(event: &Queued) -> usize {
    event.team.strip_prefix("soc").unwrap().parse().unwrap_or(0)
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
    bench.scheduler.answer((0, 0, 0), 2, accepted(), at(1));
    assert!(bench.posts(at(1)).is_empty());
    bench.scheduler.team_mut(0).recorded(2, at(2));
    assert_eq!(bench.posts(at(2)), [3]);
}

#[test]
fn an_event_that_is_refused_is_parked_and_its_lane_goes_on() {
    let mut bench = Bench::open();
    bench.put(2, Some("a"), at(1));
    bench.put(3, Some("a"), at(1));
    bench.posts(at(1));
    let verdict = bench.scheduler.answer((0, 0, 0), 2, status(400), at(1));
    assert!(matches!(verdict.outcome, Some(Outcome::Failed { seq: 2, .. })));
    bench.scheduler.team_mut(0).recorded(2, at(1));
    assert_eq!(bench.posts(at(1)), [3]);
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
        assert!(bench.scheduler.team(0).waiting().0 <= LIMITS.window);
        for seq in posts {
            order.push(seq);
            bench.answer(seq, 201, now);
        }
        now += SignedDuration::from_millis(1);
    }
    assert!(order.is_sorted());
    assert!(bench.pages < 250, "{} pages for 1050 events", bench.pages);
    assert_eq!(bench.scheduler.team(0).waiting(), (0, false, None));
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
    bench.scheduler.wake(at(1));
    assert_eq!(bench.posts(at(1)), [2]);
    bench.put(1_001, Some("other"), at(1));
    bench.put(1_002, None, at(1));
    assert_eq!(bench.posts(at(1)), [1_001, 1_002]);
    assert_eq!(bench.scheduler.team(0).waiting().0, LIMITS.lane + 2);
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
    bench.scheduler.team_mut(0).offer(held, at(1));
    bench.put(3, Some("b"), at(1));
    assert_eq!(bench.posts(at(1)), [3], "2 is held until its time");
    bench.spool.clear();
    assert!(bench.scheduler.team_mut(0).withdraw(2, at(2)));
    assert!(!bench.scheduler.team_mut(0).withdraw(3, at(2)));
    bench.put(4, Some("a"), at(2));
    assert_eq!(bench.posts(at(60)), [4]);
    assert!(bench.answer(3, 201, at(61)).is_empty());
    assert_eq!(bench.scheduler.team(0).in_flight(), 1);
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
    bench.scheduler.wake(at(1));
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

mod gate;
mod held;
mod history;
mod order;
mod refused;
mod share;
mod starved;
mod strange;
mod strangers;
