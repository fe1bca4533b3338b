//! Expected mail: which has come, which is missing, and what is to be told of it. When a mail was last seen is kept
//! in the transaction that takes it, and an alert in that of its state, so that a crash changes nothing.
//!
//! For a name that was never seen before, the time counts from the first start of the service with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::{Config, Expect};
use crate::context::Context;
use crate::event::{Event, Repeat, Status};
use crate::mail::{MailId, Trust};
use crate::rules::Subject;
use crate::spool::{self, Memo, PutError, Reader};
use crate::time::{duration_text, in_zone, signed};

use super::own;

/// How long after the start nothing counts as missing: what could not come while no service ran is tried again by its
/// sender, within minutes by most.
const GRACE: SignedDuration = SignedDuration::from_mins(15);

/// The kind of the memos that keep how it stands with each expected mail.
const STANDING: &str = "expect";

/// The kind of the memos that keep when each came last.
const SEEN: &str = "expect-seen";

/// A mail that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// The mail.
    pub mail: MailId,
}

/// An alert that was raised because none came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Raised {
    /// When, the last time.
    pub at: Timestamp,
    /// When the last mail had come by then.
    pub seen: Option<Timestamp>,
    /// The team that was told.
    pub team: String,
}

/// How it stands with an expected mail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// Since when it is expected; none before the first start.
    pub since: Option<Timestamp>,
    /// The last that came.
    #[serde(skip)]
    pub seen: Option<Seen>,
    /// The alert that is open.
    pub raised: Option<Raised>,
}

/// What is to be done about an expected mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this.
    Wait(Timestamp),
    /// It is missing: raise an alert, or raise it again.
    Raise,
    /// It came: close the alert.
    Resolve,
}

impl Standing {
    /// What is due at `now`, for a mail that is expected `within` this time.
    pub fn due(&self, within: Duration, now: Timestamp) -> Due {
        let seen = self.seen.map(|seen| seen.at);
        let from = match &self.raised {
            Some(raised) if seen > raised.seen => return Due::Resolve,
            Some(raised) => raised.at,
            None => self.since.max(seen).unwrap_or(now),
        };
        match deadline(from, within) {
            deadline if now < deadline => Due::Wait(deadline),
            _ => Due::Raise,
        }
    }

    /// When the next is missed; none before the first start, and while one is missed.
    pub fn deadline(&self, within: Duration) -> Option<Timestamp> {
        let from = self.since.max(self.seen.map(|seen| seen.at))?;
        self.raised.is_none().then(|| deadline(from, within))
    }
}

fn deadline(from: Timestamp, within: Duration) -> Timestamp {
    from.saturating_add(signed(within)).unwrap_or(Timestamp::MAX)
}

/// All expected mails.
#[derive(Debug, Default)]
pub struct Expects {
    expects: Vec<Expect>,
    standings: Mutex<Vec<Standing>>,
    /// What the spool knows of names that are no longer expected.
    strays: Mutex<Vec<(String, Standing)>>,
    started: Timestamp,
    /// The zone in which times are told; UTC if there is none.
    zone: Option<TimeZone>,
}

/// How it stands with every name that the spool knows.
///
/// # Errors
/// It cannot be read.
pub async fn standings(spool: &Reader) -> Result<Vec<(String, Standing)>, spool::Error> {
    let mut found: Vec<(String, Standing)> = spool
        .memos(STANDING)
        .await?
        .into_iter()
        .map(|(name, value)| (name, serde_json::from_value(value).unwrap_or_default()))
        .collect();
    for (name, value) in spool.memos(SEEN).await? {
        let seen = serde_json::from_value(value).ok();
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, standing)) => standing.seen = seen,
            None => found.push((name, Standing { seen, ..Standing::default() })),
        }
    }
    Ok(found)
}

