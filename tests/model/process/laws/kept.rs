//! What was acknowledged is there, at any time, and nothing else is.

use std::collections::{HashMap, HashSet};

use super::super::mails::End;
use super::super::record::{Id, Line, Record};

/// Each acknowledged event is there once, delivered or counted, and what is delivered has arrived.
pub fn nothing_is_missing(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = by_id(record.end());
    for (id, _) in record.acknowledged() {
        match lines.get(&id).map_or(&[][..], Vec::as_slice) {
            [line] if line.state == "delivered" || line.state == "counted" => {}
            [line] => broken.push(format!("{id:?} is {}", line.state)),
            [] => broken.push(format!("{id:?} is nowhere")),
            several => broken.push(format!("{id:?} is there {} times", several.len())),
        }
    }
    let posts = record.posts_by_event();
    for line in record.end() {
        let posts = posts.get(&line.id).map_or(&[][..], Vec::as_slice);
        if line.state == "delivered" && !posts.iter().any(|post| post.taken) {
            broken.push(format!("{:?} was never taken", line.id));
        }
    }
    broken
}

/// What is kept was handed in and not refused, and what was posted is delivered.
pub fn nothing_is_made_up(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = by_id(record.end());
    for (id, lines) in &lines {
        let said = record
            .mail(id)
            .is_some_and(|mail| mail.end != End::Refused && mail.teams.iter().any(|team| *team == id.1));
        if !said || lines.len() > 1 {
            broken.push(format!("{id:?} is kept {} times", lines.len()));
        }
    }
    for (id, posts) in record.posts_by_event() {
        let delivered = lines.get(id).is_some_and(|lines| lines[0].state == "delivered");
        if !delivered {
            broken.push(format!("{id:?} was posted {} times and is not delivered", posts.len()));
        }
    }
    broken
}

/// Whenever it was asked, the gateway told of all that was acknowledged before; and of all that had yet to arrive
/// as of something that waits.
pub fn what_waits_is_listed(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let posts = record.posts_by_event();
    let sent: HashSet<&Id> =
        record.end().iter().filter(|line| line.state == "delivered").map(|line| &line.id).collect();
    let acknowledged: Vec<_> = record.acknowledged().collect();
    for look in &record.looks {
        let lines = by_id(&look.lines);
        for (id, _) in acknowledged.iter().filter(|(_, at)| *at < look.asked.from) {
            let states: Vec<&str> =
                lines.get(id).into_iter().flatten().map(|line| line.state.as_str()).collect();
            let arrived = posts.get(id).into_iter().flatten().find(|post| post.taken);
            let waits = sent.contains(id) && arrived.is_none_or(|post| post.at > look.asked.until);
            let right = match (look.whole, waits) {
                (_, true) => states == ["queued"],
                (true, false) => states.len() == 1,
                (false, false) => true,
            };
            if !right {
                broken.push(format!("{id:?} is {states:?} at {}", look.asked.until));
            }
        }
    }
    broken
}

/// What the gateway tells as delivered was taken before.
pub fn delivered_is_true(record: &Record) -> Vec<String> {
    let posts = record.posts_by_event();
    let mut broken = Vec::new();
    for look in &record.looks {
        for line in look.lines.iter().filter(|line| line.state == "delivered") {
            let taken = posts.get(&line.id).into_iter().flatten().find(|post| post.taken);
            if taken.is_none_or(|post| post.at > look.asked.until) {
                broken.push(format!("{:?} at {}", line.id, look.asked.until));
            }
        }
    }
    broken
}

fn by_id(lines: &[Line]) -> HashMap<&Id, Vec<&Line>> {
    let mut all: HashMap<&Id, Vec<&Line>> = HashMap::new();
    for line in lines {
        all.entry(&line.id).or_default().push(line);
    }
    all
}
