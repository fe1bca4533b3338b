//! `mute`: keeps what would page for a while, as in a maintenance window; lists what is muted, and ends it. With a
//! service running it is told by the control socket; without one the spool keeps it for the next start.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::json;

use crate::clock::{Clock, System};
use crate::config::{Config, Window, moment};
use crate::operator::Request;
use crate::spool::Reader;
use crate::time::{in_zone, local, parse_duration};
use crate::watch::mute::{self, Mute};

use super::queue::change;
use super::site::{Exit, Site, runtime};
use super::terminal::{excerpt, print};

/// What `mute` is told.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  smtp2signl4 mute --for 2h --match event.source-system=Nagios --match 'subject=db1' --reason 'new disks'
  smtp2signl4 mute --until 06:00 --match team=ops
  smtp2signl4 mute list
  smtp2signl4 mute end 3fa2

A key is a field as in the `when` of a rule, of the mail or of the event that is made of it: subject, from, client,
header.NAME, team, event.title, event.source-system, event.external-id, event.severity, event.tile.NAME, ... All
matches must hold. What resolves or acknowledges is never muted, and what is critical only with --critical."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// How long: 30m, 2h, 1d
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, required_unless_present = "until")]
    period: Option<Duration>,
    /// Until when: 06:00, 2026-12-24, 2026-12-24T06:00, in the time zone of this machine
    #[arg(long, value_name = "TIME", conflicts_with = "period")]
    until: Option<String>,
    /// What to mute, as often as needed
    #[arg(long = "match", value_name = "KEY=REGEX", required_unless_present = "all")]
    conditions: Vec<String>,
    /// Mute everything
    #[arg(long, conflicts_with = "conditions")]
    all: bool,
    /// Why, for those who look at what is muted
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Mute critical events as well
    #[arg(long)]
    critical: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List mutes and maintenance windows
    List {
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
    },
    /// End a mute before its time
    End {
        /// Its id
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// All of them; maintenance windows stay
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let found = parse_duration(text).filter(|duration| !duration.is_zero());
    found.ok_or_else(|| "a number and its unit: 90s, 30m, 2h or 1d".to_owned())
}

/// Does what the operator says.
pub(super) fn mute(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let done = runtime().block_on(async {
        match &arguments.action {
            None => begin(&config, arguments).await,
            Some(Action::List { json }) => list(&config, *json).await,
            Some(Action::End { id, .. }) => {
                change(&config, Request::EndMute { id: id.clone() }, "ended").await
            }
        }
    });
    done.unwrap_or_else(|problem| {
        eprintln!("smtp2signl4: {problem}");
        Exit::Unavailable
    })
}

async fn begin(config: &Config, arguments: &Arguments) -> Result<Exit, String> {
    let now = System.now();
    let until = match (&arguments.until, arguments.period) {
        (Some(text), _) => time(text, now, &TimeZone::system()),
        (None, Some(period)) => now.checked_add(period).ok(),
        (None, None) => None,
    };
    let Some(until) = until.filter(|until| *until > now) else {
        eprintln!(
            "smtp2signl4: `{}` is no time to come; write 06:00, 2026-12-24 or 2026-12-24T06:00",
            arguments.until.as_deref().unwrap_or_default().escape_debug()
        );
        return Ok(Exit::Usage);
    };
    if let Err(problems) = mute::conditions(&arguments.conditions, &config.rules) {
        eprintln!("{problems}");
        return Ok(Exit::Usage);
    }
    let request = Request::Mute {
        until,
        conditions: arguments.conditions.clone(),
        reason: arguments.reason.as_ref().map(|reason| excerpt(reason)),
        critical: arguments.critical,
    };
    change(config, request, &format!("mutes until {}", local(until))).await
}

/// The time that `text` means: a time of the day is the next one.
fn time(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let Ok(time) = Time::strptime("%H:%M", text.trim()) else { return moment(text, zone, false) };
    let today = now.to_zoned(zone.clone()).date();
    [today, today.checked_add(1.day()).ok()?]
        .into_iter()
        .filter_map(|day| Some(day.to_datetime(time).to_zoned(zone.clone()).ok()?.timestamp()))
        .find(|at| *at > now)
}

async fn list(config: &Config, json: bool) -> Result<Exit, String> {
    let now = System.now();
    let spool = Reader::open(&config.spool.path).map_err(|error| error.to_string())?;
    let mutes = mute::kept(&spool).await.map_err(|error| error.to_string())?;
    let mutes: Vec<&Mute> = mutes.iter().filter(|mute| mute.until > now).collect();
    if json {
        for mute in mutes {
            print(&format!("{}\n", json!(mute)));
        }
        for window in &config.maintenance {
            print(&format!("{}\n", as_json(window, now)));
        }
        return Ok(Exit::Done);
    }
    for mute in &mutes {
        let what =
            if mute.conditions.is_empty() { "everything".to_owned() } else { mute.conditions.join(" and ") };
        let why = mute.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", excerpt(reason)));
        let critical = if mute.critical { ", critical too" } else { "" };
        print(&format!("mute {} until {}: {}{critical}{why}\n", mute.id, local(mute.until), excerpt(&what)));
    }
    for window in &config.maintenance {
        print(&format!("{}\n", line(window, now)));
    }
    if mutes.is_empty() && config.maintenance.is_empty() {
        print("nothing is muted\n");
    }
    Ok(Exit::Done)
}

/// A maintenance window and its times, for people.
pub(super) fn line(window: &Window, now: Timestamp) -> String {
    let zoned = |at| in_zone(at, &window.zone);
    let until =
        |at| window.closes(at).map_or_else(|| "for good".to_owned(), |end| format!("until {}", zoned(end)));
    let times = if window.is_open(now) {
        format!("open now, {}", until(now))
    } else {
        match window.opens(now) {
            Some(start) => format!("next from {} {}", zoned(start), until(start)),
            None => "never again".to_owned(),
        }
    };
    let critical = if window.critical { ", critical too" } else { "" };
    format!("maintenance {}: {times}{critical}", excerpt(&window.name))
}

fn as_json(window: &Window, now: Timestamp) -> serde_json::Value {
    let open = window.is_open(now);
    let next = if open { None } else { window.opens(now) };
    let until = if open { window.closes(now) } else { next.and_then(|start| window.closes(start)) };
    json!({ "maintenance": window.name, "open": open, "next": next, "until": until, "critical": window.critical })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_is_the_next_one() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let law = |text: &str| {
            time(text, "2026-11-20T22:30:00Z".parse().unwrap(), &berlin).map(|at| at.to_string())
        };
        assert_eq!(law("23:45").as_deref(), Some("2026-11-20T22:45:00Z"));
        assert_eq!(law("23:30").as_deref(), Some("2026-11-21T22:30:00Z"));
        assert_eq!(law("06:00").as_deref(), Some("2026-11-21T05:00:00Z"));
        assert_eq!(law("2026-12-24").as_deref(), Some("2026-12-23T23:00:00Z"));
        assert_eq!(law("2026-12-24 06:00").as_deref(), Some("2026-12-24T05:00:00Z"));
        assert_eq!(law("2026-12-24T06:00Z").as_deref(), Some("2026-12-24T06:00:00Z"));
        assert_eq!(law("tomorrow"), None);
    }
}
