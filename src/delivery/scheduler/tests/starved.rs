//! Accounts that have posted what they may.

use super::*;

/// A bench on a free account of which the spool has noted so many posts, that long ago.
fn after(posts: u64, ago: SignedDuration) -> Bench {
    let mut bench = Bench::with(Plan::Free, &[]);
    let note = Reservation { account: "a".into(), at: at(0) - ago, spent: posts, open: 0 };
    let account = bench.scheduler.add_account("a", Some(&[note]), at(0));
    bench.scheduler.add_team(target("soc"), account, LIMITS, Rng::with_seed(7), at(0));
    bench
}

#[test]
fn an_account_whose_hour_is_used_up_is_starved_at_once_and_says_until_when() {
    let mut bench = after(1_200, SignedDuration::from_mins(20));
    assert_eq!(bench.scheduler.starves(0, at(0)), None, "without an event nothing starves");
    bench.put(1, None, at(0));
    assert!(bench.posts(at(0)).is_empty() && bench.reservations.is_empty());
    let found = bench.scheduler.starves(0, at(1)).unwrap();
    assert_eq!((found.since, found.used_up), (at(0), Some((1_200, SignedDuration::from_hours(1)))));
    let until = found.until.unwrap();
    assert_eq!(until.duration_since(at(0)).as_mins(), 40);
    assert_eq!(bench.scheduler.starving(at(1)), [found]);
    assert_eq!(bench.scheduler.starving(at(60)), [], "it is told once");
    assert_eq!(bench.next_posts(at(60)), (until, vec![1]));
    assert_eq!(bench.scheduler.starves(0, until), None);
    assert!(matches!(bench.scheduler.starving(until)[..], [Starving { until: None, .. }]), "and its end");
}

#[test]
fn an_account_that_posts_as_fast_as_its_windows_let_it_is_not_starved() {
    let mut bench = after(0, SignedDuration::ZERO);
    for seq in 1..=100 {
        bench.put(seq, None, at(0));
    }
    let mut now = at(0);
    for _ in 0..100 {
        let (then, posts) = bench.next_posts(now);
        now = then;
        for seq in posts {
            bench.answer(seq, 201, now);
        }
        assert_eq!(bench.scheduler.starving(now), [], "at {now}");
        if bench.spool.is_empty() {
            return;
        }
    }
    panic!("{} wait", bench.spool.len());
}

#[test]
fn questions_at_each_start_leave_events_three_quarters_of_the_hour() {
    let mut notes = Vec::new();
    let mut asked = 0;
    for start in 0..1_000 {
        let now = at(2 * start);
        let mut bench = Bench::with(Plan::Free, &[]);
        let account = bench.scheduler.add_account("a", Some(&notes), now);
        bench.scheduler.add_team(target("soc"), account, LIMITS, Rng::with_seed(7), now);
        bench.posts(now);
        asked += bench.asks.len();
        if !bench.asks.is_empty() {
            bench.answer_ask(201, now);
            bench.posts(now);
        }
        notes.append(&mut bench.reservations);
    }
    assert!((290..=300).contains(&asked), "{asked}");
}

#[test]
fn a_kill_of_the_scheduler_leaves_no_more_open_than_what_it_has_posted() {
    let mut bench = after(0, SignedDuration::ZERO);
    for seq in 1..=20 {
        bench.put(seq, None, at(0));
    }
    let first = bench.posts(at(0)).len();
    assert_eq!(
        (first, bench.reservations.last().map(|note| note.open)),
        (1, Some(1)),
        "the first shows the way"
    );
    bench.answer(1, 201, at(0));
    let more = bench.posts(at(0)).len() as u64;
    assert_eq!(bench.reservations.last().map(|note| (note.spent, note.open)), Some((1, more)));
    assert!(bench.reservations.len() == 2 && more == LIMITS.concurrency as u64, "{:?}", bench.reservations);
}
