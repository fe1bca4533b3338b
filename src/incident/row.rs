//! What is kept of an incident: its identity, its present life, and the places of its events that matter.

use jiff::Timestamp;

use super::{Incident, Report, State, Verdict};
use crate::event::{Identity, KeySource, Mark, Severity, Status};
use crate::mail::Trust;

/// Longest list of SIGNL4's ids that is kept of an incident, in bytes; of very many the older are left out.
const IDS: usize = 4_096;

/// Where the mails of an incident come from. With the team and the key it is the incident's identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// True if its mails are from strangers. Their incidents are apart from those of known senders.
    pub stranger: bool,
    /// Where the key came from.
    pub key_source: KeySource,
    /// The product family.
    pub family: Option<String>,
    /// The form of the family's mails.
    pub form: Option<String>,
    /// The installation of the product.
    pub instance: String,
    /// The domain of its From mailbox.
    pub domain: String,
    /// What all texts of a guessed key share.
    pub base: Option<String>,
    /// What the mark in the subject of the opening mail says.
    pub mark: Option<Mark>,
}

impl Source {
    /// The source that an event of this identity is from.
    pub fn of(identity: &Identity) -> Self {
        Self {
            stranger: identity.trust.is_stranger(),
            key_source: identity.key_source,
            family: identity.family.clone(),
            form: identity.form.clone(),
            instance: identity.instance.clone(),
            domain: identity.domain.clone(),
            base: identity.guess.as_ref().map(|guess| guess.base.clone()),
            mark: identity.guess.as_ref().and_then(|guess| guess.mark),
        }
    }
}

/// An incident as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number: that of the event that made it.
    pub id: u64,
    /// What its mails share, as the rules gave it.
    pub key: String,
    /// Where they come from.
    pub source: Source,
    /// The class that is trusted most of those that paged in its present life.
    pub trust: Option<Trust>,
    /// When the mail that opened it was written, by its sender's clock.
    pub sent_at: Option<Timestamp>,
    /// Its present life. The external id there is what SIGNL4 is told.
    pub incident: Incident,
    /// The first event since it opened.
    pub first_seq: u64,
    /// The last one.
    pub last_seq: u64,
    /// The last page.
    pub page_seq: Option<u64>,
    /// The page that is held until its close may have come.
    pub held_seq: Option<u64>,
    /// The close that was kept, to be sent if its open was posted all the same.
    pub close_seq: Option<u64>,
    /// The storm whose digest tells of it.
    pub storm: Option<u64>,
    /// SIGNL4's ids of its opens, each with a space behind it.
    pub event_ids: String,
    /// Other teams that a page of it went to, by way of a fallback or by an operator's word. What acknowledges or closes it
    /// goes there as well, or an alert would stay open there for ever.
    pub elsewhere: Vec<String>,
}

/// What happens to a row with one event.
pub(super) struct Step<'a> {
    pub seq: u64,
    pub report: &'a Report<'a>,
    pub identity: &'a Identity,
    pub verdict: &'a Verdict,
    pub held: Option<u64>,
    pub now: Timestamp,
}

