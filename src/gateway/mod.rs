//! The gateway: starts the parts and stops them. It opens the spool, starts delivery, listens, and ends in the
//! opposite order, so that what was accepted is kept and what was posted is noted.

mod last_good;
mod poison;
mod rulebook;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info, warn};

use crate::authenticity::{Checker, Resolver};
use crate::clock::Clock;
use crate::config::{self, Config, Environment, Notices, Routes};
use crate::context::Context;
use crate::delivery::{Delivery, Pinger, Plan, SetupError, Target};
use crate::diagnostic::{Diagnostic, Source};
use crate::intake::{Edge, Intake};
use crate::operator::{Reply, server};
use crate::smtp::strangers::Strangers;
use crate::smtp::{Credentials, Inherited, Listener};
use crate::spool::{self, OpenError, Spool};
use crate::supervisor::{Ended, Supervisor};
use crate::unix;
use crate::watch::health::heartbeat::{self, HealthCheck};
use crate::watch::health::{LocalEndpoint, Vitals, disk, watchdog};
use crate::watch::{Lookout, lookout, notices, storm};

pub use last_good::config as last_good_config;
use rulebook::load_rules_and_sources;
pub use rulebook::{check_rules, example_mail, load_rules, load_unproven, read_sources};

/// How often mails that were kept long enough are looked for.
const PURGE_INTERVAL: Duration = Duration::from_secs(300);

/// How long what is under way may take when a task of the service has ended.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// Why a service that ran cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The spool has failed for good.
    Spool(Arc<str>),
    /// One of its tasks has ended.
    Task(Ended),
}

/// Why the gateway did not start, or had to stop.
#[derive(Debug)]
pub enum Failure {
    /// Something that an operator wrote is wrong.
    Config(Vec<Diagnostic>),
    /// The spool cannot be opened.
    Spool(OpenError),
    /// The way to SIGNL4 cannot be set up.
    Connection(SetupError),
    /// An address cannot be listened on.
    Listen(io::Error),
    /// A socket cannot be opened.
    Socket(String, io::Error),
    /// What the spool remembers cannot be read.
    Memory(spool::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(problems) => {
                for (at, problem) in problems.iter().enumerate() {
                    write!(f, "{}{problem}", if at == 0 { "" } else { "\n\n" })?;
                }
                Ok(())
            }
            Self::Spool(error) => write!(f, "{error}"),
            Self::Connection(error) => write!(f, "[signl4]: {error}"),
            Self::Listen(error) => write!(f, "{error}"),
            Self::Socket(what, error) => write!(f, "{what}: {error}"),
            Self::Memory(error) => write!(f, "what the spool remembers of mutes and expected mail: {error}"),
        }
    }
}

/// A gateway that listens. Tests and the demo hold one in their process.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    intake: Arc<Intake>,
    edge: Arc<Edge>,
    notices: watch::Sender<Notices>,
    credentials: Arc<Credentials>,
    /// Stops the tasks when it is dropped.
    stop: DropGuard,
    supervisor: Supervisor,
    smtp: tokio::task::JoinHandle<()>,
    control: tokio::task::JoinHandle<()>,
    delivery: Delivery,
    spool: Spool,
    asked_to_reload: Mutex<mpsc::Receiver<oneshot::Sender<Reply>>>,
}

impl Gateway {
    /// Starts the whole pipeline and returns once it listens.
    ///
    /// # Errors
    /// The config, the spool or a socket does not allow it.
    pub async fn start(
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        Self::start_with(config, environment, clock, Inherited::default(), Vec::new()).await
    }

