//! Incidents in the database: what becomes of an event that is put, and how its incident stands then. Part
//! of the transaction that writes the event, so that two mails of one incident are judged in their order.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::changes::{Work, key};
use super::rows::{QUEUED, number, queued, text, time, word};
use crate::event::{Severity, Status, with_tile};
use crate::incident::{self, Incident, Page, Report, Verdict};
use crate::spool::engine::{Applied, Fresh};
use crate::spool::entry::{KnownIncident, State, Withdrawn};

/// An incident, and the places of its events that matter.
#[derive(Debug)]
pub(super) struct Known {
    pub incident: Incident,
    /// The number of its row.
    id: i64,
    /// The first event since it opened.
    first_seq: i64,
    /// The last one.
    last_seq: i64,
    /// The last page.
    page_seq: Option<i64>,
    /// The page that is held until its close may have come.
    held_seq: Option<i64>,
    /// The close that was kept, to be sent if its open was posted all the same.
    close_seq: Option<i64>,
    /// The storm whose digest tells of it.
    storm: Option<i64>,
}

/// What becomes of an event, ready to be written.
#[derive(Debug)]
pub(super) struct Sentence {
    pub state: State,
    pub reason: Option<String>,
    pub storm: Option<i64>,
    /// The incident's row.
    pub incident: Option<i64>,
    pub next_at: Timestamp,
    /// The payload, if it is another than that of the event.
    pub payload: Option<String>,
}

macro_rules! columns {
    () => {
        "team, external_id, state, severity, paged_severity, opened_at, last_at, paged_at, mails, unpaged, posted, \
         first_seq, event_ids"
    };
}

/// The columns that [`known_incident`] reads.
pub(super) const INCIDENT: &str = columns!();

/// The question for one incident: the same columns, and those that only this module reads.
pub(super) const INCIDENT_OF: &str = concat!(
    "SELECT ",
    columns!(),
    ", last_seq, page_seq, held_seq, close_seq, storm, id FROM incident WHERE team = ?1 AND key = ?2"
);

/// Reads what can be read, so that a damaged value does not keep a mail out.
fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    Ok(Incident {
        team: text(row, 0)?.unwrap_or_default(),
        external_id: text(row, 1)?.unwrap_or_default(),
        state: word(row, 2)?.unwrap_or(incident::State::Open),
        severity: word(row, 3)?,
        paged_severity: word(row, 4)?,
        opened_at: time(row, 5)?,
        last_at: time(row, 6)?,
        paged_at: row.get::<_, Option<i64>>(7)?.map(|_| time(row, 7)).transpose()?,
        mails: number(row, 8)?,
        unpaged: number(row, 9)?,
        posted: row.get(10)?,
    })
}

/// Reads an incident and the ids that SIGNL4 gave its events.
pub(super) fn known_incident(row: &Row<'_>) -> rusqlite::Result<KnownIncident> {
    let ids = text(row, 12)?.unwrap_or_default();
    let event_ids = ids.split_whitespace().map(str::to_owned).collect();
    Ok(KnownIncident { incident: incident(row)?, event_ids })
}

/// Notes on an incident that an open of it was delivered. Of very many ids of SIGNL4 the older are left out.
pub(super) const WAS_POSTED: &str = "UPDATE incident SET posted = 1, \
     paged_at = iif(page_seq = ?1, ?2, paged_at), \
     event_ids = iif(first_seq > ?1 OR ?3 IS NULL OR instr(event_ids, ?3 || ' '), event_ids, \
     iif(length(event_ids) < 4096, event_ids, \
     substr(event_ids, 2048 + instr(substr(event_ids, 2048), ' '))) || ?3 || ' ') \
     WHERE id = (SELECT incident FROM event WHERE seq = ?1 AND status = 'new') \
     RETURNING iif(page_seq = ?1, close_seq, NULL)";

