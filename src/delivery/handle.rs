//! The handle by which other rooms speak with the loop of delivery.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::dispatch::{Dispatch, Message, Setup};
use super::status::Status;
use super::storage::Storage;
use super::target::Target;
use super::webhook::{Connection, Endpoint, Net, SetupError, Webhook};
use crate::clock::Clock;
use crate::spool::{Outcome, Queued, Withdrawn};

/// Messages on their way to the loop. What does not fit is read from the spool.
const CHANNEL: usize = 4_096;

/// A handle on the running delivery. Cheap to clone; delivery goes on without it.
#[derive(Clone)]
pub struct Delivery {
    messages: mpsc::Sender<Message>,
    /// One less than the first event whose offer found the channel full; else the greatest number.
    missed: Arc<AtomicU64>,
    /// The event that the loop is just busy with; else 0.
    in_hand: Arc<AtomicU64>,
}

impl Delivery {
    /// Delivery of what `storage` holds and will hold for `targets`: a handle, and the future that does it and whose end
    /// is the end of delivery. Once `stop` is cancelled, posts under way may end for [`Config::drain`], and what came of
    /// them is recorded.
    ///
    /// # Errors
    /// If no client can be made for `connection`.
    pub fn prepare<S: Storage>(
        config: Config,
        connection: Connection,
        targets: Vec<Target>,
        storage: S,
        clock: Arc<dyn Clock>,
        seed: u64,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), SetupError> {
        let tls = targets.iter().any(|target| Endpoint::is_tls(&target.url));
        let net = Net::new(&connection, config.timeout, tls)?;
        let webhook = Webhook::new(Arc::new(net), connection.event_id, config.timeout, Arc::clone(&clock));
        Ok(Self::over(config, webhook, targets, storage, clock, seed, stop))
    }

    /// The same over a webhook that is reached in some other way than by the net.
    pub fn over<S: Storage>(
        config: Config,
        webhook: Webhook,
        targets: Vec<Target>,
        storage: S,
        clock: Arc<dyn Clock>,
        seed: u64,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (messages, inbox) = mpsc::channel(CHANNEL);
        let missed = Arc::new(AtomicU64::new(u64::MAX));
        let in_hand = Arc::new(AtomicU64::new(0));
        let (theirs, its) = (Arc::clone(&missed), Arc::clone(&in_hand));
        let setup = Setup { config, clock, seed, missed: theirs, in_hand: its };
        let dispatch = Dispatch::new(setup, webhook, targets, storage);
        (Self { messages, missed, in_hand }, dispatch.run(inbox, stop))
    }

    /// Hands over events that the spool has just committed, to be posted at once. Call it in the order of
    /// commits: then no event can be posted before an older one of its lane is known.
    pub fn offer(&self, queued: Vec<Queued>) {
        let Some(first) = queued.iter().map(|queued| queued.seq).min() else { return };
        if self.messages.try_send(Message::Offer(queued)).is_err() {
            // They are in the spool and are read from there.
            self.missed.fetch_min(first.saturating_sub(1), Ordering::SeqCst);
        }
    }

    /// Tells of events that the spool has taken out of the queue, so that they are not posted. One that is under
    /// way stays so, and what comes of it is recorded. Call it in the order of commits, as
    /// [`Delivery::offer`].
    pub fn withdraw(&self, withdrawn: Vec<Withdrawn>) {
        let Some(first) = withdrawn.iter().map(|withdrawn| withdrawn.seq).min() else { return };
        if self.messages.try_send(Message::Withdraw(withdrawn)).is_err() {
            // Reading the spool shows that they are gone.
            self.missed.fetch_min(first.saturating_sub(1), Ordering::SeqCst);
        }
    }

    /// Looks at the queues anew and tries at once: an operator has retried or dropped something.
    pub async fn wake(&self) {
        _ = self.messages.send(Message::Wake).await;
    }

    /// Waits for the end of an event and tells it: delivered or failed, and recorded. None if delivery
    /// stops before. The end must be to come, or among the last thousand.
    pub async fn wait(&self, seq: u64) -> Option<Outcome> {
        let (tell, told) = oneshot::channel();
        self.messages.send(Message::Wait(seq, tell)).await.ok()?;
        told.await.ok()
    }

    /// How it stands with each team, in the order of their names; teams that have events in the spool and
    /// are not in the config are among them. Empty if delivery has stopped.
    pub async fn status(&self) -> Vec<Status> {
        let (tell, told) = oneshot::channel();
        if self.messages.send(Message::Status(tell)).await.is_err() {
            return Vec::new();
        }
        told.await.unwrap_or_default()
    }

    /// The event that delivery is just busy with, or was when it ended by a panic.
    pub fn in_hand(&self) -> Option<u64> {
        Some(self.in_hand.load(Ordering::SeqCst)).filter(|seq| *seq > 0)
    }

    /// Waits until delivery has ended, drained and recorded.
    pub async fn ended(&self) {
        self.messages.closed().await;
    }
}
