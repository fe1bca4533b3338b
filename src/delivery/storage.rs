//! What delivery needs of the spool: the one door between the two.

use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;

use crate::mail::MailId;
use crate::spool::{Memo, Outcome, Queued, Reservation, Spool, Urgent};

/// The kind of the memos that tell since when a team's secret is refused.
const HELD: &str = "held";

/// Why the storage could not be read or written.
pub type StorageError = Box<dyn std::error::Error + Send + Sync>;

/// What delivery needs of the spool.
pub trait Storage: Send + Sync + 'static {
    /// The queued events of `team` after `after`, at most `limit`, in order. All that were committed
    /// before the call are among them.
    fn waiting(
        &self,
        team: &str,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Queued>, StorageError>> + Send;

    /// The incidents of `team` with queued events behind `after`, at most `limit`: see [`Reader::urgent`](crate::spool::Reader::urgent).
    fn urgent(
        &self,
        team: &str,
        after: (u8, u64),
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Urgent>, StorageError>> + Send;

    /// Notes what an account has posted and is about to post. `Ok` only when it is durable.
    fn reserve(&self, reservation: Reservation) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// What was noted of `account` within the last day, oldest first.
    fn reservations(
        &self,
        account: &str,
    ) -> impl Future<Output = Result<Vec<Reservation>, StorageError>> + Send;

    /// Keeps what came of events. `Ok` only when it is durable. An outcome may be told twice, and one of
    /// an event that was dropped meanwhile is no error.
    fn record(&self, outcomes: Vec<Outcome>) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Every team that has queued events, and how many.
    fn teams(&self) -> impl Future<Output = Result<Vec<(String, u64)>, StorageError>> + Send;

    /// The account of `team` was found to let so many events go in its shortest window: what a storm is measured by.
    fn allow(&self, team: &str, events: u32) {
        _ = (team, events);
    }

    /// Since when the secret of each team was refused, as it was noted last.
    fn holds(&self) -> impl Future<Output = Result<Vec<(String, Timestamp)>, StorageError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Notes since when the secret of `team` is refused, or that it no longer is. `Ok` only when it is durable.
    fn note_hold(
        &self,
        team: &str,
        since: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), StorageError>> + Send {
        _ = (team, since);
        std::future::ready(Ok(()))
    }

    /// The content of `mail` as received, for the files that go along with its events; none if it is no
    /// longer kept.
    fn content(&self, mail: MailId) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send {
        _ = mail;
        std::future::ready(Ok(None))
    }
}

impl Storage for Spool {
    async fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, StorageError> {
        Ok(self.reader().waiting(team, after, limit).await?)
    }

    async fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, StorageError> {
        Ok(self.reader().urgent(team, after, limit).await?)
    }

    async fn reserve(&self, reservation: Reservation) -> Result<(), StorageError> {
        Ok(Spool::reserve(self, reservation).await?)
    }

    async fn reservations(&self, account: &str) -> Result<Vec<Reservation>, StorageError> {
        Ok(self.reader().reservations(account).await?)
    }

    async fn record(&self, outcomes: Vec<Outcome>) -> Result<(), StorageError> {
        Ok(Spool::record(self, outcomes).await?)
    }

    async fn teams(&self) -> Result<Vec<(String, u64)>, StorageError> {
        let counts = self.reader().counts().await?;
        Ok(counts
            .into_iter()
            .filter(|count| count.queued > 0)
            .map(|count| (count.team, count.queued))
            .collect())
    }

    fn allow(&self, team: &str, events: u32) {
        Spool::allow(self, team, events);
    }

    async fn holds(&self) -> Result<Vec<(String, Timestamp)>, StorageError> {
        let memos = self.reader().memos(HELD).await?;
        let since = |value| serde_json::from_value(value).ok();
        Ok(memos.into_iter().filter_map(|(team, value)| Some((team, since(value)?))).collect())
    }

    async fn note_hold(&self, team: &str, since: Option<Timestamp>) -> Result<(), StorageError> {
        let value = since.map(|since| serde_json::json!(since));
        Ok(self.remember(vec![Memo { kind: HELD, name: team.to_owned(), value }]).await?)
    }

    async fn content(&self, mail: MailId) -> Result<Option<Bytes>, StorageError> {
        Ok(self.reader().content(mail).await?)
    }
}
