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

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Certificate, Client, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use endpoint::{Endpoint, refuse_url};
pub use headers::Limits;
pub use taken::EventId;

use super::budget::Spent;
use super::multipart::Form;
use crate::clock::Clock;
use crate::secret::Secret;

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most of a reply that is read. SIGNL4's have under 300 bytes; a proxy's error page can be anything.
const BODY_LIMIT: usize = 64 << 10;

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

/// How the webhook is reached.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// A PEM file of certificate authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The way out.
    pub proxy: Proxy,
    /// What shows at a host that is not SIGNL4's own that a reply is SIGNL4's.
    pub event_id: EventId,
    /// What stands in the place of the net, if anything does.
    #[cfg(test)]
    pub(crate) carrier: Option<Arc<dyn Carrier>>,
}

/// The proxy between us and SIGNL4.
#[derive(Debug, Clone, Default)]
pub enum Proxy {
    /// What `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy` say.
    #[default]
    Environment,
    /// None, whatever the environment says.
    Off,
    /// This one. A secret, because the URL may hold a password.
    Url(Secret),
}

/// Takes requests to SIGNL4 and brings its answers back in the place of the net, so that a test can have its own
/// time there.
#[cfg(test)]
pub(crate) trait Carrier: fmt::Debug + Send + Sync {
    /// Carries `request`. The error says whether it got there, if no answer came back.
    fn carry(&self, request: reqwest::Request) -> Carried;
}

/// What comes of a request that is carried.
#[cfg(test)]
pub(crate) type Carried = std::pin::Pin<Box<dyn Future<Output = Result<reqwest::Response, Reached>> + Send>>;

/// Why no client can be made of a [`Connection`].
#[derive(Debug)]
pub struct SetupError(String);

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for SetupError {}

impl SetupError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// Whether a client can be made that reaches `base` over `connection`.
///
/// # Errors
/// Why not: the CA file or the proxy.
pub fn verify(connection: &Connection, base: &str) -> Result<(), SetupError> {
    let clock = Arc::new(crate::clock::System);
    Webhook::new(connection, CONNECT_TIMEOUT, Endpoint::is_tls(base), clock).map(drop)
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
    /// Nobody could say yes or no; the same post may do later. Also what is not understood.
    Unavailable {
        /// What happened.
        reason: String,
        /// How long to wait at least, where the other side said so.
        retry_after: Option<SignedDuration>,
        /// Whether the post got there.
        reached: Reached,
    },
}

/// Whether a post that failed got to SIGNL4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It never left.
    No,
    /// It did, and was not taken.
    Yes,
    /// Nobody knows: it left, and no answer of SIGNL4's own came. If it was taken, the next try makes it a
    /// double.
    Perhaps,
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
    client: Client,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    event_id: EventId,
    /// Bodies with files that are in memory at a time.
    uploads: Arc<Semaphore>,
    #[cfg(test)]
    carrier: Option<Arc<dyn Carrier>>,
}

impl Webhook {
    /// A client for `connection` whose posts take at most `timeout`. Without `tls` the certificate
    /// authorities of the system are not looked for: a bare machine may have none, and the stand-in
    /// needs none.
    ///
    /// # Errors
    /// A CA file that cannot be read, a proxy that is no URL, a system without certificate authorities.
    pub fn new(
        connection: &Connection,
        timeout: Duration,
        tls: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let client = client(connection, timeout, tls)?;
        Ok(Self {
            client,
            timeout,
            clock,
            event_id: connection.event_id,
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            #[cfg(test)]
            carrier: connection.carrier.clone(),
        })
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
        SignedDuration::try_from(one.saturating_mul(4)).unwrap_or(SignedDuration::MAX)
    }

    /// Waits for room for a body with files.
    pub(super) async fn room_for_files(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.uploads).acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn send(&self, endpoint: &Endpoint, content_type: &str, body: Bytes, timeout: Duration) -> Answer {
        let request = self
            .client
            .post(endpoint.url.clone())
            .timeout(timeout)
            .header(header::CONTENT_TYPE, content_type)
            .body(body);
        #[cfg(test)]
        if let Some(carrier) = &self.carrier {
            let request = request.build().expect("every part of the request is valid");
            return match carrier.carry(request).await {
                Ok(response) => self.read(endpoint, response).await,
                Err(reached) => {
                    Answer::Unavailable { reason: "no answer".to_owned(), retry_after: None, reached }
                }
            };
        }
        match request.send().await {
            Ok(response) => self.read(endpoint, response).await,
            Err(error) => {
                // A connection that could not be made carried nothing: refused, no such host, wrong
                // certificate. Whatever fails later may have failed behind the request.
                let never = error.is_connect() || error.is_builder();
                let reached = if never { Reached::No } else { Reached::Perhaps };
                let reason = self.failure(endpoint, timeout, error);
                Answer::Unavailable { reason, retry_after: None, reached }
            }
        }
    }

    /// Asks whether the secret of `endpoint` is right, by closing an alert that never was: that pages nobody.
    pub async fn ask(&self, endpoint: &Endpoint) -> Answer {
        self.post(endpoint, Arc::from(QUESTION)).await
    }

    /// The answer in `response`, whose status has come and whose body may never.
    async fn read(&self, endpoint: &Endpoint, mut response: reqwest::Response) -> Answer {
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = bounded_body(&mut response).await;
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

    /// Why there was no answer.
    fn failure(&self, endpoint: &Endpoint, timeout: Duration, error: reqwest::Error) -> String {
        match (error.is_timeout(), error.is_connect()) {
            (true, true) => format!("no connection within {:?}", CONNECT_TIMEOUT.min(self.timeout)),
            (true, false) => format!("no answer within {timeout:?}"),
            _ => endpoint.excerpt(&causes(error)),
        }
    }
}

/// An HTTP client for `connection` whose requests take at most `timeout`; see [`Webhook::new`] for `tls`.
pub(super) fn client(connection: &Connection, timeout: Duration, tls: bool) -> Result<Client, SetupError> {
    install_ring();
    let mut builder = Client::builder()
        .user_agent(concat!("smtp2signl4/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        // An HTTP/2 connection that a firewall has dropped looks alive and would swallow every post
        // until the kernel gives it up. Pings find it in 25 s.
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true);
    builder = match &connection.proxy {
        Proxy::Environment => builder,
        Proxy::Off => builder.no_proxy(),
        Proxy::Url(url) => {
            let proxy = reqwest::Proxy::all(url.expose().trim())
                .map_err(|error| SetupError(format!("the proxy's URL is wrong: {}", causes(error))))?;
            builder.proxy(proxy)
        }
    };
    if !tls {
        builder = builder.tls_certs_only([]);
    } else if let Some(path) = &connection.ca_file {
        let show = path.display();
        let pem = std::fs::read(path)
            .map_err(|error| SetupError(format!("cannot read the CA file {show}: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|error| SetupError(format!("the CA file {show} is not PEM: {}", causes(error))))?;
        if certificates.is_empty() {
            return Err(SetupError(format!("the CA file {show} holds no certificate")));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| SetupError(format!("cannot set up TLS: {}", causes(error))))
}

/// An event's JSON as the bytes of a request.
struct Payload(Arc<str>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Makes ring the process's TLS provider, unless somebody has chosen one: reqwest panics without.
fn install_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| _ = rustls::crypto::ring::default_provider().install_default());
}

/// The causes of `error`, innermost last, without its URL. The first says only that sending failed.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut texts = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        source = cause.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

/// What could be read of the body within its bound; an answer counts whether or not its body comes.
async fn bounded_body(response: &mut reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = BODY_LIMIT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_LIMIT {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
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
