//! At least once, and as near to once as can be.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::super::mails::TEAMS;
use super::super::record::{Id, Post, Record};
use super::super::scene::{CONCURRENCY, Run, WINDOWS};

/// So many events at most are posted and not recorded at a time: those under way, and those that were answered while
/// the record before was written.
const UNRECORDED: usize = CONCURRENCY * TEAMS.len() + WINDOWS[0].0;

/// An event that was taken is posted again only if no answer came, which the gateway then says, or if it was killed
/// between. Nothing that it has ever told as delivered is.
pub fn causes(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let mut by_kill: BTreeMap<_, usize> = BTreeMap::new();
    let (vain, told) = (said(record, "tried in vain"), said(record, "posted again"));
    let within = |all: &HashMap<Id, Vec<Timestamp>>, id, from, until| {
        all.get(id).is_some_and(|times| times.iter().any(|at| (from..=until).contains(at)))
    };
    for (id, posts) in record.posts_by_event() {
        for (at, taken) in posts.iter().enumerate().filter(|(_, post)| post.taken) {
            let Some(next) = posts.get(at + 1) else { continue };
            let unanswered = within(&vain, id, taken.at, next.at);
            let end = record.runs.iter().find(|run| run.span.until >= taken.at && run.ended_at <= next.at);
            match end {
                None if unanswered && within(&told, id, taken.at, next.at) => {}
                None => broken.push(format!("{id:?} again at {}, of which nothing was said", next.at)),
                // That it may have been taken is forgotten with the process.
                Some(_) if unanswered => {}
                Some(run) if run.killed || gave_in(run) => *by_kill.entry(run.ended_at).or_default() += 1,
                Some(_) => broken.push(format!("{id:?} again after a stop at {}", next.at)),
            }
        }
        for look in &record.looks {
            let delivered = look.lines.iter().any(|line| line.id == *id && line.state == "delivered");
            if let Some(post) = posts.iter().find(|post| delivered && post.at > look.asked.until) {
                broken.push(format!("{id:?} was delivered at {} and came at {}", look.asked.until, post.at));
            }
        }
    }
    for (at, doubles) in by_kill {
        if doubles > UNRECORDED {
            broken.push(format!("the kill at {at} made {doubles}"));
        }
    }
    broken
}

/// When the log says of each event what begins so.
fn said(record: &Record, message: &str) -> HashMap<Id, Vec<Timestamp>> {
    // The log knows events by their numbers, and the listing by their titles too.
    let ids: HashMap<u64, &Id> = record.end().iter().map(|line| (line.seq, &line.id)).collect();
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for entry in record.runs.iter().flat_map(|run| &run.log) {
        if entry["message"].as_str().is_some_and(|text| text.starts_with(message))
            && let Some(&id) = entry["seq"].as_u64().and_then(|seq| ids.get(&seq))
            && let Some(at) = entry["timestamp"].as_str().and_then(|at| at.parse().ok())
        {
            all.entry(id.clone()).or_default().push(at);
        }
    }
    all
}

/// Whether a stop came before every post was answered.
fn gave_in(run: &Run) -> bool {
    let message = "stopped before every post was answered";
    run.log.iter().any(|entry| entry["message"].as_str().is_some_and(|text| text.starts_with(message)))
}

/// Each post of an event is the same, but that it may say whom it is for where it goes by another team.
pub fn same(record: &Record) -> Vec<String> {
    let plain = |post: &&Post| {
        let mut payload = post.payload.clone();
        payload.as_object_mut().and_then(|tiles| tiles.remove("Meant for"));
        payload
    };
    let mut broken = Vec::new();
    for (id, posts) in record.posts_by_event() {
        let mut payloads = posts.iter().map(plain);
        let first = payloads.next();
        if payloads.any(|payload| Some(&payload) != first.as_ref()) {
            broken.push(format!("{id:?}"));
        }
    }
    broken
}
