//! The world of a history: one life of the gateway after the other, all of them real but for the listener, the
//! disk's moods and the net, with SIGNL4 and the record beside them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, watch};

use smtp2signl4::clock::Clock;
use smtp2signl4::config::{self, Config, Environment, Routes};
use smtp2signl4::context::Context;
use smtp2signl4::delivery::{Delivery, EventId, Target, Webhook};
use smtp2signl4::diagnostic::Source;
use smtp2signl4::gateway::{connect, targets};
use smtp2signl4::incident;
use smtp2signl4::intake::Intake;
use smtp2signl4::rules::RuleSet;
use smtp2signl4::spool::{Filter, IncidentFilter, KnownIncident, Listed, Reader, Spool, State, StormState};
use smtp2signl4::standin::Plan;
use smtp2signl4::supervisor::Supervisor;
use smtp2signl4::watch::Lookout;
use smtp2signl4::watch::storm::tell_due;
use smtp2signl4::words::Words;

use super::disk::{Disk, Mood};
use super::history::{Account, Aims, Deed, History, Site, Step};
use super::log::Log;
use super::signl4::{Secret, Signl4, Way, Weather};
use super::site::{self, ACCOUNTS, mail, rules, secret_of, windows};
use super::time::{VirtualClock, still};
use crate::letter::{Letter, TEAMS, read_key, read_title, repeat};
use crate::record::{Aim, Bounds, Event, Life, Line, Look, Millis, Policy, Record, Rules, Storm};

/// How long after the last trouble the last event must have left.
const PATIENCE: Millis = 12 * 3_600_000;

/// How long an event may be on its way from its commit to where it can be posted, on a disk that takes its time.
const SLACK: Millis = 1_500;

/// The quiet time of the rules at the start of each life.
const QUIET: Millis = 300_000;

/// More than there ever are.
const ALL: usize = 1_000_000;

/// What outlives the lives of the gateway.
pub(super) struct World {
    rng: Mutex<Rng>,
    clock: Arc<VirtualClock>,
    signl4: Arc<Signl4>,
    mood: Arc<Mutex<Mood>>,
    record: Arc<Mutex<Record>>,
    folder: tempfile::TempDir,
    account: Account,
    serials: Mutex<u32>,
}

/// Why a life ended.
enum End {
    /// It was killed, and starts again so much later.
    Killed(Millis, Site),
    /// It was stopped in order.
    Stopped(Millis, Site),
    /// The history is over.
    Over,
}

/// The gateway while it runs.
struct Running {
    world: Arc<World>,
    site: Site,
    spool: Spool,
    delivery: Delivery,
    intake: Arc<Intake>,
    stop: watch::Sender<bool>,
}

/// Runs a history to its end, and tells what is known of it.
pub(super) fn run(history: &History) -> Record {
    let world = Arc::new(World::new(history));
    let mut steps = history.steps.iter();
    let mut site = history.site.clone();
    loop {
        let (runtime, log) = (runtime(), Log::default());
        let listening = tracing::subscriber::set_default(log.subscriber(&world.clock));
        let (end, spool, told) = runtime.block_on(async {
            let mut running = Running::start(Arc::clone(&world), site.clone()).await;
            let end = running.live(&mut steps).await;
            let told = world.millis();
            if !matches!(end, End::Killed(..)) {
                running.stop.send_replace(true);
                running.delivery.ended().await;
                still(running.spool.close()).await;
            }
            // The runtime's time can be read from within it alone.
            world.clock.stop();
            (end, running.spool.clone(), told)
        });
        // All tasks end here where they stand.
        drop(runtime);
        self::runtime().block_on(spool.close());
        drop((spool, listening));
        let now = world.clock.millis();
        if let Some(life) = world.record().lives.last_mut() {
            (life.told, life.to, life.log) = (Some(told), Some(now), log.read());
            life.killed = matches!(end, End::Killed(..));
        }
        match end {
            End::Killed(down, next) | End::Stopped(down, next) => {
                world.clock.skip(down);
                site = next;
            }
            End::Over => break,
        }
    }
    let mut record = std::mem::take(&mut *world.record());
    record.settle();
    record
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can always be made")
}