    /// The same with the sockets that systemd handed over. If the config is the last good one, as that on disk is
    /// broken, `broken` says what is wrong with the latter.
    ///
    /// # Errors
    /// The config, the spool or a socket does not allow it.
    pub async fn start_with(
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        inherited: Inherited,
        mut broken: Vec<Diagnostic>,
    ) -> Result<Self, Failure> {
        let mut problems = config.secret_problems(environment);
        problems.extend(config.connection_problem());
        let loaded = load_rules_and_sources(config);
        let credentials = match Credentials::load(&config.smtp) {
            Ok(credentials) => Some(credentials),
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        let (Some(credentials), true) = (credentials, problems.is_empty()) else {
            problems.extend(loaded.err().unwrap_or_default());
            return Err(Failure::Config(problems));
        };
        let spool = Spool::open(&config.spool, Arc::clone(&clock)).map_err(Failure::Spool)?;
        let (rules, sources) = match loaded {
            Ok((rules, sources)) => (rules, sources),
            Err(found) => match last_good::rules(&spool, config).await {
                Some(rules) => {
                    broken.extend(found);
                    (rules, Vec::new())
                }
                None => {
                    spool.close().await;
                    return Err(Failure::Config(found));
                }
            },
        };
        if broken.is_empty() {
            last_good::keep(&spool, config, &sources).await;
        }
        // Without a plan in the config, the last known one holds, and SIGNL4's headers update it.
        if config.delivery.plan != Plan::Auto
            && let Some(burst) = config.delivery.plan.burst()
        {
            let burst = u32::try_from(burst).unwrap_or(u32::MAX);
            config.teams.iter().for_each(|team| spool.allow(&team.name, burst));
        }
        let listener = Listener::open(&config.smtp, credentials, inherited).map_err(Failure::Listen)?;
        let access = server::Access::new(&config.control);
        let config::Control { socket, mode, group } = &config.control;
        let control = unix::bind(socket, *mode, *group)
            .map_err(|error| Failure::Socket(format!("control socket {}", socket.display()), error))?;

        let stop = CancellationToken::new();
        let supervisor = Supervisor::new(stop.clone());
        let targets = targets(config, environment);
        let (delivery, deliver) = Delivery::prepare(
            config.delivery.clone(),
            config.connection.clone(),
            targets,
            spool.clone(),
            Arc::clone(&clock),
            fastrand::u64(..),
            stop.clone(),
        )
        .map_err(Failure::Connection)?;
        supervisor.spawn_draining("delivery", deliver);
        let storms = Arc::new(Notify::new());
        let (tell_failed, failed) = mpsc::unbounded_channel();
        connect(&spool, &delivery, &storms, tell_failed, &supervisor);
        let (teams, salt) = (Routes::new(&config.teams), fastrand::u16(..));
        let context = Context::new(spool.clone(), Arc::clone(&clock), teams, Arc::new(rules), salt);
        let context = context.delivering(delivery.clone());
        tell_broken(&context, &broken);
        // Those that were on go on where storms are no longer folded, until they are told to the end.
        let storm = config.spool.incidents.storm.clone().unwrap_or_default();
        supervisor.spawn("storms", storm::tell(context.clone(), storm, storms));
        supervisor.spawn("purge", purge(spool.clone()));
        supervisor.spawn("disk", disk::run(spool.clone()));
        let lookout = Arc::new(Lookout::load(config, context.clone()).await.map_err(Failure::Memory)?);
        supervisor.spawn("lookout", lookout::run(Arc::clone(&lookout)));
        let intake = Arc::new(Intake::new(context.clone(), lookout).under(supervisor.clone()));
        let (notices, told) = watch::channel(config.notices.clone());
        let hostname = &config.smtp.hostname;
        let monitor =
            notices::OutageMonitor::new(told, hostname, environment.clone(), context.clone(), failed);
        supervisor.spawn("notices", monitor.run());
        let addresses = listener.addresses();
        let vitals = Vitals::new(LocalEndpoint::of(listener.sockets()), context);
        if let Some(heartbeat) = &config.heartbeat {
            let url = heartbeat
                .url(environment)
                .map_err(|problem| Failure::Config(vec![Diagnostic::about_file("[heartbeat]", problem)]))?;
            let pinger = Pinger::new(&config.connection, &url).map_err(Failure::Connection)?;
            let check = HealthCheck::new(vitals.clone(), pinger, heartbeat.interval);
            supervisor.spawn("heartbeat", heartbeat::run(check, heartbeat.interval));
        }
        if let Some(interval) = watchdog::interval(environment) {
            supervisor.spawn("watchdog", watchdog::run(vitals, environment.clone(), interval));
        }
        for (listener, address) in listener.sockets() {
            info!(address, protocol = %listener.protocol, tls = %listener.tls, "listening");
        }
        let credentials = Arc::clone(listener.credentials());
        let strangers = Strangers::new(config.smtp.rates.clone());
        let edge = Arc::new(Edge::new(Arc::clone(&intake), checker(config)).bounding(strangers));
        let smtp =
            supervisor.spawn_draining("listener", listener.run(Arc::clone(&edge), clock, stop.clone()));
        let (reloads, asked_to_reload) = mpsc::channel(1);
        let serve =
            server::serve(control, access, Arc::clone(&intake), reloads, config.smtp.max_message_size);
        let control = supervisor.spawn("control socket", serve);
        Ok(Self {
            addresses,
            intake,
            edge,
            notices,
            credentials,
            stop: stop.drop_guard(),
            supervisor,
            smtp,
            control,
            delivery,
            spool,
            asked_to_reload: Mutex::new(asked_to_reload),
        })
    }

    /// The addresses of a network that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The intake, for those who hold a gateway in their process.
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// Puts the rules, the maintenance windows, the notices and the checks of senders of the config that was `loaded` in
    /// force. Certificates and users are looked at as well; what is wrong with them is logged.
    ///
    /// # Errors
    /// What is wrong with the config or the rules; then everything stays as it was.
    pub async fn reload(&self, loaded: Result<Config, Vec<Diagnostic>>) -> Result<Config, Vec<Diagnostic>> {
        let context = self.intake.context();
        let adopted = loaded.and_then(|config| self.adopt(&config).map(|sources| (config, sources)));
        match adopted {
            Ok((config, sources)) => {
                context.found_on_disk(&[]);
                last_good::keep(&self.spool, &config, &sources).await;
                Ok(config)
            }
            Err(problems) => {
                tell_broken(context, &problems);
                Err(problems)
            }
        }
    }

    /// Puts `config` in force; the site's rule files that are in force then.
    fn adopt(&self, config: &Config) -> Result<Vec<Source>, Vec<Diagnostic>> {
        self.credentials.look();
        let (rules, sources) = load_rules_and_sources(config)?;
        self.intake.context().rules.replace(Arc::new(rules));
        self.edge.checker.replace(Arc::new(checker(config)));
        self.intake.lookout().mutes.replace_windows(config.maintenance.clone());
        self.intake.lookout().wake();
        let mut notices = config.notices.clone();
        if notices.team.as_ref().is_some_and(|team| !self.intake.context().teams.has(team)) {
            // It gets nothing before the restart that makes it known.
            notices.team.clone_from(&self.notices.borrow().team);
        }
        self.notices.send_replace(notices);
        Ok(sources)
    }

    /// Returns when an operator asks for a reload by the control socket, with where the answer goes.
    pub async fn asked_to_reload(&self) -> oneshot::Sender<Reply> {
        match self.asked_to_reload.lock().await.recv().await {
            Some(answer) => answer,
            // The socket is no longer served.
            None => std::future::pending().await,
        }
    }

    /// Returns when the service cannot go on, and says why. Nothing is acknowledged from then on.
    pub async fn broke(&self) -> End {
        tokio::select! {
            biased;
            ended = self.supervisor.ended() => End::Task(ended),
            reason = self.spool.failed() => End::Spool(reason),
        }
    }

    /// Ends after a task of the service has: what is under way gets a moment, and an event at which delivery ended
    /// twice in a row is kept as failed.
    pub async fn abandon(self) {
        drop(self.stop);
        let moment = async {
            poison::note(&self.spool, self.delivery.in_hand(), self.intake.context().now()).await;
            self.delivery.ended().await;
            self.spool.close().await;
        };
        if tokio::time::timeout(LAST_MOMENT, moment).await.is_err() {
            warn!(
                "posts that were under way were not answered in time: these events go out again at the next start"
            );
        }
    }

    /// The owner of the tasks, for those who hold a gateway in their process.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Stops: no new sessions, those inside DATA finish for a bounded time, posts in flight are noted.
    pub async fn stop(self) {
        drop(self.stop);
        if self.smtp.await.is_err() {
            error!("the listener had stopped by itself");
        }
        self.control.abort();
        self.delivery.ended().await;
        poison::forget(&self.spool).await;
        self.spool.close().await;
    }
}

/// Says aloud what is wrong with the config and the rules on disk, if there is anything.
fn tell_broken(context: &Context, problems: &[Diagnostic]) {
    context.found_on_disk(problems);
    for problem in problems {
        error!("{problem}");
    }
    if !problems.is_empty() {
        error!(errors = problems.len(), "the last good rules stay in force, and all other settings");
    }
}

/// The checker of senders that `config` asks for.
fn checker(config: &Config) -> Checker {
    Checker::new(config.authenticity.clone(), config.rules.trusted.clone(), Resolver::system())
}

/// Has `spool` tell `delivery` of all that comes into the queue and leaves it untried, `storms` of their news, and
/// `failed` of each event that failed for good.
pub fn connect(
    spool: &Spool,
    delivery: &Delivery,
    storms: &Arc<Notify>,
    failed: mpsc::UnboundedSender<u64>,
    supervisor: &Supervisor,
) {
    let (delivery, storms, supervisor) = (delivery.clone(), Arc::clone(storms), supervisor.clone());
    spool.tell(move |news| {
        // It runs on the spool's thread.
        supervisor.checkpoint("spool");
        delivery.offer(news.queued);
        delivery.withdraw(news.withdrawn);
        for seq in news.failed {
            // Nobody listens when the service stops: the next start looks back.
            _ = failed.send(seq);
        }
        if news.storms {
            storms.notify_one();
        }
    });
}

/// Deletes what was kept long enough, now and then.
async fn purge(spool: Spool) {
    let mut next = tokio::time::interval(PURGE_INTERVAL);
    loop {
        next.tick().await;
        match spool.purge().await {
            Ok(0) => {}
            Ok(mails) => debug!(mails, "deleted mails that were kept long enough"),
            Err(problem) => warn!(%problem, "mails that were kept long enough cannot be deleted"),
        }
    }
}

/// The way to each team of `config`, in its order.
pub fn targets(config: &Config, environment: &Environment) -> Vec<Target> {
    config.teams.iter().map(|team| target(config, team, environment)).collect()
}

/// The way to a team; its secret is read anew whenever it is asked for, so that one put right is found.
fn target(config: &Config, team: &crate::config::Team, environment: &Environment) -> Target {
    let (source, environment) = (team.secret.clone(), environment.clone());
    Target {
        team: team.name.as_str().into(),
        url: config.url.clone(),
        secret: Arc::new(move || source.secret(&environment)),
        account: team.account.clone(),
        fallback: team.fallback.clone(),
    }
}
