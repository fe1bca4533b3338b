//! The spool: the promise of `250`.
//!
//! A mail that [`Spool::put`] has answered is on disk, flushed, in one transaction with its envelope, what
//! the rules made of it and its events. It survives a crash of the program, of the system and a power cut,
//! as far as the disk keeps what it confirmed. Each of its events that is to be sent stays queued until its
//! delivery is [recorded](Spool::record) or an operator decides otherwise. Which are, and which are kept and
//! counted, is decided in that same transaction by the laws of their [incidents](crate::incident). What is
//! done is kept for a time, for `queue` and for replay, and then [purged](Spool::purge).
//!
//! - Order: events have numbers ([`Queued::seq`]) that grow in the order in which mails were put.
//! - An error never means "taken": after one the mail may or may not be in the spool, and the sender,
//!   who was not told `250`, sends it again.
//! - A full disk refuses mail and nothing else; it is taken again when there is space. Before that, mails that are done
//!   go before their time, those of strangers first, and strangers fill no more than their share.
//! - A flush that the disk does not confirm ends the spool for good ([`Spool::failed`]): it is unknown
//!   what the disk has, so the process must stop and open it anew. So does a spool that is taken away under it: what is
//!   undelivered is saved in a file elsewhere, which the next start takes in.
//! - A damaged database or one of a newer version is refused and not touched.
//!
//! Left out: when to try what again (delivery's), what to say to whom (the gateway's).

mod allowance;
mod change;
mod config;
mod engine;
mod entry;
mod error;
mod keeper;
mod lock;
mod owner;
mod pack;
mod reader;
mod reservation;
mod sqlite;
mod storm;
mod writer;

use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

pub use config::{Config, Sync};
pub use entry::{
    Admission, Count, Entry, Filter, IncidentFilter, KeptEvent, KnownIncident, Listed, Memo, News, Outcome,
    Past, Queued, Selection, Shown, ShownEvent, State, Unheard, Vouched, Withdrawn,
};
pub use error::{Error, OpenError, PutError};
pub use reader::Reader;
pub use reservation::{QUIET, RANKS, Reservation, STRANGE, Urgent, rank};
pub use storm::{Folded, Storm, StormState, Told};

use crate::clock::Clock;
use crate::event::Event;
use crate::mail::MailId;
use crate::time::signed;
use allowance::Allowances;
use change::{Applied, Change, Content, Horizon, Judged, PutRequest, Refused};
use engine::{Failure, LARGE};
use keeper::Keeper;
use writer::{Busy, Listener, Request, Status};

/// How long a write may take before the disk is said to hang.
const SLOW: SignedDuration = SignedDuration::from_secs(5);

/// Events that are put back into the queue in one step, so that mail in between does not wait.
const REQUEUE_STEP: usize = 256;

/// How long an open incident is remembered after its last mail, at least.
const OPEN_RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Incidents that are forgotten in one step, so that mail in between does not wait.
const FORGET_STEP: usize = 256;

/// The spool, open for writing. Cheap to clone; when the last clone goes, what was asked for is written
/// and the spool is closed.
#[derive(Clone)]
pub struct Spool {
    inbox: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
    busy: Busy,
    reader: Reader,
    listener: Arc<OnceLock<Listener>>,
    allowances: Arc<Allowances>,
    clock: Arc<dyn Clock>,
    config: Arc<Config>,
}

