//! What goes in comes out: order, outcomes, and what an operator may do.

use jiff::SignedDuration;
use smtp2signl4::event::{Event, Severity, Status};
use smtp2signl4::spool::{Entry, Error, Filter, Outcome, PutError, Queued, Selection, Spool, State};

use crate::support::Enqueue;
use crate::{clock, event, id, mail, open, open_at, start};

fn delivered(seq: u64) -> Outcome {
    Outcome::Delivered { seq, event_id: Some(format!("2518_{seq}")), at: start(), by_way: None }
}

fn deferred(seq: u64) -> Outcome {
    Outcome::Deferred {
        seq,
        attempts: 3,
        next_at: start() + SignedDuration::from_mins(5),
        reason: "503".into(),
        maybe_taken: false,
    }
}

fn failed(seq: u64) -> Outcome {
    Outcome::Failed { seq, at: start(), reason: "400 Bad Request".into(), maybe_taken: false }
}

async fn put(spool: &Spool, n: u32, team: &str) -> Queued {
    spool.enqueue(mail(n, team)).await.unwrap().remove(0)
}

async fn titles(spool: &Spool, team: &str) -> Vec<String> {
    let waiting = spool.reader().waiting(team, 0, 100).await.unwrap();
    waiting.iter().map(|event| title(&event.payload)).collect()
}

fn title(payload: &str) -> String {
    let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
    payload["Title"].as_str().unwrap().to_owned()
}

async fn states(spool: &Spool) -> Vec<State> {
    let listed = spool.reader().list(Filter::default()).await.unwrap();
    listed.iter().rev().map(|event| event.state).collect()
}

#[tokio::test]
async fn what_was_put_waits_after_a_restart_exactly_as_it_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut entry = mail(1, "soc");
    entry.events[0].severity = Some(Severity::High);
    entry.events.push(event(2, "soc"));
    let answered = spool.enqueue(entry.clone()).await.unwrap();
    assert_eq!(answered.len(), 2);
    assert_eq!(*answered[0].payload, entry.events[0].payload());
    spool.close().await;

    let spool = open(folder.path());
    assert_eq!(spool.reader().waiting("soc", 0, 10).await.unwrap(), answered);
    assert_eq!(spool.reader().waiting("soc", answered[0].seq, 10).await.unwrap(), answered[1..]);
    assert_eq!(spool.reader().waiting("soc", 0, 1).await.unwrap(), answered[..1]);
    assert_eq!(spool.reader().waiting("other", 0, 10).await.unwrap(), []);
    assert_eq!(spool.reader().content(entry.id).await.unwrap(), entry.content);
    let shown = spool.reader().show(entry.id).await.unwrap().unwrap();
    assert_eq!((shown.envelope, shown.story), (Some(entry.envelope), entry.story));
    assert_eq!(shown.events[0].payload.as_deref(), Some(&*answered[0].payload));
    assert_eq!(shown.events[0].listed.severity, Some(Severity::High));
}

#[tokio::test]
async fn a_listing_tells_how_urgent_an_event_is_and_whether_an_earlier_one_of_its_incident_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let of_incident = |n: u32, status, severity| {
        let event = Event { status, severity, external_id: Some("a".into()), ..event(n, "soc") };
        Entry { events: vec![event], ..mail(n, "soc") }
    };
    let open = spool.enqueue(of_incident(1, Status::New, Some(Severity::High))).await.unwrap();
    spool.enqueue(of_incident(2, Status::Resolved, None)).await.unwrap();
    put(&spool, 3, "soc").await;
    let listed = async || {
        let listed = spool.reader().list(Filter::default()).await.unwrap();
        listed.into_iter().rev().map(|e| (e.severity, e.status, e.behind)).collect::<Vec<_>>()
    };
    let (new, resolved) = (Some(Status::New), Some(Status::Resolved));
    let high = Some(Severity::High);
    assert_eq!(listed().await, [(high, new, false), (None, resolved, true), (None, new, false)]);
    spool.record(vec![delivered(open[0].seq)]).await.unwrap();
    assert_eq!(listed().await, [(high, new, false), (None, resolved, false), (None, new, false)]);
    spool.close().await;
}

