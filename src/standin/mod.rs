//! A stand-in for SIGNL4's webhook on loopback, for the demo, the tests and the benchmarks: the same paths,
//! status codes, rate headers and error bodies, as far as SIGNL4 documents them. It does not page.
//!
//! It records what it is sent and can be told to fail in all the ways that a server and the net can. What
//! SIGNL4 leaves open is answered strictly here. It keeps no alerts and knows no duties.

mod answer;
mod multipart;
mod quota;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use multipart::File;
pub use quota::{Plan, Quota, Ruling};

use crate::clock::{Clock, System};
use answer::{Response, error, event_id, limited, reply, status_only, throttled, written};

/// Largest body: more than any event with its attachments (4 MB each) that the gateway could send.
const BODY_LIMIT: usize = 64 << 20;

/// How the stand-in behaves.
#[derive(Clone)]
pub struct Options {
    /// The account's rate limit.
    pub plan: Plan,
    /// The secrets that exist; if there are none, any does.
    pub secrets: Vec<String>,
    /// How many requests to keep, the last ones. With 0 bodies are not looked at either, so that a
    /// benchmark measures what it wants to.
    pub keep: usize,
    /// The time for the rate limit and the record.
    pub clock: Arc<dyn Clock>,
    /// Called with the body of each request before it is answered.
    pub observer: Option<Observer>,
}

/// Sees the body of a request.
pub type Observer = Arc<dyn Fn(&Bytes) + Send + Sync>;

impl Default for Options {
    fn default() -> Self {
        let (plan, secrets, observer) = Default::default();
        Self { plan, secrets, keep: 100_000, clock: Arc::new(System), observer }
    }
}

/// A way to fail.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status with an empty body.
    Status(u16),
    /// This reply.
    Reply {
        /// The status.
        status: u16,
        /// Headers, name and value.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// No answer, ever.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// The event is taken, but the connection is closed without an answer.
    TakeAndClose,
    /// The event is taken, but no answer comes, ever.
    TakeAndHang,
    /// The right answer, so much later.
    Delay(Duration),
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// When its body had been read.
    pub at: Timestamp,
    /// The secret in its path.
    pub secret: String,
    /// `Content-Type`.
    pub content_type: String,
    /// The body as JSON, or the fields of a form; null if it is neither.
    pub payload: Value,
    /// The files of a form.
    pub files: Vec<File>,
    /// The body.
    pub body: Bytes,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// The id, if the event was taken.
    pub event_id: Option<String>,
    /// Taken and thrown away, as SIGNL4 does with a status that it does not know.
    pub discarded: bool,
}

/// The stand-in. It ends when this is dropped.
pub struct Standin {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: tokio::sync::Mutex<Listening>,
}

enum Listening {
    /// Accepting.
    Yes(JoinHandle<()>),
    /// Refusing; the socket keeps the port ours.
    No(TcpSocket),
    /// Between the two.
    Changing,
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    /// Counts requests, to wake those who wait for one.
    seen: watch::Sender<u64>,
}

struct State {
    secrets: Vec<String>,
    quota: Option<Quota>,
    script: VecDeque<Fault>,
    constant: Option<Fault>,
    requests: VecDeque<Request>,
    taken: u64,
}

impl Standin {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = bound((Ipv4Addr::LOCALHOST, 0).into())?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let state = State {
            secrets: options.secrets.clone(),
            quota: Quota::new(&options.plan),
            script: VecDeque::new(),
            constant: None,
            requests: VecDeque::new(),
            taken: 0,
        };
        let shared = Arc::new(Shared { options, state: Mutex::new(state), seen: watch::Sender::new(0) });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, listening: tokio::sync::Mutex::new(Listening::Yes(accepting)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The webhook's URL, to which the secret is added.
    pub fn url(&self) -> String {
        format!("http://{}/webhook/", self.address)
    }

    /// Fails the next requests in these ways, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().script.extend(faults);
    }

