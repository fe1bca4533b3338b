//! What an account may post.

use std::collections::BTreeSet;

use super::super::record::{Millis, Post, Record};
use super::{Breach, breach};

/// Wrong requests that SIGNL4 bears in a minute.
const WRONG: (usize, Millis) = (10, 60_000);

const LAW: &str = "the budget is never exceeded";

/// SIGNL4 never blocks an account for what was posted, and counts no window too full, whatever came of the requests. Which
/// requests were wrong a gateway does not know if their answers are lost, nor after a restart, so too many of those are
/// not judged.
pub fn no_account_is_blocked(record: &Record, found: &mut Vec<Breach>) {
    let accounts: BTreeSet<usize> = record.posts.iter().map(|post| post.account).collect();
    for account in accounts {
        let of = || record.posts.iter().filter(|post| post.account == account);
        let times = |which: &dyn Fn(&Post) -> bool| {
            let mut times: Vec<_> = of().filter(|post| which(post)).filter_map(|post| post.arrived).collect();
            times.sort_unstable();
            times
        };
        let is_wrong = |post: &Post| matches!(post.verdict, 400 | 404) || post.answer == 403;
        let is_known = |post: &Post| matches!(post.answer, 400 | 403 | 404);
        for blocked in of().filter(|post| post.blocked) {
            let at = blocked.arrived.unwrap_or(blocked.sent);
            // A minute of those, and the minute for which they block.
            let lately = |times: Vec<Millis>| {
                times.into_iter().filter(|wrong| (0..2 * WRONG.1).contains(&(at - wrong))).count()
            };
            let hidden =
                lately(times(&|post| is_wrong(post) && !(is_known(post) && post.life == blocked.life)));
            if hidden == 0 || lately(times(&is_wrong)) < WRONG.0 {
                found.push(breach(LAW, format!("account {account} is blocked at {at}")));
            }
        }
        for life in 0..record.lives.len() {
            let wrong = times(&|post| is_wrong(post) && is_known(post) && post.life == life);
            too_full(account, &wrong, WRONG, found);
        }
        let all = times(&|_| true);
        record.windows.iter().for_each(|&window| too_full(account, &all, window, found));
    }
}

fn too_full(account: usize, times: &[Millis], (limit, length): (usize, Millis), found: &mut Vec<Breach>) {
    for full in times.windows(limit + 1) {
        if full[limit] - full[0] < length {
            let what = format!(
                "account {account} was sent {} within {} at {}",
                limit + 1,
                full[limit] - full[0],
                full[limit]
            );
            found.push(breach(LAW, what));
        }
    }
}
