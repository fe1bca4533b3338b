//! `check`: the service's own loader over config and rules, without starting anything.

use crate::clock::{Clock, System};
use crate::config;
use crate::config::Config;
use crate::gateway;
use crate::gateway::lookout::span;
use crate::smtp::{Credentials, Entrance};

use super::{Exit, Site, expect, mute, print, tell_all};

/// What `check` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 check
  smtp2signl4 check --without-secrets      where the secret is a systemd credential, as in the shipped unit
  smtp2signl4 check --without-secrets && systemctl reload smtp2signl4")]
pub(super) struct Arguments {
    /// Do not look for the team secrets, which only the service can read
    #[arg(long)]
    without_secrets: bool,
}

/// Tells every error of config and rules.
pub(super) fn check(site: &Site, arguments: &Arguments) -> Exit {
    // What is wrong with the config must not hide what is wrong with the rules.
    let (config, mut problems) = config::examine(site.path.as_deref());
    let Some(config) = config else { return tell_all(&problems) };
    if !arguments.without_secrets {
        problems.extend(config.secret_problems(&site.environment));
    }
    problems.extend(config.connection_problem());
    let credentials = Credentials::load(&config.smtp).unwrap_or_else(|found| {
        problems.extend(found);
        Credentials::default()
    });
    match gateway::check_rules(&config) {
        Ok(rules) if problems.is_empty() => {
            let file = config
                .path
                .as_ref()
                .map_or_else(|| "no config file: defaults".to_owned(), |p| p.display().to_string());
            let folders: Vec<String> =
                config.rules.paths.iter().map(|path| path.display().to_string()).collect();
            let own =
                if folders.is_empty() { "none of the site's own".to_owned() } else { folders.join(", ") };
            let watch: String = watched(&config).iter().map(|line| format!("  {line}\n")).collect();
            let listen: Vec<String> = config.smtp.entrances.iter().map(entrance).collect();
            for warning in credentials.warnings(System.now()) {
                eprintln!("warning: {warning}\n");
            }
            print(&format!(
                "{file}\n  listens on {}\n  {} team{}, {} rules for {} senders; {own}\n{watch}  no errors\n",
                listen.join(", "),
                config.teams.len(),
                if config.teams.len() == 1 { "" } else { "s" },
                rules.rules().count(),
                rules.rules().map(|(source, _)| source).collect::<std::collections::HashSet<_>>().len(),
            ));
            return Exit::Done;
        }
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    tell_all(&problems)
}

/// An entrance in a few words: its address, and what is not the default.
fn entrance(entrance: &Entrance) -> String {
    let mut text = entrance.address.to_string();
    let defaults = Entrance::new(entrance.address.clone());
    if entrance.protocol != defaults.protocol {
        text += &format!(" {}", entrance.protocol);
    }
    if entrance.tls != defaults.tls {
        text += &format!(" {} TLS", entrance.tls);
    }
    text
}

/// A line for each thing that is watched: windows with their next start, expected mails with their next deadline.
fn watched(config: &Config) -> Vec<String> {
    let now = System.now();
    let mut lines: Vec<String> = config.maintenance.iter().map(|window| mute::line(window, now)).collect();
    lines.extend(expect::lines(config));
    if let Some(heartbeat) = &config.heartbeat {
        lines.push(format!("heartbeat every {}", span(heartbeat.interval)));
    }
    lines
}
