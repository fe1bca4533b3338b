//! The memory that the mails of all sessions may have together.
//!
//! Each session has [`FREE`] bytes for itself, so that ordinary mails are not counted at all. What it
//! holds beyond that it must get from the budget, and waits while the budget is spent.
//!
//! A part of the budget only a site's own clients get ([`RESERVE`]): strangers who begin large mails and never end
//! them do not hold up those.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What every session may hold uncounted, in bytes: more than nearly all alert mails have, and 14 MiB
/// for the 900 sessions of the default.
const FREE: usize = 16 << 10;

/// The unit of the budget in bytes: a semaphore counts at most 2^32 in one go, and this makes it tebibytes.
const UNIT: usize = 1 << 10;

/// How long a session waits for others to free memory before its mail is refused. The client waits as
/// well; JavaMail, the most impatient of those known, does so for 60 seconds.
const WAIT: Duration = Duration::from_secs(20);

/// One in so many parts of the budget is kept for a site's own clients.
const RESERVE: usize = 4;

/// The budget of all sessions.
#[derive(Debug, Clone)]
pub struct Budget {
    whole: Arc<Semaphore>,
    /// What of it strangers may have together.
    strangers: Arc<Semaphore>,
}

/// There is no memory, and none became free in time.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

/// What one session has of the budget. It goes back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    of_whole: Held,
    of_strangers: Held,
}

/// Units that are held of a semaphore.
#[derive(Debug, Default)]
struct Held(Option<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of `bytes`, of which strangers may at least have what a mail of `largest` needs.
    pub fn new(bytes: usize, largest: usize) -> Self {
        let units = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        let for_strangers = (units - units / RESERVE).max(largest.div_ceil(UNIT)).min(units);
        let semaphore = |units| Arc::new(Semaphore::new(units));
        Self { whole: semaphore(units), strangers: semaphore(for_strangers) }
    }

    /// A share without anything in it.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), of_whole: Held::default(), of_strangers: Held::default() }
    }
}

impl Share {
    /// Makes the share cover `held` bytes: gets what is missing, gives back what is too much. `own` says whether the
    /// client is one of the site's own.
    pub async fn cover(&mut self, held: usize, own: bool) -> Result<(), Exhausted> {
        let wanted = held.saturating_sub(FREE).div_ceil(UNIT);
        let covered = async {
            // The scarcer budget first, so that strangers who wait do not block others.
            self.of_strangers.become_worth(if own { 0 } else { wanted }, &self.budget.strangers).await?;
            self.of_whole.become_worth(wanted, &self.budget.whole).await
        };
        tokio::time::timeout(WAIT, covered).await.unwrap_or(Err(Exhausted))
    }
}

impl Held {
    /// Gets or gives back what makes it `wanted` units.
    async fn become_worth(&mut self, wanted: usize, semaphore: &Arc<Semaphore>) -> Result<(), Exhausted> {
        let has = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted < has {
            drop(self.0.as_mut().and_then(|permit| permit.split(has - wanted)));
        }
        if wanted <= has {
            return Ok(());
        }
        let missing = u32::try_from(wanted - has).map_err(|_| Exhausted)?;
        let more = Arc::clone(semaphore).acquire_many_owned(missing).await.map_err(|_| Exhausted)?;
        match &mut self.0 {
            Some(permit) => permit.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_gets_what_another_gives_back_and_small_mails_cost_nothing() {
        let budget = Budget::new(100 << 10, 0);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!(one.cover(FREE + (100 << 10), true).await, Ok(()));
        assert_eq!(two.cover(FREE, true).await, Ok(()));
        assert_eq!(two.cover(FREE + 1, true).await, Err(Exhausted));
        assert_eq!(one.cover(FREE + (99 << 10), true).await, Ok(()));
        assert_eq!(two.cover(FREE + 1, true).await, Ok(()));
        drop(one);
        assert_eq!(two.cover(FREE + (100 << 10), true).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_who_hold_all_they_may_leave_a_part_to_own_clients() {
        let budget = Budget::new(100 << 10, 0);
        let mut strangers = [budget.share(), budget.share()];
        assert_eq!(strangers[0].cover(FREE + (75 << 10), false).await, Ok(()));
        assert_eq!(strangers[1].cover(FREE + 1, false).await, Err(Exhausted));
        let mut own = budget.share();
        // A stranger who waits is not in front of it.
        let (waited, had) =
            tokio::join!(strangers[1].cover(FREE + (10 << 10), false), own.cover(FREE + (25 << 10), true));
        assert_eq!((waited, had), (Err(Exhausted), Ok(())));
        assert_eq!(own.cover(FREE + (26 << 10), true).await, Err(Exhausted));
        // Who has logged in meanwhile makes room for other strangers.
        assert_eq!(strangers[0].cover(FREE + (74 << 10), true).await, Ok(()));
        assert_eq!(strangers[1].cover(FREE + 1, false).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_mail_of_a_stranger_comes_in_however_small_the_budget_is() {
        let budget = Budget::new(100 << 10, 100 << 10);
        assert_eq!(budget.share().cover(FREE + (100 << 10), false).await, Ok(()));
    }
}
