//! What the answer to a post does to a gate.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Effects, Gate, Notice, PROBE_INTERVAL, Position, TELL_INTERVAL, Whose, Why};
use crate::delivery::backoff;
use crate::delivery::status::State;
use crate::delivery::webhook::Answer;

/// Longest extra wait after a 429 that came right after the wait that the last 429 asked for.
const THROTTLE_CAP: SignedDuration = SignedDuration::from_secs(60);

/// So many different events must fail in a row, none getting through between, to make it an outage. One
/// event that always fails is not one.
const OUTAGE: usize = 3;

impl Gate {
    /// Takes in what `answer` says of the way to SIGNL4.
    pub(in crate::delivery::scheduler) fn learn(
        &mut self,
        answer: &Answer,
        whose: Whose,
        now: Timestamp,
    ) -> Effects {
        let mut effects = Effects::default();
        let probe = self.probe.take_if(|probe| probe.seq == whose.seq());
        let is_probe = probe.is_some();
        if is_probe {
            self.last_probe = now;
        }
        match answer {
            Answer::Accepted { .. } => {
                self.successes += u64::from(!matches!(whose, Whose::Lent(_)));
                self.open(is_probe, &mut effects);
            }
            // The server, such as a stand-in, does not understand the question: an event must be the probe.
            Answer::Refused { .. } if whose == Whose::Question => {
                self.may_ask = false;
                self.probe_now(now);
            }
            // SIGNL4 is there. That it knows the secret is not said: it may have looked at the body first.
            Answer::Refused { .. } => match &mut self.position {
                Position::Shut { why: Why::Held { .. }, probe_at, .. } => {
                    if is_probe {
                        *probe_at = now + PROBE_INTERVAL;
                    }
                }
                _ => self.open(is_probe, &mut effects),
            },
            Answer::Throttled { until, reason, .. } => {
                self.throttle(is_probe, *until, reason, now, &mut effects);
            }
            Answer::Unauthorised { reason } => {
                self.doubt(whose, is_probe, reason, false, now, &mut effects);
            }
            Answer::Foreign { reason } => self.doubt(whose, is_probe, reason, true, now, &mut effects),
            Answer::NoSecret { reason } => self.hold(is_probe, reason, false, now, &mut effects),
            Answer::Unavailable { reason, retry_after, .. } => {
                let earliest = retry_after.map(|wait| now + wait);
                self.miss(whose.seq(), is_probe, reason, earliest, now, &mut effects);
            }
        }
        if whose == Whose::Question {
            self.tell_of_hold(now, &mut effects);
        }
        if probe.is_some_and(|probe| probe.again) {
            self.probe_now(now);
        }
        effects
    }

    /// SIGNL4 has taken an event, or looked at one.
    fn open(&mut self, is_probe: bool, effects: &mut Effects) {
        let why = match &mut self.position {
            Position::Open { failing } => return failing.clear(),
            // One that was under way when the gate shut may have been judged before the reason for it.
            Position::Shut { why: Why::Held { .. } | Why::Throttled { .. }, .. } if !is_probe => return,
            Position::Shut { why, .. } => *why,
        };
        if !matches!(why, Why::Untried | Why::Held { unsure: true, .. }) {
            effects.notices.push(Notice::Answers { was: why.state() });
        }
        self.position = Position::Open { failing: BTreeSet::new() };
        self.wanted = false;
        effects.opened = true;
    }

    fn shut(
        &mut self,
        why: Why,
        reason: &str,
        probe_at: Timestamp,
        told_at: Timestamp,
        effects: &mut Effects,
    ) {
        let refused_since = match &self.position {
            Position::Open { .. } => None,
            Position::Shut { refused_since, .. } => *refused_since,
        };
        let reason = reason.to_owned();
        self.position = Position::Shut { why, reason, probe_at, told_at, refused_since };
        effects.shut = true;
    }

    /// The same for a secret that is refused.
    fn shut_as_held(
        &mut self,
        unsure: bool,
        foreign: bool,
        reason: &str,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let probe_at = if unsure { now } else { now + PROBE_INTERVAL };
        self.shut(Why::Held { foreign, unsure }, reason, probe_at, now, effects);
        if let Position::Shut { refused_since, .. } = &mut self.position {
            refused_since.get_or_insert(now);
        }
    }

