//! Gives the events of a mail to another team. The old row stays, as dropped: it may be under way, and what
//! comes of it must be told of itself and not of the new one.

use jiff::Timestamp;
use rusqlite::params;

use super::changes::{Answer, Work, key};
use super::incidents::{Place, of_event};
use super::rows::{QUEUED, payload, queued, text};
use crate::event::{Guess, Identity, KeySource, readdressed};
use crate::incident::{self, Will};
use crate::mail::{MailId, Trust};
use crate::spool::engine::{Applied, Fresh, Refused};

/// An event that was not delivered.
struct Row {
    seq: i64,
    team: Option<String>,
    payload: Option<String>,
}

impl Work<'_> {
    /// Puts the events of `mail` that were not delivered into the queue of `team`, each once.
    pub(super) fn retarget(&mut self, mail: MailId, team: &str, now: Timestamp) -> Answer {
        let Some((first, end)) = self.block(mail)? else {
            return Ok(Err(Refused::NoSuchMail));
        };
        let rows: Vec<Row> = self
            .db
            .prepare_cached(concat!(
                "SELECT seq, team, ",
                payload!(),
                " FROM event WHERE seq >= ?1 AND seq < ?2 AND state IN ('queued', 'failed') ORDER BY seq"
            ))?
            .query_map([first, end], |row| {
                Ok(Row { seq: row.get(0)?, team: row.get(1)?, payload: text(row, 2)? })
            })?
            .collect::<rusqlite::Result<_>>()?;
        let (own, others): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| row.team.as_deref() == Some(team));
        let own_seqs: Vec<u64> = own.iter().map(|row| row.seq.cast_unsigned()).collect();
        let mut applied = match self.requeue(&own_seqs, now)? {
            Ok(applied) => applied,
            refused => return Ok(refused),
        };
        let mut payloads: Vec<Option<String>> = own.into_iter().map(|row| row.payload).collect();
        let last: i64 = self
            .db
            .prepare_cached("SELECT coalesce(max(seq), ?1 - 1) FROM event WHERE seq >= ?1 AND seq < ?2")?
            .query_row([first, end], |row| row.get(0))?;
        if i64::try_from(others.len()).map_or(true, |count| count > end - 1 - last) {
            return Ok(Err(Refused::NoPlace));
        }
        let copy = self.copy()?;
        let mut next = last + 1..;
        for row in others {
            self.db
                .prepare_cached(
                    "UPDATE event SET state = 'dropped', settled_at = ?2, \
                     reason = 'sent to team ' || ?3 || ' instead' || coalesce('; before: ' || reason, '') \
                     WHERE seq = ?1",
                )?
                .execute(params![row.seq, now.as_millisecond(), team])?;
            // The team that it was for was not paged, so that the next open of its incident must page it. Should
            // the old one be under way, its outcome says otherwise.
            let from = of_event(self.db, row.seq.cast_unsigned())?;
            self.was_not_posted(row.seq.cast_unsigned())?;
            self.goes_elsewhere(row.seq.cast_unsigned(), team)?;
            // What two teams were to have alike, one team has once.
            if payloads.contains(&row.payload) {
                continue;
            }
            payloads.push(row.payload);
            let seq = next.next().expect("a range without end has a next");
            self.db.prepare_cached(&copy)?.execute(params![row.seq, seq, team, now.as_millisecond()])?;
            let mut queued = self
                .db
                .prepare_cached(&format!("SELECT {QUEUED} FROM event WHERE seq = ?1"))?
                .query_row([seq], queued)?;
            // There it has the key that the rules gave it.
            if let Some(from) = &from {
                queued.external_id = Some(from.key.clone());
            }
            // The incident is the new team's as well from now on: what repeats it there is one. What the rules said of repeats is not kept, and an operator's word stands above it.
            let event = Fresh {
                status: queued.status,
                queued: queued.clone(),
                part: None,
                title: String::new(),
                source: String::new(),
                repeat: None,
                quiet: None,
                muted: None,
                identity: from.as_ref().map(identity).unwrap_or_default(),
                posted_as: None,
            };
            let place = Place { seq, room: 0, will: Will::Operator, handed_in: None, replayed: false };
            let ruling = self.judge(&event, &place, &mut applied)?;
            queued.incident = ruling.incident;
            queued.external_id = ruling.external_id;
            let mut own = None;
            if queued.external_id != event.queued.external_id {
                let id = queued.external_id.as_deref();
                queued.payload = readdressed(&queued.payload, id, queued.status, queued.severity).into();
                own = Some(&*queued.payload);
            }
            self.db
                .prepare_cached(
                    "UPDATE event SET incident = ?2, external_id = ?3, payload = coalesce(?4, payload) WHERE seq = ?1",
                )?
                .execute(params![seq, queued.incident.map(key), queued.external_id, own])?;
            applied.queued.push(queued);
        }
        Ok(Ok(Applied { count: applied.queued.len(), ..applied }))
    }

    /// Copies the row ?1 to the number ?2, for the team ?3, as new at ?4. All that it does not know it takes
    /// over, whatever columns there are.
    fn copy(&self) -> rusqlite::Result<String> {
        let columns: Vec<String> = self
            .db
            .prepare_cached("SELECT name FROM pragma_table_info('event')")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let values: Vec<&str> = columns
            .iter()
            .map(|column| match column.as_str() {
                "seq" => "?2",
                "team" => "?3",
                "state" => "'queued'",
                "attempts" | "unanswered" => "0",
                "queued_at" | "next_at" => "?4",
                "settled_at" | "reason" | "note" | "event_id" | "storm" | "incident" => "NULL",
                other => other,
            })
            .collect();
        let (columns, values) = (columns.join(", "), values.join(", "));
        Ok(format!("INSERT INTO event ({columns}) SELECT {values} FROM event WHERE seq = ?1"))
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
