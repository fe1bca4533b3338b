//! What goes first, what an account may post, and whose way an event takes.

use std::collections::BTreeSet;

use super::*;
use crate::spool::RANKS;

/// An event of the team `soc` or `soc1`, as bad as that, which tells its severity.
pub(super) fn event(seq: u64, team: &str, severity: Severity, lane: Option<&str>) -> Queued {
    Queued { team: team.to_owned(), severity: Some(severity), ..queued(seq, lane) }
}

/// Lets everything go that may until nothing is left, answering at once. When each event went.
pub(super) fn drain(bench: &mut Bench, from: Timestamp) -> Vec<(Timestamp, u64)> {
    let mut posted = Vec::new();
    let mut now = from;
    while !bench.spool.is_empty() {
        let (then, posts) = bench.next_posts(now);
        now = then;
        for seq in posts {
            posted.push((now, seq));
            bench.answer(seq, 201, now);
        }
        while !bench.asks.is_empty() {
            bench.answer_ask(201, now);
        }
    }
    posted
}

pub(super) fn seqs(posted: &[(Timestamp, u64)]) -> Vec<u64> {
    posted.iter().map(|&(_, seq)| seq).collect()
}

#[test]
fn the_most_urgent_goes_first_then_the_oldest_over_all_teams_of_an_account() {
    let mut bench = Bench::with(Plan::Free, &["a", "a"]);
    use Severity::{Critical, High, Info, Low, Medium};
    for (seq, severity) in [(1, Info), (2, Low), (3, Medium), (4, High), (5, Critical), (6, Critical)] {
        let team = if seq % 2 == 0 { "soc" } else { "soc1" };
        bench.commit(event(seq, team, severity, None), at(0));
    }
    bench.put(7, None, at(0));
    assert_eq!(seqs(&drain(&mut bench, at(0))), [5, 6, 4, 3, 7, 2, 1]);
}

#[test]
fn an_account_never_posts_more_than_its_plan_and_a_critical_page_overtakes_a_hundred() {
    let mut bench = Bench::with(Plan::Free, &["a", "a"]);
    for seq in 1..=100 {
        bench.commit(event(seq, "soc", Severity::Info, None), at(0));
    }
    let first = bench.posts(at(0));
    for &seq in &first {
        bench.answer(seq, 201, at(0));
    }
    let asked = bench.asks.len();
    bench.answer_ask(201, at(0));
    assert_eq!(first.len() + asked + drain_now(&mut bench, at(0)).len(), 10, "the question counts too");
    bench.commit(event(101, "soc1", Severity::Critical, None), at(1));
    let posted = drain(&mut bench, at(1));
    assert_eq!(posted[0], (at(16), 101), "as soon as the window lets anything go");
    for (n, &(then, _)) in posted.iter().enumerate() {
        let within = posted[n..].iter().take_while(|(at, _)| at.duration_since(then).as_secs() < 15);
        assert!(within.count() <= 10);
    }
    assert!(bench.reservations.len() < 60, "{} writes for 101 posts", bench.reservations.len());
}

/// What may go at this very moment.
pub(super) fn drain_now(bench: &mut Bench, now: Timestamp) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let posts = bench.posts(now);
        if posts.is_empty() {
            return all;
        }
        for &seq in &posts {
            bench.answer(seq, 201, now);
        }
        all.extend(posts);
    }
}

#[test]
fn a_close_costs_the_budget_what_a_page_does() {
    let mut bench = Bench::with(Plan::Free, &["a"]);
    for seq in 1..=12 {
        let close = crate::event::Status::Resolved;
        bench.commit(Queued { status: close, ..queued(seq, Some(&format!("lane {seq}"))) }, at(0));
    }
    let posted = drain(&mut bench, at(0));
    assert_eq!(posted.iter().filter(|(then, _)| *then < at(15)).count(), 10);
}