impl World {
    fn new(history: &History) -> Self {
        let mut rng = Rng::with_seed(history.seed);
        let clock = Arc::new(VirtualClock::new());
        let (windows, bounds) = (windows(history.account), Bounds { slack: SLACK, leeway: 0 });
        let record = Arc::new(Mutex::new(Record { windows, bounds, ..Record::default() }));
        let mut secrets = HashMap::new();
        for (team, accounts) in ACCOUNTS.iter().enumerate() {
            for (which, &account) in accounts.iter().enumerate() {
                secrets.insert(secret_of(team, which), Secret { team, account, valid: true });
            }
        }
        let plan = if history.account.commercial { Plan::Commercial } else { Plan::Free };
        let signl4 = Signl4::new(rng.fork(), &plan, secrets, Arc::clone(&clock), Arc::clone(&record));
        let mood = Arc::new(Mutex::new(Mood::new(rng.fork())));
        Self {
            rng: Mutex::new(rng),
            clock,
            signl4: Arc::new(signl4),
            mood,
            record,
            folder: tempfile::tempdir().expect("a folder can be made"),
            account: history.account,
            serials: Mutex::new(0),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder of this lock can panic")
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock().expect("no holder of this lock can panic"))
    }

    fn millis(&self) -> Millis {
        self.clock.millis()
    }

