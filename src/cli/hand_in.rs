//! What `submit`, `send` and `close` do: hand a mail or an event to the gateway from a shell. With a service
//! running it goes over the control socket; without one it goes straight into the spool, and the service
//! delivers it when it starts.

use std::time::{Duration, Instant};

use crate::clock::{Clock, System};
use crate::config::Config;
use crate::event::{Event, Scenario};
use crate::mail::{Envelope, Origin};
use crate::operator::client::{Way, ask};
use crate::operator::{Reply, Request};
use crate::words::Words;

use super::service::offline;
use super::site::{Exit, Site, runtime};
use super::terminal::print;

/// The source that an event names when no mail stands behind it.
const SOURCE_SYSTEM: &str = "smtp2signl4";

/// What `send` is told: what XSOAR's signl4_alert takes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 send --title 'Backup failed' --message 'Tape 7 is full' --external-id backup-7
  smtp2signl4 send --title 'Intrusion' --message 'See case 42' --alerting-scenario emergency --wait")]
pub(super) struct SendArguments {
    /// The title of the alert
    #[arg(long, value_parser = some)]
    title: String,
    /// The text of the alert
    #[arg(long)]
    message: String,
    /// What a later `close` names
    #[arg(long, value_parser = some)]
    external_id: Option<String>,
    /// The service or system category, by name
    #[arg(long)]
    service: Option<String>,
    /// `latitude,longitude`
    #[arg(long, allow_hyphen_values = true, value_parser = location)]
    location: Option<String>,
    /// Who must acknowledge: single_ack, multi_ack or emergency
    #[arg(long, value_parser = scenario)]
    alerting_scenario: Option<Scenario>,
    /// Let the team's keyword filter decide over the alert
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    filtering: Option<bool>,
    #[command(flatten)]
    to: To,
}

/// What `close` is told: what XSOAR's signl4_close takes.
#[derive(clap::Args)]
#[command(after_help = "Example:
  smtp2signl4 close --external-id backup-7")]
pub(super) struct CloseArguments {
    /// The external id of the alert
    #[arg(long, value_parser = some)]
    external_id: String,
    #[command(flatten)]
    to: To,
}

/// What both are told.
#[derive(clap::Args)]
struct To {
    /// The team [default: the first of the config]
    #[arg(long)]
    team: Option<String>,
    /// The product that it comes from
    #[arg(long, value_parser = some, default_value = SOURCE_SYSTEM)]
    source_system: String,
    /// Wait until SIGNL4 has it, and print its event id as JSON
    #[arg(long, num_args = 0..=1, default_missing_value = "60", value_name = "SECONDS")]
    wait: Option<u64>,
}

