//! What answers do to a team: its gate.
//!
//! The gate is open while SIGNL4 answers. It shuts when the secret is refused, when the account is
//! throttled, when nothing answers, and at the start. Behind a shut gate one event at a time goes out as a
//! probe, and when the secret is refused not even that, but a question that pages nobody. The one that gets
//! through opens the gate, and all that waited goes as fast as the account's budget lets it.

use jiff::{SignedDuration, Timestamp};

use super::team::Team;
use crate::delivery::backoff;
use crate::delivery::webhook::{Answer, Reached};
use crate::spool::Outcome;

/// How often a team whose secret is refused is tried. SIGNL4 throttles wrong requests at ten a minute.
pub(super) const PROBE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// How often the log repeats that a team is held.
const SHOUT_INTERVAL: SignedDuration = SignedDuration::from_secs(300);

/// Longest extra wait after a 429 that came right after the wait that the last 429 asked for.
const THROTTLE_CAP: SignedDuration = SignedDuration::from_secs(60);

/// So many different events must fail in a row, none getting through between, to make it an outage. One
/// event that always fails is not one.
const OUTAGE: usize = 3;

/// So often an event must be refused although others are taken, to be given up: about a quarter of an hour, for what
/// dislikes it may be put right soon.
const ALONE: u32 = 5;

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
    /// The account has posted what it may, and nothing goes out for long. No gate shuts for that: it is told only.
    Starved,
    /// The spool holds events for a team that the config does not name.
    Unknown,
}

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

/// What an answer leads to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// To be recorded in the spool. After one that is final, [`Team::recorded`] must be called when it is
    /// durable; the lane stands still until then, for a crash must not bring an open back after its close.
    pub(crate) outcome: Option<Outcome>,
    /// To be logged.
    pub(crate) notices: Vec<Notice>,
    /// To be logged of the team by whose target the event went.
    pub(crate) lent: Vec<Notice>,
}

impl Team {
    /// Takes in the answer to a post.
    pub(super) fn answer(&mut self, seq: u64, answer: Answer, now: Timestamp) -> Verdict {
        self.in_flight = self.in_flight.saturating_sub(1);
        let probe = self.end_probe(Some(seq), now);
        let mut verdict = Verdict::default();
        match answer {
            Answer::Accepted { event_id, .. } => {
                self.succeeded(probe, now, &mut verdict.notices);
                self.successes += 1;
                verdict.outcome = Some(Outcome::Delivered { seq, event_id, at: now, by_way: None });
            }
            Answer::Refused { reason } => {
                // SIGNL4 is there. That it knows the secret is not said: it may have looked at the body
                // first.
                self.count(seq);
                if self.state != State::Held {
                    self.succeeded(probe, now, &mut verdict.notices);
                } else if probe {
                    self.probe_at = now + PROBE_INTERVAL;
                }
                verdict.outcome = Some(Outcome::Failed { seq, at: now, reason, maybe_taken: false });
            }
            Answer::Throttled { until, reason, .. } => {
                self.throttled(probe, until, reason, now, &mut verdict.notices);
                self.window.put_back(seq, now, now);
            }
            Answer::Unauthorised { reason } => self.refused_us(seq, probe, reason, false, now, &mut verdict),
            Answer::Foreign { reason } => {
                self.doubt(seq, Reached::Perhaps);
                self.refused_us(seq, probe, reason, true, now, &mut verdict);
            }
            Answer::NoSecret { reason } => {
                self.hold(probe, &reason, false, now, &mut verdict.notices);
                self.wait_for_secret(seq, reason, false, now, &mut verdict);
            }
            Answer::Unavailable { reason, retry_after, reached } => {
                let wait = self.wait(seq).max(retry_after.unwrap_or_default());
                self.unanswered(Some(seq), probe, &reason, retry_after, now, &mut verdict.notices);
                let maybe_taken = self.doubt(seq, reached);
                self.defer(seq, wait, reason, maybe_taken, now, &mut verdict);
            }
        }
        self.after_probe(probe, now);
        verdict
    }

    /// Takes in the answer to the question whether the secret is right.
    pub(super) fn asked(&mut self, answer: Answer, now: Timestamp) -> Verdict {
        let probe = self.end_probe(None, now);
        let mut verdict = Verdict::default();
        let notices = &mut verdict.notices;
        match answer {
            Answer::Accepted { .. } => {
                self.succeeded(probe, now, notices);
                self.successes += 1;
            }
            // The question itself is not understood, as by a stand-in of somebody's own: events must do.
            Answer::Refused { .. } => {
                self.may_ask = false;
                self.probe_at = now;
            }
            Answer::Throttled { until, reason, .. } => self.throttled(probe, until, reason, now, notices),
            Answer::Unauthorised { reason } | Answer::NoSecret { reason } => {
                self.hold(probe, &reason, false, now, notices);
            }
            Answer::Foreign { reason } => self.hold(probe, &reason, true, now, notices),
            Answer::Unavailable { reason, retry_after, .. } => {
                self.unanswered(None, probe, &reason, retry_after, now, notices);
            }
        }
        self.tell_of_hold(now, notices);
        self.after_probe(probe, now);
        verdict
    }

