//! What pages, what is counted, and by which rules.

use jiff::{SignedDuration, Timestamp};
use smtp2signl4::event::{Repeat, Severity, Status};

use super::super::mails::Mail;
use super::super::record::{Line, Post, Record};
use super::super::scene::{ACKNOWLEDGED_QUIET, quiet};

/// An incident as it stands after a mail, by nothing but what came before.
struct Life {
    acknowledged: bool,
    /// The worst that was paged.
    worst: Severity,
    /// The last page.
    page: Line,
    /// The opens since then that were counted.
    unpaged: u64,
}

/// Follows each incident by the order of acceptance, and tells what became of each of its events.
fn follow(record: &Record, mut see: impl FnMut(Option<&Life>, &Line, &Mail)) {
    for lines in record.incidents_by_seq().into_values() {
        let mut life: Option<Life> = None;
        for (line, mail) in lines {
            see(life.as_ref(), line, mail);
            match (mail.status, &mut life) {
                (Status::New, life) if line.state == "delivered" => {
                    let worst = life.as_ref().map_or(mail.severity, |life| life.worst.max(mail.severity));
                    *life = Some(Life { acknowledged: false, worst, page: line.clone(), unpaged: 0 });
                }
                (Status::New, Some(life)) => life.unpaged += 1,
                (Status::Acknowledged, Some(life)) => life.acknowledged = true,
                (Status::Resolved, life) => *life = None,
                (Status::New | Status::Acknowledged, None) => {}
            }
        }
    }
}

/// The first open pages, and so does one that is worse; a repeat is counted until its quiet time is over, and then
/// pages and says how many it stands for; what closes or acknowledges is passed on.
pub fn pages(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let posts = record.posts_by_event();
    let longest = record.reloads.iter().map(|(generation, _)| quiet(*generation)).max().unwrap();
    follow(record, |life, line, mail| {
        let delivered = line.state == "delivered";
        let right = match (mail.status, life) {
            (Status::Acknowledged | Status::Resolved, _) | (Status::New, None) => delivered,
            (Status::New, Some(life)) if mail.severity > life.worst => delivered,
            (Status::New, Some(_)) if mail.repeat == Repeat::Update => delivered,
            (Status::New, Some(_)) if mail.repeat == Repeat::Count => !delivered,
            (Status::New, Some(life)) => {
                let quiet = if life.acknowledged { longest.max(ACKNOWLEDGED_QUIET) } else { longest };
                let over = life.page.settled_at.is_some_and(|at| at + quiet <= line.received_at);
                delivered || !over
            }
        };
        if !right {
            broken.push(format!("{:?} is {} ({})", line.id, line.state, line.reason));
        }
        let said = posts.get(&line.id).and_then(|posts| posts[0].payload["Repeated"].as_str());
        let unpaged = life.filter(|_| mail.repeat != Repeat::Update).map_or(0, |life| life.unpaged);
        let expected = match unpaged {
            0 => None,
            1 => Some("once since the last page".to_owned()),
            times => Some(format!("{times} times since the last page")),
        };
        let expected = expected.filter(|_| mail.status == Status::New && delivered);
        if said != expected.as_deref() {
            broken.push(format!("{:?} says {said:?}, and it is {expected:?}", line.id));
        }
    });
    // And so the gateway tells it.
    for ((team, key), lines) in record.incidents_by_seq() {
        let closed =
            lines.iter().rev().map(|(_, mail)| mail.status).find(|status| *status != Status::Acknowledged)
                == Some(Status::Resolved);
        let told = record.incidents.get(&(team.to_owned(), key.to_owned()));
        let right = told.is_some_and(|incident| (incident["state"] == "resolved") == closed);
        if !right {
            broken.push(format!("{team} {key}: closed is {closed}, and it says {told:?}"));
        }
    }
    broken
}

/// Between two pages of a life that is not worse there is the quiet time of the rules that judged the second, from
/// when the first came last to when the second came first.
pub fn quiet_time(record: &Record) -> Vec<String> {
    let posts = record.posts_by_event();
    let taken = |line: &Line| -> Vec<&Post> {
        posts.get(&line.id).into_iter().flatten().copied().filter(|post| post.taken).collect()
    };
    let mut broken = Vec::new();
    follow(record, |life, line, mail| {
        let Some(life) = life.filter(|life| mail.severity <= life.worst) else { return };
        if mail.status != Status::New || mail.repeat != Repeat::Quiet {
            return;
        }
        if let (Some(before), Some(after)) = (taken(&life.page).last(), taken(line).first()) {
            let mut least = generation(after).map_or(SignedDuration::MAX, quiet);
            if life.acknowledged {
                least = least.max(ACKNOWLEDGED_QUIET);
            }
            let passed = after.at.duration_since(before.at);
            // The spool counts in milliseconds.
            if passed + SignedDuration::from_millis(1) < least {
                broken.push(format!(
                    "{:?} came {passed:#} after {:?}, quiet for {least:#}",
                    line.id, life.page.id
                ));
            }
        }
    });
    broken
}

/// Each mail was judged by rules that were in force while it was handed in.
pub fn rules_in_force(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    for (id, posts) in record.posts_by_event() {
        let Some(mail) = record.mail(id) else { continue };
        let by = generation(posts[0]);
        let until = mail.acknowledged_at().unwrap_or(Timestamp::MAX);
        let could = |found: u32| {
            let written = record.reloads.iter().any(|(g, span)| *g == found && span.from <= until);
            let replaced = record.reloads.iter().any(|(g, span)| *g > found && span.until <= mail.begun_at);
            written && !replaced
        };
        if !by.is_some_and(could) {
            broken.push(format!("{id:?} was judged by generation {by:?}"));
        }
    }
    broken
}

fn generation(post: &Post) -> Option<u32> {
    post.payload["Generation"].as_str()?.parse().ok()
}
