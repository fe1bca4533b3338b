//! Notes in the spool since when the secret of a team is refused, so that a service that is started again and again
//! does not count anew the time after which the team's events go to its fallback.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Dispatch;
use super::message::{Task, TaskResult};
use crate::delivery::scheduler::Index;
use crate::delivery::storage::{Storage, StorageError};

/// The wait after a note that could not be written.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

impl<S: Storage> Dispatch<S> {
    /// Takes over what was noted when the service ran before. A note that cannot be read costs the time so far.
    pub(super) async fn recall_holds(&mut self) {
        match self.storage.holds().await {
            Ok(holds) => self.holds = holds.into_iter().collect(),
            Err(problem) => {
                let now = self.setup.clock.now();
                self.trouble(now, "cannot read since when secrets are refused", &problem);
            }
        }
    }

    /// Tells a team that is new what was noted of it.
    pub(super) fn recall_hold(&mut self, team: Index, now: Timestamp) {
        if let Some(&since) = self.holds.get(&**self.scheduler.team(team).name()) {
            self.scheduler.was_held(team, since, now);
            self.scheduler.team_mut(team).note.since = Some(since);
        }
    }

    /// Writes down what has changed.
    pub(super) fn note_holds(&mut self, now: Timestamp) {
        for team in 0..self.scheduler.teams().len() {
            let queue = self.scheduler.team_mut(team);
            let since = queue.held_since();
            let note = &mut queue.note;
            let waits = note.not_before.is_some_and(|at| now < at);
            if note.writing || waits || note.since == since {
                continue;
            }
            note.writing = true;
            let (storage, name) = (Arc::clone(&self.storage), Arc::clone(queue.name()));
            let write = async move { TaskResult::Noted(team, since, storage.note_hold(&name, since).await) };
            let handle = self.tasks.spawn(write);
            self.running.insert(handle.id(), Task::Note(team));
        }
    }

    /// A note is written, or is not.
    pub(super) fn noted(
        &mut self,
        team: Index,
        since: Option<Timestamp>,
        answer: Result<(), StorageError>,
        now: Timestamp,
    ) {
        let note = &mut self.scheduler.team_mut(team).note;
        note.writing = false;
        match answer {
            Ok(()) => (note.since, note.not_before) = (since, None),
            Err(problem) => {
                note.not_before = Some(now + RETRY);
                self.trouble(now, "cannot note in the spool since when a secret is refused", &problem);
            }
        }
    }
}
