//! A team's backlog: what of it is in memory, what is on disk, and how that comes into memory.
//!
//! What is in memory is bounded: the window holds the oldest events up to a number and the most urgent ones, the spool
//! the rest. Events are taken from the gateway's hands only while nothing older is still on disk.
//!
//! Pages are read in the order of acceptance while there is room. Beside them the most urgent incidents are
//! read, so that what goes next is always in memory, however much lies before it. Non-paging events have
//! their own share of the posts, so the first of them is read as well, however many paging ones lie before it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::action::{Action, Index};
use super::limits::TeamLimits;
use crate::delivery::rank::Rank;
use crate::delivery::window::Window;
use crate::spool::{QUIET, Queued, Urgent, rank};

/// The wait after the spool could not be read.
const PAGE_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// Events that can go at once which are enough to look no further for more urgent ones: more than leave
/// before the next look.
const ENOUGH: usize = 32;

/// The same for non-paging events, of which fewer leave.
const ENOUGH_QUIET: usize = 8;

/// What is looked for beside the pages of rows: the most urgent paging event, and the first non-paging one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Paging,
    Quiet,
}

impl Kind {
    /// None of what strangers sent: it is the last, and comes with the pages.
    fn of(rank: Rank) -> Option<Self> {
        match rank {
            0..QUIET => Some(Self::Paging),
            QUIET => Some(Self::Quiet),
            _ => None,
        }
    }
}

/// A place in the order of urgency: a rank and a number.
type Place = (Rank, u64);

/// A page that is being read, and what happened since it was asked for.
#[derive(Debug)]
pub(super) struct Reading {
    after: u64,
    limit: usize,
    /// What is looked for, if it is no page.
    kind: Kind,
    /// Taken from the gateway meanwhile: the page may miss them.
    taken: BTreeSet<u64>,
    /// Recorded as done meanwhile: the page may still show them.
    settled: BTreeSet<u64>,
    /// Whether more came to wait on disk meanwhile.
    stale: bool,
    /// Whether what is urgent is to be looked for from an earlier place meanwhile.
    rewound: bool,
}

/// What a team has queued.
#[derive(Debug)]
pub(super) struct Backlog {
    limits: TeamLimits,
    /// What is in memory.
    pub(super) window: Window,
    /// Everything queued up to here is in the window.
    cursor: u64,
    /// Whether more may wait on disk after the cursor.
    behind: bool,
    /// The last event that a page has shown.
    seen: u64,
    /// From where on there may be incidents on disk that are more urgent than what is in the window. None
    /// if there are none.
    urgent_from: Option<Place>,
    /// The same for non-paging events.
    quiet_from: Option<Place>,
    /// Whether anything was read since the start.
    begun: bool,
    reading: Option<Reading>,
    /// Whether the last page could not be read.
    failing: bool,
    read_not_before: Timestamp,
}

impl Backlog {
    /// One of which all is on disk.
    pub(super) fn new(limits: TeamLimits, now: Timestamp) -> Self {
        Self {
            limits,
            window: Window::default(),
            cursor: 0,
            behind: true,
            seen: 0,
            urgent_from: Some((0, 0)),
            quiet_from: Some((QUIET, 0)),
            begun: false,
            reading: None,
            failing: false,
            read_not_before: now,
        }
    }

    /// Whether more may be on disk than is in memory.
    pub(super) fn is_more_on_disk(&self) -> bool {
        self.behind || self.window.has_spilled()
    }

    /// Whether nothing waits, as far as anything was read.
    pub(super) fn is_idle(&self) -> bool {
        self.begun && !self.behind && !self.window.has_head()
    }

    /// When it is read again after it could not be.
    pub(super) fn read_not_before(&self) -> Timestamp {
        self.read_not_before
    }

    /// The clock was set back: nothing waits for a time that is far away now.
    pub(super) fn clock_was_set_back(&mut self, now: Timestamp) {
        self.window.release(now);
        self.read_not_before = now;
    }

    fn from(&mut self, kind: Kind) -> &mut Option<Place> {
        match kind {
            Kind::Paging => &mut self.urgent_from,
            Kind::Quiet => &mut self.quiet_from,
        }
    }

