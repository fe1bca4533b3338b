//! The intake: a mail that the edge took in is parsed, judged and put into the spool, and only then is the
//! edge told that it may answer 250. Nothing here posts.

mod edge;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::json;
use tracing::{error, info};

use crate::authenticity::told;
use crate::context::Context;
use crate::event::{Event, Identity, KeySource};
use crate::mail::{Envelope, Mail, MailId, Message, Trust, trace};
use crate::rules::{Judgement, Subject};
use crate::spool::{Entry, PutError, Queued};
use crate::supervisor::Supervisor;
use crate::watch::lookout::{Lookout, Observed};

pub use edge::Edge;

/// A content above this many bytes is parsed and judged on a thread of its own, so that one big mail does
/// not hold up the sessions that share its worker.
const INLINE_LIMIT: usize = 128 * 1024;

/// How much of a mail that could not be judged goes into its plain event, in bytes.
const EXCERPT: usize = 1024;

/// What stands between the edge and the spool.
pub struct Intake {
    context: Context,
    lookout: Arc<Lookout>,
    /// None where no service runs.
    supervisor: Option<Supervisor>,
}

/// Judges a mail for each of `teams`. A rule may name the teams itself, and then does so in each judgement:
/// an event that an earlier one made is not made again. What one judgement repeats stays: a mail of several
/// alerts may tell of the same incident more than once.
pub fn for_each_team(teams: &[String], judge: impl Fn(&str) -> Judgement) -> Vec<Judgement> {
    let mut judgements: Vec<Judgement> = Vec::new();
    for team in teams {
        let mut judgement = judge(team);
        judgement.events.retain(|event| !judgements.iter().any(|earlier| earlier.events.contains(event)));
        judgements.push(judgement);
    }
    judgements
}

/// A mail in the spool: its id and the events that were made of it.
pub struct Kept {
    /// The id.
    pub id: MailId,
    /// The events that wait to be posted; what is kept and not sent is not among them.
    pub events: Vec<Queued>,
}

impl Intake {
    /// An intake for what `context` has, in which `lookout` watches for what is muted and what is expected.
    pub fn new(context: Context, lookout: Arc<Lookout>) -> Self {
        Self { context, lookout, supervisor: None }
    }

    /// The same, keeping nothing more once a task of `supervisor` has ended.
    #[must_use]
    pub fn under(self, supervisor: Supervisor) -> Self {
        Self { supervisor: Some(supervisor), ..self }
    }