/// Whether an event that failed is overtaken: a later page of its incident has left or is about to, or it was closed
/// since. What it says is no longer so, and an old close would close the alert of a later page.
pub(super) const OVERTAKEN: &str = "EXISTS (SELECT 1 FROM incident \
     LEFT JOIN event AS page ON page.seq = incident.page_seq LEFT JOIN event AS last ON last.seq = incident.last_seq \
     WHERE incident.id = event.incident AND ( \
     iif(event.status = 'new', incident.page_seq, min(incident.page_seq, incident.first_seq)) > event.seq \
     AND coalesce(page.state, 'delivered') IN ('queued', 'delivered') \
     OR event.status = 'new' AND incident.state = 'resolved' AND incident.last_seq > event.seq \
     AND coalesce(last.state, 'delivered') NOT IN ('failed', 'dropped')))";

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        incident: incident(row)?,
        first_seq: row.get(11)?,
        last_seq: row.get(13)?,
        page_seq: row.get(14)?,
        held_seq: row.get(15)?,
        close_seq: row.get(16)?,
        storm: row.get(17)?,
        id: row.get(18)?,
    })
}

impl Work<'_> {
    /// Decides what becomes of a new event, and writes how its incident stands then. `notice` says that it is
    /// the gateway's own.
    pub fn judge(
        &mut self,
        event: &Fresh,
        seq: i64,
        notice: bool,
        applied: &mut Applied,
    ) -> rusqlite::Result<Sentence> {
        let now = event.queued.accepted_at;
        let report = event.report();
        let Some(external_id) = event.queued.external_id.as_deref() else {
            let mut verdict = match (report.muted, report.status) {
                (Some(reason), _) => Verdict::Mute { reason: reason.to_owned() },
                (None, Status::New) => Verdict::Page,
                (None, Status::Acknowledged | Status::Resolved) => Verdict::Pass,
            };
            let storm = self.fold(event, notice, &mut verdict, None, applied)?;
            return Ok(sentence(event, &verdict, (storm, None), now));
        };
        let known = self.known(&event.queued.team, external_id)?;
        let page = match &known {
            Some(known) if report.status != Status::Acknowledged => self.page(known, now)?,
            _ => Page::Gone,
        };
        let before = known.as_ref().map(|known| &known.incident);
        let mut verdict = incident::decide(before, page, &report, self.incidents, now);
        let storm = self.fold(event, notice, &mut verdict, known.as_ref(), applied)?;
        let row = known.as_ref().map_or(seq, |known| known.id);
        let mut sentence = sentence(event, &verdict, (storm, Some(row)), now);

        let mut held = None;
        if let (Page::Held(until), Some(first)) = (page, known.as_ref().and_then(|known| known.held_seq)) {
            if verdict.pages() {
                let reason = "replaced by a later mail while it was held";
                self.withdraw(event, first, reason, applied)?;
                if verdict == Verdict::Update {
                    (held, sentence.next_at) = (Some(seq), until);
                }
            } else if let Verdict::Flap { reason } = &verdict {
                self.withdraw(event, first, reason, applied)?;
            } else {
                held = Some(first);
            }
        } else if verdict == Verdict::Page && !notice && self.incidents.hold > SignedDuration::ZERO {
            held = Some(seq);
            sentence.next_at = now.checked_add(self.incidents.hold).unwrap_or(now);
        }
        self.keep(event, external_id, seq, known, &verdict, (held, storm), applied)?;
        Ok(sentence)
    }

    /// Lets an event go out as it is, since an operator wants it to. If it is the last of its incident, that
    /// stands as it says.
    pub fn release(&mut self, event: &Fresh, seq: i64, applied: &mut Applied) -> rusqlite::Result<Sentence> {
        let now = event.queued.accepted_at;
        let verdict = if event.status == Status::New { Verdict::Page } else { Verdict::Pass };
        let mut row = None;
        if let Some(external_id) = event.queued.external_id.as_deref() {
            let known = self.known(&event.queued.team, external_id)?;
            row = Some(known.as_ref().map_or(seq, |known| known.id));
            if known.as_ref().is_none_or(|known| known.last_seq < seq) {
                self.keep(event, external_id, seq, known, &verdict, (None, None), applied)?;
            } else if verdict.pages() {
                self.db
                    .prepare_cached("UPDATE incident SET posted = 1 WHERE id = ?1")?
                    .execute(params![row])?;
            }
        }
        Ok(sentence(event, &verdict, (None, row), now))
    }

    /// Writes how the incident stands after an event of which `verdict` was made.
    #[allow(clippy::too_many_arguments, reason = "it is the whole of what is known of the event")]
    fn keep(
        &mut self,
        event: &Fresh,
        external_id: &str,
        seq: i64,
        known: Option<Known>,
        verdict: &Verdict,
        (held, storm): (Option<i64>, Option<i64>),
        applied: &mut Applied,
    ) -> rusqlite::Result<()> {
        let status = event.status;
        let id = known.as_ref().map_or(seq, |known| known.id);
        let (team, now) = (event.queued.team.as_str(), event.queued.accepted_at);
        let same_life = known.as_ref().filter(|known| !known.incident.is_over_before(status));
        let first_seq = same_life.map_or(seq, |known| known.first_seq);
        let page_seq = match verdict {
            verdict if verdict.pages() => Some(seq),
            Verdict::Fold => None,
            _ => same_life.and_then(|known| known.page_seq),
        };
        let kept = matches!(verdict, Verdict::Flap { .. } | Verdict::Count { .. });
        let close_seq = match status {
            Status::New => None,
            Status::Acknowledged => known.as_ref().and_then(|known| known.close_seq),
            Status::Resolved => kept.then_some(seq),
        };
        let folded = known.as_ref().and_then(|known| known.storm);
        let storm = if status == Status::Resolved { None } else { storm.or(folded) };
        if storm != folded {
            self.move_between_storms(folded, storm, applied)?;
        }
        let before = known.map(|known| known.incident);
        let incident = Incident::after(before, (team, external_id), &event.report(), verdict, now);
        self.db
            .prepare_cached(
                "INSERT INTO incident (id, team, key, external_id, stranger, key_source, instance, domain, state, severity, paged_severity, opened_at, \
                 last_at, paged_at, mails, unpaged, posted, first_seq, last_seq, page_seq, held_seq, close_seq, \
                 storm, event_ids) VALUES (?18, ?1, ?2, ?2, 0, 'operator', '', '', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
                 ?16, ?17, '') \
                 ON CONFLICT DO UPDATE SET state = ?3, severity = ?4, paged_severity = ?5, opened_at = ?6, \
                 last_at = ?7, paged_at = ?8, mails = ?9, unpaged = ?10, posted = ?11, first_seq = ?12, \
                 last_seq = ?13, page_seq = ?14, held_seq = ?15, close_seq = ?16, storm = ?17, \
                 event_ids = iif(first_seq = ?12, event_ids, '')",
            )?
            .execute(params![
                team,
                external_id,
                incident.state.word(),
                incident.severity.map(|severity| severity.to_string()),
                incident.paged_severity.map(|severity| severity.to_string()),
                incident.opened_at.as_millisecond(),
                incident.last_at.as_millisecond(),
                incident.paged_at.map(Timestamp::as_millisecond),
                key(incident.mails),
                key(incident.unpaged),
                incident.posted,
                first_seq,
                seq,
                page_seq,
                held,
                close_seq,
                storm,
                id,
            ])?;
        Ok(())
    }

    fn known(&self, team: &str, external_id: &str) -> rusqlite::Result<Option<Known>> {
        self.db.prepare_cached(INCIDENT_OF)?.query_row([team, external_id], known).optional()
    }

    /// Where the incident's last page is.
    fn page(&self, known: &Known, now: Timestamp) -> rusqlite::Result<Page> {
        let Some(seq) = known.page_seq else { return Ok(Page::Gone) };
        let waits: Option<(u32, i64)> = self
            .db
            .prepare_cached("SELECT attempts, next_at FROM event WHERE seq = ?1 AND state = 'queued'")?
            .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(match waits {
            None => Page::Gone,
            Some((0, next_at)) if known.held_seq == Some(seq) && next_at > now.as_millisecond() => {
                Page::Held(Timestamp::from_millisecond(next_at).unwrap_or(now))
            }
            Some(_) => Page::Waits,
        })
    }

    /// Takes an open that is held out of the queue.
    pub fn withdraw(
        &self,
        event: &Fresh,
        seq: i64,
        reason: &str,
        applied: &mut Applied,
    ) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "UPDATE event SET state = 'counted', settled_at = ?2, reason = ?3 \
                 WHERE seq = ?1 AND state = 'queued'",
            )?
            .execute(params![seq, event.queued.accepted_at.as_millisecond(), reason])?;
        applied.withdrawn.push(Withdrawn { team: event.queued.team.clone(), seq: seq.cast_unsigned() });
        Ok(())
    }

    /// An open was delivered, and SIGNL4 calls it `event_id`: the quiet time counts from now. If it had been
    /// withdrawn for a close, that close must follow it.
    pub fn was_posted(
        &self,
        seq: u64,
        event_id: Option<&str>,
        at: Timestamp,
        applied: &mut Applied,
    ) -> rusqlite::Result<()> {
        let close: Option<Option<i64>> = self
            .db
            .prepare_cached(WAS_POSTED)?
            .query_row(params![key(seq), at.as_millisecond(), event_id], |row| row.get(0))
            .optional()?;
        if let Some(close) = close.flatten() {
            let row = self
                .db
                .prepare_cached(&format!(
                    "UPDATE event SET state = 'queued', queued_at = ?2, next_at = ?2, settled_at = NULL, \
                     reason = NULL WHERE seq = ?1 AND state = 'counted' RETURNING {QUEUED}"
                ))?
                .query_row(params![close, at.as_millisecond()], queued)
                .optional()?;
            applied.queued.extend(row);
        }
        Ok(())
    }

    /// The last page failed for good: nobody knows of the incident, and its next open pages.
    pub fn was_not_posted(&self, seq: u64) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "UPDATE incident SET paged_at = NULL, paged_severity = NULL \
                 WHERE id = (SELECT incident FROM event WHERE seq = ?1) AND page_seq = ?1",
            )?
            .execute([key(seq)])?;
        Ok(())
    }

    /// The last page was put back into the queue: its next open need not page beside it.
    pub fn waits_again(
        &self,
        incident: u64,
        (seq, severity): (u64, Option<Severity>),
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "UPDATE incident SET paged_at = ?3, paged_severity = ?4 \
                 WHERE id = ?1 AND page_seq = ?2 AND paged_at IS NULL",
            )?
            .execute(params![
                key(incident),
                key(seq),
                now.as_millisecond(),
                severity.map(|severity| severity.to_string()),
            ])?;
        Ok(())
    }

    /// Forgets these incidents, unless they were heard of since.
    pub fn forget(&self, incidents: &[(u64, u64)]) -> rusqlite::Result<usize> {
        let mut statement = self.db.prepare_cached("DELETE FROM incident WHERE id = ?1 AND last_seq = ?2")?;
        let mut count = 0;
        for &(id, last) in incidents {
            let forgotten = statement.execute([key(id), key(last)])?;
            if forgotten > 0 {
                self.forgets(key(id))?;
            }
            count += forgotten;
        }
        Ok(count)
    }
}

