//! Runs a session over a stream: bytes, time, memory and the change to TLS. Any stream will do, so that a socket
//! of any family, a pipe and the tests fit.
//!
//! Replies that are ready together are written together, and each of them in one write: some clients
//! take what one read gives them for the whole reply. A client that only waits costs no buffer: one is
//! made when there is something to read.

use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, error, info};

use crate::clock::Clock;
use crate::mail::Client;

use super::auth::Login;
use super::listener_config::TlsMode;
use super::logins::{LoginVerdict, Logins};
use super::memory::{Budget, Share};
use super::rates::Rates;
use super::reply;
use super::session::{Session, Step};
use super::stream::Stream;
use super::tls::Failure;
use super::{Accept, Config, Credentials, ListenerConfig};

/// How much is read at a time.
const CHUNK: usize = 16 << 10;

/// How much of a message a client must send within `data-timeout`, where there is so much left: a client that
/// sends a byte now and then would else hold what it has sent before for as long as a message may take.
const BLOCK: usize = 4 << 10;

/// How long a client that was turned out may go on sending. Were the socket closed at once over what it
/// sent, the system would reset the connection, and the client might never read why.
const LINGER: Duration = Duration::from_secs(2);

/// How long a client may take for the handshake of TLS: a few round trips, and time for a slow machine to reckon.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What all connections share.
pub struct Edge<A> {
    /// The limits.
    pub config: Arc<Config>,
    /// Who takes the mails.
    pub accept: Arc<A>,
    /// The time for the envelopes.
    pub clock: Arc<dyn Clock>,
    /// The memory for the mails.
    pub budget: Budget,
    /// The certificates and the users.
    pub credentials: Arc<Credentials>,
    /// The state of all logins.
    pub logins: Logins,
    /// How often mails may come.
    pub rates: Arc<Rates>,
}

/// When the sessions must be over, once it is known: those inside a message by then, all others at once.
pub type Ending = watch::Receiver<Option<Instant>>;

/// Serves `client`, who came in by `listener`, on `stream` until either ends it. A panic ends this session and
/// no other.
pub async fn serve<A, S>(
    edge: &Edge<A>,
    listener: &Arc<ListenerConfig>,
    stream: S,
    client: Client,
    ending: Ending,
) where
    A: Accept,
    S: AsyncRead + AsyncWrite + Unpin,
{
    // On the heap once, as it would be in the future several times over.
    let session = Box::new(
        Session::new(Arc::clone(&edge.config), Arc::clone(listener), Arc::clone(&edge.clock), client)
            .counted_by(Arc::clone(&edge.rates)),
    );
    let client = session.peer();
    let mut stream = Stream::Plain(stream);
    debug!(%client, "connect");
    let now = Instant::now();
    let mut connection = Connection {
        edge,
        listener,
        stream: &mut stream,
        session,
        share: edge.budget.share(),
        ending,
        since: now,
        productive: now,
        message_since: None,
        block: Block::new(&edge.config),
    };
    match caught(connection.run()).await {
        Some(Ok(())) => debug!(%client, repaired = connection.session.repaired(), "disconnect"),
        Some(Err(error)) => debug!(%client, %error, "connection lost"),
        None => {
            error!(%client, "a session broke; the others go on");
            let mut output = Vec::new();
            reply::INTERNAL_ERROR.write(&mut output);
            // The client may be gone, or may not read.
            let _ = timeout(LINGER, async {
                connection.stream.write_all(&output).await?;
                connection.stream.flush().await
            })
            .await;
        }
    }
}

struct Connection<'a, A, S> {
    edge: &'a Edge<A>,
    listener: &'a ListenerConfig,
    stream: &'a mut Stream<S>,
    session: Box<Session>,
    share: Share,
    ending: Ending,
    /// The last reply: commands are timed from there.
    since: Instant,
    /// The last mail that was taken, or the beginning: the session is timed from there.
    productive: Instant,
    /// When the message began that the client is in.
    message_since: Option<Instant>,
    block: Block,
}

/// The block of a message that the client is in.
struct Block {
    /// How long the client may still take for it. Only what it takes itself counts.
    left: Duration,
    bytes: usize,
}

