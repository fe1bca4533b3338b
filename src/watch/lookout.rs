//! Watches what comes and what does not: looks at each mail for what mutes it and who expects it, tells what is still
//! open when a mute ends, and raises an alert for an expected mail that is missing.
//!
//! What it remembers is written in the transaction of the mail or the notice that it is about. Left out: what a
//! condition or a calendar means, which is `mute`'s and `expect`'s.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use tracing::warn;

use crate::config::Config;
use crate::context::Context;
use crate::event::Event;
use crate::mail::{Envelope, MailId, Message, Trust};
use crate::rules::Subject;
use crate::spool::{self, Memo, PutError};

use super::expect::{self, Expects, Seen};
use super::mute::Mutes;

/// How long it looks away at most: the wall clock may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(30);

/// What watches.
pub struct Lookout {
    context: Context,
    /// What is muted.
    pub mutes: Mutes,
    expects: Expects,
    /// Told when something may be due before its time.
    woken: Notify,
    /// Held while due work is done, so that nothing is done twice.
    attending: Mutex<()>,
}

/// What was seen in a mail.
#[derive(Debug, Default)]
pub struct Observed {
    /// The labels of what mutes events of it.
    muting: Vec<String>,
    /// The names of those that expect it.
    expected: Vec<String>,
}

impl Lookout {
    /// A lookout that watches for nothing yet.
    pub fn new(context: Context) -> Self {
        let (mutes, expects) = (Mutes::default(), Expects::default());
        Self { context, mutes, expects, woken: Notify::new(), attending: Mutex::new(()) }
    }

    /// What the config says and the spool remembers.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub async fn load(config: &Config, context: Context) -> Result<Self, spool::Error> {
        let spool = context.spool.reader();
        let mutes = Mutes::load(config, spool).await?;
        let expects = Expects::load(config, spool, context.now()).await?;
        Ok(Self { mutes, expects, ..Self::new(context) })
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
    ) -> Observed {
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
        Observed { muting, expected }
    }

    /// What is to be remembered with the mail `id`, in which `sight` was seen at `at`.
    pub fn memos(&self, sight: &Observed, id: MailId, at: Timestamp) -> Vec<Memo> {
        let seen = Seen { at, mail: id };
        let expected = sight.expected.iter().map(|name| expect::seen_memo(name, seen));
        sight.muting.iter().map(|label| self.mutes.note(label, at)).chain(expected).collect()
    }

    /// Notes that the mail is in the spool.
    pub fn kept(&self, sight: &Observed, id: MailId, at: Timestamp) {
        let seen = Seen { at, mail: id };
        if sight.expected.iter().filter(|name| self.expects.saw(name, seen)).count() > 0 {
            self.wake();
        }
    }

    /// Looks at once what is due: something was ended or came.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Does what is due now; returns when the next is.
    ///
    /// # Errors
    /// The spool could not take it; it stays due.
    pub async fn attend(&self) -> Result<Option<Timestamp>, PutError> {
        let _alone = self.attending.lock().await;
        let (mute_ends, mail_is_missed) =
            (self.mutes.end_over(&self.context).await?, self.expects.attend(&self.context).await?);
        Ok([mute_ends, mail_is_missed].into_iter().flatten().min())
    }
}

/// Does what is due, when it is due.
pub async fn run(lookout: Arc<Lookout>) {
    let mut failed = false;
    loop {
        let wait = match lookout.attend().await {
            Ok(next) => {
                failed = false;
                let wait = next.map(|next| next.duration_since(lookout.context.now()));
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
        _ = timeout(wait, lookout.woken.notified()).await;
    }
}
