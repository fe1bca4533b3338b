//! Decides what is posted when. No I/O and no clock: answers and times come in, [`Action`]s go out; the loop
//! in `dispatch` carries them out.
//!
//! Teams of one account share its budget. Within it order is by severity, then by age, over all teams of the
//! account and whether an event is in memory or on disk; but within one incident events keep the order of
//! acceptance, and the first of them goes with the urgency of the most urgent. Non-paging events go behind
//! all paging ones, but have a share of the posts, so that no storm of pages delays a close for long. No
//! event is posted without room in the budget and a token that the spool has noted.
//!
//! A team that is held for long hands its events to its fallback team, while its own secret goes on being
//! tried.

mod action;
mod backlog;
mod choice;
mod gate;
mod limits;
mod retry;
mod starved;
mod team;

use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

pub(crate) use action::{Action, Index, Post};
pub(crate) use gate::Notice;
use gate::Whose;
pub(crate) use limits::TeamLimits;
pub(crate) use starved::Starving;
use team::Taken;
pub(crate) use team::Team;

use super::budget::{Budget, Share, Spent};
use super::ledger::{Change, Ledger};
use super::plan::Plan;
use super::status::State;
use super::target::Target;
use super::webhook::Answer;
use crate::spool::{Outcome, QUIET, Reservation, STRANGE};

/// An account at SIGNL4.
#[derive(Debug)]
struct Account {
    name: String,
    budget: Budget,
    ledger: Ledger,
    /// Whether the headers of a reply have told what it may post.
    told: bool,
    /// Since when something is to be posted and there is no room for it.
    starving: Option<Timestamp>,
    /// Whether that was told.
    told_starving: Option<Timestamp>,
    /// Number of paging events posted since the last non-paging event, while a non-paging event was waiting.
    passing: u32,
}

/// What the answer to a post leads to.
#[derive(Debug, Default)]
pub(crate) struct PostVerdict {
    /// To be recorded in the spool. After one that is final, [`Team::recorded`] must be called when it is
    /// durable; the lane stands still until then, for a crash must not bring an open back after its close.
    pub(crate) outcome: Option<Outcome>,
    /// To be logged of the team by whose target the event went.
    pub(crate) notices: Vec<Notice>,
}

/// All teams' queues and the accounts that they share.
#[derive(Debug)]
pub(crate) struct Scheduler {
    plan: Plan,
    /// How long a post may take at most.
    longest: SignedDuration,
    accounts: Vec<Account>,
    teams: Vec<Team>,
}

impl Scheduler {
    /// One without teams, whose accounts have `plan`. No post takes longer than `longest`.
    pub(crate) fn new(plan: Plan, longest: SignedDuration) -> Self {
        Self { plan, longest, accounts: Vec::new(), teams: Vec::new() }
    }

    /// Says for how long the process has run, by a clock that does not jump.
    pub(crate) fn has_run_for(&mut self, up: SignedDuration) {
        self.teams.iter_mut().for_each(|team| team.up = up);
    }

    /// The index of the account `name`, if it is known.
    pub(crate) fn account(&self, name: &str) -> Option<usize> {
        self.accounts.iter().position(|account| account.name == name)
    }

    /// The name of an account.
    pub(crate) fn account_name(&self, account: usize) -> &str {
        &self.accounts[account].name
    }

    /// How many events an account lets go in its shortest window, once a reply has told.
    pub(crate) fn allowance(&self, account: usize) -> Option<u64> {
        let Account { budget, told, .. } = &self.accounts[account];
        (*told && budget.is_limited()).then(|| budget.burst())
    }

    /// Adds an account of which the spool has these notes. If it cannot tell, the account may just have
    /// posted all it could.
    pub(crate) fn add_account(&mut self, name: &str, notes: Option<&[Reservation]>, now: Timestamp) -> usize {
        let mut budget = Budget::new(self.plan.clone());
        if notes.is_none() && budget.is_limited() {
            budget.charge(budget.burst(), now);
        }
        let ledger = Ledger::open(name, notes.unwrap_or_default(), self.longest, &mut budget, now);
        let name = name.to_owned();
        let (told, starving, told_starving, passing) = Default::default();
        self.accounts.push(Account { name, budget, ledger, told, starving, told_starving, passing });
        self.accounts.len() - 1
    }

