//! What is folded in a storm, how its digest tells of it, and what a restart changes of that: nothing.

use jiff::SignedDuration;
use smtp2signl4::event::{Event, Repeat, Severity, Status};
use smtp2signl4::incident;
use smtp2signl4::mail::{Envelope, Origin};
use smtp2signl4::spool::{Entry, Filter, State, StormState, Told};

use crate::incidents::{Site, defaults, other};
use crate::support::Enqueue;
use crate::{id, mail, start};

fn stormy() -> incident::Config {
    let storm = incident::Storm { after: Some(3), ..incident::Storm::default() };
    incident::Config { storm: Some(storm), ..defaults() }
}

#[tokio::test]
async fn in_a_storm_the_first_page_singly_the_rest_is_folded_and_critical_never_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    let mut states = Vec::new();
    for n in 0..10 {
        states.push(site.state(other(n)).await);
    }
    assert_eq!(states[..3], [State::Queued; 3]);
    assert_eq!(states[3..], [State::Folded; 7]);
    let critical = Event { severity: Some(Severity::Critical), ..other(11) };
    assert_eq!(site.state(critical).await, State::Queued);
    let calm = Event { source_system: Some("Another tool".into()), ..other(12) };
    assert_eq!(site.state(calm).await, State::Queued, "no other source is folded");
    let notice = Entry { events: vec![other(13)], content: None, ..mail(0, "soc") };
    let envelope = smtp2signl4::mail::Envelope { origin: Origin::Gateway, ..notice.envelope.clone() };
    assert_eq!(site.entry(Entry { envelope, ..notice }).await[0].state, State::Queued, "nor a notice");

    // All are kept, and linked to their digest, also after a restart.
    site = site.again(folder.path(), stormy()).await;
    assert_eq!(site.state(other(14)).await, State::Folded);
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    assert_eq!((storm.folded, storm.open, storm.told, storm.told_at), (8, 8, 0, None));
    assert_eq!((storm.source.as_deref(), storm.state), (Some("Tool"), StormState::Raging));
    let filter = Filter { digest: Some(storm.id), ..Filter::default() };
    let listed = site.spool.reader().list(filter).await.unwrap();
    assert_eq!(listed.len(), 8);
    assert!(listed.iter().all(|event| event.digest == Some(storm.id) && event.state == State::Folded));
    let folded = site.spool.reader().folded(storm.id, 0, 3).await.unwrap();
    assert_eq!(
        folded.iter().map(|event| &*event.title).collect::<Vec<_>>()[..2],
        ["Disk 3 is full", "Disk 4 is full"]
    );
}

#[tokio::test]
async fn a_folded_incident_is_closed_by_its_own_close_and_what_the_digest_told_is_noted_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    for n in 0..5 {
        site.put(other(n)).await;
    }
    assert_eq!(site.state(other(4)).await, State::Counted, "the digest tells of it");
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    let told = Told {
        storm: storm.id,
        state: StormState::Raging,
        folded: 2,
        severity: None,
        excess_at: storm.excess_at,
    };
    let digest = |n| Entry { id: id(n), content: None, ..mail(n, "soc") };
    assert_eq!(site.spool.put_digest(digest(100), told.clone()).await, Ok(true));
    assert_eq!(site.spool.reader().storms().await.unwrap()[0].told, 2);

    // Not closed while an incident is open; nothing of the digest is kept then.
    let closed = Told { state: StormState::Closed, ..told.clone() };
    assert_eq!(site.spool.put_digest(digest(101), closed.clone()).await, Ok(false));
    assert_eq!(site.spool.reader().show(id(101)).await.unwrap(), None);
    for n in 3..5 {
        assert_eq!(site.state(Event { status: Status::Resolved, ..other(n) }).await, State::Counted);
    }
    // Not over if there was another excess since its maker looked.
    site.pass(1);
    let early = Told { excess_at: start() - SignedDuration::from_secs(1), state: StormState::Over, ..told };
    assert_eq!(site.spool.put_digest(digest(102), early).await, Ok(false));
    assert_eq!(site.spool.put_digest(digest(103), closed).await, Ok(true));
    assert_eq!(site.spool.reader().storms().await.unwrap(), []);
    assert_eq!(site.state(other(50)).await, State::Queued, "it is over");
}

#[tokio::test]
async fn a_digest_takes_the_place_of_one_before_it_that_still_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    for n in 0..5 {
        site.put(other(n)).await;
    }
    site.deliver().await;
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    let told = Told {
        storm: storm.id,
        state: StormState::Raging,
        folded: 2,
        severity: None,
        excess_at: storm.excess_at,
    };
    // All of them have the same key.
    for n in [100, 110, 120] {
        let events = vec![Event { repeat: Some(Repeat::Update), ..other(200) }];
        let digest = Entry { id: id(n), content: None, events, ..mail(n, "soc") };
        assert_eq!(site.spool.put_digest(digest, told.clone()).await, Ok(true));
        let waiting = site.spool.reader().waiting("soc", 0, 10).await.unwrap();
        assert_eq!(waiting.iter().map(|event| event.mail).collect::<Vec<_>>(), [id(n)]);
        if n == 110 {
            site.deliver().await;
        }
    }
    assert_eq!((site.count(State::Counted).await, site.count(State::Delivered).await), (1, 4));
}