    /// Fails every request that the script does not, in this way; none ends it.
    pub fn fail(&self, fault: Option<Fault>) {
        self.state().constant = fault;
    }

    /// Makes these the secrets that exist.
    pub fn set_secrets(&self, secrets: Vec<String>) {
        self.state().secrets = secrets;
    }

    /// Closes every connection and refuses new ones, on the same port.
    ///
    /// # Errors
    /// If the port could not be kept.
    pub async fn refuse(&self) -> io::Result<()> {
        let mut listening = self.listening.lock().await;
        if let Listening::Yes(accepting) = std::mem::replace(&mut *listening, Listening::Changing) {
            // Before the port is free, or another process may take it.
            let socket = bound(self.address)?;
            accepting.abort();
            // It always ends as aborted; what matters is that its sockets are closed.
            _ = accepting.await;
            *listening = Listening::No(socket);
        }
        Ok(())
    }

    /// Listens again after [`Standin::refuse`].
    ///
    /// # Errors
    /// If the port cannot be listened on.
    pub async fn listen(&self) -> io::Result<()> {
        let mut listening = self.listening.lock().await;
        if let Listening::No(socket) = std::mem::replace(&mut *listening, Listening::Changing) {
            let listener = socket.listen(BACKLOG)?;
            *listening = Listening::Yes(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
        }
        Ok(())
    }

    /// How many events were taken, discarded ones included.
    pub fn taken(&self) -> u64 {
        self.state().taken
    }

    /// The requests kept, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.iter().cloned().collect()
    }

    /// The events kept: requests that were taken and not discarded.
    pub fn events(&self) -> Vec<Request> {
        let state = self.state();
        state.requests.iter().filter(|r| r.event_id.is_some() && !r.discarded).cloned().collect()
    }

    /// Waits until the requests kept are as `enough` wants them.
    pub async fn wait_for(&self, mut enough: impl FnMut(&[Request]) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        while !enough(self.state().requests.make_contiguous()) {
            // The sender lives as long as we do.
            _ = seen.changed().await;
        }
    }

    /// Waits until `count` events were taken since the start, and tells those kept.
    pub async fn wait_for_events(&self, count: u64) -> Vec<Request> {
        let mut seen = self.shared.seen.subscribe();
        while self.taken() < count {
            _ = seen.changed().await;
        }
        self.events()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        if let Listening::Yes(accepting) = self.listening.get_mut() {
            accepting.abort();
        }
    }
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// A socket at `address`, which another one of this kind may have as well. Until it listens, connections are refused.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this future, which closes every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors, most likely: some come back when connections end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                // Without it a reply in two segments would wait for an acknowledgement.
                _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { shared.answer(request).await.ok_or_else(closed) }
                });
                let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    let ended: Result<(), hyper::Error> = serve.await;
                    // Clients go away as they like.
                    drop(ended);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What makes hyper close a connection without a reply.
