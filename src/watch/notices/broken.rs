//! The notice that the config or the rules on disk are broken, and its end once they are not.

use serde_json::Value;

use crate::context::{Broken, Context};
use crate::event::{Event, Severity, Status};
use crate::spool::{Memo, PutError};

use crate::watch::own;

/// The external id of the notice.
const EXTERNAL_ID: &str = "smtp2signl4:config";

/// The memo that it was told, so that it ends even if a restart lies between.
const KIND: &str = "notice";
const NAME: &str = "config";

/// What the notices' team was told.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    told: bool,
}

impl OnDisk {
    /// What was told before the start.
    pub(super) async fn recall(context: &Context) -> Self {
        let memos = context.spool.reader().memos(KIND).await.unwrap_or_default();
        Self { told: memos.iter().any(|(name, _)| name == NAME) }
    }

    /// Tells `team` what is new.
    ///
    /// # Errors
    /// The spool could not take it; the next look tells it.
    pub(super) async fn tell(&mut self, context: &Context, team: &str) -> Result<(), PutError> {
        let broken = context.broken_on_disk();
        if broken.is_some() == self.told {
            return Ok(());
        }
        let memo =
            Memo { kind: KIND, name: NAME.to_owned(), value: broken.is_some().then_some(Value::Bool(true)) };
        own::keep(context, vec![event(team, broken.as_ref())], vec![memo]).await?;
        self.told = broken.is_some();
        Ok(())
    }
}

fn event(team: &str, broken: Option<&Broken>) -> Event {
    let event =
        Event { team: team.to_owned(), external_id: Some(EXTERNAL_ID.to_owned()), ..Event::default() };
    match broken {
        Some(broken) => Event {
            title: "The config or the rules on disk are broken".to_owned(),
            message: format!(
                "Pages go out by the last good ones. A change of config or rules counts only once the files are \
                 right.\n\n{}\n\nSee all errors: smtp2signl4 check\nThen: smtp2signl4 reload",
                broken.first
            ),
            severity: Some(Severity::High),
            ..event
        },
        None => Event {
            title: "The config and the rules on disk are right again".to_owned(),
            status: Status::Resolved,
            ..event
        },
    }
}