impl Block {
    fn new(config: &Config) -> Self {
        Self { left: config.data_timeout, bytes: 0 }
    }
}

/// What the client said.
enum Heard {
    Bytes(Vec<u8>),
    End,
    /// Nothing, in the time it has.
    Silence,
    /// Nothing, and the service ends.
    Ending,
}

impl<A: Accept, S: AsyncRead + AsyncWrite + Unpin> Connection<'_, A, S> {
    async fn run(&mut self) -> io::Result<()> {
        // What few sessions do, and once, is on the heap, so that one that only waits has no room for it.
        if self.listener.tls == TlsMode::Implicit {
            Box::pin(self.encrypt()).await?;
        }
        let mut input = Vec::new();
        let mut used = 0;
        loop {
            let mut rest = &input[used..];
            let step = self.session.advance(&mut rest);
            used = input.len() - rest.len();
            match step {
                Step::Write => self.write().await?,
                Step::Look => {
                    let more = is_more(self.stream).await?;
                    self.session.more_is(more);
                }
                Step::Recipient(recipient) => {
                    let known = self.edge.accept.recipient(&recipient);
                    self.session.recipient_is(recipient, known);
                }
                Step::Accept(mail) => {
                    self.write().await?;
                    let outcome = Box::pin(self.edge.accept.accept(mail)).await;
                    if outcome.is_ok() {
                        self.productive = Instant::now();
                    }
                    self.message_since = None;
                    self.session.mail_is(outcome);
                }
                Step::StartTls => {
                    self.write().await?;
                    (input, used) = (Vec::new(), 0);
                    Box::pin(self.encrypt()).await?;
                }
                Step::Authenticate(login) => Box::pin(self.authenticate(login)).await,
                Step::Close { asked } => {
                    self.write().await?;
                    // Under TLS it takes a few bytes more, which a client that reads nothing would not take.
                    timeout(LINGER, self.stream.shutdown()).await??;
                    if !asked {
                        self.linger().await;
                    }
                    return Ok(());
                }
                Step::Read => {
                    self.write().await?;
                    drop(input);
                    self.cover().await;
                    (input, used) = (Vec::new(), 0);
                    match self.hear().await? {
                        Heard::Bytes(bytes) => input = bytes,
                        Heard::End => {
                            if self.session.in_data() {
                                info!(
                                    client = %self.session.peer(),
                                    "connection lost inside DATA, no mail kept"
                                );
                            }
                            return Ok(());
                        }
                        Heard::Silence => {
                            info!(client = %self.session.peer(), in_data = self.session.in_data(), "timeout");
                            self.session.end(&reply::TIMEOUT);
                        }
                        Heard::Ending => self.session.end(&reply::SHUTTING_DOWN),
                    }
                }
            }
        }
    }

    /// Changes to TLS. A handshake can be broken off at any time: there is nothing to lose in it.
    async fn encrypt(&mut self) -> io::Result<()> {
        let Some(identity) = &self.edge.credentials.identity else {
            return Err(io::Error::other("there is no certificate"));
        };
        let handshake = self.stream.encrypt(identity.server());
        let outcome = tokio::select! {
            biased;
            outcome = timeout(HANDSHAKE, handshake) => outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            () = over(&mut self.ending, false) => Err(io::ErrorKind::Interrupted.into()),
        };
        match outcome {
            Ok(tls) => {
                debug!(client = %self.session.peer(), version = tls.version, cipher = tls.cipher, subject = ?tls.subject, "TLS");
                self.session.encrypted(tls);
                self.since = Instant::now();
                Ok(())
            }
            Err(error) => {
                let failure = Failure::of(&error);
                let (why, help) = (failure.map(|it| it.why), failure.map(|it| it.help));
                info!(client = %self.session.peer(), %error, why, help, "TLS handshake failed");
                Err(error)
            }
        }
    }

    /// Finds out whether a login is right. The wrong ones are answered late.
    async fn authenticate(&mut self, login: Login) {
        let name = login.name.clone();
        let address = self.session.address();
        let near = self.is_near();
        let verdict = match &self.edge.credentials.users {
            Some(users) => self.edge.logins.check(users.names(), login, address, near).await,
            None => LoginVerdict::Later,
        };
        if let LoginVerdict::Wrong(delay) = verdict {
            sleep(delay).await;
        }
        self.session.login_is(name, verdict);
    }

    /// Whether the client is exempt from the rates. Those of a Unix socket are as near as loopback.
    fn is_near(&self) -> bool {
        let exempts = |address| self.edge.config.rates.exempts(address);
        self.session.address().map_or_else(|| self.session.is_local(), exempts)
    }

    /// Writes the replies that are ready, all at once.
    async fn write(&mut self) -> io::Result<()> {
        let output = self.session.take_output();
        if output.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + self.edge.config.command_timeout;
        timeout_at(deadline, async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        })
        .await
        .map_err(|_| {
            info!(client = %self.session.peer(), "timeout: the client does not read its replies");
            io::Error::from(io::ErrorKind::TimedOut)
        })??;
        self.since = Instant::now();
        Ok(())
    }

    /// Gets the memory that the mail needs, or gives the mail up.
    async fn cover(&mut self) {
        let own = self.is_near() || self.session.is_authenticated();
        if self.share.cover(self.session.held(), own).await.is_err() {
            self.session.give_up();
            self.share = self.edge.budget.share();
        }
    }

    /// Waits for the client, so long as it may be waited for.
    async fn hear(&mut self) -> io::Result<Heard> {
        let in_data = self.session.in_data();
        if !in_data && self.ending.borrow().is_some() {
            return Ok(Heard::Ending);
        }
        let config = &self.edge.config;
        let now = Instant::now();
        if !in_data {
            self.message_since = None;
        } else if self.message_since.is_none() {
            self.message_since = Some(now);
            self.block = Block::new(config);
        }
        let deadline = match self.message_since {
            Some(since) => (now + self.block.left).min(since + config.message_timeout),
            None => (self.since + config.command_timeout).min(self.productive + config.session_timeout),
        };
        // So that a client which never stops has an end as well.
        if now >= deadline {
            return Ok(Heard::Silence);
        }
        tokio::select! {
            biased;
            bytes = receive(self.stream) => {
                let bytes = bytes?;
                self.block.left = self.block.left.saturating_sub(now.elapsed());
                self.block.bytes += bytes.len();
                if self.block.bytes >= BLOCK {
                    self.block = Block::new(config);
                }
                Ok(if bytes.is_empty() { Heard::End } else { Heard::Bytes(bytes) })
            }
            () = over(&mut self.ending, in_data) => Ok(Heard::Ending),
            () = sleep_until(deadline) => Ok(Heard::Silence),
        }
    }

    /// Reads and forgets what the client still sends, for a while.
    async fn linger(&mut self) {
        // Whatever comes of it, the connection is at its end.
        let _ =
            timeout(LINGER, async { while receive(self.stream).await.is_ok_and(|b| !b.is_empty()) {} }).await;
    }
}

