//! The keeper: makes the changes of a batch in one transaction of an [`Engine`]. Here is decided which number an event
//! gets, what becomes of it and of its incident, who else hears of it, and whether there is room for a mail.

mod incidents;
mod operator;
mod outcomes;
mod put;
mod relief;
mod room;
mod storms;
mod upkeep;

use std::sync::Arc;

use jiff::SignedDuration;

use super::allowance::{self, Allowances};
use super::change::{Applied, Change, Refused};
use super::config::Config;
use super::engine::{Done, Engine, Failure, Store};
use super::entry::Memo;
use super::writer::Committer;
use crate::incident::{self, Storms};
use crate::time::signed;
use room::Room;

/// The kind of the memos that count the mails that were deleted early, one for each day on which they came.
pub(in crate::spool) const REMOVED: &str = "removed-early";

/// How many numbers a mail has for its events, those that it may get when it is judged again included: its block is this
/// or a multiple, so that they keep its place in the order of acceptance.
const BLOCK: u64 = 1024;

/// How long reservations are kept: the longest window of an account is a day.
const RESERVATIONS_KEPT: SignedDuration = SignedDuration::from_hours(25);

/// What comes of a change: an error voids the transaction, which goes on after a refusal.
type Answer = Done<Result<Applied, Refused>>;

/// Makes changes through an engine.
pub(super) struct Keeper {
    engine: Box<dyn Engine>,
    store: Arc<dyn Store>,
    /// The first number of the next mail's block.
    next_seq: u64,
    /// The room that mail may take of the disk and of the spool.
    room: Room,
    /// When a mail about a known incident pages.
    incidents: incident::Config,
    /// How long what is closed is remembered.
    retention: SignedDuration,
    /// The storms that are on, and what counts towards the next.
    storms: Storms,
    /// How many events the account of each team lets go in 15 seconds.
    allowances: Arc<Allowances>,
}

impl Keeper {
    /// Goes on where `engine` was left; `store` answers questions about the same rows.
    pub fn open(
        engine: Box<dyn Engine>,
        store: Arc<dyn Store>,
        config: &Config,
        allowances: Arc<Allowances>,
    ) -> Done<Self> {
        let mut keeper = Self {
            engine,
            store,
            next_seq: BLOCK,
            room: Room::new(config),
            incidents: config.incidents.clone(),
            retention: signed(config.retention),
            storms: Storms::default(),
            allowances,
        };
        for (team, events) in keeper.store.memos(allowance::MEMO)? {
            if let Ok(events) = events.parse() {
                keeper.allowances.learn(&team, events);
            }
        }
        keeper.recall()?;
        Ok(keeper)
    }

    /// Recalls what was known before the start, or before a panic, from what is kept.
    fn recall(&mut self) -> Done<()> {
        self.next_seq = self.engine.last_seq()?.map_or(BLOCK, |last| (last / BLOCK + 1) * BLOCK);
        self.room.recount(self.engine.sums()?);
        self.storms = self.storms_that_rage()?;
        self.recall_pages()
    }

    /// Makes `act` one transaction.
    fn transact<T>(&mut self, act: impl FnOnce(&mut Self) -> Done<T>) -> Done<T> {
        self.engine.begin()?;
        let done = act(self).and_then(|done| self.engine.commit().map(|()| done));
        if done.is_err() {
            self.engine.roll_back();
        }
        done
    }

    fn change(&mut self, change: &Change) -> Answer {
        match change {
            Change::Put(put) => self.put(put, change.size()),
            Change::Record(outcomes) => self.record(outcomes),
            Change::Requeue { seqs, now } => self.requeue(seqs, *now).map(Ok),
            Change::Rejudge { mail, judged, now } => self.rejudge(*mail, judged, *now),
            Change::Drop { mail, now } => self.drop(*mail, *now),
            Change::Retarget { mail, team, now } => self.retarget(*mail, team, *now),
            Change::Purge { after, horizon } => self.purge(*after, *horizon),
            Change::Forget { incidents, storms_before, removed_before, now } => {
                self.forget_removed(*removed_before)?;
                self.forget(incidents, *storms_before, *now)
            }
            Change::Shrink => {
                let next = self.engine.shrink()?.then_some(0);
                Ok(Ok(Applied { next, ..Applied::default() }))
            }
            Change::Relieve(now) => self.relieve(*now),
            Change::Remember(memos) => {
                self.remember(memos)?;
                Ok(Ok(Applied::default()))
            }
            Change::Reserve(reservation) => {
                let since = reservation.at.saturating_sub(RESERVATIONS_KEPT).expect("hours are exact");
                self.engine.reserve(reservation, since)?;
                Ok(Ok(Applied::default()))
            }
        }
    }

    fn remember(&mut self, memos: &[Memo]) -> Done<()> {
        memos.iter().try_for_each(|memo| self.engine.remember(memo))
    }
}

impl Committer for Keeper {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure> {
        let before = (self.room.clone(), self.next_seq);
        let takes_room = |change: &Change| matches!(change, Change::Put(_) | Change::Relieve(_));
        let applied = self.transact(|keeper| {
            if changes.iter().any(takes_room) {
                keeper.room.measure(keeper.engine.space()?);
            }
            changes.iter().map(|change| keeper.change(change)).collect()
        });
        applied.inspect_err(|_| {
            (self.room, self.next_seq) = before;
            // What was counted and begun in the batch was not. A storm that cannot be read begins anew.
            self.storms = self.storms_that_rage().unwrap_or_default();
        })
    }

    fn recover(&mut self) -> Result<(), Failure> {
        self.engine.roll_back();
        self.recall()
    }

    fn rescue(&mut self, changes: &[Change]) -> Result<String, String> {
        for change in changes {
            // What is delivered need not be saved.
            if let Change::Record(outcomes) = change
                && let Err(problem) = self.transact(|keeper| keeper.record(outcomes))
            {
                tracing::warn!(?problem, "what was delivered last is not noted: it may go out again");
            }
        }
        self.engine.rescue()
    }

    fn tidy(&mut self, idle: bool) -> Result<(), Failure> {
        self.engine.tidy(idle)
    }

    fn close(mut self: Box<Self>) {
        self.engine.close();
    }
}
