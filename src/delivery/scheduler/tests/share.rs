//! What pages nobody: it goes behind all that pages, and does not wait for ever.

use super::order::{drain, drain_now, event, seqs};
use super::*;

/// An event of the first team that closes.
fn close(seq: u64, lane: Option<&str>) -> Queued {
    Queued { status: Status::Resolved, ..queued(seq, lane) }
}

#[test]
fn a_new_page_of_any_severity_passes_a_flood_of_closes() {
    let mut bench = Bench::with(Plan::Free, &["a"]);
    for seq in 1..=633 {
        let severity = (seq % 2 == 0).then_some(Severity::Critical);
        bench.commit(Queued { severity, ..close(seq, Some(&format!("incident {seq}"))) }, at(0));
    }
    let first = drain_now(&mut bench, at(0));
    assert_eq!(first, (1..=10).collect::<Vec<_>>(), "however bad it was, the oldest close goes first");
    bench.put(1_001, None, at(1));
    bench.commit(event(1_002, "soc", Severity::Info, None), at(1));
    bench.commit(event(1_003, "soc", Severity::Low, Some("incident 700")), at(1));
    let posted = drain(&mut bench, at(1));
    assert_eq!(seqs(&posted[..3]), [1_001, 1_003, 1_002]);
    assert_eq!(posted[2].0, at(16), "as soon as the window lets anything go");
    assert_eq!(posted.len(), 626);
}

#[test]
fn what_pages_nobody_has_every_fourth_post_beside_a_storm_of_pages() {
    let mut bench = Bench::open();
    for seq in 2..=400 {
        bench.commit(event(seq, "soc", Severity::High, None), at(1));
    }
    let waits = drain_some(&mut bench, 10);
    assert_eq!(waits.len(), 10);
    for seq in 401..=420 {
        bench.commit(close(seq, None), at(1));
    }
    let posted = drain_some(&mut bench, 80);
    for four in posted.chunks(4) {
        assert_eq!(four.iter().filter(|&&seq| seq > 400).count(), 1, "{posted:?}");
    }
    let closes: Vec<u64> = posted.iter().copied().filter(|&seq| seq > 400).collect();
    assert_eq!(closes, (401..=420).collect::<Vec<_>>(), "the oldest first");
}

/// The next so many that are posted, each answered at once.
fn drain_some(bench: &mut Bench, most: usize) -> Vec<u64> {
    let mut posted = Vec::new();
    let mut away = std::collections::VecDeque::new();
    while posted.len() < most {
        let posts = bench.posts(at(1));
        away.extend(posts.iter().copied());
        posted.extend(posts);
        let next = away.pop_front().expect("something goes");
        bench.answer(next, 201, at(1));
    }
    for seq in away {
        bench.answer(seq, 201, at(1));
    }
    posted.truncate(most);
    posted
}

#[test]
fn a_critical_page_hardly_ever_waits_for_a_close_and_a_storm_of_them_keeps_none_away() {
    let mut bench = Bench::with(Plan::Windows(vec![(1, SignedDuration::from_secs(1))]), &["a"]);
    bench.put(1, None, at(0));
    assert_eq!(bench.posts(at(0)), [1]);
    bench.answer(1, 201, at(0));
    for seq in 2..=5 {
        bench.commit(event(seq, "soc", Severity::High, None), at(0));
        bench.commit(close(seq + 10, None), at(0));
    }
    let mut now = at(0);
    for expected in [2, 3, 4] {
        let (then, posts) = bench.next_posts(now);
        assert_eq!(posts, [expected]);
        bench.answer(expected, 201, then);
        now = then;
    }
    for seq in 101..=140 {
        bench.commit(event(seq, "soc", Severity::Critical, None), now);
    }
    let order = seqs(&drain(&mut bench, now));
    assert_eq!(order[..12], (101..=112).collect::<Vec<_>>(), "it was the turn of a close");
    assert_eq!(order[12], 12);
    assert_eq!(order[13..28], (113..=127).collect::<Vec<_>>());
    assert_eq!(order[28], 13);
    assert_eq!(order[29..], (128..=140).chain([14, 5, 15]).collect::<Vec<_>>());
}

#[test]
fn a_close_behind_more_pages_than_fit_into_memory_has_its_share_too() {
    let mut bench = Bench::open();
    for seq in 2..=5_000 {
        bench.spool.insert(seq, event(seq, "soc", Severity::Medium, None));
    }
    for seq in [4_000, 4_500] {
        bench.spool.insert(seq, close(seq, Some("a")));
    }
    bench.spool.insert(4_600, close(4_600, None));
    bench.scheduler.wake(at(1));
    let posted = drain_some(&mut bench, 12);
    assert_eq!(posted.iter().copied().filter(|&seq| seq >= 4_000).collect::<Vec<_>>(), [4_000, 4_500, 4_600]);
    // And one that comes while more waits on disk than there is room for.
    bench.commit(close(5_001, None), at(1));
    assert!(drain_some(&mut bench, 5).contains(&5_001));
}

#[test]
fn a_close_goes_with_the_urgency_of_the_page_behind_it() {
    let mut bench = Bench::open();
    for seq in 2..=9 {
        bench.commit(event(seq, "soc", Severity::High, Some("others")), at(1));
    }
    bench.commit(close(10, Some("a")), at(1));
    bench.commit(close(11, Some("b")), at(1));
    bench.commit(event(12, "soc", Severity::Critical, Some("a")), at(1));
    assert_eq!(bench.posts(at(1)), [10, 2, 11]);
    bench.answer(10, 201, at(1));
    assert_eq!(bench.posts(at(1)), [12]);
}

#[test]
fn a_team_of_pages_leaves_room_for_the_closes_of_another() {
    let mut bench = Bench::with(Plan::Free, &["a", "a"]);
    for seq in 1..=100 {
        bench.commit(event(seq, "soc", Severity::High, None), at(0));
    }
    bench.commit(Queued { team: "soc1".to_owned(), ..close(200, None) }, at(0));
    let order = seqs(&drain(&mut bench, at(0)));
    let place = order.iter().position(|&seq| seq == 200).unwrap();
    assert!(place < 10, "{place}");
}
