//! Installations that close each other's incidents, as two machines of one do that send from two mailboxes, and the line of
//! `[rules.instances]` that makes them one.

use std::collections::BTreeSet;

use crate::incident;
use crate::spool::{Filter, Reader, State};

use super::terminal::excerpt;

/// The last events that are looked at.
const EVENTS: usize = 5_000;

/// Pairs that are told.
const TOLD: usize = 5;

/// The lines for an operator; none if there is no such pair.
///
/// # Errors
/// The spool cannot be read.
pub(super) async fn lines(spool: &Reader) -> Result<Vec<String>, String> {
    let states = vec![State::Queued, State::Delivered];
    let last = spool.list(Filter { states, limit: EVENTS, ..Filter::default() }).await;
    let last = last.map_err(|error| error.to_string())?;
    let remarks = last.iter().filter_map(|event| event.reason.as_deref());
    let pairs: BTreeSet<String> =
        remarks.filter_map(incident::advice).map(|advice| excerpt_of(&advice)).collect();
    Ok(pairs.into_iter().take(TOLD).collect())
}

/// The advice in one line: what it names of a mail is a mailbox, which may be long.
fn excerpt_of(advice: &str) -> String {
    advice.split("; ").map(excerpt).collect::<Vec<_>>().join("; ")
}