#[test]
fn what_is_urgent_finds_a_budget_though_it_has_to_wait_for_an_answer() {
    let mut bench = Bench::with(Plan::Free, &["a", "a"]);
    bench.commit(event(1, "soc", Severity::Info, None), at(0));
    bench.commit(event(2, "soc1", Severity::Info, None), at(0));
    drain(&mut bench, at(0));
    for seq in 3..=40 {
        bench.commit(event(seq, "soc1", Severity::Info, None), at(60));
    }
    let places = LIMITS.concurrency as u64;
    for seq in 41..=41 + places {
        bench.commit(event(seq, "soc", Severity::Critical, None), at(60));
    }
    let first = bench.posts(at(60));
    assert_eq!(first, (41..41 + places).collect::<Vec<_>>(), "all places of the team are taken");
    bench.answer(41, 201, at(61));
    assert_eq!(bench.posts(at(61))[0], 41 + places);
}

#[test]
fn a_team_that_is_tried_first_leaves_the_budget_to_what_is_more_urgent() {
    let mut bench = Bench::with(Plan::Free, &["a", "a"]);
    for seq in 1..=20 {
        bench.commit(event(seq, "soc1", Severity::Info, None), at(0));
    }
    for seq in 21..=30 {
        bench.commit(event(seq, "soc", Severity::Critical, None), at(0));
    }
    let probes = bench.posts(at(0));
    assert_eq!(probes, [21], "one of the urgent ones, and none of the others beside it");
    bench.answer(21, 201, at(1));
    let posted = drain_now(&mut bench, at(1));
    assert_eq!(posted[..7], [22, 23, 24, 25, 26, 27, 28], "{posted:?}");
}

#[test]
fn accounts_do_not_share_a_budget() {
    let mut bench = Bench::with(Plan::Free, &["a", "b"]);
    for seq in 1..=40 {
        bench.commit(event(seq, if seq % 2 == 0 { "soc" } else { "soc1" }, Severity::High, None), at(0));
    }
    assert_eq!(drain_now(&mut bench, at(0)).len(), 20);
}

#[test]
fn a_critical_event_behind_more_than_fits_into_memory_goes_first() {
    let mut bench = Bench::open();
    for seq in 2..=5_000 {
        bench.spool.insert(seq, event(seq, "soc", Severity::Info, None));
    }
    bench.spool.insert(4_000, event(4_000, "soc", Severity::Critical, None));
    bench.spool.insert(4_500, event(4_500, "soc", Severity::Low, None));
    bench.scheduler.wake(at(1));
    assert_eq!(bench.posts(at(1))[..2], [4_000, 4_500]);
    // And one that comes while more waits on disk than there is room for.
    bench.commit(event(5_001, "soc", Severity::High, None), at(2));
    bench.answer(4_000, 201, at(2));
    assert_eq!(bench.posts(at(2)), [5_001]);
}

#[test]
fn what_must_go_before_a_critical_event_goes_with_its_urgency() {
    let mut bench = Bench::open();
    for seq in 2..=9 {
        bench.commit(event(seq, "soc", Severity::High, Some("others")), at(1));
    }
    bench.commit(event(10, "soc", Severity::Info, Some("a")), at(1));
    bench.commit(event(11, "soc", Severity::Medium, Some("b")), at(1));
    bench.commit(event(12, "soc", Severity::Critical, Some("a")), at(1));
    assert_eq!(bench.posts(at(1)), [10, 2, 11]);
    bench.answer(10, 201, at(1));
    assert_eq!(bench.posts(at(1)), [12]);
}

#[test]
fn the_urgency_of_an_incident_counts_where_both_of_its_events_are_on_disk() {
    let mut bench = Bench::open();
    for seq in 2..=3_000 {
        bench.spool.insert(seq, event(seq, "soc", Severity::Medium, None));
    }
    bench.spool.insert(2_000, event(2_000, "soc", Severity::Info, Some("a")));
    bench.spool.insert(2_500, event(2_500, "soc", Severity::Critical, Some("a")));
    bench.spool.insert(2_600, event(2_600, "soc", Severity::Critical, Some("a")));
    bench.scheduler.wake(at(1));
    for expected in [2_000, 2_500, 2_600] {
        let posts = bench.posts(at(1));
        assert!(posts.contains(&expected), "{posts:?}");
        assert!(posts.iter().all(|&seq| seq <= 30 || seq == expected), "{posts:?}");
        bench.answer(expected, 201, at(1));
    }
}