impl Spool {
    /// Opens the spool of `config`, and makes it if there is none. Blocks for as long as that takes.
    ///
    /// # Errors
    /// It cannot be opened; what there is is untouched.
    pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        if config.sync == Sync::Off {
            tracing::warn!("the spool does not wait for the disk: a power cut WILL LOSE accepted mail");
        }
        let allowances = Arc::default();
        let (engine, store) = sqlite::open(config)?;
        let store: Arc<dyn engine::Store> = Arc::new(store);
        let keeper = Keeper::open(Box::new(engine), Arc::clone(&store), config, Arc::clone(&allowances));
        let keeper = keeper.map_err(|failure| OpenError::Io {
            path: config.path.clone(),
            detail: Error::from(failure).to_string(),
        })?;
        let listener = Arc::default();
        let started = writer::start(Box::new(keeper), Arc::clone(&listener));
        let (inbox, status, busy) = started.map_err(|error| OpenError::io(&config.path, &error))?;
        let reader = Reader::new(store);
        Ok(Self {
            inbox,
            status,
            busy,
            reader,
            listener,
            allowances,
            clock,
            config: Arc::new(config.clone()),
        })
    }

    /// Looks whether the folder of `config`, if it is there, is safe from others.
    ///
    /// # Errors
    /// Others can write to it.
    pub fn check(config: &Config) -> Result<(), OpenError> {
        if config.path.exists() { sqlite::check(&config.path) } else { Ok(()) }
    }

    /// Tells `listener` of all that goes into the queue or is withdrawn from it from now on, each batch once it
    /// is safe and before any caller is answered, so that it hears of them in the order of the commits. It must
    /// not block. There is one; a second is not heard.
    pub fn tell(&self, listener: impl Fn(News) + Send + std::marker::Sync + 'static) {
        _ = self.listener.set(Box::new(listener));
    }

    /// How many events the account of `team` lets go in 15 seconds: what a storm is measured by. It is remembered;
    /// of a team of which it was never said it is the free plan's number.
    pub fn allow(&self, team: &str, events: u32) {
        if let Some(memo) = self.allowances.learn(team, events) {
            let (nobody, _) = oneshot::channel();
            // If there is no place for it now, it is learnt again after the next start.
            _ = self.inbox.try_send(Request::Change(Change::Remember(vec![memo]), nobody));
        }
    }

    /// Takes a mail for good, and with it `memos` are [remembered](Spool::remember): both or neither, whatever happens.
    /// `Ok` when it is on disk: then those of its events that are to be sent are queued.
    ///
    /// # Errors
    /// The mail is not taken, or not for sure.
    pub async fn put(&self, entry: Entry, memos: Vec<Memo>) -> Result<Admission, PutError> {
        let request = PutRequest { memos, ..PutRequest::new(entry, self.clock.now()) };
        let applied = self.take(request).await?;
        let Applied { queued, counted, muted, folded, .. } = applied.ok_or(PutError::Full)?;
        Ok(Admission { queued, counted, muted, folded })
    }

    /// Takes a digest, and notes in the same transaction what it `tells` of its storm. False if the storm is
    /// no longer as it says; then nothing is taken.
    ///
    /// # Errors
    /// As those of [`Spool::put`].
    pub async fn put_digest(&self, entry: Entry, told: Told) -> Result<bool, PutError> {
        let request = PutRequest { told: Some(Box::new(told)), ..PutRequest::new(entry, self.clock.now()) };
        Ok(self.take(request).await?.is_some())
    }

    /// None if it is a digest that is outdated.
    async fn take(&self, mut request: PutRequest) -> Result<Option<Applied>, PutError> {
        let mut aside = None;
        if let Content::Here(content) = &request.content
            && content.len() >= LARGE
        {
            let (id, content, min_free) = (request.id, content.clone(), self.config.min_free);
            request.content = self.reader.block(move |store| store.lay_aside(id, content, min_free)).await?;
            aside = Some(request.content.clone());
        }
        request.pack();
        let answer = self.change(Change::Put(Box::new(request))).await;
        // If it is unknown what became of the mail, it may be there at the next start and need its content.
        if let Some(content) = aside
            && !matches!(answer, Ok(Ok(_)) | Err(Failure::Lost(_) | Failure::Gone(_)))
        {
            let forgotten = self.reader.block(move |store| {
                store.forget(&content);
                Ok(())
            });
            // If that fails, the next start does it.
            let _ = forgotten.await;
        }
        match answer? {
            Ok(applied) => Ok(Some(applied)),
            Err(Refused::Outdated) => Ok(None),
            Err(Refused::IdTaken) => Err(PutError::IdTaken),
            Err(_) => Err(PutError::Full),
        }
    }

    /// Keeps `memos`, each in the place of the one with its kind and name, until they are forgotten.
    ///
    /// # Errors
    /// They are not kept.
    pub async fn remember(&self, memos: Vec<Memo>) -> Result<(), Error> {
        self.apply(Change::Remember(memos)).await.map(drop)
    }

    /// Notes how deliveries ended. An event that is no longer queued stays as it is, unless it was
    /// delivered: that is then true all the same.
    ///
    /// # Errors
    /// They are not noted: record them again later, or the events are delivered twice after a restart.
    pub async fn record(&self, outcomes: Vec<Outcome>) -> Result<(), Error> {
        self.apply(Change::Record(outcomes)).await.map(drop)
    }

    /// Puts events that failed or were deferred back into the queue, to be tried at once and as if for the
    /// first time. Returns them in order; a deferred one has the number that delivery knows it by.
    ///
    /// # Errors
    /// There is no such mail, or some of the events are not put back.
    pub async fn retry(&self, selection: Selection) -> Result<Vec<Queued>, Error> {
        let stuck = self.reader.stuck(selection).await?;
        let seqs = match (stuck, selection) {
            (None, Selection::Mail(mail)) => return Err(Error::NoSuchMail(mail)),
            (stuck, _) => stuck.unwrap_or_default(),
        };
        let mut queued = Vec::new();
        for step in seqs.chunks(REQUEUE_STEP) {
            let change = Change::Requeue { seqs: step.to_owned(), now: self.clock.now() };
            queued.extend(self.apply(change).await?.queued);
        }
        Ok(queued)
    }

    /// Replaces those events of `mail` that were not delivered, and its story, by what today's rules made
    /// of it. The new events have the old ones' place in the order of acceptance, and are returned.
    ///
    /// # Errors
    /// There is no such mail, or nothing is replaced.
    pub async fn rejudge(
        &self,
        mail: MailId,
        events: Vec<Event>,
        dropped: Option<String>,
        story: serde_json::Value,
    ) -> Result<Vec<Queued>, Error> {
        let now = self.clock.now();
        let judged = Judged::new(mail, &story, events, dropped, now);
        Ok(self.apply(Change::Rejudge { mail, judged, now }).await?.queued)
    }

    /// Takes those events of `mail` that were not delivered out of the queue. They are kept as dropped
    /// for the time of retention. How many they were.
    ///
    /// # Errors
    /// There is no such mail, or nothing is dropped.
    pub async fn drop(&self, mail: MailId) -> Result<usize, Error> {
        Ok(self.apply(Change::Drop { mail, now: self.clock.now() }).await?.count)
    }

    /// Puts those events of `mail` that were not delivered into the queue of `team`, to be tried at once; what
    /// is alike there is one. The ones that other teams had are kept as dropped. Returns what is queued.
    ///
    /// # Errors
    /// There is no such mail, or nothing is changed.
    pub async fn retarget(&self, mail: MailId, team: &str) -> Result<Vec<Queued>, Error> {
        let change = Change::Retarget { mail, team: team.to_owned(), now: self.clock.now() };
        Ok(self.apply(change).await?.queued)
    }

    /// Deletes the mails that were kept for long enough, and gives the space of an emptied spool back to
    /// the disk. Works in small steps between which mail is taken. How many mails were deleted.
    ///
    /// A mail of which an event is queued is never deleted, nor is the newest mail.
    ///
    /// # Errors
    /// Not all is deleted; the next call goes on.
    pub async fn purge(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let before = |retention| {
            let retention = signed(retention);
            now.checked_sub(retention).unwrap_or(Timestamp::MIN)
        };
        let horizon = Horizon {
            settled: before(self.config.retention),
            failed: before(self.config.dead_letter_retention),
        };
        let mut purged = 0;
        let mut next = Some(0);
        while let Some(after) = next {
            let applied = self.apply(Change::Purge { after, horizon }).await?;
            purged += applied.count;
            next = applied.next;
        }
        // Only then what is done early: most of the time there is room by now.
        let mut next = Some(0);
        while next.is_some() {
            let applied = self.apply(Change::Relieve(now)).await?;
            purged += applied.count;
            next = applied.next;
        }
        self.forget(now, before).await?;
        while self.apply(Change::Shrink).await?.next.is_some() {}
        Ok(purged)
    }

    /// Forgets the incidents that are no longer needed.
    async fn forget(
        &self,
        now: Timestamp,
        before: impl Fn(std::time::Duration) -> Timestamp,
    ) -> Result<(), Error> {
        let closed = before(self.config.retention);
        let open = closed.min(now.checked_sub(OPEN_RETENTION).unwrap_or(Timestamp::MIN));
        loop {
            let old = self.reader.ask(move |store| store.old_incidents(closed, open, FORGET_STEP)).await?;
            let last = old.len() < FORGET_STEP;
            self.apply(Change::Forget { incidents: old, storms_before: open, removed_before: closed, now })
                .await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Notes what an account has posted and is about to post. `Ok` when it is on disk.
    ///
    /// # Errors
    /// It is not noted, or not for sure: nothing may be posted on its ground.
    pub async fn reserve(&self, reservation: Reservation) -> Result<(), Error> {
        self.apply(Change::Reserve(reservation)).await.map(drop)
    }

    /// The side that asks.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Waits until the spool has failed for good, and says why. The process must then end, so that
    /// opening the spool anew finds out what the disk has.
    pub async fn failed(&self) -> Arc<str> {
        let mut status = self.status.clone();
        loop {
            if let Status::Failed(reason) = &*status.borrow_and_update() {
                return Arc::clone(reason);
            }
            if status.changed().await.is_err() {
                // Closed in order: it can no longer fail.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Since when a write has not come back from the disk, if it takes longer than any disk that works.
    pub fn stalled(&self) -> Option<Timestamp> {
        let busy = (*self.busy.lock().expect("no holder of this lock can panic"))?.elapsed();
        let elapsed = SignedDuration::try_from(busy).ok().filter(|elapsed| *elapsed >= SLOW)?;
        self.clock.now().checked_sub(elapsed).ok()
    }

    /// Writes what was asked for, on every clone, and closes the spool. Later changes are refused.
    pub async fn close(&self) {
        self.reader.close();
        if self.inbox.send(Request::Close).await.is_ok() {
            let _ = self.status.clone().wait_for(|status| *status != Status::Open).await;
        }
    }

    /// Hands a change to the writer and waits until it is safe.
    async fn change(&self, change: Change) -> writer::Answer {
        let (waiter, answer) = oneshot::channel();
        if self.inbox.send(Request::Change(change, waiter)).await.is_ok()
            && let Ok(answer) = answer.await
        {
            return answer;
        }
        // Nobody knows whether it was made.
        Err(Failure::Lost(match &*self.status.borrow() {
            Status::Failed(reason) => format!("the spool has failed: {reason}"),
            Status::Open | Status::Closed => "the spool is closed".to_owned(),
        }))
    }

    /// The same with the errors of what is no put.
    async fn apply(&self, change: Change) -> Result<Applied, Error> {
        self.change(change).await?.map_err(|refused| match refused {
            Refused::NoSuchMail(mail) => Error::NoSuchMail(mail),
            Refused::NoPlace(mail) => Error::NoPlace(mail),
            Refused::Full | Refused::IdTaken | Refused::Outdated => Error::Full,
        })
    }
}

impl From<Failure> for PutError {
    fn from(failure: Failure) -> Self {
        failure.detail().map_or(Self::Full, Self::Io)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.detail().map_or(Self::Full, Self::Io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::mail::{Client, Envelope, Origin};

    /// A keeper on a disk that does not confirm.
    struct Lost;

    impl writer::Committer for Lost {
        fn apply(&mut self, _changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure> {
            Err(Failure::Lost("disk I/O error".to_owned()))
        }

        fn tidy(&mut self, _idle: bool) -> Result<(), Failure> {
            Ok(())
        }

        fn close(self: Box<Self>) {
            panic!("nothing more may be written");
        }
    }

    #[tokio::test]
    async fn after_a_flush_that_failed_every_mail_is_refused_and_the_process_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::at(folder.path());
        let (_engine, store) = sqlite::open(&config).unwrap();
        let (inbox, status, busy) = writer::start(Box::new(Lost), Arc::default()).unwrap();
        let reader = Reader::new(Arc::new(store));
        let spool = Spool {
            inbox,
            status,
            busy,
            reader,
            listener: Arc::default(),
            allowances: Arc::default(),
            clock: Arc::new(System),
            config: Arc::new(config),
        };
        let entry = Entry {
            id: MailId::new(Timestamp::UNIX_EPOCH, 1),
            envelope: Envelope {
                received_at: Timestamp::UNIX_EPOCH,
                origin: Origin::Smtp,
                client: Client::default(),
                reverse_path: String::new(),
                recipients: Vec::new(),
                ..Envelope::default()
            },
            content: None,
            story: serde_json::Value::Null,
            events: Vec::new(),
            dropped: None,
        };
        assert_eq!(spool.put(entry.clone(), vec![]).await, Err(PutError::Io("disk I/O error".to_owned())));
        assert_eq!(&*spool.failed().await, "disk I/O error");
        let refused = Err(PutError::Io("the spool has failed: disk I/O error".to_owned()));
        assert_eq!(spool.put(entry, vec![]).await, refused);
        spool.close().await;
    }
}
