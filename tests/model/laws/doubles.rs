//! At least once, and as near to once as can be.

use std::collections::{BTreeMap, BTreeSet};

use super::super::letter::TEAMS;
use super::super::record::{Life, MINUTE, Millis, Name, Post, Record};
use super::{Breach, breach};

const LAW: &str = "nothing is posted again without need";

/// What is posted again in one life was not answered, and if SIGNL4 may have it the log says so. After a kill no more is
/// posted again than was under way or not yet noted, after a stop in order nothing that was answered. What was ever
/// listed as delivered is not posted again.
pub fn nothing_is_posted_again_without_need(record: &Record, found: &mut Vec<Breach>) {
    let lines = record.lines_by_name();
    let mut by_kill: BTreeMap<usize, usize> = BTreeMap::new();
    for (name, posts) in record.posts_by_event() {
        let mut say = |what: String| found.push(breach(LAW, format!("m{} {what}", name.0)));
        for pair in posts.windows(2) {
            let (before, next) = (pair[0], pair[1]);
            if before.life == next.life {
                if matches!(before.answer, 201 | 400) {
                    say(format!("was answered {} and is posted again at {}", before.answer, next.sent));
                }
                if before.ended.is_none_or(|ended| ended > next.sent) {
                    say(format!("is posted at {} while it is posted", next.sent));
                }
                let seq = lines.get(&name).map(|line| line.seq);
                let life = &record.lives[next.life];
                if before.is_taken() && !is_told(life, seq, before.sent, next.sent) {
                    say(format!(
                        "is posted again at {}, and the log does not say that SIGNL4 may have it",
                        next.sent
                    ));
                }
            } else if before.is_taken() && (before.answer == 201 || before.ended.is_none()) {
                let life = &record.lives[before.life];
                if life.killed || gave_in(life) {
                    *by_kill.entry(before.life).or_default() += 1;
                } else if !could_not_note(record, life) {
                    say(format!("was answered and is posted again at {} after a stop in order", next.sent));
                }
            }
        }
    }
    for (life, doubles) in by_kill {
        let most = unrecorded(record, &record.lives[life]);
        if doubles > most && !could_not_note(record, &record.lives[life]) {
            let what = format!("the end of life {life} made {doubles} doubles, and {most} may be");
            found.push(breach(LAW, what));
        }
    }
    delivered_is_the_end(record, found);
}

/// So many events at most are posted and not recorded at a time: those under way, and those that were answered while
/// the record before was written.
fn unrecorded(record: &Record, life: &Life) -> usize {
    life.concurrency * TEAMS.len() + record.windows.first().map_or(0, |(limit, _)| *limit)
}

/// Whether the log says of an event that it is posted again.
fn is_told(life: &Life, seq: Option<u64>, from: Millis, to: Millis) -> bool {
    life.log.iter().any(|said| {
        said.message.starts_with("posted again") && said.seq == seq && (from..=to).contains(&said.at)
    })
}

/// Whether a stop came before every post was answered.
fn gave_in(life: &Life) -> bool {
    life.log.iter().any(|said| said.message.starts_with("stopped before every post was answered"))
}

/// Whether the disk failed at the end of a life.
fn could_not_note(record: &Record, life: &Life) -> bool {
    let end = life.to.unwrap_or(Millis::MAX);
    record.had_disk_trouble(life.told.unwrap_or(end) - MINUTE, end)
}

fn delivered_is_the_end(record: &Record, found: &mut Vec<Breach>) {
    let posts = record.posts_by_event();
    let mut seen: BTreeSet<Name> = BTreeSet::new();
    for look in &record.looks {
        let delivered = look.all.iter().flatten().filter(|line| line.state == "delivered");
        for name in delivered.filter_map(|line| line.name()) {
            let again = |post: &&&Post| post.sent > look.until;
            if seen.insert(name)
                && let Some(post) = posts.get(&name).and_then(|posts| posts.iter().find(again))
            {
                let what = format!("m{} was delivered at {} and left at {}", name.0, look.until, post.sent);
                found.push(breach(LAW, what));
            }
        }
    }
}

/// Each post of an event is the same, but that it may say whom it is for where it goes by another team.
pub fn a_retry_is_the_same_request(record: &Record, found: &mut Vec<Breach>) {
    for ((serial, _), posts) in record.posts_by_event() {
        let plain = |post: &Post| {
            let mut payload = (*post.payload).clone();
            payload.as_object_mut().and_then(|tiles| tiles.remove("Meant for"));
            payload
        };
        if posts.len() > 1 && posts.iter().any(|post| plain(post) != plain(posts[0])) {
            found.push(breach("a retry is the same request", format!("m{serial} changes")));
        }
    }
}