#[tokio::test]
async fn numbers_grow_in_the_order_in_which_mails_were_put_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    // Ids tell nothing about the order.
    let early: Vec<_> = [5, 3, 4].iter().map(|&n| spool.enqueue(mail(n, "soc"))).collect();
    let mut seqs = Vec::new();
    for put in early {
        seqs.push(put.await.unwrap()[0].seq);
    }
    spool.close().await;
    let spool = open(folder.path());
    seqs.push(put(&spool, 1, "soc").await.seq);
    assert!(seqs.is_sorted(), "{seqs:?}");
    assert_eq!(titles(&spool, "soc").await, ["event 5", "event 3", "event 4", "event 1"]);
}

#[tokio::test]
async fn an_id_that_is_taken_is_refused_and_the_mail_that_has_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    put(&spool, 1, "soc").await;
    let second = Entry { id: id(1), ..mail(2, "soc") };
    assert_eq!(spool.enqueue(second).await, Err(PutError::IdTaken));
    assert_eq!(titles(&spool, "soc").await, ["event 1"]);
}

#[tokio::test]
async fn outcomes_are_kept_and_only_what_waits_is_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut seqs = Vec::new();
    for n in 1..=4 {
        seqs.push(put(&spool, n, "soc").await.seq);
    }
    spool.record(vec![delivered(seqs[0]), deferred(seqs[1]), failed(seqs[2])]).await.unwrap();
    spool.close().await;

    let spool = open(folder.path());
    assert_eq!(titles(&spool, "soc").await, ["event 2", "event 4"]);
    let again = &spool.reader().waiting("soc", 0, 1).await.unwrap()[0];
    assert_eq!((again.attempts, again.reason.as_deref()), (3, Some("503")));
    assert_eq!(again.next_at, start() + SignedDuration::from_mins(5));
    assert_eq!(states(&spool).await, [State::Delivered, State::Queued, State::Failed, State::Queued]);
    let found = spool.reader().find(seqs[0]).await.unwrap().unwrap();
    assert_eq!(found.event_id, Some(format!("2518_{}", seqs[0])));
    assert_eq!(spool.reader().find(99).await.unwrap(), None);
    let counts = spool.reader().counts().await.unwrap();
    assert_eq!(counts.len(), 1);
    let second = start() + SignedDuration::from_millis(2);
    assert_eq!((counts[0].queued, counts[0].failed, counts[0].oldest), (2, 1, Some(second)));
}

#[tokio::test]
async fn what_may_be_there_twice_is_counted_but_for_the_alert_that_is_meant_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let lost = |seq| Outcome::Deferred {
        seq,
        attempts: 1,
        next_at: start(),
        reason: "no answer within 30s".into(),
        maybe_taken: true,
    };
    let [once, twice, waits, never] = [
        put(&spool, 1, "soc").await,
        put(&spool, 2, "soc").await,
        put(&spool, 3, "ops").await,
        put(&spool, 4, "ops").await,
    ]
    .map(|queued| queued.seq);
    spool.record(vec![lost(once), lost(twice), lost(waits), deferred(never)]).await.unwrap();
    spool.record(vec![lost(twice), delivered(once), delivered(never)]).await.unwrap();
    let gone = Outcome::Failed { seq: twice, at: start(), reason: "given up".into(), maybe_taken: true };
    spool.record(vec![gone]).await.unwrap();
    assert_eq!(spool.reader().waiting("ops", 0, 9).await.unwrap()[0].unanswered, 1);

    let counts = spool.reader().counts().await.unwrap();
    let doubles: Vec<_> = counts.iter().map(|count| (count.team.as_str(), count.possible_doubles)).collect();
    assert_eq!(doubles, [("ops", 0), ("soc", 3)]);
    let filter = Filter { doubled: true, ..Filter::default() };
    let listed = spool.reader().list(filter).await.unwrap();
    let doubled: Vec<_> = listed.iter().map(|event| (event.seq, event.possible_doubles)).collect();
    assert_eq!(doubled, [(twice, 2), (once, 1)]);
}

