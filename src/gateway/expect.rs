//! Expected mail: which has come, which is missing, and what is to be told of it. When a mail was last seen is kept
//! in the transaction that takes it, and an alert in that of its state, so that a crash changes nothing.
//!
//! For a name that was never seen before, the time counts from the first start of the service with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Expect;
use crate::event::Event;
use crate::mail::{MailId, Trust};
use crate::rules::Subject;
use crate::spool::{self, Memo, Reader};

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
    let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
    from.saturating_add(within).unwrap_or(Timestamp::MAX)
}

/// All expected mails.
#[derive(Debug, Default)]
pub struct Expects {
    expects: Vec<Expect>,
    standings: Mutex<Vec<Standing>>,
    /// What the spool knows of names that are no longer expected.
    strays: Mutex<Vec<(String, Standing)>>,
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
    pub async fn load(expects: Vec<Expect>, spool: &Reader) -> Result<Self, spool::Error> {
        let mut known = standings(spool).await?;
        let standings = expects
            .iter()
            .map(|expect| match known.iter().position(|(name, _)| *name == expect.name) {
                Some(at) => known.swap_remove(at).1,
                None => Standing::default(),
            })
            .collect();
        Ok(Self { expects, standings: Mutex::new(standings), strays: Mutex::new(known) })
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
    pub fn all(&self) -> Vec<(Expect, Standing)> {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        self.expects.iter().cloned().zip(standings.iter().cloned()).collect()
    }

    /// Notes that `standing`, but for what came, is in the spool.
    pub fn stands(&self, name: &str, standing: &Standing) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = self.expects.iter().position(|expect| expect.name == name) {
            let seen = standings[at].seen;
            standings[at] = Standing { seen, ..standing.clone() };
        }
    }

    /// One that is no longer expected and not yet forgotten.
    pub fn stray(&self) -> Option<(String, Standing)> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// Notes that a stray was forgotten.
    pub fn forgot(&self, name: &str) {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner).retain(|(stray, _)| stray != name);
    }
}

/// The memo that keeps `standing`.
pub fn memo(name: &str, standing: &Standing) -> Memo {
    let value = serde_json::to_value(standing).expect("how it stands can be written as JSON");
    Memo { kind: STANDING, name: name.to_owned(), value: Some(value) }
}

/// The memo that keeps when it came last.
pub fn seen_memo(name: &str, seen: Seen) -> Memo {
    let value = serde_json::to_value(seen).expect("when it came can be written as JSON");
    Memo { kind: SEEN, name: name.to_owned(), value: Some(value) }
}

/// The memos that forget a name.
pub fn forget(name: &str) -> Vec<Memo> {
    [STANDING, SEEN].map(|kind| Memo { kind, name: name.to_owned(), value: None }).into()
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
