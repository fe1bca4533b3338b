//! One team's queue: what it wants to post next.
//!
//! What is in memory is bounded: the window holds the oldest events up to a number and the most urgent
//! ones, the spool the rest. Events are taken from the gateway's hands only while nothing older is still on
//! disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::gate::State;
use super::reading::Disk;
use crate::delivery::multipart::Files;
use crate::delivery::window::{Rank, Window};
use crate::mail::MailId;
use crate::spool::{QUIET, Queued, RANKS, STRANGE};

/// Least time between probes of a team that does not answer, when a new event asks for one.
pub(super) const EAGER_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// A clock that is this much behind itself was set back.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// How urgent it is at least to find out whether a secret is right: more than what can wait.
const ASKING: Rank = 2;

/// The bounds of a team.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Posts at the same time.
    pub(crate) concurrency: usize,
    /// The age at which an event that fails is given up.
    pub(crate) give_up_after: SignedDuration,
    /// How long a team is held before its events go to its fallback.
    pub(crate) fallback_after: SignedDuration,
    /// Whether a question that pages nobody may be asked to find out whether the secret is right.
    pub(crate) probe: bool,
    /// Events in memory.
    pub(crate) window: usize,
    /// Those of them that may be read before their turn, since they are urgent.
    pub(crate) urgent: usize,
    /// Events of one lane in memory.
    pub(crate) lane: usize,
    /// Events read from the spool at once.
    pub(crate) page: usize,
    /// Bytes of payloads in memory.
    pub(crate) payload_bytes: usize,
}

/// What a team wants to post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    rank: Rank,
    /// The event, or none for the question whether the secret is right.
    seq: Option<u64>,
}

impl Pick {
    /// The smaller goes first.
    pub(super) fn order(&self) -> (Rank, u64) {
        (self.rank, self.seq.unwrap_or(0))
    }

    /// How urgent it is.
    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    /// Whether it is the question.
    pub(super) fn is_question(&self) -> bool {
        self.seq.is_none()
    }

    /// Whether it is an event that pages nobody, nor does any that waits behind it.
    pub(super) fn is_quiet(&self) -> bool {
        self.rank == QUIET
    }

    /// Whether it is an event of a stranger, behind which no other waits.
    pub(super) fn is_strange(&self) -> bool {
        self.seq.is_some() && self.rank >= STRANGE
    }
}

/// What became of a [`Pick`].
#[derive(Debug)]
pub(super) enum Taken {
    /// It is to be posted.
    Event { seq: u64, payload: Arc<str>, probe: bool, possible_double: bool },
    /// The question is to be asked.
    Ask,
    /// Its payload must be read first.
    Fetch { after: u64, limit: usize },
    /// Its payload is being read, or cannot be now.
    Nothing,
}

/// An event that was refused as with a wrong secret.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    /// How much had been taken when it was refused last.
    pub(super) successes: Option<u64>,
    /// How often it was although others were taken meanwhile.
    pub(super) alone: u32,
}

/// One team's queue.
#[derive(Debug)]
pub(crate) struct Team {
    pub(super) limits: Limits,
    pub(super) rng: Rng,
    pub(super) window: Window,
    pub(super) disk: Disk,
    pub(super) in_flight: usize,
    /// The events that were answered as with a wrong secret.
    pub(super) suspects: BTreeMap<u64, Suspect>,
    /// Different events that failed since the last that got through.
    pub(super) failing: BTreeSet<u64>,
    /// How often SIGNL4 has taken an event, or the question.
    pub(super) successes: u64,
    pub(super) state: State,
    /// Why the gate is shut.
    pub(super) reason: String,
    /// Whether it is held since what answers is not SIGNL4.
    pub(super) foreign: bool,
    /// When the secret was refused first, be it before the last start.
    pub(super) held_since: Option<Timestamp>,
    /// Whether it is held only until the question has told what is at fault: the secret, or the event that was refused.
    pub(super) unsure: bool,
    /// Probes that failed since it shut.
    pub(super) failed_probes: u32,
    pub(super) probe_at: Timestamp,
    /// The probe that is under way: an event, or the question.
    pub(super) probing: Option<Option<u64>>,
    /// Whether the team was woken since that probe went out, so that another follows it at once.
    pub(super) woken: bool,
    /// Whether it was told since nobody answers that others get through.
    pub(super) hinted: bool,
    pub(super) last_probe: Timestamp,
    /// When new events may ask for a probe again.
    pub(super) eager_after: Timestamp,
    /// Whether the question may be asked.
    pub(super) may_ask: bool,
    /// Whether no answer has shown yet that the secret is right.
    pub(super) owes_answer: bool,
    /// Whether another team's events wait for this one to open.
    pub(super) wanted: bool,
    /// Whether its events go by a fallback.
    diverted: bool,
    /// Posts that were made although an earlier one of the same event may have been taken.
    doubles: u64,
    pub(super) last_shout: Timestamp,
    /// For how long the process has run, by a clock that does not jump.
    pub(super) up: SignedDuration,
    last_now: Timestamp,
}

