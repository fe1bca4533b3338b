//! Who is told of trouble, and how: a notice event when events failed for good, or when the config or the rules on
//! disk are broken; systemd's status line and, when it lasts, a mail by a smarthost when events do not get to SIGNL4 at
//! all.
//!
//! A notice is an event of the gateway's own: judged by no rule, without a mail behind it, and its own failure
//! makes no notice.

mod broken;
mod dead_letters;
mod outage;
mod smarthost;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

pub use smarthost::Smarthost;

use crate::config::{Environment, Notices};
use crate::context::Context;
use crate::delivery::{self, State};
use crate::mail::Origin;
use crate::spool::{self, Count, Filter};
use crate::time::{in_zone, signed};
use broken::OnDisk;
use dead_letters::DeadLetters;
use outage::{Outage, Word};

use super::health::disk;
use super::{notify, own};

/// How often it is looked how the teams stand.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Failures that are taken in at a time.
const BATCH: usize = 256;

/// Dead letters of the time before the start that are looked at.
const LOOK_BACK: usize = 1_000;

/// The one that looks after the deliveries.
pub struct OutageMonitor {
    context: Context,
    /// The config's word, which a reload may change.
    settings: watch::Receiver<Notices>,
    team: Option<String>,
    smarthost: Option<Smarthost>,
    hostname: String,
    environment: Environment,
    failed: mpsc::UnboundedReceiver<u64>,
    letters: DeadLetters,
    on_disk: OnDisk,
    outage: Outage,
    /// Since when each team is stuck.
    since: BTreeMap<String, Timestamp>,
    status_line: String,
}

impl OutageMonitor {
    /// One for the gateway of `context`, named `hostname`, that goes by `settings` and hears what `failed`.
    pub fn new(
        settings: watch::Receiver<Notices>,
        hostname: &str,
        environment: Environment,
        context: Context,
        failed: mpsc::UnboundedReceiver<u64>,
    ) -> Self {
        let mut monitor = Self {
            settings,
            smarthost: None,
            team: None,
            hostname: hostname.to_owned(),
            environment,
            context,
            failed,
            letters: DeadLetters::default(),
            on_disk: OnDisk::default(),
            outage: Outage::default(),
            since: BTreeMap::new(),
            status_line: String::new(),
        };
        monitor.adopt();
        monitor
    }

    /// Goes by what the config says now.
    fn adopt(&mut self) {
        let Notices { team, after, mail } = self.settings.borrow_and_update().clone();
        let smarthost = |mail| Smarthost::new(mail, self.hostname.clone(), self.environment.clone());
        self.smarthost = mail.map(smarthost);
        self.team = team;
        self.outage.tell_after(signed(after));
    }

    /// Watches for as long as the service runs.
    pub async fn run(mut self) {
        self.look_back().await;
        self.on_disk = OnDisk::recall(&self.context).await;
        let mut next = tokio::time::interval(LOOK_INTERVAL);
        let (mut seqs, mut open) = (Vec::new(), true);
        loop {
            tokio::select! {
                _ = next.tick() => self.look().await,
                count = self.failed.recv_many(&mut seqs, BATCH), if open => {
                    open = count > 0;
                    for seq in seqs.drain(..) {
                        self.failed(seq).await;
                    }
                }
                Ok(()) = self.settings.changed() => {
                    let told_nobody = self.team.is_none();
                    self.adopt();
                    if told_nobody {
                        self.look_back().await;
                    }
                }
            }
            self.tell_of_dead_letters().await;
            if let Some(team) = &self.team
                && let Err(problem) = self.on_disk.tell(&self.context, team).await
            {
                warn!(%problem, "the notice of the config on disk cannot be kept; it is tried again");
            }
        }
    }

    /// Takes in what failed shortly before the start: the last run may not have told it.
    async fn look_back(&mut self) {
        if self.team.is_none() {
            return;
        }
        let filter = Filter { states: vec![spool::State::Failed], limit: LOOK_BACK, ..Filter::default() };
        let Ok(listed) = self.context.spool.reader().list(filter).await else { return };
        let from = self.context.now() - dead_letters::INTERVAL;
        for event in listed.iter().filter(|event| event.settled_at.is_some_and(|at| at >= from)) {
            self.failed(event.seq).await;
        }
    }

