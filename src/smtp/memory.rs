//! The memory that the mails of all sessions may have together.
//!
//! Each session has [`FREE`] bytes for itself, so that ordinary mails are not counted at all. What it
//! holds beyond that it must get from the budget, and waits while the budget is spent.

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

/// The budget of all sessions.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// There is no memory, and none became free in time.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

/// What one session has of the budget. It goes back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// A share without anything in it.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), permit: None }
    }
}

impl Share {
    /// Makes the share cover `held` bytes: gets what is missing, gives back what is too much.
    pub async fn cover(&mut self, held: usize) -> Result<(), Exhausted> {
        let wanted = held.saturating_sub(FREE).div_ceil(UNIT);
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted == has {
            return Ok(());
        }
        if wanted < has {
            drop(self.permit.as_mut().and_then(|permit| permit.split(has - wanted)));
            return Ok(());
        }
        let missing = u32::try_from(wanted - has).map_err(|_| Exhausted)?;
        let acquired = Arc::clone(&self.budget.0).acquire_many_owned(missing);
        match tokio::time::timeout(WAIT, acquired).await {
            Ok(Ok(more)) => {
                match &mut self.permit {
                    Some(permit) => permit.merge(more),
                    None => self.permit = Some(more),
                }
                Ok(())
            }
            _ => Err(Exhausted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_gets_what_another_gives_back_and_small_mails_cost_nothing() {
        let budget = Budget::new(100 << 10);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!(one.cover(FREE + (100 << 10)).await, Ok(()));
        assert_eq!(two.cover(FREE).await, Ok(()));
        assert_eq!(two.cover(FREE + 1).await, Err(Exhausted));
        assert_eq!(one.cover(FREE + (99 << 10)).await, Ok(()));
        assert_eq!(two.cover(FREE + 1).await, Ok(()));
        drop(one);
        assert_eq!(two.cover(FREE + (100 << 10)).await, Ok(()));
    }
}
