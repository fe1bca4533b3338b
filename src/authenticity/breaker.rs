//! Keeps DNS that does not answer from holding up mail after mail: each would cost its sender the whole timeout.
//!
//! A sender can choose a domain whose servers are silent, and must not switch off the checks of all others by that.
//! So checks without an answer are only a suspicion; what counts is whether the root of all names is answered, which
//! is so wherever DNS works at all. Time is that at which the mails came.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Checks in a row that DNS did not answer until the root is asked for.
const SUSPICION: u32 = 3;

/// How long nothing is asked once the root was not answered either. Long beside the time that is lost by asking again,
/// short beside an outage.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// Whether to ask.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Checks in a row without an answer.
    unanswered: u32,
    dead: Option<Dead>,
}

/// DNS that did not answer for the root.
#[derive(Debug)]
struct Dead {
    /// When that was found out last.
    since: Timestamp,
    /// Mails that were not checked.
    skipped: u64,
}

/// What to do with a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Check it.
    Check,
    /// Ask for the root first, then call [`Breaker::root`].
    Root,
    /// Do not ask for anything.
    Skip,
}

/// What an operator is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// From now on mails are not checked.
    Dead,
    /// From now on they are again, after so many that were not.
    Alive(u64),
}

impl Breaker {
    /// What to do with a mail that came at `now`.
    pub(super) fn turn(&self, now: Timestamp) -> Turn {
        let mut state = self.state();
        let Some(dead) = &mut state.dead else { return Turn::Check };
        // A clock that was put back must not stretch the pause.
        if now >= dead.since && now.duration_since(dead.since) < PAUSE {
            dead.skipped += 1;
            return Turn::Skip;
        }
        // The others need not wait for what this one finds out.
        dead.since = now;
        Turn::Root
    }

    /// Notes how a check ended, and says whether to ask for the root now and call [`Breaker::root`].
    pub(super) fn checked(&self, answered: bool) -> bool {
        let mut state = self.state();
        state.unanswered = if answered { 0 } else { state.unanswered.saturating_add(1) };
        // Of many at a time one asks.
        state.dead.is_none() && state.unanswered == SUSPICION
    }

    /// Notes whether the root was answered for a mail that came at `now`.
    pub(super) fn root(&self, now: Timestamp, answered: bool) -> Option<News> {
        let mut state = self.state();
        state.unanswered = 0;
        match (&mut state.dead, answered) {
            (None, true) => None,
            (None, false) => {
                state.dead = Some(Dead { since: now, skipped: 0 });
                Some(News::Dead)
            }
            (Some(dead), true) => {
                let news = News::Alive(dead.skipped);
                state.dead = None;
                Some(news)
            }
            (Some(dead), false) => {
                dead.skipped += 1;
                None
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// One that has found DNS dead at 0.
    fn dead() -> Breaker {
        let breaker = Breaker::default();
        assert_eq!([(); 3].map(|()| breaker.checked(false)), [false, false, true]);
        assert_eq!(breaker.root(at(0), false), Some(News::Dead));
        breaker
    }

    #[test]
    fn an_answer_in_between_is_no_suspicion_and_an_answered_root_takes_it_away() {
        let breaker = Breaker::default();
        let answers = [false, false, true, false, false, false].map(|answered| breaker.checked(answered));
        assert_eq!(answers, [false, false, false, false, false, true]);
        assert!(!breaker.checked(false), "one asks for all who wait");
        assert_eq!(breaker.root(at(0), true), None);
        assert_eq!(breaker.turn(at(0)), Turn::Check);
        assert_eq!([(); 3].map(|()| breaker.checked(false)), [false, false, true]);
    }

    #[test]
    fn while_dns_is_dead_one_mail_in_a_while_asks_and_it_is_told_once() {
        let breaker = dead();
        assert_eq!([0, 10, 29].map(|second| breaker.turn(at(second))), [Turn::Skip; 3]);
        assert_eq!([30, 30, 59].map(|second| breaker.turn(at(second))), [Turn::Root, Turn::Skip, Turn::Skip]);
        assert_eq!(breaker.root(at(30), false), None);
        assert!(!breaker.checked(false), "a check from before says nothing new");
        assert_eq!(breaker.turn(at(60)), Turn::Root);
        assert_eq!(breaker.root(at(60), true), Some(News::Alive(6)));
        assert_eq!(breaker.turn(at(60)), Turn::Check);
    }

    #[test]
    fn a_clock_that_is_put_back_does_not_stretch_the_pause() {
        let breaker = dead();
        assert_eq!(breaker.turn(at(-3600)), Turn::Root);
        assert_eq!(breaker.turn(at(-3600)), Turn::Skip);
        assert_eq!(breaker.turn(at(-3570)), Turn::Root);
    }
}
