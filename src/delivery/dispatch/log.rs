//! What delivery writes to the log: no title and no text of an event, and what concerns a team once, not
//! with every event.

use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use crate::delivery::ledger::Change;
use crate::delivery::scheduler::{Notice, Post, Starving, Team};
use crate::mail::MailId;
use crate::spool::Outcome;

/// Something that changed for a team; `event` is the one that showed it.
pub(super) fn notice(team: &Team, event: Option<(u64, MailId, u32)>, notice: &Notice) {
    let name = &**team.name();
    let waiting = team.waiting().0;
    match notice {
        Notice::Held { reason, foreign: true } => error!(
            team = name,
            waiting,
            reason,
            "another than SIGNL4 answers the posts of this team, such as the login page of a network, a proxy or a \
             firewall: put the way right; its events are kept, it is tried again every minute by a question that \
             pages nobody, and a restart is not needed"
        ),
        Notice::Held { reason, .. } => error!(
            team = name,
            waiting,
            reason,
            "SIGNL4 refuses the secret or the URL of this team: put it right; its events are kept, it \
             is tried again every minute, and a restart is not needed"
        ),
        Notice::Throttled { until, reason } => {
            warn!(team = name, waiting, reason, %until, "SIGNL4 throttles the account: events wait until then");
        }
        Notice::Down { reason } => {
            error!(team = name, waiting, reason, "SIGNL4 cannot be reached: events are kept and tried again");
        }
        Notice::Answers { was } => info!(team = name, waiting, ?was, "SIGNL4 takes events again"),
        Notice::Plan { burst } => {
            info!(
                team = name,
                burst, "SIGNL4's headers tell what the account may post in its shortest window"
            );
        }
        Notice::Deferred { next_at, reason, maybe_taken } => {
            let Some((seq, mail, attempts)) = event else { return };
            warn!(%mail, team = name, seq, attempts, reason, maybe_taken, %next_at, "deferred");
        }
    }
}

/// What came of a post; the event was accepted at `accepted_at`, and so many posts of it had failed before.
pub(super) fn outcome(
    team: &str,
    outcome: &Outcome,
    (mail, accepted_at, attempts): (MailId, Timestamp, u32),
    now: Timestamp,
) {
    match outcome {
        Outcome::Delivered { seq, event_id, by_way, .. } => {
            let latency_ms = u64::try_from(now.duration_since(accepted_at).as_millis()).unwrap_or(0);
            let (event_id, attempts) = (event_id.as_deref().unwrap_or(""), attempts + 1);
            match by_way {
                None => info!(%mail, team, event_id, seq, attempts, latency_ms, "delivered"),
                Some(by_way_of) => {
                    warn!(%mail, team, event_id, seq, attempts, latency_ms, by_way_of, "delivered");
                }
            }
        }
        Outcome::Deferred { seq, next_at, reason, .. } => {
            debug!(%mail, team, seq, attempts, reason, %next_at, "tried in vain");
        }
        Outcome::Failed { seq, reason, .. } => {
            error!(%mail, team, seq, attempts, reason, "failed for good: kept in the queue for an operator");
        }
    }
}

/// An event that SIGNL4 may have is posted again.
pub(super) fn possible_double(team: &str, post: &Post, mail: MailId) {
    warn!(
        %mail, team, seq = post.seq, possible_double = true,
        "posted again: an earlier post may have been taken although no answer came"
    );
}

/// The service ended before with so many tokens of `account` given out: it was killed, or the power failed.
pub(super) fn cut_off(account: &str, open: u64) {
    warn!(
        account,
        at_most = open,
        "the service did not end in order: posts that were under way then are made again, and nobody knows which of \
         them SIGNL4 has"
    );
}

/// An account has events and no room for any of them for long, or has room again.
pub(super) fn starving(account: &str, news: &Starving) {
    match news {
        Starving { since, until: Some(until), used_up, .. } => error!(
            account,
            %since,
            %until,
            "no event of this account goes out: it has posted what it may{}; events are kept, and the most urgent go \
             first then",
            used_up.map_or_else(String::new, |(limit, length)| format!(", {limit} in {length:#}"))
        ),
        Starving { since, .. } => info!(account, %since, "events of this account go out again"),
    }
}

/// The spool's answer to a reservation has changed what may be posted.
pub(super) fn reservation(account: &str, change: Change) {
    match change {
        Change::None => {}
        Change::Loosened => error!(
            account,
            "the spool cannot note what is posted: events go out all the same, and after a crash now the \
             account could post more than SIGNL4 lets it"
        ),
        Change::Tightened => info!(account, "the spool notes again what is posted"),
    }
}
