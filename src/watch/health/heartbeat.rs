//! The heartbeat: pings an address while accept, spool and delivery work end to end, and stops when one does not, so
//! that the service that waits for the ping pages. Each part is really used before each ping:
//!
//! - accept and spool: their [vital signs](Vitals);
//! - delivery: it answers, and no team has been [stuck](Status::is_stuck) for some beats, or will be.
//!
//! Left out: whether SIGNL4 pages. A single post that fails is delivery's to try again.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::delivery::{Pinger, Status};
use crate::time::signed;

use super::{Fault, Vitals};

/// For how many beats a team may be held or out of reach before that stops the check: a lost connection is found
/// and made anew within one.
const BEATS: u32 = 3;

/// Whether events go out.
struct Flow {
    /// How long a team may be stuck.
    patience: SignedDuration,
    /// Since when the teams with events that wait are.
    stuck: HashMap<String, Timestamp>,
}

impl Flow {
    /// Whether events go out, as far as some wait.
    fn look(&mut self, statuses: &[Status], now: Timestamp) -> Result<(), String> {
        let stuck = statuses.iter().filter(|status| status.is_stuck());
        let began = |status: &Status| {
            let starved = status.starved.map(|starved| starved.since.min(now));
            starved.or_else(|| self.stuck.get(&status.team).copied()).unwrap_or(now)
        };
        let since: HashMap<String, Timestamp> =
            stuck.map(|status| (status.team.clone(), began(status))).collect();
        self.stuck = since;
        let too_long = |status: &&Status| {
            // That an account may post nothing for so long is known beforehand.
            let end = status.starved.map_or(now, |starved| starved.until.max(now));
            self.stuck.get(&status.team).is_some_and(|since| end.duration_since(*since) >= self.patience)
        };
        match statuses.iter().find(too_long) {
            Some(status) => Err(format!("nothing of team {} goes out: {}", status.team, status.reason)),
            None => Ok(()),
        }
    }
}

/// What beats.
pub struct HealthCheck {
    vitals: Vitals,
    pinger: Pinger,
    flow: Flow,
    /// The part that failed at the last beat.
    failed: Option<&'static str>,
    /// Whether the last ping was not taken.
    unheard: bool,
}

impl HealthCheck {
    /// A check that beats every `interval`.
    pub fn new(vitals: Vitals, pinger: Pinger, interval: Duration) -> Self {
        let patience = signed(interval * BEATS);
        let flow = Flow { patience, stuck: HashMap::new() };
        Self { vitals, pinger, flow, failed: None, unheard: false }
    }

    /// Looks whether all works, and pings if it does. Whether the ping was taken.
    pub async fn beat(&mut self) -> bool {
        match self.check().await {
            Ok(()) => {
                if let Some(part) = self.failed.take() {
                    info!(part, "all works again: the heartbeat goes on");
                }
            }
            Err(Fault { part, problem, .. }) => {
                if self.failed.replace(part) != Some(part) {
                    error!(part, problem, "the heartbeat stops: this does not work");
                }
                return false;
            }
        }
        let heard = self.pinger.ping().await;
        match &heard {
            Ok(()) if self.unheard => info!("the heartbeat is heard again"),
            Err(problem) if !self.unheard => {
                warn!(problem, "the heartbeat is not heard: the ping was not taken")
            }
            _ => {}
        }
        self.unheard = heard.is_err();
        heard.is_ok()
    }

    /// Looks whether all works.
    ///
    /// # Errors
    /// The first part that does not.
    pub async fn check(&mut self) -> Result<(), Fault> {
        self.vitals.accept().await?;
        self.vitals.spool().await?;
        let statuses = self.vitals.delivery().await?;
        let fault = |problem| Fault { part: "delivery", problem, silent: false };
        self.flow.look(&statuses, self.vitals.context.now()).map_err(fault)
    }
}

/// Lets `check` beat every `interval`.
pub async fn run(mut check: HealthCheck, interval: Duration) {
    let mut beats = tokio::time::interval(interval);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        _ = check.beat().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Starved, State};

    fn at(minutes: i64) -> Timestamp {
        "2026-11-20T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn status(state: State, starved: Option<Starved>) -> Status {
        let (team, reason) = ("soc".to_owned(), "why".to_owned());
        let (more, in_flight, oldest, doubles) = Default::default();
        let meets_another = false;
        Status { team, state, reason, starved, meets_another, queued: 1, more, in_flight, oldest, doubles }
    }

    #[test]
    fn the_heart_stops_when_nothing_goes_out_for_three_beats_whatever_holds_it_up() {
        for state in [State::Held, State::Down, State::Throttled] {
            let mut flow = Flow { patience: SignedDuration::from_mins(3), stuck: HashMap::new() };
            let mut look = |state, minute| flow.look(&[status(state, None)], at(minute)).is_ok();
            assert!((0..3).all(|minute| look(state, minute)), "{state:?}");
            assert!(!look(state, 3) && look(State::Open, 4) && look(state, 5), "{state:?}");
        }
        let idle = Status { queued: 0, ..status(State::Held, None) };
        let mut flow = Flow { patience: SignedDuration::ZERO, stuck: HashMap::new() };
        assert_eq!(flow.look(&[idle], at(0)), Ok(()), "where nothing waits nothing is stuck");
    }

    #[test]
    fn the_heart_stops_at_once_when_an_account_is_known_to_post_nothing_for_three_beats() {
        let mut flow = Flow { patience: SignedDuration::from_mins(3), stuck: HashMap::new() };
        let mut look = |since, until, now| {
            let starved = Starved { since: at(since), until: at(until) };
            flow.look(&[status(State::Starved, Some(starved))], at(now))
        };
        assert_eq!(look(0, 2, 1), Ok(()));
        assert_eq!(look(0, 40, 1), Err("nothing of team soc goes out: why".to_owned()));
        assert!(look(0, 4, 3).is_err(), "nor has for three beats");
    }
}
