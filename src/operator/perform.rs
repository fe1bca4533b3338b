//! Does what is asked for: the same for a service that runs and for a spool without one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use tracing::info;

use crate::context::Context;
use crate::delivery::{self, State};
use crate::event::Event;
use crate::intake::Intake;
use crate::mail::{Client, Envelope, Mail, MailId, Origin};
use crate::spool::{self, Filter, Outcome, PutError, Queued, Selection};
use crate::watch::health::disk;
use crate::watch::mute::{self, Mute};

use super::protocol::{Operator, Reply, Request, TeamStatus};

/// How long a client may wait, in seconds.
const LONGEST_WAIT: u64 = 3_600;

/// What came of a request.
pub enum Performed {
    /// The answer to it.
    Answered(Reply),
    /// Its event is on disk, and the client waits until it is delivered.
    Awaited(Awaited),
}

/// An event whose delivery a client waits for.
pub struct Awaited {
    id: MailId,
    seq: u64,
    seconds: u64,
}

impl Performed {
    /// The answer, once there is one.
    pub async fn reply(self, context: &Context) -> Reply {
        match self {
            Self::Answered(reply) => reply,
            Self::Awaited(awaited) => awaited.reply(context).await,
        }
    }
}

/// Does what `request` asks for, with the `content` of a mail where it has one, and logs who changed something.
pub async fn perform(
    intake: &Arc<Intake>,
    request: &Request,
    content: Bytes,
    operator: &Operator,
) -> Performed {
    let answered = answer(intake, request, content).await;
    let performed = answered.unwrap_or_else(Performed::Answered);
    log(request, &performed, operator);
    performed
}

/// The answer to `request`; as an error one that says why it was not done.
async fn answer(intake: &Arc<Intake>, request: &Request, content: Bytes) -> Result<Performed, Reply> {
    let context = intake.context();
    let reply = match request {
        Request::Submit { envelope, .. } => {
            let envelope = own(envelope, context, Origin::Submit);
            Reply::Queued { id: intake.take(Mail { envelope, content }).await?.id }
        }
        Request::Send { envelope, event, wait } => return send(intake, envelope, event, *wait).await,
        Request::Retry { id, rejudge } => changed(context, requeue(intake, *id, *rejudge).await?.len()).await,
        Request::Retarget { id, team } if context.teams.has(team) => {
            changed(context, context.spool.retarget(*id, team).await?.len()).await
        }
        Request::Retarget { team, .. } => {
            Reply::Refused(format!("there is no team `{}`", team.escape_debug()))
        }
        Request::Drop { id } => changed(context, context.spool.drop(*id).await?).await,
        Request::Mute { until, conditions, reason, critical } => {
            let mute = Mute {
                id: String::new(),
                since: context.now(),
                until: *until,
                conditions: conditions.clone(),
                reason: reason.clone(),
                critical: *critical,
            };
            begin_mute(intake, mute).await?
        }
        Request::EndMute { id } => end_mutes(intake, id.as_deref()).await?,
        Request::Status => status(context).await,
        Request::Reload => Reply::Refused("no service runs that could reload".to_owned()),
    };
    Ok(Performed::Answered(reply))
}

/// Logs a change with who made it. Looking changes nothing, and a mail that was handed in has its line.
fn log(request: &Request, performed: &Performed, operator: &Operator) {
    let (mail, events, mutes) = match performed {
        Performed::Awaited(awaited) => (Some(awaited.id), None, None),
        Performed::Answered(reply) => match reply {
            Reply::Queued { id } | Reply::Kept { id, .. } => (Some(*id), None, None),
            Reply::Changed { events } => (request.mail(), Some(*events), None),
            Reply::Mutes { ids } => (None, None, Some(ids.join(", "))),
            _ => return,
        },
    };
    let (mut team, mut rejudge, mut mute) = (None, None, None);
    match request {
        Request::Submit { .. } | Request::Status | Request::Reload => return,
        Request::Send { event, .. } => team = Some(&event.team),
        Request::Retry { rejudge: anew, .. } => rejudge = Some(*anew),
        Request::Retarget { team: other, .. } => team = Some(other),
        Request::Mute { .. } => mute = Some(tracing::field::debug(request)),
        Request::Drop { .. } | Request::EndMute { .. } => {}
    }
    let (operator, uid, request) = (operator.name(), operator.uid, request.word());
    let mail = mail.map(tracing::field::display);
    info!(operator, uid, request, mail, events, team, rejudge, mute, mutes, "an operator's request is done");
}

/// What a client must not say of itself is written over: when, from where and how its mail came.
fn own(envelope: &Envelope, context: &Context, origin: Origin) -> Envelope {
    Envelope { received_at: context.now(), origin, client: Client::default(), ..envelope.clone() }
}

/// The answer for so many events that were changed, of which delivery is told.
async fn changed(context: &Context, events: usize) -> Reply {
    if let Some(delivery) = &context.delivery {
        delivery.wake().await;
    }
    Reply::Changed { events }
}

async fn send(
    intake: &Intake,
    envelope: &Envelope,
    event: &Event,
    wait: Option<u64>,
) -> Result<Performed, Reply> {
    let context = intake.context();
    if !context.teams.has(&event.team) {
        return Err(Reply::Refused("the service has no such team".to_owned()));
    }
    let kept = intake.take_event(own(envelope, context, Origin::Command), event.clone()).await?;
    Ok(match (kept.events.first(), wait) {
        (None, _) => Performed::Answered(not_sent(context, kept.id).await),
        (Some(_), None) => Performed::Answered(Reply::Queued { id: kept.id }),
        (Some(event), Some(seconds)) => {
            Performed::Awaited(Awaited { id: kept.id, seq: event.seq, seconds: seconds.min(LONGEST_WAIT) })
        }
    })
}

