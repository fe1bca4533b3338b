//! Decides what of a team's backlog is posted when. No I/O and no clock: answers and times come in,
//! [`Action`]s go out; the loop in the parent module carries them out.
//!
//! The gate of a team is open while SIGNL4 answers. It shuts when the secret is refused, when the account
//! is throttled, when nothing answers, and at the start. Behind a shut gate one event at a time goes out
//! as a probe; the one that gets through opens it, and all that waited goes at once.
//!
//! What is in memory is bounded: the window holds the oldest events up to a number, the spool the rest.
//! Events are taken from the gateway's hands only while nothing older is still on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::backoff;
use super::webhook::Answer;
use super::window::Window;
use crate::mail::MailId;
use crate::spool::{Outcome, Queued};

/// How often a team whose secret is refused is tried. SIGNL4 throttles wrong requests at ten a minute.
const PROBE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// How often the log repeats that a team is held.
const SHOUT_INTERVAL: SignedDuration = SignedDuration::from_secs(300);

/// Least time between probes of a team that does not answer, when a new event asks for one.
const EAGER_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// Longest extra wait after a 429 that came right after the wait that the last 429 asked for.
const THROTTLE_CAP: SignedDuration = SignedDuration::from_secs(60);

/// So many different events must fail in a row, none getting through between, to make it an outage. One
/// event that always fails is not one.
const OUTAGE: usize = 3;

/// The wait after the spool could not be read.
const PAGE_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// A clock that is this much behind itself was set back.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// The bounds of a team.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Posts at the same time.
    pub(super) concurrency: usize,
    /// The age at which an event that fails is given up.
    pub(super) give_up_after: SignedDuration,
    /// Events in memory.
    pub(super) window: usize,
    /// Events of one lane in memory.
    pub(super) lane: usize,
    /// Events read from the spool at once.
    pub(super) page: usize,
    /// Bytes of payloads in memory.
    pub(super) payload_bytes: usize,
}

/// What the loop is to do for a team.
#[derive(Debug)]
pub(super) enum Action {
    /// Post an event and bring the answer to [`Team::answer`].
    Post(Post),
    /// Read the queued events after `after` from the spool and bring them to [`Team::page`].
    Page { after: u64, limit: usize },
}

/// A post to be made.
#[derive(Debug)]
pub(super) struct Post {
    /// The event.
    pub(super) seq: u64,
    /// Its JSON.
    pub(super) payload: Arc<str>,
    /// Whether the gate is shut, so that the secret may have been put right and is to be read again.
    pub(super) probe: bool,
}

/// How it stands with a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No post was answered since the start.
    Untried,
    /// Events go out.
    Open,
    /// SIGNL4 refuses the secret or the URL is wrong.
    Held,
    /// SIGNL4 has blocked the account for a while.
    Throttled,
    /// Nothing answers.
    Down,
    /// The spool holds events for a team that the config does not name.
    Unknown,
}

/// Something that the log must tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// The team is held, or still is.
    Held { reason: String },
    /// The account is throttled until then.
    Throttled { until: Timestamp, reason: String },
    /// Nothing answers, or for another reason than before.
    Down { reason: String },
    /// What was said last is over.
    Answers { was: State },
    /// This event failed and is tried again.
    Deferred { next_at: Timestamp, reason: String },
}

/// What an answer leads to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// To be recorded in the spool. After one that is final, [`Team::recorded`] must be called when it is
    /// durable; the lane stands still until then, for a crash must not bring an open back after its close.
    pub(super) outcome: Option<Outcome>,
    /// To be logged.
    pub(super) notices: Vec<Notice>,
}

/// A page that is being read, and what happened since it was asked for.
#[derive(Debug)]
struct Reading {
    after: u64,
    limit: usize,
    /// Taken from the gateway meanwhile: the page may miss them.
    taken: BTreeSet<u64>,
    /// Recorded as done meanwhile: the page may still show them.
    settled: BTreeSet<u64>,
    /// Whether more came to wait on disk meanwhile.
    stale: bool,
}

