//! The sockets that a listener listens on: a TCP port, a Unix socket, or whatever systemd opened.

use std::collections::HashMap;
use std::env;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::unix::{self, Place};

use super::reply::Reply;
use super::{Address, ListenerConfig};

/// How many connections the system may hold until they are accepted: a storm of alerts comes in bursts,
/// and what does not fit comes back a second later or not at all. The system may allow less.
const BACKLOG: u32 = 1024;

/// The sockets that systemd handed to this process, by the names that their units give them
/// (`FileDescriptorName=`, else the name of the unit).
#[derive(Debug, Default)]
pub struct Inherited(HashMap<String, Vec<Given>>);

#[derive(Debug)]
enum Given {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener, Option<Place>),
}

/// A client that has just come in.
#[derive(Debug)]
pub enum Incoming {
    /// Over the network, from this address.
    Tcp(TcpStream, IpAddr),
    /// From this machine. It has no address.
    Unix(UnixStream),
}

impl Inherited {
    /// Takes over what systemd handed to this process (sd_listen_fds(3)), which can be done once. Call it before
    /// there is any other thread: it takes the variables out of the environment.
    ///
    /// # Errors
    /// One of them is no socket that listens.
    pub fn of_process() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut found: HashMap<String, Vec<Given>> = HashMap::new();
        for at in 0..given.len() {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            let socket = match given.take_tcp_listener(at) {
                Ok(socket) => socket.map(Given::Tcp),
                Err(_) => given
                    .take_unix_listener(at)
                    .map_err(|_| {
                        io::Error::new(
                            ErrorKind::InvalidInput,
                            format!("the socket `{name}` of systemd is no stream"),
                        )
                    })?
                    .map(Given::Unix),
            };
            found.entry(name).or_default().extend(socket);
        }
        Ok(Self(found))
    }

    /// The names of the sockets that are not taken.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Takes out the sockets of this name.
    fn take(&mut self, name: &str) -> io::Result<Vec<Socket>> {
        let Some(given) = self.0.remove(name) else {
            let mut known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            known.sort_unstable();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem = format!("systemd handed over no socket of this name; it handed over: {known}");
            return Err(io::Error::new(ErrorKind::NotFound, problem));
        };
        let adopt = |given| match given {
            Given::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Socket::Tcp)
            }
            Given::Unix(socket) => {
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(|socket| Socket::Unix(socket, None))
            }
        };
        given.into_iter().map(adopt).collect()
    }
}

impl Socket {
    /// Listens at `listener`. There may be several sockets of one name in `inherited`.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(listener: &ListenerConfig, inherited: &mut Inherited) -> io::Result<Vec<Self>> {
        match &listener.address {
            Address::Inet(address) => tcp(*address).map(|socket| vec![Self::Tcp(socket)]),
            Address::Unix(path) => unix::bind(path, listener.mode, None)
                .map(|(socket, place)| vec![Self::Unix(socket, Some(place))]),
            Address::Inherited(name) => inherited.take(name),
        }
    }

    /// The address, if it is one of a network.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// The address in words, with the port that the system chose where the config has 0.
    pub fn name(&self) -> String {
        match self {
            Self::Tcp(socket) => {
                socket.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string())
            }
            Self::Unix(socket, _) => {
                let address = socket.local_addr().ok();
                let bound = address.as_ref().and_then(|address| address.as_pathname());
                let path = match self {
                    Self::Unix(_, Some(place)) => Some(place.path()),
                    _ => bound,
                };
                path.map_or_else(|| "unix:?".to_owned(), |path| format!("unix:{}", path.display()))
            }
        }
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<Incoming> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // Behind a socket of both families, an IPv4 client is the same as before one of its own.
                Ok(Incoming::Tcp(stream, address.ip().to_canonical()))
            }
            Self::Unix(socket, _) => Ok(Incoming::Unix(socket.accept().await?.0)),
        }
    }
}

impl Incoming {
    /// The client's address, if it came over a network.
    pub fn client(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, client) => Some(*client),
            Self::Unix(_) => None,
        }
    }

    /// Says why to a client that cannot come in. Nothing waits for it: a fresh socket has room for a line.
    pub fn tell(self, reply: &Reply) {
        let mut output = Vec::new();
        reply.write(&mut output);
        // If the client is gone already, it has its answer.
        let _ = match self {
            Self::Tcp(stream, _) => stream.into_std().and_then(|mut stream| stream.write(&output)),
            Self::Unix(stream) => stream.into_std().and_then(|mut stream| stream.write(&output)),
        };
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart need not wait for the last connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_systemd_did_not_hand_over_is_told_with_those_that_it_did() {
        let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut inherited = Inherited(HashMap::from([("smtp".to_owned(), vec![Given::Tcp(given)])]));
        let error = inherited.take("lmtp").unwrap_err().to_string();
        assert_eq!(error, "systemd handed over no socket of this name; it handed over: smtp");
        assert_eq!(inherited.take("smtp").unwrap().len(), 1);
    }
}
