//! Upkeep: what was kept for long enough is deleted, in small steps.

use jiff::Timestamp;

use super::put::{MAIL, SIGNATURE};
use super::{Answer, Keeper};
use crate::mail::MailId;
use crate::spool::change::{Applied, Horizon};
use crate::spool::engine::{Done, OldMail};
use crate::spool::entry::State;

/// How many mails one purge step looks at: a millisecond or two, which mail that comes meanwhile waits.
const PURGE_STEP: usize = 32;

impl Keeper {
    pub(super) fn purge(&mut self, after: u64, horizon: Horizon) -> Answer {
        // Ids begin with the time, so the old mails are the first ones.
        let newest = MailId::new(horizon.settled.max(horizon.failed), u16::MAX).number();
        let mut mails = self.engine.mails_after(after, false, PURGE_STEP)?;
        mails.retain(|mail| mail.id <= newest);
        let mut applied = Applied::default();
        if mails.len() == PURGE_STEP {
            applied.next = mails.last().map(|mail| mail.id);
        }
        for mail in mails {
            let settled_before = |state| match state {
                State::Queued => None,
                State::Failed => Some(horizon.failed),
                _ => Some(horizon.settled),
            };
            if self.is_done(&mail, settled_before)? {
                self.delete(&mail)?;
                applied.count += 1;
            }
        }
        Ok(Ok(applied))
    }

    /// Whether all events of a mail were settled before the time that is `due` for their state; none is due for a state
    /// that stays.
    pub(super) fn is_done(&self, mail: &OldMail, due: impl Fn(State) -> Option<Timestamp>) -> Done<bool> {
        // The newest mail stays, so that no number is given twice.
        if mail.block.end == self.next_seq {
            return Ok(false);
        }
        let events = self.engine.states(&mail.block)?;
        Ok(events
            .iter()
            .all(|event| due(event.state).is_some_and(|due| event.settled_at.is_none_or(|at| at < due))))
    }

    pub(super) fn delete(&mut self, mail: &OldMail) -> Done<()> {
        self.engine.delete_mail(mail)?;
        self.room.leave(mail);
        Ok(())
    }

    /// Forgets these incidents, each with its last event, unless they were heard of since; storms that are over; the
    /// mails that can no longer be handed in again; and old signatures.
    pub(super) fn forget(&mut self, incidents: &[(u64, u64)], before: Timestamp, now: Timestamp) -> Answer {
        let mut count = 0;
        for &(id, last) in incidents {
            count += usize::from(self.engine.forget_incident(id, last)?);
        }
        let mails = now.checked_sub(self.incidents.redelivery).unwrap_or(Timestamp::MIN);
        self.engine.forget_seen(MAIL, mails.max(before))?;
        self.engine.forget_seen(SIGNATURE, before)?;
        self.engine.forget_storms(before)?;
        Ok(Ok(Applied { count, ..Applied::default() }))
    }
}