    /// Takes in what the answer to another team's event, posted by our target, says about our target.
    pub(super) fn lent(&mut self, seq: u64, answer: &Answer, now: Timestamp) -> Vec<Notice> {
        let probe = self.end_probe(Some(seq), now);
        let mut notices = Vec::new();
        match answer {
            Answer::Accepted { .. } | Answer::Refused { .. } => self.succeeded(probe, now, &mut notices),
            Answer::Throttled { until, reason, .. } => {
                self.throttled(probe, *until, reason.clone(), now, &mut notices);
            }
            Answer::Unauthorised { reason } if self.state == State::Open && self.may_ask => {
                self.doubt_secret(reason, false, now);
            }
            Answer::Foreign { reason } if self.state == State::Open && self.may_ask => {
                self.doubt_secret(reason, true, now);
            }
            Answer::Unauthorised { reason } | Answer::NoSecret { reason } => {
                self.hold(probe, reason, false, now, &mut notices);
            }
            Answer::Foreign { reason } => self.hold(probe, reason, true, now, &mut notices),
            Answer::Unavailable { reason, retry_after, .. } => {
                self.unanswered(Some(seq), probe, reason, *retry_after, now, &mut notices);
            }
        }
        notices
    }

    /// Takes in the answer to a post that went by a fallback's target; [`Team::lent`] tells the fallback.
    pub(super) fn answer_diverted(&mut self, seq: u64, answer: Answer, now: Timestamp) -> Verdict {
        self.in_flight = self.in_flight.saturating_sub(1);
        let mut verdict = Verdict::default();
        match answer {
            Answer::Accepted { event_id, .. } => {
                // Whose way it was, the loop knows.
                let by_way = Some(String::new());
                verdict.outcome = Some(Outcome::Delivered { seq, event_id, at: now, by_way });
            }
            Answer::Refused { reason } => {
                self.count(seq);
                verdict.outcome = Some(Outcome::Failed { seq, at: now, reason, maybe_taken: false });
            }
            Answer::Throttled { .. } => self.window.put_back(seq, now, now),
            // The longer the more often it is, so that it does not always go before those that may get through.
            Answer::Unauthorised { reason } | Answer::NoSecret { reason } => {
                let wait = self.wait(seq).max(PROBE_INTERVAL);
                self.keep(seq, wait, reason, false, now, &mut verdict);
            }
            Answer::Foreign { reason } => {
                let wait = self.wait(seq).max(PROBE_INTERVAL);
                let maybe_taken = self.doubt(seq, Reached::Perhaps);
                self.keep(seq, wait, reason, maybe_taken, now, &mut verdict);
            }
            Answer::Unavailable { reason, retry_after, reached } => {
                let wait = self.wait(seq).max(retry_after.unwrap_or_default());
                let maybe_taken = self.doubt(seq, reached);
                self.keep(seq, wait, reason, maybe_taken, now, &mut verdict);
            }
        }
        verdict
    }

    /// Whether what was answered was the probe: the event `seq`, or the question if there is none.
    fn end_probe(&mut self, seq: Option<u64>, now: Timestamp) -> bool {
        let probe = self.probing.is_some_and(|probing| probing == seq);
        if probe {
            self.probing = None;
            self.last_probe = now;
        }
        probe
    }

    fn after_probe(&mut self, probe: bool, now: Timestamp) {
        if probe && std::mem::take(&mut self.woken) && self.state != State::Throttled {
            self.probe_at = now;
        }
    }

    /// SIGNL4 has taken an event, or looked at one.
    fn succeeded(&mut self, probe: bool, now: Timestamp, notices: &mut Vec<Notice>) {
        self.failing.clear();
        // One that was under way when the gate shut may have been judged before the reason for it.
        let opens = match self.state {
            State::Held | State::Throttled => probe,
            State::Untried | State::Down => true,
            State::Open | State::Starved | State::Unknown => false,
        };
        if opens {
            if self.state != State::Untried && !self.unsure {
                notices.push(Notice::Answers { was: self.state });
            }
            self.state = State::Open;
            self.reason.clear();
            self.failed_probes = 0;
            self.held_since = None;
            self.unsure = false;
            self.owes_answer = false;
            self.wanted = false;
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
        notices: &mut Vec<Notice>,
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
            State::Untried | State::Open | State::Down | State::Starved | State::Unknown => {
                self.failed_probes = 0;
                self.shut(State::Throttled, &reason, until);
                notices.push(Notice::Throttled { until, reason });
            }
        }
    }