fn some(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn location(text: &str) -> Result<String, String> {
    let number = |part: &str, bound: f64| part.trim().parse::<f64>().is_ok_and(|n| n.abs() <= bound);
    match text.split_once(',') {
        Some((latitude, longitude)) if number(latitude, 90.0) && number(longitude, 180.0) => {
            Ok(text.to_owned())
        }
        _ => Err("latitude and longitude in degrees, such as 52.4,13.0".to_owned()),
    }
}

fn scenario(word: &str) -> Result<Scenario, String> {
    Scenario::from_word(word).ok_or_else(|| "one of single_ack, multi_ack, emergency".to_owned())
}

/// How long a program that does not try again waits for a service that starts anew.
const RESTART: Duration = Duration::from_secs(30);

/// Queues a mail. `tell`: whether success is worth a line; where it is not, the caller is a program that does
/// not try again, and a service that starts anew is waited for.
pub(super) fn mail(
    site: &Site,
    reverse_path: &str,
    recipients: Vec<String>,
    content: Vec<u8>,
    tell: bool,
) -> Exit {
    let envelope = envelope(Origin::Submit, reverse_path.to_owned(), recipients);
    let size = content.len();
    let request = Request::Submit { envelope, size };
    match site.config() {
        Ok(config) => {
            let manner = if tell { Manner::Telling } else { Manner::Silent };
            hand_in(&config, request, content.into(), manner)
        }
        // A mail system that pipes to us must keep the mail until the config is put right.
        Err(_) => Exit::Temporary,
    }
}

/// Queues an event that raises an alert.
pub(super) fn send(site: &Site, arguments: SendArguments) -> Exit {
    let event = Event {
        title: arguments.title,
        message: arguments.message,
        external_id: arguments.external_id,
        service: arguments.service,
        location: arguments.location,
        scenario: arguments.alerting_scenario,
        filtering: arguments.filtering,
        ..Event::default()
    };
    raise(site, event, arguments.to)
}

/// Queues an event that closes an alert.
pub(super) fn close(site: &Site, arguments: CloseArguments) -> Exit {
    let event = Event {
        external_id: Some(arguments.external_id),
        status: crate::event::Status::Resolved,
        ..Event::default()
    };
    raise(site, event, arguments.to)
}

fn raise(site: &Site, event: Event, to: To) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let team = match to.team {
        None => config.teams[0].name.clone(),
        Some(name) if config.teams.iter().any(|team| team.name == name) => name,
        Some(name) => {
            let known: Vec<_> = config.teams.iter().map(|team| team.name.as_str()).collect();
            eprintln!("smtp2signl4: there is no team `{name}`; the config has {}", known.join(", "));
            return Exit::Usage;
        }
    };
    let event = Box::new(Event { team, source_system: Some(to.source_system), ..event });
    let envelope = envelope(Origin::Command, String::new(), Vec::new());
    hand_in(&config, Request::Send { envelope, event, wait: to.wait }, bytes::Bytes::new(), Manner::Telling)
}

fn envelope(origin: Origin, reverse_path: String, recipients: Vec<String>) -> Envelope {
    Envelope { received_at: System.now(), origin, reverse_path, recipients, ..Envelope::default() }
}

/// How a hand-in behaves towards its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It says what became of it, at once.
    Telling,
    /// It speaks of trouble alone, and waits out a restart of the service.
    Silent,
}

fn hand_in(config: &Config, request: Request, content: bytes::Bytes, manner: Manner) -> Exit {
    let patience = match &request {
        Request::Send { wait: Some(seconds), .. } => Duration::from_secs(seconds.saturating_add(10)),
        _ => Duration::from_secs(60),
    };
    let reply = runtime().block_on(async {
        let until = Instant::now() + if manner == Manner::Silent { RESTART } else { Duration::ZERO };
        loop {
            match ask(&config.control.socket, &request, &content, patience).await {
                Way::Answered(reply) => break Ok(reply),
                Way::Broken(problem) => break Err(problem),
                Way::NoService => match offline(config, &request, content.clone()).await {
                    Ok(Reply::Temporary(_)) | Err(_) if Instant::now() < until => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    kept => break kept,
                },
            }
        }
    });
    match reply {
        Ok(Reply::Delivered { event_id, .. }) => {
            print(&format!("{}\n", serde_json::json!({ "eventId": event_id })));
            Exit::Done
        }
        Ok(Reply::Queued { id }) => {
            if manner == Manner::Telling {
                eprintln!("queued as {id}");
            }
            Exit::Done
        }
        Ok(Reply::Kept { id, reason }) => {
            eprintln!("kept as {id}, and not sent: {reason}");
            Exit::Done
        }
        Ok(Reply::Waiting { id, reason }) => {
            eprintln!("smtp2signl4: queued as {id}, not delivered: {reason}");
            Exit::Temporary
        }
        Ok(Reply::Refused(problem)) => {
            eprintln!("smtp2signl4: {problem}");
            Exit::Data
        }
        Ok(Reply::Temporary(problem)) | Err(problem) => {
            eprintln!("smtp2signl4: {problem}");
            Exit::Temporary
        }
        Ok(
            Reply::Changed { .. }
            | Reply::Mutes { .. }
            | Reply::Status { .. }
            | Reply::Reloaded { .. }
            | Reply::Broken { .. },
        ) => Exit::Done,
    }
}