fn closed() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> Option<Response> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, BODY_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Some(reply(StatusCode::PAYLOAD_TOO_LARGE, &Value::Null)),
        };
        if let Some(observer) = &self.options.observer {
            observer(&body);
        }
        let content_type =
            head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let path = head.uri.path();
        let secret = ["/webhook/", "/api/v2/events/"]
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix))
            .filter(|secret| !secret.is_empty() && !secret.contains('/'));
        let (payload, files) = if self.options.keep == 0 {
            (Value::Null, Vec::new())
        } else if content_type.starts_with("multipart/form-data") {
            multipart::read(&content_type, &body).unwrap_or_default()
        } else {
            (serde_json::from_slice(&body).unwrap_or(Value::Null), Vec::new())
        };
        let mut record = Request {
            at: self.options.clock.now(),
            secret: secret.unwrap_or("").to_owned(),
            content_type,
            payload,
            files,
            body,
            status: 0,
            event_id: None,
            discarded: false,
        };
        let fault = {
            let mut state = self.state();
            state.script.pop_front().or_else(|| state.constant.clone())
        };
        let response = match fault {
            None => Some(self.judge(&head.method, secret, &mut record)),
            Some(Fault::Status(status)) => Some(status_only(status)),
            Some(Fault::Reply { status, headers, body }) => Some(written(status, &headers, body)),
            Some(Fault::Delay(wait)) => {
                tokio::time::sleep(wait).await;
                Some(self.judge(&head.method, secret, &mut record))
            }
            Some(Fault::TakeAndClose) => {
                self.judge(&head.method, secret, &mut record);
                self.keep(record);
                return None;
            }
            Some(Fault::Close) => None,
            Some(Fault::Hang) => {
                self.keep(record);
                return std::future::pending().await;
            }
            Some(Fault::TakeAndHang) => {
                self.judge(&head.method, secret, &mut record);
                self.keep(record);
                return std::future::pending().await;
            }
        };
        record.status = response.as_ref().map_or(0, |response| response.status().as_u16());
        self.keep(record);
        response
    }

    /// What SIGNL4 would say.
    fn judge(&self, method: &Method, secret: Option<&str>, record: &mut Request) -> Response {
        let mut state = self.state();
        // A request that was delayed counts as late as it is taken; and within the lock times only grow.
        let now = self.options.clock.now();
        let Some(secret) = secret else { return state.wrong(StatusCode::NOT_FOUND, now, "No such address.") };
        if method != Method::POST {
            return state.wrong(StatusCode::METHOD_NOT_ALLOWED, now, "Only POST is allowed.");
        }
        if !state.secrets.is_empty() && !state.secrets.iter().any(|known| known == secret) {
            // The real one echoes the secret too.
            let details = format!("An event source with ID {secret} was not found.");
            return state.wrong(StatusCode::NOT_FOUND, now, &details);
        }
        if self.options.keep > 0 && !fits(record) {
            let details = "The body does not match its content type.";
            return state.wrong(StatusCode::BAD_REQUEST, now, details);
        }
        let ruling = state.quota.as_mut().map(|quota| quota.take(now));
        if ruling.is_some_and(|ruling| !ruling.allowed) {
            return limited(throttled(), ruling);
        }
        let id = event_id(now);
        let response = limited(reply(StatusCode::CREATED, &json!({ "eventId": id })), ruling);
        record.discarded = record.payload.get("X-S4-Status").is_some_and(|status| {
            !matches!(status.as_str(), Some("" | "new" | "acknowledged" | "resolved")) && !status.is_null()
        });
        record.event_id = Some(id);
        response
    }

    fn keep(&self, record: Request) {
        let mut state = self.state();
        state.taken += u64::from(record.event_id.is_some());
        if self.options.keep > 0 {
            if state.requests.len() == self.options.keep {
                state.requests.pop_front();
            }
            state.requests.push_back(record);
        }
        drop(state);
        self.seen.send_modify(|seen| *seen += 1);
    }
}

impl State {
    /// An error, or 429 if there were too many.
    fn wrong(&mut self, status: StatusCode, now: Timestamp, details: &str) -> Response {
        let ruling = self.quota.as_mut().map(|quota| quota.take_wrong(now));
        if ruling.is_some_and(|ruling| !ruling.allowed) {
            return limited(throttled(), ruling);
        }
        limited(error(status, details), ruling)
    }
}

/// Whether the body is what its content type says, for the types that SIGNL4 documents.
fn fits(request: &Request) -> bool {
    let kind = request.content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => request.payload.is_object() || request.payload.is_array(),
        "application/x-www-form-urlencoded" => request.body.contains(&b'='),
        "multipart/form-data" => request.payload.is_object() && multipart::takes(&request.files),
        "application/xml" | "text/xml" => request.body.trim_ascii_start().starts_with(b"<"),
        "" | "text/plain" => !request.body.is_empty(),
        _ => false,
    }
}
