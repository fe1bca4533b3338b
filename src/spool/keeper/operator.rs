//! What an operator decides about the events of a mail that were not delivered. Each old event keeps its number: it may
//! be under way, and what comes of it must be told of itself and not of a new one.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use super::put::{Arrival, Filing};
use super::{Answer, Keeper};
use crate::event::{Guess, Identity, KeySource, Status, readdressed};
use crate::incident;
use crate::mail::{MailId, Trust};
use crate::spool::change::{Applied, Judged, NewEvent, Refused};
use crate::spool::engine::{Done, Undelivered};
use crate::spool::entry::{Queued, State};

/// The states of an event that was not delivered.
const UNDELIVERED: [State; 2] = [State::Queued, State::Failed];

impl Keeper {
    pub(super) fn rejudge(&mut self, mail: MailId, judged: &Judged, now: Timestamp) -> Answer {
        let Some(block) = self.engine.block(mail)? else { return Ok(Err(Refused::NoSuchMail(mail))) };
        let free = self.free(&block)?;
        if judged.numbers() as u64 > free.end - free.start {
            return Ok(Err(Refused::NoPlace(mail)));
        }
        let from = [State::Queued, State::Failed, State::Counted, State::Muted, State::Folded];
        self.engine.settle(&block, &from, State::Dropped, now, "judged again")?;
        self.engine.set_story(mail, &judged.story)?;
        let mut filing = Filing::by_operator(mail);
        self.file_all(&mut filing, free, judged, now)?;
        Ok(Ok(filing.applied))
    }

    pub(super) fn drop(&mut self, mail: MailId, now: Timestamp) -> Answer {
        let Some(block) = self.engine.block(mail)? else { return Ok(Err(Refused::NoSuchMail(mail))) };
        let reason = "dropped by an operator";
        let count = self.engine.settle(&block, &UNDELIVERED, State::Dropped, now, reason)?;
        Ok(Ok(Applied { count, ..Applied::default() }))
    }

    /// Puts the events of `mail` that were not delivered into the queue of `team`, each once.
    pub(super) fn retarget(&mut self, mail: MailId, team: &str, now: Timestamp) -> Answer {
        let Some(block) = self.engine.block(mail)? else { return Ok(Err(Refused::NoSuchMail(mail))) };
        let events = self.engine.undelivered(&block)?;
        let (own, others): (Vec<Undelivered>, Vec<Undelivered>) =
            events.into_iter().partition(|event| event.queued.team == team);
        let mut free = self.free(&block)?;
        if others.len() as u64 > free.end - free.start {
            return Ok(Err(Refused::NoPlace(mail)));
        }
        let own_seqs: Vec<u64> = own.iter().map(|event| event.queued.seq).collect();
        let mut filing = Filing::by_operator(mail);
        filing.applied = self.requeue(&own_seqs, now)?;
        let mut payloads: Vec<Arc<str>> = own.into_iter().map(|event| event.queued.payload).collect();
        let reason = format!("sent to team {team} instead");
        for event in others {
            let seq = event.queued.seq;
            self.engine.settle(&(seq..seq + 1), &UNDELIVERED, State::Dropped, now, &reason)?;
            let from = self.incident_of(event.queued.incident)?;
            if let Some(mut row) = from.clone() {
                // The team that it was for was not paged, so that the next open of its incident must page it. Should
                // the old one be under way, its outcome says otherwise.
                let unposted = row.was_not_posted(seq);
                if event.queued.status == Status::New && row.goes_elsewhere(team) || unposted {
                    self.engine.store_incident(&row)?;
                }
            }
            // What two teams were to have alike, one team has once.
            if payloads.contains(&event.queued.payload) {
                continue;
            }
            payloads.push(Arc::clone(&event.queued.payload));
            let seq = free.next().expect("there is a number for each");
            let event = for_team(event, team, from.as_ref(), now);
            self.file(&mut filing, &event, &Arrival { seq, ..Arrival::default() })?;
        }
        Ok(Ok(Applied { count: filing.applied.queued.len(), ..filing.applied }))
    }

    /// The numbers of a block behind the last that an event has.
    fn free(&self, block: &Range<u64>) -> Done<Range<u64>> {
        let last = self.engine.states(block)?.last().map(|event| event.seq + 1);
        Ok(last.unwrap_or(block.start)..block.end)
    }
}

/// An event of the incident `from`, if it is of one, as it is for `team`. There it has the key that the rules gave it. What
/// the rules said of repeats is not kept, and an operator's word stands above it.
fn for_team(event: Undelivered, team: &str, from: Option<&incident::Row>, now: Timestamp) -> NewEvent {
    let Undelivered { queued, title, part } = event;
    let external_id = from.map(|row| row.key.clone()).or_else(|| queued.external_id.clone());
    let is_as_packed = external_id == queued.external_id;
    let mut payload = Arc::clone(&queued.payload);
    if !is_as_packed {
        payload = readdressed(&payload, external_id.as_deref(), queued.status, queued.severity).into();
    }
    NewEvent {
        part: part.filter(|_| is_as_packed),
        queued: Queued {
            team: team.to_owned(),
            external_id,
            payload,
            accepted_at: now,
            next_at: now,
            attempts: 0,
            unanswered: 0,
            reason: None,
            ..queued
        },
        title,
        source: String::new(),
        repeat: None,
        quiet: None,
        muted: None,
        identity: from.map(identity).unwrap_or_default(),
        posted_as: None,
    }
}

/// What an event of an incident is about, and the evidence about its sender, as far as the incident has them.
fn identity(row: &incident::Row) -> Identity {
    let source = &row.source;
    let guessed = source.key_source == KeySource::Guess;
    let guess = source.base.clone().filter(|_| guessed).map(|base| Guess { base, mark: source.mark });
    let known = if source.stranger { Trust::Stranger } else { Trust::Trusted };
    Identity {
        trust: row.trust.unwrap_or(known),
        key_source: source.key_source,
        guess,
        family: source.family.clone(),
        form: source.form.clone(),
        instance: source.instance.clone(),
        domain: source.domain.clone(),
        sent_at: row.sent_at,
        ..Identity::default()
    }
}