    /// Takes a newly queued event from the gateway, unless it has to wait its turn on disk.
    pub(super) fn take_in(&mut self, queued: Queued, room: usize, now: Timestamp) {
        let seq = queued.seq;
        if self.window.contains(seq) {
            return;
        }
        let place = (rank(queued.status, queued.severity, queued.stranger), seq - 1);
        // One that a page should have shown may be done already: only the spool knows.
        if seq <= self.seen {
            self.leave_on_disk(seq - 1);
            return self.look_for_urgent(place);
        }
        if self.behind || self.window.len() >= self.room_in_window() {
            self.leave_on_disk(self.cursor.min(seq - 1));
            return self.look_for_urgent(place);
        }
        self.cursor = self.cursor.max(seq);
        let admitted = self.window.admits(&queued, u64::MAX, self.limits.lane);
        if let Some(reading) = &mut self.reading {
            reading.taken.insert(seq);
            reading.stale |= !admitted;
        }
        if admitted {
            return self.window.insert(queued, room, now);
        }
        let known = queued.incident.is_some_and(|lane| self.window.urge(lane, (place.0, seq), now));
        if !known {
            self.look_for_urgent(place);
        }
    }

    /// Makes everything queued after `seq` be read from the spool again.
    pub(super) fn read_again_from(&mut self, seq: u64) {
        self.leave_on_disk(seq);
        self.look_for_all();
    }

    fn leave_on_disk(&mut self, seq: u64) {
        self.cursor = self.cursor.min(seq);
        self.behind = true;
        if let Some(reading) = &mut self.reading {
            reading.stale = true;
        }
    }

    fn look_for_urgent(&mut self, from: Place) {
        let Some(kind) = Kind::of(from.0) else { return };
        let known = self.from(kind);
        if known.is_some_and(|known| known <= from) {
            return;
        }
        *known = Some(from);
        if let Some(reading) = self.reading.as_mut().filter(|reading| reading.kind == kind) {
            reading.rewound = true;
        }
    }

    /// Something anywhere on disk may be more urgent than was known.
    fn look_for_all(&mut self) {
        self.look_for_urgent((0, 0));
        self.look_for_urgent((QUIET, 0));
    }

    /// Places in the window for what is read in order; the others are for what is urgent.
    fn room_in_window(&self) -> usize {
        self.limits.window - self.limits.urgent
    }

    /// From where on something on disk may be more urgent than what is here, and what that is.
    fn lacks(&self) -> Option<(Kind, Place)> {
        if !self.is_more_on_disk() || self.window.len() >= self.limits.window {
            return None;
        }
        let urgent =
            self.urgent_from.filter(|&(rank, _)| self.window.ready_within(0..=rank, ENOUGH) < ENOUGH);
        let quiet =
            self.quiet_from.filter(|_| self.window.ready_within(QUIET..=QUIET, ENOUGH_QUIET) < ENOUGH_QUIET);
        let urgent = urgent.map(|from| (Kind::Paging, from));
        urgent.or_else(|| quiet.map(|from| (Kind::Quiet, from)))
    }

    /// Whether it is not known yet what goes first. A spool that cannot be read does not hold up what is in
    /// memory, and non-paging events do not hold up paging ones.
    pub(super) fn holds_back(&self) -> bool {
        let unknown = || match self.lacks() {
            Some((Kind::Paging, _)) => true,
            Some((Kind::Quiet, _)) => self.window.next_ready().is_none_or(|(rank, _)| rank >= QUIET),
            None => false,
        };
        !self.failing && (!self.begun || unknown())
    }

    /// The next page to be read, if any is.
    pub(super) fn read_on(&mut self, team: Index, now: Timestamp) -> Option<Action> {
        if self.begun
            && let Some((kind, after)) = self.lacks()
        {
            let limit = self.begin(after.1, now)?;
            if let Some(reading) = &mut self.reading {
                reading.kind = kind;
            }
            return Some(Action::Urgent { team, after, limit });
        }
        if self.window.len() > self.limits.window / 2 {
            return None;
        }
        let after = if self.behind {
            self.cursor
        } else {
            self.cursor.min(self.window.hungry(self.limits.lane)? - 1)
        };
        let limit = self.begin(after, now)?;
        Some(Action::Page { team, after, limit })
    }

    /// Asks for a page, one at a time. How many events it may have.
    pub(super) fn begin(&mut self, after: u64, now: Timestamp) -> Option<usize> {
        if self.reading.is_some() || now < self.read_not_before {
            return None;
        }
        let limit = self.limits.page;
        let (taken, settled) = Default::default();
        let kind = Kind::Paging;
        self.reading = Some(Reading { after, limit, kind, taken, settled, stale: false, rewound: false });
        Some(limit)
    }

