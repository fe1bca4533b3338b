//! The heartbeat: pings an address while accept, spool and delivery work end to end, and stops when one does not, so
//! that whoever waits for the ping pages. Each part is really used before each ping:
//!
//! - accept and spool: their [vital signs](Vitals);
//! - delivery: it answers, and no team with events that wait has been held or out of reach for some beats.
//!
//! Left out: whether SIGNL4 pages. A single post that fails is delivery's to try again.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::delivery::{Pinger, State, Status};

use super::vitals::{Fault, Vitals};

/// For how many beats a team may be held or out of reach before that stops the heart: a lost connection is found
/// and made anew within one.
const BEATS: u32 = 3;

/// What beats.
pub struct Heart {
    vitals: Vitals,
    pinger: Pinger,
    /// How long a team may be held or out of reach.
    patience: SignedDuration,
    /// Since when the teams with events that wait are held or out of reach.
    stuck: HashMap<String, Timestamp>,
    /// The part that failed at the last beat.
    failed: Option<&'static str>,
    /// Whether the last ping was not taken.
    unheard: bool,
}

impl Heart {
    /// A heart that beats every `interval`.
    pub fn new(vitals: Vitals, pinger: Pinger, interval: Duration) -> Self {
        let patience = SignedDuration::try_from(interval * BEATS).unwrap_or(SignedDuration::MAX);
        Self { vitals, pinger, patience, stuck: HashMap::new(), failed: None, unheard: false }
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
        self.flows(&statuses).map_err(fault)
    }

    /// Whether events go out, as far as some wait.
    fn flows(&mut self, statuses: &[Status]) -> Result<(), String> {
        let now = self.vitals.intake().now();
        let stuck = |status: &&Status| {
            matches!(status.state, State::Held | State::Down) && (status.queued > 0 || status.more)
        };
        let since: HashMap<String, Timestamp> = statuses
            .iter()
            .filter(stuck)
            .map(|status| (status.team.clone(), self.stuck.get(&status.team).copied().unwrap_or(now)))
            .collect();
        self.stuck = since;
        let too_long = |status: &&Status| {
            self.stuck.get(&status.team).is_some_and(|since| now.duration_since(*since) >= self.patience)
        };
        match statuses.iter().find(too_long) {
            Some(status) => Err(format!("nothing of team {} goes out: {}", status.team, status.reason)),
            None => Ok(()),
        }
    }
}

/// Lets `heart` beat every `interval` until `stop` turns true.
pub async fn run(mut heart: Heart, interval: Duration, mut stop: watch::Receiver<bool>) {
    let mut beats = tokio::time::interval(interval);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let beat = async {
            beats.tick().await;
            heart.beat().await
        };
        tokio::select! {
            _ = beat => {}
            () = async { _ = stop.wait_for(|stop| *stop).await; } => return,
        }
    }
}
