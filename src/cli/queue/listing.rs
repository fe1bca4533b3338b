//! How events and incidents are listed: as lines of JSON, and as columns for people, in which nothing that came with a
//! mail steers the terminal.

use crate::words::Words;
use jiff::Timestamp;

use crate::event::{Status, bounded};
use crate::mail::Trust;
use crate::spool::{KnownIncident, Listed, State};

use super::columns::{age, columns, plain, short};
use super::teams::Standing;

/// Most characters of a reason in a listing. It stands last in its line, and may name a time at its end.
const WHY_LIMIT: usize = 160;

/// The events as columns, each as wide as it must be.
pub(super) fn table(events: &[Listed], teams: &[Standing], now: Timestamp) -> String {
    let head = ["ID", "AGE", "TEAM", "SEVERITY", "STATE", "TRIES", "NEXT", "TITLE", "WHY"];
    columns(head, events.iter().map(|event| row(event, teams, now)))
}

/// The columns of an event.
fn row(event: &Listed, teams: &[Standing], now: Timestamp) -> [String; 9] {
    let (next, why) = outlook(event, teams, now);
    let why = why.or(event.reason.as_deref()).or(event.event_id.as_deref());
    [
        event.id.to_string(),
        age(event.received_at, now),
        event.team.clone().unwrap_or_default(),
        urgency(event),
        event.state.word().to_owned(),
        event.attempts.to_string(),
        next,
        short(&event.title),
        bounded(&plain(why.unwrap_or_default()), WHY_LIMIT).into_owned(),
    ]
}

/// How bad it is, and that it pages nobody if it does not: both decide what goes first.
fn urgency(event: &Listed) -> String {
    let severity = event.severity.map(|severity| severity.to_string());
    let status = event.status.filter(|&status| status != Status::New).map(|status| status.to_string());
    [severity, status].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// When an event that waits is tried next, and what keeps it from going at once if it is no failure of its own.
fn outlook<'a>(event: &Listed, teams: &'a [Standing], now: Timestamp) -> (String, Option<&'a str>) {
    let team = teams.iter().find(|standing| event.team.as_deref() == Some(standing.team()));
    let held = team.and_then(Standing::held_up);
    match (event.state, event.next_at, held) {
        (State::Queued, _, _) if event.behind => {
            ("behind".to_owned(), Some("an earlier event of its incident goes first"))
        }
        (State::Queued, Some(at), _) if at > now => (format!("in {}", age(now, at)), None),
        (State::Queued, _, Some((word, reason))) => (word.to_owned(), Some(reason)),
        (State::Queued, ..) => ("now".to_owned(), None),
        _ => (String::new(), None),
    }
}

/// The columns of an incident.
pub(super) fn incident_row(known: &KnownIncident, now: Timestamp) -> [String; 11] {
    let incident = &known.incident;
    let ago = |at| format!("{} ago", age(at, now));
    [
        short(&incident.external_id),
        incident.team.clone(),
        incident.state.word().to_owned(),
        incident.severity.map_or_else(String::new, |severity| severity.to_string()),
        incident.mails.to_string(),
        ago(incident.opened_at),
        ago(incident.last_at),
        incident.paged_at.map_or_else(|| "never".to_owned(), ago),
        if known.stranger { Trust::Stranger.word() } else { known.class.map_or("", Trust::word) }.to_owned(),
        short(&known.instance),
        short(&known.event_ids.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::MailId;

    fn listed(next_in: i64, behind: bool) -> Listed {
        let now: Timestamp = "2026-11-20T17:00:00Z".parse().unwrap();
        Listed {
            id: MailId::new(now, 0),
            seq: 1,
            received_at: now,
            from: String::new(),
            size: 0,
            team: Some("soc".to_owned()),
            title: "disk full".to_owned(),
            severity: Some(crate::event::Severity::High),
            status: Some(Status::New),
            state: State::Queued,
            behind,
            attempts: 0,
            next_at: Some(now + jiff::SignedDuration::from_secs(next_in)),
            settled_at: None,
            reason: None,
            event_id: None,
            digest: None,
            possible_doubles: 0,
        }
    }

    #[test]
    fn a_listing_says_what_keeps_an_event_from_going_at_once() {
        let now: Timestamp = "2026-11-20T17:00:00Z".parse().unwrap();
        let reason =
            "the account has posted what it may until 2026-11-22T04:20:30Z, and there is more to say of it";
        let held = [Standing::of("ops", "waits", "down"), Standing::of("soc", "waits", reason)];
        for (event, held, next, why) in [
            (listed(0, false), &held[..], "waits", reason),
            (listed(0, false), &held[..1], "now", ""),
            (listed(0, true), &held[..], "behind", "an earlier event of its incident goes first"),
            (listed(61, false), &held[..], "in 1m 1s", ""),
        ] {
            let row = row(&event, held, now);
            assert_eq!((row[3].as_str(), row[6].as_str(), row[8].as_str()), ("high", next, why));
        }
        let close = Listed { status: Some(Status::Resolved), severity: None, ..listed(0, false) };
        assert_eq!(urgency(&close), "resolved");
    }

    #[test]
    fn a_title_cannot_steer_the_terminal() {
        assert_eq!(short("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
