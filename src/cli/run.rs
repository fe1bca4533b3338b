//! `run`: the service. Signals become a stop or a reload here and nowhere else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::clock;
use crate::config::{self, Config};
use crate::diagnostic::Diagnostic;
use crate::gateway::{self, End, Failure, Gateway};
use crate::operator::Reply;
use crate::smtp::Inherited;
use crate::spool::OpenError;
use crate::watch::notify;

use super::log::start_log;
use super::site::{Exit, Site, runtime, tell_all};

/// How long threads may take to end when all else has.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Runs until a signal says otherwise.
pub(super) fn run(site: &Site) -> Exit {
    let (mut config, broken) = match config(site) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    start_log(config.log);
    for exposed in config.exposed_secrets() {
        warn!("{exposed}");
    }
    // A further folder that systemd keeps for the service is where it can write what must outlive its spool.
    let kept = site.environment.var("STATE_DIRECTORY").unwrap_or_default().split(':').map(PathBuf::from);
    let rescue: Vec<PathBuf> =
        kept.filter(|folder| folder.is_absolute() && *folder != config.spool.path).collect();
    config.spool.rescue.splice(0..0, rescue);
    // Before there is any other thread.
    let inherited = match Inherited::of_process() {
        Ok(inherited) => inherited,
        Err(error) => return refuse(&Failure::Listen(error)),
    };
    let runtime = runtime();
    let exit = runtime.block_on(async {
        // Before the service is announced: a signal that is not caught yet ends the process.
        let [mut terminate, mut interrupt, mut hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(listen);
        let clock = Arc::new(clock::System);
        let gateway = match Gateway::start_with(&config, &site.environment, clock, inherited, broken).await {
            Ok(gateway) => gateway,
            Err(failure) => return refuse(&failure),
        };
        if cfg!(debug_assertions) {
            break_on_demand(site, &gateway);
        }
        notify(&site.environment, "READY=1");
        let exit = loop {
            tokio::select! {
                _ = terminate.recv() => break Exit::Done,
                _ = interrupt.recv() => break Exit::Done,
                _ = hangup.recv() => {
                    reload(site, &config, &gateway).await;
                }
                answer = gateway.asked_to_reload() => {
                    // A client that has gone away finds the answer in the log.
                    let _ = answer.send(reload(site, &config, &gateway).await);
                }
                end = gateway.broke() => {
                    notify(&site.environment, "STOPPING=1");
                    match end {
                        End::Spool(reason) => {
                            // At once: nothing that is waited for could be recorded.
                            error!(%reason, "the spool failed; the process ends, so that a restart can recover what was accepted");
                            return Exit::Temporary;
                        }
                        End::Task(ended) => {
                            gateway.abandon().await;
                            error!("the process ends, as {ended}");
                            return Exit::Software;
                        }
                    }
                }
            }
        };
        info!("stopping");
        notify(&site.environment, "STOPPING=1");
        gateway.stop().await;
        exit
    });
    // A thread that waits for a disk that hangs must not keep the process.
    runtime.shutdown_timeout(LAST_MOMENT);
    exit
}

/// The config, and what is wrong with the file if it is broken and the last good one stands in its place.
fn config(site: &Site) -> Result<(Config, Vec<Diagnostic>), Exit> {
    match config::examine(site.path.as_deref()) {
        (Some(config), problems) if problems.is_empty() => Ok((config, problems)),
        (found, problems) => {
            let last_good =
                gateway::last_good_config(site.path.as_deref(), found.as_ref(), &site.environment);
            match runtime().block_on(last_good) {
                Some(config) => Ok((config, problems)),
                None => Err(tell_all(&problems)),
            }
        }
    }
}

/// For tests, in builds for them: `SMTP2SIGNL4_BREAK=TASK=FILE` makes a task panic as soon as the file is there.
fn break_on_demand(site: &Site, gateway: &Gateway) {
    let Some((task, file)) =
        site.environment.var("SMTP2SIGNL4_BREAK").and_then(|order| order.split_once('='))
    else {
        return;
    };
    let (supervisor, task, file) = (gateway.supervisor().clone(), task.to_owned(), PathBuf::from(file));
    tokio::spawn(async move {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        supervisor.break_task(&task);
    });
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("this signal can be caught")
}

/// Puts in force what can be while the service runs, and names the settings that count from the next start.
async fn reload(site: &Site, started_with: &Config, gateway: &Gateway) -> Reply {
    notify(&site.environment, "RELOADING=1");
    let reply = match gateway.reload(config::load(site.path.as_deref())).await {
        Ok(config) => {
            info!("new rules, maintenance windows, notices and checks of senders are in force");
            let pending = config.needing_a_restart(started_with);
            for setting in &pending {
                warn!(setting, "this setting has changed and needs a restart: the old one stays in force");
            }
            Reply::Reloaded { pending }
        }
        Err(problems) => Reply::Broken { problems: problems.iter().map(ToString::to_string).collect() },
    };
    notify(&site.environment, "READY=1");
    reply
}

fn refuse(failure: &Failure) -> Exit {
    match failure {
        Failure::Config(problems) => tell_all(problems),
        Failure::Spool(OpenError::OtherSchema { .. }) | Failure::Connection(_) => {
            eprintln!("smtp2signl4: {failure}");
            Exit::Config
        }
        Failure::Spool(_) | Failure::Memory(_) | Failure::Listen(_) | Failure::Socket(..) => {
            eprintln!("smtp2signl4: {failure}");
            Exit::Unavailable
        }
    }
}
