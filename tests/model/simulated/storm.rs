//! A storm of ten thousand mails in a minute: few pages name them all.

use std::collections::BTreeSet;

use super::history::{Account, Aims, Deed, History, Site, Step};
use super::run;
use crate::letter::Letter;
use crate::record::{MINUTE, Of, Status};

/// Mails of the storm.
const MAILS: u16 = 10_000;

/// Mails that come at the same time: as many sessions as a sender opens.
const SESSIONS: u16 = 50;

/// Every so manieth is critical.
const CRITICAL: u16 = 200;

fn letter(incident: u16, status: Status) -> Letter {
    let severity = Some(if incident.is_multiple_of(CRITICAL) { 0 } else { 3 });
    // Incidents whose rules say something of repeats would be something else.
    let incident = Some(incident / 5 * 8 + incident % 5);
    Letter { teams: vec![0], incident, status, severity, source: 0, refused: false }
}

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

    let taken = record.posts.iter().filter(|post| post.is_taken());
    let single: BTreeSet<u32> = taken
        .filter_map(|post| match post.of {
            Of::Event { serial, .. } if serial <= u32::from(MAILS) => Some(serial),
            _ => None,
        })
        .collect();
    let critical = u32::from(MAILS / CRITICAL);
    // What comes before it is known to be a storm, and what is critical.
    assert!(single.len() as u32 <= 20 + critical, "{} pages", single.len());
    let is_critical = |serial: u32| (serial - 1).is_multiple_of(u32::from(CRITICAL));
    assert_eq!(single.iter().filter(|&&serial| is_critical(serial)).count() as u32, critical);
    let digests =
        || record.posts.iter().filter(|post| post.is_taken() && matches!(post.of, Of::Digest { .. }));
    assert!((2..=8).contains(&digests().count()), "{}", digests().count());

    let folded = record.lines().iter().filter(|line| line.state == "folded");
    let folded: BTreeSet<u32> = folded.filter_map(|line| line.serial).collect();
    assert!(folded.is_disjoint(&single));
    assert_eq!(folded.len() + single.len(), usize::from(MAILS), "each is named, by itself or by a digest");
    let named = digests().filter(|post| post.sent < over).filter_map(|post| match post.of {
        Of::Digest { folded, names_the_list: true, .. } => Some(folded),
        _ => None,
    });
    assert_eq!(named.max(), Some(folded.len() as u64));

    // What closes what was folded is kept with it, what closes a page is sent, and at last the digest is closed.
    let closes = record.events.iter().filter(|event| event.status == Status::Resolved);
    let closes: Vec<u32> = closes.map(|event| event.serial).collect();
    let sent: BTreeSet<u32> =
        closes.iter().copied().filter(|serial| single.contains(&(serial - u32::from(MAILS)))).collect();
    let delivered = record.lines().iter().filter(|line| line.state == "delivered");
    let delivered: BTreeSet<u32> = delivered.filter_map(|line| line.serial).collect();
    assert_eq!(closes.len(), usize::from(MAILS));
    assert!(closes.iter().all(|serial| delivered.contains(serial) == sent.contains(serial)));
    let last = digests().max_by_key(|post| post.sent).map(|post| &post.of);
    assert!(matches!(last, Some(Of::Digest { closes: true, .. })), "{last:?}");
    assert!(delivered.contains(&(2 * u32::from(MAILS) + 1)), "the next open pages");
}
