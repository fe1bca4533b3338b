//! `queue`: what waits, what failed and what left; and an operator's word on it. Looking reads the spool
//! itself, so it works whether a service runs or not; changes go to the service if one runs.

mod columns;
mod kept;
mod listing;
mod teams;

use std::time::Duration;

use bytes::Bytes;

use crate::authenticity::told;
use crate::clock::{Clock, System};
use crate::config::Config;
use crate::event::shown_size;
use crate::mail::{MailId, visible};
use crate::operator::client::{Way, ask};
use crate::operator::{Reply, Request};
use crate::spool::{Filter, IncidentFilter, Reader, Shown, State};
use crate::time::local;
use crate::words::Words;

use super::service::offline;
use super::site::{Exit, Site, runtime};
use super::terminal::{excerpt, print};
use columns::{age, columns, line, plain, short};
use listing::{incident_row, table};

/// What `queue` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 queue list                          what waits and what failed
  smtp2signl4 queue list --state delivered        what left
  smtp2signl4 queue list --state counted          repeats that were not sent, each with its reason
  smtp2signl4 queue list --digest 7               what the digest of storm 7 tells
  smtp2signl4 queue list --doubled                alerts that may be there twice
  smtp2signl4 queue teams --json                  figures for monitoring: what waits, failed, is held up
  smtp2signl4 queue incidents --open              what is going on
  smtp2signl4 queue show 01JD3X9K7M2Q             one mail: what the rules did, what became of its events
  smtp2signl4 queue retry 01JD3X9K7M2Q --to ops   a dead letter, to another team
  smtp2signl4 queue retry --all --rejudge         everything that is stuck, by today's rules")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List events: those that wait and those that failed, unless told otherwise
    List {
        /// Only those in this state: queued, failed, delivered, dropped, counted, muted, folded or all
        #[arg(long, value_parser = states)]
        state: Option<States>,
        /// Only those that the digest of this storm tells
        #[arg(long, value_name = "STORM", conflicts_with = "state")]
        digest: Option<u64>,
        /// Only those that may be at SIGNL4 twice: posted again, as no answer had come
        #[arg(long, conflicts_with_all = ["state", "digest"])]
        doubled: bool,
        /// Only those of this team
        #[arg(long)]
        team: Option<String>,
        /// At most so many, the newest
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
    },
    /// Show a mail, what the rules did with it, and what became of its events
    Show {
        /// The id, as in the log and in the reply to DATA
        id: MailId,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The mail itself, as received
        #[arg(long, conflicts_with = "json")]
        content: bool,
    },
    /// Say how it stands with each team: what waits, what failed, what may be there twice, what holds it up
    Teams {
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
    },
    /// List incidents, the last heard of first: how each stands, and what SIGNL4 calls its events
    Incidents {
        /// Only those that are not closed
        #[arg(long)]
        open: bool,
        /// Only those of this team
        #[arg(long)]
        team: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
    },
    /// Post again at once what failed or waits
    Retry {
        /// The mail
        #[arg(required_unless_present = "all")]
        id: Option<MailId>,
        /// Everything that failed or waits, but what a later mail of the same incident has overtaken
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// Make the events anew by today's rules
        #[arg(long)]
        rejudge: bool,
        /// Give the mail's events to another team
        #[arg(long, value_name = "TEAM", conflicts_with_all = ["all", "rejudge"])]
        to: Option<String>,
    },
    /// Give up on a mail's events that were not delivered
    Drop {
        /// The mail
        id: MailId,
    },
}

#[derive(Clone)]
struct States(Vec<State>);

fn states(word: &str) -> Result<States, String> {
    if word == "all" {
        return Ok(States(Vec::new()));
    }
    let state = State::from_word(word)
        .ok_or("one of queued, failed, delivered, dropped, counted, muted, folded, all")?;
    Ok(States(vec![state]))
}

/// Does what the operator says.
pub(super) fn queue(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let done = runtime().block_on(async {
        match &arguments.action {
            Action::List { state, digest, doubled, team, limit, json } => {
                let states =
                    state.clone().map_or_else(|| vec![State::Queued, State::Failed], |states| states.0);
                let (team, digest, doubled) = (team.clone(), *digest, *doubled);
                let filter = Filter { states, team, digest, doubled, limit: *limit, ..Filter::default() };
                list(&config, &filter, *json).await
            }
            Action::Teams { json } => teams::list(&config, *json).await,
            Action::Show { id, json, content } => show(&config, *id, *json, *content).await,
            Action::Retry { id: Some(id), to: Some(team), .. } => {
                let request = Request::Retarget { id: *id, team: team.clone() };
                change(&config, request, &format!("to be posted to team {team}")).await
            }
            Action::Incidents { open, team, limit, json } => {
                let filter = IncidentFilter { open: *open, team: team.clone(), limit: *limit };
                incidents(&config, filter, *json).await
            }
            Action::Retry { id, rejudge, .. } => {
                change(&config, Request::Retry { id: *id, rejudge: *rejudge }, "to be posted again").await
            }
            Action::Drop { id } => change(&config, Request::Drop { id: *id }, "dropped").await,
        }
    });
    done.unwrap_or_else(|problem| {
        eprintln!("smtp2signl4: {problem}");
        Exit::Unavailable
    })
}

