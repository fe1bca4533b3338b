//! An event at which delivery ends, by a fault of this program, would end it again after each restart, and nothing
//! would go out. So the spool remembers which event delivery was busy with when it ended; if that is the same at the next
//! end, the event is kept as failed, and the others go out.

use jiff::Timestamp;
use tracing::{error, warn};

use crate::spool::{Memo, Outcome, Spool};

/// The kind of the memo, of which there is at most one.
const KIND: &str = "in-hand";

/// Notes that delivery ended while it was busy with the event `in_hand`.
pub(super) async fn note(spool: &Spool, in_hand: Option<u64>, now: Timestamp) {
    let Some(seq) = in_hand else { return forget(spool).await };
    let memo = |value| vec![Memo { kind: KIND, name: String::new(), value }];
    let noted = if before(spool).await == Some(seq) {
        let reason =
            "the service ended twice in a row while it was busy with this event; `queue retry` tries again"
                .to_owned();
        error!(event = seq, "the service ended twice in a row at this event: it is kept as failed");
        match spool.record(vec![Outcome::Failed { seq, at: now, reason, maybe_taken: true }]).await {
            Ok(()) => spool.remember(memo(None)).await,
            failed => failed,
        }
    } else {
        spool.remember(memo(Some(seq.into()))).await
    };
    if let Err(problem) = noted {
        warn!(%problem, event = seq, "the event at which the service ended cannot be noted");
    }
}

/// Forgets it: the service goes on or ends without a fault.
pub(super) async fn forget(spool: &Spool) {
    if before(spool).await.is_some()
        && let Err(problem) =
            spool.remember(vec![Memo { kind: KIND, name: String::new(), value: None }]).await
    {
        warn!(%problem, "the event at which the service ended once cannot be forgotten");
    }
}

/// The event that was noted at the last end.
async fn before(spool: &Spool) -> Option<u64> {
    spool.reader().memos(KIND).await.ok()?.first()?.1.as_u64()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::System;
    use crate::event::Event;
    use crate::mail::{Envelope, MailId};
    use crate::spool::{Config, Entry, Filter, State};

    #[tokio::test]
    async fn the_event_at_which_the_service_ends_twice_in_a_row_is_kept_as_failed_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&Config::at(folder.path()), Arc::new(System)).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let events =
            ["a", "b"].map(|title| Event { title: title.into(), team: "t".into(), ..Event::default() });
        let entry = Entry {
            id: MailId::new(now, 1),
            envelope: Envelope { received_at: now, ..Envelope::default() },
            content: None,
            story: serde_json::Value::Null,
            events: events.into(),
            dropped: None,
        };
        let [a, b] = spool.put(entry, vec![]).await.unwrap().queued.try_into().unwrap();
        let states = async || -> Vec<State> {
            let listed = spool.reader().list(Filter::default()).await.unwrap();
            listed.into_iter().rev().map(|event| event.state).collect()
        };
        // Another event, an end without any, and an end without a fault begin the count anew.
        note(&spool, Some(a.seq), now).await;
        note(&spool, Some(b.seq), now).await;
        note(&spool, Some(a.seq), now).await;
        note(&spool, None, now).await;
        note(&spool, Some(a.seq), now).await;
        forget(&spool).await;
        note(&spool, Some(a.seq), now).await;
        assert_eq!(states().await, [State::Queued, State::Queued]);
        note(&spool, Some(a.seq), now).await;
        assert_eq!(states().await, [State::Failed, State::Queued]);
        note(&spool, Some(a.seq), now).await;
        assert_eq!(before(&spool).await, Some(a.seq), "after a retry it counts anew");
    }
}