/// One team's queue.
#[derive(Debug)]
pub(super) struct Team {
    limits: Limits,
    rng: Rng,
    window: Window,
    /// Everything queued up to here is in the window.
    cursor: u64,
    /// Whether more may wait on disk after the cursor.
    behind: bool,
    /// The last event that a page has shown.
    seen: u64,
    reading: Option<Reading>,
    read_not_before: Timestamp,
    in_flight: usize,
    /// When each event that was answered with a wrong secret got that answer last.
    unauthorised: BTreeMap<u64, Timestamp>,
    /// Different events that failed since the last that got through, up to [`OUTAGE`].
    failing: BTreeSet<u64>,
    last_success: Timestamp,
    state: State,
    /// Why the gate is shut.
    reason: String,
    /// Probes that failed since it shut.
    failed_probes: u32,
    probe_at: Timestamp,
    probing: Option<u64>,
    /// Whether the team was woken since that probe went out, so that another follows it at once.
    woken: bool,
    last_probe: Timestamp,
    last_shout: Timestamp,
    last_now: Timestamp,
}

impl Team {
    /// A team whose backlog is on disk.
    pub(super) fn new(limits: Limits, rng: Rng, now: Timestamp) -> Self {
        Self {
            limits,
            rng,
            window: Window::default(),
            cursor: 0,
            behind: true,
            seen: 0,
            reading: None,
            read_not_before: now,
            in_flight: 0,
            unauthorised: BTreeMap::new(),
            failing: BTreeSet::new(),
            last_success: Timestamp::MIN,
            state: State::Untried,
            reason: String::new(),
            failed_probes: 0,
            probe_at: now,
            probing: None,
            woken: false,
            last_probe: Timestamp::MIN,
            last_shout: Timestamp::MIN,
            last_now: now,
        }
    }

    /// How it stands.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Why events do not go out; empty while they do.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Events in memory, whether there may be more on disk, and when the oldest was accepted.
    pub(super) fn waiting(&self) -> (usize, bool, Option<Timestamp>) {
        (self.window.len(), self.behind || self.window.has_spilled(), self.window.oldest())
    }

    /// Posts that are being made.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The mail of an event in memory, when it was accepted, and how many posts of it have failed.
    pub(super) fn event(&self, seq: u64) -> Option<(MailId, Timestamp, u32)> {
        self.window.event(seq).map(|event| (event.mail, event.accepted_at, event.attempts))
    }

    /// Takes a newly queued event from the gateway, unless it has to wait its turn on disk.
    pub(super) fn offer(&mut self, queued: Queued, now: Timestamp) {
        let seq = queued.seq;
        if self.state == State::Down {
            self.probe_at = self.probe_at.min(now.max(self.last_probe + EAGER_INTERVAL));
        }
        if self.window.contains(seq) {
            return;
        }
        // One that a page should have shown may be done already: only the spool knows.
        if seq <= self.seen {
            return self.read_again_from(seq - 1);
        }
        if self.behind || self.window.len() >= self.limits.window {
            return self.read_again_from(self.cursor.min(seq - 1));
        }
        self.cursor = self.cursor.max(seq);
        let admitted = self.window.admits(&queued, u64::MAX, self.limits.lane);
        if let Some(reading) = &mut self.reading {
            reading.taken.insert(seq);
            reading.stale |= !admitted;
        }
        if admitted {
            self.window.insert(queued, self.room(), now);
        }
    }

    /// Makes everything queued after `seq` be read from the spool again.
    pub(super) fn read_again_from(&mut self, seq: u64) {
        self.cursor = self.cursor.min(seq);
        self.behind = true;
        if let Some(reading) = &mut self.reading {
            reading.stale = true;
        }
    }

