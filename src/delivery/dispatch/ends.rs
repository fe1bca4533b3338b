//! How things end: outcomes on their way into the spool, and the loop itself.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::message::{PostTask, Task, TaskResult, seq_of};
use super::{Dispatch, REMEMBERED};
use crate::delivery::scheduler::Index;
use crate::delivery::storage::Storage;
use crate::spool::Outcome;

/// How long the last reservations may take when the service stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl<S: Storage> Dispatch<S> {
    /// Records what has gathered: one commit for many.
    pub(super) fn record(&mut self) {
        let early = self.record_not_before.is_some_and(|at| Instant::now() < at);
        if !self.recording.is_empty() || self.unrecorded.is_empty() || early {
            return;
        }
        self.record_not_before = None;
        self.recording = std::mem::take(&mut self.unrecorded).into_values().collect();
        let outcomes = self.recording.iter().map(|(_, outcome)| outcome.clone()).collect();
        let storage = Arc::clone(&self.storage);
        let handle = self.tasks.spawn(async move { TaskResult::Recorded(storage.record(outcomes).await) });
        self.running.insert(handle.id(), Task::Record);
    }

    /// An outcome is durable: a final one lets the next of its lane go.
    pub(super) fn recorded(&mut self, team: Index, outcome: Outcome, now: Timestamp) {
        let seq = seq_of(&outcome);
        if matches!(outcome, Outcome::Deferred { .. }) {
            return;
        }
        self.scheduler.team_mut(team).recorded(seq, now);
        for waiter in self.waiters.remove(&seq).into_iter().flatten() {
            // One that no longer waits is no loss.
            _ = waiter.send(outcome.clone());
        }
        if self.ends.len() == REMEMBERED {
            self.ends.pop_front();
        }
        self.ends.push_back(outcome);
    }

    pub(super) fn is_drained(&self) -> bool {
        let posting = self.running.values().any(|ticket| matches!(ticket, Task::Post(_)));
        !posting && self.unrecorded.is_empty() && self.recording.is_empty()
    }

    /// The time to drain is over.
    pub(super) fn give_in(&self) {
        let posts = self.running.values().filter(|ticket| matches!(ticket, Task::Post(_))).count();
        let unrecorded = self.unrecorded.len() + self.recording.len();
        if posts + unrecorded > 0 {
            warn!(
                posts,
                unrecorded,
                "stopped before every post was answered and recorded: these events go out again at the next start"
            );
        }
    }

    /// Records what is not yet, and gives back what the accounts have reserved and not used.
    pub(super) async fn close(mut self) {
        // What is still being written must not come after.
        let pending = async {
            while let Some(done) = self.tasks.join_next_with_id().await {
                self.finish(done);
            }
        };
        _ = tokio::time::timeout(CLOSE_TIMEOUT, pending).await;
        let outcomes = self.last_outcomes();
        if !outcomes.is_empty() {
            match tokio::time::timeout(CLOSE_TIMEOUT, self.storage.record(outcomes)).await {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => debug!(error = %problem, "what came of the last posts is not recorded"),
                Err(_) => debug!("what came of the last posts is not recorded in time"),
            }
        }
        let reservations = self.scheduler.close(self.setup.clock.now());
        let write = async {
            for reservation in reservations {
                if let Err(problem) = self.storage.reserve(reservation).await {
                    debug!(error = %problem, "what was reserved and not used counts as used");
                }
            }
        };
        _ = tokio::time::timeout(CLOSE_TIMEOUT, write).await;
    }
}

impl<S: Storage> Dispatch<S> {
    /// What is still to be recorded when nothing more is posted. The posts that are cut off are among it: SIGNL4 may
    /// have taken them, and they go out again at the next start.
    fn last_outcomes(&mut self) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = std::mem::take(&mut self.recording)
            .into_iter()
            .chain(std::mem::take(&mut self.unrecorded).into_values())
            .map(|(_, outcome)| outcome)
            .collect();
        let now = self.setup.clock.now();
        for ticket in self.running.values() {
            if let Task::Post(PostTask { seq: Some(seq), team, .. }) = *ticket
                && let Some((.., attempts)) = self.scheduler.team(team).event(seq)
            {
                outcomes.push(Outcome::Deferred {
                    seq,
                    attempts: attempts.saturating_add(1),
                    next_at: now,
                    reason: "the service stopped before an answer came".to_owned(),
                    maybe_taken: true,
                });
            }
        }
        outcomes
    }
}