    /// Says whether the service is whole, so that what is kept will also be delivered.
    fn sound(&self) -> Result<(), PutError> {
        match &self.supervisor {
            Some(supervisor) if !supervisor.is_sound() => Err(PutError::Io(
                "a part of the service has ended; it is about to be started again".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// What it shares with the other parts of the gateway.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What watches over what is muted and what is expected.
    pub fn lookout(&self) -> &Lookout {
        &self.lookout
    }

    /// Parses, judges and keeps a mail.
    ///
    /// # Errors
    /// The spool could not take it; nothing of it was kept.
    pub async fn take(self: &Arc<Self>, mail: Mail) -> Result<Kept, PutError> {
        let Mail { envelope, content } = mail;
        let judged = if content.len() <= INLINE_LIMIT {
            self.judge(&envelope, &content)
        } else {
            let (intake, theirs) = (Arc::clone(self), (envelope.clone(), content.clone()));
            let judging = tokio::task::spawn_blocking(move || intake.judge(&theirs.0, &theirs.1));
            // It is not judged only if the runtime ends before it begins.
            judging.await.unwrap_or_else(|_| self.unjudged(&envelope, &content))
        };
        self.keep(envelope, Some(content), judged).await
    }

    /// Keeps an event that no mail stands behind.
    ///
    /// # Errors
    /// The spool could not take it; nothing of it was kept.
    pub async fn take_event(&self, envelope: Envelope, mut event: Event) -> Result<Kept, PutError> {
        // It is the operator's, whatever the one who handed it in has written there.
        event.identity = Identity::default();
        let mut judged = Judged { events: vec![event], ..Judged::default() };
        judged.sight =
            self.lookout.look(Trust::Trusted, &Message::parse(b""), &envelope, &[], &mut judged.events);
        self.keep(envelope, None, judged).await
    }

    async fn keep(
        &self,
        envelope: Envelope,
        content: Option<bytes::Bytes>,
        judged: Judged,
    ) -> Result<Kept, PutError> {
        self.sound()?;
        let size = content.as_ref().map_or(0, bytes::Bytes::len);
        let client =
            envelope.client.address.map_or_else(|| "local".to_owned(), |address| address.to_string());
        let (from, recipients) =
            (envelope.reverse_path.escape_debug().to_string(), envelope.recipients.len());
        let known = |text: &String| text.escape_debug().to_string();
        let user = envelope.client.user.as_ref().map(known);
        let tls = envelope.client.tls.as_ref().map(|tls| tls.version.clone());
        let subject = envelope.client.tls.as_ref().and_then(|tls| tls.subject.as_ref()).map(known);
        let at = envelope.received_at;
        let Judged { events, dropped, story, sight } = judged;
        let entry = Entry { id: MailId::new(at, 0), envelope, content, story, events, dropped };
        let put = |id| {
            let memos = self.lookout.memos(&sight, id, at);
            self.context.spool.put(Entry { id, ..entry.clone() }, memos)
        };
        let (id, admitted) = self.context.keep(at, put).await?;
        // It is on disk. If a part has ended meanwhile, the sender hears nothing that could be wrong.
        self.sound()?;
        self.lookout.kept(&sight, id, at);
        match entry.dropped {
            None => info!(
                mail = %id, client, user, tls, subject, from, recipients, size, events = admitted.queued.len(),
                counted = admitted.counted, folded = admitted.folded, muted = admitted.muted, "accepted"
            ),
            Some(reason) => {
                info!(mail = %id, client, user, tls, subject, from, recipients, size, reason = %reason.escape_debug(), "accepted, and dropped by a rule");
            }
        }
        Ok(Kept { id, events: admitted.queued })
    }

    /// Judges a kept mail by the rules in force, as if it came now.
    pub fn rejudge(
        &self,
        envelope: &Envelope,
        content: &[u8],
    ) -> (Vec<Event>, Option<String>, serde_json::Value) {
        let mut judged = self.judge(envelope, content);
        // It is an operator's will that it goes out.
        judged.events.iter_mut().for_each(|event| event.muted = None);
        (judged.events, judged.dropped, judged.story)
    }

    /// Parses and judges for each team. Total: a panic in the parser or the rules is a defect of this program,
    /// not of the mail, and must not cost the alert.
    fn judge(&self, envelope: &Envelope, content: &[u8]) -> Judged {
        let rules = self.context.rules.get();
        let teams = self.context.teams.reached(&envelope.recipients);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let message = rules.read(content);
            let standing = rules.standing(&message, envelope);
            let mut whole = Judged::default();
            let mut stories = Vec::new();
            let judgements =
                for_each_team(&teams, |team| rules.judge(&Subject { message: &message, envelope, team }));
            for judgement in judgements {
                stories.push(judgement.trace.story());
                whole.events.extend(judgement.events);
                whole.dropped =
                    whole.dropped.or(judgement.dropped.map(|d| format!("{}: {}", d.rule, d.reason)));
            }
            if !whole.events.is_empty() {
                whole.dropped = None;
            }
            rules.clean_files(&mut whole.events, content);
            whole.sight = self.lookout.look(standing.trust, &message, envelope, &teams, &mut whole.events);
            let trust = told::of(&standing, &message, envelope);
            whole.story = json!({ "defects": message.defects, "trust": trust, "teams": stories });
            if !message.undone.is_empty() {
                whole.story["undone"] = json!(message.undone);
            }
            if let Some(found) = &envelope.authenticity {
                whole.story["authenticity"] = json!(found.to_string());
            }
            whole
        }));
        outcome.unwrap_or_else(|_| self.unjudged(envelope, content))
    }

    /// What becomes of a mail that could not be judged: a plain event for each team.
    fn unjudged(&self, envelope: &Envelope, content: &[u8]) -> Judged {
        error!("judging a mail failed; it is kept and sent as a plain event");
        let teams = self.context.teams.reached(&envelope.recipients);
        // The header alone tells whether it came from inside, but reading it may be what failed.
        let rules = self.context.rules.get();
        let header = AssertUnwindSafe(|| rules.standing(&Message::parse(trace::header(content)), envelope));
        let trust = catch_unwind(header).map_or(Trust::Stranger, |standing| standing.trust);
        Judged {
            events: teams.iter().map(|team| plain_event(team, trust, envelope, content)).collect(),
            dropped: None,
            story: json!({
                "defects": ["judging this mail failed inside the gateway"], "trust": { "class": trust }
            }),
            ..Judged::default()
        }
    }
}

/// What the rules made of a mail.
#[derive(Default)]
struct Judged {
    events: Vec<Event>,
    dropped: Option<String>,
    story: serde_json::Value,
    sight: Observed,
}

/// The event of a mail that could not be judged: the start of it, unread.
fn plain_event(team: &str, trust: Trust, envelope: &Envelope, content: &[u8]) -> Event {
    let excerpt = String::from_utf8_lossy(&content[..content.len().min(EXCERPT)]);
    Event {
        team: team.to_owned(),
        title: format!("Unreadable mail from <{}>", envelope.reverse_path.escape_debug()),
        message: format!(
            "The gateway could not judge this mail and passes on its start as it is.\n\n{}",
            excerpt.escape_debug().to_string().replace("\\r\\n", "\n").replace("\\n", "\n")
        ),
        identity: Identity { trust, key_source: KeySource::Guess, ..Identity::default() },
        ..Event::default()
    }
}
