//! What the answer to a post means for its event: how it ends, when it is tried again, and when it is given up.

use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::gate::{Notice, PROBE_INTERVAL};
use crate::delivery::backoff;
use crate::delivery::webhook::{Answer, Reached};
use crate::delivery::window::Window;
use crate::spool::Outcome;

/// So often an event must be refused although others are taken, to be given up: about a quarter of an hour, for what
/// dislikes it may be put right soon.
const ALONE: u32 = 5;

/// A post of an event that was answered.
pub(super) struct Attempt {
    pub(super) seq: u64,
    /// The team by whose target it went, if that was a fallback.
    pub(super) by_way: Option<Arc<str>>,
    /// How often the event was refused although others were taken, if it is at fault and not the secret.
    pub(super) blamed: Option<u32>,
    /// Whether the gate is open. The log has said why a team waits, so it does not say so again for each event.
    pub(super) is_open: bool,
    /// The age at which an event that fails is given up.
    pub(super) give_up_after: SignedDuration,
    pub(super) now: Timestamp,
    /// For how long the process has run.
    pub(super) up: SignedDuration,
}

/// What an answer does to an event.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// To be recorded in the spool.
    pub(super) outcome: Option<Outcome>,
    /// To be logged.
    pub(super) notice: Option<Notice>,
}

impl Attempt {
    /// What `answer` does to the event, which is among those of `window`.
    pub(super) fn end(self, answer: Answer, window: &mut Window, rng: &mut Rng) -> Fate {
        let seq = self.seq;
        let failures = window.event(seq).map_or(0, |event| event.attempts);
        let wait = backoff::after(failures.saturating_add(1), rng);
        match answer {
            Answer::Accepted { event_id, .. } => {
                let by_way = self.by_way.map(|name| name.to_string());
                Fate::of(Outcome::Delivered { seq, event_id, at: self.now, by_way })
            }
            Answer::Refused { reason } => {
                self.count(window);
                self.failed(reason, false)
            }
            Answer::Throttled { .. } => {
                window.put_back(seq, self.now, self.now);
                Fate::default()
            }
            Answer::NoSecret { reason } => self.keep(wait.max(PROBE_INTERVAL), reason, false, window),
            Answer::Unauthorised { reason } => self.refused(wait, reason, false, window),
            Answer::Foreign { reason } => self.refused(wait, reason, true, window),
            Answer::Unavailable { reason, retry_after, reached } => {
                let wait = wait.max(retry_after.unwrap_or_default());
                let maybe_taken = reached == Reached::Perhaps;
                match self.by_way {
                    None => self.defer(wait, reason, maybe_taken, window),
                    Some(_) => self.keep(wait, reason, maybe_taken, window),
                }
            }
        }
    }

    /// The secret or the URL was refused, or the event.
    fn refused(self, wait: SignedDuration, reason: String, maybe_taken: bool, window: &mut Window) -> Fate {
        // The longer the more often it is, so that it does not always go before those that may get through.
        let wait = wait.max(PROBE_INTERVAL);
        match self.blamed {
            // It waits until its team is no longer held: no event is given up meanwhile.
            None => self.keep(wait, reason, maybe_taken, window),
            Some(ALONE..) => {
                let times = self.count(window);
                self.failed(format!("refused {times} times although others are taken: {reason}"), maybe_taken)
            }
            Some(_) => {
                let reason = format!("refused although others are taken: {reason}");
                self.defer(wait, reason, maybe_taken, window)
            }
        }
    }

    /// It alone failed: it waits, or is given up.
    fn defer(self, wait: SignedDuration, reason: String, maybe_taken: bool, window: &mut Window) -> Fate {
        let Some(event) = window.event_mut(self.seq) else { return Fate::default() };
        let age = self.now.duration_since(event.accepted_at);
        if age >= self.give_up_after && event.is_tried_for(self.give_up_after, self.up) {
            let attempts = self.count(window);
            let reason = format!("given up after {attempts} attempts in {age:#.0}: {reason}");
            return self.failed(reason, maybe_taken);
        }
        let known = event.reason.as_deref() == Some(&reason);
        event.reason = Some(reason.as_str().into());
        let next_at = self.now + wait;
        let notice = (!known && self.is_open).then(|| Notice::Deferred {
            next_at,
            reason: reason.clone(),
            maybe_taken,
        });
        Fate { notice, ..self.keep(wait, reason, maybe_taken, window) }
    }

    /// It waits for `wait`, however old it is.
    fn keep(&self, wait: SignedDuration, reason: String, maybe_taken: bool, window: &mut Window) -> Fate {
        if let Some(event) = window.event_mut(self.seq) {
            event.maybe_taken |= maybe_taken;
        }
        let attempts = self.count(window);
        let next_at = self.now + wait;
        window.put_back(self.seq, next_at, self.now);
        Fate::of(Outcome::Deferred { seq: self.seq, attempts, next_at, reason, maybe_taken })
    }

    fn failed(&self, reason: String, maybe_taken: bool) -> Fate {
        Fate::of(Outcome::Failed { seq: self.seq, at: self.now, reason, maybe_taken })
    }

    fn count(&self, window: &mut Window) -> u32 {
        window.event_mut(self.seq).map_or(1, |event| event.count(self.up))
    }
}

impl Fate {
    fn of(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), notice: None }
    }
}
