//! What `explain` says of the incident that an event would belong to, as the spool knows it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::event::{Event, KeySource, Status};
use crate::incident::State;
use crate::spool::{self, IncidentFilter, KnownIncident, Reader};
use crate::time::local;

use crate::cli::terminal::excerpt;

/// Most incidents that are looked at.
const LIMIT: usize = 10_000;

/// The open incidents of the spool.
///
/// # Errors
/// It cannot be read.
pub(super) async fn open(spool: &Reader) -> Result<Vec<KnownIncident>, spool::Error> {
    spool.incidents(IncidentFilter { open: true, team: None, limit: LIMIT }).await
}

/// The open incident that `event` is about, if there is one of its source.
pub(super) fn of<'a>(event: &Event, open: &'a [KnownIncident]) -> Option<&'a KnownIncident> {
    let identity = &event.identity;
    open.iter().find(|known| {
        let source = identity.key_source != KeySource::Shipped
            || known.family == identity.family && known.instance == identity.instance;
        known.incident.team == event.team
            && Some(&known.key) == event.external_id.as_ref()
            && known.stranger == identity.trust.is_stranger()
            && source
    })
}

/// The same for people: the line below the event.
pub(super) fn line(event: &Event, open: &[KnownIncident]) -> String {
    let Some(known) = of(event, open) else {
        return match event.status {
            Status::New => "incident: none of this key and source is open, so it would page".to_owned(),
            _ => "incident: none of this key and source is open".to_owned(),
        };
    };
    let paged = |at: Timestamp| format!("last page {}", local(at));
    let paged = known.incident.paged_at.map_or_else(|| "no page yet".to_owned(), paged);
    let state = if known.incident.state == State::Acknowledged { "acknowledged" } else { "open" };
    let would = match event.status {
        Status::New => "this would be a repeat of it",
        Status::Acknowledged => "this would acknowledge it",
        Status::Resolved => "this would close it",
    };
    let (key, mails) = (excerpt(&known.incident.external_id), known.incident.mails);
    format!(
        "incident: {key} is {state} since {}, mails {mails}, {paged}: {would}",
        local(known.incident.opened_at)
    )
}

/// The same for programs; null where none is open.
pub(super) fn json(event: &Event, open: &[KnownIncident]) -> Value {
    of(event, open).map_or(Value::Null, |known| json!(known))
}
