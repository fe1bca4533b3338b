//! What the loop is told, what it starts, and what that brings back.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::delivery::scheduler::Index;
use crate::delivery::status::Status;
use crate::delivery::storage::StorageError;
use crate::delivery::webhook::{Answer, Endpoint};
use crate::spool::{Outcome, Queued, Urgent, Withdrawn};

/// What a handle tells the loop.
pub(in crate::delivery) enum Message {
    Offer(Vec<Queued>),
    Withdraw(Vec<Withdrawn>),
    Wake,
    Wait(u64, oneshot::Sender<Outcome>),
    Status(oneshot::Sender<Vec<Status>>),
}

/// What a post is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct PostTask {
    /// The event, or none for the question whether the secret is right.
    pub(super) seq: Option<u64>,
    /// The team that it is for.
    pub(super) team: Index,
    /// The team by whose target it goes.
    pub(super) by: Index,
    /// The account that it costs.
    pub(super) account: usize,
}

/// What a task was started for, to be told when it panics.
pub(super) enum Task {
    Post(PostTask),
    Page(Index),
    Reserve(usize),
    Record,
    Note(Index),
}

/// What a task has brought back.
pub(super) enum TaskResult {
    Posted(PostTask, Answer, Option<Arc<Endpoint>>),
    Paged(Index, Result<Vec<Queued>, StorageError>),
    Urgent(Index, Result<Vec<Urgent>, StorageError>),
    Reserved(usize, Result<(), StorageError>),
    Recorded(Result<(), StorageError>),
    Noted(Index, Option<Timestamp>, Result<(), StorageError>),
}

/// The event that an outcome is of.
pub(super) fn seq_of(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Delivered { seq, .. } | Outcome::Deferred { seq, .. } | Outcome::Failed { seq, .. } => *seq,
    }
}
