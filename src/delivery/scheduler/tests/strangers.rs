//! What strangers sent goes behind everything of known senders, and goes all the same.

use super::order::{drain, event, seqs};
use super::*;

/// An event of a stranger, who says that it is critical.
fn stranger(seq: u64, lane: Option<&str>) -> Queued {
    Queued { stranger: true, ..event(seq, "soc", Severity::Critical, lane) }
}

fn later(seconds: i64) -> Timestamp {
    at(60 + seconds)
}

/// A bench of one team on a free account, whose gate a first event has opened a minute before.
fn bench() -> Bench {
    let mut bench = Bench::with(Plan::Free, &["a"]);
    bench.commit(event(1, "soc", Severity::High, None), at(0));
    assert_eq!(bench.posts(at(0)), [1]);
    bench.answer(1, 201, at(0));
    bench
}

#[test]
fn three_hundred_critical_mails_of_a_stranger_make_no_critical_one_of_a_known_sender_wait() {
    for second in [0, 1, 7, 15, 16, 40, 100, 599] {
        for under_way in [false, true] {
            let mut bench = bench();
            for seq in 2..302 {
                bench.commit(stranger(seq, None), later(0));
            }
            let mut now = later(0);
            while now < later(second) {
                for seq in bench.posts(now) {
                    bench.answer(seq, 201, now);
                }
                now += SignedDuration::from_millis(500);
            }
            if under_way {
                // All of them that may be under way are, and nobody answers.
                bench.posts(now);
            }
            bench.commit(event(1_000, "soc", Severity::Critical, None), now);
            assert_eq!(bench.posts(now).first(), Some(&1_000), "at once, in second {second}");
        }
    }
}

#[test]
fn no_event_of_a_stranger_goes_before_any_of_a_known_sender_not_even_by_a_share() {
    let mut bench = bench();
    for n in 0..60 {
        bench.commit(stranger(2 + 3 * n, None), later(0));
        let severity = if n % 2 == 0 { Severity::Info } else { Severity::High };
        bench.commit(event(3 + 3 * n, "soc", severity, None), later(0));
        let close = Queued { status: Status::Resolved, ..event(4 + 3 * n, "soc", Severity::Low, None) };
        bench.commit(close, later(0));
    }
    let order = seqs(&drain(&mut bench, later(0)));
    assert_eq!(order.len(), 180);
    let strange: Vec<_> = order.iter().map(|seq| (seq - 2) % 3 == 0).collect();
    assert!(strange.is_sorted(), "{order:?}");
    let closes = order[..60].iter().filter(|&&seq| (seq - 2) % 3 == 2).count();
    assert!((12..=18).contains(&closes), "closes keep their share of the pages: {closes}");
}

#[test]
fn where_nothing_of_known_senders_waits_those_of_strangers_go_by_half_of_the_limit() {
    let mut bench = bench();
    for seq in 2..102 {
        bench.commit(stranger(seq, None), later(0));
    }
    let posted = drain(&mut bench, later(0));
    assert_eq!(posted.len(), 100, "none waits for ever");
    for (n, &(first, _)) in posted.iter().enumerate() {
        let within = posted[n..].iter().take_while(|(at, _)| at.duration_since(first).as_secs() < 15).count();
        assert!(within <= 5, "{within} of 10 in 15 s");
    }
    assert!(posted.last().unwrap().0 <= later(20 * 16), "{:?}", posted.last());
}

#[test]
fn the_events_of_an_incident_leave_in_order_whoever_sent_them() {
    let mut bench = bench();
    bench.commit(stranger(2, Some("a")), later(0));
    bench.commit(event(3, "soc", Severity::Critical, None), later(0));
    let close = Queued { status: Status::Resolved, ..event(4, "soc", Severity::Low, Some("a")) };
    bench.commit(close, later(0));
    assert_eq!(seqs(&drain(&mut bench, later(0))), [3, 2, 4]);
}

#[test]
fn a_flood_of_strangers_on_disk_hides_nothing_of_known_senders_behind_it() {
    let mut bench = bench();
    for seq in 2..2_000 {
        bench.spool.insert(seq, stranger(seq, None));
    }
    bench.spool.insert(2_000, event(2_000, "soc", Severity::Low, None));
    bench
        .spool
        .insert(2_001, Queued { status: Status::Resolved, ..event(2_001, "soc", Severity::Low, None) });
    bench.scheduler.wake(later(0));
    assert_eq!(bench.posts(later(0))[..2], [2_000, 2_001]);
}
