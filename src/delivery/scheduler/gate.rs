//! A team's gate: whether its events may go out, as the answers to its posts tell. A state machine without I/O and
//! without a clock.
//!
//! The gate is open while SIGNL4 answers. It is shut at the start, and shuts when the secret is refused, when the
//! account is throttled and when nothing answers. Behind a shut gate one post at a time goes out as a probe: an event,
//! or a non-paging question while the secret is refused. The probe that gets through opens the gate.

mod learn;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::delivery::status::State;

/// How often a team whose secret is refused is tried. SIGNL4 throttles wrong requests at ten a minute.
pub(super) const PROBE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// Least time between two probes of a team that does not answer, when a new event asks for one.
pub(super) const EAGER_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// How often the log repeats why a gate is shut.
const TELL_INTERVAL: SignedDuration = SignedDuration::from_secs(300);

/// Something that the log must tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The team is held, or still is; `foreign` if what answers is not SIGNL4.
    Held { reason: String, foreign: bool },
    /// The account is throttled until then.
    Throttled { until: Timestamp, reason: String },
    /// Nothing answers, or for another reason than before.
    Down { reason: String },
    /// What was said last is over.
    Answers { was: State },
    /// This event failed and is tried again; `maybe_taken` if SIGNL4 may have it all the same.
    Deferred { next_at: Timestamp, reason: String, maybe_taken: bool },
    /// The account may post so many in its shortest window, as SIGNL4's headers tell.
    Plan { burst: u64 },
}

/// What an answer is the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A post of this event of the team's own.
    Own(u64),
    /// A post of this event of another team, whose fallback this one is.
    Lent(u64),
    /// The question whether the secret is right.
    Question,
}

impl Whose {
    fn seq(self) -> Option<u64> {
        match self {
            Self::Own(seq) | Self::Lent(seq) => Some(seq),
            Self::Question => None,
        }
    }
}

/// What an answer leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// To be logged.
    pub(super) notices: Vec<Notice>,
    /// The gate has opened.
    pub(super) opened: bool,
    /// The gate has shut, or has another reason to be.
    pub(super) shut: bool,
    /// How often the event was refused although others were taken meanwhile: the event is at fault, not the secret.
    pub(super) blamed: Option<u32>,
}

/// What may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Every event whose turn it is.
    Events,
    /// The question whether the secret is right.
    Question,
    /// As a probe the event that was tried least.
    LeastTried,
    /// As a probe the most urgent event.
    MostUrgent,
    /// A probe is under way, or it is not time for one.
    Nothing,
}

/// Why a gate is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// No post was answered since the start.
    Untried,
    /// SIGNL4 refuses the secret or the URL, or what answers is `foreign`: not SIGNL4. `unsure` while the question
    /// is to tell whether the secret is at fault or the event that was refused.
    Held { foreign: bool, unsure: bool },
    /// SIGNL4 has blocked the account for a while, and has said so to so many probes since.
    Throttled { probes: u32 },
    /// Nothing answers, and so many probes have failed. `hinted` once others were seen to get through; new events ask
    /// for a probe `eager_from` then on.
    Down { probes: u32, hinted: bool, eager_from: Timestamp },
}

#[derive(Debug)]
enum Position {
    /// Events go out. `failing` are the different events that failed since the last that got through.
    Open { failing: BTreeSet<u64> },
    Shut {
        why: Why,
        /// In words.
        reason: String,
        probe_at: Timestamp,
        /// When the log told of it last.
        told_at: Timestamp,
        /// When the secret was refused first, be it before the last start. Kept until something gets through.
        refused_since: Option<Timestamp>,
    },
}

/// The probe that is under way.
#[derive(Debug)]
struct Probe {
    /// The event, or none for the question.
    seq: Option<u64>,
    /// Whether another is to follow it at once.
    again: bool,
}

/// An event that was refused as with a wrong secret.
#[derive(Debug, Default)]
struct Suspect {
    /// How much had been taken when it was refused last.
    successes: Option<u64>,
    /// How often it was refused although others were taken meanwhile.
    alone: u32,
}

