//! The order of acceptance, and that of an incident's events at SIGNL4.

use std::collections::BTreeMap;

use super::super::record::{Event, Millis, Of, Record};
use super::{Breach, breach, settled};

const LAW: &str = "order per incident";

/// A mail that was handed in after another was acknowledged has the greater number.
pub fn the_order_of_acceptance_is_that_of_the_senders(record: &Record, found: &mut Vec<Breach>) {
    let lines = record.lines_by_name();
    let seq = |event: &Event| Some(lines.get(&event.name())?.seq);
    let mut ends: Vec<(Millis, u64)> =
        record.events.iter().filter_map(|event| Some((event.kept?, seq(event)?))).collect();
    ends.sort_unstable();
    let mut begins: Vec<_> =
        record.events.iter().filter_map(|event| Some((event.begun, seq(event)?, event.serial))).collect();
    begins.sort_unstable();
    let (mut ends, mut greatest) = (ends.into_iter().peekable(), 0);
    for (begun, seq, serial) in begins {
        while let Some((_, seq)) = ends.next_if(|(at, _)| *at < begun) {
            greatest = greatest.max(seq);
        }
        if seq < greatest {
            let what = format!("m{serial} has the number {seq} and came after {greatest}");
            found.push(breach("the order of acceptance is that of the senders", what));
        }
    }
}

/// No event leaves before an older one of its incident has come to its end, nor after a newer one has left.
pub fn an_incident_keeps_its_order(record: &Record, found: &mut Vec<Breach>) {
    let posts = record.posts_by_event();
    for lane in record.lanes().values() {
        let sent: Vec<_> =
            lane.iter().filter_map(|event| Some((event.serial, posts.get(&event.name())?))).collect();
        for pair in sent.windows(2) {
            let ((older, before), (newer, after)) = (pair[0], pair[1]);
            let first = after[0].sent;
            if settled(before).is_none_or(|at| at > first) {
                let what = format!("m{newer} left at {first} before the end of m{older} was known");
                found.push(breach(LAW, what));
            }
            if let Some(late) = before.iter().find(|post| post.sent > first) {
                let what = format!("m{older} left at {} after m{newer} had at {first}", late.sent);
                found.push(breach(LAW, what));
            }
        }
    }
    arrival(record, found);
}

/// No event comes, not even again, after one that its incident had later, however many lie between.
fn arrival(record: &Record, found: &mut Vec<Breach>) {
    let mut places = BTreeMap::new();
    for (incident, lane) in record.lanes() {
        let names = lane.iter().enumerate().map(|(place, event)| (event.name(), (incident, place)));
        places.extend(names);
    }
    let mut furthest: BTreeMap<(usize, u16), (usize, u32)> = BTreeMap::new();
    for post in &record.posts {
        let Of::Event { serial, team } = post.of else { continue };
        let Some(&(incident, place)) = places.get(&(serial, team)) else { continue };
        let before = furthest.entry(incident).or_insert((place, serial));
        if place < before.0 {
            let what = format!("m{serial} left at {} after m{} had", post.sent, before.1);
            found.push(breach(LAW, what));
        }
        *before = (*before).max((place, serial));
    }
}
