//! One post to SIGNL4's webhook and what its answer means
//! (<https://docs.signl4.com/integrations/webhook/webhook.html>,
//! <https://support.signl4.com/hc/en-us/articles/9006097919005-HTTP-details>).
//!
//! The URL is the credential. No [`Answer`] holds it: errors lose their URL, and texts that came from the
//! other side are redacted, cut and freed of control characters. Nothing is retried here; when to try
//! again is the scheduler's.

mod endpoint;
mod headers;
mod taken;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use endpoint::{Endpoint, refuse_url};
pub use headers::Limits;
pub use taken::EventId;
pub use transport::{
    Carried, Connection, Lost, Net, Proxy, Reached, Reply, Request, SetupError, Transport, verify,
};
pub(super) use transport::{causes, client};

use super::budget::Spent;
use crate::clock::Clock;
use crate::time::signed;

/// Closes an alert that never was.
const QUESTION: &str = concat!(
    r#"{"X-S4-ExternalID":"smtp2signl4:probe","X-S4-Status":"resolved","#,
    r#""X-S4-SourceSystem":"smtp2signl4"}"#
);

/// Bodies with files in memory at a time, each of 20 MB at most, beside the mail that they are read from.
const UPLOADS: usize = 2;

/// Bytes a second that a body with files is given at least, on top of the time for an answer.
const SLOW_UPLOAD: usize = 100_000;

/// The longest that the body of a form may take so.
const LONGEST_UPLOAD: Duration = Duration::from_secs(200);

/// A body and the content type that says where its parts end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

/// What came of one post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// SIGNL4 has the event.
    Accepted {
        /// Its id for it, where it told one.
        event_id: Option<String>,
        /// Its rate limit.
        limits: Limits,
    },
    /// SIGNL4 takes nothing from this account before `until`.
    Throttled {
        /// When to come back, a second to an hour away.
        until: Timestamp,
        /// The answer in words.
        reason: String,
        /// Its rate limit.
        limits: Limits,
    },
    /// SIGNL4 will never take this event.
    Refused {
        /// The answer in words.
        reason: String,
    },
    /// The secret or the URL is wrong: no event of the team can get through.
    Unauthorised {
        /// The answer in words.
        reason: String,
    },
    /// What said yes is not SIGNL4: a login page of a network, a proxy or a firewall in between, another host. None of
    /// the team's events gets through, unless SIGNL4 is behind it all the same.
    Foreign {
        /// The answer in words.
        reason: String,
    },
    /// The secret could not be had, and nothing was posted.
    NoSecret {
        /// Why not.
        reason: String,
    },
    /// No decision; the same post may succeed later. An answer that is not understood counts as this too.
    Unavailable {
        /// What happened.
        reason: String,
        /// How long to wait at least, where the other side said so.
        retry_after: Option<SignedDuration>,
        /// Whether the post got there.
        reached: Reached,
    },
}

impl Answer {
    /// What the post has cost the account.
    pub(super) fn spent(&self) -> Spent {
        match self {
            Self::Accepted { .. } | Self::Throttled { .. } => Spent::Event,
            Self::Refused { .. } | Self::Unauthorised { .. } => Spent::Wrong,
            Self::NoSecret { .. } | Self::Unavailable { reached: Reached::No, .. } => Spent::Nothing,
            Self::Foreign { .. } | Self::Unavailable { .. } => Spent::Event,
        }
    }
}

/// What a status says about the event, the team or the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Accepted,
    Throttled,
    Refused,
    Unauthorised,
    Unavailable,
}

/// The meaning of each status. In doubt it is the time that is wrong, not the event: an alert that is
/// tried too often is better than one that is given up.
fn classify(status: StatusCode) -> Class {
    match status.as_u16() {
        200..=299 => Class::Accepted,
        429 => Class::Throttled,
        400 | 405 | 413 | 415 | 422 => Class::Refused,
        401 | 403 | 404 => Class::Unauthorised,
        // SIGNL4's webhook does not redirect, so this is some other host or a portal in between: a wrong
        // URL. It is not followed, because the secret would go along.
        300..=399 => Class::Unauthorised,
        // A proxy that wants a password, and an address that is gone for good: config, as above.
        407 | 410 => Class::Unauthorised,
        _ => Class::Unavailable,
    }
}

/// Posts events. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Webhook {
    transport: Arc<dyn Transport>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    event_id: EventId,
    /// Bodies with files that are in memory at a time.
    uploads: Arc<Semaphore>,
}

impl Webhook {
    /// A client whose posts take at most `timeout`; `event_id` says what shows at a host that is not SIGNL4's own that
    /// a reply is SIGNL4's.
    pub fn new(
        transport: Arc<dyn Transport>,
        event_id: EventId,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { transport, timeout, clock, event_id, uploads: Arc::new(Semaphore::new(UPLOADS)) }
    }

