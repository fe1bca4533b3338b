//! What is held waits for its close, whatever else happens.

use super::*;

/// A page that is held until second `until`.
fn held(seq: u64, until: i64) -> Queued {
    Queued { next_at: at(until), ..queued(seq, Some("a")) }
}

#[test]
fn what_is_held_does_not_leave_when_the_gate_opens_nor_when_somebody_wakes_the_team() {
    let mut bench = Bench::new();
    bench.commit(held(2, 30), at(0));
    assert!(bench.posts(at(0)).is_empty(), "not as a probe either");
    bench.answer_ask(201, at(2));
    assert_eq!(bench.state(), State::Open);
    assert!(bench.posts(at(2)).is_empty());
    bench.scheduler.wake(0, at(3));
    assert!(bench.posts(at(3)).is_empty());
    assert!(bench.posts(at(29)).is_empty());
    assert_eq!(bench.posts(at(30)), [2]);
}

#[test]
fn what_was_held_behind_a_shut_gate_is_tried_when_its_time_has_come() {
    let mut bench = Bench::new();
    bench.commit(held(1, 30), at(0));
    assert!(bench.posts(at(0)).is_empty());
    // No question is to be asked from now on, so that the event must find out.
    bench.answer_ask(400, at(0));
    assert!(bench.posts(at(1)).is_empty());
    assert_eq!(bench.scheduler.next_time(at(1)), Some(at(30)));
    assert_eq!(bench.posts(at(30)), [1]);
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_for_longer() {
    let mut bench = Bench::open();
    bench.commit(Queued { accepted_at: at(1_000), ..held(2, 1_030) }, at(1_000));
    assert!(bench.posts(at(1_000)).is_empty());
    assert_eq!(bench.posts(at(10)), [2]);
}
