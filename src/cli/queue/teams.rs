//! How it stands with each team: the lines below a listing, and `queue teams`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::clock::{Clock, System};
use crate::config::Config;
use crate::operator::client::{Way, ask};
use crate::operator::{Reply, Request};
use crate::spool::{Count, Reader};

use super::columns::{age, columns, line, plain};
use crate::cli::site::Exit;
use crate::cli::strangers;
use crate::cli::terminal::print;

/// How it stands with a team: what the spool has of it, and what a running service says of it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Standing {
    #[serde(flatten)]
    count: Count,
    /// Whether its events go out, in a word or two.
    state: String,
    /// Why not.
    reason: Option<String>,
    /// Since when nothing goes out, and until when, where the account has posted what it may.
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Standing {
    fn without_service(count: Count) -> Self {
        Self { count, state: "no service".to_owned(), reason: None, since: None, until: None }
    }

    /// The team.
    pub(super) fn team(&self) -> &str {
        &self.count.team
    }

    /// What holds its events up, in a word and in a sentence, if anything does.
    pub(super) fn held_up(&self) -> Option<(&str, &str)> {
        Some((&self.state, self.reason.as_deref()?))
    }

    /// One of which a service says that.
    #[cfg(test)]
    pub(super) fn of(team: &str, state: &str, reason: &str) -> Self {
        let count = Count { team: team.to_owned(), ..Count::default() };
        let (since, until) = (None, None);
        Self { count, state: state.to_owned(), reason: Some(reason.to_owned()), since, until }
    }
}

/// How it stands with every team that is in the config or has something in the spool, by name.
pub(super) async fn standings(config: &Config, spool: &Reader) -> Result<Vec<Standing>, String> {
    let counts = spool.counts().await.map_err(|error| error.to_string())?;
    let known = match ask(&config.control.socket, &Request::Status, &[], Duration::from_secs(5)).await {
        Way::Answered(Reply::Status { teams, disk, config }) => {
            for trouble in [disk, config].into_iter().flatten() {
                eprintln!("smtp2signl4: {}", plain(&trouble));
            }
            teams
        }
        _ => Vec::new(),
    };
    let mut standings: BTreeMap<String, Standing> =
        counts.into_iter().map(|count| (count.team.clone(), Standing::without_service(count))).collect();
    for team in config.teams.iter().map(|team| &team.name).chain(known.iter().map(|status| &status.team)) {
        standings
            .entry(team.clone())
            .or_insert_with(|| Standing::without_service(Count { team: team.clone(), ..Count::default() }));
    }
    for status in known {
        if let Some(standing) = standings.get_mut(&status.team) {
            (standing.since, standing.until) = (status.since, status.until);
            standing.state = status.state;
            standing.reason = Some(status.reason).filter(|reason| !reason.is_empty());
        }
    }
    Ok(standings.into_values().collect())
}

/// What there is to say of the teams, below a listing.
pub(super) fn summary(standings: &[Standing], now: Timestamp) -> String {
    let mut text = String::new();
    for Standing { count, state, reason, .. } in standings {
        let Count { team, queued, failed, oldest, possible_doubles } = count;
        if queued + failed + possible_doubles > 0 {
            let oldest = oldest.map_or_else(String::new, |at| format!(", the oldest for {}", age(at, now)));
            text.push_str(&format!("team {team}: {queued} waiting{oldest}, {failed} failed"));
            if *possible_doubles > 0 {
                text.push_str(&format!(", {possible_doubles} possibly there twice (--doubled lists them)"));
            }
            text.push('\n');
        }
        if let Some(reason) = reason {
            text.push_str(&format!("team {team}: {state}: {}\n", plain(reason)));
        }
    }
    text
}

/// Says how it stands with each team.
pub(super) async fn list(config: &Config, json: bool) -> Result<Exit, String> {
    let spool = Reader::open(&config.spool.path).map_err(|error| error.to_string())?;
    let standings = standings(config, &spool).await?;
    if json {
        standings.iter().for_each(|standing| print(&line(standing)));
        return Ok(Exit::Done);
    }
    let head = ["TEAM", "STATE", "WAITING", "OLDEST", "FAILED", "TWICE?", "WHY"];
    let now = System.now();
    let rows = standings.iter().map(|Standing { count, state, reason, .. }| {
        [
            count.team.clone(),
            state.clone(),
            count.queued.to_string(),
            count.oldest.map_or_else(String::new, |at| age(at, now)),
            count.failed.to_string(),
            count.possible_doubles.to_string(),
            plain(reason.as_deref().unwrap_or_default()),
        ]
    });
    print(&columns(head, rows));
    for line in strangers::lines(&spool, now).await? {
        print(&format!("{line}\n"));
    }
    Ok(Exit::Done)
}
