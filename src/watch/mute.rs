//! What is muted: by the maintenance windows of the config, and by mutes that operators begin and end while the
//! service runs. Mail is kept all the same. Only what would page is muted: what acknowledges or resolves passes, and
//! what is critical passes unless the window or the mute says otherwise.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::config::{Config, Window};
use crate::context::Context;
use crate::event::{Event, Severity, Status, bounded};
use crate::rules::{self, StandaloneCondition, Subject};
use crate::spool::{self, Memo, PutError, Reader, Unheard};
use crate::time::in_zone;

use super::own;

/// Incidents that a notice lists; `queue` lists them all.
const LISTED: usize = 10;

/// The kind of the memos that keep mutes, by their ids.
const MUTE: &str = "mute";

/// The kind of the memos that keep what has muted something and has not ended, by its label.
const MUTING: &str = "muting";

/// A mute that an operator began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mute {
    /// How an operator names it.
    pub id: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// What it mutes, each as `KEY=REGEX`; everything if there is none.
    pub conditions: Vec<String>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it mutes critical events as well.
    #[serde(default)]
    pub critical: bool,
}

impl Mute {
    /// Its name as the reason of what it mutes.
    fn label(&self) -> String {
        format!("mute {}", self.id)
    }

    fn is_on(&self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }
}

/// Why an event is muted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muting {
    /// What mutes it: `maintenance NAME` or `mute ID`.
    pub label: String,
    /// The same with an operator's reason.
    pub reason: String,
    /// When that ends; none if never.
    pub until: Option<Timestamp>,
}

/// Everything that mutes.
#[derive(Debug, Default)]
pub struct Mutes {
    windows: RwLock<Vec<Window>>,
    begun: RwLock<Vec<(Mute, StandaloneCondition)>>,
    /// The labels of what has muted something, each with when it first did, until that has ended and was told.
    muting: RwLock<BTreeMap<String, Timestamp>>,
    rules: rules::Config,
}

/// The mutes that are kept in the spool, in the order in which they end.
///
/// # Errors
/// They cannot be read.
pub async fn kept(spool: &Reader) -> Result<Vec<Mute>, spool::Error> {
    let found = spool.memos(MUTE).await?;
    let mut mutes: Vec<Mute> =
        found.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok()).collect();
    mutes.sort_by(|a, b| (a.until, &a.id).cmp(&(b.until, &b.id)));
    Ok(mutes)
}

/// The conditions of a mute.
///
/// # Errors
/// Everything that is wrong with them, each with its place in its argument, for people.
pub fn conditions(arguments: &[String], rules: &rules::Config) -> Result<StandaloneCondition, String> {
    StandaloneCondition::parse("--match", arguments, rules).map_err(|found| {
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        told.join("\n\n")
    })
}

impl Mutes {
    /// What the config says.
    pub fn of_config(config: &Config) -> Self {
        Self {
            windows: RwLock::new(config.maintenance.clone()),
            rules: config.rules.clone(),
            ..Self::default()
        }
    }

