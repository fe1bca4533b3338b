//! The world of a history: one life of a gateway after the other, all of them real but for the listener, the disk's moods
//! and the net, with SIGNL4 and the record beside them. A gateway goes by the doors that the service itself goes by.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use smtp2signl4::clock::Clock;
use smtp2signl4::config::{self, Config, Routes};
use smtp2signl4::context::Context;
use smtp2signl4::delivery::{Delivery, EventId, Target, Webhook};
use smtp2signl4::diagnostic::Source;
use smtp2signl4::gateway::connect;
use smtp2signl4::incident;
use smtp2signl4::intake::Intake;
use smtp2signl4::rules::RuleSet;
use smtp2signl4::spool::{Spool, StormState};
use smtp2signl4::standin::Plan;
use smtp2signl4::supervisor::Supervisor;
use smtp2signl4::watch::Lookout;
use smtp2signl4::watch::storm::tell_due;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, Mood};
use super::log::Log;
use super::signl4::{Secret, Signl4, Way, Weather};
use super::time::{VirtualClock, still};
use crate::letter::TEAMS;
use crate::record::{Life, Millis, Record};

/// How long after the last trouble the last event must have left.
const PATIENCE: Millis = 12 * 3_600_000;

/// What outlives the lives of the gateway.
pub(super) struct World {
    pub(super) clock: Arc<VirtualClock>,
    pub(super) signl4: Arc<Signl4>,
    rng: Mutex<Rng>,
    mood: Arc<Mutex<Mood>>,
    record: Arc<Mutex<Record>>,
    folder: tempfile::TempDir,
}

/// What a gateway starts with.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) targets: Vec<Target>,
    pub(super) rules: Arc<RuleSet>,
    /// What an account is said to bear in its shortest window: what a storm is measured by.
    pub(super) allowance: Option<u32>,
}

/// A gateway while it runs.
pub(super) struct Gateway {
    pub(super) spool: Spool,
    pub(super) delivery: Delivery,
    pub(super) intake: Arc<Intake>,
    stop: CancellationToken,
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can always be made")
}

impl World {
    /// A world whose SIGNL4 has accounts of this plan.
    pub(super) fn new(seed: u64, plan: &Plan, secrets: HashMap<String, Secret>, record: Record) -> Self {
        let mut rng = Rng::with_seed(seed);
        let clock = Arc::new(VirtualClock::new());
        let record = Arc::new(Mutex::new(record));
        let signl4 = Signl4::new(rng.fork(), plan, secrets, Arc::clone(&clock), Arc::clone(&record));
        let mood = Arc::new(Mutex::new(Mood::new(rng.fork())));
        Self {
            clock,
            signl4: Arc::new(signl4),
            rng: Mutex::new(rng),
            mood,
            record,
            folder: tempfile::tempdir().expect("a folder can be made"),
        }
    }