#[tokio::test]
async fn a_list_is_filtered_and_goes_on_where_a_page_ended() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    for n in 1..=6 {
        let team = if n % 2 == 0 { "soc" } else { "ops" };
        let seq = put(&spool, n, team).await.seq;
        if n <= 2 {
            spool.record(vec![failed(seq)]).await.unwrap();
        }
    }
    let list = async |filter: Filter| {
        let listed = spool.reader().list(filter).await.unwrap();
        listed.into_iter().map(|event| event.title).collect::<Vec<_>>()
    };
    let all = Filter::default();
    assert_eq!(list(Filter { limit: 2, ..all.clone() }).await, ["event 6", "event 5"]);
    let page = spool.reader().list(Filter { limit: 2, ..all.clone() }).await.unwrap();
    assert_eq!(list(Filter { before: Some(page[1].seq), limit: 1, ..all.clone() }).await, ["event 4"]);
    assert_eq!(list(Filter { states: vec![State::Failed], ..all.clone() }).await, ["event 2", "event 1"]);
    let open = vec![State::Failed, State::Queued];
    assert_eq!(
        list(Filter { states: open, team: Some("soc".into()), ..all.clone() }).await,
        ["event 6", "event 4", "event 2"]
    );
    let first = &spool.reader().list(all).await.unwrap()[0];
    assert_eq!((first.id, first.from.as_str(), first.size), (id(6), "sender6@example.org", 64));
}

#[tokio::test]
async fn a_mail_that_a_rule_dropped_is_kept_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let entry = Entry { events: vec![], dropped: Some("rule `noise`".into()), ..mail(1, "soc") };
    assert_eq!(spool.enqueue(entry).await, Ok(vec![]));
    let listed = &spool.reader().list(Filter::default()).await.unwrap()[0];
    assert_eq!((listed.state, listed.team.as_deref()), (State::Dropped, None));
    assert_eq!(listed.reason.as_deref(), Some("rule `noise`"));
    assert!(spool.reader().content(id(1)).await.unwrap().is_some());

    // Nor is one that no rule cared for lost.
    spool.enqueue(Entry { events: vec![], ..mail(2, "soc") }).await.unwrap();
    assert_eq!(states(&spool).await, [State::Dropped, State::Dropped]);
}

#[tokio::test]
async fn retry_puts_failed_and_deferred_events_back_as_if_new_and_leaves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let spool = open_at(folder.path(), &clock);
    let mut seqs = Vec::new();
    for n in 1..=5 {
        seqs.push(put(&spool, n, "soc").await.seq);
    }
    spool
        .record(vec![delivered(seqs[0]), failed(seqs[1]), deferred(seqs[2]), failed(seqs[3])])
        .await
        .unwrap();
    clock.advance(SignedDuration::from_hours(80));

    let one = spool.retry(Selection::Mail(id(2))).await.unwrap();
    assert_eq!(one.iter().map(|event| event.seq).collect::<Vec<_>>(), [seqs[1]]);
    let late = start() + SignedDuration::from_hours(80);
    assert_eq!((one[0].attempts, one[0].next_at, one[0].accepted_at), (0, late, late));
    assert_eq!(spool.retry(Selection::Mail(id(1))).await, Ok(vec![]));
    assert_eq!(spool.retry(Selection::Mail(id(9))).await, Err(Error::NoSuchMail(id(9))));

    let all = spool.retry(Selection::All).await.unwrap();
    assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), seqs[2..4]);
    assert_eq!(titles(&spool, "soc").await, ["event 2", "event 3", "event 4", "event 5"]);
    let oldest = spool.reader().counts().await.unwrap()[0].oldest;
    assert_eq!(oldest, Some(start() + SignedDuration::from_millis(2)), "its age is that of its mail");
}