    /// The config of `site`, read as that of a service is.
    fn config(&self, site: &Site) -> Config {
        let source = Source::new("model.toml", site::config(site, self.account));
        config::parse(Some(&self.folder.path().join("model.toml")), &source).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })
    }

    fn targets(&self, config: &Config, aims: Aims) -> Vec<Target> {
        let secrets = TEAMS.iter().enumerate().map(|(team, name)| {
            let variable = format!("SIGNL4_TEAM_SECRET_{}", name.to_uppercase());
            (variable, secret_of(team, aims.0[team].unwrap_or(0)))
        });
        let all = targets(config, &Environment::of(secrets)).into_iter().zip(aims.0);
        let accounts = (0..TEAMS.len()).map(|team| Some(ACCOUNTS[team][aims.0[team]?])).collect();
        self.record().aims.push(Aim { at: self.millis(), accounts });
        all.filter_map(|(target, aim)| aim.map(|_| target)).collect()
    }

    /// Rules that nobody had before, in force from now on.
    fn rules(&self, config: &Config, quiet: Millis) -> Arc<RuleSet> {
        let (now, mut record) = (self.millis(), self.record());
        let generation = record.rules.len() as u32;
        record.rules.push(Rules { generation, quiet, written: now, loaded: now });
        rules(config, generation, quiet)
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// The events of `letter`, as their sender begins to hand it in.
    fn write(&self, letter: &Letter, site: &Site) -> u32 {
        let serial = {
            let mut serials = self.serials.lock().expect("no holder of this lock can panic");
            *serials += 1;
            *serials
        };
        let (repeat, ruled) = repeat(letter.incident);
        let least = if self.account.commercial && self.account.told { 300 } else { 20 };
        let most = if self.account.commercial { 300 } else { 20 };
        let policy = Policy {
            repeat,
            quiet: (!ruled).then_some(site.quiet),
            acknowledged_quiet: site.acknowledged_quiet,
            hold: site.hold,
            storm: site.storm.map(|(_, calm)| Storm { least, most, calm }),
        };
        let begun = self.millis();
        for &team in &letter.teams {
            self.record().events.push(Event {
                serial,
                team,
                incident: letter.incident,
                status: letter.status,
                severity: letter.severity,
                source: letter.source,
                begun,
                refused: false,
                kept: None,
                policy,
            });
        }
        serial
    }

    fn keep(&self, serial: u32, at: Millis) {
        let mut record = self.record();
        // It is one of the last.
        let last = record.events.iter_mut().rev().take_while(|event| event.serial + 100 > serial);
        last.filter(|event| event.serial == serial).for_each(|event| event.kept = Some(at));
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

impl Running {
    async fn start(world: Arc<World>, site: Site) -> Self {
        let config = world.config(&site);
        world.clock.run();
        let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as _;
        let spool = Spool::open(&config.spool, Arc::clone(&clock)).expect("the spool opens");
        if let Some(burst) = config.delivery.plan.burst() {
            for team in TEAMS {
                spool.allow(team, u32::try_from(burst).expect("no plan has more"));
            }
        }
        let life = {
            let from = world.millis();
            let mut record = world.record();
            let (told, to, killed, log) = (None, None, false, Vec::new());
            record.lives.push(Life { from, told, to, killed, concurrency: site.concurrency, log });
            record.lives.len() - 1
        };
        world.signl4.begin(life);
        let (stop, stopped) = watch::channel(false);
        let transport = Arc::new(Way(Arc::clone(&world.signl4)));
        let timeout = config.delivery.timeout;
        let webhook = Webhook::new(transport, EventId::default(), timeout, Arc::clone(&clock));
        let (mood, its_clock) = (Arc::clone(&world.mood), Arc::clone(&world.clock));
        let disk = Disk { spool: spool.clone(), mood, clock: its_clock };
        let aims = world.targets(&config, site.aims);
        let seed = world.draw(|rng| rng.u64(..));
        let delivery_config = config.delivery.clone();
        let (delivery, run) =
            Delivery::over(delivery_config, webhook, aims, disk, Arc::clone(&clock), seed, stopped);
        tokio::spawn(run);
        let storms = Arc::new(Notify::new());
        let supervisor = Supervisor::new(watch::channel(false).1);
        connect(&spool, &delivery, &storms, mpsc::unbounded_channel().0, &supervisor);
        let storm = config.spool.incidents.storm.clone().unwrap_or_default();
        let (teams, rules) = (Routes::new(&config.teams), world.rules(&config, QUIET));
        let salt = world.draw(|rng| rng.u16(..));
        let context = Context::new(spool.clone(), clock, teams, rules, salt).delivering(delivery.clone());
        tokio::spawn(tell(context.clone(), storm, storms));
        let intake = Intake::new(context.clone(), Arc::new(Lookout::new(context)));
        Self { world, site, spool, delivery, intake: Arc::new(intake), stop }
    }

    async fn live(&mut self, steps: &mut std::slice::Iter<'_, Step>) -> End {
        for step in steps {
            tokio::time::sleep(millis(step.after)).await;
            if let Some(end) = self.act(&step.deed).await {
                return end;
            }
        }
        let all = Aims([Some(0); 3]);
        if self.site.aims != all {
            return self.aim(all);
        }
        self.calm_down().await;
        End::Over
    }

    async fn act(&mut self, deed: &Deed) -> Option<End> {
        let (world, now) = (Arc::clone(&self.world), self.world.millis());
        match deed {
            Deed::Mail(letter) => self.putting(letter).await,
            Deed::Crowd(letters) => {
                let mut puts = tokio::task::JoinSet::new();
                for letter in letters {
                    puts.spawn(self.putting(letter));
                }
                puts.join_all().await;
            }
            Deed::Weather(weather, spell) => world.signl4.turn(*weather, now + spell),
            Deed::Secret { team, valid } => world.signl4.set_valid(*team, *valid),
            Deed::Disk(spell) => {
                world.mood.lock().expect("no holder of this lock can panic").fails_until = now + spell;
                world.record().disk.push((now, now + spell + 15_000));
            }
            Deed::Rules { quiet } => {
                let rules = world.rules(&world.config(&self.site), *quiet);
                self.intake.context().rules.replace(rules);
            }
            Deed::Aim(aims) => return Some(self.aim(*aims)),
            Deed::Wake => self.delivery.wake().await,
            Deed::Look => self.look().await,
            Deed::Restart { down, site } => return Some(End::Stopped(*down, site.clone())),
            Deed::Kill { within, down, site } => {
                if let Some((letter, after)) = within {
                    tokio::spawn(self.putting(letter));
                    tokio::time::sleep(Duration::from_millis(*after)).await;
                }
                return Some(End::Killed(*down, site.clone()));
            }
        }
        None
    }

    /// Hands in a mail, which takes a moment before it is kept and one until its sender knows.
    fn putting(&self, letter: &Letter) -> impl Future<Output = ()> + Send + use<> {
        let serial = self.world.write(letter, &self.site);
        let (world, intake) = (Arc::clone(&self.world), Arc::clone(&self.intake));
        let (before, behind) = world.draw(|rng| (rng.u64(0..4), rng.u64(0..4)));
        let letter = letter.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(before)).await;
            let mail = mail(&letter, serial, &world.clock);
            let kept = still(intake.take(mail)).await;
            kept.map(drop).expect("there is room in the spool");
            tokio::time::sleep(Duration::from_millis(behind)).await;
            world.keep(serial, world.millis());
        }
    }

    /// The service is started again with other targets.
    fn aim(&self, aims: Aims) -> End {
        End::Stopped(0, Site { aims, ..self.site.clone() })
    }

    /// Makes the listings that `queue list` makes, all of the same moment.
    async fn look(&self) {
        let reader = Reader::open(&self.world.spool()).expect("the spool can be read beside its service");
        let filter = |states: &[State]| Filter { states: states.to_vec(), limit: ALL, ..Filter::default() };
        let expect = "the spool is well";
        let (all, open, digests, queued) = loop {
            let all = reader.list(filter(&[])).await.expect(expect);
            let open = reader.list(filter(&[State::Queued, State::Failed])).await.expect(expect);
            let counts = reader.counts().await.expect(expect);
            let mut digests = BTreeMap::new();
            for digest in all.iter().filter_map(|line| line.digest).collect::<BTreeSet<_>>() {
                let told = Filter { digest: Some(digest), ..filter(&[]) };
                digests.insert(digest, self.lines(&reader.list(told).await.expect(expect)));
            }
            // Something may be recorded between one question and the next.
            if reader.list(filter(&[])).await.expect(expect) == all {
                break (all, open, digests, counts.iter().map(|count| count.queued).sum());
            }
        };
        let (from, until) = (self.world.millis(), self.world.millis());
        let (all, open, queued) = (Some(self.lines(&all)), Some(self.lines(&open)), Some(queued));
        self.world.record().looks.push(Look { from, until, all, open, digests, queued });
    }

    fn lines(&self, listed: &[Listed]) -> Vec<Line> {
        let millis = |at: Timestamp| self.world.clock.millis_of(at);
        let line = |listed: &Listed| Line {
            serial: read_title(&listed.title).map(|(serial, _)| serial),
            team: TEAMS.iter().position(|team| listed.team.as_deref() == Some(team)).unwrap_or(TEAMS.len()),
            seq: listed.seq,
            state: listed.state.word().to_owned(),
            digest: listed.digest,
            received: millis(listed.received_at),
            settled: listed.settled_at.map(millis),
        };
        listed.iter().map(line).collect()
    }

    /// All troubles end, and then all that waits must leave.
    async fn calm_down(&mut self) {
        self.world.signl4.turn(Weather::Fine, 0);
        (0..TEAMS.len()).for_each(|team| self.world.signl4.set_valid(team, true));
        self.world.mood.lock().expect("no holder of this lock can panic").fails_until = 0;
        let end = self.world.millis() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let counts = self.spool.reader().counts().await.expect("the spool is well");
            let storms = self.spool.reader().storms().await.expect("the spool is well");
            let quiet = counts.iter().all(|count| count.queued == 0)
                && storms.iter().all(|storm| storm.state != StormState::Raging && storm.told == storm.folded);
            if quiet || self.world.millis() > end {
                break;
            }
        }
        self.look().await;
        let filter = IncidentFilter { open: false, team: None, limit: ALL };
        let known = self.spool.reader().incidents(filter).await.expect("the spool is well");
        let incident = |known: &KnownIncident| {
            let team = TEAMS.iter().position(|team| *team == known.incident.team)?;
            Some(((team, read_key(&known.key)?), known.incident.state == incident::State::Resolved))
        };
        self.world.record().incidents = known.iter().filter_map(incident).collect();
    }
}

fn millis(millis: Millis) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}