#[tokio::test]
async fn the_flood_of_one_sender_takes_no_page_of_another_along_where_no_product_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    let from = |sender: &str, n: u32| {
        let events = vec![Event { source_system: None, ..other(n) }];
        let envelope = Envelope { reverse_path: sender.to_owned(), ..mail(0, "soc").envelope };
        Entry { envelope, events, ..mail(0, "soc") }
    };
    for n in 0..10 {
        let expected = if n < 3 { State::Queued } else { State::Folded };
        assert_eq!(site.entry(from("Backup@example.org", n)).await[0].state, expected, "{n}");
    }
    assert_eq!(site.entry(from("nas@example.org", 20)).await[0].state, State::Queued);
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    assert_eq!(storm.source.as_deref(), Some("backup@example.org"));
}

#[tokio::test]
async fn a_mail_that_was_refused_leaves_no_trace_in_what_storms_are_measured_by() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    site.put(other(0)).await;
    let taken = Entry { id: id(1), events: (1..9).map(other).collect(), ..mail(0, "soc") };
    assert!(site.spool.enqueue(taken).await.is_err());
    assert_eq!(site.state(other(1)).await, State::Queued);
    assert_eq!(site.spool.reader().storms().await.unwrap(), []);
}

#[tokio::test]
async fn a_folded_incident_that_becomes_critical_pages_by_itself_and_its_close_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    assert_eq!(states(&mut site, 0, 5).await[3..], [State::Folded; 2]);
    site.deliver().await;
    let critical = Event { severity: Some(Severity::Critical), ..other(4) };
    assert_eq!(site.state(critical).await, State::Queued);
    let close = |n| Event { status: Status::Resolved, ..other(n) };
    assert_eq!(site.state(close(3)).await, State::Counted, "the digest is closed instead");
    assert_eq!(site.state(close(4)).await, State::Queued);
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    assert_eq!((storm.folded, storm.open), (2, 0));
}

/// Puts so many pages from `n` on and tells where each stands.
async fn states(site: &mut Site, n: u32, count: u32) -> Vec<State> {
    let mut states = Vec::new();
    for n in n..n + count {
        states.push(site.state(other(n)).await);
    }
    states
}

#[tokio::test]
async fn a_restart_before_a_storm_does_not_begin_to_count_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    assert_eq!(states(&mut site, 0, 2).await, [State::Queued; 2]);
    site.deliver().await;
    site.clock.advance(SignedDuration::from_secs(50));
    site = site.again(folder.path(), stormy()).await;
    assert_eq!(states(&mut site, 3, 2).await, [State::Queued, State::Folded]);
    site = site.again(folder.path(), stormy()).await;
    let calm = Event { source_system: Some("Another tool".into()), ..other(5) };
    assert_eq!(site.state(calm).await, State::Queued, "each source is counted by itself");
}

#[tokio::test]
async fn what_paged_a_minute_before_a_restart_or_was_a_notice_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    for n in 0..3 {
        let entry = Entry { events: vec![other(n)], content: None, ..mail(0, "soc") };
        let envelope = smtp2signl4::mail::Envelope { origin: Origin::Gateway, ..entry.envelope.clone() };
        assert_eq!(site.entry(Entry { envelope, ..entry }).await[0].state, State::Queued);
    }
    site = site.again(folder.path(), stormy()).await;
    assert_eq!(states(&mut site, 3, 3).await, [State::Queued; 3]);
    site.pass(2);
    site = site.again(folder.path(), stormy()).await;
    assert_eq!(states(&mut site, 6, 4).await[..3], [State::Queued; 3]);
}

#[tokio::test]
async fn a_storm_goes_on_at_once_after_a_restart_and_is_not_taken_for_calm() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    states(&mut site, 0, 6).await;
    site.clock.advance(SignedDuration::from_secs(30));
    site = site.again(folder.path(), stormy()).await;
    assert_eq!(states(&mut site, 6, 2).await, [State::Folded; 2]);
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    assert_eq!((storm.folded, storm.excess_at), (5, start() + SignedDuration::from_secs(30)));
}

#[tokio::test]
async fn a_storm_is_measured_by_what_the_account_of_its_team_lets_go_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    site.spool.allow("soc", 150);
    // A plan that is no more than a free one, of a team with an account of its own.
    site.spool.allow("ops", 10);
    assert_eq!(states(&mut site, 0, 100).await, [State::Queued; 100]);
    let ops = |n| Event { team: "ops".into(), ..other(n) };
    for n in 0..21 {
        let expected = if n < 20 { State::Queued } else { State::Folded };
        assert_eq!(site.state(ops(n)).await, expected, "page {n}");
    }
    site = site.again(folder.path(), defaults()).await;
    assert_eq!(states(&mut site, 100, 200).await, [State::Queued; 200]);
    assert_eq!(site.state(other(300)).await, State::Folded);
}

#[tokio::test]
async fn what_is_folded_without_an_external_id_is_told_by_its_digest_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), stormy());
    for n in 0..3 {
        site.put(other(n)).await;
    }
    let alone = Event { external_id: None, ..other(3) };
    assert_eq!(site.state(alone.clone()).await, State::Folded);
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    assert_eq!((storm.folded, storm.open, storm.keyless), (1, 0, 1));
    let folded = site.spool.reader().folded(storm.id, 0, 3).await.unwrap();
    assert_eq!(folded.iter().map(|event| &event.title).collect::<Vec<_>>(), [&alone.title]);
}
