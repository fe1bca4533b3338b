//! One post to SIGNL4's webhook and what its answer means
//! (<https://docs.signl4.com/integrations/webhook/webhook.html>,
//! <https://support.signl4.com/hc/en-us/articles/9006097919005-HTTP-details>).
//!
//! The URL is the credential. No [`Answer`] holds it: errors lose their URL, and texts that came from the
//! other side are redacted, cut and freed of control characters. Nothing is retried here; when to try
//! again is the scheduler's.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{self, HeaderMap};
use reqwest::{Certificate, Client, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::multipart::Form;
use crate::clock::Clock;
use crate::secret::Secret;

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most of a reply that is read. SIGNL4's have under 300 bytes; a proxy's error page can be anything.
const BODY_LIMIT: usize = 64 << 10;

/// Most characters of a foreign text in a reason.
const EXCERPT_LIMIT: usize = 200;

/// Bounds of the wait after 429, whatever the headers say: a clock may be wrong on either side, and the
/// hour is the longest of SIGNL4's windows that a burst can fill.
const THROTTLE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_secs(3_600));

/// The wait after a 429 that does not say how long: SIGNL4's shortest window.
const THROTTLE_UNSAID: SignedDuration = SignedDuration::from_secs(15);

/// Bodies with files in memory at a time, each of 20 MB at most, beside the mail that they are read from.
const UPLOADS: usize = 2;

/// Bytes a second that a body with files is given at least, on top of the time for an answer.
const SLOW_UPLOAD: usize = 100_000;

/// How the webhook is reached.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// A PEM file of certificate authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The way out.
    pub proxy: Proxy,
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

/// Where a team's events go: the address with the secret in it, which has no `Debug` to print it by.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    secret: Secret,
}

impl Endpoint {
    /// `base` with `secret` as its last path segment; a query that `base` has stays.
    ///
    /// # Errors
    /// What is wrong with `base` or `secret`, without showing either.
    pub fn new(base: &str, secret: &Secret) -> Result<Self, String> {
        let text = secret.expose().trim();
        if text.is_empty() {
            return Err("the team secret is empty".to_owned());
        }
        let mut url = Url::parse(base).map_err(|error| format!("the webhook's URL is wrong: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the webhook's URL must begin with https:// or http://".to_owned());
        }
        url.set_fragment(None);
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().push(text);
        Ok(Self { url, secret: Secret::new(text) })
    }

    /// Whether posts to `base` are encrypted. True for what is no URL, which is refused elsewhere.
    pub fn is_tls(base: &str) -> bool {
        Url::parse(base).map_or(true, |url| url.scheme() != "http")
    }

    /// `text` as it may be logged: without the secret in either of its spellings, on one line, cut.
    fn excerpt(&self, text: &str) -> String {
        let redacted = self.secret.redact(text);
        let encoded = self.url.path_segments().and_then(|mut path| path.next_back()).unwrap_or("");
        one_line(&Secret::new(encoded).redact(&redacted))
    }
}

/// What is wrong with `base` as a webhook's URL without the secret, if anything. The text does not show it.
pub fn refuse_url(base: &str) -> Option<&'static str> {
    let url = match Url::parse(base) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => url,
        _ => return Some("this is not the address of a webhook"),
    };
    let own = url.host_str().is_some_and(|host| host.ends_with("signl4.com"));
    let path = url.path().trim_end_matches('/');
    (own && !matches!(path, "/webhook" | "/api/v2/events"))
        .then_some("this address holds more than SIGNL4's own: a secret in it would reach the log")
}

/// Whether a client can be made that reaches `base` over `connection`.
///
/// # Errors
/// Why not: the CA file or the proxy.
pub fn verify(connection: &Connection, base: &str) -> Result<(), SetupError> {
    let clock = Arc::new(crate::clock::System);
    Webhook::new(connection, CONNECT_TIMEOUT, Endpoint::is_tls(base), clock).map(drop)
}