    /// Takes in a dead letter, unless it is a notice of dead letters.
    async fn failed(&mut self, seq: u64) {
        if self.team.is_none() {
            return;
        }
        if !self.letters.wants_more() {
            // At most one of the many is a notice.
            return self.letters.add(None);
        }
        let reader = self.context.spool.reader();
        let Ok(Some(event)) = reader.find(seq).await else { return self.letters.add(None) };
        if let Ok(Some(shown)) = reader.show(event.id).await
            && shown
                .events
                .iter()
                .any(|e| e.listed.seq == seq && e.external_id.as_deref() == Some(dead_letters::EXTERNAL_ID))
            && shown.envelope.is_some_and(|envelope| envelope.origin == Origin::Gateway)
        {
            return;
        }
        let (team, reason) = (event.team.unwrap_or_default(), event.reason.unwrap_or_default());
        self.letters.add(Some(format!("{} for {team}: {reason}", event.id)));
    }

    async fn tell_of_dead_letters(&mut self) {
        let Some(team) = &self.team else { return };
        let now = self.context.now();
        let Some(event) = self.letters.due(team, now) else { return };
        match own::keep(&self.context, vec![event], Vec::new()).await {
            Ok(()) => self.letters.told(now),
            Err(problem) => {
                warn!(%problem, "the notice of dead letters cannot be kept; it is tried again");
            }
        }
    }

    /// Looks how the teams stand, and tells systemd and, when it is time, those who get the mail.
    async fn look(&mut self) {
        let Some(delivery) = &self.context.delivery else { return };
        let now = self.context.now();
        let teams = delivery.status().await;
        let doubles = teams.iter().map(|status| status.doubles).sum();
        let stuck: Vec<delivery::Status> = teams.into_iter().filter(delivery::Status::is_stuck).collect();
        self.since.retain(|team, _| stuck.iter().any(|status| status.team == *team));
        for status in &stuck {
            let since = status.starved.map_or(now, |starved| starved.since);
            self.since.entry(status.team.clone()).or_insert(since);
        }
        let mut line = status_line(&stuck, &self.since, doubles, &TimeZone::system());
        if let Some(since) = self.context.spool.stalled() {
            line = format!("{}; {line}", disk::told(since));
        }
        if let Some(broken) = self.context.broken_on_disk() {
            line = format!("{}; {line}", broken.told(&TimeZone::system()));
        }
        if line != self.status_line {
            notify(&self.environment, &format!("STATUS={line}"));
            self.status_line = line;
        }
        let Some(smarthost) = &self.smarthost else { return };
        let Some(word) = self.outage.look(!stuck.is_empty(), now) else { return };
        let counts = self.context.spool.reader().counts().await.unwrap_or_default();
        let (subject, text) = letter(word, &self.hostname, &counts, &stuck, &TimeZone::system());
        match smarthost.send(&subject, &text, now).await {
            Ok(()) => {
                info!(smarthost = smarthost.address(), subject, "told by mail");
                self.outage.sent(now);
            }
            Err(reason) => {
                let next = self.outage.failed(now);
                error!(
                    smarthost = smarthost.address(),
                    reason,
                    %next,
                    "the mail that SIGNL4 cannot be reached cannot be sent; it is tried again"
                );
            }
        }
    }
}

/// What holds a team up, in words.
fn what(status: &delivery::Status) -> &'static str {
    match status.state {
        State::Down => "cannot be reached",
        State::Held if status.meets_another => "another than SIGNL4 answers",
        State::Held => "the secret is refused",
        State::Starved => "the account has posted what it may",
        State::Throttled => "throttled",
        State::Unknown => "the team is not in the config",
        State::Untried | State::Open => "on their way",
    }
}

