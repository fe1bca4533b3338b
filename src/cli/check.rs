//! `check`: the service's own loader over config and rules, without starting anything.

use crate::gateway;

use super::{Exit, Site, print, tell_all};

/// What `check` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 check
  smtp2signl4 check --config new.toml && systemctl reload smtp2signl4
  smtp2signl4 check --without-secrets      where the secret is a systemd credential")]
pub(super) struct Arguments {
    /// Do not look for the team secrets, which only the service can read
    #[arg(long)]
    without_secrets: bool,
}

/// Tells every error of config and rules.
pub(super) fn check(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let mut problems =
        if arguments.without_secrets { Vec::new() } else { config.secret_problems(&site.environment) };
    match gateway::check_rules(&config) {
        Ok(rules) if problems.is_empty() => {
            let file = config
                .path
                .map_or_else(|| "no config file: defaults".to_owned(), |p| p.display().to_string());
            let listen: Vec<String> = config.smtp.listen.iter().map(ToString::to_string).collect();
            print(&format!(
                "{file}\n  listens on {}\n  {} team{}, {} rules for {} senders\n  no errors\n",
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