#[tokio::test]
async fn a_mail_judged_again_keeps_its_place_before_the_mails_that_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let first = put(&spool, 1, "soc").await.seq;
    put(&spool, 2, "soc").await;
    spool.record(vec![failed(first)]).await.unwrap();

    let story = serde_json::json!("judged again");
    let new = vec![event(11, "soc"), event(12, "soc")];
    let queued = spool.rejudge(id(1), new, None, story.clone()).await.unwrap();
    assert_eq!(queued.len(), 2);
    assert!(queued[0].seq > first, "the number of the old event is not used again");
    assert_eq!(titles(&spool, "soc").await, ["event 11", "event 12", "event 2"]);
    assert_eq!(spool.reader().show(id(1)).await.unwrap().unwrap().story, story);

    // An outcome of the old event that comes late does not hit a new one.
    spool.record(vec![failed(first)]).await.unwrap();
    assert_eq!(titles(&spool, "soc").await, ["event 11", "event 12", "event 2"]);

    // What was delivered stays.
    spool.record(vec![delivered(queued[0].seq)]).await.unwrap();
    spool.rejudge(id(1), vec![], Some("rule `noise`".into()), story.clone()).await.unwrap();
    assert_eq!(titles(&spool, "soc").await, ["event 2"]);
    let states: Vec<_> = states(&spool).await;
    assert_eq!(states.iter().filter(|&&state| state == State::Delivered).count(), 1);

    // Other mails start behind the whole place, also after a restart.
    spool.close().await;
    let spool = open(folder.path());
    put(&spool, 3, "soc").await;
    spool.rejudge(id(2), vec![event(21, "soc")], None, story).await.unwrap();
    assert_eq!(titles(&spool, "soc").await, ["event 21", "event 3"]);
}

#[tokio::test]
async fn a_mail_with_more_events_than_a_block_holds_is_taken_whole() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let events: Vec<Event> = (0..1024).map(|n| event(n, "soc")).collect();
    let queued = spool
        .enqueue(Entry { events, dropped: Some("for one team".into()), ..mail(1, "soc") })
        .await
        .unwrap();
    assert_eq!(queued.len(), 1024);
    spool.close().await;
    let spool = open(folder.path());
    let next = put(&spool, 2, "soc").await;
    assert!(next.seq > queued.last().unwrap().seq + 1);
    assert_eq!(spool.reader().show(id(1)).await.unwrap().unwrap().events.len(), 1025);
    let story = serde_json::Value::Null;
    let many = (0..1024).map(|n| event(n, "soc")).collect();
    assert_eq!(spool.rejudge(id(1), many, None, story).await, Err(Error::NoPlace(id(1))));
    assert_eq!(spool.reader().counts().await.unwrap()[0].queued, 1025);
}

#[tokio::test]
async fn what_an_operator_dropped_is_not_delivered_but_what_was_delivered_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let seq = put(&spool, 1, "soc").await.seq;
    let kept = put(&spool, 2, "soc").await.seq;
    spool.record(vec![delivered(kept)]).await.unwrap();
    assert_eq!(spool.drop(id(1)).await, Ok(1));
    assert_eq!(spool.drop(id(2)).await, Ok(0));
    assert_eq!(spool.drop(id(9)).await, Err(Error::NoSuchMail(id(9))));
    assert_eq!(titles(&spool, "soc").await, [""; 0]);

    // It was under way: a failure changes nothing, a success is a fact.
    spool.record(vec![deferred(seq), failed(seq)]).await.unwrap();
    assert_eq!(states(&spool).await, [State::Dropped, State::Delivered]);
    spool.record(vec![delivered(seq)]).await.unwrap();
    assert_eq!(states(&spool).await, [State::Delivered, State::Delivered]);
}