/// See the head of this module.
#[derive(Debug)]
pub(super) struct Gate {
    position: Position,
    /// It outlives what it was sent for: the gate may open by another post, and shut again.
    probe: Option<Probe>,
    last_probe: Timestamp,
    /// Whether the config lets the question be asked.
    can_ask: bool,
    /// Whether it may be asked now: not once it was not understood.
    may_ask: bool,
    /// Whether it is to be found out if the gate can open, though no event waits.
    wanted: bool,
    /// How often SIGNL4 has taken an event of the team, or the question.
    successes: u64,
    suspects: BTreeMap<u64, Suspect>,
    rng: Rng,
}

impl Gate {
    /// The gate of a team that was not tried yet.
    pub(super) fn new(can_ask: bool, rng: Rng, now: Timestamp) -> Self {
        Self {
            position: Position::Shut {
                why: Why::Untried,
                reason: String::new(),
                probe_at: now,
                told_at: Timestamp::MIN,
                refused_since: None,
            },
            probe: None,
            last_probe: Timestamp::MIN,
            can_ask,
            may_ask: can_ask,
            wanted: true,
            successes: 0,
            suspects: BTreeMap::new(),
            rng,
        }
    }

    /// How it stands: never [`State::Starved`] or [`State::Unknown`].
    pub(super) fn state(&self) -> State {
        match &self.position {
            Position::Open { .. } => State::Open,
            Position::Shut { why, .. } => why.state(),
        }
    }

    /// Why it is shut; empty if it is open.
    pub(super) fn reason(&self) -> &str {
        match &self.position {
            Position::Open { .. } => "",
            Position::Shut { reason, .. } => reason,
        }
    }

    /// Whether it is shut since what answers is not SIGNL4.
    pub(super) fn meets_another(&self) -> bool {
        matches!(self.position, Position::Shut { why: Why::Held { foreign: true, .. }, .. })
    }

    /// Since when the secret is refused, if that is sure.
    pub(super) fn held_since(&self) -> Option<Timestamp> {
        match &self.position {
            Position::Shut { why: Why::Held { unsure: true, .. }, .. } | Position::Open { .. } => None,
            Position::Shut { refused_since, .. } => *refused_since,
        }
    }

    /// When the secret will have been refused for `long`, where it is refused now.
    pub(super) fn held_for(&self, long: SignedDuration) -> Option<Timestamp> {
        match &self.position {
            Position::Shut { why: Why::Held { .. }, refused_since, .. } => {
                (*refused_since)?.checked_add(long).ok()
            }
            _ => None,
        }
    }

    /// The secret was refused since then, when the service ran before.
    pub(super) fn was_held(&mut self, since: Timestamp) {
        if let Position::Shut { refused_since, .. } = &mut self.position {
            *refused_since = Some(since);
        }
    }

    /// What may go out at `now`.
    pub(super) fn allows(&self, now: Timestamp) -> Allowed {
        let Position::Shut { why, probe_at, .. } = &self.position else { return Allowed::Events };
        if self.probe.is_some() || *probe_at > now {
            return Allowed::Nothing;
        }
        match why {
            Why::Held { .. } if self.may_ask => Allowed::Question,
            // Held without a question to ask, an event must find out; so must it in an outage, and now and
            // then not the most urgent one, for that may be what fails.
            Why::Held { .. } => Allowed::LeastTried,
            Why::Down { probes, .. } if probes.is_multiple_of(2) => Allowed::LeastTried,
            Why::Untried | Why::Throttled { .. } | Why::Down { .. } => Allowed::MostUrgent,
        }
    }

    /// Whether the question may be asked though no event waits.
    pub(super) fn asks_idly(&self) -> bool {
        self.may_ask && self.wanted
    }

