//! File descriptors: each session has one, and the system gives a process only so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// What the spool, the deliveries, the log and the sockets that listen need beside the sessions.
const RESERVED: u64 = 100;

/// How many sessions there can be where `wanted` are configured. The process takes all descriptors that it may; if
/// they are still too few, a warning says what to set.
pub fn sessions(wanted: usize) -> usize {
    let limit = raise();
    let possible = possible(limit);
    if wanted <= possible {
        return wanted;
    }
    warn!(
        limit,
        "only {possible} of the {wanted} sessions of `max-sessions` can be: the process may open too few files; \
         set LimitNOFILE={} in the unit, or `ulimit -n`",
        wanted as u64 + RESERVED
    );
    possible
}

/// The sessions that `limit` descriptors leave room for.
fn possible(limit: u64) -> usize {
    let left = limit - RESERVED.min(limit / 2);
    usize::try_from(left).unwrap_or(usize::MAX).max(1)
}

/// Raises the limit to the highest that this process may have, and returns it.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (now, most) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    if now < most && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        most
    } else {
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_fits_the_limit_that_most_systems_have() {
        assert!(possible(1024) >= crate::smtp::Config::default().max_sessions);
        assert_eq!(possible(40), 20);
        assert_eq!(possible(1), 1);
        assert_eq!(possible(u64::MAX), usize::MAX - 100);
    }
}
