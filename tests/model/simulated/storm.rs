//! A storm of ten thousand mails in a minute: few pages name them all.

use super::history::{Account, Aims, Deed, History, Site, Step};
use super::run;
use crate::record::{MINUTE, Of, Status};
use crate::storm::{MAILS, assert_few_pages, letter};

/// Mails that come at the same time: as many sessions as a sender opens.
const SESSIONS: u16 = 50;

/// As many mails as there are incidents, over a minute.
fn all(status: Status) -> impl Iterator<Item = Step> {
    let crowds = MAILS / SESSIONS;
    (0..crowds).map(move |crowd| {
        let letters = (0..SESSIONS).map(|n| letter(crowd * SESSIONS + n, status)).collect();
        // Handing in takes a few of them.
        Step { after: MINUTE / i64::from(crowds) - 10, deed: Deed::Crowd(letters) }
    })
}

fn step(after: i64, deed: Deed) -> Step {
    Step { after, deed }
}

#[test]
fn ten_thousand_mails_in_a_minute_end_in_few_pages_that_name_them_all() {
    let site = Site {
        quiet: 10 * MINUTE,
        acknowledged_quiet: 60 * MINUTE,
        hold: 0,
        storm: Some((5 * MINUTE, 5 * MINUTE)),
        concurrency: 16,
        timeout: 30_000,
        fallback_after: 10 * MINUTE,
        probe: true,
        aims: Aims([Some(0); 3]),
    };
    let mut steps: Vec<Step> = all(Status::New).collect();
    steps.push(step(30 * MINUTE, Deed::Look));
    let over = steps.iter().map(|step| step.after).sum::<i64>();
    steps.extend(all(Status::Resolved));
    // Long after, one of them opens again, and pages as any other.
    steps.push(step(60 * MINUTE, Deed::Mail(letter(1, Status::New))));
    let history = History { seed: 1, account: Account { commercial: false, told: true }, site, steps };
    let (record, breaches) = run(&history);
    assert!(breaches.is_empty(), "{breaches:#?}");

    let after = record.events.iter().max_by_key(|event| event.serial).expect("there are some");
    assert_few_pages(&record, 20, 2..=8, after.begun);
    assert_eq!(record.lines_by_name()[&after.name()].state, "delivered", "the next open pages");

    // The digest of the storm names all that it folded, and at last it is closed.
    let folded = record.lines().iter().filter(|line| line.state == "folded").count() as u64;
    let digests =
        || record.posts.iter().filter(|post| post.is_taken() && matches!(post.of, Of::Digest { .. }));
    let named = digests().filter(|post| post.sent < over).filter_map(|post| match post.of {
        Of::Digest { folded, names_the_list: true, .. } => Some(folded),
        _ => None,
    });
    assert_eq!(named.max(), Some(folded));
    let last = digests().max_by_key(|post| post.sent).map(|post| &post.of);
    assert!(matches!(last, Some(Of::Digest { closes: true, .. })), "{last:?}");
}