/// Lists what waits and what failed, as `mailq` does.
pub(super) fn list_all(site: &Site) -> Exit {
    let action =
        Action::List { state: None, digest: None, doubled: false, team: None, limit: 100, json: false };
    queue(site, &Arguments { action })
}

async fn list(config: &Config, filter: &Filter, json: bool) -> Result<Exit, String> {
    let spool = Reader::open(&config.spool.path).map_err(|error| error.to_string())?;
    let events = spool.list(filter.clone()).await.map_err(|error| error.to_string())?;
    // What is listed whole needs no word of the service.
    if json && (filter.team.is_none() || !events.is_empty()) {
        events.iter().for_each(|event| print(&line(event)));
        return Ok(Exit::Done);
    }
    let mut standings = teams::standings(config, &spool).await?;
    if let Some(team) = &filter.team {
        standings.retain(|standing| standing.team() == team);
        if standings.is_empty() && events.is_empty() {
            eprintln!("smtp2signl4: there is no team `{}`", team.escape_debug());
            return Ok(Exit::Data);
        }
    }
    if !json {
        print(&table(&events, &standings, System.now()));
        print(&teams::summary(&standings, System.now()));
    }
    Ok(Exit::Done)
}

async fn incidents(config: &Config, filter: IncidentFilter, json: bool) -> Result<Exit, String> {
    let spool = Reader::open(&config.spool.path).map_err(|error| error.to_string())?;
    let found = spool.incidents(filter).await.map_err(|error| error.to_string())?;
    if json {
        found.iter().for_each(|incident| print(&line(incident)));
        return Ok(Exit::Done);
    }
    let now = System.now();
    let head = [
        "KEY",
        "TEAM",
        "STATE",
        "SEVERITY",
        "MAILS",
        "FIRST",
        "LAST",
        "LAST PAGE",
        "CLASS",
        "INSTANCE",
        "SIGNL4 IDS",
    ];
    let table = columns(head, found.iter().map(|incident| incident_row(incident, now)));
    // The first line is the head's.
    let kept = std::iter::once(String::new()).chain(found.iter().map(|incident| kept::lines(incident, now)));
    let lines: String = table.lines().zip(kept).map(|(line, kept)| format!("{line}\n{kept}")).collect();
    print(&lines);
    Ok(Exit::Done)
}

async fn show(config: &Config, id: MailId, json: bool, content: bool) -> Result<Exit, String> {
    let spool = Reader::open(&config.spool.path).map_err(|error| error.to_string())?;
    let shown = spool.show(id).await.map_err(|error| error.to_string())?;
    let Some(shown) = shown else {
        eprintln!("smtp2signl4: there is no mail {id} in the spool");
        return Ok(Exit::Data);
    };
    if content {
        use std::io::Write;
        let content = spool.content(id).await.map_err(|error| error.to_string())?.unwrap_or_default();
        let _ = std::io::stdout().write_all(&content);
    } else if json {
        print(&line(&shown));
    } else {
        print(&page(&shown));
    }
    Ok(Exit::Done)
}

/// Who vouched for a shown mail when it was taken.
fn trust(shown: &Shown) -> Option<told::Told> {
    serde_json::from_value(shown.story.get("trust")?.clone()).ok()
}