/// systemd's status line. So many alerts were posted since the start that may be there twice.
fn status_line(
    stuck: &[delivery::Status],
    since: &BTreeMap<String, Timestamp>,
    doubles: u64,
    zone: &TimeZone,
) -> String {
    let doubles = match doubles {
        0 => String::new(),
        1 => "; 1 alert may be there twice".to_owned(),
        _ => format!("; {doubles} alerts may be there twice"),
    };
    if stuck.is_empty() {
        return format!("events go out as they come{doubles}");
    }
    let one = |status: &delivery::Status| {
        let delivery::Status { team, starved, queued, more, .. } = status;
        let shown = |at| in_zone(at, zone);
        let since = since.get(team).map_or_else(String::new, |&at| format!(" since {}", shown(at)));
        let until = starved.map_or_else(String::new, |starved| format!(" until {}", shown(starved.until)));
        let more = if *more { "+" } else { "" };
        format!("{queued}{more} waiting for {team}{since}: {}{until}", what(status))
    };
    format!("{}{doubles}", stuck.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// Subject and text of the mail. No title and no text of any event is in it.
fn letter(
    word: Word,
    hostname: &str,
    counts: &[Count],
    stuck: &[delivery::Status],
    zone: &TimeZone,
) -> (String, String) {
    let shown = |at| in_zone(at, zone);
    let waiting: u64 = counts.iter().map(|count| count.queued).sum();
    let many = if waiting == 1 { "1 waits".to_owned() } else { format!("{waiting} wait") };
    let (subject, mut text) = match word {
        Word::Stuck { since } => (
            format!("SIGNL4 gets no events from {hostname} since {}: {many}", shown(since)),
            "No page goes out: SIGNL4 does not receive the events below.\n".to_owned(),
        ),
        Word::StillStuck { since } => (
            format!("SIGNL4 still gets no events from {hostname}, since {}: {many}", shown(since)),
            "Still no page goes out: SIGNL4 does not receive the events below.\n".to_owned(),
        ),
        Word::Over { since, until } => (
            format!("SIGNL4 gets events from {hostname} again"),
            format!("From {} to {} it did not. What waited goes out now.\n", shown(since), shown(until)),
        ),
    };
    text.push('\n');
    for count in counts.iter().filter(|count| count.queued > 0) {
        let oldest = count.oldest.map_or_else(String::new, |at| format!(", the oldest since {}", shown(at)));
        let why = stuck.iter().find(|status| status.team == count.team).map_or_else(String::new, |status| {
            let colon = if status.reason.is_empty() { "" } else { ": " };
            format!(": {}{colon}{}", what(status), status.reason)
        });
        let events =
            if count.queued == 1 { "1 event waits" } else { &format!("{} events wait", count.queued) };
        text.push_str(&format!("team {}: {events}{oldest}{why}\n", count.team));
    }
    if !matches!(word, Word::Over { .. }) {
        text.push_str(&format!(
            "\nNothing is lost: they are kept and sent when it works again. Until then whoever must know has to be \
             told by another way.\n\nOn {hostname}:\n  smtp2signl4 queue list\n  smtp2signl4 check --online\n  \
             journalctl -u smtp2signl4\n"
        ));
    }
    (subject, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(team: &str, state: State, queued: usize) -> delivery::Status {
        delivery::Status {
            team: team.into(),
            state,
            reason: "no connection within 10s".into(),
            starved: None,
            meets_another: false,
            queued,
            more: false,
            in_flight: 0,
            oldest: None,
            doubles: 0,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_status_line_says_who_waits_since_when_and_why() {
        let teams =
            [status("soc", State::Down, 3), status("ops", State::Held, 1), status("net", State::Open, 9)];
        let stuck: Vec<_> = teams.into_iter().filter(delivery::Status::is_stuck).collect();
        let since = BTreeMap::from([("soc".to_owned(), at("2026-11-20T02:10:00Z"))]);
        assert_eq!(
            status_line(&stuck, &since, 0, &TimeZone::UTC),
            "3 waiting for soc since Fri 2026-11-20 02:10:00 UTC: cannot be reached; 1 waiting for ops: the secret is refused"
        );
        let starved =
            delivery::Starved { since: at("2026-11-20T02:10:00Z"), until: at("2026-11-20T03:00:00Z") };
        let starved = delivery::Status { starved: Some(starved), ..status("soc", State::Starved, 3) };
        let strange = delivery::Status { meets_another: true, ..status("ops", State::Held, 1) };
        assert!(starved.is_stuck() && strange.is_stuck());
        assert_eq!(
            status_line(&[starved, strange], &since, 0, &TimeZone::UTC),
            "3 waiting for soc since Fri 2026-11-20 02:10:00 UTC: the account has posted what it may until Fri 2026-11-20 03:00:00 UTC; 1 waiting for ops: \
             another than SIGNL4 answers"
        );
        let line = |doubles| status_line(&[], &since, doubles, &TimeZone::UTC);
        assert_eq!(line(0), "events go out as they come");
        assert_eq!(line(2), "events go out as they come; 2 alerts may be there twice");
        assert!(!status("soc", State::Down, 0).is_stuck(), "where nothing waits nothing is stuck");
    }

    #[test]
    fn the_mail_says_how_much_waits_since_when_and_why() {
        let count = Count {
            team: "soc".into(),
            queued: 3,
            failed: 0,
            oldest: Some(at("2026-11-20T02:09:00Z")),
            possible_doubles: 0,
        };
        let stuck = [status("soc", State::Down, 3)];
        let since = at("2026-11-20T02:10:00Z");
        let (subject, text) = letter(Word::Stuck { since }, "gw1", &[count], &stuck, &TimeZone::UTC);
        assert_eq!(subject, "SIGNL4 gets no events from gw1 since Fri 2026-11-20 02:10:00 UTC: 3 wait");
        assert!(
            text.contains(
                "team soc: 3 events wait, the oldest since Fri 2026-11-20 02:09:00 UTC: cannot be reached: no \
                 connection within 10s\n"
            ),
            "{text}"
        );
    }
}
