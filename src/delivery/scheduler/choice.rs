//! What is posted next with an account: of which team, and by whose target.

use jiff::Timestamp;

use super::Scheduler;
use super::action::Index;
use super::team::Pick;
use crate::delivery::budget::Share;
use crate::delivery::rank::Rank;
use crate::delivery::status::State;

/// Number of paging events that pass a waiting non-paging event before it goes: it has every fourth post.
const PASSING: u32 = 3;

/// The same for critical events, which must not be late: a non-paging event has every sixteenth post.
const PASSING_CRITICAL: u32 = 15;

/// What may be posted now, beside the events of known senders.
#[derive(Debug, Clone, Copy)]
struct May {
    /// What may well earn an error.
    probe: bool,
    /// A question that no event waits for.
    ask: bool,
    /// An event of a stranger.
    strange: bool,
}

/// What is to be posted: of which team, and by whose target.
type Choice = (Index, Index, Pick);

impl Scheduler {
    /// What is to be posted next with `account`, and whether a non-paging event waits while others page.
    pub(super) fn choose(&mut self, account: usize, now: Timestamp) -> (Option<Choice>, bool) {
        let budget = &mut self.accounts[account].budget;
        let limited = budget.is_limited();
        let may = May {
            probe: budget.free_for_probe_at(now).is_some_and(|at| at <= now),
            ask: budget.may_ask_idly(now),
            strange: budget.free_for(Share::Half, now).is_some_and(|at| at <= now),
        };
        let best = self.best(account, limited, may, now);
        let Some((.., first)) = &best else { return (None, false) };
        let quiet = if first.is_quiet() { None } else { self.best_quiet(account, now) };
        let most = if first.rank() == 0 { PASSING_CRITICAL } else { PASSING };
        let its_turn = quiet.is_some() && self.accounts[account].passing >= most;
        (if its_turn { quiet } else { best }, quiet.is_some())
    }

    /// The most urgent thing to post with `account`, of which team, and by whose target. What it may not is left out,
    /// so that events of known senders do not wait behind it.
    fn best(&self, account: usize, limited: bool, may: May, now: Timestamp) -> Option<Choice> {
        let mut best: Option<Choice> = None;
        let mut awaited: Option<Rank> = None;
        for team in 0..self.teams.len() {
            let queue = &self.teams[team];
            let by = self.outlet(team, now);
            let mine = queue.account == account;
            if !mine && by.is_none_or(|by| self.teams[by].account != account) {
                continue;
            }
            if queue.holds_back() {
                // What it has may be more urgent than all that the others have.
                if limited && mine {
                    return None;
                }
                continue;
            }
            awaited = awaited.into_iter().chain(queue.waits_for_answer().filter(|_| mine)).min();
            let own = if mine { queue.pick(now) } else { None };
            let own = own.filter(|_| may.probe || queue.state() != State::Held);
            let idle = |pick: &Pick| pick.is_question() && !queue.has_head();
            let own = own.filter(|pick| may.ask || queue.state() == State::Held || !idle(pick));
            let diverted = by.filter(|&by| by != team && self.teams[by].account == account);
            let diverted = diverted.and_then(|by| {
                let by_probe = self.teams[by].state() == State::Held;
                Some((by, queue.pick_diverted(by_probe)?))
            });
            let picks = own.map(|pick| (team, pick)).into_iter().chain(diverted);
            let budget = &self.accounts[account].budget;
            let picks = picks.filter(|(_, pick)| !pick.is_strange() || may.strange && queue.spares_a_place());
            for (by, pick) in picks.filter(|(_, pick)| budget.trusts(team, pick.rank(), now)) {
                if best.as_ref().is_none_or(|(_, _, other)| pick.order() < other.order()) {
                    best = Some((team, by, pick));
                }
            }
        }
        // What is more urgent can go in a moment, and would then find the budget spent.
        best.filter(|(_, _, pick)| !limited || awaited.is_none_or(|awaited| pick.order().0 <= awaited))
    }

    /// How many posts `account` could make at `now`, counted up to `most`: those that one answer does not decide about.
    /// Of events only those up to the rank `last` count.
    pub(super) fn ready(&self, account: usize, last: Rank, most: u64, now: Timestamp) -> u64 {
        let queues = self.teams.iter().enumerate();
        let own = queues.map(|(team, queue)| {
            let own = if queue.account == account { queue.ready(last, most, now) } else { 0 };
            let by = self.outlet(team, now).filter(|&by| by != team && self.teams[by].account == account);
            own + by.map_or(0, |by| queue.ready_diverted(self.teams[by].state() == State::Held, last, most))
        });
        // What was chosen may be none of them, but is one.
        own.sum::<u64>().clamp(1, most)
    }

    /// The first non-paging event to post with `account`, while others page.
    fn best_quiet(&self, account: usize, now: Timestamp) -> Option<Choice> {
        let queues = self.teams.iter().enumerate();
        let picks = queues.filter_map(|(team, queue)| {
            let by = self.outlet(team, now)?;
            if self.teams[by].account != account {
                return None;
            }
            let pick = match self.teams[by].state() {
                _ if by == team => queue.pick_quiet(now),
                // Whether that takes anything is tried by what is most urgent.
                State::Held => None,
                _ => queue.pick_quiet_diverted(),
            };
            Some((team, by, pick?))
        });
        let budget = &self.accounts[account].budget;
        let picks = picks.filter(|(team, _, pick)| budget.trusts(*team, pick.rank(), now));
        picks.min_by_key(|(.., pick)| pick.order())
    }

    /// The team to whose target the events of `team` go: its own, or that of the nearest fallback that is
    /// open. None if they have to wait.
    fn outlet(&self, team: Index, now: Timestamp) -> Option<Index> {
        let mut by = team;
        // A chain has no loop: the config refuses it.
        for _ in 0..self.teams.len() {
            let queue = &self.teams[by];
            if by != team && queue.takes_others(now) {
                return Some(by);
            }
            if !queue.is_given_up(now) {
                return (by == team).then_some(team);
            }
            by = queue.fallback?;
        }
        None
    }

    /// Tells teams whether their events go another way, and fallbacks whether they are needed.
    pub(super) fn divert(&mut self, now: Timestamp) {
        for team in 0..self.teams.len() {
            if !self.teams[team].is_given_up(now) {
                self.teams[team].set_diverted(false, now);
                continue;
            }
            let by = self.outlet(team, now);
            self.teams[team].set_diverted(by.is_some_and(|by| by != team), now);
            if let Some(fallback) = self.teams[team].fallback {
                self.teams[fallback].gate.want();
            }
        }
    }
}
