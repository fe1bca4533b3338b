//! What `queue list` tells, whenever it is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::super::record::{Line, Look, Millis, Name, Record};
use super::{Breach, breach};

/// When SIGNL4 had each event that it took.
fn arrivals(record: &Record) -> BTreeMap<Name, Millis> {
    let first = |posts: Vec<&super::Post>| {
        posts.iter().filter(|post| post.is_taken()).filter_map(|post| post.arrived).min()
    };
    let posts = record.posts_by_event().into_iter();
    posts.filter_map(|(name, posts)| Some((name, first(posts)?))).collect()
}

fn by_name(lines: &[Line]) -> BTreeMap<Name, Vec<&Line>> {
    let mut all: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
    lines.iter().filter_map(|line| Some((line.name()?, line))).for_each(|(name, line)| {
        all.entry(name).or_default().push(line);
    });
    all
}

/// Whenever it was asked, the gateway told of all that was acknowledged before; and of all that had yet to arrive as of
/// something that waits.
pub fn what_waits_is_listed(record: &Record, found: &mut Vec<Breach>) {
    let law = "everything that waits is listed";
    let (arrivals, ends) = (arrivals(record), record.lines_by_name());
    for look in &record.looks {
        let both = [(&look.all, true), (&look.open, false)];
        for (lines, whole) in both.into_iter().filter_map(|(lines, whole)| Some((lines.as_ref()?, whole))) {
            let lines = by_name(lines);
            let kept = |at: Option<Millis>| at.is_some_and(|kept| kept < look.from);
            for event in record.events.iter().filter(|event| kept(event.kept)) {
                let name = event.name();
                let states: Vec<&str> =
                    lines.get(&name).into_iter().flatten().map(|line| line.state.as_str()).collect();
                let sent = ends.get(&name).is_some_and(|line| line.state == "delivered");
                let waits = sent && arrivals.get(&name).is_none_or(|&at| at > look.until);
                let right = match (whole, waits) {
                    (_, true) => states == ["queued"],
                    (true, false) => states.len() == 1,
                    (false, false) => true,
                };
                if !right {
                    found.push(breach(law, format!("m{} is {states:?} at {}", event.serial, look.until)));
                }
            }
        }
    }
}

/// What the gateway tells as delivered was taken before.
pub fn what_is_listed_as_delivered_was_taken(record: &Record, found: &mut Vec<Breach>) {
    let arrivals = arrivals(record);
    for look in &record.looks {
        for line in look.all.iter().flatten().filter(|line| line.state == "delivered") {
            if let Some(name) = line.name()
                && arrivals.get(&name).is_none_or(|&at| at > look.until)
            {
                let what = format!("m{} is listed as delivered at {} and was not", name.0, look.until);
                found.push(breach("what is listed as delivered was taken", what));
            }
        }
    }
}

/// The plain list is what waits and what failed, the list of a digest is what it folded, and the sum is right.
pub fn the_lists_agree(record: &Record, found: &mut Vec<Breach>) {
    for look in &record.looks {
        look_agrees(look, found);
    }
}

fn look_agrees(look: &Look, found: &mut Vec<Breach>) {
    let (law, at) = ("the listings agree", look.until);
    let Some(all) = &look.all else { return };
    if let Some(open) = &look.open {
        let open: BTreeSet<u64> = open.iter().map(|line| line.seq).collect();
        for line in all {
            if matches!(line.state.as_str(), "queued" | "failed") != open.contains(&line.seq) {
                found.push(breach(law, format!("{line:?} and the plain list differs at {at}")));
            }
        }
    }
    for (digest, lines) in &look.digests {
        if !all.iter().filter(|line| line.digest == Some(*digest)).eq(lines) {
            let what = format!("the list of digest {digest} is not what it has folded at {at}");
            found.push(breach(law, what));
        }
    }
    let waiting = all.iter().filter(|line| line.state == "queued").count() as u64;
    if let Some(queued) = look.queued.filter(|&queued| queued != waiting) {
        found.push(breach(law, format!("{queued} are said to wait and {waiting} are listed at {at}")));
    }
}
