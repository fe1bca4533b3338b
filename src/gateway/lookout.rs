//! Watches what comes and what does not: looks at each mail for what mutes it and who expects it, tells what is still
//! open when a mute ends, and raises an alert for an expected mail that is missing.
//!
//! What it remembers is written in the transaction of the mail or the notice that it is about. Left out: what a
//! condition or a calendar means, which is `mute`'s and `expect`'s.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit};
use tokio::sync::{Mutex, Notify, watch};
use tracing::{info, warn};

use crate::config::{Config, Expect};
use crate::event::{Event, Repeat, Status, bounded};
use crate::mail::{Envelope, MailId, Message, Trust};
use crate::rules::Subject;
use crate::spool::{self, Memo, PutError, Reader, Unheard};

use super::Intake;
use super::expect::{self, Due, Expects, Raised, Seen, Standing};
use super::mute::{self, Mutes};

/// How long it looks away at most: the wall clock may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(30);

/// How long after the start nothing counts as missing: what could not come while no service ran is tried again by its
/// sender, within minutes by most.
const GRACE: SignedDuration = SignedDuration::from_mins(15);

/// Incidents that a notice lists; `queue` lists them all.
const LISTED: usize = 10;

/// What watches.
#[derive(Debug, Default)]
pub struct Lookout {
    /// What is muted.
    pub mutes: Mutes,
    expects: Expects,
    started: Timestamp,
    zone: Option<TimeZone>,
    /// Told when something may be due before its time.
    woken: Notify,
    /// Held by whoever does what is due, so that nothing is done twice.
    attending: Mutex<()>,
}

/// What was seen in a mail.
#[derive(Debug, Default)]
pub struct Sight {
    /// The labels of what mutes events of it.
    muting: Vec<String>,
    /// The names of those that expect it.
    expected: Vec<String>,
}

impl Lookout {
    /// What the config says and the spool remembers, at `now`.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub async fn load(config: &Config, spool: &Reader, now: Timestamp) -> Result<Self, spool::Error> {
        Ok(Self {
            mutes: Mutes::load(config, spool).await?,
            expects: Expects::load(config.expects.clone(), spool).await?,
            started: now,
            zone: Some(config.rules.zone.clone()),
            ..Self::default()
        })
    }

    /// Looks at a mail of this `trust` for `teams` and the `events` that were made of it, and mutes those that are to be
    /// muted.
    pub fn look(
        &self,
        trust: Trust,
        message: &Message,
        envelope: &Envelope,
        teams: &[String],
        events: &mut [Event],
    ) -> Sight {
        let subject = |team| Subject { message, envelope, team };
        let expected = self.expects.of(trust, &subject(""), teams, events);
        let mut muting = Vec::new();
        for event in events {
            let Some(found) = self.mutes.muting(&subject(&event.team), event) else { continue };
            event.muted = Some(found.reason);
            if !muting.contains(&found.label) {
                muting.push(found.label);
            }
        }
        Sight { muting, expected }
    }

    /// What is to be remembered with the mail `id`, in which `sight` was seen at `at`.
    pub fn memos(&self, sight: &Sight, id: MailId, at: Timestamp) -> Vec<Memo> {
        let seen = Seen { at, mail: id };
        let expected = sight.expected.iter().map(|name| expect::seen_memo(name, seen));
        sight.muting.iter().map(|label| self.mutes.note(label, at)).chain(expected).collect()
    }

    /// Notes that the mail is in the spool.
    pub fn kept(&self, sight: &Sight, id: MailId, at: Timestamp) {
        let seen = Seen { at, mail: id };
        if sight.expected.iter().filter(|name| self.expects.saw(name, seen)).count() > 0 {
            self.wake();
        }
    }

    /// Looks at once what is due: something was ended or came.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// `at` as people write it.
    fn local(&self, at: Timestamp) -> String {
        let zoned = at.to_zoned(self.zone.clone().unwrap_or(TimeZone::UTC));
        zoned.round(Unit::Minute).unwrap_or(zoned).strftime("%Y-%m-%d %H:%M %Z").to_string()
    }
}

