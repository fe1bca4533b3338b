//! The law of incidents, [`incident::rule`], is given the incidents that matter for an event, and what it makes of them is
//! stored, in the transaction that writes the event: two mails of one incident are judged in their order.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Keeper;
use super::put::Arrival;
use crate::event::{KeySource, Status};
use crate::incident::{self, Case, Page, Row, Ruling, Will};
use crate::spool::change::{Applied, NewEvent};
use crate::spool::engine::{By, Done, Engine};
use crate::spool::entry::{State, Withdrawn};
use crate::spool::storm::Storm;

/// Incidents that are looked at for one event at most, of each class: a stranger may use one key under ever new names.
const ROWS: usize = 256;

impl Keeper {
    /// Decides what becomes of a new event, and stores how its incidents stand then.
    pub(super) fn judge(
        &mut self,
        event: &NewEvent,
        arrival: &Arrival,
        will: Will,
        applied: &mut Applied,
    ) -> Done<Ruling> {
        let queued = &event.queued;
        let (team, now) = (queued.team.as_str(), queued.accepted_at);
        let rows = match queued.external_id.as_deref() {
            Some(key) => self.rows(event, key)?,
            None => Vec::new(),
        };
        let case = Case {
            seq: arrival.seq,
            room: usize::try_from(arrival.room).unwrap_or(usize::MAX),
            team,
            key: queued.external_id.as_deref(),
            posted_as: event.posted_as.as_deref(),
            report: event.report(),
            identity: &event.identity,
            source: &event.source,
            will,
            rows: &rows,
            handed_in: arrival.handed_in.as_deref(),
            replayed: arrival.replayed,
            texts: self.texts(event)?,
            allowance: self.allowances.of(team),
            retention: self.retention,
            now,
        };
        let engine = &*self.engine;
        let mut ruling =
            incident::rule(&case, |row| page(engine, row, now), &mut self.storms, &self.incidents)?;
        let mut storms: BTreeMap<u64, Storm> = BTreeMap::new();
        if let Some(ticket) = ruling.ticket.clone() {
            let storm = self.join(event, &ticket, applied)?;
            ruling.fold_into(storm.id);
            storms.insert(storm.id, storm);
        }
        for (seq, reason) in &ruling.withdraw {
            self.withdraw(team, *seq, reason, now, applied)?;
        }
        for row in &ruling.rows {
            let before = rows.iter().find(|known| known.id == row.id).and_then(|known| known.storm);
            if before != row.storm {
                // One storm's digest tells of it no more, and perhaps another's does from now on.
                for (id, is_open) in [(before, false), (row.storm, true)] {
                    let Some(id) = id else { continue };
                    if !storms.contains_key(&id) {
                        storms.extend(self.engine.storm(id)?.map(|storm| (id, storm)));
                    }
                    applied.storms |= storms.get_mut(&id).is_some_and(|storm| storm.count_open(is_open));
                }
            }
            self.engine.store_incident(row)?;
        }
        storms.values().try_for_each(|storm| self.engine.store_storm(storm))?;
        Ok(ruling)
    }

    /// The incidents that matter for an event of this key.
    fn rows(&self, event: &NewEvent, key: &str) -> Done<Vec<Row>> {
        let team = event.queued.team.as_str();
        let identity = &event.identity;
        let closes = event.queued.status != Status::New;
        let stranger = identity.trust.is_stranger();
        // What a stranger holds does not matter to an open of a known sender; what known senders hold decides only under
        // which id a stranger's open of a shipped rule's key is posted.
        let of_known = closes || !stranger || identity.key_source == KeySource::Shipped;
        let of_strangers = closes || stranger;
        let mut rows = Vec::new();
        for (_, stranger) in [(of_known, false), (of_strangers, true)].into_iter().filter(|(asked, _)| *asked)
        {
            rows.extend(self.engine.incidents(team, By::Key(key, stranger), ROWS)?);
        }
        if !closes {
            return Ok(rows);
        }
        let more = match &identity.guess {
            _ if identity.key_source == KeySource::Operator => {
                self.engine.incidents(team, By::PostedId(key), ROWS)?
            }
            Some(guess) => self.engine.incidents(team, By::Base(&guess.base), 4 * ROWS)?,
            None => Vec::new(),
        };
        for row in more {
            if !rows.iter().any(|known| known.id == row.id) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// How many texts of the event's base were paged by themselves within the quiet time.
    fn texts(&self, event: &NewEvent) -> Done<usize> {
        let Some(guess) = &event.identity.guess else { return Ok(0) };
        let quiet = event.quiet.unwrap_or(self.incidents.quiet);
        let since = event.queued.accepted_at.checked_sub(quiet).unwrap_or(Timestamp::MIN);
        let (team, stranger) = (&event.queued.team, event.identity.trust.is_stranger());
        let key = event.queued.external_id.as_deref();
        self.engine.texts(team, &guess.base, stranger, since, key, incident::TEXTS)
    }

    /// Takes an open that was not tried out of the queue.
    pub(super) fn withdraw(
        &mut self,
        team: &str,
        seq: u64,
        reason: &str,
        now: Timestamp,
        applied: &mut Applied,
    ) -> Done<()> {
        self.engine.settle(&(seq..seq + 1), &[State::Queued], State::Counted, now, reason)?;
        applied.withdrawn.push(Withdrawn { team: team.to_owned(), seq });
        Ok(())
    }
}

/// Where the last page of an incident is.
fn page(engine: &dyn Engine, row: &Row, now: Timestamp) -> Done<Page> {
    let Some(seq) = row.page_seq else { return Ok(Page::Gone) };
    Ok(match engine.attempts(seq)? {
        None => Page::Gone,
        Some((0, next_at)) if row.held_seq == Some(seq) && next_at > now => Page::Held(next_at),
        Some(_) => Page::Waits,
    })
}
