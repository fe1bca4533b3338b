//! A storm of ten thousand mails in a minute, whichever driver ran it: few pages name them all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::letter::Letter;
use super::record::{Millis, Name, Of, Post, Record, Status};

/// Mails of the storm, each of an incident of its own.
pub const MAILS: u16 = 10_000;

/// Every so manieth is critical.
const CRITICAL: u16 = 200;

/// The mail that says this of the storm's `n`th incident.
pub fn letter(n: u16, status: Status) -> Letter {
    let severity = if n.is_multiple_of(CRITICAL) { 0 } else { 3 };
    // Incidents whose rules say something of repeats would be something else.
    Letter { status, ..Letter::open(n / 5 * 8 + n % 5, 0, severity) }
}

/// Each mail of the storm is told by a page of its own or in the digest, and those are few: so many `single` ones beside
/// those that are critical, and so many `digests`. What closes a page is sent, and what closes what was folded is not.
/// What comes from `end` on is of no storm.
pub fn assert_few_pages(record: &Record, single: usize, digests: RangeInclusive<usize>, end: Millis) {
    let taken = || record.posts.iter().filter(|post| post.is_taken());
    let pages: BTreeSet<Name> = taken()
        .filter_map(|post| match post.of {
            Of::Event { serial, team } => Some((serial, team)),
            _ => None,
        })
        .collect();
    // The incidents, and what became of the opens of each: a mail whose answer was lost is sent again.
    let lines = record.lines_by_name();
    let mut states: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let mut closes: BTreeMap<u16, Vec<bool>> = BTreeMap::new();
    for event in record.events.iter().filter(|event| event.kept.is_some() && event.begun < end) {
        let (Some(incident), Some(line)) = (event.incident, lines.get(&event.name())) else { continue };
        match event.status {
            Status::New => states.entry(incident).or_default().push(&line.state),
            _ => closes.entry(incident).or_default().push(pages.contains(&event.name())),
        }
    }
    assert_eq!(states.len(), usize::from(MAILS));
    let is_paged = |incident: u16| states[&incident].contains(&"delivered");
    let is_folded = |incident: u16| states[&incident].contains(&"folded");
    let untold: Vec<_> = states.keys().filter(|&&of| is_paged(of) == is_folded(of)).collect();
    assert!(untold.is_empty(), "each is named, by itself or by a digest: {untold:?}");
    let critical: Vec<u16> =
        (0..MAILS).step_by(CRITICAL.into()).filter_map(|n| letter(n, Status::New).incident).collect();
    assert!(critical.iter().all(|&incident| is_paged(incident)));
    // What comes before it is known to be a storm, and what is critical.
    let paged = states.keys().filter(|&&incident| is_paged(incident)).count();
    assert!(paged <= single + critical.len(), "{paged} pages");
    let told: Vec<&Post> = taken().filter(|post| matches!(post.of, Of::Digest { .. })).collect();
    assert!(digests.contains(&told.len()), "{} digests", told.len());
    for (incident, sent) in closes {
        assert!(
            sent.iter().all(|&sent| sent == is_paged(incident)),
            "the close of {incident} is sent: {sent:?}"
        );
    }
}
