//! Listens, lets clients in, and ends in good order.
//!
//! An error of accept never ends it: one of the connection concerns that client only, and for any other,
//! such as no file descriptor left, it waits a little and tries again.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::mail::Client;

use super::admission::{Admission, Seat};
use super::connection::{self, Edge, Ending};
use super::logins::Logins;
use super::memory::Budget;
use super::proxy::{self, Named};
use super::rates::Rates;
use super::reply::Reply;
use super::socket::{Incoming, Inherited, Socket};
use super::{Accept, Config, Credentials, ListenerConfig, TlsMode, descriptors};

/// The first and the longest wait after an error that is not one of a connection.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a session may take beyond the time to drain, to say goodbye.
const GRACE: Duration = Duration::from_secs(3);

/// How often the files of certificates and users are looked at, and how often an operator is told what should be
/// done about them.
const LOOK: Duration = Duration::from_secs(60);
const WARN: Duration = Duration::from_secs(24 * 3600);

/// The sockets that listen.
#[derive(Debug)]
pub struct Listener {
    config: Arc<Config>,
    credentials: Arc<Credentials>,
    sockets: Vec<(Arc<ListenerConfig>, Socket)>,
}

impl Listener {
    /// Listens on every address of `config`. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first file or address that cannot be had, by name.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let credentials = Credentials::load(config).map_err(|problems| {
            io::Error::other(problems.first().map_or_else(String::new, ToString::to_string))
        })?;
        Self::open(config, credentials, Inherited::default())
    }

    /// The same with files that were read already, and with the sockets of systemd.
    ///
    /// # Errors
    /// The first address that cannot be had, by name.
    pub fn open(config: &Config, credentials: Credentials, mut inherited: Inherited) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for listener in &config.listeners {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("cannot listen on {}: {error}", listener.address))
            };
            for socket in Socket::listen(listener, &mut inherited).map_err(named)? {
                let listener = listener.opened(socket.address()).map_err(named)?;
                sockets.push((Arc::new(listener), socket));
            }
        }
        for name in inherited.left() {
            warn!(name, "systemd handed over a socket that no listener names; it is closed");
        }
        let mut config = config.clone();
        config.max_sessions = descriptors::sessions(config.max_sessions);
        Ok(Self { config: Arc::new(config), credentials: Arc::new(credentials), sockets })
    }

    /// The certificates and the users; a reload reads them again.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Every socket that it listens on: the config of its listener, and its address in words.
    pub fn sockets(&self) -> impl Iterator<Item = (&ListenerConfig, String)> {
        self.sockets.iter().map(|(listener, socket)| (&**listener, socket.name()))
    }

    /// The addresses of a network that it listens on, with the ports that the system chose where the config has 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(_, socket)| socket.address()).collect()
    }

    /// Serves until `stop` is cancelled. Then it accepts no more connections, sessions outside DATA are told and
    /// closed, those inside DATA may finish for as long as `drain` says; when it returns, all are over.
    pub async fn run<A: Accept>(self, accept: Arc<A>, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let config = self.config;
        let rates = Arc::new(Rates::new(config.rates.clone()));
        let admission = Admission::new(Arc::clone(&config), Arc::clone(&rates));
        let edge = Arc::new(Edge {
            config: Arc::clone(&config),
            accept,
            clock,
            budget: Budget::new(config.max_memory, config.max_message_size),
            credentials: self.credentials,
            logins: Logins::default(),
            rates,
        });
        let mut upkeep = JoinSet::new();
        upkeep.spawn(keep_up(Arc::clone(&edge.credentials), Arc::clone(&edge.clock)));
        let (end, ending) = watch::channel(None);
        let mut doors = JoinSet::new();
        for (listener, socket) in self.sockets {
            let (edge, admission) = (Arc::clone(&edge), Arc::clone(&admission));
            doors.spawn(door(listener, socket, edge, admission, ending.clone()));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            // A socket that accepts no more connections ends the listener.
            Some(ended) = doors.join_next() => return resume(ended),
            Some(ended) = upkeep.join_next() => return resume(ended),
        }
        end.send_replace(Some(Instant::now() + config.drain));
        drop(upkeep);
        while let Some(ended) = doors.join_next().await {
            resume(ended);
        }
    }
}

/// Goes on with the panic by which a task ended, if one did: one that was cancelled went with the runtime.
fn resume(ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        std::panic::resume_unwind(panic);
    }
}

/// Looks after the files of certificates and users.
async fn keep_up(credentials: Arc<Credentials>, clock: Arc<dyn Clock>) {
    let mut next = tokio::time::interval(LOOK);
    let mut warned: Option<Instant> = None;
    loop {
        let now = next.tick().await;
        let files = Arc::clone(&credentials);
        // A panic there is told by itself, and the next look may go well.
        let _ = tokio::task::spawn_blocking(move || files.look()).await;
        if warned.is_none_or(|at| now - at >= WARN) {
            warned = Some(now);
            for warning in credentials.warnings(clock.now()) {
                warn!("{warning}");
            }
        }
    }
}