impl Team {
    /// A team whose backlog is on disk.
    pub(crate) fn new(limits: Limits, rng: Rng, now: Timestamp) -> Self {
        Self {
            limits,
            rng,
            window: Window::default(),
            disk: Disk::new(now),
            in_flight: 0,
            suspects: BTreeMap::new(),
            failing: BTreeSet::new(),
            successes: 0,
            state: State::Untried,
            reason: String::new(),
            foreign: false,
            held_since: None,
            unsure: false,
            failed_probes: 0,
            probe_at: now,
            probing: None,
            woken: false,
            hinted: false,
            last_probe: Timestamp::MIN,
            eager_after: Timestamp::MIN,
            may_ask: limits.probe,
            owes_answer: true,
            wanted: false,
            diverted: false,
            doubles: 0,
            last_shout: Timestamp::MIN,
            up: SignedDuration::ZERO,
            last_now: now,
        }
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether it is held since what answers is not SIGNL4.
    pub(crate) fn meets_another(&self) -> bool {
        self.state == State::Held && self.foreign
    }

    /// Why events do not go out; empty while they do.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Events in memory, whether there may be more on disk, and when the oldest was accepted.
    pub(crate) fn waiting(&self) -> (usize, bool, Option<Timestamp>) {
        (self.window.len(), self.disk.behind || self.window.has_spilled(), self.window.oldest())
    }

    /// Posts that are being made.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Posts since the start that may have made an alert twice.
    pub(crate) fn doubles(&self) -> u64 {
        self.doubles
    }

    pub(super) fn event(&self, seq: u64) -> Option<(MailId, Timestamp, u32)> {
        self.window.event(seq).map(|event| (event.mail, event.accepted_at, event.attempts))
    }

    /// How urgent an event in memory is by itself.
    pub(super) fn own_rank(&self, seq: u64) -> Option<Rank> {
        self.window.own_rank(seq)
    }

    /// How urgent the event is that may go next.
    pub(super) fn next_rank(&self) -> Option<Rank> {
        self.window.next_ready().map(|(rank, _)| rank)
    }

    /// The files that go along with an event in memory.
    pub(super) fn files(&self, seq: u64) -> Option<Arc<Files>> {
        self.window.event(seq).and_then(|event| event.files(seq))
    }

    /// Takes a newly queued event from the gateway, unless it has to wait its turn on disk.
    pub(super) fn offer(&mut self, queued: Queued, now: Timestamp) {
        if self.state == State::Down {
            let eager = now.max(self.last_probe + EAGER_INTERVAL).max(self.eager_after);
            self.probe_at = self.probe_at.min(eager);
        }
        self.take_in(queued, now);
    }

    /// An operator has changed the queue, the secret or the URL: everything is looked at anew, and what
    /// waits is tried now.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.read_again_from(0);
        self.window.forget_payloads();
        self.window.release(now);
        self.owes_answer = true;
        self.may_ask = self.limits.probe;
        if self.state != State::Throttled {
            self.probe_at = now;
            self.woken = self.probing.is_some();
        }
    }

    /// Others got through to the server that the target is at: what found nobody there is tried at once. They may
    /// get through all the time, so unless it `is_back` just now that is believed once.
    pub(super) fn server_answers(&mut self, is_back: bool, now: Timestamp) {
        if self.state == State::Down && (is_back || !self.hinted) {
            self.hinted = true;
            self.probe_at = self.probe_at.min(now);
            self.woken = self.probing.is_some();
        }
    }

    /// Takes note of the time.
    pub(super) fn look(&mut self, now: Timestamp) {
        if now < self.last_now - SET_BACK {
            self.window.release(now);
            self.probe_at = self.probe_at.min(now);
            self.disk.read_not_before = now;
        }
        self.last_now = now;
        self.window.due(now);
    }

