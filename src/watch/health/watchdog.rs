//! systemd's watchdog (`WatchdogSec=`): told `WATCHDOG=1` only while accept, spool and delivery each answer. If one of
//! them hangs, systemd hears nothing, kills the process and starts it again.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use crate::config::Environment;
use crate::watch::notify;

use super::Vitals;

/// How often systemd is to be told, by what it says in `environment`; none if it does not watch this process.
pub fn interval(environment: &Environment) -> Option<Duration> {
    let own = std::process::id().to_string();
    if environment.var("WATCHDOG_PID").is_some_and(|pid| pid != own) {
        return None;
    }
    let limit: u64 = environment.var("WATCHDOG_USEC")?.parse().ok()?;
    // Three times within the limit, so that a slow answer is no silence.
    (limit > 0).then(|| Duration::from_micros(limit / 3))
}

/// Tells systemd every `interval` that all answers.
pub async fn run(vitals: Vitals, environment: Environment, interval: Duration) {
    let mut next = tokio::time::interval(interval);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = None;
    loop {
        next.tick().await;
        match vitals.answer().await {
            Ok(()) => {
                if let Some(part) = silent.take() {
                    info!(part, "it answers again");
                }
                notify(&environment, "WATCHDOG=1");
            }
            Err(fault) if silent.replace(fault.part) != Some(fault.part) => error!(
                part = fault.part,
                problem = fault.problem,
                "it does not answer: systemd is not told that all is well, and restarts the service if this lasts"
            ),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_three_times_within_its_limit_and_only_by_the_process_that_it_watches() {
        let of = |vars: &[(&str, &str)]| {
            interval(&Environment::of(vars.iter().map(|(name, value)| ((*name).into(), (*value).into()))))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "90000000")]), Some(Duration::from_secs(30)));
        let own = std::process::id().to_string();
        assert!(of(&[("WATCHDOG_USEC", "90000000"), ("WATCHDOG_PID", &own)]).is_some());
        assert_eq!(of(&[("WATCHDOG_USEC", "90000000"), ("WATCHDOG_PID", "1")]), None);
    }
}