/// Lets clients in at one socket until the end is known, then waits for their sessions.
async fn door<A: Accept>(
    listener: Arc<ListenerConfig>,
    socket: Socket,
    edge: Arc<Edge<A>>,
    admission: Arc<Admission>,
    mut ending: Ending,
) {
    let mut sessions = JoinSet::new();
    let mut backoff = BACKOFF.0;
    let drained_at = loop {
        tokio::select! {
            biased;
            at = ended(&mut ending) => break at,
            // Only to forget them; a session that panicked has said so itself.
            Some(_) = sessions.join_next() => (),
            accepted = socket.accept() => match accepted {
                Ok(incoming) => {
                    backoff = BACKOFF.0;
                    let named = |peer| listener.proxies.iter().any(|network| network.contains(peer));
                    let proxied = incoming.client().is_some_and(named);
                    let admitted = admission.admit_connection().and_then(|mut seat| {
                        // A proxy names its client only after the connection is accepted; a Unix socket has no address to count by.
                        if let Some(peer) = incoming.client()
                            && !proxied
                        {
                            seat.admit_client(peer, &listener, edge.clock.now())?;
                        }
                        Ok(seat)
                    });
                    match admitted {
                        Ok(seat) => {
                            let (edge, listener, ending) = (Arc::clone(&edge), Arc::clone(&listener), ending.clone());
                            sessions.spawn(attend(edge, listener, incoming, proxied, seat, ending));
                        }
                        Err(reply) => turn_away(&listener, incoming, reply),
                    }
                }
                Err(error) if is_of_connection(&error) => debug!(%error, "connection lost before it was accepted"),
                Err(error) => {
                    warn!(%error, "cannot accept connections; trying again in {backoff:?}");
                    tokio::select! {
                        at = ended(&mut ending) => break at,
                        () = sleep(backoff) => backoff = (backoff * 2).min(BACKOFF.1),
                    }
                }
            },
        }
    };
    drop(socket);
    let all_over = async { while sessions.join_next().await.is_some() {} };
    if timeout_at(drained_at + GRACE, all_over).await.is_err() {
        warn!(sessions = sessions.len(), "sessions cut off, as the time to drain is over");
        sessions.shutdown().await;
    }
}

/// Waits for the end to be known and says when it is.
async fn ended(ending: &mut Ending) -> Instant {
    ending.wait_for(Option::is_some).await.ok().and_then(|at| *at).unwrap_or_else(Instant::now)
}

/// Serves a client, whatever it came by: a header of its proxy if there is one, TLS where the listener has it from
/// the first byte, and the session.
async fn attend<A: Accept>(
    edge: Arc<Edge<A>>,
    listener: Arc<ListenerConfig>,
    incoming: Incoming,
    proxied: bool,
    mut seat: Seat,
    mut ending: Ending,
) {
    match incoming {
        Incoming::Tcp(mut stream, peer) => {
            // Each reply is one write, and the next command waits for it: there is nothing to collect.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(client = %peer, %error, "connection lost at once");
                return;
            }
            let mut client = Client { address: Some(peer), ..Client::default() };
            if proxied {
                let Some(named) = named_by(peer, &mut stream, &mut ending).await else { return };
                let admitted;
                (client, admitted) = admit_named(&mut seat, &listener, peer, named, edge.clock.now());
                if let Err(reply) = admitted {
                    turn_away(&listener, Incoming::Tcp(stream, client.address.unwrap_or(peer)), reply);
                    return;
                }
            }
            connection::serve(&edge, &listener, stream, client, ending).await;
        }
        Incoming::Unix(stream) => {
            connection::serve(&edge, &listener, stream, Client::default(), ending).await;
        }
    }
    drop(seat);
}

/// The client that `proxy` names at the beginning of `stream`. None if the proxy names none: it gets no
/// reply.
async fn named_by(proxy: IpAddr, stream: &mut TcpStream, ending: &mut Ending) -> Option<Named> {
    let named = tokio::select! {
        named = timeout(proxy::TIME, proxy::read(stream)) => named,
        _ = ended(ending) => return None,
    };
    let named = match named {
        Ok(Ok(named)) => named,
        Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
            warn!(%proxy, "connection closed: it did not begin with a PROXY header, or with one that is malformed");
            return None;
        }
        Ok(Err(error)) => {
            debug!(%proxy, %error, "connection lost before its PROXY header");
            return None;
        }
        Err(_) => {
            warn!(%proxy, "connection closed: the proxy sent no PROXY header in time");
            return None;
        }
    };
    Some(named)
}

/// Admits the client that `proxy` named, and returns what is known of it.
fn admit_named(
    seat: &mut Seat,
    listener: &ListenerConfig,
    proxy: IpAddr,
    named: Named,
    now: Timestamp,
) -> (Client, Result<(), &'static Reply>) {
    match named {
        Named::Client(address) => {
            let client = Client { address: Some(address), relay: Some(proxy), ..Client::default() };
            (client, seat.admit_client(address, listener, now))
        }
        // The client is unknown, but it is not the proxy: it must not get the proxy's trust.
        Named::Unknown => {
            let client = Client { relay: Some(proxy), ..Client::default() };
            (client, seat.admit_unknown(proxy, listener, now))
        }
        Named::Local => (Client { address: Some(proxy), ..Client::default() }, seat.admit_proxy(proxy, now)),
    }
}