#[test]
fn everything_on_disk_leaves_in_the_order_of_urgency_and_then_of_age() {
    for seed in 0..6 {
        let mut rng = Rng::with_seed(seed);
        let mut bench = Bench::with(Plan::Windows(vec![(3, SignedDuration::from_secs(5))]), &["a"]);
        let words = [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
        for seq in 1..=400 {
            let lane = (rng.u8(0..4) == 0).then(|| format!("lane {}", rng.u8(0..9)));
            let severity = words[if rng.u8(0..8) == 0 { rng.usize(0..5) } else { 0 }];
            bench.spool.insert(seq, event(seq, "soc", severity, lane.as_deref()));
        }
        let mut left = bench.spool.clone();
        let mut last = (at(0), BTreeSet::new());
        for (now, seq) in drain(&mut bench, at(0)) {
            let posted = left[&seq].clone();
            let lane = lane_of(&posted);
            // What went at the same time was still under way, and kept its lane.
            if last.0 != now {
                last = (now, BTreeSet::new());
            }
            let away = |urgent: &Urgent| last.1.contains(&lane_of(&urgent.head));
            let best = urgent_of(&left, (0, 0), usize::MAX).into_iter().find(|urgent| !away(urgent)).unwrap();
            last.1.insert(lane.clone());
            left.remove(&seq);
            let own = urgent_of(&left, (0, 0), usize::MAX).into_iter().find(|u| lane_of(&u.head) == lane);
            let urgency =
                own.map_or(RANKS, |own| own.rank).min(rank(posted.status, posted.severity, posted.stranger));
            assert_eq!(urgency, best.rank, "seed {seed}: {seq} before {}", best.head.seq);
        }
    }
}

#[test]
fn a_team_without_events_is_asked_for_its_secret_at_the_start() {
    let mut bench = Bench::with(Plan::Free, &["a", "a"]);
    bench.put(1, None, at(0));
    assert_eq!((bench.posts(at(0)), bench.asks.clone()), (vec![1], vec![1]));
    assert!(matches!(bench.answer_ask(404, at(0))[..], [Notice::Held { .. }]));
    assert_eq!(bench.scheduler.team(1).state(), State::Held);
    bench.answer(1, 201, at(0));
    assert!(bench.posts(at(59)).is_empty() && bench.asks.is_empty());
    bench.posts(at(60));
    bench.answer_ask(201, at(60));
    assert_eq!(bench.scheduler.team(1).state(), State::Open);
    assert!(bench.posts(at(86_400)).is_empty() && bench.asks.is_empty(), "one that is right is left alone");
}

#[test]
fn the_question_is_asked_again_until_it_is_answered() {
    let mut bench = Bench::new();
    let mut now = at(0);
    for _ in 0..5 {
        (now, _) = bench.next_posts(now);
        assert_eq!(bench.asks.len(), 1);
        bench.answer_ask(503, now);
        assert_eq!(bench.state(), State::Down);
    }
    (now, _) = bench.next_posts(now);
    bench.answer_ask(201, now);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn wrong_secrets_of_many_teams_leave_room_for_the_events_of_others() {
    let accounts = ["a"; 20];
    let mut bench = Bench::with(Plan::Commercial, &accounts);
    let mut wrong = Vec::new();
    let mut now = at(0);
    while now < at(600) {
        bench.posts(now);
        while !bench.asks.is_empty() {
            bench.answer_ask(404, now);
            wrong.push(now);
        }
        now += SignedDuration::from_secs(1);
    }
    for (n, &then) in wrong.iter().enumerate() {
        assert!(wrong[n..].iter().take_while(|at| at.duration_since(then).as_secs() < 60).count() <= 9);
    }
    assert!(wrong.len() >= 40);
}

#[test]
fn a_critical_event_of_a_team_that_is_held_stands_in_nobodys_way() {
    let mut bench = Bench::with(Plan::Commercial, &["a"; 7]);
    for team in 1..7 {
        bench.commit(event(team, &format!("soc{team}"), Severity::Critical, None), at(0));
    }
    for second in 0..120_i64 {
        let info = 100 + second.unsigned_abs();
        bench.commit(event(info, "soc", Severity::Info, None), at(second));
        let posts = bench.posts(at(second));
        assert!(posts.contains(&info), "at {second}: {posts:?}");
        for seq in posts {
            bench.answer(seq, if seq < 100 { 404 } else { 201 }, at(second));
        }
        while !bench.asks.is_empty() {
            bench.answer_ask(404, at(second));
        }
    }
}

#[test]
fn a_server_that_names_the_time_to_come_back_is_left_alone_until_then() {
    let unavailable = |seconds| Answer::Unavailable {
        reason: "answered 503".into(),
        retry_after: Some(SignedDuration::from_secs(seconds)),
        reached: Reached::Yes,
    };
    let mut bench = Bench::new();
    bench.put(1, None, at(0));
    bench.posts(at(0));
    bench.reply(1, unavailable(120), at(0));
    bench.put(2, None, at(5));
    assert_eq!(bench.next_posts(at(5)), (at(120), vec![2]));
    bench.answer(2, 201, at(120));
    assert_eq!(bench.posts(at(120)), [1]);
    bench.reply(1, unavailable(50), at(120));
    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.next_posts(at(120)), (at(170), vec![1]));
}

#[test]
fn a_post_whose_answer_was_lost_is_known_when_it_is_made_again() {
    let mut bench = Bench::open();
    for (seq, reached) in [(2, Reached::No), (3, Reached::Yes), (4, Reached::Perhaps)] {
        bench.put(seq, None, at(1));
        assert_eq!(bench.posts(at(1)), [seq]);
        let answer = Answer::Unavailable { reason: "lost".into(), retry_after: None, reached };
        bench.reply(seq, answer, at(1));
        bench.put(seq + 10, None, at(1));
        assert_eq!(bench.posts(at(1)), [seq + 10]);
        bench.answer(seq + 10, 201, at(1));
    }
    assert_eq!(bench.scheduler.team(0).doubles(), 0);
    assert_eq!(bench.posts(at(10)).len(), 3);
    assert_eq!(bench.scheduler.team(0).doubles(), 1);
}

/// Two teams of two accounts, the first held for a minute, with the second as its fallback.
fn held_with_fallback() -> Bench {
    let mut bench = Bench::with(Plan::Unlimited, &["a", "b"]);
    bench.scheduler.team_mut(0).fallback = Some(1);
    for seq in 1..=3 {
        bench.commit(event(seq, "soc", Severity::High, Some("a")), at(0));
    }
    assert_eq!(bench.posts(at(0)), [1]);
    bench.answer_ask(201, at(0));
    bench.answer(1, 404, at(0));
    assert_eq!(bench.state(), State::Held);
    bench
}

#[test]
fn a_team_that_is_held_for_long_hands_its_events_to_its_fallback() {
    let mut bench = held_with_fallback();
    let mut asks = 0;
    for minute in 1..10 {
        assert!(bench.posts(at(60 * minute)).is_empty());
        bench.answer_ask(404, at(60 * minute));
        asks += 1;
    }
    assert_eq!(asks, 9);
    assert_eq!(bench.posts(at(600)), [1], "still in order, one at a time");
    assert_eq!(bench.routes[&1], (0, 1, 1), "by the other team, at the cost of its account");
    assert_eq!(bench.asks, [0], "its own secret is still tried");
    bench.answer(1, 201, at(600));
    assert_eq!(bench.posts(at(600)), [2]);
    bench.answer(2, 201, at(600));
    bench.answer_ask(201, at(601));
    assert_eq!(bench.posts(at(601)), [3]);
    assert_eq!(bench.routes[&3], (0, 0, 0), "its own way is open again");
}

#[test]
fn a_fallback_that_does_not_take_events_either_keeps_them_waiting() {
    let mut bench = held_with_fallback();
    assert_eq!(bench.posts(at(600)), [1]);
    bench.answer_ask(404, at(600));
    bench.answer(1, 404, at(601));
    assert_eq!(bench.scheduler.team(1).state(), State::Held);
    assert!(bench.posts(at(602)).is_empty());
    assert_eq!(bench.asks, [1], "whether its secret is wrong as well is asked at once");
    bench.answer_ask(404, at(602));
    let (now, posts) = bench.next_posts(at(603));
    assert_eq!((now, posts, bench.asks.clone()), (at(660), vec![], vec![0]));
    bench.answer_ask(404, at(660));
    assert_eq!((bench.posts(at(662)), bench.asks.clone()), (vec![], vec![1]));
    bench.answer_ask(201, at(662));
    assert_eq!(bench.posts(at(662)), [1]);
    assert!(bench.spool.len() == 3);
}

#[test]
fn an_event_that_the_fallback_refuses_keeps_no_other_from_it_though_nobody_can_ask() {
    let mut bench = held_with_fallback();
    for team in &mut bench.scheduler.teams {
        let question = Answer::Refused { reason: "not understood".to_owned() };
        team.learn(&question, Whose::Question, at(0));
    }
    let mut taken = Vec::new();
    let mut now = at(599);
    while taken.len() < 5 {
        assert!(now < at(900), "stuck with {taken:?} at {now}: {:?}", bench.scheduler);
        if now == at(610) {
            for seq in 4..=8 {
                bench.commit(event(seq, "soc", Severity::Info, None), now);
            }
        }
        for seq in bench.posts(now) {
            // The first is one that a firewall dislikes, and it is more urgent than the others.
            let by_fallback = bench.routes[&seq].1 == 1;
            bench.answer(seq, if seq == 1 || !by_fallback { 403 } else { 201 }, now);
            taken.extend((seq != 1 && by_fallback).then_some(seq));
        }
        now += SignedDuration::from_secs(1);
    }
    taken.sort_unstable();
    assert_eq!(taken, [4, 5, 6, 7, 8]);
}

#[test]
fn what_was_held_before_a_restart_goes_to_the_fallback_as_if_there_had_been_none() {
    let mut bench = Bench::with(Plan::Unlimited, &["a", "b"]);
    bench.scheduler.team_mut(0).fallback = Some(1);
    bench.scheduler.was_held(0, at(-550), at(0));
    bench.commit(event(1, "soc", Severity::High, None), at(0));
    assert_eq!(bench.posts(at(0)), [1], "its own way is tried first");
    bench.answer_ask(201, at(0));
    bench.answer(1, 404, at(1));
    assert_eq!(bench.scheduler.team(0).held_since(), Some(at(-550)));
    assert!(bench.posts(at(49)).is_empty());
    assert_eq!(bench.posts(at(50)), [1]);
    assert_eq!(bench.routes[&1].1, 1);
    bench.answer(1, 201, at(50));
    let (now, _) = bench.next_posts(at(51));
    bench.answer_ask(201, now);
    assert_eq!(bench.scheduler.team(0).held_since(), None);
}

#[test]
fn what_is_withdrawn_before_it_leaves_is_not_posted() {
    let mut bench = Bench::open();
    bench.put(2, Some("a"), at(1));
    bench.put(3, Some("a"), at(1));
    bench.put(4, None, at(1));
    assert_eq!(bench.posts(at(1)), [2, 4]);
    assert!(!bench.scheduler.team_mut(0).withdraw(2, at(1)), "it is on its way");
    bench.spool.remove(&3);
    assert!(bench.scheduler.team_mut(0).withdraw(3, at(1)));
    bench.answer(2, 201, at(1));
    assert!(bench.posts(at(1)).is_empty());
}