/// A shown mail for people.
fn page(shown: &Shown) -> String {
    let mut text = format!("{}  {} bytes\n", shown.id, shown.size);
    if let Some(envelope) = &shown.envelope {
        text.push_str(&format!("  received   {}\n", local(envelope.received_at)));
        if let Some(address) = envelope.client.address {
            text.push_str(&format!("  client     {address} {}\n", short(&envelope.client.helo)));
        }
        if let Some(user) = &envelope.client.user {
            text.push_str(&format!("  user       {}\n", short(user)));
        }
        if let Some(tls) = &envelope.client.tls {
            let subject =
                tls.subject.as_deref().map_or_else(String::new, |name| format!(" of {}", short(name)));
            text.push_str(&format!("  TLS        {}{subject}\n", short(&tls.version)));
        }
        if let Some(found) = &envelope.authenticity {
            text.push_str(&format!("  proof      {}\n", excerpt(&found.to_string())));
        }
        if let Some(trust) = trust(shown) {
            text.push_str(&format!("  trust      {}\n", excerpt(&trust.words())));
        }
        text.push_str(&format!("  from       <{}>\n", short(&envelope.reverse_path)));
        for recipient in &envelope.recipients {
            text.push_str(&format!("  to         <{}>\n", short(recipient)));
        }
        if let Some(relay) = envelope.client.relay {
            text.push_str(&format!("  by way of  {relay}\n"));
        }
        for repair in &envelope.repairs {
            text.push_str(&format!("  repaired   {}\n", short(repair)));
        }
    }
    if !shown.story.is_null() {
        let story = serde_json::to_string_pretty(&shown.story).expect("JSON can be written");
        text.push_str(&format!("  story      {}\n", visible(&story).replace('\n', "\n             ")));
    }
    for event in &shown.events {
        let listed = &event.listed;
        let team = listed.team.as_deref().unwrap_or("no team");
        text.push_str(&format!("\n  event {} for {team}: {}", listed.seq, listed.state.word()));
        if let Some(at) = listed.settled_at {
            text.push_str(&format!(" {}", local(at)));
        }
        let tries = if listed.attempts == 1 { "attempt" } else { "attempts" };
        text.push_str(&format!(", {} {tries}\n", listed.attempts));
        for (name, value) in [("SIGNL4 id", &listed.event_id), ("why", &listed.reason)] {
            if let Some(value) = value {
                text.push_str(&format!("    {name:<9}  {}\n", plain(value)));
            }
        }
        if listed.possible_doubles > 0 {
            text.push_str("    twice?     it was posted again, as no answer had come: SIGNL4 may have it more than once\n");
        }
        if let Some(payload) = &event.payload {
            text.push_str(&format!("    payload    {}\n", visible(&payload.to_string())));
        }
        for file in &event.attachments {
            let (name, size) = (short(&file.name), shown_size(file.size));
            text.push_str(&format!("    file       {name} ({}, {size})\n", file.media_type));
        }
    }
    text
}

/// Where the events of a mail stand to which nothing could be done.
async fn why_not(config: &Config, id: MailId) -> Result<String, String> {
    let spool = Reader::open(&config.spool.path).map_err(|error| error.to_string())?;
    let shown = spool.show(id).await.map_err(|error| error.to_string())?;
    let events = shown.map(|shown| shown.events).unwrap_or_default();
    let now = System.now();
    let mut text = String::new();
    for event in events.iter().map(|event| &event.listed) {
        let team = event.team.as_deref().unwrap_or("no team");
        text.push_str(&format!("event {} for {team}: {}", event.seq, event.state.word()));
        match (event.state, event.next_at) {
            (State::Queued, Some(at)) if at > now => text.push_str(&format!(", goes in {}", age(now, at))),
            (State::Queued, _) => text.push_str(", goes as soon as the team's events go"),
            (State::Counted | State::Muted | State::Folded, _) => {
                text.push_str(", kept and not sent; `queue retry ID --rejudge` sends it");
            }
            (State::Failed | State::Delivered | State::Dropped, _) => {}
        }
        text.push('\n');
    }
    Ok(text)
}

/// Asks the service, or changes the spool of one that does not run.
pub(super) async fn change(config: &Config, request: Request, done: &str) -> Result<Exit, String> {
    let reply = match ask(&config.control.socket, &request, &[], Duration::from_secs(120)).await {
        Way::Answered(reply) => reply,
        Way::Broken(problem) => return Err(problem),
        Way::NoService => offline(config, &request, Bytes::new()).await?,
    };
    match reply {
        Reply::Changed { events } => {
            print(&format!("{events} event{} {done}\n", if events == 1 { "" } else { "s" }));
            if let (0, Some(id)) = (events, request.mail()) {
                print(&why_not(config, id).await?);
            }
            Ok(Exit::Done)
        }
        Reply::Refused(problem) => {
            eprintln!("smtp2signl4: {problem}");
            Ok(Exit::Data)
        }
        Reply::Temporary(problem) => Err(problem),
        Reply::Mutes { ids } => {
            print(&format!("{} {done}\n", ids.join(", ")));
            Ok(Exit::Done)
        }
        Reply::Queued { .. }
        | Reply::Delivered { .. }
        | Reply::Waiting { .. }
        | Reply::Kept { .. }
        | Reply::Status { .. }
        | Reply::Reloaded { .. }
        | Reply::Broken { .. } => Err("the service answered another question".to_owned()),
    }
}