/// Closes a connection that cannot come in, and says why where that can be understood. Nothing waits for it: a fresh
/// socket has room for a line. For QUIT, for which RFC 5321 section 3.1 would have us wait after 554, whoever may
/// not come in could let us wait long.
fn turn_away(listener: &ListenerConfig, incoming: Incoming, reply: &Reply) {
    let client = incoming.client().map_or_else(|| "local".to_owned(), |client| client.to_string());
    info!(client, listener = %listener.address, %reply, "connection refused");
    // A client that waits for a handshake would take a reply for a broken one.
    if listener.tls != TlsMode::Implicit {
        incoming.tell(reply);
    }
}

/// Whether an error of accept is about the one connection that it would have returned.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::clock::System;
    use crate::mail::{Mail, MailId};
    use crate::smtp::{Address, Refusal};

    struct Taker;

    impl Accept for Taker {
        fn recipient(&self, _: &str) -> bool {
            true
        }

        async fn accept(&self, _: Mail) -> Result<MailId, Refusal> {
            Ok(MailId::from_number(0).expect("0 is an id"))
        }
    }

    fn at(address: SocketAddr) -> Vec<ListenerConfig> {
        vec![ListenerConfig::new(Address::Inet(address))]
    }

    /// A listener that runs beside the test.
    struct Running {
        address: SocketAddr,
        stop: CancellationToken,
        run: JoinHandle<()>,
    }

    impl Running {
        fn start(change: impl FnOnce(&mut Config)) -> Self {
            let mut config = Config { listeners: at("127.0.0.1:0".parse().unwrap()), ..Config::default() };
            change(&mut config);
            let listener = Listener::bind(&config).unwrap();
            let address = listener.addresses()[0];
            let stop = CancellationToken::new();
            let run = tokio::spawn(listener.run(Arc::new(Taker), Arc::new(System), stop.clone()));
            Self { address, stop, run }
        }

        /// A client, and the first line that it reads.
        async fn client(&self) -> (BufReader<TcpStream>, String) {
            let mut client = BufReader::new(TcpStream::connect(self.address).await.unwrap());
            let line = line(&mut client).await;
            (client, line)
        }
    }

    /// The next line; empty at the end.
    async fn line(client: &mut BufReader<TcpStream>) -> String {
        let mut line = String::new();
        client.read_line(&mut line).await.unwrap();
        line
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_had_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let config = Config { listeners: at(address), ..Config::default() };
        let error = Listener::bind(&config).unwrap_err();
        assert!(error.to_string().contains(&format!("cannot listen on {address}: ")), "{error}");
    }

    #[tokio::test]
    async fn a_client_too_many_is_told_and_a_seat_that_is_left_is_given_again() {
        for (change, refusal) in [
            ((|c| c.max_sessions = 1) as fn(&mut Config), "421 4.3.2 "),
            (
                |c| {
                    c.max_sessions_per_client = 1;
                    c.rates.exempt = Vec::new();
                },
                "421 4.7.0 ",
            ),
        ] {
            let running = Running::start(change);
            let (mut first, greeting) = running.client().await;
            assert!(greeting.starts_with("220 "), "{greeting}");
            let (mut second, told) = running.client().await;
            assert!(told.starts_with(refusal), "{told}");
            assert_eq!(line(&mut second).await, "");
            first.write_all(b"QUIT\r\n").await.unwrap();
            assert!(line(&mut first).await.starts_with("221 "));
            assert_eq!(line(&mut first).await, "");
            // The seat is given back some time after the last reply was read.
            while !running.client().await.1.starts_with("220 ") {}
        }
    }

    #[tokio::test]
    async fn when_it_stops_nobody_comes_in_the_idle_go_and_those_inside_data_finish() {
        let running = Running::start(|_| ());
        let (mut idle, _) = running.client().await;
        let (mut busy, _) = running.client().await;
        busy.write_all(b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n").await.unwrap();
        while !line(&mut busy).await.starts_with("354") {}
        running.stop.cancel();
        assert!(line(&mut idle).await.starts_with("421 4.3.2 "));
        assert_eq!(line(&mut idle).await, "");
        assert!(!running.run.is_finished());
        busy.write_all(b"x\r\n.\r\n").await.unwrap();
        assert!(line(&mut busy).await.starts_with("250 2.0.0 queued as "));
        assert!(line(&mut busy).await.starts_with("421 4.3.2 "));
        drop((busy, idle));
        running.run.await.unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[tokio::test]
    async fn when_it_stops_a_message_that_does_not_end_has_its_time() {
        let running = Running::start(|config| config.drain = Duration::ZERO);
        let (mut busy, _) = running.client().await;
        busy.write_all(b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n").await.unwrap();
        while !line(&mut busy).await.starts_with("354") {}
        running.stop.cancel();
        assert!(line(&mut busy).await.starts_with("421 4.3.2 "));
        drop(busy);
        running.run.await.unwrap();
    }
}
