//! What an operator does by hand: to the queue, and to what is muted. The same for a service that runs and for a
//! spool without one.

use jiff::Timestamp;
use tracing::info;

use crate::mail::MailId;
use crate::spool::{self, Filter, Queued, Selection};
use crate::watch::mute::{self, Mute};

use super::Intake;
use super::control::{Reply, Request};

/// Queues again what waits or failed of the mail `id`, or of all mails, made anew by today's rules if
/// `rejudge` says so.
pub async fn retry(intake: &Intake, id: Option<MailId>, rejudge: bool) -> Reply {
    let events = match requeue(intake, id, rejudge).await {
        Ok(events) => events,
        Err(problem) => return not_changed(&problem),
    };
    let count = events.len();
    if let Some(delivery) = &intake.context().delivery {
        delivery.wake(None).await;
    }
    Reply::Changed { events: count }
}

/// Queues what waits or failed of the mail `id` for `team`.
pub async fn retarget(intake: &Intake, id: MailId, team: &str) -> Reply {
    if !intake.context().teams.has(team) {
        return Reply::Refused(format!("there is no team `{}`", team.escape_debug()));
    }
    match intake.context().spool.retarget(id, team).await {
        Ok(events) => {
            let events = events.len();
            info!(%id, team, events, "an operator sends this mail's events to another team");
            if let Some(delivery) = &intake.context().delivery {
                delivery.wake(None).await;
            }
            Reply::Changed { events }
        }
        Err(problem) => not_changed(&problem),
    }
}

/// Gives up on the events of the mail `id` that were not delivered.
pub async fn drop_mail(intake: &Intake, id: MailId) -> Reply {
    match intake.context().spool.drop(id).await {
        Ok(events) => {
            info!(%id, events, "an operator dropped this mail's events");
            if let Some(delivery) = &intake.context().delivery {
                delivery.wake(None).await;
            }
            Reply::Changed { events }
        }
        Err(problem) => not_changed(&problem),
    }
}

/// Begins or ends a mute.
pub async fn mute(intake: &Intake, request: Request) -> Reply {
    match request {
        Request::Mute { until, conditions, reason, critical } => {
            let id = begin_mute(intake, until, conditions, reason, critical).await;
            id.map_or_else(|refused| refused, |id| Reply::Mutes { ids: vec![id] })
        }
        Request::EndMute { id } => end_mutes(intake, id).await,
        _ => Reply::Refused("this is about no mute".to_owned()),
    }
}

async fn begin_mute(
    intake: &Intake,
    until: Timestamp,
    conditions: Vec<String>,
    reason: Option<String>,
    critical: bool,
) -> Result<String, Reply> {
    let mutes = &intake.lookout().mutes;
    mutes.conditions(&conditions).map_err(Reply::Refused)?;
    let known = mutes.ids();
    // Four digits are easy to type, and a stale one hardly ever names another mute.
    let mut ids = std::iter::repeat_with(|| format!("{:04x}", fastrand::u16(..)));
    let id = ids.find(|id| !known.contains(id)).expect("there are more ids than anybody has mutes");
    let mute = Mute { id: id.clone(), since: intake.context().now(), until, conditions, reason, critical };
    if let Err(problem) = intake.context().spool.remember(vec![mute::memo(&mute)]).await {
        return Err(Reply::Temporary(problem.to_string()));
    }
    info!(id, %until, conditions = ?mute.conditions, reason = ?mute.reason, critical, "an operator begins a mute");
    mutes.begin(mute).map_err(Reply::Refused)?;
    intake.lookout().wake();
    Ok(id)
}

async fn end_mutes(intake: &Intake, id: Option<String>) -> Reply {
    let mutes = &intake.lookout().mutes;
    let mut ids = mutes.ids();
    ids.retain(|known| id.as_ref().is_none_or(|id| id == known));
    if let (Some(id), true) = (id, ids.is_empty()) {
        return Reply::Refused(format!("there is no mute {}", id.escape_debug()));
    }
    if let Err(problem) = intake.context().spool.remember(mute::forget(&ids)).await {
        return Reply::Temporary(problem.to_string());
    }
    mutes.end(&ids);
    info!(mutes = ids.join(", "), "an operator ends mutes");
    intake.lookout().wake();
    Reply::Mutes { ids }
}

fn not_changed(problem: &spool::Error) -> Reply {
    match problem {
        spool::Error::NoSuchMail(_) => Reply::Refused(problem.to_string()),
        _ => Reply::Temporary(problem.to_string()),
    }
}

async fn requeue(intake: &Intake, id: Option<MailId>, rejudge: bool) -> Result<Vec<Queued>, spool::Error> {
    let spool = &intake.context().spool;
    if !rejudge {
        let selection = id.map_or(Selection::All, Selection::Mail);
        return spool.retry(selection).await;
    }
    let ids = match id {
        Some(id) => vec![id],
        None => unfinished(intake).await?,
    };
    let mut events = Vec::new();
    for id in ids {
        events.extend(rejudge_one(intake, id).await?);
    }
    Ok(events)
}

/// The mails that have events which were not delivered.
async fn unfinished(intake: &Intake) -> Result<Vec<MailId>, spool::Error> {
    let mut ids = Vec::new();
    let mut filter = Filter {
        states: vec![spool::State::Queued, spool::State::Failed],
        limit: 1_000,
        ..Filter::default()
    };
    loop {
        let page = intake.context().spool.reader().list(filter.clone()).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some(last.seq);
        ids.extend(page.iter().map(|event| event.id));
    }
    // In the order of acceptance, each once.
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

async fn rejudge_one(intake: &Intake, id: MailId) -> Result<Vec<Queued>, spool::Error> {
    let spool = &intake.context().spool;
    let shown = spool.reader().show(id).await?.ok_or(spool::Error::NoSuchMail(id))?;
    match (spool.reader().content(id).await?, &shown.envelope) {
        (Some(content), Some(envelope)) => {
            let (made, dropped, story) = intake.rejudge(envelope, &content);
            spool.rejudge(id, made, dropped, story).await
        }
        // There is nothing to judge: an event from a shell, or a damaged row.
        _ => spool.retry(Selection::Mail(id)).await,
    }
}
