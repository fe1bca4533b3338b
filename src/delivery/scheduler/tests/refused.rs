//! Events that SIGNL4 finds wrong, which it bears only so often; and servers that are away and come back.

use super::order::event;
use super::*;

/// A scheduler with a server that refuses what is `poison`, and the times at which it did.
struct Poisoned {
    bench: Bench,
    poison: fn(u64) -> bool,
    wrong: Vec<Timestamp>,
    taken: BTreeMap<u64, Timestamp>,
    most_under_way: usize,
}

impl Poisoned {
    fn new(teams: &[&str], poison: fn(u64) -> bool) -> Self {
        let mut bench = Bench::with(Plan::Commercial, teams);
        assert!(bench.posts(at(0)).is_empty());
        while !bench.asks.is_empty() {
            bench.answer_ask(201, at(0));
        }
        Self { bench, poison, wrong: Vec::new(), taken: BTreeMap::new(), most_under_way: 0 }
    }

    /// Lets everything go that may at `now`, all that is under way being answered at once.
    fn go(&mut self, now: Timestamp) {
        loop {
            let posts = self.bench.posts(now);
            if posts.is_empty() {
                break;
            }
            self.most_under_way = self.most_under_way.max(posts.len());
            for seq in posts {
                let poison = (self.poison)(seq);
                self.bench.answer(seq, if poison { 400 } else { 201 }, now);
                if poison {
                    self.wrong.push(now);
                } else {
                    self.taken.insert(seq, now);
                }
            }
        }
        for (n, &then) in self.wrong.iter().enumerate() {
            let within = self.wrong[n..].iter().take_while(|at| at.duration_since(then).as_secs() <= 60);
            assert!(within.count() <= 9, "{:?}", self.wrong);
        }
    }

    fn go_until_nothing_waits(&mut self, mut now: Timestamp) -> Timestamp {
        loop {
            self.go(now);
            if self.bench.spool.is_empty() {
                return now;
            }
            now = self.bench.scheduler.next_time(now).expect("what waits has a time");
        }
    }
}

#[test]
fn poison_holds_up_nothing_that_is_more_urgent_or_of_another_team() {
    let mut world = Poisoned::new(&["a", "a"], |seq| seq < 100);
    for seq in 1..=40 {
        world.bench.commit(event(seq, "soc", Severity::Low, None), at(1));
    }
    world.go(at(1));
    assert_eq!(world.wrong.len(), 7, "all of the first could be wrong");
    for seq in 101..=120 {
        world.bench.commit(event(seq, "soc", Severity::High, None), at(2));
        world.bench.commit(event(seq + 100, "soc1", Severity::Info, None), at(2));
    }
    world.bench.commit(event(301, "soc", Severity::Low, None), at(2));
    world.most_under_way = 0;
    world.go(at(2));
    assert_eq!(world.taken.len(), 40, "all of them but the one that stands behind the poison");
    assert_eq!(world.most_under_way, 2, "no more than may be wrong");
    let waits = world.bench.scheduler.waits(0, at(2));
    assert_eq!(waits, Some((at(11), Some(7))), "what waits, and why");
    assert_eq!(world.bench.scheduler.waits(1, at(2)), None);
    let end = world.go_until_nothing_waits(at(3));
    assert!(end.duration_since(at(0)).as_secs() < 6 * 61, "{end}");
    assert!(world.taken.contains_key(&301));
}

#[test]
fn good_events_among_the_poison_go_on_one_after_the_other() {
    // One in ten is wrong.
    let mut world = Poisoned::new(&["a"], |seq| seq.is_multiple_of(10));
    for seq in 1..=100 {
        world.bench.commit(event(seq, "soc", Severity::Medium, None), at(1));
    }
    world.go(at(1));
    assert!(world.taken.len() >= 60, "{}", world.taken.len());
    world.go(at(11));
    assert!(world.taken.len() >= 70, "{}", world.taken.len());
    world.go_until_nothing_waits(at(12));
    assert_eq!(world.taken.len(), 90);
}

