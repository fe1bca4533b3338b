//! A delivery that posts to the stand-in what a spool in memory holds.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use smtp2signl4::clock::System;
use smtp2signl4::delivery::{
    self, Config, Connection, Delivery, Proxy, State, Storage, StorageError, Target,
};
use smtp2signl4::mail::MailId;
use smtp2signl4::secret::Secret;
use smtp2signl4::spool::{Outcome, Queued, Reservation, Urgent, rank};
use smtp2signl4::standin::{Options, Request, Standin};
use tokio_util::sync::CancellationToken;

pub const SECRET: &str = "s3cret-of-the-team";

/// A spool without a disk.
#[derive(Clone, Default)]
pub struct Memory(pub Arc<Shelf>);

#[derive(Default)]
pub struct Shelf {
    pub queued: Mutex<BTreeMap<u64, Queued>>,
    pub recorded: Mutex<Vec<Outcome>>,
    pub reserved: Mutex<Vec<Reservation>>,
    pub full: AtomicBool,
}

impl Memory {
    pub fn queued(&self) -> MutexGuard<'_, BTreeMap<u64, Queued>> {
        self.0.queued.lock().unwrap()
    }

    pub fn recorded(&self) -> MutexGuard<'_, Vec<Outcome>> {
        self.0.recorded.lock().unwrap()
    }

    /// Queues an event with this number and external id.
    pub fn put(&self, seq: u64, external_id: Option<&str>) -> Vec<Queued> {
        let now = Timestamp::now();
        let queued = Queued {
            seq,
            mail: MailId::new(now, seq as u16),
            team: "soc".into(),
            incident: external_id.map(|id| id.bytes().fold(7, |n: u64, byte| n * 31 + u64::from(byte))),
            external_id: external_id.map(str::to_owned),
            stranger: false,
            severity: None,
            status: smtp2signl4::event::Status::New,
            accepted_at: now,
            attempts: 0,
            next_at: now,
            reason: None,
            unanswered: 0,
            payload: format!(r#"{{"Title":"confidential title {seq}","Message":"{seq}"}}"#).into(),
            attachments: Vec::new(),
        };
        self.queued().insert(seq, queued.clone());
        vec![queued]
    }
}

impl Storage for Memory {
    async fn waiting(&self, team: &str, after: u64, limit: usize) -> Result<Vec<Queued>, StorageError> {
        let queued = self.queued();
        Ok(queued
            .range(after + 1..)
            .map(|(_, q)| q)
            .filter(|q| q.team == team)
            .take(limit)
            .cloned()
            .collect())
    }

    async fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Result<Vec<Urgent>, StorageError> {
        let queued = self.queued();
        let mut all: Vec<Urgent> = queued
            .values()
            .filter(|q| q.team == team && q.external_id.is_none())
            .map(|q| Urgent { head: q.clone(), rank: rank(q.status, q.severity, q.stranger), seq: q.seq })
            .filter(|urgent| (urgent.rank, urgent.seq) > after)
            .collect();
        all.sort_by_key(|urgent| (urgent.rank, urgent.seq));
        all.truncate(limit);
        Ok(all)
    }

    async fn reserve(&self, reservation: Reservation) -> Result<(), StorageError> {
        self.0.reserved.lock().unwrap().push(reservation);
        Ok(())
    }

    async fn reservations(&self, account: &str) -> Result<Vec<Reservation>, StorageError> {
        let reserved = self.0.reserved.lock().unwrap();
        Ok(reserved.iter().filter(|reservation| reservation.account == account).cloned().collect())
    }

    async fn record(&self, outcomes: Vec<Outcome>) -> Result<(), StorageError> {
        if self.0.full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        for outcome in &outcomes {
            match outcome {
                Outcome::Delivered { seq, .. } | Outcome::Failed { seq, .. } => _ = self.queued().remove(seq),
                Outcome::Deferred { seq, attempts, next_at, reason, .. } => {
                    if let Some(queued) = self.queued().get_mut(seq) {
                        queued.attempts = *attempts;
                        queued.next_at = *next_at;
                        queued.reason = Some(reason.clone());
                    }
                }
            }
        }
        self.recorded().extend(outcomes);
        Ok(())
    }

    async fn teams(&self) -> Result<Vec<(String, u64)>, StorageError> {
        let mut teams = BTreeMap::new();
        for queued in self.queued().values() {
            *teams.entry(queued.team.clone()).or_default() += 1;
        }
        Ok(teams.into_iter().collect())
    }
}

/// A config for a stand-in that is sent as much as it can be, and nothing but events.
pub fn config() -> Config {
    Config { plan: delivery::Plan::Unlimited, probe: false, ..Config::default() }
}

/// The target of the team `soc`.
pub fn fixed(standin: &Standin) -> Target {
    Target::fixed("soc", standin.url(), Secret::new(SECRET))
}

/// A way out that no variable of the environment changes.
pub fn direct() -> Connection {
    Connection { proxy: Proxy::Off, ..Connection::default() }
}

/// A delivery, its spool and the stand-in that it posts to.
pub struct Rig {
    pub memory: Memory,
    pub standin: Standin,
    pub delivery: Delivery,
    pub stop: CancellationToken,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let standin = Standin::start(options).await.unwrap();
        let target = Target::fixed("soc", standin.url(), Secret::new(SECRET));
        Self::over(Memory::default(), standin, target, config(), direct())
    }

    pub fn over(
        memory: Memory,
        standin: Standin,
        target: Target,
        config: Config,
        connection: Connection,
    ) -> Self {
        let stop = CancellationToken::new();
        let (clock, backlog) = (Arc::new(System), memory.clone());
        let (delivery, run) =
            Delivery::prepare(config, connection, vec![target], backlog, clock, 1, stop.clone()).unwrap();
        tokio::spawn(run);
        Self { memory, standin, delivery, stop }
    }

    pub fn send(&self, seq: u64, external_id: Option<&str>) {
        self.delivery.offer(self.memory.put(seq, external_id));
    }

    pub async fn delivered(&self, seq: u64) -> String {
        match within(self.delivery.wait(seq)).await {
            Some(Outcome::Delivered { event_id, .. }) => event_id.unwrap_or_default(),
            other => panic!("{seq} ended as {other:?}"),
        }
    }

    pub async fn failed(&self, seq: u64) -> String {
        match within(self.delivery.wait(seq)).await {
            Some(Outcome::Failed { reason, .. }) => reason,
            other => panic!("{seq} ended as {other:?}"),
        }
    }

    pub async fn state(&self) -> State {
        within(self.delivery.status()).await[0].state
    }

    /// Waits until an outcome is recorded that `wanted` says yes to.
    pub async fn recorded(&self, wanted: impl Fn(&Outcome) -> bool) {
        within(async {
            while !self.memory.recorded().iter().any(&wanted) {
                // Goes through the loop, which so gets its turn.
                self.delivery.status().await;
            }
        })
        .await;
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened for 20 s")
}

pub fn numbers(requests: &[Request]) -> Vec<u64> {
    requests.iter().map(|r| r.payload["Message"].as_str().unwrap().parse().unwrap()).collect()
}
