//! Answers that are not SIGNL4's, and a clock that jumps.

use super::*;

/// What a team says that meets another than SIGNL4.
fn foreign(notices: &[Notice]) -> bool {
    notices.iter().any(|notice| matches!(notice, Notice::Held { foreign: true, .. }))
}

#[test]
fn a_team_whose_posts_another_answers_is_held_and_only_the_question_is_repeated_until_signl4_answers() {
    let mut bench = Bench::new();
    for seq in 1..=6 {
        bench.put(seq, None, at(0));
    }
    assert_eq!(bench.posts(at(0)), [1]);
    assert!(foreign(&bench.answer(1, 200, at(0))), "it shouts");
    assert_eq!(bench.state(), State::Held);
    let mut asked = 0;
    for second in 1..=1_200 {
        assert!(bench.posts(at(second)).is_empty(), "no event goes out");
        if !bench.asks.is_empty() {
            asked += 1;
            let shouts = foreign(&bench.answer_ask(200, at(second)));
            assert_eq!(shouts, asked % 5 == 0, "every five minutes it shouts again: {asked}");
        }
    }
    assert_eq!(asked, 20);
    let (then, _) = bench.next_posts(at(1_200));
    bench.answer_ask(201, then);
    assert_eq!(bench.state(), State::Open);
    while !bench.spool.is_empty() {
        for seq in bench.posts(then) {
            bench.answer(seq, 201, then);
        }
    }
    assert_eq!(bench.doubles, [1], "what was said yes to may be an alert already");
}

#[test]
fn a_firewall_that_swallows_one_event_holds_no_other_up() {
    let mut bench = Bench::open();
    for seq in 2..=4 {
        bench.put(seq, None, at(1));
    }
    bench.posts(at(1));
    assert!(!foreign(&bench.answer(2, 200, at(1))), "nobody is told before it is known what is at fault");
    bench.posts(at(1));
    bench.answer_ask(201, at(1));
    let (mut now, mut tries) = (at(1), 1);
    while bench.spool.contains_key(&2) {
        (now, _) = bench.next_posts(now);
        if !bench.asks.is_empty() {
            bench.answer_ask(201, now);
        }
        for seq in bench.routes.keys().copied().collect::<Vec<_>>() {
            tries += u32::from(seq == 2);
            bench.answer(seq, if seq == 2 { 200 } else { 201 }, now);
        }
    }
    assert!(bench.spool.is_empty() && now > at(240) && tries <= 10, "{tries} until {now}");
}

/// A bench whose event 2 was accepted by a clock that is off by `jump`, failed once, and fails again once that was put
/// right.
fn after_a_jump(jump: SignedDuration) -> (Bench, Timestamp) {
    let mut bench = Bench::open();
    bench.commit(Queued { accepted_at: at(1), next_at: at(1), ..queued(2, None) }, at(1));
    assert_eq!(bench.posts(at(1)), [2]);
    bench.answer(2, 500, at(1));
    bench.jumped = jump;
    let now = at(2) + jump;
    assert_eq!(bench.posts(now), [2]);
    bench.answer(2, 500, now);
    (bench, now)
}

#[test]
fn a_clock_that_jumps_ahead_gives_no_event_up_that_was_hardly_tried() {
    for jump in [SignedDuration::from_hours(6 * 24), SignedDuration::from_hours(26 * 8_766)] {
        let (mut bench, mut now) = after_a_jump(jump);
        for _ in 0..50 {
            assert!(bench.spool.contains_key(&2), "after {}", now.duration_since(at(0) + jump));
            let (then, posts) = bench.next_posts(now);
            assert_eq!(posts, [2]);
            bench.answer(2, 500, then);
            now = then;
        }
        let (then, _) = bench.next_posts(now);
        bench.answer(2, 201, then);
        assert!(bench.spool.is_empty());
    }
}

#[test]
fn an_event_that_was_tried_for_as_long_as_its_age_says_is_given_up_whatever_the_clock_did() {
    let (mut bench, mut now) = after_a_jump(SignedDuration::from_hours(6 * 24));
    let since = now;
    while bench.spool.contains_key(&2) {
        let (then, _) = bench.next_posts(now);
        bench.answer(2, 500, then);
        now = then;
    }
    let days = now.duration_since(since).as_hours() / 24;
    assert!((4..=5).contains(&days), "{days}");
}

#[test]
fn what_was_tried_often_enough_before_a_restart_is_given_up_for_its_age() {
    let mut bench = Bench::open();
    let old = SignedDuration::from_hours(5 * 24);
    let tried = |seq, attempts| Queued { attempts, accepted_at: at(1) - old, ..queued(seq, None) };
    bench.commit(tried(2, 2_000), at(1));
    bench.commit(tried(3, 3), at(1));
    assert_eq!(bench.posts(at(1)), [2, 3]);
    bench.answer(2, 500, at(1));
    bench.answer(3, 500, at(1));
    assert_eq!(bench.spool.keys().copied().collect::<Vec<_>>(), [3]);
}
