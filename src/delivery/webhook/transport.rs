//! The net between us and SIGNL4: carries a request there and brings the reply back.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap};
use reqwest::{Certificate, Client, StatusCode, Url};

use super::endpoint::Endpoint;
use super::taken::EventId;
use crate::secret::Secret;

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most of a reply that is read. SIGNL4's have under 300 bytes; a proxy's error page can be anything.
const BODY_LIMIT: usize = 64 << 10;

/// A post to SIGNL4.
pub struct Request {
    /// Where it goes, with the secret in it.
    pub url: Url,
    /// The type of its body.
    pub content_type: String,
    /// What is posted.
    pub body: Bytes,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as far as it came, at most 64 KiB; what is no UTF-8 is replaced.
    pub body: String,
}

/// No reply came.
#[derive(Debug)]
pub struct Lost {
    /// Whether the request got there.
    pub reached: Reached,
    /// Why, as the system says; not yet freed of secrets.
    pub reason: String,
}

/// Whether a post that failed got to SIGNL4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It never left.
    No,
    /// It did, and was not taken.
    Yes,
    /// Unknown: the request left, and no answer of SIGNL4's own came. If SIGNL4 has taken it, the next try makes a
    /// double.
    Perhaps,
}

/// A request that is under way.
pub type Carried = Pin<Box<dyn Future<Output = Result<Reply, Lost>> + Send>>;

/// Carries requests to SIGNL4, each once. A test has one that is no net and has a time of its own.
pub trait Transport: Send + Sync {
    /// Carries `request` and brings the reply.
    fn carry(&self, request: Request) -> Carried;
}

/// How the webhook is reached.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// A PEM file of certificate authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The way out.
    pub proxy: Proxy,
    /// What shows at a host that is not SIGNL4's own that a reply is SIGNL4's.
    pub event_id: EventId,
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
    pub(in crate::delivery) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// The net itself.
pub struct Net {
    client: Client,
    timeout: Duration,
}

impl Net {
    /// The net over `connection`, where a request takes at most `timeout` unless it says otherwise. Without `tls` the
    /// certificate authorities of the system are not looked for: a bare machine may have none, and the stand-in needs
    /// none.
    ///
    /// # Errors
    /// A CA file that cannot be read, a proxy that is no URL, a system without certificate authorities.
    pub fn new(connection: &Connection, timeout: Duration, tls: bool) -> Result<Self, SetupError> {
        Ok(Self { client: client(connection, timeout, tls)?, timeout })
    }
}

impl Transport for Net {
    fn carry(&self, request: Request) -> Carried {
        let Request { url, content_type, body, timeout } = request;
        let post =
            self.client.post(url).timeout(timeout).header(header::CONTENT_TYPE, content_type).body(body);
        let connect_timeout = CONNECT_TIMEOUT.min(self.timeout);
        Box::pin(async move {
            match post.send().await {
                Ok(mut response) => {
                    let headers = std::mem::take(response.headers_mut());
                    Ok(Reply { status: response.status(), headers, body: bounded_body(&mut response).await })
                }
                Err(error) => {
                    // A connection that could not be made carried nothing: refused, no such host, wrong
                    // certificate. Whatever fails later may have failed behind the request.
                    let never = error.is_connect() || error.is_builder();
                    let reached = if never { Reached::No } else { Reached::Perhaps };
                    let reason = match (error.is_timeout(), error.is_connect()) {
                        (true, true) => format!("no connection within {connect_timeout:?}"),
                        (true, false) => format!("no answer within {timeout:?}"),
                        _ => causes(error),
                    };
                    Err(Lost { reached, reason })
                }
            }
        })
    }
}

/// Whether a client can be made that reaches `base` over `connection`.
///
/// # Errors
/// Why not: the CA file or the proxy.
pub fn verify(connection: &Connection, base: &str) -> Result<(), SetupError> {
    Net::new(connection, CONNECT_TIMEOUT, Endpoint::is_tls(base)).map(drop)
}

/// An HTTP client for `connection` whose requests take at most `timeout`; see [`Net::new`] for `tls`.
pub(in crate::delivery) fn client(
    connection: &Connection,
    timeout: Duration,
    tls: bool,
) -> Result<Client, SetupError> {
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

/// Makes ring the process's TLS provider, unless the process has one already: reqwest panics without.
fn install_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| _ = rustls::crypto::ring::default_provider().install_default());
}

/// The causes of `error`, innermost last, without its URL. The first says only that sending failed.
pub(in crate::delivery) fn causes(error: reqwest::Error) -> String {
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
