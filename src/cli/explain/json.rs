//! An explanation for programs: one object a mail.

use std::path::Path;

use serde_json::{Value, json};

use crate::mail::{self, Message};
use crate::rules::Judgement;
use crate::spool::KnownIncident;
use crate::time::duration_text;

use super::known;

/// The message, the events and the trace. `open` are the incidents that are open, where that is known.
pub(super) fn of(
    path: &Path,
    message: &Message,
    envelope: &mail::Envelope,
    judgements: &[(String, Judgement)],
    open: Option<&[KnownIncident]>,
) -> Value {
    let events: Vec<Value> = judgements
        .iter()
        .flat_map(|(_, judgement)| &judgement.events)
        .map(|event| {
            let payload: Value = serde_json::from_str(&event.payload()).expect("a payload is JSON");
            let mut shown = json!({ "team": event.team, "payload": payload });
            if !event.attachments.is_empty() {
                shown["attachments"] = json!(event.attachments);
            }
            if let Some(repeat) = event.repeat {
                shown["repeat"] = json!(repeat);
            }
            if let Some(quiet) = event.quiet {
                shown["quiet"] = json!(duration_text(quiet));
            }
            if let Some(muted) = &event.muted {
                shown["muted"] = json!(muted);
            }
            shown["identity"] = json!(event.identity);
            if let Some(open) = open {
                shown["incident"] = known::json(event, open);
            }
            shown
        })
        .collect();
    let trace: Vec<Value> = judgements
        .iter()
        .map(|(team, judgement)| json!({ "team": team, "dropped": judgement.dropped, "pieces": judgement.trace.pieces }))
        .collect();
    json!({ "mail": path.display().to_string(), "envelope": envelope, "message": message, "trace": trace, "events": events })
}
