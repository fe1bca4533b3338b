//! `check`: the service's own loader over config and rules, without starting anything. With `--online` it also
//! tries the connections that the service uses, without paging anyone.

use crate::clock::{Clock, System};
use crate::config::{self, Config};
use crate::delivery::{Fault, Finding, probe, probe_way};
use crate::diagnostic::Diagnostic;
use crate::event::bounded;
use crate::gateway;
use crate::smtp::{Credentials, ListenerConfig};
use crate::spool::{Reader, Spool};
use crate::time::duration_text;
use crate::watch::notices::Smarthost;

use super::site::{Exit, Site, runtime, tell_all};
use super::terminal::{one_line, print};
use super::{expect, mute, pairs, strangers};

/// What `check` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 check
  smtp2signl4 check --online               and try the way to SIGNL4, its proxy, each secret, the smarthost
  smtp2signl4 check --without-secrets      where the secret is a systemd credential, as in the shipped unit
  smtp2signl4 check --without-secrets && systemctl reload smtp2signl4")]
pub(super) struct Arguments {
    /// Do not look for the team secrets, which only the service can read
    #[arg(long)]
    without_secrets: bool,
    /// Go the ways to SIGNL4 and to the smarthost as well, without paging or mailing anybody
    #[arg(long, conflicts_with = "without_secrets")]
    online: bool,
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
    if let Err(problem) = Spool::check(&config.spool) {
        problems.push(Diagnostic::about_file("[spool] path", problem.to_string()));
    }
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
            let listen: Vec<String> = config.smtp.listeners.iter().map(listener).collect();
            let odd = config.smtp.warnings.iter().map(ToString::to_string);
            for warning in odd.chain(config.exposed_secrets()).chain(credentials.warnings(System.now())) {
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
            return if arguments.online { online(site, &config) } else { Exit::Done };
        }
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    tell_all(&problems)
}

/// Goes the ways, tells what each has proven, and what nothing but a real alert can.
fn online(site: &Site, config: &Config) -> Exit {
    runtime().block_on(async {
        let mut report = Report::default();
        report.head("the way to SIGNL4");
        for finding in probe_way(&config.connection, &config.url).await {
            report.tell(finding);
        }
        for target in gateway::targets(config, &site.environment) {
            report.head(&format!("team {}", target.team));
            match probe(&config.connection, config.delivery.timeout, target).await {
                Ok(finding) => report.tell(finding),
                Err(problem) => report.tell(Finding::Failed(Fault::Config, problem.to_string())),
            }
        }
        let mut unproven = vec![
            "that somebody is on duty and that an alert reaches a phone: \
             `smtp2signl4 send --title Test --message Test` pages"
                .to_owned(),
            "that a keyword filter of the team lets its alerts through".to_owned(),
        ];
        if let Some(mail) = &config.notices.mail {
            let hostname = config.smtp.hostname.clone();
            let smarthost = Smarthost::new(mail.clone(), hostname, site.environment.clone());
            report.head(&format!("the smarthost {}", smarthost.address()));
            report.tell(match smarthost.test().await {
                Ok(()) => Finding::Proven("it greets, encrypts and lets us in as configured".to_owned()),
                Err(reason) => Finding::Failed(Fault::Way, reason),
            });
            unproven
                .push(format!("that the smarthost takes a mail for {}", smarthost.recipients().join(", ")));
        }
        if config.heartbeat.is_some() {
            unproven.push("that the heartbeat is heard: it is not pinged".to_owned());
        }
        report.head("not proven");
        unproven.iter().for_each(|what| print(&format!("  {what}\n")));
        report.exit()
    })
}

/// Longest line that tells a finding, in characters.
const LINE: usize = 500;

/// What was found out so far.
#[derive(Default)]
struct Report {
    worst: Option<Fault>,
}

impl Report {
    fn head(&self, what: &str) {
        print(&format!("{what}\n"));
    }

    fn tell(&mut self, finding: Finding) {
        let (mark, text) = match finding {
            Finding::Proven(text) => ("ok     ", text),
            Finding::Unclear(text) => ("unclear", text),
            Finding::Failed(fault, text) => {
                self.worst = self.worst.max(Some(fault));
                ("FAILED ", text)
            }
        };
        print(&format!("  {mark} {}\n", bounded(&one_line(&text), LINE)));
    }

    fn exit(&self) -> Exit {
        match self.worst {
            None => Exit::Done,
            Some(Fault::Config) => Exit::Config,
            Some(Fault::Way) => Exit::Unavailable,
            Some(Fault::Time) => Exit::Temporary,
        }
    }
}

/// A listener in a few words: its address, and what is not the default.
fn listener(listener: &ListenerConfig) -> String {
    let mut text = listener.address.to_string();
    let defaults = ListenerConfig::new(listener.address.clone());
    if listener.protocol != defaults.protocol {
        text += &format!(" {}", listener.protocol);
    }
    if listener.tls != defaults.tls {
        text += &format!(" {} TLS", listener.tls);
    }
    text
}

/// A line for each thing that is watched: windows with their next start, expected mails with their next deadline.
fn watched(config: &Config) -> Vec<String> {
    let now = System.now();
    let mut lines: Vec<String> = config.maintenance.iter().map(|window| mute::line(window, now)).collect();
    lines.extend(expect::lines(config));
    if let Ok(spool) = Reader::open(&config.spool.path) {
        lines.extend(runtime().block_on(strangers::lines(&spool, now)).unwrap_or_default());
        lines.extend(runtime().block_on(pairs::lines(&spool)).unwrap_or_default());
    }
    if let Some(heartbeat) = &config.heartbeat {
        lines.push(format!("heartbeat every {}", duration_text(heartbeat.interval)));
    }
    lines
}