    /// An operator has changed the queue, the secret or the URL: everything is looked at anew, and what
    /// waits is tried now.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.read_again_from(0);
        self.window.forget_payloads();
        self.window.release(now);
        if self.state != State::Throttled {
            self.probe_at = now;
            self.woken = self.probing.is_some();
        }
    }

    /// The next thing to do at `now`, until there is none. Without `may_post` only reading goes on.
    pub(super) fn next(&mut self, now: Timestamp, may_post: bool) -> Option<Action> {
        if now < self.last_now - SET_BACK {
            self.window.release(now);
            self.probe_at = self.probe_at.min(now);
            self.read_not_before = now;
        }
        self.last_now = now;
        self.window.due(now);
        if self.behind && self.window.len() <= self.limits.window / 2 {
            if let Some(page) = self.read(self.cursor, now) {
                return Some(page);
            }
        } else if self.window.len() <= self.limits.window / 2
            && let Some(from) = self.window.hungry(self.limits.lane)
            && let Some(page) = self.read(self.cursor.min(from - 1), now)
        {
            return Some(page);
        }
        if !may_post {
            return None;
        }
        let probe = self.state != State::Open;
        let seq = if !probe {
            (self.in_flight < self.limits.concurrency).then(|| self.window.next_ready())??
        } else {
            (self.probing.is_none() && self.probe_at <= now).then(|| self.window.least_tried())??
        };
        if !self.window.has_payload(seq) {
            return self.read(seq - 1, now);
        }
        let payload = self.window.take(seq)?;
        self.in_flight += 1;
        if probe {
            self.probing = Some(seq);
        }
        Some(Action::Post(Post { seq, payload, probe }))
    }

    /// When [`Team::next`] may have something new to do if nothing else happens.
    pub(super) fn next_time(&self) -> Option<Timestamp> {
        let due = if self.state == State::Open {
            self.window.next_due()
        } else {
            (self.probing.is_none() && self.window.has_head()).then_some(self.probe_at)
        };
        // What was due already waits for an answer, a page or a place, not for the time.
        [due, Some(self.read_not_before)].into_iter().flatten().filter(|&at| at > self.last_now).min()
    }

    /// Asks for a page, one at a time.
    fn read(&mut self, after: u64, now: Timestamp) -> Option<Action> {
        if self.reading.is_some() || now < self.read_not_before {
            return None;
        }
        let limit = self.limits.page;
        let (taken, settled) = Default::default();
        self.reading = Some(Reading { after, limit, taken, settled, stale: false });
        Some(Action::Page { after, limit })
    }

    /// Takes in the page that was asked for. Returns the events that the spool no longer has queued: an
    /// operator has dropped them.
    pub(super) fn page(&mut self, rows: Vec<Queued>, now: Timestamp) -> Vec<u64> {
        let Some(reading) = self.reading.take() else { return Vec::new() };
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
            let room = if at == 0 { usize::MAX } else { self.room() };
            if self.window.contains(seq) {
                self.window.refresh(&row);
                self.window.fill(seq, row.payload, room);
            } else if reading.settled.contains(&seq) {
                // Done since the page was read.
            } else if !joins || !all || self.window.len() >= self.limits.window {
                all = false;
            } else if self.window.admits(&row, reading.after, self.limits.lane) {
                self.window.insert(row, room, now);
            } else {
                left.extend(row.external_id);
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
            }
        }
        gone
    }

    /// The page that was asked for could not be read.
    pub(super) fn page_failed(&mut self, now: Timestamp) {
        self.reading = None;
        self.read_not_before = now + PAGE_RETRY;
    }

    /// Reads the queue again if that is cheap, for what came into the spool by no way that tells us.
    pub(super) fn sweep(&mut self) {
        if !self.behind && !self.window.has_spilled() && self.window.len() < self.limits.page {
            self.read_again_from(0);
        }
    }

    /// The final outcome of `seq` is durable.
    pub(super) fn recorded(&mut self, seq: u64, now: Timestamp) {
        if let Some(reading) = &mut self.reading {
            reading.settled.insert(seq);
        }
        self.forget(seq, now);
    }

    fn forget(&mut self, seq: u64, now: Timestamp) {
        self.unauthorised.remove(&seq);
        self.failing.remove(&seq);
        self.window.remove(seq, now);
    }

    /// Takes in the answer to a post.
    pub(super) fn answer(&mut self, seq: u64, answer: Answer, now: Timestamp) -> Verdict {
        self.in_flight = self.in_flight.saturating_sub(1);
        let probe = self.probing == Some(seq);
        if probe {
            self.probing = None;
            self.last_probe = now;
        }
        let mut verdict = Verdict::default();
        match answer {
            Answer::Accepted { event_id, .. } => {
                self.succeeded(probe, now, &mut verdict);
                self.last_success = now;
                verdict.outcome = Some(Outcome::Delivered { seq, event_id, at: now, by_way: None });
            }
            Answer::Refused { reason } => {
                // SIGNL4 is there. That it knows the secret is not said: it may have looked at the body
                // first.
                self.count(seq);
                if self.state != State::Held {
                    self.succeeded(probe, now, &mut verdict);
                } else if probe {
                    self.probe_at = now + PROBE_INTERVAL;
                }
                verdict.outcome = Some(Outcome::Failed { seq, at: now, reason });
            }
            Answer::Throttled { until, reason, .. } => {
                self.throttled(probe, until, reason, now, &mut verdict);
                self.window.put_back(seq, now, now);
            }
            Answer::Unauthorised { reason } => self.refused_us(seq, probe, reason, now, &mut verdict),
            Answer::Unavailable { reason } => {
                let wait = self.wait(seq);
                self.unanswered(seq, probe, &reason, now, &mut verdict);
                self.defer(seq, wait, reason, now, &mut verdict);
            }
        }
        if probe && std::mem::take(&mut self.woken) && self.state != State::Throttled {
            self.probe_at = now;
        }
        verdict
    }

    /// SIGNL4 has taken an event, or looked at one.
    fn succeeded(&mut self, probe: bool, now: Timestamp, verdict: &mut Verdict) {
        self.failing.clear();
        // One that was under way when the gate shut may have been judged before the reason for it.
        let opens = match self.state {
            State::Held | State::Throttled => probe,
            State::Untried | State::Down => true,
            State::Open | State::Unknown => false,
        };
        if opens {
            if self.state != State::Untried {
                verdict.notices.push(Notice::Answers { was: self.state });
            }
            self.state = State::Open;
            self.reason.clear();
            self.failed_probes = 0;
            self.window.release(now);
        }
    }

    fn shut(&mut self, state: State, reason: &str, probe_at: Timestamp) {
        self.state = state;
        self.reason = reason.to_owned();
        self.probe_at = probe_at;
        self.failing.clear();
        self.window.forget_payloads();
    }

    fn throttled(
        &mut self,
        probe: bool,
        until: Timestamp,
        reason: String,
        now: Timestamp,
        verdict: &mut Verdict,
    ) {
        match self.state {
            // What a wrong secret earns by itself, and no news.
            State::Held => self.probe_at = self.probe_at.max(until),
            State::Throttled if !probe => self.probe_at = self.probe_at.max(until),
            State::Throttled => {
                self.failed_probes += 1;
                let extra = SignedDuration::from_secs(1 << self.failed_probes.min(6)).min(THROTTLE_CAP);
                self.probe_at = until.max(now + extra);
            }
            State::Untried | State::Open | State::Down | State::Unknown => {
                self.failed_probes = 0;
                self.shut(State::Throttled, &reason, until);
                verdict.notices.push(Notice::Throttled { until, reason });
            }
        }
    }

    /// The secret or the URL was refused.
    fn refused_us(&mut self, seq: u64, probe: bool, reason: String, now: Timestamp, verdict: &mut Verdict) {
        // Others got through since this event was refused, and now it is refused again: something on the
        // way dislikes the event, as a firewall does that reads bodies. It must not hold the others.
        let it_is_the_event = self.unauthorised.get(&seq).is_some_and(|&at| at < self.last_success);
        self.unauthorised.insert(seq, now);
        let wait = self.wait(seq).max(PROBE_INTERVAL);
        if it_is_the_event && self.state == State::Open {
            return self.defer(seq, wait, reason, now, verdict);
        }
        if self.state != State::Held {
            self.shut(State::Held, &reason, now + PROBE_INTERVAL);
            self.last_shout = now;
            verdict.notices.push(Notice::Held { reason: reason.clone() });
        } else if probe {
            self.probe_at = now + PROBE_INTERVAL;
            if self.last_shout + SHOUT_INTERVAL <= now || self.reason != reason {
                self.last_shout = now;
                self.reason.clone_from(&reason);
                verdict.notices.push(Notice::Held { reason: reason.clone() });
            }
        }
        // No event is given up while its team is held.
        let attempts = self.count(seq);
        self.window.put_back(seq, self.probe_at, now);
        verdict.outcome = Some(Outcome::Deferred { seq, attempts, next_at: self.probe_at, reason });
    }

    /// Nobody answered, or nobody who could.
    fn unanswered(&mut self, seq: u64, probe: bool, reason: &str, now: Timestamp, verdict: &mut Verdict) {
        match self.state {
            State::Open => {
                self.failing.insert(seq);
                if self.failing.len() < OUTAGE {
                    return;
                }
            }
            State::Held if probe => return self.probe_at = now + PROBE_INTERVAL,
            State::Untried | State::Throttled | State::Down if probe => {}
            _ => return,
        }
        if self.state != State::Down {
            self.failed_probes = 0;
        }
        self.failed_probes += 1;
        let probe_at = now + backoff::after(self.failed_probes, &mut self.rng);
        let news = self.reason != reason && self.last_shout + SHOUT_INTERVAL <= now;
        if self.state != State::Down || news {
            self.last_shout = now;
            verdict.notices.push(Notice::Down { reason: reason.to_owned() });
        }
        self.shut(State::Down, reason, probe_at);
    }

    /// Counts a failed post of `seq`.
    fn count(&mut self, seq: u64) -> u32 {
        self.window.event_mut(seq).map_or(1, |event| {
            event.attempts = event.attempts.saturating_add(1);
            event.attempts
        })
    }

    /// How long `seq` waits if the post just made has failed.
    fn wait(&mut self, seq: u64) -> SignedDuration {
        let failures = self.window.event(seq).map_or(0, |event| event.attempts);
        backoff::after(failures.saturating_add(1), &mut self.rng)
    }

    /// `seq` alone failed: it waits, or is given up.
    fn defer(
        &mut self,
        seq: u64,
        wait: SignedDuration,
        reason: String,
        now: Timestamp,
        verdict: &mut Verdict,
    ) {
        let attempts = self.count(seq);
        let Some(event) = self.window.event_mut(seq) else { return };
        let age = now.duration_since(event.accepted_at);
        if age >= self.limits.give_up_after {
            let reason = format!("given up after {attempts} attempts in {age:#.0}: {reason}");
            verdict.outcome = Some(Outcome::Failed { seq, at: now, reason });
            return;
        }
        let next_at = now + wait;
        if event.reason.as_deref() != Some(&reason) {
            event.reason = Some(reason.as_str().into());
            // The outage has been told; who else it hits is no news.
            if self.state == State::Open {
                verdict.notices.push(Notice::Deferred { next_at, reason: reason.clone() });
            }
        }
        self.window.put_back(seq, next_at, now);
        verdict.outcome = Some(Outcome::Deferred { seq, attempts, next_at, reason });
    }

    /// Bytes that payloads may take up in memory. Behind a shut gate they take none.
    fn room(&self) -> usize {
        match self.state {
            State::Untried | State::Open => self.limits.payload_bytes,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
