//! Accounts whose events wait because the account limit is used up: for how long, until when, and whether that is so
//! long that the operator must know.

use jiff::{SignedDuration, Timestamp};

use super::Scheduler;
use super::action::Index;

/// An account that posts nothing for so long although events wait is starved. The shortest window is over sooner:
/// where events go out as fast as it lets them, nothing is wrong.
const STARVED: SignedDuration = SignedDuration::from_secs(60);

/// An account that begins to starve, or that no longer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Starving {
    pub(crate) account: usize,
    /// Since when nothing goes out.
    pub(crate) since: Timestamp,
    /// Until when that will be so; none if it is over.
    pub(crate) until: Option<Timestamp>,
    /// The limit that is used up, and for how long a time it counts.
    pub(crate) used_up: Option<(u64, SignedDuration)>,
}

impl Scheduler {
    /// Until when what a team wants to post first has to wait for its account, if it has to; and how many requests
    /// SIGNL4 found wrong in the last minute, if that is why.
    pub(crate) fn waits(&self, team: Index, now: Timestamp) -> Option<(Timestamp, Option<u64>)> {
        let queue = &self.teams[team];
        let rank = queue.next_rank()?;
        self.accounts[queue.account].budget.clone().waits(team, rank, now)
    }

    /// How it stands with the account of a team if that starves.
    pub(crate) fn starves(&self, team: Index, now: Timestamp) -> Option<Starving> {
        self.starving_of(self.teams[team].account, now)
    }

    fn starving_of(&self, account: usize, now: Timestamp) -> Option<Starving> {
        let since = self.accounts[account].starving?;
        let mut budget = self.accounts[account].budget.clone();
        let until = budget.free_at(now).filter(|&at| at > now)?;
        let used_up = budget.used_up(now);
        let long = now.duration_since(since) >= STARVED || until.duration_since(since) >= STARVED;
        long.then_some(Starving { account, since, until: Some(until), used_up })
    }

    /// The accounts that have begun to starve, or no longer do, since this was asked last.
    pub(crate) fn starving(&mut self, now: Timestamp) -> Vec<Starving> {
        let mut news = Vec::new();
        for account in 0..self.accounts.len() {
            match (self.accounts[account].told_starving, self.accounts[account].starving) {
                (None, Some(_)) => {
                    let found = self.starving_of(account, now);
                    self.accounts[account].told_starving = found.as_ref().map(|found| found.since);
                    news.extend(found);
                }
                (Some(since), None) => {
                    self.accounts[account].told_starving = None;
                    news.push(Starving { account, since, until: None, used_up: None });
                }
                _ => {}
            }
        }
        news
    }

    /// Nothing is to be posted with `account` now. Unless something waits that will be, it starves no more.
    pub(super) fn look_for_starved(&mut self, account: usize) {
        let mut own = self.teams.iter().filter(|team| team.account == account);
        if !own.any(|team| team.has_head()) {
            self.accounts[account].starving = None;
        }
    }
}
