//! A short way into a spool, for tests in which nothing has to be remembered with a mail.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

use smtp2signl4::spool::{Entry, PutError, Queued, Spool};

/// Puts mails into a spool.
pub trait Enqueue {
    /// Takes a mail for good: the events of it that are to be sent.
    async fn enqueue(&self, entry: Entry) -> Result<Vec<Queued>, PutError>;
}

impl Enqueue for Spool {
    async fn enqueue(&self, entry: Entry) -> Result<Vec<Queued>, PutError> {
        Ok(self.put(entry, Vec::new()).await?.queued)
    }
}
