//! The side of the spool that asks. Questions wait for no writer, and a bounded number of them is answered at a
//! time, each on a thread that may block.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::Semaphore;
use tokio::task;

use super::engine::{self, Failure};
use super::entry::{
    Count, Filter, IncidentFilter, KnownIncident, Listed, Past, Queued, Selection, Shown, State, Unheard,
    Vouched,
};
use super::error::{Error, OpenError};
use super::keeper::REMOVED;
use super::reservation::{Reservation, Urgent};
use super::sqlite;
use super::storm::{Folded, Storm};
use crate::mail::MailId;

/// Questions that are answered at a time; more wait. Enough for every team's delivery and an operator.
const READERS: usize = 4;

/// The side of the spool that asks: for the process that has it open, and for any other beside it. Cheap
/// to clone. A question fails if the spool cannot be read, and for no other reason.
#[derive(Clone)]
pub struct Reader {
    store: Arc<dyn engine::Store>,
    permits: Arc<Semaphore>,
}

impl Reader {
    /// Opens the spool in `folder` for reading only, whether a service has it open or none.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        Ok(Self::new(Arc::new(sqlite::open_reader(folder)?)))
    }

    pub(super) fn new(store: Arc<dyn engine::Store>) -> Self {
        Self { store, permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Lets go of everything that is not in use.
    pub(super) fn close(&self) {
        self.store.close();
    }

    /// The events of `team` that wait, with numbers greater than `after`, at most `limit`, in order.
    pub async fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, Error> {
        let team = team.to_owned();
        self.ask(move |store| store.waiting(&team, after, limit)).await
    }

    /// The incidents of `team` with queued events, by their most urgent event and then by age: the oldest
    /// event of each, which must go first. Those behind `after`, a rank and a number; at most `limit`.
    pub async fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, Error> {
        let team = team.to_owned();
        self.ask(move |store| store.urgent(&team, after, limit)).await
    }

    /// What was noted of `account` within a day and more, in order.
    pub async fn reservations(&self, account: &str) -> Result<Vec<Reservation>, Error> {
        let account = account.to_owned();
        self.ask(move |store| store.reservations(&account)).await
    }

    /// The events that `filter` lets through, latest first.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Listed>, Error> {
        self.ask(move |store| store.list(&filter)).await
    }

    /// How the event `seq` stands.
    pub async fn find(&self, seq: u64) -> Result<Option<Listed>, Error> {
        let filter = Filter { before: Some(seq + 1), limit: 1, ..Filter::default() };
        Ok(self.list(filter).await?.pop().filter(|found| found.seq == seq))
    }

    /// The numbers of events that failed or were deferred; none if there is no such mail.
    pub(super) async fn stuck(&self, selection: Selection) -> Result<Option<Vec<u64>>, Error> {
        match selection {
            Selection::Mail(mail) => Ok(self.show(mail).await?.map(|shown| {
                let events = shown.events.iter().map(|event| &event.listed);
                let stuck = |event: &&Listed| match event.state {
                    State::Queued => event.attempts > 0,
                    state => state == State::Failed,
                };
                events.filter(stuck).map(|event| event.seq).collect()
            })),
            Selection::All => {
                let failed = self.ask(|store| store.failed()).await?;
                let mut stuck = self.ask(|store| store.deferred()).await?;
                stuck.extend(failed.iter().filter(|event| !event.is_overtaken()).map(|event| event.seq));
                stuck.sort_unstable();
                Ok(Some(stuck))
            }
        }
    }

    /// All that is known of `mail` but its content.
    pub async fn show(&self, mail: MailId) -> Result<Option<Shown>, Error> {
        self.ask(move |store| store.show(mail)).await
    }

    /// The content of `mail` as received.
    pub async fn content(&self, mail: MailId) -> Result<Option<Bytes>, Error> {
        self.ask(move |store| store.content(mail)).await
    }

    /// The mails from `from` on that came before `before`, latest first: at most `limit`, and fewer where
    /// they are large, so that a walk through the spool takes the same memory all the way. None are left
    /// when there are none in the answer.
    pub async fn mails(
        &self,
        from: MailId,
        before: Option<MailId>,
        limit: usize,
    ) -> Result<Vec<Past>, Error> {
        self.ask(move |store| store.mails(from, before, limit)).await
    }

    /// How many mails there are from `from` on.
    pub async fn count_mails(&self, from: MailId) -> Result<u64, Error> {
        self.ask(move |store| store.count_mails(from)).await
    }

    /// The mails from `from` on by their trust, those of strangers by their domain.
    pub async fn vouched(&self, from: MailId) -> Result<Vec<Vouched>, Error> {
        self.ask(move |store| store.vouched(from)).await
    }

    /// What is open, by team.
    pub async fn counts(&self) -> Result<Vec<Count>, Error> {
        self.ask(|store| store.counts()).await
    }

    /// The open incidents that were never posted, of those that were muted since `since` for
    /// the reason `label`, with or without a colon and more behind it. Those that were paged and have become worse
    /// since are among them. In the order of their last mails.
    pub async fn unheard(&self, label: &str, since: Timestamp) -> Result<Vec<Unheard>, Error> {
        let label = label.to_owned();
        self.ask(move |store| store.unheard(&label, since)).await
    }

    /// The memos of `kind` by name, in the order of the names. One that is no JSON is left out.
    pub async fn memos(&self, kind: &'static str) -> Result<Vec<(String, serde_json::Value)>, Error> {
        let found = self.ask(move |store| store.memos(kind)).await?;
        Ok(found
            .into_iter()
            .filter_map(|(name, value)| Some((name, serde_json::from_str(&value).ok()?)))
            .collect())
    }

    /// How many mails of the days since `from` were deleted before their time, as the spool was full.
    pub async fn removed_early(&self, from: Timestamp) -> Result<u64, Error> {
        let first = from.to_zoned(TimeZone::UTC).date().to_string();
        let days = self.memos(REMOVED).await?;
        Ok(days.into_iter().filter(|(day, _)| *day >= first).filter_map(|(_, mails)| mails.as_u64()).sum())
    }

    /// The incidents that `filter` lets through, the last heard of first.
    pub async fn incidents(&self, filter: IncidentFilter) -> Result<Vec<KnownIncident>, Error> {
        self.ask(move |store| store.incidents(&filter)).await
    }

    /// The storms that are on, and those that are over and of whose incidents some are open.
    pub async fn storms(&self) -> Result<Vec<Storm>, Error> {
        self.ask(|store| store.storms()).await
    }

    /// What `storm` has folded, with numbers greater than `after`, at most `limit`, in order.
    pub async fn folded(&self, storm: u64, after: u64, limit: usize) -> Result<Vec<Folded>, Error> {
        self.ask(move |store| store.folded(storm, after, limit)).await
    }

    /// Asks on a thread that may block, when it is this question's turn.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn engine::Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let asked = self.block(move |store| {
            let answer = question(store);
            std::mem::drop(permit);
            answer
        });
        Ok(asked.await?)
    }

    /// Does a job on a thread that may block.
    pub(super) async fn block<T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn engine::Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(&self.store);
        let done = task::spawn_blocking(move || job(&*store)).await;
        done.unwrap_or_else(|error| Err(Failure::Io(error.to_string())))
    }
}
