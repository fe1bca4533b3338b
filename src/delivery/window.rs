//! The part of a team's backlog that is in memory: which event of which lane may go next.
//!
//! Events of one incident are a lane and leave it strictly in the order of acceptance, one at a time;
//! an event that is about none is a lane of its own. A lane whose head waits holds up no other lane. Payloads are
//! kept up to a bound in bytes; the others are fetched from the spool when their turn has come. A lane has a
//! bounded share of the window: the rest of it is left on disk, so that a storm of one incident fills no
//! place that others need.

mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::Timestamp;

use super::rank::Rank;
use crate::spool::{QUIET, Queued, RANKS, STRANGE, rank};
use waiting::{Place, Waiting};

/// So many tries more than a stranger's event an event of a known sender has before that is tried in its place.
const STRANGE_HANDICAP: u32 = 3;

/// The events of one incident.
#[derive(Debug, Default)]
struct Lane {
    /// All that are in the window, the one that is away included.
    members: BTreeSet<u64>,
    /// How many of them have each rank.
    ranks: [u32; RANKS as usize],
    /// The rank and the number of the most urgent one that is left on disk, if it was told.
    urged: Option<(Rank, u64)>,
    /// Whether one of them is away, so that no other may go.
    away: bool,
}

impl Lane {
    /// A lane goes with the urgency of its most urgent event: those before that must go first.
    fn rank(&self) -> Rank {
        let here = self.ranks.iter().zip(0..).find_map(|(&count, rank)| (count > 0).then_some(rank));
        [here, self.urged.map(|(rank, _)| rank)].into_iter().flatten().min().unwrap_or(RANKS)
    }
}

/// The events of one team that are in memory, by lanes.
#[derive(Debug, Default)]
pub(super) struct Window {
    events: BTreeMap<u64, Waiting>,
    lanes: HashMap<u64, Lane>,
    /// Heads that may go, in the order in which they do.
    ready: BTreeSet<(Rank, u64)>,
    /// Heads that failed and wait for their time.
    later: BTreeSet<(Timestamp, u64)>,
    /// Heads that the spool holds back until then. Until that is over nothing makes them go: no probe, and no end of
    /// an outage.
    held: BTreeSet<(Timestamp, u64)>,
    /// Lanes of which a part is left on disk, and from which event on.
    spilled: BTreeMap<u64, u64>,
    /// Bytes of the payloads kept.
    bytes: usize,
}

