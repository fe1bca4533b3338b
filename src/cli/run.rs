//! `run`: the service. Signals become a stop or a reload here and nowhere else.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::clock;
use crate::config::{Config, Format, Level, Log};
use crate::gateway::{Failure, Gateway, notify};
use crate::smtp::Inherited;
use crate::spool::OpenError;

use super::{Exit, Site, runtime, tell_all};

/// Runs until a signal says otherwise.
pub(super) fn run(site: &Site) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    start_log(config.log);
    // Before there is any other thread.
    let inherited = match Inherited::of_process() {
        Ok(inherited) => inherited,
        Err(error) => return refuse(&Failure::Listen(error)),
    };
    runtime().block_on(async {
        // Before anybody can know that the service is there: a signal that nobody catches ends the process.
        let [mut terminate, mut interrupt, mut hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(listen);
        let clock = Arc::new(clock::System);
        let gateway = match Gateway::start_with(&config, &site.environment, clock, inherited).await {
            Ok(gateway) => gateway,
            Err(failure) => return refuse(&failure),
        };
        notify(&site.environment, "READY=1");
        let exit = loop {
            tokio::select! {
                _ = terminate.recv() => break Exit::Done,
                _ = interrupt.recv() => break Exit::Done,
                _ = hangup.recv() => reload(site, &config, &gateway),
                reason = gateway.broke() => {
                    error!(%reason, "the spool failed; stopping, so that a restart can recover what was accepted");
                    break Exit::Temporary;
                }
            }
        };
        info!("stopping");
        notify(&site.environment, "STOPPING=1");
        gateway.stop().await;
        exit
    })
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("this signal can be caught")
}

/// Puts in force what can be while the service runs, and names the settings that count from the next start.
fn reload(site: &Site, started_with: &Config, gateway: &Gateway) {
    notify(&site.environment, "RELOADING=1");
    let loaded = crate::config::load(site.path.as_deref());
    match loaded.and_then(|config| gateway.reload(&config).map(|()| config.needing_a_restart(started_with))) {
        Ok(pending) => {
            info!("new rules, maintenance windows, notices and checks of senders are in force");
            for setting in pending {
                warn!(setting, "this setting has changed and needs a restart: the old one stays in force");
            }
        }
        Err(problems) => {
            for problem in &problems {
                error!("{problem}");
            }
            error!(errors = problems.len(), "the old rules stay in force, and all other settings");
        }
    }
    notify(&site.environment, "READY=1");
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

/// Starts the log on standard error. Under systemd, journald adds the time and reads the level.
pub(super) fn start_log(log: Log) {
    let level = match log.level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
    };
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(stderr).with_target(false);
    match log.format {
        Format::Json => lines.json().flatten_event(true).init(),
        Format::Text if journal => lines.without_time().with_ansi(false).init(),
        Format::Text => lines.with_ansi(stderr().is_terminal()).init(),
    }
}
