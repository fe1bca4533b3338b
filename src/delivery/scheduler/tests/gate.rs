//! What answers do to a team: outages, throttling, wrong secrets, and events that are refused alone.

use std::collections::BTreeSet;

use super::*;
use crate::delivery::scheduler::gate::EAGER_INTERVAL;

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
        bench.put(100 + minute as u64, None, at(60 * minute - 30));
        assert!(bench.posts(at(60 * minute - 1)).is_empty() && bench.asks.is_empty());
        assert!(bench.posts(at(60 * minute)).is_empty(), "the question pages nobody, an event would");
        shouts += bench.answer_ask(401, at(60 * minute)).len();
    }
    assert_eq!(shouts, 3, "one as the reason changed, then every five minutes");
    let (now, posts) = bench.next_posts(at(901));
    assert_eq!((now, posts.len()), (at(960), 0));
    assert_eq!(bench.answer_ask(201, now), [Notice::Answers { was: State::Held }]);
    assert_eq!(bench.posts(now).len(), LIMITS.concurrency);
    assert!(bench.spool.values().all(|row| row.attempts <= 1), "nobody was tried in vain");
}

#[test]
fn a_wake_while_a_probe_is_under_way_sends_another_after_it() {
    let mut bench = Bench::new();
    bench.put(1, None, at(0));
    assert_eq!(bench.posts(at(0)), [1]);
    bench.scheduler.wake(at(1));
    assert!(bench.posts(at(1)).is_empty());
    bench.answer(1, 404, at(2));
    assert!(bench.posts(at(2)).is_empty());
    bench.answer_ask(404, at(3));
    assert!(bench.posts(at(4)).is_empty() && bench.asks.is_empty());
}

#[test]
fn no_event_is_given_up_while_its_team_is_held() {
    for understood in [true, false] {
        let mut bench = Bench::new();
        bench.put(1, None, at(0));
        for minute in 0..(20 * 24 * 60) {
            let now = at(60 * minute);
            let posts = bench.posts(now);
            if !bench.asks.is_empty() {
                bench.answer_ask(if understood { 404 } else { 400 }, now);
            } else {
                assert_eq!(posts, [1]);
                bench.answer(1, 404, now);
            }
        }
        assert!(bench.spool.contains_key(&1));
        assert_eq!(bench.spool[&1].attempts > 1, !understood, "a question that fails is asked once");
    }
}

#[test]
fn an_event_that_alone_earns_403_holds_the_team_only_until_the_question_is_answered() {
    for others in [true, false] {
        let mut bench = Bench::open();
        bench.put(2, None, at(1));
        assert_eq!(bench.posts(at(1)), [2]);
        assert!(bench.answer(2, 403, at(2)).is_empty(), "nobody is told what may be wrong");
        assert_eq!(bench.state(), State::Held);
        if others {
            bench.put(4, None, at(2));
        }
        assert_eq!(bench.next_posts(at(2)), (at(2), vec![]), "it is asked at once");
        assert!(bench.answer_ask(201, at(3)).is_empty());
        assert_eq!(bench.posts(at(3)), if others { vec![2, 4] } else { vec![2] });
        assert!(matches!(&bench.answer(2, 403, at(4))[..], [Notice::Deferred { reason, .. }]
            if reason == "refused although others are taken: answered 403"));
        assert_eq!(bench.state(), State::Open);
        bench.put(5, None, at(5));
        assert_eq!(bench.posts(at(5)), [5]);
    }
}

#[test]
fn an_event_that_is_refused_again_and_again_while_others_are_taken_becomes_a_dead_letter() {
    let mut bench = Bench::open();
    bench.put(2, Some("poison"), at(1));
    bench.put(3, Some("poison"), at(1));
    let (mut now, mut refused, mut told) = (at(1), 0, 0);
    loop {
        let (then, posts) = bench.next_posts(now);
        now = then;
        if !bench.asks.is_empty() {
            told += bench.answer_ask(201, now).len();
        } else if posts == [2] {
            now += SignedDuration::from_secs(1);
            refused += 1;
            told += bench.answer(2, 403, now).len();
        } else {
            assert_eq!(posts, [3], "its lane goes on");
            break;
        }
    }
    assert!(!bench.spool.contains_key(&2));
    assert_eq!(
        (refused, told),
        (10, 1),
        "twice for each time that the question takes the blame off the secret"
    );
    assert!((at(300)..at(1_800)).contains(&now), "{now}");
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_secret_that_turns_wrong_is_told_once_the_question_is_refused_as_well() {
    for answered in [404, 503] {
        let mut bench = Bench::open();
        for seq in 2..=5 {
            bench.put(seq, None, at(1));
        }
        assert_eq!(bench.posts(at(1)), [2, 3, 4, 5]);
        for seq in 2..=5 {
            assert!(bench.answer(seq, 404, at(2)).is_empty());
        }
        assert!(bench.posts(at(2)).is_empty());
        assert!(bench.scheduler.team(0).held_since().is_none(), "nothing is sure yet");
        assert!(matches!(bench.answer_ask(answered, at(3))[..], [Notice::Held { .. }]));
        assert_eq!(bench.scheduler.team(0).held_since(), Some(at(2)));
        assert_eq!(bench.next_posts(at(3)), (at(63), vec![]));
        assert_eq!(bench.answer_ask(201, at(63)), [Notice::Answers { was: State::Held }]);
        assert_eq!(bench.posts(at(63)), [2, 3, 4, 5]);
    }
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
    assert_eq!(bench.state(), State::Open, "two could be a chance");
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
        assert_eq!(bench.state(), State::Open);
    }
    assert!(now >= at(5 * 86_400) && now <= at(5 * 86_400 + 400), "{now}");
    assert!(attempts > 5 * 24 * 12, "{attempts}");
}
