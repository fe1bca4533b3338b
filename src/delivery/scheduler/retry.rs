//! What a post that failed means for its event: when it is tried again, and when it is given up.

use jiff::{SignedDuration, Timestamp};

use super::gate::{Notice, State, Verdict};
use super::team::Team;
use crate::delivery::backoff;
use crate::delivery::webhook::Reached;
use crate::spool::Outcome;

impl Team {
    /// Notes whether a post of `seq` that failed may have been taken all the same, and says so.
    pub(super) fn doubt(&mut self, seq: u64, reached: Reached) -> bool {
        let maybe_taken = reached == Reached::Perhaps;
        if let Some(event) = self.window.event_mut(seq) {
            event.maybe_taken |= maybe_taken;
        }
        maybe_taken
    }

    /// Counts a failed post of `seq`.
    pub(super) fn count(&mut self, seq: u64) -> u32 {
        let up = self.up;
        self.window.event_mut(seq).map_or(1, |event| {
            event.failed_first.get_or_insert(up);
            event.attempts = event.attempts.saturating_add(1);
            event.attempts
        })
    }

    /// Whether `seq` was tried for as long as its age says. A clock that jumps makes an event old that nobody has tried:
    /// what counts is the time that this process has run since the first try, or more tries than go into a shorter
    /// time, for those are noted across restarts.
    fn has_tried_for_long(&self, seq: u64) -> bool {
        let long = self.limits.give_up_after;
        let enough = long.as_secs() / backoff::CAP.as_secs();
        self.window.event(seq).is_some_and(|event| {
            let tried_for = event.failed_first.map_or(SignedDuration::ZERO, |first| self.up - first);
            tried_for >= long || i64::from(event.attempts) >= enough
        })
    }

    /// How long `seq` waits if the post just made has failed.
    pub(super) fn wait(&mut self, seq: u64) -> SignedDuration {
        let failures = self.window.event(seq).map_or(0, |event| event.attempts);
        backoff::after(failures.saturating_add(1), &mut self.rng)
    }

    /// `seq` failed: it waits for `wait`, however old it is.
    pub(super) fn keep(
        &mut self,
        seq: u64,
        wait: SignedDuration,
        reason: String,
        maybe_taken: bool,
        now: Timestamp,
        verdict: &mut Verdict,
    ) {
        let attempts = self.count(seq);
        let next_at = now + wait;
        self.window.put_back(seq, next_at, now);
        verdict.outcome = Some(Outcome::Deferred { seq, attempts, next_at, reason, maybe_taken });
    }

    /// `seq` alone failed: it waits, or is given up.
    pub(super) fn defer(
        &mut self,
        seq: u64,
        wait: SignedDuration,
        reason: String,
        maybe_taken: bool,
        now: Timestamp,
        verdict: &mut Verdict,
    ) {
        let tried_for_long = self.has_tried_for_long(seq);
        let Some(event) = self.window.event_mut(seq) else { return };
        let age = now.duration_since(event.accepted_at);
        if age >= self.limits.give_up_after && tried_for_long {
            let attempts = self.count(seq);
            let reason = format!("given up after {attempts} attempts in {age:#.0}: {reason}");
            verdict.outcome = Some(Outcome::Failed { seq, at: now, reason, maybe_taken });
            return;
        }
        if event.reason.as_deref() != Some(&reason) {
            event.reason = Some(reason.as_str().into());
            // The outage has been told; who else it hits is no news.
            if self.state == State::Open {
                let next_at = now + wait;
                let reason = reason.clone();
                verdict.notices.push(Notice::Deferred { next_at, reason, maybe_taken });
            }
        }
        self.keep(seq, wait, reason, maybe_taken, now, verdict);
    }
}