/// The answer for an event that is kept and not sent.
async fn not_sent(context: &Context, id: MailId) -> Reply {
    let shown = context.spool.reader().show(id).await.ok().flatten();
    let event = shown.and_then(|shown| shown.events.into_iter().next());
    let reason = event.and_then(|event| event.listed.reason);
    Reply::Kept { id, reason: reason.unwrap_or_else(|| "`queue show` tells why".to_owned()) }
}

impl Awaited {
    /// The answer where it is not waited for.
    pub fn not_yet(self, reason: &str) -> Reply {
        Reply::Waiting { id: self.id, reason: reason.to_owned() }
    }

    async fn reply(self, context: &Context) -> Reply {
        let Self { id, seq, seconds } = self;
        let Some(delivery) = &context.delivery else {
            return self.not_yet("no service runs here to deliver it");
        };
        match tokio::time::timeout(Duration::from_secs(seconds), delivery.wait(seq)).await {
            Ok(Some(Outcome::Delivered { event_id, .. })) => Reply::Delivered { id, event_id },
            Ok(Some(Outcome::Failed { reason, .. } | Outcome::Deferred { reason, .. })) => {
                Reply::Waiting { id, reason }
            }
            // It is no longer queued, or the service stops.
            Ok(None) => match context.spool.reader().find(seq).await {
                Ok(Some(listed)) if listed.state != spool::State::Queued => not_sent(context, id).await,
                _ => self.not_yet("the service stops; it stays queued"),
            },
            Err(_) => self.not_yet(&format!("not delivered within {seconds} s; it stays queued")),
        }
    }
}

/// Queues again what waits or failed of the mail `id`, or of all mails, made anew by today's rules if
/// `rejudge` says so.
async fn requeue(intake: &Intake, id: Option<MailId>, rejudge: bool) -> Result<Vec<Queued>, spool::Error> {
    let spool = &intake.context().spool;
    if !rejudge {
        return spool.retry(id.map_or(Selection::All, Selection::Mail)).await;
    }
    let ids = match id {
        Some(id) => vec![id],
        None => unfinished(intake.context()).await?,
    };
    let mut events = Vec::new();
    for id in ids {
        events.extend(rejudge_one(intake, id).await?);
    }
    Ok(events)
}

/// The mails that have events which were not delivered.
async fn unfinished(context: &Context) -> Result<Vec<MailId>, spool::Error> {
    let mut ids = Vec::new();
    let states = vec![spool::State::Queued, spool::State::Failed];
    let mut filter = Filter { states, limit: 1_000, ..Filter::default() };
    loop {
        let page = context.spool.reader().list(filter.clone()).await?;
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

/// Begins `mute` under an id of its own.
async fn begin_mute(intake: &Intake, mute: Mute) -> Result<Reply, Reply> {
    let mutes = &intake.lookout().mutes;
    mutes.conditions(&mute.conditions).map_err(Reply::Refused)?;
    let known = mutes.ids();
    // Four digits are easy to type, and a stale one hardly ever names another mute.
    let mut ids = std::iter::repeat_with(|| format!("{:04x}", fastrand::u16(..)));
    let id = ids.find(|id| !known.contains(id)).expect("there are more ids than anybody has mutes");
    let mute = Mute { id: id.clone(), ..mute };
    intake.context().spool.remember(vec![mute::memo(&mute)]).await?;
    mutes.begin(mute).map_err(Reply::Refused)?;
    intake.lookout().wake();
    Ok(Reply::Mutes { ids: vec![id] })
}

/// Ends the mute `id`, or all.
async fn end_mutes(intake: &Intake, id: Option<&str>) -> Result<Reply, Reply> {
    let mutes = &intake.lookout().mutes;
    let mut ids = mutes.ids();
    ids.retain(|known| id.is_none_or(|id| id == known));
    if let (Some(id), true) = (id, ids.is_empty()) {
        return Err(Reply::Refused(format!("there is no mute {}", id.escape_debug())));
    }
    intake.context().spool.remember(mute::forget(&ids)).await?;
    mutes.end(&ids);
    intake.lookout().wake();
    Ok(Reply::Mutes { ids })
}

async fn status(context: &Context) -> Reply {
    let disk = context.spool.stalled().map(disk::told);
    let config = context.broken_on_disk().map(|broken| broken.told(&TimeZone::system()));
    let Some(delivery) = &context.delivery else { return Reply::Status { teams: Vec::new(), disk, config } };
    let one = |status: delivery::Status| {
        let state = match status.state {
            State::Held => "held",
            State::Throttled => "throttled",
            State::Down => "not reached",
            State::Starved => "starved",
            State::Unknown => "not in the config",
            State::Untried => "not tried",
            State::Open if status.reason.is_empty() => "open",
            State::Open => "waits",
        };
        let (since, until) = status.starved.map(|starved| (starved.since, starved.until)).unzip();
        TeamStatus { team: status.team, state: state.to_owned(), reason: status.reason, since, until }
    };
    Reply::Status { teams: delivery.status().await.into_iter().map(one).collect(), disk, config }
}

impl From<PutError> for Reply {
    fn from(problem: PutError) -> Self {
        Self::Temporary(format!("the spool could not take it: {problem}"))
    }
}

impl From<spool::Error> for Reply {
    fn from(problem: spool::Error) -> Self {
        match problem {
            spool::Error::NoSuchMail(_) => Self::Refused(problem.to_string()),
            _ => Self::Temporary(problem.to_string()),
        }
    }
}
