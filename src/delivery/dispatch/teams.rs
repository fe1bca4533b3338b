//! Which teams there are, where their events go, and how it stands with each.

use tracing::error;

use super::{Dispatch, log};
use crate::delivery::scheduler::{Starving, TeamLimits};
use crate::delivery::status::{Starved, State, Status};
use crate::delivery::storage::Storage;
use crate::delivery::target::Target;
use crate::time::signed;

/// Events in memory per team: enough that reading keeps ahead of posting, some megabytes.
const WINDOW: usize = 20_000;

/// Places among them for what is urgent and was accepted after the others.
const URGENT: usize = 1_000;

/// Events of one external id in memory: a storm of one incident takes a twentieth of the room.
const LANE: usize = 1_000;

/// Events read from the spool at once.
const PAGE: usize = 256;

/// Bytes of payloads in memory per team.
const PAYLOAD_BYTES: usize = 8 << 20;

impl<S: Storage> Dispatch<S> {
    /// Makes a team of each of `targets`.
    pub(super) async fn set_up(&mut self, targets: Vec<Target>) {
        for target in targets {
            let account = self.account(&target.account).await;
            self.add(target, account);
        }
        for team in 0..self.scheduler.teams().len() {
            let fallback = self
                .scheduler
                .team(team)
                .target
                .fallback
                .as_deref()
                .and_then(|name| self.names.get(name).copied());
            self.scheduler.team_mut(team).fallback = fallback;
        }
    }

    /// Tells the spool what `account` lets go for its teams, if that is known and another than was told.
    pub(super) fn tell_allowance(&mut self, account: usize) {
        let Some(events) = self.scheduler.allowance(account) else { return };
        if self.allowances.insert(account, events) == Some(events) {
            return;
        }
        let name = self.scheduler.account_name(account);
        for team in self.scheduler.teams().iter().filter(|team| team.target.account == name) {
            self.storage.allow(team.name(), u32::try_from(events).unwrap_or(u32::MAX));
        }
    }

    /// The account `name`, with what the spool has noted of it.
    async fn account(&mut self, name: &str) -> usize {
        if let Some(account) = self.scheduler.account(name) {
            return account;
        }
        let notes = self.storage.reservations(name).await;
        let now = self.setup.clock.now();
        if let Err(problem) = &notes {
            self.trouble(now, "cannot read what was posted before: the account waits for a while", problem);
        }
        let notes = notes.ok();
        if let Some(last) = notes.as_ref().and_then(|notes| notes.last())
            && last.open > 0
        {
            log::cut_off(name, last.open);
        }
        self.scheduler.add_account(name, notes.as_deref(), now)
    }

    fn add(&mut self, target: Target, account: usize) {
        let now = self.setup.clock.now();
        let config = &self.setup.config;
        let limits = TeamLimits {
            concurrency: config.concurrency,
            give_up_after: signed(config.give_up_after),
            fallback_after: signed(config.fallback_after),
            probe: config.probe,
            window: WINDOW,
            urgent: URGENT,
            lane: LANE,
            page: PAGE,
            payload_bytes: PAYLOAD_BYTES,
        };
        let name = target.team.clone();
        let team = self.scheduler.add_team(target, account, limits, self.rng.fork(), now);
        self.names.insert(name, team);
        self.recall_hold(team, now);
    }

    /// Tells which teams have events in the spool and nowhere to send them.
    pub(super) async fn look_for_unknown(&mut self) {
        match self.storage.teams().await {
            Ok(teams) => {
                for (name, count) in teams {
                    if !self.names.contains_key(name.as_str()) {
                        self.unknown(name, count);
                    }
                }
            }
            Err(problem) => {
                let now = self.setup.clock.now();
                self.trouble(now, "cannot read which teams have events in the spool", &problem);
            }
        }
    }

    pub(super) fn unknown(&mut self, team: String, count: u64) {
        if !self.unknown.contains_key(&team) {
            error!(
                team,
                events = count,
                "the spool holds events for a team that the config does not name: they are kept and not \
                 sent until it does"
            );
        }
        *self.unknown.entry(team).or_default() += count;
    }

    /// An event of a team that the config does not name is no longer queued.
    pub(super) fn unknown_left(&mut self, team: &str) {
        if let Some(count) = self.unknown.get_mut(team) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.unknown.remove(team);
            }
        }
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let now = self.setup.clock.now();
        let known = self.names.iter().map(|(name, &index)| {
            let team = self.scheduler.team(index);
            let (queued, more, oldest) = team.waiting();
            let mut state = team.state();
            let mut reason = team.reason().to_owned();
            let mut starved = None;
            if !matches!(state, State::Open | State::Untried) || queued == 0 {
                // What holds it up is another.
            } else if let Some(Starving { since, until: Some(until), used_up, .. }) =
                self.scheduler.starves(index, now)
            {
                (state, starved) = (State::Starved, Some(Starved { since, until }));
                let limit =
                    used_up.map_or_else(String::new, |(limit, length)| format!(", {limit} in {length:#}"));
                reason = format!(
                    "the account has posted what it may{limit}: nothing goes out since {since:.0} until {until:.0}"
                );
            } else if state == State::Open
                && let Some((until, wrong)) = self.scheduler.waits(index, now)
            {
                reason = match wrong {
                    Some(wrong) => format!(
                        "SIGNL4 refused {wrong} requests in the last minute: what is like them waits until {until:.0}"
                    ),
                    None => format!("the account has posted what it may until {until:.0}"),
                };
            }
            Status {
                team: name.to_string(),
                state,
                reason,
                starved,
                meets_another: team.meets_another(),
                queued,
                more,
                in_flight: team.in_flight(),
                oldest,
                doubles: team.doubles(),
            }
        });
        let unknown = self.unknown.iter().map(|(name, &count)| Status {
            team: name.clone(),
            state: State::Unknown,
            reason: "the config does not name this team".to_owned(),
            starved: None,
            meets_another: false,
            queued: usize::try_from(count).unwrap_or(usize::MAX),
            more: false,
            in_flight: 0,
            oldest: None,
            doubles: 0,
        });
        let mut all: Vec<Status> = known.chain(unknown).collect();
        all.sort_by(|a, b| a.team.cmp(&b.team));
        all
    }
}