    /// Posts `payload`, the JSON of one event, once.
    pub async fn post(&self, endpoint: &Endpoint, payload: Arc<str>) -> Answer {
        let body = Bytes::from_owner(Payload(payload));
        self.send(endpoint, "application/json", body, self.timeout).await
    }

    /// Posts `form`, one event with its files, once.
    pub(super) async fn post_form(&self, endpoint: &Endpoint, form: Form) -> Answer {
        let Form { content_type, body } = form;
        let transfer = Duration::from_secs((body.len() / SLOW_UPLOAD) as u64).min(LONGEST_UPLOAD);
        self.send(endpoint, &content_type, body, self.timeout + transfer).await
    }

    /// How long a post may take at most, from the moment at which it was decided: one with files may wait for the
    /// others that are under way at once.
    pub(super) fn longest(&self) -> SignedDuration {
        let one = self.timeout.saturating_add(LONGEST_UPLOAD);
        signed(one.saturating_mul(4))
    }

    /// Waits for room for a body with files.
    pub(super) async fn room_for_files(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.uploads).acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn send(&self, endpoint: &Endpoint, content_type: &str, body: Bytes, timeout: Duration) -> Answer {
        let request =
            Request { url: endpoint.url.clone(), content_type: content_type.to_owned(), body, timeout };
        match self.transport.carry(request).await {
            Ok(reply) => self.read(endpoint, reply),
            Err(Lost { reached, reason }) => {
                Answer::Unavailable { reason: endpoint.excerpt(&reason), retry_after: None, reached }
            }
        }
    }

    /// Asks whether the secret of `endpoint` is right, by closing an alert that does not exist, which never pages.
    pub async fn ask(&self, endpoint: &Endpoint) -> Answer {
        self.post(endpoint, Arc::from(QUESTION)).await
    }

    /// What `reply` means.
    fn read(&self, endpoint: &Endpoint, reply: Reply) -> Answer {
        let Reply { status, headers, body } = reply;
        let now = self.clock.now();
        let limits = headers::limits(&headers, now);
        let reason = || {
            let said = one_of_signl4s_errors(&body).unwrap_or_else(|| body.clone());
            let said = endpoint.excerpt(&said);
            let colon = if said.is_empty() { "" } else { ": " };
            format!("answered {status}{colon}{said}")
        };
        match classify(status) {
            Class::Accepted => match taken::read(self.event_id, endpoint.is_own(), status, &headers, &body) {
                Ok(event_id) => {
                    Answer::Accepted { event_id: event_id.map(|id| endpoint.excerpt(&id)), limits }
                }
                Err(what) => {
                    Answer::Foreign { reason: format!("answered {status} {what}: this is not SIGNL4") }
                }
            },
            Class::Throttled => Answer::Throttled {
                until: headers::throttled_until(&headers, limits, now),
                reason: reason(),
                limits,
            },
            Class::Refused => Answer::Refused { reason: reason() },
            Class::Unauthorised => Answer::Unauthorised { reason: reason() },
            Class::Unavailable => {
                let retry_after = headers::retry_after(&headers, now);
                // A proxy whose own request to SIGNL4 was not answered.
                let lost = matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
                let reached = if lost { Reached::Perhaps } else { Reached::Yes };
                Answer::Unavailable { reason: reason(), retry_after, reached }
            }
        }
    }
}

/// An event's JSON as the bytes of a request.
struct Payload(Arc<str>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The text of an error as SIGNL4 writes it: `{"requestId", "code", "details", "message"}`.
fn one_of_signl4s_errors(body: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let text = |key| json.get(key).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
    text("details").or_else(|| text("message")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        for code in 100..=599 {
            let expected = match code {
                200..300 => Class::Accepted,
                429 => Class::Throttled,
                400 | 405 | 413 | 415 | 422 => Class::Refused,
                300..400 | 401 | 403 | 404 | 407 | 410 => Class::Unauthorised,
                100..200 | 402 | 406 | 408 | 409 | 411 | 412 | 414 | 416..=421 | 423..=428 => {
                    Class::Unavailable
                }
                430..600 => Class::Unavailable,
                _ => unreachable!("{code} is in no row of the table"),
            };
            assert_eq!(classify(StatusCode::from_u16(code).unwrap()), expected, "{code}");
        }
    }

    #[test]
    fn the_reason_is_signl4s_own_text_where_it_wrote_one() {
        let body = r#"{"requestId":"1","code":3004,"details":"not found","message":"Error raising event."}"#;
        assert_eq!(one_of_signl4s_errors(body).as_deref(), Some("not found"));
        assert_eq!(one_of_signl4s_errors("<html>"), None);
    }
}