/// What the headers say of SIGNL4's rate limit
/// (<https://support.signl4.com/hc/en-us/articles/4404459248657-Event-Throttling>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Events that the window allows (`X-RateLimit-Limit`).
    pub limit: Option<u64>,
    /// Events that it has left (`X-RateLimit-Remaining`).
    pub remaining: Option<u64>,
    /// When it ends (`X-RateLimit-Reset`), by our clock.
    pub reset: Option<Timestamp>,
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
    /// Nobody could say yes or no; the same post may do later. Also what is not understood.
    Unavailable {
        /// What happened.
        reason: String,
    },
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
    /// Bodies with files that are in memory at a time.
    uploads: Arc<Semaphore>,
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
        Ok(Self { client, timeout, clock, uploads: Arc::new(Semaphore::new(UPLOADS)) })
    }

    /// Posts `payload`, the JSON of one event, once.
    pub async fn post(&self, endpoint: &Endpoint, payload: Arc<str>) -> Answer {
        let body = Bytes::from_owner(Payload(payload));
        self.send(endpoint, "application/json", body, self.timeout).await
    }

    /// Posts `form`, one event with its files, once.
    pub(super) async fn post_form(&self, endpoint: &Endpoint, form: Form) -> Answer {
        let Form { content_type, body } = form;
        let transfer = Duration::from_secs((body.len() / SLOW_UPLOAD) as u64);
        self.send(endpoint, &content_type, body, self.timeout + transfer).await
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
        match request.send().await {
            Ok(response) => self.read(endpoint, response).await,
            Err(error) => Answer::Unavailable { reason: self.failure(endpoint, timeout, error) },
        }
    }

    /// The answer in `response`, whose status has come and whose body may never.
    async fn read(&self, endpoint: &Endpoint, mut response: reqwest::Response) -> Answer {
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = bounded_body(&mut response).await;
        let now = self.clock.now();
        let limits = limits(&headers, now);
        let reason = || {
            let said = one_of_signl4s_errors(&body).unwrap_or_else(|| body.clone());
            let said = endpoint.excerpt(&said);
            let colon = if said.is_empty() { "" } else { ": " };
            format!("answered {status}{colon}{said}")
        };
        match classify(status) {
            Class::Accepted => {
                let event_id = event_id(&body).map(|id| endpoint.excerpt(&id));
                Answer::Accepted { event_id, limits }
            }
            Class::Throttled => {
                Answer::Throttled { until: throttled_until(&headers, limits, now), reason: reason(), limits }
            }
            Class::Refused => Answer::Refused { reason: reason() },
            Class::Unauthorised => Answer::Unauthorised { reason: reason() },
            Class::Unavailable => Answer::Unavailable { reason: reason() },
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

/// `eventId` of a 201.
fn event_id(body: &str) -> Option<String> {
    Some(serde_json::from_str::<serde_json::Value>(body).ok()?.get("eventId")?.as_str()?.to_owned())
}

/// The text of an error as SIGNL4 writes it: `{"requestId", "code", "details", "message"}`.
fn one_of_signl4s_errors(body: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let text = |key| json.get(key).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
    text("details").or_else(|| text("message")).map(str::to_owned)
}

/// `text` on one line of bounded length, with what a terminal would obey made visible.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if length > 0 {
            line.push(' ');
        }
        for c in word.chars() {
            if length == EXCERPT_LIMIT {
                line.push('…');
                return line;
            }
            length += 1;
            match c {
                '"' | '\'' | '\\' => line.push(c),
                _ => line.extend(c.escape_debug()),
            }
        }
        length += 1;
        length = length.min(EXCERPT_LIMIT);
    }
    line
}

/// The number in a header.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The time in a header, in HTTP's form (RFC 9110 section 5.6.7).
fn date(headers: &HeaderMap, name: header::HeaderName) -> Option<Timestamp> {
    let text = headers.get(name)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|date| date.timestamp())
}

/// How far a time in the reply lies ahead, by the reply's own clock if it shows one: ours may be wrong.
fn ahead(headers: &HeaderMap, at: Timestamp, now: Timestamp) -> SignedDuration {
    at.duration_since(date(headers, header::DATE).unwrap_or(now))
}

/// The rate limit in the headers of a reply that came at `now`.
fn limits(headers: &HeaderMap, now: Timestamp) -> Limits {
    // Documented as unix time. A number too small for one is a number of seconds, as others have it.
    const NO_UNIX_TIME: u64 = 1_000_000_000;
    let reset = number(headers, "x-ratelimit-reset").and_then(|reset| {
        let reset = i64::try_from(reset).ok()?;
        let wait = if reset.unsigned_abs() < NO_UNIX_TIME {
            SignedDuration::from_secs(reset)
        } else {
            ahead(headers, Timestamp::from_second(reset).ok()?, now)
        };
        now.checked_add(wait).ok()
    });
    Limits {
        limit: number(headers, "x-ratelimit-limit"),
        remaining: number(headers, "x-ratelimit-remaining"),
        reset,
    }
}

