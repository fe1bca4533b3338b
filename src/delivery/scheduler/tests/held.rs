//! What the spool holds back, as its close may come meanwhile: nothing makes it go before its time.

use super::*;

/// An event that the spool holds back until second 60.
fn held(seq: u64, lane: &str) -> Queued {
    Queued { next_at: at(60), ..queued(seq, Some(lane)) }
}

#[test]
fn what_is_held_is_no_probe_at_the_start_and_goes_when_its_time_has_come() {
    let mut bench = Bench::new();
    bench.commit(held(1, "a"), at(0));
    assert!(bench.posts(at(0)).is_empty());
    assert_eq!(bench.asks, [0], "a question finds out whether the secret is right");
    bench.answer_ask(201, at(0));
    assert!(bench.posts(at(59)).is_empty());
    assert_eq!(bench.next_posts(at(59)), (at(60), vec![1]));

    let limits = TeamLimits { probe: false, ..LIMITS };
    let mut bench = Bench::new();
    bench.scheduler.teams[0] = Team::new(target("soc"), 0, limits, Rng::with_seed(7), at(0));
    bench.commit(held(1, "a"), at(0));
    assert!(bench.posts(at(59)).is_empty() && bench.asks.is_empty());
    assert_eq!(bench.next_posts(at(59)), (at(60), vec![1]));
}

#[test]
fn neither_an_outage_nor_its_end_nor_an_operator_makes_what_is_held_go_early() {
    let mut bench = Bench::open();
    for seq in 2..=5 {
        bench.put(seq, None, at(1));
    }
    bench.commit(held(6, "a"), at(1));
    assert_eq!(bench.posts(at(1)), [2, 3, 4, 5]);
    for seq in 2..=5 {
        bench.answer(seq, 503, at(2));
    }
    assert_eq!(bench.state(), State::Down);
    let mut now = at(2);
    for _ in 0..3 {
        let (then, posts) = bench.next_posts(now);
        assert_ne!(posts, [6], "no probe at {then}");
        bench.answer(posts[0], 503, then);
        now = then;
    }
    bench.scheduler.wake(now);
    assert_ne!(bench.posts(now), [6]);
    for seq in bench.routes.keys().copied().collect::<Vec<_>>() {
        bench.answer(seq, 201, now);
    }
    let posts = bench.posts(now);
    assert!(now < at(60) && bench.state() == State::Open && !posts.contains(&6), "{posts:?} at {now}");
    assert!(bench.posts(at(60)).contains(&6));
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_for_longer_than_it_was_to_be_held() {
    let mut bench = Bench::open();
    bench.commit(held(2, "a"), at(1));
    assert!(bench.posts(at(1)).is_empty());
    assert!(bench.posts(at(-86_400)).is_empty());
    assert_eq!(bench.next_posts(at(-86_400)), (at(-86_400 + 60), vec![2]));
}
