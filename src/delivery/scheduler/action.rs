//! What the scheduler has the loop do.

use std::sync::Arc;

use crate::delivery::multipart::Files;
use crate::delivery::rank::Rank;
use crate::spool::Reservation;

/// The index of a team; teams are never removed.
pub(crate) type Index = usize;

/// What the loop is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Post an event and bring the answer to [`Scheduler::answer`](super::Scheduler::answer).
    Post(Post),
    /// Ask whether the team's secret is right and bring the answer to [`Scheduler::asked`](super::Scheduler::asked).
    Ask { team: Index, account: usize },
    /// Read the queued events after `after` from the spool and bring them to [`Team::page`](super::Team::page).
    Page { team: Index, after: u64, limit: usize },
    /// Read the most urgent incidents behind `after` and bring them to [`Team::urgent`](super::Team::urgent).
    Urgent { team: Index, after: (Rank, u64), limit: usize },
    /// Write a reservation and tell [`Scheduler::reserved`](super::Scheduler::reserved).
    Reserve { account: usize, reservation: Reservation },
}

/// A post to be made.
#[derive(Debug)]
pub(crate) struct Post {
    /// The event.
    pub(crate) seq: u64,
    /// The team that it is for.
    pub(crate) team: Index,
    /// The team to whose target it goes: the same, or a fallback.
    pub(crate) by: Index,
    /// The account that it costs.
    pub(crate) account: usize,
    /// Its JSON.
    pub(crate) payload: Arc<str>,
    /// Files of its mail that go along.
    pub(crate) files: Option<Arc<Files>>,
    /// Whether the gate is shut, so that the secret may have been put right and is to be read again.
    pub(crate) probe: bool,
    /// Whether an earlier post of it may have been taken although no answer came.
    pub(crate) possible_double: bool,
}