/// When the account may post again after a 429: at the window's reset, else after `Retry-After`
/// (RFC 9110 section 10.2.3: seconds or a date).
fn throttled_until(headers: &HeaderMap, limits: Limits, now: Timestamp) -> Timestamp {
    let retry_after = || {
        let seconds = number(headers, "retry-after").and_then(|n| i64::try_from(n).ok());
        seconds
            .map(SignedDuration::from_secs)
            .or_else(|| Some(ahead(headers, date(headers, header::RETRY_AFTER)?, now)))
    };
    let wait = limits.reset.map(|reset| reset.duration_since(now)).or_else(retry_after);
    now + wait.unwrap_or(THROTTLE_UNSAID).clamp(THROTTLE.0, THROTTLE.1)
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

    fn endpoint(base: &str, secret: &str) -> Endpoint {
        Endpoint::new(base, &Secret::new(secret)).ok().unwrap()
    }

    #[test]
    fn the_secret_is_the_last_segment_of_the_path_and_a_query_stays() {
        for (base, url) in [
            ("https://connect.signl4.com/webhook/", "https://connect.signl4.com/webhook/s3cret"),
            ("https://connect.signl4.com/webhook", "https://connect.signl4.com/webhook/s3cret"),
            ("http://h/webhook/?a=1&b=2#f", "http://h/webhook/s3cret?a=1&b=2"),
            ("http://h", "http://h/s3cret"),
        ] {
            assert_eq!(endpoint(base, "s3cret\n").url.as_str(), url);
        }
        assert_eq!(endpoint("http://h/", "a/b?c#d").url.as_str(), "http://h/a%2Fb%3Fc%23d");
        for (base, secret) in [("mailto:x", "s"), ("ftp://h/", "s"), ("/webhook", "s"), ("http://h/", " \n")]
        {
            assert!(Endpoint::new(base, &Secret::new(secret)).is_err(), "{base:?} {secret:?}");
        }
    }

    #[test]
    fn an_excerpt_holds_no_secret_no_control_character_and_no_more_than_it_may() {
        let endpoint = endpoint("http://h/", "s3/cret");
        let shown = endpoint.excerpt("an event source with ID s3/cret\r\n\tat /s3%2Fcret \u{1b}[2J\u{202e}");
        assert_eq!(shown, "an event source with ID [redacted] at /[redacted] \\u{1b}[2J\\u{202e}");
        assert_eq!(endpoint.excerpt(&"ä ".repeat(900)).chars().count(), EXCERPT_LIMIT + 1);
        // Redacted before it is cut, or the first half of a secret could be left at the end.
        let across = format!("{}s3/cret", "x".repeat(EXCERPT_LIMIT - 3));
        assert!(!endpoint.excerpt(&across).contains("s3"));
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_429_waits_as_its_headers_say_within_bounds() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let unix = |ahead: i64| (now.as_second() + ahead).to_string();
        let wait = |list: &[(&'static str, &str)]| {
            let headers = headers(list);
            throttled_until(&headers, limits(&headers, now), now).duration_since(now).as_secs()
        };
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(12))]), 12);
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(12)), ("retry-after", "50")]), 12);
        assert_eq!(wait(&[("x-ratelimit-reset", "9")]), 9);
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(-500))]), 1);
        assert_eq!(wait(&[("x-ratelimit-reset", &unix(90_000))]), 3_600);
        assert_eq!(wait(&[("x-ratelimit-reset", "18446744073709551615")]), 15);
        assert_eq!(wait(&[("x-ratelimit-reset", "soon"), ("retry-after", "20")]), 20);
        assert_eq!(wait(&[("retry-after", "Fri, 20 Nov 2026 12:00:33 GMT")]), 33);
        assert_eq!(wait(&[]), 15);
        // Their clock is ten minutes ahead of ours.
        let date = ("date", "Fri, 20 Nov 2026 12:10:00 GMT");
        assert_eq!(wait(&[date, ("x-ratelimit-reset", &unix(612))]), 12);
        assert_eq!(wait(&[date, ("retry-after", "Fri, 20 Nov 2026 12:10:33 GMT")]), 33);
    }

    #[test]
    fn the_reason_is_signl4s_own_text_where_it_wrote_one() {
        let body = r#"{"requestId":"1","code":3004,"details":"not found","message":"Error raising event."}"#;
        assert_eq!(one_of_signl4s_errors(body).as_deref(), Some("not found"));
        assert_eq!(one_of_signl4s_errors("<html>"), None);
        assert_eq!(event_id(r#"{"eventId":"2518_x"}"#).as_deref(), Some("2518_x"));
        assert_eq!(event_id("[]"), None);
    }
}
