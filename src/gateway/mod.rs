//! The gateway: the only place that knows the order of the pipeline. It opens the spool, starts delivery,
//! listens, and ends in the opposite order, so that what was accepted is kept and what was posted is noted.

pub mod control;
mod intake;
mod notify;
mod rulebook;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::config::{Config, Environment, Routes};
use crate::delivery::{Delivery, SetupError, Target};
use crate::diagnostic::Diagnostic;
use crate::smtp::Listener;
use crate::spool::{OpenError, Spool};

pub use intake::{Edge, Intake, Kept, for_each_team, routed};
pub use notify::notify;
pub use rulebook::{check_rules, example_mail, load_rules, load_unproven, read_sources};

/// How often mails that were kept long enough are looked for.
const PURGE_INTERVAL: Duration = Duration::from_secs(300);

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
        }
    }
}

/// A gateway that listens. Tests and the demo hold one in their process.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    intake: Arc<Intake>,
    stop: watch::Sender<bool>,
    smtp: tokio::task::JoinHandle<()>,
    control: tokio::task::JoinHandle<()>,
    delivery: Delivery,
    spool: Spool,
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
        let mut problems = config.secret_problems(environment);
        problems.extend(config.connection_problem());
        let rules = match load_rules(config) {
            Ok(rules) => Some(Arc::new(rules)),
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        let Some(rules) = rules.filter(|_| problems.is_empty()) else {
            return Err(Failure::Config(problems));
        };
        let spool = Spool::open(&config.spool, Arc::clone(&clock)).map_err(Failure::Spool)?;
        let listener = Listener::bind(&config.smtp).map_err(Failure::Listen)?;
        let control = control::bind(&config.socket)
            .map_err(|error| Failure::Socket(format!("control socket {}", config.socket.display()), error))?;

        let (stop, stopped) = watch::channel(false);
        let targets = config.teams.iter().map(|team| target(config, team, environment)).collect();
        let delivery = Delivery::start(
            config.delivery.clone(),
            config.connection.clone(),
            targets,
            spool.clone(),
            Arc::clone(&clock),
            fastrand::u64(..),
            stopped.clone(),
        )
        .map_err(Failure::Connection)?;
        let offer = delivery.clone();
        spool.tell(move |events| offer.offer(events));
        tokio::spawn(purge(spool.clone(), stopped.clone()));
        let intake = Arc::new(Intake::new(
            rules,
            Routes::new(&config.teams),
            config.teams[0].name.clone(),
            spool.clone(),
            Some(delivery.clone()),
            Arc::clone(&clock),
            fastrand::u16(..),
        ));
        let addresses = listener.addresses();
        for address in &addresses {
            info!(%address, "listening");
        }
        let smtp = tokio::spawn(listener.run(Arc::new(Edge(Arc::clone(&intake))), clock, stopped.clone()));
        let control =
            tokio::spawn(control::serve(control, Arc::clone(&intake), config.smtp.max_message_size, stopped));
        Ok(Self { addresses, intake, stop, smtp, control, delivery, spool })
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The intake, for those who hold a gateway in their process.
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// Loads the rules anew. What is wrong is told, and the rules in force stay.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<Diagnostic>> {
        self.intake.replace_rules(Arc::new(load_rules(config)?));
        Ok(())
    }

    /// Returns when the spool has failed for good.
    pub async fn broke(&self) -> Arc<str> {
        self.spool.failed().await
    }

    /// Stops: no new sessions, those inside DATA finish for a bounded time, posts in flight are noted.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.smtp.await.is_err() {
            error!("the listener had stopped by itself");
        }
        self.control.abort();
        self.delivery.ended().await;
        self.spool.close().await;
    }
}

/// Deletes what was kept long enough, now and then, until `stop` turns true.
async fn purge(spool: Spool, mut stop: watch::Receiver<bool>) {
    let mut next = tokio::time::interval(PURGE_INTERVAL);
    loop {
        tokio::select! {
            _ = next.tick() => {}
            () = async { _ = stop.wait_for(|stop| *stop).await; } => return,
        }
        match spool.purge().await {
            Ok(0) => {}
            Ok(mails) => debug!(mails, "deleted mails that were kept long enough"),
            Err(problem) => warn!(%problem, "mails that were kept long enough cannot be deleted"),
        }
    }
}

/// The way to a team; its secret is read anew whenever it is asked for, so that one put right is found.
fn target(config: &Config, team: &crate::config::Team, environment: &Environment) -> Target {
    let (source, environment) = (team.secret.clone(), environment.clone());
    Target {
        team: team.name.clone(),
        url: config.url.clone(),
        secret: Arc::new(move || source.secret(&environment)),
        account: team.account.clone(),
        fallback: team.fallback.clone(),
    }
}
