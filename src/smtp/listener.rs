//! Listens, lets clients in, and ends in good order.
//!
//! An error of accept never ends it: one of the connection concerns that client only, and for any other,
//! such as no file descriptor left, it waits a little and tries again.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::mail::Client;

use super::admission::{Admission, Seat};
use super::connection::{self, Edge, Ending};
use super::memory::Budget;
use super::proxy::{self, Named};
use super::rates::Rates;
use super::reply::Reply;
use super::{Accept, Address, Config, Entrance};

/// How many connections the system may hold until they are accepted: a storm of alerts comes in bursts,
/// and what does not fit comes back a second later or not at all. The system may allow less.
const BACKLOG: u32 = 1024;

/// The first and the longest wait after an error that is not one of a connection.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a session may take beyond the time to drain, to say goodbye.
const GRACE: Duration = Duration::from_secs(3);

/// The sockets that listen.
#[derive(Debug)]
pub struct Listener {
    config: Arc<Config>,
    sockets: Vec<(Arc<Entrance>, TcpListener)>,
}

impl Listener {
    /// Listens on every address of `config`. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first address that cannot be had, by name.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let sockets = config
            .entrances
            .iter()
            .map(|entrance| {
                let socket = listen(&entrance.address).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot listen on {}: {error}", entrance.address))
                })?;
                Ok((Arc::new(entrance.clone()), socket))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { config: Arc::new(config.clone()), sockets })
    }

    /// The addresses that it listens on, with the ports that the system chose where the config has 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect()
    }

    /// Serves until `stop` is true. Then nobody is let in any more, sessions outside DATA are told and
    /// closed, those inside DATA may finish for as long as `drain` says; when it returns, all are over.
    pub async fn run<A: Accept>(
        self,
        accept: Arc<A>,
        clock: Arc<dyn Clock>,
        mut stop: watch::Receiver<bool>,
    ) {
        let config = self.config;
        let rates = Arc::new(Rates::new(config.rates.clone()));
        let admission = Admission::new(Arc::clone(&config), Arc::clone(&rates));
        let edge = Arc::new(Edge {
            config: Arc::clone(&config),
            accept,
            clock,
            budget: Budget::new(config.max_memory),
            rates,
        });
        let (end, ending) = watch::channel(None);
        let mut doors = JoinSet::new();
        for (entrance, socket) in self.sockets {
            let (edge, admission) = (Arc::clone(&edge), Arc::clone(&admission));
            doors.spawn(door(entrance, socket, edge, admission, ending.clone()));
        }
        // Whoever could say stop and is gone has stopped.
        let _ = stop.wait_for(|stop| *stop).await;
        end.send_replace(Some(Instant::now() + config.drain));
        while let Some(ended) = doors.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

fn listen(address: &Address) -> io::Result<TcpListener> {
    let &Address::Inet(address) = address else { return Err(ErrorKind::Unsupported.into()) };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart need not wait for the last connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets clients in at one socket until the end is known, then waits for their sessions.
async fn door<A: Accept>(
    entrance: Arc<Entrance>,
    socket: TcpListener,
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
                Ok((stream, address)) => {
                    backoff = BACKOFF.0;
                    // Behind a socket of both families, an IPv4 client is the same as before one of its own.
                    let peer = address.ip().to_canonical();
                    let proxied = entrance.proxies.iter().any(|network| network.contains(peer));
                    let admitted = admission.admit_connection().and_then(|mut seat| {
                        // Whom a proxy comes for is known when it has said so.
                        if !proxied {
                            seat.admit_client(peer, &entrance, edge.clock.now())?;
                        }
                        Ok(seat)
                    });
                    match admitted {
                        Ok(seat) => {
                            let (edge, entrance, ending) = (Arc::clone(&edge), Arc::clone(&entrance), ending.clone());
                            if proxied {
                                sessions.spawn(attend_proxy(edge, entrance, stream, peer, seat, ending));
                            } else {
                                let client = Client { address: Some(peer), ..Client::default() };
                                sessions.spawn(attend(edge, entrance, stream, client, seat, ending));
                            }
                        }
                        Err(reply) => turn_away(stream, peer, &entrance, reply),
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

async fn attend<A: Accept>(
    edge: Arc<Edge<A>>,
    entrance: Arc<Entrance>,
    stream: TcpStream,
    client: Client,
    seat: Seat,
    ending: Ending,
) {
    // Each reply is one write, and the next command waits for it: there is nothing to collect.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(client = ?client.address, %error, "connection lost at once");
        return;
    }
    connection::serve(&edge, &entrance, stream, client, ending).await;
    drop(seat);
}

/// Attends to the client that `proxy` names, or to nobody: who does not say for whom it comes hears nothing.
async fn attend_proxy<A: Accept>(
    edge: Arc<Edge<A>>,
    entrance: Arc<Entrance>,
    mut stream: TcpStream,
    proxy: IpAddr,
    mut seat: Seat,
    mut ending: Ending,
) {
    let named = tokio::select! {
        named = timeout(proxy::TIME, proxy::read(&mut stream)) => named,
        _ = ended(&mut ending) => return,
    };
    let named = match named {
        Ok(Ok(named)) => named,
        Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
            warn!(%proxy, "connection closed: the proxy did not begin with a PROXY header");
            return;
        }
        Ok(Err(error)) => {
            debug!(%proxy, %error, "connection lost before its PROXY header");
            return;
        }
        Err(_) => {
            warn!(%proxy, "connection closed: the proxy sent no PROXY header in time");
            return;
        }
    };
    let now = edge.clock.now();
    let (client, admitted) = match named {
        Named::Client(address) => {
            let client = Client { address: Some(address), relay: Some(proxy), ..Client::default() };
            (client, seat.admit_client(address, &entrance, now))
        }
        // Whoever that is, it is not the proxy, and shall not be trusted as the proxy would be.
        Named::Unknown => {
            let client = Client { relay: Some(proxy), ..Client::default() };
            (client, seat.admit_unknown(proxy, &entrance, now))
        }
        Named::Local => (Client { address: Some(proxy), ..Client::default() }, seat.admit_proxy(proxy, now)),
    };
    match admitted {
        Ok(()) => attend(edge, entrance, stream, client, seat, ending).await,
        Err(reply) => turn_away(stream, client.address.unwrap_or(proxy), &entrance, reply),
    }
}

/// Says why to a client that cannot come in. Nothing waits for it: a fresh socket has room for a line. For QUIT,
/// for which RFC 5321 section 3.1 would have us wait after 554, whoever may not come in could let us wait long.
fn turn_away(stream: TcpStream, client: IpAddr, entrance: &Entrance, reply: &Reply) {
    info!(%client, listener = %entrance.address, %reply, "connection refused");
    let mut output = Vec::new();
    reply.write(&mut output);
    if let Ok(mut stream) = stream.into_std() {
        // If the client is gone already, it has its answer.
        let _ = stream.write(&output);
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
    use tokio::task::JoinHandle;

    use super::*;
    use crate::clock::System;
    use crate::mail::{Mail, MailId};
    use crate::smtp::Refusal;

    struct Taker;

    impl Accept for Taker {
        fn recipient(&self, _: &str) -> bool {
            true
        }

        async fn accept(&self, _: Mail) -> Result<MailId, Refusal> {
            Ok(MailId::from_number(0).expect("0 is an id"))
        }
    }

    fn at(address: SocketAddr) -> Vec<Entrance> {
        vec![Entrance::new(Address::Inet(address))]
    }

    /// A listener that runs beside the test.
    struct Running {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        run: JoinHandle<()>,
    }

    impl Running {
        fn start(change: impl FnOnce(&mut Config)) -> Self {
            let mut config = Config { entrances: at("127.0.0.1:0".parse().unwrap()), ..Config::default() };
            change(&mut config);
            let listener = Listener::bind(&config).unwrap();
            let address = listener.addresses()[0];
            let (stop, stopped) = watch::channel(false);
            let run = tokio::spawn(listener.run(Arc::new(Taker), Arc::new(System), stopped));
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
        let config = Config { entrances: at(address), ..Config::default() };
        let error = Listener::bind(&config).unwrap_err();
        assert!(error.to_string().contains(&format!("cannot listen on {address}: ")), "{error}");
    }

    #[tokio::test]
    async fn a_client_too_many_is_told_and_a_seat_that_is_left_is_given_again() {
        for (change, refusal) in [
            ((|c| c.max_sessions = 1) as fn(&mut Config), "421 4.3.2 "),
            (|c| c.max_sessions_per_client = 1, "421 4.7.0 "),
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
            // The seat is given back after the last word was read, at a time that nobody tells.
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
        running.stop.send_replace(true);
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
        running.stop.send_replace(true);
        assert!(line(&mut busy).await.starts_with("421 4.3.2 "));
        drop(busy);
        running.run.await.unwrap();
    }
}