    /// What it wants to post at `now`, by its own target.
    pub(super) fn pick(&self, now: Timestamp) -> Option<Pick> {
        if self.state == State::Open {
            let room = self.in_flight < self.limits.concurrency;
            let (rank, seq) = room.then(|| self.window.next_ready())??;
            return Some(Pick { rank, seq: Some(seq) });
        }
        if self.probing.is_some() || self.probe_at > now {
            return None;
        }
        let event = |seq| Pick { rank: self.window.rank_of(seq), seq: Some(seq) };
        let ask = || {
            let urgent = self.window.most_urgent().map_or(RANKS, |seq| self.window.rank_of(seq));
            Pick { rank: urgent.min(ASKING), seq: None }
        };
        match self.state {
            State::Held if self.may_ask => Some(ask()),
            // Held without a question to ask, an event must find out; so must it in an outage, and now and
            // then not the most urgent one, for that may be what fails.
            State::Held => self.window.least_tried().map(event),
            State::Down if self.failed_probes.is_multiple_of(2) => self.window.least_tried().map(event),
            _ => self.window.most_urgent().map(event),
        }
        .or_else(|| self.wants_to_ask().then(ask))
    }

    /// What it wants to post at `now` of what pages nobody, by its own target. Behind a shut gate only one event is
    /// tried, and that is one of those where there is nothing else.
    pub(super) fn pick_quiet(&self, now: Timestamp) -> Option<Pick> {
        if self.state != State::Open {
            return self.pick(now).filter(Pick::is_quiet);
        }
        let (rank, seq) = (self.in_flight < self.limits.concurrency).then(|| self.window.next_quiet())??;
        Some(Pick { rank, seq: Some(seq) })
    }

    /// The same by a fallback's target.
    pub(super) fn pick_quiet_diverted(&self) -> Option<Pick> {
        let may = self.diverted && self.in_flight < self.limits.concurrency;
        let (rank, seq) = may.then(|| self.window.next_quiet())??;
        Some(Pick { rank, seq: Some(seq) })
    }

    /// Whether the question is due though no event waits.
    fn wants_to_ask(&self) -> bool {
        let idle = self.disk.read_anything() && !self.disk.behind && !self.window.has_head();
        self.may_ask && idle && (self.owes_answer || self.wanted)
    }

    /// How urgent the event is that waits for nothing but an answer: to one of the posts that take up every place, or
    /// to the first of all, which shows whether others may go. Where nobody was found to answer, the next try may hang
    /// for as long as the last: others do not wait for it.
    pub(super) fn waits_for_answer(&self) -> Option<Rank> {
        let waits = match self.state {
            State::Open => self.in_flight >= self.limits.concurrency,
            State::Untried => self.probing.is_some(),
            State::Down | State::Held | State::Throttled | State::Starved | State::Unknown => false,
        };
        waits.then(|| self.window.next_ready())?.map(|(rank, _)| rank)
    }

    /// What it wants to post by a fallback's target; as a probe of that, if `by_probe`: then not always the same.
    pub(super) fn pick_diverted(&self, by_probe: bool) -> Option<Pick> {
        if !self.diverted || self.in_flight >= self.limits.concurrency {
            return None;
        }
        if by_probe {
            return self
                .window
                .least_tried()
                .map(|seq| Pick { rank: self.window.rank_of(seq), seq: Some(seq) });
        }
        self.window.next_ready().map(|(rank, seq)| Pick { rank, seq: Some(seq) })
    }

    /// How many posts it could make at `now` by its own target, counted up to `most`.
    pub(super) fn ready(&self, last: Rank, most: u64, now: Timestamp) -> u64 {
        if self.state == State::Open {
            self.ready_events(last, most)
        } else {
            self.pick(now).map_or(0, |_| 1)
        }
    }

    /// The same by a fallback's target.
    pub(super) fn ready_diverted(&self, by_probe: bool, last: Rank, most: u64) -> u64 {
        match self.pick_diverted(by_probe) {
            Some(_) if by_probe => 1,
            Some(_) => self.ready_events(last, most),
            None => 0,
        }
    }

    fn ready_events(&self, last: Rank, most: u64) -> u64 {
        let places = self.limits.concurrency.saturating_sub(self.in_flight);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(places);
        self.window.ready_within(0..=last, most) as u64
    }