impl Expects {
    /// Those of the config, as they stand in the spool.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub async fn load(config: &Config, spool: &Reader, now: Timestamp) -> Result<Self, spool::Error> {
        let expects = config.expects.clone();
        let mut known = standings(spool).await?;
        let standings = expects
            .iter()
            .map(|expect| match known.iter().position(|(name, _)| *name == expect.name) {
                Some(at) => known.swap_remove(at).1,
                None => Standing::default(),
            })
            .collect();
        let (standings, strays) = (Mutex::new(standings), Mutex::new(known));
        Ok(Self { expects, standings, strays, started: now, zone: Some(config.rules.zone.clone()) })
    }

    /// The names of those that a mail of this `trust` is, with the `events` that were made of it, for `teams`.
    pub fn of(&self, trust: Trust, subject: &Subject<'_>, teams: &[String], events: &[Event]) -> Vec<String> {
        let came = |expect: &&Expect| {
            if trust.is_stranger() && !expect.strangers {
                return false;
            }
            let of = |team, event| expect.when.holds(&Subject { team, ..*subject }, event);
            match events {
                [] => teams.iter().any(|team| of(team, None)),
                events => events.iter().any(|event| of(&event.team, Some(event))),
            }
        };
        self.expects.iter().filter(came).map(|expect| expect.name.clone()).collect()
    }

    /// Notes that the mail `seen` was the one with this name. Whether that is something new to look at.
    pub fn saw(&self, name: &str, seen: Seen) -> bool {
        let Some(at) = self.expects.iter().position(|expect| expect.name == name) else { return false };
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = &mut standings[at];
        if standing.seen.is_none_or(|before| before.at < seen.at) {
            standing.seen = Some(seen);
        }
        standing.raised.is_some()
    }

    /// Each expected mail and how it stands.
    fn all(&self) -> Vec<(Expect, Standing)> {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        self.expects.iter().cloned().zip(standings.iter().cloned()).collect()
    }

    /// Notes that `standing`, but for what came, is in the spool.
    fn stands(&self, name: &str, standing: &Standing) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = self.expects.iter().position(|expect| expect.name == name) {
            let seen = standings[at].seen;
            standings[at] = Standing { seen, ..standing.clone() };
        }
    }

    /// Raises and closes alerts as it is due, and forgets names that are no longer expected. When the next may be due.
    ///
    /// # Errors
    /// The spool could not take it; it stays due.
    pub(super) async fn attend(&self, context: &Context) -> Result<Option<Timestamp>, PutError> {
        while let Some((name, standing)) = self.stray() {
            self.forget(context, &name, &standing).await?;
        }
        let mut next = None;
        for (expect, standing) in self.all() {
            let due = self.attend_to(context, &expect, standing).await?;
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Raises or closes the alert of `expect` if that is due. When it is to be looked at again.
    async fn attend_to(
        &self,
        context: &Context,
        expect: &Expect,
        standing: Standing,
    ) -> Result<Option<Timestamp>, PutError> {
        let now = context.now();
        if standing.since.is_none() {
            let begun = Standing { since: Some(now), ..standing };
            context.spool.remember(vec![memo(&expect.name, &begun)]).await?;
            self.stands(&expect.name, &begun);
            return Ok(begun.deadline(expect.within));
        }
        let ready = self.started.saturating_add(GRACE.min(signed(expect.within))).unwrap_or(now);
        match standing.due(expect.within, now) {
            Due::Wait(until) => Ok(Some(until)),
            Due::Raise if now < ready => Ok(Some(ready)),
            Due::Raise => {
                warn!(expect = expect.name, "an expected mail did not come");
                let raised =
                    Raised { at: now, seen: standing.seen.map(|seen| seen.at), team: expect.team.clone() };
                let event = missing(&self.zone(), expect, &standing);
                let standing = Standing { raised: Some(raised), ..standing };
                self.tell(context, &expect.name, event, standing).await
            }
            Due::Resolve => {
                info!(expect = expect.name, "an expected mail came again");
                let team = standing.raised.as_ref().map_or(&expect.team, |raised| &raised.team);
                let event = came(&self.zone(), expect, &standing, team);
                self.tell(context, &expect.name, event, Standing { raised: None, ..standing }).await
            }
        }
    }

    /// Keeps `event` and what it makes of how it stands, both or neither.
    async fn tell(
        &self,
        context: &Context,
        name: &str,
        event: Event,
        standing: Standing,
    ) -> Result<Option<Timestamp>, PutError> {
        own::keep(context, vec![event], vec![memo(name, &standing)]).await?;
        self.stands(name, &standing);
        // What came meanwhile is looked at anew.
        Ok(Some(context.now()))
    }

    fn zone(&self) -> TimeZone {
        self.zone.clone().unwrap_or(TimeZone::UTC)
    }

    /// One that is no longer expected and not yet forgotten.
    fn stray(&self) -> Option<(String, Standing)> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// Forgets a name that is no longer expected, and closes its alert.
    async fn forget(&self, context: &Context, name: &str, standing: &Standing) -> Result<(), PutError> {
        let memos = [STANDING, SEEN].map(|kind| Memo { kind, name: name.to_owned(), value: None }).into();
        match &standing.raised {
            Some(raised) if context.teams.has(&raised.team) => {
                let event = Event {
                    status: Status::Resolved,
                    title: format!("No longer expected: {name}"),
                    message: format!("The config has no [[expect]] `{name}` any more."),
                    ..notice(&raised.team, name)
                };
                own::keep(context, vec![event], memos).await?;
            }
            _ => context.spool.remember(memos).await?,
        }
        info!(expect = name, "forgot a mail that is no longer expected");
        self.strays.lock().unwrap_or_else(PoisonError::into_inner).retain(|(stray, _)| stray != name);
        Ok(())
    }
}

/// The memo that keeps `standing`.
fn memo(name: &str, standing: &Standing) -> Memo {
    let value = serde_json::to_value(standing).expect("how it stands can be written as JSON");
    Memo { kind: STANDING, name: name.to_owned(), value: Some(value) }
}

/// The memo that keeps when it came last.
pub fn seen_memo(name: &str, seen: Seen) -> Memo {
    let value = serde_json::to_value(seen).expect("when it came can be written as JSON");
    Memo { kind: SEEN, name: name.to_owned(), value: Some(value) }
}

fn missing(zone: &TimeZone, expect: &Expect, standing: &Standing) -> Event {
    let mut message =
        format!("No mail for [[expect]] `{}` came within {}.", expect.name, duration_text(expect.within));
    match (standing.seen, standing.since) {
        (Some(seen), _) => {
            message.push_str(&format!(
                "\nThe last one came at {} (mail {}).",
                in_zone(seen.at, zone),
                seen.mail
            ));
        }
        (None, Some(since)) => {
            message.push_str(&format!("\nNone has come since it is expected, {}.", in_zone(since, zone)));
        }
        (None, None) => {}
    }
    if let Some(raised) = &standing.raised {
        message.push_str(&format!("\nIt is still missing; told before at {}.", in_zone(raised.at, zone)));
    }
    let severity = Some(expect.severity);
    Event { title: expect.title.clone(), message, severity, ..notice(&expect.team, &expect.name) }
}

fn came(zone: &TimeZone, expect: &Expect, standing: &Standing, team: &str) -> Event {
    let mut message = format!("A mail for [[expect]] `{}` came", expect.name);
    if let Some(seen) = standing.seen {
        message.push_str(&format!(" at {} (mail {})", in_zone(seen.at, zone), seen.mail));
    }
    if let Some(before) = standing.raised.as_ref().and_then(|raised| raised.seen) {
        message.push_str(&format!(", the first since {}", in_zone(before, zone)));
    }
    message.push('.');
    let title = format!("Expected mail came: {}", expect.name);
    Event { title, message, status: Status::Resolved, ..notice(team, &expect.name) }
}

fn notice(team: &str, name: &str) -> Event {
    Event {
        team: team.to_owned(),
        external_id: Some(format!("{}:expect:{name}", own::SOURCE)),
        // It comes as often as somebody has asked for, whatever is thought of repeated mails.
        repeat: Some(Repeat::Update),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(text: &str) -> Timestamp {
        format!("2026-11-{text}:00Z").parse().unwrap()
    }

    fn seen(text: &str) -> Option<Seen> {
        Some(Seen { at: at(text), mail: MailId::new(at(text), 1) })
    }

    #[test]
    fn a_mail_is_missed_at_its_exact_deadline_and_again_each_time_that_it_may_take() {
        let mut standing = Standing { since: Some(at("20T12:00")), ..Standing::default() };
        assert_eq!(standing.due(DAY, at("20T12:00")), Due::Wait(at("21T12:00")));
        assert_eq!(standing.due(DAY, at("21T11:59")), Due::Wait(at("21T12:00")));
        assert_eq!(standing.due(DAY, at("21T12:00")), Due::Raise);
        standing.seen = seen("21T03:00");
        assert_eq!(standing.due(DAY, at("21T12:00")), Due::Wait(at("22T03:00")));
        assert_eq!(standing.due(DAY, at("22T03:00")), Due::Raise);
        standing.raised = Some(Raised { at: at("22T03:05"), seen: Some(at("21T03:00")), team: "soc".into() });
        assert_eq!(standing.due(DAY, at("22T04:00")), Due::Wait(at("23T03:05")));
        assert_eq!(standing.due(DAY, at("23T03:05")), Due::Raise);
    }

    #[test]
    fn one_that_came_closes_the_alert_even_if_it_came_before_the_alert_was_written() {
        let raised = Some(Raised { at: at("22T03:05"), seen: Some(at("21T03:00")), team: "soc".into() });
        let standing = Standing { since: Some(at("20T12:00")), seen: seen("22T03:04"), raised };
        assert_eq!(standing.due(DAY, at("22T03:05")), Due::Resolve);
        let never = Some(Raised { at: at("21T12:00"), seen: None, team: "soc".into() });
        let standing = Standing { since: Some(at("20T12:00")), seen: seen("25T03:04"), raised: never };
        assert_eq!(standing.due(DAY, at("25T03:04")), Due::Resolve);
    }

    #[test]
    fn before_the_first_start_there_is_no_deadline() {
        let standing = Standing::default();
        assert_eq!(standing.deadline(DAY), None);
        let seen = Standing { seen: seen("21T03:00"), ..Standing::default() };
        assert_eq!(seen.deadline(DAY), Some(at("22T03:00")));
    }
}