#[tokio::test]
async fn after_closing_nothing_is_taken_and_everything_before_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let clone = spool.clone();
    let puts: Vec<_> = (0..100)
        .map(|n| {
            tokio::spawn({
                let spool = spool.clone();
                async move { spool.enqueue(mail(n, "soc")).await.is_ok() }
            })
        })
        .collect();
    clone.close().await;
    let mut taken = 0;
    for put in puts {
        taken += usize::from(put.await.unwrap());
    }
    assert!(matches!(spool.enqueue(mail(200, "soc")).await, Err(PutError::Io(_))));
    let spool = open(folder.path());
    assert_eq!(spool.reader().waiting("soc", 0, 1000).await.unwrap().len(), taken);
}

#[tokio::test]
async fn a_damaged_event_does_not_hold_up_those_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    put(&spool, 1, "soc").await;
    put(&spool, 2, "soc").await;
    spool.close().await;
    let db = rusqlite::Connection::open(folder.path().join("spool.db")).unwrap();
    let first = "WHERE seq = (SELECT min(seq) FROM event)";
    for damage in ["payload = CAST(x'7b80' AS TEXT)", "severity = 'awful'", "next_at = 9000000000000000000"] {
        assert_eq!(db.execute(&format!("UPDATE event SET {damage} {first}"), []).unwrap(), 1);
    }
    db.execute("UPDATE mail SET envelope = '{', story = '' WHERE id = (SELECT min(id) FROM mail)", [])
        .unwrap();
    drop(db);

    let spool = open(folder.path());
    let waiting = spool.reader().waiting("soc", 0, 10).await.unwrap();
    assert_eq!((waiting.len(), &*waiting[0].payload), (2, "{\u{fffd}"));
    assert_eq!(title(&waiting[1].payload), "event 2");
    assert_eq!(states(&spool).await, [State::Queued, State::Queued]);
    assert_eq!(spool.reader().show(id(1)).await.unwrap().unwrap().envelope, None);
}

#[tokio::test]
async fn a_mails_events_go_to_another_team_each_once_and_what_is_under_way_is_told_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut entry = mail(1, "soc");
    entry.events.push(event(1, "net"));
    entry.events.push(event(2, "net"));
    entry.events.push(event(3, "soc"));
    let put = spool.enqueue(entry).await.unwrap();
    spool.record(vec![failed(put[0].seq), delivered(put[3].seq)]).await.unwrap();

    let moved = spool.retarget(id(1), "ops").await.unwrap();
    assert_eq!(moved.iter().map(|event| title(&event.payload)).collect::<Vec<_>>(), ["event 1", "event 2"]);
    assert_eq!(spool.reader().waiting("ops", 0, 10).await.unwrap(), moved);
    assert_eq!((titles(&spool, "net").await.len(), titles(&spool, "soc").await.len()), (0, 0));
    assert!(moved.iter().all(|event| event.attempts == 0 && event.reason.is_none()));
    let shown = spool.reader().show(id(1)).await.unwrap().unwrap();
    let why: Vec<_> = shown.events.iter().map(|event| event.listed.reason.as_deref()).collect();
    let instead = "sent to team ops instead";
    let before = format!("{instead}; before: 400 Bad Request");
    assert_eq!(why, [Some(before.as_str()), Some(instead), Some(instead), None, None, None]);

    // One of the old ones was under way.
    spool.record(vec![delivered(put[1].seq)]).await.unwrap();
    assert_eq!(spool.reader().waiting("ops", 0, 10).await.unwrap(), moved, "and the new ones still wait");
    let again = spool.retarget(id(1), "ops").await.unwrap();
    assert!(again.is_empty(), "what waits there already stays as it is");
    assert_eq!(spool.retarget(id(9), "ops").await, Err(Error::NoSuchMail(id(9))));
}
