//! `expect`: which mails are expected, when each came last, and when the next is missed. Reads the spool itself, so
//! it works whether a service runs or not.

use jiff::Timestamp;
use serde_json::json;

use crate::clock::{Clock, System};
use crate::config::{Config, Expect};
use crate::spool::Reader;
use crate::time::{duration_text, local};
use crate::watch::expect::{Standing, standings};

use super::site::{Exit, Site, runtime};
use super::terminal::{excerpt, print};

/// What `expect` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 expect
  smtp2signl4 expect --json | jq 'select(.state == \"missing\")'")]
pub(super) struct Arguments {
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// Lists the expected mails.
pub(super) fn expect(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let known = match known(&config) {
        Ok(known) => known,
        Err(problem) => {
            eprintln!("smtp2signl4: {problem}");
            return Exit::Unavailable;
        }
    };
    if config.expects.is_empty() && !arguments.json {
        print("no mail is expected; [[expect]] in the config names those that are\n");
    }
    let now = System.now();
    for expect in &config.expects {
        let standing = standing_of(expect, &known);
        if arguments.json {
            print(&format!("{}\n", as_json(expect, &standing, now)));
        } else {
            print(&format!("{}\n", line(expect, &standing, now)));
        }
    }
    Exit::Done
}

/// How it stands with every name that the spool knows.
fn known(config: &Config) -> Result<Vec<(String, Standing)>, String> {
    let spool = Reader::open(&config.spool.path).map_err(|error| error.to_string())?;
    runtime().block_on(standings(&spool)).map_err(|error| error.to_string())
}

fn standing_of(expect: &Expect, known: &[(String, Standing)]) -> Standing {
    known
        .iter()
        .find(|(name, _)| *name == expect.name)
        .map(|(_, standing)| standing.clone())
        .unwrap_or_default()
}

/// A line for each expected mail, as far as that can be known: the spool is the service's.
pub(super) fn lines(config: &Config) -> Vec<String> {
    let known = match known(config) {
        Err(problem) if config.spool.path.exists() => {
            let unread = |expect: &Expect| {
                let name = excerpt(&expect.name);
                format!(
                    "expect {name} within {}: how it stands cannot be read: {problem}",
                    duration_text(expect.within)
                )
            };
            return config.expects.iter().map(unread).collect();
        }
        known => known.unwrap_or_default(),
    };
    config.expects.iter().map(|expect| line(expect, &standing_of(expect, &known), System.now())).collect()
}

fn state(expect: &Expect, standing: &Standing, now: Timestamp) -> &'static str {
    match standing.deadline(expect.within) {
        _ if standing.raised.is_some() => "missing",
        Some(deadline) if deadline <= now => "overdue",
        Some(_) if standing.seen.is_some() => "seen",
        Some(_) => "awaited",
        None => "not begun",
    }
}

fn line(expect: &Expect, standing: &Standing, now: Timestamp) -> String {
    let within = duration_text(expect.within);
    let last = standing.seen.map_or_else(
        || "never seen".to_owned(),
        |seen| format!("last seen {} ({})", local(seen.at), seen.mail),
    );
    let next = match (standing.deadline(expect.within), &standing.raised) {
        (_, Some(raised)) => format!("team {} was told at {}", raised.team, local(raised.at)),
        (Some(deadline), None) => format!("the next deadline is {}", local(deadline)),
        (None, None) => {
            format!("the first deadline is {within} after the first start of the service with it")
        }
    };
    format!(
        "expect {} within {within}: {}; {last}; {next}",
        excerpt(&expect.name),
        state(expect, standing, now)
    )
}

fn as_json(expect: &Expect, standing: &Standing, now: Timestamp) -> serde_json::Value {
    json!({
        "name": expect.name,
        "team": expect.team,
        "within-seconds": expect.within.as_secs(),
        "state": state(expect, standing, now),
        "since": standing.since,
        "last-seen": standing.seen.map(|seen| seen.at),
        "mail": standing.seen.map(|seen| seen.mail),
        "next-deadline": standing.deadline(expect.within),
        "told-at": standing.raised.as_ref().map(|raised| raised.at),
    })
}
