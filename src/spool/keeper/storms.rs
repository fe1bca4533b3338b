//! Storms: which begin, what they fold, and what a digest tells of them.

use jiff::Timestamp;

use super::Keeper;
use crate::event::Status;
use crate::incident::{self, Flood, Storms, Ticket};
use crate::spool::change::{Applied, NewEvent};
use crate::spool::engine::Done;
use crate::spool::entry::State;
use crate::spool::storm::{Storm, Told};

impl Keeper {
    /// The storms that are on.
    pub(super) fn storms_that_rage(&self) -> Done<Storms> {
        let mut storms = Storms::default();
        for storm in self.store.storms()?.into_iter().filter(Storm::rages) {
            let Storm { id, team, kind, stranger, source, .. } = storm;
            storms.rage(&team, &Flood { kind, stranger, source }, id);
        }
        Ok(storms)
    }

    /// Recalls the pages of the last minute before the last event, which count for the next storm. Those that an operator
    /// dropped have not paged.
    pub(super) fn recall_pages(&mut self) -> Done<()> {
        let events = self.engine.last_events(incident::MOST_COUNTED)?;
        let since = events.first().and_then(|last| last.queued_at.checked_sub(incident::STORM_WINDOW).ok());
        let recent = events.iter().take_while(|event| Some(event.queued_at) >= since).collect::<Vec<_>>();
        let paged = [State::Queued, State::Failed, State::Delivered, State::Folded];
        for event in recent.into_iter().rev().filter(|event| paged.contains(&event.state)) {
            if let (Some(team), Some(source)) = (&event.team, &event.source) {
                self.storms.recall((team, event.stranger), source, event.queued_at);
            }
        }
        Ok(())
    }

    /// Counts an event as folded into the storm of its ticket, which begins with it if it is not on. The storm is to be
    /// stored.
    pub(super) fn join(&mut self, event: &NewEvent, ticket: &Ticket, applied: &mut Applied) -> Done<Storm> {
        let (team, now) = (&event.queued.team, event.queued.accepted_at);
        let known = ticket.storm.map_or(Ok(None), |storm| self.engine.storm(storm))?;
        let mut storm = match known {
            Some(storm) => storm,
            None => {
                let storm = self.engine.insert_storm(team, &ticket.flood, now)?;
                self.storms.rage(team, &ticket.flood, storm.id);
                storm
            }
        };
        let keyless = event.queued.external_id.is_none();
        applied.storms |= storm.fold(event.queued.severity, keyless, ticket.excess, now);
        Ok(storm)
    }

    /// Takes out of the queue what still waits there of the digests before `event`. A close does not page, so that
    /// it takes the place of none.
    pub(super) fn replace_digests(&mut self, event: &NewEvent, applied: &mut Applied) -> Done<()> {
        let (team, now) = (&event.queued.team, event.queued.accepted_at);
        let Some(key) = event.queued.external_id.as_deref().filter(|_| event.queued.status == Status::New)
        else {
            return Ok(());
        };
        let reason = "replaced by a later digest of the storm";
        let waiting = self.engine.untried(team, key)?;
        waiting.into_iter().try_for_each(|seq| self.withdraw(team, seq, reason, now, applied))
    }

    /// The storm after a digest, to be stored; none if it is no longer as the maker of the digest saw it.
    pub(super) fn tell(&self, told: &Told, now: Timestamp) -> Done<Option<Storm>> {
        let storm = self.engine.storm(told.storm)?;
        Ok(storm.and_then(|mut storm| storm.tell(told, now).then_some(storm)))
    }
}