#[test]
fn no_minute_ever_has_ten_wrong_requests_whatever_is_refused() {
    for seed in 0..10 {
        let mut rng = Rng::with_seed(seed);
        let mut world = Poisoned::new(&["a", "a", "a"], |seq| seq % 3 > 0);
        let severities = [Severity::Critical, Severity::High, Severity::Low];
        let mut now = at(1);
        for seq in 1..=120 {
            let team = ["soc", "soc1", "soc2"][rng.usize(0..3)];
            world.bench.commit(event(seq, team, severities[rng.usize(0..3)], None), now);
            if rng.u8(0..4) == 0 {
                now += SignedDuration::from_millis(rng.i64(0..20_000));
                world.go(now);
            }
        }
        let end = world.go_until_nothing_waits(now);
        assert!(end.duration_since(now).as_secs() < 11 * 61, "seed {seed}: {end}");
        assert_eq!(world.taken.len(), 40);
    }
}

/// Two teams of an account, at those hosts, whom nobody has answered for long; a probe of each is under way.
fn away(hosts: [&str; 2]) -> (Bench, Timestamp) {
    let mut bench = Bench::with(Plan::Unlimited, &["a", "a"]);
    for (team, host) in hosts.into_iter().enumerate() {
        bench.scheduler.teams[team].host = host.into();
    }
    bench.commit(event(1, "soc", Severity::High, None), at(0));
    bench.commit(event(2, "soc1", Severity::High, None), at(0));
    let mut now = at(0);
    for _ in 0..8 {
        let (then, posts) = bench.next_posts(now);
        assert_eq!(posts, [1, 2], "chance is the same for both");
        now = then;
        if now > at(60) {
            break;
        }
        for seq in posts {
            bench.answer(seq, 503, now);
        }
    }
    (bench, now)
}

#[test]
fn when_one_team_gets_through_again_the_others_of_its_server_are_tried_at_once() {
    let (mut bench, now) = away(["https://one", "https://one"]);
    bench.answer(2, 503, now);
    assert!(bench.posts(now).is_empty());
    bench.answer(1, 201, now);
    assert_eq!(bench.posts(now), [2]);
    bench.answer(2, 503, now);
    for seq in 3..=6 {
        bench.put(seq, None, now);
        assert_eq!(bench.posts(now), [seq], "what is still away waits for its own time");
        bench.answer(seq, 201, now);
    }
    assert_eq!(bench.next_posts(now).1, [2]);
}

#[test]
fn a_team_that_was_open_all_the_time_tells_the_others_once_that_the_server_is_there() {
    let mut bench = Bench::with(Plan::Unlimited, &["a", "a"]);
    bench.put(1, None, at(0));
    bench.commit(event(2, "soc1", Severity::High, None), at(0));
    assert_eq!(bench.posts(at(0)), [2, 1]);
    bench.answer(1, 201, at(0));
    bench.answer(2, 503, at(0));
    for (seq, expected) in [(3, vec![3]), (4, vec![2, 4]), (5, vec![5])] {
        bench.put(seq, None, at(0));
        assert_eq!(bench.posts(at(0)), expected);
        bench.answer(seq, 201, at(0));
        if seq == 4 {
            bench.answer(2, 503, at(0));
        }
    }
}

#[test]
fn a_team_at_another_server_or_whose_secret_is_wrong_waits_for_its_own_time() {
    let (mut bench, now) = away(["https://one", "https://other"]);
    bench.answer(2, 503, now);
    bench.answer(1, 201, now);
    assert!(bench.posts(now).is_empty());

    let (mut bench, now) = away(["https://one", "https://one"]);
    bench.answer(2, 404, now);
    assert_eq!(bench.scheduler.team(1).state(), State::Held);
    bench.answer(1, 201, now);
    assert!(bench.posts(now).is_empty() && bench.asks.is_empty());
}

#[test]
fn a_probe_that_still_waits_for_its_answer_is_followed_by_another() {
    let (mut bench, now) = away(["https://one", "https://one"]);
    bench.answer(1, 201, now);
    assert!(bench.posts(now).is_empty());
    let later = now + SignedDuration::from_secs(30);
    bench.answer(2, 503, later);
    assert_eq!(bench.posts(later), [2]);
}