/// Waits until a session must be over.
async fn over(ending: &mut Ending, in_data: bool) {
    let at = ending.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    match at {
        Some(at) if in_data => sleep_until(at).await,
        Some(_) => (),
        // The sender is gone: stop never comes.
        None => std::future::pending().await,
    }
}

/// Reads what there is, at most [`CHUNK`]; empty at the end. The buffer is on the stack of the poll and
/// not in the future, so that waiting needs none.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    std::future::poll_fn(|context| {
        let mut space = [const { MaybeUninit::<u8>::uninit() }; CHUNK];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().to_vec()))
    })
    .await
}

/// Whether there is more to be read already. It takes an octet of it, so it is for a session that ends then.
/// A read that filled its buffer leaves the stream ready, so that one poll tells. Without a budget, as
/// a task whose budget is used up would be told that there is nothing.
async fn is_more<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<bool> {
    unconstrained(std::future::poll_fn(|context| {
        let mut space = [0];
        let mut buffer = ReadBuf::new(&mut space);
        Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(outcome) => outcome.map(|()| !buffer.filled().is_empty()),
            Poll::Pending => Ok(false),
        })
    }))
    .await
}

/// What `future` returns, or none if it panics.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // Sound: the future is not polled again once it panicked.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

#[cfg(test)]
mod tests;