    fn throttle(
        &mut self,
        is_probe: bool,
        until: Timestamp,
        reason: &str,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        match &mut self.position {
            Position::Shut { why: Why::Throttled { probes }, probe_at, .. } if is_probe => {
                *probes += 1;
                let extra = SignedDuration::from_secs(1 << (*probes).min(6)).min(THROTTLE_CAP);
                *probe_at = until.max(now + extra);
            }
            // To one that is held it is what a wrong secret earns by itself, and no news.
            Position::Shut { why: Why::Held { .. } | Why::Throttled { .. }, probe_at, .. } => {
                *probe_at = (*probe_at).max(until);
            }
            Position::Open { .. } | Position::Shut { why: Why::Untried | Why::Down { .. }, .. } => {
                self.shut(Why::Throttled { probes: 0 }, reason, until, now, effects);
                effects.notices.push(Notice::Throttled { until, reason: reason.to_owned() });
            }
        }
    }

    /// The secret or the URL was refused, or what answers is `foreign`, unless the event is at fault.
    fn doubt(
        &mut self,
        whose: Whose,
        is_probe: bool,
        reason: &str,
        foreign: bool,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let is_open = self.state() == State::Open;
        if let Whose::Own(seq) = whose {
            let suspect = self.suspects.entry(seq).or_default();
            let before = suspect.successes.replace(self.successes);
            // Others got through since this event was refused, and now it is refused again: something on the
            // way dislikes the event, as a firewall does that reads bodies. It must not hold the others.
            if is_open && before.is_some_and(|before| before < self.successes) {
                suspect.alone += 1;
                effects.blamed = Some(suspect.alone);
                return;
            }
        }
        if is_open && self.may_ask && whose != Whose::Question {
            // The question shows whether the secret or the event is at fault. Until then nothing is posted, logged or mailed.
            self.shut_as_held(true, foreign, reason, now, effects);
        } else {
            self.hold(is_probe, reason, foreign, now, effects);
        }
    }

    /// The secret or the URL was refused, or what answers is `foreign`.
    fn hold(&mut self, is_probe: bool, reason: &str, foreign: bool, now: Timestamp, effects: &mut Effects) {
        let news = match &mut self.position {
            Position::Shut { why: Why::Held { .. }, .. } if !is_probe => return,
            Position::Shut {
                why: Why::Held { foreign: known, unsure },
                reason: last,
                probe_at,
                told_at,
                ..
            } => {
                *known = foreign;
                *probe_at = now + PROBE_INTERVAL;
                // What is unsure is told once the question is answered.
                let news = !*unsure && (*told_at + TELL_INTERVAL <= now || last != reason);
                if news {
                    *told_at = now;
                }
                if news || *unsure {
                    reason.clone_into(last);
                }
                news
            }
            _ => {
                self.shut_as_held(false, foreign, reason, now, effects);
                true
            }
        };
        if news {
            effects.notices.push(Notice::Held { reason: reason.to_owned(), foreign });
        }
    }

    /// The question did not take the blame off the secret.
    fn tell_of_hold(&mut self, now: Timestamp, effects: &mut Effects) {
        if let Position::Shut { why: Why::Held { foreign, unsure }, reason, told_at, .. } = &mut self.position
            && std::mem::take(unsure)
        {
            *told_at = now;
            effects.notices.push(Notice::Held { reason: reason.clone(), foreign: *foreign });
        }
    }

    /// No answer came, or none that decides. The server asked for no post before `earliest`, if it asked at all.
    fn miss(
        &mut self,
        seq: Option<u64>,
        is_probe: bool,
        reason: &str,
        earliest: Option<Timestamp>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let mut news = true;
        let (probes, hinted, told_at) = match &mut self.position {
            Position::Open { failing } => {
                failing.extend(seq);
                if failing.len() < OUTAGE {
                    return;
                }
                (1, false, now)
            }
            Position::Shut { .. } if !is_probe => return,
            Position::Shut { why: Why::Held { .. }, probe_at, .. } => {
                *probe_at = earliest.unwrap_or(now).max(now + PROBE_INTERVAL);
                return;
            }
            Position::Shut { why: Why::Untried | Why::Throttled { .. }, .. } => (1, false, now),
            Position::Shut { why: Why::Down { probes, hinted, .. }, reason: last, told_at, .. } => {
                news = last != reason && *told_at + TELL_INTERVAL <= now;
                (*probes + 1, *hinted, if news { now } else { *told_at })
            }
        };
        if news {
            effects.notices.push(Notice::Down { reason: reason.to_owned() });
        }
        let probe_at = earliest.unwrap_or(now).max(now + backoff::after(probes, &mut self.rng));
        // New events do not make a server that has named its time be asked earlier.
        let eager_from = earliest.unwrap_or(Timestamp::MIN);
        self.shut(Why::Down { probes, hinted, eager_from }, reason, probe_at, told_at, effects);
    }
}