    /// What is known so far.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder of this lock can panic")
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock().expect("no holder of this lock can panic"))
    }

    pub(super) fn millis(&self) -> Millis {
        self.clock.millis()
    }

    /// The folder of the spool.
    pub(super) fn spool(&self) -> std::path::PathBuf {
        self.folder.path().join("spool")
    }

    /// Reads a config as that of a service is.
    pub(super) fn config(&self, text: String) -> Config {
        let path: &Path = &self.folder.path().join("model.toml");
        config::parse(Some(path), &Source::new("model.toml", text)).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })
    }

    /// Lets the disk fail for a time.
    pub(super) fn fail_disk(&self, spell: Millis) {
        let now = self.millis();
        self.mood.lock().expect("no holder of this lock can panic").fails_until = now + spell;
        self.record().disk.push((now, now + spell + 15_000));
    }

    /// Ends all troubles.
    pub(super) fn calm(&self) {
        self.signl4.turn(Weather::Fine, 0);
        (0..TEAMS.len()).for_each(|team| self.signl4.set_valid(team, true));
        self.mood.lock().expect("no holder of this lock can panic").fails_until = 0;
    }

    /// A life of the gateway. `live` tells what it came to, and whether the gateway is killed then; else it is stopped in
    /// order.
    pub(super) fn life<T>(&self, setup: Setup, live: impl AsyncFnOnce(&Gateway) -> (T, bool)) -> T {
        let (runtime, log) = (runtime(), Log::default());
        let listening = tracing::subscriber::set_default(log.subscriber(&self.clock));
        let (came_to, killed, spool, told) = runtime.block_on(async {
            let gateway = self.start(setup);
            let (came_to, killed) = live(&gateway).await;
            let told = self.millis();
            if !killed {
                gateway.stop.cancel();
                gateway.delivery.ended().await;
                still(gateway.spool.close()).await;
            }
            // The runtime's time can be read from within it alone.
            self.clock.stop();
            (came_to, killed, gateway.spool.clone(), told)
        });
        // All tasks end here where they stand.
        drop(runtime);
        self::runtime().block_on(spool.close());
        drop((spool, listening));
        let now = self.millis();
        if let Some(life) = self.record().lives.last_mut() {
            (life.told, life.to, life.log, life.killed) = (Some(told), Some(now), log.read(), killed);
        }
        came_to
    }

    fn start(&self, setup: Setup) -> Gateway {
        let Setup { config, targets, rules, allowance } = setup;
        self.clock.run();
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let spool = Spool::open(&config.spool, Arc::clone(&clock)).expect("the spool opens");
        for team in TEAMS {
            allowance.into_iter().for_each(|events| spool.allow(team, events));
        }
        let life = {
            let (from, mut record) = (self.millis(), self.record());
            let (told, to, killed, log) = (None, None, false, Vec::new());
            let concurrency = config.delivery.concurrency;
            record.lives.push(Life { from, told, to, killed, concurrency, log });
            record.lives.len() - 1
        };
        self.signl4.begin(life);
        let stop = CancellationToken::new();
        let transport = Arc::new(Way(Arc::clone(&self.signl4)));
        let timeout = config.delivery.timeout;
        let webhook = Webhook::new(transport, EventId::default(), timeout, Arc::clone(&clock));
        let (mood, its_clock) = (Arc::clone(&self.mood), Arc::clone(&self.clock));
        let disk = Disk { spool: spool.clone(), mood, clock: its_clock };
        let seed = self.draw(|rng| rng.u64(..));
        let delivery = config.delivery.clone();
        let (delivery, run) =
            Delivery::over(delivery, webhook, targets, disk, Arc::clone(&clock), seed, stop.clone());
        tokio::spawn(run);
        let storms = Arc::new(Notify::new());
        let supervisor = Supervisor::new(CancellationToken::new());
        connect(&spool, &delivery, &storms, mpsc::unbounded_channel().0, &supervisor);
        let salt = self.draw(|rng| rng.u16(..));
        let context = Context::new(spool.clone(), clock, Routes::new(&config.teams), rules, salt);
        let context = context.delivering(delivery.clone());
        let storm = config.spool.incidents.storm.clone().unwrap_or_default();
        tokio::spawn(tell(context.clone(), storm, storms));
        let intake = Arc::new(Intake::new(context.clone(), Arc::new(Lookout::new(context))));
        Gateway { spool, delivery, intake, stop }
    }
}

impl Gateway {
    /// Waits until nothing is left to do, or much too long.
    pub(super) async fn calm_down(&self, world: &World) {
        let end = world.millis() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let counts = self.spool.reader().counts().await.expect("the spool is well");
            let storms = self.spool.reader().storms().await.expect("the spool is well");
            let quiet = counts.iter().all(|count| count.queued == 0)
                && storms.iter().all(|storm| storm.state != StormState::Raging && storm.told == storm.folded);
            if quiet || world.millis() > end {
                break;
            }
        }
    }
}

/// Puts digests as they are due, as the service does.
async fn tell(context: Context, config: incident::Storm, news: Arc<Notify>) {
    const LOOK: Duration = Duration::from_secs(30);
    let since = context.now();
    loop {
        let next = still(tell_due(&context, &config, since)).await.expect("the spool is well");
        let wait =
            next.map_or(LOOK, |at| Duration::try_from(at.duration_since(context.now())).unwrap_or_default());
        tokio::select! {
            () = tokio::time::sleep(wait.min(LOOK)) => {}
            () = news.notified() => {}
        }
    }
}
