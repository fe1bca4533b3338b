//! A mail is taken: its row, its events, and what follows of them for other teams.

use std::ops::Range;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::room::Need;
use super::{Answer, BLOCK, Keeper};
use crate::event::{self, Status, with_tile};
use crate::incident::{Further, Ruling, Verdict, Will};
use crate::mail::MailId;
use crate::spool::change::{Applied, Content, Judged, NewEvent, PutRequest, Refused};
use crate::spool::engine::{Done, EventRow, MailRow, Seen};
use crate::spool::entry::{Queued, State};

/// What the name of a mail, and of a signature, begins with that was seen.
pub(super) const MAIL: &str = "mail:";
pub(super) const SIGNATURE: &str = "signature:";

/// The events of a mail on their way into the engine.
pub(super) struct Filing<'a> {
    pub mail: MailId,
    pub will: Will,
    /// Whether they are the digest of a storm, which says all that those before it do.
    pub digest: bool,
    pub fingerprint: Option<&'a str>,
    pub applied: Applied,
}

impl Filing<'_> {
    /// Of a mail about which an operator decides.
    pub fn by_operator(mail: MailId) -> Self {
        Self { mail, will: Will::Operator, digest: false, fingerprint: None, applied: Applied::default() }
    }
}

/// The numbers that an event may use beside its own, and what it repeats.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    pub seq: u64,
    /// How many numbers after it are free for further closes.
    pub room: u64,
    /// The mail as which it was handed in before.
    pub handed_in: Option<String>,
    /// Whether the signature that proves it was seen before.
    pub replayed: bool,
}

/// What is posted of an event.
fn payload(event: &NewEvent, ruling: &Ruling) -> Arc<str> {
    let made = &event.queued;
    let as_made = ruling.external_id == made.external_id
        && ruling.status == made.status
        && ruling.severity == made.severity;
    let mut payload = Arc::clone(&made.payload);
    if !as_made {
        let id = ruling.external_id.as_deref();
        payload = event::readdressed(&payload, id, ruling.status, ruling.severity).into();
    }
    if let Verdict::PageAgain { repeats: repeats @ 1.., .. } = ruling.verdict {
        let times = if repeats == 1 { "once".to_owned() } else { format!("{repeats} times") };
        payload = with_tile(&payload, "Repeated", &format!("{times} since the last page")).into();
    }
    payload
}

/// What a verdict makes of an event: its state, and why.
fn state_of(verdict: &Verdict, storm: Option<u64>) -> (State, Option<String>) {
    match verdict {
        Verdict::Page | Verdict::PageAgain { .. } | Verdict::Update | Verdict::Pass => (State::Queued, None),
        Verdict::Count { reason } | Verdict::Flap { reason } => (State::Counted, Some(reason.clone())),
        Verdict::Mute { reason } => (State::Muted, Some(reason.clone())),
        Verdict::Fold => (State::Folded, storm.map(|storm| format!("told in the digest of storm {storm}"))),
    }
}

impl Keeper {
    pub(super) fn put(&mut self, put: &PutRequest, size: u64) -> Answer {
        let need = Need::of(put, size);
        if !self.has_room(need, put.taken_at)? {
            return Ok(Err(Refused::Full));
        }
        let told = match &put.told {
            Some(told) => match self.tell(told, put.received_at)? {
                Some(storm) => Some(storm),
                None => return Ok(Err(Refused::Outdated)),
            },
            None => None,
        };
        let blocks = (put.judged.numbers() as u64).div_ceil(BLOCK);
        let block = self.next_seq..self.next_seq + blocks * BLOCK;
        let inserted = self.engine.insert_mail(&MailRow {
            id: put.id,
            received_at: put.received_at,
            block: block.clone(),
            size: put.content.size(),
            stranger: need.stranger.then_some(need.growth),
            file: match &put.content {
                Content::Aside { name, .. } => Some(name),
                Content::None | Content::Here(_) => None,
            },
            envelope: &put.envelope,
            story: &put.judged.story,
            pack: &put.pack,
        })?;
        if !inserted {
            return Ok(Err(Refused::IdTaken));
        }
        if let Some(storm) = &told {
            self.engine.store_storm(storm)?;
            if !storm.rages() {
                self.storms.calm(storm.id);
            }
        }
        self.next_seq = block.end;
        self.room.take(need);
        self.remember(&put.memos)?;
        let mut filing = Filing {
            mail: put.id,
            will: if told.is_some() || put.notice { Will::Notice } else { Will::Laws },
            digest: told.is_some(),
            fingerprint: put.fingerprint.as_deref(),
            applied: Applied::default(),
        };
        self.file_all(&mut filing, block, &put.judged, put.received_at)?;
        Ok(Ok(filing.applied))
    }

