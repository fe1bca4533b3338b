//! What delivery asks beside the plain queue: what is most urgent, and what an account has posted.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use smtp2signl4::event::{Event, Severity, Status};
use smtp2signl4::spool::{Entry, Outcome, QUIET, Reservation, Spool, rank};

use crate::support::Enqueue;
use crate::{clock, event, mail, open, open_at, start};

/// The `n`th mail, whose event does that, is as bad as that and of that incident.
fn severe(n: u32, (status, severity): (Status, Option<Severity>), incident: Option<&str>) -> Entry {
    let event = Event { status, severity, external_id: incident.map(str::to_owned), ..event(n, "soc") };
    Entry { events: vec![event], ..mail(n, "soc") }
}

/// Rank, number and the oldest event of each incident, as the spool tells them page by page.
async fn urgent(spool: &Spool, page: usize) -> Vec<(u8, u64, u64)> {
    let (mut all, mut after) = (Vec::new(), (0, 0));
    loop {
        let found = spool.reader().urgent("soc", after, page).await.unwrap();
        all.extend(found.iter().map(|urgent| (urgent.rank, urgent.seq, urgent.head.seq)));
        match found.last() {
            Some(last) if found.len() == page => after = (last.rank, last.seq),
            _ => return all,
        }
    }
}

#[tokio::test]
async fn the_most_urgent_incidents_are_told_first_each_by_its_oldest_event() {
    use Severity::{Critical, High, Info, Low, Medium};
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let severities = [None, Some(Info), Some(Low), Some(Medium), Some(High), Some(Critical)];
    let mut rng = fastrand::Rng::with_seed(3);
    let mut queued = BTreeMap::new();
    for n in 0..300 {
        let incident = (rng.u8(0..3) > 0).then(|| format!("incident {}", rng.u8(0..40)));
        let severity = severities[rng.usize(0..severities.len())];
        let status = if rng.u8(0..4) == 0 { Status::Resolved } else { Status::New };
        let entry = severe(n, (status, severity), incident.as_deref());
        let Some(event) = spool.enqueue(entry).await.unwrap().pop() else { continue };
        if rng.u8(0..4) == 0 {
            let (seq, at) = (event.seq, start());
            spool.record(vec![Outcome::Delivered { seq, event_id: None, at, by_way: None }]).await.unwrap();
        } else {
            queued.insert(event.seq, event);
        }
    }
    let mut incidents: BTreeMap<String, (u8, u64, u64)> = BTreeMap::new();
    for event in queued.values() {
        let name = event.external_id.clone().unwrap_or_else(|| event.seq.to_string());
        let own = (rank(event.status, event.severity, event.stranger), event.seq);
        let known = incidents.entry(name).or_insert((own.0, own.1, event.seq));
        (known.0, known.1) = own.min((known.0, known.1));
    }
    let mut expected: Vec<_> = incidents.into_values().collect();
    expected.sort_unstable();
    assert!(expected.len() > 60 && expected.last().is_some_and(|&(rank, ..)| rank == QUIET));
    assert_eq!(urgent(&spool, 1_000).await, expected);
    assert_eq!(urgent(&spool, 7).await, expected);
    assert!(spool.reader().urgent("others", (0, 0), 10).await.unwrap().is_empty());
    spool.close().await;
}

#[tokio::test]
async fn what_was_posted_by_a_clock_that_was_ahead_is_of_the_time_when_it_was_put_right() {
    let folder = tempfile::tempdir().unwrap();
    let note = |hours: i64| Reservation {
        account: "a".to_owned(),
        at: start() + SignedDuration::from_hours(hours),
        spent: 3,
        open: 0,
    };
    let spool = open_at(folder.path(), &clock());
    for hours in [200, 201, 0, 1] {
        spool.reserve(note(hours)).await.unwrap();
    }
    // The notes of a second are one.
    let twice = Reservation { spent: 6, ..note(0) };
    assert_eq!(spool.reader().reservations("a").await.unwrap(), [note(0), twice, note(1)]);
    spool.close().await;
}

#[tokio::test]
async fn what_an_account_has_posted_is_kept_for_a_day_and_the_last_of_it_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let note = |account: &str, hours: i64, open| Reservation {
        account: account.to_owned(),
        at: start() + SignedDuration::from_hours(hours),
        spent: 3,
        open,
    };
    let spool = open_at(folder.path(), &clock);
    let notes = [note("a", 0, 5), note("a", 20, 4), note("b", 0, 2)];
    for note in &notes {
        spool.reserve(note.clone()).await.unwrap();
    }
    spool.close().await;
    let spool = open_at(folder.path(), &clock);
    assert_eq!(spool.reader().reservations("a").await.unwrap(), notes[..2]);
    spool.reserve(note("a", 30, 0)).await.unwrap();
    assert_eq!(spool.reader().reservations("a").await.unwrap(), [note("a", 20, 4), note("a", 30, 0)]);
    assert_eq!(spool.reader().reservations("b").await.unwrap(), [note("b", 0, 2)]);
    assert!(spool.reader().reservations("c").await.unwrap().is_empty());
    spool.close().await;
}
