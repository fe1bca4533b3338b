//! Long random histories: nothing is lost and every lane keeps its order. Time is moved by hand.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What the server of a random history does to a post.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weather {
    Fine,
    Errors,
    Flaky,
    WrongSecret,
    Throttled(Timestamp),
}

/// A page of what is urgent: from where on, how long, and what was read once it is.
type UrgentPage = ((Rank, u64), usize, Option<Vec<Urgent>>);

/// A random history: a spool, a server and a team that is now and then killed.
struct World {
    rng: Rng,
    now: Timestamp,
    scheduler: Scheduler,
    limits: TeamLimits,
    weather: Weather,
    next_seq: u64,
    spool: BTreeMap<u64, Queued>,
    /// Committed, and on their way to the team in the order of their lanes.
    offers: Vec<Queued>,
    posts: Vec<Post>,
    page: Option<(u64, usize, Option<Vec<Queued>>)>,
    urgent: Option<UrgentPage>,
    asked: bool,
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

fn one_team(limits: TeamLimits, rng: &mut Rng, now: Timestamp) -> Scheduler {
    let mut scheduler = Scheduler::new(Plan::Unlimited, SignedDuration::from_secs(30));
    let account = scheduler.add_account("default", Some(&[]), now);
    scheduler.add_team(target("soc"), account, limits, rng.fork(), now);
    scheduler
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let window = rng.usize(10..60);
        let limits = TeamLimits {
            fallback_after: SignedDuration::MAX,
            probe: rng.bool(),
            urgent: window / 4,
            window,
            concurrency: rng.usize(1..=6),
            give_up_after: SignedDuration::from_hours(8),
            lane: rng.usize(1..8),
            page: rng.usize(1..12),
            payload_bytes: rng.usize(0..200),
        };
        Self {
            scheduler: one_team(limits, &mut rng, at(0)),
            rng,
            now: at(0),
            limits,
            weather: Weather::Fine,
            next_seq: 1,
            spool: BTreeMap::new(),
            offers: Vec::new(),
            posts: Vec::new(),
            page: None,
            urgent: None,
            asked: false,
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
            96 => self.scheduler.sweep(),
            97 => self.scheduler.wake(self.now),
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
        // Without the question a lane behind an event that is held for ever waits for ever, rightly.
        let lane = (self.rng.bool() && (self.limits.probe || nature(seq) != 403)).then_some(lane);
        let severity = [None, Some(Severity::Critical), Some(Severity::High), Some(Severity::Info)];
        let severity = severity[self.rng.usize(0..4)];
        let status = if self.rng.u8(0..3) == 0 { Status::Resolved } else { Status::New };
        let event =
            Queued { accepted_at: self.now, next_at: self.now, status, severity, ..queued(seq, lane) };
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
        self.scheduler.team_mut(0).offer(offer, self.now);
    }

    fn reply(&mut self) {
        if self.asked && self.rng.bool() {
            self.asked = false;
            let code = match self.weather {
                Weather::Errors => 503,
                Weather::WrongSecret => 404,
                _ => 201,
            };
            self.scheduler.asked(0, 0, &status(code), self.now);
        }
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
        let verdict = self.scheduler.answer((0, 0, 0), post.seq, answer, self.now);
        self.unrecorded.extend(verdict.outcome);
    }

    fn record(&mut self) {
        for outcome in std::mem::take(&mut self.unrecorded) {
            match outcome {
                Outcome::Delivered { seq, .. } => {
                    self.spool.remove(&seq);
                    self.scheduler.team_mut(0).recorded(seq, self.now);
                }
                Outcome::Failed { seq, .. } => {
                    assert_ne!(nature(seq), 201, "{seq} was given up");
                    self.spool.remove(&seq);
                    self.failed.insert(seq);
                    self.scheduler.team_mut(0).recorded(seq, self.now);
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
            Some((_, _, Some(rows))) => assert!(self.scheduler.team_mut(0).page(rows, self.now).is_empty()),
            Some((_, _, None)) if self.rng.u8(0..10) == 0 => self.scheduler.team_mut(0).page_failed(self.now),
            Some((after, limit, None)) => {
                let rows = self.spool.range(after + 1..).take(limit).map(|(_, q)| q.clone()).collect();
                self.page = Some((after, limit, Some(rows)));
            }
        }
        match self.urgent.take() {
            None => {}
            Some((_, _, Some(rows))) => self.scheduler.team_mut(0).urgent(rows, self.now),
            Some((_, _, None)) if self.rng.u8(0..10) == 0 => self.scheduler.team_mut(0).page_failed(self.now),
            Some((after, limit, None)) => {
                let rows = urgent_of(&self.spool, after, limit);
                self.urgent = Some((after, limit, Some(rows)));
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
        (self.page, self.urgent, self.asked) = (None, None, false);
        self.scheduler = one_team(self.limits, &mut self.rng, self.now);
    }

    /// Carries out what the team wants done now, and looks at the laws.
    fn act(&mut self) {
        while let Some(action) = self.scheduler.next(self.now, true) {
            match action {
                Action::Page { after, limit, .. } => {
                    assert!(self.page.is_none() && self.urgent.is_none(), "one page at a time");
                    self.page = Some((after, limit, None));
                }
                Action::Urgent { after, limit, .. } => {
                    assert!(self.page.is_none() && self.urgent.is_none(), "one page at a time");
                    self.urgent = Some((after, limit, None));
                }
                Action::Reserve { .. } => panic!("without a bound nothing is reserved"),
                Action::Ask { .. } => {
                    assert!(!std::mem::replace(&mut self.asked, true), "one question at a time");
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
        assert!(self.scheduler.team(0).waiting().0 <= self.limits.window, "the window is bounded");
    }

    /// Good weather until nothing is left.
    fn settle(&mut self) {
        self.weather = Weather::Fine;
        for round in 0.. {
            while !self.offers.is_empty() {
                self.offer();
                self.act();
            }
            while !self.posts.is_empty()
                || !self.unrecorded.is_empty()
                || self.page.is_some()
                || self.urgent.is_some()
                || self.asked
            {
                self.reply();
                self.record();
                self.read();
                self.act();
            }
            // Alone and without the question, an event that earns 403 cannot be told from a wrong secret, and holds
            // the team.
            if self.spool.is_empty() || !self.limits.probe && self.spool.keys().all(|&seq| nature(seq) == 403)
            {
                return;
            }
            assert!(
                round < 50_000,
                "stuck with {:?} at {}: {:?}",
                self.spool.keys(),
                self.now,
                self.scheduler
            );
            let sweep = self.now + SignedDuration::from_secs(30);
            self.now = self.scheduler.next_time(self.now).map_or(sweep, |next| next.clamp(self.now, sweep));
            self.scheduler.sweep();
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