    /// Writes new events with numbers out of `seqs`, of which there are enough for them.
    pub(super) fn file_all(
        &mut self,
        filing: &mut Filing<'_>,
        mut seqs: Range<u64>,
        judged: &Judged,
        now: Timestamp,
    ) -> Done<()> {
        let mut followers: Vec<NewEvent> = Vec::new();
        let mut left = judged.numbers() as u64;
        for event in &judged.events {
            let seq = seqs.next().expect("the block of a mail has a number for each of its events");
            left -= 1;
            let room = (seqs.end - seqs.start).saturating_sub(left);
            let mut arrival = Arrival { seq, room, ..Arrival::default() };
            if filing.will == Will::Laws {
                self.look_back(&mut arrival, filing, event)?;
            }
            let ruling = self.file(filing, event, &arrival)?;
            for (team, posted_as) in &ruling.followers {
                let follower = event.for_team(team, posted_as);
                // The mail itself may be for that team as well.
                if !judged.events.iter().chain(&followers).any(|other| other.says_the_same_as(&follower)) {
                    followers.push(follower);
                }
            }
            // The further closes have the next numbers.
            seqs.start += ruling.further.len() as u64;
        }
        if let Some(reason) = &judged.dropped {
            let seq = seqs.next().expect("the block of a mail has a number for its drop");
            self.engine.insert_dropped(seq, filing.mail, now, reason)?;
        }
        filing.will = Will::Follow;
        // In a block that is full, which takes a thousand events, nothing follows.
        for (event, seq) in followers.iter().zip(seqs) {
            self.file(filing, event, &Arrival { seq, ..Arrival::default() })?;
        }
        Ok(())
    }

    /// Writes a new event, and what a close makes of further incidents.
    pub(super) fn file(
        &mut self,
        filing: &mut Filing<'_>,
        event: &NewEvent,
        arrival: &Arrival,
    ) -> Done<Ruling> {
        if filing.digest {
            self.replace_digests(event, &mut filing.applied)?;
        }
        let ruling = self.judge(event, arrival, filing.will, &mut filing.applied)?;
        self.file_one(filing, event, &ruling, arrival.seq)?;
        for Further { seq, incident, external_id, verdict } in &ruling.further {
            let further = Ruling {
                verdict: verdict.clone(),
                external_id: Some(external_id.clone()),
                incident: Some(*incident),
                until: None,
                storm: None,
                ..ruling.clone()
            };
            self.file_one(filing, event, &further, *seq)?;
        }
        Ok(ruling)
    }

    fn file_one(&mut self, filing: &mut Filing<'_>, event: &NewEvent, ruling: &Ruling, seq: u64) -> Done<()> {
        let (state, reason) = state_of(&ruling.verdict, ruling.storm);
        let queued = Queued {
            seq,
            mail: filing.mail,
            incident: ruling.incident,
            external_id: ruling.external_id.clone(),
            severity: ruling.severity,
            status: ruling.status,
            next_at: ruling.until.unwrap_or(event.queued.accepted_at),
            payload: payload(event, ruling),
            ..event.queued.clone()
        };
        let counts = filing.will == Will::Laws && (ruling.verdict.pages() || ruling.verdict == Verdict::Fold);
        self.engine.insert_event(&EventRow {
            state,
            settled_at: (state != State::Queued).then_some(queued.accepted_at),
            reason: reason.as_deref(),
            note: ruling.note.as_deref(),
            title: &event.title,
            storm: ruling.storm,
            // As it stands in the pack, unless the law of incidents made another of it.
            part: event.part.filter(|_| Arc::ptr_eq(&queued.payload, &event.queued.payload)),
            source: counts.then_some(&*event.source),
            queued: &queued,
        })?;
        let applied = &mut filing.applied;
        match state {
            State::Counted => applied.counted += 1,
            State::Muted => applied.muted += 1,
            State::Folded => applied.folded += 1,
            State::Queued | State::Failed | State::Delivered | State::Dropped => applied.queued.push(queued),
        }
        Ok(())
    }

    /// Looks what was seen of an event before, and notes it as seen.
    fn look_back(&mut self, arrival: &mut Arrival, filing: &Filing<'_>, event: &NewEvent) -> Done<()> {
        let (now, redelivery) = (event.queued.accepted_at, self.incidents.redelivery);
        if let Some(fingerprint) = filing.fingerprint.filter(|_| redelivery > SignedDuration::ZERO) {
            let since = now.checked_sub(redelivery).unwrap_or(Timestamp::MIN);
            let known = self.seen_before(filing.mail, event, &format!("{MAIL}{fingerprint}"), since)?;
            arrival.handed_in = known.map(|mail| mail.to_string());
        }
        let signature = event.identity.signature.as_ref().filter(|_| event.queued.status != Status::New);
        if let Some(signature) = signature {
            let name = format!("{SIGNATURE}{signature}");
            arrival.replayed = self.seen_before(filing.mail, event, &name, Timestamp::MIN)?.is_some();
        }
        Ok(())
    }

    /// The other mail of a class at least as high that had this name since then; if there is none, `mail` has it now.
    fn seen_before(
        &mut self,
        mail: MailId,
        event: &NewEvent,
        name: &str,
        since: Timestamp,
    ) -> Done<Option<MailId>> {
        let team = &event.queued.team;
        let new = Seen { mail, trust: event.identity.trust, at: event.queued.accepted_at };
        if self.engine.note_seen(team, name, &new, false)? {
            return Ok(None);
        }
        match self.engine.seen(team, name)? {
            Some(known) if known.mail == mail => Ok(None),
            Some(known) if known.trust >= new.trust && known.at >= since => Ok(Some(known.mail)),
            _ => self.engine.note_seen(team, name, &new, true).map(|_| None),
        }
    }
}