impl Fresh {
    fn report(&self) -> Report<'_> {
        Report {
            status: self.status,
            severity: self.queued.severity,
            repeat: self.repeat,
            quiet: self.quiet,
            muted: self.muted.as_deref(),
        }
    }
}

fn sentence(
    event: &Fresh,
    verdict: &Verdict,
    (storm, incident): (Option<i64>, Option<i64>),
    now: Timestamp,
) -> Sentence {
    let (state, reason) = match verdict {
        Verdict::Page | Verdict::PageAgain { .. } | Verdict::Update | Verdict::Pass => (State::Queued, None),
        Verdict::Count { reason } | Verdict::Flap { reason } => (State::Counted, Some(reason.clone())),
        Verdict::Mute { reason } => (State::Muted, Some(reason.clone())),
        Verdict::Fold => (State::Folded, storm.map(|storm| format!("told in the digest of storm {storm}"))),
    };
    let payload = match verdict {
        Verdict::PageAgain { repeats: repeats @ 1.., .. } => {
            let times = if *repeats == 1 { "once".to_owned() } else { format!("{repeats} times") };
            Some(with_tile(&event.queued.payload, "Repeated", &format!("{times} since the last page")))
        }
        _ => None,
    };
    Sentence { state, reason, storm, incident, next_at: now, payload }
}