impl Window {
    /// How many events are in memory.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether `seq` is in memory.
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.events.contains_key(&seq)
    }

    /// The event `seq`.
    pub(super) fn event(&self, seq: u64) -> Option<&Waiting> {
        self.events.get(&seq)
    }

    /// The event `seq`, to be changed.
    pub(super) fn event_mut(&mut self, seq: u64) -> Option<&mut Waiting> {
        self.events.get_mut(&seq)
    }

    /// When the oldest of them was accepted.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.events.first_key_value().map(|(_, event)| event.accepted_at)
    }

    /// Takes an event in that was not here; its payload stays only while all take up less than `room`
    /// bytes.
    pub(super) fn insert(&mut self, queued: Queued, room: usize, now: Timestamp) {
        let seq = queued.seq;
        let lane = queued.incident;
        let rank = rank(queued.status, queued.severity, queued.stranger);
        let (waiting, payload) = Waiting::new(queued, rank);
        self.events.insert(seq, waiting);
        self.fill(seq, payload, room);
        let Some(lane) = lane else { return self.promote(seq, now) };
        let members = self.lanes.entry(lane).or_default();
        members.members.insert(seq);
        members.ranks[usize::from(rank)] += 1;
        if members.away {
            return;
        }
        if members.members.first() != Some(&seq) {
            // It may be more urgent than those before it.
            return self.promote_head(seq, now);
        }
        // It was accepted before what was the head until now.
        if let Some(&former) = members.members.range(seq + 1..).next() {
            self.demote(former);
        }
        self.promote(seq, now);
    }

    /// Whether an event may come in from a page that shows all after `after`. It may not while its lane has
    /// `share` events here, or others on disk before it; that its lane goes on there is then noted.
    pub(super) fn admits(&mut self, queued: &Queued, after: u64, share: usize) -> bool {
        let Some(id) = queued.incident else { return true };
        let room = self.lanes.get(&id).is_none_or(|lane| lane.members.len() < share);
        match self.spilled.get_mut(&id) {
            Some(from) if *from <= queued.seq => {
                let next = room && after < *from;
                if next {
                    *from = queued.seq + 1;
                }
                next
            }
            Some(_) => true,
            None => {
                if !room {
                    self.spilled.insert(id, queued.seq);
                }
                room
            }
        }
    }

    /// Says that a page has shown everything after `after` up to `end`, and with `whole` all there is. But
    /// for the lanes that were `left` out, what is on disk lies behind it.
    pub(super) fn shown(&mut self, after: u64, end: u64, whole: bool, left: &BTreeSet<u64>) {
        self.spilled.retain(|id, from| {
            if after >= *from || left.contains(id) {
                return true;
            }
            *from = (*from).max(end + 1);
            !whole
        });
    }

    /// The place from which to read on for a lane that has used up half of its `share`.
    pub(super) fn hungry(&self, share: usize) -> Option<u64> {
        let here = |id| self.lanes.get(id).map_or(0, |lane| lane.members.len());
        self.spilled.iter().find(|(id, _)| here(*id) <= share / 2).map(|(_, &from)| from)
    }

    /// Whether a part of some lane is left on disk.
    pub(super) fn has_spilled(&self) -> bool {
        !self.spilled.is_empty()
    }

    /// Takes over what an operator's retry has changed.
    pub(super) fn refresh(&mut self, queued: &Queued) {
        if let Some(event) = self.events.get_mut(&queued.seq)
            && event.accepted_at != queued.accepted_at
        {
            event.accepted_at = queued.accepted_at;
            event.attempts = queued.attempts;
        }
    }

    /// Keeps `payload` for the event `seq`, if all stay below `room` bytes with it.
    pub(super) fn fill(&mut self, seq: u64, payload: Arc<str>, room: usize) {
        let Some(event) = self.events.get_mut(&seq) else { return };
        let wanted = event.payload.is_none() && event.place != Place::Away;
        if wanted && self.bytes.saturating_add(payload.len()) <= room {
            self.bytes += payload.len();
            event.payload = Some(payload);
        }
    }

    /// Forgets the payloads of all that wait: they are fetched again, which also tells which of them an
    /// operator has dropped meanwhile.
    pub(super) fn forget_payloads(&mut self) {
        for event in self.events.values_mut() {
            event.payload = None;
        }
        self.bytes = 0;
    }

    /// Takes in the first event of a lane on disk, before its turn, as the lane is so `urgent`: a rank and
    /// the number of the event that has it.
    pub(super) fn insert_early(&mut self, queued: Queued, urgent: (Rank, u64), now: Timestamp) {
        let (seq, lane) = (queued.seq, queued.incident);
        self.insert(queued, usize::MAX, now);
        if let Some(event) = self.events.get_mut(&seq) {
            event.early = true;
        }
        if let Some(lane) = lane {
            self.urge(lane, urgent, now);
        }
    }

    /// Says that an event so `urgent`, by its rank and its number, waits on disk behind those of `lane` that
    /// are here. False if none are.
    pub(super) fn urge(&mut self, lane: u64, urgent: (Rank, u64), now: Timestamp) -> bool {
        let Some(found) = self.lanes.get_mut(&lane) else { return false };
        if urgent.0 < found.rank() {
            found.urged = Some(urgent);
            if !found.away
                && let Some(&head) = found.members.first()
            {
                self.promote(head, now);
            }
        }
        true
    }

    /// Whether `seq` is being posted, or done and not yet recorded.
    pub(super) fn is_away(&self, seq: u64) -> bool {
        self.events.get(&seq).is_some_and(|event| event.place == Place::Away)
    }

    /// The next event that may go, and how urgent it is.
    pub(super) fn next_ready(&self) -> Option<(Rank, u64)> {
        self.ready.first().copied()
    }

    /// The next event that may go whose lane has no paging event.
    pub(super) fn next_quiet(&self) -> Option<(Rank, u64)> {
        self.ready.range((QUIET, 0)..(QUIET + 1, 0)).next().copied()
    }

    /// How many events of those `ranks` may go, counted up to `most`.
    pub(super) fn ready_within(&self, ranks: RangeInclusive<Rank>, most: usize) -> usize {
        self.ready.range((*ranks.start(), 0)..(*ranks.end() + 1, 0)).take(most).count()
    }

    /// How urgent `seq` is by itself.
    pub(super) fn own_rank(&self, seq: u64) -> Option<Rank> {
        self.events.get(&seq).map(|event| event.rank)
    }

    /// How urgent `seq` is with its lane.
    pub(super) fn rank_of(&self, seq: u64) -> Rank {
        self.events.get(&seq).map_or(RANKS, |event| self.lane_rank(event))
    }

    fn lane_rank(&self, event: &Waiting) -> Rank {
        event.lane.as_ref().and_then(|name| self.lanes.get(name)).map_or(event.rank, Lane::rank)
    }

    /// Whether any event could be tried, due or not. What is held could not.
    pub(super) fn has_head(&self) -> bool {
        !self.ready.is_empty() || !self.later.is_empty()
    }

    /// Of all heads, due or not, the one that was tried least, the most urgent of those: probing with it in
    /// turn, no event that always fails can stand in the way of the others.
    pub(super) fn least_tried(&self) -> Option<u64> {
        // A stranger's is tried before those of known senders only if they have failed often enough.
        let tried = |rank, seq: &u64| {
            let handicap = if rank >= STRANGE { STRANGE_HANDICAP } else { 0 };
            self.events[seq].attempts.saturating_add(handicap)
        };
        self.heads().min_by_key(|&(rank, seq)| (tried(rank, &seq), rank, seq)).map(|(_, seq)| seq)
    }

    /// Of all heads, due or not, the most urgent one, the one that was tried least of those.
    pub(super) fn most_urgent(&self) -> Option<u64> {
        self.heads().min_by_key(|&(rank, seq)| (rank, self.events[&seq].attempts, seq)).map(|(_, seq)| seq)
    }

    fn heads(&self) -> impl Iterator<Item = (Rank, u64)> {
        let later = self.later.iter().map(|&(_, seq)| (self.rank_of(seq), seq));
        self.ready.iter().copied().chain(later)
    }

    /// Whether the payload of `seq` is here.
    pub(super) fn has_payload(&self, seq: u64) -> bool {
        self.events.get(&seq).is_some_and(|event| event.payload.is_some())
    }

    /// Takes the head `seq` away to be posted, with its payload.
    pub(super) fn take(&mut self, seq: u64) -> Option<Arc<str>> {
        let event = self.events.get_mut(&seq)?;
        let payload = event.payload.take()?;
        self.bytes -= payload.len();
        self.unlist(seq);
        self.set_away(seq, true);
        Some(payload)
    }

    /// Puts an event that was away back: to be tried again at `next_at`.
    pub(super) fn put_back(&mut self, seq: u64, next_at: Timestamp, now: Timestamp) {
        if let Some(event) = self.events.get_mut(&seq) {
            (event.next_at, event.hold) = (next_at, None);
            event.place = Place::Behind;
            self.set_away(seq, false);
            self.promote_head(seq, now);
        }
    }

    /// Removes an event for good; the next of its lane takes its place. True if that may be one on disk
    /// that is urgent.
    pub(super) fn remove(&mut self, seq: u64, now: Timestamp) -> bool {
        self.unlist(seq);
        let Some(event) = self.events.remove(&seq) else { return false };
        self.bytes -= event.payload.map_or(0, |payload| payload.len());
        let Some(name) = event.lane else { return false };
        let Some(lane) = self.lanes.get_mut(&name) else { return false };
        let urged = event.early || lane.urged.is_some();
        lane.urged = lane.urged.filter(|&(_, urgent)| seq < urgent);
        lane.members.remove(&seq);
        lane.ranks[usize::from(event.rank)] -= 1;
        if event.place == Place::Away {
            lane.away = false;
        }
        match lane.members.first() {
            None => _ = self.lanes.remove(&name),
            Some(&head) if !lane.away => self.promote(head, now),
            Some(_) => {}
        }
        urged
    }

    /// Makes ready what has become due by `now`.
    pub(super) fn due(&mut self, now: Timestamp) {
        while let Some(seq) = self.first_due(now) {
            self.promote(seq, now);
        }
    }

    fn first_due(&self, now: Timestamp) -> Option<u64> {
        let first = [self.later.first(), self.held.first()].into_iter().flatten().min()?;
        (first.0 <= now).then_some(first.1)
    }

    /// Makes ready all that failed and waits for its time. What is held stays so, but if the clock was set back for
    /// no longer than it was to be.
    pub(super) fn release(&mut self, now: Timestamp) {
        for event in self.events.values_mut() {
            let most = event.hold.map_or(now, |hold| now.checked_add(hold).unwrap_or(now));
            event.next_at = event.next_at.min(most);
        }
        let waiting = std::mem::take(&mut self.later).into_iter().chain(std::mem::take(&mut self.held));
        for (_, seq) in waiting {
            self.demote(seq);
            self.promote(seq, now);
        }
    }

    /// When the next that failed becomes due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.later.first().map(|&(at, _)| at)
    }

    /// Until when the next is held.
    pub(super) fn next_held(&self) -> Option<Timestamp> {
        self.held.first().map(|&(at, _)| at)
    }

    /// Those between `after` and `end` inclusive that are not away.
    pub(super) fn waiting_within(&self, after: u64, end: u64) -> Vec<u64> {
        if after >= end {
            return Vec::new();
        }
        let within = self.events.range(after + 1..=end);
        within.filter(|(_, event)| event.place != Place::Away).map(|(&seq, _)| seq).collect()
    }

    /// Lists the head of a lane as ready or later.
    fn promote(&mut self, seq: u64, now: Timestamp) {
        self.unlist(seq);
        let rank = self.rank_of(seq);
        let Some(event) = self.events.get_mut(&seq) else { return };
        if event.next_at <= now {
            event.place = Place::Ready;
            event.listed = rank;
            self.ready.insert((rank, seq));
        } else if event.hold.is_some() {
            event.place = Place::Held;
            self.held.insert((event.next_at, seq));
        } else {
            event.place = Place::Later;
            self.later.insert((event.next_at, seq));
        }
    }

    /// Puts a head behind one that has come before it.
    fn demote(&mut self, seq: u64) {
        self.unlist(seq);
        if let Some(event) = self.events.get_mut(&seq) {
            event.place = Place::Behind;
        }
    }

    /// Lists the head of the lane of `seq`.
    fn promote_head(&mut self, seq: u64, now: Timestamp) {
        let lane = self.events.get(&seq).and_then(|event| event.lane.as_ref());
        let head = lane.and_then(|name| self.lanes.get(name)).and_then(|lane| lane.members.first());
        self.promote(*head.unwrap_or(&seq), now);
    }

    fn unlist(&mut self, seq: u64) {
        let Some(event) = self.events.get(&seq) else { return };
        match event.place {
            Place::Ready => _ = self.ready.remove(&(event.listed, seq)),
            Place::Later => _ = self.later.remove(&(event.next_at, seq)),
            Place::Held => _ = self.held.remove(&(event.next_at, seq)),
            Place::Behind | Place::Away => {}
        }
    }

    fn set_away(&mut self, seq: u64, away: bool) {
        let Some(event) = self.events.get_mut(&seq) else { return };
        event.place = if away { Place::Away } else { Place::Behind };
        if let Some(lane) = event.lane.as_ref().and_then(|name| self.lanes.get_mut(name)) {
            lane.away = away;
        }
    }
}
