//! How deliveries ended, and what that means for their incidents.

use jiff::Timestamp;

use super::{Answer, Keeper};
use crate::event::Status;
use crate::incident::Row;
use crate::spool::change::Applied;
use crate::spool::engine::Done;
use crate::spool::entry::Outcome;

impl Keeper {
    pub(super) fn record(&mut self, outcomes: &[Outcome]) -> Answer {
        let mut applied = Applied::default();
        for outcome in outcomes {
            let Some((incident, status)) = self.engine.record(outcome)? else { continue };
            match outcome {
                Outcome::Delivered { seq, event_id, at, by_way } if status == Status::New => {
                    let Some(mut row) = self.incident_of(incident)? else { continue };
                    if let Some(team) = by_way {
                        row.goes_elsewhere(team);
                    }
                    let close = row.was_posted(*seq, event_id.as_deref(), *at);
                    self.engine.store_incident(&row)?;
                    // The open had been withdrawn for this close, which must follow it.
                    if let Some(close) = close {
                        applied.queued.extend(self.engine.release(close, *at)?);
                    }
                }
                Outcome::Failed { seq, .. } => {
                    applied.failed.push(*seq);
                    if let Some(mut row) = self.incident_of(incident)?
                        && row.was_not_posted(*seq)
                    {
                        self.engine.store_incident(&row)?;
                    }
                }
                Outcome::Delivered { .. } | Outcome::Deferred { .. } => {}
            }
        }
        Ok(Ok(applied))
    }

    pub(super) fn requeue(&mut self, seqs: &[u64], now: Timestamp) -> Done<Applied> {
        let mut applied = Applied::default();
        for &seq in seqs {
            let Some(queued) = self.engine.requeue(seq, now)? else { continue };
            if let Some(mut row) = self.incident_of(queued.incident)?
                && row.waits_again(seq, queued.severity, now)
            {
                self.engine.store_incident(&row)?;
            }
            applied.queued.push(queued);
        }
        Ok(applied)
    }

    /// The incident of an event, if it is of one that is kept.
    pub(super) fn incident_of(&self, id: Option<u64>) -> Done<Option<Row>> {
        id.map_or(Ok(None), |id| self.engine.incident(id))
    }
}