    /// Whether a stranger's event leaves more places to those of known senders than it takes.
    pub(super) fn spares_a_place(&self) -> bool {
        self.in_flight == 0 || 2 * self.in_flight < self.limits.concurrency
    }

    /// Whether any of its events could be tried, due or not.
    pub(super) fn has_head(&self) -> bool {
        self.window.has_head()
    }

    /// Takes what was picked out of the queue.
    pub(super) fn take(&mut self, pick: Pick, diverted: bool, now: Timestamp) -> Taken {
        let Some(seq) = pick.seq else {
            self.probing = Some(None);
            return Taken::Ask;
        };
        if !self.window.has_payload(seq) {
            let after = seq - 1;
            return self.begin(after, now).map_or(Taken::Nothing, |limit| Taken::Fetch { after, limit });
        }
        let probe = self.state != State::Open && !diverted;
        let possible_double = self.window.event(seq).is_some_and(|event| event.maybe_taken);
        let Some(payload) = self.window.take(seq) else { return Taken::Nothing };
        self.in_flight += 1;
        self.doubles += u64::from(possible_double);
        if probe {
            self.probing = Some(Some(seq));
        }
        Taken::Event { seq, payload, probe, possible_double }
    }

    /// Since when its secret is refused, if that is sure. It is kept until something gets through, so that a restart
    /// forgets nothing.
    pub(super) fn held_since(&self) -> Option<Timestamp> {
        self.held_since.filter(|_| !self.unsure)
    }

    /// Its secret was refused since then, when the service ran before.
    pub(super) fn was_held(&mut self, since: Timestamp, now: Timestamp) {
        self.held_since = Some(since.min(now));
    }

    /// Whether its secret was refused for so long that its events go to the fallback.
    pub(super) fn is_given_up(&self, now: Timestamp) -> bool {
        self.state == State::Held
            && self.held_since.is_some_and(|since| now.duration_since(since) >= self.limits.fallback_after)
    }

    /// Says whether its events go by a fallback's target.
    pub(super) fn set_diverted(&mut self, diverted: bool, now: Timestamp) {
        if diverted && !self.diverted {
            self.window.release(now);
        }
        self.diverted = diverted;
    }

    /// Whether another team's events may go by its target.
    pub(super) fn takes_others(&self, now: Timestamp) -> bool {
        match self.state {
            State::Open => true,
            // One that cannot ask whether its secret is right finds out by them.
            State::Untried => !self.may_ask,
            State::Held => self.tries_others() && self.probing.is_none() && self.probe_at <= now,
            State::Throttled | State::Down | State::Starved | State::Unknown => false,
        }
    }

    /// Whether it is held and nothing of its own can find out whether it still has to be.
    fn tries_others(&self) -> bool {
        self.state == State::Held && !self.may_ask && !self.window.has_head()
    }

    /// Another team's event goes by its target.
    pub(super) fn lend(&mut self, seq: u64) {
        if self.state == State::Held {
            self.probing = Some(Some(seq));
        }
    }

    /// Another team's events wait for this one to open.
    pub(super) fn want(&mut self) {
        self.wanted = self.state != State::Open;
    }

    /// When [`Team::pick`] may have something new if nothing else happens.
    pub(super) fn next_time(&self) -> Option<Timestamp> {
        let due = self.window.next_due();
        let held = self.state == State::Held && (self.may_ask || self.wanted);
        let asks = self.window.has_head() || self.wants_to_ask() || held;
        let probe = (self.state != State::Open && self.probing.is_none() && asks).then_some(self.probe_at);
        let given_up = self
            .held_since
            .filter(|_| self.state == State::Held)
            .and_then(|since| since.checked_add(self.limits.fallback_after).ok());
        // What was due already waits for an answer, a page or a place, not for the time.
        let held = self.window.next_held();
        let times = [due, held, probe, given_up, Some(self.disk.read_not_before)];
        times.into_iter().flatten().filter(|&at| at > self.last_now).min()
    }

    /// Bytes that payloads may take up in memory. Behind a shut gate they take none.
    pub(super) fn room(&self) -> usize {
        match self.state {
            State::Untried | State::Open => self.limits.payload_bytes,
            _ if self.diverted => self.limits.payload_bytes,
            _ => 0,
        }
    }
}
