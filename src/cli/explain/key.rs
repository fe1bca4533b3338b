//! What `explain` says of an event's key: given by a rule, or guessed, and of what.

use crate::words::Words;
use serde_json::{Value, json};

use crate::event::{Event, KeySource};

/// The key for people: the line below the event.
pub(super) fn line(event: &Event) -> String {
    let Some(guess) = &event.identity.guess else {
        return "key: given; the same key is the same incident, whatever the text".to_owned();
    };
    let mark = match guess.mark {
        Some(mark) => format!(", marked {}", mark.word()),
        None => String::new(),
    };
    format!("key: guessed{mark}; base {}, text {}: another text is another incident", guess.base, text(event))
}

/// The key for programs.
pub(super) fn json(event: &Event) -> Value {
    let mut shown = json!({ "given": event.identity.guess.is_none() });
    if event.identity.key_source != KeySource::Operator {
        shown["source"] = json!(event.identity.key_source);
    }
    if let Some(guess) = &event.identity.guess {
        shown["base"] = json!(guess.base);
        shown["text"] = json!(text(event));
        shown["mark"] = json!(guess.mark);
    }
    shown
}

/// The hash of the text, behind the base.
fn text(event: &Event) -> &str {
    event.external_id.as_deref().and_then(|id| id.rsplit_once('#')).map_or("", |(_, text)| text)
}