impl Row {
    /// The row after an event of which a verdict was made; `known` is the row before it. `posted_id` is what SIGNL4 is
    /// told in a life that begins with it.
    pub(super) fn after(
        known: Option<&Self>,
        key: &str,
        team: &str,
        posted_id: &str,
        step: &Step<'_>,
    ) -> Self {
        let Step { seq, report, identity, verdict, held, now } = *step;
        let same_life = known.filter(|row| !row.incident.is_over_before(report.status));
        let before = known.map(|row| row.incident.clone());
        let mut incident = Incident::after(before, (team, posted_id), report, verdict, now);
        let kept = matches!(verdict, Verdict::Flap { .. } | Verdict::Count { .. });
        let close_seq = match report.status {
            Status::New => None,
            Status::Acknowledged => known.and_then(|row| row.close_seq),
            Status::Resolved => kept.then_some(seq),
        };
        let page_seq = match verdict {
            verdict if verdict.pages() => Some(seq),
            Verdict::Fold => None,
            _ => same_life.and_then(|row| row.page_seq),
        };
        let storm = known.and_then(|row| row.storm).filter(|_| report.status != Status::Resolved);
        let paged = (verdict.pages() || *verdict == Verdict::Fold).then_some(identity.trust);
        let trust = same_life.and_then(|row| row.trust).max(paged);
        match same_life {
            Some(row) => {
                incident.external_id.clone_from(&row.incident.external_id);
                let mut source = row.source.clone();
                // An end that ended nothing may have opened it; what is a problem by now has an end to come.
                if report.status == Status::New && Source::of(identity).mark == Some(Mark::Problem) {
                    source.mark = Some(Mark::Problem);
                }
                Self {
                    source,
                    trust,
                    incident,
                    last_seq: seq,
                    page_seq,
                    held_seq: held,
                    close_seq,
                    storm,
                    ..row.clone()
                }
            }
            None => Self {
                id: known.map_or(seq, |row| row.id),
                key: key.to_owned(),
                source: Source::of(identity),
                trust,
                sent_at: identity.sent_at,
                incident,
                first_seq: seq,
                last_seq: seq,
                page_seq,
                held_seq: held,
                close_seq,
                storm,
                event_ids: String::new(),
                elsewhere: known.map(|row| row.elsewhere.clone()).unwrap_or_default(),
            },
        }
    }

    /// Whether it is neither closed nor of a life that is over.
    pub fn is_open(&self) -> bool {
        self.incident.state != State::Resolved
    }

    /// Whether it is open, and what is posted under `id` is about its alert.
    pub fn is_alert(&self, id: &str) -> bool {
        self.is_open() && self.incident.external_id == id
    }

    /// An open of it was delivered, and SIGNL4 calls it `event_id`: the quiet time counts from now. If it had been
    /// withdrawn for a close, that close must follow it: its number.
    pub fn was_posted(&mut self, seq: u64, event_id: Option<&str>, at: Timestamp) -> Option<u64> {
        self.incident.posted = true;
        let last = self.page_seq == Some(seq);
        if last {
            self.incident.paged_at = Some(at);
        }
        if let Some(id) = event_id
            && self.first_seq <= seq
            && !self.event_ids.split(' ').any(|known| known == id)
        {
            if self.event_ids.len() >= IDS {
                let from = self.event_ids.len() / 2;
                let cut = self.event_ids.bytes().skip(from).position(|byte| byte == b' ');
                self.event_ids.drain(..cut.map_or(0, |cut| from + cut + 1));
            }
            self.event_ids.push_str(id);
            self.event_ids.push(' ');
        }
        self.close_seq.filter(|_| last)
    }

    /// A page of it goes to `team`. Whether anything has changed.
    pub fn goes_elsewhere(&mut self, team: &str) -> bool {
        let new = !self.elsewhere.iter().any(|known| known == team);
        if new {
            self.elsewhere.push(team.to_owned());
        }
        new
    }

    /// The event `seq` failed for good. If it was the last page, the on-call does not know of the incident, so its next open pages.
    /// Whether anything has changed.
    pub fn was_not_posted(&mut self, seq: u64) -> bool {
        let last = self.page_seq == Some(seq);
        if last {
            (self.incident.paged_at, self.incident.paged_severity) = (None, None);
        }
        last
    }

    /// The event `seq` was put back into the queue: if it is the last page, the next open need not page beside it.
    /// Whether anything has changed.
    pub fn waits_again(&mut self, seq: u64, severity: Option<Severity>, now: Timestamp) -> bool {
        let again = self.page_seq == Some(seq) && self.incident.paged_at.is_none();
        if again {
            (self.incident.paged_at, self.incident.paged_severity) = (Some(now), severity);
        }
        again
    }

    /// Whether the event `seq`, which failed, is overtaken: a later page of its incident has left or is about to, or
    /// the incident was closed since. What it says is no longer so, and an old close would close the alert of a later
    /// page. `page_goes` and `last_goes` tell whether the last page, and the last event, were posted or will be.
    pub fn overtakes(&self, seq: u64, status: Status, page_goes: bool, last_stands: bool) -> bool {
        let paged =
            self.page_seq.map(|page| if status == Status::New { page } else { page.min(self.first_seq) });
        paged.is_some_and(|page| page > seq) && page_goes
            || status == Status::New && !self.is_open() && self.last_seq > seq && last_stands
    }
}
