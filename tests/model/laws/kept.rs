//! What was acknowledged is there, and nothing else is.

use std::collections::BTreeMap;

use super::super::record::{Line, Name, Of, Record, Status};
use super::{Breach, breach};

/// What is acknowledged is there once, what is delivered was taken, what is dead was refused.
pub fn nothing_is_missing(record: &Record, found: &mut Vec<Breach>) {
    let posts = record.posts_by_event();
    let lines = by_name(record.lines());
    for event in &record.events {
        let lines = lines.get(&event.name()).map_or(&[][..], Vec::as_slice);
        let posts = posts.get(&event.name()).map_or(&[][..], Vec::as_slice);
        let taken = posts.iter().any(|post| post.is_taken());
        let say = |what: &str| breach("nothing acknowledged is missing", format!("m{} {what}", event.serial));
        match (event.kept, lines) {
            (Some(_), []) => found.push(say("is in no listing")),
            (None, []) if !posts.is_empty() => found.push(say("was posted and is not kept")),
            (_, []) => {}
            (_, [line]) => match line.state.as_str() {
                "delivered" if !taken => found.push(say("is delivered and was never taken")),
                "failed" if !posts.iter().any(|post| post.verdict == 400) => {
                    found.push(say("failed and was never refused"));
                }
                "queued" => found.push(say("waits still, long after all is well")),
                "dropped" | "muted" => found.push(say("is neither sent nor kept by anybody's wish")),
                "counted" if !posts.is_empty() => found.push(say("was posted and is not said to be")),
                "folded" if taken => found.push(say("was posted and is not said to be")),
                _ => {}
            },
            (_, [..]) => found.push(say("is there more than once")),
        }
    }
}

/// What is kept was handed in and not refused; or it goes with what was, to a team that had an open of its incident.
pub fn nothing_is_made_up(record: &Record, found: &mut Vec<Breach>) {
    let (events, mut by_serial) = (record.events_by_name(), BTreeMap::<u32, Vec<_>>::new());
    record.events.iter().for_each(|event| by_serial.entry(event.serial).or_default().push(event));
    for (name, lines) in by_name(record.lines()) {
        let went_there = |post: &super::Post| {
            let Of::Event { serial, team } = post.of else { return false };
            let of = events.get(&(serial, team));
            post.by == name.1
                && of.is_some_and(|opened| {
                    opened.status == Status::New
                        && by_serial.get(&name.0).into_iter().flatten().any(|event| {
                            event.status != Status::New
                                && (event.team, event.incident) == (opened.team, opened.incident)
                        })
                })
        };
        let right = match events.get(&name) {
            Some(event) => !event.refused,
            None => lines.len() == 1 && record.posts.iter().any(went_there),
        };
        if !right {
            let what = format!("m{} is kept {} times for team {}", name.0, lines.len(), name.1);
            found.push(breach("nothing refused is kept, and nothing is made up", what));
        }
    }
}

fn by_name(lines: &[Line]) -> BTreeMap<Name, Vec<&Line>> {
    let mut all: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        if let Some(name) = line.name() {
            all.entry(name).or_default().push(line);
        }
    }
    all
}
