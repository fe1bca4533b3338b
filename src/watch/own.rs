//! Events of the gateway's own: no mail stands behind them, no rule judges them and nothing mutes them. They page as the
//! site says for their severity.

use serde_json::Value;
use tracing::info;

use crate::context::Context;
use crate::event::Event;
use crate::mail::{Envelope, MailId, Origin};
use crate::spool::{Entry, Memo, PutError};

/// What their external ids begin with, and their source.
pub(super) const SOURCE: &str = "smtp2signl4";

/// The entry that keeps `events` under `id`, with `story` for `queue show`.
pub(super) fn entry(context: &Context, id: MailId, mut events: Vec<Event>, story: Value) -> Entry {
    let rules = context.rules.get();
    for event in &mut events {
        event.source_system = Some(SOURCE.to_owned());
        rules.page(event);
    }
    let envelope = Envelope { received_at: context.now(), origin: Origin::Gateway, ..Envelope::default() };
    Entry { id, envelope, content: None, story, events, dropped: None }
}

/// Keeps `events`, one for each team that is to be told, and with them what is to be remembered of it: both or neither.
///
/// # Errors
/// The spool could not take them; nothing was kept.
pub(super) async fn keep(context: &Context, events: Vec<Event>, memos: Vec<Memo>) -> Result<(), PutError> {
    let count = events.len();
    let put = |id| context.spool.put(entry(context, id, events.clone(), Value::Null), memos.clone());
    let (id, _) = context.keep(context.now(), put).await?;
    info!(mail = %id, events = count, "kept a notice of the gateway's own");
    Ok(())
}
