//! What the account may post.

use jiff::SignedDuration;

use crate::record::Record;
use crate::scene::WINDOWS;

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
    for post in record.posts.iter().filter(|post| post.status == 429) {
        if !record.throttled.iter().any(|span| span.from <= post.at && post.at <= span.until) {
            broken.push(format!("throttled at {}", post.at));
        }
    }
    broken
}
