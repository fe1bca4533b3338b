//! Posts what waits in the spool until SIGNL4 has it. The one owner of retry.
//!
//! Promised: every event that the spool has queued for a configured team is posted until it is taken, is
//! refused for what it holds, or is given up for its age; each end is recorded in the spool. Events of one
//! external id leave in the order of acceptance, also across a crash, because the end of one is durable
//! before the next is posted. A post whose answer was lost is made again: at least once, not exactly once.
//!
//! No account posts more than SIGNL4 lets it, also across a crash: [`budget`] counts, [`ledger`] notes in the
//! spool before anything leaves, [`scheduler`] decides what goes when.

mod backoff;
mod budget;
mod dispatch;
mod ledger;
mod multipart;
mod ping;
mod plan;
mod probe;
mod scheduler;
mod status;
mod storage;
mod webhook;
mod window;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use ping::Pinger;
pub use plan::Plan;
pub use probe::{Fault, Finding, probe, probe_way};
pub use status::{Starved, State, Status};
pub use storage::{Storage, StorageError};
pub use webhook::{
    Carried, Connection, EventId, Lost, Net, Proxy, Reached, Reply, Request, SetupError, Transport, Webhook,
    refuse_url, verify,
};

use crate::clock::Clock;
use crate::document::Table;
use crate::secret::Secret;
use crate::spool::{Outcome, Queued, Withdrawn};
use dispatch::{Dispatch, Setup};
use webhook::Endpoint;

/// Messages on their way to the loop. What does not fit is read from the spool.
const CHANNEL: usize = 4_096;

/// Least age at which an event may be given up: a weekend.
const LEAST_GIVE_UP: Duration = Duration::from_secs(3 * 86_400);

/// The account of teams that name none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// `[delivery]`, and what `[signl4]` says about posting.
#[derive(Debug, Clone)]
pub struct Config {
    /// What each account may post.
    pub plan: Plan,
    /// Whether a team's secret may be tried by a non-paging question.
    pub probe: bool,
    /// Posts at the same time for one team.
    pub concurrency: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// The age at which an event that fails is given up and kept as failed.
    pub give_up_after: Duration,
    /// How long a team's secret must be refused before its events go to its fallback.
    pub fallback_after: Duration,
    /// How long posts under way may take to end when the service stops.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            plan: Plan::Auto,
            probe: true,
            concurrency: 16,
            timeout: Duration::from_secs(30),
            give_up_after: Duration::from_secs(5 * 86_400),
            fallback_after: Duration::from_secs(600),
            drain: Duration::from_secs(8),
        }
    }
}

impl Config {
    /// Reads `[delivery]`: `concurrency`, `timeout`, `give-up-after`, `fallback-after`,
    /// `drain`.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut config = Self::default();
        if let Some(concurrency) = table.integer("concurrency", 1..=256) {
            config.concurrency = usize::try_from(concurrency).expect("1 to 256 is a usize");
        }
        let second = Duration::from_secs(1);
        let bounded = |table: &mut Table<'_>, key, least: Duration, most: Duration, help: &str| {
            let span = table.value(key)?.span();
            let value = table.duration(key)?;
            if (least..=most).contains(&value) {
                return Some(value);
            }
            table.error(span, format!("`{key}` is out of range"), help);
            None
        };
        if let Some(timeout) = bounded(table, "timeout", second, 300 * second, "from 1s to 5m") {
            config.timeout = timeout;
        }
        let help = "at least 3d, so that an outage over a weekend loses nothing";
        if let Some(age) = bounded(table, "give-up-after", LEAST_GIVE_UP, Duration::MAX, help) {
            config.give_up_after = age;
        }
        if let Some(after) = bounded(table, "fallback-after", second, 86_400 * second, "from 1s to 1d") {
            config.fallback_after = after;
        }
        if let Some(drain) = bounded(table, "drain", Duration::ZERO, 60 * second, "from 0s to 60s") {
            config.drain = drain;
        }
        config
    }
}

/// Tells a team's secret. It is asked at the start and before each try of a team that is held, so that a
/// secret that was put right is found without a restart. The error is for the log and must not hold the
/// secret.
pub type SecretSource = Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>;

/// Where a team's events go.
#[derive(Clone)]
pub struct Target {
    /// The team's name.
    pub team: String,
    /// The webhook's URL without the secret; it may hold a query.
    pub url: String,
    /// The team's or the integration's secret.
    pub secret: SecretSource,
    /// The SIGNL4 account that it belongs to: what is posted counts for all of its teams together.
    pub account: String,
    /// The team that gets its events while its secret is refused for long.
    pub fallback: Option<String>,
}

impl Target {
    /// A target whose secret never changes.
    pub fn fixed(team: impl Into<String>, url: impl Into<String>, secret: Secret) -> Self {
        Self {
            team: team.into(),
            url: url.into(),
            secret: Arc::new(move || Ok(secret.clone())),
            account: DEFAULT_ACCOUNT.to_owned(),
            fallback: None,
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("team", &self.team).finish_non_exhaustive()
    }
}

/// A handle on the running delivery. Cheap to clone; delivery goes on without it.
#[derive(Clone)]
pub struct Delivery {
    messages: mpsc::Sender<Message>,
    /// One less than the first event whose offer found the channel full; else the greatest number.
    missed: Arc<AtomicU64>,
    /// The event that the loop is just busy with; else 0.
    in_hand: Arc<AtomicU64>,
}

/// What a handle tells the loop.
enum Message {
    Offer(Vec<Queued>),
    Withdraw(Vec<Withdrawn>),
    Wake,
    Wait(u64, oneshot::Sender<Outcome>),
    Status(oneshot::Sender<Vec<Status>>),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Config, Vec<String>> {
        document::read(&Source::new("t", text), |root| {
            let mut table = root.table("delivery").expect("every case has it");
            let config = Config::read(&mut table);
            table.finish();
            config
        })
        .map_err(|found| {
            found.into_iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    #[test]
    fn the_config_is_read_and_its_bounds_are_held() {
        let config =
            read("[delivery]\nconcurrency = 4\ntimeout = '10s'\ngive-up-after = '7d'\ndrain = '1s'").unwrap();
        assert_eq!((config.concurrency, config.timeout), (4, Duration::from_secs(10)));
        assert_eq!(
            (config.give_up_after, config.drain),
            (Duration::from_secs(7 * 86_400), Duration::from_secs(1))
        );
        assert_eq!(
            read("[delivery]\nconcurrency = 0\ntimeout = '0s'\ngive-up-after = '71h'\nretries = 3")
                .unwrap_err(),
            [
                "2:15: `delivery.concurrency` is out of range",
                "3:11: `timeout` is out of range",
                "4:17: `give-up-after` is out of range",
                "5:1: unknown field `retries` in `delivery`",
            ]
        );
    }

    #[test]
    fn a_target_does_not_print_its_secret() {
        let target = Target::fixed("soc", "https://user:hidden@h/webhook/", Secret::new("hidden"));
        assert_eq!(format!("{target:?}"), "Target { team: \"soc\", .. }");
    }
}