    /// What the config and the spool say.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub async fn load(config: &Config, spool: &Reader) -> Result<Self, spool::Error> {
        let since = |value| serde_json::from_value(value).unwrap_or(Timestamp::UNIX_EPOCH);
        let muting =
            spool.memos(MUTING).await?.into_iter().map(|(label, value)| (label, since(value))).collect();
        let mutes = Self { muting: RwLock::new(muting), ..Self::of_config(config) };
        for mute in kept(spool).await? {
            let (id, known) = (mute.id.clone(), mutes.begin(mute));
            if let Err(problem) = known {
                error!(id, problem, "this mute cannot be read any more: it mutes nothing");
            }
        }
        Ok(mutes)
    }

    /// Puts other windows in force.
    pub fn replace_windows(&self, windows: Vec<Window>) {
        *write(&self.windows) = windows;
    }

    /// What mutes `event`, made of `subject`; of several that which ends last.
    pub fn muting(&self, subject: &Subject<'_>, event: &Event) -> Option<Muting> {
        if event.status != Status::New {
            return None;
        }
        let at = subject.envelope.received_at;
        let critical = event.severity == Some(Severity::Critical);
        let windows = read(&self.windows);
        let windows = windows
            .iter()
            .filter(|window| window.is_open(at) && (window.critical || !critical))
            .filter(|window| window.when.as_ref().is_none_or(|when| when.holds(subject, Some(event))))
            .map(|window| {
                let label = label_of(window);
                Muting { reason: label.clone(), label, until: window.closes(at) }
            });
        let begun = read(&self.begun);
        let begun = begun
            .iter()
            .filter(|(mute, _)| mute.is_on(at) && (mute.critical || !critical))
            .filter(|(_, when)| when.holds(subject, Some(event)))
            .map(|(mute, _)| {
                let label = mute.label();
                let reason =
                    mute.reason.as_ref().map_or_else(|| label.clone(), |why| format!("{label}: {why}"));
                Muting { label, reason, until: Some(mute.until) }
            });
        windows.chain(begun).max_by_key(|muting| muting.until.unwrap_or(Timestamp::MAX))
    }

    /// The conditions of a mute as they will be read.
    ///
    /// # Errors
    /// Everything that is wrong with them, for people.
    pub fn conditions(&self, arguments: &[String]) -> Result<StandaloneCondition, String> {
        conditions(arguments, &self.rules)
    }

    /// Puts a mute in force, which the spool keeps.
    ///
    /// # Errors
    /// What is wrong with its conditions, for people.
    pub fn begin(&self, mute: Mute) -> Result<(), String> {
        let when = self.conditions(&mute.conditions)?;
        write(&self.begun).push((mute, when));
        Ok(())
    }

    /// The ids of the mutes that are kept.
    pub fn ids(&self) -> Vec<String> {
        self.ids_of(|_| true)
    }

    fn ids_of(&self, which: impl Fn(&Mute) -> bool) -> Vec<String> {
        read(&self.begun).iter().filter(|(mute, _)| which(mute)).map(|(mute, _)| mute.id.clone()).collect()
    }

    /// Ends the mutes `ids`, which the spool has forgotten.
    pub fn end(&self, ids: &[String]) {
        write(&self.begun).retain(|(mute, _)| !ids.contains(&mute.id));
    }

    /// Notes that something that came at `at` is muted by `label`. The memo that keeps that.
    pub fn note(&self, label: &str, at: Timestamp) -> Memo {
        let since = *write(&self.muting).entry(label.to_owned()).or_insert(at);
        let value = serde_json::to_value(since).expect("a time can be written as JSON");
        Memo { kind: MUTING, name: label.to_owned(), value: Some(value) }
    }

    /// The labels of what has muted something and is over at `now`, and when each first did.
    fn over(&self, now: Timestamp) -> Vec<(String, Timestamp)> {
        let on = self.on(now);
        let muting = read(&self.muting);
        let over = muting.iter().filter(|(label, _)| !on.iter().any(|(on, _)| on == *label));
        over.map(|(label, since)| (label.clone(), *since)).collect()
    }

    /// Ends what is over, and tells what is still open of what it muted. When the next ends.
    ///
    /// # Errors
    /// The spool could not take it; it stays due.
    pub(super) async fn end_over(&self, context: &Context) -> Result<Option<Timestamp>, PutError> {
        let now = context.now();
        let expired = self.ids_of(|mute| mute.until <= now);
        if !expired.is_empty() {
            context.spool.remember(forget(&expired)).await?;
            self.end(&expired);
            info!(mutes = expired.join(", "), "mutes are over");
        }
        for (label, since) in self.over(now) {
            let unheard = context.spool.reader().unheard(&label, since).await?;
            let memos = vec![Memo { kind: MUTING, name: label.clone(), value: None }];
            let notices = still_open(context, &self.rules.zone, &label, &unheard);
            if notices.is_empty() {
                context.spool.remember(memos).await?;
            } else {
                own::keep(context, notices, memos).await?;
            }
            info!(label, open = unheard.len(), "a mute is over, and what it muted is told");
            write(&self.muting).remove(&label);
        }
        Ok(self.next_end(now))
    }

    /// When the first of those that mute at `now` ends.
    fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.on(now).into_iter().filter_map(|(_, end)| end).min()
    }

    /// The labels of what is in force at `now`, and when it ends.
    fn on(&self, now: Timestamp) -> Vec<(String, Option<Timestamp>)> {
        let windows = read(&self.windows);
        let windows = windows
            .iter()
            .filter(|window| window.is_open(now))
            .map(|window| (label_of(window), window.closes(now)));
        let begun = read(&self.begun);
        let begun = begun
            .iter()
            .filter(|(mute, _)| mute.is_on(now))
            .map(|(mute, _)| (mute.label(), Some(mute.until)));
        windows.chain(begun).collect()
    }
}

