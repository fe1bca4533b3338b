//! What the account may post.

use jiff::SignedDuration;

use super::super::mails::VISITOR;
use super::super::record::{Post, Record};
use super::super::scene::WINDOWS;

/// Wrong requests that SIGNL4 bears in a minute.
const WRONG: usize = 10;

/// No span of a window's length holds more requests than it allows, whatever came of them: SIGNL4 may count what a
/// stand-in that fails does not. And nobody was throttled but on purpose.
pub fn windows(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let mut times: Vec<_> = record.posts.iter().map(|post| post.at).collect();
    times.sort();
    for (limit, seconds) in WINDOWS {
        let length = SignedDuration::from_secs(seconds);
        for pair in times.windows(limit + 1) {
            let took = pair[limit].duration_since(pair[0]);
            if took < length {
                broken.push(format!("{} posts in {took:#}, up to {}", limit + 1, pair[limit]));
            }
        }
    }
    for post in record.posts.iter().filter(|post| post.status == 429 && !is_for_wrong_ones(record, post)) {
        if !record.throttled.iter().any(|span| span.from <= post.at && post.at <= span.until) {
            broken.push(format!("throttled at {}", post.at));
        }
    }
    broken
}

/// Whether a post was throttled for wrong requests before it. How many there were the gateway does not know after a kill,
/// nor that one of which no answer came was wrong.
fn is_for_wrong_ones(record: &Record, throttled: &Post) -> bool {
    let refused =
        |post: &&Post| record.refusals.iter().any(|span| (span.from..=span.until).contains(&post.at));
    let wrong = |post: &&Post| post.by == VISITOR && !post.taken;
    // A minute of those, and the minute for which they block.
    let lately =
        |post: &&Post| post.at < throttled.at && throttled.at.duration_since(post.at).as_secs() < 120;
    record.posts.iter().filter(refused).filter(wrong).filter(lately).count() >= WRONG
}
