//! Whether a yes is SIGNL4's own. A login page of a network, a firewall and many a proxy answer 200 to anything, and
//! an event that they swallow is never a page.
//!
//! SIGNL4 documents 201 and a body with the event's id. A 201 without one counts all the same, and is warned of once:
//! the vendor may change the body, and alerts must not wait for that.

use std::sync::Once;

use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};
use serde_json::Value;
use tracing::warn;

use crate::document;

/// What shows at a host that is not SIGNL4's own that a reply is SIGNL4's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventId {
    /// Any 2xx but a web page: a stand-in or a relay of one's own may answer as it likes.
    #[default]
    Optional,
    /// The same as at SIGNL4's own host: 201, or another 2xx with an event's id.
    Required,
}

/// The words of the config.
const WORDS: [(&str, EventId); 2] = [("optional", EventId::Optional), ("required", EventId::Required)];

impl EventId {
    /// Reads `event-id`: `"required"` or `"optional"`.
    pub fn read(value: &document::Value<'_>) -> Self {
        let Some(word) = value.string() else { return Self::default() };
        let found = WORDS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&word.value));
        found.map(|(_, choice)| choice).unwrap_or_else(|| {
            let problem = format!("`event-id` cannot be `{}`", word.value);
            value.error(problem, "\"required\" or \"optional\"");
            Self::default()
        })
    }
}

/// The event's id, if it was told, of an answer with a 2xx from SIGNL4's `own` host, or another where that is as
/// `at_others`. The error says what came instead of SIGNL4's word.
pub(super) fn read(
    at_others: EventId,
    own: bool,
    status: StatusCode,
    headers: &HeaderMap,
    body: &str,
) -> Result<Option<String>, &'static str> {
    static TOLD: Once = Once::new();
    if let Some(id) = event_id(body) {
        return Ok(Some(id));
    }
    let strict = own || at_others == EventId::Required;
    match status {
        StatusCode::CREATED => {
            if strict {
                TOLD.call_once(|| {
                    warn!(
                        "SIGNL4 answers 201 without the id of the event: events count as taken; see whether an alert \
                         arrives, for this may be another who answers"
                    );
                });
            }
            Ok(None)
        }
        _ if is_page(headers, body) => Err("with a web page"),
        _ if !strict => Ok(None),
        _ if body.trim().is_empty() => Err("without a body"),
        _ => Err("without the id of an event"),
    }
}

/// `eventId` of an answer.
fn event_id(body: &str) -> Option<String> {
    match serde_json::from_str::<Value>(body).ok()?.get("eventId")? {
        Value::String(id) if !id.trim().is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn is_page(headers: &HeaderMap, body: &str) -> bool {
    let html = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"))
    });
    html || body.trim_start().starts_with('<')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_signl4s_own_host_only_a_201_or_an_events_id_is_a_yes() {
        let html = HeaderMap::from_iter([(header::CONTENT_TYPE, "text/HTML; charset=x".parse().unwrap())]);
        let none = HeaderMap::new();
        let id = r#"{"eventId":"2518_x"}"#;
        // Status, body, whether it is a page, what it is at SIGNL4's own host, and elsewhere.
        for (status, body, page, own, others) in [
            (201, id, false, Ok(Some("2518_x")), Ok(Some("2518_x"))),
            (201, "", false, Ok(None), Ok(None)),
            (201, "{}", false, Ok(None), Ok(None)),
            (201, "<html>", true, Ok(None), Ok(None)),
            (200, id, false, Ok(Some("2518_x")), Ok(Some("2518_x"))),
            (202, r#"{"eventId":7}"#, false, Ok(Some("7")), Ok(Some("7"))),
            (200, "<html>log in</html>", false, Err("with a web page"), Err("with a web page")),
            (200, "welcome", true, Err("with a web page"), Err("with a web page")),
            (200, r#"{"ok":true}"#, false, Err("without the id of an event"), Ok(None)),
            (200, r#"{"eventId":""}"#, false, Err("without the id of an event"), Ok(None)),
            (200, r#"{"eventId":"25"#, false, Err("without the id of an event"), Ok(None)),
            (200, r#"["eventId"]"#, false, Err("without the id of an event"), Ok(None)),
            (204, "", false, Err("without a body"), Ok(None)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let headers = if page { &html } else { &none };
            let read = |at_others, own| read(at_others, own, status, headers, body);
            let owned = |answer: Result<Option<&str>, &'static str>| answer.map(|id| id.map(str::to_owned));
            assert_eq!(read(EventId::Optional, true), owned(own), "{status} {body}");
            assert_eq!(read(EventId::Required, false), owned(own), "{status} {body}");
            assert_eq!(read(EventId::Optional, false), owned(others), "{status} {body}");
        }
    }
}