    /// Takes in the page that was asked for. Returns the events that the spool no longer has queued: an
    /// operator has dropped them.
    pub(super) fn page(&mut self, rows: Vec<Queued>, bytes: usize, now: Timestamp) -> Vec<u64> {
        let Some(reading) = self.reading.take() else { return Vec::new() };
        (self.begun, self.failing) = (true, false);
        let whole = rows.len() < reading.limit;
        let last = rows.last().map_or(reading.after, |row| row.seq);
        let shown: BTreeSet<u64> = rows.iter().map(|row| row.seq).collect();
        let mut gone = self.window.waiting_within(reading.after, if whole { u64::MAX } else { last });
        gone.retain(|seq| !shown.contains(seq) && !reading.taken.contains(seq));
        for &seq in &gone {
            self.forget(seq, now);
        }
        self.seen = self.seen.max(last);
        // A page that starts after the cursor was read for its payloads: what lies between is not known,
        // and nothing may overtake it.
        let joins = reading.after <= self.cursor;
        let mut all = true;
        let mut end = reading.after;
        let mut left = BTreeSet::new();
        for (at, row) in rows.into_iter().enumerate() {
            let seq = row.seq;
            // The first is the one that is wanted: without it nothing would move.
            let room = if at == 0 { usize::MAX } else { bytes };
            if self.window.contains(seq) {
                self.window.refresh(&row);
                self.window.fill(seq, row.payload, room);
            } else if reading.settled.contains(&seq) {
                // Done since the page was read.
            } else if !joins || !all || self.window.len() >= self.room_in_window() {
                all = false;
            } else if self.window.admits(&row, reading.after, self.limits.lane) {
                self.window.insert(row, room, now);
            } else {
                left.extend(row.incident);
            }
            if joins && all {
                self.cursor = self.cursor.max(seq);
                end = seq;
            }
        }
        if joins {
            let whole = whole && all && !reading.stale;
            self.window.shown(reading.after, end, whole, &left);
            if whole {
                self.behind = false;
                if !self.window.has_spilled() {
                    (self.urgent_from, self.quiet_from) = (None, None);
                }
            }
        }
        gone
    }

    /// Takes in the most urgent incidents that were asked for.
    pub(super) fn urgent(&mut self, rows: Vec<Urgent>, room: usize, now: Timestamp) {
        let Some(reading) = self.reading.take() else { return };
        self.failing = false;
        let mut whole = rows.len() < reading.limit;
        let mut from = None;
        for Urgent { head, rank, seq } in rows {
            if Kind::of(rank) != Some(reading.kind) {
                // The others have their own turn.
                whole = true;
                break;
            }
            if self.window.contains(head.seq) {
                if let Some(lane) = head.incident {
                    self.window.urge(lane, (rank, seq), now);
                }
                self.window.fill(head.seq, head.payload, room);
            } else if !reading.settled.contains(&head.seq) {
                if self.window.len() >= self.limits.window {
                    whole = false;
                    break;
                }
                self.window.insert_early(head, (rank, seq), now);
            }
            from = Some((rank, seq));
        }
        // What came to wait on disk meanwhile has noted itself: it is behind what was read here, or before.
        if reading.stale || reading.rewound {
            return;
        }
        if whole {
            *self.from(reading.kind) = None;
        } else if from.is_some() {
            *self.from(reading.kind) = from;
        }
    }

    /// What was asked for could not be read.
    pub(super) fn page_failed(&mut self, now: Timestamp) {
        self.reading = None;
        (self.begun, self.failing) = (true, true);
        self.read_not_before = now + PAGE_RETRY;
    }

    /// Reads the queue again if that is cheap, for what came into the spool by no way that tells us.
    pub(super) fn sweep(&mut self) {
        if !self.is_more_on_disk() && self.window.len() < self.limits.page {
            self.leave_on_disk(0);
        }
    }

    /// Event `seq` is no longer queued: its final outcome is durable, or it was taken out.
    pub(super) fn remove(&mut self, seq: u64, now: Timestamp) {
        if let Some(reading) = &mut self.reading {
            reading.settled.insert(seq);
        }
        self.forget(seq, now);
    }

    fn forget(&mut self, seq: u64, now: Timestamp) {
        if self.window.remove(seq, now) {
            self.look_for_all();
        }
    }
}