/// The memo that keeps `mute`.
pub fn memo(mute: &Mute) -> Memo {
    let value = serde_json::to_value(mute).expect("a mute can be written as JSON");
    Memo { kind: MUTE, name: mute.id.clone(), value: Some(value) }
}

/// The memos that forget the mutes `ids`.
pub fn forget(ids: &[String]) -> Vec<Memo> {
    ids.iter().map(|id| Memo { kind: MUTE, name: id.clone(), value: None }).collect()
}

fn label_of(window: &Window) -> String {
    format!("maintenance {}", window.name)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A notice for each team of which something is still open that `label` muted.
fn still_open(context: &Context, zone: &TimeZone, label: &str, unheard: &[Unheard]) -> Vec<Event> {
    let mut teams: Vec<&str> = unheard.iter().map(|incident| incident.team.as_str()).collect();
    teams.sort_unstable();
    teams.dedup();
    let of_team = |team: &str| {
        let open: Vec<&Unheard> = unheard.iter().filter(|incident| incident.team == team).collect();
        let lines = open.iter().take(LISTED).map(|incident| {
            let severity = incident.severity.map_or_else(String::new, |severity| format!("{severity}, "));
            let title = bounded(&incident.title, 120);
            format!("\n- {title} ({severity}{})", in_zone(incident.at, zone))
        });
        let mut message = format!("Muted meanwhile, and not closed since:{}", lines.collect::<String>());
        if open.len() > LISTED {
            message.push_str(&format!("\n- and {} more", open.len() - LISTED));
        }
        message.push_str("\n\nAll of them: smtp2signl4 queue list --state muted");
        let (are, s) = if open.len() == 1 { ("is", "") } else { ("are", "s") };
        Event {
            team: team.to_owned(),
            title: format!("{} incident{s} {are} still open after {label}", open.len()),
            message,
            external_id: Some(format!("{}:muted:{label}:{}", own::SOURCE, context.now().as_millisecond())),
            severity: open.iter().filter_map(|incident| incident.severity).max(),
            ..Event::default()
        }
    };
    teams.into_iter().filter(|team| context.teams.has(team)).map(of_team).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::diagnostic::Source;
    use crate::mail::{Envelope, Message};

    fn mutes(text: &str) -> Mutes {
        let config = config::parse(None, &Source::new("t", text)).unwrap();
        Mutes { windows: RwLock::new(config.maintenance), ..Mutes::default() }
    }

    fn mute(id: &str, until: &str, conditions: &[&str]) -> Mute {
        Mute {
            id: id.to_owned(),
            since: at("2026-11-20T12:00:00Z"),
            until: at(until),
            conditions: conditions.iter().map(|&condition| condition.to_owned()).collect(),
            reason: Some("new disks".to_owned()),
            critical: false,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn event() -> Event {
        Event { title: "db1 is DOWN".into(), source_system: Some("Nagios".into()), ..Event::default() }
    }

    fn reason(mutes: &Mutes, time: &str, event: &Event) -> Option<String> {
        let envelope = Envelope { received_at: at(time), ..Envelope::default() };
        let message = Message::parse(b"Subject: db1\r\n\r\n");
        let subject = Subject { message: &message, envelope: &envelope, team: "soc" };
        mutes.muting(&subject, event).map(|muting| muting.reason)
    }

    const NIGHT: &str = "[[maintenance]]\nname = 'patching'\nwhen = { event.source-system = 'Nagios' }\n\
                         between = ['22:00', '06:00']\n";

    #[test]
    fn a_window_mutes_what_its_condition_names_from_its_start_until_before_its_end() {
        let mutes = mutes(NIGHT);
        let by = Some("maintenance patching".to_owned());
        assert_eq!(reason(&mutes, "2026-11-20T21:59:59Z", &event()), None);
        assert_eq!(reason(&mutes, "2026-11-20T22:00:00Z", &event()), by);
        assert_eq!(reason(&mutes, "2026-11-21T05:59:59.999Z", &event()), by);
        assert_eq!(reason(&mutes, "2026-11-21T06:00:00Z", &event()), None);
        let other = Event { source_system: Some("Zabbix".into()), ..event() };
        assert_eq!(reason(&mutes, "2026-11-20T23:00:00Z", &other), None);
    }

    #[test]
    fn what_closes_or_acknowledges_passes_and_critical_passes_unless_told_otherwise() {
        let night = "2026-11-20T23:00:00Z";
        let quiet = mutes(NIGHT);
        let all = mutes(&format!("{NIGHT}critical = true\n"));
        for status in [Status::Resolved, Status::Acknowledged] {
            assert_eq!(reason(&all, night, &Event { status, ..event() }), None);
        }
        let critical = Event { severity: Some(Severity::Critical), ..event() };
        assert_eq!(reason(&quiet, night, &critical), None);
        assert!(reason(&all, night, &critical).is_some());
        assert!(reason(&quiet, night, &Event { severity: Some(Severity::High), ..event() }).is_some());
    }

    #[test]
    fn a_mute_holds_until_its_end_or_until_it_is_ended() {
        let mutes = mutes("");
        mutes
            .begin(mute("3fa2", "2026-11-20T14:00:00Z", &["event.source-system=Nagios", "subject=db1"]))
            .unwrap();
        let by = Some("mute 3fa2: new disks".to_owned());
        assert_eq!(reason(&mutes, "2026-11-20T13:59:59Z", &event()), by);
        assert_eq!(reason(&mutes, "2026-11-20T14:00:00Z", &event()), None);
        let expired = |time: &str| mutes.ids_of(|mute| mute.until <= at(time));
        assert_eq!(expired("2026-11-20T13:59:59Z"), [""; 0]);
        assert_eq!(expired("2026-11-20T14:00:00Z"), ["3fa2"]);
        mutes.end(&mutes.ids());
        assert_eq!(reason(&mutes, "2026-11-20T13:00:00Z", &event()), None);
        assert!(mutes.begin(mute("x", "2026-11-20T14:00:00Z", &["subject=("])).is_err());
    }

    #[test]
    fn of_several_the_one_that_ends_last_is_the_reason_and_each_end_is_told_once() {
        let mutes = mutes(NIGHT);
        mutes.begin(mute("short", "2026-11-20T23:30:00Z", &[])).unwrap();
        mutes.begin(mute("long", "2026-11-21T12:00:00Z", &[])).unwrap();
        assert_eq!(reason(&mutes, "2026-11-20T23:00:00Z", &event()).unwrap(), "mute long: new disks");
        assert_eq!(mutes.next_end(at("2026-11-20T23:00:00Z")), Some(at("2026-11-20T23:30:00Z")));
        for label in ["mute long", "maintenance patching", "maintenance gone"] {
            mutes.note(label, at("2026-11-20T23:00:00Z"));
            mutes.note(label, at("2026-11-20T23:30:00Z"));
        }
        let over = |time: &str| mutes.over(at(time)).into_iter().map(|(label, _)| label).collect::<Vec<_>>();
        assert_eq!(over("2026-11-20T23:00:00Z"), ["maintenance gone"]);
        write(&mutes.muting).remove("maintenance gone");
        assert_eq!(over("2026-11-21T06:00:00Z"), ["maintenance patching"]);
        assert_eq!(over("2026-11-21T12:00:00Z"), ["maintenance patching", "mute long"]);
        assert_eq!(
            mutes.over(at("2026-11-21T12:00:00Z"))[0].1,
            at("2026-11-20T23:00:00Z"),
            "since the first"
        );
    }
}