    /// The secret or the URL was refused to an event, or what took it is `foreign`: not SIGNL4, as far as can be seen.
    fn refused_us(
        &mut self,
        seq: u64,
        probe: bool,
        reason: String,
        foreign: bool,
        now: Timestamp,
        verdict: &mut Verdict,
    ) {
        let successes = self.successes;
        let suspect = self.suspects.entry(seq).or_default();
        // Others got through since this event was refused, and now it is refused again: something on the
        // way dislikes the event, as a firewall does that reads bodies. It must not hold the others.
        let it_is_the_event = suspect.successes.is_some_and(|before| before < successes);
        suspect.successes = Some(successes);
        if self.state != State::Open || !it_is_the_event {
            if self.state == State::Open && self.may_ask {
                self.doubt_secret(&reason, foreign, now);
            } else {
                self.hold(probe, &reason, foreign, now, &mut verdict.notices);
            }
            return self.wait_for_secret(seq, reason, foreign, now, verdict);
        }
        suspect.alone += 1;
        let alone = suspect.alone;
        if alone >= ALONE {
            let reason = format!("refused {} times although others are taken: {reason}", self.count(seq));
            verdict.outcome = Some(Outcome::Failed { seq, at: now, reason, maybe_taken: foreign });
            return;
        }
        let wait = self.wait(seq).max(PROBE_INTERVAL);
        let reason = format!("refused although others are taken: {reason}");
        self.defer(seq, wait, reason, foreign, now, verdict);
    }

    /// An event was refused, and the question is to tell whether it is the secret or the event: till then nothing
    /// goes out, and nobody is told.
    fn doubt_secret(&mut self, reason: &str, foreign: bool, now: Timestamp) {
        self.shut(State::Held, reason, now);
        self.foreign = foreign;
        self.held_since.get_or_insert(now);
        self.unsure = true;
    }

    /// The question did not take the blame off the secret.
    fn tell_of_hold(&mut self, now: Timestamp, notices: &mut Vec<Notice>) {
        if std::mem::take(&mut self.unsure) {
            self.last_shout = now;
            notices.push(Notice::Held { reason: self.reason.clone(), foreign: self.foreign });
        }
    }

    /// The secret or the URL was refused, or what answers is `foreign`.
    fn hold(&mut self, probe: bool, reason: &str, foreign: bool, now: Timestamp, notices: &mut Vec<Notice>) {
        if self.state != State::Held {
            self.shut(State::Held, reason, now + PROBE_INTERVAL);
            self.foreign = foreign;
            self.held_since.get_or_insert(now);
            self.last_shout = now;
            notices.push(Notice::Held { reason: reason.to_owned(), foreign });
        } else if probe {
            self.foreign = foreign;
            self.probe_at = now + PROBE_INTERVAL;
            if self.unsure {
                // Who asked tells it: see [`Team::tell_of_hold`].
                reason.clone_into(&mut self.reason);
            } else if self.last_shout + SHOUT_INTERVAL <= now || self.reason != reason {
                self.last_shout = now;
                reason.clone_into(&mut self.reason);
                notices.push(Notice::Held { reason: reason.to_owned(), foreign });
            }
        }
    }

    /// `seq` waits until its team is no longer held: no event is given up meanwhile.
    fn wait_for_secret(
        &mut self,
        seq: u64,
        reason: String,
        maybe_taken: bool,
        now: Timestamp,
        verdict: &mut Verdict,
    ) {
        let wait = self.probe_at.duration_since(now).max(PROBE_INTERVAL);
        self.keep(seq, wait, reason, maybe_taken, now, verdict);
    }

    /// Nobody answered, or nobody who could.
    fn unanswered(
        &mut self,
        seq: Option<u64>,
        probe: bool,
        reason: &str,
        retry_after: Option<SignedDuration>,
        now: Timestamp,
        notices: &mut Vec<Notice>,
    ) {
        let asked_for = now + retry_after.unwrap_or_default();
        match self.state {
            State::Open => {
                self.failing.extend(seq);
                if self.failing.len() < OUTAGE {
                    return;
                }
            }
            State::Held if probe => {
                self.probe_at = asked_for.max(now + PROBE_INTERVAL);
                return;
            }
            State::Untried | State::Throttled | State::Down if probe => {}
            _ => return,
        }
        if self.state != State::Down {
            (self.failed_probes, self.hinted) = (0, false);
        }
        self.failed_probes += 1;
        let probe_at = asked_for.max(now + backoff::after(self.failed_probes, &mut self.rng));
        let news = self.reason != reason && self.last_shout + SHOUT_INTERVAL <= now;
        if self.state != State::Down || news {
            self.last_shout = now;
            notices.push(Notice::Down { reason: reason.to_owned() });
        }
        self.shut(State::Down, reason, probe_at);
        // New events do not make a server that has named its time be asked earlier.
        self.eager_after = if retry_after.is_some() { asked_for } else { Timestamp::MIN };
    }
}