    /// Adds a team whose backlog is on disk.
    pub(crate) fn add_team(
        &mut self,
        target: Target,
        account: usize,
        limits: TeamLimits,
        rng: Rng,
        now: Timestamp,
    ) -> Index {
        self.teams.push(Team::new(target, account, limits, rng, now));
        self.teams.len() - 1
    }

    /// The team's queue.
    pub(crate) fn team(&self, team: Index) -> &Team {
        &self.teams[team]
    }

    /// The team's queue, to be changed.
    pub(crate) fn team_mut(&mut self, team: Index) -> &mut Team {
        &mut self.teams[team]
    }

    /// All teams, in the order of their indexes.
    pub(crate) fn teams(&self) -> &[Team] {
        &self.teams
    }

    /// The secret of a team was refused since then, when the service ran before.
    pub(crate) fn was_held(&mut self, team: Index, since: Timestamp, now: Timestamp) {
        self.teams[team].gate.was_held(since.min(now));
    }

    /// An operator has changed the queue or a secret.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        self.teams.iter_mut().for_each(|team| team.wake(now));
    }

    /// Reads again from disk what was queued after `seq`.
    pub(crate) fn read_again_from(&mut self, seq: u64) {
        self.teams.iter_mut().for_each(|team| team.read_again_from(seq));
    }

    /// Reads the queues again where that is cheap, for what came into the spool by no way that tells us.
    pub(crate) fn sweep(&mut self) {
        self.teams.iter_mut().for_each(|team| team.sweep());
    }

    /// The next thing to do at `now`, until there is none. Without `may_post` only reading goes on.
    pub(crate) fn next(&mut self, now: Timestamp, may_post: bool) -> Option<Action> {
        for (team, queue) in self.teams.iter_mut().enumerate() {
            queue.look(now);
            if let Some(action) = queue.read_on(team, now) {
                return Some(action);
            }
        }
        if !may_post {
            return None;
        }
        self.divert(now);
        (0..self.accounts.len()).find_map(|account| self.next_of(account, now))
    }

    /// The next thing to do for `account`.
    fn next_of(&mut self, account: usize, now: Timestamp) -> Option<Action> {
        let budget = &mut self.accounts[account].budget;
        let limited = budget.is_limited();
        let (whole, half) = (budget.room(Share::Whole, now), budget.room(Share::Half, now));
        let (best, quiet_waits) = self.choose(account, now);
        // Nothing is reserved that does not exist, or for which there is no room.
        let posts = match best {
            Some((.., pick)) if limited && pick.is_strange() => self.ready(account, STRANGE, half, now),
            Some(_) if limited && whole > 0 => self.ready(account, QUIET, whole, now),
            _ => 0,
        };
        let Account { budget, ledger, .. } = &mut self.accounts[account];
        if let Some(reservation) = ledger.due(posts, budget, now) {
            return Some(Action::Reserve { account, reservation });
        }
        let Some((team, by, pick)) = best else {
            self.look_for_starved(account);
            return None;
        };
        let Account { budget, ledger, starving, .. } = &mut self.accounts[account];
        if budget.free_at(now).is_some_and(|at| at > now) {
            starving.get_or_insert(now);
        }
        if budget.free_at(now).is_none_or(|at| at > now) || limited && !ledger.may_post(now) {
            return None;
        }
        match self.teams[team].take(pick, team != by, now) {
            Taken::Event { seq, payload, probe, possible_double } => {
                self.spend(account);
                let passing = &mut self.accounts[account].passing;
                *passing = if pick.is_quiet() { 0 } else { *passing + u32::from(quiet_waits) };
                if team != by {
                    self.teams[by].gate.send(Whose::Lent(seq));
                }
                let files = self.teams[team].files(seq);
                Some(Action::Post(Post { seq, team, by, account, payload, files, probe, possible_double }))
            }
            Taken::Ask => {
                self.spend(account);
                Some(Action::Ask { team, account })
            }
            Taken::Fetch { after, limit } => Some(Action::Page { team, after, limit }),
            // Its payload is on the way, and nothing less urgent may use up the budget meanwhile.
            Taken::Nothing => None,
        }
    }

    fn spend(&mut self, account: usize) {
        let Account { budget, ledger, starving, .. } = &mut self.accounts[account];
        *starving = None;
        budget.take();
        if budget.is_limited() {
            ledger.take();
        }
    }

    /// When [`Scheduler::next`] may have something new to do if nothing else happens.
    pub(crate) fn next_time(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut next = self.teams.iter().filter_map(Team::next_time).min();
        for account in 0..self.accounts.len() {
            let Account { budget, ledger, .. } = &mut self.accounts[account];
            let strange = self
                .teams
                .iter()
                .any(|team| team.account == account && team.next_rank().is_some_and(|rank| rank >= STRANGE));
            let half = budget.free_for(Share::Half, now).filter(|&at| strange && at > now);
            let mut at = budget.free_at(now).filter(|&at| at > now);
            if at.is_none() {
                at = budget.free_for_probe_at(now).filter(|&at| at > now);
            }
            let trust = budget.trusts_again_at(now);
            let retry = ledger.retry_at().filter(|&at| at > now);
            next = [next, at, half, trust, retry].into_iter().flatten().min();
        }
        next
    }

    /// Takes in what the spool said to a reservation.
    pub(crate) fn reserved(&mut self, account: usize, safe: bool, now: Timestamp) -> Change {
        self.accounts[account].ledger.written(safe, now)
    }

    /// The last reservations, when nothing more is posted: they give back what is left.
    pub(crate) fn close(&mut self, now: Timestamp) -> Vec<Reservation> {
        let close = |account: &mut Account| account.ledger.close(&account.budget, now);
        self.accounts.iter_mut().filter_map(close).collect()
    }

    /// Takes in the answer to a post of `seq` that was made for `team` by the target of `by`.
    pub(crate) fn answer(
        &mut self,
        (team, by, account): (Index, Index, usize),
        seq: u64,
        answer: Answer,
        now: Timestamp,
    ) -> PostVerdict {
        let plan = self.settle(account, &answer, now);
        if answer.spent() == Spent::Wrong
            && let Some(rank) = self.teams[team].own_rank(seq)
        {
            self.accounts[account].budget.suspect(team, rank, now);
        }
        let answers = matches!(answer, Answer::Accepted { .. } | Answer::Refused { .. });
        let was = self.teams[by].state();
        let is_own = team == by;
        let whose = if is_own { Whose::Own(seq) } else { Whose::Lent(seq) };
        let effects = self.teams[by].learn(&answer, whose, now);
        let by_way = (!is_own).then(|| Arc::clone(self.teams[by].name()));
        let fate = self.teams[team].settle(seq, answer, effects.blamed, by_way, now);
        if answers {
            self.server_answers(by, was, now);
        }
        let notices = effects.notices.into_iter().chain(fate.notice).chain(plan).collect();
        PostVerdict { outcome: fate.outcome, notices }
    }

    /// Takes in the answer to [`Action::Ask`].
    pub(crate) fn asked(
        &mut self,
        team: Index,
        account: usize,
        answer: &Answer,
        now: Timestamp,
    ) -> Vec<Notice> {
        let plan = self.settle(account, answer, now);
        let was = self.teams[team].state();
        let effects = self.teams[team].learn(answer, Whose::Question, now);
        if matches!(answer, Answer::Accepted { .. }) {
            self.server_answers(team, was, now);
        }
        effects.notices.into_iter().chain(plan).collect()
    }

    /// A post by the target of `team`, whose state `was` that, has got through: other teams of the same server that are
    /// not reached are tried at once.
    fn server_answers(&mut self, team: Index, was: State, now: Timestamp) {
        let Team { account, host, .. } = &self.teams[team];
        let (account, host) = (*account, Arc::clone(host));
        let is_back = was == State::Down;
        for (other, them) in self.teams.iter_mut().enumerate() {
            if other != team && them.account == account && them.host == host {
                them.gate.server_answers(is_back, now);
            }
        }
    }

    /// Charges the account for a post and learns from its answer.
    fn settle(&mut self, account: usize, answer: &Answer, now: Timestamp) -> Option<Notice> {
        let Account { budget, ledger, told, .. } = &mut self.accounts[account];
        let spent = answer.spent();
        budget.settle(spent, now);
        if budget.is_limited() {
            ledger.settle(spent != Spent::Nothing);
        }
        match answer {
            Answer::Accepted { limits, .. } => {
                *told |= limits.limit.is_some();
                let changed = budget.learn(limits, now);
                changed.then(|| Notice::Plan { burst: budget.burst() })
            }
            Answer::Throttled { until, .. } => {
                budget.block(*until);
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