/// Does what is due, when it is due, until `stop` turns true.
pub async fn run(intake: Arc<Intake>, mut stop: watch::Receiver<bool>) {
    let mut failed = false;
    loop {
        let wait = match attend(&intake).await {
            Ok(next) => {
                failed = false;
                let wait = next.map(|next| next.duration_since(intake.now()));
                wait.map_or(LOOK, |wait| Duration::try_from(wait).unwrap_or_default()).min(LOOK)
            }
            Err(problem) => {
                if !failed {
                    warn!(%problem, "mutes and expected mail cannot be looked after; trying again");
                }
                failed = true;
                LOOK
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = intake.lookout().woken.notified() => {}
            () = async { _ = stop.wait_for(|stop| *stop).await; } => return,
        }
    }
}

/// Does what is due now; returns when the next is.
///
/// # Errors
/// The spool could not take it; it stays due.
pub async fn attend(intake: &Intake) -> Result<Option<Timestamp>, PutError> {
    let lookout = intake.lookout();
    let _alone = lookout.attending.lock().await;
    let mut next = end_mutes(intake).await?;
    while let Some((name, standing)) = lookout.expects.stray() {
        forget(intake, &name, &standing).await?;
    }
    for (expect, standing) in lookout.expects.all() {
        let due = attend_to(intake, &expect, standing).await?;
        next = [next, due].into_iter().flatten().min();
    }
    Ok(next)
}

/// Ends what is over, and tells what is still open of what it muted.
async fn end_mutes(intake: &Intake) -> Result<Option<Timestamp>, PutError> {
    let (mutes, now) = (&intake.lookout().mutes, intake.now());
    let expired = mutes.expired(now);
    if !expired.is_empty() {
        intake.spool().remember(mute::forget(&expired)).await.map_err(lost)?;
        mutes.end(&expired);
        info!(mutes = expired.join(", "), "mutes are over");
    }
    for (label, since) in mutes.over(now) {
        let unheard = intake.spool().reader().unheard(&label, since).await.map_err(lost)?;
        let memos = vec![mute::told_memo(&label)];
        let notices = still_open(intake, &label, now, &unheard);
        if notices.is_empty() {
            intake.spool().remember(memos).await.map_err(lost)?;
        } else {
            intake.notice(notices, memos).await?;
        }
        info!(label, open = unheard.len(), "a mute is over, and what it muted is told");
        mutes.told(&label);
    }
    Ok(mutes.next_end(now))
}

fn lost(error: spool::Error) -> PutError {
    match error {
        spool::Error::Full => PutError::Full,
        other => PutError::Io(other.to_string()),
    }
}

/// Raises or closes the alert of `expect` if that is due. When it is to be looked at again.
async fn attend_to(
    intake: &Intake,
    expect: &Expect,
    standing: Standing,
) -> Result<Option<Timestamp>, PutError> {
    let (lookout, now) = (intake.lookout(), intake.now());
    if standing.since.is_none() {
        let begun = Standing { since: Some(now), ..standing };
        intake.spool().remember(vec![expect::memo(&expect.name, &begun)]).await.map_err(lost)?;
        lookout.expects.stands(&expect.name, &begun);
        return Ok(begun.deadline(expect.within));
    }
    let within = SignedDuration::try_from(expect.within).unwrap_or(SignedDuration::MAX);
    let ready = lookout.started.saturating_add(GRACE.min(within)).unwrap_or(now);
    match standing.due(expect.within, now) {
        Due::Wait(until) => Ok(Some(until)),
        Due::Raise if now < ready => Ok(Some(ready)),
        Due::Raise => {
            warn!(expect = expect.name, "an expected mail did not come");
            let raised =
                Raised { at: now, seen: standing.seen.map(|seen| seen.at), team: expect.team.clone() };
            let event = missing(lookout, expect, &standing);
            let standing = Standing { raised: Some(raised), ..standing };
            tell(intake, &expect.name, event, standing).await
        }
        Due::Resolve => {
            info!(expect = expect.name, "an expected mail came again");
            let team = standing.raised.as_ref().map_or(&expect.team, |raised| &raised.team);
            let event = came(lookout, expect, &standing, team);
            tell(intake, &expect.name, event, Standing { raised: None, ..standing }).await
        }
    }
}

/// Puts `event` and what it makes of how it stands, both or neither.
async fn tell(
    intake: &Intake,
    name: &str,
    event: Event,
    standing: Standing,
) -> Result<Option<Timestamp>, PutError> {
    intake.notice(vec![event], vec![expect::memo(name, &standing)]).await?;
    intake.lookout().expects.stands(name, &standing);
    // What came meanwhile is looked at anew.
    Ok(Some(intake.now()))
}

/// Forgets a name that is no longer expected, and closes its alert.
async fn forget(intake: &Intake, name: &str, standing: &Standing) -> Result<(), PutError> {
    let memos = expect::forget(name);
    match &standing.raised {
        Some(raised) if intake.has_team(&raised.team) => {
            let event = Event {
                status: Status::Resolved,
                title: format!("No longer expected: {name}"),
                message: format!("The config has no [[expect]] `{name}` any more."),
                ..notice(&raised.team, name)
            };
            intake.notice(vec![event], memos).await?;
        }
        _ => intake.spool().remember(memos).await.map_err(lost)?,
    }
    info!(expect = name, "forgot a mail that is no longer expected");
    intake.lookout().expects.forgot(name);
    Ok(())
}

/// A notice for each team of which something is still open that `label` muted.
fn still_open(intake: &Intake, label: &str, now: Timestamp, unheard: &[Unheard]) -> Vec<Event> {
    let mut teams: Vec<&str> = unheard.iter().map(|incident| incident.team.as_str()).collect();
    teams.sort_unstable();
    teams.dedup();
    let of_team = |team: &str| {
        let open: Vec<&Unheard> = unheard.iter().filter(|incident| incident.team == team).collect();
        let lines = open.iter().take(LISTED).map(|incident| {
            let severity = incident.severity.map_or_else(String::new, |severity| format!("{severity}, "));
            let title = bounded(&incident.title, 120);
            format!("\n- {title} ({severity}{})", intake.lookout().local(incident.at))
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
            external_id: Some(format!("smtp2signl4:muted:{label}:{}", now.as_millisecond())),
            severity: open.iter().filter_map(|incident| incident.severity).max(),
            ..Event::default()
        }
    };
    teams.into_iter().filter(|team| intake.has_team(team)).map(of_team).collect()
}

fn missing(lookout: &Lookout, expect: &Expect, standing: &Standing) -> Event {
    let mut message =
        format!("No mail for [[expect]] `{}` came within {}.", expect.name, span(expect.within));
    match (standing.seen, standing.since) {
        (Some(seen), _) => {
            message.push_str(&format!(
                "\nThe last one came at {} (mail {}).",
                lookout.local(seen.at),
                seen.mail
            ));
        }
        (None, Some(since)) => {
            message.push_str(&format!("\nNone has come since it is expected, {}.", lookout.local(since)));
        }
        (None, None) => {}
    }
    if let Some(raised) = &standing.raised {
        message.push_str(&format!("\nIt is still missing; told before at {}.", lookout.local(raised.at)));
    }
    let severity = Some(expect.severity);
    Event { title: expect.title.clone(), message, severity, ..notice(&expect.team, &expect.name) }
}

fn came(lookout: &Lookout, expect: &Expect, standing: &Standing, team: &str) -> Event {
    let mut message = format!("A mail for [[expect]] `{}` came", expect.name);
    if let Some(seen) = standing.seen {
        message.push_str(&format!(" at {} (mail {})", lookout.local(seen.at), seen.mail));
    }
    if let Some(before) = standing.raised.as_ref().and_then(|raised| raised.seen) {
        message.push_str(&format!(", the first since {}", lookout.local(before)));
    }
    message.push('.');
    let title = format!("Expected mail came: {}", expect.name);
    Event { title, message, status: Status::Resolved, ..notice(team, &expect.name) }
}

fn notice(team: &str, name: &str) -> Event {
    Event {
        team: team.to_owned(),
        external_id: Some(format!("smtp2signl4:expect:{name}")),
        // It comes as often as somebody has asked for, whatever is thought of repeated mails.
        repeat: Some(Repeat::Update),
        ..Event::default()
    }
}

/// A duration in words: its two greatest units.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    // Up to two days, hours are how people say it.
    let units =
        if seconds < 2 * 86_400 { [(0, "d"), (seconds / 3600, "h"), units[2], units[3]] } else { units };
    let parts: Vec<String> = units
        .iter()
        .filter(|(count, _)| *count > 0)
        .take(2)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_as_people_say_it() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(of(26 * 3600), "26h");
        assert_eq!(of(90), "1m 30s");
        assert_eq!(of(8 * 86_400 + 3600), "8d 1h");
        assert_eq!(of(0), "0s");
    }
}