    /// When the next probe is due, if one is to come: for events where there `are` any, or for the question.
    pub(super) fn next_probe(&self, are: bool) -> Option<Timestamp> {
        let Position::Shut { why, probe_at, .. } = &self.position else { return None };
        let held = matches!(why, Why::Held { .. }) && (self.may_ask || self.wanted);
        (self.probe.is_none() && (are || held)).then_some(*probe_at)
    }

    /// Whether the first post of all is under way, which shows whether others may go.
    pub(super) fn awaits_first_answer(&self) -> bool {
        self.state() == State::Untried && self.probe.is_some()
    }

    /// Whether events of other teams may go this way at `now`; `idle` if no event of the team's own waits.
    pub(super) fn takes_others(&self, idle: bool, now: Timestamp) -> bool {
        match &self.position {
            Position::Open { .. } => true,
            // One that cannot ask whether its secret is right finds out by them.
            Position::Shut { why: Why::Untried, .. } => !self.may_ask,
            Position::Shut { why: Why::Held { .. }, probe_at, .. } => {
                idle && !self.may_ask && self.probe.is_none() && *probe_at <= now
            }
            Position::Shut { why: Why::Throttled { .. } | Why::Down { .. }, .. } => false,
        }
    }

    /// A post goes out this way.
    pub(super) fn send(&mut self, whose: Whose) {
        let Position::Shut { why, .. } = self.position else { return };
        let tries = !matches!(whose, Whose::Lent(_)) || matches!(why, Why::Held { .. });
        if tries {
            self.probe = Some(Probe { seq: whose.seq(), again: false });
        }
    }

    /// Another team's events wait for this gate to open.
    pub(super) fn want(&mut self) {
        self.wanted |= self.state() != State::Open;
    }

    /// A new event has come: an outage may be over.
    pub(super) fn event_came(&mut self, now: Timestamp) {
        if let Position::Shut { why: Why::Down { eager_from, .. }, probe_at, .. } = &mut self.position {
            *probe_at = (*probe_at).min(now.max(self.last_probe + EAGER_INTERVAL).max(*eager_from));
        }
    }

    /// An operator has changed the queue or the secret: it is tried now.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.wanted = true;
        self.may_ask = self.can_ask;
        self.probe_now(now);
        self.probe_again();
    }

    /// Other teams reach the server of this team's target, so a team that did not is tried at once. They may reach it all
    /// the time, so that counts only once, unless the server `is_back` just now.
    pub(super) fn server_answers(&mut self, is_back: bool, now: Timestamp) {
        if let Position::Shut { why: Why::Down { hinted, .. }, probe_at, .. } = &mut self.position
            && (is_back || !*hinted)
        {
            *hinted = true;
            *probe_at = (*probe_at).min(now);
            self.probe_again();
        }
    }

    /// The clock was set back: the next probe waits for no time that is far away now.
    pub(super) fn clock_was_set_back(&mut self, now: Timestamp) {
        if let Position::Shut { probe_at, .. } = &mut self.position {
            *probe_at = (*probe_at).min(now);
        }
    }

    /// The next probe is due at once, unless SIGNL4 has named the time.
    fn probe_now(&mut self, now: Timestamp) {
        if let Position::Shut { why, probe_at, .. } = &mut self.position
            && !matches!(why, Why::Throttled { .. })
        {
            *probe_at = now;
        }
    }

    /// Another probe follows the one that is under way.
    fn probe_again(&mut self) {
        if let Some(probe) = &mut self.probe {
            probe.again = true;
        }
    }

    /// Event `seq` is done.
    pub(super) fn forget(&mut self, seq: u64) {
        self.suspects.remove(&seq);
        if let Position::Open { failing } = &mut self.position {
            failing.remove(&seq);
        }
    }
}

impl Why {
    fn state(self) -> State {
        match self {
            Self::Untried => State::Untried,
            Self::Held { .. } => State::Held,
            Self::Throttled { .. } => State::Throttled,
            Self::Down { .. } => State::Down,
        }
    }
}

#[cfg(test)]
mod tests;
